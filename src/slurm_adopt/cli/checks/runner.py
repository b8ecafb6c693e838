"""Runs checks: each with a deadline of its own; an exception is a finding."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from slurm_adopt.decision.engine import our_mistake

from .finding import Check, Finding, Seen, error, finding, warning
from .host import LateError, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .host import Host


def run(checks: Iterable[Check], host: Host) -> Iterator[Finding]:
    """Yield what each check finds, in their order."""
    for check in checks:
        if host.quick and not check.quick:
            continue
        started = time.monotonic()
        seen = _look(check, host)
        seconds = time.monotonic() - started
        for each in seen:
            yield finding(check, each, seconds)


def _look(check: Check, host: Host) -> list[Seen]:
    try:
        return within(check.seconds, lambda: list(check.look(host)))
    except LateError:
        return [error(f"{check.name}: not known within {check.seconds:g} s")]
    except Exception as wrong:  # noqa: BLE001 - a check that fails is a finding
        return [warning(f"{check.name}: the check itself has failed", our_mistake(wrong))]
