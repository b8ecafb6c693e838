"""REQUEST_NETWORK_CALLERID: ask the slurmd at the other end of a connection which job owns it.

Sources: src/common/slurm_protocol_pack.c, src/slurmd/slurmd/req.c (_rpc_network_callerid). The
slurmd looks for the connection in its own /proc/net/tcp and for the process that holds it. The
answer says nothing about permission: the caller must check that the job is the user's and is here.
"""

from __future__ import annotations

import _socket

from slurm_adopt.slurm.errors import FormatError, PeerError
from slurm_adopt.slurm.stream import UnreachedError
from slurm_adopt.slurm.versions import layout_of
from slurm_adopt.slurm.wire import Reader
from slurm_adopt.slurm.writer import Writer

from .message import read_layout
from .rpc import Slurmd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Callable, Protocol

    from slurm_adopt.slurm.auth.credential import Auth
    from slurm_adopt.slurm.config.conf import Conf
    from slurm_adopt.slurm.waiting import Deadline

    from .message import Message

    class Connection(Protocol):
        """A TCP connection of this node, as login.Connection."""

        @property
        def family(self) -> int:
            """AF_INET or AF_INET6."""

        @property
        def source(self) -> str:
            """Address of the other end, numeric."""

        @property
        def source_port(self) -> int:
            """Port of the other end."""

        @property
        def destination(self) -> str:
            """Address of this end, numeric."""

        @property
        def destination_port(self) -> int:
            """Port of this end."""

        @property
        def link_local(self) -> bool:
            """Whether the source is an address of one link only."""


# fmt: off
REQUEST_NETWORK_CALLERID  = 5035
RESPONSE_NETWORK_CALLERID = 5036

NO_VAL   = 0xFFFFFFFE  # slurm/slurm.h; as job id: not found, or not for this asker
INFINITE = 0xFFFFFFFF
# fmt: on
_NODE_NAME_LIMIT = 1024  # bytes
_ADDRESS = 16  # bytes an address takes, of either family
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96


def request_body(connection: Connection, *, mapped: bool = False) -> bytes:
    """Return the 52 bytes that name a connection, the same in every release.

    mem source, mem destination (16 bytes each, IPv4 in the first 4), u32 source port, u32
    destination port, u32 address family. `mapped`: IPv4 as an IPv6 socket there has it.
    """
    body = Writer()
    prefix = _MAPPED if mapped else b""
    for address in (connection.source, connection.destination):
        packed = prefix + _socket.inet_pton(connection.family, address)
        body.mem(packed.ljust(_ADDRESS, b"\0"))
    family = _socket.AF_INET6 if mapped else connection.family
    body.u32(connection.source_port).u32(connection.destination_port).u32(family)
    return body.data()


def read_answer(reply: Message) -> int | None:
    """Return the job id in a reply, None for not found; FormatError."""
    if reply.type != RESPONSE_NETWORK_CALLERID:
        raise FormatError(f"reply: type is {reply.type}, not {RESPONSE_NETWORK_CALLERID}")
    reader = Reader(reply.body, "callerid reply")
    answer = read_layout(reader, reply.release.answer)  # its return_code is never filled in
    reader.string("node name", _NODE_NAME_LIMIT)
    reader.check_end()
    job_id = answer["job_id"]
    if job_id in (0, INFINITE):
        raise FormatError(f"callerid reply: job id is {job_id}")
    return None if job_id == NO_VAL else job_id


class Cluster:
    """How the slurmds of this cluster are spoken to, and whom to believe."""

    __slots__ = ("auth", "protocol", "trusted")

    def __init__(self, protocol: int, auth: Auth, trusted: Collection[int] = (0,)) -> None:
        """`protocol`: number to start with, what this cluster most likely runs.

        `trusted`: uids that a reply may be from, root and SlurmdUser.
        """
        self.protocol = protocol
        self.auth = auth
        self.trusted = trusted


def ask(
    connection: Connection,
    place: tuple[str, int],
    cluster: Cluster,
    deadline: Deadline,
    *,
    mapped: bool = False,
) -> int | None:
    """Return the id of the job that holds the source end of a connection, None for not found.

    place   address and port of a slurmd there: the source's, or where else it can be reached
    mapped  whether to ask about IPv4 as an IPv6 socket at the source has it

    PeerError with one line that says which host and port, what happened and what to do.
    """
    address, port = place
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    slurmd = Slurmd(family, address, port, cluster.auth, cluster.trusted)
    if connection.link_local and address == connection.source:
        raise slurmd.error("not asked: link-local addresses are not supported")
    body = request_body(connection, mapped=mapped)
    reply = slurmd.call(REQUEST_NETWORK_CALLERID, body, cluster.protocol, deadline)
    try:
        return read_answer(reply)
    except FormatError as error:
        raise slurmd.error(str(error)) from None


def ask_each(
    connection: Connection,
    places: Sequence[tuple[str, int]],
    cluster: Cluster,
    deadline: Deadline,
    unreached: Callable[[tuple[str, int]], object] = lambda _: None,
) -> int | None:
    """Ask in turn the slurmds of the source host, each at its place, until one knows the job.

    Where several run on a host, each knows the jobs of its own node only. Those that are left share
    the time that is left. None if all answered that they know none; PeerError if one gave no answer
    and no other knows the job.

    Where the program there has an IPv6 socket for IPv4 (Java's have, and `ssh ::ffff:10.0.0.1`), a
    slurmd knows the connection by its mapped addresses only. So where none knows it, they are asked
    about those; that they know none stands if this fails.

    `unreached`: called with each place where nothing has taken a connection.
    """
    job_id = _ask_in_turn(connection, places, cluster, deadline, unreached)
    if job_id is None and connection.family == _socket.AF_INET:
        try:
            return _ask_in_turn(connection, places, cluster, deadline, unreached, mapped=True)
        except PeerError:
            pass
    return job_id


def _ask_in_turn(
    connection: Connection,
    places: Sequence[tuple[str, int]],
    cluster: Cluster,
    deadline: Deadline,
    unreached: Callable[[tuple[str, int]], object],
    *,
    mapped: bool = False,
) -> int | None:
    failure = None
    try:
        for index, place in enumerate(places):
            share = deadline.within(deadline.left() / (len(places) - index))
            try:
                job_id = ask(connection, place, cluster, share, mapped=mapped)
            except PeerError as error:
                failure = error
                if isinstance(error, UnreachedError):
                    unreached(place)
                continue
            if job_id is not None:
                return job_id
        if failure is not None:
            raise failure
        return None
    finally:
        del failure  # it refers to this frame


def encrypted(conf: Conf, protocol: int) -> str:
    """Return why a slurmd cannot be asked in clear, "" if it can: TLSType, by release."""
    kind = conf.get("TLSType")
    release = layout_of(protocol)
    if kind.lower().rpartition("/")[2] in ("", "none") or release is None or not release.tls:
        return ""
    return (
        f"not asked: TLSType={kind} in {conf.path} makes Slurm {release.name} encrypt its RPCs, "
        "which is not supported"
    )
