"""Which processes are ssh sessions, by the process tables of OpenSSH's releases."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.cli import processes
from slurm_adopt.cli.checks.machine import processes as host_processes
from slurm_adopt.cli.sessions import command as sessions
from slurm_adopt.cli.sessions import sockets, ssh_sessions
from slurm_adopt.cli.sessions.places import Places
from slurm_adopt.node.ssh_connection import socket_inodes
from slurm_adopt.slurm.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_adopt.node.slurm_site import SlurmSite

Row = tuple[int, int, int, str, str]  # pid, parent, uid, program, title

STATUS = """\
Name:\t{name}
Umask:\t0022
State:\tS (sleeping)
Tgid:\t{pid}
Pid:\t{pid}
PPid:\t{parent}
Uid:\t{uid}\t{uid}\t{uid}\t{uid}
Gid:\t{uid}\t{uid}\t{uid}\t{uid}
NSsid:\t{session}
VmRSS:\t    1024 kB
"""


def write(proc: Path, rows: list[Row]) -> None:
    """Write what a table of processes shows in /proc."""
    (proc / "stat").write_text("cpu 1 2\nbtime 1700000000\nprocesses 9\n")
    for pid, parent, uid, name, title in rows:
        process = proc / str(pid)
        process.mkdir()
        status = STATUS.format(name=name, pid=pid, parent=parent, uid=uid, session=pid)
        (process / "status").write_text(status)
        (process / "cmdline").write_bytes(title.encode() + bytes(20))
        (process / "stat").write_text(
            f"{pid} ({name}) S {parent}" + " 0" * 9 + " 100 50 25 25 0 0 0 0 6000"
        )
        (process / "cgroup").write_text("0::/user.slice\n")
        (process / "environ").write_bytes(b"A=1\0SLURM_JOB_ID=42\0")


LISTENER = (10, 1, 0, "sshd", "sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups")
SSHD_UID = 74  # of the user that OpenSSH calls sshd

# (what, processes, logins: pid, inner, user, terminal)
TABLES: list[tuple[str, list[Row], list[tuple[int, int | None, str, str]]]] = [
    (
        "OpenSSH 7",
        [
            (10, 1, 0, "sshd", "/usr/sbin/sshd\0-D"),
            (20, 10, 0, "sshd", "sshd: alice [priv]"),
            (21, 20, 5001, "sshd", "sshd: alice@pts/0,pts/1"),
            (22, 21, 5001, "bash", "-bash"),
            (30, 10, 0, "sshd", "sshd: root@notty"),
        ],
        [(20, 21, "alice", "pts/0,pts/1"), (30, None, "root", "")],
    ),
    (
        "OpenSSH 9.2: sftp, ssh -N, names of a directory service",
        [
            LISTENER,
            (20, 10, 0, "sshd", "sshd: alice@example.org [priv]"),
            (21, 20, 5001, "sshd", "sshd: alice@example.org@internal-sftp"),
            (30, 10, 0, "sshd", "sshd: bob [priv]"),
            (31, 30, 5002, "sshd", "sshd: bob"),
            (40, 10, 0, "sshd", r"sshd: EX\carol [priv]"),
            (41, 40, 5003, "sshd", r"sshd: EX\carol@notty"),
        ],
        [(20, 21, "alice@example.org", ""), (30, 31, "bob", ""), (40, 41, r"EX\carol", "")],
    ),
    (
        "OpenSSH 10",
        [
            LISTENER,
            (20, 10, 0, "sshd-session", "sshd-session: alice [postauth]"),
            (21, 20, 5001, "sshd-session", "sshd-session: alice@pts/0"),
            (30, 10, 0, "sshd-session", "sshd-session: root [postauth]"),
            (31, 30, 0, "sshd-session", "sshd-session: root@notty"),
        ],
        [(20, 21, "alice", "pts/0"), (30, 31, "root", "")],
    ),
    (
        "not yet authenticated",
        [
            LISTENER,
            (20, 10, 0, "sshd", "sshd: [accepted]"),
            (21, 20, SSHD_UID, "sshd", "sshd: [net]"),
            (30, 10, 0, "sshd", "sshd: alice [priv]"),
            (31, 30, SSHD_UID, "sshd", "sshd: alice [net]"),
            (32, 30, 0, "sshd", "sshd: alice [pam]"),
            (40, 10, 0, "sshd-session", "sshd-session: root [priv]"),
            (41, 40, SSHD_UID, "sshd-auth", "sshd-auth: root [net]"),
        ],
        [],
    ),
    (
        "what users call their programs",
        [
            LISTENER,
            (20, 10, 0, "sshd", "sshd: alice [priv]"),
            (21, 20, 5001, "sshd", "sshd: alice@pts/0"),
            (22, 21, 5001, "sshd", "sshd: bob [priv]"),
            (23, 22, 5001, "sshd", "sshd: bob@pts/3"),
            (24, 1, 5001, "sshd", "sshd: root@pts/9"),
            (25, 21, 5001, "sleep", "sshd: root@pts/9"),
        ],
        [(20, 21, "alice", "pts/0")],
    ),
    (
        "a process of a user's whose parent has just ended",
        [(1, 0, 0, "init", "init"), LISTENER, (31, 30, 5001, "sshd", "sshd: alice@pts/0")],
        [],
    ),
    (
        "UsePrivilegeSeparation no",
        [LISTENER, (20, 10, 0, "sshd", "sshd: daemon@pts/0")],
        [(20, None, "daemon", "pts/0")],
    ),
    (
        "root's process is hidden (hidepid)",
        [(21, 20, 5001, "sshd", "sshd: alice@pts/0"), (22, 21, 5001, "bash", "-bash")],
        [(20, 21, "alice", "pts/0")],
    ),
]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a host with the users of the tables."""
    uids = {"sshd": SSHD_UID, "daemon": 1, "root": 0}
    monkeypatch.setattr(ssh_sessions, "uid_of", uids.get)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("rows", "expected"), [row[1:] for row in TABLES], ids=[row[0] for row in TABLES]
)
def test_logins(
    tmp_path: Path, rows: list[Row], expected: list[tuple[int, int | None, str, str]]
) -> None:
    write(tmp_path, rows)
    found = ssh_sessions.logins(processes.listed(str(tmp_path)), str(tmp_path))
    assert [(one.pid, one.inner, one.user, one.terminal) for one in found] == expected


