"""Reader for Slurm's two byte formats: bounds checked, every field named in errors.

Network messages are big-endian (slurm src/common/pack.c); the stepd's unix socket carries C
objects of this machine, so native order (src/common/stepd_api.c). `str` is a u32 length that
counts a trailing NUL, then the bytes, length 0 meaning NULL; `mem` is a u32 length and raw bytes.
"""

from __future__ import annotations

import sys

from .errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

NATIVE: Literal["little", "big"] = sys.byteorder


class Reader:
    """Takes fields off the front of one message; `what` names the message in errors."""

    __slots__ = ("_data", "_offset", "_order", "_what")

    def __init__(self, data: bytes, what: str, order: Literal["little", "big"] = "big") -> None:
        """Read `data` from its first byte."""
        self._data = data
        self._offset = 0
        self._order: Literal["little", "big"] = order
        self._what = what

    def take(self, size: int, field: str) -> bytes:
        """Take `size` raw bytes; FormatError if the message ends before."""
        left = self.left()
        if size > left:
            raise FormatError(f"{self._what}: {field} needs {size} bytes, {left} are left")
        start = self._offset
        self._offset += size
        return self._data[start : self._offset]

    def left(self) -> int:
        """Return the number of bytes not taken yet."""
        return len(self._data) - self._offset

    def uint(self, size: int, field: str) -> int:
        """Take an unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size, field), self._order)

    def int32(self, field: str) -> int:
        """Take a signed integer of 4 bytes."""
        return int.from_bytes(self.take(4, field), self._order, signed=True)

    def u16(self, field: str) -> int:
        """Take an unsigned integer of 2 bytes."""
        return self.uint(2, field)

    def u32(self, field: str) -> int:
        """Take an unsigned integer of 4 bytes."""
        return self.uint(4, field)

    def mem(self, field: str, limit: int) -> bytes:
        """Take a u32 length of at most `limit`, then that many bytes."""
        size = self.u32(f"length of {field}")
        if size > limit:
            raise FormatError(f"{self._what}: {field} is {size} bytes long, the limit is {limit}")
        return self.take(size, field)

    def string(self, field: str, limit: int) -> str | None:
        """Take a packed string without its NUL; None for NULL. Not UTF-8 is an error."""
        raw = self.mem(field, limit)
        if not raw:
            return None
        if raw[-1] or 0 in raw[:-1]:
            raise FormatError(f"{self._what}: {field} is not one NUL-terminated string")
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError:
            raise FormatError(f"{self._what}: {field} is not text") from None

    def check_end(self) -> None:
        """Trailing bytes are an error."""
        if self.left():
            raise FormatError(f"{self._what}: {self.left()} bytes too many")
