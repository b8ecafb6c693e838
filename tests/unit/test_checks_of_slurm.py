"""The checks of a node's Slurm, over facts that are given: what no host here can show."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_adopt.cli import deadlines
from slurm_adopt.cli.checks.host import Host, LateError
from slurm_adopt.cli.checks.runner import run
from slurm_adopt.cli.checks.slurm import (
    auth,
    callerid,
    cgroup_conf,
    cgroups,
    conf_lines,
    slurm_conf,
    slurm_facts,
    slurmd,
    stepds,
)
from slurm_adopt.cli.checks.slurm import slurm_conf_keys as keys
from slurm_adopt.cli.checks.slurm.host_lists import folded
from slurm_adopt.cli.checks.slurm.slurm_facts import Asked
from slurm_adopt.decision.options import Options
from slurm_adopt.slurm import proc
from slurm_adopt.slurm.cgroup.hierarchy import UNIFIED, Mount
from slurm_adopt.slurm.cgroup.step_cgroup import V1, V2
from slurm_adopt.slurm.config import conf as config
from slurm_adopt.slurm.config import hostlist, slurmd_processes
from slurm_adopt.slurm.config.slurmd_processes import Slurmd
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.stepd.ask_all import Answer
from slurm_adopt.slurm.stepd.step_sockets import StepSocket
from slurm_adopt.slurm.versions import RELEASES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_adopt.cli.checks.finding import Check, Look, Seen

MODULES = (slurm_conf, keys, cgroup_conf, slurmd, stepds, cgroups, auth, callerid)
CHECKS: list[Check] = [check for module in MODULES for check in module.CHECKS]
RUNNING, STARTING, ENDING = 2, 1, 3

SOUND = """\
AuthType=auth/munge
PrologFlags=Contain
TaskPlugin=task/cgroup
SelectTypeParameters=CR_Core_Memory
NodeName=n1 Gres=gpu:2
"""
CONFINES = "ConstrainCores=yes\nConstrainRAMSpace=yes\nConstrainDevices=yes\n"


def host_with(tmp_path: Path, text: str = SOUND, cgroup: str = CONFINES, **facts: Any) -> Host:
    """Return a host about which all is given that a check asks for."""
    (tmp_path / "slurm.conf").write_text(text)
    (tmp_path / "cgroup.conf").write_text(cgroup)
    loaded = config.load(str(tmp_path / "slurm.conf"))
    given = {
        "slurm.conf": loaded,
        "cgroup.conf": config.load(str(tmp_path / "cgroup.conf")),
        "node name": ("n1", str(tmp_path)),
        "slurmds": [],
        "version": "24.05.2",
        "stepds": Asked({}, {}, []),
        "layout": None,
    }
    host = Host()
    host.__dict__["options"] = Options({"callerid": facts.pop("callerid", "1")})
    names = {name.replace("_", " "): value for name, value in facts.items()}
    host._kept = {name: (value, None) for name, value in {**given, **names}.items()}
    return host


def one(look: Look, host: Host) -> Seen:
    (seen,) = look(host)
    return seen


# slurm.conf and cgroup.conf by release

NEWEST = RELEASES[-1].name
BY_RELEASE = [
    (keys.prolog_flags, "PrologFlags=RunInJob\n", "24.05.2", "ok"),
    (keys.prolog_flags, "PrologFlags=RunInJob\n", "23.11.1", "error"),
    (keys.prolog_flags, "PrologFlags=RunInJob\n", "", "ok"),
    (keys.prolog_flags, "PrologFlags=X11\n", "18.08.1", "ok"),
    (keys.prolog_flags, "PrologFlags=Alloc,NoHold\n", "24.05.2", "error"),
    (keys.encryption, "TLSType=tls/s2n\n", "25.05.0", "warning"),
    (keys.encryption, "TLSType=tls/s2n\n", "24.11.5", "ok"),
    (keys.encryption, "TLSType=tls/s2n\n", "", "warning"),
    (keys.encryption, "TLSType=none\n", "25.05.0", "ok"),
    (keys.launch_parameters, "LaunchParameters=ulimit_pam_adopt\n", "23.02.1", "ok"),
    (
        keys.launch_parameters,
        "LaunchParameters=ulimit_pam_adopt\n",
        "22.05.8",
        "warning",
    ),
    (keys.launch_parameters, "LaunchParameters=ulimit_pam_adopt\n", "", "ok"),
    (cgroup_conf.memory, "TaskPlugin=cgroup\nSelectTypeParameters=CR_Core\n", "23.02.1", "warning"),
    (cgroup_conf.memory, "TaskPlugin=cgroup\nSelectTypeParameters=CR_Core\n", "22.05.8", "ok"),
    (cgroup_conf.memory, "TaskPlugin=cgroup\nSelectTypeParameters=CR_Memory\n", "23.02.1", "ok"),
    (slurmd.release, "", "24.05.2", "ok"),
    (slurmd.release, "", "", "skipped"),
    (slurmd.release, "", "99.05.1", "warning"),
    (slurmd.release, "", "16.05.1", "error"),
]


@pytest.mark.parametrize(("look", "text", "version", "result"), BY_RELEASE)
def test_by_release(tmp_path: Path, look: Look, text: str, version: str, result: str) -> None:
    seen = one(look, host_with(tmp_path, text, version=version))
    assert seen.result == result, seen


def test_encryption_where_nobody_is_asked(tmp_path: Path) -> None:
    host = host_with(tmp_path, "TLSType=tls/s2n\n", version=NEWEST, callerid="0")
    assert one(keys.encryption, host).result == "ok"
    assert one(callerid.own, host).result == "skipped"


SWAP = [
    (True, "ConstrainSwapSpace=yes\n", "ok"),
    (True, "", "warning"),
    (False, "", "ok"),
]


@pytest.mark.parametrize(("swaps", "cgroup", "result"), SWAP)
def test_swap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool, cgroup: str, result: str
) -> None:
    monkeypatch.setattr(cgroup_conf, "_has_swap", lambda: swaps)
    assert one(cgroup_conf.swap, host_with(tmp_path, cgroup=cgroup)).result == result


GRES = [
    ("NodeName=n1 Gres=gpu:2\n", "warning"),
    ("NodeName=n1\nNodeName=n2 Gres=gpu:2\n", "ok"),
    ("NodeName=DEFAULT Gres=gpu:1\nNodeName=n[1-2]\n", "warning"),
    ("NodeName=DEFAULT Gres=gpu:1\nNodeName=n[1-2] Gres=\n", "ok"),
    ("NodeName=n1 Gres=craynetwork:4\n", "ok"),
    ("NodeName=n1 Gres=nic:1\n", "warning"),
]


@pytest.mark.parametrize(("text", "result"), GRES)
def test_devices_of_this_node(tmp_path: Path, text: str, result: str) -> None:
    if "nic" in text:
        (tmp_path / "gres.conf").write_text("Name=nic File=/dev/nic0\n")
    host = host_with(tmp_path, f"TaskPlugin=task/cgroup\n{text}", "ConstrainDevices=no\n")
    assert one(cgroup_conf.devices, host).result == result


# Who may write


def test_open_to(tmp_path: Path) -> None:
    """A path is as safe as the least safe directory above it."""
    trusted = frozenset({0, os.getuid()})
    file = tmp_path / "a" / "b"
    file.parent.mkdir()
    file.write_text("")
    assert slurm_conf.open_to(str(file), trusted) == ""
    file.chmod(0o666)
    assert slurm_conf.open_to(str(file), trusted) == f"{file} has mode 0666"
    file.chmod(0o600)
    file.parent.chmod(0o777)
    assert slurm_conf.open_to(str(file), trusted) == f"{file.parent} has mode 0777"
    file.parent.chmod(0o1777)  # as /tmp: nobody can replace the file of another
    assert slurm_conf.open_to(str(file), trusted) == ""
    assert slurm_conf.open_to(str(file), frozenset({12345})).endswith(f"uid {os.getuid()}")
    assert "No such file" in slurm_conf.open_to(str(tmp_path / "none"), trusted)


# Where a key stands

CONF = """\
# PrologFlags=none
PrologFlags=Alloc # the first
ClusterName=Ours SlurmdPort=7000
TaskPlugin = "task/cgroup"
Include %c.conf
NodeName=n[1-2] \\
  Port=7001 Gres=gpu:1
