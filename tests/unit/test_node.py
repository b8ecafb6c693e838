"""The node with stand-in stepds of old releases: greeted as they want, read back where they are."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from slurm_adopt.decision.adoption import Adoption
from slurm_adopt.decision.login import Login
from slurm_adopt.decision.options import parse
from slurm_adopt.node import adopting, deferral, node, stepds
from slurm_adopt.node.jobs import Job
from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.cgroup import step_cgroup
from slurm_adopt.slurm.errors import SUSPENDED, PeerError, SetupError
from slurm_adopt.slurm.stepd import step_sockets
from slurm_adopt.slurm.time_limits import Limit
from tests.fakes import slurmd
from tests.fakes.log import Lines
from tests.fakes.node import PID, UID, made
from tests.fakes.peers import Peer
from tests.fakes.requests import (
    REQUEST_ADD_EXTERN_PID,
    REQUEST_STATE,
    REQUEST_STEP_LIST_PIDS,
    REQUEST_STEP_UID,
    REQUEST_X11_DISPLAY,
)
from tests.fakes.stepd import Stepd, int32
from tests.fakes.tree import Tree

if TYPE_CHECKING:
    from slurm_adopt.system.log import Log
    from tests.fakes.stepd import Reply

KEPT = Adoption(PID, UID, 7).proven({"freezer": "/slurm/uid_5001/job_7/step_extern/task_0"})


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    found = Tree(tmp_path)
    found.mount("freezer")
    found.process(PID, "6:freezer:/slurm/uid_5001/job_6/step_extern")
    return found


# (protocol, whether it wants a credential, x11 reply, DISPLAY)
OLD = [
    (32 << 8, True, int32(95), "localhost:95.0"),
    (33 << 8, True, int32(95) + int32(3) + b"/x\0", "localhost:95.0"),
]


@pytest.mark.parametrize(("protocol", "introduced", "x11", "display"), OLD)
def test_before_19_05(
    tmp_path: Path,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    protocol: int,
    introduced: bool,
    x11: bytes,
    display: str,
) -> None:
    here = made(tmp_path, tree, monkeypatch)
    tree.make("freezer/slurm/uid_5001/job_6/step_extern")
    path = tmp_path / "n1_6.4294967295"
    with Stepd(path, protocol=protocol, introduced=introduced, replies={REQUEST_X11_DISPLAY: x11}):
        (job,) = here.jobs(UID)
        environment = here.adopt(PID, job).environment
    assert (job.job_id, job.protocol) == (6, protocol)
    assert (environment["SLURM_JOB_ID"], environment["DISPLAY"]) == ("6", display)


@pytest.mark.parametrize("protocol", [34 << 8, 35 << 8])
def test_component_of_a_heterogeneous_job(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    """Job 7 has its cgroups under the id of its leader, job 6."""
    here = made(tmp_path, tree, monkeypatch)
    tree.make("freezer/slurm/uid_5001/job_6/step_extern")
    pids = int32(2) + int32(PID) + int32(os.getpid())
    replies: dict[int, bytes | str | None] = {
        REQUEST_STEP_LIST_PIDS: pids,
        REQUEST_X11_DISPLAY: bytes(8),
    }
    with Stepd(tmp_path / "n1_7.4294967295", protocol=protocol, replies=replies):
        (job,) = here.jobs(UID)
        assert here.adopt(PID, job).environment == {"SLURM_JOB_ID": "7"}


def test_other_releases_follow_no_leader(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = made(tmp_path, tree, monkeypatch)
    tree.make("freezer/slurm/uid_5001/job_6/step_extern")
    with Stepd(tmp_path / "n1_7.4294967292") as stepd:
        (job,) = here.jobs(UID)
        with pytest.raises(SetupError, match="job 7 has no cgroup for freezer"):
            here.adopt(PID, job)
    assert REQUEST_STEP_LIST_PIDS not in [number for number, _ in stepd.received]


def test_unknown_auth_type_names_itself(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an old stepd wants a credential and there is no plugin to make it."""
    here = made(tmp_path, tree, monkeypatch)
    conf = tmp_path / "slurm.conf"
    conf.write_text(conf.read_text().replace("auth/test", "auth/none"))
    with Stepd(tmp_path / "n1_6.4294967295", protocol=32 << 8, introduced=True):
        assert here.jobs(UID) == []
    log = cast("Lines", here.phase.log)
    assert any("AuthType=auth/none in" in line for line in log.lines)


