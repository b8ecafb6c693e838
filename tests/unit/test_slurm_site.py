"""Which slurm.conf, node name and spool directory a node has; what is logged of it."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from slurm_adopt.node.slurm_site import SlurmSite
from slurm_adopt.slurm import proc
from slurm_adopt.slurm.config import aliases, conf, slurmd_processes
from slurm_adopt.slurm.config.slurmd_processes import Slurmd
from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.system import child

if TYPE_CHECKING:
    from slurm_adopt.slurm.waiting import Deadline
    from slurm_adopt.system.log import Log


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def debug(self, text: str) -> None:
        self.lines.append(text)

    info = error = debug


class Place:
    """A machine: files below a directory, usual places, running slurmds."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top = top
        self.log = Lines()
        self.searches = 0
        self.slurmds: list[Slurmd] = []
        self.monkeypatch = monkeypatch
        self.usual(())
        monkeypatch.setattr(slurmd_processes, "slurmds", self._search)
        monkeypatch.setattr(slurmd_processes, "hidden", lambda: False)
        self.asked: list[str] | Exception = []  # the names that all services know
        monkeypatch.setattr(child, "run", self._ask)
        monkeypatch.setattr(aliases.of_hosts, "__defaults__", (self.path("hosts"),))

    def usual(self, names: tuple[str, ...]) -> None:
        self.monkeypatch.setattr(conf, "PLACES", tuple(self.path(name) for name in names))

    def _search(self) -> list[Slurmd]:
        self.searches += 1
        return self.slurmds

    def _ask(self, function: object, deadline: Deadline, limit: int) -> bytes:
        del function, limit
        assert deadline.left() < 3
        self.log.debug("asked")
        if isinstance(self.asked, Exception):
            raise self.asked
        return "\n".join(self.asked).encode()

    def path(self, name: str) -> str:
        return str(self.top / name)

    def write(self, name: str, text: str) -> str:
        (self.top / name).write_text(text.replace("TOP", str(self.top)))
        return self.path(name)

    def sockets(self, *names: str) -> None:
        for name in names:
            (self.top / name).parent.mkdir(exist_ok=True)
            (self.top / name).touch()

    def setting(self, given: str = "", nodename: str = "", hostname: str = "n1.dom") -> SlurmSite:
        return SlurmSite(given, nodename, hostname, cast("Log", self.log))

    def logged(self, words: str) -> bool:
        return any(words in line for line in self.log.lines)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return Place(tmp_path, monkeypatch)


def slurmd(
    pid: int = 9, conf: str = "", node: str = "", configless: bool = False, how: str = "-f"
) -> Slurmd:
    options = {**({"N": node} if node else {}), **({"conf-server": "c"} if configless else {})}
    return Slurmd(pid, conf, how, options)


PLAIN = "SlurmdSpoolDir=TOP/spool\nNodeName=n[1-2]\n"


def test_given(place: Place) -> None:
    place.usual(("usual",))
    place.write("usual", "NodeName=x")
    given = place.write("given", PLAIN)
    setting = place.setting(given)
    assert (setting.conf.path, setting.name, setting.spool) == (given, "n1", place.path("spool"))
    assert place.logged(f"configuration: {given}, as slurm_conf= says")
    assert place.searches == 0


@pytest.mark.parametrize(
    ("text", "point"), [("", "/sys/fs/cgroup"), ("CgroupMountpoint=/cgroup/\n", "/cgroup")]
)
def test_mount_point(place: Place, text: str, point: str) -> None:
    """cgroup.conf is beside slurm.conf, and is read once."""
    setting = place.setting(place.write("given", PLAIN))
    place.write("cgroup.conf", text)
    assert setting.mountpoint() == point
    place.write("cgroup.conf", "CgroupMountpoint=/elsewhere")
    assert setting.mountpoint() == point


