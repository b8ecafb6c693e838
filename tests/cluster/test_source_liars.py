"""What answers at the source host may say what it likes: it selects among the user's own jobs.

The liar listens on the login node, where no slurmd does and any user may, or in front of the slurmd
of n2.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import Scene, from_login, limit, several_jobs
from tests.cluster.harness.wait import wait_for
from tests.cluster.standins.slurmd import PYTHON, StandinSlurmd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

LIAR = "slurmd at 10.78.0.4:6818: "
CONF = "/etc/slurm-source/slurm.conf"
PORT = 7000  # of the slurmds, as far as the module on n1 knows
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
ANSWER = "/tmp/answer"


@pytest.fixture(scope="module")
def scene(running_cluster: Cluster) -> Iterator[Scene]:
    """Give alice several jobs, and a session inside the older one; no test here changes that."""
    running_cluster.pam(pam.with_module())
    with several_jobs(running_cluster) as found:
        yield found
    running_cluster.cancel_all()


def test_the_stand_in_can_be_believed(scene: Scene) -> None:
    """What it says as root, all correct, is followed: nothing below fails for its clumsiness."""
    for job in (scene.older, scene.newest):
        with StandinSlurmd(scene.cluster.login, "job", str(job)) as slurmd:
            landing = scene.from_login()
            assert landing.job == job
            assert f"adopted into job {job} (the job it comes from)" in landing.line
            assert slurmd.asked == 1


# who answers (root for ""), how, and what the log says of it; {older} and so on are jobs
LIES = {
    "ordinary user": (
        "carol", ("job", "{older}"), "reply is from uid 5003, not from root or SlurmdUser",
    ),
    "user of slurmctld": ("slurm", ("job", "{older}"), "reply is from uid 64030, not from root"),
    "another user's job": (
        "", ("job", "{bobs}"),
        "the source host named job {bobs}, which is not one of the user's jobs here",
    ),
    "job not on this node": (
        "", ("job", "{elsewhere}"),
        "the source host named job {elsewhere}, which is not one of the user's jobs here",
    ),
    "unknown job": (
        "", ("job", "4000000000"),
        "the source host named job 4000000000, which is not one of the user's jobs here",
    ),
    "NO_VAL": ("", ("job", "4294967294"), "the source host knows no job for this connection"),
    "INFINITE": ("", ("job", "4294967295"), LIAR + "callerid reply: job id is 4294967295"),
    "job 0": ("", ("job", "0"), LIAR + "callerid reply: job id is 0"),
    "credential of another body": (
        "", ("other_body", "{older}"), LIAR + "the reply's credential is for another message",
    ),
    "credential of another type": (
        "", ("other_type", "{older}"), LIAR + "the reply's credential is for another message",
    ),
    "credential of nothing": (
        "", ("unbound", "{older}"), LIAR + "the reply's credential is for another message",
    ),
    "credential for anyone": (
        "", ("for_anyone", "{older}"), LIAR + "the reply's credential is for uid 4294967295",
    ),
    "no credential": (
        "", ("without_credential", "{older}"), LIAR + "reply: credential refused",
    ),
    "another message": ("", ("other_kind", "{older}"), LIAR + "reply: type is 2014, not 5036"),
    "another version": (
        "", ("other_version", "{older}"), LIAR + "version of reply is 10752, not 9728",
    ),
    "error": ("", ("slurm_rc", "2017"), LIAR + "answered error 2017: invalid job id"),
    "error of the credential": (
        "", ("slurm_rc", "1007"),
        LIAR + "answered error 1007: authentication error; do munge key and clock agree on both",
    ),
    "unknown error": ("", ("slurm_rc", "-1"), LIAR + "answered error -1: unknown"),
    "no version will do": ("", ("no_such_version",), LIAR + "answered error 1005: protocol"),
    "HTTP": ("", ("http",), LIAR + "answered in HTTP; asked as Slurm 22.05"),
    "closes": ("", ("close",), LIAR + "closed without an answer"),
    "never": ("", ("never",), LIAR + "no reply within the time limit"),
    "one byte a second": ("", ("slowly", "{older}"), LIAR + "no reply within the time limit"),
    "1 GiB": ("", ("huge",), LIAR + "length of reply is 1073741824, not 16 to 65536"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_lie(scene: Scene, lie: str) -> None:
    """action_unknown decides, in bounded time, and one line says why."""
    user, (behaviour, *argument), reason = LIES[lie]
    jobs = {name: str(getattr(scene, name)) for name in ("older", "newest", "bobs", "elsewhere")}
    words = [word.format(**jobs) for word in argument]
    with StandinSlurmd(scene.cluster.login, behaviour, *words, user=user or None) as slurmd:
        said, values = reason.format(**jobs), ("newest", "deny")
        scene.expect_unknown(scene.from_login, said, limit(said), values=values)
        assert slurmd.asked >= len(values)


# Credentials of another munged


@contextlib.contextmanager
def second_munged(host: Host, *options: str, seconds: int = 0) -> Iterator[str]:
    """Run a munged with a clock of its own; return its socket."""
    folder = "/run/second"
    host.run(["sh", "-ec", f"umask 077; mkdir -p {folder}; head -c 128 /dev/urandom >{folder}/key"])
    files = [f"--{name}-file={folder}/{name}" for name in ("pid", "log", "seed")]
    argv = ["munged", "--foreground", "--force", f"--socket={folder}/socket", *files, *options]
    under = ["env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME={seconds:+}s"]
    process = host.popen([*under, *argv], stderr=subprocess.DEVNULL)
    try:
        wait_for("second munged", (host.root / f"{folder}/socket".lstrip("/")).is_socket, 20)
        yield f"{folder}/socket"
    finally:
        end(process)
        host.run(["rm", "-r", folder])


REFUSED = LIAR + "reply: credential refused: "
CREDENTIALS = {
    "another key": (("--key-file=/run/second/key",), 0, REFUSED + "made with another key"),
    "clock ahead": ((), 600, REFUSED + "made in the future: the clocks of the hosts differ"),
    "clock behind": ((), -600, REFUSED + "expired: the clocks of the hosts differ"),
}


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_credential_refused(scene: Scene, credential: str) -> None:
    """The source host understands us, but what it answers is not good here."""
    options, seconds, reason = CREDENTIALS[credential]
    login = scene.cluster.login
    with (
        second_munged(login, *options, seconds=seconds) as socket,
        StandinSlurmd(login, "job", str(scene.older), "--munge", socket),
    ):
        scene.expect_unknown(scene.from_login, reason)


# Answers of a real slurmd


@pytest.fixture
def other_port(scene: Scene) -> str:
    """Return an option by which the module on n1 asks slurmds at another port than theirs."""
    n1 = scene.cluster.n1
    for host in scene.cluster.hosts.values():
        (host.root / ANSWER.lstrip("/")).unlink(missing_ok=True)
    n1.write(CONF, n1.read("etc/slurm/slurm.conf") + f"SlurmdPort={PORT}\n")
    n1.write(CONF.replace("slurm.conf", "cgroup.conf"), n1.read("etc/slurm/cgroup.conf"))
    return f"slurm_conf={CONF}"


def carry(scene: Scene) -> None:
    """Take a recorded answer from n2 to the login node."""
    data = (scene.cluster.n2.root / ANSWER.lstrip("/")).read_bytes()
    file = scene.cluster.login.root / ANSWER.lstrip("/")
    file.write_bytes(data)
    file.chmod(0o644)


def replayer(scene: Scene, user: str) -> StandinSlurmd:
    return StandinSlurmd(scene.cluster.login, "replay", ANSWER, port=PORT, user=user)


def test_replay(scene: Scene, other_port: str) -> None:
    """A real slurmd's answer was good once: somebody who saw it cannot use it again."""
    scene.options(other_port)
    with StandinSlurmd(scene.cluster.n2, "forward", f"10.78.0.3:{ANSWER}", port=PORT):
        landing = scene.from_inside()
        assert landing.job == scene.older
        assert "(the job it comes from)" in landing.line
    carry(scene)
    with replayer(scene, "alice"):
        reason = f"slurmd at 10.78.0.4:{PORT}: reply: credential refused: used before"
        scene.expect_unknown(scene.from_login, reason, other_port)


def test_answer_to_the_user(scene: Scene, other_port: str) -> None:
    """What a real slurmd told the user herself, of a job of hers, is not for us."""
    ask = " ".join([*PYTHON, "--ask", "10.78.0.3", "10.78.0.2", ANSWER])
    assert scene.inside.run(ask) == ""
    carry(scene)
    with replayer(scene, "alice"):
        reason = f"slurmd at 10.78.0.4:{PORT}: reply: credential refused: made for another user"
        scene.expect_unknown(scene.from_login, reason, other_port)


def test_answer_for_another_user_s_login(scene: Scene, other_port: str) -> None:
    """A good answer that was kept from us opens no way into the job that it names."""
    scene.options(other_port, "callerid_timeout=1")
    with StandinSlurmd(scene.cluster.n2, "withhold", f"10.78.0.3:{ANSWER}", port=PORT):
        assert scene.from_inside().job == scene.newest
    carry(scene)
    bobs = scene.cluster.submit("bob", "n1")
    with replayer(scene, "bob"):
        landing = from_login(scene.cluster, "bob")
        assert landing.job == bobs
        said = f"the source host named job {scene.older}, which is not one of the user's jobs here"
        assert said in landing.line
