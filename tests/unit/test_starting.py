"""A job that is being set up: which processes show it, and how long is waited."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from slurm_adopt.decision.options import parse
from slurm_adopt.node import node
from slurm_adopt.slurm.stepd import starting
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes.log import Lines
from tests.fakes.stepd import Stepd

if TYPE_CHECKING:
    from slurm_adopt.system.log import Log

UID, SLURMD, CHILD = 5001, 70, 71
ROOT, OWN = "0\t0\t0\t0", "5001\t5001\t5001\t5001"
TOLD = "SLURM_JOB_ID=7 SLURM_JOB_UID=5001 SLURMD_NODENAME=n1 SLURM_SCRIPT_CONTEXT=prolog_slurmd"


class Proc:
    """A /proc with one slurmd of root's."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.process(SLURMD, "/usr/sbin/slurmd-wlm", title="/usr/sbin/slurmd -D", age=900)

    def process(
        self,
        pid: int,
        exe: str,
        environ: str = "",
        uids: str = ROOT,
        parent: int = 1,
        title: str = "",
        age: float = 0,
    ) -> None:
        directory = self.top / str(pid)
        (directory / f"task/{pid}").mkdir(parents=True)
        (directory / f"task/{pid + 1000}").mkdir()
        (directory / f"task/{pid}/children").write_text("")
        (directory / "exe").symlink_to(exe)
        (directory / "status").write_text(f"Name:\tx\nUid:\t{uids}\n")
        (directory / "environ").write_bytes(environ.replace(" ", "\0").encode() + b"\0")
        (directory / "cmdline").write_bytes(title.replace(" ", "\0").encode())
        started = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age) * 100)
        (directory / "stat").write_text(f"{pid} (x y) S {parent} {'0 ' * 17}{started} 0 0")
        if (self.top / str(parent)).is_dir():  # forked by another than the first thread
            children = self.top / f"{parent}/task/{parent + 1000}/children"
            children.write_text(f"{pid} ")

    def watch(self, known: frozenset[int] = frozenset()) -> starting.Watch:
        return starting.Watch(UID, "n1", known, str(self.top))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path / "proc")


# (environment of a child of slurmd, uids, parent, job)
PROLOGS = [
    (TOLD, ROOT, SLURMD, 7),
    ("SLURM_JOB_ID=7 SLURM_JOB_UID=5001", ROOT, SLURMD, 7),  # an old release
    (TOLD.replace("prolog", "epilog"), ROOT, SLURMD, None),
    (TOLD.replace("UID=5001", "UID=5002"), ROOT, SLURMD, None),
    (TOLD.replace("UID=5001", "UID=50010"), ROOT, SLURMD, None),
    (TOLD.replace("n1", "n2"), ROOT, SLURMD, None),  # of another node on this host
    (TOLD.replace("ID=7", "ID=x"), ROOT, SLURMD, None),
    (TOLD.replace("ID=7", "ID=" + "7" * 5000), ROOT, SLURMD, None),
    (TOLD, OWN, SLURMD, None),
    (TOLD, "5001\t0\t0\t0", SLURMD, None),  # a setuid program has the environment of its user
    (TOLD, ROOT, 1, None),
    ("", ROOT, SLURMD, None),
]


@pytest.mark.parametrize(("environ", "uids", "parent", "job"), PROLOGS)
def test_prolog(proc: Proc, environ: str, uids: str, parent: int, job: int | None) -> None:
    proc.process(CHILD, "/bin/sh", environ, uids, parent)
    assert proc.watch().prolog() == job
    assert not proc.watch().nameless


def test_the_prolog_of_what_calls_itself_slurmd(proc: Proc) -> None:
    proc.process(80, "/home/alice/slurmd", uids=OWN, age=900)
    proc.process(81, "/bin/sh", TOLD, parent=80)
    assert proc.watch().prolog() is None


def test_it_begins_and_ends(proc: Proc) -> None:
    """The processes are looked through once; slurmd's children each time."""
    watch = proc.watch()
    assert watch.prolog() is None
    proc.process(CHILD, "/bin/sh", TOLD, parent=SLURMD)
    assert watch.prolog() == 7
    (proc.top / f"{CHILD}/environ").unlink()
    assert watch.prolog() is None


STEPD, FORK = "/usr/sbin/slurmstepd-wlm", "/usr/sbin/slurmd-wlm"
# (program, title, parent, seconds since its start, uids, whether it may be the user's job)
NAMELESS = [
    (STEPD, "/usr/sbin/slurmstepd", 1, 0, ROOT, True),
    (STEPD, "slurmstepd: [7.extern]", 1, 0, ROOT, True),
    (STEPD, "slurmstepd: [8.extern]", 1, 0, ROOT, False),  # it has a socket, and was asked
    (STEPD, f"slurmstepd: [{'7' * 5000}.extern]", 1, 0, ROOT, True),
    (STEPD, "slurmstepd: [7.extern]", 1, 2, ROOT, False),
    (STEPD, "slurmstepd: [7.extern]", 1, 0, OWN, False),
    (FORK, "/usr/sbin/slurmd -D", SLURMD, 0, ROOT, True),
    (FORK, "/usr/sbin/slurmd -D", 1, 0, ROOT, False),  # a slurmd that was just started
    ("/bin/sh", "sh", SLURMD, 0, ROOT, False),
]


