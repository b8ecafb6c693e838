"""The cluster: a controller, two compute nodes and a login node, with real daemons."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.cluster.harness import cgroups, config, landing, network, setup
from tests.cluster.harness.config import Settings
from tests.cluster.harness.host import (
    DAEMONS,
    Daemon,
    Host,
    HostTimeoutError,
    Process,
    end,
    start_host,
)
from tests.cluster.harness.login import Result, Session, ssh
from tests.cluster.harness.root import cache_dir, locked, suite_root
from tests.cluster.harness.state import State, clusters, sweep
from tests.cluster.harness.suites import BOOKWORM, Suite
from tests.cluster.harness.wait import PATIENCE, wait_for

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

BATCH, EXTERN = 0xFFFFFFFB, 0xFFFFFFFC  # step numbers in the names of the stepds' sockets

DAEMONS_OF = {
    "ctl": ("syslogd", "munged", "slurmctld"),
    "n1": ("syslogd", "munged", "slurmd", "sshd"),
    "n2": ("syslogd", "munged", "slurmd", "sshd"),
    "login": ("syslogd", "munged", "sshd"),
}

Report = Callable[[str], None]


@dataclass(frozen=True)
class Roots:
    """The suites of a host: Slurm's, and sshd's with our module if that is another."""

    slurm: Suite = BOOKWORM
    sshd: Suite | None = None


class Cluster:
    """A running cluster; `with Cluster(…) as cluster:` brings it up and takes it down."""

    def __init__(
        self,
        name: str,
        settings: Settings | None = None,
        report: Report = lambda _: None,
        roots: Mapping[str, Roots] | None = None,
    ) -> None:
        """Describe a cluster; nothing happens before `up`.

        `roots`: by host, for those that are not bookworm's.
        """
        self.state = State(name)
        self.settings = settings or Settings()
        self.report = report
        self.roots = {name: Roots() for name in DAEMONS_OF} | dict(roots or {})
        self._pid = os.getpid()
        self._switch: subprocess.Popen[str] | None = None

    # Up and down

    def __enter__(self) -> Cluster:
        """Bring it up."""
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take it down, unless it shall be kept."""
        if not self.state.keep or kind:
            self.down()

    def up(self) -> None:
        """Bring it up; what was begun is removed when something fails."""
        wanted = {s for roots in self.roots.values() for s in (roots.slurm, roots.sshd) if s}
        built = {suite: suite_root(suite, self.report) for suite in wanted}
        with locked(cache_dir() / "sweep.lock"):  # several may start at the same time
            sweep()
        _refuse_second(self.state.name)
        try:
            self._make_hosts(built)
            self._configure()
            self._start()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End everything and remove it."""
        if os.getpid() != self._pid:
            return  # pyroute2 forks: a signal or an error there unwinds to here a second time
        self.state.remove()
        if self._switch:
            self._switch.wait(10)

    @classmethod
    def attach(cls, name: str) -> Cluster:
        """Return a cluster that another process left up."""
        cluster = cls(name)
        cluster.state = State.load(name)
        return cluster

    def _make_hosts(self, built: Mapping[Suite, Path]) -> None:
        """Make namespaces and network; each thing is in the state as soon as it exists."""
        self.report("four hosts and a switch in namespaces")
        state = self.state
        cgroup = f"slurm_adopt-{state.name}"
        state.cgroup_dirs = cgroups.places(cgroup)
        state.save()
        cgroups.make(cgroup)
        self._switch = network.start_switch()
        state.switch = Process.of(self._switch.pid)
        state.save()
        for name in DAEMONS_OF:
            roots = self.roots[name]
            front = built[roots.sshd] if roots.sshd else None
            state.hosts[name] = start_host(
                name, built[roots.slurm], state.directory, f"{cgroup}/{name}", front
            )
            state.save()
        network.connect(state.switch, {h.name: h.init for h in state.hosts.values()})

    def _configure(self) -> None:
        """Write users, keys and configuration; install the module on the nodes."""
        self.report("users, keys, configuration")
        hosts = list(self.hosts.values())
        setup.write_accounts(hosts)
        _each(setup.write_files, hosts)
        self._write_slurm()
        _each(setup.install_module, self.nodes)

    def _write_slurm(self) -> None:
        releases = [(host, self.roots[host.name].slurm.slurm) for host in self.hosts.values()]
        setup.write_slurm(releases, self.settings)

    def _start(self) -> None:
        """Start every daemon and wait until both nodes can take jobs."""
        self.report("munged, slurmctld, slurmd, sshd")
        _each(self._start_daemons, list(self.hosts.values()))
        self.wait_idle()

    def _start_daemons(self, host: Host) -> None:
        for daemon in self._daemons_of(host):
            under = host.front if daemon == "sshd" else ()
            host.start(daemon, wait=daemon in ("syslogd", "munged"), under=under)
        for daemon in self._daemons_of(host):
            host.wait_ready(daemon)

    def _daemons_of(self, host: Host) -> tuple[str, ...]:
        """Return what runs on a host."""
        sackd = ["sackd"] if host.name in self.settings.sackd else []
        return (*DAEMONS_OF[host.name], *sackd)

    # Hosts

    @property
    def hosts(self) -> dict[str, Host]:
        """All hosts by name."""
        return self.state.hosts

    @property
    def ctl(self) -> Host:
        """The controller."""
        return self.hosts["ctl"]

    @property
    def n1(self) -> Host:
        """The first compute node."""
        return self.hosts["n1"]

    @property
    def n2(self) -> Host:
        """The second compute node."""
        return self.hosts["n2"]

    @property
    def login(self) -> Host:
        """The login node."""
        return self.hosts["login"]

    @property
    def nodes(self) -> list[Host]:
        """The compute nodes."""
        return [self.hosts[name] for name in config.NODES]

    def tails(self, lines: int = 15) -> str:
        """Return the ends of all logs."""
        return "\n".join(h.tail(d, lines) for h in self.hosts.values() for d in self._daemons_of(h))

    def pam(self, lines: Sequence[str]) -> None:
        """Write sshd's PAM stack on both nodes."""
        for node in self.nodes:
            node.pam("sshd", lines)

    # Slurm

    def wait_idle(self) -> None:
        """Return when both nodes can take jobs."""

        def usable() -> bool:
            states = self.ctl.run(["sinfo", "-hN", "-o", "%T"], check=False).stdout.split()
            return len(states) == len(self.settings.nodes) and set(states) <= {"idle", "mixed"}

        def details() -> str:
            shown = self.ctl.run(["scontrol", "-o", "show", "node"], check=False).stdout
            return f"{shown}\n{self.tails()}"

        wait_for("both nodes idle in sinfo", usable, 40, details, every=0.05)

    def reconfigure(self, settings: Settings) -> None:
        """Restart Slurm's daemons with other settings; running jobs are cancelled first."""
        if settings == self.settings:
            return
        self.cancel_all()
        for host, daemon in self._slurm_daemons():
            host.stop(daemon)
        self.settings = settings
        self._write_slurm()
        options = ["--conf-server", "ctl"] if settings.configless else []
        for host, daemon in self._slurm_daemons():
            of_node = host.name in config.NODES
            host.start(daemon, wait=False, options=options if of_node else ())
        for host, daemon in self._slurm_daemons():
            host.wait_ready(daemon)
        self.wait_idle()

    def _slurm_daemons(self) -> list[tuple[Host, str]]:
        nodes = [(self.hosts[host], self._slurmd(node)) for node, host in self.settings.nodes]
        sackds = [(self.hosts[host], "sackd") for host in self.settings.sackd]
        return [(self.ctl, "slurmctld"), *nodes, *sackds]

    def _slurmd(self, node: str) -> str:
        """Return the name of a node's daemon: its own if it has a port of its own."""
        port = dict(self.settings.ports).get(node)
        if port is None:
            return "slurmd"
        name = f"slurmd-{node}"
        DAEMONS[name] = Daemon(("/usr/sbin/slurmd", "-D", "-N", node), port=port)
        return name

    # Jobs

    def submit(
        self,
        user: str,
        nodes: str = "n1",
        script: str | None = None,
        *,
        mem: str | None = None,
        gres: str | None = None,
        cpus: int = 1,
        name: str = "job",
        options: Sequence[str] = (),
        under: Sequence[str] = (),
    ) -> int:
        """Start a job; return its id when its steps are there on all its nodes.

        `under`: a command in front of salloc, such as `env`.

        Without a script it is an allocation (salloc), which starts and ends at once: slurmctld
        starts batch jobs from a loop of one second, and a batch step takes a second to end.
        """
        names = nodes.split(",")
        wanted = [f"--nodes={len(names)}", f"--nodelist={nodes}", f"--cpus-per-task={cpus}",
                  *([f"--mem={mem}"] if mem else []), *([f"--gres={gres}"] if gres else []),
                  f"--job-name={name}", "--chdir=/tmp", *options]  # fmt: skip
        if script is None:
            job = self._salloc(user, wanted, under)
        else:
            job = self._sbatch(user, wanted, script)
        self.wait_running(job, names, batch=script is not None)
        return job

    def _sbatch(self, user: str, options: list[str], script: str) -> int:
        argv = ["sbatch", "--parsable", "--output=/dev/null", *options]
        return int(self.login.run(argv, user, input=f"#!/bin/sh\n{script}\n").stdout)

    def _salloc(
        self, user: str, options: list[str], under: Sequence[str], timeout: float = 20
    ) -> int:
        """Allocate; salloc would then sleep until it asks again whether the nodes are ready."""
        argv = [*under, "salloc", "--no-shell", *options]
        salloc = self.login.popen(argv, user, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        watch = threading.Timer(timeout * PATIENCE, end, [salloc])
        watch.start()
        said = []
        try:
            for line in salloc.stderr or ():
                said.append(line)
                if line.startswith("salloc: Granted job allocation"):
                    return int(line.split()[-1])
        finally:
            watch.cancel()
            end(salloc)
        raise RuntimeError(f"{argv}: {''.join(said)}{self.squeue()}{self.tails()}")

    def wait_running(
        self, job: int, nodes: Sequence[str], *, batch: bool = True, timeout: float = 20
    ) -> None:
        """Return when the job's prolog is done on all nodes and its script was launched."""
        wanted = [self.socket(node, job) for node in nodes]
        if batch:  # its step comes after the prolog, so after the extern step
            wanted.append(self.socket(min(nodes), job, BATCH))
        wait_for(
            f"job {job} running on {','.join(nodes)}",
            lambda: all(path.is_socket() for path in wanted) and self.job_state(job) == "RUNNING",
            timeout,
            lambda: self.squeue() + self.tails(),
        )

    def job_state(self, job: int) -> str:
        """Return a job's state; it is CONFIGURING until its extern steps are started.

        With the first of a job array or of a heterogeneous job squeue shows the others as well.
        """
        said = self.ctl.run(["squeue", "-hrj", str(job), "-o", "%T"], check=False).stdout
        return " ".join(sorted(set(said.split())))

    def socket(self, node: str, job: int, step: int = EXTERN) -> Path:
        """Return the path of a stepd's socket, as this machine reaches it."""
        host = self.hosts[dict(self.settings.nodes)[node]]
        spool = self.settings.spool.replace("%n", node).lstrip("/")
        return host.root / spool / f"{node}_{job}.{step}"

    def has_stepd(self, job: int) -> bool:
        """Say whether the socket of a job's extern stepd on n1 is there."""
        return self.socket("n1", job).exists()

    def cpuset(self, job: int) -> str:
        """Return the path of the file in n1 that has the CPUs of a job of alice's."""
        name = "cpuset.cpus.effective" if cgroups.unified() else "cpuset.cpus"
        of_job = cgroups.of_job("n1", config.USERS["alice"], job)
        return f"{cgroups.folder('cpuset', of_job)}/{name}"

    def job_of(self, cgroup: str) -> int | None:
        """Return the job whose extern step on n1 a /proc/PID/cgroup shows."""
        return landing.job_of(self.n1, cgroup)

    def squeue(self) -> str:
        """Return what squeue says, with the reason for pending jobs."""
        return self.ctl.run(["squeue", "-o", "%i %u %T %R"], check=False).stdout

    def cancel(self, *jobs: int) -> None:
        """Ask for the end of jobs."""
        if jobs:
            self.ctl.run(["scancel", *map(str, jobs)])

    def wait_gone(self, job: int, timeout: float = 20) -> None:
        """Return when the job has left the queue and its stepds have ended."""

        def gone() -> bool:
            spools = [n.root / "var/spool" for n in self.nodes]
            sockets = [s for spool in spools for s in spool.glob(f"slurmd*/*_{job}.*")]
            return not any(map(_serves, sockets)) and str(job) not in self._queued()

        details = lambda: self.squeue() + self.tails()  # noqa: E731
        wait_for(f"job {job} gone", gone, timeout, details)

    def _queued(self) -> list[str]:
        return self.ctl.run(["squeue", "-h", "-o", "%A"]).stdout.split()

    def cancel_all(self) -> None:
        """End every job and wait until nothing of any is left on the nodes."""
        jobs = [int(job) for job in self._queued()]
        self.cancel(*jobs)
        for job in jobs:
            self.wait_gone(job)

    def end_left_over(self) -> None:
        """End what jobs have left in their cgroups, such as those whose stepd a test has killed."""
        found = "find /sys/fs/cgroup -path '*/job_*' -name cgroup.procs -exec cat {} +"
        script = f"{found} | grep -xv 0 | xargs -r kill -KILL"
        for node in self.nodes:
            node.run(["sh", "-c", script], check=False)

    def in_job(
        self,
        job: int,
        user: str,
        node: str,
        argv: Sequence[str],
        timeout: float = 30,
        check: bool = True,
    ) -> Result:
        """Run a command as a step of the job on one of its nodes."""
        srun = ["srun", f"--jobid={job}", "--overlap", f"--nodelist={node}", "-N1", "-n1", *argv]
        started = time.monotonic()
        done = self.login.run(srun, user, timeout=timeout, check=check)
        seconds = time.monotonic() - started
        return Result(done.returncode, done.stdout, done.stderr, seconds)

    # Logins

    def ssh(self, user: str, target: str = "n1", command: str = "true", **how: Any) -> Result:
        """Log in by ssh, from the login node if nothing else is said; see `login.ssh`."""
        source = self.hosts[how.pop("source", "login")]
        return ssh(source, target, user, command, **how)

    def session(self, user: str, target: str = "n1", **how: Any) -> Session:
        """Open a long login with a shell that takes commands; see `login.Session`."""
        source = self.hosts[how.pop("source", "login")]
        return Session(source, self.hosts[target.removesuffix("-6")], user, target=target, **how)


def _serves(path: Path) -> bool:
    """Say whether a stepd listens on a socket: one of 24.11.5 leaves it behind after a login."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


class IsUpError(RuntimeError):
    """A cluster of the same name is up."""


def _refuse_second(name: str) -> None:
    """Refuse to start a cluster beside one of the same name; take down one that was kept."""
    for state in clusters():
        if state.name == name and state.driver.alive():
            raise IsUpError(f"a cluster named {name} is up (process {state.driver.pid})")
        if state.name == name:
            state.remove()


def _each(work: Callable[[Host], None], hosts: list[Host]) -> None:
    """Do the work on all hosts at the same time."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(work, hosts))


__all__ = ["Cluster", "HostTimeoutError", "Roots", "Settings"]
