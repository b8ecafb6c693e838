"""Logins counted by what they came to, and by how long the module took; as text of Prometheus's.

The file of node_exporter's textfile collector is also where the next run begins: it has the counts
so far, and until when they go. So they do not go backwards when the log is rotated.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections import Counter
from typing import TYPE_CHECKING

from slurm_adopt.cli.errors import CliError
from slurm_adopt.cli.textfile import head, sample
from slurm_adopt.decision.outcome import ACTIONS, SITUATIONS
from slurm_adopt.decision.record import outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .decisions import Login

BOUNDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, math.inf)  # s
LARGEST = 1 << 20  # bytes of a file

TOTAL = "slurm_adopt_logins_total"
SECONDS = "slurm_adopt_login_seconds"
UNTIL = "slurm_adopt_logins_counted_until_seconds"
HEADS = {
    TOTAL: ("counter", "Logins that slurm_adopt has decided, by what they came to."),
    SECONDS: ("histogram", "How long slurm_adopt took for a login, in both phases."),
    UNTIL: ("gauge", "Until when logins are counted, in seconds since 1970."),
}


class Counts:
    """How many logins came to what, and took how long."""

    def __init__(self) -> None:
        """None yet."""
        self.by_outcome: Counter[tuple[str, str]] = Counter()  # outcome, situation
        self.by_bound: Counter[float] = Counter()  # largest time: how many took no more
        self.seconds = 0.0
        self.until = 0.0

    def add(self, login: Login) -> None:
        """Count one."""
        self.by_outcome[login.last.outcome, login.deciding.situation] += 1
        seconds = login.msec / 1000
        self.seconds += seconds
        self.by_bound.update(bound for bound in BOUNDS if seconds <= bound)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_outcome.values())

    def lines(self) -> Iterator[str]:
        """Yield them as Prometheus reads them; what has not happened yet is 0."""
        yield from head(TOTAL, *HEADS[TOTAL])
        for outcome, situation in (*_possible(), *sorted(self.by_outcome.keys() - _possible())):
            labels = {"outcome": outcome, "situation": situation}
            yield sample(TOTAL, labels, self.by_outcome[outcome, situation])
        yield from head(SECONDS, *HEADS[SECONDS])
        for bound in BOUNDS:
            yield sample(f"{SECONDS}_bucket", {"le": _bound(bound)}, self.by_bound[bound])
        yield sample(f"{SECONDS}_sum", {}, round(self.seconds, 4))
        yield sample(f"{SECONDS}_count", {}, self.by_bound[math.inf])
        yield from head(UNTIL, *HEADS[UNTIL])
        yield sample(UNTIL, {}, round(self.until))


def _possible() -> dict[tuple[str, str], None]:
    """Return what logins can come to, by the tables of the decision."""
    found: dict[tuple[str, str], None] = {}
    for name, row in SITUATIONS.items():
        codes = (
            [action.code for action in ACTIONS[row.option].values()] if row.option else [row.code]
        )
        if name == "generic failure":
            codes.append("PAM_IGNORE")  # auto, where no slurmd runs
        found.update(
            ((outcome_of(name, code), name), None) for code in codes if code != "the same again"
        )
    return found


def _bound(bound: float) -> str:
    return "+Inf" if bound == math.inf else f"{bound:g}"


_TOTAL = re.compile(TOTAL + r'\{outcome="([a-z]+)",situation="([a-z ]+)"\} (\d{1,15})', re.ASCII)
_BUCKET = re.compile(
    SECONDS + r'_bucket\{le="(\d{1,15}(?:\.\d{1,15})?|\+Inf)"\} (\d{1,15})', re.ASCII
)
_ALONE = re.compile(rf"({SECONDS}_sum|{UNTIL}) (\d{{1,15}}(?:\.\d{{1,15}})?)", re.ASCII)


def parsed(text: str) -> Counts | None:
    """Return the counts of such a text; None if it is no whole one."""
    counts, alone = Counts(), {}
    for outcome, situation, number in _TOTAL.findall(text):
        counts.by_outcome[outcome, situation] = int(number)
    for bound, number in _BUCKET.findall(text):
        counts.by_bound[float(bound)] = int(number)
    alone = dict(_ALONE.findall(text))
    if UNTIL not in alone or f"{SECONDS}_sum" not in alone or set(counts.by_bound) != {*BOUNDS}:
        return None
    counts.seconds, counts.until = float(alone[f"{SECONDS}_sum"]), float(alone[UNTIL])
    return counts


def before(path: str) -> Counts | None:
    """Return the counts that a file has; None if there is none. CliError if it is another file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CliError(f"{path} is not a regular file: name a file of the textfile collector's")
    with open(descriptor, "rb") as file:
        text = file.read(LARGEST).decode("utf-8", "replace")
    counts = parsed(text)
    if counts is None and text:
        raise CliError(
            f"{path} has no counts of this command's: remove it, or name another file; it would "
            "be written over"
        )
    return counts
