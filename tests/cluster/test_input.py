"""What services and PAM lines may hand us at their worst, and phases we have no part in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.driver import PHASES, Driver
from tests.cluster.harness.login import METHODS
from tests.cluster.scenarios.situations import arranged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

OURS = "pam_slurm_adopt(sshd:account): "
LONG = "x" * 300


@pytest.fixture(scope="module")
def driver(running_cluster: Cluster) -> Iterator[Driver]:
    """Make calls of PAM on n1."""
    with Driver(running_cluster.n1) as found:
        yield found


STRICT = "ignore_root=0 action_no_jobs=deny action_generic_failure=deny"
OTHER_PHASES = [name for name in PHASES if name not in ("acct_mgmt", "open_session")]


@pytest.mark.parametrize("package", ["there", "missing"])
@pytest.mark.parametrize("phase", OTHER_PHASES)
def test_other_phases_are_ignored(
    cluster: Cluster, driver: Driver, phase: str, package: str
) -> None:
    """Called by mistake or by a stack: PAM_IGNORE, so that the others decide."""
    if package == "missing":
        cluster.n1.run(["mv", "/opt/slurm_adopt/src", "/opt/slurm_adopt/away"])
    try:
        for user in ("alice", "root", "nobody-knows-me"):
            for options in ("", STRICT):
                answer = driver.call(f"{pam.OURS} {options}", user, phase)
                assert (answer.ended, answer.code, answer.said) == ("", "PAM_IGNORE", ())
                assert (answer.environment, answer.log) == ({}, [])
    finally:
        if package == "missing":
            cluster.n1.run(["mv", "/opt/slurm_adopt/away", "/opt/slurm_adopt/src"])


@pytest.fixture
def in_every_phase(cluster: Cluster) -> Iterator[None]:
    """Have ours in all phases of sshd's stack on n1, and in that of chpasswd."""
    module = pam.OURS.removeprefix("account ")
    usual = cluster.n1.read("etc/pam.d/chpasswd")
    lines = [f"{phase} {module} service=*" for phase in ("auth", "password", "session")]
    cluster.n1.pam("sshd", [*lines, *pam.with_module()])
    cluster.n1.pam("chpasswd", [lines[1], usual])
    yield
    cluster.n1.pam("chpasswd", usual)


@pytest.mark.usefixtures("in_every_phase")
@pytest.mark.parametrize("method", METHODS)
def test_stacks_with_ours_in_every_phase(cluster: Cluster, method: str) -> None:
    """Logins go on as if only the account line were there, whatever the method."""
    refused = cluster.ssh("alice", method=method)
    assert refused.rc == 255
    assert "you have no active jobs on this node" in refused.err
    job = cluster.submit("alice")
    let_in = cluster.ssh("alice", command="echo $SLURM_JOB_ID", method=method)
    assert (let_in.rc, let_in.out.strip()) == (0, str(job)), let_in
    if method == "publickey":
        assert cluster.ssh("root").rc == 0


@pytest.mark.usefixtures("in_every_phase")
def test_a_password_is_changed_with_ours_in_the_stack(cluster: Cluster) -> None:
    cluster.n1.run(["chpasswd"], input="alice:password of alice\n")


# (options, PAM code for a user without a job, part of the log)
OPTIONS = [
    ("action_no_jobs=", "PAM_PERM_DENIED", "unrecognized action_no_jobs="),
    ("action_no_jobs", "PAM_PERM_DENIED", "ignoring unrecognized option 'action_no_jobs'"),
    (
        "action_no_jobs=ignore action_no_jobs=deny",
        "PAM_PERM_DENIED",
        "the last value counts: 'deny'",
    ),
    ("action_no_jobs=deny action_no_jobs=ignore", "PAM_IGNORE", "the last value counts: 'ignore'"),
    ("action_no_jobs=ignore action_no_jobs=ignore", "PAM_IGNORE", "no jobs"),
    ("[action_no_jobs=ignore x]", "PAM_PERM_DENIED", "unrecognized action_no_jobs=ignore x"),
    ("=ignore", "PAM_PERM_DENIED", "ignoring unrecognized option '=ignore'"),
    ("nodename=", "PAM_PERM_DENIED", "unrecognized nodename="),
    ("nodename=nöde", "PAM_PERM_DENIED", "no jobs"),
    ("service=", "PAM_PERM_DENIED", "unrecognized service=, setting to 'sshd'"),
    ("slurm_conf=", "PAM_PERM_DENIED", "unrecognized slurm_conf="),
    ("Action_No_Jobs=IGNORE", "PAM_IGNORE", "no jobs"),
    ("action_nojobs=ignore", "PAM_PERM_DENIED", "did you mean action_no_jobs=?"),
    ("action_no_jobs=ignorée", "PAM_PERM_DENIED", "unrecognized action_no_jobs=ignor"),
    ("acción=x", "PAM_PERM_DENIED", "ignoring unrecognized option"),
    ("y" * 900, "PAM_PERM_DENIED", "ignoring unrecognized option 'yyy"),
    ("log_level=" + "9" * 900, "PAM_PERM_DENIED", "unrecognized log_level=999"),
]


