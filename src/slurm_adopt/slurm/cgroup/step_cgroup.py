"""The cgroups of an extern step: where they are, whether a process is in them, putting it in.

What the paths are called is in paths.py. On v1 the step's are composed; on v2, where the name of a
job may be an id that only its stepd can translate, the step is told from where its stepd is. A
process is in the step if it is in such a directory or below. Nothing is ever created here, and
nothing is moved up out of a `task_N`.
"""

from __future__ import annotations

import os

from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.proc import PROC, is_there, listing

from . import paths
from .hierarchy import UNIFIED, is_below, mounted, of_process, read_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_adopt.slurm.config.conf import Conf
    from slurm_adopt.slurm.stepd.step_sockets import StepSocket

    from .hierarchy import Mount

    # What a step may be called in one hierarchy, the first that is there counts: path, directory.
    Ways = list[tuple[str, str]]

FREEZING = ("freezer", UNIFIED)  # hierarchies in which what is in a cgroup can be stopped
CONSTRAINTS = {  # controller -> keys of cgroup.conf that make task/cgroup use it
    "cpuset": ("ConstrainCores",),
    "memory": ("ConstrainRAMSpace", "ConstrainSwapSpace"),
    "devices": ("ConstrainDevices",),
}


def confining(conf: Conf, cgroup_conf: Conf) -> frozenset[str]:
    """Return the controllers by which this configuration confines jobs.

    Memory only where it is a consumable resource: without that 23.02 and later leave it alone.
    Source: slurm.conf(5), cgroup.conf(5).
    """
    found = set()
    if tracks_by_cgroup(conf):
        found.add("freezer")
    if {"task/cgroup", "cgroup"} & set(conf.words("TaskPlugin")):  # Slurm adds the prefix itself
        found.update(name for name, keys in CONSTRAINTS.items() if any(map(cgroup_conf.yes, keys)))
        if "memory" not in conf.get("SelectTypeParameters").lower():
            found.discard("memory")
    if conf.get("JobAcctGatherType").lower() == "jobacct_gather/cgroup":
        found.update(("memory", "cpuacct"))
    return frozenset(found)


def tracks_by_cgroup(conf: Conf) -> bool:
    """Return whether a job's processes are found, and killed at its end, by their cgroup."""
    return conf.get("ProctrackType", "proctrack/cgroup").lower() == "proctrack/cgroup"


