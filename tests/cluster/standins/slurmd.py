"""A responder in the place of a slurmd, to run inside a host, and the class that starts it there.

`python3 -m tests.cluster.standins.slurmd PORT BEHAVIOUR [ARGUMENT] [--munge SOCKET] [--hold]`
answers each request by one row of BEHAVIOURS, as whoever runs it. It keeps a line per request in
the file `asked` of its folder; with --hold it answers only once there is a file `go`.

`python3 -m tests.cluster.standins.slurmd --ask SLURMD TARGET FILE` asks a real slurmd, as whoever
runs it, about a connection of its own to sshd on TARGET, and keeps the answer as it came.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.auth.credential import ANY
from slurm_adopt.slurm.auth.munge import Munge
from slurm_adopt.slurm.slurmd.callerid import REQUEST_NETWORK_CALLERID, RESPONSE_NETWORK_CALLERID
from slurm_adopt.slurm.slurmd.callerid import request_body as callerid_body
from slurm_adopt.slurm.slurmd.message import pack, payload, unpack
from slurm_adopt.slurm.versions import EMPTY, K12
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes.background import Background
from tests.fakes.requests import RESPONSE_JOB_ID
from tests.fakes.slurmd import BY_NAME, answer, error

if TYPE_CHECKING:
    from slurm_adopt.slurm.slurmd.message import Message
    from slurm_adopt.slurm.versions import Release
    from tests.cluster.harness.host import Host

SLURMD_PORT = 6818
HUGE = 1 << 30  # bytes: the most that the protocol allows
OTHER_KIND = RESPONSE_JOB_ID
PATIENCE = 60.0  # seconds for what is waited for here


# Inside the host


class Question:
    """One request and the connection that it came on."""

    def __init__(self, connection: socket.socket, data: bytes, argument: str, munge: Munge) -> None:
        """Take a request without its length, and what the command line says."""
        self.connection = connection
        self.data = data
        self.argument = argument
        self.munge = munge

    @property
    def request(self) -> Message:
        """The request, read."""
        return unpack(self.data)

    @property
    def release(self) -> Release:
        """The release that it was asked as."""
        return self.request.release

    def reply(
        self,
        job_id: int,
        *,
        bound: tuple[int, int, bytes] | None = None,
        kind: int = RESPONSE_NETWORK_CALLERID,
        release: Release | None = None,
        uid: int = 0,
    ) -> bytes:
        """Return a reply that names a job, with a credential of this process that root may decode.

        `bound`: form, message type and body of its payload, if not those of the reply.
        """
        release = release or self.release
        body = answer(release, job_id)
        data = payload(*(bound or (K12, kind, body)))
        credential = self.munge.encode(data, Deadline(PATIENCE), uid)
        return pack(release, kind, body, self.munge.plugin_id, credential)


def job(question: Question) -> bytes:
    """Name a job, all correct."""
    return question.reply(int(question.argument))


def other_body(question: Question) -> bytes:
    """Name a job with a credential that was made for another one."""
    body = answer(question.release, int(question.argument) + 1)
    return question.reply(int(question.argument), bound=(K12, RESPONSE_NETWORK_CALLERID, body))


def other_type(question: Question) -> bytes:
    """Name a job with a credential that was made for another type of message."""
    body = answer(question.release, int(question.argument))
    return question.reply(int(question.argument), bound=(K12, OTHER_KIND, body))


def unbound(question: Question) -> bytes:
    """Name a job with a credential that was made for nothing."""
    return question.reply(int(question.argument), bound=(EMPTY, 0, b""))


def for_anyone(question: Question) -> bytes:
    """Name a job with a credential that anyone may decode."""
    return question.reply(int(question.argument), uid=ANY)


def other_kind(question: Question) -> bytes:
    """Answer with another type of message."""
    return question.reply(int(question.argument), kind=OTHER_KIND)


def other_version(question: Question) -> bytes:
    """Answer in another version than asked in."""
    return question.reply(int(question.argument), release=BY_NAME["24.11"])


def without_credential(question: Question) -> bytes:
    """Name a job with an empty credential."""
    body = answer(question.release, int(question.argument))
    return pack(question.release, RESPONSE_NETWORK_CALLERID, body, 101, "")


def slurm_rc(question: Question) -> bytes:
    """Answer an error number."""
    return error(question.release, int(question.argument))


def no_such_version(question: Question) -> bytes:
    """Refuse each version by naming the next one."""
    releases = list(BY_NAME.values())
    following = releases[(releases.index(question.release) + 1) % len(releases)]
    return error(following, 1005)


def http(_: Question) -> bytes:
    """Answer in HTTP."""
    return b"HTTP/1.1 405 NOT ALLOWED\r\nContent-Length: 0\r\n\r\n"


def replay(question: Question) -> bytes:
    """Answer what is in a file."""
    return Path(question.argument).read_bytes()


def forward(question: Question) -> bytes:
    """Ask the real slurmd of a host the same, keep its first answer in the file of that name."""
    host, _, file = question.argument.partition(":")
    data = exchange(host, len(question.data).to_bytes(4, "big") + question.data)
    with contextlib.suppress(FileExistsError), open(file, "xb") as kept:
        kept.write(data)
    return data


def close(_: Question) -> bytes:
    """Answer nothing and close."""
    return b""


def never(question: Question) -> bytes:
    """Answer nothing until the asker gives up."""
    question.connection.recv(1)
    return b""


def withhold(question: Question) -> bytes:
    """Ask as `forward` does, but answer nothing."""
    forward(question)
    return never(question)


def slowly(question: Question) -> bytes:
    """Name a job, all correct, one byte a second."""
    for byte in question.reply(int(question.argument)):
        question.connection.sendall(bytes((byte,)))
        time.sleep(1)
    return b""


def huge(question: Question) -> bytes:
    """Announce 1 GiB, and send it."""
    question.connection.sendall(HUGE.to_bytes(4, "big"))
    for _ in range(HUGE >> 16):
        question.connection.sendall(bytes(1 << 16))
    return b""


BEHAVIOURS: dict[str, Callable[[Question], bytes]] = {
    function.__name__: function
    for function in (
        job, other_body, other_type, unbound, for_anyone, other_kind, other_version,
        without_credential, slurm_rc, no_such_version, http, replay, forward, close, never,
        withhold, slowly, huge,
    )
}  # fmt: skip


def exchange(host: str, request: bytes) -> bytes:
    """Send a request to the slurmd of a host; return all that it answers."""
    with socket.create_connection((host, SLURMD_PORT), PATIENCE) as slurmd:
        slurmd.sendall(request)
        return b"".join(iter(lambda: slurmd.recv(1 << 16), b""))


def ask(slurmd: str, target: str, file: str) -> None:
    """Ask about a connection of our own; keep the answer."""
    with socket.create_connection((target, 22), PATIENCE) as own:
        connection = Connection(*own.getsockname(), *own.getpeername())
        body = callerid_body(connection)
        data = payload(K12, REQUEST_NETWORK_CALLERID, body)
        credential = Munge().encode(data, Deadline(PATIENCE))
        message = pack(BY_NAME["22.05"], REQUEST_NETWORK_CALLERID, body, 101, credential)
        Path(file).write_bytes(exchange(slurmd, message))


def serve(port: int, behaviour: str, argument: str, munge: Munge, hold: bool) -> None:
    """Answer until killed, each connection in a thread."""
    place = folder(port)
    place.mkdir()

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            size = int.from_bytes(receive(connection, 4), "big")
            question = Question(connection, receive(connection, size), argument, munge)
            with (place / "asked").open("a") as asked:
                asked.write("asked\n")
            while hold and not (place / "go").exists():
                time.sleep(0.01)
            connection.sendall(BEHAVIOURS[behaviour](question))

    with socket.create_server(("", port)) as listener:
        while True:
            threading.Thread(target=talk, args=listener.accept()[:1], daemon=True).start()


def receive(connection: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes."""
    data = connection.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise ConnectionError
    return data


