"""The decision, over a fake node: the decision table, and what a node is asked."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from slurm_adopt.cli.logins.decisions import told
from slurm_adopt.decision.adoption import Adoption, Choice
from slurm_adopt.decision.engine import OUT_OF_MEMORY, decide, our_mistake
from slurm_adopt.decision.login import Login
from slurm_adopt.decision.options import OPTIONS, Option, Options, parse
from slurm_adopt.decision.outcome import CHOOSE, SITUATIONS, Outcome
from slurm_adopt.decision.session_phase import decide_session
from slurm_adopt.slurm.errors import (
    SUSPENDED,
    UNSETTLED,
    FormatError,
    PeerError,
    SetupError,
    SlurmAdoptError,
)
from tests import decisions

if TYPE_CHECKING:
    from slurm_adopt.decision.outcome import Code

SUCCESS: Code = "PAM_SUCCESS"
DENIED: Code = "PAM_PERM_DENIED"
IGNORE: Code = "PAM_IGNORE"


class Job:
    def __init__(self, job_id: int, started: int) -> None:
        self.job_id = job_id
        self.started = started
        self.trouble = "does not answer" if job_id == 4 else ""


class Fake(NamedTuple):
    """What a node has, and what comes of asking it."""

    jobs: list[int] | SlurmAdoptError = []  # noqa: RUF012
    source: int | SlurmAdoptError | None = None
    fails: Mapping[int, SlurmAdoptError] = {}
    fresh: tuple[int, ...] | SlurmAdoptError | None = None  # what a second look shows, if not jobs
    last: tuple[int, ...] | None = None  # what a third look shows, if not that
    awaited: tuple[int, ...] = ()
    written: tuple[str, ...] = ()  # where keeping a process in its job has to write it
    session: int = 42  # the process that becomes the session
    silent: tuple[int, ...] = ()  # jobs whose stepds do not answer
    suspended: tuple[int, ...] = ()
    defers: bool = False  # whether a session line is certain to come
    breaks: str = ""  # what raises an exception that nobody has thought of
    runs_slurm: bool = True  # whether this is a compute node
    chosen: int | SlurmAdoptError | None = None  # what the user has chosen
    answers: int | tuple[int, ...] | SlurmAdoptError | None = None  # what the user answers


class FakeNode:
    """A node that has what the row says, and notes what it is asked."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self.calls: list[str] = []
        self.silent = frozenset(fake.silent)
        self._looks = 0
        self._uid = 5001  # whose jobs it was asked about last

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name == self._fake.breaks:
            raise ZeroDivisionError(name)
        return super().__getattribute__(name)

    @property
    def runs_slurm(self) -> bool:
        return self._fake.runs_slurm

    @property
    def defers(self) -> bool:
        return self._fake.defers

    def suspended(self, job: Job) -> str:
        return "frozen" if job.job_id in self._fake.suspended else ""

    def look(self, job: Job) -> None:
        self.calls.append(f"look {job.job_id}")
        self._fail(job)

    def tell(self, choice: Choice) -> None:
        self.calls.append(f"tell {choice.job_id}")

    def _fail(self, job: Job) -> None:
        if job.job_id in self._fake.suspended:
            raise PeerError("/x is frozen: the job is suspended", SUSPENDED)
        if job.job_id in self._fake.fails:
            raise self._fake.fails[job.job_id]

    def jobs(self, uid: int, only: int | None = None) -> list[Job]:
        self._uid = uid
        if only is not None:
            self._looks += 1
            self.calls.append(f"job {only} of {uid}")
            listed = self._fake.jobs
            if isinstance(listed, SlurmAdoptError):
                raise listed
            return [Job(only, 0)] if only in listed else []
        self._looks += 1
        self.calls.append(f"jobs {uid}")
        later = {1: None, 2: self._fake.fresh}.get(self._looks, self._fake.last or self._fake.fresh)
        found = self._fake.jobs if later is None else later
        if isinstance(found, SlurmAdoptError):
            raise found
        return [Job(number, STARTED.get(number, 0)) for number in found or ()]

    def awaited_jobs(self, uid: int) -> list[Job]:
        self.calls.append(f"await {uid}")
        return [Job(number, 0) for number in self._fake.awaited]

    def source_job(self, login: Login, jobs: list[Job]) -> int | None:
        self.calls.append(f"source of {login.pid} among {len(jobs)}")
        if isinstance(self._fake.source, SlurmAdoptError):
            raise self._fake.source
        return self._fake.source

    def chosen_job(self, uid: int, jobs: list[Job]) -> int | None:
        self.calls.append(f"choice of {uid} among {' '.join(str(job.job_id) for job in jobs)}")
        if isinstance(self._fake.chosen, SlurmAdoptError):
            raise self._fake.chosen
        return self._fake.chosen

    def ask(self, jobs: list[Job], newest: Job) -> int | None:
        listed = " ".join(str(job.job_id) for job in jobs)
        self.calls.append(f"ask about {listed}, or {newest.job_id}")
        if isinstance(self._fake.answers, SlurmAdoptError):
            raise self._fake.answers
        if isinstance(self._fake.answers, tuple):
            return self._fake.answers[sum("ask about" in call for call in self.calls) - 1]
        return self._fake.answers

    def adopt(self, pid: int, job: Job) -> Adoption:
        self.calls.append(f"adopt {pid} {job.job_id}")
        self._fail(job)
        environment = {"SLURM_JOB_ID": str(job.job_id)}
        return Adoption(self._fake.session, self._uid, job.job_id).proven({}, environment)

    def keep(self, adoption: Adoption) -> Adoption:
        self.calls.append(f"keep {adoption.pid} {adoption.job_id}")
        if adoption.job_id in self._fake.fails:
            raise self._fake.fails[adoption.job_id]
        uid = adoption.uid
        return Adoption(adoption.pid, uid, adoption.job_id).proven({}, written=self._fake.written)


def job_of(outcome: Outcome) -> int | None:
    return outcome.adoption.job_id if outcome.adoption else None


# When the extern steps were started; 8 is the newest, 6 and 5 began in the same instant.
STARTED = {10: 400, 9: 100, 8: 300, 7: 200, 6: 50, 5: 50}

# The decision table, over a node that answers what the situation is made of

