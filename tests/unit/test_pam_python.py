"""The front and the entry script, over a stand-in of pam_python's handle."""

from __future__ import annotations

import builtins
import errno
import gc
import importlib.util
import os
import pwd
import re
import sys
import weakref
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable

import pytest

from slurm_adopt.decision import engine
from slurm_adopt.decision.adoption import Adoption, Choice
from slurm_adopt.decision.login import Login
from slurm_adopt.decision.options import BY_NAME, parse
from slurm_adopt.decision.outcome import ACTIONS, SITUATIONS, Outcome
from slurm_adopt.front import answer as front_answer
from slurm_adopt.front import pam_python
from slurm_adopt.node import node
from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.auth.sack import Sack
from slurm_adopt.slurm.config import slurmd_processes
from slurm_adopt.slurm.errors import SlurmAdoptError
from slurm_adopt.slurm.slurmd import callerid
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.system import log
from tests.fakes import slurmd
from tests.fakes.handle import CODES, Handle
from tests.fakes.peers import Peer

if TYPE_CHECKING:
    from slurm_adopt.decision.outcome import Code

SCRIPT = Path(__file__).parents[2] / "pam" / "pam_slurm_adopt.py"
NO_JOBS = "Access denied by pam_slurm_adopt: you have no active jobs on this node"
DENY = "action_generic_failure=deny"
RELEASE, NEXT = slurmd.BY_NAME["24.11"], slurmd.BY_NAME["24.05"]  # asked in this order
HERE = Connection("127.0.0.1", 50000, "127.0.0.2", 22)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what would go to syslog."""
    found: list[str] = []
    monkeypatch.setattr(log.Log, "_connect", lambda _: None)
    monkeypatch.setattr(log.Log, "_send", lambda _, line: found.append(line.decode()))
    monkeypatch.setattr(front_answer, "uid_of", {"root": 0, "alice": 5001}.get)
    return found


def answer(monkeypatch: pytest.MonkeyPatch, outcome: Outcome | Exception) -> None:
    """Have the engine come to this outcome."""

    def decide(*_: object) -> Outcome:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(front_answer, "decide", decide)


class Asked(Handle):
    """A handle whose conversation gives an answer, or fails as PAM's does."""

    def __init__(self, said: Any) -> None:
        super().__init__()
        self._said = said
        self.clock = SimpleNamespace(value=0.0)

    def conversation(self, message: Any) -> Any:
        super().conversation(message)
        if isinstance(self._said, Exception):
            raise self._said
        self.clock.value += 60
        return SimpleNamespace(resp=self._said, resp_retcode=0)


def two_jobs(uid: int) -> Any:
    return [SimpleNamespace(job_id=7 + n, started=1 + n, uid=uid) for n in (0, 1)]


NO_TEXT = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


@pytest.mark.parametrize(
    ("said", "flags", "expected", "shown"),
    [
        ("7", 0, 7, 1),
        ("", 0, 8, 1),
        (None, 0, None, 1),
        (RuntimeError("Conversation error"), 0, None, 1),
        ("7", Handle.PAM_SILENT, None, 0),
        (NO_TEXT, 0, "named none of the jobs in 3 answers", 3),
        ("password", 0, "named none of the jobs in 3 answers", 3),
    ],
)
def test_the_user_is_asked(
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    said: Any,
    flags: int,
    expected: Any,
    shown: int,
) -> None:
    """Where the service can, with echo; where it cannot, nothing is shown."""
    jobs = two_jobs(5001)
    came: list[object] = []

    def decide(_: Login, __: object, here: node.Node) -> Outcome:
        try:
            came.append(here.ask(jobs, jobs[1]))
        except SlurmAdoptError as error:
            came.append(str(error))
        return Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", "x")

    monkeypatch.setattr(front_answer, "decide", decide)
    pamh = Asked(said)
    clock = SimpleNamespace(monotonic=lambda: pamh.clock.value)
    for module in (pam_python, front_answer):
        monkeypatch.setattr(module, "time", clock)
    assert pam_python.account(pamh, flags, [], {}) == pamh.PAM_SUCCESS
    (found,) = came
    assert found == expected or (isinstance(expected, str) and expected in str(found))
    assert [message.style for message in pamh.said] == [pamh.PAM_PROMPT_ECHO_ON] * shown
    assert not any("password" in line for line in lines)
    assert lines[-1].endswith(" in 0.0 ms")  # the user's time is not the module's


