"""action_unknown=ask: what the user is asked, and what answers come to."""

from __future__ import annotations

import os
import re
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from slurm_adopt.node import asking
from slurm_adopt.node.jobs import UNKNOWN, Job
from slurm_adopt.slurm.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Sequence


def job(job_id: int, started: int = 1) -> Job:
    return cast("Job", SimpleNamespace(job_id=job_id, started=started))


SEVEN, EIGHT = job(7), job(8, 2)


def asked(answers: Sequence[str | None], jobs: Sequence[Job] = (SEVEN, EIGHT)) -> int | None:
    """Return what comes of some answers; all of them are wanted."""
    left = list(answers)
    found = asking.ask(list(jobs), jobs[-1], lambda _: left.pop(0), lambda _: {})
    assert not left
    return found


ANSWERS: list[tuple[list[str | None], int | None]] = [
    (["7"], 7),
    (["8"], 8),
    ([" 7 \n"], 7),
    (["007"], 7),
    ([""], 8),
    (["   "], 8),
    (["9", "7"], 7),
    (["password of alice", "x", "8"], 8),
    (["9", ""], 8),
    ([None], None),
]


@pytest.mark.parametrize(("answers", "job_id"), ANSWERS)
def test_answers(answers: list[str | None], job_id: int | None) -> None:
    assert asked(answers) == job_id


NO_ANSWERS: list[list[str | None]] = [
    ["9", "9", "9"],
    ["-7", "7.0", "7 8"],
    ["7\0", "\x1b[2J", "\u0667"],
    ["9" * 5000, "0x7", "?"],
    ["9", None],
    ["9", "9", None],
]


@pytest.mark.parametrize("answers", NO_ANSWERS)
def test_no_answer(answers: list[str | None]) -> None:
    """What was typed is in no text: it may be a password."""
    with pytest.raises(PeerError) as error:
        asked(answers)
    assert not any(answer and len(answer) > 1 and answer in str(error.value) for answer in answers)


def test_the_question() -> None:
    said: list[str] = []
    names = lambda _: {7: "train", 9: "n" * 300}  # noqa: E731
    now = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    jobs = [job(8, int(now)), job(7, 1), job(9, UNKNOWN)]

    def converse(text: str) -> str:
        said.append(text)
        return "7" if len(said) == 2 else "x"

    assert asking.ask(jobs, jobs[0], converse, names) == 7
    heading, seven, eight, nine, last = said[0].split("\n")
    assert heading == "You have several jobs on this node:"
    since = r"since 20\d\d-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(rf"  7  train {{29}}{since}", seven)
    assert re.fullmatch(rf"  8 {{36}}{since}", eight)
    assert nine == "  9  " + "n" * 32
    assert last == "Which one is this login for? [8] "
    assert said[1] == f"That is none of these jobs.\n{said[0]}"


def test_many_jobs() -> None:
    """The newest are listed; each can be answered."""
    jobs = [job(number, number) for number in range(1, 10_001)]
    said: list[str] = []
    wanted: list[int] = []

    def names(of: Sequence[Job]) -> dict[int, str]:
        wanted.extend(job.job_id for job in of)
        return {}

    def converse(text: str) -> str:
        said.append(text)
        return "17"

    assert asking.ask(jobs, jobs[-1], converse, names) == 17
    lines = said[0].split("\n")
    assert len(lines) == asking.SHOWN + 3
    assert lines[1] == f"  and {10_000 - asking.SHOWN} older ones"
    assert lines[-2].startswith("  10000  since ")
    assert lines[2].startswith("   9981  since ")
    assert wanted == list(range(10_000 - asking.SHOWN + 1, 10_001))
