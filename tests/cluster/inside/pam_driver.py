"""An application of PAM on demand, to run inside a host: a request on each line of standard input.

`python3 pam_driver.py PORT` answers each with a line. Requests and answers are JSON:

    {"accept": true}     take one connection to PORT; every call that follows gets it
    {"hang_up": true}    close it
    {"call": "acct_mgmt", "service": "sshd", "user": "alice", "items": {"rhost": "10.78.0.4"},
     "environment": {"A": "b"}, "flags": 0, "umount": ["/proc"], "seconds": 20, "cpus": [0]}
                         call pam_acct_mgmt() in a process of its own; null for no user;
                         "conversation": what a function of the service's does, "fails" or "crashes"
    {"pamtester": …}     the same by pamtester
    {"log": "text"}      write a line to the syslog: what is in front of it was sent before it

A call's answer has the process's pid, how it ended if not as it should, what PAM returned, what was
said to the user, PAM's environment, the process's cgroups, its CPUs and its mount namespace.
Nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

Request = dict[str, Any]

ITEMS = {"service": 1, "user": 2, "tty": 3, "rhost": 4}  # <security/_pam_types.h>
PROMPTS, CONV_ERR = (1, 2), 19  # the same: as sshd has it for a public key, nobody can be asked
CLONE_NEWNS = 0x20000  # <sched.h>
MS_REC_PRIVATE = 0x44000  # <sys/mount.h>: MS_REC | MS_PRIVATE
MNT_DETACH = 2
PATIENCE = 30.0  # seconds for a connection to come


class Message(ctypes.Structure):
    """struct pam_message."""

    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


CONVERSE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(Message)),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
)


class Conversation(ctypes.Structure):
    """struct pam_conv."""

    _fields_ = (("function", CONVERSE), ("data", ctypes.c_void_p))


def call(request: Request) -> Request:
    """Make one call of PAM in this process; return what came of it."""
    # PyDLL keeps the interpreter's lock: pam_python, where there is an interpreter, uses that one.
    pam, libc = ctypes.PyDLL("libpam.so.0", ctypes.RTLD_GLOBAL), ctypes.CDLL(None)
    libc.calloc.restype = ctypes.c_void_p
    pam.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_char_p)
    said: list[tuple[int, str]] = []

    how = request.get("conversation", "")

    def converse(count: int, messages: Any, answers: Any, _: Any) -> int:
        if how == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "fails":
            return CONV_ERR
        if any(messages[n][0].style in PROMPTS for n in range(count)):
            return CONV_ERR
        said.extend((m.style, text(m.text)) for m in (messages[n][0] for n in range(count)))
        answers[0] = libc.calloc(count, 2 * ctypes.sizeof(ctypes.c_void_p))
        return 0

    handle, conversation = ctypes.c_void_p(), Conversation(CONVERSE(converse), None)
    user = request["user"]
    pam.pam_start(
        encoded(request["service"]),
        None if user is None else encoded(user),
        ctypes.byref(conversation),
        ctypes.byref(handle),
    )
    for name, value in request.get("items", {}).items():
        pam.pam_set_item(handle, ITEMS[name], encoded(value))
    for name, value in request.get("environment", {}).items():
        pam.pam_putenv(handle, encoded(f"{name}={value}"))
    code = getattr(pam, "pam_" + request["call"])(handle, request.get("flags", 0))
    variables = environment(pam.pam_getenvlist(handle))
    pam.pam_end(handle, code)
    gc.collect()  # of pam_python, which is unloaded now: a handle that is left in a cycle crashes
    return {"code": code, "said": said, "environment": variables}


def environment(variables: Any) -> dict[str, str]:
    """Read a list of NAME=VALUE that ends in NULL."""
    found: dict[str, str] = {}
    while variables and variables[len(found)]:
        name, _, value = text(variables[len(found)]).partition("=")
        found[name] = value
    return found


def text(data: bytes) -> str:
    """Return bytes as text, whatever they are."""
    return data.decode(errors="backslashreplace")


def encoded(data: str) -> bytes:
    """Return text as bytes, surrogates as the bytes they stand for."""
    return data.encode(errors="surrogateescape")


def without(mountpoints: list[str]) -> None:
    """Leave the mount namespace and take these mounts away from this process alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "no mount namespace")
    for path in mountpoints:
        if libc.umount2(path.encode(), MNT_DETACH):
            raise OSError(ctypes.get_errno(), path)


