"""The other names of this host: those of a hosts file, and those of all that the host asks.

A slurmd without -N takes them where slurm.conf knows neither form of the host name (read_config.c,
slurm_conf_get_aliased_nodename, the same in 20.11 to 26.05): the canonical name of the full host
name, the names of its other addresses, its aliases.
"""

from __future__ import annotations

import _socket
import os

from slurm_adopt.slurm import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

HOSTS = "/etc/hosts"
_HOSTS_LIMIT = 16 << 20  # bytes


def of_hosts(hostname: str, hosts: str = HOSTS) -> list[str]:
    """Return the names that stand beside a host name in a hosts file, the first of each line first.

    Spelled as there; the host name itself is found in any case.
    """
    lines = [words[1:] for words in files.words(hosts, _HOSTS_LIMIT)]
    ours = [names for names in lines if hostname.lower() in map(str.lower, names)]
    return _once([names[0] for names in ours] + [name for names in ours for name in names])


def of_host(hostname: str) -> list[str]:
    """Return the same from all that nsswitch.conf names. The DNS may keep it waiting for long."""
    host = os.fsencode(hostname)  # no text: that would be taken through IDNA
    names: list[str] = []
    flags = _socket.AI_CANONNAME | _socket.AI_ADDRCONFIG
    try:
        kind = _socket.SOCK_STREAM
        for *_, canonical, address in _socket.getaddrinfo(host, None, 0, kind, 0, flags):
            try:
                name = canonical or _socket.getnameinfo(address, _socket.NI_NAMEREQD)[0]
                names.append(name)
            except OSError:
                pass
    except OSError:
        pass
    try:
        names += _socket.gethostbyname_ex(host)[1]  # type: ignore[arg-type]
    except OSError:
        pass
    return _once(names)


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
