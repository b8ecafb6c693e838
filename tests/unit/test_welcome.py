"""welcome=1: who is told of a job, what, and when that is prepared."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from slurm_adopt.decision.adoption import Adoption
from slurm_adopt.decision.outcome import SITUATIONS, Outcome
from slurm_adopt.front import answer as front_answer
from slurm_adopt.front import pam_python, welcome
from slurm_adopt.system import log
from tests.fakes.handle import CODES, Handle

WORDS = "This session is part of job 42 and ends with it."
NONE: list[Any] = []
TOLD = [(Handle.PAM_TEXT_INFO, WORDS)]
IN_JOB = Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", "in", Adoption(1, 5001, 42))
STILL_IN = Outcome(SITUATIONS["still adopted"], "PAM_SUCCESS", "in", Adoption(1, 5001, 42))
LET_IN = Outcome(SITUATIONS["adopt failure"], "PAM_SUCCESS", "let in")


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what would go to syslog."""
    found: list[str] = []
    monkeypatch.setattr(log.Log, "write", lambda *said: found.append(said[2]))
    monkeypatch.setattr(front_answer, "uid_of", {"alice": 5001}.get)
    return found


def log_in(
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
    phase: str = "session",
    options: tuple[str, ...] = ("welcome=1",),
    flags: int = 0,
    tty: str | None = "ssh",
) -> list[Any]:
    """Have a phase come to an outcome; return what the user is told."""
    monkeypatch.setattr(front_answer, "_decide", lambda *_: outcome)
    handle = Handle()
    handle.tty = tty
    assert CODES[getattr(pam_python, phase)(handle, flags, list(options), {})] == outcome.code
    return handle.said


# (outcome, phase, options, flags, PAM_TTY, what is said)
ROWS = [
    (IN_JOB, "session", ("welcome=1",), 0, "ssh", TOLD),
    (STILL_IN, "session", ("welcome=1",), 0, "ssh", TOLD),
    (IN_JOB, "session", ("welcome=1",), 0, "/dev/pts/3", TOLD),
    (IN_JOB, "session", ("welcome=1",), 0, "tty1", TOLD),
    (IN_JOB, "session", ("welcome=1",), 0, "cron", NONE),
    (IN_JOB, "session", ("welcome=1",), 0, "", NONE),
    (IN_JOB, "session", ("welcome=1",), 0, None, NONE),
    (IN_JOB, "session", ("welcome=1",), Handle.PAM_SILENT, "ssh", NONE),
    (IN_JOB, "session", (), 0, "ssh", NONE),
    (IN_JOB, "session", ("welcome=0",), 0, "ssh", NONE),
    (IN_JOB, "session", ("welcome=2",), 0, "ssh", NONE),
    (IN_JOB, "account", ("welcome=1",), 0, "ssh", NONE),
    (LET_IN, "session", ("welcome=1",), 0, "ssh", NONE),
]


@pytest.mark.parametrize(("outcome", "phase", "options", "flags", "tty", "said"), ROWS)
def test_who_is_told(
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
    phase: str,
    options: tuple[str, ...],
    flags: int,
    tty: str | None,
    said: list[Any],
) -> None:
    assert log_in(monkeypatch, outcome, phase, options, flags, tty) == said


def test_a_refusal_is_told_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", "none")
    (said,) = log_in(monkeypatch, refused)
    assert said.style == Handle.PAM_ERROR_MSG


def test_once_a_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there are two session lines of ours."""
    monkeypatch.setattr(front_answer, "_decide", lambda *_: IN_JOB)
    handle, memory = Handle(), {}  # type: ignore[var-annotated]
    for _ in range(2):
        pam_python.session(handle, 0, ["welcome=1"], memory)
    assert handle.said == TOLD


def test_a_failed_conversation_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_answer, "_decide", lambda *_: IN_JOB)
    handle = Handle()
    monkeypatch.setattr(handle, "conversation", lambda _: 1 // 0)
    assert CODES[pam_python.session(handle, 0, ["welcome=1"], {})] == "PAM_SUCCESS"


def test_a_missing_module_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "slurm_adopt.front.welcome", None)
    assert log_in(monkeypatch, IN_JOB) == []
    assert any("welcome=1 does nothing: " in line for line in lines)


def test_nothing_is_read_after_the_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """By then /usr and /etc may be the job's own: module and time zone are there before."""
    monkeypatch.delitem(sys.modules, "slurm_adopt.front.welcome")

    def decide(*_: object) -> Outcome:
        loaded = sys.modules["slurm_adopt.front.welcome"]
        for name in ("localtime", "gmtime"):
            monkeypatch.setattr(loaded, name, {"gmtime": time.gmtime}.get(name))
        return IN_JOB

    monkeypatch.setattr(front_answer, "_decide", decide)
    handle = Handle()
    pam_python.session(handle, 0, ["welcome=1"], {})
    assert handle.said == TOLD


NOW = 1_700_000_000  # 2023-11-14 22:13:20 UTC

# (SLURM_JOB_END_TIME, the time that is told)
ENDS = [
    (str(NOW + 60), "22:14"),
    (str(NOW + 3600), "23:13"),
    (str(NOW + 7200), "2023-11-15 00:13"),
    (None, ""),
    ("", ""),
    ("0", ""),
    ("soon", ""),
    ("-1", ""),
    ("9" * 18, ""),
    ("9" * 5000, ""),
]


@pytest.mark.parametrize(("end", "clock"), ENDS)
def test_when_it_ends(monkeypatch: pytest.MonkeyPatch, end: str | None, clock: str) -> None:
    monkeypatch.setattr(welcome, "localtime", time.gmtime)
    monkeypatch.setattr(welcome, "time", lambda: NOW)
    at = f", at {clock} at the latest." if clock else "."
    assert welcome.Welcome().text(42, end) == f"{WORDS[:-1]}{at}"


def test_in_the_host_s_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-05:30")
    time.tzset()
    try:
        monkeypatch.setattr(welcome, "time", lambda: NOW)
        assert "at 2023-11-15 04:00 at" not in welcome.Welcome().text(42, str(NOW + 980))
        assert ", at 04:00 at the latest." in welcome.Welcome().text(42, str(NOW + 1000))
    finally:
        monkeypatch.undo()
        time.tzset()