ROLES = {"only": 7, "source": 7, "chosen": 7, "newest": 8, "foreign": 77, "elsewhere": 66}
GONE: Mapping[int, SlurmAdoptError] = {7: PeerError("the stepd is gone")}
BOTH = [7, 8]
REFUSED = PeerError("slurmd at 10.78.0.4:6818: connection refused")


def of(situation: str) -> Fake:
    """Return the node of a situation; what it says of itself is the reason in the table."""
    reason = next(row.reason for row in decisions.SITUATIONS if row.name == situation)
    if situation in FAKES:
        return FAKES[situation]
    said = reason.format(**ROLES)
    if situation.startswith("several jobs"):
        return Fake(BOTH, PeerError(said))
    if "mounted" in situation:
        return Fake([7], fails={7: SetupError(said)})
    return Fake(SetupError(said), runs_slurm="no slurmd" not in situation)


FAKES = {
    "one job, asked about": Fake([7], PeerError("slurmd at 10.78.0.4:6818: connection refused")),
    "several jobs, from one of them": Fake(BOTH, 7),
    "several jobs, one of them chosen": Fake(BOTH, REFUSED, chosen=7),
    "several jobs, one chosen, from another": Fake(BOTH, 7, chosen=8),
    "several jobs, from no job": Fake(BOTH),
    "several jobs, from another user's": Fake(BOTH, 77),
    "several jobs, from one elsewhere": Fake(BOTH, 66),
    "several jobs, from one that fails": Fake(BOTH, 7, GONE),
    "the only job fails": Fake([7], fails=GONE),
    "the only job fails, not confined by cgroups": Fake([7], fails=GONE),
    "the only job is suspended": Fake([7], suspended=(7,)),
    "the only job has a cgroup of the user's": Fake(
        [7], fails={7: PeerError("/x is a cgroup that uid 5001 has made", SUSPENDED)}
    ),
    "several jobs, all suspended": Fake(BOTH, suspended=(7, 8)),
    "several jobs, a newer one is suspended": Fake(
        [8, 10], PeerError("slurmd at 10.78.0.4:6818: connection refused"), suspended=(10,)
    ),
    "the newest job fails": Fake(BOTH, fails={8: PeerError("the stepd is gone")}),
    **dict.fromkeys(
        ("one job", "one job, others elsewhere and of others", "one job, not confined by cgroups"),
        Fake([7]),
    ),
    **dict.fromkeys(
        ("another service", "no PAM_USER", "unknown user", "root", "idle node",
         "jobs of other users only", "job on another node only", "the only job is ending"),
        Fake(),
    ),
}  # fmt: skip
UIDS = {"alice": 5001, "root": 0}
TABLE = [row for row in decisions.rows() if not row.situation.endswith("X11")]  # the node's own


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_decision_table(row: decisions.Row) -> None:
    options, complaints = parse(row.options.split())
    login = Login(row.user or "", UIDS.get(row.user or ""), "sshd", 42)
    outcome = decide(login, options, FakeNode(of(row.situation)))
    line = f"{outcome.text} -> {outcome.code} in 1 ms"
    assert (outcome.code, outcome.message) == (row.code, row.shown)
    assert job_of(outcome) == (ROLES[row.job] if row.job else None)
    assert row.level in ("", {"error": "err"}.get(outcome.level, outcome.level))
    for part in row.says:
        assert part.format(**ROLES) in line
    assert row.complaint in "".join(complaints)
    assert len(complaints) == bool(row.complaint)


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_who_reads_the_log_knows_what_was_decided(row: decisions.Row) -> None:
    """By the text of the line alone, as `slurm-adopt logins` does."""
    options, _ = parse(row.options.split())
    login = Login(row.user or "", UIDS.get(row.user or ""), "sshd", 42)
    outcome = decide(login, options, FakeNode(of(row.situation)))
    said = told(outcome.text)
    assert said
    assert said.situation == outcome.situation
    option = SITUATIONS[outcome.situation].option
    assert said.option == (f"{option}={options[option]}" if option else "")
    if outcome.adoption:
        assert (said.job, said.how) == (outcome.adoption.job_id, outcome.adoption.how)


# What the table leaves open: what a node is asked, and in which order


class Row(NamedTuple):
    """Situation and options -> code and what the node was asked."""

    title: str
    options: str
    code: str
    fake: Fake = Fake()
    calls: tuple[str, ...] = ("jobs 5001",)
    job: int | None = None
    user: str = "alice"
    uid: int | None = 5001
    service: str = "sshd"
    says: str = ""


def unsettled() -> PeerError:
    return PeerError("silence", UNSETTLED)


def taken(error: PeerError) -> PeerError:
    """Return the error that is raised once a stepd has had the process."""
    error.taken = True
    return error


LOOK = "jobs 5001"
TELL_7 = ("look 7", "tell 7")
ADOPT_7 = ("jobs 5001", "adopt 42 7")
ASK_1 = ("jobs 5001", "source of 42 among 1", "adopt 42 7")
ASK_2 = ("jobs 5001", "source of 42 among 2")
ASK_3 = ("jobs 5001", "source of 42 among 3")
THREE = [7, 8, 9]
CHOICE = "user_choice=1"
CHOOSE_3 = (*ASK_3, "choice of 5001 among 7 8 9")
ASK = "action_unknown=ask"
ASKED_3 = "ask about 7 8 9, or 8"
NO_SKIP = "single_job_skip_rpc=0"
STRICT = "action_adopt_failure=deny"
NONSENSE = FormatError("reply: 3 bytes too many")
NO_CGROUP = SetupError("no cgroup for freezer")

