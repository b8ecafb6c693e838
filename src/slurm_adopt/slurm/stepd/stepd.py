"""The slurmstepd's unix socket: whose step it is, adding a process, what the job has to give.

Sources: src/common/stepd_api.c (client), src/slurmd/slurmstepd/req.c (server). The socket carries C
objects in native byte order without framing; the client greets with a protocol number, the stepd
answers its own, then requests follow: an int32 code and its body. A refusal may be a closed
connection instead of a reply. A stepd of 17.11 or 18.08 answers -1 to a number; it is then asked
again on a new connection and introduced to with a credential (old_greeting.py).
"""

from __future__ import annotations

import _socket
import os
from time import sleep

from slurm_adopt.slurm import time_limits
from slurm_adopt.slurm.errors import (
    HUNG_UP,
    NO_ANSWER,
    UNSETTLED,
    PeerError,
    SetupError,
    SlurmAdoptError,
)
from slurm_adopt.slurm.versions import ALL_NS, GREETING, MOUNT_NS_OR_HANGUP, NO_NS, layout_of
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.slurm.wire import NATIVE, Reader

from .step_sockets import new_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, TypeVar

    from slurm_adopt.slurm.versions import Release

    from .pulse import Pulse
    from .step_sockets import StepSocket

    Came = TypeVar("Came")

    # Makes the greeting of stepds that want a credential, each time another; SlurmAdoptError.
    Introduce = Callable[[Deadline], bytes]

# fmt: off
# Request codes (step_msg_t, src/common/stepd_api.h): the same numbers in every release.
REQUEST_STATE          = 5   # body: none                  reply: int32 state
REQUEST_STEP_LIST_PIDS = 15  # body: none                  reply: u32 n, n times u32 pid
REQUEST_STEP_UID       = 20  # body: none                  reply: u32 uid
REQUEST_ADD_EXTERN_PID = 22  # body: int32 pid             reply: int32 0 or -1
REQUEST_X11_DISPLAY    = 23  # body: none                  reply: see versions.py
REQUEST_GET_NS_FD      = 26  # body: none                  reply: see Stepd.namespaces()
REQUEST_GET_NS_FDS     = 28  # body: none                  reply: the same
# fmt: on

STARTING = 1  # slurmstepd_state_t; of an extern step: its cgroups and namespaces are being made
ALIVE = frozenset({STARTING, 2})  # 2 is running; all other states are ends
RETRY = 0.01  # seconds until a stepd whose backlog was full is tried again, at first
SLOWEST = 0.2  # seconds between two tries later on: hundreds may be trying
LOOK = time_limits.LOOKING.silence
QUEUE = time_limits.QUEUED.silence  # its process may have to be looked for
ASKING = time_limits.ASKED_BESIDE.last
LOOKS = 2  # the fewest before a stepd is given up: we may be the one that gets no CPU
AT_LEAST = 0.001  # seconds: what has come is taken, also by who gets to run too late
PATH_MAX = 4096  # limits.h
PIDS_MAX = 1 << 16  # pids in an answer
NAMESPACES_MAX = 8  # kinds of namespaces (namespaces(7))
CLONE_NEWNS = 0x00020000  # a mount namespace (linux/sched.h)
DISPLAY_MAX = 65535 - 6000  # X11's displays are TCP ports from 6000 on
DESCRIPTOR = 4  # bytes: a C int
GREETED = GREETING.to_bytes(4, NATIVE)  # the usual greeting


