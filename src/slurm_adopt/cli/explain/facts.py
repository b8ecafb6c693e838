"""What `explain` knows of a login that is not there: plain data, as `--json` prints it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from slurm_adopt.cli.verdict import looking_job
from slurm_adopt.cli.verdict.fronts import is_exec
from slurm_adopt.cli.verdict.pam_line import named, where
from slurm_adopt.decision.options import OPTIONS
from slurm_adopt.slurm import auth
from slurm_adopt.slurm.config import slurmd_ports
from slurm_adopt.slurm.errors import SlurmAdoptError
from slurm_adopt.slurm.proc import age, start_time
from slurm_adopt.slurm.stepd.stepd import ALIVE, STARTING
from slurm_adopt.slurm.versions import layout_of
from slurm_adopt.slurm.waiting import Deadline

from . import login_source, what_if

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_adopt.cli.verdict.looking_node import LookingNode
    from slurm_adopt.cli.verdict.pam_line import Lines
    from slurm_adopt.cli.verdict.verdict import Verdict
    from slurm_adopt.node.jobs import Job

    from .login_source import Given, Source
    from .whole_stack import Other

SCHEMA = 1
AS_USER = (
    "as a plain user this does not see which process of sshd's has a connection, and a slurmd "
    "tells it of its own jobs only"
)
STATES = {STARTING: "starting", 2: "running"}  # all others are ends


def of_login(
    found: Verdict,
    lines: Lines,
    tried: Sequence[str] = (),
    given: Given | None = None,
    source: Source | None = None,
    other: Other | None = None,
) -> dict[str, Any]:
    """Return all that is known of a login. `tried`: the options in place of the PAM line's.

    `other`: what other lines of the stack make of it.
    """
    login, node = found.login, found.node
    refused = what_if.refused_by_stepd(found)
    session = _session(found, lines)
    return {
        "schema": SCHEMA,
        "user": login.user,
        "uid": login.uid,
        "service": login.service,
        "verdict": of_verdict(found),
        "instead": other.as_dict() if other else None,
        "option": _option(found, lines, tried),
        "tried": list(tried),
        "message": found.options["message"] or None,
        "lines": {phase: where(line) if line else None for phase, line in lines.of.items()},
        "mistakes": lines.options(tried)[1],
        "asks": _asks(lines),
        "jobs": _jobs(found),
        "being_set_up": _being_set_up(found),
        "source": _source(node, given, source) if _is_decided_by_jobs(found) else None,
        "cgroups": found.outcome.adoption.paths if found.outcome.adoption else {},
        "session": session,
        "if_its_stepd_refuses": of_verdict(refused) if refused else None,
        "would": [
            {"option": other.option, **of_verdict(other.verdict)} for other in what_if.others(found)
        ],
        "log": [f"{level}: {text}" for level, text in found.remarks.kept],
        "not_seen": [AS_USER] if looking_job.asks_as() else [],
    }


def of_verdict(found: Verdict) -> dict[str, Any]:
    """Return what a login comes to."""
    return {
        "outcome": found.end,
        "code": found.outcome.code,
        "situation": found.outcome.situation,
        "job": found.job_id,
        "shown": found.outcome.message,
        "words": found.words,
        "why": found.why,
    }


def _asks(lines: Lines) -> bool:
    """Say whether the account line can ask a user; by pam_exec it cannot."""
    line = lines.of["account"]
    return line is not None and not is_exec(line)


def _is_decided_by_jobs(found: Verdict) -> bool:
    """Say whether anything of Slurm's was looked at."""
    return found.outcome.situation not in ("root", "other service", "no user", "unknown user")


def _option(found: Verdict, lines: Lines, tried: Sequence[str]) -> dict[str, Any] | None:
    """Return the option that has decided, and where it is set."""
    name = found.option
    if not name:
        return None
    (value,) = (found.options[option.name] for option in OPTIONS if option.name == name)
    if name in named(tried):
        place = "the command line"
    else:
        place = where(lines.first) if lines.first and lines.sets(name) else "default"
    return {"name": name, "value": value, "where": place}


