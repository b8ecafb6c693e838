"""The job's variables: the table, the process that shows them, the cgroup's figures."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from slurm_adopt.decision import variables as table
from slurm_adopt.decision.adoption import Adoption
from slurm_adopt.decision.options import parse
from slurm_adopt.decision.variables import CGROUP, MODULE, PROCESS, VARIABLES
from slurm_adopt.node.adopting import Adopter
from slurm_adopt.node.jobs import Job
from slurm_adopt.node.moving import Confinement
from slurm_adopt.node.node import Node
from slurm_adopt.node.slurm_site import SlurmSite
from slurm_adopt.session import environment as job_environment
from slurm_adopt.session import job_process
from slurm_adopt.session import limits as job_limits
from slurm_adopt.session.handover import Handover, Session
from slurm_adopt.session.job_process import JobProcess, Search, Wanted
from slurm_adopt.slurm.cgroup.hierarchy import Mount
from slurm_adopt.slurm.cgroup.job_cgroup import JobCgroups
from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.stepd import step_sockets, stepd
from slurm_adopt.slurm.stepd.step_sockets import StepSocket
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes.log import Lines
from tests.fakes.peers import no_descriptor_left
from tests.fakes.requests import REQUEST_STEP_LIST_PIDS
from tests.fakes.stepd import Stepd, int32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.system.log import Log

UID, JOB = os.geteuid(), 7
NOWHERE = JobCgroups({}, {})
BATCH, OLD_BATCH, INTERACTIVE, EXTERN = 0xFFFFFFFB, 0xFFFFFFFE, 0xFFFFFFFA, 0xFFFFFFFC


def log() -> Log:
    return cast("Log", Lines())


def lines(of: Log) -> str:
    return "\n".join(cast("Lines", of).lines)


def process(environment: dict[bytes, bytes]) -> JobProcess:
    return JobProcess(5, environment, b"")


# The table

LEFT_OUT = "variables left out, since the job has them in no safe form"

# (variable, value, whether it is taken)
VALUES = [
    ("SLURM_NTASKS", b"12", True),
    ("SLURM_NTASKS", b"9" * 18, True),
    ("SLURM_NTASKS", b"9" * 19, False),
    ("SLURM_NTASKS", b"", False),
    ("SLURM_NTASKS", b"-1", False),
    ("SLURM_NTASKS", b"1\n", False),
    ("SLURM_NTASKS", "\u0661".encode(), False),
    ("SLURM_JOB_NAME", b"run 3 [test] a=b, 100%", True),
    ("SLURM_JOB_NAME", b"() { :; }; id", False),
    ("SLURM_JOB_NAME", b"(id)", False),
    ("SLURM_JOB_NAME", b"$(id)", False),
    ("SLURM_JOB_NAME", b"`id`", False),
    ("SLURM_JOB_NAME", b"a\nb", False),
    ("SLURM_JOB_NAME", b"a\tb", False),
    ("SLURM_JOB_NAME", b"a\x7fb", False),
    ("SLURM_JOB_NAME", b"a\x1b[31mb", False),
    ("SLURM_JOB_NAME", b"caf\xc3\xa9", False),
    ("SLURM_JOB_NAME", b"\xff", False),
    ("SLURM_JOB_NAME", b"x" * 257, False),
    ("SLURM_JOB_PARTITION", b"gpu,long", True),
    ("SLURM_JOB_PARTITION", b"a b", False),
    ("SLURM_CLUSTER_NAME", b"x\0y", False),
    ("CUDA_VISIBLE_DEVICES", b"0,1", True),
    ("CUDA_VISIBLE_DEVICES", b"GPU-8f1b,MIG-GPU-2/1/0", True),
    ("CUDA_VISIBLE_DEVICES", b"NoDevFiles", True),
    ("CUDA_VISIBLE_DEVICES", b"0;1", False),
    ("ZE_AFFINITY_MASK", b"0.0,1.1", True),
    ("TMPDIR", b"/scratch/job.7/a b", True),
    ("TMPDIR", b"/" + b"x" * 1023, True),
    ("TMPDIR", b"/" + b"x" * 1024, False),
    ("TMPDIR", b"tmp", False),
    ("TMPDIR", b"", False),
    ("TMPDIR", b"/tmp/$HOME", False),
    ("SLURM_SUBMIT_DIR", b"/home/alice\n/x", False),
]


@pytest.mark.parametrize(("name", "value", "taken"), VALUES)
def test_value(name: str, value: bytes, taken: bool) -> None:
    said = log()
    shows = process({name.encode(): value})
    found = job_environment.variables(name, {}, NOWHERE, shows, said)
    assert found == ({name: value.decode()} if taken else {})
    assert lines(said) == ("" if taken else f"{LEFT_OUT}: {name}")


# (variable of a group, value, whether it has the form)
FORMS = [
    ("SLURM_JOB_CPUS_PER_NODE", "16(x2),8", True),
    ("SLURM_JOB_CPUS_PER_NODE", "16(x2) ", False),
    ("SLURM_JOB_NODELIST", "n[1-4,7],gpu-[01-09].cluster", True),
    ("SLURM_JOB_NODELIST", "n" * 8192, True),
    ("SLURM_JOB_NODELIST", "n" * 8193, False),
    ("SLURM_JOB_NODELIST", "n1 n2", False),
    ("SLURM_JOB_NODELIST", "n1;id", False),
]


@pytest.mark.parametrize(("name", "value", "taken"), FORMS)
def test_form(name: str, value: str, taken: bool) -> None:
    said = log()
    job_environment.variables(name, {}, NOWHERE, process({name.encode(): value.encode()}), said)
    assert (f"{LEFT_OUT}: {name}" in lines(said).split("\n")) is not taken


# What a process of a job on one node may show, of all variables; one of those of memory.
OTHERS_OF_MEMORY = {"SLURM_MEM_PER_GPU", "SLURM_MEM_PER_NODE"}
OF_FORM = {table.NODELIST: "n1", table.DIRECTORY: "/1"}
SHOWN = {
    name: OF_FORM.get(kind, "1")
    for name, (_, kind, *_) in VARIABLES.items()
    if name not in OTHERS_OF_MEMORY
}


def shows(environment: dict[str, str]) -> JobProcess:
    return process({name.encode(): value.encode() for name, value in environment.items()})


def given_of(
    environment: dict[str, str], given: str, known_here: dict[str, str] | None = None
) -> dict[str, str]:
    """Return what a session gets where a process of job 1 has this environment."""
    known_here = {"SLURM_JOB_ID": "1", "SLURM_JOBID": "1"} if known_here is None else known_here
    return job_environment.variables(given, known_here, NOWHERE, shows(environment), log())


def test_each_has_only_its_own_source() -> None:
    """What one source says of another's variable is nothing."""
    of_module = dict.fromkeys(VARIABLES, "2") | {"SLURM_JOB_ID": "1"}
    found = given_of(SHOWN, ",".join(VARIABLES), of_module)
    expected = {MODULE: of_module, PROCESS: SHOWN, CGROUP: {}}
    assert found == {
        name: expected[source][name]
        for name, (source, *_) in VARIABLES.items()
        if name in expected[source]
    }


