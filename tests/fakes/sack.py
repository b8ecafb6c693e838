"""A sack that answers by script."""

from __future__ import annotations

import socket

from tests.fakes.peers import Peer

PREFIX = 6  # bytes of a request: u16 version, u32 length, which counts itself


class SackPeer(Peer):
    """A scripted sack; its requests' length counts itself."""

    def _request(self, connection: socket.socket) -> bytes:
        head = connection.recv(PREFIX, socket.MSG_WAITALL)
        size = int.from_bytes(head[2:], "big") - 4
        if size < 0:
            raise ConnectionError
        return head + connection.recv(size, socket.MSG_WAITALL)