# A stepd that is still making its step's cgroups


class Starting(Stepd):
    """Refuses processes until it has been asked for its state several times."""

    looks = 4

    def heard(self, number: int, body: bytes) -> None:
        super().heard(number, body)
        self.looks -= number == REQUEST_STATE
        ready = self.looks <= 0
        self.replies.update(
            {
                REQUEST_STATE: int32(2 if ready else 1),
                REQUEST_ADD_EXTERN_PID: int32(0 if ready else -1),
            }
        )


class ForEver(Starting):
    looks = 1 << 30


def starts(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, stepd: type[Stepd]
) -> tuple[Adoption | PeerError, list[int], str]:
    """Adopt; return what came of it, the numbers of the stepd's requests, the log."""
    here = made(tmp_path, tree, monkeypatch)
    tree.make("freezer/slurm/uid_5001/job_6/step_extern")
    with stepd(
        tmp_path / "n1_6.4294967292", state=1, replies={REQUEST_X11_DISPLAY: bytes(8)}
    ) as serving:
        (job,) = here.jobs(UID)
        found: Adoption | PeerError
        try:
            found = here.adopt(PID, job)
        except PeerError as error:
            found = error
    requests = [number for number, _ in serving.received]
    return found, requests, "\n".join(cast("Lines", here.phase.log).lines)


