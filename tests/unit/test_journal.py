"""Lines to journald: the bytes of a record, which host gets one, and what cannot be sent."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.decision import record
from slurm_adopt.decision.adoption import Adoption, Choice
from slurm_adopt.decision.login import Login
from slurm_adopt.decision.options import parse
from slurm_adopt.decision.outcome import ACTION_CODES, SITUATIONS, Outcome
from slurm_adopt.system import journal, log
from tests.fakes.journald import fields_of

if TYPE_CHECKING:
    from slurm_adopt.decision.outcome import Code, SituationName

TOP = Path(__file__).parents[2]
PREFIX = "pam_slurm_adopt(sshd:account)"

# (fields, datagram after those of syslog)
RECORDS = [
    ({}, b""),
    ({"MESSAGE": "hello"}, b"MESSAGE=hello\n"),
    ({"A": "b=c", "B": ""}, b"A=b=c\nB=\n"),
    ({"A": "b\nc"}, b"A\n\3\0\0\0\0\0\0\0b\nc\n"),
    ({"A": "é"}, b"A=\xc3\xa9\n"),
    ({"A": "\ud800"}, b"A=?\n"),
    ({"A": "x" * 5000}, b"A=" + b"x" * journal.LIMIT + b"\n"),
]


@pytest.mark.parametrize(("fields", "expected"), RECORDS)
def test_bytes_of_a_record(fields: dict[str, str], expected: bytes) -> None:
    head = b"PRIORITY=6\nSYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER=sshd\nSYSLOG_PID=42\n"
    assert journal.record(6, 10, "sshd[42]", fields) == head + expected


def test_no_value_makes_another_field() -> None:
    """What users choose may have anything in it."""
    value = "a\n_UID=0\nSLURM_ADOPT_OUTCOME=adopted"
    found = fields_of(journal.record(6, 10, "s[h]d\n[42]", {"SLURM_ADOPT_USER": value}))
    assert found["SLURM_ADOPT_USER"] == value
    assert found["SYSLOG_IDENTIFIER"] == "s[h]d\n"
    assert set(found) == {"PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID",
                          "SLURM_ADOPT_USER"}  # fmt: skip


class Place:
    """A host's sockets: journald's own, its one for syslog's lines, and /dev/log."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch, dev_log: str) -> None:
        self.native = self._listen(top / "socket")
        self.syslog = self._listen(top / "dev-log")
        self.own = None
        path = top / "log"
        if dev_log == "journald's":
            path.symlink_to(top / "dev-log")
        elif dev_log == "a daemon's own":
            self.own = self._listen(path)
        monkeypatch.setattr(journal, "SOCKET", str(top / "socket"))
        monkeypatch.setattr(log, "JOURNALD", str(top / "dev-log"))
        monkeypatch.setattr(log, "SOCKETS", (str(path), str(top / "dev-log")))

    def _listen(self, path: Path) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        listener.bind(str(path))
        return listener

    def got(self) -> list[tuple[str, bytes]]:
        """Return what has come, and where."""
        found = []
        for name, listener in (("native", self.native), ("syslog", self.syslog), ("own", self.own)):
            while listener:
                try:
                    found.append((name, listener.recv(1 << 16)))
                except BlockingIOError:
                    break
        return found


# (what /dev/log is, where the lines come)
PLACES = [
    ("journald's", "native"),
    ("a daemon's own", "own"),
    ("not there", "native"),
]


