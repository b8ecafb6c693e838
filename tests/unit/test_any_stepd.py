"""Whatever stepds and slurmds answer, and whenever: wholly in one confirmed job, or in none.

The real node over stand-ins of stepds on real sockets. They answer late, in pieces, with other
uids, die in mid-reply, change their answers, and move the process otherwise than they say; jobs are
frozen, end and change hands between two questions. What counts is where the process is in the
cgroups of a stand-in of the kernel.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from random import Random
from sys import byteorder
from typing import TYPE_CHECKING, Any, Callable, cast

import pytest
from hypothesis import note
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from slurm_adopt.decision.engine import decide
from slurm_adopt.decision.login import Login
from slurm_adopt.decision.options import parse
from slurm_adopt.decision.session_phase import decide_session
from slurm_adopt.node import adopting, jobs, moving, node, stepds, unsettled
from slurm_adopt.node.slurm_site import SlurmSite
from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm import auth
from slurm_adopt.slurm.cgroup import hierarchy, step_cgroup
from slurm_adopt.slurm.errors import PeerError
from slurm_adopt.slurm.stepd import ask_all, step_sockets, stepd
from slurm_adopt.slurm.time_limits import Limit
from slurm_adopt.slurm.versions import RELEASES, Release
from tests.fakes import slurmd
from tests.fakes.log import Lines
from tests.fakes.peers import Peer, silent
from tests.fakes.requests import (
    REQUEST_ADD_EXTERN_PID,
    REQUEST_GET_NS_FD,
    REQUEST_GET_NS_FDS,
    REQUEST_STATE,
    REQUEST_STEP_LIST_PIDS,
    REQUEST_STEP_UID,
    REQUEST_X11_DISPLAY,
)
from tests.fakes.stepd import Stepd, int32
from tests.fakes.tree import Tree
from tests.properties import ANY, Dice, bounded, code_of, finds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.decision.adoption import Adoption, Choice
    from slurm_adopt.decision.outcome import Outcome
    from slurm_adopt.system.log import Log

UIDS = [*[5001] * 6, 5002, 0]
JOBS = range(1, 5)
PID = 42
STEPD = 1 << 22  # and the job id: pids of stepds, which are of no process
BEFORE = "/user.slice/x"
SCOPE = "/system.slice/slurmstepd.scope"
V1 = ("freezer", "memory", "pids")
CONF = "TaskPlugin=task/cgroup\nSelectTypeParameters=CR_Core_Memory\n"
NUMBERED = [row for row in RELEASES if row.protocol >= 34 << 8]  # greeted by number
SHORT = Limit(0.15, 0.6, "")
REST = 60.0  # seconds that a stand-in may take for what it has begun
AT = Connection("127.0.0.1", 50000, "127.0.0.2", 22)
FREEZE = {True: {"freezer": ("freezer.state", "FROZEN"), "": ("cgroup.freeze", "1")},
          False: {"freezer": ("freezer.state", "THAWED"), "": ("cgroup.freeze", "0")}}  # fmt: skip


class Job:
    """A job as it is."""

    def __init__(self, job_id: int, uid: int, release: Release) -> None:
        self.job_id = job_id
        self.uid = uid
        self.release = release
        self.state = 2
        self.frozen = False
        self.listener = 0  # whose process its stepd is


class Kernel:
    """The cgroups of the jobs and of one process, in files; notes who moves it."""

    def __init__(self, top: Path, unified: bool) -> None:
        self.tree = Tree(top)
        self.unified = unified
        self.names = ("",) if unified else V1
        self.lock = threading.RLock()
        if unified:
            self.tree.mount("nsdelegate", "cgroup2")
        else:
            for name in V1:
                self.tree.mount(name)
        self.places = dict.fromkeys(self.names, BEFORE)
        for name in self.names:
            self.tree.make(f"{name}{BEFORE}")
        self._show()
        self.layout = self.tree.layout(CONF, "ConstrainRAMSpace=yes\n")
        self.begin(Dice(Random(0)), False)

    def begin(self, dice: Dice, refuses: bool) -> None:
        """Forget what was noted of another login."""
        self._dice, self._refuses = dice, refuses
        self.before = dict(self.places)
        self.written: list[str] = []
        self.excused = ""  # what keeps a process from being wholly in or out
        self.whole: set[int] = set()  # the jobs that it was wholly in when it was looked at last
        self.moved = False  # since then

    def reset(self) -> None:
        """Have another process, outside of all jobs."""
        self.places = dict.fromkeys(self.names, BEFORE)
        self._show()

    def steps(self, job: Job) -> dict[str, str]:
        """Return the cgroups of a job's extern step by controller, where it has some."""
        if self.unified:
            found = {"": f"{SCOPE}/job_{job.job_id}/step_extern/user"}
        else:
            path = f"/slurm/uid_{job.uid}/job_{job.job_id}/step_extern"
            found = dict.fromkeys(V1, path)
        return {name: path for name, path in found.items() if self._directory(name, path).is_dir()}

    def _directory(self, name: str, path: str) -> Path:
        return self.tree.mnt / name / path.lstrip("/")

    def make(self, job: Job) -> None:
        """Make a job's cgroups, as slurmd does for an extern step."""
        with self.lock:
            if self.unified:
                top = f"{SCOPE}/job_{job.job_id}/step_extern"
                made = [f"{top}/slurm", f"{top}/user", f"{top}/user/task_0"]
                self.tree.process(STEPD + job.job_id, f"0::{top}/slurm")
            else:
                made = [f"/slurm/uid_{job.uid}/job_{job.job_id}/step_extern"]
            for path in made:
                for name in self.names:
                    directory = self._directory(name, path)
                    directory.mkdir(parents=True, exist_ok=True)
                    (directory / "cgroup.procs").touch()
            self.freeze(job, job.frozen)

    def remove(self, job: Job) -> None:
        """Remove a job's cgroups that the process is not in, as slurmd does at its end."""
        with self.lock:
            for name, path in self.steps(job).items():
                if not hierarchy.is_below(self.places[name], path):
                    shutil.rmtree(self._directory(name, path))
                    self.excused = "a cgroup has gone"

    def freeze(self, job: Job, frozen: bool) -> None:
        with self.lock:
            job.frozen = frozen
            for name, path in self.steps(job).items():
                if found := FREEZE[frozen].get(name):
                    (self._directory(name, path) / found[0]).write_text(found[1])

    def move(self, name: str, path: str) -> None:
        """Move the process, as a stepd does."""
        with self.lock:
            if not self._directory(name, path).is_dir():
                return
            leaf = f"{path}/task_0" if self.unified else path
            self.places[name] = leaf
            self.moved = True
            self._show()

    def enter(self, pid: int, controller: str, path: str) -> None:
        """Stand in for Layout.enter()."""
        with self.lock:
            assert pid == PID
            self.written.append(path)
            if self._refuses and self._dice.once_in(3):
                self.excused = "a write was refused"
                raise PeerError("cannot write process: No space left on device")
            if not self._directory(controller, path).is_dir():
                raise PeerError("cannot write process: No such file or directory")
            self.places[controller] = path
            self.moved = True
            self._show()

    def _show(self) -> None:
        numbered = enumerate(self.places.items())
        self.tree.process(PID, *(f"{number}:{name}:{path}" for number, (name, path) in numbered))

    def wholly_in(self, job: Job) -> bool:
        steps = self.steps(job)
        return bool(steps) and all(
            hierarchy.is_below(self.places[name], path) for name, path in steps.items()
        )

    def in_part(self, job: Job) -> bool:
        return any(
            hierarchy.is_below(self.places[name], path) for name, path in self.steps(job).items()
        )


