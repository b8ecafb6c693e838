"""`slurm-adopt logins`: what lines of logs say, put together, counted, and told as a story."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_adopt.cli import deadlines
from slurm_adopt.cli.errors import CliError
from slurm_adopt.cli.logins import command as logins
from slurm_adopt.cli.logins import counts, decisions, log_lines, moments, story
from slurm_adopt.cli.logins.log_lines import Wanted
from slurm_adopt.cli.main import main
from slurm_adopt.decision.record import OUTCOMES
from slurm_adopt.system.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[2] / "src"
NOW = time.mktime((2026, 11, 28, 12, 0, 0, 0, 0, -1))
HOUR = 3600


# What the module logs, and what is read from it


def said(text: str, code: str = "PAM_SUCCESS", **more: Any) -> str:
    """Return a line of the module's, as it stands behind program and pid."""
    who = {"phase": "account", "user": "alice", "uid": 5001, "source": "10.78.0.4", "pid": 42,
           "ref": "", "msec": 1.5, **more}  # fmt: skip
    ref = f", ref {who['ref']}" if who["ref"] else ""
    return (
        f"pam_slurm_adopt(sshd:{who['phase']}): user {who['user']} (uid {who['uid']}) from "
        f"{who['source']}, pid {who['pid']}{ref}: {text} -> {code} in {who['msec']} ms"
    )


def decision(
    text: str, code: str = "PAM_SUCCESS", at: float = NOW, **more: Any
) -> decisions.Decision:
    line = log_lines.Line(at, "sshd", more.get("pid", 42), said(text, code, **more), {})
    found = decisions.read(line)
    assert found
    return found


NO_JOBS = "no jobs: no job on this node; action_no_jobs=deny"
ADOPTED = "adopted into job 7 (the only job)"
CHOSEN = "the session line will adopt into job 7 (the only job)"
ROUTE = "the only job; slurmd at 10.0.0.1:6818: no route (113)"
LAX = "adopt failure: job 9 (the only job): stepd of job 9 (x) is late; action_adopt_failure=allow"

# (text, code) -> (situation, outcome, job, how, option)
TEXTS: list[tuple[str, str, tuple[str, str, int | None, str, str]]] = [
    (ADOPTED, "PAM_SUCCESS", ("adopted", "adopted", 7, "the only job", "")),
    (f"process 9, which becomes the session, was {ADOPTED}", "PAM_SUCCESS",
     ("adopted", "adopted", 7, "the only job", "")),
    (f"adopted into job 7 ({ROUTE}); decided again, since job 8 has ended: (x) is gone",
     "PAM_SUCCESS",
     ("adopted", "adopted", 7, ROUTE, "")),
    ("adopted into job 7 (cut of...", "PAM_SUCCESS", ("adopted", "adopted", 7, "cut of...", "")),
    (CHOSEN, "PAM_SUCCESS", ("chosen", "chosen", 7, "the only job", "")),
    ("put back into job 7", "PAM_SUCCESS", ("adopted", "adopted", 7, "", "")),
    ("still in job 7", "PAM_SUCCESS", ("still adopted", "adopted", 7, "", "")),
    (NO_JOBS, "PAM_PERM_DENIED", ("no jobs", "refused", None, "", "action_no_jobs=deny")),
    ("no jobs: no job on this node; action_no_jobs=ignore", "PAM_IGNORE",
     ("no jobs", "ignored", None, "", "action_no_jobs=ignore")),
    ("unknown job: jobs 7 8; callerid=0; action_unknown=allow", "PAM_SUCCESS",
     ("unknown job", "allowed", None, "", "action_unknown=allow")),
    (LAX, "PAM_SUCCESS", ("adopt failure", "allowed", 9, "", "action_adopt_failure=allow")),
    ("adopt failure: the login comes from job 9, but it is late; action_adopt_failure=deny",
     "PAM_PERM_DENIED", ("adopt failure", "refused", 9, "", "action_adopt_failure=deny")),
    (f"as in the account phase: {LAX}", "PAM_SUCCESS", ("as before", "allowed", 9, "", "")),
    ("generic failure: no slurm.conf; action_generic_failure=auto (ignore, since no slurmd runs)",
     "PAM_IGNORE",
     ("generic failure", "ignored", None, "", "action_generic_failure=auto")),
    (f"root spared: {NO_JOBS}; root is left to the other modules", "PAM_IGNORE",
     ("root spared", "ignored", None, "", "")),
    ("unknown user: user zoe is not known on this host", "PAM_USER_UNKNOWN",
     ("unknown user", "refused", None, "", "")),
    # what remote hosts say is a part of the text, and no more
    ("unknown job: x -> PAM_SUCCESS in 1.0 ms; action_no_jobs=ignore; action_unknown=deny",
     "PAM_PERM_DENIED",
     ("unknown job", "refused", None, "", "action_unknown=deny")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "expected"), TEXTS)
def test_what_a_line_says(
    text: str, code: str, expected: tuple[str, str, int | None, str, str]
) -> None:
    found = decision(text, code, ref="4F7K")
    who = found.phase, found.service, found.user, found.uid, found.source, found.pid, found.ref
    assert who == ("account", "sshd", "alice", 5001, "10.78.0.4", 42, "4F7K")
    what = found.situation, found.outcome, found.job, found.how, found.option
    assert what == expected
    assert (found.code, found.msec, found.time, found.text) == (code, 1.5, NOW, text)