class Layout:
    """Where the extern steps of this node are; `V1` and `V2` fill in the differences."""

    def __init__(self, controllers: frozenset[str], mounts: dict[str, Mount], proc: str) -> None:
        """Take `controllers` as returned by confining(), and `mounts` by controller."""
        self.controllers = controllers
        self.mounts = mounts
        self.proc = proc

    def missing(
        self, pid: int, step: StepSocket, uid: int, kept: dict[str, str] | None = None
    ) -> dict[str, str | None]:
        """Return the hierarchies, by controller, in which the process is not in the step.

        The value is the cgroup to write it into; None if the step has none there. `kept`: where it
        has been before, by controller; that counts if it is a cgroup of the step.
        """
        raise NotImplementedError

    def unmounted(self) -> list[str]:
        """Return the controllers that the configuration confines by, and that cannot be seen."""
        return []

    def _again(self, controller: str, top: str, kept: dict[str, str] | None) -> str | None:
        """Return the cgroup at or below `top` where the process has been before, if it is there."""
        path = (kept or {}).get(controller, "")
        inside = is_below(path, top) and ".." not in path.split("/")
        there = inside and os.path.isdir(self.mounts[controller].directory(path))
        return path if there else None

    def owner(self, step: StepSocket) -> int | None:
        """Return whose job this is by what root has made or placed; None if that does not show."""
        uids = self.uids(step)
        return uids.pop() if len(uids) == 1 else None

    def uids(self, step: StepSocket) -> set[int]:
        """Return who the job's user may be by that; none if it does not show."""
        raise NotImplementedError

    def obstacle(self, step: StepSocket, uid: int, present: dict[str, str] | None = None) -> str:
        """Say why nothing may be put into the step now, or stay there; "" if all is well.

        `present`: the cgroups of a process that is there; None: of one that is to be put there.

        A cgroup of it is frozen or about to be, itself or by one above, so that whatever is put
        there stops. Or it is not root's: who owns its cgroup.procs has made it, and sets its limits
        (Documentation/admin-guide/cgroup-v1/cgroups.rst; Slurm gives users directories of its own
        making in some releases, 22.05 for one, but never the files in them).
        """
        for controller, top in self.tops_of(step, uid):
            mount = self.mounts[controller]
            for path in self._places(mount, controller, top, present):
                directory = mount.directory(path)
                if controller in FREEZING and (why := self._frozen(controller, path)):
                    return (
                        f"{directory} is {why}: the job is suspended; its user resumes it with "
                        f"scancel -s CONT {step.job_id}, root with scontrol resume {step.job_id}"
                    )
                if owner := _uid_of(f"{directory}/cgroup.procs"):
                    return f"{directory} is a cgroup that uid {owner} has made"
        return ""

    def frozen(self, present: dict[str, str]) -> str:
        """Say which cgroup of a process in these is frozen or about to be; "" for none."""
        for controller, path in present.items():
            if controller in self.mounts and (why := self._frozen(controller, path)):
                return f"{self.mounts[controller].directory(path)} is {why}"
        return ""

    def tops_of(self, step: StepSocket, uid: int) -> list[tuple[str, str]]:
        """Return the cgroups that hold the step's processes, each with its controller.

        Those that there are: the configuration may ask for more (missing).
        """
        raise NotImplementedError

    def _frozen(self, controller: str, path: str) -> str:
        """Say `frozen` or the like if what is in a cgroup is stopped, or about to be."""
        raise NotImplementedError

    def _places(
        self, mount: Mount, controller: str, top: str, present: dict[str, str] | None
    ) -> list[str]:
        """Return the cgroups from `top` down to where processes are put, or where one is."""
        if present is None:
            names = listing(mount.directory(top))
            return [top, *[f"{top}/{n}" for n in names if n[:5] == "task_" and paths.is_task(n)]]
        path = present.get(controller, "")
        if path == top:
            return [top]
        if not is_below(path, top):
            return []
        names = path[len(top) :].split("/")
        return [top + "/".join(names[:depth]) for depth in range(1, len(names) + 1)]

    def restore(self, pid: int, before: dict[str, str]) -> list[str]:
        """Write a process back to where it was; return what could not be done, and why."""
        remarks = []
        try:
            present = of_process(pid, self.proc)
        except SetupError:  # it has ended
            return []
        for controller, path in before.items():
            if present.get(controller) != path and controller in self.mounts:
                try:
                    self.enter(pid, controller, path)
                except PeerError as error:
                    remarks.append(str(error))
        return remarks

    def follow_leader(self, step: StepSocket, uid: int, pids: list[int]) -> None:
        """Note whose job id a heterogeneous job's component has its cgroups under, if not its own.

        `pids`: the processes that its stepd finds in its step.
        """

    def enter(self, pid: int, controller: str, path: str) -> None:
        """Write the process into an existing cgroup; PeerError if the kernel refuses."""
        procs = self.mounts[controller].directory(path) + "/cgroup.procs"
        try:
            fd = os.open(procs, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, b"%d" % pid)
            finally:
                os.close(fd)
        except OSError as error:
            raise PeerError(f"cannot write process {pid} into {procs}: {error.strerror}") from None