class AnyStepd(Stepd):
    """A stepd that says what is so, or anything, and moves the process as it says, or otherwise."""

    def __init__(self, host: Host, job: Job, path: Path) -> None:
        super().__init__(path, protocol=job.release.protocol)
        self._host, self._job = host, job
        self.dice = Dice(Random(0))
        self.wild = False
        self.said: set[int] = set()  # uids, in the present login
        self.unconfirmed = False  # it was asked to take the process without having said whose it is
        self.asked = 0  # to take the process
        self.listens = True
        self.rest: list[tuple[str, str]] = []  # moves that are still to come
        self.silent = False  # it has left a request to take the process without an answer

    def end(self) -> None:
        self.listens = False
        super().end()

    def begin(self, dice: Dice, wild: bool) -> None:
        self.dice, self.wild = dice, wild
        self.said, self.unconfirmed, self.asked = set(), False, 0
        self.rest, self.silent = [], False

    def _talk(self, connection: socket.socket) -> None:
        said = b""
        with connection, contextlib.suppress(OSError), self._host.busy():
            if not self._take(connection, 4):
                return
            data = int32(self._job.release.protocol)
            how = self.dice.of("truth", *["close", "pieces", "late", "short"] * self._once_in(20))
            if not self._say(connection, data, how):
                return
            while code := self._take(connection, 4):
                number = int.from_bytes(code, byteorder)
                self._take(connection, self.BODIES.get(number, 0))
                if number == REQUEST_ADD_EXTERN_PID:
                    self.asked += 1
                    self.unconfirmed |= int32(self._host.uid) not in _words(said)
                data, how = self._reply(number)
                said += data
                if self._job.listener == 0 and number == REQUEST_STEP_UID:
                    self.said.update(int.from_bytes(word, byteorder) for word in _words(said))
                if not self._say(connection, data, how):
                    return

    def _once_in(self, times: int) -> bool:
        return self.wild and self.dice.once_in(times)

    def _reply(self, number: int) -> tuple[bytes, str]:
        """Return what is answered, and how."""
        if self._once_in(15):
            self._host.happens(self.dice)
        job, release = self._job, self._job.release
        how = "truth"
        if self._once_in(3 if number == REQUEST_ADD_EXTERN_PID else 12):
            hangs = 3 if number == REQUEST_ADD_EXTERN_PID else 1
            others = ["close", "short", "pieces", "late", "long", *["other"] * 4]
            how = self.dice.of(*others, *["hang"] * hangs)
        data = {
            REQUEST_STEP_UID: int32(job.uid),
            REQUEST_STATE: int32(job.state),
            REQUEST_GET_NS_FD: int32(0),
            REQUEST_GET_NS_FDS: int32(0),
            REQUEST_STEP_LIST_PIDS: int32(1) + int32(PID),
            REQUEST_X11_DISPLAY: bytes(sum(size for _, size in release.x11)),
        }.get(number, b"")
        if number == REQUEST_ADD_EXTERN_PID:
            data = self._taken(how)
        elif how == "other":
            data = b"".join(int32(self.dice.of(0, -1, 1, 2, 3, *UIDS)) for _ in data[::4])
        if how == "long":
            data += b"".join(int32(self.dice.of(0, 2, -1, *UIDS)) for _ in range(4))
        self._host.story.append(f"{job.job_id}: {number} {how} {data.hex()}")
        return data, how

    def _taken(self, how: str) -> bytes:
        """Move the process, or not; return what is said of it."""
        host, job = self._host, self._job
        moves = list(host.kernel.steps(job).items())
        self._host.story.append(f"{job.job_id} moves")
        does = self.dice.of(*["all"] * 3, "none", "some", "another's") if self.wild else "all"
        says = int32(self.dice.of(0, 0, -1, 1) if how == "other" else 0)
        if does == "another's":
            others = [other for other in host.jobs.values() if other is not job] or [job]
            moves = list(host.kernel.steps(self.dice.of(*others)).items())
        cut = {"none": 0, "some": self.dice.of(0, 1, 2)}.get(does, len(moves))
        slowly = self._once_in(4)
        for name, path in moves[:cut]:
            host.kernel.move(name, path)
            time.sleep(0.01 * slowly)
        if how in ("hang", "late"):
            self.silent = True
            goes_on = does in ("none", "some") and how == "hang" and self.dice.of(True, False)
            self.rest = moves[cut:] if goes_on else []
        return says

    def finish(self) -> None:
        """Go on with what was begun, if this is still the stepd of such a job."""
        if self._job.state in (1, 2) and self._job.uid == self._host.uid:
            for name, path in self.rest:
                self._host.kernel.move(name, path)
        self.rest = []

    def _say(self, connection: socket.socket, data: bytes, how: str) -> bool:
        """Send an answer; say whether the conversation goes on."""
        if how in ("close", "hang"):
            if how == "hang":
                connection.recv(1)  # until the other end closes
            return False
        if how == "short":
            connection.sendall(data[: self.dice.of(1, 2, 3)])
            return False
        if how == "late":
            time.sleep(0.03)
        for piece in (data[n : n + 1] for n in range(len(data))) if how == "pieces" else [data]:
            connection.sendall(piece)
        return True


