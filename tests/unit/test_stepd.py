"""The stepd client against stand-ins: what is asked, and what comes of every way to misbehave."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from sys import byteorder
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.stepd import ask_all, old_greeting, step_sockets, stepd
from slurm_adopt.slurm.versions import BY_CREDENTIAL, RELEASES, Release
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes import slurmd
from tests.fakes.process import open_fds
from tests.fakes.requests import (
    REQUEST_ADD_EXTERN_PID,
    REQUEST_GET_NS_FD,
    REQUEST_STATE,
    REQUEST_STEP_LIST_PIDS,
    REQUEST_STEP_UID,
    REQUEST_X11_DISPLAY,
)
from tests.fakes.step_sockets import ROOT, step
from tests.fakes.stepd import Stepd, int32

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS = Path(__file__).parents[1] / "vectors"
GENEROUS = 20.0  # seconds that nothing here may take


def deadline_for(expected: object) -> Deadline:
    """Return a short one where a silence is expected, else one that a busy machine keeps."""
    return Deadline(0.3 if "does not answer" in str(expected) else GENEROUS)


# (file name, node, job id or None)
NAMES = [
    ("n1_7.4294967292", "n1", 7),
    ("n1_7.4294967295", "n1", 7),
    ("n1_7.4294967291", "n1", None),
    ("n1_7.0", "n1", None),
    ("n1_7.4294967292.0", "n1", None),
    ("n1_.4294967292", "n1", None),
    ("n1_7.", "n1", None),
    ("n1_7", "n1", None),
    ("n1_x.4294967292", "n1", None),
    ("n1_\u0667.4294967292", "n1", None),
    ("n2_7.4294967292", "n1", None),
    ("xn1_7.4294967292", "n1", None),
    ("n.1_7.4294967292", "n.1", 7),
    ("nx1_7.4294967292", "n.1", None),
    ("a_b_7.4294967292", "a_b", 7),
    ("cred_state", "n1", None),
]


@pytest.mark.parametrize(("name", "node", "job_id"), NAMES)
def test_socket_names(tmp_path: Path, name: str, node: str, job_id: int | None) -> None:
    (tmp_path / name).touch()
    found = step_sockets.extern_steps(str(tmp_path), node)
    assert [s.job_id for s in found] == ([] if job_id is None else [job_id])
    of_7 = step_sockets.extern_steps(str(tmp_path), node, 7)
    assert [s.path for s in of_7] == ([f"{tmp_path}/{name}"] if job_id == 7 else [])
    assert step_sockets.extern_steps(str(tmp_path), node, 8) == []


def test_other_steps(tmp_path: Path) -> None:
    """Those that somebody listens for: a stepd that was killed leaves its socket."""
    with contextlib.ExitStack() as stack:
        for name, _, _ in NAMES:
            stack.enter_context(listening(tmp_path / name))
        assert step_sockets.other_steps(str(tmp_path), "n1") == 3
    assert step_sockets.other_steps(str(tmp_path), "n1") == 0


@contextlib.contextmanager
def listening(path: Path) -> Iterator[None]:
    """Listen on a socket; when that is over the file stays."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


def test_node_names(tmp_path: Path) -> None:
    for name in ("a_b_1.4294967292", "a_b_2.4294967292", "n1_1.0", "cred_state"):
        (tmp_path / name).touch()
    assert step_sockets.node_names(str(tmp_path)) == {"a_b"}
    with listening(tmp_path / "c_1.4294967292"):
        assert step_sockets.node_names(str(tmp_path)) == {"a_b", "c"}
        assert step_sockets.node_names(str(tmp_path), alive=True) == {"c"}


@pytest.mark.parametrize(
    "listing", [step_sockets.node_names, lambda p: step_sockets.extern_steps(p, "n1")]
)
def test_no_spool_directory(listing: object) -> None:
    assert callable(listing)
    with pytest.raises(SetupError, match="is SlurmdSpoolDir right"):
        listing("/nowhere")