def test_usual(place: Place) -> None:
    place.usual(("absent", "first", "second"))
    first, second = place.write("first", PLAIN), place.write("second", "")
    place.sockets("spool/n1_7.4294967292")
    setting = place.setting()
    assert (setting.conf.path, [step.job_id for step in setting.steps()]) == (first, [7])
    assert place.logged(f"{first}, the first of the usual places; not read: {second}")
    assert place.searches == 0  # an ordinary login looks at no process


def test_of_the_running_slurmd(place: Place) -> None:
    path = place.write("own", PLAIN)
    place.slurmds = [slurmd(8), slurmd(9, path)]
    assert place.setting().conf.path == path
    assert place.logged(f"{path}, as slurmd 9 (-f {path}) was started with")


@pytest.mark.parametrize(
    ("running", "words"),
    [([], "no slurm.conf in any of "), ([slurmd(configless=True)], r"slurmd 9 \(--conf-server\)")],
)
def test_nowhere(place: Place, running: list[Slurmd], words: str) -> None:
    place.slurmds = running
    with pytest.raises(SetupError, match=words + ".*slurm_conf=/path/to/slurm.conf"):
        place.setting().steps()


def test_stale_file_in_a_usual_place(place: Place) -> None:
    """It does not know this host, the one that slurmd was started with does."""
    place.usual(("stale",))
    stale, path = place.write("stale", "NodeName=old1"), place.write("own", PLAIN)
    place.slurmds = [slurmd(9, path)]
    setting = place.setting()
    assert (setting.name, setting.conf.path) == ("n1", path)
    assert place.logged(f"was started with; {stale} names no")


def test_spool_directory_that_is_not_there(place: Place) -> None:
    place.usual(("stale",))
    place.write("stale", "SlurmdSpoolDir=/nowhere\nNodeName=n1")
    path = place.write("own", PLAIN)
    place.sockets("spool/n1_7.4294967292")
    place.slurmds = [slurmd(9, path)]
    assert [step.job_id for step in place.setting().steps()] == [7]


def test_file_that_cannot_be_read(place: Place) -> None:
    place.usual(("broken",))
    place.write("broken", "\0")
    with pytest.raises(SetupError, match="broken is not a text file"):
        place.setting().steps()
    path = place.write("own", PLAIN)
    place.slurmds = [slurmd(9, path, how="SLURM_CONF")]
    place.sockets("spool/n1_7.4294967292")
    setting = place.setting()
    assert [step.job_id for step in setting.steps()] == [7]
    assert place.logged(f"as slurmd 9 (SLURM_CONF={path}) was started with; ")
    assert place.logged("broken is not a text file")


# A file that was left behind in a usual place and knows this host: its spool directory is empty.
# (how slurmd's own shows, sockets that its spool directory has, jobs, which file counts then)
IDLE = [
    ("-f", ["own/n1_7.4294967292"], [7], "own"),
    ("SLURM_CONF", ["own/n1_7.4294967292"], [7], "own"),
    ("beside", ["own/n1_7.4294967292"], [7], "own"),
    ("-f", ["own/none"], [], "own"),
    ("beside", ["own/none"], [], "stale"),  # a guess
    ("-f", [], [], "stale"),  # no such directory
    ("-f", ["own/n1_7.4294967292", "spool/n1_6.4294967292"], [6], "stale"),
]


@pytest.mark.parametrize(("how", "sockets", "jobs", "counts"), IDLE)
def test_stale_file_that_leads_to_no_job(
    place: Place, how: str, sockets: list[str], jobs: list[int], counts: str
) -> None:
    place.usual(("stale",))
    place.write("stale", PLAIN)
    place.sockets("spool/none", *sockets)
    path = place.write("own-conf", "SlurmdSpoolDir=TOP/own\nNodeName=n1")
    place.slurmds = [slurmd(8), slurmd(9, path, how=how)]
    setting = place.setting()
    for _ in range(3):
        assert [step.job_id for step in setting.steps()] == jobs
    assert setting.conf.path == (path if counts == "own" else place.path("stale"))
    assert setting.spool == place.path("own" if counts == "own" else "spool")
    assert place.searches == (jobs != [6])
    assert sum("leads to no extern step" in line for line in place.log.lines) == place.searches


