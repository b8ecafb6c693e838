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

    from .welcome import Welcome

    Phase = Literal["account", "session"]
    # What the phases of one handle tell each other; of use in the process that wrote it only.
    Memory = dict[str, Any]
    Fields = Callable[[Login, Outcome, Options, dict[str, str]], dict[str, str]]


DANGER = (
    "ignore_root=0: this login of root may be adopted; all that it starts, services included, is "
    "then limited by the job and ends with it"
)
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: none is taken for another
LONG, LAST = 700, 200  # characters of a decision's text in the log, and of its end


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
        decided: tuple[Login, Outcome] = memory["decided"]
        earlier, outcome = decided
        if (earlier.pid, earlier.user, earlier.uid) == (login.pid, login.user, login.uid):
            return outcome
    return node.noted(login.pid, login.uid) if login.uid is not None else None


def _answer(phase: Phase, pamh: Any, flags: int, arguments: list[str], memory: Memory) -> int:
    started = time.monotonic()
    login = _login(pamh, phase)
    options, complaints = parse(arguments)
    log = Log(f"pam_slurm_adopt({pamh.service}:{phase})", options.log_level)
    try:
        fields = _fields(log)  # now: a job's namespaces may have another module of that name
        more = {"PHASE": phase, "REF": _reference(memory) if options.on("reference") else ""}
        for complaint in complaints:
            log.error(complaint)
        asked_for = phase == "session" and options.on("welcome") and not flags & pamh.PAM_SILENT
        welcome = _welcome(log) if asked_for else None
        if login.uid == 0 and not options.on("ignore_root") and "decided" not in memory:
            log.info(DANGER)
        with _Asker(pamh, flags) as asker:
            outcome = _decide(phase, login, options, log, memory, asker)
        memory["decided"] = login, outcome
        code = int(getattr(pamh, outcome.code))
        try:
            _set_variables(pamh, outcome)
        except Exception as error:  # noqa: BLE001 - variables do not change what was decided
            log.error(f"cannot set all variables of the session: {our_mistake(error)}")
        if welcome:
            with suppress(Exception):
                _greet(pamh, welcome, login, outcome, memory)
        with suppress(Exception):  # telling of a decision does not change it
            more["MSEC"] = f"{(time.monotonic() - started - asker.seconds) * 1000:.1f}"
            made = None
            with suppress(Exception):  # the line has the same
                made = fields and fields(login, outcome, options, more)
            _report(log, login, outcome, more, made)
            if outcome.message and not flags & pamh.PAM_SILENT:
                _say(pamh, _words(options, login, outcome, more["REF"], log))
        return code
    finally:
        log.close()


def _decide(
    phase: Phase,
    login: Login,
    options: Options,
    log: Log,
    memory: Memory,
    asker: _Asker,
) -> Outcome:
    try:
        if phase == "account":
            node = Node(options, log, account_of=login.service, converse=asker.converse)
            return decide(login, options, node)
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


def _fields(log: Log) -> Fields | None:
    """Return what makes fields of a decision, where journald keeps them."""
    try:
        if log.takes_fields:
            from slurm_adopt.decision.record import fields

            return fields
    except Exception as error:  # noqa: BLE001 - the line says it as well
        log.error(f"the log has no fields: {our_mistake(error)}")
    return None


def _reference(memory: Memory) -> str:
    """Return what both phases of a login are called by; "" where there is no chance to be had."""
    if "reference" not in memory:
        try:
            chosen = os.urandom(4)
        except OSError:
            chosen = b""
        memory["reference"] = "".join(LETTERS[byte % len(LETTERS)] for byte in chosen)
    return str(memory["reference"])