@pytest.mark.parametrize(("dev_log", "where"), PLACES)
def test_which_socket_gets_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dev_log: str, where: str
) -> None:
    """Each line comes once, and fields where journald keeps them."""
    place = Place(tmp_path, monkeypatch, dev_log)
    lines = log.Log(PREFIX, 3)
    assert lines.takes_fields == (where == "native")
    lines.info("one\ntwo")
    lines.write("error", "three", {"SLURM_ADOPT_USER": "alice"})
    lines.close()
    got = place.got()
    assert [name for name, _ in got] == [where] * 2
    if where == "native":
        first, second = (fields_of(data) for _, data in got)
        assert first == {
            "PRIORITY": "6",
            "SYSLOG_FACILITY": "10",
            "SYSLOG_IDENTIFIER": Path("/proc/self/comm").read_text().strip(),
            "SYSLOG_PID": str(os.getpid()),
            "MESSAGE": f"{PREFIX}: one\\ntwo",
        }
        assert second["SLURM_ADOPT_USER"] == "alice"
        assert (second["PRIORITY"], second["MESSAGE"]) == ("3", f"{PREFIX}: three")
    else:
        assert re.fullmatch(rf"<86>.*: {re.escape(PREFIX)}: one\\ntwo", got[0][1].decode())
        assert b"alice" not in got[1][1]


def test_journald_without_its_own_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, monkeypatch, "journald's")
    (tmp_path / "socket").unlink()
    lines = log.Log(PREFIX, 3)
    lines.write("info", "hello", {"A": "b"})
    lines.close()
    ((where, data),) = place.got()
    assert where == "syslog"
    assert data.endswith(f"{PREFIX}: hello".encode())


def test_a_journald_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for once; nothing goes to another socket in its place."""
    place = Place(tmp_path, monkeypatch, "journald's")
    lines = log.Log(PREFIX, 3)
    started = time.monotonic()
    for _ in range(2000):  # more than its queue holds (net.unix.max_dgram_qlen)
        lines.error("x")
    lines.close()
    assert time.monotonic() - started < 40  # one wait of 0.2 s, not one for each line
    assert {name for name, _ in place.got()} == {"native"}


def test_a_journald_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines are lost, and go to nobody else; nothing stays open."""
    place = Place(tmp_path, monkeypatch, "journald's")
    before = len(os.listdir("/proc/self/fd"))
    lines = log.Log(PREFIX, 3)
    lines.open()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    place.native.close()
    lines.error("one")
    lines.error("two")
    assert len(os.listdir("/proc/self/fd")) == before - 1
    with pytest.raises(BlockingIOError):
        place.syslog.recv(1)


def test_nothing_is_imported_once_the_log_is_open(tmp_path: Path) -> None:
    """What is imported after a job's namespaces were entered is the job's."""
    script = (
        "import sys\nfrom slurm_adopt.system import log\n"
        "import slurm_adopt.system.journal as journal\n"
        f"log.JOURNALD = {str(tmp_path / 'dev-log')!r}\nlog.SOCKETS = (log.JOURNALD,)\n"
        f"journal.SOCKET = {str(tmp_path / 'socket')!r}\n"
        "lines = log.Log('p', 3)\nlines.open()\nbefore = set(sys.modules)\n"
        "lines.write('info', 'a\\x85b', {'A': 'b\\nc\\ud800'})\nprint(set(sys.modules) - before)\n"
    )
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as native,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog,
    ):
        native.bind(str(tmp_path / "socket"))
        syslog.bind(str(tmp_path / "dev-log"))
        argv = [sys.executable, "-c", script]
        env = {"PYTHONPATH": str(TOP / "src")}
        done = subprocess.run(argv, env=env, check=True, capture_output=True, text=True)
        assert done.stdout == "set()\n"
        assert fields_of(native.recv(1 << 16))["A"] == "b\nc?"


# The fields of a decision

LOGIN = Login("alice", 5001, "sshd", 42, rhost="10.78.0.4")
MORE = {"PHASE": "account", "MSEC": "1.5", "REF": ""}


def fields(outcome: Outcome, login: Login = LOGIN, line: str = "") -> dict[str, str]:
    found = record.fields(login, outcome, parse(line.split())[0], MORE)
    assert all(name.startswith("SLURM_ADOPT_") for name in found)
    return {name.removeprefix("SLURM_ADOPT_"): value for name, value in found.items()}


USUAL = {"PHASE": "account", "SERVICE": "sshd", "USER": "alice", "UID": "5001", "PID": "42",
         "SOURCE": "10.78.0.4", "MSEC": "1.5"}  # fmt: skip


