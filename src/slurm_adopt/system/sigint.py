"""Imports that leave SIGINT to the program that runs us.

The first import of Python's `_signal`, which `signal` and all that use it import, takes SIGINT
where that has its default, and gives it back when Python ends (Modules/signalmodule.c). pam_python
starts Python without that, so it would be the login that does it to sshd.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False


class Spared:
    """A `with` block: imports in it do not change what SIGINT does."""

    __slots__ = ("_first",)

    def __enter__(self) -> None:
        """Note whether the import in question has been made already."""
        self._first = "_signal" not in sys.modules

    def __exit__(self, *_: object) -> None:
        """Give SIGINT its default back if it has just been taken."""
        if self._first and "_signal" in sys.modules:
            if TYPE_CHECKING:
                import signal
            else:
                import _signal as signal

            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