def _words(data: bytes) -> list[bytes]:
    return [data[n : n + 4] for n in range(0, len(data) - 3, 4)]


class Host:
    """A node with its kernel, stepds, and the slurmd at the source."""

    def __init__(self, unified: bool) -> None:
        self.top = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.kernel = Kernel(self.top, unified)
        self.jobs: dict[int, Job] = {}
        self.stepds: dict[int, AnyStepd] = {}
        self.uid = -1  # of the present login
        self.notes: list[Adoption | Choice] = []
        self.story: list[str] = []  # of the present login, for who reads of a failure
        self._working = 0
        self._idle = threading.Condition()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Note that a stand-in is at work."""
        with self._idle:
            self._working += 1
        try:
            yield
        finally:
            with self._idle:
                self._working -= 1
                self._idle.notify_all()

    def rest(self) -> None:
        """Wait until all conversations are over, and what was begun is done."""
        with self._idle:
            assert self._idle.wait_for(lambda: not self._working, REST)
        for one in self.stepds.values():
            one.finish()

    def start(self, job: Job) -> None:
        """Start a job's stepd; another one of that id has ended."""
        self.end(job.job_id)
        if old := self.jobs.get(job.job_id):
            self.kernel.remove(old)
        path = self.top / f"n1_{job.job_id}.{job.release.extern_step}"
        path.unlink(missing_ok=True)
        self.jobs[job.job_id] = job
        self.kernel.make(job)
        self.stepds[job.job_id] = AnyStepd(self, job, path)
        self.stepds[job.job_id].start()

    def end(self, job_id: int) -> None:
        """End a stepd; its socket stays."""
        if one := self.stepds.get(job_id):
            one.end()

    def happens(self, dice: Dice) -> None:
        """Have something happen to a job, at any time."""
        if not self.jobs:
            return
        job = dice.of(*self.jobs.values())
        what = dice.of("freezes", "thaws", "ends", "starts", "runs", "dies", "goes", "owner")
        self.story.append(f"job {job.job_id} {what}")
        states = {"ends": 3, "starts": 1, "runs": 2}
        if what in ("freezes", "thaws"):
            self.kernel.freeze(job, what == "freezes")
            if what == "freezes":
                self.kernel.excused = "a job was frozen"
        elif what in states:
            job.state = states[what]
        elif what == "dies":
            self.end(job.job_id)
        elif what == "goes":
            self.kernel.remove(job)
        elif self.kernel.unified:  # on v1 the owner is in the names of its cgroups
            job.uid = dice.of(*UIDS)

    def close(self) -> None:
        for one in self.stepds.values():
            one.end()
        shutil.rmtree(self.top, ignore_errors=True)


