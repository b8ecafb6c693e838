"""The lines of this host's log: from the journal, or from a file of syslog's and its older ones.

Lines come one after the other, and none is kept. What is no line of a log is counted and passed
over.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import json
import lzma
import os
import re
import select
import shutil
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from slurm_adopt.cli import deadlines
from slurm_adopt.cli.errors import CliError
from slurm_adopt.decision.record import FIELDS, PREFIX
from slurm_adopt.system.log import LOG_AUTHPRIV, MONTHS, Log, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FILES = ("auth.log", "secure", "syslog", "messages")  # where syslog daemons put authpriv
FOLDER = "/var/log"
JOURNALS = ("/var/log/journal/*/system.journal", "/run/log/journal/*/system.journal")
MARK = "pam_slurm_adopt("
LONGEST = 1 << 16  # bytes of a line
KEPT = (
    "MESSAGE", "_UID", "_PID", "_SOURCE_REALTIME_TIMESTAMP", "SYSLOG_IDENTIFIER", "SYSLOG_PID",
    *(PREFIX + name for name in FIELDS),
)  # fmt: skip
OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
DAY = 86400


class NoLineError(Exception):
    """This is no line of a log."""


class Line(NamedTuple):
    """One line: when, by which program and process, and what it says."""

    time: float  # seconds since 1970
    program: str
    pid: int
    text: str
    fields: dict[str, str]  # of ours, from journald


class Wanted(NamedTuple):
    """Which lines are asked for: between two times, and all of one process, or ours alone."""

    since: float = 0.0
    until: float = float("inf")
    pid: int | None = None

    def takes(self, line: Line) -> bool:
        """Say whether it is one of these."""
        if not self.since <= line.time <= self.until:
            return False
        return line.pid == self.pid if self.pid is not None else line.text.startswith(MARK)


class Source:
    """Where lines come from."""

    of_records = False  # whether each is a record of the journal

    def __init__(self, name: str) -> None:
        """`name`: for who reads of it."""
        self.name = name
        self.garbage = 0  # lines that name the module, and cannot be read
        self.forged = 0  # lines of processes that are not root's
        self.remarks: list[str] = []  # what could not be read

    def lines(self, wanted: Wanted) -> Iterator[Line]:
        """Yield lines in their order; CliError if there is nothing to read."""
        self.garbage = self.forged = 0
        self.remarks = []
        for raw in self._raw(wanted):
            known = self.of_records or MARK.encode() in raw
            if not known and wanted.pid is None and raw[:1] != b"{":
                continue
            try:
                line = self._read(raw)
            except NoLineError:
                self.garbage += known
                continue
            if line is not None and wanted.takes(line):
                yield line

    def _raw(self, wanted: Wanted) -> Iterator[bytes]:
        raise NotImplementedError

    def _read(self, raw: bytes) -> Line | None:
        """Return a line of either kind, None for one that root's have not sent; or NoLineError."""
        if not self.of_records and raw[:1] != b"{":
            return of_syslog(raw.decode("utf-8", "backslashreplace"))
        record = of_json(raw)
        line = of_journal(record)
        if record.get("_UID") == "0":
            return line
        self.forged += line.text.startswith(MARK)
        return None


# The journal


