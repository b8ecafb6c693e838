"""slurm.conf: syntax, Include, node names, spool directory; hostlists."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from slurm_adopt.slurm.config import conf, hostlist
from slurm_adopt.slurm.errors import SetupError

GENEROUS = 10.0  # seconds that nothing here may take


def write(directory: Path, text: str, name: str = "slurm.conf") -> str:
    path = directory / name
    path.write_text(text)
    return str(path)


# (text, key, value)
SYNTAX = [
    ("SlurmdPort=6818\n", "SlurmdPort", "6818"),
    ("slurmdPORT=6818\n", "SlurmdPort", "6818"),
    ("SlurmdPort = 6818\n", "SlurmdPort", "6818"),
    ("  SlurmdPort=6818   \n", "SlurmdPort", "6818"),
    ("A=1 SlurmdPort=6818 B=2\n", "SlurmdPort", "6818"),
    ("SlurmdPort=6818 # the usual\n", "SlurmdPort", "6818"),
    ("SlurmdPort=6818#the usual\n", "SlurmdPort", "6818"),
    ("#SlurmdPort=1\nSlurmdPort=6818", "SlurmdPort", "6818"),
    ("SlurmdPort=1\nSlurmdPort=6818\n", "SlurmdPort", "6818"),
    ("Slurmd\\\nPort=6818\n", "SlurmdPort", "6818"),
    ("A=1 \\\n  SlurmdPort=6818 \\\n  B=3\n", "SlurmdPort", "6818"),
    ("SlurmdPort=6818\r\n", "SlurmdPort", "6818"),
    ('A="x y" SlurmdPort="6818"\n', "SlurmdPort", "6818"),
    ("AuthInfo=socket=/run/m,ttl=9\n", "AuthInfo", "socket=/run/m,ttl=9"),
    ("AuthInfo=socket=/run/m,ttl=9 B=1\n", "AuthInfo", "socket=/run/m,ttl=9"),
    ("A=b\\#c\n", "A", "b#c"),
    ("A=b\\c\n", "A", "bc"),
    ("A=b\\\\c\n", "A", "b\\c"),
    ("A=b\\\\\nSlurmdPort=7000\n", "A", "b\\"),
    ("A=b\\\\\nSlurmdPort=7000\n", "SlurmdPort", "7000"),
    ("A=b\\\\\\\n c=7000\n", "A", "b\\"),
    ("A=1\\", "A", "1"),
    ("A=\xe9\n", "A", "\xe9"),
    ("PartitionName=p SlurmdPort=1\nSlurmdPort=6818\n", "SlurmdPort", "6818"),
    ("NodeName=n1 SlurmdPort=1\nSlurmdPort=6818\n", "SlurmdPort", "6818"),
]


@pytest.mark.parametrize(("text", "key", "value"), SYNTAX)
def test_syntax(tmp_path: Path, text: str, key: str, value: str) -> None:
    assert conf.load(write(tmp_path, text)).get(key) == value


def test_include(tmp_path: Path) -> None:
    write(tmp_path, "SlurmdPort=7000\nInclude more.conf", "nodes.conf")
    write(tmp_path, "A=2\n", "more.conf")
    write(tmp_path, "B=3\n", "tux.conf")
    text = f"ClusterName=Tux\ninclude nodes.conf\nInclude {tmp_path}/%c.conf\n"
    found = conf.load(write(tmp_path, text))
    assert (found.get("SlurmdPort"), found.get("A"), found.get("B")) == ("7000", "2", "3")


def test_include_of_a_pattern_is_passed_over(tmp_path: Path) -> None:
    found = conf.load(write(tmp_path, "Include nodes.d/*.conf\nSlurmdPort=7000\n"))
    assert found.get("SlurmdPort") == "7000"
    assert "patterns are not supported" in found.remarks[0]


def test_a_file_that_would_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slurm.conf")
    with pytest.raises(SetupError, match="not a regular file"):
        conf.load(str(tmp_path / "slurm.conf"))


@pytest.mark.parametrize("text", ["\\#" * 200_000, "a" * 400_000, "a " * 200_000, "=" * 400_000])
def test_long_lines_take_no_long_time(tmp_path: Path, text: str) -> None:
    started = time.monotonic()
    assert conf.load(write(tmp_path, text + "\nSlurmdPort=7000\n")).get("SlurmdPort") == "7000"
    assert time.monotonic() - started < 10  # quadratic took minutes


# (text, part of the message)
BAD = [
    (b"Include slurm.conf\n", "includes itself: .*slurm.conf -> .*slurm.conf"),
    (b"Include ./slurm.conf\n", "is it a loop|too long|includes itself"),
    (b"Include empty.conf\n" * 1001, "more than 1000 files are included"),
    (b"Include /proc\n", "cannot read /proc: it is not a regular file"),
    (b"Include nowhere.conf\n", "cannot read"),
    (b"\x7fELF\0\0", "not a text file"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_file(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "empty.conf").touch()
    path = tmp_path / "slurm.conf"
    path.write_bytes(text)
    with pytest.raises(SetupError, match=message):
        conf.load(str(path))


def test_missing_file_says_where() -> None:
    with pytest.raises(SetupError, match=r"cannot read /nowhere/slurm.conf: No such file"):
        conf.load("/nowhere/slurm.conf")


def test_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = write(tmp_path, "")
    monkeypatch.setattr(conf, "PLACES", ("/nowhere/slurm.conf", here, "/dev/null"))
    assert conf.usual() == [here, "/dev/null"]


def test_environment_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "PLACES", ("/nowhere/slurm.conf",))
    monkeypatch.setenv("SLURM_CONF", write(tmp_path, ""))
    assert conf.usual() == []


def test_missing_file_beside_is_all_defaults(tmp_path: Path) -> None:
    assert conf.load_beside(write(tmp_path, ""), "cgroup.conf").values == {}


def test_what_cannot_be_looked_at_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives its place neither to another file nor to defaults; a link to nothing does."""
    here = write(tmp_path, "")
    for name in ("slurm", "cgroup"):
        (tmp_path / f"{name}-loop.conf").symlink_to(f"{name}-loop.conf")
        (tmp_path / f"{name}-dangling.conf").symlink_to("nowhere")
    loop, dangling = (str(tmp_path / f"slurm-{kind}.conf") for kind in ("loop", "dangling"))
    monkeypatch.setattr(conf, "PLACES", (dangling, loop, here))
    assert conf.usual() == [loop, here]
    with pytest.raises(SetupError, match="Too many levels of symbolic links"):
        conf.load(loop)
    with pytest.raises(SetupError, match=r"cgroup-loop\.conf: Too many levels of symbolic links"):
        conf.load_beside(here, "cgroup-loop.conf")
    assert conf.load_beside(here, "cgroup-dangling.conf").values == {}


