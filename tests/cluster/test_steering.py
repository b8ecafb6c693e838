"""No variable, no directory and no file of a user's steers what is loaded or decided.

By real su and sudo of a user's, with our lines in their stacks and `service=*`; by the Epilog's
program and the command where root runs them in a user's directory.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Cluster, Roots
from tests.cluster.harness.suites import WITH_MORE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.cluster.harness.host import Host

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.parametrize("suite", [WITH_MORE], ids=["more"], scope="module"),
]

EVIL = "/home/alice/evil"  # the directory that all is run in
MARKS = "/var/tmp/marks"

# Modules that Python or we would import, if they were found there; and what Python starts by itself
MODULES = ("sitecustomize", "usercustomize", "os", "pwd", "re", "errno", "select", "_socket",
           "slurm_adopt/__init__", "slurm_adopt/epilog", "click/__init__",
           "startup")  # fmt: skip
TEXT = f"""\
try:
    open("{MARKS}/" + __name__, "w").close()
except Exception:
    pass
"""
SITE = ".local/lib/python3.11/site-packages"  # of a home, and below PYTHONUSERBASE

ELSEWHERE = {
    "PYTHONPATH": EVIL,
    "PYTHONHOME": EVIL,
    "PYTHONSTARTUP": f"{EVIL}/startup.py",
    "PYTHONUSERBASE": f"{EVIL}/.local",
    "PYTHONINSPECT": "1",
    "PYTHONWARNINGS": "error::startup.Evil",
    "PYTHONBREAKPOINT": "startup.breakpoint",
    "PYTHONPYCACHEPREFIX": EVIL,
    "PYTHONPLATLIBDIR": EVIL,
    "PYTHONVERBOSE": "1",
    "PYTHONIOENCODING": "ascii",
    "SLURM_CONF": f"{EVIL}/slurm.conf",
    "SLURM_CONF_SERVER": "127.0.0.1",
    "SLURMD_NODENAME": "n2",
    "SLURM_JOB_ID": "1",
    "SLURM_JOB_UID": "0",
    "SLURM_CLUSTER_NAME": "other",
    "SLURM_JWT": "x",
    "LD_PRELOAD": f"{EVIL}/none.so",
    "LD_LIBRARY_PATH": EVIL,
    "LD_DEBUG": "all",
    "LD_DEBUG_OUTPUT": f"{MARKS}/ld",
    "LD_AUDIT": f"{EVIL}/none.so",
    "GCONV_PATH": EVIL,
    "MUNGE_SOCKET": f"{EVIL}/munge",
    "MUNGE_KEYFILE": f"{EVIL}/key",
    "HOME": EVIL,
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "xx_XX",
    "TZ": f":{EVIL}/zone",
    "TMPDIR": EVIL,
    "XDG_RUNTIME_DIR": EVIL,
    "XDG_CONFIG_HOME": EVIL,
    "XDG_DATA_HOME": EVIL,
}
# How it is tried -> the variables; the files are there in any case.
TRIES: dict[str, Mapping[str, str]] = {
    "files alone": {},
    **{name: {name: value} for name, value in ELSEWHERE.items()},
    "all": ELSEWHERE,
}

# What alice runs -> the service; it ends in the process's cgroups.
BY = {
    "su": ["su", "bob", "-c", "cat /proc/self/cgroup"],
    "su -": ["su", "-", "bob", "-c", "cat /proc/self/cgroup"],
    "sudo": ["sudo", "-E", "-u", "bob", "cat", "/proc/self/cgroup"],
}
SERVICES = ("su", "su-l", "sudo", "sudo-i")
SUDOERS = "Defaults !env_reset\nalice ALL=(ALL) NOPASSWD:SETENV: ALL\n"
LINES = {"pam_python": pam.OURS, "pam_exec": pam.EXEC}
OPTIONS = "service=* action_adopt_failure=deny action_generic_failure=deny"


@pytest.fixture(scope="module")
def steered(suite: object) -> Iterator[Cluster]:
    """Bring up a cluster whose n1 has sudo, and alice's directory with all that could steer."""
    assert suite is WITH_MORE
    with Cluster(f"steering-{os.getpid()}", roots={"n1": Roots(WITH_MORE)}) as cluster:
        node = cluster.n1
        for name in MODULES:
            node.write(f"{EVIL.lstrip('/')}/{name}.py", TEXT)
        path = f"import sys; sys.path.insert(0, {EVIL!r}); open({MARKS + '/pth'!r}, 'w').close()\n"
        for home in (EVIL, "/home/alice", "/home/bob"):
            node.write(f"{home.lstrip('/')}/{SITE}/evil.pth", path)
            node.write(f"{home.lstrip('/')}/{SITE}/usercustomize.py", TEXT)
        node.write(f"{EVIL.lstrip('/')}/slurm.conf", "ClusterName=evil\nSlurmUser=alice\n"
                   f"SlurmdUser=alice\nSlurmdSpoolDir={EVIL}/spool\nNodeName=n1\n")  # fmt: skip
        node.write("etc/sudoers.d/alice", SUDOERS, 0o440)
        node.run(["sh", "-ec", f"mkdir -p {EVIL}/spool; chown -R alice:alice /home/alice"])
        yield cluster


