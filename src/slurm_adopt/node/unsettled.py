"""A process that a stepd was to take, and that it may be taking at this very moment.

The stepd moves it into one hierarchy after the other, and may be stopped in the middle. Written
back then, the process would be half in once the stepd goes on: in what it reaches after that. So
one that has not been moved at all stays where it is, and the stepd may take it later, to the end.
One that is in some of the step's cgroups is written into the others: what the stepd does later
changes nothing any more. Imported only where a stepd has taken a request and not answered.
"""

from __future__ import annotations

from time import sleep

from slurm_adopt import time_limits
from slurm_adopt.slurm.cgroup.hierarchy import of_process
from slurm_adopt.slurm.errors import SetupError, SlurmAdoptError
from slurm_adopt.slurm.waiting import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.cgroup.step_cgroup import Layout
    from slurm_adopt.slurm.stepd.step_sockets import StepSocket

STILL = time_limits.SETTLED.silence  # without a move: a stepd needs some 15 ms for each hierarchy
LONGEST = time_limits.SETTLED.last  # then it is left to itself where it is
POLL = 0.05  # seconds between two looks


def settle(
    pid: int, before: dict[str, str], layout: Layout, step: StepSocket, uid: int
) -> tuple[bool, str]:
    """See that a process is wholly in the step, if it is in part.

    Returns whether it is to be put back into `before`, its cgroups then by controller, since that
    failed; and what is to be said.
    """
    now = _when_still(pid, layout)
    if not now or all(now.get(name) == path for name, path in _written(before, layout)):
        return False, ""
    if why := _complete(pid, layout, step, uid):
        return True, f"process {pid} is put back, since {why}"
    return False, f"process {pid} is in all cgroups of job {step.job_id} that confine it"


def _complete(pid: int, layout: Layout, step: StepSocket, uid: int) -> str:
    """Write a process into the cgroups of the step that it is not in; say why that fails."""
    try:
        if why := layout.obstacle(step, uid):
            return why
        for controller, path in layout.missing(pid, step, uid).items():
            if path is None:
                return f"the job has no cgroup for {controller or 'its processes'}"
            layout.enter(pid, controller, path)
        outside = layout.missing(pid, step, uid)
        present = of_process(pid, layout.proc)
        return layout.obstacle(step, uid, present) or (outside and "it is still outside") or ""
    except SlurmAdoptError as error:
        return str(error)


def _when_still(pid: int, layout: Layout) -> dict[str, str]:
    """Return the cgroups of a process once they have not changed for a while; {} if it ended."""
    longest, still = Deadline(LONGEST), Deadline(STILL)
    seen = _places(pid, layout)
    while seen and still.left() and longest.left():
        sleep(POLL)
        now = _places(pid, layout)
        if now != seen:
            seen, still = now, Deadline(STILL)
    return seen


def _places(pid: int, layout: Layout) -> dict[str, str]:
    try:
        return of_process(pid, layout.proc)
    except SetupError:
        return {}


def _written(before: dict[str, str], layout: Layout) -> list[tuple[str, str]]:
    """Return those of the cgroups that can be written to here."""
    return [(name, path) for name, path in before.items() if name in layout.mounts]
