"""Plays logins in which a system call fails, on a node of a real cluster; judges each."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import subprocess
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.cluster.harness import landing, pam
from tests.cluster.harness.driver import HOLD, PORT
from tests.cluster.harness.host import end
from tests.cluster.harness.wait import PATIENCE, wait_for
from tests.cluster.inject import calls
from tests.cluster.inject.calls import ACCOUNT, LOAD, MARKS, SESSION, START, Call
from tests.cluster.inject.errors import DELAY, ERRORS, NEVER, TALKS
from tests.cluster.inject.scenes import ALICE, BOB, CAROL, OTHER, ROOT, SSHD, Scene
from tests.cluster.inside.inject import INTERPRETER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.login import Session

PROGRAM = "/checkout/tests/cluster/inside/inject.py"
RUN_BY = "/usr/local/sbin/python-in-strace"  # in the first line of the script of pam_exec
SCRIPT = "/opt/slurm_adopt/pam/pam_slurm_adopt_exec"
WORKERS = 4
RUN = "/run/slurm_adopt"
NOTES = f"{RUN}/adoptions"
MEMORY = "4000M"  # of the job: many interpreters are in it at a time

# All waits of one login (time-limits.md), with the defaults: 55 s, and what a busy machine takes.
BOUND = 60.0 * PATIENCE
TRIES = 3
LIMIT = BOUND + 90.0  # seconds after which a case is given up

# What a login came to
IN_JOB, REFUSED, LET_IN = "in the job", "refused", "let in"
GUARDED = "covered by the guard"  # not our code: the guard for root is for that
LEFT_OVER = ("strace", "pamtester", "sshd-pamtester", "pam_slurm_adopt")
NOT_PLAYED = "not played"
USUAL = {ROOT: LET_IN, ALICE: IN_JOB, BOB: REFUSED}
RIGHT = {ROOT: {LET_IN}, ALICE: {IN_JOB, REFUSED}, BOB: {REFUSED}}

_PID = re.compile(r"\[(\d+)\]: ")
TRACEBACK = "Traceback"
MISTAKE = "please report"


@dataclass(frozen=True)
class Case:
    """A system call of a login, and how it fails."""

    scene: Scene
    phase: str  # that pam_exec's script is traced in
    call: Call
    how: str  # strace's words: error=EIO, delay_enter=3s

    @property
    def which(self) -> str:
        """The call of this login."""
        call = self.call
        return f"{self.scene.name}/{self.phase}/{call.part}/{call.name}#{call.when} {call.about}"

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.which} {self.how}"

    @property
    def late(self) -> bool:
        """Whether the call is late, and does not fail."""
        return self.how.startswith("delay")

    @property
    def strace(self) -> list[str]:
        """Return strace's options."""
        name = self.call.name
        when = f"inject={name}:{self.how}:when={self.call.when}"
        return ["-e", f"trace={name}", "-e", when]


@dataclass
class Seen:
    """What became of a case."""

    scene: str
    call: str
    how: str
    outcome: str = ""
    escape: bool = False  # somebody is where the invariants do not allow it
    wrong: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    hit: str = ""  # strace's line; "" where nothing was injected
    seconds: float = 0
    log: list[str] = field(default_factory=list)
    said: str = ""


def plan(scene: Scene, phase: str, found: Sequence[Call]) -> list[Case]:
    """Return how the calls of a login are tried."""
    cases = []
    for number, call in enumerate(found):
        if call.part not in scene.parts or call.name in NEVER:
            continue
        if scene.fresh and not call.about.startswith(RUN):
            continue
        errors = ERRORS[call.name]
        if call.imports or call.part in (LOAD, START):
            errors = (errors[number % len(errors)],)
        ways = [f"error={error}" for error in errors]
        if call.name in TALKS and call.part in (ACCOUNT, SESSION) and scene.user != ROOT:
            ways.append(f"delay_{('enter', 'exit')[number % 2]}={DELAY:g}s")
        cases += [Case(scene, phase, call, how) for how in ways]
    return cases[:: scene.every]