def test_a_slurmd_that_was_told_is_before_one_that_is_guessed(place: Place) -> None:
    beside, told = place.write("beside", PLAIN), place.write("told", PLAIN)
    place.usual(("stale",))
    place.write("stale", "NodeName=old1")
    place.slurmds = [slurmd(8, beside, how="beside"), slurmd(9, told)]
    setting = place.setting()
    assert (setting.name, setting.conf.path) == ("n1", told)


@pytest.mark.parametrize("text", ["NodeName=template", "\0"])
def test_a_guess_that_is_worth_nothing(place: Place, text: str) -> None:
    """The usual file knows the node by an alias; the one beside the program is nobody's."""
    place.usual(("usual",))
    usual = place.write("usual", "SlurmdSpoolDir=TOP/spool\nNodeName=gpu1")
    place.write("hosts", "10.0.0.1 n1.dom gpu1")
    place.sockets("spool/none")
    place.slurmds = [slurmd(9, place.write("beside", text), how="beside")]
    setting = place.setting()
    assert setting.steps() == []
    assert (setting.name, setting.conf.path) == ("gpu1", usual)


def test_idle_with_a_given_file_looks_at_no_process(place: Place) -> None:
    place.sockets("spool/none")
    assert place.setting(place.write("given", PLAIN)).steps() == []
    assert place.searches == 0


@pytest.mark.parametrize("runs", [[], [slurmd()], [Slurmd(9, "", "-f", {}, "slurmstepd")]])
def test_whether_slurm_runs_here(place: Place, runs: list[Slurmd]) -> None:
    place.slurmds = runs
    assert place.setting().runs_slurm is bool(runs)


def test_a_slurmd_that_may_not_be_looked_at_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurmd_processes, "hidden", lambda: True)
    assert place.setting().runs_slurm is True


SEARCH = slurmd_processes.slurmds


