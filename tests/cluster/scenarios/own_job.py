"""What a user can do to the own job, for test_own_job.py: a full memory, a held login, and others.

An attack is a context manager. While it lasts the attacker logs in some times, then root and
another user do. Afterwards no login may hold a place among sshd's MaxStartups.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

from tests.cluster.harness import cgroups, config
from tests.cluster.harness.config import BOTH_PORT
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import COMMAND
from tests.cluster.harness.login import asking, ssh_argv
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios.login_methods import KBDINT
from tests.cluster.tools import lockout
from tests.cluster.tools.lockout import ATTACKER, OTHER, SCRIPT, UID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

GRACE = 20  # seconds; nothing here waits for that
GIVEN_BACK = 5  # seconds in which an ended login has given its slot back
ATTEMPTS = 4  # logins of the attacker at a time
SLACK = 256 << 10  # bytes that are left of a job's memory: less than a login needs


@contextlib.contextmanager
def few_startups(node: Host) -> Iterator[None]:
    """Give sshd few startups; and alice a second key, which `hold` wants."""
    keys = "AuthorizedKeysFile .ssh/authorized_keys .ssh/held.pub"
    text = lockout.sshd_config(GRACE, penalties=False)
    _restart_sshd(node, text.replace("PrintMotd no", f"PrintMotd no\n{keys}"))
    yield
    _restart_sshd(node, config.SSHD_CONFIG)
    node.run(["rm", "-f", f"/home/{ATTACKER}/.ssh/held.pub"])


def _restart_sshd(node: Host, text: str) -> None:
    node.write("etc/ssh/sshd_config", text)
    node.stop("sshd")
    node.start("sshd", under=node.front)


# Logins


def all_try(cluster: Cluster, method: str, attempts: int = ATTEMPTS) -> list[str]:
    """Have the attacker log in some times, root and the other meanwhile; return what alice's said.

    AssertionError if root or the other does not get in, or a slot is not given back.
    """
    argv = [*ssh_argv("n1", ATTACKER, method=method), COMMAND]
    argv = ["timeout", "60", *asking(cluster.login, ATTACKER, method), *argv]
    started = [
        cluster.login.popen(argv, ATTACKER, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)
        for _ in range(attempts)
    ]  # fmt: skip
    try:
        others_get_in(cluster)
        return [process.communicate(timeout=90)[0] for process in started]
    finally:
        for process in started:
            end(process)
        nothing_left(cluster.n1)


def others_get_in(cluster: Cluster) -> None:
    """Log in as root, and as the other user, who has a job."""
    root = cluster.ssh("root", command=COMMAND)
    assert (root.rc, "step_extern" in root.out) == (0, False), root
    other = cluster.ssh(OTHER, command=COMMAND)
    assert (other.rc, "step_extern" in other.out) == (0, True), other


def look(node: Host) -> Any:
    """Return what inside/lockout.py sees of sshd."""
    what = json.dumps({"user": ATTACKER, "uid": UID})
    return json.loads(node.run(["python3", SCRIPT, "look", what]).stdout)


def nothing_left(node: Host) -> None:
    """Return when no login of the attacker's is there any more: before LoginGraceTime ends it."""
    wait_for(
        "no startups, and no sshd of the attacker's",
        lambda: not (found := look(node))["startups"] and not found["of_user"],
        GIVEN_BACK,
        lambda: str(look(node)),
        every=0.2,
    )


ASKPASS = "/usr/local/bin/answer-once"
ANSWER = f"""\
#!/bin/sh
case $1 in *passphrase*) exec sleep {3 * GRACE} ;; *) echo "password of {ATTACKER}" ;; esac
"""
MAKE_KEY = "rm -f held held.pub; ssh-keygen -q -t ed25519 -N secret -f held"
CHOSEN = re.compile(r"process (\d+), which becomes the session, was adopted into job (\d+)")


@contextlib.contextmanager
def held(cluster: Cluster, job: int) -> Iterator[int]:
    """Hold a login in the job before it has authenticated to the end; yield the pid of its sshd.

    The first of two methods calls the account phase, which adopts; the second is never finished.
    """
    directory, login = f"/home/{ATTACKER}/.ssh", cluster.login
    if not (login.root / f"{directory}/held".lstrip("/")).exists():
        login.run(["sh", "-ec", f"cd {directory}; {MAKE_KEY}"], ATTACKER)
    cluster.n1.write(f"{directory}/held.pub", login.read(f"{directory}/held.pub"))
    login.write(ASKPASS, ANSWER, 0o755)
    asked = ["env", f"SSH_ASKPASS={ASKPASS}", "SSH_ASKPASS_REQUIRE=force"]
    options = ["-p", str(BOTH_PORT), "-i", f"{directory}/held", "-o", "IdentitiesOnly=yes"]
    argv = [*asked, *ssh_argv("n1", ATTACKER, options, f"{KBDINT},publickey"), "true"]
    mark = cluster.n1.mark()
    nothing: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    client = login.popen(argv, ATTACKER, **nothing)
    try:
        pid = wait_for("a login in the job", lambda: _adopted(cluster.n1, mark, job))
        assert look(cluster.n1)["startups"] == 1
        yield pid
    finally:
        end(client)


