"""What a slurmd makes of requests that are not as they should be: run on a host, as root.

    PYTHONPATH=/checkout/src python3 slurmd_probe.py ADDRESS PORT RELEASE ATTEMPT...

Prints a line of JSON: what became of each attempt, by its name in ATTEMPTS. `answered` is a reply
to the request; its credential's payload follows, and for whom it is.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Literal

from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.auth.credential import ANY
from slurm_adopt.slurm.auth.munge import Munge
from slurm_adopt.slurm.slurmd.callerid import (
    REQUEST_NETWORK_CALLERID,
    RESPONSE_NETWORK_CALLERID,
    request_body,
)
from slurm_adopt.slurm.slurmd.message import Message, pack, payload, unpack
from slurm_adopt.slurm.versions import BY_ID, K12, RELEASES, TYPE, Release
from slurm_adopt.slurm.waiting import Deadline

WAIT = 5.0  # seconds; an answer takes milliseconds
KIND = REQUEST_NETWORK_CALLERID
BODY = request_body(Connection("127.0.0.1", 1, "127.0.0.1", 2))


def typed(kind: int, order: Literal["little", "big"]) -> bytes:
    """Return the payload that binds a credential to a message type."""
    return bytes((TYPE,)) + kind.to_bytes(2, order)


ATTEMPTS = {  # name -> payload of the credential
    "no payload": b"",
    "type": typed(KIND, "little"),
    "type, big-endian": typed(KIND, "big"),
    "another type": typed(KIND + 1, "little"),
    "K12": payload(K12, KIND, BODY),
    "K12 of another body": payload(K12, KIND, BODY + b"\0"),
}


class Probe:
    """A slurmd at an address, asked as of one release."""

    def __init__(self, address: tuple[str, int], release: Release) -> None:
        self.address = address
        self.release = release
        self.munge = Munge()
        self.good = ATTEMPTS["K12" if release.request_payloads[0] == K12 else "type"]

    def attempt(self, name: str) -> str:
        """Make one attempt; return what came of it in words."""
        if name in ATTEMPTS:
            return self.ask(self.credential(ATTEMPTS[name]))
        return str(getattr(self, name.replace(" ", "_"))())

    def used_twice(self) -> str:
        """Send a credential that was good a second time."""
        credential = self.credential(self.good)
        self.ask(credential)
        return self.ask(credential)

    def for_another_user(self) -> str:
        """Send a credential that only another user may decode."""
        return self.ask(self.credential(self.good, 4711))

    def made_up(self) -> str:
        """Send what looks like a credential."""
        return self.ask("MUNGE:AwQDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA:")

    def newer(self) -> str:
        """Speak a version that is newer than the slurmd's."""
        return self.foreign(1)

    def older(self) -> str:
        """Speak a version that is too old for the slurmd."""
        return self.foreign(-4)

    def foreign(self, by: int) -> str:
        """Speak the version of a release `by` rows away."""
        release = RELEASES[min(RELEASES.index(self.release) + by, len(RELEASES) - 1)]
        beyond = release is self.release
        credential = self.credential(payload(release.request_payloads[0], KIND, BODY))
        return self.ask(credential, release, 256 if beyond else 0)

    def credential(self, found: bytes, uid: int = ANY) -> str:
        return self.munge.encode(found, Deadline(WAIT), uid)

    def ask(self, credential: str, release: Release | None = None, add: int = 0) -> str:
        """Send a request; `add`: to the version in its header."""
        release = release or self.release
        plugin = self.munge.plugin_id if release.plugin == BY_ID else self.munge.plugin_name
        request = bytearray(pack(release, KIND, BODY, plugin, credential))
        version = int.from_bytes(request[4:6], "big") + add
        request[4:6] = version.to_bytes(2, "big")
        with socket.create_connection(self.address, WAIT) as connection:
            connection.sendall(request)
            try:
                return self.said(received(connection))
            except TimeoutError:
                return "silent"
            except ConnectionResetError:
                return "closes"

    def said(self, data: bytes) -> str:
        """Return a reply in words."""
        if not data:
            return "closes"
        if data.startswith(b"HTTP"):
            return "HTTP"
        reply = unpack(data[4:])
        if reply.type != RESPONSE_NETWORK_CALLERID:
            code = int.from_bytes(reply.body[:4], "big")
            return f"error {code} in the version of {reply.release.name}"
        return f"answered, {self.bound(reply)}"

    def bound(self, reply: Message) -> str:
        """Return what the credential of a reply is bound to."""
        credential = self.munge.decode(reply.credential or "", Deadline(WAIT))
        found = {
            b"": "nothing",
            typed(reply.type, "little"): "type",
            typed(reply.type, "big"): "type",
            payload(K12, reply.type, reply.body): "type and body",
        }
        whom = {ANY: "anybody", os.geteuid(): "us"}
        to = found.get(credential.payload, credential.payload.hex())
        return f"bound to {to}, for {whom.get(credential.uid_restriction, 'another')}"


def received(connection: socket.socket) -> bytes:
    """Return all that comes until the other end closes."""
    found = b""
    while data := connection.recv(1 << 16):
        found += data
    return found


def main() -> None:
    host, port, name, *attempts = sys.argv[1:]
    (release,) = (release for release in RELEASES if release.name == name)
    probe = Probe((host, int(port)), release)
    print(json.dumps({attempt: probe.attempt(attempt) for attempt in attempts}))


if __name__ == "__main__":
    main()
