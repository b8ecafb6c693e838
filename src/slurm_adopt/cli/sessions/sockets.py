"""Both ends of TCP connections by the inodes of their sockets.

/proc/PID/net/tcp and tcp6 have a line for every socket of a network. Where these are many, the
kernel is asked by sock_diag(7) for those at sshd's usual port, by pyroute2: to import that takes as
long as to read some ten thousand lines. Those at other ports are looked up in the tables then.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from slurm_adopt.node.ssh_connection import Connection, parse_row
from slurm_adopt.slurm.proc import PROC, link, read

if TYPE_CHECKING:
    from collections.abc import Iterable

SSH_PORT = 22
FEW = 20_000  # sockets
ESTABLISHED = 1 << 1  # linux/tcp_states.h, as a bit
TABLES = ("tcp", "tcp6")
MISSING = "pyroute2 is not installed: connections are looked up in /proc/net/tcp"


def connections(
    holders: dict[int, list[int]], proc: str = PROC
) -> tuple[dict[int, Connection], str]:
    """Return the connection of each process that has one, and a remark for the user or "".

    `holders`: the inodes of the sockets that each has open, in the order in which they count. Those
    in a container of its own network are in the tables there.
    """
    known: dict[int, Connection] = {}
    remark = ""
    if holders and number_of_sockets() > FEW:
        known, remark = _by_sock_diag()
    spaces: dict[str, dict[int, list[int]]] = {}  # network namespaces
    for holder, inodes in holders.items():
        if known.keys().isdisjoint(inodes):
            spaces.setdefault(link(f"{proc}/{holder}/ns/net"), {})[holder] = inodes
    for here in spaces.values():
        wanted = {inode for inodes in here.values() for inode in inodes}
        for table in TABLES if wanted else ():
            known.update(listed(f"{proc}/{min(here)}/net/{table}", wanted))
    found = {}
    for holder, inodes in holders.items():
        own = [known[inode] for inode in inodes if inode in known]
        found.update({holder: own[0]} if own else {})
    return found, remark


def number_of_sockets(net: str = "/proc/net") -> int:
    """Return how many lines the tables have, or more; 0 where that does not show."""
    found = 0
    for name, begins in (("sockstat", b"TCP:"), ("sockstat6", b"TCP6:")):
        for line in read(f"{net}/{name}").splitlines():
            words = line.split()
            if words[:1] == [begins]:  # pairs: inuse 5 orphan 0 tw 2 ...
                counts = dict(zip(words[1::2], words[2::2]))
                found += sum(int(counts.get(one, 0)) for one in (b"inuse", b"tw"))
    return found


def _by_sock_diag() -> tuple[dict[int, Connection], str]:
    try:
        return dict(_asked()), ""
    except ImportError:
        return {}, MISSING
    except Exception as error:  # noqa: BLE001 - netlink's own, and those of all its releases
        return {}, f"sock_diag: {error or error!r}; connections are looked up in /proc/net/tcp"


def _asked() -> Iterable[tuple[int, Connection]]:
    """Yield inode and connection of all sockets that are connected at SSH_PORT."""
    from pyroute2.netlink import NLM_F_MATCH, NLM_F_REQUEST, NLM_F_ROOT
    from pyroute2.netlink.diag import SOCK_DIAG_BY_FAMILY, DiagSocket, inet_diag_req

    flags = NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
    with DiagSocket() as diag:
        diag.bind()
        for family in (socket.AF_INET, socket.AF_INET6):
            request = inet_diag_req()
            request["sdiag_family"] = family
            request["sdiag_protocol"] = socket.IPPROTO_TCP
            request["idiag_states"] = ESTABLISHED
            request["idiag_sport"] = SSH_PORT  # the kernel leaves others out (inet_diag.c)
            for answer in diag.nlm_request(request, SOCK_DIAG_BY_FAMILY, flags):
                yield from _of(answer)


def _of(answer: Any) -> Iterable[tuple[int, Connection]]:
    try:
        connection = Connection(
            str(answer["idiag_dst"]),
            int(answer["idiag_dport"]),
            str(answer["idiag_src"]),
            int(answer["idiag_sport"]),
        )
    except (KeyError, TypeError, ValueError):  # a message of another kind
        return
    yield int(answer["idiag_inode"]), connection


def listed(table: str, inodes: set[int]) -> dict[int, Connection]:
    """Return the connections of sockets by one table of the kernel's; none where it is missing."""
    found = {}
    wanted = {b"%d" % inode for inode in inodes}
    try:
        with open(table, "rb") as lines:
            for line in lines:
                columns = line.split(None, 10)
                if len(columns) > 9 and columns[9] in wanted and (row := parse_row(line)):
                    found[row[0]] = row[1]
    except OSError:
        return found
    return found
