"""Where an ssh session is: in its job, in which hierarchies, and if not, who has moved it.

What counts is what counts for a login: the cgroups of the extern step of one of the user's jobs, in
each hierarchy that confines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from slurm_adopt.cli.accounts import name_of
from slurm_adopt.cli.errors import UNKNOWN, CliError
from slurm_adopt.cli.processes import listed
from slurm_adopt.cli.verdict.verdict import verdict
from slurm_adopt.node import listening
from slurm_adopt.slurm.cgroup import hierarchy, paths
from slurm_adopt.slurm.cgroup.step_cgroup import V2
from slurm_adopt.slurm.errors import SetupError, SlurmAdoptError
from slurm_adopt.slurm.proc import PROC, comm, is_root, uids

from . import decided
from .facts import SCHEMA, of_verdict

if TYPE_CHECKING:
    from slurm_adopt.cli.verdict.looking_node import LookingNode
    from slurm_adopt.decision.options import Options
    from slurm_adopt.slurm.cgroup.step_cgroup import Layout
    from slurm_adopt.slurm.stepd.step_sockets import StepSocket

GENERATIONS = 64  # ancestors looked at

# Paths of cgroups that are no job's -> who has put a process there. The first that fits counts.
# Sources: pam_systemd(8), systemd.special(7), user@.service(5).
# fmt: off
WHO = (
    (r"/user\.slice/.*/user@\d+\.service(/|$)",
     "it is the user's systemd manager's, which is in no session and in no job"),
    (r"/user\.slice/.*/session-[^/]+\.scope(/|$)",
     "pam_systemd moved it when the session was opened; this module's session line comes after it"),
    (r"/user\.slice(/|$)",
     "systemd-logind moved it"),
    (r"/(sshd?|sshd?@[^/]*|system-sshd?\.slice/[^/]+)\.service(/|$)",
     "it is where sshd is: it was never adopted, or was put back when that failed"),
    (r"/system\.slice/[^/]+\.service(/|$)",
     "it is where the service is that has started it"),
)
# fmt: on
NOWHERE = "it is where nothing has moved it"


class Live(NamedTuple):
    """An extern step of this node that has a stepd."""

    step: StepSocket
    uid: int
    tops: dict[str, str]  # its cgroup by controller

    def holds(self, controller: str, path: str) -> bool:
        """Say whether a cgroup is in the job, in whichever of its steps."""
        top = self.tops.get(controller, "")
        place = (paths.parse_v1 if controller else paths.parse_v2)(top) if top else None
        return place is not None and hierarchy.is_below(path, place.job)


def of(
    pid: int, options: Options, service: str, proc: str = PROC, *, apart: bool = False
) -> dict[str, Any]:
    """Return where a process is, and whether that is as it should be; CliError if it is gone.

    `apart`: the line that adopts is pam_exec's.
    """
    try:
        cgroups = hierarchy.of_process(pid, proc)
    except SetupError:
        raise CliError(f"there is no process {pid}, or /proc does not show it", UNKNOWN) from None
    parents = {one.pid: one.parent for one in listed(proc).values()}
    sshd = sshd_of(pid, parents, proc)
    uid = user_of(pid, sshd, parents, proc)
    expected = verdict(name_of(uid), uid, options, service, apart=apart)
    found = placed(pid, cgroups, uid, expected.node)
    should = sshd is not None and expected.end in ("adopted", "refused")
    return {
        "schema": SCHEMA,
        "pid": pid,
        "command": comm(f"{proc}/{pid}"),
        "user": expected.login.user,
        "uid": uid,
        "sshd": sshd,
        **found,
        "decided": decided.of(sshd, expected.login.user) if sshd else None,
        "a_login_now": {**of_verdict(expected), "option": expected.option or None},
        "should_be_in_a_job": should,
        "as_it_should": _as_it_should(found["where"], should=should),
    }


def _as_it_should(where: str, *, should: bool) -> bool | None:
    """Say whether a session is where it should be; None where that cannot be told."""
    if not should or where in INSIDE:
        return True
    return None if where == NOT_KNOWN else False


INSIDE = ("in its job", "in a step of its job")
NOT_KNOWN = "not known"


def placed(pid: int, cgroups: dict[str, str], uid: int, node: LookingNode) -> dict[str, Any]:
    """Return in which hierarchies a process is in which job, and what that comes to."""
    try:
        node.jobs(uid)
        layout = node.phase.site.layout()
    except SlurmAdoptError as error:
        return _unknown(cgroups, str(error))
    if layout is None:
        return _unknown(cgroups, "this configuration confines nothing by cgroups")
    lives = _lives(node, layout)
    unified = isinstance(layout, V2)
    confining = (
        {hierarchy.UNIFIED} if unified else layout.controllers.union(*(live.tops for live in lives))
    )
    rows = [_row(one, path, one in confining, lives) for one, path in sorted(cgroups.items())]
    where, words = _judged([row for row in rows if row["confines"]], pid, uid, lives, layout)
    jobs = [row["job"] for row in rows if row["job"] and row["confines"]]
    job = max(jobs, key=jobs.count) if jobs else None
    return {"where": where, "words": words, "job": job, "hierarchies": rows}


def _unknown(cgroups: dict[str, str], why: str) -> dict[str, Any]:
    rows = [_row(one, path, False, []) for one, path in sorted(cgroups.items())]
    return {"where": NOT_KNOWN, "words": why, "job": None, "hierarchies": rows}


def _lives(node: LookingNode, layout: Layout) -> list[Live]:
    """Return the extern steps here, of all users, as their stepds or cgroups tell."""
    known: dict[StepSocket, int | None] = {
        step: answer.uid for step, answer in node.stepds.answers.items()
    }
    known.update((step, layout.owner(step)) for step in node.stepds.silent)
    return [
        Live(step, uid, dict(layout.tops_of(step, uid)))
        for step, uid in known.items()
        if uid is not None
    ]


def _row(controller: str, path: str, confines: bool, lives: list[Live]) -> dict[str, Any]:
    """Return what one hierarchy shows."""
    live = next((one for one in lives if one.holds(controller, path)), None)
    job, step = _named(path)
    job = live.step.job_id if live else job  # a SLUID is known by the stepd alone
    return {
        "controller": controller,
        "path": path,
        "confines": confines,
        "job": job,
        "step": step if job else None,
        "of_uid": live.uid if live else None,
        "who": "" if job else who(path),
    }


def _named(path: str) -> tuple[int | None, str | None]:
    """Return the job and the step that the names of a path tell."""
    found = paths.any_step(path)
    if not found:
        return None, None
    return paths.job_id_of(found[0].rpartition("/")[2]), found[1].removeprefix("step_")


def _judged(
    rows: list[dict[str, Any]], pid: int, uid: int, lives: list[Live], layout: Layout
) -> tuple[str, str]:
    """Return where the process is by the hierarchies that confine, in a word and in a sentence."""
    for row in rows:
        if row["of_uid"] not in (None, uid):
            whose = f"in job {row['job']} of uid {row['of_uid']}"
            return "in another user's job", f"{whose}: this module never brings it there"
    for live in lives:
        here = [row for row in rows if row["job"] == live.step.job_id]
        if live.uid == uid and here:
            return _in_own(live, here, rows, layout.missing(pid, live.step, uid))
    for row in rows:
        if row["job"]:
            return "left by a job", f"in the cgroup of job {row['job']}, which has no stepd here"
    return "outside", "outside of every job: " + (rows[0]["who"] if rows else NOWHERE)


def _in_own(
    live: Live,
    here: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    outside: dict[str, str | None],
) -> tuple[str, str]:
    """Return the same for a process that some hierarchies, `here`, show in a job of its user.

    `outside`: those in which it is not in the extern step.
    """
    job_id = live.step.job_id
    if not outside:
        return "in its job", f"in job {job_id}, in every hierarchy that confines"
    if len(here) == len(rows):
        return "in a step of its job", f"in step {here[0]['step']} of job {job_id}, by Slurm itself"
    names = " ".join(row["controller"] for row in rows if row not in here)
    return "half in its job", f"in job {job_id}, but not in {names or 'all of its cgroups'}"


def who(path: str) -> str:
    """Say who puts processes into a cgroup that is no job's."""
    return next((words for pattern, words in WHO if re.search(pattern, path)), NOWHERE)


# Which session


def sshd_of(pid: int, parents: dict[int, int], proc: str = PROC) -> int | None:
    """Return root's process of sshd's that has opened the session; None where there is none.

    It is the next above, or this one itself; the one that listens has opened none.
    """
    for _ in range(GENERATIONS):
        if comm(f"{proc}/{pid}").startswith("sshd") and is_root(f"{proc}/{pid}"):
            return None if _listens(pid, proc) else pid
        pid = parents.get(pid, 0)
    return None


def _listens(pid: int, proc: str) -> bool:
    try:
        return listening.listens(pid, proc)
    except SetupError:
        return True


def user_of(pid: int, sshd: int | None, parents: dict[int, int], proc: str = PROC) -> int:
    """Return the uid of a process, or of the session that root's process of sshd's has opened."""
    generation = {pid}
    while generation:
        for one in sorted(generation):
            ids = uids(f"{proc}/{one}")
            if ids and int(ids[0]):
                return int(ids[0])
        if pid != sshd:
            break
        generation = {child for child, parent in parents.items() if parent in generation}
    return 0