def source(dice: Dice, release: Release) -> list[Any]:
    """Return what the slurmd at the source answers, one after the other."""
    found: list[Any] = []
    for _ in range(dice.of(1, 1, 2, 3)):
        job_id = dice.of(*JOBS, *JOBS, 0, 77, 0xFFFFFFFE, 0xFFFFFFFF)
        whole = slurmd.reply(release, slurmd.answer(release, job_id))
        nonsense = bytes(dice.of(0, 1, 255) for _ in range(dice.of(1, 4, 60)))
        found.append(
            dice.of(
                *[whole] * 5, whole[: dice.of(*range(len(whole)))], None, nonsense,
                nonsense + whole, slurmd.error(release, dice.of(5003, 2012, -1)),
                *[silent] * dice.once_in(3),
            )
        )  # fmt: skip
    return found


class Attempt:
    """One login, and what its phases have come to."""

    def __init__(self, dice: Dice) -> None:
        self.uid = dice.of(*UIDS)
        self.arguments = ["ignore_root=0", "callerid_timeout=0.3"]
        for name, values in {
            "action_no_jobs": ("deny", "ignore"),
            "action_unknown": ("newest", "newest", "deny", "allow"),
            "action_adopt_failure": ("allow", "deny"),
            "action_generic_failure": ("ignore", "allow", "deny"),
            "action_suspended": ("allow", "deny"),
            "single_job_skip_rpc": ("1", "0"),
            "callerid": ("1", "0"),
            "disable_x11": ("1", "0"),
            "join_container": ("true", "false"),
        }.items():
            self.arguments.append(f"{name}={dice.of(*values)}")
        self.before: Outcome | Adoption | Choice | None = None
        self.confirmed: set[int] = set()  # by the account phase