# (how the stand-in differs, answer (uid, state) or part of the reason, or None for neither)
ASKED: list[tuple[str, dict[str, object], object]] = [
    ("answers", {}, (5001, 2)),
    ("starting", {"state": 1}, (5001, 1)),
    ("ending", {"state": 3}, (5001, 3)),
    ("root's job", {"uid": 0}, (0, 2)),
    ("largest uid", {"replies": {REQUEST_STEP_UID: b"\xff\xff\xff\xff"}}, (0xFFFFFFFF, 2)),
    ("refuses the version", {"greeting": int32(-1)}, "refuses this protocol version"),
    ("never greets", {"greeting": "hang"}, "does not answer"),
    ("never answers", {"replies": {REQUEST_STEP_UID: "hang"}}, "does not answer"),
    ("closes at once", {"greeting": None}, None),
    (
        "closes after the greeting",
        {"replies": {REQUEST_STEP_UID: None}},
        "in mid-reply",
    ),
    ("half a uid", {"replies": {REQUEST_STEP_UID: b"\1\0"}}, "does not answer"),
    ("no state", {"replies": {REQUEST_STATE: None}}, "in mid-reply"),
]


@pytest.mark.parametrize(
    ("standin", "expected"), [row[1:] for row in ASKED], ids=[row[0] for row in ASKED]
)
def test_ask_all(tmp_path: Path, standin: dict[str, object], expected: object) -> None:
    before, started = open_fds(), time.monotonic()
    with Stepd(tmp_path / "s", **standin):  # type: ignore[arg-type]
        one = step(tmp_path / "s")
        answers, silent = ask_all.ask_all([one], ROOT, deadline_for(expected))
    if isinstance(expected, str):
        assert expected in silent[one]
    elif expected is None:
        assert (answers, silent) == ({}, {})
    else:
        assert (answers[one].uid, answers[one].state) == expected
    assert time.monotonic() - started < GENEROUS
    assert len(open_fds()) <= len(before) + 1  # the stand-in's last thread may still be closing


def test_ended_steps_are_in_neither(tmp_path: Path) -> None:
    with Stepd(tmp_path / "stale"):
        pass
    steps = [step(tmp_path / "stale"), step(tmp_path / "gone")]
    assert ask_all.ask_all(steps, ROOT, Deadline(GENEROUS)) == ({}, {})


def test_nothing_to_ask() -> None:
    assert ask_all.ask_all([], ROOT, Deadline(GENEROUS)) == ({}, {})


def test_a_silent_stepd_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    hung = Stepd(tmp_path / "hung", greeting="hang")
    good = [Stepd(tmp_path / str(n), uid=n) for n in range(200)]  # more than are in flight at once
    for one in (hung, *good):
        one.start()
    steps = [step(one.path, number) for number, one in enumerate((hung, *good))]
    answers, silent = ask_all.ask_all(steps, ROOT, Deadline(5))
    assert list(silent) == [steps[0]]
    assert {s.job_id - 1: a.uid for s, a in answers.items()} == {n: n for n in range(200)}
    for one in (hung, *good):
        one.end()


def test_full_backlog_is_tried_again_within_the_deadline(tmp_path: Path) -> None:
    one = Stepd(tmp_path / "s")
    one.listener.listen(0)
    fillers = []
    while True:
        filler = socket.socket(socket.AF_UNIX)
        filler.setblocking(False)
        fillers.append(filler)
        try:
            filler.connect(str(one.path))
        except BlockingIOError:
            break
    target = step(one.path)
    answers, silent = ask_all.ask_all([target], ROOT, Deadline(0.2))
    assert (answers, silent) == ({}, {target: "does not accept connections"})
    with (
        pytest.raises(PeerError, match="does not accept connections"),
        stepd.Stepd(target, ROOT, Deadline(0.2)),
    ):
        pass
    for filler in fillers:
        filler.close()
    one.listener.close()


def test_a_socket_of_another_uid_is_ignored(tmp_path: Path) -> None:
    with Stepd(tmp_path / "s"):
        one = step(tmp_path / "s")
        _, silent = ask_all.ask_all([one], frozenset({64030}), Deadline(GENEROUS))
        assert "socket of uid 0, not of Slurm" in silent[one]
        assert (one.stranger, one.pid) == (True, 0)
        with (
            pytest.raises(PeerError, match="not of Slurm"),
            stepd.Stepd(one, frozenset({64030}), Deadline(GENEROUS)),
        ):
            pass


# Descriptors that cannot be had