def folder(port: int) -> Path:
    """Return where one that listens on a port keeps its files, inside its host."""
    return Path(f"/tmp/standin_slurmd-{port}")


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1] == "--ask":
        ask(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("behaviour", choices=BEHAVIOURS)
    parser.add_argument("argument", nargs="?", default="")
    parser.add_argument("--munge", default="")
    parser.add_argument("--hold", action="store_true")
    chosen = parser.parse_args()
    munge = Munge(chosen.munge)
    serve(chosen.port, chosen.behaviour, chosen.argument, munge, chosen.hold)


# Outside


PYTHON = ("env", "--chdir=/checkout", "PYTHONPATH=/checkout/src", "python3", "-m", __spec__.name
          if __spec__ else "tests.cluster.standins.slurmd")  # fmt: skip


class StandinSlurmd(Background):
    """The responder on a port of a host; `with StandinSlurmd(…)` runs it."""

    def __init__(
        self,
        host: Host,
        *arguments: str,
        port: int = SLURMD_PORT,
        user: str | None = None,
        hold: bool = False,
    ) -> None:
        """`arguments`: behaviour and its argument, and options; `user`: root if None."""
        self.host = host
        self.port = port
        self._argv = [*PYTHON, str(port), *arguments, *(["--hold"] if hold else [])]
        self._user = user
        self._folder = host.root / str(folder(port)).lstrip("/")
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; return when it listens."""
        from tests.cluster.harness.wait import wait_for

        shutil.rmtree(self._folder, ignore_errors=True)
        self._process = self.host.popen(
            self._argv, self._user, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        wait_for(f"stand-in on port {self.port}", self._listens, 30)

    def end(self) -> None:
        """End it."""
        from tests.cluster.harness.host import end

        if self._process:
            end(self._process)

    def _listens(self) -> bool:
        assert self._process
        assert self._process.stderr
        if self._process.poll() is not None:
            raise RuntimeError(f"stand-in ended: {self._process.stderr.read()}")
        return self.port in self.host.listening()

    @property
    def asked(self) -> int:
        """How many requests there were."""
        file = self._folder / "asked"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def wait_asked(self) -> None:
        """Return when there was a request."""
        from tests.cluster.harness.wait import wait_for

        wait_for(f"request on port {self.port}", lambda: self.asked > 0, 30)

    def go(self) -> None:
        """Let it answer what it held back."""
        (self._folder / "go").touch()


if __name__ == "__main__":
    os.umask(0)
    main()