PrologFlags=Contain
PartitionName=all Nodes=ALL MaxTime=1
"""
INCLUDED = "\n\nProctrackType=proctrack/cgroup\n"


def test_where_a_key_stands(tmp_path: Path) -> None:
    (tmp_path / "ours.conf").write_text(INCLUDED)
    host = host_with(tmp_path, CONF)
    conf = slurm_facts.conf(host)
    places = {
        key: conf_lines.where(host, conf, key)
        for key in ("PrologFlags", "slurmdport", "TaskPlugin", "ProctrackType", "MaxTime", "Port")
    }
    main, other = str(tmp_path / "slurm.conf"), str(tmp_path / "ours.conf")
    assert places == {
        "PrologFlags": (main, 8),
        "slurmdport": (main, 3),
        "TaskPlugin": (main, 4),
        "ProctrackType": (other, 3),
        "MaxTime": (main, 0),
        "Port": (main, 0),
    }
    assert conf_lines.read_files(host, conf) == [main, other]


def test_both_readers_agree(tmp_path: Path) -> None:
    """The value of the line that is named is the one that the module reads."""
    (tmp_path / "ours.conf").write_text(INCLUDED)
    host = host_with(tmp_path, CONF)
    conf = slurm_facts.conf(host)
    values = {line.key: line.value for line in conf_lines.lines(host, conf)}
    assert conf.values
    assert {key: values[key] for key in conf.values} == conf.values


# The version of slurmd

SAYS = [
    ("echo slurm 24.05.2", "24.05.2"),
    ("echo slurm-wlm 22.05.8", "22.05.8"),
    ("echo something else", ""),
    ("echo slurm", ""),
    ("exit 1", ""),
    ("sleep 60", ""),
]


@pytest.mark.parametrize(("script", "version"), SAYS)
def test_version_of_slurmd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, version: str
) -> None:
    monkeypatch.setattr(deadlines, "VERSION", 0.3 if "sleep" in script else 30.0)
    program = tmp_path / "slurmd"
    program.write_text(
        f"#!/bin/sh\n[ $1 = -V ] || exit 1\nexec {script}\n".replace("exec exit", "exit")
    )
    program.chmod(0o755)
    assert slurm_facts._asked_version(str(program), "slurmd") == version
    assert slurm_facts._asked_version(str(tmp_path / "none"), "slurmd") == ""


def test_version_without_slurmd(tmp_path: Path) -> None:
    """The stepds say it then."""
    step = StepSocket("/spool/n1_1.4294967292", 1)
    asked = Asked({step: Answer(RELEASES[3].protocol, 5, RUNNING)}, {}, [])
    host = host_with(tmp_path, stepds=asked)
    del host._kept["version"]
    assert slurm_facts.release(host) == RELEASES[3].name


# slurmd's slurm.conf


def started(conf: str, how: str, node: str = "") -> Slurmd:
    return Slurmd(99, conf, how, {"N": node} if node else {})


def test_slurmd_that_reads_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.conf"
    other.write_text("other")
    own = str(tmp_path / "slurm.conf")
    monkeypatch.setattr(config, "PLACES", (own,))
    rows = [
        ([started(own, "-f")], ["ok"]),
        ([started("", "beside")], ["ok"]),
        ([started(str(other), "-f")], ["error"]),
        ([started(str(tmp_path / "gone"), "SLURM_CONF")], ["error"]),
        ([started(str(other), "beside")], ["warning"]),
        ([started(own, "-f"), started(str(other), "-f", "n2")], ["warning"]),
        ([], ["skipped"]),
    ]
    for running, results in rows:
        host = host_with(tmp_path, slurmds=running)
        host.is_root = True
        assert [seen.result for seen in slurm_conf.of_slurmd(host)] == results, running
    monkeypatch.setattr(config, "PLACES", (str(other),))
    host = host_with(tmp_path, slurmds=[started("", "beside")])
    host.is_root = True
    assert [seen.result for seen in slurm_conf.of_slurmd(host)] == ["error"]


# Stepds


def step(job: int, pid: int = 1) -> StepSocket:
    found = StepSocket(f"/spool/n1_{job}.4294967292", job)
    found.pid = pid
    return found


STATES = [
    ({1: RUNNING}, 0.0, "ok"),
    ({1: RUNNING, 2: STARTING}, 1.0, "ok"),
    ({1: STARTING}, 61.0, "warning"),
    ({1: ENDING}, 61.0, "ok"),
    ({}, 0.0, "ok"),
]


@pytest.mark.parametrize(("states", "age", "result"), STATES)
def test_states(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    states: dict[int, int],
    age: float,
    result: str,
) -> None:
    monkeypatch.setattr(stepds, "_age", lambda _: age)
    answers = {step(job): Answer(RELEASES[-1].protocol, 5, state) for job, state in states.items()}
    host = host_with(tmp_path, stepds=Asked(answers, {}, []))
    host.is_root = True
    assert one(stepds.states, host).result == result


def test_releases_of_stepds(tmp_path: Path) -> None:
    def said(*protocols: int) -> Seen:
        answers = {step(at): Answer(one, 5, RUNNING) for at, one in enumerate(protocols)}
        return one(stepds.releases, host_with(tmp_path, stepds=Asked(answers, {}, [])))

    old, new = RELEASES[6], RELEASES[9]
    assert said(new.protocol, old.protocol).title == (
        f"the stepds are of Slurm {old.name} and {new.name}"
    )
    assert said(new.protocol, 99 << 8).result == "warning"
    assert said().result == "skipped"


# slurmd's start, that of the stepd of a step, what slurm.conf says, whether the extern step is dead
# and whether slurm.conf has changed since
LONE = [
    (100, 50, SOUND, False, False, "warning"),
    (100, 150, SOUND, False, False, "ok"),
    (100, 150, SOUND, False, True, "warning"),
    (100, 150, "PrologFlags=Alloc\n", False, False, "error"),
    (100, 50, "PrologFlags=Alloc\n", False, False, "error"),
    (100, 150, SOUND, True, False, "error"),
]


@pytest.mark.parametrize(("of_slurmd", "of_step", "text", "dead", "changed", "result"), LONE)
def test_job_without_an_extern_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    of_slurmd: int,
    of_step: int,
    text: str,
    dead: bool,
    changed: bool,
    result: str,
) -> None:
    (tmp_path / "n1_7.0").touch()
    batch = step(7, pid=7)
    started_at = {99: of_slurmd, 7: of_step}
    monkeypatch.setattr(proc, "start_time", started_at.__getitem__)
    answer = {batch: Answer(RELEASES[-1].protocol, 5, RUNNING)}
    monkeypatch.setattr(slurm_facts, "ask", lambda *_: Asked(answer, {}, []))
    asked = Asked({}, {}, [step(7)] if dead else [])
    host = host_with(tmp_path, text, slurmds=[started("", "")], stepds=asked)
    if not changed:
        os.utime(slurm_facts.conf(host).path, (0, 0))
    seen = one(stepds.extern_steps, host)
    assert (seen.result, "job 7" in seen.found) == (result, True)


def test_silent_stepd_is_named_by_its_job(tmp_path: Path) -> None:
    silent = {step(at): "does not answer" for at in range(20)}
    seen = one(stepds.answer, host_with(tmp_path, stepds=Asked({}, silent, [])))
    assert seen.result == "error"
    assert seen.found.startswith("job 0: does not answer, job 1: ")
    assert seen.found.endswith(" and 12 more")


# Cgroups


class Tree:
    """Directories that stand for mounted cgroups."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, *controllers: str) -> None:
        self.path = path
        self.mounts = {name: Mount(str(path / (name or "unified")), "") for name in controllers}
        for mount in self.mounts.values():
            Path(mount.point).mkdir()
        monkeypatch.setattr(cgroups, "_mounts", lambda _: self.mounts)
        monkeypatch.setattr(cgroups, "_bases", lambda mount: [mount.point])

    def layout(self) -> V1 | V2:
        wanted = frozenset({"freezer", "cpuset", "memory", "devices"})
        if UNIFIED in self.mounts:
            return V2(wanted, self.mounts, "/proc")
        return V1(wanted, self.mounts, "n1")

    def write(self, name: str, text: str = "") -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