ASK_ALL = """
import os, resource, sys
from slurm_adopt.slurm.stepd import ask_all, step_sockets, stepd
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.slurm.errors import SlurmAdoptError

room, seconds, steps = int(sys.argv[1]), float(sys.argv[2]), []
for number, path in enumerate(sys.argv[3:]):
    steps.append(step_sockets.StepSocket(path, number))
deadline = Deadline(seconds)
resource.setrlimit(resource.RLIMIT_NOFILE, (3 + room, 3 + room))
os.closerange(3, 1000)
try:
    answers, silent = ask_all.ask_all(steps, frozenset({0}), deadline)
    print(len(answers), len(silent), *silent.values(), sep="\\n")
except SlurmAdoptError as error:
    print(repr(error))
"""


def asked_with_room_for(descriptors: int, seconds: float, *paths: Path) -> list[str]:
    """Ask stand-ins in a process that may open so many more; return what came of it."""
    argv = [sys.executable, "-c", ASK_ALL, str(descriptors), str(seconds), *map(str, paths)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_more_stepds_than_descriptors(tmp_path: Path) -> None:
    """As behind a low nofile of pam_limits: a few at a time, and all are asked."""
    paths = [tmp_path / str(number) for number in range(40)]
    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.enter_context(Stepd(path))
        assert asked_with_room_for(3, GENEROUS, *paths) == ["40", "0"]


def test_descriptors_that_silent_stepds_hold(tmp_path: Path) -> None:
    with Stepd(tmp_path / "a", greeting="hang"), Stepd(tmp_path / "b"):
        found = asked_with_room_for(1, 0.5, tmp_path / "a", tmp_path / "b")
    assert found[:3] == ["0", "2", "does not answer"]
    assert "this process is out of descriptors (RLIMIT_NOFILE" in found[3]


def test_nobody_can_be_looked_for_without_a_descriptor(tmp_path: Path) -> None:
    """It is not taken for a socket that nobody listens on, nor for a mistake of ours."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(SetupError, match="out of descriptors"):
            step_sockets.listens(str(tmp_path / "n1_7.4294967292"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_no_descriptor_at_all(tmp_path: Path) -> None:
    with Stepd(tmp_path / "s"):
        (error,) = asked_with_room_for(0, GENEROUS, tmp_path / "s")
    assert error.startswith("SetupError(")
    assert "this process is out of descriptors (RLIMIT_NOFILE" in error


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENFILE, "fs.file-max"), (errno.ENOBUFS, "No buffer space")]
)
def test_other_shortages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    """One of the whole host, and of the kernel's memory."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("_socket.socket", refuse)
    one = step(tmp_path / "s")
    with pytest.raises(SetupError, match=reason):
        ask_all.ask_all([one], ROOT, Deadline(GENEROUS))
    with pytest.raises(SetupError, match=reason):
        stepd.Stepd(one, ROOT, Deadline(GENEROUS))


def test_no_room_for_a_namespace(tmp_path: Path) -> None:
    """The kernel then leaves the descriptor out, and says so."""
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    pieces: list[bytes | int] = [int32(1), namespace]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        Stepd(tmp_path / "s", replies={REQUEST_GET_NS_FD: pieces}),
        stepd.Stepd(step(tmp_path / "s"), ROOT, Deadline(5)) as talk,
    ):
        talk.uid()
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            with pytest.raises(SetupError, match=r"out of descriptors \(RLIMIT_NOFILE"):
                talk.namespaces()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            os.close(namespace)


def test_adoption_is_asked_for_once(tmp_path: Path) -> None:
    with Stepd(tmp_path / "s") as standin:
        one = step(tmp_path / "s")
        with stepd.Stepd(one, ROOT, Deadline(5)) as talk:
            assert talk.uid() == 5001
            talk.add_extern_pid(42)
            assert talk.state() == 2
        assert standin.received == [
            (REQUEST_STEP_UID, b""),
            (REQUEST_ADD_EXTERN_PID, int32(42)),
            (REQUEST_STATE, b""),
        ]
        assert one.pid == os.getpid()


