"""The machine's cgroup hierarchies, and a sub-cgroup in each for every host.

Where there is v2 only, a cgroup with processes can hand no controller to its children. So a host's
processes are in the child `init.scope` of its own cgroup, which is the root of its cgroup namespace
and in which its Slurm makes what it needs. The hosts' cgroups are in a scope that systemd has
delegated, in a slice of its own: nothing is switched on or off for the machine's own services.
At its end a stepd of 22.05 wants to move to the root cgroup, which the kernel allows in the real
root only: there the empty cgroups of ended jobs stay until the cluster goes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.wait import wait_for

MOUNT = Path("/sys/fs/cgroup")
SLICE = "slurm_adopt.slice"
LEAF = "init.scope"  # slurmd looks beside the cgroup of PID 1 for where to put its own
CONFINING = ("freezer", "cpuset", "devices", "memory")  # v1's controllers that Slurm confines by
FREEZERS = {"freezer.state": "THAWED", "cgroup.freeze": "0"}  # v1's and v2's: what thaws
MOST = {"cpu.shares": "262144", "cpu.weight": "10000"}  # v1's and v2's: what the kernel takes
CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")  # empty in a new v1 cgroup: nothing could run there


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup hierarchy and where this process is in it."""

    name: str  # of the directory under /sys/fs/cgroup: memory, systemd, unified; "." for itself
    fstype: str  # cgroup (v1) or cgroup2
    options: str  # that mount the same hierarchy again: memory; none,name=systemd
    here: Path  # directory of this process's own cgroup