# Lines that are none of a decision, and those that should have been
OTHERS = [
    ("pam_slurm_adopt(sshd:account): cannot set all variables of the session: x", False),
    ("pam_slurm_adopt(sshd:account): user x is odd", False),
    (said("what is this"), True),
    (said(ADOPTED)[:-3], True),
    ("pam_unix(sshd:session): session opened for user alice", False),
]


@pytest.mark.parametrize(("text", "cut"), OTHERS)
def test_lines_that_are_no_decision(text: str, cut: bool) -> None:
    line = log_lines.Line(NOW, "sshd", 42, text, {})
    assert decisions.read(line) is None
    assert decisions.is_cut(line) == cut


PIECES = [
    "pam_slurm_adopt(", "sshd:account): ", ":session): ", "user ", " (uid ", "5001", "None) from ",
    "9" * 5000, ", pid ", "42", ", ref 4F7K: ", ": ", "adopted into job 7 (", "((", ")",
    "still in job ", "as in the account phase: ", "no jobs: ", "; action_no_jobs=deny", " -> ",
    "PAM_SUCCESS", " in 1.5 ms", " in 1.5.5 ms", "\n", "\0", "\u0663",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_whatever_a_line_says_it_is_read_or_not(text: str) -> None:
    for whole in (text, said(text), f"pam_slurm_adopt(sshd:session): user a (uid 1) from {text}"):
        line = log_lines.Line(NOW, "sshd", 42, whole, {})
        found = decisions.read(line)
        decisions.is_cut(line)
        if found:
            json.dumps(decisions.Login(found, found).as_dict(), allow_nan=False)
            assert found.outcome in OUTCOMES


def test_a_line_that_is_forged_takes_no_longer() -> None:
    """What is looked for is in it again and again, as much as a line may have."""
    repeated = " (uid 1) from x, pid 1: a -> PAM_SUCCESS in 1.0 ms; action_no_jobs=deny"
    for text in ("as in the account phase: " * 2000, repeated * 800, "(" * 60_000):
        for whole in (said(text), f"{said(text)}!"):
            line = log_lines.Line(NOW, "sshd", 42, whole, {})
            started = time.process_time()
            decisions.read(line)
            decisions.is_cut(line)
            assert time.process_time() - started < 5


def test_fields_come_before_the_text() -> None:
    """A user's name may have anything in it, and a line may be cut."""
    fields = {
        "USER": "x (uid 0) from y, pid 1: z", "UID": "5009", "SOURCE": "10.1.1.1", "REF": "4F7K",
        "SITUATION": "adopted", "CODE": "PAM_SUCCESS", "JOB_ID": "8", "HOW": "the newest of 2",
        "MSEC": "2.5", "PID": "43",
    }  # fmt: skip
    sent = {f"SLURM_ADOPT_{name}": value for name, value in fields.items()}
    for text in (said(ADOPTED, user=fields["USER"]), said(ADOPTED)[:60]):
        found = decisions.read(log_lines.Line(NOW, "sshd", 42, text, sent))
        assert found
        assert (found.user, found.uid, found.source, found.ref) == (
            fields["USER"], 5009, "10.1.1.1", "4F7K",
        )  # fmt: skip
        assert (found.situation, found.job, found.how) == ("adopted", 8, "the newest of 2")


# Logins: the decisions of both phases together


def of_two(first: str, second: str, code: str = "PAM_SUCCESS") -> list[decisions.Decision]:
    return [decision(first, code), decision(second, code, phase="session", msec=3.0)]


# (decisions) -> (outcome, situation, job, how) of each login
TOGETHER: list[tuple[str, list[decisions.Decision], list[tuple[str, str, int | None, str]]]] = [
    ("chosen, then adopted", of_two(CHOSEN, ADOPTED),
     [("adopted", "adopted", 7, "the only job")]),
    ("adopted, and still there", of_two(ADOPTED, "still in job 7"),
     [("adopted", "adopted", 7, "the only job")]),
    ("adopted, and put back", of_two(ADOPTED, "put back into job 7"),
     [("adopted", "adopted", 7, "the only job")]),
    ("let in, and let in again", of_two(LAX, f"as in the account phase: {LAX}"),
     [("allowed", "adopt failure", 9, "")]),
    ("refused", [decision(NO_JOBS, "PAM_PERM_DENIED")], [("refused", "no jobs", None, "")]),
    ("refused twice by one process", [decision(NO_JOBS, "PAM_PERM_DENIED")] * 2,
     [("refused", "no jobs", None, "")] * 2),
    ("account line only", [decision(ADOPTED)], [("adopted", "adopted", 7, "the only job")]),
    ("session line only", [decision(ADOPTED, phase="session")],
     [("adopted", "adopted", 7, "the only job")]),
    ("chosen, and no session", [decision(CHOSEN)], [("chosen", "chosen", 7, "the only job")]),
    ("chosen, then ended",
     [decision(CHOSEN), decision(NO_JOBS, "PAM_PERM_DENIED", phase="session")],
     [("refused", "no jobs", 7, "the only job")]),
    ("keyboard-interactive",
     [decision(CHOSEN, pid=50), decision(ADOPTED, phase="session", pid=49)],
     [("adopted", "adopted", 7, "the only job")]),
    ("two at once",
     [decision(CHOSEN, pid=1), decision(CHOSEN, pid=2),
      decision(ADOPTED, phase="session", pid=2), decision(ADOPTED, phase="session", pid=1)],
     [("adopted", "adopted", 7, "the only job")] * 2),
    ("others are not taken for it",
     [decision(CHOSEN, pid=1, user="bob"), decision(ADOPTED, phase="session", pid=2)],
     [("adopted", "adopted", 7, "the only job"), ("chosen", "chosen", 7, "the only job")]),
    ("the pid came again",
     [decision(CHOSEN), decision(CHOSEN), decision(ADOPTED, phase="session")],
     [("chosen", "chosen", 7, "the only job"), ("adopted", "adopted", 7, "the only job")]),
    ("too late for it",
     [decision(CHOSEN), decision(ADOPTED, at=NOW + 601, phase="session")],
     [("chosen", "chosen", 7, "the only job"), ("adopted", "adopted", 7, "the only job")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "before", "expected"), TOGETHER, ids=[case for case, *_ in TOGETHER]
)
def test_logins(
    case: str,
    before: list[decisions.Decision],
    expected: list[tuple[str, str, int | None, str]],
) -> None:
    del case
    found = list(decisions.logins(before))
    assert [(one.last.outcome, one.deciding.situation, one.job, one.how) for one in found] == (
        expected
    )


def test_time_of_a_login() -> None:
    (login,) = decisions.logins(of_two(CHOSEN, ADOPTED))
    assert login.msec == 4.5
    (login,) = decisions.logins([decision(ADOPTED)])
    assert login.msec == 1.5


# Lines of files

STAMPS = [
    ("Nov 28 11:00:00 n1 ", time.mktime((2026, 11, 28, 11, 0, 0, 0, 0, -1))),
    ("Nov  3 11:00:00 n1 ", time.mktime((2026, 11, 3, 11, 0, 0, 0, 0, -1))),
    ("Nov 28 11:00:00 ", time.mktime((2026, 11, 28, 11, 0, 0, 0, 0, -1))),  # a container's
    ("Nov 29 11:00:00 n1 ", time.mktime((2026, 11, 29, 11, 0, 0, 0, 0, -1))),  # clocks differ
    ("Dec 24 11:00:00 n1 ", time.mktime((2025, 12, 24, 11, 0, 0, 0, 0, -1))),
    ("2026-11-28T11:00:00.250000+01:00 n1 ", 1795860000.25),
    ("2026-11-28T11:00:00+0100 n1.cluster ", 1795860000),
    ("2026-11-28T10:00:00Z n1 ", 1795860000),
    ("2026-11-28T10:00:00.123456789Z n1 ", 1795860000.123456789),
]


@pytest.mark.parametrize(("stamp", "expected"), STAMPS)
def test_times_of_lines(stamp: str, expected: float) -> None:
    line = log_lines.of_syslog(f"{stamp}sshd-session[42]: text: more", NOW)
    assert line == (expected, "sshd-session", 42, "text: more", {})


GARBAGE = [
    "", "pam_slurm_adopt(", "Nov 28 11:00:00 n1 sshd: no pid", "Nov 31 x n1 sshd[1]: y",
    "Foo 28 11:00:00 n1 sshd[1]: no month", "2026-13-28T11:00:00Z n1 sshd[1]: no month",
    "2026-11-28T11:00:00Z n1 sshd[99999999999]: pid", "\0" * 100, "{" * 1000, "[1]: x",
]  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE)
def test_what_is_no_line(text: str) -> None:
    with pytest.raises(log_lines.NoLineError):
        log_lines.of_syslog(text, NOW)


def write(path: Path, *lines: str, at: float = NOW) -> Path:
    """Write lines of a syslog daemon, each a second later."""
    stamps = (
        time.strftime("%b %e %H:%M:%S", time.localtime(at + seconds))
        for seconds in range(len(lines))
    )
    path.write_text("".join(f"{stamp} n1 {text}\n" for stamp, text in zip(stamps, lines)))
    return path


def texts(source: log_lines.Source, wanted: Wanted | None = None) -> list[str]:
    return [line.text for line in source.lines(wanted or Wanted())]


def test_garbage_is_counted_and_passed_over(tmp_path: Path) -> None:
    """What names the module; a log has many other lines. A line without an end is none of all."""
    rng = random.Random(7)
    noise = bytes(rng.randrange(256) for _ in range(100_000)).replace(b"pam_slurm", b"")
    good = f"Nov 28 11:00:00 n1 sshd[42]: {said(ADOPTED)}\n".encode()
    bad = b"Nov 28 11:00:00 n1 pam_slurm_adopt(sshd:account): no pid\n"
    endless = b"pam_slurm_adopt(" * 100_000 + b"\n"
    (tmp_path / "log").write_bytes(noise + b"\n" + good + bad * 3 + endless + good)
    source = log_lines.Files(str(tmp_path / "log"))
    assert texts(source) == [said(ADOPTED)] * 2
    assert source.garbage == 3


def test_between_two_times(tmp_path: Path) -> None:
    lines = [f"sshd[42]: {said(ADOPTED, msec=float(number))}" for number in range(5)]
    now = float(int(time.time()))
    source = log_lines.Files(str(write(tmp_path / "log", *lines, at=now - 10)))
    assert texts(source, Wanted(now - 9, now - 7)) == [
        said(ADOPTED, msec=float(number)) for number in (1, 2, 3)
    ]


PACKED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress),
]  # fmt: skip


