"""A stepd that many ask is late and not silent: who is waited for, how long, and who is not."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from slurm_adopt.node import unsettled
from slurm_adopt.slurm.errors import UNSETTLED, PeerError
from slurm_adopt.slurm.stepd import ask_all, pulse, stepd
from slurm_adopt.slurm.stepd.pulse import Pulse
from slurm_adopt.slurm.stepd.step_sockets import StepSocket
from slurm_adopt.slurm.waiting import Deadline, Patience
from slurm_adopt.system import child as forked
from tests.fakes.requests import REQUEST_ADD_EXTERN_PID, REQUEST_STATE, REQUEST_STEP_UID
from tests.fakes.stepd import Stepd, int32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.slurm.cgroup.step_cgroup import Layout

OURS = frozenset({os.geteuid()})
SILENCE, LATE, LONGEST = 1.5, 4.0, 6.0  # seconds: an answer that is late comes after the silence
SLACK = 5.0  # seconds that a busy machine may take longer


# Deadlines


def test_signs_of_life_make_a_patience_later() -> None:
    patience = Patience(0.2, 60)
    time.sleep(0.21)
    assert not patience.left()
    assert patience.lapsed == ""
    patience.renew()
    assert 0 < patience.left() <= 0.2
    assert 59 < patience.last() < 60


def test_no_sign_of_life_makes_it_later_than_the_last_end() -> None:
    patience = Patience(60, 0.2)
    assert patience.lapsed == ""  # nothing has shown that
    patience.renew(alive=False)
    assert patience.lapsed == ""
    patience.renew()
    assert patience.left() <= 0.2
    assert not patience.renews
    assert patience.lapsed == " within 0.2 s, though it is alive"


def test_a_plain_deadline_stays_where_it_is() -> None:
    deadline = Deadline(0.2)
    at = deadline.at
    deadline.renew()
    assert (deadline.at, deadline.renews, deadline.lapsed) == (at, False, "")
    assert deadline.last() <= 0.2
    assert not isinstance(Patience(5, 60).within(1), Patience)


# Looking at a stepd: (state and ticks at each look, what another question brings, felt, asked)
LOOKS: list[tuple[str, list[tuple[str, int]], bool, list[bool], int]] = [
    ("at work", [("S", 5), ("S", 6), ("S", 9)], False, [False, True, True], 0),
    ("idle, answers", [("S", 5), ("S", 5), ("S", 5)], True, [False, True, True], 2),
    ("idle, silent", [("S", 5), ("S", 5)], False, [False, False], 1),
    ("stopped", [("T", 5), ("T", 5)], True, [False, False], 0),
    ("stopped after work", [("S", 5), ("T", 9), ("T", 9)], True, [False, False, False], 0),
    ("traced", [("t", 5), ("t", 6)], True, [False, False], 0),
    ("has ended", [("Z", 5), ("Z", 6)], True, [False, False], 0),
]


@pytest.mark.parametrize(
    ("looks", "answers", "felt", "questions"), [row[1:] for row in LOOKS], ids=[r[0] for r in LOOKS]
)
def test_pulse(
    tmp_path: Path,
    looks: list[tuple[str, int]],
    answers: bool,
    felt: list[bool],
    questions: int,
) -> None:
    asked = []

    def ask() -> bool:
        asked.append(1)
        return answers

    (tmp_path / "7").mkdir()
    one = Pulse(7, str(tmp_path))
    found = []
    for state, ticks in looks:
        before = " ".join("1" for _ in range(10))
        text = f"7 (slurm) stepd) {state} {before} {ticks - 1} 1 0 0 20 0"
        (tmp_path / "7/stat").write_text(text)
        found.append(one.felt(ask))
    assert found == felt
    assert len(asked) == questions


@pytest.mark.parametrize(
    ("states", "felt"), [("SSSS", False), ("SSSR", True), ("SDSS", True), ("TTTT", False)]
)
def test_a_thread_that_is_busy(tmp_path: Path, states: str, felt: bool) -> None:
    """The one that takes connections may wait for a CPU, or to start another thread."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text("7 (x) S" + " 1" * 20)
    for tid, state in enumerate([*states, *"S" * 5, "R"], 7):  # the last one came later
        (tmp_path / f"7/task/{tid}").mkdir(parents=True)
        (tmp_path / f"7/task/{tid}/stat").write_text(f"{tid} (a) b) {state} 1 1")
    one = Pulse(7, str(tmp_path))
    assert [one.felt() for _ in range(2)] == [felt] * 2