SCOPE = "unified/system.slice/slurmstepd.scope"


def test_cgroup_v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, monkeypatch, UNIFIED)
    running = [started("", "")]
    host = host_with(tmp_path, layout=tree.layout(), slurmds=running)
    assert one(cgroups.version, host).title == "cgroup v2 is mounted and used"
    tree.write("unified/cgroup.controllers", "cpuset cpu io pids\n")
    seen = one(cgroups.controllers, host)
    assert (seen.result, seen.found) == ("error", "memory")
    tree.write("unified/cgroup.controllers", "cpuset cpu io memory pids\n")
    assert one(cgroups.controllers, host).result == "ok"
    tree.write(f"{SCOPE}/cgroup.controllers", "cpu memory pids\n")
    seen = one(cgroups.controllers, host)
    assert (seen.result, seen.found, seen.file) == ("error", "cpuset", str(tmp_path / SCOPE))
    shutil.rmtree(tmp_path / SCOPE)
    host.is_root = True
    assert one(cgroups.top, host).result == "error"
    tree.write(f"{SCOPE}/cgroup.procs")
    assert one(cgroups.top, host).title == "the scope of the stepds is there"
    tree.write(f"{SCOPE}/cgroup.freeze", "0\n")
    assert [seen.result for seen in cgroups.top_is_slurms(host)] == ["ok"]
    tree.write(f"{SCOPE}/cgroup.freeze", "1\n")
    assert [seen.result for seen in cgroups.top_is_slurms(host)] == ["error"]


