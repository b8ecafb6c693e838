"""Which process becomes the session: real processes that share a connection, or do not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_adopt.node.session_process import session_process
from slurm_adopt.slurm.proc import start_time

SOURCE = Path(__file__).parents[2] / "src"

# The process that becomes the session forks the one that asks; what it does meanwhile is the case.
SCRIPT = """
import os, socket, sys, time
sys.path.insert(0, {source!r})
case, port, apart = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "apart"

def listen(family=socket.AF_INET, address=("127.0.0.1", 0)):
    found = socket.socket(family)
    found.bind(address)
    found.listen()
    return found

if case == "a named unix socket":
    listener = listen(socket.AF_UNIX, "\\0" + str(os.getpid()))
    far = socket.socket(socket.AF_UNIX)
    far.connect(listener.getsockname())
    sock, _ = listener.accept()
    listener.close()
elif case == "an unnamed unix socket":
    sock, far = socket.socketpair()
elif case == "only listens":
    sock = listen()
elif case == "listens on IPv6":
    sock = listen(socket.AF_INET6, ("::1", 0))
else:
    sock = socket.create_connection(("127.0.0.1", port))
if "listens" in case:
    keep = listen()
ready, told = os.pipe()

def ask():
    os.read(ready, 1)
    from slurm_adopt.node import session_process as process
    process.is_sshd = lambda *_: not case.startswith("not sshd")
    own, above = os.getpid(), os.getppid()
    if apart and os.fork():  # as pam_exec: the process waits for another program
        os.wait()
        return
    if apart:
        os.closerange(3, 64)
    try:
        print(process.session_process(own), own, above, flush=True)
    except Exception as error:
        print(repr(error), flush=True)

if os.fork() == 0:
    if case == "two generations" and os.fork():
        os.wait()
        os._exit(0)
    if "a connection of its own" in case:
        other = socket.create_connection(("127.0.0.1", port))
    if case == "a connection of its own alone":
        sock.close()
    ask()
    os._exit(0)
print(os.getpid(), flush=True)
if "closed" in case:
    sock.close()
if case == "the parent is not root's":
    os.setresuid(65534, 65534, 65534)
if case == "the parent was root's":
    os.setresuid(0, 65534, 0)
os.write(told, b"x")
if case == "closed, starts again":  # as an sshd that gets SIGHUP
    time.sleep(1)
    keep = listen()
os.wait()
"""


@pytest.fixture
def port() -> int:
    """Return the port of something that takes connections."""
    return int(listening().getsockname()[1])


_KEEP: list[socket.socket] = []


def listening() -> socket.socket:
    """Listen for the rest of the run."""
    if not _KEEP:
        _KEEP.append(socket.create_server(("127.0.0.1", 0)))
    return _KEEP[0]


@pytest.fixture(params=["itself", "apart"])
def asker(request: pytest.FixtureRequest) -> str:
    """Whether the process asks itself, or a child of its that has nothing of its open."""
    return str(request.param)


def asked(case: str, port: int, asker: str) -> tuple[int, list[str]]:
    """Run a case; return the pid of the parent and what was said for the child."""
    argv = [sys.executable, "-c", SCRIPT.format(source=str(SOURCE)), case, str(port), asker]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    parent, said = done.stdout.splitlines()
    return int(parent), said.split(" ")


@pytest.mark.parametrize(
    "case",
    ["shared", "two generations", "shared, and a connection of its own", "a named unix socket"],
)
def test_the_ancestor_with_the_connection(case: str, port: int, asker: str) -> None:
    parent, (found, own, _) = asked(case, port, asker)
    assert int(found) == parent
    assert int(own) != parent


@pytest.mark.parametrize(
    "case",
    [
        "listens, closed in the parent",
        "listens, shared",  # something else than ssh's
        "listens on IPv6",
        "only listens",
        "not sshd, closed in the parent",
        "the parent was root's",
        "closed, starts again",
    ],
)
def test_the_process_itself(case: str, port: int, asker: str) -> None:
    parent, (found, own, above) = asked(case, port, asker)
    assert (found, int(above)) == (own, parent)


@pytest.mark.parametrize(
    "case",
    ["closed in the parent", "a connection of its own alone", "an unnamed unix socket"],
)
def test_what_cannot_be_told_is_not_guessed(case: str, port: int, asker: str) -> None:
    """A child of a sshd of root's that does not listen, without a connection that both have."""
    parent, said = asked(case, port, asker)
    assert f"process {parent} may become the session" in " ".join(said)


def test_a_parent_that_is_not_root_s(port: int, asker: str) -> None:
    parent, (found, own, above) = asked("the parent is not root's", port, asker)
    assert (found, int(above)) == (own, parent)


def test_another_program_with_the_same_connection(port: int) -> None:
    ask = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); "
    ask += "import os; from slurm_adopt.node.session_process import session_process as f; "
    ask += "print(f(os.getpid()), os.getpid())"
    shell = f'exec 3<>/dev/tcp/127.0.0.1/{port}; "$0" -c "$1"; exit'
    argv = ["bash", "-c", shell, sys.executable, ask]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    found, own = done.stdout.split()
    assert found == own


def test_no_proc(tmp_path: Path) -> None:
    assert session_process(os.getpid(), str(tmp_path)) == os.getpid()


def test_start_time() -> None:
    assert start_time(os.getpid()) > start_time(1) >= 0
    assert start_time(1 << 22) == 0
