"""Whatever a node answers: the process ends in a job of this uid that the node has confirmed.

Or in none. All answers are drawn (hypothesis, stateful): jobs come, end, are suspended and change
hands between two questions of one login, the source host and the user name anything, adopting
fails, breaks, or brings in another job. Logins go through both fronts, by any option, in both
phases. The real node over fake stepds is in test_any_stepd.py.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable, cast

import pytest
from hypothesis import note
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from slurm_adopt.decision import engine, session_phase
from slurm_adopt.decision.adoption import Adoption, Choice
from slurm_adopt.decision.login import Login
from slurm_adopt.decision.options import OPTIONS, parse
from slurm_adopt.decision.outcome import REFUSALS, SITUATIONS, Outcome
from slurm_adopt.front import answer as front_answer
from slurm_adopt.front import pam_exec, pam_python
from slurm_adopt.node import asking
from slurm_adopt.slurm.errors import (
    SUSPENDED,
    UNSETTLED,
    FormatError,
    MistakeError,
    PeerError,
    SetupError,
)
from slurm_adopt.system import log
from tests.fakes.handle import CODES, Handle
from tests.properties import ANY, Dice, bounded, code_of, finds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from slurm_adopt.decision.engine import Job as JobType
    from slurm_adopt.front.answer import Memory

UIDS = {"alice": 5001, "bob": 5002, "root": 0, "toor": 0}
JOBS = range(1, 6)
PARENT = 1 << 22  # the pid that pam_exec's caller has: of no process
HINTS = ["", "x", "0", "77", "-1", *map(str, JOBS)]


class UnprintableError(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise ZeroDivisionError


def suspended(taken: bool) -> PeerError:
    error = PeerError("/x is frozen", SUSPENDED)
    error.taken = taken
    return error


FAMILY: list[Callable[[], Exception]] = [
    lambda: PeerError("the stepd is gone"),
    lambda: FormatError("reply: 3 bytes too many"),
    lambda: SetupError("no cgroup for freezer"),
    lambda: PeerError("silence", UNSETTLED),
    lambda: MistakeError("unexpected"),
    lambda: suspended(False),
    lambda: suspended(True),
]
OUTSIDE: list[Callable[[], Exception]] = [
    lambda: ZeroDivisionError("0"),
    lambda: OSError(24, "Too many open files"),
    MemoryError,
    RecursionError,
    UnprintableError,
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
]
STEPD_S = [*FAMILY, *FAMILY, *FAMILY[3:], *FAMILY[3:], *OUTSIDE[:1]]
ERRORS = [*FAMILY, *FAMILY, *OUTSIDE]

# What anybody may say a job is: callerid, the user, a note. Only a job id that was confirmed helps.
ANY_JOB: list[Any] = [None, *JOBS, *JOBS, 0, 77, -1, 1 << 32, 1 << 70]
TYPED = [None, "", " 1 ", "\0", "x" * 9999, "\udcff", *HINTS, *HINTS]


class Job:
    """A job as a node shows it."""

    def __init__(self, job_id: int, uid: int, trouble: str) -> None:
        self.job_id = job_id
        self.uid = uid
        self.trouble = trouble
        self.started = 100 - job_id * 7 % 5


class World:
    """The jobs of the node, as they are; what is drawn of them may differ."""

    def __init__(self) -> None:
        self.owner: dict[int, int] = {}
        self.suspended: set[int] = set()
        self.events = 0

    def change(self, dice: Dice) -> None:
        """Have something happen to a job."""
        self.events += 1
        job = dice.of(*JOBS)
        kind = dice.of("comes", "comes", "comes", "ends", "stops", "goes on")
        if kind == "comes":  # also where it was another user's
            self.owner[job] = dice.of(0, *[5001] * 4, 5002)
        elif kind == "ends":
            self.owner.pop(job, None)
        elif kind == "stops":
            self.suspended.add(job)
        else:
            self.suspended.discard(job)

    def of(self, uid: int | None) -> list[int]:
        return [job for job, owner in self.owner.items() if owner == uid]


class AnyNode:
    """A node that answers as the world is, or anything else, or not at all; and notes it."""

    def __init__(self, world: World, dice: Dice, uid: int | None, pid: int) -> None:
        self._world, self._dice = world, dice
        self._uid, self._pid = uid, pid
        self.converse: Any = None
        self.phase = SimpleNamespace(
            site=SimpleNamespace(as_before=lambda _: None, kept=None, known=None)
        )
        self.note: Adoption | Choice | None = None
        self.known: Adoption | Choice | None = None  # as it was said when a session was opened
        self.calls: list[str] = []
        self.wrong: list[str] = []
        self.honest = True  # so far
        self.confirmed: set[int] = set()  # job ids that were said to be this uid's
        self.shown: set[int] = set()  # at the last look, those that gave no answer as well
        self.silent: frozenset[int] = frozenset()
        self.taken: set[int] = set()  # into which a stepd may have the process, or had it
        self.proven: Adoption | None = None
        self.looked: set[int] = set()
        self.told: Choice | None = None
        self.may_defer = self.deferring = False  # True in no session phase, by what the word means
        self.running: bool | None = None

    def _ask(
        self, name: str, truth: Callable[[], Any], lie: Callable[[], Any] | None = None
    ) -> Any:
        """Answer as it is, or as is drawn; the world may go on before that."""
        self.calls.append(name)
        raises = 3 if name in ("adopt", "keep") else 1
        lies = 2 if lie else 0
        how = self._dice.of("change", *["raise"] * raises, *["lie"] * lies, *["truth"] * 6)
        if how == "change":
            self._world.change(self._dice)
        if how == "raise":
            self.honest = False
            error = self._dice.of(*(STEPD_S if name in ("adopt", "keep") else ERRORS))()
            note(f"{name} raises {type(error)}")
            raise error
        if how == "lie" and lie is not None:
            self.honest = False
        answer = lie() if how == "lie" and lie is not None else truth()
        note(f"{name}: {how}, {answer!r}")
        return answer

    def _must(self, does: bool, what: str) -> None:
        """Note what the engine has to do and does not: it would catch an exception."""
        self.wrong += [] if does else [f"the engine did not {what}"]

    def _any_job(self) -> Any:
        return self._dice.of(*ANY_JOB)

    def _own_job(self) -> Any:
        return self._dice.of(None, *self._world.of(self._uid))

    def _any_jobs(self) -> list[int]:
        return [self._dice.of(*JOBS) for _ in range(self._dice.of(0, 1, 2, 2, 3, 4))]

    @property
    def runs_slurm(self) -> bool:
        self.running = True  # where it cannot be told
        self.running = bool(self._ask("runs_slurm", lambda: True, lambda: False))
        return self.running

    @property
    def defers(self) -> bool:
        lie = lambda: self.may_defer and self._dice.of(True, False)  # noqa: E731
        self.deferring = bool(self._ask("defers", lambda: self.deferring, lie))
        return self.deferring

    def jobs(self, uid: int, only: int | None = None) -> list[Job]:
        self._must(uid == self._uid, "ask about this user")
        ids = self._ask("jobs", lambda: self._world.of(uid), self._any_jobs)
        found = [one for one in ids if only in (None, one)]
        silent = [self._dice.of(*JOBS)] if self._dice.once_in(4) else []
        self.silent = frozenset(silent)
        self.honest &= not self.silent
        self.confirmed.update(found)
        self.shown = {*silent, *found}
        if only is None:
            self.taken &= self.shown  # what has ended takes nothing any more
        return [Job(one, uid, "does not answer" if one in self.silent else "") for one in found]

    def awaited_jobs(self, uid: int) -> list[Job]:
        self._must(uid == self._uid, "ask about this user")
        found = self._ask("await", list, self._any_jobs)
        self.confirmed.update(found)
        return [Job(one, uid, "") for one in found]

    def source_job(self, login: Login, _: list[Job]) -> int | None:
        self._must(login.uid == self._uid, "ask about this user")
        return cast("int | None", self._ask("source", self._own_job, self._any_job))

    def chosen_job(self, uid: int, _: list[Job]) -> int | None:
        self._must(uid == self._uid, "ask about this user")
        return cast("int | None", self._ask("choice", self._own_job, self._any_job))

    def ask(self, jobs: list[Job], newest: Job) -> int | None:
        def truth() -> int | None:
            if self.converse is None or not newest.uid:
                return None
            return asking.ask(cast("Any", jobs), cast("Any", newest), self.converse, lambda _: {})

        return cast("int | None", self._ask("ask", truth, self._any_job))

    def suspended(self, job: Job) -> str:
        truth = lambda: "frozen" if job.job_id in self._world.suspended else ""  # noqa: E731
        return str(self._ask("suspended", truth, lambda: self._dice.of("", "frozen")))

    def look(self, job: Job) -> None:
        self._must(job.job_id in self.confirmed, "take a confirmed job")
        self._ask("look", lambda: self._check_takes(job.job_id))
        self.looked.add(job.job_id)

    def tell(self, choice: Choice) -> None:
        self.told = choice
        self._ask("tell", lambda: None)
        self.note = choice

    def noted(self, pid: int, uid: int) -> Adoption | Choice | None:
        """Return what an account phase has left, or what it has not."""
        self._must((pid, uid) == (self._pid, self._uid), "ask about this user")
        self.calls.append("noted")
        self.known = self.note
        if self._dice.once_in(4):
            self.honest = False
            job, whose = self._dice.of(*JOBS), self._dice.of(0, 5001, 5002)
            self.known = self._dice.of(None, Choice(job, whose), Adoption(pid, whose, job))
        found, own = self.known, self.known and self.known.uid == uid
        self.known = found if own else None  # what is of another is not known
        return found

    def _check_takes(self, job_id: int) -> None:
        """Say no as a sound node does."""
        if job_id in self._world.suspended:
            raise suspended(False)
        if job_id not in self._world.of(self._uid):
            raise PeerError("the stepd is gone")

    def adopt(self, pid: int, job: Job) -> Adoption:
        self._must(pid == self._pid, "adopt this process")
        self._must(job.job_id in self.confirmed, "take a confirmed job")
        self._must(self.proven is None, "adopt once")
        self._must(not self.taken & self.shown, "ask one stepd, where one may have it")
        self._check_uid(job.uid)
        return self._bring(job.job_id, "adopt")

    def keep(self, adoption: Adoption) -> Adoption:
        self._check_uid(adoption.uid)
        found = self._bring(adoption.job_id, "keep")
        self.confirmed.add(found.job_id)  # its stepd has said so
        return found

    def _check_uid(self, uid: int) -> None:
        self._must(uid == self._uid, "adopt into the jobs of this user")

    def _bring(self, job_id: int, name: str) -> Adoption:
        def truth() -> Adoption:
            self._check_takes(job_id)
            return Adoption(self._pid, cast("int", self._uid), job_id)

        def wrong() -> Adoption:
            pid = self._dice.of(self._pid, self._pid + 1)
            return Adoption(pid, self._dice.of(0, 5001, 5002), self._dice.of(*JOBS))

        try:
            found = self._ask(name, truth, wrong)
        except Exception as error:
            if getattr(error, "kind", "") == UNSETTLED or getattr(error, "taken", False):
                self.taken.add(job_id)
            raise
        right = (found.uid, found.job_id) == (self._uid, job_id)
        written = self._dice.of(("/x",), ())
        adoption = cast(
            "Adoption", found.proven({"": "/x"}, {"SLURM_JOB_ID": str(found.job_id)}, written)
        )
        if right:
            self.proven = self.note = adoption
        return adoption


class Person(Handle):
    """A handle whose user types anything."""

    dice: Dice

    def conversation(self, message: Any) -> Any:
        super().conversation(message)
        if message.style != self.PAM_PROMPT_ECHO_ON:
            return None
        return SimpleNamespace(resp=self.dice.of(*TYPED))


def arguments(dice: Dice) -> list[str]:
    """Draw options: each with any of its values, or one that it does not have, or not at all."""
    found = []
    for option in OPTIONS:
        values: list[str | None] = [None, None]
        if isinstance(option.values, tuple):
            values += option.values
        elif option.name == "service":
            values += [*[None] * 6, *["*"] * 3, "login"]
        elif option.name == "log_level":
            values += ["quiet", "debug5"]
        value = dice.of(*values)
        found += [] if value is None else [f"{option.name}={value}"]
    odd = dice.of("action_no_jobs=x", "action_generic_failure=", "x", "action_unknown=USER")
    return [*found, odd] if dice.once_in(10) else found


class Attempt:
    """One login: who, by which options, and what its phases have come to."""

    def __init__(self, dice: Dice) -> None:
        users = ["alice"] * 9, ["bob", "root"] * 2, ["toor", "", "nobody"]
        self.user = dice.of(*[user for some in users for user in some])
        self.uid = UIDS.get(self.user)
        self.service = dice.of(*["sshd"] * 8, "login")
        self.arguments = arguments(dice)
        self.options = parse(self.arguments)[0]
        self.by_exec = dice.of(True, False, False)
        self.pid = PARENT if self.by_exec else os.getpid()
        hint = dice.of(None, *HINTS)
        self.env = {} if hint is None else {"SLURM_JOB_ID": hint}
        self.note: Adoption | Choice | None = None
        self.memory: Memory = {}
        self.before: Outcome | None = None  # as the session phase knows it

    def __str__(self) -> str:
        front = "pam_exec" if self.by_exec else "pam_python"
        return f"{self.user} by {front} {' '.join(self.arguments)}, {self.service}, {self.env}"


class Logins(RuleBasedStateMachine):
    """Logins to a node while its jobs come and go."""

    waiting = Bundle("waiting")  # logins between the phases

    @initialize(random=ANY)
    def boot(self, random: Random) -> None:
        self.world, dice = World(), Dice(random)
        for _ in range(dice.of(1, 4, 8, 12)):
            self.world.change(dice)

    @rule(random=ANY)
    def something_happens(self, random: Random) -> None:
        self.world.change(Dice(random))

    @rule(random=ANY, target=waiting)
    def account(self, random: Random) -> Any:
        dice = Dice(random)
        attempt = Attempt(dice)
        if dice.once_in(5):  # a session line alone
            self._call("session", attempt, dice)
            return multiple()
        outcome, node = self._call("account", attempt, dice)
        attempt.note = node.note
        if not attempt.memory or dice.of(True, False):  # another process
            attempt.memory = {}
        else:
            attempt.before = outcome
        return attempt

    @rule(random=ANY, attempt=consumes(waiting))
    def session(self, random: Random, attempt: Attempt) -> None:
        dice = Dice(random)
        for _ in range(dice.of(0, 0, 1, 3)):
            self.world.change(dice)
        self._call("session", attempt, dice)

    def _call(self, phase: str, attempt: Attempt, dice: Dice) -> tuple[Outcome, AnyNode]:
        node = AnyNode(self.world, dice, attempt.uid, attempt.pid)
        node.note = attempt.note
        node.may_defer = phase == "account"
        node.deferring = node.may_defer and dice.of(True, False)
        events = self.world.events
        broken = dice.once_in(30)  # the node cannot even be made

        def make(*_: object, converse: Any = None, **__: object) -> AnyNode:
            if broken:
                node.honest = False
                error = dice.of(*ERRORS)()
                raise error
            node.converse = converse
            return node

        came: list[Outcome] = []

        def answer(*args: Any) -> Outcome:
            came.append(front_answer.answer(*args))
            return came[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(front_answer, "Node", make)
            patch.setattr(pam_python, "answer", answer)
            patch.setattr(pam_exec, "answer", answer)
            if attempt.by_exec:
                said = self._by_exec(phase, attempt)
            else:
                said = self._by_python(phase, attempt, dice)
        (outcome,) = came
        note(f"{phase}: {attempt} -> {outcome.situation} {outcome.code} {outcome.text}")
        check(phase, attempt, node, outcome)
        check_front(attempt, outcome, said)
        if node.honest and self.world.events == events:
            check_a_sound_node(self.world, attempt, node, outcome)
        return outcome, node

    def _by_python(self, phase: str, attempt: Attempt, dice: Dice) -> str:
        handle = Person(attempt.user, attempt.service)
        handle.dice, handle.env = dice, attempt.env
        handle.tty = dice.of("ssh", "ssh", None)
        front = pam_python.account if phase == "account" else pam_python.session
        return CODES[front(handle, 0, attempt.arguments, attempt.memory)]

    def _by_exec(self, phase: str, attempt: Attempt) -> str:
        kind = {"account": "account", "session": "open_session"}[phase]
        items = {
            "PAM_TYPE": kind,
            "PAM_USER": attempt.user,
            "PAM_SERVICE": attempt.service,
            **attempt.env,
        }
        return str(pam_exec.status(attempt.arguments, items, attempt.pid))


def check(phase: str, attempt: Attempt, node: AnyNode, outcome: Outcome) -> None:
    """See that what a login has come to is one of the outcomes that it may come to."""
    uid, options = attempt.uid, attempt.options
    before = attempt.before if phase == "session" else None
    assert not node.wrong
    assert outcome.situation in SITUATIONS
    # root
    if uid == 0:
        assert outcome.code not in REFUSALS
    if uid == 0 and options["ignore_root"] == "1":
        assert (outcome.code, node.calls) in (("PAM_IGNORE", []), ("PAM_IGNORE", ["noted"]))
    if not attempt.user or uid is None or options["service"] not in ("*", attempt.service):
        assert set(node.calls) <= {"noted"}
        assert not outcome.adoption
        assert not outcome.choice
    # in a job, or not
    assert (outcome.adoption is not None) == (outcome.situation in ("adopted", "still adopted"))
    assert (outcome.choice is not None) == (outcome.situation == "chosen")
    if outcome.adoption:
        assert node.proven is outcome.adoption
        assert outcome.adoption.job_id in node.confirmed
        assert outcome.adoption.uid == uid
    if outcome.choice:
        assert phase == "account"
        assert node.deferring
        assert node.told
        assert node.told == outcome.choice  # the same one
        assert outcome.choice.job_id in node.confirmed & node.looked
        assert outcome.choice.uid == uid
    # the answer is the option's
    known = before or (node.known if phase == "session" else None)
    assert outcome.code == code_of(outcome, options, known, node.running)
    # who was let in for a job is in one, or refused, or let in by an option: not left to others
    theirs = outcome.situation == "other service"
    if before and (before.adoption or before.choice) and uid and not theirs:
        assert outcome.code != "PAM_IGNORE"


def check_front(attempt: Attempt, outcome: Outcome, said: str) -> None:
    """See that a front says what the outcome is, and sets the job's variables or takes them."""
    if attempt.by_exec:
        passes = attempt.uid == 0 or attempt.options["ignore_passes"] == "1"
        in_ = outcome.code == "PAM_SUCCESS" or (outcome.code == "PAM_IGNORE" and passes)
        assert said == ("0" if in_ else "1")
        return
    assert said == outcome.code
    into = outcome.adoption or outcome.choice
    if into:
        assert attempt.env["SLURM_JOB_ID"] == str(into.job_id)
    elif attempt.before and (was := attempt.before.adoption or attempt.before.choice):
        ours = outcome.situation != "other service"
        assert not ours or attempt.env.get("SLURM_JOB_ID") != str(was.job_id)