def test_no_scope_without_slurmd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, monkeypatch, UNIFIED)
    host = host_with(tmp_path, layout=tree.layout())
    host.is_root = True
    assert one(cgroups.top, host).result == "skipped"


def test_cgroup_v1_that_is_not_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, monkeypatch, "freezer", "cpuset", "memory")
    host = host_with(tmp_path, layout=tree.layout())
    seen = one(cgroups.version, host)
    assert (seen.result, seen.found) == ("error", "devices")


def test_cgroups_of_slurm_that_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, monkeypatch, "freezer", "cpuset", "memory", "devices")
    answers = {step(1): Answer(RELEASES[-1].protocol, 5, RUNNING)}
    for asked, result in ((Asked({}, {}, []), "skipped"), (Asked(answers, {}, []), "error")):
        host = host_with(tmp_path, layout=tree.layout(), stepds=asked)
        assert one(cgroups.top, host).result == result
    for name in ("freezer", "cpuset", "memory", "devices"):
        tree.write(f"{name}/slurm/cgroup.procs")
    assert one(cgroups.top, host).result == "ok"


def test_a_kernel_without_a_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path, monkeypatch, "freezer", "cpuset", "memory", "devices")
    names = ("cpuset", "memory", "devices", "freezer")
    text = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n" + "".join(
        f"{name}\t1\t1\t{int(name != 'memory')}\n" for name in names
    )
    monkeypatch.setattr(proc, "read", lambda _: text.encode())
    seen = one(cgroups.controllers, host_with(tmp_path, layout=tree.layout()))
    assert (seen.result, seen.found) == ("error", "memory")


