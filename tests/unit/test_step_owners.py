"""Whose steps are, kept where there are many: which stepds are asked all the same."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_adopt.node import step_owners
from slurm_adopt.node.jobs import MANY, Jobs
from slurm_adopt.slurm.stepd.ask_all import Answer
from slurm_adopt.slurm.stepd.step_sockets import StepSocket, extern_steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALICE, BOB, CAROL = 5001, 5002, 5003
RUNNING, PROTOCOL = 2, 9728
JOBS = 2 * MANY  # jobs: of bob's, but for the first three
OF_ALICE = (1, 2, 3)
OWNERS = {job: ALICE if job in OF_ALICE else BOB for job in range(1, JOBS + 1)}


class Stepds:
    """The stepds of a node as a login asks them; keeps which jobs' were asked, each time."""

    def __init__(self, owners: dict[int, int]) -> None:
        self.owners = owners
        self.asked: list[list[int]] = []
        self.silent: set[int] = set()

    def ask_all(self, steps: list[StepSocket], _: object) -> tuple[Any, Any]:
        self.asked.append(sorted(step.job_id for step in steps))
        return {
            step: Answer(PROTOCOL, self.owners[step.job_id], RUNNING)
            for step in steps
            if step.job_id in self.owners
        }, {step: "is silent" for step in steps if step.job_id in self.silent}


class Here:
    """A node with a spool directory."""

    def __init__(self, top: Path, owners: dict[int, int] | None = None) -> None:
        self.spool = top / "spool"
        self.place = top / "run" / "owners"
        self.said: list[str] = []
        self.stepds = Stepds(OWNERS if owners is None else owners)
        self.spool.mkdir()
        for job in self.stepds.owners:
            self.add(job)

    @property
    def table(self) -> Path:
        return self.place / "table"

    def path(self, job: int) -> Path:
        return self.spool / f"n1_{job}.4294967292"

    def add(self, job: int) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.path(job)))

    def jobs(self, uid: int, place: str | None = None) -> list[int]:
        """Return the jobs that a login of this user finds."""
        steps = extern_steps
        site = SimpleNamespace(steps=lambda _: steps(str(self.spool), "n1"), layout=lambda: None)
        log = SimpleNamespace(debug=self.said.append, error=self.said.append)
        phase = cast("Any", SimpleNamespace(site=site, log=log, options={"nodename": ""}))
        place = str(self.place) if place is None else place
        found = Jobs(phase, cast("Any", self.stepds), place).of(uid)
        return [job.job_id for job in found]


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """Return a node where one login has been, whose stepds have not been asked since."""
    found = Here(tmp_path)
    assert found.jobs(ALICE) == [*OF_ALICE]
    assert found.stepds.asked.pop() == [*OWNERS]
    return found


def test_who_is_asked(here: Here) -> None:
    """The user's own stepds, each time; others' where they are not known."""
    assert here.place.stat().st_mode & 0o7777 == 0o700
    assert here.table.stat().st_mode & 0o7777 == 0o600
    assert here.jobs(ALICE) == [*OF_ALICE]
    assert here.jobs(BOB) == [job for job in OWNERS if job not in OF_ALICE]
    here.stepds.owners = {**OWNERS, 70: BOB}
    here.add(70)
    assert here.jobs(ALICE) == [*OF_ALICE]
    others = [job for job in OWNERS if job not in OF_ALICE]
    assert here.stepds.asked == [[*OF_ALICE], others, [*OF_ALICE, 70]]
    said = [f"{JOBS} extern steps here, 3 of uid {ALICE}"] * 2
    assert here.said[:2] == said


def test_nobody_waits_twice_for_one_stepd(here: Here) -> None:
    """Who has no job among the steps that are not known has the others asked, and those alone."""
    here.add(70)
    here.stepds.silent = {70}
    assert here.jobs(CAROL) == []
    assert here.stepds.asked == [[70], [*OWNERS]]
    assert here.said[-1] == f"{JOBS + 1} extern steps here, 0 of uid {CAROL}"


def test_without_a_place_all_are_asked(here: Here) -> None:
    """So it is with what looks at a node and changes nothing."""
    before = here.table.read_bytes()
    assert here.jobs(ALICE, "") == [*OF_ALICE]
    assert here.stepds.asked == [[*OWNERS]]
    assert here.table.read_bytes() == before


def test_where_there_are_few(tmp_path: Path) -> None:
    here = Here(tmp_path, dict.fromkeys(range(MANY), BOB))
    assert here.jobs(ALICE) == []
    assert not here.place.exists()


def test_who_has_no_job_is_told_by_the_stepds(here: Here) -> None:
    """The one that is left is not this user's: all say whose they are."""
    here.stepds.owners = {**OWNERS, 30: 5003}
    assert here.jobs(5003) == [30]
    assert here.stepds.asked == [[], [*OWNERS]]
    here.stepds.asked.clear()
    assert here.jobs(BOB) == [job for job in OWNERS if job not in (*OF_ALICE, 30)]
    assert here.stepds.asked == [[job for job in OWNERS if job not in (*OF_ALICE, 30)]]


def _again(here: Here) -> None:
    here.path(30).unlink()
    here.add(30)


# (what happens to the socket of bob's job 30, how)
ANOTHER: dict[str, Callable[[Here], object]] = {
    "it is another one": _again,
    "a user has written its times": lambda here: os.utime(here.path(30)),
    "its mode is another": lambda here: here.path(30).chmod(0o700),
    "another one is in its place": lambda here: here.path(31).rename(here.path(30)),
}  # fmt: skip