def hierarchies() -> list[Hierarchy]:
    """Return every hierarchy mounted below /sys/fs/cgroup, with this process's place in it."""
    own = dict(line.split(":", 2)[1:] for line in _lines("/proc/self/cgroup"))
    found = []
    for line in _lines("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        root, mountpoint = before.split()[3:5]
        fstype, _, super_options = after.split()
        if fstype == "cgroup2":
            key, options = "", "rw"
        elif fstype == "cgroup":
            key = _controllers(super_options)
            options = f"none,{key}" if key.startswith("name=") else key
        else:
            continue
        if mountpoint.startswith("/sys/fs/cgroup") and key in own:
            here = Path(mountpoint) / own[key].removeprefix(root).lstrip("/")
            name = str(Path(mountpoint).relative_to(MOUNT))
            found.append(Hierarchy(name, fstype, options, here))
    return found


def unified() -> bool:
    """Say whether the machine has cgroup v2 and nothing else."""
    return {hierarchy.fstype for hierarchy in hierarchies()} == {"cgroup2"}


def of_job(node: str, uid: int, job: int) -> str:
    """Return a job's cgroup, as seen inside the node."""
    if unified():
        return f"/system.slice/{node}_slurmstepd.scope/job_{job}"
    return f"/slurm_{node}/uid_{uid}/job_{job}"


def of_extern_step(node: str, uid: int, job: int) -> str:
    """Return the cgroup that all processes of a job's extern step are in or below."""
    return of_job(node, uid, job) + "/step_extern" + ("/user" if unified() else "")


def adopted(node: str, uid: int, job: int, jobacct: str) -> dict[str, str]:
    """Return where an adopted process is, by v1's controllers, with this JobAcctGatherType."""
    step, counted = of_extern_step(node, uid, job), jobacct == "jobacct_gather/cgroup"
    if unified():
        return dict.fromkeys(CONFINING, step + ("/task_0" if counted else "/task_special"))
    return dict.fromkeys(CONFINING, step) | {"memory": step + ("/task_0" if counted else "")}


def folder(controller: str, path: str) -> str:
    """Return the directory of a cgroup, as seen inside a node and without the leading slash."""
    return f"sys/fs/cgroup{'' if unified() else '/' + controller}{path}"


def make(name: str) -> list[Path]:
    """Make the sub-cgroup `name` (a relative path) in every hierarchy; return the directories."""
    if unified():
        return [_make_unified(*name.split("/"))]
    directories = []
    for hierarchy in hierarchies():
        directory = hierarchy.here
        for part in name.split("/"):
            directory /= part
            directory.mkdir(exist_ok=True)
            _copy_cpuset(directory)
        directories.append(directory)
    return directories


def places(name: str) -> list[Path]:
    """Return the directories that `make` would make for a name without a slash."""
    return [_scope(name)] if unified() else [h.here / name for h in hierarchies()]


def favour(directories: list[Path]) -> None:
    """Have what runs in these cgroups nearly all of the cores where others want them, too."""
    for directory in directories:
        for name, most in MOST.items():
            if (directory / name).exists():
                (directory / name).write_text(most)


def settle(directories: list[Path]) -> None:
    """Make hosts' cgroups, once their first processes have it as their root, what systemd would.

    slurmd makes its scope in the slice `system.slice`, but not that.
    """
    if unified():
        for directory in directories:
            leaf = directory / LEAF
            leaf.mkdir()
            while pids := (directory / "cgroup.procs").read_text().split():  # they may just fork
                for pid in pids:
                    (leaf / "cgroup.procs").write_text(pid)
            (directory / "system.slice").mkdir()
            _hand_down(directory)
            _hand_down(directory / "system.slice")


def entry(directory: Path) -> Path:
    """Return the file through which a process enters a host's cgroup."""
    leaf = directory / LEAF
    return (leaf if leaf.is_dir() else directory) / "cgroup.procs"


def thaw(directories: list[Path]) -> None:
    """Let what is frozen below cgroups run: it could not be ended."""
    for directory in directories:
        for path, _, _ in os.walk(directory):
            for name, word in FREEZERS.items():
                with contextlib.suppress(OSError):  # it may go, or be the root of v2
                    file = Path(path, name)
                    if file.exists():
                        file.write_text(word)


def remove(directories: list[Path], timeout: float = 10) -> None:
    """Kill what is left in cgroups, and remove them with everything below."""
    for pid in {pid for directory in directories for pid in _processes(directory)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + timeout
    for directory in directories:
        if directory.parent == MOUNT / SLICE:  # systemd removes it, or would think it still there
            _systemctl("stop", directory.name)
        while directory.is_dir() and not _rmdir_tree(directory):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{directory} still has processes: {_processes(directory)}")
            time.sleep(0.02)
    _stop_slice()


def _make_unified(top: str, *below: str) -> Path:
    """Make the cgroup in a scope `top`; the scope, too, if it is not there."""
    directory = _scope(top)
    if not directory.is_dir():
        if _has_systemd():
            _start_scope(top)
        else:
            directory.mkdir()
        _hand_down(directory)
    for part in below:
        directory /= part
        directory.mkdir(exist_ok=True)
    return directory


def _scope(name: str) -> Path:
    return MOUNT / SLICE / f"{name}.scope" if _has_systemd() else MOUNT / name


def _has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _start_scope(name: str) -> None:
    """Have systemd make a scope; it lasts as long as it has a process, so it gets one."""
    unit = [f"--unit={name}", f"--slice={SLICE}", "--collect", "--quiet"]
    properties = ["--property=Delegate=yes", "--property=TasksMax=infinity"]
    keeper = f"""
        cgroup={MOUNT}/$(sed s/^0::.// /proc/self/cgroup)
        mkdir $cgroup/{LEAF}
        echo $$ >$cgroup/{LEAF}/cgroup.procs
        setsid sleep infinity >/dev/null 2>&1 </dev/null &
    """
    command = ["systemd-run", "--scope", *unit, *properties, "sh", "-ec", keeper]

    def started() -> bool:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode and "was already loaded" not in done.stderr:
            raise RuntimeError(f"systemd makes no scope {name}: {done.stderr}")
        return done.returncode == 0

    # One of that name that has just ended stays loaded for a moment.
    wait_for(f"systemd makes a scope {name}", started, every=0.1)


def _systemctl(*words: str) -> None:
    """Have systemd do something, if it has to."""
    subprocess.run(["systemctl", "--quiet", *words], check=False, capture_output=True)


def _stop_slice() -> None:
    """Have systemd forget the slice of the scopes when the last of them is gone."""
    directory = MOUNT / SLICE
    if directory.is_dir() and not any(path.is_dir() for path in directory.iterdir()):
        _systemctl("stop", SLICE)


def _hand_down(directory: Path) -> None:
    """Enable for the children of a v2 cgroup every controller that it has itself."""
    names = (directory / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in names)
    (directory / "cgroup.subtree_control").write_text(wanted)


def _controllers(super_options: str) -> str:
    """Return a v1 hierarchy's controllers as /proc/self/cgroup names them."""
    known = {line.split()[0] for line in _lines("/proc/cgroups")}
    options = super_options.split(",")
    return ",".join(o for o in options if o in known or o.startswith("name="))


def _copy_cpuset(directory: Path) -> None:
    """Give a new v1 cpuset what its parent has."""
    for name in CPUSET_FILES:
        file = directory / name
        if file.exists() and not file.read_text().strip():
            file.write_text((directory.parent / name).read_text())


def _rmdir_tree(directory: Path) -> bool:
    """Remove a cgroup bottom up; False while something in it is busy."""
    try:
        for path, _, _ in os.walk(directory, topdown=False):
            os.rmdir(path)
    except FileNotFoundError:
        pass  # somebody else's release agent was quicker
    except OSError:
        return False
    return True


def _processes(directory: Path) -> list[int]:
    """Return the pids anywhere below a cgroup."""
    found: list[int] = []
    for path, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):  # it may go while we look
            found += map(int, Path(path, "cgroup.procs").read_text().split())
    return found


def _lines(path: str) -> list[str]:
    """Return the lines of a file of /proc."""
    return Path(path).read_text().splitlines()
