"""One point in time by which a wait must have ended, and smaller ones inside it."""

from __future__ import annotations

from time import monotonic


class Deadline:
    """A point on the monotonic clock; created from seconds from now."""

    __slots__ = ("at",)

    def __init__(self, seconds: float) -> None:
        """Start now and end after `seconds`."""
        self.at = monotonic() + seconds

    def left(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - monotonic())

    def within(self, seconds: float) -> Deadline:
        """Return the earlier of this deadline and `seconds` from now."""
        return Deadline(min(seconds, self.left()))
