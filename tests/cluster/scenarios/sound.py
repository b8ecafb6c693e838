"""What check says of a node where nothing is wrong: the same on each release."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from tests.cluster.harness import cli, guide
from tests.cluster.scenarios import stock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host
    from tests.cluster.harness.login import Machine
    from tests.cluster.harness.suites import Suite

# Without the command itself, since not every suite has what that needs.
RUN = """
import json
from slurm_adopt.cli.checks.host import Host
from slurm_adopt.cli.checks.runner import run
from slurm_adopt.cli.checks.table import CHECKS
ours = [check for check in CHECKS if "SA300" < check.code < "SA700"]
print(json.dumps([[each.code, each.result, each.title, each.found]
                  for each in run(ours, Host(nodes=""))]))
"""
# What is said of a node with a job: it has been looked at, and not been left out.
LOOKED_AT = ("SA404", "SA405", "SA411", "SA412", "SA413", "SA416", "SA501", "SA504", "SA611")


def report(node: Host) -> list[list[str]]:
    """Return code, result, title and what was found, of each finding."""
    argv = ["env", "PYTHONPATH=/checkout/src", "python3", "-B", "-c", RUN]
    said: list[list[str]] = json.loads(node.run(argv, timeout=60).stdout)
    return said


def nothing_is_wrong(cluster: Cluster) -> None:
    """Check finds no fault of Slurm's on a sound node, with jobs and without."""
    for with_job in (False, True):
        if with_job:
            cluster.submit("alice", "n1,n2")
        for node in cluster.nodes:
            said = report(node)
            assert [each for each in said if each[1] in ("warning", "error")] == []
            if with_job:
                results = {code: result for code, result, _, _ in said if code in LOOKED_AT}
                assert results == dict.fromkeys(LOOKED_AT, "ok"), said
    cluster.cancel_all()


# As installed by the guide

KEEP = """\
mkdir -m 700 /root/kept
cp -a /etc/pam.d /etc/ssh /root/kept
cp /usr/share/openssh/sshd_config /etc/ssh/sshd_config
"""
PUT_BACK = """\
rm -f /etc/cron.allow /etc/at.allow /etc/pam.d/common-session-sshd /etc/ssh/sshd_config.d/*
cp -a /root/kept/* /etc/
rm -r /root/kept
"""
HAS_PENALTIES = "sshd -T | grep -qi ^persourcepenalties"  # OpenSSH 9.8 and later; 10.6 has capitals
PENALTIES = "Penalties of OpenSSH 9.8 and later"
STEPS = ("pam_systemd", "cron and at", PENALTIES)  # sections of the page


@contextlib.contextmanager
def with_pam_lines(node: Machine, suite: Suite) -> Iterator[None]:
    """Have a node as Debian ships it, but for the PAM lines of the guide."""
    node.run(["sh", "-ec", KEEP])
    try:
        node.write("etc/pam.d/sshd", stock.with_ours(suite))
        yield
    finally:
        node.run(["sh", "-ec", PUT_BACK])


def take_the_other_steps(node: Machine, systemd: bool = True) -> None:
    """Run what the guide says beside these lines; without systemd nothing is reloaded."""
    for heading in STEPS:
        if heading == PENALTIES and node.run(["sh", "-c", HAS_PENALTIES], check=False).returncode:
            continue
        steps = guide.commands("install", heading)
        assert steps, heading
        if not systemd:
            steps = [step.partition(" && systemctl ")[0] for step in steps]
        node.run(["sh", "-ec", "\n".join(steps)])


def as_installed_by_the_guide(cluster: Cluster) -> None:
    """All of check finds nothing to say, with jobs and without."""
    node = cluster.n1
    with with_pam_lines(node, stock.suite_of(cluster)):
        take_the_other_steps(node, systemd=False)
        for with_job in (False, True):
            if with_job:
                cluster.submit("alice", "n1,n2")
            done = cli.run(node, "check", "--nodes")
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            assert done.stdout.startswith("slurm_adopt: ok")
    cluster.cancel_all()