NODES = {"SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES", "SLURM_JOB_CPUS_PER_NODE"}
LAUNCH = {"SLURM_JOBID", "SLURM_NODELIST", "SLURM_NNODES", "SLURM_TASKS_PER_NODE"}
ARRAY = {name for name in VARIABLES if "_ARRAY_" in name}
MEMORY = {"SLURM_MEM_PER_CPU", *OTHERS_OF_MEMORY}
STEP_ON_N2 = {"SLURM_NODELIST": "n[1-2]", "SLURM_NNODES": "1", "SLURM_TASKS_PER_NODE": "1"}
UNEVEN = {"SLURM_NODELIST": "n[1-2,7]", "SLURM_NNODES": "3", "SLURM_TASKS_PER_NODE": "2(x2),1"}

# (the job, what its process shows besides, or "" for nothing, the groups that do not come)
GROUPS: list[tuple[str, dict[str, str], set[str]]] = [
    ("whole", {}, set()),
    ("uneven", UNEVEN, set()),
    ("a step on one of two nodes", STEP_ON_N2, LAUNCH),
    ("by --jobid and --nodelist", {"SLURM_JOB_NUM_NODES": ""}, NODES),
    ("no list of nodes", {"SLURM_NODELIST": ""}, LAUNCH),
    ("no tasks", {"SLURM_TASKS_PER_NODE": ""}, LAUNCH),
    ("tasks of fewer nodes", UNEVEN | {"SLURM_TASKS_PER_NODE": "2(x2)"}, LAUNCH),
    ("tasks by another form", UNEVEN | {"SLURM_TASKS_PER_NODE": "3(x3"}, LAUNCH),
    ("tasks of more nodes than there are", {"SLURM_TASKS_PER_NODE": f"1(x{'9' * 30})"}, LAUNCH),
    ("a list that is none", {"SLURM_JOB_NODELIST": "n[1-"}, NODES),
    ("a form that is not safe", {"SLURM_NODELIST": "n1;id"}, LAUNCH),
    ("CPUs of one of two", {"SLURM_JOB_NODELIST": "n1,n2", "SLURM_JOB_NUM_NODES": "2"}, NODES),
    ("an array without an id", {"SLURM_ARRAY_TASK_ID": ""}, ARRAY),
    ("two kinds of memory", {"SLURM_MEM_PER_NODE": "1"}, MEMORY),
    ("no memory", {"SLURM_MEM_PER_CPU": ""}, MEMORY),
    ("of another job", {"SLURM_JOB_ID": "2"}, LAUNCH | NODES | ARRAY | MEMORY),
    ("of no job", {"SLURM_JOB_ID": ""}, LAUNCH | NODES | ARRAY | MEMORY),
]  # fmt: skip


