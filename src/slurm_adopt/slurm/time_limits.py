"""What is waited for on Slurm's side, and for how long at most; see also ../time_limits.py.

A wait has two ends: a silence, which each sign of life begins again, and a last end, which none
moves (waiting.py). The page docs/reference/time-limits.md shows these rows.
"""

from __future__ import annotations


class Limit:
    """One row."""

    __slots__ = ("last", "option", "silence", "what")

    def __init__(self, silence: float, last: float, what: str, option: str = "") -> None:
        """Seconds of silence, and until the last end; 0 where there is no such end.

        `option`: sets the last end, where it is longer.
        """
        self.silence = silence
        self.last = last
        self.what = what
        self.option = option


# fmt: off
#                         silence last   what is waited for
# stepds
STOPPED           = Limit(2.0,    0.0,   "all stepds, if all that have not answered are stopped")
OTHERS            = Limit(0.0,    2.0,   "other users' stepds, alive or not, where cgroups tell "
                                         "whose they are")
LOOKING           = Limit(0.6,    0.0,   "a stepd, before it is looked whether it is alive, and "
                                         "again")
QUEUED            = Limit(2.0,    0.0,   "the same, where it accepts no connections")
ASKED_BESIDE      = Limit(0.0,    1.0,   "a stepd that is asked on another connection whether it "
                                         "is alive")
INTRODUCED        = Limit(0.0,    0.5,   "a credential to greet stepds of 17.11 and 18.08 with, "
                                         "when the jobs are counted")
AFTER_PROLOG      = Limit(5.0,    0.0,   "the extern step of a job whose prolog ran, or that has "
                                         "another step")
NAMELESS          = Limit(1.0,    0.0,   "the extern step of somebody's job, where a process was "
                                         "just started for one")
# slurmds
CONNECTED         = Limit(0.0,    0.9,   "a connection to one slurmd of the source host")
BEGUN             = Limit(0.3,    0.0,   "the same, before another is begun beside it, twice")
# what an extern step has left, in the Epilog
WALKED            = Limit(0.0,    2.0,   "a walk through the cgroups that a job has left")
FROZEN            = Limit(0.0,    0.5,   "the processes of such a cgroup to be frozen")
DYING             = Limit(0.0,    0.25,  "those that are being ended to be gone, until all is "
                                         "frozen again")
# fmt: on
