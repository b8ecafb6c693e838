"""What is started for a test and ended with it: the one base of stand-ins, hosts' programs, logins.

Stand-ins inside hosts import this, so it needs nothing but the standard library.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Background(ABC):
    """`with` starts it and ends it, also where it could not be started wholly."""

    def start(self) -> None:  # noqa: B027 - a choice
        """Start; nothing where it began as it was made."""

    @abstractmethod
    def end(self) -> None:
        """End it; may be called again, and where it was not started."""

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.end()