@pytest.mark.parametrize(("job", "besides", "missing"), GROUPS)
def test_together_or_not_at_all(job: str, besides: dict[str, str], missing: set[str]) -> None:
    shown = {name: value for name, value in (SHOWN | besides).items() if value}
    found = given_of(shown, ",".join(VARIABLES))
    alone = {name for name in VARIABLES if table.GROUP[name] == table.ALONE}
    here = {"SLURM_JOB_ID", "SLURM_JOBID"} | {n for n in shown if VARIABLES[n][0] == PROCESS}
    assert found.keys() == here - missing, job
    assert alone & here <= found.keys()


def test_where_no_process_shows_anything() -> None:
    """A node of the job on which nothing of it runs: Open MPI would rely on SLURM_JOBID."""
    own = job_environment.own(7, 0, "n1")
    found = job_environment.variables("all", own, NOWHERE, None, log())
    assert found.keys() == own.keys() - {"SLURM_JOBID"}


@pytest.mark.parametrize("name", VARIABLES)
def test_who_names_one_has_named_its_group(name: str) -> None:
    group = table.GROUP[name]
    others = {other for other in SHOWN if group and table.GROUP[other] == group}
    known = {other: "1" for other, (source, *_) in VARIABLES.items() if source == MODULE}
    expected = (others | {name}) & (SHOWN.keys() if VARIABLES[name][0] != CGROUP else set())
    assert given_of(SHOWN, name, known).keys() == expected


# What sbatch and salloc leave to a new job as it is in theirs, on 20.11 to 26.05.
INHERITED = ARRAY | MEMORY | {"SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_JOB_RESERVATION"}


def test_what_is_given_only_where_it_is_named() -> None:
    """What another job would inherit; and PAM's environment reaches root's scripts."""
    assert INHERITED | {"TMPDIR"} == {
        name for name, (*_, asked_for) in VARIABLES.items() if asked_for == table.NAMED
    }
    assert not given_of(SHOWN, "all").keys() & (INHERITED | {"TMPDIR"})
    assert given_of(SHOWN, "all,TMPDIR").keys() & (INHERITED | {"TMPDIR"}) == {"TMPDIR"}
    assert given_of(SHOWN, "TMPDIR").keys() == {"TMPDIR"}


def test_what_is_never_handed_over() -> None:
    """No variable by which a program is made to run, load or read another is in the table."""
    never = re.compile(r"(LD_|PYTHON|BASH|DYLD_|GCONV|NLS|PERL|RUBY|GIT_|SSH_|MALLOC|GLIBC|LOC)\w*|"
                       r"(PATH|\w*PATH|ENV|IFS|HOME|SHELL|USER|LOGNAME|PS\d|PROMPT_COMMAND|EDITOR|"
                       r"PAGER|TERM\w*|TZ|LANG|LC_\w*|SLURM_CONF|KRB5\w*|XDG_\w*)")  # fmt: skip
    assert [name for name in VARIABLES if never.fullmatch(name)] == []
    assert {*map(str.upper, VARIABLES)} == {*VARIABLES}