@pytest.mark.parametrize("middle", [".2", "-20261127"])
@pytest.mark.parametrize(("ending", "pack"), PACKED, ids=[ending for ending, _ in PACKED])
def test_older_files(
    tmp_path: Path, ending: str, pack: Callable[[bytes], bytes], middle: str
) -> None:
    """The oldest first; one that was done with before that time is not opened."""
    now = time.time()
    path = tmp_path / "auth.log"
    for name, age, text in (("auth.log", 0, "new"), ("auth.log.1", 1, "old")):
        write(tmp_path / name, f"sshd[1]: pam_slurm_adopt({text}", at=now - age * HOUR)
        os.utime(tmp_path / name, (now - age * HOUR,) * 2)
    plain = write(tmp_path / "x", "sshd[1]: pam_slurm_adopt(oldest", at=now - 2 * HOUR).read_bytes()
    packed = tmp_path / f"auth.log{middle}{ending}"
    packed.write_bytes(pack(plain))
    os.utime(packed, (now - 2 * HOUR,) * 2)
    for name in ("auth.log.old", "auth.log-x", "auth.log.1.swp"):
        (tmp_path / name).write_bytes(plain)
    source = log_lines.Files(str(path), rotated=True)
    expected = ["oldest", "old", "new"]
    assert texts(source) == [f"pam_slurm_adopt({text}" for text in expected]
    wanted = Wanted(now - 1.5 * HOUR)
    assert texts(source, wanted) == [f"pam_slurm_adopt({text}" for text in expected[1:]]
    packed.write_bytes(b"no such thing")
    os.utime(packed, (now - 2 * HOUR,) * 2)
    assert texts(source, wanted) == [f"pam_slurm_adopt({text}" for text in expected[1:]]
    assert source.remarks == []