class Logins(RuleBasedStateMachine):
    """Logins to a node while its jobs come and go, and its stepds say anything."""

    @initialize(random=ANY)
    def boot(self, random: Random) -> None:
        dice = Dice(random)
        self.host = Host(dice.of(True, False))
        for job_id in JOBS[: dice.of(1, 1, 2, 2, 3)]:
            self._start(job_id, dice)

    def teardown(self) -> None:
        if hasattr(self, "host"):
            self.host.close()

    def _start(self, job_id: int, dice: Dice) -> None:
        job = Job(job_id, dice.of(*UIDS), dice.of(*NUMBERED))
        job.listener = 0 if not dice.once_in(12) else 5001
        job.state = dice.of(*[2] * 9, 1, 3)
        self.host.start(job)

    @rule(random=ANY)
    def a_job_comes(self, random: Random) -> None:
        dice = Dice(random)
        self._start(dice.of(*JOBS), dice)

    @rule(random=ANY)
    def something_happens(self, random: Random) -> None:
        self.host.happens(Dice(random))

    @rule(random=ANY)
    def logins(self, random: Random) -> None:
        dice = Dice(random)
        for _ in range(dice.of(1, 2, 4)):
            self._login(dice)

    def _login(self, dice: Dice) -> None:
        """Have a login go through one phase or both, while things happen."""
        self.host.kernel.reset()
        for job_id, job in [*self.host.jobs.items()]:
            if not (self.host.stepds[job_id].listens and job.state in (1, 2) and dice.of(0, 1, 1)):
                self._start(job_id, dice)
        attempt = Attempt(dice)
        if not dice.once_in(5):  # else there is a session line alone
            outcome = self._call("sshd", attempt, dice)
            known = [outcome, self.host.notes[-1] if self.host.notes else None]
            attempt.before = dice.of(*known)  # the same process, or another
            for _ in range(dice.of(0, 0, 0, 1, 2)):
                self.host.happens(dice)
        if not dice.once_in(5):
            self._call("", attempt, dice)

    def _call(self, account_of: str, attempt: Attempt, dice: Dice) -> Outcome:
        host = self.host
        host.uid, host.notes, host.story = attempt.uid, [], []
        wild = not dice.once_in(4)
        host.kernel.begin(dice.fork(), wild and dice.once_in(3))
        for one in host.stepds.values():
            one.begin(dice.fork(), wild)
        release = slurmd.BY_NAME["24.05"]
        defers = bool(account_of) and dice.of(True, False)
        with Peer(*source(dice, release)) as peer, pytest.MonkeyPatch.context() as patch:
            conf = f"NodeName=n1\nSlurmdSpoolDir={host.top}\nAuthType=auth/test\n"
            path = host.top / "slurm.conf"
            path.write_text(f"{conf}SlurmdPort={peer.port}\n")
            options, _ = parse([f"slurm_conf={path}", *attempt.arguments])
            patched(patch, host, defers)
            here = node.Node(options, cast("Log", Lines()), "n1", account_of)
            login = Login("alice", attempt.uid, "sshd", PID)
            if account_of:
                outcome = decide(login, options, here)
            else:
                outcome = decide_session(login, options, here, attempt.before)
        log = cast("Lines", here.phase.log).lines
        note(f"{account_of} {attempt.uid}: {outcome.code} {outcome.text}")
        note(f"{host.kernel.places}; {log}")
        self._check(attempt, outcome, account_of, here)
        return outcome

    def _check(self, attempt: Attempt, outcome: Outcome, phase: str, here: node.Node) -> None:
        host, kernel = self.host, self.host.kernel
        whole, moved = kernel.whole, kernel.moved
        host.rest()
        for job_id, one in host.stepds.items():
            if attempt.uid in one.said:
                attempt.confirmed.add(job_id)
        asked = [one for one in host.stepds.values() if one.asked]
        # the answer is the option's
        options = here.phase.options
        assert outcome.code == code_of(outcome, options, None if phase else attempt.before, True)
        if attempt.uid == 0:
            assert outcome.code in ("PAM_SUCCESS", "PAM_IGNORE")
        # nothing was asked of a stepd, or written, but for a job that is confirmed
        assert not any(one.unconfirmed for one in host.stepds.values())
        ours = [host.jobs[job_id] for job_id in attempt.confirmed]
        places = [path for job in ours for path in kernel.steps(job).values()]
        for path in kernel.written:
            below = any(hierarchy.is_below(path, place) for place in places)
            assert below or path in kernel.before.values() or kernel.excused
        # where the process is
        into = outcome.adoption
        if into:
            assert outcome.situation in ("adopted", "still adopted")
            assert outcome.code == "PAM_SUCCESS"
            assert into.uid == attempt.uid
            assert into.job_id in attempt.confirmed
            assert into.job_id in whole
            assert not moved or len(asked) > 1  # a first one that was too slow may be at it still
            return
        assert outcome.situation not in ("adopted", "still adopted")
        if kernel.places == kernel.before or kernel.excused:
            return
        # a stepd that has not answered may have taken it: then it is wholly in, by what it says
        assert any(kernel.wholly_in(job) for job in ours)
        if phase:
            assert "it may still take process" in outcome.text or any(one.silent for one in asked)