@pytest.mark.usefixtures("known")
def test_a_container_s_sessions_are_none_of_this_host(tmp_path: Path) -> None:
    """Its sshd is in a PID namespace of its own."""
    write(tmp_path, [(20, 10, 0, "sshd", "sshd: bob [priv]"), (21, 20, 5002, "sshd", "sshd: bob")])
    assert len(ssh_sessions.logins(processes.listed(str(tmp_path)), str(tmp_path))) == 1
    for pid in (20, 21):
        with (tmp_path / f"{pid}/status").open("a") as status:
            status.write(f"NSpid:\t{pid}\t{pid - 10}\n")
    assert ssh_sessions.logins(processes.listed(str(tmp_path)), str(tmp_path)) == []


def test_a_process_whose_first_thread_has_ended(tmp_path: Path) -> None:
    """It is there, and is where its other threads are."""
    write(tmp_path, [(40, 1, 5001, "hidden", "x"), (41, 1, 5001, "ended", "x")])
    thread = tmp_path / "40/task/42"
    thread.mkdir(parents=True)
    alive = (tmp_path / "40/status").read_text()
    (thread / "status").write_text(alive)
    (thread / "cgroup").write_text("4:freezer:/slurm_n1/uid_5001/job_9/step_extern\n")
    for pid, threads in ((40, 2), (41, 1)):
        status = alive.replace("S (sleeping)", "Z (zombie)") + f"Threads:\t{threads}\n"
        (tmp_path / f"{pid}/status").write_text(status)
        (tmp_path / f"{pid}/cgroup").write_text("4:freezer:/\n")
    (one,) = processes.listed(str(tmp_path)).values()
    assert (one.pid, one.uid, one.memory) == (40, 5001, 1 << 20)
    places = Places({}, str(tmp_path))
    assert (places.of(40).job_id, places.of(41).job_id) == (9, None)
    (seen,) = host_processes.look(str(tmp_path))
    assert (seen.pid, seen.job_id) == (40, 9)


def no_site() -> SlurmSite:
    raise SetupError("no slurm.conf here")