def test_slurm_runs_where_no_process_can_be_seen(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no descriptor left no file of Slurm's can be read either: that opens no door."""
    setting = place.setting()
    monkeypatch.setattr(slurmd_processes, "slurmds", SEARCH)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        runs = setting.runs_slurm
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert runs is True


def test_slurm_runs_where_there_is_no_proc(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "PROC", place.path("proc"))
    assert place.setting().runs_slurm is True


STEPD = Slurmd(9, "", "-f", {}, "slurmstepd")
ONE, TWO = "NodeName=gpu1", "NodeName=x,y"
DYNAMIC = ONE + "\nMaxNodeCount=9"
LATE = PeerError("timed out after 2.0 s")
UNKNOWN = "cannot tell the node name"
# (slurm.conf, /etc/hosts, what other services say, what runs, node of a living stepd, node name,
# part of the log or, without a node name, of the error)
ALIASES: list[tuple[str, str, list[str] | Exception, list[Slurmd], str, str, str]] = [
    (ONE, "10.0.0.1 h gpu1", [], [], "", "gpu1", "hosts has it: gpu1 is h"),
    (ONE, "10.0.0.1 gpu1 h", [], [], "", "gpu1", ""),
    (ONE, "10.0.0.1 H GPU1", [], [], "", "gpu1", ""),
    ("NodeName=a NodeHostname=gpu1", "10.0.0.1 h gpu1", [], [], "", "a", ""),
    ("NodeName=a[1-2] NodeHostname=gpu1", "10.0.0.1 h gpu1", [], [], "", "a1", "2 nodes of "),
    (TWO, "10.0.0.1 x h\n10.0.0.2 y h", [], [], "", "x", ""),
    (TWO, "10.0.0.1 h y\n10.0.0.2 x h", [], [], "", "x", ""),  # canonical ones first
    ("NodeName=gpu1,h", "10.0.0.1 h gpu1", [], [], "", "h", ""),
    (ONE, "10.0.0.1 h gpu1", [], [slurmd(node="d3")], "", "d3", "(-N d3)"),
    (DYNAMIC, "10.0.0.1 h gpu1", [], [], "", "gpu1", ""),
    (DYNAMIC, "10.0.0.1 h", [], [], "", "h", ""),
    (ONE, "10.0.0.1 h", ["c", "gpu1"], [slurmd()], "", "gpu1", "services has it: gpu1 is h"),
    (ONE, "10.0.0.1 h", ["gpu1"], [slurmd()], "gpu7", "gpu7", ""),
    (ONE, "10.0.0.1 h", ["c", "gpu2"], [slurmd()], "", "", UNKNOWN),
    (ONE, "10.0.0.1 h", LATE, [slurmd()], "", "", UNKNOWN),
    (ONE, "10.0.0.1 h", ["gpu1"], [], "", "", UNKNOWN),
    (ONE, "10.0.0.1 h", ["gpu1"], [STEPD], "", "", UNKNOWN),
]


@pytest.mark.parametrize(("text", "hosts", "asked", "runs", "alive", "name", "said"), ALIASES)
def test_alias(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    hosts: str,
    asked: list[str] | Exception,
    runs: list[Slurmd],
    alive: str,
    name: str,
    said: str,
) -> None:
    """As slurmd finds its node; the DNS is asked only where slurmd runs and no stepd says it."""
    place.sockets("spool/none", *([f"spool/{alive}_7.4294967292"] if alive else []))
    monkeypatch.setattr("slurm_adopt.slurm.stepd.step_sockets.listens", lambda _: True)
    place.write("hosts", hosts)
    place.asked, place.slurmds = asked, runs
    given = place.write("given", f"SlurmdSpoolDir=TOP/spool\n{text}")
    setting = place.setting(given, hostname="h")
    if name:
        assert setting.name == name
        assert place.logged(said)
    else:
        with pytest.raises(SetupError, match=said):
            setting.steps()
    may_ask = any(one.program == "slurmd" and not one.node for one in runs)
    assert place.logged("asked") is (may_ask and not alive)


def test_a_dns_that_does_not_answer(place: Place) -> None:
    place.sockets("spool/none")
    place.asked, place.slurmds = LATE, [slurmd()]
    given = place.write("given", f"SlurmdSpoolDir=TOP/spool\n{ONE}")
    with pytest.raises(SetupError, match=UNKNOWN):
        place.setting(given, hostname="h").steps()
    said = "cannot look up the names of h: timed out after 2.0 s; set nodename=NAME to avoid that"
    assert place.logged(said)


def test_given_file_is_not_left(place: Place) -> None:
    """What the administrator says counts, be it wrong."""
    place.slurmds = [slurmd(9, place.write("own", PLAIN))]
    with pytest.raises(SetupError, match="cannot read the spool directory /nowhere"):
        place.setting(place.write("given", "SlurmdSpoolDir=/nowhere\nNodeName=n1")).steps()


# (slurm.conf, nodename=, host name, what runs, node name or None, part of the log or the error)
NODES: list[tuple[str, str, str, list[Slurmd], str | None, str]] = [
    ("NodeName=n1", "", "n1", [], "n1", ""),
    ("NodeName=n1", "n7", "n1", [], "n7", ""),
    ("NodeName=Node1", "node1", "x", [], "Node1", "node1 is Node1 in "),
    ("NodeName=Node1", "", "node1", [], "Node1", "node1 is Node1 in "),
    ("NodeName=n1 NodeHostname=H1", "", "h1", [], "n1", "h1 is H1 in "),
    ("NodeName=a[1-3] NodeHostname=h", "", "h", [], "a1", "3 nodes of "),
    (
        "NodeName=a[1-3] NodeHostname=h",
        "",
        "h",
        [],
        "a1",
        "a1, a2, a3): taken for a1; set nodename=",
    ),
    ("NodeName=a[1-9] NodeHostname=h", "", "h", [], "a1", "(a1, a2, a3, a4, …): taken for a1"),
    ("NodeName=a[1-3] NodeHostname=h", "", "h", [slurmd(node="a3")], "a3", "taken for a3"),
    (
        "NodeName=a[1-3] NodeHostname=h",
        "",
        "h",
        [slurmd(node="a3"), slurmd(node="a2")],
        "a2",
        "taken for a2",
    ),
    ("NodeName=a[1-3] NodeHostname=h", "a2", "h", [slurmd(node="a3")], "a2", ""),
    ("NodeName=x", "", "h", [slurmd(node="dyn")], "dyn", "node name as slurmd 9 (-N dyn)"),
    ("NodeName=x", "", "h", [slurmd()], None, "slurmd 9 .no options.*nodename=NAME"),
    ("", "", "h", [], None, "no NodeName or NodeHostname in .* is h; if this node runs slurmd"),
    ("NodeName=n.1+(x)", "n.1+(x)", "h", [], "n.1+(x)", ""),
]


@pytest.mark.parametrize(("text", "nodename", "hostname", "running", "name", "words"), NODES)
def test_node_name(
    place: Place,
    text: str,
    nodename: str,
    hostname: str,
    running: list[Slurmd],
    name: str | None,
    words: str,
) -> None:
    place.slurmds = running
    place.sockets("spool/none")
    given = place.write("given", "SlurmdSpoolDir=TOP/spool\n" + text)
    setting = place.setting(given, nodename, hostname)
    if name is None:
        with pytest.raises(SetupError, match=words):
            setting.steps()
    else:
        setting.steps()
        assert setting.name == name
        assert place.logged(words)


def test_name_from_sockets(place: Place) -> None:
    place.sockets("spool/a_b_7.4294967292")
    setting = place.setting(place.write("given", "SlurmdSpoolDir=TOP/spool"))
    assert [step.job_id for step in setting.steps()] == [7]


def test_host_name_in_the_spool_directory(place: Place) -> None:
    """A slurmd since 22.05 takes its own host name for %h, not the NodeHostname."""
    text = "SlurmdSpoolDir=TOP/%h-%n\nNodeName=a NodeHostname=localhost"
    place.sockets("h-a/a_7.4294967292")
    setting = place.setting(place.write("given", text), hostname="h.dom")
    assert [step.job_id for step in setting.steps()] == [7]
    place.sockets("localhost-a/a_8.4294967292")
    setting = place.setting(place.write("given", text), hostname="h.dom")
    assert [step.job_id for step in setting.steps()] == [8]


def test_what_an_earlier_phase_has_read(place: Place) -> None:
    """It counts as long as its files are the same."""
    path = place.write("given", "NodeName=n1\nInclude more\n")
    more = Path(place.write("more", "SlurmdSpoolDir=/a\n"))
    first = place.setting(path)
    assert first.kept is None
    assert first.spool == "/a"
    second = place.setting(path)
    second.known = first.kept
    assert second.conf is first.conf
    more.write_text("SlurmdSpoolDir=/bc\n")
    third = place.setting(path)
    third.known = first.kept
    assert third.spool == "/bc"
    fourth = place.setting(place.write("other", "NodeName=n1\nSlurmdSpoolDir=/d\n"))
    fourth.known = first.kept
    assert fourth.spool == "/d"
    more.unlink()
    fifth = place.setting(path)
    fifth.known = third.kept
    with pytest.raises(SetupError):
        fifth.spool  # noqa: B018


def test_much_is_not_kept_for_the_next_phase(place: Place) -> None:
    lines = "".join(f"NodeName=x{number}\n" for number in range(5000))
    site = place.setting(place.write("given", f"NodeName=n1\n{lines}SlurmdSpoolDir=/a\n"))
    assert site.spool == "/a"
    assert site.kept is site.conf
    assert len(site.conf.nodes) == 5001


def test_the_full_host_name_among_many(place: Place) -> None:
    """It is looked for where the short one is: nothing is read once more for it."""
    lines = "".join(f"NodeName=x{number}\n" for number in range(5000))
    site = place.setting(place.write("given", f"NodeName=n1.dom\n{lines}"))
    assert site.name == "n1.dom"
    assert site.kept is site.conf
