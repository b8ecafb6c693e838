"""Logins in a row while jobs, daemons and slurm.conf change: `./dev soak` in short.

What each login may come to is told by an oracle. It is shown here that it sees what is wrong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.harness import pam
from tests.cluster.tools import soak_clients
from tests.cluster.tools.soak import Soak
from tests.cluster.tools.soak_clients import Cast
from tests.cluster.tools.soak_oracle import (
    APART,
    HALF,
    IN_PLACE,
    TEXTS,
    History,
    Job,
    Login,
    Outage,
    Span,
    explained,
    judge,
)

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster

CAST = Cast(one=("one1", "one2"), several=("several1",), none=("none1",))
LOGINS = {"pam_python": 90, "pam_exec": 45}
SEED, PACE = 14, 0.3


@pytest.mark.parametrize("module", LOGINS)
def test_while_everything_changes(cluster: Cluster, module: str) -> None:
    """No login is in a wrong job, none is lost, nothing is left, and nothing grows."""
    soak = Soak(cluster, module, SEED, CAST)
    with soak.prepared():
        played = soak.play(LOGINS[module], PACE)
    assert {fault: n for fault, n in played.faults.items() if n} == {}, played.examples
    assert played.left == {}
    assert played.unexplained == []
    assert played.grown == {}, played.looks
    assert played.trouble == []
    assert played.logins == LOGINS[module], played
    assert played.strict > played.logins / 2, played
    assert played.from_jobs > 0, played
    assert {"root in", "in the only job", "refused: no jobs"} <= {*played.outcomes}, played


def test_a_node_that_keeps_nobody_out(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the module each user is outside of all jobs, and each login is told to be wrong."""
    monkeypatch.setattr(soak_clients, "LEAVES", 0)
    soak = Soak(cluster, "pam_python", SEED, CAST)
    with soak.prepared():
        cluster.pam(pam.stack())
        played = soak.play(LOGINS["pam_exec"], PACE)
    users = played.logins - played.by_user["root"]
    assert played.faults["wrong"] == users > 0, played
    assert played.missed


# The oracle: one1 has job 7 since 10, which ends at 50; several1 has 2 (suspended from 30 to 35),
# 3 (until 60) and 9 (since 40); the stepd of gone1's only job 4 was killed at 20.
JOBS = [
    Job(7, "one1", "n1", asked=9, up=10, ending=50, gone=52),
    Job(2, "several1", "n1,n2", asked=1, up=2, pauses=[Span(30, 35)]),
    Job(3, "several1", "n1", asked=3, up=4, ending=60, gone=62),
    Job(9, "several1", "n1", asked=40, up=41),
    Job(4, "gone1", "n1", asked=5, up=6, ending=20, gone=25, killed=True),
]
OUTAGES = [
    Outage(IN_PLACE, Span(11, 12)),
    Outage("slurm.conf renamed", Span(13, 14)),
    Outage("slurmd n2", Span(70, 72)),
]
HISTORY = History(JOBS, OUTAGES)
NO_JOBS, SUSPENDED, ADOPT = TEXTS["no jobs"], TEXTS["job suspended"], TEXTS["adopt failure"]
GENERIC, UNKNOWN = TEXTS["generic failure"], TEXTS["unknown job"]

