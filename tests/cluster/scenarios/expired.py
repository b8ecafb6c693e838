"""Users whose password has expired, in each stack that README and guide make of a stock file.

What the stacks include may end the account phase for them: Debian's common-account does, with
`new_authtok_reqd=done`; RHEL's password-auth does, at `sufficient pam_localuser.so`.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from tests.cluster.harness import pam
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import COMMAND, job_of
from tests.cluster.harness.login import ASKPASS, METHODS, Result, ssh_argv
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import stock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

USER = "alice"
KBDINT = "keyboard-interactive"
NEW = "Wholly-0ther-W0rds"
ANSWER = f"""\
#!/bin/sh
case $1 in
*[Nn]ew*) echo {NEW} ;;
*) echo "password of {USER}" ;;
esac
"""
OURS = "pam_slurm_adopt(sshd:account): "
NO_JOBS = ": no jobs: "
CHANGED = "password changed for"


@contextlib.contextmanager
def expired(node: Host, user: str = USER) -> Iterator[None]:
    """Let a user's password on a node be too old; afterwards it is as before, and theirs again."""
    node.run(["cp", "-p", "/etc/shadow", "/etc/shadow.saved"])
    node.run(["chage", "-d", "0", user])
    try:
        yield
    finally:
        node.run(["mv", "/etc/shadow.saved", "/etc/shadow"])


def logs_in(cluster: Cluster, method: str, command: str = COMMAND) -> Result:
    """Log in to n1, and change the password where that is asked for."""
    cluster.login.write(ASKPASS, ANSWER, 0o755)
    env = ["env", f"SSH_ASKPASS={ASKPASS}", "SSH_ASKPASS_REQUIRE=force"]
    argv = [*env, *ssh_argv("n1", USER, (), method), command]
    done = cluster.login.run(argv, USER, timeout=60, check=False)
    return Result(done.returncode, done.stdout, done.stderr, 0)


def said(node: Host, mark: int) -> list[str]:
    """Return our account line's lines in a node's log."""
    return [line for line in node.log(mark) if OURS in line]


def is_refused(cluster: Cluster, stack: Sequence[str], method: str) -> str:
    """Log in without a job; return what is wrong with that, nothing if it is refused by us."""
    stock.use(cluster, stack)
    node = cluster.n1
    mark = node.mark()
    with expired(node):
        result = logs_in(cluster, method)
    lines = said(node, mark)
    refused = result.rc == 255 and lines and NO_JOBS in lines[-1]
    return "" if refused else f"{result} {node.log(mark)}"


def is_adopted(cluster: Cluster, stack: Sequence[str], job: int) -> str:
    """Change the password by keyboard-interactive; return what is wrong if that is not in a job."""
    stock.use(cluster, stack)
    node = cluster.n1
    mark = node.mark()
    with expired(node):
        result = logs_in(cluster, KBDINT)
    changed = any(CHANGED in line for line in node.log(mark))
    there = result.rc == 0 and changed and job_of(node, result.out) == job
    return "" if there else f"{result} {node.log(mark)}"


def passwd_is_adopted(cluster: Cluster, stack: Sequence[str], job: int) -> str:
    """Log in by key to a terminal, where sshd has passwd(1) run; return what is wrong with it."""
    stock.use(cluster, stack)
    node = cluster.n1
    find = ["pgrep", "-U", USER, "-x", "passwd"]
    with expired(node):
        argv = ["ssh", "-tt", *ssh_argv("n1", USER)[2:]]
        client = cluster.login.popen(
            argv,
            USER,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for("passwd", lambda: node.run(find, check=False).stdout, 20)
            pid = node.run([*find, "--oldest"]).stdout.strip()  # it may have forked a child
            cgroup = node.run(["cat", f"/proc/{pid}/cgroup"]).stdout
        finally:
            end(client)
            assert client.stdin
            client.stdin.close()
        wait_for("no passwd", lambda: node.run(find, check=False).returncode, 20)
    return "" if job_of(node, cgroup) == job else cgroup


def stacks(cluster: Cluster) -> dict[str, list[str]]:
    """Return each set of lines that README and guide print, in each stock file."""
    return {
        f"{name}, {file}": stock.with_lines(text(cluster), lines(*pam.PRODUCTION))
        for file, text in stock.STOCKS.items()
        for name, lines in pam.PRINTED.items()
    }


def without_a_job(cluster: Cluster) -> None:
    """Refuse them, whatever the method, and say so in the log."""
    with pam.guide_s_files(cluster.n1):
        wrong = {
            (name, method): what
            for name, stack in stacks(cluster).items()
            for method in METHODS
            if (what := is_refused(cluster, stack, method))
        }
    assert not wrong, wrong


def with_a_job(cluster: Cluster) -> None:
    """Have the session in the job: by keyboard-interactive the user's own, by key passwd's."""
    job = cluster.submit(USER)
    with pam.guide_s_files(cluster.n1):
        wrong = {
            (name, look.__name__): what
            for name, stack in stacks(cluster).items()
            for look in (is_adopted, passwd_is_adopted)
            if (what := look(cluster, stack, job))
        }
    assert not wrong, wrong


EVERYWHERE = (without_a_job, with_a_job)
