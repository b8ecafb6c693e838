"""Words that are shown, logged, or read from a log."""

from __future__ import annotations

import json
import re

from slurm_adopt.cli import output
from slurm_adopt.cli.logins import decisions, log_lines
from slurm_adopt.cli.logins.log_lines import Files, NoLineError, Wanted
from slurm_adopt.decision.outcome import SITUATIONS
from slurm_adopt.front import refusal_text
from slurm_adopt.front.welcome import Welcome
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.system import journal
from slurm_adopt.system.log import LINE_LIMIT, Log
from tests.fakes.journald import fields_of
from tests.fuzz.given import check_said, folder, put
from tests.fuzz.target import target

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SHOWN = 4096  # bytes that a refused user is sent at most


@target(
    "%u", "%h", "%j", "%m", "%r", "%%", "%", "\n", "\x1b[31m", "\x9b", "\xe2\x80\xae", "\0", "\t",
    "Access denied", longest=5000,
)  # fmt: skip
def refusal(data: bytes) -> None:
    """What a refused user is shown has no control characters, and at most 4096 bytes.

    The last line is the user's name, the others are the site's file.
    """
    text, _, user = data.rpartition(b"\n")
    path = put(f"{folder('refusal')}/message", text)
    name = user.decode("utf-8", "surrogateescape")
    ours = "Access denied by slurm_adopt: you have no active jobs on this node"
    values = {"u": name, "h": "n1", "j": "7 8", "m": ours, "%": "%", "r": "4F7K"}
    try:
        shown = refusal_text.render(path, values)
    except SetupError as error:
        check_said(error)
        return
    assert not CONTROL.search(shown), shown
    assert shown.strip(), "nothing is shown"
    assert len(shown.encode()) <= SHOWN
    if text.isascii() and b"%" not in text and len(text) < SHOWN:
        plain = "".join(c for c in text.decode() if c.isprintable() or c in "\n\t")
        assert shown == plain.rstrip("\n") or not text.decode().rstrip("\n").isprintable()


@target(
    "\n", "\0", "MESSAGE=", "_UID=0", "PRIORITY=0\n", "=", "\x08\0\0\0\0\0\0\0", "sshd[42]", "[",
    "]", "\xed\xb2\x80", longest=2048,
)  # fmt: skip
def journal_record(data: bytes) -> None:
    """A record has the fields that it was given, cut, and no other, for a reader of its own.

    The first line is the program, the second the user; the rest is the message.
    """
    text = data.decode("utf-8", "surrogateescape")
    ident, user, message = [*text.split("\n", 2), "", ""][:3]
    given = {"MESSAGE": message, "SLURM_ADOPT_USER": user, "SLURM_ADOPT_TEXT": text}
    found = fields_of(journal.record(3, 10, ident, given))
    program, _, pid = ident.rstrip("]").rpartition("[")
    whole = {
        "PRIORITY": "3", "SYSLOG_FACILITY": "10", "SYSLOG_IDENTIFIER": program, "SYSLOG_PID": pid,
        **given,
    }  # fmt: skip
    assert found == {
        name: value[: journal.LIMIT].encode("utf-8", "replace").decode()
        for name, value in whole.items()
    }


@target(
    "\n", "\0", "\r", "<81>", "\x1b", "\xe2\x80\xa8", "\xc2\x85", "pam_slurm_adopt(sshd:account): "
)
def syslog_line(data: bytes) -> None:
    """A line for syslog is one line of printable characters, and no longer than a line may be."""
    text = data.decode("utf-8", "surrogateescape")
    log = Log("pam_slurm_adopt(sshd:account)", 9, "/nowhere")
    log._ident = "sshd[42]"
    line = log._record(3, f"pam_slurm_adopt(sshd:account): {text}", {}).decode()
    head = re.match(r"<83>[A-Z][a-z]{2} [ 123][0-9] \d\d:\d\d:\d\d sshd\[42\]: ", line)
    assert head
    assert line.isprintable()
    assert len(line) <= LINE_LIMIT + 3 + 32
    if text.isprintable() and text.isascii() and len(text) < 900:
        assert line.endswith(f": {text}")


_DECISION = (
    "pam_slurm_adopt(sshd:account): user u (uid 1000) from 10.0.0.1, pid 42, ref 4F7K: adopted "
    "into job 7 (the only job) -> PAM_SUCCESS in 3.1 ms"
)


