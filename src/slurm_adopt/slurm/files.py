"""Reading a file whole: bounded, and never waiting for one that is not a regular file."""

from __future__ import annotations

import os
import stat

from .errors import SetupError


def read(path: str, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; SetupError says why not."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise SetupError(f"cannot read {path}: it is not a regular file")
            with open(fd, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > limit:
        raise SetupError(f"cannot read {path}: it is larger than {limit} bytes")
    return data