class V1(Layout):
    """One hierarchy for each controller."""

    def __init__(
        self, controllers: frozenset[str], mounts: dict[str, Mount], node: str, proc: str = PROC
    ) -> None:
        """Take the NodeName: builds for several slurmd a host have it in the top directory."""
        super().__init__(controllers, mounts, proc)
        self._tops = paths.tops(node)
        self._composed: tuple[tuple[int, int], dict[str, Ways]] = (-1, -1), {}

    def missing(
        self, pid: int, step: StepSocket, uid: int, kept: dict[str, str] | None = None
    ) -> dict[str, str | None]:
        """Look at configured hierarchies, and at all others in which the step has a cgroup."""
        present = of_process(pid, self.proc)
        outside: dict[str, str | None] = {}
        for controller in sorted(self.controllers | present.keys()):
            path = self._step(controller, step, uid)
            if path is None and controller not in self.controllers:
                continue
            if path is None or not is_below(present.get(controller, ""), path):
                outside[controller] = path and (self._again(controller, path, kept) or path)
        return outside

    def unmounted(self) -> list[str]:
        """Return those that are not mounted here."""
        return sorted(self.controllers - self.mounts.keys())

    def follow_leader(self, step: StepSocket, uid: int, pids: list[int]) -> None:
        """Take the one job of this uid in whose extern step all those processes are.

        19.05 and 20.02 give the components of a heterogeneous job cgroups under the leader's id.
        """
        if any(self._step(controller, step, uid) for controller in self.mounts):
            return
        found = {job for pid in pids for job in self._jobs_of(pid, uid)}
        if len(found) == 1:
            step.cgroup_job = found.pop()

    def _jobs_of(self, pid: int, uid: int) -> set[int]:
        """Return the jobs of a uid in whose extern steps a process is, by any hierarchy."""
        found: set[int] = set()
        try:
            cgroups = of_process(pid, self.proc)
        except SetupError:  # it has ended
            return set()
        for controller, path in cgroups.items():
            root = self.mounts[controller].root if controller in self.mounts else ""
            place = paths.parse_v1(path, root)
            ours = place and (place.above, place.uid) == (root, uid) and place.top in self._tops
            if place and ours and place.job_id is not None:
                found.add(place.job_id)
        return found

    def _step(self, controller: str, step: StepSocket, uid: int) -> str | None:
        return _first_of(self._ways(step, uid).get(controller, ()))

    def _ways(self, step: StepSocket, uid: int) -> dict[str, Ways]:
        """Return by controller what a step's cgroup may be called, and its directory then."""
        whose = uid, step.cgroup_job
        if self._composed[0] != whose:
            below = [paths.v1_step("", top, *whose) for top in self._tops]
            self._composed = (
                whose,
                {
                    name: [(mount.root + path, mount.point + path) for path in below]
                    for name, mount in sorted(self.mounts.items())
                },
            )
        return self._composed[1]

    def tops_of(self, step: StepSocket, uid: int) -> list[tuple[str, str]]:
        """Return the step's cgroup in each hierarchy that has one."""
        return [
            (name, path)
            for name, ways in self._ways(step, uid).items()
            if (path := _first_of(ways)) is not None
        ]

    def _frozen(self, controller: str, path: str) -> str:
        """Read freezer.state: FREEZING and FROZEN are also those that a cgroup above makes so."""
        if controller != "freezer":
            return ""
        words = read_words(f"{self.mounts[controller].directory(path)}/freezer.state")
        return "" if words in ([], ["THAWED"]) else words[0].lower()

    def uids(self, step: StepSocket) -> set[int]:
        """Read the uid off the directory's name, in the first hierarchy that shows it."""
        controllers = ("freezer", *sorted(self.controllers - {"freezer"}))
        for mount in (self.mounts[name] for name in controllers if name in self.mounts):
            for top in self._tops:
                for uid in _uids_below(mount, top):
                    if os.path.isdir(
                        mount.directory(paths.v1_step(mount.root, top, uid, step.job_id))
                    ):
                        return {uid}
        return set()