# User, from when to when, and what came of it: a place, or what a refused user was told.
JUDGED: list[tuple[str, float, float, Any, str]] = [
    ("root", 1, 2, None, ""),
    ("root", 1, 2, 7, "wrong"),
    ("root", 1, 2, "", "wrong"),
    ("root", 1, 99, None, "late"),
    ("one1", 20, 21, 7, ""),
    ("one1", 20, 21, None, "wrong"),
    ("one1", 20, 21, 3, "wrong"),
    ("one1", 20, 21, HALF, "half"),
    ("one1", 20, 21, APART, "half"),
    ("one1", 20, 21, NO_JOBS, "lost"),
    ("one1", 20, 21, ADOPT, "lost"),
    ("one1", 20, 21, "", "lost"),
    ("one1", 11.5, 13, GENERIC, ""),
    ("one1", 11.5, 13, NO_JOBS, "lost"),
    ("one1", 13, 15, GENERIC, "lost"),
    ("one1", 49, 51, 7, ""),
    ("one1", 49, 51, "", ""),
    ("one1", 49, 51, NO_JOBS, ""),
    ("one1", 49, 51, ADOPT, ""),
    ("one1", 49, 51, SUSPENDED, "odd"),
    ("one1", 53, 54, NO_JOBS, ""),
    ("one1", 53, 54, 7, "wrong"),
    ("one1", 53, 54, None, "wrong"),
    ("one1", 53, 54, "", "odd"),
    ("one1", 1, 2, 7, "wrong"),
    ("one1", 9.5, 9.8, 7, ""),
    ("one1", 9.5, 9.8, NO_JOBS, ""),
    ("several1", 20, 21, 3, ""),
    ("several1", 20, 21, 2, "other"),
    ("several1", 20, 21, UNKNOWN, "lost"),
    ("several1", 29, 31, SUSPENDED, ""),
    ("several1", 29, 31, 3, ""),
    ("several1", 40, 40.5, 3, ""),
    ("several1", 40, 40.5, 9, ""),
    ("several1", 42, 43, 9, ""),
    ("several1", 42, 43, 3, "other"),
    ("several1", 59, 61, NO_JOBS, "lost"),
    ("several1", 59, 61, ADOPT, "lost"),
    ("gone1", 7, 8, 4, ""),
    ("gone1", 19, 22, ADOPT, ""),
    ("gone1", 21, 22, NO_JOBS, ""),
    ("gone1", 26, 27, 4, "wrong"),
    ("nobody", 1, 2, NO_JOBS, ""),
    ("nobody", 1, 2, GENERIC, "odd"),
    ("nobody", 1, 2, None, "wrong"),
    ("nobody", 1, 2, 7, "wrong"),
]


def _login(user: str, begin: float, end: float, came: Any, source: int | None = None) -> Login:
    landed = not isinstance(came, str)
    said = "" if landed else came
    status = 0 if landed else 255
    place = came if landed else None
    return Login(user, source, "publickey", Span(begin, end), status, said, landed, place)


@pytest.mark.parametrize("row", JUDGED, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}-{row[3]}")
def test_the_oracle(row: tuple[str, float, float, Any, str]) -> None:
    """Each kind of login that is wrong is seen to be so, and no other."""
    *login, fault = row
    assert judge(HISTORY, _login(*login)).fault == fault


@pytest.mark.parametrize(
    ("begin", "place", "fault"),
    [(42, 2, ""), (42, 9, "other"), (71, 9, ""), (71, 2, ""), (73, 9, "other"), (58, 3, "other")],
)
def test_the_oracle_knows_where_a_login_comes_from(begin: float, place: int, fault: str) -> None:
    """From inside of job 2: that one, unless the slurmd there was away."""
    assert judge(HISTORY, _login("several1", begin, begin + 0.5, place, source=2)).fault == fault


def test_a_login_that_waits_for_its_suspended_job_is_not_late() -> None:
    """The time that its job is suspended is its job's."""
    history = History([Job(1, "one1", "n1", asked=0, up=1, pauses=[Span(10, 110)])], [])
    assert not judge(history, _login("one1", 5, 120, 1)).fault
    assert judge(History(JOBS, []), _login("one1", 10, 120, 7)).fault == "late"


LINE = "00:00:00.000 authpriv.err sshd[1]: pam_slurm_adopt(sshd:account): user {} (uid 5): {}"


@pytest.mark.parametrize(
    ("user", "text", "at", "expected"),
    [
        ("one1", "adopt failure: … in 3.0 ms", 51, True),
        ("one1", "adopt failure: … in 3.0 ms", 30, False),
        ("one1", "generic failure: … in 3.0 ms", 12, True),
        ("one1", "unexpected KeyError at … (please report this) in 3.0 ms", 12, False),
        ("nobody", "stepd of job 4 (of uid 9): broke the connection in 3.0 ms", 21, True),
        ("nobody", "stepd of job 4 (of uid 9): broke the connection in 3.0 ms", 40, False),
    ],
)
def test_lines_that_a_change_explains(user: str, text: str, at: float, expected: bool) -> None:
    """Those about a job that something happened to, or while slurm.conf is half written."""
    assert explained(HISTORY, LINE.format(user, text), at) is expected


def test_a_job_that_never_ran_is_sure_at_no_time() -> None:
    """It may have been there; nothing more is known."""
    job = Job(1, "one1", "n1", asked=5)
    assert not job.sure(Span(6, 7))
    assert job.here == Span(5, math.inf)