# The jobs


def _jobs(found: Verdict) -> list[dict[str, Any]]:
    """Return the user's jobs here, those included that do not count any more."""
    node, uid = found.node, found.login.uid
    if uid is None or not _is_decided_by_jobs(found):
        return []
    try:
        counted = {job.job_id: job for job in node.jobs(uid)}
    except SlurmAdoptError:
        return []
    rows = {job_id: _counted(job, node) for job_id, job in counted.items()}
    for step, answer in node.stepds.answers.items():
        row = rows.get(step.job_id)
        if row is None and answer.uid == uid and answer.state not in ALIVE:
            row = rows[step.job_id] = _row(step.job_id, step.pid, counts=False)
        if row is not None:
            release = layout_of(answer.protocol)
            row["state"] = STATES.get(answer.state, "ending")
            row["release"] = release.name if release else str(answer.protocol)
    for job_id, row in rows.items():
        row["chosen"] = job_id == found.job_id
    return [rows[job_id] for job_id in sorted(rows)]


def _counted(job: Job, node: LookingNode) -> dict[str, Any]:
    row = _row(job.job_id, job.socket.pid, counts=True)
    row["state"] = "silent" if job.trouble else ""
    row["trouble"] = job.trouble or node.suspended(job)
    return row


def _row(job_id: int, pid: int, *, counts: bool) -> dict[str, Any]:
    ticks = start_time(pid) if pid else 0
    return {
        "job": job_id,
        "counts": counts,
        "state": "",
        "started": round(time.time() - age(ticks)) if ticks else None,
        "release": "",
        "stepd": pid or None,
        "trouble": "",
    }


def _being_set_up(found: Verdict) -> str:
    """Say what shows that a job of the user is being set up, where there is none yet."""
    uid = found.login.uid
    if uid is None or found.outcome.situation != "no jobs":
        return ""
    return found.node.being_set_up(uid)


# Where the login comes from


def _source(node: LookingNode, given: Given | None, source: Source | None) -> dict[str, Any]:
    connection = source.connection if source else None
    found: dict[str, Any] = {
        "given": str(given) if given else None,
        "connection": str(connection) if connection else None,
        "there": bool(source and source.is_there),
        "sshd": source.holder or None if source else None,
        "remark": source.remark if source else "",
        "ask": [],
        "auth": "",
        "job": None,
        "said": "",
    }
    try:
        found["ask"] = _places(node, given, source)
        found["auth"] = auth.of(node.phase.site.conf).plugin_name
    except SlurmAdoptError as error:
        found["said"] = str(error)
        return found
    if connection is not None:
        try:
            found["job"] = node.asked_source()
            found["said"] = "" if found["job"] else "it knows no job for this connection"
        except SlurmAdoptError as error:
            found["said"] = str(error)
    return found


def _places(node: LookingNode, given: Given | None, source: Source | None) -> list[dict[str, Any]]:
    """Return where is asked: addresses and ports; without an address the port alone."""
    from slurm_adopt.node import source_job

    if given is None:
        ports = slurmd_ports.ports_at(node.phase.site.conf, "")
        return [{"address": None, "port": port} for port in ports]
    connection = source.connection if source else None
    deadline = Deadline(node.phase.options.seconds("callerid_timeout"))
    places = source_job.places(connection or login_source.assumed(given), node.phase, deadline)
    return [{"address": address, "port": port} for address, port in places]


# What the session gets


def _session(found: Verdict, lines: Lines) -> dict[str, Any] | None:
    adoption = found.outcome.adoption
    if adoption is None:
        return None
    (job,) = (job for job in found.node.jobs(adoption.uid) if job.job_id == adoption.job_id)
    seen = found.node.of(job)
    seen.look_at_processes()
    phase, why = lines.adopting_phase()
    options = found.options
    return {
        "environment": adoption.environment,
        "namespaces": seen.namespaces if options.on("join_container") else [],
        "limits_of": seen.limits_of if lines.of["session"] else None,
        "confined": seen.confined,
        "phase": phase,
        "why_not_session": why,
        "without": seen.remarks,
    }