def _report(
    log: Log, login: Login, outcome: Outcome, more: dict[str, str], fields: dict[str, str] | None
) -> None:
    source = login.rhost or "an unknown host"
    reference = f", ref {more['REF']}" if more["REF"] else ""
    if outcome.situation == "other service" and is_sshd():
        # An sshd under another name (PAMServiceName) that is let by keeps nobody out.
        by = f"this program is sshd; set service={login.service} to have its logins decided"
        outcome = outcome.but(level="info", text=f"{outcome.text}, though {by}")
    text = outcome.text
    if len(text) > LONG:  # what stands at its end is looked for: the option, the code, the time
        text = f"{text[: LONG - LAST]}...{text[-LAST:]}"
    log.write(
        outcome.level,
        f"user {login.user[:64]} (uid {login.uid}) from {source[:64]}, pid {login.pid}{reference}: "
        f"{text} -> {outcome.code} in {more['MSEC']} ms",
        fields,
    )


def _words(options: Options, login: Login, outcome: Outcome, reference: str, log: Log) -> str:
    """Return what a refused user is told: the site's message, else our own sentence."""
    ours = f"{outcome.message} (ref {reference})" if reference else outcome.message
    if not options["message"]:
        return ours
    jobs = " ".join(map(str, outcome.jobs)) or "none"
    values = {"u": login.user, "h": os.uname().nodename, "j": jobs, "m": outcome.message, "%": "%"}
    values["r"] = reference
    try:
        from .refusal_text import render

        return render(options["message"], values)
    except Exception as error:  # noqa: BLE001 - our own sentence is better than none
        log.error(f"message={options['message']} is not shown: {error}")
        return ours


def _set_variables(pamh: Any, outcome: Outcome) -> None:
    """Set the session's variables in the PAM environment, and take away those of another job."""
    for name in outcome.withdrawn:
        if name in pamh.env:
            del pamh.env[name]
    for name, value in outcome.environment.items():
        pamh.env[name] = value


class _Asker:
    """Asks the user; it lets go of the handle at its end, whatever refers to it then."""

    __slots__ = ("_flags", "_pamh", "seconds")

    def __init__(self, pamh: Any, flags: int) -> None:
        self._pamh: Any = pamh
        self._flags = flags
        self.seconds = 0.0  # that the user has taken: they are not the decision's

    def __enter__(self) -> _Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pamh = None

    def converse(self, text: str) -> str | None:
        """Show a text and return what was typed; None where the service cannot ask.

        With echo: sshd answers a prompt without one with the password, if that was the method.
        Without a terminal (PAM_TTY, `ssh` for all of sshd's) su would take the answer from a
        script's standard input.
        """
        pamh = self._pamh
        if self._flags & pamh.PAM_SILENT or not _text(lambda: pamh.tty):
            return None
        asked = time.monotonic()
        try:
            answer = pamh.conversation(pamh.Message(pamh.PAM_PROMPT_ECHO_ON, text)).resp
        except UnicodeDecodeError:
            return "?"
        except Exception:  # noqa: BLE001 - PamException, whose class is the handle's own
            return None
        finally:
            self.seconds += time.monotonic() - asked
        return str(answer) if answer is not None else None


def _say(pamh: Any, text: str) -> None:
    """Show the user one line."""
    pamh.conversation(pamh.Message(pamh.PAM_ERROR_MSG, text))


def _welcome(log: Log) -> Welcome | None:
    """Import what greets a user, now: after the decision /usr may be the job's own."""
    try:
        from .welcome import Welcome

        return Welcome()
    except Exception as error:  # noqa: BLE001 - no login fails for it
        log.error(f"welcome=1 does nothing: {our_mistake(error)}")
        return None


def _greet(pamh: Any, welcome: Welcome, login: Login, outcome: Outcome, memory: Memory) -> None:
    """Tell a user of the job; once, also where there are two session lines of ours."""
    tty = _text(lambda: pamh.tty)
    if outcome.adoption and "welcomed" not in memory and welcome.is_interactive(tty):
        memory["welcomed"] = login, outcome
        end = outcome.environment.get("SLURM_JOB_END_TIME")
        text = welcome.text(outcome.adoption.job_id, end)
        pamh.conversation(pamh.Message(pamh.PAM_TEXT_INFO, text))