def patched(patch: pytest.MonkeyPatch, host: Host, defers: bool) -> None:
    """Put the kernel, the other end's process and short waits in the places of real ones."""
    kernel, real = host.kernel, hierarchy.of_process

    def of_process(pid: int, proc: str) -> dict[str, str]:
        with kernel.lock:
            if pid == PID:
                inside = (job for job in host.jobs.values() if kernel.wholly_in(job))
                kernel.whole, kernel.moved = {job.job_id for job in inside}, False
            return real(pid, proc)

    def peer(one: Any) -> tuple[int, int]:
        job_id = int(one.getpeername().rpartition("_")[2].partition(".")[0])
        return STEPD + job_id, host.jobs[job_id].listener

    for module in (hierarchy, step_cgroup, unsettled):
        patch.setattr(module, "of_process", of_process)
    patch.setattr(step_cgroup.Layout, "enter", lambda _, *args: kernel.enter(*args))
    patch.setattr(SlurmSite, "layout", lambda _: kernel.layout)
    patch.setattr(SlurmSite, "runs_slurm", True)
    patch.setattr(step_sockets, "peer", peer)
    patch.setattr(stepd.Stepd, "_check_pid_namespace", lambda _: None)
    patch.setattr(adopting, "session_process", lambda _: PID)
    for module in (adopting, moving):
        patch.setattr(module, "check_alive", lambda _: None)
    patch.setattr(moving, "_cpus", lambda _: set())
    patch.setattr("slurm_adopt.node.login_slot.slot_of", lambda _: None)
    patch.setattr(node, "opens_session", lambda _: PID)
    patch.setattr(node, "session_line_comes", lambda _: defers)
    patch.setattr("slurm_adopt.node.adoption_note.leave", host.notes.append)
    leave_choice = "slurm_adopt.node.adoption_note.leave_choice"
    patch.setattr(leave_choice, lambda one, _: host.notes.append(one))
    patch.setattr("slurm_adopt.node.pam_stack.joins", lambda _: True)
    patch.setattr("slurm_adopt.node.ssh_connection.find", lambda *_, **__: (AT, ""))
    patch.setitem(cast("dict[str, Any]", auth.PLUGINS), "auth/test", lambda _: slurmd.Auth())
    for name in ("COUNTED", "ADOPTED", "STARTED"):
        patch.setattr(stepds, name, SHORT)
    for module, name, seconds in (
        (stepd, "LOOK", 0.05),
        (stepd, "QUEUE", 0.05),
        (stepd, "ASKING", 0.05),
        (ask_all, "LOOK", 0.05),
        (ask_all, "QUIET", 0.1),
        (ask_all, "OTHERS", 0.1),
        (unsettled, "STILL", 0.06),
        (unsettled, "LONGEST", 0.5),
        (unsettled, "POLL", 0.01),
    ):
        patch.setattr(module, name, seconds)