class Journal(Source):
    """The system's journal, as journalctl prints it: lines of root's processes alone."""

    of_records = True

    def __init__(self, program: str = "journalctl") -> None:
        """`program`: what is run."""
        super().__init__("the journal")
        self._program = program

    def _raw(self, wanted: Wanted) -> Iterator[bytes]:
        argv = [self._program, "--quiet", "--no-pager", "--all", "--output=json"]
        argv.append(f"--output-fields={','.join(KEPT)}")
        if wanted.since:
            argv.append(f"--since=@{int(wanted.since)}")
        if wanted.until != float("inf"):
            argv.append(f"--until=@{int(wanted.until) + 1}")
        argv.append("_UID=0")
        argv += [f"SYSLOG_FACILITY={LOG_AUTHPRIV >> 3}"] if wanted.pid is None else []
        # In memory: the disk may be full.
        with open(os.memfd_create("journalctl"), "w+b") as errors:
            try:
                process = subprocess.Popen(  # noqa: S603 - found by PATH, as by a shell
                    argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
                )
            except OSError as error:
                raise CliError(f"cannot run {self._program}: {error.strerror}") from None
            try:
                yield from self._until_end(process)
            finally:
                process.kill()
                process.wait()
                if process.stdout:
                    process.stdout.close()
            errors.seek(0)
            if process.returncode > 0:
                said = errors.read(1000).decode("utf-8", "replace").strip() or "no word"
                raise CliError(f"journalctl ends with {process.returncode}: {printable(said)}")

    def _until_end(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        """Yield lines until there are no more, or it takes too long; then the exit is awaited."""
        end = time.monotonic() + deadlines.JOURNAL
        output = process.stdout.fileno() if process.stdout else -1
        rest = b""
        while select.select([output], [], [], max(0.0, end - time.monotonic()))[0]:
            piece = os.read(output, LONGEST)
            if not piece:
                yield from [rest] if rest else []
                with suppress(subprocess.TimeoutExpired):
                    process.wait(deadlines.SHARED)
                return
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
            if len(rest) > 64 * LONGEST:
                self.garbage += 1
                rest = b""
        self.remarks.append(
            f"journalctl was ended after {deadlines.JOURNAL:g} s: the rest is missing"
        )


def of_json(raw: bytes) -> dict[str, str]:
    """Return a record of `journalctl -o json`; NoLineError for anything else."""
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise NoLineError(raw[:64])
    return {name: _as_text(value) for name, value in record.items()}


def _as_text(value: Any) -> str:
    """Return a field's value; one that is no text is a list of its bytes, or of its values."""
    if isinstance(value, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value[0]) if isinstance(value, list) and value else str(value)


def of_journal(record: dict[str, str]) -> Line:
    """Return a record as a line; NoLineError for one that is none."""
    stamp = record.get("_SOURCE_REALTIME_TIMESTAMP") or record.get("__REALTIME_TIMESTAMP", "")
    pid = record.get("SYSLOG_PID") or record.get("_PID", "")
    if not _is_number(stamp) or not _is_number(pid) or "MESSAGE" not in record:
        raise NoLineError(str(record)[:64])
    program = record.get("SYSLOG_IDENTIFIER", "")
    ours = {name: value for name, value in record.items() if name.startswith("SLURM_ADOPT_")}
    return Line(int(stamp) / 1e6, program, int(pid), record["MESSAGE"], ours)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


# Files


class Files(Source):
    """Files of a syslog daemon, or of records of the journal; the oldest first."""

    def __init__(self, path: str, *, rotated: bool = False) -> None:
        """`path` may be "-", standard input. `rotated`: the older ones beside it, too."""
        super().__init__("standard input" if path == "-" else path)
        self._path = path
        self._rotated = rotated

    def _raw(self, wanted: Wanted) -> Iterator[bytes]:
        if self._path == "-":
            yield from _bounded(sys.stdin.buffer)
            return
        older = older_files(self._path, wanted.since) if self._rotated else []
        for path in (*older, self._path):
            yield from self._of_file(path)

    def _of_file(self, path: str) -> Iterator[bytes]:
        opener: Any = OPENERS.get(os.path.splitext(path)[1], open)
        try:
            with opener(path, "rb") as file:
                yield from _bounded(file)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            said = getattr(error, "strerror", None) or str(error) or "it is cut short"
            if path == self._path:
                raise CliError(f"cannot read {path}: {said}{_advice(path)}") from None
            self.remarks.append(f"cannot read {path}: {said}")


def _bounded(file: Any) -> Iterator[bytes]:
    """Yield lines; what is longer than a line may be is passed over."""
    whole = True
    while piece := file.readline(LONGEST):
        if whole and (piece[-1:] == b"\n" or len(piece) < LONGEST):
            yield piece.rstrip(b"\r\n")
        whole = piece[-1:] == b"\n"


def older_files(path: str, since: float) -> list[str]:
    """Return what logrotate has made of a file, if it has lines after a time; the oldest first."""
    form = re.compile(re.escape(path) + r"[.-]\d+(\.gz|\.bz2|\.xz)?")
    found = []
    for other in glob.glob(glob.escape(path) + "[.-]*"):
        if form.fullmatch(other):
            try:
                changed = os.stat(other).st_mtime
            except OSError:
                continue
            if changed >= since:
                found.append((changed, other))
    return [other for _, other in sorted(found)]


def _advice(path: str) -> str:
    try:
        if os.access(path, os.R_OK):
            return ""
        import grp

        group = grp.getgrgid(os.stat(path).st_gid).gr_name
    except (OSError, KeyError):
        return ""
    return f" (root and members of the group {group} can)" if group != "root" else " (root can)"


# fmt: off
_STAMP = (
    r"(?:(?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) (?P<clock>\d\d:\d\d:\d\d)"
    r"|(?P<whole>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?))"
)
# fmt: on
_LINE = re.compile(
    _STAMP
    + r" (?:(?P<host>[^\s\[\]]+) )?(?P<program>[^\s\[\]]+)\[(?P<pid>\d{1,10})\]: (?P<text>.*)",
    re.DOTALL,
)


def of_syslog(text: str, now: float | None = None) -> Line:
    """Return a line of a file, as rsyslog, syslog-ng and containers write it; else NoLineError."""
    found = _LINE.match(text)
    if not found:
        raise NoLineError(text[:64])
    try:
        stamp = _whole(found["whole"]) if found["whole"] else _within_a_year(found, now)
    except (ValueError, OverflowError, OSError):
        raise NoLineError(text[:64]) from None
    return Line(stamp, found["program"], int(found["pid"]), found["text"], {})


def _whole(text: str) -> float:
    """Return the time of RFC 3339; before Python 3.11 there is a function for a part of these."""
    day, _, rest = text.partition("T")
    zone = re.search(r"(Z|[+-]\d\d:?\d\d)$", rest)
    clock, _, fraction = (rest[: zone.start()] if zone else rest).partition(".")
    offset = zone[0].replace("Z", "+00:00") if zone else ""
    if offset and ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    return datetime.fromisoformat(f"{day}T{clock}{offset}").timestamp() + float(f"0.{fraction}0")


def _within_a_year(found: re.Match[str], now: float | None) -> float:
    """Return a time whose year is not written: the last one that is not to come."""
    now = time.time() if now is None else now
    hour, minute, second = map(int, found["clock"].split(":"))
    month, day = MONTHS.index(found["month"]) + 1, int(found["day"])
    year = time.localtime(now).tm_year
    stamps = (
        time.mktime((year - back, month, day, hour, minute, second, 0, 0, -1)) for back in (0, 1)
    )
    return next((stamp for stamp in stamps if stamp <= now + DAY), 0.0)


# Which of them this host has


def find(file: str | None = None, folder: str = FOLDER) -> Source:
    """Return the source that is named, else this host's; CliError if it has none."""
    if file is not None:
        return Files(file)
    files = [path for path in (f"{folder}/{name}" for name in FILES) if os.path.exists(path)]
    of_journald = Log("", 0).takes_fields or not files
    if of_journald and shutil.which("journalctl") and may_read_the_journal():
        return Journal()
    if not files:
        names = ", ".join(f"{folder}/{name}" for name in FILES)
        raise CliError(
            f"no log is found: neither a journal nor any of {names}; name it with --file"
        )
    return Files(files[0], rotated=True)


def may_read_the_journal(places: Iterable[str] = JOURNALS) -> bool:
    """Say whether there is a journal of the system that may be read; CliError if it may not."""
    found = [path for place in places for path in glob.glob(place)]
    if os.geteuid() == 0 or any(os.access(path, os.R_OK) for path in found):
        return True
    if any(os.path.isdir(os.path.dirname(os.path.dirname(place))) for place in places):
        raise CliError(
            "cannot read the system's journal "
            "(root and members of the groups systemd-journal and adm can)"
        )
    return False