@pytest.mark.usefixtures("known")
def test_what_belongs_to_a_session(tmp_path: Path) -> None:
    """All below it and what its shells have left; not what is below another session in it."""
    rows: list[Row] = [
        LISTENER,
        (20, 10, 0, "sshd", "sshd: root@pts/0"),
        (21, 20, 0, "bash", "-bash"),
        (22, 21, 0, "sshd", "sshd: /usr/sbin/sshd -D -p 2222 [listener] 0 of 10-100 startups"),
        (30, 22, 0, "sshd", "sshd: alice [priv]"),
        (31, 30, 5001, "sshd", "sshd: alice@pts/1"),
        (32, 31, 5001, "bash", "-bash"),
        (40, 1, 5001, "sleep", "sleep"),
        (41, 1, 5002, "sleep", "sleep"),
    ]
    write(tmp_path, rows)
    for pid in (40, 41):  # begun by the shell of session 32, which they have outlived
        status = (tmp_path / f"{pid}/status").read_text()
        (tmp_path / f"{pid}/status").write_text(status.replace(f"NSsid:\t{pid}", "NSsid:\t32"))
    sight = ssh_sessions.look(no_site, None, str(tmp_path))
    found = {one.login.pid: one for one in sight.sessions}
    assert {pid: one.pids for pid, one in found.items()} == {
        20: [20, 21, 22],
        30: [30, 31, 32, 40],
    }
    assert found[30].memory == 4 << 20
    assert found[30].cpu == pytest.approx(4 * 2.0)
    assert found[30].since == pytest.approx(1700000060)
    assert found[20].outside == ssh_sessions.ROOT
    assert found[30].outside == ssh_sessions.NO_JOB
    assert found[30].why == (
        "moved away, if it was in job 42 as its SLURM_JOB_ID says: in /user.slice"
    )