@pytest.mark.parametrize("text", [None, "", "7 (x) S 1", "7 (x) S" + " x" * 20])
def test_no_pulse(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "7").mkdir()
    if text is not None:
        (tmp_path / "7/stat").write_text(text)
    one = Pulse(7, str(tmp_path))
    assert [one.felt(lambda: True) for _ in range(3)] == [False] * 3


def test_the_pulse_of_a_real_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pulse, "_busy", lambda _: False)  # the one that looks is
    one = Pulse(os.getpid())
    assert not one.felt()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert one.felt()


# A conversation with a stepd that is late


class Late(Stepd):
    """Answers some requests late, or never; and nobody else meanwhile, if it is stuck."""

    late: dict[int, float] = {}  # noqa: RUF012 - by request code
    stuck = False
    _busy = False

    def heard(self, number: int, body: bytes) -> None:
        """Keep the request, and the client waiting."""
        super().heard(number, body)
        if self.stuck and self._busy:
            time.sleep(LONGEST + SLACK)
        if number in self.late:
            self._busy = True
            time.sleep(self.late[number])


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Look often, and see a process that uses no CPU time; its state is in the list."""
    state = ["S"]
    monkeypatch.setattr(stepd, "LOOK", 0.1)
    monkeypatch.setattr(ask_all, "LOOK", 0.1)
    monkeypatch.setattr(stepd, "ASKING", 1.0)
    monkeypatch.setattr(Pulse, "_look", lambda _: (state[0], 1))
    monkeypatch.setattr(Pulse, "_busy", lambda _: False)
    monkeypatch.setattr(stepd.Stepd, "_check_pid_namespace", lambda _: None)
    return iter([state])


def adopt(path: Path, late: dict[int, float], stuck: bool, longest: float = 60) -> Late:
    """Have a late stepd adopt a process, with SILENCE; return it."""
    standin = Late(path)
    standin.late, standin.stuck = late, stuck
    with standin, stepd.Stepd(StepSocket(str(path), 7), OURS, Patience(SILENCE, longest)) as one:
        one.uid()
        one.add_extern_pid(42)
        one.state()
    return standin


@pytest.mark.usefixtures("idle")
def test_one_that_answers_others_is_waited_for(tmp_path: Path) -> None:
    standin = adopt(tmp_path / "s", {REQUEST_ADD_EXTERN_PID: LATE}, stuck=False)
    codes = [number for number, _ in standin.received]
    assert codes.count(REQUEST_ADD_EXTERN_PID) == 1  # it was asked once
    assert standin.connections > 2


@pytest.mark.usefixtures("idle")
def test_one_that_is_late_each_time_is_waited_for(tmp_path: Path) -> None:
    adopt(
        tmp_path / "s",
        dict.fromkeys((REQUEST_STEP_UID, REQUEST_ADD_EXTERN_PID, REQUEST_STATE), SILENCE / 2),
        stuck=False,
    )


@pytest.mark.usefixtures("idle")
def test_one_that_answers_nobody_is_not(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(PeerError, match=r"does not answer: it may still take process 42$"):
        adopt(tmp_path / "s", {REQUEST_ADD_EXTERN_PID: LATE}, stuck=True)
    assert time.monotonic() - started < LATE  # the silence, and one more question


def test_one_that_is_stopped_is_not_even_asked(tmp_path: Path, idle: Iterator[list[str]]) -> None:
    next(idle)[0] = "T"
    standin = Late(tmp_path / "s")
    standin.late = {REQUEST_ADD_EXTERN_PID: LATE}
    with (
        standin,
        pytest.raises(PeerError) as raised,
        stepd.Stepd(StepSocket(str(tmp_path / "s"), 7), OURS, Patience(SILENCE, 60)) as one,
    ):
        one.add_extern_pid(42)
    assert raised.value.kind == UNSETTLED
    assert standin.connections == 1


@pytest.mark.usefixtures("idle")
def test_the_last_end(tmp_path: Path) -> None:
    """One that lives, and does not do what it was asked: no login is held for ever."""
    started = time.monotonic()
    with pytest.raises(PeerError, match=r"does not answer within 3 s, though it is alive"):
        adopt(tmp_path / "s", {REQUEST_ADD_EXTERN_PID: LONGEST + SLACK}, stuck=False, longest=3)
    assert 3 <= time.monotonic() - started < LONGEST + SLACK


@pytest.mark.usefixtures("idle")
def test_half_an_answer_is_not_waited_for(tmp_path: Path) -> None:
    """It is no queue that the rest waits in, though others are answered."""
    path, started = tmp_path / "s", time.monotonic()
    talk = stepd.Stepd(StepSocket(str(path), 7), OURS, Patience(SILENCE, 60))
    with (
        Stepd(path, replies={REQUEST_ADD_EXTERN_PID: b"\0\0"}),
        pytest.raises(PeerError) as raised,
        talk as one,
    ):
        one.add_extern_pid(42)
    assert raised.value.kind == UNSETTLED
    assert time.monotonic() - started < LATE


@pytest.mark.usefixtures("idle")
def test_what_was_done_meanwhile_is_no_silence(tmp_path: Path) -> None:
    """The process that we are may itself get no CPU for a while, or have other things to do."""
    path = tmp_path / "s"
    with Stepd(path), stepd.Stepd(StepSocket(str(path), 7), OURS, Patience(SILENCE, 60)) as one:
        time.sleep(SILENCE + 0.1)
        assert one.uid() == 5001


# All at once


def ask(path: Path, late: dict[int, float], longest: float) -> tuple[dict[Any, Any], float]:
    """Ask two stepds, one of which is late; return who was silent, and the seconds."""
    standin, other = Late(path / "7"), Stepd(path / "8")
    standin.late = late
    steps = [StepSocket(str(path / name), int(name)) for name in ("7", "8")]
    with standin, other:
        started = time.monotonic()
        _, silent = ask_all.ask_all(steps, OURS, Patience(SILENCE, longest))
        return {step.job_id: why for step, why in silent.items()}, time.monotonic() - started


@pytest.mark.usefixtures("idle")
def test_an_inquiry_ends_after_a_silence(tmp_path: Path) -> None:
    silent, seconds = ask(tmp_path, {REQUEST_STEP_UID: LATE}, 60)
    assert silent == {7: "does not answer"}
    assert SILENCE <= seconds < LATE


def test_an_inquiry_does_not_wait_for_who_is_stopped(
    tmp_path: Path, idle: Iterator[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is silent and runs may be late; what is stopped will not answer."""
    next(idle)[0] = "T"
    monkeypatch.setattr(ask_all, "QUIET", 0.2)
    monkeypatch.setattr("tests.unit.test_patience.SILENCE", 30)
    silent, seconds = ask(tmp_path, {REQUEST_STEP_UID: LONGEST + SLACK}, 60)
    assert silent == {7: "does not answer"}
    assert 0.2 <= seconds < LONGEST + SLACK


