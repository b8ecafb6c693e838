"""What both fronts do: a login is decided, logged, and what there is to say is said.

A front shows PAM's items as a Service, and makes of an Outcome what its bridge can answer.
"""

from __future__ import annotations

import os
import pwd
import time

from slurm_adopt.decision.engine import (
    decide,
    not_ours,
    our_mistake,
    spare_root,
    undecided,
)
from slurm_adopt.decision.login import Login
from slurm_adopt.decision.options import parse
from slurm_adopt.decision.session_phase import broken_off, decide_session
from slurm_adopt.node.node import Node
from slurm_adopt.node.session_process import is_sshd
from slurm_adopt.system.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, Protocol, TypeVar

    from slurm_adopt.decision.options import Options
    from slurm_adopt.decision.outcome import Outcome
    from slurm_adopt.decision.session_phase import Before
    from slurm_adopt.node.asking import Converse

    from .welcome import Welcome

    Done = TypeVar("Done")
    Phase = Literal["account", "session"]
    # What the phases of one handle tell each other; of use in the process that wrote it only.
    Memory = dict[str, Any]
    Fields = Callable[[Login, Outcome, Options, dict[str, str]], dict[str, str]]

    class Service(Protocol):
        """One call of PAM's, as a bridge shows it."""

        pid: int  # the process that called PAM
        user: str  # "" without PAM_USER
        name: str  # PAM_SERVICE; "" without one
        rhost: str | None
        silent: bool  # PAM_SILENT
        asked: float  # seconds that the user has taken to answer: they are not the decision's

        @property
        def tty(self) -> str | None:
            """PAM_TTY."""

        @property
        def converse(self) -> Converse | None:
            """What asks the user, where the bridge can."""

        def variable(self, name: str) -> str | None:
            """Return a variable of the PAM environment; None if it is not set."""

        def set_variables(self, outcome: Outcome) -> None:
            """Set the session's variables in the PAM environment, as far as the bridge can."""

        def tell(self, text: str) -> None:
            """Show the user a line."""

        def refuse(self, text: str) -> None:
            """Show the user why the login is refused."""

        def reference(self) -> str | None:
            """Return what both phases of this login know it by; None: the memory keeps it."""


DANGER = (
    "ignore_root=0: this login of root may be adopted; all that it starts, services included, is "
    "then limited by the job and ends with it"
)
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: none is taken for another
REFERENCE = 4  # letters
LONG, LAST = 700, 200  # characters of a decision's text in the log, and of its end


def answer(phase: Phase, service: Service, arguments: list[str], memory: Memory) -> Outcome:
    """Decide a login, log it, and tell the user; `arguments`: those after the script's path."""
    started = time.monotonic()
    login = _login(service, phase)
    options, complaints = parse(arguments)
    pid = service.pid if service.pid != os.getpid() else 0
    log = Log(f"pam_slurm_adopt({service.name}:{phase})", options.log_level, pid=pid)
    try:
        fields = _fields(log)  # now: a job's namespaces may have another module of that name
        reference = _reference(service, memory) if options.on("reference") else ""
        more = {"PHASE": phase, "REF": reference}
        for complaint in complaints:
            log.error(complaint)
        asked_for = phase == "session" and options.on("welcome") and not service.silent
        welcome = _welcome(log) if asked_for else None
        if login.uid == 0 and not options.on("ignore_root") and "decided" not in memory:
            log.info(DANGER)
        outcome = _decide(phase, service, login, (options, log), memory)
        memory["decided"] = login, outcome
        try:
            service.set_variables(outcome)
        except Exception as error:  # noqa: BLE001 - variables do not change what was decided
            log.error(f"cannot set all variables of the session: {our_mistake(error)}")
        if welcome:
            _quietly(lambda: _greet(service, welcome, login, outcome, memory))
        more["MSEC"] = f"{(time.monotonic() - started - service.asked) * 1000:.1f}"
        made = _quietly(lambda: fields(login, outcome, options, more)) if fields else None
        _quietly(lambda: _report(log, login, outcome, more, made))
        if outcome.message and not service.silent:
            _quietly(lambda: service.refuse(_words(options, login, outcome, more["REF"], log)))
        return outcome
    finally:
        log.close()


