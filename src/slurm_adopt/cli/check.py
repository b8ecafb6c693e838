"""`slurm-adopt check`: whether this node is ready."""

from __future__ import annotations

import click

from .checks.host import Host
from .checks.runner import run
from .checks.table import CHECKS
from .output import as_json, line

SCHEMA = 1


@click.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def command(json_: bool) -> int:
    """Is this node ready? Each finding says where it is and what to do."""
    findings = list(run(CHECKS, Host()))
    if json_:
        as_json({"schema": SCHEMA, "findings": [each.as_dict() for each in findings]})
        return 0
    for each in findings:
        line(f"{each.code} {each.result}: {each.title}")
    return 0
