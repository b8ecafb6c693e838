"""Runs checks: each with a deadline of its own; an exception is a finding."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from slurm_adopt.cli.deadlines import BRISK, WHOLE
from slurm_adopt.decision.engine import our_mistake

from .finding import Check, Finding, Seen, finding, warning
from .host import LateError, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .host import Host


def run(checks: Iterable[Check], host: Host, seconds: float | None = None) -> Iterator[Finding]:
    """Yield what each check finds, in their order; none begins after some seconds."""
    end = time.monotonic() + (seconds or (BRISK if host.quick else WHOLE))
    for check in checks:
        if host.quick and not check.quick:
            continue
        started = time.monotonic()
        seen = _look(check, host, end - started)
        took = time.monotonic() - started
        for each in seen:
            yield finding(check, each, took)


def _look(check: Check, host: Host, left: float) -> list[Seen]:
    if left <= 0:
        return [warning(f"{check.name}: not looked at, since the checks before took too long")]
    try:
        seen = within(min(check.seconds, left), lambda: list(check.look(host)))
    except LateError:
        return [warning(f"{check.name}: not known within {check.seconds:g} s")]
    except Exception as wrong:  # noqa: BLE001 - a check that fails is a finding
        return [warning(f"{check.name}: the check itself has failed", our_mistake(wrong))]
    return seen or [warning(f"{check.name}: the check itself has failed", "it has seen nothing")]