def check_a_sound_node(world: World, attempt: Attempt, node: AnyNode, outcome: Outcome) -> None:
    """See that a user with one job is in it, where all has been said as it is."""
    jobs = world.of(attempt.uid)
    if "jobs" in node.calls and len(jobs) == 1 and not world.suspended & {*jobs}:
        into = outcome.adoption or outcome.choice
        assert into
        assert into.job_id == jobs[0]


@pytest.fixture
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no log, a user database of four, and no process that has called PAM."""
    monkeypatch.setattr(log.Log, "_connect", lambda _: None)
    monkeypatch.setattr(log.Log, "_send", lambda *_: None)
    monkeypatch.setattr(os, "write", lambda fd, data, write=os.write: _write(write, fd, data))
    monkeypatch.setattr(pam_exec, "check_called", lambda *_: None)
    for front in (front_answer, pam_exec):
        monkeypatch.setattr(front, "uid_of", UIDS.get)


def _write(write: Callable[[int, bytes], int], fd: int, data: bytes) -> int:
    """Write; pam_exec's lines for the user nowhere."""
    return len(data) if fd == 1 else write(fd, data)


# Root, whatever an outcome is: both fronts say so


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("phase", ["account", "session"])
@pytest.mark.parametrize("code", sorted({*REFUSALS, "PAM_IGNORE", "PAM_SUCCESS"}))
@pytest.mark.parametrize("name", SITUATIONS)
def test_root_is_refused_by_no_front(
    monkeypatch: pytest.MonkeyPatch, name: Any, code: Any, phase: str
) -> None:
    login = Login("root", 0, "sshd", os.getpid())
    outcome = engine.spare_root(login, Outcome(SITUATIONS[name], code, "why"))
    assert outcome.code == "PAM_IGNORE"  # without a job
    for front in (pam_python, pam_exec):
        monkeypatch.setattr(front, "answer", lambda *_: outcome)
    by_python = pam_python.account if phase == "account" else pam_python.session
    assert CODES[by_python(Handle("root"), 0, ["ignore_root=0"], {})] == "PAM_IGNORE"
    items = {
        "PAM_TYPE": {"account": "account", "session": "open_session"}[phase],
        "PAM_USER": "root",
        "PAM_SERVICE": "sshd",
    }
    for given in (["ignore_root=0"], ["ignore_root=0", "ignore_passes=0"]):
        assert pam_exec.status(given, items, PARENT) == 0