@pytest.mark.parametrize("case", ANOTHER)
def test_a_socket_that_is_not_the_same(here: Here, case: str) -> None:
    ANOTHER[case](here)
    assert here.jobs(ALICE) == [*OF_ALICE]
    assert here.stepds.asked == [[*OF_ALICE, 30]]


def _linked(path: Path) -> None:
    path.rename(path.with_name("x"))
    path.symlink_to("x")


def _fifo(table: Path) -> None:
    table.unlink()
    os.mkfifo(table, 0o600)


def _folder(table: Path) -> None:
    table.unlink()
    table.mkdir(0o700)


# (what has become of the table, how): it does not count
NO_TABLE: dict[str, Callable[[Path], object]] = {
    "gone": lambda table: table.unlink(),
    "empty": lambda table: table.write_bytes(b""),
    "without an end": lambda table: table.write_bytes(table.read_bytes().replace(b"\n", b"")),
    "text": lambda table: table.write_bytes(b"whose\tsteps\n" * 9),
    "bytes": lambda table: table.write_bytes(bytes(range(256)) * 9),
    "of nobody": lambda table: table.write_bytes(b"\t" + table.read_bytes().replace(b"\n", b"\n-")),
    "another user's": lambda table: os.chown(table, 1, 1),
    "writable for others": lambda table: table.chmod(0o666),
    "a link": _linked,
    "a fifo": _fifo,
    "a directory": _folder,
    "in another user's directory": lambda table: os.chown(table.parent, 1, 1),
    "in a directory that others read": lambda table: table.parent.chmod(0o755),
    "in a directory that is a link": lambda table: _linked(table.parent),
}


@pytest.mark.parametrize("case", NO_TABLE)
def test_what_is_no_table(here: Here, case: str) -> None:
    """All are asked, and the user's jobs are the same."""
    NO_TABLE[case](here.table)
    assert here.jobs(ALICE) == [*OF_ALICE]
    assert here.stepds.asked == [[*OWNERS]]


def test_one_that_is_cut_off(here: Here) -> None:
    """Wherever it ends, only whole lines count."""
    whole = here.table.read_bytes()
    ends = [len(line) for line in whole.splitlines(keepends=True)]
    for size in range(len(whole) + 1):
        here.table.write_bytes(whole[:size])
        known = len(step_owners._read(str(here.place)))
        assert known == sum(size >= sum(ends[: n + 1]) for n in range(len(ends)))


@pytest.mark.parametrize("case", ["mode", "owner", "file"])
def test_where_it_cannot_be_written(here: Here, case: str) -> None:
    """All are asked each time, and the log has it on its lowest level."""
    here.table.unlink()
    if case == "mode":
        here.place.chmod(0o777)
    elif case == "owner":
        os.chown(here.place, 1, 1)
    else:
        here.place.rmdir()
        here.place.touch()
    for _ in range(2):
        assert here.jobs(ALICE) == [*OF_ALICE]
        assert here.stepds.asked.pop() == [*OWNERS]
        assert here.said[-2].startswith(f"cannot write {here.place}: ")


def test_of_two_who_write_one_gives_up(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another login has put its own there between our two steps."""
    here.table.write_bytes(b"")
    monkeypatch.setattr(os, "unlink", lambda *_, **__: None)
    assert here.jobs(ALICE) == [*OF_ALICE]
    assert here.table.read_bytes() == b""
    assert here.said[-1].endswith(f"3 of uid {ALICE}")


def test_what_is_gone_is_not_kept(here: Here) -> None:
    for job in range(20, JOBS + 1):
        here.path(job).unlink()
    for job in range(100, 100 + JOBS):
        here.stepds.owners = {**here.stepds.owners, job: 5003}
        here.add(job)
    assert here.jobs(ALICE) == [*OF_ALICE]
    kept = step_owners._read(str(here.place))
    assert {uid: len(keys) for uid, keys in kept.items()} == {ALICE: 3, BOB: 16, 5003: JOBS}


def test_what_is_wrong_is_mended(here: Here) -> None:
    """As soon as a stepd says otherwise."""
    here.stepds.owners = {job: BOB if job == 3 else owner for job, owner in OWNERS.items()}
    assert here.jobs(ALICE) == [1, 2]
    assert here.jobs(BOB)[0] == 3
    assert here.jobs(ALICE) == [1, 2]
    assert here.stepds.asked[-1] == [1, 2]


@given(st.dictionaries(st.sampled_from([*OWNERS]), st.sampled_from([0, ALICE, BOB, 5003])))
@settings(max_examples=50, deadline=None)
def test_whatever_it_says(tmp_path_factory: pytest.TempPathFactory, lies: dict[int, int]) -> None:
    """Jobs that are found are the user's, as their stepds say; who has one is not told of none."""
    here = Here(tmp_path_factory.mktemp("any"))
    here.jobs(ALICE)
    owners = here.stepds.owners
    here.stepds.owners = {**OWNERS, **lies}
    here.table.unlink()
    here.jobs(ALICE)
    here.stepds.owners = owners
    for uid in (0, ALICE, BOB, 5003):
        theirs = {job for job, owner in OWNERS.items() if owner == uid}
        found = set(here.jobs(uid))
        assert found <= theirs
        assert bool(found) == bool(theirs)
