"""Functions of libc that Python itself does not have, with int arguments.

Not by ctypes but by what that is made of, which takes a seventh of the time to import. And ctypes
makes a function for C at its import, which SELinux may forbid.
"""

from __future__ import annotations

import os
from _ctypes import (
    FUNCFLAG_CDECL,
    FUNCFLAG_USE_ERRNO,
    CFuncPtr,
    dlopen,
    dlsym,
    get_errno,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO


def function(name: str) -> Callable[..., int]:
    """Return one that sets errno where it returns less than 0: that raises OSError here, too."""
    of_libc = _Function(dlsym(dlopen(None, 0), name))  # type: ignore[arg-type]

    def call(*numbers: int) -> int:
        returned = int(of_libc(*numbers))
        if returned < 0:
            number = get_errno()
            raise OSError(number, os.strerror(number))
        return returned

    return call