@target(
    "Nov 29 01:00:00 n1 sshd[42]: ", "2026-11-29T01:00:00.123456+01:00 n1 sshd[42]: ", _DECISION,
    '{"_UID":"0","SYSLOG_PID":"42","MESSAGE":"', '","__REALTIME_TIMESTAMP":"1700000000000000"}',
    " (uid ", ") from ", ", pid ", ", ref ", " -> PAM_", " in ", " ms", "as in the account phase: ",
    "still in job 7", "put back into job 7", *SITUATIONS, "; action_no_jobs=deny", "Feb 30", "\n",
    "Z",
    "\xd9\xa3", "[1,2,3]", "null", '"SLURM_ADOPT_JOB_ID":"7"', '"SLURM_ADOPT_SITUATION":"adopted"',
    '"SLURM_ADOPT_CODE":"PAM_SUCCESS"', longest=4096,
)  # fmt: skip
def lines_of_a_log(data: bytes) -> None:
    """A decision is read only from a line that has its user and its job, and what is read is shown.

    A record of the journal counts if it is root's.
    """
    path = put(f"{folder('lines_of_a_log')}/auth.log", data)
    source = Files(path)
    found = []
    for line in source.lines(Wanted()):
        assert line.text.startswith(log_lines.MARK)
        assert 0 <= line.pid < 10**18
        assert line.time >= 0
        one = decisions.read(line)
        decisions.is_cut(line)
        if one is not None:
            found.append(one)
    raw = data.decode("utf-8", "backslashreplace")
    for login in decisions.logins(found):
        told = login.as_dict()
        json.loads(json.dumps(output._whole(told), allow_nan=False))
        assert told["job"] is None or str(told["job"]) in raw
        assert told["uid"] is None or str(told["uid"]) in raw
        assert 0 <= login.msec <= 2e9
        assert output.printable(str(told)).isprintable()
    if b'"_UID":"0"' not in data and b"_UID" in data:
        assert (
            not any(raw_line[:1] == b"{" for raw_line in data.split(b"\n")) or source.garbage >= 0
        )


@target(
    "u", "root", "10.0.0.1", " (uid 0) from ", ", pid 1: ", " -> PAM_SUCCESS in 1 ms",
    "adopted into", "; action_unknown=deny", "no jobs: ", "\n", longest=256,
)  # fmt: skip
def decision_in_a_log(data: bytes) -> None:
    """Of an honest line, uid, process and job are what was decided, whatever the source is called.

    The first line is the source, the second what else is said; the module writes them.
    """
    source, _, text = data.decode("utf-8", "replace").partition("\n")
    log = Log("pam_slurm_adopt(sshd:account)", 9, "/nowhere")
    log._ident = "sshd[42]"
    said = (
        f"user u (uid 1000) from {source[:64]}, pid 42: adopted into job 7 ({text[:400]}) -> "
        "PAM_SUCCESS in 3.1 ms"
    )
    raw = log._record(6, f"pam_slurm_adopt(sshd:account): {said}", {}).decode()
    raw = re.sub(r"^<\d+>(\w+ .. ..:..:..) ", r"\1 n1 ", raw)
    line = log_lines.of_syslog(raw)
    assert line.pid == 42
    found = decisions.read(line)
    if found is None:
        assert len(said) > 400 or log_lines.MARK in raw
        return
    assert (found.user, found.uid, found.code) == ("u", 1000, "PAM_SUCCESS")
    if ", pid " not in source:
        assert found.pid == 42
        assert found.situation == "adopted"
        assert found.job == 7


@target("1700000000", "0", "99999999999", "999999999999", "-1", "1e9", "\xd9\xa3", longest=32)
def end_of_a_job(data: bytes) -> None:
    """The line that greets a user has the job, and a time only if the job shows a number."""
    text = data.decode("utf-8", "surrogateescape")
    shown = Welcome().text(7, text)
    assert shown.isprintable()
    assert len(shown) < 120
    number = re.fullmatch("[0-9]{1,11}", text)
    assert ("at the latest" in shown) == bool(number and int(text))
    try:
        line = log_lines.of_syslog(text)
    except NoLineError:
        return
    assert line.program