@pytest.mark.parametrize(("exe", "title", "parent", "age", "uids", "may_be"), NAMELESS)
def test_nameless(
    proc: Proc, exe: str, title: str, parent: int, age: float, uids: str, may_be: bool
) -> None:
    proc.process(CHILD, exe, parent=parent, title=title, age=age, uids=uids)
    assert bool(proc.watch(frozenset({8})).nameless) is may_be


def test_this_machine() -> None:
    """The real /proc can be read, whatever runs there."""
    assert starting.Watch(1 << 30, "n1", frozenset()).prolog() is None
    assert starting.Watch(UID, "n1", frozenset(), "/nowhere").prolog() is None


# How long is waited


class Course:
    """What is seen, look by look; the last stays."""

    def __init__(self, looks: str, signs: str) -> None:
        """`J`: the job is there, `s`: a sign is there."""
        self.looks, self.signs = list(looks), list(signs)
        self.looked = 0

    def look(self) -> list[int]:
        self.looked += 1
        return [7] if self._next(self.looks) == "J" else []

    def sign(self) -> str:
        return "a sign" if self._next(self.signs) == "s" else ""

    def _next(self, course: list[str]) -> str:
        return course.pop(0) if len(course) > 1 else course[0]


# (looks, the user's own signs, whether there was any at first, seconds, job there, looks)
COURSES = [
    ("-", "-", False, 60, [], 1),
    ("J", "-", False, 60, [7], 1),  # it has come in between
    ("---J", "s", True, 60, [7], 4),
    ("---J", "--s", True, 60, [7], 4),  # the sign may be away for a while
    ("-" * 40 + "J", "s-", True, 60, [7], 41),  # a slow node
    ("-", "ss-", True, 60, [], 51),
    ("-", "-", True, 60, [], 10),
    ("-", "s", True, 2, [], 20),
    ("-", "s", True, 0.05, [], 2),
]


@pytest.mark.parametrize(("looks", "signs", "seen", "seconds", "jobs", "looked"), COURSES)
def test_wait(
    monkeypatch: pytest.MonkeyPatch,
    looks: str,
    signs: str,
    seen: bool,
    seconds: float,
    jobs: list[int],
    looked: int,
) -> None:
    """Time is made of the sleeps: a tenth of a second each."""
    now = [0.0]
    monkeypatch.setattr("slurm_adopt.slurm.waiting.monotonic", lambda: now[0])
    monkeypatch.setattr(starting, "POLL", 0.1001)
    monkeypatch.setattr(starting, "sleep", lambda seconds: now.append(now.pop() + seconds))
    course = Course(looks, signs)
    assert starting.wait(course.look, course.sign, seen, Deadline(seconds)) == jobs
    assert course.looked == pytest.approx(looked, abs=2)
    assert looked > 2 or course.looked == looked
    assert now[0] <= seconds


# The node


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing of Slurm's run on this machine."""
    monkeypatch.setattr(starting, "programs", lambda *_: {})


def made(top: Path, seconds: float) -> tuple[node.Node, list[str]]:
    (top / "slurm.conf").write_text(f"NodeName=n1\nSlurmdSpoolDir={top}\n")
    options, complaints = parse([f"slurm_conf={top}/slurm.conf", f"wait_for_job={seconds:g}"])
    assert not complaints
    log = Lines()
    return node.Node(options, cast("Log", log), "n1"), log.lines


@pytest.mark.usefixtures("quiet")
def test_another_step_is_a_sign(tmp_path: Path) -> None:
    """The extern step of the job comes a little later."""
    here, lines = made(tmp_path, 30)
    with Stepd(tmp_path / "n1_7.0"):
        assert here.jobs(UID) == []
        extern: list[Stepd] = []

        def later() -> None:
            extern.append(Stepd(tmp_path / "n1_7.4294967292"))
            extern[0].start()

        timer = threading.Timer(0.5, later)
        timer.start()
        (job,) = here.awaited_jobs(UID)
        timer.join()
        extern[0].end()
    assert job.job_id == 7
    assert "no extern step yet, but job 7 has another step: waiting up to 30 s" in lines


# (uid and state of the step, name of its socket, whether its job has an ending extern step)
NO_SIGNS = [
    (5002, 2, "n1_7.0", False),
    (UID, 3, "n1_7.0", False),
    (UID, 2, "n2_7.0", False),
    (UID, 2, "n1_7.0", True),
]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("uid", "state", "name", "ending"), NO_SIGNS)
def test_no_sign(tmp_path: Path, uid: int, state: int, name: str, ending: bool) -> None:
    here, lines = made(tmp_path, 60)
    extern = tmp_path / ("n1_7.4294967292" if ending else "elsewhere")
    with Stepd(tmp_path / name, uid, state), Stepd(extern, uid, 3):
        assert here.awaited_jobs(UID) == []
    assert "waiting" not in "".join(lines)


def test_without_the_option(tmp_path: Path) -> None:
    here, lines = made(tmp_path, 0)
    with Stepd(tmp_path / "n1_7.0"), Stepd(tmp_path / "n1_7.4294967292"):
        assert here.awaited_jobs(UID) == []
    assert lines == []