def test_patterns_have_bounds_and_no_control_characters() -> None:
    for kind in {kind for _, kind, *_ in VARIABLES.values()}:
        pattern = re.compile(kind.pattern, re.ASCII)
        for code in [*range(32), *range(127, 400)]:
            assert not pattern.fullmatch(f"/{chr(code)}"), (kind.text, code)
            assert not pattern.fullmatch(f"1{chr(code)}"), (kind.text, code)
        for text in "{}$`;&|<>\"'\\!*?~":
            assert not pattern.fullmatch(f"/{text}"), (kind.text, text)
        assert not pattern.fullmatch("/" + "1" * 9000)
        assert not pattern.fullmatch("1" * 9000)


def test_what_is_asked_for() -> None:
    assert table.asks_a_process("all")
    assert table.asks_a_process("all,TMPDIR")
    assert table.asks_a_process("SLURM_JOB_ID,TMPDIR")
    assert table.asks_a_process("SLURM_JOBID")  # with those that belong to it
    assert not table.asks_a_process("SLURM_JOB_ID,SLURM_CPUS_ON_NODE")
    assert {source for source, *_ in VARIABLES.values()} == {MODULE, CGROUP, PROCESS}


def test_own_knowledge() -> None:
    found = job_environment.own(7, 0, "n1")
    names = {name for name, (source, *_) in VARIABLES.items() if source == MODULE}
    assert found.keys() == names
    assert (found["SLURM_JOB_USER"], found["SLURMD_NODENAME"]) == ("root", "n1")
    assert "SLURM_JOB_USER" not in job_environment.own(7, 3999999999, "n1")


# A process


class Processes:
    """A /proc with some processes in it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.cgroups = NOWHERE
        self.log = log()
        self.variables = True

    def add(
        self,
        pid: int,
        environ: bytes = b"",
        started: int = 100,
        uids: tuple[int, ...] = (UID,) * 4,
        cgroup: str = "4:freezer:/slurm/uid_0/job_7/step_batch",
    ) -> Path:
        directory = self.top / str(pid)
        directory.mkdir(parents=True)
        (directory / "environ").write_bytes(environ)
        (directory / "limits").write_bytes(b"of %d" % pid)
        (directory / "cgroup").write_text(f"{cgroup}\n1:name=systemd:/\n")
        uid = "\t".join(map(str, uids))
        (directory / "status").write_text(f"Name:\tx\nUid:\t{uid}\nGid:\t0\t0\t0\t0\n")
        (directory / "stat").write_text(f"{pid} (a b) c) S{' 0' * 18} {started} 0 0\n")
        return directory

    def first(self, *pids: int) -> JobProcess | None:
        with no_descriptor_left():
            search = Search(Wanted(JOB, UID, self.cgroups, self.variables), self.log, str(self.top))
            return search.first(list(pids), Deadline(5))


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path / "proc")


def test_the_oldest_that_names_the_job(processes: Processes) -> None:
    processes.add(10, b"SLURM_JOB_ID=7\0", started=900)
    processes.add(11, b"A=b\0SLURM_JOB_ID=7\0", started=500)
    processes.add(12, b"SLURM_JOB_ID=8\0", started=100)
    processes.add(13, b"", started=50)
    found = processes.first(10, 11, 12, 13, 99)
    assert found
    assert (found.pid, found.limits) == (11, b"of 11")
    assert found.environment == {b"A": b"b", b"SLURM_JOB_ID": b"7"}


def test_the_oldest_where_none_names_the_job(processes: Processes) -> None:
    """Components of a heterogeneous job have their leader's id in their environment."""
    processes.add(10, b"SLURM_JOB_ID=6\0", started=500)
    processes.add(11, b"SLURM_JOB_ID=6\0", started=400)
    found = processes.first(10, 11)
    assert found
    assert found.pid == 11