def test_fields_of_an_adoption() -> None:
    into = Adoption(42, 5001, 7)
    into.how = "the only job"
    outcome = Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", "", into.proven({})).but(jobs=(7,))
    assert fields(outcome) == {
        **USUAL, "SITUATION": "adopted", "OUTCOME": "adopted", "CODE": "PAM_SUCCESS",
        "JOB_ID": "7", "HOW": "the only job", "JOBS": "7",
    }  # fmt: skip


def test_fields_of_a_choice() -> None:
    choice = Choice(7, 5001, "the newest of 2")
    outcome = Outcome(SITUATIONS["chosen"], "PAM_SUCCESS", "", choice=choice).but(jobs=(5, 7))
    assert fields(outcome) == {
        **USUAL, "SITUATION": "chosen", "OUTCOME": "chosen", "CODE": "PAM_SUCCESS",
        "JOB_ID": "7", "HOW": "the newest of 2", "JOBS": "5 7",
    }  # fmt: skip


def test_no_job_id_is_cut() -> None:
    """A piece of one would be another job's."""
    jobs = tuple(range(4_294_960_000, 4_294_960_000 + 5000))
    outcome = Outcome(SITUATIONS["unknown job"], "PAM_PERM_DENIED", "").but(jobs=jobs)
    said = {"JOBS": fields(outcome)["JOBS"]}
    sent = fields_of(journal.record(6, 10, "sshd[42]", said))["JOBS"]
    assert [int(word) for word in sent.split()] == [*jobs[: record.LISTED]]


def test_fields_of_a_refusal() -> None:
    outcome = Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", "")
    assert fields(outcome) == {
        **USUAL, "SITUATION": "no jobs", "OUTCOME": "refused", "CODE": "PAM_PERM_DENIED",
        "OPTION": "action_no_jobs=deny",
    }  # fmt: skip
    assert fields(outcome, line="action_no_jobs=ignore")["OPTION"] == "action_no_jobs=ignore"


def test_an_unknown_user_has_no_uid() -> None:
    outcome = Outcome(SITUATIONS["unknown user"], "PAM_USER_UNKNOWN", "")
    found = fields(outcome, Login("zoe", None, "sshd", 42))
    assert "UID" not in found
    assert "SOURCE" not in found


# (situation, code, outcome)
CAME_TO: list[tuple[SituationName, Code, str]] = [
    ("adopted", "PAM_SUCCESS", "adopted"),
    ("still adopted", "PAM_SUCCESS", "adopted"),
    ("chosen", "PAM_SUCCESS", "chosen"),
    ("as before", "PAM_SUCCESS", "allowed"),
    ("as before", "PAM_IGNORE", "ignored"),
    ("adopt failure", "PAM_SUCCESS", "allowed"),
    ("adopt failure", "PAM_PERM_DENIED", "refused"),
    ("no jobs", "PAM_IGNORE", "ignored"),
    ("root spared", "PAM_IGNORE", "ignored"),
    ("no user", "PAM_SESSION_ERR", "refused"),
    ("unknown user", "PAM_USER_UNKNOWN", "refused"),
]


@pytest.mark.parametrize(("situation", "code", "word"), CAME_TO)
def test_outcome_in_one_word(situation: SituationName, code: Code, word: str) -> None:
    assert record.outcome_of(situation, code) == word


def test_every_answer_has_a_word() -> None:
    fixed = {row.code for row in SITUATIONS.values()} - {"", "the same again"}
    found = {
        record.outcome_of(name, code) for name in SITUATIONS for code in {*fixed, *ACTION_CODES}
    }
    assert found == set(record.OUTCOMES)


def test_the_page_has_these_fields_and_words() -> None:
    page = (TOP / "docs/reference/log-fields.md").read_text()
    rows = dict(re.findall(r"^\| `SLURM_ADOPT_(\w+)` \| (.*) \|$", page, re.MULTILINE))
    assert list(rows.items()) == list(record.FIELDS.items())
    words = dict(re.findall(r"^\| `([a-z]+)` \| (.*) \|$", page, re.MULTILINE))
    assert words == record.OUTCOMES
