"""A stepd that does not answer, since it is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.background import Background

if TYPE_CHECKING:
    from tests.cluster.harness.login import Machine


class Stopped(Background):
    """A process of a machine, stopped; it goes on in the end."""

    def __init__(self, machine: Machine, pid: str) -> None:
        """Say which."""
        self.machine = machine
        self.pid = pid

    def start(self) -> None:
        """Stop it."""
        self.machine.run(["kill", "-STOP", self.pid])

    def end(self) -> None:
        """Let it go on."""
        self.machine.run(["kill", "-CONT", self.pid])