def _adopted(node: Host, mark: int, job: int) -> int | None:
    found = CHOSEN.findall("\n".join(node.log(mark)))
    return next((int(pid) for pid, number in found if int(number) == job), None)


def stays(node: Host, pid: int, seconds: float = 0.5) -> bool:
    """Say whether a process is there, and not stopped, some time later."""
    time.sleep(seconds)
    state = node.run(["ps", "-o", "stat=", "-p", str(pid)], check=False).stdout
    return state[:1] in ("S", "R")


# Attacks


@contextlib.contextmanager
def in_job(cluster: Cluster, job: int, argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Have a command run in a step of the attacker's job, which ends with it."""
    srun = ["srun", f"--jobid={job}", "--overlap", "--nodelist=n1", "-N1", "-n1", "--mem=0"]
    process = cluster.login.popen(
        ["timeout", "300", *srun, *argv],
        ATTACKER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        end(process)


def cgroup(controller: str, job: int) -> str:
    """Return the directory of the job in a hierarchy, in the node."""
    return "/" + cgroups.folder(controller, cgroups.of_job("n1", UID, job))


FILL = """\
import sys, time
used, limit = sys.argv[1] + "/memory.usage_in_bytes", int(sys.argv[2])
with open("/dev/shm/fill", "wb", 0) as file:
    while int(open(used).read()) < limit:
        file.write(bytes(1 << 16))
    print("full", flush=True)
    time.sleep(300)
"""


@contextlib.contextmanager
def full_memory(cluster: Cluster, job: int) -> Iterator[None]:
    """Fill the memory of a job with a file: no process of the attacker's is large."""
    cluster.n1.write("usr/local/bin/fill", FILL)
    memory = cgroup("memory", job)
    file = cluster.n1.root / memory.lstrip("/") / "memory.limit_in_bytes"
    wait_for("the job's memory is limited", file.exists, 20, cluster.tails)
    limit = int(file.read_text()) - SLACK
    argv = ["python3", "-IS", "/usr/local/bin/fill", memory, str(limit)]
    try:
        with in_job(cluster, job, argv) as process:
            assert process.stdout
            assert process.stdout.readline() == "full\n"
            yield
    finally:
        cluster.n1.run(["rm", "-f", "/dev/shm/fill"])


def killed(node: Host, job: int) -> int:
    """Return how many processes of a job's extern step the kernel has killed for its memory."""
    files = f"{cgroup('memory', job)}/step_extern/memory.oom_control"
    files += f" {cgroup('memory', job)}/step_extern/task_*/memory.oom_control"
    said = node.run(["sh", "-c", f"cat {files}"]).stdout
    return sum(int(n) for n in re.findall(r"^oom_kill (\d+)$", said, re.MULTILINE))


INSIDE = """\
echo $$ >"$0"/cgroup.procs
exec setpriv --reuid="$1" --regid="$1" --clear-groups sh -c "$2"
"""


@contextlib.contextmanager
def site_limit(
    cluster: Cluster, job: int, controller: str, limits: dict[str, str], command: str
) -> Iterator[None]:
    """Give the step a cgroup in a further hierarchy, as a site may; a command of the user's in it.

    Slurm confines by neither pids nor cpu nor blkio there. This module puts logins into whatever
    the step has.
    """
    node, step = cluster.n1, f"{cgroup(controller, job)}/step_extern"
    top, path = f"/sys/fs/cgroup/{controller}", step.split("/", 5)[5]
    node.run(["mkdir", "-p", step])
    for name, value in limits.items():
        node.write(f"{step}/{name}", value)
    argv = ["sh", "-ec", INSIDE, step, ATTACKER, f"echo begun; {command}"]
    process = node.popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        yield
    finally:
        end(process)
        remove = ["sh", "-c", f"cd {top} && {{ [ ! -d {path} ] || rmdir -p {path}; }}"]
        wait_for("no cgroup left", lambda: node.run(remove, check=False).returncode == 0)