# Nodes of slurm.conf, and host lists

NODES = """\
SlurmdPort=7000
NodeName=n[1-2] NodeAddr=10.0.0.[1-2]
NodeName=DEFAULT Port=8000
NodeName=m1 NodeHostname=host
NodeName=k[1-3] NodeHostname=host Port=[9001-9003]
"""


def test_nodes_of_slurm_conf(tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text(NODES)
    nodes = list(callerid.nodes_of(config.load(str(tmp_path / "slurm.conf"))))
    assert [tuple(node) for node in nodes] == [
        ("n1", "10.0.0.1", 7000),
        ("n2", "10.0.0.2", 7000),
        ("m1", "host", 8000),
        ("k1", "host", 9001),
        ("k2", "host", 9002),
        ("k3", "host", 9003),
    ]


FOLDED = [
    ([], ""),
    (["login"], "login"),
    (["n1"], "n1"),
    (["n1", "n2", "n3", "n7"], "n[1-3,7]"),
    (["n10", "n9", "n9"], "n[9-10]"),
    (["n08", "n09", "n10"], "n[08-10]"),
    (["n1-ib", "n2-ib", "m1"], "m1,n[1-2]-ib"),
    (["r1n1", "r1n2", "r2n1"], "r1n[1-2],r2n1"),
]


@pytest.mark.parametrize(("names", "text"), FOLDED)
def test_folded(names: list[str], text: str) -> None:
    assert folded(names) == text


@given(st.lists(st.from_regex(r"[a-c]{1,2}-?[0-9]{0,3}(-ib)?", fullmatch=True), max_size=20))
def test_a_folded_list_has_the_same_names(names: list[str]) -> None:
    text = folded(names)
    assert sorted(hostlist.expand(text)) == sorted(set(names)) if names else text == ""


# Many nodes


class Asking(callerid._Asking):
    """Asks nobody: some answer, some do not, one hangs."""

    asked: list[str]
    over: threading.Event
    hung: threading.Thread

    def _ask(self, node: callerid.Node) -> str:
        self.asked.append(node.name)
        if node.name == "n7":
            self.hung = threading.current_thread()
            self.over.wait(60)
        return "connection refused" if node.name == "n8" else ""


def test_many_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked once, and one that hangs keeps nobody waiting for longer than the end."""
    monkeypatch.setattr(deadlines, "NODES", 2.0)
    nodes = [callerid.Node(f"n{number}", "", 1) for number in range(1000)]
    asking = Asking(nodes, None, 1.0)  # type: ignore[arg-type]
    asking.asked, asking.over = [], threading.Event()
    try:
        came = asking.run()
    finally:
        asking.over.set()
        asking.hung.join(
            60
        )  # else it would be there in the tests of others, and take their SIGCHLD
    assert sorted(asking.asked) == sorted(node.name for node in nodes)
    assert {name: why for name, why in came.items() if why} == {
        "n7": "not asked: there was no time left, or its name was looked up for too long",
        "n8": "connection refused",
    }


# All of them


def test_nothing_raises_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no Slurm at all one check says so, and the others say what they need."""
    monkeypatch.setattr(config, "PLACES", ())
    host = Host()
    host._kept["slurmds"] = ([], None)
    host._kept["slurm's site"] = (None, SetupError("no slurm.conf in any place"))
    found = list(run(CHECKS, host))
    assert {each.code for each in found} == {check.code for check in CHECKS}
    failed = [each for each in found if "itself has failed" in each.title]
    assert failed == []
    bad = {each.code for each in found if each.result in ("warning", "error")}
    assert bad <= {"SA301", "SA404"}


def test_a_dead_file_system_is_one_finding() -> None:
    """What cannot be read in time is said once; the others are not known."""
    host = Host()
    host._kept["slurmds"] = ([], None)
    host._kept["slurm's site"] = (None, LateError("not within 7 s"))
    found = {each.code: each.result for each in run(CHECKS, host)}
    assert found["SA301"] == "error"
    assert {code for code, result in found.items() if result == "error"} <= {"SA301", "SA404"}


def test_each_row_is_told_apart() -> None:
    codes = [check.code for check in CHECKS]
    assert codes == sorted(set(codes))
    for text in texts(CHECKS):
        assert text[0].isupper() or text.startswith(("slurm", "systemd", "munge")), text
        assert text.endswith("."), text


def texts(checks: Iterable[Check]) -> list[str]:
    return [text for check in checks for text in (check.expected, check.why, check.fix)]


def test_slurmd_that_root_may_not_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_SYS_PTRACE nothing is known of it, and nothing is said to be wrong."""
    host = Host()
    host.is_root = True
    host._kept["slurmds"] = ([], None)
    for hidden, result in ((True, "skipped"), (False, "error")):
        monkeypatch.setattr(slurmd_processes, "hidden", lambda hidden=hidden: hidden)
        assert one(slurmd.runs, host).result == result


# Garbage

HERE = f"NodeName={os.uname().nodename}"
GARBAGE = [  # slurm.conf, cgroup.conf
    (b"\0", b""),
    (b"\xff\xfe\xff", b"\xff\xfe"),
    (b"Include slurm.conf\n", b""),
    (b"Include \xff\n", b""),
    (b"NodeName=n[1-\n", b""),
    (b"NodeName=n[1-99999999]\n", b""),
    (b"NodeName=n[1-2] Port=x\n", b""),
    (b"%(here)s Port=99999999999\n", b""),
    (b"%(here)s Port=[1-\nSlurmdPort=x\n", b""),
    (b"%(here)s Gres=,,:,\nSlurmdSpoolDir=%(spool)s\n", b"ConstrainDevices=\n"),
    (b"%(here)s\nSlurmdSpoolDir=" + b"a" * 5000 + b"\n", b""),
    (b"%(here)s\nSlurmdSpoolDir=\x01\xff\n", b""),
    (b"%(here)s\nSlurmdUser=\xff\nSlurmUser=\x01\n", b""),
    (b"%(here)s\nSlurmdUser=99999999999999999999\n", b""),
    (b"%(here)s\nAuthType=auth/slurm\nClusterName=../..\n", b""),
    (b"%(here)s\nAuthInfo=ttl=\xc2\xb2,socket=\n", b""),
    (b"%(here)s\nAuthInfo=socket=" + b"a" * 500 + b"\n", b""),
    (b'%(here)s\nPrologFlags="\nTaskPlugin=,\nSelectTypeParameters==\n', b""),
    (b"%(here)s\nTaskPlugin=task/cgroup\n", b"CgroupMountpoint=\xff\nCgroupSlice=../..\n"),
    (b"%(here)s\nTaskPlugin=task/cgroup\n", b"\0"),
    (b"%(here)s\nTaskPlugin=task/cgroup\n", b"CgroupPlugin=cgroup/v2\nCgroupMountpoint=/\n"),
]


@pytest.mark.parametrize(("slurm", "cgroup"), GARBAGE)
def test_garbage(tmp_path: Path, slurm: bytes, cgroup: bytes) -> None:
    """No check fails of itself, whatever the files say."""
    spool = tmp_path / "spool"
    spool.mkdir()
    for name in (".4294967292", "_x.4294967292", "_1.x", "_1.4294967292", "_2.0", "_3.1.2"):
        (spool / f"{os.uname().nodename}{name}").touch()
    (spool / f"{os.uname().nodename}_4.4294967292").symlink_to("nowhere")
    words = {b"here": HERE.encode(), b"spool": os.fsencode(spool)}
    (tmp_path / "slurm.conf").write_bytes(slurm % words if b"%(" in slurm else slurm)
    (tmp_path / "cgroup.conf").write_bytes(cgroup)
    host = Host(nodes="")
    given = {"slurm_conf": str(tmp_path / "slurm.conf"), "callerid_timeout": "0.1"}
    host.__dict__["options"] = Options(given)
    host._kept["slurmds"] = ([], None)
    found = list(run(CHECKS, host))
    assert {each.code for each in found} == {check.code for check in CHECKS}
    assert [each for each in found if "itself has failed" in each.title] == []
