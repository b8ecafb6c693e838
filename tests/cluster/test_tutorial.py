"""The tutorial, done as it stands there: each command says what the page says that it says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam, setup
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios.deb import LIB, purged, put
from tests.dev import deb
from tests.packages.root import Root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

PAGE = CHECKOUT / "docs/tutorial.md"
BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"(\w+)@(\w+)[#$] (.+)")
WAITED_FOR = ("squeue", "pgrep", "ssh n1 hostname")  # a job starts, and ends, within seconds
DIST = "/checkout/dist"  # where `./dev deb` leaves the package, as the nodes see it


def steps() -> list[tuple[str, str, str, list[str]]]:
    """Return what the page has typed: by whom, on which host, the command, what it says."""
    found: list[tuple[str, str, str, list[str]]] = []
    for block in BLOCK.findall(PAGE.read_text()):
        for line in block.splitlines():
            if typed := PROMPT.fullmatch(line):
                found.append((typed[1], typed[2], typed[3], []))
            else:
                found[-1][3].append(line)
    return found


def as_printed(said: list[str], printed: list[str]) -> bool:
    """Say whether these are the lines of the page, but for numbers and blanks."""
    patterns = [re.sub("[0-9]+", "[0-9]+", re.escape(" ".join(line.split()))) for line in printed]
    lines = [" ".join(line.split()) for line in said]
    return len(lines) == len(patterns) and all(map(re.fullmatch, patterns, lines))


@pytest.fixture
def node(cluster: Cluster, tmp_path: Path) -> Iterator[Host]:
    """Return n1 as `./dev demo --keep` leaves it; what the tutorial leaves on it goes."""
    node = cluster.n1
    with Root(deb.BUILD) as root:
        package = deb.build(tmp_path, root)
    setup.keep_auth_log(node)
    with purged(node):
        put(node, package)
        node.pam("sshd", pam.with_module())
        yield node
        node.run(["sh", "-c", f"mv /root/pam_slurm_adopt.py {LIB}/pam; rm /tmp/*.deb"], check=False)
    setup.drop_auth_log(node)


def test_the_tutorial(cluster: Cluster, node: Host) -> None:
    hosts = {host.name: host for host in (node, cluster.login)}
    assert len(steps()) > 20
    for user, host, command, printed in steps():
        do(hosts[host], user, command, printed)


def do(host: Host, user: str, command: str, printed: list[str]) -> None:
    """Type a command, and again where the page has had time, until it says what is printed."""
    command = command.replace(DIST, "/tmp")
    argv, said = ["bash", "-c", f"cd; exec 2>&1; {command}"], ""

    def good() -> bool:
        nonlocal said
        said = host.run(argv, user, check=False).stdout
        return as_printed(said.splitlines(), printed)

    if command.startswith(WAITED_FOR):
        wait_for(command, good, 20, lambda: said)
    else:
        assert good(), (command, said, printed)
    if command.endswith("echo $?"):  # a status is no number that changes
        assert said.splitlines() == printed, (command, said, printed)