@pytest.mark.usefixtures("_quiet")
def test_in_a_confirmed_job_or_in_none() -> None:
    run_state_machine_as_test(Logins, settings=bounded(examples=200, steps=20))


# That the property can fail: what the engine looks at, not looked at

Patch = Callable[[pytest.MonkeyPatch], None]


def any_named(patch: pytest.MonkeyPatch) -> None:
    """Take what the source host names without a look at the user's jobs."""

    def named(login: Login, node: Any, jobs: list[JobType]) -> tuple[JobType | None, str, str]:
        job_id = engine.step(lambda: node.source_job(login, jobs))
        return cast("Any", Job(job_id, login.uid or 0, "")) if job_id else None, "named", ""

    patch.setattr(engine, "_named", named)


def any_stated(patch: pytest.MonkeyPatch) -> None:
    """Take what the user has chosen without a look at the user's jobs."""

    def stated(login: Login, node: Any, jobs: list[JobType]) -> tuple[Any, str]:
        job_id = engine.step(lambda: node.chosen_job(login.uid, jobs))
        return Job(job_id, login.uid or 0, "") if job_id else None, "stated"

    patch.setattr(engine, "_stated", stated)


def any_hint(patch: pytest.MonkeyPatch) -> None:
    """Take any hint of the PAM environment."""

    def hinted(login: Login, _: object) -> Any:
        hint = login.hint or ""
        return (Job(int(hint), login.uid or 0, ""), "hint", "") if hint.isdigit() else None

    patch.setattr(engine, "_hinted", hinted)