def test_include_loop_of_several_files(tmp_path: Path) -> None:
    write(tmp_path, "Include b.conf\n" * 20, "a.conf")
    write(tmp_path, "Include slurm.conf\n", "b.conf")
    with pytest.raises(SetupError, match=r"slurm\.conf includes itself"):
        conf.load(write(tmp_path, "Include a.conf\n"))


def test_a_long_chain_of_files(tmp_path: Path) -> None:
    for number in range(600):
        write(tmp_path, f"Include {number + 1}.conf\n", f"{number}.conf")
    with pytest.raises(SetupError, match=r"33\.conf: Include is nested more than 32 files deep"):
        conf.load(str(tmp_path / "0.conf"))


def test_one_long_line(tmp_path: Path) -> None:
    started = time.monotonic()
    assert conf.load(write(tmp_path, 'X="1" ' + "a" * 1_000_000 + " B=2")).get("B") == "2"
    assert time.monotonic() - started < GENEROUS


# (SlurmdUser, uids)
USERS = [
    ("", {0}),
    ("SlurmdUser=root", {0}),
    ("SlurmdUser=daemon", {0, 1}),
    ("SlurmdUser=64030", {0, 64030}),
    ("SlurmdUser=daemon(1)", {0, 1}),
    ("SlurmdUser=no-such-user", {0}),
    ("SlurmdUser=\u0667", {0}),
    ("SlurmdUser=" + "7" * 5000, {0}),
]