def test_a_starting_step_is_waited_for(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, requests, _ = starts(tmp_path, tree, monkeypatch, Starting)
    assert isinstance(found, Adoption)
    assert requests.count(REQUEST_ADD_EXTERN_PID) == 1
    assert (
        requests.index(REQUEST_ADD_EXTERN_PID)
        > [i for i, number in enumerate(requests) if number == REQUEST_STATE][3]
    )


def test_a_step_that_stays_starting_is_asked_in_the_end(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepds, "STARTED", Limit(5.0, 0.1, "", "wait_for_job"))
    found, requests, log = starts(tmp_path, tree, monkeypatch, ForEver)
    assert isinstance(found, PeerError)
    assert "refuses to take process 42" in str(found)
    assert requests.count(REQUEST_ADD_EXTERN_PID) == 1
    assert "extern step of job 6 is still starting" in log


# A socket that is not Slurm's

PLANT = """
import socket, sys
one = socket.socket(socket.AF_UNIX)
one.bind(sys.argv[1])
one.listen()
print(flush=True)
sys.stdin.read()
"""


def test_a_planted_socket_is_ignored(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the cgroups say that the user has such a job."""
    here = made(tmp_path, tree, monkeypatch)
    tree.make("freezer/slurm/uid_5001/job_6/step_extern")
    directory = tmp_path / "spool"
    directory.mkdir(0o777)
    directory.chmod(0o777)
    for path in (tmp_path, *tmp_path.parents):
        if path.name.startswith(("pytest-", "popen-", tmp_path.name)):
            path.chmod(0o755)
    (tmp_path / "slurm.conf").write_text(f"NodeName=n1\nSlurmdSpoolDir={directory}\n")
    argv = [sys.executable, "-c", PLANT, str(directory / "n1_6.4294967292")]
    with subprocess.Popen(argv, stdin=-1, stdout=-1, user=UID) as planter:
        assert planter.stdout
        planter.stdout.readline()
        assert here.jobs(UID) == []
        assert here.silent == frozenset()
        planter.kill()
    log = "\n".join(cast("Lines", here.phase.log).lines)
    assert f"n1_6.4294967292 is a socket of uid {UID}, not of Slurm: ignored" in log


# What has changed since the jobs were counted


class Changing(Stepd):
    """Answers otherwise once a request has come: `change` of number and reply, after `after`."""

    after, change = (
        REQUEST_ADD_EXTERN_PID,
        (REQUEST_STATE, int32(3)),
    )  # the step is ending when the process has been taken

    def heard(self, number: int, body: bytes) -> None:
        super().heard(number, body)
        if number == self.after:
            self.replies.update([self.change])


class OfAnother(Changing):
    """Has become another user's job by the second connection."""

    after, change = REQUEST_STATE, (REQUEST_STEP_UID, int32(UID + 1))


# (stepd, where the process is, part of the message, whether the stepd is asked to take it)
CHANGED = [
    (Changing, "/slurm/uid_5001/job_6/step_extern", "job 6 is ending", True),
    (Changing, "/elsewhere", "job 6 is ending", True),
    (OfAnother, "/elsewhere", f"job 6 does not belong to uid {UID} any more", False),
]


@pytest.mark.parametrize(("stepd", "where", "message", "asked"), CHANGED)
def test_what_has_changed_since(
    tmp_path: Path,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    stepd: type[Stepd],
    where: str,
    message: str,
    asked: bool,
) -> None:
    """The login is not in the job, and nothing is written."""
    monkeypatch.setattr(step_cgroup.Layout, "enter", lambda *_: pytest.fail("written"))
    here = made(tmp_path, tree, monkeypatch)
    tree.make("freezer/slurm/uid_5001/job_6/step_extern")
    tree.process(PID, f"6:freezer:{where}")
    with stepd(tmp_path / "n1_6.4294967292", replies={REQUEST_X11_DISPLAY: bytes(8)}) as serving:
        (job,) = here.jobs(UID)
        with pytest.raises(PeerError, match=message):
            here.adopt(PID, job)
    assert (22 in [number for number, _ in serving.received]) == asked


@pytest.mark.parametrize("where", ["/slurm/uid_5001/job_7/step_extern", "/elsewhere"])
def test_the_job_is_ending_in_the_session_phase(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(step_cgroup.Layout, "enter", lambda *_: pytest.fail("written"))
    here = made(tmp_path, tree, monkeypatch)
    tree.make("freezer/slurm/uid_5001/job_7/step_extern")
    tree.process(PID, f"6:freezer:{where}")
    with Stepd(tmp_path / "n1_7.4294967292", state=3), pytest.raises(PeerError, match="is ending"):
        here.keep(KEPT)


class Ends(Starting):
    """Goes on to run when the process that was to become the session is gone."""

    session: subprocess.Popen[bytes]

    def heard(self, number: int, body: bytes) -> None:
        super().heard(number, body)
        if number == REQUEST_STEP_UID and self.looks <= 0:
            self.session.kill()
            self.session.wait()


def test_the_session_s_process_ends_meanwhile(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid may be another's by then: the stepd is not asked to take that."""
    here = made(tmp_path, tree, monkeypatch, "sshd")
    Ends.session = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(adopting, "session_process", lambda _: Ends.session.pid)
    with Ends(tmp_path / "n1_6.4294967292", state=1) as stepd:
        (job,) = here.jobs(UID)
        with pytest.raises(PeerError, match=r"process \d+, which was to become the session, has"):
            here.adopt(PID, job)
    assert REQUEST_ADD_EXTERN_PID not in [number for number, _ in stepd.received]


def test_the_session_s_process_has_ended(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = made(tmp_path, tree, monkeypatch, "sshd")
    monkeypatch.setattr(adopting, "session_process", lambda _: 1 << 22)
    with Stepd(tmp_path / "n1_6.4294967292") as stepd:
        (job,) = here.jobs(UID)
        with pytest.raises(PeerError, match=f"process {1 << 22}, which was to become"):
            here.adopt(PID, job)
    assert REQUEST_ADD_EXTERN_PID not in [number for number, _ in stepd.received]


# The session phase: still there, or written back where it was


STEP_7 = "/slurm/uid_5001/job_7/step_extern"


def kept(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, adoption: Adoption = KEPT
) -> tuple[Adoption, list[int]]:
    """Keep the process in job 7; return the adoption and the numbers of the stepd's requests."""
    here = made(tmp_path, tree, monkeypatch)
    tree.make(f"freezer{STEP_7}/task_0")
    tree.make("freezer/elsewhere")
    with Stepd(tmp_path / "n1_7.4294967292", replies={REQUEST_X11_DISPLAY: bytes(8)}) as stepd:
        found = here.keep(adoption)
    return found, [number for number, _ in stepd.received]


@pytest.mark.parametrize("where", [STEP_7, f"{STEP_7}/task_0", f"{STEP_7}/task_1/x"])
def test_still_there(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    tree.process(PID, f"6:freezer:{where}")
    found, requests = kept(tmp_path, tree, monkeypatch)
    assert found.written == ()
    assert found.environment == {"SLURM_JOB_ID": "7"}
    assert found.paths == {"freezer": where}
    assert 22 not in requests  # the stepd is not asked to take it again


# (where it was, where it is written)
BACK = [
    (f"{STEP_7}/task_0", f"{STEP_7}/task_0"),
    (STEP_7, STEP_7),
    (f"{STEP_7}/task_9", STEP_7),  # gone since
    ("/slurm/uid_5001/job_8/step_extern", STEP_7),  # not this job's
    ("/elsewhere", STEP_7),
    (f"{STEP_7}/../../../../elsewhere", STEP_7),
    ("", STEP_7),
]


@pytest.mark.parametrize(("before", "expected"), BACK)
def test_written_back(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, before: str, expected: str
) -> None:
    tree.process(PID, "6:freezer:/user.slice")
    entered: list[tuple[int, str, str]] = []

    def enter(_: object, pid: int, controller: str, path: str) -> None:
        entered.append((pid, controller, path))
        tree.process(pid, f"6:{controller}:{path}")

    monkeypatch.setattr(step_cgroup.Layout, "enter", enter)
    adoption = Adoption(PID, UID, 7).proven({"freezer": before})
    found, requests = kept(tmp_path, tree, monkeypatch, adoption)
    assert entered == [(PID, "freezer", expected)]
    assert found.written == (expected,)
    assert 22 not in requests


def test_what_cannot_be_written_back(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.process(PID, "6:freezer:/user.slice")
    monkeypatch.setattr(step_cgroup.Layout, "enter", lambda *_: None)
    with pytest.raises(PeerError, match="is still outside the cgroups of job 7"):
        kept(tmp_path, tree, monkeypatch)


def test_the_job_has_ended(tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    here = made(tmp_path, tree, monkeypatch)
    with pytest.raises(PeerError, match="job 7 has ended"):
        here.keep(KEPT)


def test_the_job_is_another_user_s_now(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = made(tmp_path, tree, monkeypatch)
    stepd = Stepd(tmp_path / "n1_7.4294967292", uid=UID + 1)
    with stepd, pytest.raises(PeerError, match=f"job 7 does not belong to uid {UID} any more"):
        here.keep(KEPT)


# Another process becomes the session: word is left for it


def told(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, reply: Reply = bytes(4)
) -> list[Adoption]:
    """Adopt process PID, called in another one; return of what word was left."""
    left: list[Adoption] = []
    monkeypatch.setattr("slurm_adopt.node.adoption_note.leave", left.append)
    here = made(tmp_path, tree, monkeypatch, "sshd")
    replies = {REQUEST_X11_DISPLAY: bytes(8), REQUEST_ADD_EXTERN_PID: reply}
    with Stepd(tmp_path / "n1_6.4294967292", replies=replies):
        (job,) = here.jobs(UID)
        with contextlib.suppress(PeerError, SetupError):
            here.adopt(os.getpid(), job)
    return left


def test_word_is_left(tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.make("freezer/slurm/uid_5001/job_6/step_extern")
    (left,) = told(tmp_path, tree, monkeypatch)
    assert (left.pid, left.job_id) == (PID, 6)
    assert left.paths == {"freezer": "/slurm/uid_5001/job_6/step_extern"}


def test_word_is_left_of_what_failed_after_the_stepd_took_it(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session phase must not ask the stepd again."""
    (left,) = told(tmp_path, tree, monkeypatch)  # without a cgroup
    assert (left.pid, left.job_id, left.paths) == (PID, 6, {})


def test_no_word_is_left_of_what_the_stepd_refused(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the session phase would write into the job what its stepd does not have."""
    tree.make("freezer/slurm/uid_5001/job_6/step_extern")
    assert told(tmp_path, tree, monkeypatch, int32(-1)) == []


# A node without any extern step: what may be wrong

# (nodename, other lines of slurm.conf, whether the log asks about the name)
HINTS = [
    ("", "", False),
    ("n1", "", False),
    ("N1", "", False),
    ("n9", "", True),
    ("n9", "NodeName=n[8-10]\n", False),
    ("n9", "MaxNodeCount=4\n", False),
]


@pytest.mark.parametrize(("name", "lines", "said"), HINTS)
def test_hint(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, name: str, lines: str, said: bool
) -> None:
    made(tmp_path, tree, monkeypatch)
    path = tmp_path / "slurm.conf"
    path.write_text(path.read_text() + lines)
    given = [f"slurm_conf={path}", *([f"nodename={name}"] if name else [])]
    log = Lines()
    assert node.Node(parse(given)[0], cast("Log", log), "n1").jobs(UID) == []
    assert [line for line in log.lines if "nodename=" in line] == (
        [f"node n9 is not in {path}: is nodename= right?"] if said else []
    )


def test_dead_sockets_do_not_hide_the_hint(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What answers counts, not what lies there."""
    here = made(tmp_path, tree, monkeypatch)
    with Stepd(tmp_path / "n1_6.4294967292"), Stepd(tmp_path / "n1_5.4294967292"):
        pass  # killed: the sockets stay
    with Stepd(tmp_path / "n1_8.0"):
        assert here.jobs(UID) == []
    lines = cast("Lines", here.phase.log).lines
    assert "0 extern steps here (2 sockets without a stepd), 0 of uid 5001" in lines
    said = "1 steps run here, but no extern stepd answers (2 sockets without a stepd in "
    assert any(line.startswith(said) for line in lines)


# (PrologFlags, what is said of it)
SET_IT = "set PrologFlags=contain in "
FLAGS = [
    ("", SET_IT),
    ("PrologFlags=Alloc", SET_IT),
    ("PrologFlags=Alloc,Serial", SET_IT),
    ("PrologFlags=contain", "they were started before PrologFlags=contain was set in "),
    ("PrologFlags=X11", "they were started before PrologFlags=X11 was set in "),
    ("PrologFlags=Alloc,runinjob", "they were started before PrologFlags=Alloc,runinjob was set"),
]


@pytest.mark.parametrize(("flags", "said"), FLAGS)
@pytest.mark.parametrize("dead", [False, True])
def test_the_hint_knows_the_flags(
    tmp_path: Path,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    flags: str,
    said: str,
    dead: bool,
) -> None:
    """What is set already need not be set: the jobs are older."""
    here = made(tmp_path, tree, monkeypatch)
    with (tmp_path / "slurm.conf").open("a") as file:
        file.write(f"{flags}\n")
    if dead:
        with Stepd(tmp_path / "n1_6.4294967292"):
            pass
    with Stepd(tmp_path / "n1_8.0"):
        assert here.jobs(UID) == []
    lines = cast("Lines", here.phase.log).lines
    assert len([line for line in lines if "1 steps run here" in line and said in line]) == 1


# A job that takes nothing now


def stopped(tree: Tree, state: str = "FROZEN") -> None:
    """Freeze job 6."""
    place = tree.mnt / "freezer/slurm/uid_5001/job_6/step_extern"
    if not place.is_dir():
        tree.make("freezer/slurm/uid_5001/job_6/step_extern")
    (place / "freezer.state").write_text(state)


def test_nothing_is_given_to_a_frozen_job(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stepd is not asked to take anything, in either phase."""
    monkeypatch.setattr(step_cgroup.Layout, "enter", lambda *_: pytest.fail("written"))
    here = made(tmp_path, tree, monkeypatch)
    stopped(tree)
    tree.process(PID, "6:freezer:/elsewhere")
    with Stepd(tmp_path / "n1_6.4294967292", replies={REQUEST_X11_DISPLAY: bytes(8)}) as serving:
        (job,) = here.jobs(UID)
        assert "is frozen: the job is suspended" in here.suspended(job)
        for ask in (here.look, lambda job: here.adopt(PID, job)):
            with pytest.raises(PeerError, match="is frozen: the job is suspended") as raised:
                ask(job)
            assert (raised.value.kind, raised.value.taken) == (SUSPENDED, False)
        kept = Adoption(PID, UID, 6).proven({"freezer": "/slurm/uid_5001/job_6/step_extern"})
        with pytest.raises(PeerError) as raised:  # moved away, and the job has been frozen since
            here.keep(kept)
        assert raised.value.kind == SUSPENDED
        stopped(tree, "THAWED")
        here.look(job)
        assert here.suspended(job) == ""
    assert REQUEST_ADD_EXTERN_PID not in [number for number, _ in serving.received]


class Freezes(Stepd):
    """Takes the process into a job that is frozen by then."""

    tree: Tree

    def heard(self, number: int, body: bytes) -> None:
        if number == REQUEST_ADD_EXTERN_PID:
            self.tree.process(PID, "6:freezer:/slurm/uid_5001/job_6/step_extern")
            stopped(self.tree)
        super().heard(number, body)


def test_what_is_frozen_meanwhile_is_put_back(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = made(tmp_path, tree, monkeypatch)
    stopped(tree, "THAWED")
    tree.make("freezer/before")
    tree.process(PID, "6:freezer:/before")
    stepd = Freezes(tmp_path / "n1_6.4294967292", replies={REQUEST_X11_DISPLAY: bytes(8)})
    stepd.tree = tree
    with stepd:
        (job,) = here.jobs(UID)
        with pytest.raises(PeerError) as raised:
            here.adopt(PID, job)
    assert (raised.value.kind, raised.value.taken) == (SUSPENDED, True)
    assert (tree.mnt / "freezer/before/cgroup.procs").read_text() == str(PID)


def test_one_job_alone_is_asked_about(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = made(tmp_path, tree, monkeypatch)
    with Stepd(tmp_path / "n1_6.4294967292") as other, Stepd(tmp_path / "n1_7.4294967292"):
        assert [job.job_id for job in here.jobs(UID, 7)] == [7]
        assert here.jobs(UID, 8) == []
    assert other.received == []


def test_a_note_that_cannot_be_read_is_none(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = made(tmp_path, tree, monkeypatch)
    monkeypatch.setattr("slurm_adopt.node.adoption_note.take", lambda *_: 1 // 0)
    assert here.noted(PID, UID) is None
    assert "cannot read the account phase's note" in cast("Lines", here.phase.log).lines[-1]


@pytest.mark.parametrize(
    ("account_of", "sshd", "why", "defers"),
    [
        ("sshd", True, "", True),
        ("sshd", True, "no session line", False),
        ("sshd", False, "", False),  # dropbear asks for service sshd, and opens no session
        ("", True, "", False),  # the session phase itself
    ],
)
def test_what_is_left_to_the_session_line(
    monkeypatch: pytest.MonkeyPatch, account_of: str, sshd: bool, why: str, defers: bool
) -> None:
    monkeypatch.setattr(deferral, "is_sshd", lambda _: sshd)
    expected: tuple[str, list[str]] = (why, [])
    monkeypatch.setattr("slurm_adopt.node.pam_stack.expected", lambda *_, **__: expected)
    monkeypatch.setattr("slurm_adopt.node.pam_stack.session_line", lambda _: [])
    here = node.Node(parse([])[0], cast("Log", Lines()), "n1", account_of)
    assert here.defers is defers


@pytest.mark.parametrize(
    ("account", "session", "defers"),
    [
        ("action_adopt_failure=deny", "action_adopt_failure=deny", True),
        ("action_adopt_failure=deny", "", False),  # the session line would let in by its default
        ("", "action_adopt_failure=allow", True),  # the same, spelt out
        ("", "action_generic_failure=deny", False),
        ("log_level=debug job_env=all", "job_limits=1 disable_x11=1", True),
        ("slurm_conf=/a", "slurm_conf=/b", False),
    ],
)
def test_a_session_line_with_other_options_is_not_left_the_adoption(
    monkeypatch: pytest.MonkeyPatch, account: str, session: str, defers: bool
) -> None:
    monkeypatch.setattr(deferral, "is_sshd", lambda _: True)
    expected = "", session.split()
    monkeypatch.setattr("slurm_adopt.node.pam_stack.expected", lambda *_, **__: expected)
    here = node.Node(parse(account.split())[0], cast("Log", Lines()), "n1", "sshd")
    assert here.defers is defers


def source_job(
    top: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, port: int, protocol: int
) -> int | None:
    """Ask a slurmd on this port where the newest stepd is of this release, with TLSType set."""
    here = made(top, tree, monkeypatch)
    with (top / "slurm.conf").open("a") as conf:
        conf.write(f"TLSType=tls/s2n\nSlurmdPort={port}\n")
    found = Connection("127.0.0.1", 50000, "127.0.0.2", 22), ""
    monkeypatch.setattr("slurm_adopt.node.ssh_connection.find", lambda *_, **__: found)
    older, newest = (
        Job(step_sockets.StepSocket("", number), UID, protocol - back)
        for number, back in ((6, 1 << 8), (7, 0))
    )
    return here.source_job(Login("alice", UID, "sshd", PID), [older, newest, older])


def test_tls(tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the newest stepd's release encrypts its RPCs nobody is asked, and it is said why."""
    row = slurmd.BY_NAME["24.11"]
    with Peer(slurmd.reply(row, slurmd.answer(row, 4711))) as peer:
        assert source_job(tmp_path, tree, monkeypatch, peer.port, row.protocol) == 4711
    words = (
        f"not asked: TLSType=tls/s2n in {tmp_path}/slurm.conf makes Slurm 25.05 encrypt its RPCs"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        with pytest.raises(PeerError, match=words):
            source_job(tmp_path, tree, monkeypatch, port, 43 << 8)
        with pytest.raises(BlockingIOError):  # no connection was made
            listener.accept()
