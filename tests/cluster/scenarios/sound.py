"""What check says of a node's Slurm where nothing is wrong: the same on each release."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

# Without the command itself, since not every suite has what that needs.
RUN = """
import json
from slurm_adopt.cli.checks.host import Host
from slurm_adopt.cli.checks.runner import run
from slurm_adopt.cli.checks.table import CHECKS
ours = [check for check in CHECKS if "SA300" < check.code < "SA700"]
print(json.dumps([[each.code, each.result, each.title, each.found]
                  for each in run(ours, Host(nodes=""))]))
"""
# What is said of a node with a job: it has been looked at, and not been left out.
LOOKED_AT = ("SA404", "SA405", "SA411", "SA412", "SA413", "SA416", "SA501", "SA504", "SA611")


def report(node: Host) -> list[list[str]]:
    """Return code, result, title and what was found, of each finding."""
    argv = ["env", "PYTHONPATH=/checkout/src", "python3", "-B", "-c", RUN]
    said: list[list[str]] = json.loads(node.run(argv, timeout=60).stdout)
    return said


def nothing_is_wrong(cluster: Cluster) -> None:
    """Check finds no fault of Slurm's on a sound node, with jobs and without."""
    for with_job in (False, True):
        if with_job:
            cluster.submit("alice", "n1,n2")
        for node in cluster.nodes:
            said = report(node)
            assert [each for each in said if each[1] in ("warning", "error")] == []
            if with_job:
                results = {code: result for code, result, _, _ in said if code in LOOKED_AT}
                assert results == dict.fromkeys(LOOKED_AT, "ok"), said
    cluster.cancel_all()