# (how the stand-in differs, part of the message)
FAILURES: list[tuple[dict[str, object], str]] = [
    ({"greeting": int32(-1)}, "refuses this protocol version"),
    ({"greeting": "hang"}, "does not answer"),
    ({"greeting": None}, "closed the connection"),
    ({"greeting": b"\0"}, "does not answer|closed"),
    ({"replies": {REQUEST_ADD_EXTERN_PID: int32(-1)}}, "refuses to take process 42"),
    ({"replies": {REQUEST_ADD_EXTERN_PID: int32(1)}}, "refuses to take process 42"),
    ({"replies": {REQUEST_ADD_EXTERN_PID: None}}, "closed the connection|broke"),
    ({"replies": {REQUEST_ADD_EXTERN_PID: b"\0\0"}}, "does not answer"),
    ({"replies": {REQUEST_ADD_EXTERN_PID: "hang"}}, "does not answer"),
]


@pytest.mark.parametrize(("standin", "message"), FAILURES)
def test_adoption_fails(tmp_path: Path, standin: dict[str, object], message: str) -> None:
    before, started = len(open_fds()), time.monotonic()
    one = step(tmp_path / "s")
    # A stand-in that answers is waited for, also on a busy machine.
    deadline = deadline_for(message)
    with (
        Stepd(tmp_path / "s", **standin),  # type: ignore[arg-type]
        pytest.raises(PeerError, match=f"stepd of job 7 .*({message})"),
        stepd.Stepd(one, ROOT, deadline) as talk,
    ):
        talk.add_extern_pid(42)
    assert time.monotonic() - started < GENEROUS
    assert len(open_fds()) <= before + 1


def test_no_stepd(tmp_path: Path) -> None:
    with (
        pytest.raises(PeerError, match="cannot be reached: No such file"),
        stepd.Stepd(step(tmp_path / "s"), ROOT, Deadline(GENEROUS)),
    ):
        pass


# Stepds of 17.11 and 18.08: a credential in place of a number

NOBODY = slurmd.Auth()
OLD = [release for release in RELEASES if release.greeting == BY_CREDENTIAL]


def introduce(deadline: Deadline) -> bytes:
    return old_greeting.make(NOBODY, deadline)


def test_introduction() -> None:
    """Native int32 0 and length; packed: plugin name, plugin version, credential."""
    auth = slurmd.Auth()
    greeting = old_greeting.make(auth, Deadline(GENEROUS))
    credential = auth.made[0].encode() + b"\0"
    section = b"\0\0\0\x0bauth/munge\0" + bytes(4) + len(credential).to_bytes(4, "big") + credential
    assert greeting == int32(0) + int32(len(section)) + section


@pytest.mark.parametrize("release", OLD, ids=lambda release: release.name)
def test_old_stepd(tmp_path: Path, release: Release) -> None:
    """It is asked again on a new connection, each time with a new credential."""
    made = len(NOBODY.made)
    x11 = int32(95) + (b"" if len(release.x11) == 1 else int32(3) + b"/x\0")
    one = step(tmp_path / "s")
    with Stepd(
        tmp_path / "s",
        protocol=release.protocol,
        introduced=True,
        replies={REQUEST_X11_DISPLAY: x11},
    ) as old:
        answers, silent = ask_all.ask_all([one], ROOT, Deadline(5), introduce)
        assert (silent, answers[one].protocol, answers[one].uid) == ({}, release.protocol, 5001)
        assert old.connections == 2
        with stepd.Stepd(one, ROOT, Deadline(5), introduce) as talk:
            assert talk.uid() == 5001
            talk.add_extern_pid(42)
            assert talk.x11() == (95, "" if len(release.x11) == 1 else "/x")
            assert talk.state() == 2
        assert len(old.credentials) == len(NOBODY.made) - made == 2


def test_only_those_that_refuse_are_asked_again(tmp_path: Path) -> None:
    with (
        Stepd(tmp_path / "new", uid=1) as new,
        Stepd(tmp_path / "old", uid=2, protocol=32 << 8, introduced=True) as old,
        Stepd(tmp_path / "hung", greeting="hang") as hung,
    ):
        steps = [step(one.path, number) for number, one in enumerate((new, old, hung))]
        answers, silent = ask_all.ask_all(steps, ROOT, Deadline(3), introduce)
        assert {s.job_id: a.uid for s, a in answers.items()} == {0: 1, 1: 2}
        assert silent == {steps[2]: "does not answer"}
        assert (new.connections, old.connections, len(old.credentials)) == (1, 2, 1)


def unable(_: Deadline) -> bytes:
    raise SetupError("AuthType=auth/none is not supported")


