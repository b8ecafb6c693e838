"""Which job a process is in, as its cgroups say: any step of it, in all hierarchies or in some.

Users can give cgroups of their own any name. So a job counts only if root has made its directory,
where that can be seen.
"""

from __future__ import annotations

import os

from slurm_adopt.cli import live_thread
from slurm_adopt.slurm.cgroup import paths
from slurm_adopt.slurm.cgroup.hierarchy import UNIFIED, by_controller, mounted
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import PROC, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.cgroup.hierarchy import Mount


class Place:
    """Where a process is."""

    __slots__ = ("job", "job_id", "missing", "paths", "steps", "uid")

    def __init__(self, found: dict[str, str]) -> None:
        """`found`: its cgroups by controller, "" for v2.

        `job`: the name of the job's directory, "" for no job. `job_id`: None also where the name is
        an id of another kind (26.05). `uid`: the user's in v1's paths. `steps`: the job's step by
        controller. `missing`: controllers in which that step has a cgroup, but not this process.
        """
        self.paths = found
        self.job = ""
        self.job_id: int | None = None
        self.uid: int | None = None
        self.steps: dict[str, str] = {}
        self.missing: tuple[str, ...] = ()

    def same_as(self, other: Place) -> bool:
        """Say whether both are in the same job, and in as many of its cgroups."""
        return (self.job, self.missing) == (other.job, other.missing)

    @property
    def outside(self) -> str:
        """The cgroup that an administrator would name: v2's, else systemd's, else the first."""
        for controller in (UNIFIED, "name=systemd"):
            if self.paths.get(controller, "/") != "/":
                return self.paths[controller]
        return next((path for path in self.paths.values() if path != "/"), "/")


class Places:
    """Looks processes up; a cgroup is taken apart once for all that are in it."""

    __slots__ = ("_known", "_mounts", "_proc", "_rooted")

    def __init__(self, mounts: dict[str, Mount] | None = None, proc: str = PROC) -> None:
        """`mounts`: the hierarchies that are mounted; those of this host if it is None."""
        self._mounts = _mounted(proc) if mounts is None else mounts
        self._proc = proc
        self._known: dict[bytes, Place] = {}
        self._rooted: dict[tuple[str, str], bool] = {}

    def of(self, pid: int | str) -> Place:
        """Return where a process is; in no cgroup if it has ended."""
        process = f"{self._proc}/{pid}"
        found = self._by_text(read(f"{process}/cgroup"))
        if not found.job and pid != "self":
            thread = live_thread.place(process, read(f"{process}/status"))
            if thread != process:
                return self._by_text(read(f"{thread}/cgroup"))
        return found

    def _by_text(self, text: bytes) -> Place:
        if text not in self._known:
            self._known[text] = self._place(text)
        return self._known[text]

    def directory(self, place: Place, controller: str) -> str:
        """Return the directory of the job in a hierarchy; "" where there is none to be seen."""
        mount = self._mounts.get(controller)
        found = paths.any_step(place.paths.get(controller, "")) if mount else None
        return mount.directory(found[0]) if mount and found else ""

    def _place(self, text: bytes) -> Place:
        place = Place(by_controller(text.decode("utf-8", "surrogateescape").split("\n")))
        jobs: dict[str, str] = {}
        for controller, path in place.paths.items():
            found = paths.any_step(path)
            if found and self._is_slurm_s(controller, found[0]):
                jobs[controller], place.steps[controller] = found
        if jobs:
            self._fill(place, jobs)
        return place

    def _fill(self, place: Place, jobs: dict[str, str]) -> None:
        names = [path.rpartition("/")[2] for path in jobs.values()]
        place.job = max(sorted(set(names)), key=names.count)
        place.job_id = paths.job_id_of(place.job)
        controller = next(one for one, name in zip(jobs, names) if name == place.job)
        place.uid = paths.uid_of(jobs[controller].split("/")[-2])
        inside = {one for one, name in zip(jobs, names) if name == place.job}
        missing = [
            one
            for one in place.paths
            if one not in inside and self._has(one, jobs[controller], place.steps[controller])
        ]
        place.missing = tuple(sorted(missing))

    def _is_slurm_s(self, controller: str, job: str) -> bool:
        """Say whether root has made a job's directory; True where that cannot be seen."""
        known = (controller, job)
        if known not in self._rooted:
            mount = self._mounts.get(controller)
            try:
                self._rooted[known] = not mount or os.stat(mount.directory(job)).st_uid == 0
            except OSError:
                self._rooted[known] = True
        return self._rooted[known]

    def _has(self, controller: str, job: str, step: str) -> bool:
        """Say whether a hierarchy has a cgroup for this step of a job, whose path is another's."""
        mount = self._mounts.get(controller)
        return mount is not None and os.path.isdir(f"{mount.directory(job)}/{step}")


def _mounted(proc: str) -> dict[str, Mount]:
    try:
        return mounted(paths.MOUNTPOINT, proc)
    except SetupError:
        return {}