def always_in(patch: pytest.MonkeyPatch) -> None:
    """Take a failed adoption for one that is allowed."""
    failed = engine._failed
    patch.setattr(
        engine,
        "_failed",
        lambda error, _, text: failed(error, parse(["action_adopt_failure=allow"])[0], text),
    )


def again(patch: pytest.MonkeyPatch) -> None:
    """Ask a second stepd where a first one may have the process."""
    patch.setattr(engine, "_settles", lambda _: False)


def no_refusal(patch: pytest.MonkeyPatch) -> None:
    """Leave to the others of the stack who was let in for a job."""
    patch.setattr(session_phase, "_no_less", lambda outcome, _: outcome)


def root_refused(patch: pytest.MonkeyPatch) -> None:
    """Treat root as everybody."""
    for module in (engine, session_phase, front_answer):
        patch.setattr(module, "spare_root", lambda _, outcome: outcome)


def unread(patch: pytest.MonkeyPatch) -> None:
    """Take a choice for an adoption: nothing has shown it."""

    def adopted(login: Login, adoption: Adoption, how: str) -> Outcome:
        text = f"adopted into job {adoption.job_id} ({how})"
        copy = Adoption(adoption.pid, login.uid or 0, adoption.job_id)
        return Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", text, copy)

    patch.setattr(engine, "_adopted", adopted)


def not_withdrawn(patch: pytest.MonkeyPatch) -> None:
    """Leave a session the variables of a job that it is not in."""
    patch.setattr(session_phase, "_set_for", lambda *_: frozenset())


def exceptions(patch: pytest.MonkeyPatch) -> None:
    """Let an exception leave the front."""

    def undecided(*_: object) -> Outcome:
        raise ZeroDivisionError

    patch.setattr(front_answer, "undecided", undecided)


MUTANTS: list[Patch] = [
    any_named,
    any_stated,
    any_hint,
    always_in,
    again,
    no_refusal,
    root_refused,
    unread,
    not_withdrawn,
    exceptions,
]


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as found:
        yield found


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.__name__)
def test_the_property_finds(patch: pytest.MonkeyPatch, mutant: Patch) -> None:
    mutant(patch)
    assert finds(Logins)
