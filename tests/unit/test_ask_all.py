"""All stepds of a node asked at once: those that hang cost one deadline, whatever their number."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

from slurm_adopt.slurm.stepd import ask_all
from slurm_adopt.slurm.stepd.step_sockets import StepSocket
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes.stepd import Stepd

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HANGING = 20


def test_hanging_stepds_share_one_deadline(tmp_path: Path) -> None:
    """The last to be asked is one that answers: nobody in front of it uses its time up."""
    steps = [StepSocket(str(tmp_path / f"n1_{job}.4294967292"), job) for job in range(HANGING + 1)]
    *hanging, last = steps
    with contextlib.ExitStack() as stack:
        for step in hanging:
            stack.enter_context(Stepd(tmp_path / os.path.basename(step.path), greeting="hang"))
        stack.enter_context(Stepd(tmp_path / os.path.basename(last.path), uid=5007))
        started = time.monotonic()
        answers, silent = ask_all.ask_all(steps, frozenset({os.geteuid()}), Deadline(2))
        seconds = time.monotonic() - started
    assert silent == dict.fromkeys(hanging, "does not answer")
    assert {step: answer.uid for step, answer in answers.items()} == {last: 5007}
    assert seconds < HANGING


def test_dead_sockets_take_no_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of those that have ended, and one that answers, which is asked in time."""
    monkeypatch.setattr(ask_all, "IN_FLIGHT", 2)
    steps = [StepSocket(str(tmp_path / f"n1_{job}.4294967292"), job) for job in range(401)]
    *dead, last = steps
    for step in dead:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(step.path)
    with Stepd(tmp_path / os.path.basename(last.path), uid=5007):
        answers, silent = ask_all.ask_all(steps, frozenset({os.geteuid()}), Deadline(2))
    assert silent == {}
    assert {step: answer.uid for step, answer in answers.items()} == {last: 5007}
