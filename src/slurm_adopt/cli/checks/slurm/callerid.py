"""Callerid: whether slurmds answer the question which job a connection belongs to.

They are asked about a connection that nobody can have: its addresses are for documentation
(RFC 5737). So "not found" is the sign of life, also when this runs in a job.
"""

from __future__ import annotations

import _socket
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli import deadlines
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.node import own_address
from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm import auth, versions
from slurm_adopt.slurm.config import conf as config
from slurm_adopt.slurm.config import hostlist, slurmd_ports
from slurm_adopt.slurm.errors import SetupError, SlurmAdoptError
from slurm_adopt.slurm.slurmd import callerid
from slurm_adopt.slurm.waiting import Deadline

from . import slurm_facts
from .conf_lines import where
from .host_lists import folded
from .slurm_facts import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.slurm.config.conf import Conf

CALLERID = "callerid"
NOBODYS = Connection("192.0.2.1", 9, "192.0.2.2", 9)
HERE = Connection("127.0.0.1", 9, "127.0.0.1", 9)
THREADS = 64  # that ask other nodes


class Node(NamedTuple):
    """A node as slurm.conf has it."""

    name: str
    address: str  # NodeAddr, else NodeHostname, else NodeName
    port: int


def nodes_of(conf: Conf) -> Iterator[Node]:
    """Yield all nodes; SetupError for a list that is malformed."""
    default = ""
    for line in conf.nodes:
        if config.is_default(line):
            default = line.get("port", default)
            continue
        names = line["nodename"]
        addresses = line.get("nodeaddr") or line.get("nodehostname") or names
        text = line.get("port", default) or str(config.slurmd_port(conf))
        ports = hostlist.expand(f"[{text.strip('[]')}]")
        for index, (name, address) in enumerate(config.parallel(names, addresses)):
            port = ports[min(index, len(ports) - 1)]
            yield Node(name, address, config.port_number(port, f"Port of {name} in {conf.path}"))


def _cluster(host: Host) -> callerid.Cluster:
    """Return how slurmds are spoken to; SetupError."""
    name = slurm_facts.release(host)
    spoken = [each.protocol for each in versions.RELEASES if each.name == name]
    protocol = spoken[0] if spoken else versions.RELEASES[-1].protocol
    conf = slurm_facts.conf(host)
    if why := callerid.encrypted(conf, protocol):
        raise SetupError(why)
    return callerid.Cluster(protocol, auth.of(conf), slurm_facts.site(host).trusted)


def _is_off(host: Host) -> bool:
    return not host.options.on("callerid")


def _ask(place: tuple[str, int], cluster: callerid.Cluster, deadline: Deadline) -> str:
    """Return why a slurmd has not answered that it does not know the connection; "" if it has."""
    try:
        job_id = callerid.ask(NOBODYS, place, cluster, deadline)
    except SlurmAdoptError as wrong:
        return str(wrong)
    return "" if job_id is None else f"it knows a job, {job_id}, of a connection that nobody has"


@needs(slurm_facts.conf)
def own(host: Host) -> Iterator[Seen]:
    """Whether this node's own slurmd answers."""
    if _is_off(host):
        yield skipped("callerid=0: no slurmd is asked")
        return
    try:
        cluster = _cluster(host)
    except SetupError as wrong:
        yield skipped("slurmd cannot be asked: see TLSType and AuthType", str(wrong))
        return
    deadline = Deadline(host.options.seconds("callerid_timeout"))
    places = _listening(host, deadline)
    if not places:
        yield error("no slurmd listens here on a port of slurm.conf")
        return
    failed = [text for place in places if (text := _ask(place, cluster, deadline))]
    if failed:
        yield error("this node's slurmd does not answer callerid", "; ".join(failed))
    else:
        yield ok("this node's slurmd answers callerid")


def _listening(host: Host, deadline: Deadline) -> list[tuple[str, int]]:
    ports = slurmd_ports.all_ports(slurm_facts.conf(host))
    return own_address.places(HERE, ports, slurm_facts.site(host).trusted, deadline)


@needs(slurm_facts.conf, slurm_facts.place)
def port(host: Host) -> Iterator[Seen]:
    """Whether slurmd listens on the port at which other nodes ask this one."""
    conf, name = slurm_facts.conf(host), slurm_facts.place(host)[0]
    at = where(host, conf, "SlurmdPort")
    try:
        found = next((node for node in nodes_of(conf) if node.name == name), None)
    except SetupError as wrong:
        yield error("the ports of the nodes in slurm.conf are malformed", str(wrong), *at)
        return
    wanted = found.port if found else config.slurmd_port(conf)
    listening = {each[1] for each in _listening(host, Deadline(deadlines.QUICK))}
    if wanted in listening:
        yield ok("slurmd listens on the port that slurm.conf has for this node", str(wanted), *at)
    elif listening:
        yield warning("slurmd listens on another port than slurm.conf has for this node",
                      f"{sorted(listening)}, not {wanted}", *at)  # fmt: skip
    else:
        yield error("nothing of Slurm's listens on the port that slurm.conf has for this node",
                    f"port {wanted}", *at)  # fmt: skip


