"""The NodeName lines of a large slurm.conf: what is left unread changes no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_adopt.slurm import files
from slurm_adopt.slurm.config import conf, node_lines, slurmd_ports
from slurm_adopt.slurm.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOSTS = "10.0.0.1 n1 head\nfd00::1 n2\n"
WORDS = (
    "NodeName=", "nodename=", "NODENAME =", " NodeName=", "NodeHostname=", "nodeHostName=",
    "NodeAddr=", "Port=", "pORT=", "PartitionName=p", "SlurmdPort=7000", "MaxNodeCount=9",
    "DEFAULT", "default", "n1", "N1", "n2", "n1.site", "n10", "an1", "n1-ib", "localhost", "n[1-4]",
    "n[01-03,7]", "N[1-2]", "[1-2]n", "r[1-2]n[1-2]", "n[1", "n]1[", "n[2-1]", "a,n1", "n1,a",
    '"n1"', '"a b"', '"n1,n2"', "7001", "[7001-7002]", "10.0.0.1", "10.0.0.[1-2]", "fd00:0::1",
    "Include b.conf", "# n1", "#", "\\", "\\#", "\\n1", "é", "K", "\u212a", " ", " ", "\t", "\r",
    "=", ",", "CPUs=2", "State=CLOUD", "\n", "\n", "\nNodeName=", "\nNodeName=n1 ",
    "\nNodeName=DEFAULT ",
)  # fmt: skip
NAMES = (
    "n1",
    "n2",
    "n1.site",
    "N1",
    "n10",
    "k",
    "\u212a",
    "a b",
    "",
    "n[1-2]",
    "2n",
    "r1n2",
    "DEFAULT",
)
# (lines that are worth a block, whose lines are kept, bytes that are read at a time)
READ = [
    (1, "", 1),
    (3, "", 1),
    (1, "n1", 20),
    (2, "n1.site n1", 64),
    (1, "N1", 9),
    (1, "n1.site", 1 << 15),
]
TEXT = st.lists(st.sampled_from(WORDS), max_size=40).map("".join)


def answers(path: str, hosts: str, about: str = "") -> dict[str, object]:
    """Return all that is asked of a slurm.conf; for what is refused the error.

    `about`: what is asked first, of lines that are left out, and what is asked of all in the end.
    """
    found = conf.load(path, frozenset(about.split()))
    asked: dict[str, Callable[[], object]] = {
        "ports": lambda: slurmd_ports.all_ports(found),
        "at IPv4": lambda: slurmd_ports.ports_at(found, "10.0.0.1", hosts),
        "at IPv6": lambda: slurmd_ports.ports_at(found, "fd00::1", hosts),
        "elsewhere": lambda: slurmd_ports.ports_at(found, "10.0.0.9", hosts),
    }
    for name in NAMES:
        asked[f"names {name}"] = lambda name=name: conf.node_names(found, name)  # type: ignore[misc]
        asked[f"has {name}"] = lambda name=name: conf.has_node(found, name)  # type: ignore[misc]
        asked[f"as {name}"] = lambda name=name: conf.as_configured(found, name)  # type: ignore[misc]
    first = [f"{what} {name}" for what in ("names", "as") for name in about.split()]
    said: dict[str, object] = {"values": found.values, "files": found.files}
    for what, ask in [*((what, asked[what]) for what in first), *asked.items()]:
        try:
            said[what] = ask()
        except SetupError:
            said[what] = SetupError
    return {**said, "nodes": found.nodes}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a hosts file."""
    path = tmp_path_factory.mktemp("conf")
    (path / "hosts").write_text(HOSTS)
    return path


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(text=TEXT, included=TEXT)
def test_the_answers_are_those_of_the_whole_parser(
    directory: Path, text: str, included: str
) -> None:
    """A host list that is malformed spoils the answers about other nodes only where all is read."""
    (directory / "slurm.conf").write_text(text)
    (directory / "b.conf").write_text(included.replace("Include", "Of"))
    path, hosts = str(directory / "slurm.conf"), str(directory / "hosts")
    with pytest.MonkeyPatch.context() as patch:
        try:
            whole = answers(path, hosts)
        except SetupError:  # more than 1000 files, say
            return
        patch.setattr(conf, "_LARGE", 0)
        for run, about, size in READ:
            patch.setattr(node_lines, "_RUN", run)
            patch.setattr(files, "_TEXT", size)
            unread = answers(path, hosts, about)
            expected = {
                what: unread[what] if said is SetupError else said for what, said in whole.items()
            }
            assert unread == expected