@pytest.mark.parametrize("tty", [None, ""])
def test_nobody_is_asked_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], tty: str | None
) -> None:
    """Then su in a script would read the answer from the script's standard input."""
    came: list[object] = []

    def decide(_: Login, __: object, here: node.Node) -> Outcome:
        jobs = two_jobs(5001)
        came.append(here.ask(jobs, jobs[1]))
        return Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", "x")

    monkeypatch.setattr(front_answer, "decide", decide)
    pamh = Asked("7")
    pamh.tty = tty
    assert pam_python.account(pamh, 0, [], {}) == pamh.PAM_SUCCESS
    assert came == [None]
    assert not pamh.said
    assert lines


def test_root_is_not_asked(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """With ignore_root=0: what types root's password at each question, or once, gets in."""
    came: list[object] = []

    def decide(_: Login, __: object, here: node.Node) -> Outcome:
        jobs = two_jobs(0)
        came.append(here.ask(jobs, jobs[1]))
        return Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", "x")

    monkeypatch.setattr(front_answer, "decide", decide)
    pamh = Asked("7")
    assert pam_python.account(pamh, 0, ["ignore_root=0"], {}) == pamh.PAM_SUCCESS
    assert came == [None]
    assert not pamh.said
    assert lines


def test_the_session_phase_asks_nobody(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    jobs = two_jobs(5001)

    def decide(_: Login, __: object, here: node.Node, ___: object) -> Outcome:
        assert here.ask(jobs, jobs[1]) is None
        return Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", "x")

    monkeypatch.setattr(front_answer, "decide_session", decide)
    pamh = Asked("7")
    assert pam_python.session(pamh, 0, [], {}) == pamh.PAM_SUCCESS
    assert not pamh.said
    assert lines


PORTS = [("127.0.0.1", 1), ("127.0.0.1", 1)]  # nobody listens


def _ask_source(auth: slurmd.Auth | Sack, *places: tuple[str, int]) -> None:
    cluster = callerid.Cluster(RELEASE.protocol, auth)
    callerid.ask_each(HERE, places, cluster, Deadline(5))


def _source_is_down(_: Path) -> None:
    _ask_source(slurmd.Auth(), *PORTS)


def _source_refuses(_: Path) -> None:
    with Peer(slurmd.error(RELEASE, 2017)) as peer:
        _ask_source(slurmd.Auth(), peer.place)


def _source_refuses_one_version(_: Path) -> None:
    known = slurmd.reply(NEXT, slurmd.answer(NEXT, 7))
    with Peer(None, known) as peer:
        _ask_source(slurmd.Auth(), *PORTS, peer.place)


def _no_sack(path: Path) -> None:
    with Peer(None) as peer:
        _ask_source(Sack((str(path / "none"),), frozenset({0})), peer.place)


def _mistake(_: Path) -> None:
    raise ValueError


@pytest.mark.parametrize("phase", ["account", "session"])
@pytest.mark.parametrize(
    "ask", [_source_is_down, _source_refuses, _source_refuses_one_version, _no_sack, _mistake]
)
def test_nothing_keeps_the_handle(
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    tmp_path: Path,
    ask: Callable[[Path], None],
    phase: str,
) -> None:
    """pam_python crashes where its handle is collected as garbage after pam_end()."""
    failed: list[str] = []

    def look(login: Login, *_: object) -> Outcome:
        try:
            engine.step(lambda: ask(tmp_path))
        except SlurmAdoptError as error:
            failed.append(str(error))
        return Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", f"{login.user}: no job here")

    monkeypatch.setattr(front_answer, "decide", look)
    monkeypatch.setattr(front_answer, "decide_session", look)
    handle = Handle()
    left = weakref.ref(handle)
    gc.disable()
    try:
        answered = getattr(pam_python, phase)(handle, 0, [], {})
        del handle
        assert left() is None
    finally:
        gc.enable()
    assert CODES[answered] == "PAM_PERM_DENIED"
    assert lines
    assert bool(failed) == (ask is not _source_refuses_one_version)


def test_refusal_is_said_to_the_user(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", "no job here"))
    handle = Handle()
    assert CODES[pam_python.account(handle, 0, [], {})] == "PAM_PERM_DENIED"
    assert handle.said == [(Handle.PAM_ERROR_MSG, NO_JOBS)]
    assert "pam_slurm_adopt(sshd:account): user alice (uid 5001)" in lines[0]
    assert "no job here -> PAM_PERM_DENIED in" in lines[0]


# (whether the program is sshd, level, user) -> syslog priorities of the lines
OTHERS = [
    (True, "info", "alice", ["<86>"]),
    (True, "error", "alice", []),
    (True, "info", "root", []),
    (False, "info", "alice", []),
    (False, "debug", "alice", ["<87>"]),
]


@pytest.mark.parametrize(("sshd", "level", "user", "expected"), OTHERS)
def test_an_sshd_under_another_name(
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    sshd: bool,
    level: str,
    user: str,
    expected: list[str],
) -> None:
    """Is let by, and not in silence; other programs are."""
    monkeypatch.setattr(front_answer, "is_sshd", lambda _: sshd)
    handle = Handle(user=user, service="sshd-compute")
    assert CODES[pam_python.account(handle, 0, [f"log_level={level}"], {})] == "PAM_IGNORE"
    assert [line[:4] for line in lines] == expected
    named = ["set service=sshd-compute to have its logins decided" in line for line in lines]
    assert named == [sshd] * len(lines)


@pytest.mark.parametrize("code", ["PAM_IGNORE", "PAM_SUCCESS"])
def test_nothing_is_said_unless_refused(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], code: Code
) -> None:
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], code, "no job here"))
    handle = Handle()
    assert CODES[pam_python.account(handle, 0, [], {})] == code
    assert not handle.said
    assert len(lines) == 1