@pytest.mark.usefixtures("idle")
def test_an_inquiry_waits_for_who_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(Pulse, "_look", lambda _: ("S", next(ticks)))
    silent, seconds = ask(tmp_path, {REQUEST_STEP_UID: LATE}, 60)
    assert silent == {}
    assert LATE <= seconds < LATE + SLACK


@pytest.mark.usefixtures("idle")
def test_the_last_end_of_an_inquiry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(Pulse, "_look", lambda _: ("S", next(ticks)))
    silent, seconds = ask(tmp_path, {REQUEST_STEP_UID: LONGEST + SLACK}, 3)
    assert silent == {7: "does not answer within 3 s, though it is alive"}
    assert 3 <= seconds < LONGEST + SLACK


# (jobs of other users among 7 and 8; those that are late) -> those that are silent
WHOSE: list[tuple[str, set[int], set[int], set[int]]] = [
    ("another user's", {7}, {7}, {7}),
    ("the own", {8}, {7}, set()),
    ("both", {7}, {7, 8}, set()),
]


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("others", "late", "silent"), [row[1:] for row in WHOSE], ids=[row[0] for row in WHOSE]
)
def test_another_user_s_that_is_at_work_is_not_waited_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    others: set[int],
    late: set[int],
    silent: set[int],
) -> None:
    """Whoever makes the own stepd slow makes no login of others slow."""
    ticks = iter(range(1000))
    monkeypatch.setattr(Pulse, "_look", lambda _: ("S", next(ticks)))
    monkeypatch.setattr(ask_all, "OTHERS", 0.2)
    steps = [StepSocket(str(tmp_path / f"{job}"), job) for job in (7, 8)]
    with contextlib.ExitStack() as stepds:
        for step in steps:
            standin = Late(Path(step.path))
            standin.late = {REQUEST_STEP_UID: LATE} if step.job_id in late else {}
            stepds.enter_context(standin)
        started = time.monotonic()
        _, found = ask_all.ask_all(
            steps, OURS, Patience(SILENCE, 60), of_another=lambda step: step.job_id in others
        )
        seconds = time.monotonic() - started
    assert {step.job_id for step in found} == silent
    assert (seconds < LATE) == bool(silent)


