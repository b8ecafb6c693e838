"""Which job a login comes from: the slurmd at the other end of its connection is asked."""

from __future__ import annotations

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
    return _ask(connection, protocol or RELEASES[-1].protocol, phase, deadline)


def ask_about(connection: Connection, protocol: int, phase: Phase) -> int | None:
    """Return the job that holds the other end of a connection, as ask() does for a login's."""
    deadline = Deadline(phase.options.seconds("callerid_timeout"))
    return _ask(connection, protocol or RELEASES[-1].protocol, phase, deadline)


def _ask(connection: Connection, protocol: int, phase: Phase, deadline: Deadline) -> int | None:
    slurm_conf, trusted = phase.site.conf, phase.site.trusted
    if why := callerid.encrypted(slurm_conf, protocol):
        raise PeerError(why)
    plugin = auth.of(slurm_conf)
    asked = places(connection, phase, deadline)
    phase.log.debug(
        f"asking {', '.join(f'{address} port {port}' for address, port in asked)} about "
        f"{connection}, protocol {protocol}, {plugin.plugin_name}"
    )
    cluster = callerid.Cluster(protocol, plugin, trusted)
    return callerid.ask_each(connection, asked, cluster, deadline)


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
