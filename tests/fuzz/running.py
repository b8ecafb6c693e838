"""Targets run beside each other, a process each, and what libFuzzer says of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.target import HERE, MEMORY, TIMEOUT, Target

TOP = HERE.parents[1]
SHOWN = 3000  # characters of what a process says of a finding
GRACE = 120  # seconds beyond the time of a run: to import, and for the last input
PAUSE = 0.05  # seconds between two looks at the processes
COVERAGE = re.compile(rb"^#\d+\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)
COUNTED = re.compile(rb"^stat::(\w+):\s+(\d+)", re.MULTILINE)
RUNS = re.compile(rb"^#(\d+)", re.MULTILINE)
ARTIFACT = re.compile(rb"Test unit written to (\S+)")


class Seen(NamedTuple):
    """What came of a target: numbers are libFuzzer's; `findings`: files with the inputs."""

    target: str
    runs: int
    cov: int
    ft: int
    corpus: int
    seconds: float
    memory: int  # MiB
    findings: list[str]
    said: str  # "" without a finding


class _Running(NamedTuple):
    target: Target
    process: subprocess.Popen[bytes]
    output: Path
    began: float


def run(
    targets: Iterable[Target], seconds: int, jobs: int, kept: Path, corpora: Path | None = None
) -> Iterator[Seen]:
    """Run targets for so long each, `jobs` at a time; yield what came of each as it ends.

    `kept`: where inputs of findings go; `corpora`: where grown corpora go, and come from.
    """
    waiting = list(targets)
    running: list[_Running] = []
    with tempfile.TemporaryDirectory(prefix="slurm_adopt-fuzz-", dir=_memory()) as top:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(_begin(waiting.pop(0), seconds, Path(top), kept, corpora))
                time.sleep(PAUSE)
                for one in list(running):
                    if one.process.poll() is None and not _is_late(one, seconds):
                        continue
                    running.remove(one)
                    yield _end(one)
        finally:
            for one in running:
                _stop(one)


def _memory() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _begin(target: Target, seconds: int, top: Path, kept: Path, corpora: Path | None) -> _Running:
    folder = top / target.name
    grown = corpora / target.name if corpora else folder / "corpus"
    places = [HERE / name / target.name for name in ("corpus", "regressions")]
    (folder / "tmp").mkdir(parents=True)
    grown.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    (folder / "words").write_text(target.dictionary())
    argv = [
        sys.executable, "-m", "tests.fuzz.worker", target.family, target.name,
        f"-max_total_time={seconds}", f"-max_len={target.longest}", f"-timeout={TIMEOUT}",
        f"-report_slow_units={TIMEOUT}",  # on a busy machine others are slow that are none
        f"-rss_limit_mb={MEMORY}", f"-dict={folder / 'words'}",
        f"-artifact_prefix={kept}/{target.name}-", "-print_final_stats=1", str(grown),
        *(str(place) for place in places if place.is_dir()),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": f"{TOP / 'src'}:{TOP}",
        "TMPDIR": str(folder / "tmp"),
    }
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            argv, cwd=TOP, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    return _Running(target, process, output, time.monotonic())


def _is_late(one: _Running, seconds: int) -> bool:
    return time.monotonic() > one.began + seconds + GRACE + TIMEOUT


def _stop(one: _Running) -> None:
    one.process.kill()
    one.process.wait()


def _end(one: _Running) -> Seen:
    late = one.process.poll() is None
    _stop(one)
    said = one.output.read_bytes()
    counted = {name.decode(): int(value) for name, value in COUNTED.findall(said)}
    coverage = COVERAGE.findall(said)
    cov, ft, corpus = map(int, coverage[-1]) if coverage else (0, 0, 0)
    findings = [path.decode() for path in ARTIFACT.findall(said)]
    if (one.process.returncode or late) and not findings:
        findings = [f"{one.target.name}: it ended with {one.process.returncode}"]
    numbers = RUNS.findall(said)
    runs = counted.get("number_of_executed_units", int(numbers[-1]) if numbers else 0)
    shown = said.decode("utf-8", "replace")
    shutil.rmtree(one.output.parent, ignore_errors=True)
    return Seen(
        one.target.name, runs, cov, ft, corpus, round(time.monotonic() - one.began, 1),
        counted.get("peak_rss_mb", 0), findings, _why(shown) if findings else "",
    )  # fmt: skip


def _why(said: str) -> str:
    """Return the part of the output that tells of the finding."""
    at = said.find("=== Uncaught Python exception: ===")
    with contextlib.suppress(ValueError):
        at = at if at >= 0 else said.index("==") - 1
    return said[max(0, at) :][:SHOWN] if at >= 0 else said[-SHOWN:]