# (how to introduce, stand-in, part of the reason)
UNINTRODUCED: list[tuple[stepd.Introduce | None, dict[str, object], str]] = [
    (None, {"introduced": True}, "refuses this protocol version"),
    (introduce, {"greeting": int32(-1)}, "refuses this protocol version"),
    (introduce, {"introduced": True, "greeting": int32(-1)}, "refuses this protocol version"),
    (introduce, {"introduced": True, "greeting": "hang"}, "does not answer"),
    (unable, {"introduced": True}, "AuthType=auth/none is not supported"),
]


@pytest.mark.parametrize(("how", "standin", "reason"), UNINTRODUCED)
def test_old_stepd_that_is_not_introduced_to(
    tmp_path: Path, how: stepd.Introduce | None, standin: dict[str, object], reason: str
) -> None:
    one = step(tmp_path / "s")
    with Stepd(tmp_path / "s", **standin) as peer:  # type: ignore[arg-type]
        answers, silent = ask_all.ask_all([one], ROOT, deadline_for(reason), how)
        assert (answers, list(silent)) == ({}, [one])
        assert reason in silent[one]
        assert peer.connections <= 2
        with (
            pytest.raises((PeerError, SetupError), match=reason),
            stepd.Stepd(one, ROOT, deadline_for(reason), how),
        ):
            pass


def test_one_failing_munged_costs_one_wait(tmp_path: Path) -> None:
    """Many old stepds and a munged that hangs: asked once, and the new stepds are heard."""
    asked = []

    def hanging(deadline: Deadline) -> bytes:
        asked.append(deadline.left())
        time.sleep(deadline.left())
        raise PeerError("munged: no reply")

    olds = [Stepd(tmp_path / f"o{n}", protocol=33 << 8, introduced=True) for n in range(5)]
    with contextlib.ExitStack() as stack:
        for old in olds:
            stack.enter_context(old)
        new = stack.enter_context(Stepd(tmp_path / "new"))
        steps = [step(old.path, n) for n, old in enumerate((*olds, new))]
        answers, silent = ask_all.ask_all(steps, ROOT, Deadline(2), hanging)
    assert (list(answers), set(silent.values())) == ([steps[-1]], {"munged: no reply"})
    assert len(asked) == 1
    assert asked[0] <= ask_all.INTRODUCING


# Captured dialogues of every release


CAPTURED = json.loads((VECTORS / "stepd.json").read_text())
assert byteorder == "little", "stepds speak in the machine's byte order: captured on x86_64"


def replies(exchanges: list[list[str]]) -> dict[int, bytes | str | None]:
    """Return what a captured stepd answered by request code; a closed connection is None."""
    return {
        int.from_bytes(bytes.fromhex(send)[:4], "little"): bytes.fromhex(recv) or None
        for send, recv, _ in exchanges[1:]
    }


@pytest.mark.parametrize("release", CAPTURED)
def test_release(tmp_path: Path, release: str) -> None:
    """A stepd of each release adopts for root, and refuses in its own way where it refuses."""
    captured = CAPTURED[release]
    greeting = bytes.fromhex(captured["dialogue"][0][1])
    one_path = tmp_path / "s"
    one = step(one_path)
    with Stepd(one_path, greeting=greeting, replies=replies(captured["dialogue"])):
        answers, _ = ask_all.ask_all([one], ROOT, Deadline(5))
        assert (answers[one].protocol, answers[one].uid) == (captured["protocol"], 5001)
        with stepd.Stepd(one, ROOT, Deadline(5)) as talk:
            assert talk.protocol == captured["protocol"]
            talk.add_extern_pid(42)
            assert talk.state() in stepd.ALIVE
            assert talk.x11() is None
    one_path.unlink()
    with (
        Stepd(one_path, greeting=greeting, replies=replies(captured["x11"][0])),
        stepd.Stepd(one, ROOT, Deadline(5)) as talk,
    ):
        display, authority = talk.x11() or (0, "")
        assert display > 0
        assert authority.startswith("/tmp/.Xauthority-")
    one_path.unlink()
    if release == "20.11":  # takes pids from anybody
        return
    with (
        Stepd(one_path, greeting=greeting, replies=replies(captured["refused"])),
        stepd.Stepd(one, ROOT, Deadline(5)) as talk,
        pytest.raises(PeerError, match=r"refuses|closed|broke"),
    ):
        talk.add_extern_pid(42)