class Bench:
    """A node of a cluster that is up, with a job of alice's on it."""

    def __init__(self, cluster: Cluster, workers: int = WORKERS) -> None:
        """`workers`: logins beside each other."""
        self.cluster = cluster
        self.node = cluster.n1
        self.jobs: list[int] = []  # of alice's, on this node
        self._inside: Session | None = None  # of the last of them, on the other node
        self.workers = workers
        self._numbers = itertools.count()
        self.descriptors: dict[str, list[str]] = {}  # of an undisturbed login, by scene

    def close(self, scene: Scene) -> list[str]:
        """Let somebody in once more, undisturbed; return what the logins have left on the node."""
        self.record(scene)
        notes = self.node.run(["ls", NOTES], check=False).stdout.split()
        running = self.node.run(["ps", "-eo", "comm="]).stdout.split()
        return [*notes, *(name for name in running if name in LEFT_OVER)]

    @contextlib.contextmanager
    def prepared(self) -> Iterator[Bench]:
        """Have the job, the programs, and the interpreter of pam_exec's script under strace."""
        node = self.node
        self.jobs = [self.cluster.submit(ALICE, mem=MEMORY, cpus=os.cpu_count() or 1)]
        self.cluster.submit(CAROL)
        for phase in (ACCOUNT, SESSION):
            for side in ("begin", "end"):
                node.write(f"{MARKS}/{phase}.{side}", "")
        node.run(["cp", OTHER, SSHD])
        node.write(RUN_BY, INTERPRETER, 0o755)
        usual = node.read(SCRIPT)
        first, _, rest = usual.partition("\n")
        node.write(SCRIPT, f"{first.replace('/usr/bin/python3', RUN_BY)}\n{rest}", 0o755)
        try:
            yield self
        finally:
            node.write(SCRIPT, usual, 0o755)
            node.run(["rm", "-rf", RUN_BY, SSHD, MARKS, "/run/inject"])

    @contextlib.contextmanager
    def set_for(self, scene: Scene) -> Iterator[None]:
        """Have what a scene needs besides: another job of alice's, and her session inside of it."""
        with contextlib.ExitStack() as going:
            if scene.connected:
                job = self.cluster.submit(ALICE, "n1,n2", mem=MEMORY, cpus=os.cpu_count() or 1)
                going.callback(self.cluster.wait_gone, job)
                going.callback(self.cluster.cancel, job)
                self.jobs.append(job)
                going.callback(self.jobs.remove, job)
                self.cluster.n2.pam("sshd", pam.with_module())
                self._inside = going.enter_context(self.cluster.session(ALICE, "n2"))
            yield
        self._inside = None

    def record(self, scene: Scene) -> dict[str, list[Call]]:
        """Return the calls of an undisturbed login, by the phase in which they were traced."""
        self.node.pam("sshd", scene.stack())
        self._first(scene)
        phases = scene.phases if scene.front == "pam_exec" else (ACCOUNT,)
        return {phase: self._recorded(scene, phase) for phase in phases}

    def _recorded(self, scene: Scene, phase: str) -> list[Call]:
        answer = self._usual(scene, self._request(scene, phase, [], record=True))
        self.descriptors[scene.name] = answer["descriptors"]
        seen = calls.of_module(answer["trace"], scene.front, phase)
        assert not calls.unknown(seen), calls.unknown(seen)
        return seen

    def _first(self, scene: Scene) -> None:
        """Have the first login on this node: it makes what the others find."""
        self._usual(scene, self._request(scene, scene.phases[0], ["-e", "trace=none"]))

    def _usual(self, scene: Scene, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of a login that comes to what it should; on a busy node not at once."""
        for _ in range(TRIES):
            ((_, answer),) = self._play([request])
            outcome = answer.get("error") or self._outcome(scene, answer)
            if outcome == USUAL[scene.user]:
                return answer
        raise RuntimeError(f"{scene.name}, undisturbed: {outcome}: {answer}")

    def play(self, cases: Sequence[Case], tell: Callable[[Seen], None] = lambda _: None) -> None:
        """Play the cases of one scene, many beside each other."""
        if not cases:
            return
        self.node.pam("sshd", cases[0].scene.stack())
        by_id: dict[int, Case] = {}
        wanted = []
        for case in cases:
            request = self._request(case.scene, case.phase, case.strace)
            by_id[request["id"]] = case
            wanted.append(request)
        mark = self.node.mark()
        answers = [answer for _, answer in self._play(wanted)]
        log = self._by_pid(self.node.log(mark))
        for answer in answers:
            tell(self.judge(by_id[answer["id"]], answer, log.get(answer.get("pid", 0), [])))

    def _request(
        self, scene: Scene, phase: str, strace: list[str], record: bool = False
    ) -> dict[str, Any]:
        return {
            "id": next(self._numbers),
            "front": scene.front,
            "phase": phase,
            "program": scene.program,
            "user": scene.user,
            "calls": scene.calls,
            "strace": strace,
            "seconds": LIMIT,
            "record": record,
            "remove": RUN if scene.fresh else "",
        }

    def _play(
        self, requests: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        port = [str(PORT)] if self._inside else []
        process = self.node.popen(
            ["python3", "-IS", PROGRAM, str(self.workers), *port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            if self._inside:
                wait_for("the end of the connection", lambda: PORT in self.node.listening(), 30)
                hold = f"python3 -c {shlex.quote(HOLD)} {self.node.name} {PORT}"
                self._inside.run(f"{hold} >/dev/null 2>&1 </dev/null &")
            assert process.stdin
            assert process.stdout
            by_id = {request["id"]: request for request in requests}
            process.stdin.write("".join(json.dumps(request) + "\n" for request in requests))
            process.stdin.close()
            for line in process.stdout:
                answer = json.loads(line)
                yield by_id.pop(answer["id"]), answer
            assert not by_id, f"no answer: {[*by_id.values()]}"
        finally:
            end(process)

    def _by_pid(self, lines: Sequence[str]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for line in lines:
            if pid := _PID.search(line):
                found.setdefault(int(pid[1]), []).append(line)
        return found

    # What became of it

    def _outcome(self, scene: Scene, answer: dict[str, Any]) -> str:
        """Return what a login came to; one that is let in outside of the job says so."""
        done = answer["done"]
        if not all(call in done for call in scene.calls):
            passed = scene.user == BOB and "acct_mgmt" in done
            return "let in by the account phase" if passed else REFUSED
        if scene.user != ALICE:
            return LET_IN
        try:
            job = landing.job_of(self.node, answer["cgroups"])
        except AssertionError:
            return "let in, half in the job"
        return IN_JOB if job in self.jobs else f"let in, in {job or 'no job'}"

    def judge(self, case: Case, answer: dict[str, Any], log: list[str]) -> Seen:
        """Return what became of a case: its login's answer, and its process's lines in the log."""
        scene = case.scene
        seen = Seen(scene.name, case.which, case.how)
        if "error" in answer:
            seen.outcome, seen.wrong = NOT_PLAYED, [answer["error"]]
            return seen
        seen.outcome = self._outcome(scene, answer)
        hits = [line for line in answer["hit"] if calls.is_hit(line, case.call)]
        seen.hit = hits[0] if hits else ""
        seen.seconds = answer["seconds"]
        unclean = [*self._unclean(case, answer), *_complaints(answer, log)]
        right = seen.outcome in RIGHT[scene.user]
        if answer["hit"] and not hits:  # a call of somebody else's has failed
            seen.remarks = [f"another call: {answer['hit'][0]}"]
            right, unclean = right or scene.user == ROOT, []
        if case.call.part in (LOAD, START):  # no code of ours runs there
            seen.remarks += unclean
            if not right and scene.user == ROOT and not scene.guard:
                seen.outcome, right = GUARDED, True
        else:
            seen.wrong += unclean
        if not right:
            seen.escape = True
            seen.wrong.append(seen.outcome)
        if answer["status"] is None or seen.seconds > BOUND + DELAY:
            seen.wrong.append(f"took {seen.seconds:.0f} s")
        if any(MISTAKE in line for line in log):
            seen.remarks.append(MISTAKE)
        if seen.wrong or seen.remarks:
            seen.log, seen.said = log[-6:], answer["said"][-500:]
        return seen

    def _unclean(self, case: Case, answer: dict[str, Any]) -> list[str]:
        """Return what is left in the process that has called PAM."""
        found = []
        if answer["children"] or answer["threads"] != 1:
            found.append(f"children {answer['children']}, {answer['threads']} threads left")
        usual = Counter(self.descriptors[case.scene.name])
        more = Counter(answer["descriptors"]) - usual
        if more and case.call.name != "close":  # what has not been closed is open
            found.append(f"descriptors left: {', '.join(more)}")
        return found


def _complaints(answer: dict[str, Any], log: list[str]) -> list[str]:
    found = []
    if answer["killed"] or (answer["status"] or 0) < 0:
        found.append(f"killed: {answer['killed'] or answer['status']}")
    if any(TRACEBACK in text for text in (*log, answer["said"])):
        found.append("traceback")
    return found


def as_json(seen: Sequence[Seen]) -> str:
    """Return all that was seen."""
    return json.dumps([asdict(one) for one in seen], indent=1) + "\n"