@pytest.mark.parametrize(("ending", "pack"), PACKED[1:], ids=[ending for ending, _ in PACKED[1:]])
def test_an_older_file_that_is_broken(
    tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    """The others are read all the same, and it is said."""
    path = write(tmp_path / "auth.log", "sshd[1]: pam_slurm_adopt(new", at=time.time())
    for number, data in enumerate((b"no such thing", pack(b"x" * 9000)[:-9])):
        (tmp_path / f"auth.log.{number}{ending}").write_bytes(data)
    source = log_lines.Files(str(path), rotated=True)
    assert texts(source) == ["pam_slurm_adopt(new"]
    assert len(source.remarks) == 2
    assert all(f"{ending}: " in remark for remark in source.remarks)


# The journal


def record(text: str, uid: str = "0", at: float = NOW, **more: Any) -> str:
    """Return a line of `journalctl -o json`."""
    found = {
        "MESSAGE": text, "_UID": uid, "_PID": "42", "SYSLOG_PID": "42", "SYSLOG_IDENTIFIER": "sshd",
        "__REALTIME_TIMESTAMP": str(int((at + 1) * 1e6)),
        "_SOURCE_REALTIME_TIMESTAMP": str(int(at * 1e6)), **more,
    }  # fmt: skip
    return json.dumps({name: value for name, value in found.items() if value is not None})


JOURNALCTL = """\
#!/bin/sh
echo "$@" >{top}/arguments
{script}
"""


def journalctl(top: Path, script: str) -> log_lines.Journal:
    """Return the journal that a program of the test prints."""
    path = top / "journalctl"
    path.write_text(JOURNALCTL.format(top=top, script=script))
    path.chmod(0o755)
    return log_lines.Journal(str(path))


def test_lines_of_the_journal(tmp_path: Path) -> None:
    """Those that a process of root's has sent, by what journald itself says of it."""
    forged = said(ADOPTED, user="root")
    records = [
        record(said(ADOPTED)),
        record(forged, uid="5001", SLURM_ADOPT_OUTCOME="adopted"),
        record(forged, uid="5001", UID="0"),
        record(forged, uid="", SYSLOG_PID="1"),
        record("pam_unix(sshd:session): session opened"),
        record("x", MESSAGE=[*said(NO_JOBS, "PAM_PERM_DENIED", user="é").encode()]),
        record("x", MESSAGE=None),
        record(said(ADOPTED), SYSLOG_PID="none", _PID="x"),
        "{garbage",
        "[1]",
        "null",
        "{" * 3000,
    ]
    (tmp_path / "printed").write_text("\n".join(records))
    source = journalctl(tmp_path, f"cat {tmp_path}/printed")
    found = list(source.lines(Wanted(NOW - 1, NOW + 1)))
    assert [line.text for line in found] == [
        said(ADOPTED), said(NO_JOBS, "PAM_PERM_DENIED", user="é"),
    ]  # fmt: skip
    assert {(line.time, line.program, line.pid) for line in found} == {(NOW, "sshd", 42)}
    assert source.forged == 3
    assert source.garbage == 6
    words = (tmp_path / "arguments").read_text().split()
    assert {"_UID=0", "SYSLOG_FACILITY=10", "--output=json", f"--since=@{NOW - 1:.0f}"} <= {*words}


def test_one_process_in_the_journal(tmp_path: Path) -> None:
    """All that it has said, of whatever facility."""
    records = [record("Accepted publickey"), record("other", SYSLOG_PID="43"), record("x", "5001")]
    (tmp_path / "printed").write_text("\n".join(records) + "\n")
    source = journalctl(tmp_path, f"cat {tmp_path}/printed")
    assert texts(source, Wanted(pid=42)) == ["Accepted publickey"]
    assert "FACILITY" not in (tmp_path / "arguments").read_text()


FAILS = [
    ("echo no such option >&2; exit 1", "journalctl ends with 1: no such option"),
    ("exit 3", "journalctl ends with 3: no word"),
]


@pytest.mark.parametrize(("script", "text"), FAILS)
def test_a_journalctl_that_fails(tmp_path: Path, script: str, text: str) -> None:
    with pytest.raises(CliError, match=text):
        texts(journalctl(tmp_path, script))


def test_a_full_disk_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is read all the same: what journalctl complains of is kept in memory."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert texts(journalctl(tmp_path, "exit 0")) == []


def test_no_journalctl(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"cannot run /.*none: No such file"):
        texts(log_lines.Journal(str(tmp_path / "none")))


def test_a_journalctl_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has printed is there, and it is said that something is missing; it is gone then."""
    monkeypatch.setattr(deadlines, "JOURNAL", 0.5)
    (tmp_path / "printed").write_text(record(said(ADOPTED)) + "\n")
    source = journalctl(tmp_path, f"echo $$ >{tmp_path}/pid; cat {tmp_path}/printed; exec sleep 60")
    assert texts(source) == [said(ADOPTED)]
    assert source.remarks == ["journalctl was ended after 0.5 s: the rest is missing"]
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_reader_that_has_enough_ends_journalctl(tmp_path: Path) -> None:
    (tmp_path / "printed").write_text(record(said(ADOPTED)) + "\n")
    script = f"echo $$ >{tmp_path}/pid; cat {tmp_path}/printed; exec sleep 60"
    lines = journalctl(tmp_path, script).lines(Wanted())
    assert next(iter(lines)).text == said(ADOPTED)
    lines.close()  # type: ignore[attr-defined]
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


# Which of them a host has

# (/dev/log is journald's, there is journalctl, files) -> what is read
FOUND = [
    (True, True, "", "the journal"),
    (True, True, "auth.log", "the journal"),
    (True, False, "auth.log", "auth.log"),
    (False, True, "messages secure syslog", "secure"),
    (False, True, "messages", "messages"),
    (False, True, "", "the journal"),
    (False, False, "", None),
    (False, False, "wtmp", None),
]


@pytest.mark.parametrize(("of_journald", "there", "files", "name"), FOUND)
def test_what_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    of_journald: bool,
    there: bool,
    files: str,
    name: str | None,
) -> None:
    monkeypatch.setattr(Log, "takes_fields", of_journald)
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/journalctl" if there else None)
    for file in files.split():
        (tmp_path / file).write_text("")
    if name is None:
        with pytest.raises(CliError, match=r"no log is found: .*; name it with --file"):
            log_lines.find(folder=str(tmp_path))
    else:
        source = log_lines.find(folder=str(tmp_path))
        assert source.name in (name, f"{tmp_path}/{name}")
        assert isinstance(source, log_lines.Journal) == (name == "the journal")


@pytest.mark.parametrize(("folder", "readable", "answer"), [
    (True, True, True), (True, False, None), (False, False, False),
])  # fmt: skip
def test_a_user_s_journal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: bool,
    readable: bool,
    answer: bool | None,
) -> None:
    """A plain user is shown the own lines alone by journalctl, in silence: we say it."""
    monkeypatch.setattr(os, "geteuid", lambda: 5001)
    monkeypatch.setattr(os, "access", lambda *_: readable)
    if folder:
        (tmp_path / "journal/0123").mkdir(parents=True)
        (tmp_path / "journal/0123/system.journal").write_text("")
    places = (f"{tmp_path}/journal/*/system.journal",)
    if answer is None:
        with pytest.raises(CliError, match="cannot read the system's journal"):
            log_lines.may_read_the_journal(places)
    else:
        assert log_lines.may_read_the_journal(places) == answer


# The command


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `slurm-adopt logins`."""

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as ended:
            main(["logins", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, out, err)

    return run


BOB = {"user": "bob", "uid": 5002, "pid": 43}
LINES = [
    "sshd[42]: Accepted publickey for alice from 10.78.0.4 port 50000 ssh2",
    f"sshd[42]: {said(CHOSEN, ref='AB12')}",
    f"sshd[42]: {said(ADOPTED, phase='session', ref='AB12')}",
    "sshd[43]: Connection from 10.78.0.4 port 50001",
    f"sshd[43]: {said(NO_JOBS, 'PAM_PERM_DENIED', ref='4F7K', **BOB)}",
    "sshd[43]: fatal: Access denied for user bob by PAM account configuration [preauth]",
    f"sshd[44]: {said(LAX, user='carol', uid=5003, pid=44)}",
]


@pytest.fixture
def auth_log(tmp_path: Path) -> Path:
    return write(tmp_path / "auth.log", *LINES, at=float(int(time.time())) - 2 * HOUR)


def test_the_list(run: Run, auth_log: Path) -> None:
    done = run("--file", auth_log)
    assert (done.status, done.err) == (0, "")
    head, *rows, total = done.out.splitlines()
    assert head.split() == list(logins.HEAD)
    assert [" ".join(row.split()[2:]) for row in rows] == [
        "alice 10.78.0.4 adopted 7 the only job 3.0 AB12",
        "bob 10.78.0.4 refused no jobs; action_no_jobs=deny 1.5 4F7K",
        "carol 10.78.0.4 allowed adopt failure (job 9); action_adopt_failure=allow 1.5",
    ]
    assert total == "3 logins"


# (arguments, users of the logins that are found)
ASKED = [
    ("", "alice bob carol"), ("--user alice", "alice"), ("--user 5002", "bob"), ("--user zoe", ""),
    ("--job 7", "alice"), ("--job 9", "carol"), ("--job 8", ""), ("--outcome refused", "bob"),
    ("--outcome refused --outcome allowed", "bob carol"), ("--since 1h", ""),
    ("--since 3h", "alice bob carol"), ("--until 1h", "alice bob carol"),
    ("--since 3h --until 150min", ""), ("--lines 1", "carol"), ("--lines 0", ""),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "users"), ASKED)
def test_filters(run: Run, auth_log: Path, arguments: str, users: str) -> None:
    done = run("--file", auth_log, "--json", *arguments.split())
    assert [login["user"] for login in done.json["logins"]] == users.split()


def test_json(run: Run, auth_log: Path) -> None:
    found = run("--file", auth_log, "--json").json
    assert found["schema"] == 1
    assert found["total"] == 3
    assert found["source"] == str(auth_log)
    alice, bob, _ = found["logins"]
    assert alice.pop("time") > NOW - 1e9
    assert alice == {
        "user": "alice", "uid": 5001, "source": "10.78.0.4", "service": "sshd", "pid": 42,
        "phases": ["account", "session"], "outcome": "adopted", "situation": "adopted",
        "code": "PAM_SUCCESS", "job": 7, "how": "the only job", "option": None,
        "milliseconds": 3.0, "ref": "AB12", "text": ADOPTED,
    }  # fmt: skip
    assert (bob["option"], bob["job"], bob["ref"]) == ("action_no_jobs=deny", None, "4F7K")
    assert found["counts"] == [
        {"outcome": "adopted", "situation": "adopted", "logins": 1},
        {"outcome": "allowed", "situation": "adopt failure", "logins": 1},
        {"outcome": "refused", "situation": "no jobs", "logins": 1},
    ]


@pytest.mark.parametrize("option", ["--count", "--summary"])
def test_counts(run: Run, auth_log: Path, option: str) -> None:
    done = run("--file", auth_log, option)
    assert done.out.splitlines()[1:] == [
        "adopted  adopted        1",
        "allowed  adopt failure  1",
        "refused  no jobs        1",
        "3 logins, 2.0 ms on average",
    ]


def test_records_of_the_journal_in_a_file(run: Run, tmp_path: Path) -> None:
    """As `journalctl -o json` has printed them; a user's are left out, and that is said."""
    forged = record(said(ADOPTED, user="root", pid=9), uid="5001")
    (tmp_path / "x").write_text("\n".join([record(said(ADOPTED)), forged]))
    done = run("--file", tmp_path / "x", "--json")
    assert [login["user"] for login in done.json["logins"]] == ["alice"]
    assert done.json["forged"] == 1
    assert done.err == "slurm-adopt: 1 line left out: not sent by a process of root's\n"


# The story

SHOWN = "Access denied by pam_slurm_adopt: you have no active jobs on this node"


def test_json_has_the_reference_that_a_refused_user_was_shown() -> None:
    """After keyboard-interactive each phase has one of its own."""
    first = decision(CHOSEN, ref="0000", pid=43)
    last = decision(NO_JOBS, "PAM_PERM_DENIED", phase="session", ref="ZZZZ")
    (login,) = decisions.logins([first, last])
    assert login.refs == {"0000", "ZZZZ"}
    assert login.as_dict()["ref"] == "ZZZZ"


@pytest.mark.parametrize("ref", ["4F7K", "4f7k"])
def test_the_story_of_a_refusal(run: Run, auth_log: Path, ref: str) -> None:
    done = run("--file", auth_log, "--ref", ref)
    assert (done.status, done.err) == (0, "")
    told, _, lines = done.out.partition("\n\n")
    assert told.splitlines() == [
        "bob (uid 5002) from 10.78.0.4 was refused by action_no_jobs=deny, in 1.5 ms.",
        "no jobs: the user has no job with an extern step on this node.",
        f"The user was shown this, unless the site has words of its own: {SHOWN}",
    ]
    assert [line[20:] for line in lines.splitlines()] == LINES[3:6]


def test_a_reference_as_it_is_read_out() -> None:
    assert story.reference(" oil1 ") == "0111"


def test_the_story_of_a_session(run: Run, auth_log: Path) -> None:
    done = run("--file", auth_log, "--ref", "AB12", "--json")
    assert done.json["login"]["job"] == 7
    assert done.json["words"] == [
        "alice (uid 5001) from 10.78.0.4 was adopted into job 7 (the only job), in 3.0 ms."
    ]
    assert [f"sshd[{line['pid']}]: {line['text']}" for line in done.json["lines"]] == LINES[:3]


def test_the_story_of_another_release() -> None:
    line = log_lines.Line(NOW, "sshd", 42, said("odd: x", "PAM_PERM_DENIED"), {})
    assert decisions.read(line) is None
    fields = {"SITUATION": "odd", "CODE": "PAM_PERM_DENIED", "USER": "alice"}
    sent = {f"SLURM_ADOPT_{name}": value for name, value in fields.items()}
    (login,) = decisions.logins([decision(NO_JOBS, "PAM_PERM_DENIED")._replace(situation="odd")])
    assert story.words(login) == [
        "alice (uid 5001) from 10.78.0.4 was refused by action_no_jobs=deny, in 1.5 ms."
    ]
    assert decisions.read(line._replace(fields=sent)) is None


# Bad input

BAD = [
    ("--since yesteryear", 3, "--since 'yesteryear' is no time: write 2h, "),
    ("--until x", 3, "--until 'x' is no time"),
    ("--since 1h --until 2h", 3, "--until is before --since"),
    ("--ref 12", 3, "'12' is no reference"),
    ("--ref 0000", 1, "no login in {file} has the reference 0000"),
    ("--job 0", 3, "Invalid value for '--job'"),
    ("--outcome maybe", 3, "Invalid value for '--outcome'"),
    ("--lines -1", 3, "Invalid value for '--lines'"),
    ("--nothing", 3, "o such option"),
    ("--prometheus {top}/x --user alice", 3, "--prometheus counts all logins"),
    ("--prometheus {top}/none/x", 3, "cannot write {top}/none/x: No such file"),
    ("--prometheus {top}", 3, "{top} is not a regular file"),
    ("--prometheus {file}", 3, "{file} has no counts of this command's"),
    ("--prometheus {top}/link", 3, "cannot read {top}/link: Too many levels of symbolic links"),
    ("--file {top}/none", 3, "cannot read {top}/none: No such file or directory"),
    ("--file {top}", 3, "cannot read {top}: Is a directory"),
    ("--file {top}/bad.gz", 3, "cannot read {top}/bad.gz: "),
    ("--file - --ref 4F7K", 3, "--ref reads the log twice"),
]


@pytest.mark.parametrize(("arguments", "status", "text"), BAD)
def test_bad_input(run: Run, auth_log: Path, arguments: str, status: int, text: str) -> None:
    """One line that says what is wrong; nothing is printed, nothing written."""
    top, before = auth_log.parent, auth_log.read_bytes()
    (top / "bad.gz").write_bytes(b"x")
    (top / "link").symlink_to(auth_log)
    names = {"top": top, "file": auth_log}
    done = run("--file", auth_log, *arguments.format(**names).split())
    assert (done.status, done.out) == (status, "")
    assert text.format(**names) in done.err
    assert done.err.startswith("slurm-adopt: ")
    assert done.err.count("\n") == 1
    assert auth_log.read_bytes() == before
    assert {path.name for path in top.iterdir()} == {"auth.log", "bad.gz", "link"}


AS_NOBODY = """
import os, sys
from slurm_adopt.cli import main
from slurm_adopt.cli.logins import log_lines
os.setgroups([]); os.setgid(65534); os.setuid(65534)
log_lines.FOLDER = sys.argv[1]
log_lines.find.__defaults__ = (None, sys.argv[1])
log_lines.shutil.which = lambda _: None
main.main(["logins"])
"""


@pytest.mark.parametrize(("name", "text"), [
    ("auth.log", "/auth.log: Permission denied (root and members of the group daemon can)"),
    ("other", "no log is found: neither a journal nor any of "),
])  # fmt: skip
def test_a_plain_user(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text("")
    (tmp_path / name).chmod(0o640)
    os.chown(tmp_path / name, 0, 1)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o755)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(tmp_path)],
        env={"PYTHONPATH": str(SOURCE)}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_closed_pipe(auth_log: Path) -> None:
    """The reader of what is printed has gone."""
    source, pipe = os.pipe()
    os.close(source)
    done = subprocess.run(
        [sys.executable, "-m", "slurm_adopt", "logins", "--file", str(auth_log)],
        env={"PYTHONPATH": str(SOURCE)}, check=False, stdout=pipe, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(pipe)
    assert done.stderr == b""
    assert done.returncode in (1, 128 + 13)  # click has 1


def many(number: int) -> Iterator[str]:
    """Yield lines of so many logins, two a second, with both phases and other lines between."""
    begin = float(int(time.time())) - number / 2 - 10
    for one in range(number):
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime(begin + one / 2))
        pid = one % 30_000 + 100
        head = f"{stamp} n1 sshd[{pid}]: "
        yield f"{head}{said(CHOSEN, pid=pid)}\n"
        yield f"{head}pam_unix(sshd:session): session opened for user alice\n"
        yield f"{head}{said(ADOPTED, phase='session', pid=pid)}\n"