@pytest.mark.usefixtures("idle")
def test_another_user_s_backlog_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(Pulse, "_look", lambda _: ("S", next(ticks)))
    monkeypatch.setattr(ask_all, "OTHERS", 0.2)
    monkeypatch.setattr(ask_all, "QUIET", 0.1)
    step = StepSocket(str(tmp_path / "n1_7.4294967292"), 7)
    step.pid = os.getpid()
    with contextlib.closing(full(Path(step.path))):
        started = time.monotonic()
        _, silent = ask_all.ask_all(
            [step], OURS, Patience(SILENCE, LONGEST), of_another=lambda _: True
        )
    assert silent == {step: "does not accept connections"}
    assert time.monotonic() - started < LONGEST


def test_what_has_come_is_taken_by_who_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all logins want the CPU, the time is over before we get to read the answer."""
    start = ask_all._Inquiry._start

    def late(self: Any, step: StepSocket) -> bool:
        found = start(self, step)
        time.sleep(SILENCE + 0.2)
        return found

    monkeypatch.setattr(ask_all._Inquiry, "_start", late)
    with Stepd(tmp_path / "7"):
        step = StepSocket(str(tmp_path / "7"), 7)
        answers, silent = ask_all.ask_all([step], OURS, Deadline(SILENCE))
    assert (list(answers), silent) == ([step], {})


@pytest.mark.parametrize("way", ["inquiry", "conversation"])
def test_who_gets_no_cpu_itself_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idle: Iterator[list[str]], way: str
) -> None:
    """One look shows nothing; and the silence may be over before there was a second one."""
    assert idle
    monkeypatch.setattr(stepd, "LOOK", SILENCE - 0.1)
    monkeypatch.setattr(ask_all, "LOOK", SILENCE - 0.1)
    ticks = iter(range(1000))
    monkeypatch.setattr(Pulse, "_look", lambda _: ("S", next(ticks)))
    standin, step = Late(tmp_path / "7"), StepSocket(str(tmp_path / "7"), 7)
    standin.late = {REQUEST_STEP_UID: LATE}
    with standin:
        if way == "inquiry":
            answers, silent = ask_all.ask_all([step], OURS, Patience(SILENCE, 60))
            assert (len(answers), silent) == (1, {})
        else:
            with stepd.Stepd(step, OURS, Patience(SILENCE, 60)) as one:
                assert one.uid() == 5001


# Those that could not even be asked: the backlog is full


def full(path: Path) -> socket.socket:
    """Return a socket that takes no more connections."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(0)
    one = socket.socket(socket.AF_UNIX)
    one.connect(str(path))
    HELD.append(one)
    return listener


QUEUED = 1.5  # seconds
HELD: list[socket.socket] = []  # connections that nobody takes
# (state, whether it uses CPU time, whether a place gets free after LATE, longest wait) -> reason
BACKLOGS = [
    ("at work", "S", True, True, 60, ""),
    ("stopped", "T", False, False, 60, "does not accept connections"),
    ("idle", "S", False, False, 60, "does not accept connections"),
    ("the last end", "S", True, False, 1, "does not accept connections"),
]


