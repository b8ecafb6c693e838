"""A process that a stepd was to take, and that it may be taking at this very moment.

The stepd moves it into one hierarchy after the other. To write it back meanwhile would leave it in
some of them: half in the job. So it is written back once it has stayed where it is for a while, and
is looked at again after that. What the stepd does later, when nobody waits any more, it does to the
end. Imported only where a stepd has taken a request and not answered.
"""

from __future__ import annotations

from time import sleep

from .slurm.cgroup import of_process
from .slurm.deadline import Deadline
from .slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .slurm.cgroup import Layout

STILL = 0.5  # seconds without a move: a stepd needs some 15 ms for each hierarchy
LONGEST = 5.0  # seconds for all
POLL = 0.05  # seconds between two looks


def put_back(pid: int, before: dict[str, str], layout: Layout) -> list[str]:
    """Write a process back to where it was, and see that it stays there; say what failed.

    `before`: its cgroups, by controller.
    """
    longest, still = Deadline(LONGEST), Deadline(STILL)
    remarks: list[str] = []
    seen = _places(pid, layout)
    while seen and longest.left():
        sleep(POLL)
        now = _places(pid, layout)
        if now != seen:
            seen, still = now, Deadline(STILL)
        elif not still.left():
            if remarks or _at_home(now, before, layout):
                return remarks
            remarks = layout.restore(pid, before)
            seen, still = _places(pid, layout), Deadline(STILL)
    return layout.restore(pid, before)


def _places(pid: int, layout: Layout) -> dict[str, str]:
    """Return the cgroups of a process; none once it has ended."""
    try:
        return of_process(pid, layout.proc)
    except SetupError:
        return {}


def _at_home(now: dict[str, str], before: dict[str, str], layout: Layout) -> bool:
    """Say whether it is where it was, as far as it can be written there."""
    return all(now.get(name) == path for name, path in before.items() if name in layout.mounts)