def _quietly(work: Callable[[], Done]) -> Done | None:
    """Do what comes after a decision, and does not change it, whatever becomes of it."""
    try:
        return work()
    except Exception:  # noqa: BLE001
        return None


def _decide(
    phase: Phase,
    service: Service,
    login: Login,
    told: tuple[Options, Log],
    memory: Memory,
) -> Outcome:
    options, log = told
    pid = login.pid
    before: Before = None
    try:
        if phase == "account":
            node = Node(options, log, account_of=login.service, converse=service.converse, pid=pid)
            outcome = decide(login, options, node)
            if outcome.adoption or outcome.choice:  # the session phase has something to do
                memory["conf"] = node.phase.site.kept
            return outcome
        before = _remembered(login, memory)
        node = Node(options, log, pid=pid)
        node.phase.site.known = memory.pop("conf", None)
        if before is None and login.uid is not None:
            before = node.noted(login.pid, login.uid)
        return decide_session(login, options, node, before)
    except Exception as error:  # noqa: BLE001 - a mistake of ours falls to the side its option names
        here = lambda: Node(options, log).runs_slurm  # noqa: E731
        outcome = not_ours(login, options) or undecided(options, our_mistake(error), here)
        outcome = broken_off(outcome, login, before)
        return spare_root(login, outcome).but(withdrawn=outcome.withdrawn)


def _remembered(login: Login, memory: Memory) -> Outcome | None:
    """Return what was decided for this process and user in this process, None if nothing is known.

    By the account phase, or by another session line of this module.
    """
    if "decided" in memory:
        decided: tuple[Login, Outcome] = memory["decided"]
        earlier, outcome = decided
        if (earlier.pid, earlier.user, earlier.uid) == (login.pid, login.user, login.uid):
            return outcome
    return None


def _login(service: Service, phase: Phase) -> Login:
    said = service.variable("SSH_CONNECTION")
    hint = service.variable("SLURM_JOB_ID") if phase == "session" else None
    return Login(
        service.user,
        uid_of(service.user),
        service.name,
        service.pid,
        ssh_connection=said,
        rhost=service.rhost,
        hint=hint,
    )


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


def _reference(service: Service, memory: Memory) -> str:
    """Return what both phases of a login are called by; "" where there is no chance to be had."""
    if "reference" not in memory:
        found = service.reference()
        memory["reference"] = _by_chance() if found is None else found
    return str(memory["reference"])


def _by_chance() -> str:
    try:
        chosen = os.urandom(REFERENCE)
    except OSError:
        return ""
    return "".join(LETTERS[byte % len(LETTERS)] for byte in chosen)


def _report(
    log: Log, login: Login, outcome: Outcome, more: dict[str, str], fields: dict[str, str] | None
) -> None:
    source = login.rhost or "an unknown host"
    reference = f", ref {more['REF']}" if more["REF"] else ""
    if outcome.situation == "other service" and is_sshd(login.pid):
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


def _welcome(log: Log) -> Welcome | None:
    """Import what greets a user, now: after the decision /usr may be the job's own."""
    try:
        from .welcome import Welcome

        return Welcome()
    except Exception as error:  # noqa: BLE001 - no login fails for it
        log.error(f"welcome=1 does nothing: {our_mistake(error)}")
        return None


def _greet(
    service: Service, welcome: Welcome, login: Login, outcome: Outcome, memory: Memory
) -> None:
    """Tell a user of the job; once, also where there are two session lines of ours."""
    if outcome.adoption and "welcomed" not in memory and welcome.is_interactive(service.tty):
        memory["welcomed"] = login, outcome
        end = outcome.environment.get("SLURM_JOB_END_TIME")
        service.tell(welcome.text(outcome.adoption.job_id, end))
