"""A node n1 whose files are below a directory of the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from slurm_adopt.decision.options import parse
from slurm_adopt.node import adopting, moving, node
from slurm_adopt.node.slurm_site import SlurmSite
from slurm_adopt.slurm import auth
from tests.fakes import slurmd
from tests.fakes.log import Lines

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from slurm_adopt.system.log import Log
    from tests.fakes.tree import Tree


UID, PID = 5001, 42

check_alive = moving.check_alive


def made(top: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, account_of: str = "") -> node.Node:
    """Return a node n1 with its files below a directory; in the account phase of a service."""
    text = f"NodeName=n1\nSlurmdSpoolDir={top}\nAuthType=auth/test\n"
    (top / "slurm.conf").write_text(text)
    options, _ = parse([f"slurm_conf={top}/slurm.conf"])
    here = node.Node(options, cast("Log", Lines()), "n1", account_of)
    monkeypatch.setitem(cast("dict[str, Any]", auth.PLUGINS), "auth/test", lambda _: slurmd.Auth())
    # PID is of the tree: it need not be there
    monkeypatch.setattr(adopting, "session_process", lambda _: PID)
    for module in (adopting, moving):
        monkeypatch.setattr(module, "check_alive", lambda one: one.pid == PID or check_alive(one))
    monkeypatch.setattr(SlurmSite, "layout", lambda _: tree.layout(""))
    return here
