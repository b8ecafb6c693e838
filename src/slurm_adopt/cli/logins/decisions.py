"""Decisions of the module, read from lines of the log, and put together to logins.

A login has up to two decisions: of the account phase and of the session phase. The text of a line
says all of it. What journald has as a field is taken from there.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from slurm_adopt.decision.outcome import SITUATIONS
from slurm_adopt.decision.record import PREFIX, outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .log_lines import Line

BETWEEN = 600  # seconds between both phases of a login, at most
AT_ONCE = 10_000  # logins whose session phase may still come

# Each is looked for from where the last one ended: a line that a user has forged takes no longer.
_HEAD = re.compile(
    r"pam_slurm_adopt\((?P<service>[^:]*):(?P<phase>account|session)\): (?P<rest>.*)", re.DOTALL
)
_UID = re.compile(r" \(uid ([0-9]{1,10}|None)\) from ")
_PID = re.compile(r", pid ([0-9]{1,10})(?:, ref ([0-9A-Z]{4}))?: ")
_ANSWER = re.compile(r"(PAM_[A-Z_]{1,32}) in ([0-9.]{1,12}) ms")
_IN_JOB = {
    "adopted": re.compile(
        r"(?:process [0-9]{1,10}, which becomes the session, was )?"
        r"adopted into job ([0-9]{1,10}) \("
        r"|put back into job ([0-9]{1,10})"
    ),
    "still adopted": re.compile(r"still in job ([0-9]{1,10})"),
    "chosen": re.compile(r"the session line will adopt into job ([0-9]{1,10}) \("),
}
_AS_BEFORE = "as in the account phase: "
_TRIED = re.compile(r"(?:the login comes from )?job ([0-9]{1,10})\b")
_OPTION = re.compile(r"; (action_\w+=\w+)")
NOWHERE = "an unknown host"


class Told(NamedTuple):
    """What the text of a decision says."""

    situation: str
    job: int | None = None  # adopted into, or tried
    how: str = ""
    option: str = ""


def told(text: str) -> Told | None:
    """Return what the text of a decision says; None for a text that is none."""
    for situation, form in _IN_JOB.items():
        if found := form.match(text):
            job = int(next(filter(None, found.groups())))
            how = _in_brackets(text[found.end() :]) if found[0].endswith("(") else ""
            return Told(situation, job, how)
    if text.startswith(_AS_BEFORE):
        said = text[len(_AS_BEFORE) :]
        before = None if said.startswith(_AS_BEFORE) else told(said)
        return Told("as before", before.job if before else None)
    situation, _, rest = text.partition(": ")
    if situation not in SITUATIONS:
        return None
    tried = _TRIED.match(rest)
    option = [
        said
        for said in _OPTION.findall(text)
        if said.partition("=")[0] == SITUATIONS[situation].option
    ]
    return Told(situation, int(tried[1]) if tried else None, "", option[-1] if option else "")


def _in_brackets(text: str) -> str:
    """Return what stands until the bracket is closed that is open."""
    depth = 1
    for at, char in enumerate(text):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if not depth:
            return text[:at]
    return text


class Decision(NamedTuple):
    """One line of a decision."""

    time: float
    phase: str
    service: str
    user: str
    uid: int | None
    source: str
    pid: int
    ref: str
    situation: str
    outcome: str
    code: str
    job: int | None
    how: str
    option: str
    msec: float
    text: str


class _Parts(NamedTuple):
    """The parts of a decision's line."""

    user: str
    uid: int | None
    source: str
    pid: int
    ref: str
    text: str
    code: str
    msec: float


def _parts(rest: str) -> _Parts | None:
    """Take a decision's line apart; None for any other."""
    head, _, answer = rest.rpartition(" -> ")
    end = _ANSWER.fullmatch(answer)
    uid = _UID.search(head)
    pid = _PID.search(head, uid.end()) if uid else None
    if not (end and uid and pid and head.startswith("user ")):
        return None
    source = head[uid.end() : pid.start()]
    return _Parts(
        head[len("user ") : uid.start()], _number(uid[1]), "" if source == NOWHERE else source,
        int(pid[1]), pid[2] or "", head[pid.end() :], end[1], _milliseconds(end[2]),
    )  # fmt: skip


def read(line: Line) -> Decision | None:
    """Return the decision that a line of the module has; None if it is about something else."""
    head = _HEAD.fullmatch(line.text)
    if not head:
        return None
    found = _parts(head["rest"])
    said = told(found.text) if found else None
    given = {name[len(PREFIX) :]: value for name, value in line.fields.items()}
    if found is None or said is None:
        return _of_fields(line, head, given)
    situation = given.get("SITUATION", said.situation)
    code = given.get("CODE", found.code)
    return Decision(
        line.time, head["phase"], head["service"],
        given.get("USER", found.user),
        _number(given["UID"]) if "UID" in given else found.uid,
        given.get("SOURCE", found.source),
        found.pid,
        given.get("REF", found.ref),
        situation, outcome_of(situation, code), code,
        _number(given.get("JOB_ID")) or said.job,
        given.get("HOW", said.how),
        given.get("OPTION", said.option),
        found.msec,
        found.text,
    )  # fmt: skip


