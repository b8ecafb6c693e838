"""`slurm-adopt install --trial` under systemd: its timer takes the lines back, also at a boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.vm.node import LONG, PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vm.machine import Machine
    from tests.vm.node import Node

FOLDER = "/opt/slurm_adopt"
FILE = "/etc/pam.d/sshd"
TIMER = "slurm-adopt-trial-sshd.timer"
UNITS = "/etc/systemd/system/slurm-adopt-trial-sshd"
STATE = "/var/lib/slurm_adopt"
ELEVEN_MINUTES = 'date -s "+11 minutes"'


@pytest.fixture
def machine(node: Node) -> Iterator[Machine]:
    """Return a machine without lines in sshd's stack."""
    node.pam(pam.stack())
    yield node.machine
    run(node.machine, "uninstall")


def run(machine: Machine, *arguments: str) -> str:
    """Run the command, with time, from the installed copy."""
    argv = ["env", f"PYTHONPATH={FOLDER}/src", "/usr/bin/python3", "-Bc", PROGRAM, *arguments]
    done = machine.run(argv, check=False, timeout=LONG)
    assert done.returncode == 0, done
    return done.stdout


def is_back(machine: Machine, usual: str) -> bool:
    """Say whether the file is as it was, and nothing is left of the trial."""
    left = machine.sh(f"ls -d {UNITS}* {STATE} /etc/pam.d/.sshd* 2>/dev/null", check=False)
    return machine.read(FILE) == usual and not left.strip()


BACK = f"cmp -s {FILE} /root/usual && test ! -e {UNITS}.timer && test ! -e {STATE} && echo back"


def test_the_timer_takes_it_back(node: Node, machine: Machine) -> None:
    usual = machine.read(FILE)
    machine.sh(f"cp {FILE} /root/usual")
    assert "(systemd): then this is taken back" in run(machine, "install", "--trial", "10m")
    assert machine.sh(f"systemctl is-active {TIMER}; systemctl is-enabled {TIMER}").split() == [
        "active",
        "enabled",
    ]
    assert machine.sh(f"systemd-analyze verify {UNITS}.timer {UNITS}.service 2>&1").strip() == ""
    assert [node.ssh(user).rc for user in ("bob", "root")] == [255, 0]
    mark = machine.mark()
    machine.sh(ELEVEN_MINUTES)
    machine.wait_for("the trial is taken back", BACK)
    assert is_back(machine, usual)
    assert any("the trial is over" in line for line in machine.log(mark))
    assert machine.sh(f"systemctl is-active {TIMER}", check=False).strip() == "inactive"
    assert node.ssh("bob").rc == 0


def test_a_time_that_has_passed_while_the_machine_was_off(machine: Machine) -> None:
    """The timer is started late, as at a boot."""
    usual = machine.read(FILE)
    machine.sh(f"cp {FILE} /root/usual")
    run(machine, "install", "--trial", "10m")
    machine.sh(f"systemctl stop {TIMER}; {ELEVEN_MINUTES}; systemctl daemon-reload")
    assert machine.read(FILE) != usual
    machine.sh("systemctl start timers.target")
    machine.sh(f"systemctl start {TIMER}")
    machine.wait_for("the trial is taken back", BACK)
    assert is_back(machine, usual)


def test_an_end_that_fails_is_tried_again(machine: Machine) -> None:
    """And a trial after it has its whole time."""
    usual = machine.read(FILE)
    machine.sh(f"cp {FILE} /root/usual")
    run(machine, "install", "--trial", "10m")
    machine.sh(f"mount -o bind,ro /etc/pam.d /etc/pam.d; {ELEVEN_MINUTES}")
    machine.wait_for("it has failed", f"systemctl is-failed {TIMER[:-6]}.service | grep failed")
    machine.sh("umount /etc/pam.d")
    assert machine.read(FILE) != usual
    machine.wait_for("the trial is taken back", BACK, timeout=240)
    run(machine, "install", "--trial", "10m")
    assert machine.sh(f"systemctl is-active {TIMER}").strip() == "active"
    assert machine.read(FILE) != usual
    run(machine, "uninstall")
    assert is_back(machine, usual)


def test_a_trial_that_is_confirmed(node: Node, machine: Machine) -> None:
    usual = machine.read(FILE)
    run(machine, "install", "--trial", "10m")
    assert "confirmed" in run(machine, "install", "--confirm")
    written = machine.read(FILE)
    assert machine.sh(f"ls -d {UNITS}* 2>/dev/null", check=False) == ""
    machine.sh(ELEVEN_MINUTES)
    job = node.submit("alice")
    with node.session("alice") as session:
        assert machine.cgroup(session.pid).startswith(node.step(job))
    assert [node.ssh(user).rc for user in ("bob", "root")] == [255, 0]
    assert machine.read(FILE) == written
    run(machine, "uninstall")
    assert is_back(machine, usual)