@pytest.mark.usefixtures("known")
def test_a_process_that_holds_its_readers_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one in execve(2) does: all else shows, and what does not is said."""
    write(
        tmp_path,
        [LISTENER, (20, 10, 0, "sshd", "sshd: bob [priv]"), (21, 20, 5002, "sshd", "sshd: bob")],
    )
    monkeypatch.setattr(processes, "READ", 0.2)
    monkeypatch.setattr(processes, "stat", lambda _: time.sleep(60))
    sight = ssh_sessions.look(no_site, None, str(tmp_path))
    (one,) = sight.sessions
    assert (one.cpu, one.pids, one.outside) == (None, [20, 21], ssh_sessions.NO_JOB)
    assert "CPU time does not show: a process blocks its readers" in sight.remarks
    assert sessions._row(one)[6] == "-"


V1 = "9:name=systemd:/\n6:freezer:/slurm/uid_5001/job_7/step_extern\n4:memory:{memory}\n"

# (cgroup of the user's sshd, of its shell, whether the job lives, what is said)
PLACED = [
    (V1, V1, True, ("", "")),
    (V1, V1, None, ("", "")),
    (V1, V1, False, (ssh_sessions.ENDED, "job 7 has ended and has left it")),
    (V1, "0::/\n", True, (ssh_sessions.IN_PART, "not wholly in job 7: process 22")),
    (
        V1.replace("5001", "5002"),
        V1,
        True,
        (ssh_sessions.FOREIGN, "job 7 is 5002's"),
    ),
]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(("inner", "shell", "alive", "expected"), PLACED)
def test_where_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inner: str,
    shell: str,
    alive: bool | None,
    expected: tuple[str, str],
) -> None:
    write(
        tmp_path,
        [
            LISTENER,
            (20, 10, 0, "sshd", "sshd: alice [priv]"),
            (21, 20, 5001, "sshd", "sshd: alice@pts/0"),
            (22, 21, 5001, "bash", "-bash"),
        ],
    )
    memory = "/slurm/uid_5001/job_7/step_extern/task_0"
    for pid, text in ((20, inner), (21, inner), (22, shell)):
        (tmp_path / f"{pid}/cgroup").write_text(text.format(memory=memory))
    monkeypatch.setattr(ssh_sessions.Jobs, "runs", lambda *_: alive)
    (one,) = ssh_sessions.look(no_site, None, str(tmp_path)).sessions
    assert (one.outside, one.why) == expected
    assert one.job_id == 7


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("ending", [21, 22])
def test_what_is_just_ending_is_not_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: int
) -> None:
    """The kernel shows it in no cgroup for a moment; a second look tells."""
    rows: list[Row] = [
        LISTENER,
        (20, 10, 0, "sshd", "sshd: alice [priv]"),
        (21, 20, 5001, "sshd", "sshd: alice@pts/0"),
        (22, 21, 5001, "bash", "-bash"),
    ]
    write(tmp_path, rows)
    inside, outside = V1.format(memory="/"), "6:freezer:/\n"
    for pid in (20, 21, 22):
        (tmp_path / f"{pid}/cgroup").write_text(outside if pid == ending else inside)
    looks = []

    def settle(seconds: float) -> None:
        looks.append(seconds)
        (tmp_path / f"{ending}/cgroup").write_text(inside)

    monkeypatch.setattr(ssh_sessions, "sleep", settle)
    (one,) = ssh_sessions.look(no_site, None, str(tmp_path)).sessions
    assert (one.outside, one.elsewhere, len(looks)) == ("", [], 1)
    # It begins to end at the second look, which another process is the reason for.
    (tmp_path / "20/cgroup").write_text(outside)
    ends = lambda _: (tmp_path / f"{ending}/cgroup").write_text(outside)  # noqa: E731
    monkeypatch.setattr(ssh_sessions, "sleep", ends)
    (one,) = ssh_sessions.look(no_site, None, str(tmp_path)).sessions
    assert (one.job_id, one.outside, one.elsewhere) == (7, ssh_sessions.IN_PART, [20])


def test_jobs_without_slurm() -> None:
    """Nothing is known of them, and that is said; no session counts as left for that."""
    jobs = ssh_sessions.Jobs(no_site, Places({}))
    assert jobs.steps() == {}
    assert jobs.remark == "whether jobs have ended is not known: no slurm.conf here"
    assert jobs.runs(Places({}).of("self")) is None


V2 = "0::/system.slice/slurmstepd.scope/{}/step_extern/{}\n"
SLUID = "sABCDEFGH12345"


class Site:
    """Where Slurm is, with a spool directory of ours."""

    name = "n1"

    def __init__(self, spool: Path) -> None:
        self.spool = str(spool)

    def layout(self) -> object:
        return object()


def test_jobs_by_the_cgroups_of_their_stepds(tmp_path: Path) -> None:
    """26.05 calls a job's cgroup by another id: who listens on its socket is in there, too."""
    for pid, text in ((os.getpid(), V2.format(SLUID, "slurm")), (9, V2.format(SLUID, "user"))):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / f"{pid}/cgroup").write_text(text)
    (tmp_path / "8").mkdir()
    (tmp_path / "8/cgroup").write_text(V2.format("job_43", "user"))
    paths = [tmp_path / f"n1_{job}.4294967292" for job in (42, 43)]
    known = Places({}, str(tmp_path))
    listening = [socket.socket(socket.AF_UNIX) for _ in paths]
    for one, path in zip(listening, paths):
        one.bind(str(path))
    listening[0].listen()  # the other's stepd has died
    jobs = ssh_sessions.Jobs(lambda: Site(tmp_path), known)  # type: ignore[arg-type,return-value]
    assert {job: len(found) for job, found in jobs.steps().items()} == {42: 1, 43: 1}
    assert (jobs.job_id(known.of(9)), jobs.runs(known.of(9))) == (42, True)
    assert (jobs.job_id(known.of(8)), jobs.runs(known.of(8))) == (43, False)
    for one in listening:
        one.close()
    later = ssh_sessions.Jobs(lambda: Site(tmp_path), known)  # type: ignore[arg-type,return-value]
    assert (later.job_id(known.of(9)), later.runs(known.of(9))) == (None, False)


def test_jobs_of_another_node_of_this_host(tmp_path: Path) -> None:
    """A host may have several slurmd: whether a job of another one lives is not known."""
    (tmp_path / "9").mkdir()
    (tmp_path / "9/cgroup").write_text("6:freezer:/slurm_n2/uid_5/job_7/step_extern\n")
    known = Places({}, str(tmp_path))
    jobs = ssh_sessions.Jobs(lambda: Site(tmp_path), known)  # type: ignore[arg-type,return-value]
    assert jobs.runs(known.of(9)) is None


# (text of status, what is read)
STATUSES = [
    (STATUS.format(name="a b", pid=1, parent=2, uid=3, session=4), ("a b", 2, 3, 1 << 20, 4)),
    ("Name:\tkthread\nPPid:\t2\nUid:\t0\t0\t0\t0\n", ("kthread", 2, 0, 0, 0)),
    ("Name:\tsu\nPPid:\t2\nUid:\t5\t0\t0\t0\n", ("su", 2, None, 0, 0)),
    ("Name:\tx\nPPid:\t2\n", None),
    ("Name:\tx\nState:\tZ (zombie)\nPPid:\t2\nUid:\t0\t0\t0\t0\n", None),
    ("", None),
    ("garbage", None),
]


