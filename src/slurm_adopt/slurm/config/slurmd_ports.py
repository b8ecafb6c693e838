"""The slurmds at an address: on which ports they listen, by the NodeName lines of slurm.conf.

A node may have a Port= of its own, and several nodes may be on one host, each with its slurmd on
its own port. NodeAddr (by default NodeHostname, by default NodeName) is compared with the address
as a number, or as a name that /etc/hosts gives to it: the DNS is never asked, it may hang.
"""

from __future__ import annotations

import _socket

from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

from . import hostlist
from .conf import is_default, port_number, slurmd_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .conf import Conf

HOSTS = "/etc/hosts"
_HOSTS_LIMIT = 16 << 20  # bytes


def ports_at(conf: Conf, address: str, hosts: str = HOSTS) -> list[int]:
    """Return the ports of the nodes at a numeric address, in the order of slurm.conf.

    Where no node is known there, the one port that all nodes have, else SlurmdPort. SetupError for
    what is no port.
    """
    wanted = {address, *names_of(address, hosts)}
    default = ""
    used: set[str] = set()
    found: list[int] = []
    words = ("port", ":") if ":" in address else ("port",)  # IPv6 has several spellings
    for line in conf.nodes_about(wanted, fold=True, words=words):
        if is_default(line):
            default = line.get("port", default)
            continue
        text = line.get("port", default)
        used.add(text)
        found += _of_line(conf, line, text, wanted)
    if found:
        return list(dict.fromkeys(found))
    same = _ports(conf, used.pop()) if len(used) == 1 else []
    return same if len(same) == 1 else [slurmd_port(conf)]


def all_ports(conf: Conf) -> set[int]:
    """Return the ports of all nodes, and SlurmdPort; what is no port is left out."""
    texts = {line.get("port", "") for line in conf.nodes_about((), words=("port",))} | {""}
    found: set[int] = set()
    for text in texts:
        try:
            found.update(_ports(conf, text))
        except SetupError:
            pass
    return found


def _of_line(conf: Conf, line: dict[str, str], port: str, wanted: set[str]) -> list[int]:
    """Return the ports of those nodes of a NodeName line that are at a wanted name or address."""
    addresses = line.get("nodeaddr") or line.get("nodehostname") or line["nodename"]
    plain = _canonical(addresses)  # one numeric address, perhaps in another spelling
    if plain not in wanted and not any(hostlist.contains(addresses, w, fold=True) for w in wanted):
        return []
    places = [plain] if plain in wanted else hostlist.expand(addresses.lower())
    ports = _ports(conf, port)
    return [
        ports[min(index, len(ports) - 1)]
        for index in range(len(hostlist.expand(line["nodename"])))
        if places[min(index, len(places) - 1)] in wanted
    ]


def _ports(conf: Conf, text: str) -> list[int]:
    """Return the ports of `7000`, `7000-7009`, `7000,7002` or the same in brackets."""
    if not text:
        return [slurmd_port(conf)]
    numbers = hostlist.expand(f"[{text.strip('[]')}]")
    return [port_number(number, f"a node's Port in {conf.path}") for number in numbers]


def names_of(address: str, hosts: str = HOSTS) -> set[str]:
    """Return the names, in lower case, that a hosts file gives to a numeric address."""
    names: set[str] = set()
    for words in files.words(hosts, _HOSTS_LIMIT):
        if len(words) > 1 and _canonical(words[0].lower()) == address:
            names.update(map(str.lower, words[1:]))
    return names


def _canonical(text: str) -> str:
    """Return a numeric address as inet_ntop writes it, anything else as it is."""
    family = _socket.AF_INET6 if ":" in text else _socket.AF_INET
    try:
        return _socket.inet_ntop(family, _socket.inet_pton(family, text))
    except (OSError, ValueError):
        return text
