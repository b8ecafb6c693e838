"""The rows of the benchmark: what a login meets in each, and what is measured there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.tools.bench import worlds
from tests.cluster.tools.bench.subjects import ACCOUNT, BOTH, SUBJECTS

if TYPE_CHECKING:
    from tests.cluster.tools.bench.worlds import Made

NOTES = "/run/slurm_adopt"  # what the module may keep from one login to the next
OURS_ONLY = ("empty", "ours", "empty by pam_exec", "ours by pam_exec")


@dataclass(frozen=True)
class Row:
    """Logins by pamtester, of which each subject makes as many."""

    name: str  # as --rows and the JSON have it
    world: Made
    phases: tuple[str, ...] = BOTH
    alone: bool = False  # whether there is no session line
    subjects: tuple[str, ...] = tuple(SUBJECTS)
    share: float = 1  # of the runs
    refused: bool = False  # whether the subjects that decide refuse
    warm: int = 1  # runs before those that are measured
    user: str = "alice"
    after: str | None = None  # the user whose login is the first, and not measured
    uncounted: tuple[str, ...] = ()  # whose instructions are not counted: it would take minutes


ROWS = {
    row.name: row
    for row in (
        Row("one job", worlds.one_job),
        Row("one job, account line alone", worlds.one_job, ACCOUNT, alone=True),
        Row("no job", worlds.no_job, ACCOUNT, refused=True),
        Row("three jobs, callerid", worlds.from_a_job),
        Row("1 job of others", worlds.jobs_of_others(1)),
        Row("10 jobs of others", worlds.jobs_of_others(10)),
        Row("50 jobs of others", worlds.jobs_of_others(50)),
        Row("200 jobs of others", worlds.jobs_of_others(200)),
        Row("1000 jobs of others", worlds.jobs_of_others(1000), share=0.25),
        Row("2 jobs of this user", worlds.own_jobs(2)),
        Row("20 jobs of this user", worlds.own_jobs(20)),
        Row("100 jobs of this user", worlds.own_jobs(100), share=0.25),
        Row("1000 sockets", worlds.sockets(1_000)),
        Row("60000 sockets", worlds.sockets(60_000), share=0.5),
        Row("250000 sockets", worlds.sockets(250_000), share=0.25),
        Row("10 NodeName lines", worlds.node_lines(10)),
        Row("5000 NodeName lines", worlds.node_lines(5_000), share=0.5),
        Row("20000 NodeName lines", worlds.node_lines(20_000), share=0.2, uncounted=("C",)),
        Row("10 NodeName lines, Include", worlds.node_lines(10, included=True)),
        Row("5000 NodeName lines, Include", worlds.node_lines(5_000, included=True), share=0.5),
        Row("20000 NodeName lines, Include", worlds.node_lines(20_000, included=True), share=0.2,
            uncounted=("C",)),
        Row("source refuses", worlds.own_jobs(worlds.OWN_JOBS), share=0.5),
        Row("source drops, first login", worlds.dropped(NOTES), share=0.1, warm=0),
        Row("source drops, next logins", worlds.dropped(), subjects=OURS_ONLY, share=0.5),
        Row("source drops, next logins of others", worlds.dropped(user="bob"), subjects=OURS_ONLY,
            share=0.5, warm=0, user="bob", after="alice"),
    )
}  # fmt: skip

# Measured otherwise than by pamtester: in real logins, or on other suites.
MEMORY, STORM = "memory of a session", "300 logins at once"
LISTENERS = "150000 sockets listen"
WITHOUT = "empty without traceback"  # a subject, on these
SOURCE = "slurmd of the source"  # the same, where it is asked
PYTHONS = {"Python 3.11": "bookworm", "Python 3.13": "trixie", "Python 3.14": "sid"}
OTHERS = (MEMORY, STORM, LISTENERS, *PYTHONS)
NAMES = (*ROWS, *OTHERS)