@pytest.mark.parametrize(
    ("state", "works", "frees", "longest", "reason"),
    [row[1:] for row in BACKLOGS],
    ids=[row[0] for row in BACKLOGS],
)
@pytest.mark.parametrize("way", ["inquiry", "conversation"])
def test_a_full_backlog(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    idle: Iterator[list[str]],
    way: str,
    state: str,
    works: bool,
    frees: bool,
    longest: float,
    reason: str,
) -> None:
    assert idle
    ticks = iter(range(10000))
    monkeypatch.setattr(Pulse, "_look", lambda _: (state, next(ticks) if works else 1))
    monkeypatch.setattr(ask_all, "QUIET", 0.1)
    monkeypatch.setattr(stepd, "QUEUE", 0.1)
    monkeypatch.setattr(stepd, "SLOWEST", 0.02)
    monkeypatch.setattr(ask_all, "SLOWEST", 0.02)
    path = tmp_path / "n1_7.4294967292"
    step = StepSocket(str(path), 7)
    patience = Patience(QUEUED, longest)
    with contextlib.closing(full(path)) as listener:

        def free() -> None:
            time.sleep(2 * QUEUED)
            with contextlib.suppress(OSError):
                listener.accept()[0].close()
                connection, _ = listener.accept()
                connection.recv(64)
                connection.sendall(int32(9728) + int32(5001) + int32(2))
                time.sleep(SLACK)

        if frees:
            threading.Thread(target=free, daemon=True).start()
        started = time.monotonic()
        said = told(way, step, patience)
        seconds = time.monotonic() - started
    assert reason in said
    assert bool(said) == bool(reason), said
    assert seconds < QUEUED * (2 if frees else 1) + 2 + SLACK


@pytest.mark.parametrize("way", ["inquiry", "conversation"])
def test_who_gets_no_cpu_itself_finds_the_backlog_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idle: Iterator[list[str]], way: str
) -> None:
    """The backlog is full at first; when we run again there is room, and the time is over."""
    assert idle
    path = tmp_path / "n1_7.4294967292"
    step, patience = StepSocket(str(path), 7), Patience(SILENCE, 60)
    listener = full(path)

    def free() -> None:
        listener.accept()[0].close()
        with contextlib.closing(listener.accept()[0]) as connection:
            connection.recv(64)
            connection.sendall(int32(9728) + int32(5001) + int32(2))
            with contextlib.suppress(ConnectionResetError):  # not all of that was wanted
                connection.recv(64)

    def stopped(_: float) -> None:
        time.sleep(SILENCE + 0.1)
        threading.Thread(target=free, daemon=True).start()
        monkeypatch.setattr(stepd, "sleep", time.sleep)
        monkeypatch.setattr(ask_all._Inquiry, "collect", collect)

    collect = ask_all._Inquiry.collect
    monkeypatch.setattr(stepd, "sleep", stopped)
    monkeypatch.setattr(ask_all._Inquiry, "collect", lambda *_: stopped(0))
    with contextlib.closing(listener):
        assert told(way, step, patience) == ""


def told(way: str, step: StepSocket, patience: Patience) -> str:
    """Ask a stepd in one of two ways; return what went wrong."""
    if way == "inquiry":
        return ask_all.ask_all([step], OURS, patience)[1].get(step, "")
    try:
        with stepd.Stepd(step, OURS, patience):
            return ""
    except PeerError as error:
        return str(error)


def test_extern_stepds_are_found_by_their_titles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = {3: "slurmstepd: [7.extern]", 4: "slurmstepd: [8.batch]", 5: "slurmstepd: [x.extern]"}
    for pid, title in titles.items():
        (tmp_path / f"{pid}").mkdir()
        (tmp_path / f"{pid}/cmdline").write_text(title + "\0")
    monkeypatch.setattr(pulse, "programs", lambda *_: dict.fromkeys(titles, "slurmstepd"))
    extern, batch = StepSocket("/s/n1_7.4294967292", 7), StepSocket("/s/n1_8.4294967291", 8)
    other, known = StepSocket("/s/n1_7.0", 7), StepSocket("/s/n1_9.4294967292", 9)
    known.pid = 6
    found = pulse.of_each([extern, batch, other, known], str(tmp_path))
    assert [found[step]._pid for step in (extern, batch, other, known)] == [3, 0, 0, 6]


# A child that gets no CPU


def late() -> bytes:
    """Take longer than the silence."""
    time.sleep(LATE)
    return b"done"


def test_a_child_that_wants_to_run_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "_runs", lambda _: True)
    assert forked.run(late, Patience(SILENCE, 60), 10) == b"done"
    for deadline in (Deadline(SILENCE), Patience(SILENCE, SILENCE)):
        with pytest.raises(PeerError, match=r"timed out|does not end"):
            forked.run(late, deadline, 10)


