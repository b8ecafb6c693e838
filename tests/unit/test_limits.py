"""Limits of one process for another: never above its hard ones, never below what sshd needs."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.session import limits as job_limits
from slurm_adopt.session.limits import LIMITS, UNLIMITED, set_on
from slurm_adopt.slurm.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
WITH_SOURCE = {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}


@pytest.fixture
def process() -> Iterator[int]:
    """Return the pid of a process with 1000 and 2000 open files."""
    with subprocess.Popen(["sleep", "60"]) as running:
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (1000, 2000))
        yield running.pid
        running.kill()


def row(text: str, soft: object, hard: object, unit: str = "bytes") -> bytes:
    """Return a line as fs/proc/base.c writes it."""
    return f"{text:<25} {soft!s:<20} {hard!s:<20} {unit:<10}\n".encode()


def shown(pid: int) -> dict[str, tuple[str, str]]:
    """Return the soft and hard limits of a process by the text that the kernel has for them."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:25].strip(): (line[26:].split()[0], line[26:].split()[1]) for line in lines}


# (of the job, what the process has then)
ROWS = [
    ((300, 400), ("300", "400")),
    ((300, 2000), ("300", "2000")),
    ((1500, 1500), ("1500", "1500")),
    ((1500, 9999), ("1500", "2000")),
    ((9999, 9999), ("2000", "2000")),
    ((1500, "unlimited"), ("1500", "2000")),
    (("unlimited", "unlimited"), ("2000", "2000")),
    ((9, 9), ("256", "256")),
    ((0, 4096), ("256", "2000")),
]


@pytest.mark.parametrize(("of_job", "expected"), ROWS)
def test_open_files(process: int, of_job: tuple[object, object], expected: tuple[str, str]) -> None:
    before = shown(process)
    set_on(process, row("Max open files", *of_job, unit="files"))
    assert shown(process) == before | {"Max open files": expected}


def test_what_it_had_is_no_change(process: int) -> None:
    before = shown(process)
    assert set_on(process, Path(f"/proc/{process}/limits").read_bytes()) == []
    assert shown(process) == before


def test_what_sshd_needs_is_not_given_to_who_had_less(process: int) -> None:
    resource.prlimit(process, resource.RLIMIT_NOFILE, (50, 100))
    set_on(process, row("Max open files", 70, 70))
    assert shown(process)["Max open files"] == ("100", "100")


def test_all_of_the_table(process: int) -> None:
    """Each row is one of the kernel's, and is set; the two that end a process are not."""
    before = shown(process)
    data = b"".join(row(text, 77 * MIB, 77 * MIB) for text in before)
    set_on(process, data)
    after = shown(process)
    changed = {text for text in before if after[text] != before[text]}
    assert changed | {"Max open files"} >= {
        text for text, (_, least) in LIMITS.items() if before[text] == ("unlimited", "unlimited")
    }
    assert changed <= LIMITS.keys() <= before.keys()
    assert not {"Max cpu time", "Max file size"} & LIMITS.keys()
    assert after["Max address space"] == (str(512 * MIB),) * 2
    assert after["Max resident set"] == (str(77 * MIB),) * 2


NONSENSE = [
    b"",
    b"\xff\xfe",
    b"Max open files",
    b"Max open files            ",
    b"Max open files            5",
    b"Max open files            5                    x",
    b"Max open files            -5                   -5",
    b"Max open files            5 x",
    row("Max open file", 300, 300),
    row("max open files", 300, 300),
    b"x" * 20000,
]


@pytest.mark.parametrize("data", NONSENSE)
def test_nonsense_changes_nothing(process: int, data: bytes) -> None:
    before = shown(process)
    assert set_on(process, data) == []
    assert shown(process) == before


def test_a_process_that_is_gone() -> None:
    """Each limit is said to have failed, in one line."""
    with pytest.raises(SetupError, match=r"of process 4194304: .*No such process$") as caught:
        set_on(1 << 22, b"")
    assert str(caught.value).count("RLIMIT_") == len(LIMITS)


# What the kernel takes and shows, and the resource module does not take.
HUGE = [1 << 63, (1 << 63) + 1, (1 << 64) - 2]


@pytest.mark.parametrize("limit", HUGE)
def test_more_than_resource_takes(process: int, limit: int) -> None:
    """It is no limit; the other ones are set."""
    with subprocess.Popen(["sleep", "60"]) as other:
        given = [f"--data={limit}:{limit}", "--nofile=300:300"]
        subprocess.run(["prlimit", f"--pid={other.pid}", *given], check=True)
        assert shown(other.pid)["Max data size"] == (str(limit),) * 2
        before = shown(process)
        limits = Path(f"/proc/{other.pid}/limits").read_bytes()
        assert set_on(process, limits) == ["NOFILE 300:300"]
        assert shown(process) == before | {"Max open files": ("300", "300")}
        other.kill()


@pytest.mark.parametrize("error", [OSError(1, "x y"), ValueError("x y"), OverflowError("x y")])
def test_one_that_fails_keeps_no_other(
    process: int, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    prlimit = resource.prlimit

    def fail(pid: int, which: int, *limits: tuple[int, int]) -> tuple[int, int]:
        if which == resource.RLIMIT_DATA and limits:
            raise error
        return prlimit(pid, which, *limits)

    monkeypatch.setattr(resource, "prlimit", fail)
    data = row("Max data size", 1 << 30, 1 << 30) + row("Max open files", 300, 300)
    with pytest.raises(SetupError, match=rf"^RLIMIT_DATA of process {process}: .*x y$"):
        set_on(process, data)
    assert shown(process)["Max open files"] == ("300", "300")


def test_our_own_process() -> None:
    """As a session does it, in a process of its own."""
    data = row("Max open files", 300, 300)
    script = (
        f"import os; from slurm_adopt.session.limits import set_on; set_on(os.getpid(), {data!r})"
    )
    script += "; print(open('/proc/self/limits').read())"
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=WITH_SOURCE)
    assert re.search(r"^Max open files +300 +300 ", done.stdout, re.MULTILINE)


BEYOND = [(1 << 70, UNLIMITED), (-1, UNLIMITED), (-(1 << 63), UNLIMITED), (5, 5)]


@pytest.mark.parametrize(("limit", "expected"), BEYOND)
def test_infinity_compares(limit: int, expected: int) -> None:
    assert job_limits._numbers((limit, limit)) == (expected, expected)