ROWS = [
    # none of our business: nothing is asked
    Row("root", "", IGNORE, calls=(), user="root", uid=0),
    Row("root by another name", "", IGNORE, calls=(), user="toor", uid=0),
    Row("root, other service", "service=x", IGNORE, calls=(), user="root", uid=0),
    Row("other service", "", IGNORE, calls=(), service="sudo"),
    Row("service in another case", "", IGNORE, calls=(), service="SSHD"),
    Row("no user", "", "PAM_SESSION_ERR", calls=(), user="", uid=None),
    Row("unknown user", "", "PAM_USER_UNKNOWN", calls=(), user="x", uid=None),
    # ours by option
    Row("service named", "service=login", SUCCESS, Fake([7]), ADOPT_7, 7, service="login"),
    Row("any service", "service=*", SUCCESS, Fake([7]), ADOPT_7, 7, service="x"),
    # nobody is asked about one job, unless by option
    Row("one job", "", SUCCESS, Fake([7]), ADOPT_7, 7),
    Row("one, named", NO_SKIP, SUCCESS, Fake([7], 7), ASK_1, 7),
    Row("one, not named", NO_SKIP, SUCCESS, Fake([7]), ASK_1, 7,
        says="the only job; the source host knows no job"),
    Row("one, another named", NO_SKIP, SUCCESS, Fake([7], 8), ASK_1, 7),
    Row("one, no answer", f"{NO_SKIP} action_unknown=deny", SUCCESS,
        Fake([7], PeerError("silence")), ASK_1, 7),
    Row("one, named, fails", f"{NO_SKIP} {STRICT}", DENIED, Fake([7], 7, GONE), (*ASK_1, LOOK)),
    Row("one, not named, fails", f"{NO_SKIP} {STRICT}", DENIED, Fake([7], fails=GONE),
        (*ASK_1, LOOK)),
    # every kind of error counts as a failure
    Row("not set up for it", STRICT, DENIED, Fake([7], fails={7: NO_CGROUP}), (*ADOPT_7, LOOK)),
    Row("nonsense from the stepd", STRICT, DENIED, Fake([7], fails={7: NONSENSE}),
        (*ADOPT_7, LOOK)),
    Row("nonsense from the source", "action_unknown=deny", DENIED, Fake(THREE, NONSENSE), ASK_3,
        says="3 bytes too many"),
    Row("cannot be asked", "action_unknown=deny", DENIED,
        Fake(THREE, SetupError("SlurmdPort=x is not a port number")), ASK_3, says="not a port"),
    # the source host selects; after a failure there only the others are left
    Row("comes from 7", "", SUCCESS, Fake(THREE, 7), (*ASK_3, "adopt 42 7"), 7),
    Row("comes from the newest", "", SUCCESS, Fake(THREE, 8), (*ASK_3, "adopt 42 8"), 8),
    Row("named fails", "", SUCCESS, Fake(THREE, 7, GONE),
        (*ASK_3, "adopt 42 7", LOOK, "adopt 42 8"), 8),
    Row("named fails", "action_unknown=allow", SUCCESS, Fake(THREE, 7, GONE),
        (*ASK_3, "adopt 42 7", LOOK)),
    Row("named may still be taken", STRICT, DENIED, Fake(THREE, 7, {7: unsettled()}),
        (*ASK_3, "adopt 42 7", LOOK),
        says="adopt failure: the login comes from job 7, but silence"),
    Row("named may still be taken", "action_unknown=deny", DENIED,
        Fake(THREE, 7, {7: unsettled()}), (*ASK_3, "adopt 42 7", LOOK),
        says="unknown job: jobs 8 9; the login comes from job 7, but silence; action_unknown=deny"),
    Row("named may still be taken", f"action_unknown=allow {STRICT}", SUCCESS,
        Fake(THREE, 7, {7: unsettled()}), (*ASK_3, "adopt 42 7", LOOK)),
    Row("many", "action_unknown=deny", DENIED, Fake(list(range(1, 131))),
        (LOOK, "source of 42 among 130"),
        says=" 19 20 and 110 more; the source host knows no job for this connection; action_unkn"),
    Row("named and newest fail", STRICT, DENIED, Fake(THREE, 7, {**GONE, 8: PeerError("x")}),
        (*ASK_3, "adopt 42 7", LOOK, "adopt 42 8", LOOK)),
    # the newest
    Row("newest", "", SUCCESS, Fake(THREE), (*ASK_3, "adopt 42 8"), 8),
    Row("same instant: larger id", "", SUCCESS, Fake([5, 6]), (*ASK_2, "adopt 42 6"), 6),
    Row("newest fails", STRICT, DENIED, Fake(THREE, fails={8: PeerError("x")}),
        (*ASK_3, "adopt 42 8", LOOK), says="job 8 (the newest of 3; the source host knows"),
    # root with ignore_root=0 goes the whole way
    Row("root, one job", "ignore_root=0", SUCCESS, Fake([7]), ("jobs 0", "adopt 42 7"), 7,
        user="root", uid=0),
    Row("root, fails", f"ignore_root=0 {STRICT}", IGNORE, Fake([7], fails=GONE),
        ("jobs 0", "adopt 42 7", "jobs 0"), user="root", uid=0),
    Row("root, fails", "ignore_root=0", IGNORE, Fake([7], fails=GONE),
        ("jobs 0", "adopt 42 7", "jobs 0"), user="root", uid=0,
        says="action_adopt_failure=allow; root is left to the other modules"),
    Row("root, unknown", "ignore_root=0 action_unknown=allow", IGNORE, Fake([7, 8]),
        ("jobs 0", "source of 42 among 2"), user="root", uid=0),
    # a job that has ended in the meantime: all is decided anew, once, by what a fresh look shows
    Row("ended, none left", "", DENIED, Fake([7], fails=GONE, fresh=()), (*ADOPT_7, LOOK),
        says="no job on this node; action_no_jobs=deny; decided again, since job 7 has ended"),
    Row("ended, none left", "action_no_jobs=ignore action_adopt_failure=deny", IGNORE,
        Fake([7], fails=GONE, fresh=()), (*ADOPT_7, LOOK)),
    Row("ended, another left", f"action_unknown=deny {STRICT}", SUCCESS,
        Fake([7, 8], 7, GONE, (8,)), (*ASK_2, "adopt 42 7", LOOK, "adopt 42 8"), 8,
        says="adopted into job 8 (the only job); decided again, since job 7 has ended: the stepd"),
    Row("ended, two left", "action_unknown=deny", DENIED, Fake(THREE, 7, GONE, (8, 9)),
        (*ASK_3, "adopt 42 7", LOOK, "source of 42 among 2")),
    Row("ended while it may still be taken", STRICT, SUCCESS,
        Fake([7, 8], 7, {7: unsettled()}, (8,)),
        (*ASK_2, "adopt 42 7", LOOK, "adopt 42 8"), 8),
    Row("ended, the next fails", STRICT, DENIED, Fake([7], fails={**GONE, 8: PeerError("x")},
        fresh=(8,)), (*ADOPT_7, LOOK, "adopt 42 8", LOOK)),
    Row("ended, and the next one, too", STRICT, DENIED,
        Fake([7], fails={**GONE, 8: PeerError("x")}, fresh=(8,), last=(9,)),
        (*ADOPT_7, LOOK, "adopt 42 8", LOOK),
        says="adopt failure: job 8 has ended: x; action_adopt_failure=deny; decided again, since"),
    Row("silent at the second look: not known to have ended", f"action_no_jobs=ignore {STRICT}",
        DENIED, Fake([7], fails=GONE, fresh=(), silent=(7,)), (*ADOPT_7, LOOK),
        says="adopt failure: job 7 (the only job): the stepd is gone; action_adopt_failure=deny"),
    Row("another process becomes the session", "", SUCCESS, Fake([7], session=41), ADOPT_7, 7,
        says="process 41, which becomes the session, was adopted into job 7 (the only job)"),
    Row("did not answer before: no second look", STRICT, DENIED,
        Fake([4], fails={4: PeerError("does not answer")}), (LOOK, "adopt 42 4")),
    Row("failed, no fresh look", STRICT, DENIED, Fake([7], fails=GONE, fresh=SetupError("y")),
        (*ADOPT_7, LOOK), says="job 7 (the only job): the stepd is gone"),
    # a suspended job
    Row("suspended", "action_adopt_failure=allow", DENIED, Fake([7], suspended=(7,)), ADOPT_7,
        says="job suspended: job 7 (the only job): /x is frozen"),
    Row("named is suspended", "", SUCCESS, Fake(THREE, 7, suspended=(7,)),
        (*ASK_3, "adopt 42 7", "adopt 42 8"), 8),
    Row("named is suspended", "action_unknown=deny", DENIED, Fake(THREE, 7, suspended=(7,)),
        (*ASK_3, "adopt 42 7"),
        says="unknown job: jobs 8 9; the login comes from job 7, but /x is frozen"),
    Row("one, named, suspended", f"{NO_SKIP} action_adopt_failure=allow", DENIED,
        Fake([7], 7, suspended=(7,)), ASK_1,
        says="job suspended: the login comes from job 7, but /x"),
    Row("named was suspended when a stepd had it", "", DENIED,
        Fake(THREE, 7, {7: taken(PeerError("/x is frozen", SUSPENDED))}), (*ASK_3, "adopt 42 7"),
        says="job suspended: the login comes from job 7, but /x is frozen; action_suspended=deny"),
    Row("newest but one", "", SUCCESS, Fake(THREE, suspended=(8,)), (*ASK_3, "adopt 42 7"), 7),
    Row("all suspended", "", DENIED, Fake(THREE, suspended=(7, 8, 9)), (*ASK_3, "adopt 42 8"),
        says="job suspended: job 8 (the newest of 3; "),
    Row("root, suspended", "ignore_root=0", IGNORE, Fake([7], suspended=(7,)),
        ("jobs 0", "adopt 42 7"), user="root", uid=0),
    # a session line is certain to come: it is looked, and nothing is adopted
    Row("left to the session line", "", SUCCESS, Fake([7], defers=True), (LOOK, *TELL_7),
        says="the session line will adopt into job 7 (the only job)"),
    Row("left to it, named", "", SUCCESS, Fake(THREE, 7, defers=True), (*ASK_3, *TELL_7)),
    Row("left to it, newest", "", SUCCESS, Fake(THREE, defers=True), (*ASK_3, "look 8", "tell 8")),
    Row("left to it, suspended", "action_adopt_failure=allow", DENIED,
        Fake([7], suspended=(7,), defers=True), (LOOK, "look 7"), says="action_suspended=deny"),
    Row("left to it, fails", STRICT, DENIED, Fake([7], fails=GONE, defers=True),
        (LOOK, "look 7", LOOK), says="adopt failure: job 7 (the only job): the stepd is gone"),
    Row("left to it, ended", "", DENIED, Fake([7], fails=GONE, fresh=(), defers=True),
        (LOOK, "look 7", LOOK), says="no job on this node"),
    Row("left to it, none", "", DENIED, Fake(defers=True), (LOOK, "await 5001")),
    Row("left to it, root", "ignore_root=0", SUCCESS, Fake([7], defers=True),
        ("jobs 0", "look 7", "tell 7"), user="root", uid=0),
    # the user's own choice
    Row("chosen", CHOICE, SUCCESS, Fake(THREE, chosen=7), (*CHOOSE_3, "adopt 42 7"), 7,
        says="adopted into job 7 (the job that the user has chosen; the source host knows no job"),
    Row("chosen, and deny", f"{CHOICE} action_unknown=deny", SUCCESS, Fake(THREE, chosen=7),
        (*CHOOSE_3, "adopt 42 7"), 7),
    Row("chosen, and the source is known", CHOICE, SUCCESS, Fake(THREE, 9, chosen=7),
        (*ASK_3, "adopt 42 9"), 9),
    Row("chosen, one job", CHOICE, SUCCESS, Fake([7], chosen=8), ADOPT_7, 7),
    Row("chosen, not among the user's", CHOICE, SUCCESS, Fake(THREE, chosen=77),
        (*CHOOSE_3, "adopt 42 8"), 8,
        says="the user has chosen job 77, which is not one of the jobs to take"),
    Row("none chosen", CHOICE, SUCCESS, Fake(THREE), (*CHOOSE_3, "adopt 42 8"), 8,
        says="connection; the user has chosen no job)"),
    Row("none chosen", f"{CHOICE} action_unknown=deny", DENIED, Fake(THREE), CHOOSE_3,
        says="unknown job: jobs 7 8 9; the source host knows no job for this connection; the user "
        "has chosen no job; action_unknown=deny"),
    Row("a choice that does not count", CHOICE, SUCCESS, Fake(THREE, chosen=PeerError("stale")),
        (*CHOOSE_3, "adopt 42 8"), 8, says="; stale)"),
    Row("a choice that cannot be read", f"{CHOICE} action_unknown=deny", DENIED,
        Fake(THREE, chosen=SetupError("/x is a file")), CHOOSE_3, says="; /x is a file;"),
    Row("the chosen one fails", f"{CHOICE} {STRICT}", SUCCESS, Fake(THREE, None, GONE, chosen=7),
        (*CHOOSE_3, "adopt 42 7", LOOK, "adopt 42 8"), 8,
        says="the user has chosen job 7, but the stepd is gone"),
    Row("the chosen one is suspended", f"{CHOICE} action_unknown=deny", DENIED,
        Fake(THREE, chosen=7, suspended=(7,)), (*CHOOSE_3, "adopt 42 7"),
        says="unknown job: jobs 8 9; "),
    Row("the chosen one may still be taken", f"{CHOICE} {STRICT}", DENIED,
        Fake(THREE, None, {7: unsettled()}, chosen=7),
        (*CHOOSE_3, "adopt 42 7", LOOK), says="adopt failure: the source host knows no job for "),
    Row("the chosen one may still be taken", f"{CHOICE} action_unknown=deny", DENIED,
        Fake(THREE, None, {7: unsettled()}, chosen=7),
        (*CHOOSE_3, "adopt 42 7", LOOK), says="unknown job: jobs 8 9; "),
    Row("the chosen one ends", CHOICE, SUCCESS, Fake(THREE, None, GONE, (8, 9), chosen=7),
        (*CHOOSE_3, "adopt 42 7", LOOK, "source of 42 among 2", "choice of 5001 among 8 9",
         "adopt 42 8"), 8, says="which is not one of the jobs to take"),
    Row("named and chosen fail", f"{CHOICE} {STRICT}", DENIED,
        Fake(BOTH, 7, {**GONE, 8: PeerError("x")}, chosen=8),
        (*ASK_2, "adopt 42 7", LOOK, "choice of 5001 among 8", "adopt 42 8", LOOK),
        says="adopt failure: the login comes from job 7, but the stepd is gone; the user has chosen"
        " job 8, but x"),
    Row("named fails, and is chosen", CHOICE, SUCCESS, Fake(THREE, 7, GONE, chosen=7),
        (*ASK_3, "adopt 42 7", LOOK, "choice of 5001 among 8 9", "adopt 42 8"), 8),
    Row("named may still be taken: no choice is looked at", f"{CHOICE} action_unknown=deny", DENIED,
        Fake(THREE, 7, {7: unsettled()}, chosen=8), (*ASK_3, "adopt 42 7", LOOK)),
    Row("chosen, left to the session line", CHOICE, SUCCESS, Fake(THREE, chosen=7, defers=True),
        (*CHOOSE_3, *TELL_7)),
    Row("chosen, without the option", "", SUCCESS, Fake(THREE, chosen=7), (*ASK_3, "adopt 42 8"),
        8),
    # the user is asked
    Row("asked", ASK, SUCCESS, Fake(THREE, answers=7),
        (*ASK_3, ASKED_3, LOOK, "adopt 42 7"), 7,
        says="adopted into job 7 (the user's answer; the source host knows no job"),
    Row("asked, nobody there", ASK, SUCCESS, Fake(THREE), (*ASK_3, ASKED_3, "adopt 42 8"), 8,
        says="connection; the user cannot be asked)"),
    Row("asked, none of them", ASK, DENIED, Fake(THREE, answers=PeerError("no answer")),
        (*ASK_3, ASKED_3), says="connection; no answer; action_unknown=ask"),
    Row("asked, another's job", ASK, DENIED, Fake(THREE, answers=77), (*ASK_3, ASKED_3),
        says="the answer is none of these jobs"),
    Row("asked, known", ASK, SUCCESS, Fake(THREE, 7, answers=8), (*ASK_3, "adopt 42 7"), 7),
    Row("asked, chosen", f"{ASK} {CHOICE}", SUCCESS, Fake(THREE, chosen=9, answers=8),
        (*CHOOSE_3, "adopt 42 9"), 9),
    Row("asked, none chosen", f"{ASK} {CHOICE}", SUCCESS, Fake(THREE, answers=9),
        (*CHOOSE_3, ASKED_3, LOOK, "adopt 42 9"), 9),
    Row("asked, the answered one fails", f"{ASK} {STRICT}", DENIED,
        Fake(THREE, None, GONE, answers=7),
        (*ASK_3, ASKED_3, LOOK, "adopt 42 7", LOOK),
        says="adopt failure: job 7 (the user's answer; "),
    Row("asked, left to the session line", ASK, SUCCESS, Fake(THREE, answers=7, defers=True),
        (*ASK_3, ASKED_3, LOOK, *TELL_7)),
    Row("asked, ended meanwhile", ASK, SUCCESS, Fake(THREE, answers=(7, 9), fresh=(8, 9)),
        (*ASK_3, ASKED_3, LOOK, "source of 42 among 2", "ask about 8 9, or 8", LOOK, "adopt 42 9"),
        9, says="decided again, since job 7 has ended while the user was asked"),
    Row("asked, ended meanwhile, to be left to the session line", ASK, SUCCESS,
        Fake(THREE, answers=7, fresh=(8,), defers=True),
        (*ASK_3, ASKED_3, LOOK, "look 8", "tell 8")),
    # users could be let in without a job by that at will
    Row("asked, ended meanwhile twice", f"{ASK} action_adopt_failure=allow", DENIED,
        Fake(THREE, answers=(7, 9), fresh=(8, 9), last=(8,)),
        (*ASK_3, ASKED_3, LOOK, "source of 42 among 2", "ask about 8 9, or 8", LOOK),
        says="unknown job: jobs 8; job 9 has ended while the user was asked; action_unknown=ask"),
    Row("named may still be taken: nobody is asked", f"{ASK} {STRICT}", DENIED,
        Fake(THREE, 7, {7: unsettled()}, answers=8), (*ASK_3, "adopt 42 7", LOOK)),
    # a job that is being set up
    Row("none, awaited in vain", "", DENIED, Fake(), ("jobs 5001", "await 5001")),
    Row("none, awaited", "", SUCCESS, Fake(awaited=(7,)), (LOOK, "await 5001", "adopt 42 7"), 7),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.title}: {row.options or 'defaults'}")
