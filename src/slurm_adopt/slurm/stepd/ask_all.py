"""All stepds of a node asked at once, within one deadline: whose steps they are, and their state.

The dialogue is that of stepd.py, its first two requests sent with the greeting.
"""

from __future__ import annotations

import _socket
import select

from slurm_adopt.slurm import time_limits
from slurm_adopt.slurm.errors import FormatError, PeerError, SetupError, SlurmAdoptError
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.slurm.wire import NATIVE

from .step_sockets import new_socket
from .stepd import (
    GREETED,
    LOOK,
    LOOKS,
    REQUEST_STATE,
    REQUEST_STEP_UID,
    RETRY,
    SLOWEST,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Callable

    from .pulse import Pulse
    from .step_sockets import StepSocket
    from .stepd import Introduce

IN_FLIGHT = 512  # connections open at the same time while all stepds are asked
QUIET = time_limits.STOPPED.silence
OTHERS = time_limits.OTHERS.last
INTRODUCING = time_limits.INTRODUCED.last  # the other stepds' answers are waiting


class Answer:
    """What one stepd said of itself."""

    __slots__ = ("protocol", "state", "uid")

    def __init__(self, protocol: int, uid: int, state: int) -> None:
        """Protocol number of the stepd's release, uid of the job's user, slurmstepd_state_t."""
        self.protocol = protocol
        self.uid = uid
        self.state = state


def ask_all(
    steps: Iterable[StepSocket],
    trusted: frozenset[int],
    deadline: Deadline,
    introduce: Introduce | None = None,
    of_another: Callable[[StepSocket], bool] = lambda _: False,
) -> tuple[dict[StepSocket, Answer], dict[StepSocket, str]]:
    """Ask every stepd for its user and state, all at the same time, within one deadline.

    Each answer renews it (waiting.py): where one stepd is slow, since many ask, so are others.
    One that has not answered renews it as long as it is at work. Those `of_another` user have
    OTHERS: who makes the own stepd slow shall make no login of others slow.

    Returns the answers, and for each stepd that did not give one the reason. A stepd whose socket
    is gone or refuses connections has ended and is in neither. `trusted`: uids a stepd may be.
    Where descriptors are scarce, fewer are asked at a time; SetupError if there is none at all.
    """
    inquiry = _Inquiry(trusted, deadline, introduce, of_another)
    waiting = list(steps)
    pause = RETRY
    try:
        while True:
            waiting = inquiry.start(waiting) + inquiry.refused()
            if not (waiting or inquiry.asked):
                break
            left = deadline.left()
            came = inquiry.collect(min(left, pause if waiting else LOOK), waiting)
            pause = RETRY if came else min(SLOWEST, 1.5 * pause)
            if inquiry.stopped or inquiry.only_others(waiting):
                break
            if not (left or came or deadline.left()):  # what has come is taken by who is late, too
                if inquiry.looks >= LOOKS or not deadline.renews:
                    break
                deadline.renew(alive=False)
    finally:
        inquiry.close()
    silence = f"does not answer{deadline.lapsed}"
    inquiry.silent.update((q.step, silence) for q in inquiry.asked.values())
    reason = inquiry.shortage or "does not accept connections"
    inquiry.silent.update((step, reason) for step in waiting)
    return inquiry.answers, inquiry.silent


class _Question:
    """One stepd that has been asked."""

    __slots__ = ("pulse", "received", "socket", "step")

    def __init__(self, step: StepSocket, socket: _socket.socket) -> None:
        self.step = step
        self.socket = socket
        self.received = b""
        self.pulse: Pulse | None = None

    def alive(self) -> bool:
        """Say whether it has been at work since this was asked last."""
        if self.pulse is None:
            from .pulse import Pulse

            self.pulse = Pulse(self.step.pid)
        return self.pulse.felt()

    @property
    def runs(self) -> bool:
        """Whether it is there and not stopped, as far as that was looked at."""
        return self.pulse is not None and self.pulse.runs


_REQUESTS = REQUEST_STEP_UID.to_bytes(4, NATIVE) + REQUEST_STATE.to_bytes(4, NATIVE)
_REPLY = 12  # bytes: protocol number, uid, state
_REFUSAL = b"\xff\xff\xff\xff"  # -1 in place of a protocol number


class _Inquiry:
    """The open questions by descriptor, and what has come of those that are closed."""

    __slots__ = (
        "_deadline",
        "_introduce",
        "_look",
        "_of_another",
        "_others",
        "_poll",
        "_queued",
        "_quiet",
        "_refused",
        "_theirs",
        "_trusted",
        "answers",
        "asked",
        "introduced",
        "looks",
        "shortage",
        "silent",
        "stopped",
    )

    def __init__(
        self,
        trusted: frozenset[int],
        deadline: Deadline,
        introduce: Introduce | None,
        of_another: Callable[[StepSocket], bool],
    ) -> None:
        self._trusted = trusted
        self._deadline = deadline
        self._introduce = introduce
        self._look = Deadline(LOOK)  # when it is to be seen whether the silent ones are alive
        self._of_another = of_another
        self._others = Deadline(OTHERS)  # when it is to be seen whether all are other users'
        self._theirs: set[StepSocket] = set()
        self._poll = select.poll()
        self._queued: dict[StepSocket, Pulse] = {}  # of those whose backlog is full
        self._quiet = Deadline(QUIET)
        self._refused: list[StepSocket] = []
        self.introduced: set[StepSocket] = set()
        self.asked: dict[int, _Question] = {}
        self.answers: dict[StepSocket, Answer] = {}
        self.silent: dict[StepSocket, str] = {}
        self.looks = 0  # at who is alive, since something was answered
        self.stopped = False  # whether all that have not answered are
        self.shortage = ""  # why another one could not be asked, when that was last tried

    def start(self, waiting: list[StepSocket]) -> list[StepSocket]:
        """Ask as many as may be in flight; return those to be tried later.

        Those that have ended take up no room: there may be thousands of their sockets.
        """
        busy: list[StepSocket] = []
        for at, step in enumerate(waiting):
            if len(self.asked) + len(busy) >= IN_FLIGHT:
                return waiting[at:] + busy
            if not self._start(step):
                busy.append(step)
        return busy

    def _start(self, step: StepSocket) -> bool:
        """Ask one; return False if it has to be tried again.

        Its backlog is full, or there is no descriptor before others have answered.
        """
        try:
            socket, self.shortage = new_socket(_socket.SOCK_NONBLOCK), ""
        except SetupError as error:
            if not self.asked:
                raise
            self.shortage = str(error)
            return False
        try:
            socket.connect(step.path)
            step.check_peer(socket, self._trusted)
            socket.send(self._greeting(step) + _REQUESTS, _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            socket.close()
            return False
        except (FileNotFoundError, ConnectionError):  # it has ended
            socket.close()
        except (OSError, PeerError) as error:
            socket.close()
            self.silent[step] = str(error)
        else:
            self.asked[socket.fileno()] = _Question(step, socket)
            self._poll.register(socket.fileno(), select.POLLIN)
        return True

    def _greeting(self, step: StepSocket) -> bytes:
        """Return the usual greeting, or a credential for a stepd that has refused that."""
        if step not in self.introduced or self._introduce is None:
            return GREETED
        try:
            return self._introduce(self._deadline.within(INTRODUCING))
        except SlurmAdoptError as error:
            reason = str(error)
        self._introduce = _failing(reason)  # none of the others will get a credential, either
        raise PeerError(reason)

    def refused(self) -> list[StepSocket]:
        """Return, once, the stepds that are to be asked again with a credential."""
        again, self._refused = self._refused, []
        self.introduced.update(again)
        return again

    def collect(self, seconds: float, waiting: list[StepSocket]) -> bool:
        """Read what has been answered, waiting for at most `seconds`; say whether there was any.

        `waiting`: those that could not be asked yet.
        """
        events = self._poll.poll(max(1, int(seconds * 1000)))
        if events:
            self._deadline.renew()
            self._look, self._quiet = Deadline(LOOK), Deadline(QUIET)
            self.looks = 0
        elif not self._look.left():
            self._feel(waiting)
        for fd, _ in events:
            question = self.asked[fd]
            if not _more(question):
                self._poll.unregister(fd)
                question.socket.close()
                del self.asked[fd]
                self._settle(question)
        return bool(events)

    def _feel(self, waiting: list[StepSocket]) -> None:
        """Renew the deadline if one of those that have not answered is at work.

        Where all of them are stopped there is nothing to wait for.
        """
        self._look = Deadline(LOOK)
        self.looks += 1
        if not self._deadline.renews:
            return
        asked = [one for one in self.asked.values() if one.step not in self._theirs]
        waiting = [step for step in waiting if step not in self._theirs]
        felt = sum(question.alive() for question in asked)  # all take note
        quiet = not self._quiet.left()
        if quiet and waiting and not self.shortage:
            self._queued = self._queued or self._pulses(waiting)
            felt += sum(self._queued[step].felt() for step in waiting if step in self._queued)
        if felt:
            self._deadline.renew()
        elif quiet:
            runs = sum(question.runs for question in asked)
            runs += sum(self._queued[step].runs for step in waiting if step in self._queued)
            self.stopped = not runs

    def only_others(self, waiting: list[StepSocket]) -> bool:
        """Say whether all that are left are other users', once these have had their time."""
        if self._others.left():
            return False
        self._others = Deadline(LOOK)
        steps = [*waiting, *self._refused, *(question.step for question in self.asked.values())]
        self._theirs.update(step for step in steps if self._of_another(step))
        return self._theirs.issuperset(steps)

    def _pulses(self, steps: list[StepSocket]) -> dict[StepSocket, Pulse]:
        from .pulse import of_each

        return of_each(steps)

    def _settle(self, question: _Question) -> None:
        step = question.step
        if not question.received:  # closed without a word: the step has just ended
            return
        if question.received == _REFUSAL and self._introduce and step not in self.introduced:
            self._refused.append(step)
            return
        if len(question.received) < _REPLY and question.received != _REFUSAL:
            self.silent[step] = "closed the connection in mid-reply: has it died?"
            return
        try:
            self.answers[step] = _answer(question.received)
        except FormatError as error:
            self.silent[step] = str(error)

    def close(self) -> None:
        """Close the connections of those that have not answered."""
        for question in self.asked.values():
            question.socket.close()


def _failing(reason: str) -> Introduce:
    """Return what fails as the last one did, without asking munged again."""

    def introduce(_: Deadline) -> bytes:
        raise PeerError(reason)

    return introduce


def _more(question: _Question) -> bool:
    """Read what is there; return whether more is to be waited for (not after a refusal)."""
    try:
        data = question.socket.recv(_REPLY - len(question.received))
    except OSError:
        data = b""
    question.received += data
    return bool(data) and len(question.received) < _REPLY and question.received != _REFUSAL


def _answer(data: bytes) -> Answer:
    """Read protocol version, uid and state, all of _REPLY; FormatError for a refusal."""
    protocol = int.from_bytes(data[:4], NATIVE, signed=True)
    if protocol < 0:
        raise FormatError("the stepd refuses this protocol version")
    state = int.from_bytes(data[8:], NATIVE, signed=True)
    return Answer(protocol, int.from_bytes(data[4:8], NATIVE), state)