def test_silent(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", ""))
    handle = Handle()
    pam_python.account(handle, Handle.PAM_SILENT, [], {})
    assert not handle.said
    assert lines


def test_failed_conversation_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", ""))
    handle = Handle()
    monkeypatch.setattr(handle, "conversation", lambda _: 1 // 0)
    assert CODES[pam_python.account(handle, 0, [], {})] == "PAM_PERM_DENIED"
    assert lines


def test_environment(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    environment = {"SLURM_JOB_ID": "7"}
    answer(
        monkeypatch,
        Outcome(
            SITUATIONS["adopted"], "PAM_SUCCESS", "", Adoption(1, 5001, 7).proven({}, environment)
        ),
    )
    handle = Handle()
    pam_python.account(handle, 0, [], {})
    assert handle.env == environment
    assert lines


def test_complaints_come_first(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    answer(monkeypatch, Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", ""))
    pam_python.account(Handle(), 0, ["action_nojobs=deny", "log_level=error"], {})
    (line,) = lines
    assert "did you mean action_no_jobs=?" in line


# The session phase, and what the phases of one handle tell each other


def beforehand(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Have session phases be adopted into job 8; return what each is told of before, and hints."""
    found: list[Any] = []

    def decide_session(login: Login, *rest: object) -> Outcome:
        found.append((rest[-1], login.hint))
        adopted = Adoption(login.pid, 5001, 8)
        return Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", "session", adopted)

    monkeypatch.setattr(front_answer, "decide_session", decide_session)
    monkeypatch.setattr("slurm_adopt.node.adoption_note.take", lambda pid, uid: (pid, uid))
    return found


def test_session_phase_knows_the_account_phase(
    monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    outcome = Outcome(SITUATIONS["no jobs"], "PAM_IGNORE", "")
    answer(monkeypatch, outcome)
    told, memory = beforehand(monkeypatch), dict[str, Any]()
    handle = Handle()
    pam_python.account(handle, 0, [], memory)
    assert CODES[pam_python.session(handle, 0, [], memory)] == "PAM_SUCCESS"
    assert told == [(outcome, None)]
    assert "pam_slurm_adopt(sshd:session): user alice" in lines[-1]


def test_a_second_session_line_knows_the_first(
    monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    told, memory = beforehand(monkeypatch), dict[str, Any]()
    for _ in range(2):
        pam_python.session(Handle(), 0, [], memory)
    (first, _), (second, _) = told
    assert first == (os.getpid(), 5001)  # nothing in this process: what another has left
    assert second.adoption.job_id == 8
    assert lines


def test_withdrawn_variables(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """Where they still are; others stay."""
    outcome = Outcome(SITUATIONS["no jobs"], "PAM_IGNORE", "")
    outcome = outcome.but(withdrawn=frozenset({"SLURM_JOB_ID", "DISPLAY"}))
    answer(monkeypatch, outcome)
    handle = Handle()
    handle.env = {"SLURM_JOB_ID": "7", "LANG": "C"}
    pam_python.account(handle, 0, [], {})
    assert handle.env == {"LANG": "C"}
    assert lines


@pytest.mark.parametrize("change", ["user", "process", "uid"])
def test_what_is_remembered_is_of_one_process_and_user(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], change: str
) -> None:
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_IGNORE", ""))
    told, memory = beforehand(monkeypatch), dict[str, Any]()
    pam_python.account(Handle(), 0, [], memory)
    if change == "process":
        monkeypatch.setattr(os, "getpid", lambda: 4711)
    monkeypatch.setattr(
        front_answer, "uid_of", {"alice": 5001 + (change == "uid"), "bob": 5001}.get
    )
    pam_python.session(Handle("bob" if change == "user" else "alice"), 0, [], memory)
    ((before, _),) = told
    assert before == (os.getpid(), 5001 + (change == "uid"))
    assert lines


def test_job_id_of_the_environment_is_a_hint_in_the_session_phase(
    monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    told = beforehand(monkeypatch)
    hints: list[str | None] = []

    def decide(login: Login, *_: object) -> Outcome:
        hints.append(login.hint)
        return Outcome(SITUATIONS["no jobs"], "PAM_IGNORE", "")

    monkeypatch.setattr(front_answer, "decide", decide)
    handle = Handle()
    handle.env = {"SLURM_JOB_ID": "9"}
    pam_python.account(handle, 0, [], {})
    pam_python.session(handle, 0, [], {})
    assert hints == [None]
    assert [hint for _, hint in told] == ["9"]
    assert lines


# (file's bytes, what the user is told; None for our own sentence, part of the log line)
MESSAGES = [
    (b"No job of %u on %h (%j).\nAsk us.\n", "No job of alice on HOST (7 8).\nAsk us.", ""),
    (b"%m\n", NO_JOBS, ""),
    (b"%m [%r]\n", f"{NO_JOBS} []", ""),
    (b"100%% %x %", "100% %x %", ""),
    (b"\x1b[31m\x07red\xff", "[31mred\ufffd", ""),
    (b"x" * 4096, "x" * 4096, ""),
    (b"x" * 4097, None, "it is larger than 4096 bytes"),
    (b"", None, "is empty"),
    (None, None, "No such file or directory"),
]


@pytest.mark.parametrize(("text", "told", "said"), MESSAGES)
def test_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    text: bytes | None,
    told: str | None,
    said: str,
) -> None:
    outcome = Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", "")
    answer(monkeypatch, outcome.but(jobs=(7, 8)))
    if text is not None:
        (tmp_path / "m").write_bytes(text)
    handle = Handle()
    pam_python.account(handle, 0, [f"message={tmp_path}/m"], {})
    ((_, words),) = handle.said
    assert words == (NO_JOBS if told is None else told.replace("HOST", os.uname().nodename))
    assert said in "".join(lines)


def test_message_that_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", ""))
    os.mkfifo(tmp_path / "m")
    handle = Handle()
    pam_python.account(handle, 0, [f"message={tmp_path}/m"], {})
    assert handle.said[0][1] == NO_JOBS
    assert "it is not a regular file" in "".join(lines)


# The reference


@pytest.mark.parametrize("message", ["", "%m%n %r"])
def test_the_reference_is_shown_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], message: str
) -> None:
    """Behind the known sentence, and where a site's own words want it."""
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", "no job here"))
    (tmp_path / "m").write_text(message)
    handle = Handle()
    given = [f"message={tmp_path}/m"] if message else []
    pam_python.account(handle, 0, ["reference=1", *given], {})
    (found,) = re.findall(r", pid \d+, ref (\w+): no job here -> PAM_PERM_DENIED in ", lines[0])
    assert re.fullmatch(f"[{front_answer.LETTERS}]{{4}}", found)
    ((_, words),) = handle.said
    assert words == (f"{NO_JOBS}%n {found}" if message else f"{NO_JOBS} (ref {found})")


def test_a_reference_is_one_login_s(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """Both phases have it; no two logins do, as a rule."""
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_IGNORE", ""))
    beforehand(monkeypatch)
    for _ in range(50):
        memory = dict[str, Any]()
        pam_python.account(Handle(), 0, ["reference=1"], memory)
        pam_python.session(Handle(), 0, ["reference=1"], memory)
    found = re.findall(r", ref (\w{4}):", "".join(lines))
    assert found[::2] == found[1::2]
    assert len({*found}) > 40


def test_a_reference_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """The login does without it."""
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", "no job here"))

    def urandom(_: int) -> bytes:
        raise OSError

    monkeypatch.setattr(os, "urandom", urandom)
    handle = Handle()
    assert CODES[pam_python.account(handle, 0, ["reference=1"], {})] == "PAM_PERM_DENIED"
    assert handle.said == [(Handle.PAM_ERROR_MSG, NO_JOBS)]
    assert ", ref" not in lines[0]


def test_letters_of_a_reference() -> None:
    """Each is as likely as the others, and none is taken for another."""
    assert 256 % len(front_answer.LETTERS) == 0
    assert len({*front_answer.LETTERS}) == len(front_answer.LETTERS)
    assert not {*front_answer.LETTERS} & {*"ILOU"}


# What stands at the end of a line is looked for


def test_a_long_text_is_cut_in_its_middle(
    monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    text = f"unknown job: {'x' * 5000}; action_unknown=deny"
    answer(monkeypatch, Outcome(SITUATIONS["unknown job"], "PAM_PERM_DENIED", text))
    pam_python.account(Handle(), 0, [], {})
    (line,) = lines
    assert "unknown job: xxx" in line
    assert "...xxx" in line
    assert re.search(r"x; action_unknown=deny -> PAM_PERM_DENIED in [\d.]+ ms$", line)
    assert len(line) < 1000


def test_fields_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """The line is there without them, and the answer is the same."""
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", "no job here"))
    monkeypatch.setattr(log.Log, "takes_fields", True)
    monkeypatch.setitem(sys.modules, "slurm_adopt.decision.record", None)
    handle = Handle()
    assert CODES[pam_python.account(handle, 0, [], {})] == "PAM_PERM_DENIED"
    assert handle.said == [(Handle.PAM_ERROR_MSG, NO_JOBS)]
    assert "the log has no fields: unexpected ModuleNotFoundError" in lines[0]
    assert "no job here -> PAM_PERM_DENIED" in lines[1]


def test_fields_that_fail(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", "no job here"))
    monkeypatch.setattr(log.Log, "takes_fields", True)
    monkeypatch.setattr("slurm_adopt.decision.record.fields", lambda *_: 1 // 0)
    handle = Handle()
    assert CODES[pam_python.account(handle, 0, [], {})] == "PAM_PERM_DENIED"
    assert handle.said == [(Handle.PAM_ERROR_MSG, NO_JOBS)]
    assert "no job here -> PAM_PERM_DENIED" in lines[0]


# (user, options, whether a slurmd runs here, code)
MISTAKES = [
    ("alice", "", False, "PAM_IGNORE"),
    ("alice", "", True, "PAM_PERM_DENIED"),
    ("alice", "action_generic_failure=ignore", True, "PAM_IGNORE"),
    ("alice", "action_generic_failure=allow", True, "PAM_SUCCESS"),
    ("alice", DENY, False, "PAM_PERM_DENIED"),
    ("root", f"ignore_root=0 {DENY}", True, "PAM_IGNORE"),
    ("root", "ignore_root=0", True, "PAM_IGNORE"),
]


@pytest.mark.parametrize(("user", "options", "runs", "code"), MISTAKES)
def test_our_own_mistake(
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    user: str,
    options: str,
    runs: bool,
    code: str,
) -> None:
    here = [slurmd_processes.Slurmd(9, "", "-f", {})] if runs else []
    monkeypatch.setattr(slurmd_processes, "slurmds", lambda: here)
    answer(monkeypatch, ZeroDivisionError("oops"))
    assert CODES[pam_python.account(Handle(user), 0, options.split(), {})] == code
    assert "unexpected ZeroDivisionError: oops at " in lines[-1]
    assert "test_pam_python.py:" in lines[-1]
    assert ("services included" in lines[0]) == (user == "root")


# (user, options, code) where a session's decision breaks after a job was chosen for it
BROKEN_OFF = [
    ("alice", "action_generic_failure=ignore", "PAM_PERM_DENIED"),
    ("alice", "action_generic_failure=allow", "PAM_SUCCESS"),
    ("alice", DENY, "PAM_PERM_DENIED"),
    ("root", f"ignore_root=0 {DENY}", "PAM_IGNORE"),
]


@pytest.mark.parametrize(("user", "options", "code"), BROKEN_OFF)
@pytest.mark.parametrize("breaks", ["decide_session", "Node"])
def test_our_own_mistake_in_a_session_that_is_for_a_job(
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    user: str,
    options: str,
    code: str,
    breaks: str,
) -> None:
    """The session is in no job: it has no variables of one, and is not left to other modules."""
    choice = Choice(7, 0 if user == "root" else 5001)
    answer(monkeypatch, Outcome(SITUATIONS["chosen"], "PAM_SUCCESS", "x", choice=choice))
    handle, memory = Handle(user), dict[str, Any]()
    pam_python.account(handle, 0, options.split(), memory)
    assert handle.env == {"SLURM_JOB_ID": "7"}
    monkeypatch.setattr(front_answer, breaks, lambda *_, **__: 1 // 0)
    assert CODES[pam_python.session(handle, 0, options.split(), memory)] == code
    assert handle.env == {}
    assert "unexpected ZeroDivisionError" in lines[-1]
    memory.clear()
    other = ["service=login", *options.split()]
    assert CODES[pam_python.session(handle, 0, other, memory)] == "PAM_IGNORE"


@pytest.mark.parametrize("name", ["", "x" * 300, "a\nb", "a/b", "%s%n", "nobody-knows-me"])
def test_odd_user_names_are_unknown(name: str) -> None:
    assert front_answer.uid_of(name) is None


def test_a_nul_in_a_user_name() -> None:
    assert front_answer.uid_of("a\0b") is None


class Undecodable(Handle):
    """What pam_python does where an item is no UTF-8: it raises."""

    user: Any = property(lambda _: b"al\xffce".decode())
    rhost: Any = property(lambda _: b"\xff".decode())
    env: Any = property(lambda _: b"\xff".decode())

    def __init__(self) -> None:
        self.service = "sshd"
        self.said: list[Any] = []


def test_items_that_are_no_utf_8(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """They count as what they are: an unknown user, a source that is no address."""
    monkeypatch.setattr(node.Node, "jobs", lambda *_: pytest.fail("asked for jobs"))
    assert CODES[pam_python.account(Undecodable(), 0, [], {})] == "PAM_USER_UNKNOWN"
    (line,) = lines
    assert "user al\\udcffce (uid None) from \\udcff, pid " in line


# The entry script


@pytest.fixture
def script() -> ModuleType:
    """Load the script as pam_python does: alone, by its path."""
    spec = importlib.util.spec_from_file_location("entry", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module._rest()
    return module


def account(script: ModuleType, handle: Any, options: str = "") -> str:
    return CODES[script.pam_sm_acct_mgmt(handle, 0, [str(SCRIPT), *options.split()])]


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if anything of Slurm is looked at."""
    monkeypatch.setattr(node.Node, "jobs", lambda *_: pytest.fail("asked for jobs"))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("options", ["", DENY, "ignore_root=1", "service=login", "action_x=1"])
def test_root_is_answered_first(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType, options: str
) -> None:
    monkeypatch.setattr(script, "_front", lambda _: pytest.fail("loaded the package"))
    assert account(script, Handle("root"), options) == "PAM_IGNORE"


def test_root_where_no_file_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor `__future__`: the script imports nothing but builtin modules until root is answered."""
    usual = builtins.__import__

    def unreadable(name: str, *rest: Any) -> Any:
        if name not in sys.builtin_module_names:
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        return usual(name, *rest)

    code = compile(SCRIPT.read_text(), SCRIPT, "exec", dont_inherit=True)
    loaded: dict[str, Any] = {"__name__": "entry"}
    arguments = [str(SCRIPT), DENY]
    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", unreadable)
        exec(code, loaded)
        answers = [
            loaded[f"pam_sm_{phase}"](Handle("root"), 0, arguments)
            for phase in ("acct_mgmt", "open_session")
        ]
    assert answers == [Handle.PAM_IGNORE] * 2


def test_root_without_a_user_database(monkeypatch: pytest.MonkeyPatch, script: ModuleType) -> None:
    monkeypatch.setattr("pwd.getpwnam", lambda _: 1 // 0)
    assert account(script, Handle("root"), DENY) == "PAM_IGNORE"


def test_root_by_a_name_that_is_no_utf_8(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType
) -> None:
    zero = pwd.getpwnam("root")
    monkeypatch.setattr("pwd.getpwnam", lambda name: {"al\udcffce": zero}[name])
    assert account(script, Undecodable(), DENY) == "PAM_IGNORE"


def test_the_checkout_s_package_is_used(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType
) -> None:
    loaded = dict(sys.modules)
    for name in [name for name in sys.modules if name.startswith("slurm_adopt")]:
        monkeypatch.delitem(sys.modules, name)
    before = list(sys.path)
    script._front(str(SCRIPT))
    found = sys.modules["slurm_adopt.front.pam_python"].__file__
    assert found == str(SCRIPT.parents[1] / "src/slurm_adopt/front/pam_python.py")
    assert sys.path == before
    sys.modules.update(loaded)


@pytest.mark.parametrize("path", ["/lib/security/pam_slurm_adopt.py", "pam_slurm_adopt.py"])
def test_no_checkout_adds_no_path(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType, path: str
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "slurm_adopt.system.importing", raising=False)
    with pytest.raises(ImportError, match="No module named 'slurm_adopt'"):
        script._front(path)


# (user, service, options, code)
BROKEN = [
    ("alice", "sshd", "", "PAM_PERM_DENIED"),  # a slurmd runs here
    ("alice", "sshd", "action_generic_failure=auto", "PAM_PERM_DENIED"),
    ("alice", "sshd", "action_generic_failure=ignore", "PAM_IGNORE"),
    ("alice", "sshd", "action_generic_failure=allow", "PAM_SUCCESS"),
    ("alice", "sshd", "Action_Generic_Failure=DENY", "PAM_PERM_DENIED"),
    ("alice", "sshd", "action_generic_failure=dney", "PAM_PERM_DENIED"),
    ("alice", "sshd", "action_generic_failure=", "PAM_PERM_DENIED"),
    ("alice", "sudo", DENY, "PAM_IGNORE"),
    ("alice", "sudo", f"{DENY} service=*", "PAM_PERM_DENIED"),
    ("alice", "login", f"{DENY} service=login", "PAM_PERM_DENIED"),
    (None, None, DENY, "PAM_IGNORE"),
    ("root", "sshd", DENY, "PAM_IGNORE"),
    ("root", "sshd", f"ignore_root=0 {DENY}", "PAM_IGNORE"),
]


@pytest.mark.parametrize("error", [ImportError("x"), SystemExit(1), MemoryError(), SyntaxError()])
@pytest.mark.parametrize(("user", "service", "options", "code"), BROKEN)
def test_package_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch,
    script: ModuleType,
    user: str | None,
    service: str | None,
    options: str,
    code: str,
    error: BaseException,
) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(script, "_front", fail)
    monkeypatch.setattr(script, "_runs_slurm", lambda: True)
    assert account(script, Handle(user, service), options) == code
    monkeypatch.setattr(script, "_runs_slurm", lambda: False)
    without = "PAM_IGNORE" if options in ("", "action_generic_failure=auto") else code
    assert account(script, Handle(user, service), options) == without


# (what the account phase came to, user, options, code)
LET_IN = [
    ("chosen", "alice", "action_generic_failure=ignore", "PAM_PERM_DENIED"),
    ("adopted", "alice", "action_generic_failure=ignore", "PAM_PERM_DENIED"),
    ("no jobs", "alice", "action_generic_failure=ignore", "PAM_IGNORE"),
    ("chosen", "alice", "action_generic_failure=allow", "PAM_SUCCESS"),
    ("chosen", "root", f"ignore_root=0 {DENY}", "PAM_IGNORE"),
]


@pytest.mark.parametrize(("came", "user", "options", "code"), LET_IN)
def test_a_package_that_is_gone_in_the_session_phase(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, came: str, user: str, options: str,
    code: str,
) -> None:  # fmt: skip
    """Whom the account phase let in for a job is not left to the modules that it went by."""
    outcome = SimpleNamespace(
        adoption=Adoption(1, 5001, 7) if came == "adopted" else None,
        choice=Choice(7, 5001) if came == "chosen" else None,
    )
    monkeypatch.setattr(script, "_front", lambda _: 1 // 0)
    monkeypatch.setitem(script.MEMORY, "decided", (None, outcome))
    argv = [str(SCRIPT), *options.split()]
    assert CODES[script.pam_sm_open_session(Handle(user), 0, argv)] == code


def test_a_script_by_a_relative_path_is_looked_at(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pam_python has its own directory for those: __file__ says where it is."""
    asked: list[str] = []
    monkeypatch.setattr(script, "_front", asked.append)
    for path in (str(SCRIPT), "pam_slurm_adopt.py", "x/pam/pam_slurm_adopt.py"):
        script.pam_sm_acct_mgmt(Handle("alice"), 0, [path])
    assert asked == [str(SCRIPT)] * 3


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("value", [*ACTIONS["action_generic_failure"], "oldest"])
def test_the_script_has_the_engine_s_values(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType, value: str, runs: bool
) -> None:
    """Also one that only the parser knows."""
    option = BY_NAME["action_generic_failure"]
    monkeypatch.setattr(option, "values", (*option.values, "oldest"))
    given = f"action_generic_failure={value}"
    options, complaints = parse([given])
    assert not complaints
    monkeypatch.setattr(script, "_front", lambda _: 1 // 0)
    monkeypatch.setattr(script, "_runs_slurm", lambda: runs)
    expected = engine.undecided(options, "", lambda: runs).code
    assert account(script, Handle("alice"), given) == expected
    assert account(script, Handle("root"), f"ignore_root=0 {given}") == "PAM_IGNORE"
    assert value != "oldest" or expected == "PAM_PERM_DENIED"


COMPLAINTS = [
    (ImportError("no x"), "ImportError('no x')"),
    (SystemExit(3), "SystemExit(3)"),
    (
        FileNotFoundError(2, "No such file", "/a/b"),
        "FileNotFoundError([Errno 2] No such file: '/a/b')",
    ),
    (OSError(5, "Input/output error"), "OSError([Errno 5] Input/output error)"),
    (
        SyntaxError("bad", ("/a/b.py", 3, 1, "(")),
        "SyntaxError('bad', ('/a/b.py', 3, 1, '('))",
    ),
]


@pytest.mark.parametrize(("error", "shown"), COMPLAINTS, ids=lambda value: type(value).__name__)
def test_the_script_names_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType, error: BaseException, shown: str
) -> None:
    """And the file, where the exception has one."""
    said: list[bytes] = []
    monkeypatch.setattr(script, "_to_syslog", said.append)
    script._complain("sshd:account", error)
    expected = f"pam_slurm_adopt(sshd:account): cannot run: {shown}; is the package complete?"
    assert said == [expected.encode()]


# (program, uids, whether it counts)
PROGRAMS = [
    ("/usr/sbin/slurmd", "0\t0\t0\t0", True),
    ("/opt/slurm/sbin/slurmd (deleted)", "0\t0\t0\t0", True),
    ("/usr/sbin/slurmstepd-wlm", "0\t0\t0\t0", True),
    ("/usr/sbin/slurmdbd", "0\t0\t0\t0", False),
    ("/home/alice/slurmd", "5001\t5001\t5001\t5001", False),
    ("/home/alice/slurmd", "5001\t0\t0\t0", False),
]


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize(("program", "uids", "counts"), PROGRAMS)
def test_the_script_sees_a_slurmd_as_the_package_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: ModuleType,
    program: str,
    uids: str,
    counts: bool,
    shown: bool,
) -> None:
    """`shown`: whether the exe may be read."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/exe").symlink_to(program)
    (tmp_path / "7/status").write_text(f"Name:\tslurmd\nUid:\t{uids}\nGid:\t0\t0\t0\t0\n")
    (tmp_path / "8").mkdir()
    (tmp_path / "self").symlink_to("8")
    called = program.rpartition("/")[2].removesuffix(" (deleted)")
    (tmp_path / "7/comm").write_text(f"{called}\n")
    listdir, readlink = os.listdir, os.readlink

    def there(path: str) -> str:
        return path.replace("/proc", str(tmp_path))

    def opened(path: str, mode: str) -> Any:
        return Path(there(path)).open(mode)

    monkeypatch.setattr(os, "listdir", lambda path: listdir(there(path)))

    def read(path: str) -> str:
        if path.endswith("exe") and not shown:
            raise PermissionError
        return readlink(there(path))

    monkeypatch.setattr(os, "listdir", lambda path: listdir(there(path)))
    monkeypatch.setattr(os, "readlink", read)
    monkeypatch.setattr(script, "open", opened, raising=False)
    assert script._runs_slurm() is counts
    top = str(tmp_path)
    assert (bool(slurmd_processes.slurmds(top)) or slurmd_processes.hidden(proc=top)) is counts


def test_the_script_takes_a_slurmd_to_run_without_proc(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType
) -> None:
    monkeypatch.setattr(os, "listdir", lambda path: 1 // 0 if path != "/proc" else no_proc())
    assert script._runs_slurm() is True


def no_proc() -> list[str]:
    raise FileNotFoundError


def test_the_script_takes_a_slurmd_to_run_where_nothing_is_mounted(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType
) -> None:
    monkeypatch.setattr(os, "listdir", lambda _: [])
    monkeypatch.setattr(os, "readlink", lambda _: no_proc())
    assert script._runs_slurm() is True


class OddService(Handle):
    """The handle of a service whose name is no UTF-8."""

    service: Any = property(lambda _: b"ssh\xff".decode())

    def __init__(self, user: str) -> None:
        self.user = user
        self.env: Any = {}
        self.said: list[Any] = []


@pytest.mark.parametrize(
    ("user", "options", "code"),
    [
        ("alice", DENY, "PAM_IGNORE"),
        ("alice", f"{DENY} service=*", "PAM_PERM_DENIED"),
        ("root", f"ignore_root=0 service=* {DENY}", "PAM_IGNORE"),
    ],
)
def test_a_service_that_is_no_utf_8(script: ModuleType, user: str, options: str, code: str) -> None:
    assert account(script, OddService(user), options) == code


@pytest.mark.parametrize("phase", ["authenticate", "setcred", "chauthtok", "close_session"])
def test_other_phases_are_ignored(script: ModuleType, phase: str) -> None:
    assert getattr(script, f"pam_sm_{phase}")(Handle(), 0, [str(SCRIPT)]) == Handle.PAM_IGNORE


def test_nothing_is_left_in_the_engine_for_the_front() -> None:
    """What the engine decides about root must hold where the front decides in its place."""
    login = Login("root", 0, "sshd", 1)
    refusal = Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", "x")
    assert engine.spare_root(login, refusal).code == "PAM_IGNORE"


def test_a_log_that_fails_does_not_change_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", ""))
    monkeypatch.setattr(front_answer, "_report", lambda *_: 1 // 0)
    assert CODES[pam_python.account(Handle("alice"), 0, [], {})] == "PAM_PERM_DENIED"