def test_what_is_asked(row: Row) -> None:
    node = FakeNode(row.fake)
    options, _ = parse(row.options.split())
    outcome = decide(Login(row.user, row.uid, row.service, 42), options, node)
    assert outcome.code == row.code
    assert job_of(outcome) == row.job
    assert tuple(node.calls) == row.calls
    assert row.says in outcome.text


# The session phase


KEEP = "keep 42 7"
JOB = "job 7 of 5001"
HELD = Adoption(42, 5001, 7)


def held(code: Code = SUCCESS, adoption: Adoption | None = None) -> Outcome:
    """Return an outcome of the account phase."""
    return Outcome(SITUATIONS["adopted" if adoption else "no jobs"], code, "why", adoption)


def chosen(job: int, uid: int = 5001) -> Outcome:
    """Return an outcome of an account phase that leaves the adoption to this one."""
    choice = Choice(job, uid, "the newest of 2")
    return Outcome(SITUATIONS["chosen"], SUCCESS, "why", choice=choice)


class After(NamedTuple):
    """What the account phase has left, and what comes of it."""

    title: str
    before: Outcome | Adoption | Choice | None
    code: str
    fake: Fake = Fake()
    calls: tuple[str, ...] = ()
    job: int | None = None
    options: str = ""
    hint: str | None = None
    uid: int = 5001
    says: str = ""


