"""What the module decided about an ssh session that is there, as the log has it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from slurm_adopt.cli.errors import CliError
from slurm_adopt.cli.logins import decisions, log_lines
from slurm_adopt.slurm.proc import PROC, age, start_time

if TYPE_CHECKING:
    from slurm_adopt.cli.logins.decisions import Login
    from slurm_adopt.cli.logins.log_lines import Source

TICK = 1  # of a log whose times are whole seconds


def of(sshd: int, user: str, source: Source | None = None) -> dict[str, Any]:
    """Return the decision about the session that root's process of sshd's has opened.

    `login` is None where the log has none; `remark` then says why, as far as that is known.
    """
    try:
        found = _newest(sshd, user, source or log_lines.find())
    except CliError as error:
        return {"login": None, "remark": str(error)}
    if found is None:
        return {"login": None, "remark": "the log has no decision about it"}
    return {"login": found.as_dict(), "remark": ""}


def _newest(sshd: int, user: str, source: Source) -> Login | None:
    """Return the newest login of this process; pids come again, so it is none before its start."""
    read = (decisions.read(line) for line in source.lines(log_lines.Wanted(began(sshd))))
    ours = (decision for decision in read if decision)
    found = None
    for login in decisions.logins(ours):
        if sshd in (login.first.pid, login.last.pid) and login.last.user == user:
            found = login
    return found


def began(pid: int, proc: str = PROC) -> float:
    """Return when a process was started, or a bit before: seconds since the epoch."""
    return time.time() - age(start_time(pid, proc)) - TICK
