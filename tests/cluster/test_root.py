"""Root logs in, in each documented stack, whatever is missing or garbage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.landing import COMMAND
from tests.cluster.harness.login import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

STRICT = ("action_no_jobs=deny", "action_generic_failure=deny", "action_adopt_failure=deny")

FRONT = "/opt/slurm_adopt/src/slurm_adopt/front/pam_python.py"

# what is wrong -> shell commands that bring it about in a host
FAULTS = {
    "nothing": "true",
    "slurm.conf missing": "rm /etc/slurm/slurm.conf",
    "slurm.conf garbage": "head -c 9999 /dev/urandom >/etc/slurm/slurm.conf",
    "slurm.conf empty": ": >/etc/slurm/slurm.conf",
    "spool directory gone": "mv /var/spool/slurmd /var/spool/gone",
    "spool directory a file": "mv /var/spool/slurmd /var/spool/gone; touch /var/spool/slurmd",
    "package missing": "rm -r /opt/slurm_adopt/src",
    "package garbage": f"echo '(' >{FRONT}",
    "package exits": f"echo 'raise SystemExit' >{FRONT}",
    "script missing": "rm /opt/slurm_adopt/pam/pam_slurm_adopt.py",
    "script garbage": "echo '(' >/opt/slurm_adopt/pam/pam_slurm_adopt.py",
    "bridge missing": "mv /lib/security/pam_python.so /var/spool/",
}
SAVE = "cp -a /etc/slurm /var/spool/etc-slurm; cp -a /opt/slurm_adopt /var/spool/opt-slurm_adopt"
RESTORE = """\
rm -rf /etc/slurm /opt/slurm_adopt
mv /var/spool/etc-slurm /etc/slurm
mv /var/spool/opt-slurm_adopt /opt/slurm_adopt
test ! -e /var/spool/gone || { rm -rf /var/spool/slurmd; mv /var/spool/gone /var/spool/slurmd; }
test ! -e /var/spool/pam_python.so || mv /var/spool/pam_python.so /lib/security/
"""


@pytest.fixture(params=FAULTS)
def fault(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Break one thing on n1."""
    sh(cluster.n1, SAVE)
    try:
        sh(cluster.n1, FAULTS[request.param])
        yield request.param
    finally:
        sh(cluster.n1, RESTORE)


def sh(host: Host, script: str) -> None:
    host.run(["sh", "-ec", script])


STACKS = {**pam.DOCUMENTED, **pam.GUIDE}


@pytest.fixture
def files(cluster: Cluster) -> Iterator[None]:
    """Have on n1 what the stacks read: carol is an administrator."""
    with pam.guide_s_files(cluster.n1):
        yield


OPTIONS = pytest.mark.parametrize("options", [(), STRICT], ids=["defaults", "strict"])


@pytest.mark.usefixtures("files")
@OPTIONS
def test_root_is_let_in(cluster: Cluster, fault: str, options: tuple[str, ...]) -> None:
    assert fault
    refused = {}
    for name, stack in STACKS.items():
        cluster.n1.pam("sshd", stack(*options))
        result = cluster.ssh("root", command="id -u")
        if (result.rc, result.out) != (0, "0\n"):
            refused[name] = result
    assert refused == {}


@pytest.mark.usefixtures("files")
@OPTIONS
def test_administrators_are_let_in(cluster: Cluster, fault: str, options: tuple[str, ...]) -> None:
    """In both phases; by each method; a job of theirs makes no difference."""
    assert fault
    cluster.n1.pam("sshd", pam.GUIDE["administrators"](*options))
    for method in METHODS:
        result = cluster.ssh("carol", command=COMMAND, method=method)
        assert (result.rc, "step_extern" in result.out) == (0, False), result


def test_root_without_the_guard_while_the_script_is_there(cluster: Cluster, fault: str) -> None:
    """The script answers root itself, whatever else is broken."""
    if fault in {"script missing", "script garbage", "bridge missing"}:
        return  # what only the guard can cover
    lines = [" ".join((line, *STRICT)) for line in (pam.OURS, pam.SESSION)]
    cluster.n1.pam("sshd", [*pam.stack(lines[0]), lines[1]])
    assert cluster.ssh("root").rc == 0


@pytest.mark.parametrize("stack", pam.DOCUMENTED)
def test_users_are_adopted_in_each_documented_stack(cluster: Cluster, stack: str) -> None:
    """Without a job a user stays out; with one the session is in it."""
    cluster.n1.pam("sshd", pam.DOCUMENTED[stack]())
    refused = cluster.ssh("alice")
    assert refused.rc == 255
    assert "you have no active jobs on this node" in refused.err
    job = cluster.submit("alice")
    with cluster.session("alice") as session:
        assert cluster.n1.cgroups(session.pid)["freezer"].endswith(f"job_{job}/step_extern")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("stack", ["both", "administrators"])
@pytest.mark.parametrize("fault", ["nothing", "package missing", "script missing"], indirect=True)
def test_the_guards_let_nobody_else_past(cluster: Cluster, fault: str, stack: str) -> None:
    assert fault
    cluster.n1.pam("sshd", STACKS[stack](*STRICT))
    assert cluster.ssh("alice").rc == 255
