"""Logins from this host to itself: whether their source is here, and where its slurmds listen.

What a job's `ssh localhost` comes from is ::1, one of 127.0.0.0/8, or the address that was logged
in to. slurmd listens on IPv4 alone, with EnableIPv6 on both, with NoInAddrAny on one address. So
the source only says which connection it is; the kernel's tables say where to ask about it.
"""

from __future__ import annotations

import _socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from slurm_adopt.slurm.waiting import Deadline

    from .ssh_connection import Connection

# <linux/netlink.h>, <linux/rtnetlink.h>
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLM_F_REQUEST = 1
_RTA_DST = 1
_RTN_LOCAL = 2
_HEADER, _RTMSG, _RTATTR = 16, 12, 4  # bytes of nlmsghdr, rtmsg, rtattr
_RTM_TYPE = _HEADER + 7
_ANSWER = 8192  # bytes

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what listens on any, by loopback
_LOCAL, _UID = 1, 7  # columns of /proc/net/tcp
_SHARE = 4  # part of the time that the tables may take


def is_own(address: str) -> bool:
    """Say whether a numeric address is one of this host's own; no where the kernel does not tell.

    The routing table is asked, in this network namespace. A socket that can be bound to an address
    says less: with net.ipv4.ip_nonlocal_bind it can be bound to any.
    """
    try:
        return _is_local(_socket.inet_pton(_family(address), address), _family(address))
    except OSError:
        pass
    return False


def _family(address: str) -> int:
    return _socket.AF_INET6 if ":" in address else _socket.AF_INET


def _is_local(packed: bytes, family: int) -> bool:
    """Ask rtnetlink(7) for the route; the kernel has answered when sendto returns."""
    attribute = _native(_RTATTR + len(packed), 2) + _native(_RTA_DST, 2) + packed
    body = bytes((family, 8 * len(packed))).ljust(_RTMSG, b"\0") + attribute
    header = (_native(_HEADER + len(body), 4) + _native(_RTM_GETROUTE, 2)
              + _native(_NLM_F_REQUEST, 2))  # fmt: skip
    kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
    sock = _socket.socket(_socket.AF_NETLINK, kind, 0)  # NETLINK_ROUTE
    try:
        sock.sendto(header.ljust(_HEADER, b"\0") + body, (0, 0))
        answer = sock.recv(_ANSWER, _socket.MSG_DONTWAIT)
    finally:
        sock.close()
    if len(answer) <= _RTM_TYPE or answer[4:6] != _native(_RTM_NEWROUTE, 2):
        return False
    return answer[_RTM_TYPE] == _RTN_LOCAL


def _native(number: int, size: int) -> bytes:
    return number.to_bytes(size, sys.byteorder)


def places(
    connection: Connection,
    ports: Collection[int],
    trusted: Collection[int],
    deadline: Deadline,
    proc: str = "/proc",
) -> list[tuple[str, int]]:
    """Return addresses and ports at which this host's slurmds can be asked about a connection.

    Those of the sockets here that listen on one of `ports` and belong to a trusted uid: any user
    may listen where slurmd does not. Empty where none is seen in a part of the time.
    """
    from slurm_adopt.slurm.digits import number

    from .listening import TooManyError, rows
    from .ssh_connection import end

    limit = deadline.within(deadline.left() / _SHARE)
    found: dict[tuple[str, int], None] = {}
    try:
        for table in ("tcp", "tcp6"):
            for columns in rows(f"{proc}/self/net/{table}", limit):
                try:
                    address, port = end(columns[_LOCAL])
                    if port in ports and number(columns[_UID]) in trusted:
                        found.update(dict.fromkeys((at, port) for at in _at(address, connection)))
                except ValueError:
                    pass
    except TooManyError:
        pass
    return list(found)


def _at(address: str, connection: Connection) -> list[str]:
    """Return where to reach what listens on an address, or on any: at the source if that can be.

    What listens on any IPv6 address has IPv4 as well, but for net.ipv6.bindv6only.
    """
    loopback = _ANY.get(address)
    if loopback is None:
        return [address]
    ipv4 = connection.family == _socket.AF_INET
    if connection.link_local or (not ipv4 and ":" not in address):
        return [loopback]
    return [connection.source, loopback] if ipv4 and ":" in address else [connection.source]
