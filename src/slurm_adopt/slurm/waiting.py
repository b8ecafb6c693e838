"""One point in time by which a wait must have ended, and smaller ones inside it.

A peer that many ask at once answers late and is not silent. So a wait for a stepd has two ends:
after so long a silence, which every sign of life begins again, and by a point in time in any case.
"""

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

    def renew(self, *, alive: bool = True) -> None:
        """Begin a silence again, after a sign of life or not: this kind stays where it is."""

    def last(self) -> float:
        """Seconds left if there are signs of life until the end."""
        return self.left()

    @property
    def renews(self) -> bool:
        """Whether a sign of life would make it later."""
        return False

    @property
    def lapsed(self) -> str:
        """How it came to its end, if that was not by silence alone; for messages."""
        return ""


class Patience(Deadline):
    """A deadline that each sign of life of the peer's makes later, up to a last point in time."""

    __slots__ = ("_alive", "_last", "_longest", "_silence")

    def __init__(self, silence: float, longest: float) -> None:
        """`silence`: seconds without a sign; `longest`: seconds in any case."""
        super().__init__(min(silence, longest))
        self._silence = silence
        self._longest = longest
        self._alive = False
        self._last = monotonic() + longest

    def renew(self, *, alive: bool = True) -> None:
        """Begin the silence again; `alive`: since there was a sign of life."""
        self._alive = alive
        self.at = min(monotonic() + self._silence, self._last)

    def last(self) -> float:
        """Seconds left if there are signs of life until the end."""
        return max(0.0, self._last - monotonic())

    @property
    def renews(self) -> bool:
        """Whether a sign of life would make it later."""
        return self.at < self._last

    @property
    def lapsed(self) -> str:
        """Say so where signs of life have made it as late as it can be."""
        last = self._alive and not self.renews
        return f" within {self._longest:g} s, though it is alive" if last else ""