# (what stands before, between and after the lines, how often, line, lines that are parsed for n7)
BEFORE = "ClusterName=c\nSlurmdSpoolDir=/s\n"
LARGE = [
    ("one block", "", 5000, "NodeName=x{} CPUs=2\n", 2),
    ("another spelling", "", 5000, "  nodename = x{} CPUs=2\n", 2),
    ("comments and empty lines between", "# rack\n\n", 5000, "NodeName=x{} CPUs=2\n", 2),
    ("names that begin alike", "", 5000, "NodeName=n7{} CPUs=2\n", 2),
    ("names that end alike", "", 5000, "NodeName=n{}n7 CPUs=2\n", 2),
    ("host lists of others", "", 5000, "NodeName=x{}[1-4] CPUs=2\n", 2),
]


@pytest.mark.parametrize(
    ("case", "between", "times", "line", "parsed"), LARGE, ids=[c[0] for c in LARGE]
)
def test_few_lines_are_parsed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    between: str,
    times: int,
    line: str,
    parsed: int,
) -> None:
    del case
    monkeypatch.setattr(conf, "_LARGE", 0)
    path = tmp_path / "slurm.conf"
    lines = [line.format(number) + between for number in range(times)]
    ours = line.partition("=")[0] + "= n7 NodeHostname=n7.site\n"
    lines.insert(times // 2, ours)
    path.write_text(BEFORE + "".join(lines) + "SlurmdPort=7000\n")
    found = conf.load(str(path))
    assert (found.get("ClusterName"), found.get("SlurmdPort")) == ("c", "7000")
    seen = []
    pairs = conf._pairs

    def counted(text: str) -> dict[str, str]:
        seen.append(text)
        return pairs(text)

    monkeypatch.setattr(conf, "_pairs", counted)
    assert conf.as_configured(found, "n7") == ("n7", "n7.site")
    assert len(seen) == parsed
    assert len(found.nodes) == times + 1


@pytest.mark.parametrize("included", [False, True])
def test_what_is_left_out(tmp_path: Path, included: bool) -> None:
    """The lines about other nodes are read when another one is asked for."""
    path, more = tmp_path / "slurm.conf", tmp_path / "nodes.conf"
    lines = "".join(f"NodeName=x{number} CPUs=2\n" for number in range(5000))
    lines += "NodeName=n7 NodeHostname=n7.site\n" + lines.replace("x", "y")
    more.write_text(lines)
    nodes = "Include nodes.conf\n" if included else lines
    path.write_text(f"{BEFORE}{nodes}SlurmdPort=7000\n")
    found = conf.load(str(path), frozenset({"n7"}))
    assert (found.get("ClusterName"), found.get("SlurmdPort")) == ("c", "7000")
    assert len(found._nodes) == 1
    assert conf.as_configured(found, "n7") == ("n7", "n7.site")
    assert len(found._nodes) == 1
    assert found.is_light()
    assert conf.node_names(found, "y9") == [("y9", "y9")]
    assert not found.is_light()
    assert len(found.nodes) == 10_001
    named = conf.load(str(path), frozenset({"n7"}))
    assert conf.node_names(named, "n7.site") == [("n7", "n7.site")]
    assert len(conf.load(str(path), frozenset({"n7"})).nodes) == 10_001


def test_many_lines_that_are_no_block_are_not_light(tmp_path: Path) -> None:
    """They are kept one by one, which takes megabytes: no phase hands them to the next."""
    path = tmp_path / "slurm.conf"
    path.write_text("".join(f"NodeName=x{n} \\\nCPUs=2\n" for n in range(5000)))
    assert not conf.load(str(path), frozenset({"x7"})).is_light()
    path.write_text("".join(f"NodeName=x{n} \\\nCPUs=2\n" for n in range(50)))
    assert conf.load(str(path), frozenset({"x7"})).is_light()


def test_a_long_line_at_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "slurm.conf"
    long = f"#{'x' * files._TEXT}\n"
    path.write_text(f"ClusterName=c\n{long}" + "NodeName=n1\n" * 5000)
    found = conf.load(str(path), frozenset({"n2"}))
    assert found.get("ClusterName") == "c"
    assert len(found.nodes) == 5000


def test_a_small_file_is_read_whole(tmp_path: Path) -> None:
    """Most are small; what is for large ones is not even imported (tests of imports)."""
    path = tmp_path / "slurm.conf"
    path.write_text("NodeName=n1\n" * 20)
    assert len(conf.load(str(path)).nodes) == 20
