"""On which ports the slurmds of a source listen, by slurm.conf and a hosts file."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_adopt.slurm.config import conf, slurmd_ports
from slurm_adopt.slurm.errors import SetupError

HOSTS = """\
127.0.0.1 localhost
10.0.0.1\tn1.dom N1 # NodeAddr of a1: b1
10.0.0.2  n2
fd00:0:0::2 n2 n2-6
10.0.0.3 h3
#10.0.0.4 n4
nonsense n5
10.0.0.9
"""

# (slurm.conf, source address, ports)
PORTS: list[tuple[str, str, list[int]]] = [
    ("", "10.0.0.1", [6818]),
    ("SlurmdPort=7000", "10.0.0.1", [7000]),
    ("NodeName=n[1-2]", "10.0.0.1", [6818]),
    ("NodeName=n1 Port=7001", "10.0.0.1", [7001]),
    ("NodeName=n2 Port=7002\nNodeName=n7", "10.0.0.1", [6818]),
    ("NodeName=n[1-2] Port=7001,7002", "10.0.0.2", [7002]),
    ("NodeName=n[1-2] Port=[7001-7002]", "10.0.0.2", [7002]),
    ("NodeName=n[1-2] Port=7001-7002", "10.0.0.2", [7002]),
    ("NodeName=n[1-2] Port=7001-7002", "fd00::2", [7002]),
    ("NodeName=n[1-3] Port=7001-7002", "10.0.0.2", [7002]),
    ("NodeName=n[1-3] Port=7001", "10.0.0.2", [7001]),
    ("NodeName=DEFAULT Port=7005\nNodeName=n1\nNodeName=n2 Port=7002", "10.0.0.1", [7005]),
    ("NodeName=n1\nNodeName=DEFAULT Port=7005\nNodeName=n2", "10.0.0.1", [6818]),
    ("NodeName=a NodeAddr=10.0.0.77 Port=7001", "10.0.0.77", [7001]),
    ("NodeName=a[1-20] NodeAddr=10.1.0.[1-20] Port=17001-17020", "10.1.0.9", [17009]),
    ("NodeName=a,b NodeAddr=10.1.0.1,10.1.0.2 Port=7001-7002", "10.1.0.2", [7002]),
    ("NodeName=a NodeAddr=FD00:0::7 Port=7001\nNodeName=b", "fd00::7", [7001]),
    ("NodeName=a NodeHostname=h3 Port=7001\nNodeName=h3", "10.0.0.3", [7001, 6818]),
    ("NodeName=n1 NodeAddr=n2 Port=7001\nNodeName=b", "10.0.0.1", [6818]),
    ("NodeName=a NodeAddr=N1.DOM Port=7001", "10.0.0.1", [7001]),
    ("NodeName=n4 Port=7001\nNodeName=b", "10.0.0.4", [6818]),
    # several slurmd on one host
    ("NodeName=a[1-3] NodeHostname=h3 Port=17000-17002", "10.0.0.3", [17000, 17001, 17002]),
    ("NodeName=a[1-2] NodeHostname=h3,h3 Port=17000-17001", "10.0.0.3", [17000, 17001]),
    ("NodeName=a[1-2] NodeAddr=10.0.0.3 Port=17000", "10.0.0.3", [17000]),
    ("NodeName=a NodeAddr=h3 Port=2\nNodeName=b NodeAddr=10.0.0.3 Port=1", "10.0.0.3", [2, 1]),
    # a source that is known to the DNS only, if at all
    ("NodeName=x[1-2] Port=7001", "10.9.9.9", [7001]),
    ("NodeName=x1 Port=7001\nNodeName=x2 Port=7002", "10.9.9.9", [6818]),
    ("NodeName=DEFAULT Port=7001\nNodeName=x1\nNodeName=x2", "10.9.9.9", [7001]),
    ("NodeName=x[1-2] Port=7001-7002", "10.9.9.9", [6818]),
]


def loaded(directory: Path, text: str) -> conf.Conf:
    (directory / "slurm.conf").write_text(text)
    return conf.load(str(directory / "slurm.conf"))


@pytest.fixture
def hosts(tmp_path: Path) -> str:
    (tmp_path / "hosts").write_text(HOSTS)
    return str(tmp_path / "hosts")


@pytest.mark.parametrize(("text", "address", "ports"), PORTS)
def test_ports(tmp_path: Path, hosts: str, text: str, address: str, ports: list[int]) -> None:
    assert slurmd_ports.ports_at(loaded(tmp_path, text), address, hosts) == ports


# (slurm.conf, all ports of slurmds)
ALL_PORTS: list[tuple[str, set[int]]] = [
    ("", {6818}),
    ("SlurmdPort=7000\nNodeName=n[1-2]", {7000}),
    ("NodeName=n[1-2] Port=[7001-7002]\nNodeName=n3", {7001, 7002, 6818}),
    ("NodeName=DEFAULT Port=7005\nNodeName=n1\nNodeName=n2 Port=7002", {7005, 7002, 6818}),
    ("NodeName=n1 Port=ssh\nNodeName=n2 Port=7002", {7002, 6818}),
    ("SlurmdPort=0\nNodeName=n2 Port=7002", {7002}),
]


@pytest.mark.parametrize(("text", "ports"), ALL_PORTS)
def test_all_ports(tmp_path: Path, text: str, ports: set[int]) -> None:
    """What is no port is nobody's."""
    assert slurmd_ports.all_ports(loaded(tmp_path, text)) == ports


@pytest.mark.parametrize("port", ["0", "65536", "ssh", "7001-x", "7001]-[", "9-1"])
def test_bad_port(tmp_path: Path, hosts: str, port: str) -> None:
    with pytest.raises(SetupError, match=r"not a port number|not a range|brackets"):
        slurmd_ports.ports_at(loaded(tmp_path, f"NodeName=n1 Port={port}"), "10.0.0.1", hosts)


def test_without_a_hosts_file(tmp_path: Path) -> None:
    found = loaded(tmp_path, "NodeName=a NodeAddr=10.0.0.1 Port=7001\nNodeName=n1")
    assert slurmd_ports.ports_at(found, "10.0.0.1", "/nowhere") == [7001]


def test_names(hosts: str) -> None:
    asked = ("10.0.0.1", "fd00::2", "10.0.0.4", "10.0.0.9", "nonsense")
    names = [{"n1.dom", "n1"}, {"n2", "n2-6"}, set(), set(), {"n5"}]
    assert [slurmd_ports.names_of(address, hosts) for address in asked] == names
