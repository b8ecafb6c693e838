"""What is wanted of each row: one goal a line, and what it comes to in what was found.

What was found is by row, measure and subject: `found["one job"]["ms"]["ours"]`. A goal whose rows
were not measured comes to None. Times are medians of one run of the benchmark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple

from tests.cluster.tools.bench.rows import LISTENERS, MEMORY, ROWS, SOURCE, STORM
from tests.cluster.tools.bench.subjects import FRONTS, Front

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Found = dict[str, dict[str, dict[str, float]]]
How = Callable[[Found, Front], float]


def own_instructions(row: str) -> How:
    """Return the module's own instructions in millions: what is beyond an empty script."""

    def count(found: Found, front: Front) -> float:
        of = found[row]["instructions"]
        return (of[front.ours] - of[front.empty]) / 1e6

    return count


def to_limit(row: str) -> How:
    """Return ours to the limit: an empty script, and the C module's own work."""
    return lambda found, front: found[row]["ms"][front.ours] / limit(found[row]["ms"], front)


def limit(ms: Mapping[str, float], front: Front) -> float:
    """Return what a login by this front costs at least, in milliseconds."""
    return ms[front.empty] + ms["C"] - ms["permit"]


def to_empty(row: str) -> How:
    """Return ours to an empty script."""
    return lambda found, front: found[row]["ms"][front.ours] / found[row]["ms"][front.empty]


def as_in(row: str, base: str, found: Found, front: Front) -> float:
    """Return ours in another row, in milliseconds on the machine as it was in this one.

    Minutes are between the two. The CPU time that the empty script takes says how much slower the
    machine is by then; so much slower is the CPU time of ours, but not what it waits for.
    """
    cpu = found[base]["cpu_ms"]
    slower = found[row]["cpu_ms"][front.empty] / cpu[front.empty]
    return found[base]["ms"][front.ours] + (slower - 1) * cpu[front.ours]


def to_row(row: str, base: str) -> How:
    """Return ours in one row to ours in another."""
    return lambda found, front: found[row]["ms"][front.ours] / as_in(row, base, found, front)


def less_answer(row: str, base: str) -> How:
    """Return the same without the time that the slurmd of the source takes to answer."""

    def left(found: Found, front: Front) -> float:
        answers = [found[name]["answer_ms"][SOURCE] for name in (row, base)]
        ours = (found[row]["ms"][front.ours], as_in(row, base, found, front))
        return (ours[0] - answers[0]) / (ours[1] - answers[1])

    return left


def for_each(row: str, base: str, more: int) -> How:
    """Return the milliseconds that each of so many more jobs adds."""

    def added(found: Found, front: Front) -> float:
        return (found[row]["ms"][front.ours] - as_in(row, base, found, front)) / more

    return added


def extra(row: str, base: str) -> How:
    """Return what ours adds from one row to another, to what the C module adds."""

    def added(found: Found, front: Front) -> float:
        ms, less = found[row]["ms"], found[base]["ms"]
        return (ms[front.ours] - less[front.ours]) / (ms["C"] - less["C"])

    return added


def stays(found: Found, front: Front) -> float:
    """Return the PSS in MiB of a session's sshd beyond an empty script, or pam_permit."""
    pss = found[MEMORY]["pss"]
    return pss[front.ours] - pss[front.empty if front.name == "pam_python" else "permit"]


def missed(found: Found, front: Front) -> float:
    """Return how many logins of a storm are not wholly in."""
    return found[STORM]["logins"][front.ours] - found[STORM]["inside"][front.ours]


def throughput(found: Found, front: Front) -> float:
    """Return the logins in a second, to the C module's."""
    return found[STORM]["per_second"][front.ours] / found[STORM]["per_second"]["C"]


def most(found: Found, front: Front) -> float | None:
    """Return how many logins there are in a second where each takes no more than the limit."""
    seconds = {name: 1 / rate for name, rate in found[STORM]["per_second"].items()}
    return 1 / limit(seconds, front) if {"permit", front.empty} <= seconds.keys() else None


def listeners(found: Found, front: Front) -> float:
    """Return the module's own time with another user's sockets that listen, to that without."""
    return found[LISTENERS]["own_ms_full"][front.ours] / found[LISTENERS]["own_ms"][front.ours]


