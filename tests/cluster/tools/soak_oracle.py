"""What may become of a login on a node that changes meanwhile: `./dev soak` judges by this.

A login is judged over the whole time that it took. What the node was in that time is known from
the history: each change has the moments before it was begun and after it was seen to be done. So
of each job it is known when it may have been here and when it surely was.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = "root"
DOCUMENTED = 55.0  # seconds that a login takes at most: docs/reference/time-limits.md
CLIENT = 20.0  # seconds that ssh and sshd may need besides, on a machine that is full

# What a refused user is told, by its situation: docs/reference/messages.md.
TEXTS = {
    "no jobs": "you have no active jobs on this node",
    "unknown job": "unable to determine source job",
    "adopt failure": "failed to adopt process into cgroup",
    "job suspended": "your job on this node is suspended",
    "generic failure": "No Slurm jobs found on node.",
}
CUT_OFF = "without a word"  # the connection has ended without one of these

# Where a session is, in the place of a job.
HALF, APART = -1, -2  # in some hierarchies only; the session elsewhere than its sshd


class Span(NamedTuple):
    """A time by CLOCK_MONOTONIC."""

    begin: float
    end: float = math.inf

    def meets(self, other: Span) -> bool:
        """Say whether both have a moment in common."""
        return self.begin <= other.end and other.begin <= self.end


@dataclass
class Job:
    """One job, by the controller's and the kernel's word."""

    number: int
    user: str
    nodes: str
    asked: float  # before it was submitted
    up: float = math.inf  # when it was running, and its extern stepds' sockets were there
    ending: float = math.inf  # before it was cancelled, or its stepd killed
    gone: float = math.inf  # when no stepd of it served any more
    killed: bool = False  # its extern stepd on n1, so nobody can log in to it any more
    pauses: list[Span] = field(default_factory=list)  # suspended

    @property
    def here(self) -> Span:
        """When it may be there."""
        return Span(self.asked, self.gone)

    @property
    def end(self) -> Span:
        """When it ends."""
        return Span(self.ending, self.gone)

    def paused(self, when: Span) -> bool:
        """Say whether it may be suspended in a time."""
        return any(pause.meets(when) for pause in self.pauses)

    def sure(self, when: Span) -> bool:
        """Say whether it runs for the whole of a time."""
        return self.up <= when.begin and when.end <= self.ending and not self.paused(when)


class Outage(NamedTuple):
    """Something else that changed: `slurmd n2`, `munged n1`, `slurm.conf in place`, …."""

    what: str
    when: Span


IN_PLACE = "slurm.conf in place"  # half a file may be read: docs/reference/messages.md
CALLERID = ("munged n1", "munged n2", "slurmd n2", IN_PLACE)  # what a question to n2 needs


@dataclass
class History:
    """What the cluster was, and when."""

    jobs: list[Job] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)

    def of(self, user: str, when: Span) -> list[Job]:
        """Return the jobs that a user may have had on n1 in a time, the newest first."""
        found = [one for one in self.jobs if one.user == user and one.here.meets(when)]
        return sorted(found, key=lambda job: -job.number)

    def changed(self, login: Login) -> bool:
        """Say whether something changed meanwhile: the user's jobs, a daemon or slurm.conf."""
        when = login.when
        return any(one.when.meets(when) for one in self.outages) or any(
            job.end.meets(when) or job.paused(when) or Span(job.asked, job.up).meets(when)
            for job in self.of(login.user, when)
        )

    def out(self, whats: Iterable[str], when: Span) -> bool:
        """Say whether one of these was disturbed in a time."""
        return any(one.what in whats and one.when.meets(when) for one in self.outages)


@dataclass
class Login:
    """How a login went."""

    user: str
    source: int | None  # the job on n2 that it comes from
    method: str
    when: Span
    status: int | None  # of ssh; None: killed, since it took too long
    said: str
    landed: bool  # it has printed where it is
    place: int | None = None  # the job; HALF, APART; None for none

    @property
    def text(self) -> str:
        """The situation that a refused user was told."""
        return next((name for name, text in TEXTS.items() if text in self.said), CUT_OFF)


class Verdict(NamedTuple):
    """What is to be said of a login."""

    outcome: str  # a kind of outcome that is right, or what is wrong
    fault: str = ""  # "", or one of FAULTS