def pamtester(request: Request) -> None:
    """Become pamtester."""
    options = [f"-I{name}={value}" for name, value in request.get("items", {}).items()]
    options += [f"-E{name}={value}" for name, value in request.get("environment", {}).items()]
    argv = ["pamtester", *options, request["service"], request["user"], request["pamtester"]]
    os.dup2(1, 2)
    os.execvp("pamtester", argv)


def work(request: Request, output: int) -> None:
    """Do what a call wants, as a child; the answer goes to `output`."""
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(null, 2)
    if request.get("cpus"):
        os.sched_setaffinity(0, request["cpus"])
    own = os.open("/proc/self/ns", os.O_RDONLY | os.O_CLOEXEC)
    with open("/proc/self/cgroup") as cgroup:  # open before /proc may go
        if request.get("umount"):
            without(request["umount"])
        if "pamtester" in request:
            pamtester(request)
        answer = {**call(request), "cgroups": cgroup.read()}
        answer["cpus"] = sorted(os.sched_getaffinity(0))
        answer["namespace"] = os.readlink("mnt", dir_fd=own)
    os.write(1, json.dumps(answer).encode())


class Connection:
    """A connection that no process has open, only each call: else ours would be its session's."""

    def __init__(self, listeners: list[socket.socket]) -> None:
        """Wait for it, and put it into a queue."""
        ready, _, _ = select.select(listeners, [], [], PATIENCE)
        accepted, _ = ready[0].accept()
        self.ends = [*accepted.getpeername()[:2], *accepted.getsockname()[:2]]
        self.queue = socket.socketpair()
        socket.send_fds(self.queue[0], [b"x"], [accepted.fileno()])
        accepted.close()

    def open(self) -> None:
        """Give this process, and what it becomes, the connection; it stays in the queue."""
        size = socket.CMSG_LEN(4)  # recv_fds() has flags and leaves them out
        _, ((_, _, fd), *_), _, _ = self.queue[1].recvmsg(1, size, socket.MSG_PEEK)
        os.set_inheritable(int.from_bytes(fd, sys.byteorder), True)

    def close(self) -> None:
        """Hang up."""
        for end in self.queue:
            end.close()


def serve(
    request: Request, listeners: list[socket.socket], connection: Connection | None
) -> Request:
    """Have a child do it; return its answer, or how it ended without one."""
    source, output = os.pipe()
    pid = os.fork()
    if pid == 0:
        for listener in listeners:
            listener.close()  # sshd has closed its own by then
        try:
            if connection:
                connection.open()
            work(request, output)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the child ends here
            os.write(output, f"{error!r}".encode())
            os._exit(3)
        os._exit(0)
    os.close(output)
    data, over = receive(source, time.monotonic() + request.get("seconds", 30))
    os.close(source)
    if not over:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    number = os.waitstatus_to_exitcode(status)
    if "pamtester" in request:
        return {"pid": pid, "status": number, "output": text(data), "over": over}
    if over and number == 0 and data:
        return {"pid": pid, "ended": "", **json.loads(data)}
    return {"pid": pid, "ended": f"exit {number}: {text(data)}" if over else "no end"}


def receive(source: int, end: float) -> tuple[bytes, bool]:
    """Read to the end of a pipe; say whether that came in time."""
    data = b""
    while select.select([source], [], [], max(0, end - time.monotonic()))[0]:
        piece = os.read(source, 1 << 16)
        if not piece:
            return data, True
        data += piece
    return data, False


def main() -> None:
    """Answer until standard input ends."""
    port = int(sys.argv[1])
    listeners = [
        socket.create_server(("", port)),
        socket.create_server(("::1", port), family=socket.AF_INET6),
    ]
    connection: Connection | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "accept" in request or "hang_up" in request:
            if connection:
                connection.close()
            connection = None
            if "accept" in request:
                connection = Connection(listeners)
        if "call" in request or "pamtester" in request:
            answer = serve(request, listeners, connection)
        elif "log" in request:
            answer = log(request["log"])
        else:
            answer = {"connection": connection.ends if connection else []}
        print(json.dumps(answer), flush=True)


def log(line: str) -> Request:
    """Write a line as syslog(3) does, and wait until it is taken."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("/dev/log")
        sock.send(f"<86>{time.strftime('%b %e %H:%M:%S')} {line}".encode())
    return {}


if __name__ == "__main__":
    main()
