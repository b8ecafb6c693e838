"""Reading files whole or in pieces: bounded, never waiting for what is not a regular file."""

from __future__ import annotations

import os
import stat

from .errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PART = 1 << 16  # bytes: a buffer as large as a limit would need the memory, too
_TEXT = 28 << 10  # bytes: what is made of so much lies in memory that malloc() does not give back


def read(path: str, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; SetupError says why not."""
    return b"".join(_read(path, limit, _PART))


def texts(path: str, limit: int) -> Iterator[bytes]:
    """Yield the same in pieces of some 28 KB: memory that is new costs more than what is done here.

    Each but the last ends with a line that has no backslash, so that none goes on in the next one.
    """
    pending: list[bytes] = []
    for part in _read(path, limit, _TEXT):
        end = part.rfind(b"\n") + 1
        begin = part.rfind(b"\n", 0, max(end - 1, 0)) + 1
        if begin and b"\\" not in part[begin:end]:
            yield b"".join((*pending, part[:end]))
            pending = [part[end:]]
        else:
            pending.append(part)
    yield b"".join(pending)


def _read(path: str, limit: int, size: int) -> Iterator[bytes]:
    """Yield the bytes of a file, at most `size` of them at a time."""
    left = limit
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise SetupError(f"cannot read {path}: it is not a regular file")
            while part := os.read(fd, min(size, left + 1)):
                left -= len(part)
                if left < 0:
                    raise SetupError(f"cannot read {path}: it is larger than {limit} bytes")
                yield part
        finally:
            os.close(fd)
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name, as another file may give it
        raise SetupError(f"cannot read {path}: {error}") from None


def beginning(fd: int, size: int) -> bytes:
    """Return the first bytes of what a descriptor has, at most `size` of them."""
    parts: list[bytes] = []
    while part := os.read(fd, min(_PART, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def words(path: str, limit: int) -> list[list[str]]:
    """Return the words of each line of a file without its comments; none where it cannot be read.

    Lines end and words part where they do for the C library. str has more ends of lines and more
    blanks, and would take what follows one of them out of a comment.
    """
    try:
        lines = read(path, limit).split(b"\n")
    except SetupError:
        return []
    parted = (line.partition(b"#")[0].split() for line in lines)
    return [[word.decode("utf-8", "surrogateescape") for word in line] for line in parted]