AFTER = [
    After("still there", held(SUCCESS, HELD), SUCCESS, Fake([7]), (KEEP,), 7,
          says="still in job 7"),
    After("still there, by word of another process", HELD, SUCCESS, Fake([7]), (KEEP,), 7),
    After("moved away", HELD, SUCCESS, Fake([7], written=("/x",)), (KEEP,), 7,
          says="put back into job 7"),
    After("cannot be put back", HELD, DENIED, Fake([7], fails=GONE), (KEEP, LOOK), options=STRICT,
          says="adopt failure: job 7, which the account phase adopted into: the stepd is gone"),
    After("cannot be put back", HELD, SUCCESS, Fake([7], fails=GONE), (KEEP, LOOK)),
    After("job has ended", HELD, DENIED, Fake([], fails=GONE), (KEEP, LOOK), says="no jobs: "),
    After("job has ended, no others are asked", held(SUCCESS, HELD), DENIED, Fake([], fails=GONE),
          (KEEP, LOOK), options="action_no_jobs=ignore",
          says="action_no_jobs=ignore; refused, since the account phase let the user in for job 7"),
    After("job has ended, silent", HELD, DENIED, Fake([], fails=GONE, silent=(7,)), (KEEP, LOOK),
          options=f"action_no_jobs=ignore {STRICT}",
          says="adopt failure: job 7, which the account phase adopted into"),
    After("job has ended, several left", HELD, SUCCESS, Fake([8, 9], fails=GONE),
          (KEEP, LOOK, "source of 42 among 2"), options="action_unknown=allow"),
    After("job of root has ended", Adoption(42, 0, 7), IGNORE, Fake([], fails=GONE),
          (KEEP, "jobs 0"), options="ignore_root=0 action_no_jobs=ignore", uid=0),
    After("job has ended, another left", HELD, SUCCESS, Fake([8], fails=GONE),
          (KEEP, LOOK, "adopt 42 8"), 8),
    After("suspended since", HELD, DENIED,
          Fake([7], fails={7: PeerError("/x is frozen", SUSPENDED)}), (KEEP,),
          says="job suspended: job 7: /x is frozen; action_suspended=deny"),
    # chosen: this phase adopts
    After("chosen", chosen(7), SUCCESS, Fake([7]), (JOB, "adopt 42 7"), 7,
          says="adopted into job 7 (the newest of 2)"),
    After("chosen, by word of another process", Choice(7, 5001, "so"), SUCCESS, Fake([7]),
          (JOB, "adopt 42 7"), 7, says="adopted into job 7 (so)"),
    After("chosen by another process, has ended", Choice(7, 5001), DENIED, Fake(),
          (JOB, LOOK, "await 5001"), options="action_no_jobs=ignore",
          says="action_no_jobs=ignore; refused, since the account phase let the user in for job 7"),
    After("chosen, of several", chosen(7), SUCCESS, Fake(THREE), (JOB, "adopt 42 7"), 7),
    After("chosen, fails", chosen(7), DENIED, Fake([7], fails=GONE), (JOB, "adopt 42 7", LOOK),
          options=STRICT, says="adopt failure: job 7 (the newest of 2): the stepd is gone"),
    After("chosen, fails", chosen(7), SUCCESS, Fake([7], fails=GONE), (JOB, "adopt 42 7", LOOK)),
    After("chosen, suspended since", chosen(7), DENIED, Fake([7], suspended=(7,)),
          (JOB, "adopt 42 7"), says="job suspended: job 7 (the newest of 2): /x is frozen"),
    After("chosen, has ended", chosen(7), DENIED, Fake(), (JOB, LOOK, "await 5001"),
          options="action_no_jobs=ignore",
          says="action_no_jobs=ignore; refused, since the account phase let the user in for job 7"),
    After("chosen, has ended, another left", chosen(7), SUCCESS, Fake([8]),
          (JOB, LOOK, "adopt 42 8"), 8),
    After("chosen, ends now", chosen(7), DENIED, Fake([7], fails=GONE, fresh=(), last=()),
          (JOB, "adopt 42 7", LOOK), options="action_no_jobs=ignore"),
    After("chosen, cannot be told any more", chosen(7), DENIED, Fake(SetupError("no slurm.conf")),
          (JOB,), options=STRICT, says="adopt failure: job 7, which the account phase chose: no s"),
    After("chosen for root", chosen(7, 0), IGNORE, Fake(), ("job 7 of 0", "jobs 0", "await 0"),
          options="ignore_root=0", uid=0),
    # let through, or let in against our answer: the same again, and nothing is asked
    After("let through", held(IGNORE), IGNORE, says="as in the account phase: why"),
    After("allowed", held(SUCCESS), SUCCESS),
    After("refused", held(DENIED), DENIED),
    # nothing known: the whole decision
    After("session line alone", None, SUCCESS, Fake([7]), ADOPT_7, 7),
    After("session line alone, no job", None, DENIED, Fake(), ("jobs 5001", "await 5001")),
    After("several, a hint", None, SUCCESS, Fake(THREE), (LOOK, "adopt 42 7"), 7, hint="7",
          says="adopted into job 7 (SLURM_JOB_ID of the PAM environment)"),
    After("several, another's job as hint", None, SUCCESS, Fake(THREE), (*ASK_3, "adopt 42 8"), 8,
          hint="77"),
    *(After(f"several, {hint!r} as hint", None, DENIED, Fake(THREE), ASK_3, hint=hint,
            options="action_unknown=deny") for hint in ("", "07", " 7", "7\n", "x", "-1", "7.0")),
    After("one, another's job as hint", None, SUCCESS, Fake([7]), ADOPT_7, 7, hint="77"),
    After("none, a hint", None, DENIED, Fake(), (LOOK, "await 5001"), hint="7"),
    After("hint fails", None, SUCCESS, Fake(THREE, fails=GONE),
          (LOOK, "adopt 42 7", LOOK, "adopt 42 8"), 8, hint="7"),
    # root
    After("root", None, IGNORE, Fake([7]), uid=0),
    After("root of ignore_root=0", Adoption(42, 0, 7), IGNORE, Fake([7], fails=GONE),
          (KEEP, "jobs 0"), options=f"ignore_root=0 {STRICT}", uid=0),
    After("other service", HELD, IGNORE, options="service=login"),
]  # fmt: skip


