"""The signals that end a program, made as harmless as Ctrl-C: what is up comes down."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    Leave = Callable[[int], NoReturn]


def heed(leave: Leave, *, once: bool = False) -> None:
    """Call `leave` with the first SIGTERM or SIGHUP, and have SIGINT interrupt.

    `once`: SIGINT counts as one of them, for a process that several may tell to end.

    A shell starts its background jobs with SIGINT ignored. Who says nohup means it.
    """
    ending = [signal.SIGTERM, *([signal.SIGINT] if once else [])]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        ending.append(signal.SIGHUP)

    def ended(signum: int, _frame: object) -> NoReturn:
        for one in ending:  # a second one would break the cleaning up
            signal.signal(one, signal.SIG_IGN)
        leave(signum)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for one in ending:
        signal.signal(one, ended)