def _of_fields(line: Line, head: re.Match[str], given: dict[str, str]) -> Decision | None:
    """Return a decision whose text is cut, from its fields; None without these."""
    situation, code = given.get("SITUATION", ""), given.get("CODE", "")
    if situation not in SITUATIONS or not code:
        return None
    return Decision(
        line.time, head["phase"], head["service"],
        given.get("USER", ""), _number(given.get("UID")), given.get("SOURCE", ""),
        _number(given.get("PID")) or line.pid, given.get("REF", ""),
        situation, outcome_of(situation, code), code,
        _number(given.get("JOB_ID")), given.get("HOW", ""), given.get("OPTION", ""),
        _milliseconds(given.get("MSEC", "")), head["rest"],
    )  # fmt: skip


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 19 else None


def _milliseconds(text: str) -> float:
    try:
        return min(max(0.0, float(text[:12])), 1e9)
    except ValueError:
        return 0.0


def is_cut(line: Line) -> bool:
    """Say whether this begins as a decision does: then it should have been one."""
    head = _HEAD.fullmatch(line.text)
    uid = _UID.search(head["rest"]) if head and head["rest"].startswith("user ") else None
    return bool(head and uid and ", pid " in head["rest"][uid.end() :])


class Login(NamedTuple):
    """A login: its first decision, and what it came to in the end."""

    first: Decision
    last: Decision

    @property
    def deciding(self) -> Decision:
        """The decision that says why: the session phase may only repeat it."""
        return self.first if self.last.situation in ("as before", "still adopted") else self.last

    @property
    def msec(self) -> float:
        """The milliseconds of both phases."""
        return self.first.msec + (self.last.msec if self.last is not self.first else 0)

    @property
    def how(self) -> str:
        """How the job was chosen."""
        return self.last.how or self.first.how

    @property
    def job(self) -> int | None:
        """The job that the login is in, or was tried."""
        return self.last.job or self.first.job

    @property
    def in_job(self) -> bool:
        """Whether it came into the job, or was to."""
        return self.last.outcome in ("adopted", "chosen")

    @property
    def refs(self) -> set[str]:
        """Its references: two, where the phases ran in two processes."""
        return {self.first.ref, self.last.ref} - {""}

    def as_dict(self) -> dict[str, Any]:
        """Return a login as --json has it."""
        last, deciding = self.last, self.deciding
        phases = dict.fromkeys(decision.phase for decision in self)
        return {
            "time": round(self.first.time, 3),
            "user": last.user,
            "uid": last.uid,
            "source": last.source or None,
            "service": last.service,
            "pid": last.pid,
            "phases": [*phases],
            "outcome": last.outcome,
            "situation": deciding.situation,
            "code": last.code,
            "job": self.job,
            "how": self.how or None,
            "option": deciding.option or None,
            "milliseconds": round(self.msec, 1),
            "ref": last.ref or self.first.ref or None,  # what a refused user is shown is the last
            "text": deciding.text,
        }


def logins(decisions: Iterable[Decision]) -> Iterator[Login]:
    """Put decisions together to logins; each is there when nothing more of it can come.

    The session phase runs in the process that ran the account phase. After keyboard-interactive it
    is another: then the oldest login of this user from this place is taken.
    """
    waiting: OrderedDict[int, Decision] = OrderedDict()
    for decision in decisions:
        while waiting:
            oldest = next(iter(waiting.values()))
            if oldest.time > decision.time - BETWEEN and len(waiting) < AT_ONCE:
                break
            del waiting[oldest.pid]
            yield Login(oldest, oldest)
        if decision.phase == "account":
            if earlier := waiting.pop(decision.pid, None):
                yield Login(earlier, earlier)
            if decision.outcome == "refused":
                yield Login(decision, decision)
            else:
                waiting[decision.pid] = decision
        else:
            first = _begun(waiting, decision)
            yield Login(first or decision, decision)
    yield from (Login(decision, decision) for decision in waiting.values())


def _begun(waiting: OrderedDict[int, Decision], session: Decision) -> Decision | None:
    """Take the account phase of a session out of those that wait."""
    who = (session.user, session.service, session.source)
    first = waiting.get(session.pid)
    if first is not None and (first.user, first.service, first.source) == who:
        return waiting.pop(session.pid)
    for pid, other in waiting.items():
        if (other.user, other.service, other.source) == who:
            return waiting.pop(pid)
    return None