@pytest.mark.parametrize("row", AFTER, ids=lambda row: f"{row.title}: {row.options or 'defaults'}")
def test_session(row: After) -> None:
    node = FakeNode(row.fake)
    options, _ = parse(row.options.split())
    login = Login("root" if row.uid == 0 else "alice", row.uid, "sshd", 42, hint=row.hint)
    outcome = decide_session(login, options, node, row.before)
    assert outcome.code == row.code
    assert job_of(outcome) == row.job
    assert tuple(node.calls) == row.calls
    assert row.says in outcome.text


# (options, what fails, the jobs of a fresh look) -> what the account phase has set is withdrawn
WITHDRAWN = [
    ("", {}, [7], set()),
    ("", GONE, [], {"SLURM_JOB_ID", "DISPLAY"}),
    ("", GONE, [8], {"DISPLAY"}),  # the other is set anew
    ("", GONE, [7], {"SLURM_JOB_ID", "DISPLAY"}),  # let in by action_adopt_failure
    ("service=login", GONE, [], set()),
]


@pytest.mark.parametrize(("options", "fails", "fresh", "names"), WITHDRAWN)
def test_what_is_withdrawn(
    options: str, fails: Mapping[int, SlurmAdoptError], fresh: list[int], names: set[str]
) -> None:
    """No variable of a job that the session is not in."""
    before = Adoption(42, 5001, 7).proven({}, {"SLURM_JOB_ID": "7", "DISPLAY": "localhost:95.0"})
    node = FakeNode(Fake(fresh, fails=fails))
    login = Login("alice", 5001, "sshd", 42)
    outcome = decide_session(login, parse(options.split())[0], node, before)
    assert outcome.withdrawn == names