@needs(slurm_facts.conf)
def others(host: Host) -> Iterator[Seen]:
    """Whether the slurmds of other nodes answer."""
    if host.nodes is None:
        yield skipped("other nodes are not asked without --nodes")
        return
    conf = slurm_facts.conf(host)
    try:
        wanted, unknown = _chosen(host, conf)
        cluster = _cluster(host)
    except SetupError as wrong:
        yield error("the other nodes cannot be asked", str(wrong), conf.path)
        return
    if unknown:
        yield error("slurm.conf has no node of a name that was given", folded(unknown), conf.path)
    limit = host.options.seconds("callerid_timeout")
    came = _Asking(wanted, cluster, limit).run()
    if well := [name for name, why in came.items() if not why]:
        yield ok("slurmds of other nodes answer callerid", folded(well))
    reasons: dict[str, list[str]] = {}
    for name, why in came.items():
        if why:
            reasons.setdefault(why, []).append(name)
    for why, names in sorted(reasons.items(), key=lambda each: (-len(each[1]), each[0])):
        yield error("slurmds of other nodes do not answer callerid", f"{folded(names)}: {why}")
    if not wanted and not unknown:
        yield skipped("slurm.conf has no other node")


def _chosen(host: Host, conf: Conf) -> tuple[list[Node], list[str]]:
    """Return the nodes to ask, and names that slurm.conf does not have; SetupError."""
    known = {node.name: node for node in nodes_of(conf)}
    if host.nodes:
        names = list(dict.fromkeys(hostlist.expand(host.nodes)))
    else:
        names = list(known)
        with suppress(SetupError, ValueError):
            names.remove(slurm_facts.place(host)[0])
    return [known[name] for name in names if name in known], [n for n in names if n not in known]


class _Asking:
    """Many slurmds, asked by some threads within one deadline."""

    def __init__(self, nodes: list[Node], cluster: callerid.Cluster, limit: float) -> None:
        self._left = list(reversed(nodes))
        self._nodes = nodes
        self._cluster = cluster
        self._limit = limit
        self._came: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Return by node why it has not answered, "" if it has."""
        end = time.monotonic() + deadlines.NODES
        threads = [
            threading.Thread(target=self._work, args=(end,), daemon=True)
            for _ in range(min(THREADS, len(self._nodes)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        came = dict(self._came)
        late = "not asked: there was no time left, or its name was looked up for too long"
        return {node.name: came.get(node.name, late) for node in self._nodes}

    def _work(self, end: float) -> None:
        while time.monotonic() < end:
            try:
                node = self._left.pop()
            except IndexError:
                return
            self._came[node.name] = self._ask(node)

    def _ask(self, node: Node) -> str:
        try:
            kind = _socket.SOCK_STREAM
            found = socket.getaddrinfo(node.address, node.port, 0, kind)
        except (OSError, UnicodeError) as wrong:
            return f"its address cannot be resolved ({getattr(wrong, 'strerror', None) or wrong})"
        why = ""
        for address in dict.fromkeys(str(each[4][0]) for each in found):
            why = _ask((address, node.port), self._cluster, Deadline(self._limit))
            if not why:
                return ""
        # Without the address, so that nodes with the same trouble stand together.
        head, colon, rest = why.partition(": ")
        return rest if colon and head.startswith("slurmd at ") else why


CHECKS = (
    Check(
        "SA611",
        CALLERID,
        "callerid to this node",
        own,
        expected="The slurmd of this node answers that it does not know a connection which nobody "
        "has.",
        why="A login from a job on another node is traced to that job so. Without an answer "
        "action_unknown decides for users with several jobs.",
        fix="Look whether slurmd runs, at its log, and at munge. See docs/how-to/firewalls.md.",
        quick=False,
        seconds=deadlines.SLOW + deadlines.VERSION,
    ),
    Check(
        "SA612",
        CALLERID,
        "port of slurmd",
        port,
        expected="slurmd listens on the port that slurm.conf has for this node.",
        why="Other nodes ask there by callerid.",
        fix="Correct Port= of the node, or SlurmdPort, in slurm.conf. Start slurmd.",
    ),
    Check(
        "SA613",
        CALLERID,
        "callerid to other nodes",
        others,
        expected="The slurmds of the nodes that --nodes names answer.",
        why="A login from a node that does not answer cannot be traced to its job. action_unknown "
        "decides for users with several jobs, after callerid_timeout.",
        fix="See docs/how-to/firewalls.md. Compare release, clock and key with those of the nodes "
        "that are named.",
        quick=False,
        seconds=deadlines.NODES + deadlines.SLOW,
    ),
)