class Goal(NamedTuple):
    """One line: what is to be reached, in which direction."""

    name: str
    row: str
    how: How
    wanted: float
    unit: str = "x"
    at_least: bool = False

    def reached(self, value: float) -> bool:
        """Say whether a value is what is wanted."""
        return value >= self.wanted if self.at_least else value <= self.wanted


OTHERS_FLAT, NODES_FLAT, SOCKETS_FLAT = 1.05, 1.05, 1.03
OF_OTHERS = [f"{number} jobs of others" for number in (10, 50, 200, 1000)]
NO_SOCKETS = "three jobs, callerid"
OF_SOCKETS = [f"{number} sockets" for number in (1000, 60000, 250000)]
OF_NODES = [name for name in ROWS if "NodeName" in name and not name.startswith("10 ")]
REFUSES = "source refuses"

GOALS = (
    Goal("own instructions", "one job", own_instructions("one job"), 13, "M"),
    Goal("to the limit", "one job", to_limit("one job"), 1.06),
    Goal(
        "to the limit",
        "one job, account line alone",
        to_limit("one job, account line alone"),
        1.10,
    ),
    Goal("to an empty script", "no job", to_empty("no job"), 1.15),
    Goal("to the limit", "three jobs, callerid", to_limit("three jobs, callerid"), 1.10),
    *(
        Goal("to 1 job of others", row, to_row(row, "1 job of others"), OTHERS_FLAT)
        for row in OF_OTHERS
    ),
    *(
        Goal("for each job more", f"{n} jobs of this user",
             for_each(f"{n} jobs of this user", "2 jobs of this user", n - 2), 0.1, "ms")
        for n in (20, 100)
    ),
    *(
        Goal("to no other sockets, less the answer", row, less_answer(row, NO_SOCKETS),
             SOCKETS_FLAT)
        for row in OF_SOCKETS
    ),
    *(
        Goal("to 10 lines", row, to_row(row, f"10 {row.partition(' ')[2]}"), NODES_FLAT)
        for row in OF_NODES
    ),
    Goal(
        "extra time, to the C module's",
        "source drops, first login",
        extra("source drops, first login", REFUSES),
        0.5,
    ),
    Goal(
        "to a source that refuses",
        "source drops, next logins",
        to_row("source drops, next logins", REFUSES),
        1.1,
    ),
    Goal(
        "to a source that refuses",
        "source drops, next logins of others",
        to_row("source drops, next logins of others", REFUSES),
        1.1,
    ),
    Goal("not wholly in", STORM, missed, 0, "logins"),
    Goal("logins a second, to the C module's", STORM, throughput, 0.9, at_least=True),
    Goal("to no sockets that listen", LISTENERS, listeners, 1.1),
    Goal("PSS that stays", MEMORY, stays, 0.8, "MiB"),
)  # fmt: skip
# By the other front less is wanted.
OF_FRONT: dict[tuple[str, How], float] = {("pam_exec", stays): 0.1}


class Verdict(NamedTuple):
    """A goal, by a front: what it came to."""

    goal: Goal
    front: Front
    value: float | None

    @property
    def wanted(self) -> float:
        """What is wanted by this front."""
        return OF_FRONT.get((self.front.name, self.goal.how), self.goal.wanted)

    @property
    def reached(self) -> bool | None:
        """Whether it is reached; None where it was not measured."""
        if self.value is None:
            return None
        return self.goal._replace(wanted=self.wanted).reached(self.value)

    @property
    def margin(self) -> str:
        """By how much it is reached or missed: ratios as a share of what is wanted."""
        beyond = (self.value or 0) - self.wanted
        if self.value is None or not beyond:
            return "-"
        side = "above" if beyond > 0 else "below"
        if self.goal.unit == "x":
            return f"{abs(beyond) / self.wanted * 100:.0f} % {side}"
        return f"{abs(beyond):.{0 if self.goal.unit == 'logins' else 2}f} {self.goal.unit} {side}"


def verdicts(found: Found) -> Iterator[Verdict]:
    """Yield what all goals have come to, by both fronts."""
    for goal in GOALS:
        for front in FRONTS:
            yield Verdict(goal, front, _value(goal, found, front))


def _value(goal: Goal, found: Found, front: Front) -> float | None:
    try:
        return goal.how(found, front)
    except KeyError:
        return None
