"""What may differ between clusters of one release: addresses, ports, names, kinds of job.

Scenarios like those of scenarios.py; what they change in the configuration the cell takes back.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.cluster.harness import pam
from tests.cluster.harness.host import Host, end
from tests.cluster.harness.network import ADDRESSES
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios.basic import IT, LOOK, comes_from, landed, says

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.harness.cluster import Cluster

STRICT = ("action_unknown=deny",)
NODE = "CPUs=2 RealMemory=16000 Gres=gpu:2"


def two_jobs(cluster: Cluster, nodes: str = "n1,n2") -> list[int]:
    """Give alice two jobs, so that only the source host can tell which a login comes from."""
    return [cluster.submit("alice", nodes) for _ in range(2)]


# Addresses


def over_ipv6(cluster: Cluster) -> None:
    """Ask slurmd by the IPv6 address that the login comes from."""
    more = "CommunicationParameters=EnableIPv6\n"
    cluster.reconfigure(replace(cluster.settings, slurm_conf=cluster.settings.slurm_conf + more))
    cluster.pam(pam.with_module(*STRICT))
    for job in two_jobs(cluster):
        comes_from(cluster, job, ("n2", "n1"), "n1-6")
        comes_from(cluster, job, ("n1", "n2"), "n2-6")


def link_local(cluster: Cluster) -> None:
    """Ask nobody about an address that means nothing on another link, and say so."""
    show = ["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]
    (address,) = re.findall(r"fe80:[0-9a-f:]+", cluster.n1.run(show).stdout)
    cluster.pam(pam.with_module(*STRICT))
    job, _ = two_jobs(cluster)
    mark = cluster.n1.mark()
    ssh = ["ssh", f"{address}%eth0", "true"]
    assert cluster.in_job(job, "alice", "n2", ssh, check=False).rc == 255
    says(cluster, "n1", mark, "link-local addresses are not supported")


# What a systemd socket with Accept=yes does: one socket for both IP versions, a sshd for each.
INETD = """\
import os, signal, socket
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with socket.create_server(("::", 2022), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    while True:
        with server.accept()[0] as client:
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.dup2(client.fileno(), 0)
                os.dup2(client.fileno(), 1)
                os.execv("/usr/sbin/sshd", ["/usr/sbin/sshd", "-i"])
"""


def on_a_mapped_socket(cluster: Cluster) -> None:
    """Know an IPv4 login that the kernel shows as ::ffff:a.b.c.d."""
    for host in (cluster.n2, cluster.login):
        config = host.read("etc/ssh/ssh_config")
        if "n1-mapped" not in config:
            ours = "Host n1-mapped\n    HostName n1\n    HostKeyAlias n1\n    Port 2022\n"
            host.write("etc/ssh/ssh_config", ours + config)
    inetd = cluster.n1.popen([*cluster.n1.front, "python3", "-c", INETD])
    try:
        wait_for("port 2022", lambda: 2022 in cluster.n1.listening(), 30)
        cluster.n1.pam("sshd", pam.stack())
        rows = cluster.ssh("alice", "n1-mapped", "cat /proc/net/tcp6").out
        assert f"{mapped(ADDRESSES['n1'][0])}:07E6" in rows, rows  # 07E6 is 2022
        cluster.pam(pam.with_module(*STRICT))
        for job in two_jobs(cluster):
            comes_from(cluster, job, ("n2", "n1"), "n1-mapped")
    finally:
        end(inetd)


def mapped(address: str) -> str:
    """Return an IPv4 address as /proc/net/tcp6 has it."""
    return "0000000000000000FFFF0000" + "".join(f"{int(n):02X}" for n in address.split(".")[::-1])


# Ports and names


def slurmd_port(cluster: Cluster) -> None:
    """Find slurmd where SlurmdPort says it is: one number, in every release."""
    conf = f"{cluster.settings.slurm_conf}SlurmdPort=7018\n"
    ports = (("n1", 7018), ("n2", 7018))
    cluster.reconfigure(replace(cluster.settings, slurm_conf=conf, ports=ports))
    cluster.pam(pam.with_module(*STRICT))
    for job in two_jobs(cluster):
        comes_from(cluster, job, ("n2", "n1"))
        comes_from(cluster, job, ("n1", "n2"))


def own_ports(cluster: Cluster) -> None:
    """Find slurmd where its node's Port= says it is, in both spellings of a range."""
    settings = cluster.settings
    for ports in ("[7001-7002]", "7001-7002"):
        _with_own_ports(cluster, ports)
        for job in two_jobs(cluster):
            comes_from(cluster, job, ("n2", "n1"))
            comes_from(cluster, job, ("n1", "n2"))
        cluster.reconfigure(settings)


def own_ports_of_20_11(cluster: Cluster) -> None:
    """Do the same where slurmd has its node's name in SLURMD_NODENAME.

    Without that slurmd 20.11.4 looks for itself at 127.0.0.1 and the port for all (seen by strace),
    and knows no job of any connection.
    """
    _with_own_ports(cluster)
    job, _ = two_jobs(cluster)
    mark = cluster.n1.mark()
    assert cluster.in_job(job, "alice", "n2", ["ssh", "n1", "true"], check=False).rc == 255
    says(cluster, "n1", mark, "the source host knows no job for this connection")
    for node in cluster.nodes:
        node.stop(f"slurmd-{node.name}")
        node.start(f"slurmd-{node.name}", under=["env", f"SLURMD_NODENAME={node.name}"])
    comes_from(cluster, job, ("n2", "n1"))
    comes_from(cluster, job, ("n1", "n2"))


def _with_own_ports(cluster: Cluster, spelt: str = "[7001-7002]") -> None:
    lines = f"NodeName=n[1-2] Port={spelt} {NODE}\n"
    conf = cluster.settings.slurm_conf + lines
    ports = (("n1", 7001), ("n2", 7002))
    cluster.reconfigure(replace(cluster.settings, slurm_conf=conf, ports=ports))
    cluster.pam(pam.with_module(*STRICT))


def own_names(cluster: Cluster) -> None:
    """Tell nodes by NodeHostname where their names are others: with dots, in other letters."""
    lines = f"NodeName=Node-1.Rack NodeHostname=n1 {NODE}\nNodeName=N2 NodeHostname=n2 {NODE}\n"
    conf = cluster.settings.slurm_conf + lines
    nodes = (("Node-1.Rack", "n1"), ("N2", "n2"))
    cluster.reconfigure(replace(cluster.settings, slurm_conf=conf, nodes=nodes))
    cluster.pam(pam.with_module(*STRICT))
    for job in two_jobs(cluster, "N2,Node-1.Rack"):
        comes_from(cluster, job, ("N2", "Node-1.Rack"))
        comes_from(cluster, job, ("Node-1.Rack", "N2"))


def several_slurmd(cluster: Cluster) -> None:
    """Adopt into the jobs of the node that nodename= names, where a host plays several."""
    lines = (
        "SlurmdPidFile=/run/slurmd-%n.pid\nSlurmdLogFile=/var/log/slurmd-%n.log\n"
        f"NodeName=n1 Port=7001 {NODE}\nNodeName=n1b NodeHostname=n1 NodeAddr=n1 Port=7011 {NODE}\n"
        f"NodeName=n2 Port=7002 {NODE}\n"
    )
    settings = replace(
        cluster.settings,
        slurm_conf=cluster.settings.slurm_conf + lines,
        nodes=(("n1", "n1"), ("n1b", "n1"), ("n2", "n2")),
        ports=(("n1", 7001), ("n1b", 7011), ("n2", 7002)),
        spool="/var/spool/slurmd-%n",
    )
    cluster.reconfigure(settings)
    first, second = cluster.submit("alice", "n1"), cluster.submit("alice", "n1b")
    for node, job in (("n1", first), ("n1b", second)):
        cluster.n1.pam("sshd", pam.with_module(f"nodename={node}"))
        assert landed(cluster.ssh("alice", "n1", LOOK).out, node) == job
    cluster.pam(pam.with_module("nodename=n1b", *STRICT))
    cluster.n2.pam("sshd", pam.with_module(*STRICT))
    for job in two_jobs(cluster, "n1b,n2"):
        comes_from(cluster, job, ("n2", "n1b"))
        comes_from(cluster, job, ("n1b", "n2"))


# Kinds of job


def array(cluster: Cluster) -> None:
    """Take a task of a job array as the job that it is."""
    cluster.pam(pam.with_module(*STRICT))
    options = ["--nodes=2", "--nodelist=n1,n2", "--array=0-1", "--chdir=/tmp", "--output=/dev/null"]
    argv = ["sbatch", "--parsable", *options]
    number = cluster.login.run(argv, "alice", input="#!/bin/sh\nsleep 600\n").stdout.strip()

    def tasks() -> list[int]:
        rows = cluster.ctl.run(["squeue", "-h", "-r", "-o", "%F %A %T"]).stdout.splitlines()
        mine = [row.split() for row in rows]
        return [int(raw) for of, raw, state in mine if of == number and state == "RUNNING"]

    wait_for("both tasks", lambda: len(tasks()) == 2, 60, cluster.squeue, every=0.2)
    for job in tasks():
        cluster.wait_running(job, ["n1", "n2"], timeout=60)
        comes_from(cluster, job, ("n2", "n1"))
        comes_from(cluster, job, ("n1", "n2"))


def het_job(cluster: Cluster) -> None:
    """Take each component of a heterogeneous job as a job of its own id."""
    cluster.pam(pam.with_module(*STRICT))
    second = [":", "--nodelist=n2", "--mem=100M"]
    leader = cluster.submit("alice", "n1", mem="100M", options=second)
    cluster.wait_running(leader + 1, ["n2"], batch=False)
    cluster.submit("alice", "n1,n2")
    for number, host in enumerate((cluster.n1, cluster.n2)):
        mark = host.mark()
        argv = ["srun", f"--jobid={leader}", "--overlap", f"--het-group={number}", "-N1", "-n1",
                "ssh", host.name, LOOK]  # fmt: skip
        done = cluster.login.run(argv, "alice", timeout=60)
        assert landed(done.stdout, host.name) == leader + number
        says(cluster, host.name, mark, IT)


def het_job_across(cluster: Cluster) -> None:
    """Come from one component to the other's node: the source names its own component's job.

    That is not here, so it counts as none of the user's: no number tells that two are one job.
    """
    cluster.pam(pam.with_module("single_job_skip_rpc=0", *STRICT))
    second = [":", "--nodelist=n2", "--mem=100M"]
    leader = cluster.submit("alice", "n1", mem="100M", options=second)
    cluster.wait_running(leader + 1, ["n2"], batch=False)
    named = f"the source host named job {leader + 1}, which is not one of the user's jobs here"
    srun = ["srun", f"--jobid={leader}", "--overlap", "--het-group=1", "-N1", "-n1"]

    def login(look: str = LOOK) -> tuple[int, str]:
        done = cluster.login.run([*srun, "ssh", "n1", look], "alice", timeout=60, check=False)
        return done.returncode, done.stdout

    mark = cluster.n1.mark()
    assert landed(login()[1], "n1") == leader  # the only job
    says(cluster, "n1", mark, f"the only job; {named}")
    newest = cluster.submit("alice", "n1")
    mark = cluster.n1.mark()
    assert login()[0] == 255
    says(cluster, "n1", mark, f"{named}; action_unknown=deny")
    cluster.pam(pam.with_module())
    assert landed(login()[1], "n1") == newest
    says(cluster, "n1", mark, named)


# Where the configuration is


def slurm_conf_option(cluster: Cluster) -> None:
    """Read the file that slurm_conf= names, where the usual place has none."""
    job = cluster.submit("alice")
    cluster.pam(pam.with_module("slurm_conf=/run/site/slurm.conf", "log_level=debug"))
    cluster.n1.run(["sh", "-ec", "mkdir /run/site; mv /etc/slurm/*.conf /run/site"])
    try:
        mark = cluster.n1.mark()
        assert landed(cluster.ssh("alice", "n1", LOOK).out, "n1") == job
        logged(cluster.n1, mark, "/run/site/slurm.conf")
    finally:
        cluster.n1.run(["sh", "-ec", "mv /run/site/*.conf /etc/slurm; rmdir /run/site"])


def configless(cluster: Cluster) -> None:
    """Read what slurmd got from slurmctld, where a node has no configuration of its own."""
    usual = cluster.settings
    conf = usual.slurm_conf + "SlurmctldParameters=enable_configless\n"
    try:
        cluster.reconfigure(replace(usual, slurm_conf=conf, configless=True))
        assert not (cluster.n1.root / "etc/slurm/slurm.conf").exists()
        cluster.pam(pam.with_module("log_level=debug", *STRICT))
        for job in two_jobs(cluster):
            mark = cluster.n1.mark()
            comes_from(cluster, job, ("n2", "n1"))
            logged(cluster.n1, mark, "configuration: /run/slurm/conf/slurm.conf, the first of the")
    finally:
        cluster.reconfigure(usual)
        for node in cluster.nodes:
            node.run(["rm", "-rf", "/run/slurm/conf"])  # slurmd leaves its copy


# tail(1), called as slurmd: alice's, with a lower pid than root's.
OF_ALICE = r"""\
cp /usr/bin/tail /tmp/slurmd
printf 'NodeName=n1\nSlurmdSpoolDir=/tmp\nSlurmdUser=alice\n' >/tmp/slurm.conf
exec /tmp/slurmd -f /tmp/slurm.conf
"""


def as_slurmd_was_started(cluster: Cluster) -> None:
    """Read the file that root's slurmd was started with, where no usual place has one."""
    node, conf = cluster.n1, "/run/started/slurm.conf"
    cluster.pam(pam.with_module("log_level=debug", *STRICT))
    of_alice = node.popen(["sh", "-ec", OF_ALICE], "alice")
    try:
        wait_for("alice's slurmd", lambda: "/tmp/slurmd -f" in commands(node, "alice"))
        node.stop("slurmd")
        node.run(["sh", "-ec", "mkdir /run/started; mv /etc/slurm/*.conf /run/started"])
        node.start("slurmd", options=["-f", conf])
        time.sleep(1)  # the node is idle in slurmctld's eyes until it registers anew
        cluster.wait_idle()
        for job in two_jobs(cluster):
            mark = node.mark()
            comes_from(cluster, job, ("n2", "n1"))
            logged(node, mark, f"configuration: {conf}, as slurmd {node.pid('slurmd')} (-f {conf})")
    finally:
        end(of_alice)
        cluster.cancel_all()
        node.stop("slurmd")
        node.run(["sh", "-ec", "mv /run/started/*.conf /etc/slurm; rmdir /run/started"])
        node.start("slurmd")
        cluster.wait_idle()


def commands(host: Host, user: str) -> list[str]:
    """Return the beginnings of the command lines of a user's processes."""
    lines = host.run(["ps", "-u", user, "-o", "args="], check=False).stdout.splitlines()
    return [" ".join(line.split()[:2]) for line in lines]


def environment(cluster: Cluster) -> None:
    """Look at no SLURM_CONF, whoever has set it for sshd."""
    job = cluster.submit("alice")
    node = cluster.n1
    node.stop("sshd")
    node.start("sshd", under=[*node.front, "env", "SLURM_CONF=/run/nowhere.conf"])
    try:
        assert landed(cluster.ssh("alice", "n1", LOOK).out, "n1") == job
    finally:
        node.stop("sshd")
        node.start("sshd", under=node.front)


def logged(host: Host, mark: int, text: str) -> None:
    """Assert that the module's debug lines about its configuration have a text."""
    lines = [line for line in host.log(mark) if "pam_slurm_adopt(" in line]
    assert any("configuration" in line and text in line for line in lines), lines


# An upgrade


def upgrade(cluster: Cluster) -> None:
    """Go on with the jobs of the older release's stepds after the node's slurmd is newer.

    The newer Slurm is that of the root folder that sshd has; the job's stepds run on.
    """
    from tests.cluster.harness import setup

    roots = cluster.roots["n1"]
    assert roots.sshd
    (older,) = [cluster.submit("alice", "n1,n2")]
    cluster.n1.stop("slurmd")
    setup.write_slurm([(cluster.n1, roots.sshd.slurm)], cluster.settings)
    cluster.n1.start("slurmd", under=cluster.n1.front)
    time.sleep(1)  # the node is idle in slurmctld's eyes until it registers anew
    cluster.wait_idle()
    newer = cluster.submit("alice", "n1,n2")
    cluster.pam(pam.with_module("log_level=debug", *STRICT))
    found = set()
    for job in (older, newer):
        mark = cluster.n1.mark()
        comes_from(cluster, job, ("n2", "n1"))
        comes_from(cluster, job, ("n1", "n2"))
        found |= {line.partition("(protocol ")[2].partition(")")[0] for line in cluster.n1.log(mark)
                  if f"stepd of job {job} (protocol" in line}  # fmt: skip
    assert len(found) == 2, found


EVERYWHERE: tuple[Callable[[Cluster], None], ...] = (
    over_ipv6, link_local, on_a_mapped_socket, slurmd_port, own_names, array, het_job,
    het_job_across, slurm_conf_option, configless, as_slurmd_was_started, environment,
)  # fmt: skip