@pytest.mark.parametrize(("options", "code", "said"), OPTIONS, ids=lambda value: value[:40])
def test_options(cluster: Cluster, driver: Driver, options: str, code: str, said: str) -> None:
    assert cluster
    answer = driver.call(f"{pam.OURS} {options}", "alice")
    assert (answer.ended, answer.code) == ("", code)
    assert said in "\n".join(answer.log)


def test_ten_thousand_characters_never_let_a_user_in(cluster: Cluster, driver: Driver) -> None:
    """PAM cuts or drops a line that long; what is left still keeps users out."""
    assert cluster
    answer = driver.call(f"{pam.OURS} nodename={'z' * 10_000}", "alice")
    assert answer.code != "PAM_SUCCESS"
    assert "characters long: PAM may have cut the line short" in "\n".join(answer.log)
    assert driver.call(pam.OURS, "root").code == "PAM_IGNORE"


@pytest.mark.parametrize("length", [900, 1000, 10_000])
def test_long_lines_in_a_real_stack(cluster: Cluster, length: int) -> None:
    """PAM takes what is beyond 1000 bytes of a line for garbage: root gets in, users do not."""
    cluster.n1.pam("sshd", pam.with_module("y" * length))
    assert cluster.ssh("root").rc == 0
    assert cluster.ssh("alice").rc == 255


def test_options_that_are_no_utf_8(cluster: Cluster, driver: Driver) -> None:
    """pam_python refuses to run the script: what the guard is for."""
    stack = "\n".join(pam.with_module("action_no_jobs=ign\udcf6re")) + "\n"
    file = cluster.n1.root / "etc/pam.d/sshd"
    file.write_bytes(stack.encode(errors="surrogateescape"))
    mark = cluster.n1.mark()
    assert cluster.ssh("root").rc == 0
    assert cluster.ssh("alice").rc == 255
    assert any("UnicodeDecodeError" in line for line in driver.log(mark))


# names that no host has
USERS = [LONG, "al\nice", "../alice", "al%sice%n", "nobody-knows-me", " alice", "ålice",
         "al\udcffce", "ALICE", "5001", "root\n", "alice/"]  # fmt: skip


@pytest.mark.parametrize("user", USERS, ids=ascii)
def test_users(cluster: Cluster, driver: Driver, user: str) -> None:
    """Unknown, with one line in the log that nothing forges."""
    assert cluster
    answer = driver.call(pam.OURS, user)
    assert (answer.ended, answer.code) == ("", "PAM_USER_UNKNOWN")
    (line,) = answer.log
    assert OURS in line
    assert "unknown user" in line


def test_no_user(cluster: Cluster, driver: Driver) -> None:
    assert cluster
    for user in (None, ""):
        answer = driver.call(pam.OURS, user)
        assert answer.code == "PAM_SESSION_ERR"
        (line,) = answer.log
        assert "no user: PAM_USER is not set" in line


# jobs -> PAM code, part of the log
CONVERSATIONS = [
    (0, "PAM_PERM_DENIED", "no jobs"),
    (1, "PAM_SUCCESS", "(the only job"),
    (2, "PAM_SUCCESS", "; the user cannot be asked)"),
]


@pytest.mark.parametrize(("jobs", "code", "said"), CONVERSATIONS)
def test_a_conversation_that_fails(
    cluster: Cluster, driver: Driver, jobs: int, code: str, said: str
) -> None:
    """The service's function can show nothing and ask nothing: the decision stands."""
    for _ in range(jobs):
        cluster.submit("alice")
    line = f"{pam.OURS} action_unknown=ask"
    answer = driver.call(line, "alice", items={"tty": "ssh"}, conversation="fails")
    assert (answer.ended, answer.code, answer.said) == ("", code, ())
    assert said in answer.log[-1]


def test_a_conversation_that_crashes(cluster: Cluster, driver: Driver) -> None:
    """The process of the service ends; the log has the decision, and the next login is as usual."""
    assert cluster
    answer = driver.call(pam.OURS, "alice", conversation="crashes")
    assert (answer.ended, answer.code) == ("exit -11: ", "")
    assert "no jobs" in answer.log[-1]
    assert driver.call(pam.OURS, "alice").code == "PAM_PERM_DENIED"