def test_the_account_phase_takes_no_hint() -> None:
    node = FakeNode(Fake(THREE))
    login = Login("alice", 5001, "sshd", 42)
    assert login.hint is None
    assert job_of(decide(login, parse([])[0], node)) == 8


SET = frozenset({"SLURM_JOB_ID"})


def test_a_choice_is_withdrawn_where_it_does_not_hold() -> None:
    """No SLURM_JOB_ID of a job that the session is not in."""
    login = Login("alice", 5001, "sshd", 42)
    for fake, names in (
        (Fake([7]), frozenset()),
        (Fake([8]), frozenset()),  # the other's is set
        (Fake([7], fails=GONE), SET),  # let in by action_adopt_failure
    ):
        outcome = decide_session(login, parse([])[0], FakeNode(fake), chosen(7))
        assert outcome.withdrawn == names


NO_CONF = SetupError("no slurm.conf")

# An exception that nobody has thought of: the option of the step that it happens in decides.
OPEN = {"action_generic_failure": "ignore", "action_adopt_failure": "allow",
        "action_unknown": "allow", "action_suspended": "allow"}  # fmt: skip
BREAKS = [  # what breaks, the node, the option that governs
    ("jobs", Fake(), "action_generic_failure"),
    ("awaited_jobs", Fake(), "action_generic_failure"),
    ("source_job", Fake(BOTH), "action_unknown"),
    ("chosen_job", Fake(BOTH), "action_unknown"),
    ("defers", Fake([7]), "action_adopt_failure"),
    ("look", Fake([7], defers=True), "action_adopt_failure"),
    ("tell", Fake([7], defers=True), "action_adopt_failure"),
    ("adopt", Fake([7]), "action_adopt_failure"),
]


@pytest.mark.parametrize(("breaks", "fake", "governs"), BREAKS)
def test_a_mistake_counts_for_its_step(breaks: str, fake: Fake, governs: str) -> None:
    login = Login("alice", 5001, "sshd", 42)
    node = FakeNode(fake._replace(breaks=breaks))
    shut = [f"{name}={OPEN[name]}" for name in OPEN if name != governs]
    shut += [f"{governs}=deny", "user_choice=1"]
    outcome = decide(login, parse(shut)[0], node)
    assert outcome.code == DENIED
    assert f"unexpected ZeroDivisionError: {breaks} at " in outcome.text
    others = [f"{name}=deny" for name in OPEN if name != governs] + [f"{governs}={OPEN[governs]}"]
    assert decide(login, parse(others)[0], node).code != DENIED


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise KeyError


def test_an_exception_that_cannot_be_shown_is_named() -> None:
    said = our_mistake(UnprintableError())
    assert said.startswith("unexpected UnprintableError: its text raises KeyError at ")


# (uid, job) that a node says it has brought the login into, asked for job 7 of uid 5001
OTHERS = [(5001, 8), (5002, 7), (0, 7)]


@pytest.mark.parametrize(("uid", "job"), OTHERS)
@pytest.mark.parametrize("before", [None, HELD, chosen(7)])
def test_another_job_or_user_than_asked_for_is_a_failed_adoption(
    uid: int, job: int, before: Adoption | Choice | None
) -> None:
    class Wrong(FakeNode):
        def adopt(self, pid: int, job_asked: Job) -> Adoption:
            super().adopt(pid, job_asked)
            return Adoption(pid, uid, job)

        def keep(self, adoption: Adoption) -> Adoption:
            super().keep(adoption)
            return Adoption(adoption.pid, uid, job)

    login = Login("alice", 5001, "sshd", 42)
    outcome = decide_session(login, parse([STRICT])[0], Wrong(Fake([7])), before)
    assert (outcome.situation, outcome.code, job_of(outcome)) == ("adopt failure", DENIED, None)
    said = (
        f"asked to adopt into job 7 of uid 5001, the node has adopted into job {job} of uid {uid}"
    )
    assert said in outcome.text