def test_a_hundred_thousand_lines(tmp_path: Path) -> None:
    """All are counted; what is kept of them does not grow."""
    peaks = []
    for number in (3_000, 34_000):
        with (tmp_path / "log").open("w") as file:
            file.writelines(many(number))
        argv = [sys.executable, "-m", "slurm_adopt", "logins", "--json", "--lines=10"]
        with (tmp_path / "log").open() as file, (tmp_path / "json").open("w") as output:
            env = {"PYTHONPATH": str(SOURCE)}
            process = subprocess.Popen([*argv, "--file=-"], stdin=file, stdout=output, env=env)
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        found = json.loads((tmp_path / "json").read_text())
        assert (len(found["logins"]), found["total"]) == (10, number)
        assert [row["outcome"] for row in found["counts"]] == ["adopted"]
        peaks.append(used.ru_maxrss)  # KiB
    assert peaks[1] < peaks[0] + 10_000


# Prometheus


def test_text_for_prometheus(run: Run, auth_log: Path, tmp_path: Path) -> None:
    """The file is whole, may be read by node_exporter, and has a row for what has not happened."""
    path = tmp_path / "slurm_adopt.prom"
    os.umask(0o077)
    try:
        done = run("--file", auth_log, "--prometheus", path)
    finally:
        os.umask(0o022)
    assert done == (0, "", "")
    assert path.stat().st_mode & 0o777 == 0o644
    text = path.read_text()
    total = counts.TOTAL
    assert f'{total}{{outcome="adopted",situation="adopted"}} 1\n' in text
    assert f'{total}{{outcome="allowed",situation="adopt failure"}} 1\n' in text
    assert f'{total}{{outcome="refused",situation="unknown job"}} 0\n' in text
    assert "\nslurm_adopt_login_seconds_count 3\n" in text
    assert "\nslurm_adopt_login_seconds_sum 0.006\n" in text
    assert '_bucket{le="0.002"} 2\n' in text
    assert '_bucket{le="+Inf"} 3\n' in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert names == list(counts.HEADS)
    for line in text.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ", *counts.HEADS))
    assert {other.name for other in tmp_path.iterdir()} == {"auth.log", path.name}