def test_who_wants_to_run() -> None:
    child = os.fork()
    if not child:
        while True:
            pass
    try:
        assert forked._runs(child)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert not forked._runs(child)


def test_a_child_that_is_held_up_is_not() -> None:
    with pytest.raises(PeerError, match=r"timed out|does not end"):
        forked.run(late, Patience(SILENCE, 60), 10)


# A process that a stepd may be taking right now

PID = 42
BEFORE = {"cpuacct": "/ssh", "freezer": "/ssh", "memory": "/ssh", "name=systemd": "/ssh"}
JOB = "/slurm/uid_5001/job_7/step_extern"
SLURMS = ("memory", "cpuacct", "freezer")  # in which a stepd moves it, in this order
INSIDE = {**BEFORE, **dict.fromkeys(SLURMS, JOB)}
STEP = StepSocket("/s/n1_7.4294967292", 7)


class Moving:
    """A layout of which a stepd moves the process, one hierarchy after the other."""

    mounts = dict.fromkeys(SLURMS)

    def __init__(self, top: Path) -> None:
        self.proc = str(top)
        self.entered: list[str] = []
        self.refuses = self.gone = False
        self.why = ""
        (top / f"{PID}").mkdir()
        self.write(BEFORE)

    def write(self, places: dict[str, str]) -> None:
        """Have the process in these cgroups."""
        text = "".join(f"{n}:{name}:{path}\n" for n, (name, path) in enumerate(places.items()))
        new = Path(self.proc, "new")
        new.write_text(text)
        new.replace(f"{self.proc}/{PID}/cgroup")

    def read(self) -> dict[str, str]:
        """Return its cgroups."""
        return unsettled._places(PID, cast("Layout", self))

    def missing(self, *_: object) -> dict[str, str | None]:
        """Return where it is not in the job."""
        place = None if self.gone else JOB
        return {name: place for name in SLURMS if self.read()[name] != JOB}

    def enter(self, _: int, controller: str, path: str) -> None:
        """Write it into a cgroup."""
        if self.refuses:
            raise PeerError("cannot write")
        self.entered.append(controller)
        self.write({**self.read(), controller: path})

    def obstacle(self, *_: object) -> str:
        """Say why nothing may be put there."""
        return self.why


@pytest.fixture
def moving(tmp_path: Path) -> Moving:
    return Moving(tmp_path)


def settle(layout: Moving) -> tuple[bool, str]:
    return unsettled.settle(PID, BEFORE, cast("Layout", layout), STEP, 5001)


def test_nothing_is_written_while_the_stepd_is_at_work(moving: Moving) -> None:
    def take() -> None:
        for name in SLURMS:
            time.sleep(unsettled.STILL / 2)
            moving.write({**moving.read(), name: JOB})

    at_work = threading.Thread(target=take)
    at_work.start()
    assert settle(moving) == (False, "process 42 is in all cgroups of job 7 that confine it")
    at_work.join()
    assert moving.read() == INSIDE
    assert moving.entered == []


def test_one_that_was_not_taken_stays(moving: Moving) -> None:
    assert settle(moving) == (False, "")
    assert moving.entered == []


def test_half_in_becomes_wholly_in(moving: Moving) -> None:
    """Put back, it would be half in once the stepd goes on with the other half."""
    moving.write({**BEFORE, "memory": JOB})
    assert settle(moving) == (False, "process 42 is in all cgroups of job 7 that confine it")
    assert moving.read() == INSIDE
    assert moving.entered == ["cpuacct", "freezer"]


@pytest.mark.parametrize(
    ("attribute", "value", "says"),
    [
        ("why", "the job is suspended", "since the job is suspended"),
        ("gone", True, "since the job has no cgroup for cpuacct"),
        ("refuses", True, "since cannot write"),
    ],
)
def test_what_cannot_be_wholly_in_is_to_be_put_back(
    moving: Moving, attribute: str, value: object, says: str
) -> None:
    moving.write({**BEFORE, "memory": JOB})
    setattr(moving, attribute, value)
    assert settle(moving) == (True, f"process 42 is put back, {says}")


def test_one_that_has_ended(moving: Moving) -> None:
    Path(moving.proc, f"{PID}", "cgroup").unlink()
    assert settle(moving) == (False, "")
    assert moving.entered == []