def test_the_first_of_two_with_one_name_counts(processes: Processes) -> None:
    processes.add(10, b"A=1\0A=2\0=x\0none\0B=\0C=d=e\0")
    found = processes.first(10)
    assert found
    assert found.environment == {b"A": b"1", b"": b"x", b"B": b"", b"C": b"d=e"}


@pytest.mark.parametrize("position", range(4))
def test_other_uids(processes: Processes, position: int) -> None:
    uids = [UID] * 4
    uids[position] = UID + 1
    processes.add(10, b"SLURM_JOB_ID=7\0", uids=tuple(uids))
    assert processes.first(10) is None
    assert "process 10 does not have the user's uid" in lines(processes.log)


def test_one_that_keeps_its_memory_to_itself(processes: Processes) -> None:
    """Of such a process /proc/PID/environ belongs to root; here to somebody else."""
    os.chown(processes.add(10, b"SLURM_JOB_ID=7\0") / "environ", UID + 1, -1)
    assert processes.first(10) is None
    assert "is not dumpable" in lines(processes.log)


@pytest.mark.parametrize("status", ["", "Uid:\n", "Uid:\t0\n", "Uid:\tx\tx\tx\tx\n"])
def test_a_status_that_does_not_say_whose_it_is(processes: Processes, status: str) -> None:
    (processes.add(10, b"SLURM_JOB_ID=7\0") / "status").write_text(status)
    assert processes.first(10) is None


def test_in_another_job(processes: Processes) -> None:
    """A pid that was given to a process elsewhere in the meantime."""
    paths = {"freezer": "/slurm/uid_0/job_7/step_extern", "name=systemd": "/"}
    processes.cgroups = JobCgroups(paths, {})
    processes.add(10, b"SLURM_JOB_ID=7\0", cgroup="4:freezer:/slurm/uid_0/job_77/step_batch")
    processes.add(11, b"SLURM_JOB_ID=7\0", cgroup="4:freezer:/")
    assert processes.first(10, 11) is None
    assert lines(processes.log).count("is not in job 7") == 2
    processes.add(12, b"SLURM_JOB_ID=7\0", cgroup="4:freezer:/slurm/uid_0/job_7/step_0/task_0")
    assert processes.first(10, 11, 12)


def test_too_much_environment(processes: Processes) -> None:
    processes.add(10, b"SLURM_JOB_ID=7\0".ljust((1 << 20) + 1, b"x"))
    assert processes.first(10) is None
    assert "larger than" in lines(processes.log)
    processes.add(11, b"SLURM_JOB_ID=7\0".ljust(1 << 20, b"x"))
    assert processes.first(10, 11)


def test_no_more_are_read_than_the_bound(processes: Processes) -> None:
    for pid in range(100, 100 + job_process.READ + 1):
        processes.add(pid, b"SLURM_JOB_ID=8\0", started=pid)
    processes.add(99, b"SLURM_JOB_ID=7\0", started=1000)
    found = processes.first(*range(99, 101 + job_process.READ))
    assert found
    assert found.pid == 100