@pytest.mark.parametrize("release", CAPTURED)
def test_captured_pids(tmp_path: Path, release: str) -> None:
    """What a stepd of each release says is in its step."""
    captured = CAPTURED[release]
    with (
        Stepd(tmp_path / "s", protocol=captured["protocol"], replies=replies(captured["dialogue"])),
        stepd.Stepd(step(tmp_path / "s"), ROOT, Deadline(5)) as talk,
    ):
        added = int.from_bytes(bytes.fromhex(captured["dialogue"][5][0])[4:], "little")
        assert added in talk.pids()


# (reply to REQUEST_STEP_LIST_PIDS, pids or part of the message)
PIDS: list[tuple[bytes | None, object]] = [
    (int32(0), []),
    (int32(2) + int32(7) + int32(9), [7, 9]),
    (int32(-1), "4294967295 processes"),
    (int32(1 << 17), "131072 processes"),
    (int32(2) + int32(7), "does not answer"),
    (None, "closed"),
]


@pytest.mark.parametrize(("reply", "expected"), PIDS)
def test_pids(tmp_path: Path, reply: bytes | None, expected: object) -> None:
    with (
        Stepd(tmp_path / "s", replies={REQUEST_STEP_LIST_PIDS: reply}),
        stepd.Stepd(step(tmp_path / "s"), ROOT, deadline_for(expected)) as talk,
    ):
        if isinstance(expected, str):
            with pytest.raises(PeerError, match=expected):
                talk.pids()
        else:
            assert talk.pids() == expected


def test_unknown_protocol(tmp_path: Path) -> None:
    with (
        Stepd(tmp_path / "s", protocol=99),
        stepd.Stepd(step(tmp_path / "s"), ROOT, Deadline(GENEROUS)) as talk,
        pytest.raises(PeerError, match="protocol 99, which belongs to no known release"),
    ):
        talk.x11()


# (reply to REQUEST_X11_DISPLAY, (display, XAUTHORITY) or None, or part of the message)
X11: list[tuple[bytes | None, object]] = [
    (int32(0) + int32(0), None),
    (int32(0) + int32(3) + b"/x\0", None),
    (int32(95) + int32(0), (95, "")),
    (int32(95) + int32(3) + b"/x\0", (95, "/x")),
    (int32(-1) + int32(0), "display -1"),
    (int32(1 << 20) + int32(0), "display 1048576"),
    (int32(95) + int32(-1), "XAUTHORITY is -1 bytes"),
    (int32(95) + int32(1 << 30), "XAUTHORITY is 1073741824 bytes"),
    (int32(95) + int32(3) + b"/xy", "not one NUL-terminated path"),
    (int32(95) + int32(4) + b"/\0x\0", "not one NUL-terminated path"),
    (int32(95) + int32(4) + b"/\xff\n\0", "not one NUL-terminated path"),
    (int32(95) + int32(9) + b"/x", "does not answer"),
    (int32(95), "does not answer"),
    (None, "closed"),
]


@pytest.mark.parametrize(("reply", "expected"), X11)
def test_x11(tmp_path: Path, reply: bytes | None, expected: object) -> None:
    with (
        Stepd(tmp_path / "s", replies={REQUEST_X11_DISPLAY: reply}),
        stepd.Stepd(step(tmp_path / "s"), ROOT, deadline_for(expected)) as talk,
    ):
        if isinstance(expected, str):
            with pytest.raises(PeerError, match=expected):
                talk.x11()
        else:
            assert talk.x11() == expected


def test_more_than_an_answer_is_no_answer_to_the_next_request(tmp_path: Path) -> None:
    """Else a stepd that is moving the process would be taken for one that has refused it."""
    path = tmp_path / "s"
    serving = Stepd(path, replies={REQUEST_STEP_UID: int32(5001) + int32(-1)})
    with serving, stepd.Stepd(step(path), ROOT, Deadline(GENEROUS)) as one:
        assert one.uid() == 5001
        with pytest.raises(PeerError, match="there is more of it than there should be"):
            one.add_extern_pid(42)
    assert [number for number, _ in serving.received] == [REQUEST_STEP_UID]
