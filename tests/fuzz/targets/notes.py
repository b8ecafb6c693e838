"""What one process of this module leaves for another, and what its commands have saved."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import time

from slurm_adopt.cli import output
from slurm_adopt.cli.checks import report, saved
from slurm_adopt.cli.errors import CliError
from slurm_adopt.cli.install import record
from slurm_adopt.cli.logins import counts, moments
from slurm_adopt.decision.adoption import Adoption, Choice
from slurm_adopt.node import adoption_note, user_choice
from slurm_adopt.slurm.errors import SetupError
from tests.fuzz.given import check_said, folder, numbers, put
from tests.fuzz.target import target

UID = 1000
JOBS = 1 << 32
ME = os.getpid()


@target(
    "1000 7 SLURM_JOB_ID,DISPLAY\n", "chosen 1000 7", "1000 7", "\n", ":/", "freezer:/slurm", ",",
    ":", " ", "0", "007", "4294967296", "99999999999999999999", longest=1024,
)  # fmt: skip
def note_of_adoption(data: bytes) -> None:
    """A note counts for its user alone, with a job in range; what is left is what is taken, once.

    Nothing of another shape is taken for a note.
    """
    found = adoption_note._parse(data, UID, 42, 5)
    text = data.decode("utf-8", "surrogateescape")
    if found is None:
        return
    assert found.uid == UID
    assert 0 <= found.job_id < JOBS
    first = text.split("\n")[0].split(" ")
    assert str(found.job_id) in first
    top = f"{folder('adoption_note')}/run"
    if isinstance(found, Choice):
        assert text == f"chosen {UID} {found.job_id}"
        adoption_note.leave_choice(found, ME, top)
        again = adoption_note.take(ME, UID, top)
        assert isinstance(again, Choice)
        assert (again.job_id, again.uid) == (found.job_id, UID)
    else:
        for controller, path in found.paths.items():
            assert f"{controller}:{path}" in text or not path
        own = Adoption(ME, UID, found.job_id).proven(found.paths, found.environment)
        adoption_note.leave(own, top)
        assert adoption_note.take(ME, 0, top) is None
        adoption_note.leave(own, top)
        taken = adoption_note.take(ME, UID, top)
        assert isinstance(taken, Adoption)
        assert (taken.job_id, taken.paths) == (own.job_id, own.paths)
        assert [*taken.environment] == [*own.environment]
    assert adoption_note.take(ME, UID, top) is None


@target(
    (7 * user_choice.SECOND).to_bytes(8, "little"), b"\xff" * 8, b"\0" * 8,
    (user_choice.LARGEST * user_choice.SECOND).to_bytes(8, "little"),
    ((user_choice.LARGEST + 1) * user_choice.SECOND).to_bytes(8, "little"), longest=16,
)  # fmt: skip
def choice_of_a_user(data: bytes) -> None:
    """The time of a link is a choice only if it is a whole number of seconds that is a job's id.

    The user can set it to any time, and to nothing else.
    """
    top = f"{folder('choice')}/run"
    user_choice.have_place(UID, top)
    nanoseconds = int.from_bytes(data[:8].ljust(8, b"\0"), "little", signed=True)
    path = f"{top}/{user_choice.NAME}/{UID}"
    os.utime(path, ns=(0, nanoseconds), follow_symlinks=False)
    found = user_choice.chosen(UID, top)
    kept = os.stat(path, follow_symlinks=False).st_mtime_ns
    seconds, rest = divmod(kept, 1_000_000_000)
    if rest or not 1 <= seconds <= 0xFFFFFFFF:
        assert found is None
    else:
        assert found is not None
        assert found.job_id == seconds
        assert abs(found.made - time.time()) < 3600
        with contextlib.suppress(SetupError):
            user_choice.choose(UID, found.job_id, top)
            again = user_choice.chosen(UID, top)
            assert again is not None
            assert again.job_id == found.job_id


_HASH = "0123456789abcdef" * 4
_RECORD = (
    '{"schema": 1, "installed": [{"path": "/etc/pam.d/sshd", "base": null, "before": null, '
    '"after": null}], "change": [], "trial": null}'
)


@target(
    _RECORD, '"schema"', '"installed"', '"change"', '"trial"', '"path"', '"base"', '"before"',
    '"after"', '"name"', '"ends"', '"by"', '"job"', "null", "1", "[", "]", "{", "}", ":", ",",
    f'"{_HASH}"', '"/etc/pam.d/sshd"', "1e999", "NaN", "\\u0000", "../", longest=2048,
)  # fmt: skip
def install_record(data: bytes) -> None:
    """A record is one whose parts are all of their kinds, or is said to be damaged.

    Written once more and read again it is the same.
    """
    top = f"{folder('install_record')}/lib"
    with record.held(top=top) as held:
        put(f"{held.path}/sshd.json", data)
        try:
            found = held.load("sshd")
        except CliError as error:
            check_said(error)
            found = record.Record()
        for kept in (*found.installed, *found.change):
            assert isinstance(kept.path, str)
            assert kept.path.startswith("/")
            assert "\0" not in kept.path
            assert all(text is None or isinstance(text, bytes) for text in kept[1:])
        if found.trial is not None:
            assert all(isinstance(text, str) for text in (found.trial.name, found.trial.by))
            assert isinstance(found.trial.job, str)
            assert isinstance(found.trial.ends, (int, float))
            assert math.isfinite(found.trial.ends)
            assert moments.shown(found.trial.ends)
        held.save("sshd", found)
        assert held.load("sshd") == found
        held.save("sshd", record.Record())


_REPORT = json.dumps({
    "schema": 1,
    "findings": [{
        "code": "SA101", "category": "slurm.conf", "result": "error", "title": "t", "expected": "e",
        "found": "f", "where": {"file": "/etc/slurm/slurm.conf", "line": 3}, "why": "w", "fix": "x",
        "seconds": 0.1,
    }],
    "would_decide": [{
        "user": "u", "uid": 1000, "decision": "job", "job": 7, "jobs": [7], "situation": "adopted",
        "option": "", "why": "the only job",
    }],
})  # fmt: skip


@target(
    _REPORT, "n1: ", "----------------\nn[1-3] (3)\n----------------\n", '"schema": 1',
    '"findings"',
    '"would_decide"', '"result": "', '"ok"', '"warning"', '"skipped"', "null", "[", "]", "{",
    "}", ",", ":", '"', "1e999", "NaN", "\\ud800", "true", "[" * 64, "n[1-65536]", longest=4096,
)  # fmt: skip
def saved_reports(data: bytes) -> None:
    """What is no report is told in one line; a report is shown without control characters."""
    path = put(f"{folder('saved_reports')}/reports", data)
    try:
        reports = saved.read(path)
    except CliError as error:
        check_said(error)
        return
    assert reports
    first = report.first_line(reports)
    assert len(first) <= report.FIRST
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        output.line(first)
        output.styled(report.text(reports, "->", 80))
        output.as_json([one.as_dict() for each in reports for one in each.findings])
    text = shown.getvalue()
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()
    assert report.status_of(reports, "warning") in (0, 1, 2)


_COUNTS = "\n".join(counts.Counts().lines())


@target(
    _COUNTS, counts.TOTAL, counts.SECONDS, counts.UNTIL, '{outcome="adopted",situation="adopted"} ',
    '_bucket{le="', '"} ', "+Inf", "0.002", "_sum ", "\n", "9" * 15, "1.5", longest=8192,
)  # fmt: skip
def textfile_counts(data: bytes) -> None:
    """Counts that were read are written the same again, and a text of another kind has none."""
    text = data.decode("utf-8", "replace")
    found = counts.parsed(text)
    if found is None:
        return
    assert counts.UNTIL in text
    assert found.until >= 0
    assert found.seconds >= 0
    assert all(number >= 0 for number in found.by_outcome.values())
    again = counts.parsed("\n".join(found.lines()))
    assert again is not None
    assert {*again.by_bound.items()} == {*found.by_bound.items()}
    assert all(again.by_outcome[name] == number for name, number in found.by_outcome.items())


@target(
    "2h", "30min", "today", "yesterday", "now", "07:30", "2026-11-28 07:30", "@1", "@99999999999",
    "9999-12-31", "0001-01-01", "999999w", "ago", " ", "-", ":", longest=64,
)  # fmt: skip
def typed_moment(data: bytes) -> None:
    """A time that was typed is a finite number of seconds, or the error says what to write."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = moments.moment(text, "--since", 1_700_000_000.0)
    except CliError as error:
        check_said(error, "write 2h")
        return
    assert math.isfinite(found)
    assert moments.shown(found)
    (number,), _ = numbers(data, 1)
    assert number < 256
    ago = re.fullmatch(r"([0-9]{1,6})h", text)
    assert ago is None or found == 1_700_000_000.0 - 3600 * int(ago[1])
