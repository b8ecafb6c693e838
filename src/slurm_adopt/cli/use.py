"""`slurm-adopt use`: which of the user's jobs here the next logins to this node go to.

The one command that writes something: the time of a link that root has made for the user
(node/user_choice.py).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from slurm_adopt.node import user_choice
from slurm_adopt.node.jobs import UNKNOWN
from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import PeerError, SetupError

from .accounts import name_of
from .checks.host import Host, LateError, within
from .deadlines import SLOW
from .errors import ERROR, OK, USAGE, WARNING, CliError
from .output import as_json, line, printable, table
from .verdict.looking_node import LookingNode
from .verdict.remarks import Remarks

if TYPE_CHECKING:
    from slurm_adopt.node.jobs import Job
    from slurm_adopt.node.user_choice import UserChoice

SCHEMA = 1
THIS = "this"
OPTION = "user_choice=1"
SHOWN = 10  # jobs in a line


class State(NamedTuple):
    """What there is of a user on this node."""

    user: str
    enabled: bool | None  # whether sshd's line has the option; None where that cannot be told
    place: bool  # whether there is a place to keep a choice
    choice: UserChoice | None
    why_not: str  # why the choice does not count; "" if it does
    jobs: list[Job]


@click.command()
@click.argument("job", required=False)
@click.option("--clear", is_flag=True, help="Take the choice back.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def command(job: str | None, clear: bool, json_: bool) -> int:
    """Choose which of your jobs on this node your next logins to it go to.

    JOB is a job id, or 'this' for the job of this shell (SLURM_JOB_ID). Without it the choice is
    shown, with your jobs on this node. A choice counts for logins that come from none of your jobs,
    as long as that job runs here, and on this node alone.

    Exit status: 0, or 1 if the choice does not count, 2 if it cannot be made, 3 for anything else.
    """
    if os.getuid() == 0:
        raise CliError("root has no choice to make: run this as the user whose logins it is about")
    if clear and job is not None:
        raise CliError("give a job or --clear, not both", USAGE)
    wanted = 0 if clear else None if job is None else _job_id(job)
    uid = os.getuid()
    state = _state(uid)
    if wanted is not None:
        _choose(wanted, uid, state)
        state = state._replace(**_chosen(uid, state.jobs))
    if json_:
        as_json(_as_dict(state))
    else:
        _show(state, cleared=clear, made=bool(wanted))
    return WARNING if state.choice and (state.why_not or state.enabled is False) else OK


def _job_id(job: str) -> int:
    """Return the job id of the argument."""
    if job == THIS:
        job_id = number(os.environ.get("SLURM_JOB_ID", ""))
        if not job_id:
            raise CliError("this shell has no SLURM_JOB_ID: give the job's id", USAGE)
        return job_id
    job_id = number(job)
    if not job_id:
        raise CliError(f"{job!r} is not a job id, such as 42, nor '{THIS}'", USAGE)
    return job_id


def _state(uid: int) -> State:
    """Look at this node, as the user can."""
    host = Host()
    try:
        node = LookingNode(host.options, Remarks())
        jobs = within(SLOW, lambda: node.jobs(uid))
    except (SetupError, PeerError, LateError) as error:
        raise CliError(f"your jobs on this node cannot be told: {error}") from None
    return State(name_of(uid), _enabled(host), jobs=jobs, **_chosen(uid, jobs))


def _enabled(host: Host) -> bool | None:
    """Say whether a line of ours has the option; None where no line is to be seen."""
    try:
        lines = host.all_our_lines()
    except Exception:  # noqa: BLE001 - then nothing is said of it
        return None
    return host.options.on("user_choice") if lines else None


def _chosen(uid: int, jobs: list[Job]) -> dict[str, Any]:
    """Return what there is of a choice, as fields of a State."""
    try:
        choice = user_choice.chosen(uid)
    except FileNotFoundError:
        return {"place": False, "choice": None, "why_not": ""}
    except SetupError as error:
        raise CliError(f"{error}", ERROR) from None
    why_not = _why_not(choice, jobs) if choice else ""
    return {"place": True, "choice": choice, "why_not": why_not}


def _why_not(choice: UserChoice, jobs: list[Job]) -> str:
    for job in jobs:
        if job.job_id == choice.job_id:
            try:
                choice.check(job)
            except PeerError:
                return "it was made before that job was started here"
            return ""
    return "that is none of your jobs here now"


def _choose(job_id: int, uid: int, state: State) -> None:
    """Write the choice down; CliError if that cannot be."""
    if job_id and not any(job.job_id == job_id for job in state.jobs):
        raise CliError(f"job {job_id} is none of your jobs on this node ({_listed(state)})", ERROR)
    if not state.place:
        if not job_id:
            return
        raise CliError(_no_place(state), ERROR)
    try:
        user_choice.choose(uid, job_id)
    except OSError as error:
        raise CliError(f"the choice cannot be kept: {error.strerror}", ERROR) from None


def _no_place(state: State) -> str:
    if state.enabled is False:
        return f"this node takes no choices: {OPTION} is not set for its sshd"
    return (
        "there is no place for your choice on this node yet: your first login by ssh makes it, "
        f"where {OPTION} is set (see docs/how-to/choose-a-job.md)"
    )


def _listed(state: State) -> str:
    if not state.jobs:
        return "you have none here"
    shown = [str(job.job_id) for job in state.jobs[:SHOWN]]
    more = [f"and {len(state.jobs) - SHOWN} more"] if len(state.jobs) > SHOWN else []
    return f"those are {' '.join([*shown, *more])}"


def _since(job: Job) -> str:
    if job.started in (0, UNKNOWN):
        return ""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(user_choice.started_at(job)))


def _show(state: State, *, cleared: bool, made: bool) -> None:
    """Print a line about the choice, and without a change the jobs."""
    choice = state.choice
    if choice is None:
        line("no job is chosen" + (" any more" if cleared else ""))
    elif state.why_not:
        line(f"job {choice.job_id} is chosen, but does not count: {state.why_not}")
    else:
        line(f"logins to this node that come from none of your jobs go to job {choice.job_id}")
    if choice and state.enabled is False:
        line(f"but {OPTION} is not set for this node's sshd: logins do not look at it")
    if made or cleared or not state.jobs:
        return
    mark = choice.job_id if choice else None
    rows = [(j.job_id, _since(j), "chosen" if j.job_id == mark else "") for j in state.jobs]
    table(("JOB", "SINCE", ""), rows)


def _as_dict(state: State) -> dict[str, object]:
    choice = state.choice
    return {
        "schema": SCHEMA,
        "user": printable(state.user),
        "enabled": state.enabled,
        "place": state.place,
        "choice": {
            "job": choice.job_id,
            "made": int(choice.made),
            "counts": not state.why_not,
            "why_not": state.why_not,
        }
        if choice
        else None,
        "jobs": [{"job": job.job_id, "since": _since(job) or None} for job in state.jobs],
    }