def test_without_variables(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the limits alone neither environ nor stat is read, and no child is wanted."""
    processes.variables = False
    for pid, uids in ((10, (UID + 1,) * 4), (11, (UID,) * 4), (12, (UID,) * 4)):
        directory = processes.add(pid, b"SLURM_JOB_ID=7\0", uids=uids)
        for name in ("environ", "stat"):
            (directory / name).unlink()
            os.mkfifo(directory / name)  # what cannot be read
    monkeypatch.delattr(os, "fork")
    found = processes.first(12, 11, 10)
    assert found
    assert (found.pid, found.limits, found.environment) == (11, b"of 11", {})
    assert "process 10 does not have the user's uid" in lines(processes.log)


def test_a_process_that_holds_up_who_reads_it(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for one: reading it ends never. For the real one there is a cluster test."""
    processes.add(10, b"SLURM_JOB_ID=7\0")
    search = Search(Wanted(JOB, UID, NOWHERE), processes.log, str(processes.top))
    monkeypatch.setattr(Search, "_process", lambda *_: time.sleep(600))
    with (
        no_descriptor_left(),
        pytest.raises(PeerError, match=r"\(10\): timed out after .* s; a process"),
    ):
        search.first([10], Deadline(0.2))


def test_a_real_process() -> None:
    """As the kernel shows it; and none that is another user's, or gone."""
    environment = {"SLURM_JOB_ID": "7", "X": "a\nb"}
    argv = ["sh", "-c", "echo; read x"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe) as running:
        assert running.stdout
        running.stdout.readline()  # before that, the program may not have its environment yet
        search = Search(Wanted(JOB, UID, NOWHERE), log())
        found = search.first([running.pid], Deadline(5))
        others = Search(Wanted(JOB, UID + 1, NOWHERE), log()).first([running.pid], Deadline(5))
    assert found
    assert found.environment == {k.encode(): v.encode() for k, v in environment.items()}
    assert found.limits.startswith(b"Limit ")
    assert others is None
    assert search.first([running.pid], Deadline(5)) is None


# The stepds


def test_order_of_steps(tmp_path: Path) -> None:
    steps = ["10", "2", f"{BATCH}", f"{OLD_BATCH}", f"{INTERACTIVE}", f"{EXTERN}", "2.1", "2.0"]
    for name in [*(f"n1_7.{step}" for step in steps), "n1_77.1", "n2_7.0", "n1_7", "n1_7.x"]:
        (tmp_path / name).touch()
    found = [
        socket.path.rpartition("/")[2] for socket in step_sockets.job_steps(str(tmp_path), "n1", 7)
    ]
    order = [BATCH, OLD_BATCH, INTERACTIVE, 2, "2.0", "2.1", 10]
    assert found == [f"n1_7.{step}" for step in order]


def pids(*numbers: int) -> dict[int, bytes | str | None]:
    return {REQUEST_STEP_LIST_PIDS: int32(len(numbers)) + b"".join(map(int32, numbers))}


@pytest.fixture
def sleeping() -> Iterator[int]:
    """Return the pid of a process of the job."""
    with subprocess.Popen(["sleep", "60"], env={"SLURM_JOB_ID": "7"}) as running:
        yield running.pid
        running.kill()


def searched(top: Path) -> tuple[JobProcess | None, str]:
    """Return what the search beside an extern step's socket finds, and the log."""
    said = log()
    extern = stepd.Stepd(
        StepSocket(f"{top}/n1_7.{EXTERN}", 7), frozenset({os.geteuid()}), Deadline(5)
    )
    with contextlib.closing(extern._socket):
        found = Search(Wanted(JOB, UID, NOWHERE), said).find(extern, "n1")
    return found, lines(said)


def test_batch_step_first(tmp_path: Path, sleeping: int) -> None:
    with (
        Stepd(tmp_path / f"n1_7.{BATCH}", uid=UID, replies=pids(sleeping)),
        Stepd(tmp_path / "n1_7.0", uid=UID, replies=pids(1)) as step_0,
        no_descriptor_left(),
    ):
        found, _ = searched(tmp_path)
    assert found
    assert found.pid == sleeping
    assert not step_0.received


# (what the batch step's stepd does, what the log says)
SILENT = [
    ({"greeting": "hang"}, "does not answer"),
    ({"greeting": None}, "closed the connection"),
    ({"greeting": int32(-1)}, "refuses this protocol version"),
    ({"replies": {REQUEST_STEP_LIST_PIDS: "hang"}}, "does not answer"),
    ({"replies": {REQUEST_STEP_LIST_PIDS: None}}, "closed the connection"),
    (
        {"replies": {REQUEST_STEP_LIST_PIDS: int32(1 << 20)}},
        "sent a malformed answer: 1048576 processes",
    ),
    ({"replies": {REQUEST_STEP_LIST_PIDS: int32(2) + int32(5)}}, "does not answer"),
    ({"uid": UID + 1}, ""),
]


@pytest.mark.parametrize(("how", "said"), SILENT)
def test_the_next_step_after_one_that_fails(
    tmp_path: Path, sleeping: int, how: dict[str, object], said: str
) -> None:
    how = {"uid": UID} | how
    with (
        Stepd(tmp_path / f"n1_7.{BATCH}", **how),  # type: ignore[arg-type]
        Stepd(tmp_path / "n1_7.3", uid=UID, replies=pids(sleeping)),
    ):
        found, logged = searched(tmp_path)
    assert found
    assert found.pid == sleeping
    assert said in logged
    assert (f"step n1_7.{BATCH}: stepd of job 7" in logged) == bool(said)


def test_all_silent(tmp_path: Path) -> None:
    """The time for all of them together has an end."""
    steps = [Stepd(tmp_path / f"n1_7.{number}", greeting="hang") for number in range(40)]
    for step in steps:
        step.start()
    found, logged = searched(tmp_path)
    for step in steps:
        step.end()
    assert found is None
    assert logged.count("does not answer") <= 4
    assert "and later ones are not asked" in logged


def test_socket_without_a_stepd(tmp_path: Path, sleeping: int) -> None:
    Stepd(tmp_path / "n1_7.0").listener.close()
    with Stepd(tmp_path / "n1_7.1", uid=UID, replies=pids(sleeping)):
        found, logged = searched(tmp_path)
    assert found
    assert "n1_7.0: stepd of job 7 cannot be reached: Connection refused" in logged


def test_no_spool_directory(tmp_path: Path) -> None:
    found, logged = searched(tmp_path / "gone")
    assert found is None
    assert "cannot read the spool directory" in logged


# What fails


RECIPIENT = Session(os.getpid(), UID, 7, "n1", "/sys/fs/cgroup")


@pytest.mark.parametrize("error", [SetupError("x y"), RuntimeError("x y"), OSError("x y")])
def test_a_failure_ends_no_login(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    said = log()
    options, _ = parse(["job_env=all", "job_limits=1", "disable_x11=1"])
    extern = stepd.Stepd(StepSocket("/nowhere/n1_7.4294967292", 7), frozenset(), Deadline(1))
    monkeypatch.setattr(JobCgroups, "of", fail)
    with contextlib.closing(extern._socket):
        handover = Handover(RECIPIENT, extern, options, said, limits=True)
        assert handover.environment() == {"SLURM_JOB_ID": "7"}
    assert "the job's variables and limits are left out: " in lines(said)
    assert "x y" in lines(said)


def test_cgroups_are_looked_for_where_cgroup_conf_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def of(pid: int, mountpoint: str) -> JobCgroups:
        asked.append((pid, mountpoint))
        return NOWHERE

    options, _ = parse(["job_env=SLURM_CPUS_ON_NODE", "disable_x11=1"])
    extern = stepd.Stepd(StepSocket("/nowhere/n1_7.4294967292", 7), frozenset(), Deadline(1))
    monkeypatch.setattr(JobCgroups, "of", of)
    with contextlib.closing(extern._socket):
        Handover(
            Session(9, UID, 7, "n1", "/cgroup"), extern, options, log(), limits=False
        ).environment()
    assert asked == [(9, "/cgroup")]


@pytest.mark.parametrize("session", [True, False])
def test_limits_are_of_the_session_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeping: int, session: bool
) -> None:
    """And what of them fails keeps no variable from the session."""
    given = []

    def fail(pid: int, limits: bytes) -> list[str]:
        given.append((pid, limits[:6]))
        raise SetupError("x y")

    said = log()
    options, _ = parse(["job_env=SLURM_JOB_UID", "job_limits=1", "disable_x11=1"])
    extern = stepd.Stepd(
        StepSocket(f"{tmp_path}/n1_7.{EXTERN}", 7), frozenset({os.geteuid()}), Deadline(5)
    )
    monkeypatch.setattr(job_limits, "set_on", fail)
    with (
        Stepd(tmp_path / f"n1_7.{BATCH}", uid=UID, replies=pids(sleeping)) as batch,
        contextlib.closing(extern._socket),
    ):
        handover = Handover(RECIPIENT, extern, options, said, limits=session)
        found = handover.environment()
        assert not given  # before the very end
        handover.finish()
    assert found == {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": f"{UID}"}
    assert given == ([(os.getpid(), b"Limit ")] if session else [])
    assert bool(batch.received) == session
    assert ("limits are left as they are: x y" in lines(said)) == session


@pytest.mark.parametrize("error", [None, SetupError("x y")])
def test_limits_come_last(monkeypatch: pytest.MonkeyPatch, error: SetupError | None) -> None:
    """After the namespaces; not at all where these cannot be entered: nothing takes them back."""
    order: list[str] = []

    def join(*_: object) -> None:
        order.append("join")
        if error:
            raise error

    options, _ = parse([])
    node = Node(options, log())
    monkeypatch.setattr(SlurmSite, "name", "n1")
    monkeypatch.setattr(SlurmSite, "layout", lambda _: None)
    monkeypatch.setattr(SlurmSite, "mountpoint", lambda _: "/sys/fs/cgroup")
    monkeypatch.setattr(Confinement, "bring", lambda *_: ((), {}))
    monkeypatch.setattr(Adopter, "_join", join)
    monkeypatch.setattr(Handover, "environment", lambda _: order.append("environment"))
    monkeypatch.setattr(Handover, "finish", lambda _: order.append("finish"))
    step = SimpleNamespace(state=lambda: 2, namespaces=lambda: [(1, 2)])
    job = Job(StepSocket("/nowhere", 7), UID)
    with pytest.raises(SetupError) if error else contextlib.nullcontext():
        node._adopter._complete(
            Adoption(os.getpid(), UID, 7),
            cast("stepd.Stepd", step),
            Confinement(job, node.phase),
        )
    assert order == ["environment", "join", *([] if error else ["finish"])]


# The cgroup's figures


def v1(top: Path, cpus: str = "0-3,8\n") -> JobCgroups:
    job = "/slurm_n1/uid_0/job_7"
    directory = top / "cpuset" / job[1:]
    directory.mkdir(parents=True)
    (directory / "cpuset.effective_cpus").write_text(cpus)
    paths = dict.fromkeys(("cpuset", "memory"), f"{job}/step_extern/task_0") | {"pids": "/"}
    mounts = {name: Mount(f"{top}/{name}", "/") for name in paths}
    return JobCgroups(paths, mounts)


def v2(top: Path, files: dict[str, str]) -> JobCgroups:
    job = "/system.slice/slurmstepd.scope/s000000000000A"
    directory = top / job[1:]
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return JobCgroups({"": f"{job}/step_extern/user/task_0"}, {"": Mount(str(top), "/")})


# (list of CPUs, how many)
CPUS = [
    ("0-3,8\n", 5),
    ("2\n", 1),
    ("0-0", 1),
    ("\n", None),
    ("x", None),
    ("1-", None),
    (",", None),
    ("0-" + "9" * 5000, None),
    ("9" * 5000, None),
]


@pytest.mark.parametrize(("text", "count"), CPUS)
def test_cpus(tmp_path: Path, text: str, count: int | None) -> None:
    assert v1(tmp_path / "1", cpus=text).cpus() == count
    files = {"cpuset.cpus": "0-9\n", "cpuset.cpus.effective": text}
    assert v2(tmp_path / "2", files).cpus() == count


def test_cpus_of_a_job_without_a_cpuset_of_its_own(tmp_path: Path) -> None:
    """In v2 the effective ones are then the whole node's."""
    files = {"cpuset.cpus": "\n", "cpuset.cpus.effective": "0-63\n"}
    assert v2(tmp_path, files).cpus() is None


def test_figures_become_variables(tmp_path: Path) -> None:
    found = job_environment.variables("all", {}, v1(tmp_path), None, log())
    assert found == {"SLURM_CPUS_ON_NODE": "5"}


def test_a_job_that_cgroups_do_not_confine(tmp_path: Path) -> None:
    for paths in ({}, {"": "/user.slice"}, {"memory": "/slurm/uid_0/job_7/step_external"}):
        here = JobCgroups(paths, {name: Mount(str(tmp_path), "/") for name in paths})
        assert (here.paths, here.cpus()) == ({}, None)
        assert here.hold({"": "/anywhere"})


def test_who_is_in_the_job(tmp_path: Path) -> None:
    here = v1(tmp_path)
    job = "/slurm_n1/uid_0/job_7"
    assert here.hold({"cpuset": f"{job}/step_0", "memory": job, "pids": "/x"})
    assert not here.hold({"cpuset": f"{job}/step_0", "memory": f"{job}7/step_0"})
    assert not here.hold({"cpuset": f"{job}/step_0"})


def test_of_this_very_process() -> None:
    """It is in no job; the kernel's files are read as they are."""
    assert JobCgroups.of(os.getpid()).paths == {}