class Stepd:
    """A conversation with one stepd: greeted on entering, closed on leaving the `with` block."""

    __slots__ = (
        "_begun",
        "_deadline",
        "_descriptors",
        "_introduce",
        "_looks",
        "_pulse",
        "_socket",
        "_step",
        "_trusted",
        "protocol",
    )

    def __init__(
        self,
        step: StepSocket,
        trusted: frozenset[int],
        deadline: Deadline,
        introduce: Introduce | None = None,
    ) -> None:
        """`deadline` is for the whole conversation; each answer renews it (waiting.py)."""
        self._step = step
        self._trusted = trusted
        self._deadline = deadline
        self._introduce = introduce
        self._pulse: Pulse | None = None
        self._begun = False  # whether a part of the answer has come
        self._looks = 0  # at whether it is alive, since it was asked
        self._socket = new_socket()
        self._descriptors: list[int] = []  # received; closed with the conversation
        self.protocol = 0

    def __enter__(self) -> Stepd:
        """Connect and greet; PeerError if that fails."""
        try:
            self._open()
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection, and the descriptors that came over it."""
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.pop())

    @property
    def path(self) -> str:
        """The socket file."""
        return self._step.path

    def other(self, step: StepSocket, deadline: Deadline) -> Stepd:
        """Return a conversation, not yet begun, with another stepd; on the same terms."""
        return Stepd(step, self._trusted, deadline, self._introduce)

    def uid(self) -> int:
        """Return the uid of the job's user."""
        return self._ask(REQUEST_STEP_UID).u32("uid")

    def state(self) -> int:
        """Return slurmstepd_state_t; see ALIVE."""
        return self._ask(REQUEST_STATE).int32("state")

    def add_extern_pid(self, pid: int) -> None:
        """Have the process adopted; PeerError if the stepd refuses, UNSETTLED if it is silent.

        The stepd puts it under proctrack, task and accounting plugins before it answers 0
        (src/slurmd/slurmstepd/req.c, _handle_add_extern_pid); a 0 is no proof, see step_cgroup.py.
        """
        self._check_pid_namespace()
        self._check_read()
        body = pid.to_bytes(4, NATIVE, signed=True)
        try:
            answer = self._ask(REQUEST_ADD_EXTERN_PID, body).int32("return code")
        except PeerError as error:
            if error.kind != NO_ANSWER:
                raise
            raise PeerError(f"{error}: it may still take process {pid}", UNSETTLED) from None
        if answer != 0:
            raise self._error(f"refuses to take process {pid}")

    def x11(self) -> tuple[int, str] | None:
        """Return the job's X11 display number and XAUTHORITY ("" for none); None without X11."""
        release = self._release()
        reader = self._ask(REQUEST_X11_DISPLAY, reply=sum(size for _, size in release.x11))
        answer = {field: reader.int32(field) for field, _ in release.x11}
        display, size = answer["display"], answer.get("length", 0)
        if not 0 <= size <= PATH_MAX:
            raise self._error(f"sent a malformed answer: XAUTHORITY is {size} bytes long")
        raw = self._receive(size).take(size, "XAUTHORITY")
        if not 0 <= display <= DISPLAY_MAX:
            raise self._error(f"sent a malformed answer: display {display}")
        path = raw[:-1].decode("ascii", "replace")
        if size and not (raw.endswith(b"\0") and path.isascii() and path.isprintable()):
            raise self._error("sent a malformed answer: XAUTHORITY is not one NUL-terminated path")
        return (display, path) if display else None

    def pids(self) -> list[int]:
        """Return the processes that the stepd finds in its step."""
        count = self._ask(REQUEST_STEP_LIST_PIDS).u32("number of pids")
        if count > PIDS_MAX:
            raise self._error(f"sent a malformed answer: {count} processes")
        reader = self._receive(4 * count)
        return [reader.u32("pid") for _ in range(count)]

    def namespaces(self) -> list[tuple[int, int]]:
        """Return the job's namespaces: CLONE_NEW* flag and descriptor, open while we talk.

        Empty where the job has none of its own. A flag is what the stepd says, the descriptor
        whatever it sent: setns() tells (src/slurmd/slurmstepd/req.c, _handle_get_ns_fd and _fds;
        src/common/fd.c, send_fd_over_socket).
        """
        kind = self._release().namespaces
        if kind == NO_NS:
            return []
        if kind == ALL_NS:
            return self._all_namespaces()
        try:
            value = self._ask(REQUEST_GET_NS_FD).int32("namespace")
        except PeerError as error:
            if error.kind != HUNG_UP or kind != MOUNT_NS_OR_HANGUP:
                raise
            self._socket.close()  # it does not know the request, so there are none
            self._socket = new_socket()
            self._open()
            return []
        if value < 0:
            raise self._error("cannot hand out the job's namespace")
        return [(CLONE_NEWNS, self._receive_descriptor())] if value else []

    def _all_namespaces(self) -> list[tuple[int, int]]:
        count = self._ask(REQUEST_GET_NS_FDS).u32("number of namespaces")
        if count > NAMESPACES_MAX:
            raise self._error(f"sent a malformed answer: {count} namespaces")
        return [
            (self._receive(4).u32("kind of namespace"), self._receive_descriptor())
            for _ in range(count)
        ]

    def _release(self) -> Release:
        release = layout_of(self.protocol)
        if release is None:
            raise self._error(f"speaks protocol {self.protocol}, which belongs to no known release")
        return release

    def _open(self) -> None:
        """Connect and greet; once more with a credential if a number is refused."""
        self._greet(GREETED)
        if self.protocol < 0 and self._introduce is not None:
            self._socket.close()
            self._socket = new_socket()
            self._greet(self._introduce(self._deadline))
        if self.protocol < 0:
            raise self._error("refuses this protocol version")

    def _greet(self, greeting: bytes) -> None:
        """Connect and take the stepd's protocol number, -1 for a refusal."""
        self._begun, self._looks = False, 0
        self._connect()
        self._looks = 0
        self._deadline.renew(alive=False)  # it has a place in the backlog
        self._send(greeting)
        self.protocol = self._receive(4).int32("protocol version")

    def _connect(self) -> None:
        """Connect; who gets no CPU until the time is over looks again, as in _await()."""
        pause, look = RETRY, Deadline(QUEUE)
        while True:
            try:
                self._socket.settimeout(self._deadline.left() or AT_LEAST)
                self._socket.connect(self._step.path)
                break
            except BlockingIOError:  # its backlog is full
                sleep(min(pause, self._deadline.left()))
                pause = min(SLOWEST, 1.5 * pause)
                if not look.left():
                    look = Deadline(QUEUE)
                    self._look()
                if not self._deadline.left():
                    if self._looks >= LOOKS or not self._deadline.renews:
                        raise self._error("does not accept connections") from None
                    self._deadline.renew(alive=False)
            except OSError as error:
                raise self._error(f"cannot be reached: {error.strerror}") from None
        self._step.check_peer(self._socket, self._trusted)

    def _check_pid_namespace(self) -> None:
        """Refuse where a pid of ours would name another process on the stepd's side."""
        try:
            own = os.readlink("/proc/self/ns/pid")
        except OSError as error:
            text = f"cannot read /proc/self/ns/pid: {error.strerror}; is /proc mounted?"
            raise SetupError(text) from None
        try:
            same = os.readlink(f"/proc/{self._step.pid}/ns/pid") == own
        except OSError:  # pid 0: the kernel has no number for it here
            same = False
        if not same:
            raise self._error("is in another PID namespace than this process, or has just ended")

    def _check_read(self) -> None:
        """Refuse a stepd that has sent more than its answers: that would be taken for the next one.

        The process would be put back, say, while the stepd is moving it.
        """
        self._socket.settimeout(0)
        try:
            more = self._socket.recv(1, _socket.MSG_PEEK)
        except OSError:  # nothing is there; what is broken shows when it is asked
            return
        if more:
            raise self._error("sent a malformed answer: there is more of it than there should be")

    def _ask(self, code: int, body: bytes = b"", reply: int = 4) -> Reader:
        self._begun, self._looks = False, 0
        self._deadline.renew(alive=False)  # all before was answered; the time since then is ours
        self._send(code.to_bytes(4, NATIVE) + body)
        return self._receive(reply)

    def _send(self, data: bytes) -> None:
        left = self._deadline.left()
        if not left:
            raise self._silent()
        self._socket.settimeout(left)
        try:
            self._socket.sendall(data, _socket.MSG_NOSIGNAL)
        except OSError as error:
            raise self._broken(error) from None

    def _receive(self, size: int) -> Reader:
        data = b""
        while len(data) < size:
            piece = self._await(lambda: self._socket.recv(size - len(data)))  # noqa: B023
            if not piece:
                raise self._closed()
            data += piece
            self._begun = True
        return Reader(data, f"stepd of job {self._step.job_id}", NATIVE)

    def _receive_descriptor(self) -> int:
        """Take one byte and the descriptor that comes with it (SCM_RIGHTS, unix(7))."""
        room, flags = _socket.CMSG_LEN(DESCRIPTOR), _socket.MSG_CMSG_CLOEXEC
        data, ancillary, shown, _ = self._await(lambda: self._socket.recvmsg(1, room, flags))
        for level, kind, payload in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                self._descriptors.append(int.from_bytes(payload[:DESCRIPTOR], NATIVE))
                return self._descriptors[-1]
        if not data:
            raise self._closed()
        if shown & _socket.MSG_CTRUNC:  # it came, and there was no room: for a socket there is none
            new_socket().close()
        raise self._error("sent a malformed answer: no descriptor came with the namespace")

    def _await(self, receive: Callable[[], Came]) -> Came:
        """Return what the stepd sends; wait longer for one that shows that it is alive.

        But no longer for the rest of an answer: what has begun to answer has no queue in front.
        """
        while True:
            left = self._deadline.left()
            self._socket.settimeout(min(left, LOOK) or AT_LEAST)
            try:
                return receive()
            except _socket.timeout:
                if not self._begun:
                    self._look()
            except OSError as error:
                raise self._broken(error) from None
            if not self._deadline.left():
                if self._begun or self._looks >= LOOKS or not self._deadline.renews:
                    raise self._silent()
                self._deadline.renew(alive=False)

    def _look(self) -> None:
        """Renew the deadline if the stepd, which has been silent for a while, is alive."""
        if not self._deadline.renews:
            return
        self._looks += 1
        if self._pulse is None:
            from .pulse import of_each

            self._pulse = of_each([self._step])[self._step]
        if self._pulse.felt(self._answers):
            self._deadline.renew()

    def _answers(self) -> bool:
        """Say whether the stepd answers a question on another connection."""
        try:
            with self.other(self._step, self._deadline.within(ASKING)) as step:
                step.state()
        except SlurmAdoptError:
            return False
        return True

    def _broken(self, error: OSError) -> PeerError:
        if isinstance(error, _socket.timeout):
            return self._silent()
        return self._error(f"broke the connection ({error.strerror})")

    def _closed(self) -> PeerError:
        who = f"stepd of job {self._step.job_id}"
        text = f"{who} closed the connection: the step is ending, or refuses"
        return PeerError(text, HUNG_UP)

    def _silent(self) -> PeerError:
        text = f"stepd of job {self._step.job_id} does not answer{self._deadline.lapsed}"
        return PeerError(text, NO_ANSWER)

    def _error(self, text: str) -> PeerError:
        return PeerError(f"stepd of job {self._step.job_id} {text}")