# (PAM_RHOST, SSH_CONNECTION; None for unset)
PEERS = [
    (None, None),
    ("login.cluster.example", None),
    ("10.78.0.9", "10.78.0.9 1 10.78.0.2 22"),
    ("10.78.0.4\n", "x"),
    ("%s" * 50, "10.78.0.3 99999 10.78.0.2 22"),
    ("fe80::1%eth0", "fe80::1 1 fe80::2 22"),
    (LONG * 3, "1 2 3 4 5"),
    ("\udcff", "\udcff"),
    ("", ""),
]


@pytest.mark.parametrize(("rhost", "said"), PEERS, ids=lambda value: ascii(value)[:30])
def test_peers(cluster: Cluster, driver: Driver, rhost: str | None, said: str | None) -> None:
    """Several jobs, and nothing true is said of the source: action_unknown decides."""
    for _ in range(2):
        cluster.submit("alice")
    environment = {} if said is None else {"SSH_CONNECTION": said}
    items = {} if rhost is None else {"rhost": rhost}
    answer = driver.call(
        f"{pam.OURS} action_unknown=deny", "alice", items=items, environment=environment
    )
    assert (answer.ended, answer.code) == ("", "PAM_PERM_DENIED")
    decision = answer.log[-1]
    assert "unknown job" in decision
    assert "source unknown" in decision


# What is said while the process holds the connection: PAM_RHOST, SSH_CONNECTION (S for the source's
# address, P for its port), whether the job that it comes from is found, part of the decision's line
# or of the one before it.
SAID = [
    ("S", "S P 10.78.0.2 5022", True, "the job it comes from"),
    (None, None, True, "the job it comes from"),
    ("", "", True, "the job it comes from"),
    (None, "S P 10.78.0.2 5022", True, "the job it comes from"),
    ("n2.cluster.example", None, True, "the job it comes from"),
    ("n2.cluster.example", "S P 10.78.0.2 5022", True, "the job it comes from"),
    ("%s%n" * 80, "x" * 10_000, True, "the job it comes from"),
    ("\udcff\udcfe", "\udcff P 10.78.0.2 5022", True, "the job it comes from"),
    (None, "S P", True, "the job it comes from"),
    (None, "S -1 10.78.0.2 5022", True, "the job it comes from"),
    (None, "S 99999 10.78.0.2 5022", True, "the job it comes from"),
    ("::ffff:S", None, True, "the job it comes from"),
    ("S", "S 1 10.78.0.2 22", True, "the socket from S is used"),
    ("S", "10.78.0.4 P 10.78.0.2 5022", True, "the socket from S is used"),
    (None, "S 1 10.78.0.2 22", False, "SSH_CONNECTION says S 1 10.78.0.2 22, but the sockets are"),
    ("10.78.0.4", None, False, "PAM_RHOST is 10.78.0.4, SSH_CONNECTION unset, the sockets are"),
    ("10.78.0.4", "S P 10.78.0.2 5022", False, "PAM_RHOST is 10.78.0.4, SSH_CONNECTION S P"),
    ("10.78.0.4", "10.78.0.4 1 10.78.0.2 22", False, "PAM_RHOST is 10.78.0.4"),
]


@pytest.fixture(scope="module")
def source(running_cluster: Cluster, driver: Driver) -> Iterator[tuple[int, str, str]]:
    """Give alice two jobs on n1, the older one with a connection to n1; say which, and whence."""
    with arranged(running_cluster, driver, "several jobs, from one of them", "alice") as stage:
        address, port, *_ = stage.request["environment"]["SSH_CONNECTION"].split()
        yield stage.jobs["source"], address, port


@pytest.mark.parametrize(("rhost", "said", "found", "line"), SAID)
def test_what_is_said_of_the_connection(
    source: tuple[int, str, str],
    driver: Driver,
    rhost: str | None,
    said: str | None,
    found: bool,
    line: str,
) -> None:
    """The kernel's word counts: garbage is as nothing, and a contradiction is no guess."""
    job, address, port = source

    def filled(text: str | None) -> str | None:
        return text and text.replace("S", address).replace("P", port)

    items = {"rhost": filled(rhost)} if rhost is not None else {}
    environment = {"SSH_CONNECTION": filled(said)} if said is not None else {}
    answer = driver.call(
        f"{pam.OURS} action_unknown=deny", "alice", items=items, environment=environment
    )
    assert answer.code == ("PAM_SUCCESS" if found else "PAM_PERM_DENIED")
    assert answer.environment == ({"SLURM_JOB_ID": str(job)} if found else {})
    *before, decision = answer.log
    assert f"adopted into job {job} " in decision or not found
    expected = line.replace("S P", f"{address} {port}").replace("from S ", f"from {address} ")
    assert expected.replace("says S", f"says {address}") in "\n".join([*before, decision])
