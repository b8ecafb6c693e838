"""Writer for Slurm's two byte formats, which wire.py reads."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal


class Writer:
    """Collects fields of one message."""

    __slots__ = ("_order", "_parts")

    def __init__(self, order: Literal["little", "big"] = "big") -> None:
        """Start with no bytes."""
        self._parts: list[bytes] = []
        self._order: Literal["little", "big"] = order

    def raw(self, data: bytes) -> Writer:
        """Add bytes as they are."""
        self._parts.append(data)
        return self

    def uint(self, size: int, value: int) -> Writer:
        """Add an unsigned integer of `size` bytes."""
        return self.raw(value.to_bytes(size, self._order))

    def u16(self, value: int) -> Writer:
        """Add an unsigned integer of 2 bytes."""
        return self.uint(2, value)

    def u32(self, value: int) -> Writer:
        """Add an unsigned integer of 4 bytes."""
        return self.uint(4, value)

    def int32(self, value: int) -> Writer:
        """Add a signed integer of 4 bytes."""
        return self.raw(value.to_bytes(4, self._order, signed=True))

    def mem(self, data: bytes) -> Writer:
        """Add a u32 length and the bytes."""
        return self.u32(len(data)).raw(data)

    def string(self, text: str | None) -> Writer:
        """Add a packed string; None is NULL."""
        return self.mem(b"" if text is None else text.encode() + b"\0")

    def data(self) -> bytes:
        """Return all bytes added so far."""
        return b"".join(self._parts)