FAULTS = ("wrong", "other", "half", "lost", "odd", "late")


def judge(history: History, login: Login) -> Verdict:
    """Say whether what became of a login is what the node was meanwhile."""
    jobs = history.of(login.user, login.when)
    if _late(jobs, login):
        return Verdict("longer than the documented ends", "late")
    if login.user == ROOT:
        if not login.landed or login.status != 0:
            return Verdict("root is refused", "wrong")
        return Verdict("root in a job", "wrong") if login.place else Verdict("root in")
    if login.landed:
        return _landed(history, login, jobs)
    return _refused(history, login, jobs)


def _late(jobs: list[Job], login: Login) -> bool:
    """Say whether it took too long; while its job is suspended it has to wait."""
    paused = sum(
        min(pause.end, login.when.end) - max(pause.begin, login.when.begin)
        for job in jobs
        for pause in job.pauses
        if pause.meets(login.when)
    )
    took = login.when.end - login.when.begin
    return login.status is None or took > DOCUMENTED + CLIENT + paused


def _landed(history: History, login: Login, jobs: list[Job]) -> Verdict:
    """Judge where a session is."""
    if login.place not in [job.number for job in jobs]:
        return Verdict(*ASTRAY.get(login.place, NOT_OWN))
    if len(jobs) == 1:
        return Verdict("in the only job")
    sure = [job.number for job in jobs if job.sure(login.when)]
    if login.place == login.source:
        return Verdict("in the job it comes from")
    if login.source in sure and not history.out(CALLERID, login.when):
        return Verdict("not in the job it comes from", "other")
    if any(number > login.place for number in sure):
        return Verdict("in a job that is not the newest", "other")
    return Verdict("in the newest job")


NOT_OWN = ("in a job that the user did not have here", "wrong")
ASTRAY = {
    None: ("in, and in no job", "wrong"),
    HALF: ("in some of a job's cgroups only", "half"),
    APART: ("a session elsewhere than its sshd", "half"),
}


def _refused(history: History, login: Login, jobs: list[Job]) -> Verdict:
    """Judge a refusal by what its text names."""
    when, text = login.when, login.text
    sure = any(job.sure(when) for job in jobs)
    ending = [job for job in jobs if job.end.meets(when)]
    stirred = any(job.killed for job in ending) or any(job.paused(when) for job in jobs)
    named = {
        "no jobs": not sure,
        "unknown job": False,
        # A job that ends meanwhile is no reason as long as another stays: all is decided again.
        "adopt failure": bool(jobs) and (not sure or stirred or len(ending) > 1),
        "job suspended": any(job.paused(when) for job in jobs),
        "generic failure": history.out([IN_PLACE], when),
        CUT_OFF: bool(ending),  # a session ends with its job
    }
    outcomes = {
        "generic failure": "refused: slurm.conf half written",
        CUT_OFF: "ended with its job",
    }
    if named[text]:
        return Verdict(outcomes.get(text, f"refused: {text}"))
    return Verdict(f"refused: {text}", "lost" if sure else "odd")


# Lines of the log

LEVEL = re.compile(r"^(\S+) \w+\.(emerg|alert|crit|err|warning) ")
OF_USER = re.compile(r"\): user (\S+) \(uid")
OF_JOB = re.compile(r"\bjobs? (\d+)")
TOOK = re.compile(r" in ([0-9.]+) ms$")
MISTAKE = re.compile(r"unexpected \w+|please report|Traceback")
AROUND = 1.5  # seconds: what a log line's clock and a login's own work may differ by


def explained(history: History, line: str, at: float) -> bool:
    """Say whether a line worse than info is about something that changed at that time."""
    if MISTAKE.search(line):
        return False
    took = TOOK.search(line)
    when = Span(at - AROUND - (float(took[1]) / 1000 if took else DOCUMENTED / 10), at + AROUND)
    if history.out([IN_PLACE], when):
        return True
    user, numbers = OF_USER.search(line), {int(found) for found in OF_JOB.findall(line)}
    about = [
        job
        for job in history.jobs
        if job.number in numbers or (user and job.user == user[1] and job.here.meets(when))
    ]
    return any(
        job.end.meets(when) or job.paused(when) or Span(job.asked, job.up).meets(when)
        for job in about
    )
