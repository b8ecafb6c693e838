"""A cluster of one node in a machine: Debian's own units run munged, slurmctld, slurmd and sshd."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.cluster.harness import config, pam, setup
from tests.cluster.harness.config import Settings
from tests.cluster.harness.login import Result, Session, ssh
from tests.fakes.background import Background
from tests.vm.image import NODE, image
from tests.vm.machine import Machine
from tests.vm.payload import SETUP, Payload, checkout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.cluster.harness.suites import Suite

LOGIN = 150  # seconds for a login: 2 to 6 on an idle machine
PATIENT = ("-o", f"ConnectTimeout={LOGIN}", "-o", "ServerAliveInterval=60")  # ten may start at once
SPOOL = "/var/spool/slurmd"
SCOPE = "/system.slice/n1_slurmstepd.scope"  # as Debian builds it: for several slurmd a host
EXTERN = 0xFFFFFFFC

SLURM_CONF = f"""\
ClusterName=adopt
SlurmctldHost=n1(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
MpiDefault=none
ReturnToService=2
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir={SPOOL}
SlurmctldPidFile=/run/slurmctld/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
SlurmdDebug=debug
PropagateResourceLimits=NONE
SlurmctldTimeout=600
SlurmdTimeout=600
MessageTimeout=60
PrologFlags=contain
ProctrackType=proctrack/cgroup
TaskPlugin=task/affinity,task/cgroup
JobAcctGatherType={{jobacct}}
JobAcctGatherFrequency=task=5
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
KillWait=1
CompleteWait=0
InactiveLimit=0
UnkillableStepTimeout=300
SlurmdParameters=config_overrides
DefMemPerCPU=50
NodeName=n1 NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:64
"""

CGROUP_CONF = """\
ConstrainCores=yes
ConstrainRAMSpace=yes
ConstrainDevices=yes
"""

# What is asked for as --gres=gpu has the numbers of `full` and `random`, as in the cluster's hosts.
# The session phase as it is without logind: a stack that names pam_systemd says so itself.
SETUP_SCRIPT = """\
mknod -m 666 /dev/fakegpu0 c 1 7
mknod -m 666 /dev/fakegpu1 c 1 8
install -d -m 700 /root/.ssh
install -d -o slurm -g slurm /var/spool/slurmctld /var/log/slurm
install -d /var/spool/slurmd
chown -R munge:munge /etc/munge
sed -i /pam_systemd/d /etc/pam.d/common-session
echo "* $(cat /etc/ssh/ssh_host_ed25519_key.pub)" >/etc/ssh/ssh_known_hosts
sh -e /payload/accounts.sh {users}
sh -ec "$(cat /payload/install.sh)" {module}
"""


# Slurm of the suite -> name of a job's directory; leaves of an extern step nobody was adopted into.
JOB = {"trixie": r"job_{job}", "sid": r"s[0-9A-HJKMNP-TV-Z]{{13}}"}
IDLE = {"trixie": {"task_special"}, "sid": set()}


# The command slurm-adopt with deadlines that an emulated machine keeps; for python3 -c.
LONG = 300  # seconds for a command that looks at everything
SLOWER = 10  # times: what such a machine may take
PROGRAM = f"""\
from slurm_adopt.cli import deadlines
for name, value in list(vars(deadlines).items()):
    if isinstance(value, float):
        setattr(deadlines, name, value * {SLOWER})
from slurm_adopt.cli.main import main
main()
"""


def files(settings: Settings) -> dict[str, str]:
    """Return Slurm's configuration files; of the settings only these three count here."""
    slurm_conf = SLURM_CONF.format(jobacct=settings.jobacct)
    return {
        "etc/slurm/slurm.conf": slurm_conf + settings.slurm_conf,
        "etc/slurm/cgroup.conf": CGROUP_CONF + settings.cgroup_conf,
        "etc/slurm/gres.conf": config.GRES_CONF,
    }


def payload(settings: Settings) -> Payload:
    """Return what makes a machine the node."""
    users = " ".join(f"{name}:{uid}" for name, uid in config.USERS.items())
    texts = {
        SETUP: SETUP_SCRIPT.format(users=users, module=setup.MODULE_DIR),
        "payload/accounts.sh": setup.ACCOUNTS,
        "payload/install.sh": setup.INSTALL,
        "etc/hosts": "127.0.0.1 localhost n1\n::1 ip6-localhost\n",
        "etc/ssh/sshd_config": config.SSHD_CONFIG,
        "etc/ssh/ssh_config": config.SSH_CONFIG,
        "etc/pam.d/sshd": "\n".join(pam.with_module()) + "\n",
        **files(settings),
    }
    return Payload(texts, checkout())


class Node(Background):
    """The node; `with Node(suite) as node:` boots it."""

    def __init__(self, suite: Suite, report: Callable[[str], None] = print) -> None:
        """Describe the node; a missing image is built."""
        self.settings = Settings()
        wanted = replace(suite, packages=NODE)
        self.machine = Machine(suite.name, image(wanted, report), payload(self.settings))

    def start(self) -> None:
        """Boot, and wait until it takes jobs."""
        self.machine.boot()
        self.wait_idle()

    def end(self) -> None:
        """End it."""
        self.machine.end()

    # The one machine in each role that a scenario names

    @property
    def n1(self) -> Machine:
        """The compute node."""
        return self.machine

    @property
    def ctl(self) -> Machine:
        """Where slurmctld runs."""
        return self.machine

    @property
    def login(self) -> Machine:
        """Where jobs are submitted."""
        return self.machine

    @property
    def hosts(self) -> dict[str, Machine]:
        """All hosts by name."""
        return {"n1": self.machine}

    @property
    def nodes(self) -> list[Machine]:
        """The compute nodes."""
        return [self.machine]

    def tails(self, lines: int = 40) -> str:
        """Return the ends of Slurm's logs and of the journal."""
        script = "tail -vn $1 /var/log/slurm/*.log; journalctl -n $1 --no-pager"
        return self.machine.sh(script, str(lines), check=False)

    def pam(self, lines: Sequence[str]) -> None:
        """Write sshd's PAM stack."""
        self.machine.write("etc/pam.d/sshd", "\n".join(lines) + "\n")

    def reconfigure(self, settings: Settings) -> None:
        """Restart Slurm's daemons with other settings; running jobs are cancelled first."""
        if settings == self.settings:
            return
        self.cancel_all()
        self.machine.sh("systemctl stop slurmd slurmctld")
        for name, text in files(settings).items():
            self.machine.write(name, text)
        self.settings = settings
        self.machine.sh("systemctl start slurmctld slurmd")
        self.wait_idle()

    # Slurm

    def wait_idle(self) -> None:
        """Return when the node can take jobs."""
        script = "sinfo -hN -o %T | grep -xE 'idle|mixed'"
        self.machine.wait_for("idle in sinfo", script, self.tails)

    def submit(
        self,
        user: str,
        *,
        script: str | None = None,
        mem: str | None = None,
        gres: str | None = None,
        options: Sequence[str] = (),
    ) -> int:
        """Start a job, or allocate; return the job's id when its extern step is there."""
        wanted = [*([f"--mem={mem}"] if mem else []), *([f"--gres={gres}"] if gres else []),
                  "--job-name=job", "--chdir=/tmp", *options]  # fmt: skip
        if script is None:
            said = self.machine.run(["salloc", "--no-shell", *wanted], user).stderr
            (job,) = (int(line.split()[-1]) for line in said.splitlines() if "Granted" in line)
        else:
            argv = ["sbatch", "--parsable", "--output=/dev/null", *wanted]
            job = int(self.machine.run(argv, user, f"#!/bin/sh\n{script}\n").stdout)
        script = f"test -S {self.socket(job)} && squeue -hj {job} -o %T | grep -x RUNNING"
        self.machine.wait_for(f"job {job} running", script, self.tails)
        return job

    def socket(self, job: int) -> str:
        """Return the path of the socket of a job's extern stepd."""
        return f"{SPOOL}/n1_{job}.{EXTERN}"

    def has_stepd(self, job: int) -> bool:
        """Say whether that socket is there."""
        return not self.machine.run(["test", "-S", self.socket(job)], check=False).returncode

    def stepd(self, job: int) -> int:
        """Return the pid of a job's extern stepd."""
        return int(self.machine.sh(rf"pgrep -f '^slurmstepd: \[{job}\.extern\]'"))

    def step(self, job: int) -> str:
        """Return the cgroup of a job's extern step: its stepd is in the child `slurm`."""
        path = self.machine.cgroup(self.stepd(job))
        assert path.endswith("/step_extern/slurm"), path
        return path.removesuffix("/slurm")

    def cpuset(self, job: int) -> str:
        """Return the path of the file with the CPUs that a job has."""
        return f"sys/fs/cgroup{self.step(job)}/../cpuset.cpus.effective"

    def job_of(self, cgroup: str) -> int | None:
        """Return the job whose extern step a /proc/PID/cgroup shows."""
        jobs = map(int, self.machine.sh("squeue -h -o %A").split())
        return next((job for job in jobs if cgroup.startswith(f"0::{self.step(job)}/user/")), None)

    def leaves(self, job: int) -> list[str]:
        """Return the names of the cgroups for processes that a job's extern step has now."""
        where = f"/sys/fs/cgroup{self.step(job)}/user"
        script = 'cd "$1"; for d in */; do [ -d "$d" ] && echo "${d%/}"; done'
        return self.machine.sh(script, where, check=False).split()

    def cancel_all(self) -> None:
        """End every job and wait until nothing of any is left."""
        self.machine.sh("scancel $(squeue -h -o %A)", check=False)
        script = 'test -z "$(squeue -h; pgrep -f "^slurmstepd: \\[[0-9]")" && echo none'
        self.machine.wait_for("no job left", script, self.tails)

    def cancel(self, job: int) -> None:
        """End a job and wait until nothing of it is left.

        That is by its stepds: 24.11.5's extern stepd may crash in the end, and leaves its socket.
        """
        self.machine.sh(f"scancel {job}")
        stepds = rf"pgrep -f '^slurmstepd: \[{job}\.'"
        script = f'test -z "$(squeue -hj {job}; {stepds})" && echo none'
        self.machine.wait_for(f"job {job} gone", script, self.tails)

    # Logins

    def ssh(
        self,
        user: str,
        command: str = "true",
        *,
        method: str = "publickey",
        timeout: float = LOGIN,
    ) -> Result:
        """Log in by ssh, from the node itself; it has LOGIN seconds at the least."""
        longer = max(timeout, LOGIN)
        return ssh(self.machine, "n1", user, command, PATIENT, method=method, timeout=longer)

    def session(self, user: str, method: str = "publickey", port: int = 22) -> Session:
        """Open a long login with a shell that takes commands."""
        return Session(
            self.machine,
            self.machine,
            user,
            target="n1",
            options=("-p", str(port), *PATIENT),
            method=method,
            timeout=LOGIN,
        )

    # The log

    def mark(self) -> str:
        """Return the present end of the journal."""
        return self.machine.mark()

    def log(self, mark: str) -> list[str]:
        """Return what the module has logged after a mark, among other messages."""
        return self.machine.log(mark)