def test_wholly_in_a_confirmed_job_or_in_none() -> None:
    run_state_machine_as_test(Logins, settings=bounded(examples=60, steps=10))


# That the property can fail: what the node looks at, not looked at

Patch = Callable[[pytest.MonkeyPatch], None]


def anyone_s(patch: pytest.MonkeyPatch) -> None:
    """Take each job for the user's."""

    def among(self: Any, steps: list[Any], uid: int) -> tuple[list[jobs.Job], int]:
        answers, _ = self._stepds.ask_all(steps, lambda _: False)
        return [jobs.Job(step, uid, one.protocol) for step, one in answers.items()], len(answers)

    patch.setattr(jobs.Jobs, "_among", among)
    patch.setattr(adopting, "_check_owner", lambda *_: None)


def strangers(patch: pytest.MonkeyPatch) -> None:
    """Take whoever listens on a socket for a stepd."""

    def check_peer(self: Any, *_: object) -> None:
        self.pid = STEPD + self.job_id

    patch.setattr(step_sockets.StepSocket, "check_peer", check_peer)


def unread(patch: pytest.MonkeyPatch) -> None:
    """Take the stepd's word for it."""
    patch.setattr(moving.Confinement, "bring", lambda *_: ((), {}))


def left(patch: pytest.MonkeyPatch) -> None:
    """Leave a process where it is, when adopting it has failed."""
    patch.setattr(moving.Confinement, "put_back", lambda *_: None)


def unseen(patch: pytest.MonkeyPatch) -> None:
    """Take a process that is in one of the step's cgroups for one that is in all."""

    def missing(self: Any, pid: int, step: Any, uid: int, *_: object) -> dict[str, Any]:
        outside = real(self, pid, step, uid)
        return outside if len(outside) == len(V1) else {}

    real = step_cgroup.V1.missing
    patch.setattr(step_cgroup.V1, "missing", missing)


MUTANTS: list[Patch] = [anyone_s, strangers, unread, left, unseen]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.__name__)
def test_the_property_finds(monkeypatch: pytest.MonkeyPatch, mutant: Patch) -> None:
    mutant(monkeypatch)
    assert finds(Logins)
