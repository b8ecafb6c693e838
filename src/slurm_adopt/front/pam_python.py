"""The only module that knows pam_python's handle.

It makes a Login of the handle, and of an Outcome a PAM code, a text and variables.
"""

from __future__ import annotations

import os
import pwd
import time
from contextlib import suppress

from slurm_adopt.decision.engine import (
    decide,
    our_mistake,
    spare_root,
    undecided,
)
from slurm_adopt.decision.login import Claims, Login
from slurm_adopt.decision.options import parse
from slurm_adopt.decision.session_phase import decide_session
from slurm_adopt.node.node import Node
from slurm_adopt.node.session_process import is_sshd
from slurm_adopt.system.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from slurm_adopt.decision.options import Options
    from slurm_adopt.decision.outcome import Outcome
    from slurm_adopt.decision.session_phase import Before

    Phase = Literal["account", "session"]
    # What the phases of one handle tell each other; of use in the process that wrote it only.
    Memory = dict[str, tuple[Login, Outcome]]


DANGER = (
    "ignore_root=0: this login of root may be adopted; all that it starts, services included, is "
    "then limited by the job and ends with it"
)


def account(pamh: Any, flags: int, arguments: list[str], memory: Memory) -> int:
    """Answer pam_sm_acct_mgmt: return a PAM code; `arguments` are those after the script's path."""
    return _answer("account", pamh, flags, arguments, memory)


def session(pamh: Any, flags: int, arguments: list[str], memory: Memory) -> int:
    """Answer pam_sm_open_session: return a PAM code."""
    return _answer("session", pamh, flags, arguments, memory)


def _before(login: Login, memory: Memory, node: Node) -> Before:
    """Return what was decided for this process and user, None if nothing is known.

    By the account phase, or by another session line of this module.
    """
    if "decided" in memory:
        earlier, outcome = memory["decided"]
        if (earlier.pid, earlier.user, earlier.uid) == (login.pid, login.user, login.uid):
            return outcome
    return node.noted(login.pid, login.uid) if login.uid is not None else None


def _answer(phase: Phase, pamh: Any, flags: int, arguments: list[str], memory: Memory) -> int:
    started = time.monotonic()
    login = _login(pamh, phase)
    options, complaints = parse(arguments)
    log = Log(f"pam_slurm_adopt({pamh.service}:{phase})", options.log_level)
    try:
        for complaint in complaints:
            log.error(complaint)
        if login.uid == 0 and not options.on("ignore_root") and "decided" not in memory:
            log.info(DANGER)
        outcome = _decide(phase, login, options, log, memory)
        memory["decided"] = login, outcome
        code = int(getattr(pamh, outcome.code))
        try:
            _set_variables(pamh, outcome)
        except Exception as error:  # noqa: BLE001 - variables do not change what was decided
            log.error(f"cannot set all variables of the session: {our_mistake(error)}")
        with suppress(Exception):  # telling of a decision does not change it
            _report(log, login, outcome, time.monotonic() - started)
            if outcome.message and not flags & pamh.PAM_SILENT:
                _say(pamh, _words(options, login, outcome, log))
        return code
    finally:
        log.close()


def _decide(phase: Phase, login: Login, options: Options, log: Log, memory: Memory) -> Outcome:
    try:
        if phase == "account":
            return decide(login, options, Node(options, log, account_of=login.service))
        node = Node(options, log)
        return decide_session(login, options, node, _before(login, memory, node))
    except Exception as error:  # noqa: BLE001 - a mistake of ours falls to the side its option names
        here = lambda: Node(options, log).runs_slurm  # noqa: E731
        return spare_root(login, undecided(options, our_mistake(error), here))


def _login(pamh: Any, phase: Phase) -> Login:
    user = _text(lambda: pamh.user) or ""
    said = _text(lambda: _variable(pamh, "SSH_CONNECTION"))
    rhost = _text(lambda: pamh.rhost)
    hint = _text(lambda: _variable(pamh, "SLURM_JOB_ID")) if phase == "session" else None
    return Login(user, uid_of(user), pamh.service or "", os.getpid(), Claims(said, rhost, hint))


def _variable(pamh: Any, name: str) -> str | None:
    return pamh.env[name] if name in pamh.env else None  # noqa: SIM401 - it has no get()


def _text(read: Callable[[], str | None]) -> str | None:
    """Return an item of PAM's; bytes that are no UTF-8 as os.fsdecode() has them."""
    try:
        return read()
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "surrogateescape")


def uid_of(user: str) -> int | None:
    """Return the uid of a user name; None if this host does not know it."""
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL in it
        return None


def _report(log: Log, login: Login, outcome: Outcome, seconds: float) -> None:
    source = login.rhost or "an unknown host"
    if outcome.situation == "other service" and is_sshd():
        # An sshd under another name (PAMServiceName) that is let by keeps nobody out.
        by = f"this program is sshd; set service={login.service} to have its logins decided"
        outcome = outcome.but(level="info", text=f"{outcome.text}, though {by}")
    log.write(
        outcome.level,
        f"user {login.user[:64]} (uid {login.uid}) from {source[:64]}, pid {login.pid}: "
        f"{outcome.text} -> {outcome.code} in {seconds * 1000:.1f} ms",
    )


def _words(options: Options, login: Login, outcome: Outcome, log: Log) -> str:
    """Return what a refused user is told: the site's message, else our own sentence."""
    if not options["message"]:
        return outcome.message
    jobs = " ".join(map(str, outcome.jobs)) or "none"
    values = {"u": login.user, "h": os.uname().nodename, "j": jobs, "m": outcome.message, "%": "%"}
    try:
        from .refusal_text import render

        return render(options["message"], values)
    except Exception as error:  # noqa: BLE001 - our own sentence is better than none
        log.error(f"message={options['message']} is not shown: {error}")
        return outcome.message


def _set_variables(pamh: Any, outcome: Outcome) -> None:
    """Set the session's variables in the PAM environment, and take away those of another job."""
    for name in outcome.withdrawn:
        if name in pamh.env:
            del pamh.env[name]
    for name, value in outcome.environment.items():
        pamh.env[name] = value


def _say(pamh: Any, text: str) -> None:
    """Show the user one line."""
    pamh.conversation(pamh.Message(pamh.PAM_ERROR_MSG, text))