@pytest.mark.parametrize(("text", "uids"), USERS)
def test_uids(tmp_path: Path, text: str, uids: set[int]) -> None:
    assert conf.load(write(tmp_path, text)).uids("SlurmdUser") == uids


def test_a_user_whose_name_cannot_be_spelt() -> None:
    found = conf.Conf("x")
    found.values["slurmduser"] = "\ud800"
    assert found.uids("SlurmdUser") == {0}


def test_a_hundred_thousand_lines(tmp_path: Path) -> None:
    started = time.monotonic()
    nodes = "".join(f"NodeName=x{n} CPUs=2\n# {n}\n" for n in range(50_000))
    found = conf.load(write(tmp_path, nodes + "SlurmdPort=6818\nNodeName=n1\n"))
    assert found.get("SlurmdPort") == "6818"
    assert conf.node_names(found, "n1") == [("n1", "n1")]
    assert conf.node_names(found, "unknown") == []
    assert time.monotonic() - started < GENEROUS


# (text, port or None for an error)
PORTS = [
    ("", 6818),
    ("SlurmdPort=7000", 7000),
    ("SlurmdPort=0", None),
    ("SlurmdPort=65536", None),
    ("SlurmdPort=99999999999999", None),
    ("SlurmdPort=-1", None),
    ("SlurmdPort=ssh", None),
    ("SlurmdPort=000022" + "0" * 5000, None),
    ("SlurmdPort=\u0667", None),
]


@pytest.mark.parametrize(("text", "port"), PORTS)
def test_slurmd_port(tmp_path: Path, text: str, port: int | None) -> None:
    found = conf.load(write(tmp_path, text))
    if port is None:
        with pytest.raises(SetupError, match="is not a port number"):
            conf.slurmd_port(found)
    else:
        assert conf.slurmd_port(found) == port


# (NodeName lines, host name, NodeName/NodeHostname of this host's nodes)
NAMES = [
    ("NodeName=n1", "n1", "n1/n1"),
    ("NodeName=n1", "n1.cluster.example", "n1/n1"),
    ("NodeName=n1.cluster", "n1.cluster", "n1.cluster/n1.cluster"),
    ("NodeName=n1xcluster", "n1.cluster", ""),
    ("NodeName=n[1-4]", "n3", "n3/n3"),
    ("NodeName=n[1-4]", "n5", ""),
    ("NodeName=n[01-04]", "n3", ""),
    ("NodeName=DEFAULT CPUs=2\nNodeName=n1", "n1", "n1/n1"),
    ("NodeName=DEFAULT CPUs=2", "DEFAULT", ""),
    ("NodeName=a NodeHostname=n1", "n1", "a/n1"),
    ("NodeName=n1 NodeHostname=other", "n1", ""),
    ("NodeName=a[1-3] NodeHostname=h[7-9]", "h8", "a2/h8"),
    ("NodeName=a1 NodeHostname=localhost", "n1", "a1/localhost"),
    ("NodeName=a[1-3] NodeHostname=n1 Port=[17001-17003]", "n1", "a1/n1 a2/n1 a3/n1"),
    ("NodeName=a NodeHostname=n1\nNodeName=b NodeHostname=n1", "n1", "a/n1 b/n1"),
    ("NodeName=a[1-2] NodeHostname=n1,n1", "n1", "a1/n1 a2/n1"),
    ("NodeName=x1\nMaxNodeCount=9", "dyn7.cluster", "dyn7/dyn7"),
    ("NodeName=x1\nMaxNodeCount=0", "dyn7", ""),
    ("NodeName=Node[1-4]", "node3", "Node3/Node3"),
    ("NodeName=node3", "NODE3.cluster", "node3/node3"),
    ("NodeName=Node3,node3", "node3", "node3/node3"),
    ("NodeName=a[1-2] NodeHostname=H[1-2]", "h2", "a2/H2"),
    ("NodeName=a+b", "aab", ""),
    ("NodeName=a.*", "a.b", ""),
    ("NodeName=n(1) NodeHostname=h", "h", "n(1)/h"),
    ("", "n1", ""),
]