class V2(Layout):
    """The unified hierarchy."""

    def missing(
        self, pid: int, step: StepSocket, uid: int, kept: dict[str, str] | None = None
    ) -> dict[str, str | None]:
        """Look at the one hierarchy; the uid is not in its paths, so the stepd's word counts."""
        del uid
        path = self._step(step)
        if path is None:
            return {UNIFIED: None}
        user = paths.user(path)
        if is_below(of_process(pid, self.proc).get(UNIFIED, ""), user):
            return {}
        return {UNIFIED: self._again(UNIFIED, user, kept) or self._leaf(user)}

    def _step(self, step: StepSocket) -> str | None:
        """Return the extern step's cgroup: the one whose `slurm` child its stepd is in.

        Never one that carries another job's id: a pid may have been given to another process.
        """
        try:
            path = of_process(step.pid, self.proc).get(UNIFIED, "") if step.pid else ""
        except SetupError:  # it has just ended
            return None
        place = paths.parse_stepd(path)
        return place.step if place and place.may_be_of(step.job_id) else None

    def _leaf(self, user: str) -> str | None:
        """Return the cgroup for processes: an existing task_N, else task_special, else None."""
        names = sorted(
            name for name in listing(self.mounts[UNIFIED].directory(user)) if paths.is_task(name)
        )
        return f"{user}/{names[0]}" if names else None

    def tops_of(self, step: StepSocket, uid: int) -> list[tuple[str, str]]:
        """Return the cgroup beside the stepd's own."""
        del uid
        path = self._step(step)
        return [(UNIFIED, paths.user(path))] if path else []

    def _frozen(self, controller: str, path: str) -> str:
        """Read cgroup.freeze up to the mount point: what is to be frozen need not be so yet."""
        mount = self.mounts[controller]
        while controller == UNIFIED and path != mount.root and is_below(path, mount.root):
            if read_words(f"{mount.directory(path)}/cgroup.freeze") == ["1"]:
                return "frozen"
            path = path.rpartition("/")[0]
        return ""

    def uids(self, step: StepSocket) -> set[int]:
        """Take them from the processes that Slurm has put into the job's steps.

        Root's do not count; where one has changed its uid there is more than one.
        """
        extern = self._step(step)
        job = self.mounts[UNIFIED].directory(os.path.dirname(extern)) if extern else ""
        users = [paths.user(f"{job}/{name}") for name in listing(job)] if job else []
        procs = [f"{user}/{task}/cgroup.procs" for user in users for task in listing(user)]
        pids = [pid for path in procs for pid in read_words(path)]
        return {_uid_of(f"{self.proc}/{pid}") for pid in pids} - {0}


def layout(conf: Conf, cgroup_conf: Conf, node: str, proc: str = PROC) -> Layout | None:
    """Return the layout in use; None if the configuration confines nothing by cgroups."""
    controllers = confining(conf, cgroup_conf)
    plugin = cgroup_conf.get("CgroupPlugin", "autodetect").lower()
    if not controllers or plugin == "disabled":
        return None
    mountpoint = paths.mountpoint(cgroup_conf)
    mounts = mounted(mountpoint, proc)
    unified = mounts.get(UNIFIED)
    if plugin == "cgroup/v2" or (plugin != "cgroup/v1" and unified and unified.point == mountpoint):
        if unified is None:
            raise SetupError(f"cgroup.conf says {plugin}, but no cgroup v2 hierarchy is mounted")
        return V2(controllers, mounts, proc)
    return V1(controllers, mounts, node, proc)


def _first_of(ways: Iterable[tuple[str, str]]) -> str | None:
    """Return the first cgroup that is there of those that a step's may be."""
    for path, directory in ways:
        if is_there(directory):
            return path
    return None


def _uids_below(mount: Mount, top: str) -> list[int]:
    """Return the users who have jobs in one hierarchy of v1."""
    names = listing(mount.directory(f"{mount.root}/{top}"))
    return [uid for uid in map(paths.uid_of, names) if uid is not None]


def _uid_of(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError:
        return 0
