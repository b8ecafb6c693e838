"""This host as the checks see it: what several of them need is looked up once.

A look at a dead file system may never return. So each runs in a thread of its own, with a deadline;
who needs the same again hears at once that it has timed out.
"""

from __future__ import annotations

import os
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from slurm_adopt.cli.deadlines import SHARED
from slurm_adopt.cli.verdict.pam_line import PHASES
from slurm_adopt.cli.verdict.remarks import Remarks
from slurm_adopt.decision.options import Options, parse
from slurm_adopt.node import pam_files
from slurm_adopt.node.phase import Phase

if TYPE_CHECKING:
    from slurm_adopt.node.slurm_site import SlurmSite

Found = TypeVar("Found")


class LateError(Exception):
    """A look has not ended within its deadline."""


def within(seconds: float, look: Callable[[], Found]) -> Found:
    """Return what a function returns, or raise what it raises; LateError after some seconds.

    Then its thread goes on: whoever runs checks ends by os._exit.
    """
    came: list[Any] = []

    def run() -> None:
        try:
            came.append((look(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised below
            came.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not came:
        raise LateError(f"not within {seconds:g} s")
    found, wrong = came[0]
    if wrong is not None:
        raise wrong
    return found  # type: ignore[no-any-return]


class Host:
    """What checks ask for; all of it is read when it is first asked for, and once."""

    def __init__(
        self,
        service: str = "sshd",
        users: tuple[str, ...] = (),
        *,
        quick: bool = False,
        nodes: str | None = None,
    ) -> None:
        """`users`: whose logins are of interest; none: those who have jobs here.

        `quick`: no network, and nothing that takes long. `nodes`: a host list of other nodes to
        ask, "" for all that slurm.conf has; None: they are not asked.
        """
        self.service = service
        self.users = users
        self.quick = quick
        self.nodes = nodes
        self.is_root = os.geteuid() == 0
        self.remarks = Remarks()
        self._kept: dict[str, tuple[Any, BaseException | None]] = {}

    def once(self, name: str, look: Callable[[], Found], seconds: float = SHARED) -> Found:
        """Return what a function returns; it is called once for each name, whatever comes of it."""
        if name not in self._kept:
            try:
                self._kept[name] = within(seconds, look), None
            except BaseException as error:  # noqa: BLE001 - kept for all who ask
                self._kept[name] = None, error
        found, wrong = self._kept[name]
        if wrong is not None:
            raise wrong
        return found  # type: ignore[no-any-return]

    # PAM

    def stack(self, phase: str) -> pam_files.Stack:
        """Return the lines of the service's account, session, auth or password stack."""
        return self.once(
            f"stack {phase}", lambda: pam_files.read(phase, self.service, pam_files.PLACES)
        )

    def our_lines(self, phase: str) -> list[pam_files.Line]:
        """Return this module's lines in a stack, in their order."""
        stack = self.stack(phase)
        return [stack.lines[index] for index in stack.ours]

    def all_our_lines(self) -> list[pam_files.Line]:
        """Return those of the account stack, then those of the session stack."""
        return [line for phase in PHASES for line in self.our_lines(phase)]

    @cached_property
    def options(self) -> Options:
        """The options of the first of our lines, account before session; else the defaults."""
        for line in self.all_our_lines():
            return parse(line.ours or [])[0]
        return Options({"service": self.service})

    # Slurm

    @cached_property
    def phase(self) -> Phase:
        """A phase with the options of our line, whose log is `remarks`."""
        return Phase(self.options, self.remarks, "", "")

    @property
    def site(self) -> SlurmSite:
        """Where this host's Slurm is; SetupError in its properties where that cannot be told."""
        return self.phase.site