@pytest.mark.parametrize(("text", "hostname", "expected"), NAMES)
def test_node_names(tmp_path: Path, text: str, hostname: str, expected: str) -> None:
    loaded = conf.load(write(tmp_path, text))
    found = conf.node_names(loaded, hostname) or conf.dynamic(loaded, hostname)
    assert " ".join(map("/".join, found)) == expected


# (SlurmdSpoolDir, directory)
SPOOLS = [
    ("", "/var/spool/slurmd"),
    ("SlurmdSpoolDir=/s", "/s"),
    ("SlurmdSpoolDir=/s/%n", "/s/node"),
    ("SlurmdSpoolDir=/s/%h/%n", "/s/host/node"),
    ("SlurmdSpoolDir=/s/%n/%n", "/s/node/%n"),
]


@pytest.mark.parametrize(("text", "directory"), SPOOLS)
def test_spool_directory(tmp_path: Path, text: str, directory: str) -> None:
    found = conf.load(write(tmp_path, text))
    assert conf.spool_directory(found, "node", "host") == directory


def test_as_configured(tmp_path: Path) -> None:
    text = (
        "NodeName=DEFAULT CPUs=1\nNodeName=a[1-3] NodeHostname=h[7-9]\nNodeName=b\n"
        "NodeName=x[1-2] NodeHostname=h"
    )
    found = conf.load(write(tmp_path, text))
    asked = ("a2", "b", "c", "A3", "x2", "default")
    names = [("a2", "h8"), ("b", "b"), ("c", "c"), ("a3", "h9"), ("x2", "h"), ("default",) * 2]
    assert [conf.as_configured(found, name) for name in asked] == names


# (list, names)
LISTS = [
    ("n1", ["n1"]),
    ("n1,m2", ["n1", "m2"]),
    ("n[1-3]", ["n1", "n2", "n3"]),
    ("n[1,3]", ["n1", "n3"]),
    ("n[1-2,7],m[01-02]", ["n1", "n2", "n7", "m01", "m02"]),
    ("n[9-11]", ["n9", "n10", "n11"]),
    ("n[09-11]x", ["n09x", "n10x", "n11x"]),
    ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
    ("r[1-2]3", ["r13", "r23"]),
    ("[1-2]x,y", ["1x", "2x", "y"]),
    ("a-[1-2]-ib.c", ["a-1-ib.c", "a-2-ib.c"]),
    ("10.0.0.[9-10]", ["10.0.0.9", "10.0.0.10"]),
    ("n[1-1]", ["n1"]),
    ("n[099-101]", ["n099", "n100", "n101"]),
]


@pytest.mark.parametrize(("text", "names"), LISTS)
def test_hostlist(text: str, names: list[str]) -> None:
    assert hostlist.expand(text) == names
    assert hostlist.count(text) == len(names)
    assert all(hostlist.contains(text, name) for name in names)
    assert not any(hostlist.contains(text, name) for name in ("", "n", "n0", "n4", "x", "n1 "))


BAD_LISTS = [
    "n[1-2",
    "n]1[",
    "n1]",
    "n[[1-2]]",
    "n[a-b]",
    "n[1-]x[",
    "n[]",
    "n[1,]",
    "n[2-1]",
    "n[1-999999]",
    "n[1-" + "9" * 5000 + "]",
    "n" + "[1]" * 1000,
    "n" + "[0-9]" * 9,
]


@pytest.mark.parametrize("text", BAD_LISTS)
def test_bad_hostlist(text: str) -> None:
    with pytest.raises(SetupError, match="host list"):
        hostlist.expand(text)


@pytest.mark.parametrize("text", ["n" + "[1]" * 1000, "n" + "[0-9]" * 9, "a,n" + "[1-11]" * 60])
def test_too_many_brackets(text: str) -> None:
    """Neither a call too deep, nor a million ways to split a name."""
    with pytest.raises(SetupError, match="more than 8 brackets in a name"):
        hostlist.contains(text, "n" + "1" * 60)


def test_contains_in_any_case() -> None:
    assert hostlist.contains("Node[1-3]-IB,x", "nODE2-ib", fold=True)
    assert not hostlist.contains("Node[1-3],x", "node2")
    assert not hostlist.contains("n[1-3]", "n" + "1" * 5000)
