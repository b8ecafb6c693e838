"""X11: a client in a session reaches the X server of the user who started the job by --x11."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.scenarios import x11
from tests.cluster.scenarios.login_methods import KBDINT, STRICT
from tests.cluster.scenarios.x11 import (
    FAR,
    LOOK,
    OF_JOB,
    OF_SSH,
    STARTERS,
    job,
    look,
    reaches_the_far_server,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster


@pytest.fixture
def display(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with Slurm's X11 forwarding, and an X server of alice's."""
    with x11.display(cluster):
        yield cluster


@pytest.mark.parametrize("starter", STARTERS, ids=" ".join)
def test_a_job_with_x11(display: Cluster, starter: Sequence[str]) -> None:
    reaches_the_far_server(display, starter)


@pytest.mark.parametrize("disabled", [0, 1])
def test_a_job_without_x11(display: Cluster, disabled: int) -> None:
    """What ssh has set stays."""
    display.pam(pam.with_module(f"disable_x11={disabled}"))
    with job(display, STARTERS[0]):
        assert look(display)[:2] == ("", "none")
        alone = look(display, "-X")
        assert OF_SSH.fullmatch(alone[0]), alone
        assert alone[1:] == ("none", FAR)


# With an account line of ours as well, that one has set the variables for most methods.
@pytest.mark.parametrize("method", ["publickey", KBDINT])
def test_the_session_line(display: Cluster, method: str) -> None:
    """It sets the variables where it is alone."""
    display.pam([*pam.stack(), *pam.session_lines(*STRICT)])
    with job(display, STARTERS[0], "--x11"):
        shown, authority, server = look(display, method=method)
        assert OF_JOB.fullmatch(shown), shown
        assert authority.startswith("/tmp/.Xauthority-")
        assert server == FAR


def test_the_cookie_is_needed(display: Cluster) -> None:
    """The stand-in refuses who has none, so an answer of it says that XAUTHORITY is right."""
    display.pam(pam.with_module())
    with job(display, STARTERS[0], "--x11"):
        without = LOOK.replace("python3", "XAUTHORITY=/tmp/none python3")
        done = display.ssh("alice", command=without)
    assert done.rc != 0
    assert "wrong cookie" in done.err
