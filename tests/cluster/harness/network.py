"""The cluster's network: a bridge in a namespace of its own, a veth pair to each host."""

from __future__ import annotations

import subprocess
from typing import Any

from pyroute2 import NetNS

from tests.cluster.harness.host import Process, end

ADDRESSES = {
    "ctl": ("10.78.0.1", "fd78::1"),
    "n1": ("10.78.0.2", "fd78::2"),
    "n2": ("10.78.0.3", "fd78::3"),
    "login": ("10.78.0.4", "fd78::4"),
}


def start_switch() -> subprocess.Popen[str]:
    """Start a process that holds a new network namespace; the bridge comes into it."""
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity >/dev/null 2>&1"],
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        end(process)
        raise RuntimeError("no network namespace for the switch")
    return process


def connect(switch: Process, hosts: dict[str, Process]) -> None:
    """Plug every host into the switch; nothing of the machine's own network is touched."""
    with NetNS(f"/proc/{switch.pid}/ns/net") as net:
        net.link("add", ifname="br0", kind="bridge")
        bridge = _up(net, "br0")
        for name, init in hosts.items():
            peer = {"ifname": "eth0", "net_ns_pid": init.pid}
            net.link("add", ifname=name, kind="veth", peer=peer)
            net.link("set", index=_up(net, name), master=bridge)
    for name, init in hosts.items():
        with NetNS(f"/proc/{init.pid}/ns/net") as net:
            _up(net, "lo")
            index = _up(net, "eth0")
            ipv4, ipv6 = ADDRESSES[name]
            net.addr("add", index=index, address=ipv4, prefixlen=24)
            net.addr("add", index=index, address=ipv6, prefixlen=64)


def etc_hosts() -> str:
    """Return /etc/hosts of every host."""
    lines = ["127.0.0.1 localhost", "::1 ip6-localhost"]
    for name, (ipv4, ipv6) in ADDRESSES.items():
        lines += [f"{ipv4} {name}", f"{ipv6} {name}-6"]
    return "\n".join(lines) + "\n"


def _up(net: Any, ifname: str) -> int:
    """Set an interface up; return its index."""
    index: int = net.link_lookup(ifname=ifname)[0]
    net.link("set", index=index, state="up")
    return index
