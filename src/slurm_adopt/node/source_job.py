"""Which job a login comes from: the slurmd at the other end of its connection is asked."""

from __future__ import annotations

import os

from slurm_adopt.slurm import auth
from slurm_adopt.slurm.config import slurmd_ports
from slurm_adopt.slurm.errors import PeerError
from slurm_adopt.slurm.slurmd import callerid
from slurm_adopt.slurm.versions import RELEASES
from slurm_adopt.slurm.waiting import Deadline

from . import own_address, ssh_connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.decision.login import Login

    from .phase import Phase
    from .ssh_connection import Connection

NOTES = "/run/slurm_adopt/unreached"  # of places where nothing takes a connection (unreached.py)


def ask(login: Login, protocol: int, phase: Phase) -> int | None:
    """Return the job that holds the other end of the login's connection; None if none does.

    `protocol`: of the newest stepd here, 0 if none answered. PeerError or SetupError with the
    reason where that cannot be asked or was not answered; all of it within callerid_timeout.
    """
    deadline = Deadline(phase.options.seconds("callerid_timeout"))
    connection, remark = ssh_connection.find(login, deadline=deadline)
    if connection is None:
        raise PeerError(f"source unknown: {remark}")
    if remark:
        phase.log.info(f"source: {remark}; the socket from {connection.source} is used")
    return _ask(connection, protocol or RELEASES[-1].protocol, phase, deadline, NOTES)


def ask_about(connection: Connection, protocol: int, phase: Phase) -> int | None:
    """Return the job that holds the other end of a connection, as ask() does for a login's.

    Without notes: it is asked whatever happened before, and nothing is written.
    """
    deadline = Deadline(phase.options.seconds("callerid_timeout"))
    return _ask(connection, protocol or RELEASES[-1].protocol, phase, deadline)


def _ask(
    connection: Connection, protocol: int, phase: Phase, deadline: Deadline, notes: str = ""
) -> int | None:
    slurm_conf, trusted = phase.site.conf, phase.site.trusted
    if why := callerid.encrypted(slurm_conf, protocol):
        raise PeerError(why)
    plugin = auth.of(slurm_conf)
    asked = places(connection, phase, deadline)
    passed = _noted(asked, notes)
    asked = [place for place in asked if place not in passed]
    job_id = None
    if asked:
        phase.log.debug(
            f"asking {', '.join(f'{address} port {port}' for address, port in asked)} about "
            f"{connection}, protocol {protocol}, {plugin.plugin_name}"
        )
        cluster = callerid.Cluster(protocol, plugin, trusted)
        job_id = callerid.ask_each(
            connection, asked, cluster, deadline, lambda place: _leave(place, notes, phase)
        )
    if job_id is None and passed:
        from . import unreached

        raise unreached.not_asked(passed)
    return job_id


def _noted(asked: list[tuple[str, int]], notes: str) -> dict[tuple[str, int], float]:
    """Return the places that nobody has reached a moment ago, and when that was."""
    if not notes or not os.path.isdir(notes):
        return {}
    from . import unreached

    return unreached.noted(asked, notes)


def _leave(place: tuple[str, int], notes: str, phase: Phase) -> None:
    if not notes:
        return
    from . import unreached

    try:
        unreached.leave(place, notes)
    except OSError as error:
        phase.log.debug(f"cannot write {notes}: {error.strerror}; the next login waits as well")


def places(connection: Connection, phase: Phase, deadline: Deadline) -> list[tuple[str, int]]:
    """Return addresses and ports at which slurmds are asked about a connection, in their order."""
    slurm_conf = phase.site.conf
    found: list[tuple[str, int]] = []
    if own_address.is_own(connection.source):
        all_ports = slurmd_ports.all_ports(slurm_conf)
        found = own_address.places(connection, all_ports, phase.site.trusted, deadline)
    if not found:
        ports = slurmd_ports.ports_at(slurm_conf, connection.source)
        found = [(connection.source, port) for port in ports]
    return found