def stacks(node: Host, front: str) -> None:
    """Have our lines decide about su and sudo, for whoever is known."""
    line = f"{LINES[front]} {OPTIONS}"
    session = line.replace("account", "session", 1)
    for service in SERVICES:
        node.pam(service, ["auth sufficient pam_permit.so", line, session])


def tried(node: Host, argv: list[str], variables: Mapping[str, str]) -> tuple[object, ...]:
    """Return what came of a command of alice's: status, where it ran, what was decided."""
    mark = node.mark()
    given = [f"{name}={value}" for name, value in variables.items()]
    done = node.run(["env", "-C", EVIL, *given, *argv], user="alice", check=False)
    decided = [
        re.sub(r"\[\d+\]|pid \d+| in [0-9.]+ ms$|^\S+ ", "", line)
        for line in node.log(mark)
        if "pam_slurm_adopt(" in line
    ]
    return done.returncode, done.stdout, decided


def marks(node: Host) -> list[str]:
    """Return what was loaded of alice's since the last look."""
    found = node.run(["sh", "-c", f"mkdir -p -m 1777 {MARKS}; ls {MARKS}; rm -f {MARKS}/*"])
    return found.stdout.split()


@pytest.mark.parametrize("front", LINES)
def test_su_and_sudo(steered: Cluster, front: str) -> None:
    """The same job, the same words, whatever is set; bob's session is in bob's job."""
    node = steered.n1
    stacks(node, front)
    steered.submit("alice")
    job = steered.submit("bob")
    marks(node)
    odd = {}
    for name, argv in BY.items():
        expected = tried(node, argv, {})
        status, where, decided = expected
        assert status == 0, expected
        assert f"job_{job}/step_extern" in str(where), expected
        assert decided, expected
        for how in TRIES if name == "su" else ("files alone", "all"):
            came, loaded = tried(node, argv, TRIES[how]), marks(node)
            if came != expected or loaded:
                odd[name, how] = came, loaded
    assert odd == {}
    steered.cancel(job)
    steered.wait_gone(job)
    for argv in BY.values():
        assert tried(node, argv, {})[0] != 0
        assert tried(node, argv, {**ELSEWHERE, "SLURM_JOB_ID": str(job)})[0] != 0
    assert marks(node) == []


def test_the_marks_would_show(steered: Cluster) -> None:
    """The files do what they are for, where somebody heeds them."""
    node = steered.n1
    marks(node)
    node.run(["env", "-C", EVIL, f"PYTHONPATH={EVIL}", "python3", "-c", "import pwd"], check=False)
    assert {"sitecustomize", "usercustomize"} <= {*marks(node)}
    node.run(["env", f"LD_DEBUG_OUTPUT={MARKS}/ld", "LD_DEBUG=all", "true"])
    assert [mark.partition(".")[0] for mark in marks(node)] == ["ld"]


# Where root runs programs of ours in that directory; what the dynamic loader heeds is root's affair

BY_ROOT = {name: value for name, value in ELSEWHERE.items() if not name.startswith(("LD_", "GC"))}
EPILOG = "/opt/slurm_adopt/contrib/epilog.d/90-slurm_adopt"
# program -> the variables that it takes: the reference says so
PROGRAMS = {
    "Epilog": ([EPILOG], {"SLURM_JOB_ID", "SLURM_JOB_UID", "SLURMD_NODENAME", "SLURM_CONF"}),
    "explain": (["/opt/slurm_adopt/bin/slurm-adopt", "explain", "bob"], set()),
    "whoami": (["/opt/slurm_adopt/bin/slurm-adopt", "whoami"], {"SLURM_JOB_ID"}),
    "version": (["/opt/slurm_adopt/bin/slurm-adopt", "--version"], set()),
}
SLURMD = {"SLURM_JOB_ID": "99", "SLURM_JOB_UID": "5001", "SLURMD_NODENAME": "n1",
          "SLURM_CONF": "/etc/slurm/slurm.conf"}  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_root_in_a_user_s_directory(steered: Cluster, program: str) -> None:
    node = steered.n1
    argv, taken = PROGRAMS[program]
    for part in ("bin", "contrib"):
        node.run(["cp", "-r", "--no-preserve=ownership", f"/checkout/{part}", "/opt/slurm_adopt"])
    given = SLURMD if program == "Epilog" else {}
    marks(node)

    def run(variables: Mapping[str, str]) -> tuple[object, ...]:
        mark = node.mark()
        words = [f"{name}={value}" for name, value in {**variables, **given}.items()]
        done = node.run(["env", "-C", EVIL, *words, *argv], check=False)
        lines = [re.sub(r"^\S+ |\[\d+\]", "", line) for line in node.log(mark)]
        return done.returncode, done.stdout, done.stderr, lines

    expected = run({})
    assert expected[0] == (1 if program in ("explain", "whoami") else 0), expected  # no job
    odd = {}
    for how in TRIES if program in ("Epilog", "explain") else ("files alone", "all"):
        variables = TRIES[how]
        kept = {name: value for name, value in variables.items()
                if name in BY_ROOT and name not in taken}  # fmt: skip
        came = run(kept)
        loaded = marks(node)
        if came != expected or loaded:
            odd[how] = came, loaded
    assert odd == {}