@pytest.mark.parametrize(("text", "expected"), STATUSES)
def test_status(text: str, expected: tuple[object, ...] | None) -> None:
    found = processes.parse(9, text.encode())
    shown = (found.program, found.parent, found.uid, found.memory, found.session) if found else None
    assert shown == expected


ROW = "   1: 0200007F:0016 0100007F:C350 01 00000000:00000000 00:00000000 00000000  0 0 {} 1 0\n"


def test_the_kernel_s_table(tmp_path: Path) -> None:
    """Rows of the sockets that are asked for; what is no row is passed over."""
    table = tmp_path / "tcp"
    table.write_text("  sl  local_address\n" + ROW.format(77) + "garbage\n" + ROW.format(78))
    (found,) = sockets.listed(str(table), {77, 99}).items()
    assert found[0] == 77
    assert str(found[1]) == "127.0.0.1 50000 127.0.0.2 22"
    assert sockets.listed(str(tmp_path / "none"), {77}) == {}


# (an answer of sock_diag, inode and connection)
ANSWER = {"idiag_src": "10.0.0.2", "idiag_sport": 22, "idiag_dst": "10.0.0.4",
          "idiag_dport": 50000, "idiag_inode": 77}  # fmt: skip
ANSWERS = [
    (ANSWER, ["77 10.0.0.4 50000 10.0.0.2 22"]),
    (
        {**ANSWER, "idiag_src": "::ffff:10.0.0.2", "idiag_dst": "::ffff:10.0.0.4"},
        ["77 10.0.0.4 50000 10.0.0.2 22"],
    ),
    ({**ANSWER, "idiag_src": "10.0.0.2", "idiag_dst": "fe80::1"}, []),
    ({**ANSWER, "idiag_dst": None}, []),
    ({}, []),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
def test_an_answer_of_sock_diag(answer: dict[str, object], expected: list[str]) -> None:
    assert [f"{inode} {one}" for inode, one in sockets._of(answer)] == expected


def test_sock_diag_and_the_table_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a connection of our own; without pyroute2 it is said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(sockets, "SSH_PORT", port)
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                inode = os.fstat(accepted.fileno()).st_ino
                assert inode in socket_inodes("/proc/self/fd")
                holders = {os.getpid(): [1, inode], os.getppid(): [2], 1: []}
                by_table, remark = sockets.connections(holders)
                assert not remark
                monkeypatch.setattr(sockets, "FEW", -1)
                asked, remark = sockets.connections(holders)
                assert not remark
                monkeypatch.setattr(sockets, "_asked", no_pyroute2)
                listed, remark = sockets.connections(holders)
                assert remark == sockets.MISSING
                ours = client.getsockname()[1]
                assert asked == listed == by_table
                assert {pid: str(one) for pid, one in asked.items()} == {
                    os.getpid(): f"127.0.0.1 {ours} 127.0.0.1 {port}"
                }


def no_pyroute2() -> None:
    raise ImportError


def test_connections_at_another_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """sock_diag is asked for those at port 22; the others are in the table all the same."""
    monkeypatch.setattr(sockets, "FEW", -1)
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname()) as client:
        inode = os.fstat(client.fileno()).st_ino
        found, remark = sockets.connections({os.getpid(): [inode]})
        assert (found[os.getpid()].destination_port, remark) == (client.getsockname()[1], "")


# (sockstat, sockstat6, sockets)
SOCKSTATS = [
    ("sockets: used 9\nTCP: inuse 5 orphan 0 tw 2 alloc 8 mem 1\n", "TCP6: inuse 3\n", 10),
    ("UDP: inuse 7\n", "", 0),
    ("TCP: inuse\n", "TCP6:\n", 0),
]


@pytest.mark.parametrize(("four", "six", "expected"), SOCKSTATS)
def test_how_many_sockets(tmp_path: Path, four: str, six: str, expected: int) -> None:
    (tmp_path / "sockstat").write_text(four)
    (tmp_path / "sockstat6").write_text(six)
    assert sockets.number_of_sockets(str(tmp_path)) == expected
