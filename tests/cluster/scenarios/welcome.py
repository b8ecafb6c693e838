"""What a login for a shell is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.harness.login import ssh_argv

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster

BEGINS = "This session is part of job "


def shell(cluster: Cluster, *options: str, user: str = "alice", method: str = "publickey") -> str:
    """Log in for a shell, with no command; return all that is shown until its end."""
    argv = [*ssh_argv("n1", user, options, method)]
    argv = [word for word in argv if word != "-T"] if "-tt" in options else argv
    ask = ["env", "SSH_ASKPASS=/usr/local/bin/askpass", "SSH_ASKPASS_REQUIRE=force"]
    if method != "publickey":
        answer = f'#!/bin/sh\necho "password of {user}"\n'
        cluster.login.write("usr/local/bin/askpass", answer, 0o755)
        argv = [*ask, *argv]
    script = "cat /proc/self/cgroup; exit\n"
    return cluster.login.run(argv, user, input=script, check=False, timeout=60).stdout
