"""Waiting with an end and a reason."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


# On a slow machine (one emulated in software, say) every wait may last this many times as long.
PATIENCE = float(os.environ.get("SLURM_ADOPT_PATIENCE") or 1)


class NotInTimeError(TimeoutError):
    """What was waited for did not come; the message says what, and shows the logs."""


def wait_for(
    what: str,
    probe: Callable[[], T | None],
    timeout: float = 10,
    details: Callable[[], str] = lambda: "",
    every: float = 0.02,
) -> T:
    """Call `probe` until it returns something true; return that."""
    deadline = time.monotonic() + timeout * PATIENCE
    while not (value := probe()):
        if time.monotonic() > deadline:
            raise NotInTimeError(f"not within {timeout:g} s: {what}\n{details()}".rstrip())
        time.sleep(every)
    return value
