"""Which process becomes the session: real processes that share a connection, or do not."""

from __future__ import annotations

import os
import signal
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
import os, socket, sys
sys.path.insert(0, {source!r})
case, port = sys.argv[1], int(sys.argv[2])

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

def caught(case):
    if "signals" in case:
        assert "psutil" in sys.modules
        with open("/proc/self/status") as file:
            yield file.read().partition("SigCgt:")[2].split()[0]

def ask():
    os.read(ready, 1)
    if case == "no psutil":
        sys.modules["psutil"] = None
    from slurm_adopt.node import session_process as process
    process.is_sshd = lambda _: not case.startswith("not sshd")
    try:
        if "signals" in case:
            import signal
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            for name in ("_signal", "signal", "psutil"):
                sys.modules.pop(name, None)
        print(process.session_process(), os.getpid(), os.getppid(), *caught(case), flush=True)
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


def asked(case: str, port: int) -> tuple[int, list[str]]:
    """Run a case; return the pid of the parent and what the child said."""
    argv = [sys.executable, "-c", SCRIPT.format(source=str(SOURCE)), case, str(port)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    parent, said = done.stdout.splitlines()
    return int(parent), said.split(" ")


@pytest.mark.parametrize(
    "case",
    ["shared", "two generations", "shared, and a connection of its own", "a named unix socket"],
)
def test_the_ancestor_with_the_connection(case: str, port: int) -> None:
    parent, (found, own, _) = asked(case, port)
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
    ],
)
def test_the_process_itself(case: str, port: int) -> None:
    parent, (found, own, above) = asked(case, port)
    assert (found, int(above)) == (own, parent)


@pytest.mark.parametrize(
    "case",
    ["closed in the parent", "a connection of its own alone", "an unnamed unix socket"],
)
def test_what_cannot_be_told_is_not_guessed(case: str, port: int) -> None:
    """A child of a sshd of root's that does not listen, without a connection that both have."""
    parent, said = asked(case, port)
    assert f"process {parent} may become the session" in " ".join(said)


def test_a_parent_that_is_not_root_s(port: int) -> None:
    parent, (found, own, above) = asked("the parent is not root's", port)
    assert (found, int(above)) == (own, parent)


def test_psutil_takes_no_signal(port: int) -> None:
    """It imports Python's signals, which take SIGINT where nobody has imported them before."""
    _, said = asked("shared, with signals as sshd has them", port)
    assert int(said[-1], 16) & 1 << signal.SIGINT - 1 == 0


def test_without_psutil_it_is_not_guessed(port: int) -> None:
    _, said = asked("no psutil", port)
    assert "SetupError" in " ".join(said)
    assert "install python3-psutil" in " ".join(said)


def test_another_program_with_the_same_connection(port: int) -> None:
    ask = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); "
    ask += "import os; from slurm_adopt.node.session_process import session_process as f; "
    ask += "print(f(), os.getpid())"
    shell = f'exec 3<>/dev/tcp/127.0.0.1/{port}; "$0" -c "$1"; exit'
    argv = ["bash", "-c", shell, sys.executable, ask]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    found, own = done.stdout.split()
    assert found == own


def test_no_proc(tmp_path: Path) -> None:
    assert session_process(str(tmp_path)) == os.getpid()


def test_start_time() -> None:
    assert start_time(os.getpid()) > start_time(1) >= 0
    assert start_time(1 << 22) == 0
