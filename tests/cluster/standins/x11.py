"""A stand-in X server that knows the first message of X11, and a client for it.

    standin_x11.py serve DISPLAY COOKIE NAME   answer for `:DISPLAY`; NAME is the server's vendor
    standin_x11.py ask                         print the vendor of the server at $DISPLAY

Both speak the connection setup of the X Window System Protocol, X11R7 (chapter 8): what a server
answers to a client that has the right cookie, or has not. The client takes its cookie by xauth.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

METHOD = b"MIT-MAGIC-COOKIE-1"
REQUEST = struct.Struct("<cxHHHH2x")  # byte order, major, minor, bytes of method and of cookie
REPLY = struct.Struct("<BBHHH")  # success, bytes of the reason, major, minor, words that follow
SUCCESS = struct.Struct("<IIIIHHBBBBBBBB4x")  # [4]: bytes of the vendor; no screens, no formats


def padded(data: bytes) -> bytes:
    """Fill up to words of four bytes."""
    return data + bytes(-len(data) % 4)


def receive(connection: socket.socket, size: int) -> bytes:
    """Receive exactly that many bytes."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError(f"closed after {len(data)} of {size} bytes")
        data += piece
    return data


# The server


def serve(display: int, cookie: bytes, name: bytes) -> None:
    """Answer each client; say when it can be connected to."""
    path = Path(f"/tmp/.X11-unix/X{display}")
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o1777)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection, cookie, name), daemon=True).start()


def answer(connection: socket.socket, cookie: bytes, name: bytes) -> None:
    """Answer one client."""
    with connection:
        _, major, minor, method, given = REQUEST.unpack(receive(connection, REQUEST.size))
        authority = (
            receive(connection, len(padded(bytes(method))))[:method],
            receive(connection, len(padded(bytes(given))))[:given],
        )
        if authority == (METHOD, cookie):
            body = SUCCESS.pack(0, 0, 0, 0, len(name), 65535, *bytes(8)) + padded(name)
            connection.sendall(REPLY.pack(1, 0, major, minor, len(body) // 4) + body)
        else:
            reason = b"wrong cookie"
            connection.sendall(REPLY.pack(0, len(reason), major, minor, len(reason) // 4) + reason)
        connection.recv(1)  # until the client goes


# The client


def ask() -> str:
    """Return the vendor of the server at $DISPLAY."""
    display = os.environ["DISPLAY"]
    host, _, number = display.partition(".")[0].rpartition(":")
    cookie = known_cookie(display)
    with socket.create_connection((host, 6000 + int(number)), timeout=20) as connection:
        sizes = len(METHOD), len(cookie)
        connection.sendall(REQUEST.pack(b"l", 11, 0, *sizes) + padded(METHOD) + padded(cookie))
        success, size, _, _, words = REPLY.unpack(receive(connection, REPLY.size))
        body = receive(connection, 4 * words)
    if not success:
        raise ConnectionError(body[:size].decode())
    vendor = SUCCESS.unpack_from(body)[4]
    return body[SUCCESS.size :][:vendor].decode()


def known_cookie(display: str) -> bytes:
    """Return what xauth finds in $XAUTHORITY, or in ~/.Xauthority."""
    said = subprocess.run(["xauth", "list", display], check=False, capture_output=True, text=True)
    words = said.stdout.split()
    return bytes.fromhex(words[2]) if len(words) > 2 else b""


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), bytes.fromhex(sys.argv[3]), sys.argv[4].encode())
    print(ask())
