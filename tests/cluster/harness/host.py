"""A host: a set of namespaces with a root folder, a PID 1 and a place in every cgroup hierarchy."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.cluster.harness import cgroups, pam
from tests.cluster.harness.wait import PATIENCE, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHECKOUT = Path(__file__).resolve().parents[3]
INIT = Path(__file__).parents[1] / "inside/init.sh"
FRONT = "/front"  # a second root folder in a host, for what runs under another suite
CONTROLLERS = ("cpuacct", "cpuset", "devices", "freezer", "memory")  # v1's, that Slurm uses
SYSLOG = "var/log/syslog"
SYNC = "reader-of-the-log:"  # begins the lines that only wait for others
SYNC_SECONDS = 5.0
PAM = "pam.d"  # the folder of PAM stacks
SETTLED = 0.05  # seconds until a file in there is plainly older than a login

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": os.environ.get("TERM", "dumb"),
}

# Go into the host's cgroups while they can still be named, then into its namespaces.
ENTER = (
    "for file in $1; do echo $$ >$file; done; target=$2; shift 2; "
    'exec nsenter --target $target --mount --uts --ipc --net --pid --cgroup -- "$@"'
)


def as_user(user: str) -> list[str]:
    """Return the command that runs another as a user."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env"]


class HostTimeoutError(TimeoutError):
    """A command inside a host was ended because it took too long."""


@dataclass(frozen=True)
class Process:
    """A process of the machine, safe against reuse of its pid."""

    pid: int
    started: int  # clock ticks after boot: unlike the time of day it never changes

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process that has this pid now."""
        return cls(pid, int(_stat(pid)[19]))

    def alive(self) -> bool:
        """Say whether it still runs (a zombie does not)."""
        try:
            stat = _stat(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return int(stat[19]) == self.started and stat[0] not in "ZX"

    def kill(self) -> None:
        """End it and wait until it is gone."""
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        wait_for(f"process {self.pid} gone", lambda: not self.alive())


def _stat(pid: int, proc: str = "/proc") -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, parent, …, [19] start time."""
    return Path(f"{proc}/{pid}/stat").read_text().rpartition(")")[2].split()


@dataclass(frozen=True)
class Daemon:
    """How a daemon is started in the foreground and when it is ready."""

    argv: tuple[str, ...]
    user: str | None = None
    path: str | None = None  # a socket it makes
    port: int | None = None  # a TCP port it listens on


DAEMONS = {
    "syslogd": Daemon(
        ("/usr/bin/python3", "-IS", "/checkout/tests/cluster/inside/syslogd.py"), path="dev/log"
    ),
    "munged": Daemon(
        ("/usr/sbin/munged", "--foreground"), user="munge", path="run/munge/munge.socket.2"
    ),
    "slurmctld": Daemon(("/usr/sbin/slurmctld", "-D"), user="slurm", port=6817),
    "sackd": Daemon(("/usr/sbin/sackd", "-D"), user="slurm", path="run/slurm/sack.socket"),
    "slurmd": Daemon(("/usr/sbin/slurmd", "-D"), port=6818),
    "sshd": Daemon(("/usr/sbin/sshd", "-D"), port=22),
}