@pytest.mark.parametrize(
    "before", [Adoption(42, 5002, 7), chosen(7, 5002), held(SUCCESS, Adoption(42, 0, 7))]
)
def test_what_is_known_of_another_user_s_login_is_not_known(before: Outcome | Adoption) -> None:
    """All is decided again, by the user's own jobs."""
    node = FakeNode(Fake([8]))
    outcome = decide_session(Login("alice", 5001, "sshd", 42), parse([])[0], node, before)
    assert job_of(outcome) == 8
    assert node.calls == ["jobs 5001", "adopt 42 8"]
    assert outcome.withdrawn == frozenset()


def test_a_mistake_while_the_user_is_asked_is_no_answer() -> None:
    node = FakeNode(Fake(BOTH, breaks="ask", answers=7))
    outcome = decide(Login("alice", 5001, "sshd", 42), parse([ASK])[0], node)
    assert (outcome.situation, outcome.code) == ("unknown job", DENIED)
    assert "unexpected ZeroDivisionError: ask at " in outcome.text


@pytest.mark.parametrize("action", ["deny", "ask"])
def test_a_refused_user_is_told_how_to_choose(action: str) -> None:
    """Behind the known text, and only where the site lets users choose."""
    login = Login("alice", 5001, "sshd", 42)
    fake = Fake(BOTH, answers=PeerError("no answer"))
    for options, more in ((["user_choice=1"], CHOOSE), (["user_choice=0"], ""), ([], "")):
        given, _ = parse([f"action_unknown={action}", *options])
        assert decide(login, given, FakeNode(fake)).message == decisions.UNKNOWN + more


@pytest.mark.parametrize("breaks", ["keep", "adopt", "jobs"])
def test_a_mistake_of_the_session_phase_is_a_failed_adoption(breaks: str) -> None:
    login = Login("alice", 5001, "sshd", 42)
    before = HELD if breaks == "keep" else chosen(7)
    node = FakeNode(Fake([7], breaks=breaks))
    options = "action_generic_failure=ignore action_unknown=allow action_adopt_failure=deny"
    outcome = decide_session(login, parse(options.split())[0], node, before)
    assert outcome.code == DENIED
    assert "unexpected ZeroDivisionError" in outcome.text
    assert "action_adopt_failure=deny" in outcome.text


@pytest.mark.parametrize("breaks", ["suspended", "started"])
def test_a_mistake_while_the_newest_is_found_is_a_failed_adoption(breaks: str) -> None:
    login = Login("alice", 5001, "sshd", 42)

    class Broken(FakeNode):
        def jobs(self, uid: int, only: int | None = None) -> list[Job]:
            found = super().jobs(uid, only)
            for job in found if breaks == "started" else ():
                del job.started
            return found

    node = Broken(Fake(BOTH, breaks=breaks))
    outcome = decide(login, parse([STRICT, "action_generic_failure=ignore"])[0], node)
    assert outcome.code == DENIED
    assert "adopt failure: no job chosen: unexpected " in outcome.text


@pytest.mark.parametrize(
    ("node", "code", "why"),
    [
        (Fake(NO_CONF), DENIED, "auto (deny, since a slurmd or slurmstepd runs here as root)"),
        (Fake(NO_CONF, breaks="runs_slurm"), DENIED, "auto (deny, since a slurmd"),
        (Fake(NO_CONF, runs_slurm=False), "PAM_IGNORE", "auto (ignore, since no slurmd or "),
    ],
)
def test_auto(node: Fake, code: str, why: str) -> None:
    """Whether a slurmd runs here decides; where that cannot be told, it is taken to run."""
    outcome = decide(Login("alice", 5001, "sshd", 42), parse([])[0], FakeNode(node))
    assert outcome.code == code
    assert f"generic failure: no slurm.conf; action_generic_failure={why}" in outcome.text


# A value that the parser knows and the engine does not: as if a row of the options had got one
# more, and nothing else had. All others are as open as they can be.

ALL_OPEN = {**OPEN, "action_no_jobs": "ignore"}
NODES = [of(situation.name) for situation in decisions.SITUATIONS]
NODES += [Fake(THREE, 7, {7: unsettled()}), Fake([7], fails=GONE, fresh=())]
BEFORE = [None, HELD, chosen(7), held(IGNORE), held(SUCCESS)]
WHO = [("alice", 5001), ("root", 0)]
LISTED = [option for option in OPTIONS if isinstance(option.values, tuple)]


def answers(options: Options) -> list[tuple[str, int | None, list[str]]]:
    """Return what becomes of everybody everywhere, in both phases, and what nodes are asked."""
    found: list[tuple[str, int | None, list[str]]] = []
    for user, uid in WHO:
        login = Login(user, uid, "sshd", 42)
        for fake in NODES:
            node = FakeNode(fake)
            outcome = decide(login, options, node)
            found.append((outcome.code, job_of(outcome), node.calls))
            for before in BEFORE:
                node = FakeNode(fake)
                outcome = decide_session(login, options, node, before)
                found.append((outcome.code, job_of(outcome), node.calls))
    return found


def opened(name: str, value: str) -> Options:
    """Return options that let everybody in, root's ignore_root=0 too, but for this one."""
    options, complaints = parse(
        [f"{name}={value}" for name, value in {"ignore_root": "0", **ALL_OPEN, name: value}.items()]
    )
    assert not complaints
    return options


@pytest.mark.parametrize("option", LISTED, ids=lambda option: option.name)
def test_a_value_that_the_engine_does_not_know_is_the_strictest(
    monkeypatch: pytest.MonkeyPatch, option: Option
) -> None:
    monkeypatch.setattr(option, "values", (*option.values, "oldest"))
    strictest = answers(opened(option.name, option.strictest))
    assert answers(opened(option.name, "oldest")) == strictest
    if option.name in ALL_OPEN:  # and that is another than the open one
        assert answers(opened(option.name, ALL_OPEN[option.name])) != strictest


def test_no_memory_is_no_mistake_of_ours() -> None:
    assert our_mistake(MemoryError()) == OUT_OF_MEMORY
    assert our_mistake(PermissionError("/a belongs to uid 7")) == "/a belongs to uid 7"


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EIO, errno.ENOBUFS, errno.EMFILE])
def test_what_the_system_fails_at_is_no_mistake_of_ours(number: int) -> None:
    said = our_mistake(OSError(number, os.strerror(number)))
    assert said.startswith("a system call fails: ")
    assert "please report" not in said
    assert "please report" in our_mistake(OSError(errno.EBADF, "Bad file descriptor"))
