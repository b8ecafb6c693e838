"""`slurm-adopt check`: whether this node is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slurm_adopt.cli import complete, output, textfile
from slurm_adopt.cli.accounts import uid_of
from slurm_adopt.cli.errors import CliError
from slurm_adopt.cli.verdict.pam_line import service_of
from slurm_adopt.slurm.config import hostlist
from slurm_adopt.slurm.errors import SetupError

from . import metrics, report, saved
from .host import Host
from .report import Report
from .runner import run
from .table import CHECKS
from .would_decide import would_decide

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .finding import Check

ALL_NODES = "all"
OF_THIS_NODE = ("users", "service", "quick", "nodes", "prometheus")  # not with --input


def _complete_only(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    names = [*(check.code for check in CHECKS), *_categories(CHECKS)]
    return [name for name in names if name.casefold().startswith(incomplete.casefold())]


@click.command()
@click.option("--user", "users", multiple=True, metavar="USER", shell_complete=complete.users,
              help="Say what a login of this user would come to now. May be given several times. "
              "Default: all users who have jobs here.")  # fmt: skip
@click.option("--service", metavar="NAME", help="The PAM service to look at. Default: sshd.")
@click.option("--quick", is_flag=True,
              help="Use no network and run only quick checks: for health checks.")  # fmt: skip
@click.option("--nodes", metavar="[LIST]", is_flag=False, flag_value=ALL_NODES,
              help="Ask the slurmds of other nodes as well, as a login from there would: those of "
              "a host list such as n[1-4], or all of slurm.conf.")  # fmt: skip
@click.option("--only", multiple=True, metavar="CODE", shell_complete=_complete_only,
              help="Run this check alone, such as SA301, or those of this category, such as PAM. "
              "May be given several times.")  # fmt: skip
@click.option("--fail-on", type=click.Choice(["error", "warning"]), default="warning",
              show_default=True,
              help="What the exit status counts: with error, warnings alone are 0.")  # fmt: skip
@click.option("--input", "file", metavar="FILE",
              help="Show and judge what --json has printed earlier, of one node or of many, and "
              "look at nothing here. -: standard input.")  # fmt: skip
@click.option("--prometheus", metavar="FILE",
              help="Also write the results for node_exporter's textfile collector: a file that "
              "ends in .prom, replaced as a whole.")  # fmt: skip
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    users: tuple[str, ...],
    service: str | None,
    quick: bool,
    nodes: str | None,
    only: tuple[str, ...],
    fail_on: str,
    file: str | None,
    prometheus: str | None,
    json_: bool,
) -> int:
    """Is this node ready? Each finding says where it is and what to do.

    The first line says it all in 80 characters. Then come the findings by category, and what would
    be decided now. Nodes that are alike print the same.

    Exit status: 0 all is well, 1 there are warnings, 2 there are errors, 3 wrong usage, or the
    check could not be run.
    """
    if file is not None:
        if given := [name for name in OF_THIS_NODE if ctx.params[name]]:
            name = given[0].replace("users", "user")
            raise CliError(f"--{name} is about this node: it does not go with --input")
        reports = [_part_of(each, only) for each in saved.read(file)]
    else:
        host = _host(users, service, quick, nodes)
        checks = _chosen(only)
        findings = list(run(checks, host))
        reports = [Report(findings, would_decide(host) if users or not only else [])]
    if json_:
        for each in reports:
            for _ in range(each.number):
                output.as_json(_as_dict(each))
    else:
        output.styled(report.text(reports, output.arrow(), output.width()))
    if prometheus:
        textfile.write(prometheus, metrics.lines(reports[0].findings))
    return report.status_of(reports, fail_on)


def _host(users: tuple[str, ...], service: str | None, quick: bool, nodes: str | None) -> Host:
    """Return what the checks look at; CliError for what is not there."""
    for user in users:
        if uid_of(user) is None:
            raise CliError(f"no user {user} on this host (see getent passwd {user})")
    if nodes is not None and quick:
        raise CliError("--nodes needs the network, which --quick does without")
    return Host(service_of(service), users, quick=quick, nodes=_host_list(nodes))


def _host_list(nodes: str | None) -> str | None:
    """Return a host list that is well formed, "" for all nodes."""
    if nodes is None or nodes == ALL_NODES:
        return None if nodes is None else ""
    try:
        names = hostlist.expand(nodes)
    except (SetupError, ValueError) as error:
        raise CliError(f"--nodes: {error}") from None
    if not all(names):
        raise CliError(f"--nodes: an empty name in {nodes!r}")
    return nodes


# Some of the checks


def _categories(checks: Iterable[Check]) -> list[str]:
    return list(dict.fromkeys(check.category for check in checks))


def _chosen(only: tuple[str, ...]) -> list[Check]:
    """Return the checks of some codes and categories, in their order; all if none is given."""
    for name in only:
        if not any(_is_of(name, check.code, check.category) for check in CHECKS):
            known = ", ".join(_categories(CHECKS))
            raise CliError(f"--only {name}: no check and no category (there are {known})")
    return [check for check in CHECKS if not only or _any_of(only, check.code, check.category)]


def _part_of(each: Report, only: tuple[str, ...]) -> Report:
    """Return the part of a saved report that is asked for."""
    if not only:
        return each
    findings = [one for one in each.findings if _any_of(only, one.code, one.category)]
    return each._replace(findings=findings, decisions=[])


def _any_of(only: tuple[str, ...], code: str, category: str) -> bool:
    return any(_is_of(name, code, category) for name in only)


def _is_of(name: str, code: str, category: str) -> bool:
    return name.casefold() in (code.casefold(), category.casefold())


def _as_dict(each: Report) -> dict[str, object]:
    return {
        "schema": saved.SCHEMA,
        "findings": [finding.as_dict() for finding in each.findings],
        "would_decide": [decision.as_dict() for decision in each.decisions],
    }