@dataclass
class Host:
    """One host; `start_host` makes it."""

    name: str
    init: Process  # its PID 1, as the machine sees it
    cgroup_dirs: list[Path]
    popen_of_init: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def root(self) -> Path:
        """Its root folder, as the machine's own processes reach it."""
        return Path(f"/proc/{self.init.pid}/root")

    @property
    def front(self) -> list[str]:
        """The command that runs another in the second root folder; empty if there is none."""
        return ["chroot", FRONT] if (self.root / FRONT.lstrip("/")).is_dir() else []

    # Files

    def read(self, path: str) -> str:
        """Return the text of one of its files."""
        return (self.root / path.lstrip("/")).read_text(errors="backslashreplace")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write one of its files; the directories above it are made."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        if file.parent.name == PAM:
            time.sleep(SETTLED)

    def pam(self, service: str, lines: str | Sequence[str]) -> None:
        """Write the PAM stack of a service; PAM reads it anew at each login.

        A login that begins in the same instant cannot tell which of the two it has: the module
        takes the files for changed then. So the next login begins a moment later.
        """
        text = lines if isinstance(lines, str) else "\n".join(lines)
        self.write(f"etc/pam.d/{service}", pam.by_front(text).strip("\n") + "\n")

    # Commands

    def enter(self, argv: Sequence[str], user: str | None = None) -> list[str]:
        """Return the command of this machine that runs `argv` in the host."""
        files = " ".join(str(cgroups.entry(directory)) for directory in self.cgroup_dirs)
        if user:
            argv = [*as_user(user), *argv]
        return ["sh", "-c", ENTER, "sh", files, str(self.init.pid), *argv]

    def popen(
        self,
        argv: Sequence[str],
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a command in the host; its process group ends with `end`."""
        return subprocess.Popen(
            self.enter(argv, user),
            env={**ENVIRONMENT, **(env or {})},
            text=True,
            errors="backslashreplace",
            start_new_session=True,
            **options,
        )

    def run(
        self,
        argv: Sequence[str],
        user: str | None = None,
        input: str | None = None,  # noqa: A002 - as subprocess.run names it
        timeout: float = 30,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host; return its status and output."""
        process = self.popen(
            argv,
            user,
            env,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(input, timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            end(process)
            out, err = process.communicate()
            said = f"{self.name}: {shlex.join(argv)}: not within {timeout:g} s\n{out}{err}"
            raise HostTimeoutError(said) from None
        finally:
            end(process)
        done = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check and done.returncode:
            raise RuntimeError(
                f"{self.name}: {shlex.join(argv)}: status {done.returncode}\n{out}{err}"
            )
        return done

    # Daemons

    def start(
        self, name: str, wait: bool = True, under: Sequence[str] = (), options: Sequence[str] = ()
    ) -> None:
        """Start a daemon; return when it is ready.

        `under`: a command in front of its own, such as `env`; `options`: more of them.
        """
        daemon = DAEMONS[name]
        script = 'setsid "$@" >>/var/log/$0.out 2>&1 </dev/null & echo $! >/run/$0.daemon'
        prefix = ["setpriv", f"--reuid={daemon.user}", f"--regid={daemon.user}", "--init-groups"]
        argv = [*(prefix if daemon.user else []), *under, *daemon.argv, *options]
        self.run(["sh", "-c", script, name, *argv])
        if wait:
            self.wait_ready(name)

    def wait_ready(self, name: str, timeout: float = 15) -> None:
        """Return when a started daemon serves."""
        wait_for(
            f"{self.name}: {name} ready",
            lambda: self._ready(name),
            timeout,
            lambda: self.tail(name),
        )

    def _ready(self, name: str) -> bool:
        daemon = DAEMONS[name]
        if not self.pid(name):
            raise RuntimeError(f"{self.name}: {name} ended\n{self.tail(name)}")
        if daemon.path:
            return (self.root / daemon.path).is_socket()
        return daemon.port in self.listening()

    def pid(self, name: str) -> int | None:
        """Return a daemon's pid in the host; None if it does not run."""
        try:
            pid = int(self.read(f"run/{name}.daemon"))
        except FileNotFoundError:
            return None
        return pid if self.alive(pid) else None

    def stop(self, name: str, timeout: float = 15) -> None:
        """Ask a daemon to end and wait until it has."""
        self.kill(name, signal.SIGTERM)
        wait_for(f"{self.name}: {name} ended", lambda: not self.pid(name), timeout)

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        """Send a daemon a signal."""
        if pid := self.pid(name):
            self.run(["kill", f"-{signum}", str(pid)])

    # What the kernel says

    def alive(self, pid: int) -> bool:
        """Say whether a pid of the host is a running process (a zombie is not)."""
        try:
            return _stat(pid, f"{self.root}/proc")[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def cgroups(self, pid: int) -> dict[str, str]:
        """Return a process's cgroup in each controller, as seen inside the host.

        Where there is v2 only, it has one; that stands for each of v1's, and for "".
        """
        lines = self.run(["cat", f"/proc/{pid}/cgroup"]).stdout.splitlines()
        fields = [line.split(":", 2) for line in lines]
        found = {name: path for _, names, path in fields for name in names.split(",")}
        return dict.fromkeys(CONTROLLERS, found[""]) | found if [*found] == [""] else found

    def listening(self) -> set[int]:
        """Return the TCP ports that the host listens on."""
        rows: list[list[str]] = []
        for table in ("tcp", "tcp6"):
            lines = Path(f"/proc/{self.init.pid}/net/{table}").read_text().splitlines()
            rows += [line.split() for line in lines[1:]]
        return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}

    # Logs

    def mark(self) -> int:
        """Return the present end of the syslog, to read from there later."""
        try:
            self.log()
            return (self.root / SYSLOG).stat().st_size
        except FileNotFoundError:
            return 0

    def log(self, since: int = 0) -> list[str]:
        """Return the syslog's lines after a mark: `clock facility.level tag: text`.

        All that was sent before is there: a line of our own is sent after it and waited for.
        """
        own = f"{SYNC} {uuid.uuid4()}"
        deadline = time.monotonic() + (SYNC_SECONDS if self._say(own) else 0)
        while own not in (text := self._syslog(since)) and time.monotonic() < deadline:
            time.sleep(0.005)
        return [line for line in text.splitlines() if SYNC not in line]

    def _say(self, text: str) -> bool:
        """Send syslogd a line; say whether it took it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(SYNC_SECONDS)
            try:
                sock.sendto(f"<135>Jan  1 00:00:00 {text}".encode(), str(self.root / "dev/log"))
            except OSError:
                return False
            return True

    def _syslog(self, since: int) -> str:
        with (self.root / SYSLOG).open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="backslashreplace")

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the end of a daemon's log, or of what it printed if it has none."""
        files = [self.root / SYSLOG] if name == "syslogd" else []
        files += sorted((self.root / "var/log").rglob(f"{name}.log"))
        file = (*files, self.root / f"var/log/{name}.out")[0]
        text = file.read_text(errors="backslashreplace") if file.is_file() else ""
        return "\n".join([f"--- {self.name}: {file.name}", *text.splitlines()[-lines:]])

    # The end

    def remove(self) -> None:
        """End every process of the host and remove its cgroups; mounts go with the namespaces."""
        self.init.kill()
        if self.popen_of_init:
            self.popen_of_init.wait(10)
        cgroups.remove(self.cgroup_dirs)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill what is left of a command: everything in the process group it was started with."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def start_host(
    name: str, root: Path, scratch: Path, cgroup: str, front: Path | None = None
) -> Host:
    """Make a host over a suite's root folder; `scratch` is an empty directory to mount over.

    `front`: the root folder of another suite, which the host has as FRONT.
    """
    directories = cgroups.make(cgroup)
    remount = [a for h in cgroups.hierarchies() for a in (h.name, h.fstype, h.options)]
    files = " ".join(str(directory / "cgroup.procs") for directory in directories)
    unshare = "unshare --mount --propagation private --net --uts --ipc --pid --cgroup --fork"
    process = subprocess.Popen(
        ["sh", "-c", f'for file in {files}; do echo $$ >$file; done; exec {unshare} sh "$@"', "sh",
         str(INIT), name, str(root), str(front or ""), str(scratch), str(CHECKOUT), *remount],
        env=ENVIRONMENT,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        _expect_ready(name, process)
        cgroups.settle(directories)
        (child,) = psutil.Process(process.pid).children()
        return Host(name, Process.of(child.pid), directories, process)
    except BaseException:
        end(process)
        cgroups.remove(directories)
        raise


def _expect_ready(name: str, process: subprocess.Popen[str]) -> None:
    """Wait for the line that says that the host's tree of mounts is in place."""
    assert process.stdout
    assert process.stderr
    if process.stdout.readline() != "ready\n":
        raise RuntimeError(f"{name}: no namespaces: {process.stderr.read()}")