def test_counts_do_not_go_backwards(run: Run, tmp_path: Path) -> None:
    """The log is rotated, and each login is counted once, at whatever moment it is read."""
    path, prom = tmp_path / "auth.log", tmp_path / "x.prom"
    now = float(int(time.time()))

    def total() -> int:
        run("--file", path, "--prometheus", prom)
        found = counts.parsed(prom.read_text())
        assert found
        return found.total

    write(path, *LINES, at=now - HOUR)
    assert [total(), total()] == [3, 3]
    text = prom.read_text()
    (until,) = [line for line in text.splitlines() if line.startswith(counts.UNTIL)]
    prom.write_text(text.replace(until, f"{counts.UNTIL} {now - 1800:.0f}"))
    write(path, *LINES, at=now - 1200)
    assert [total(), total()] == [6, 6]
    write(path, *LINES, at=now - 5)  # their sessions may still come: not counted yet
    assert total() == 6
    path.write_text("")
    assert total() == 6


def test_a_login_between_two_runs_is_counted_once(run: Run, tmp_path: Path) -> None:
    """Its account phase before the border, its session phase after it."""
    path, prom = tmp_path / "auth.log", tmp_path / "x.prom"
    now = float(int(time.time()))
    write(path, LINES[1], LINES[2], at=now - 301)
    so_far = counts.Counts()
    so_far.by_bound.update(dict.fromkeys(counts.BOUNDS, 0))
    for until, expected in ((now - 302, 1), (now - 300, 0)):
        so_far.until = until
        prom.write_text(text_of(so_far))
        run("--file", path, "--prometheus", prom)
        found = counts.parsed(prom.read_text())
        assert found
        assert found.total == expected


def text_of(found: counts.Counts) -> str:
    return "".join(f"{line}\n" for line in found.lines())


def test_counts_are_read_as_they_are_written() -> None:
    before = counts.Counts()
    for login in decisions.logins([decision(ADOPTED), decision(NO_JOBS, "PAM_PERM_DENIED", pid=9)]):
        before.add(login)
    before.until = NOW
    after = counts.parsed(text_of(before))
    assert after
    assert text_of(after) == text_of(before)
    assert after.by_outcome[("adopted", "adopted")] == 1
    assert counts.parsed(text_of(before).replace("_sum", "_sun")) is None


# Times

TIMES = [
    ("2h", NOW - 2 * HOUR), ("-2h", NOW - 2 * HOUR), ("2 hours ago", NOW - 2 * HOUR),
    ("30min", NOW - 1800), ("90s", NOW - 90), ("7d", NOW - 7 * 24 * HOUR), ("1 week", NOW - 604800),
    ("now", NOW), ("today", NOW - 12 * HOUR), ("Yesterday", NOW - 36 * HOUR),
    ("07:30", NOW - 4.5 * HOUR), ("07:30:30", NOW - 4.5 * HOUR + 30),
    ("2026-11-28", NOW - 12 * HOUR), ("2026-11-28 07:30", NOW - 4.5 * HOUR),
    ("2026-11-28T07:30:00", NOW - 4.5 * HOUR), ("@1795860000", 1795860000.0),
    ("@1795860000.5", 1795860000.5),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TIMES)
def test_times(text: str, expected: float) -> None:
    assert moments.moment(text, "--since", NOW) == expected


@pytest.mark.parametrize(
    "text", ["", " ", "2", "2x", "99999999h", "2026-02-30", "25:00", "@", "@-1", "@1e9", "x" * 999,
             "\u0663h", "\0", "0001-01-01", "9999-12-31 23:59:59x"],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(CliError, match="is no time"):
        moments.moment(text, "--since", NOW)
