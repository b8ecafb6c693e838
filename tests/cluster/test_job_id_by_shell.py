"""SLURM_JOB_ID in a session whose PAM environment has none: what shells can find out themselves."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.cluster.harness import guide, pam
from tests.cluster.harness.cluster import Cluster, Roots
from tests.cluster.harness.host import CHECKOUT, end
from tests.cluster.harness.login import ssh_argv
from tests.cluster.harness.suites import WITH_MORE
from tests.cluster.harness.wait import wait_for
from tests.conftest import show_logs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.host import Host

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.parametrize("suite", [WITH_MORE], ids=["more"], scope="module"),
]

PAGE = "job-id-by-shell"
CONTRIB = CHECKOUT / "contrib/profile.d"
SCRIPT = (CONTRIB / "slurm_adopt.sh").read_text()
PLACE = "/etc/profile.d/slurm_adopt.sh"

STACK = pam.DOCUMENTED["by pam_exec"]  # it sets no variables in PAM's environment

SHELLS = {
    "dash": "/bin/dash",
    "bash": "/bin/bash",
    "zsh": "/bin/zsh",
    "ksh93": "/bin/ksh93",
    "mksh": "/bin/mksh",
    "tcsh": "/bin/tcsh",
}
FILES = ("etc/bash.bashrc", "etc/zsh/zshenv", "etc/csh.cshrc", "etc/ssh/sshd_config")
ASK = 'echo "=`printenv SLURM_JOB_ID`="'


@pytest.fixture(scope="module")
def shells(suite: object) -> Iterator[Cluster]:
    """Bring up a cluster whose n1 has the shells."""
    assert suite is WITH_MORE
    with Cluster(f"shells-{os.getpid()}", roots={"n1": Roots(WITH_MORE)}) as cluster:
        cluster.n1.run(["sh", "-c", "printf '%s\\n' /bin/dash /bin/ksh93 /bin/mksh >>/etc/shells"])
        yield cluster


@pytest.fixture
def site(shells: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Return it with the module in sshd's stack by pam_exec."""
    show_logs_of(request.config, shells)
    node = shells.n1
    before = {path: node.read(path) for path in FILES}
    node.pam("sshd", STACK(*pam.PRODUCTION))
    yield shells
    for path, text in before.items():
        node.write(path, text)
    node.run(["rm", "-f", PLACE, PLACE.replace(".sh", ".csh"), "/etc/ssh/sshrc"])
    node.run(["usermod", "-s", "/bin/bash", "alice"])
    shells.cancel_all()


# The script by itself


class Row(NamedTuple):
    """What there is, and what SLURM_JOB_ID is afterwards."""

    cgroup: str
    before: str | None
    after: str | None
    parent: str = "sshd"
    title: str = ""


V1 = "9:name=systemd:/\n6:freezer:/slurm_n1/uid_5001/job_17/step_extern\n3:cpuset:/\n0::/\n"
V2 = "0::/system.slice/slurmstepd.scope/job_17/step_extern/user/task_special\n"
SLUID = "0::/system.slice/n1_slurmstepd.scope/s0A1B2C3D4E5F6/step_extern/user/task_0\n"
TITLE = "slurmstepd: [17.extern]"
ROWS = {
    "v1": Row(V1, None, "17"),
    "v1, a task": Row("4:memory:/slurm/uid_5001/job_17/step_extern/task_0\n", None, "17"),
    "v1, in a container": Row("4:memory:/c/d/slurm/uid_5001/job_17/step_extern\n", None, "17"),
    "v2": Row(V2, None, "17"),
    "v2, no newline": Row(V2.rstrip("\n") + "\n", None, "17"),
    "a SLUID": Row(SLUID, None, "17", title=TITLE),
    "a SLUID, a title that is padded": Row(SLUID, None, "17", title=TITLE + "\0" * 30),
    "a SLUID, hidden": Row(SLUID, None, None),
    "a SLUID, another title": Row(SLUID, None, None, title="sleep\x00" + TITLE),
    "a SLUID, nonsense": Row(SLUID, None, None, title="slurmstepd: [1;2.extern]"),
    "below one that the user has made": Row(
        "6:freezer:/slurm/uid_1/job_17/step_extern/x/job_9/step_extern\n", None, "17"
    ),
    "below another step": Row(
        "6:freezer:/slurm/uid_1/job_17/step_batch/job_9/step_extern\n", None, None
    ),
    "a step of srun": Row(V2.replace("extern", "0"), None, None),
    "a batch step": Row(V1.replace("extern", "batch"), None, None),
    "no job": Row("0::/user.slice/user-5001.slice/session-3.scope\n", None, None),
    "no job, the variable is there": Row("0::/user.slice\n", "5", "5"),
    "not quite a step": Row(V2.replace("extern", "external"), None, None),
    "no number": Row(V2.replace("17", "17x"), None, None),
    "no number at all": Row(V2.replace("17", ""), None, None),
    "another form of the number": Row(V2.replace("17", "017"), None, None),
    "commands": Row(V2.replace("17", "$(reboot)"), None, None),
    "spaces and globs": Row("0::/* */job_1 7/step_extern/\n", None, None),
    "nothing": Row("", None, None),
    "right already": Row(V1, "17", "17"),
    "the client's": Row(V1, "5", "17"),
    "the client's, newer sshd": Row(V2, "5", "17", "sshd-session"),
    "not quite sshd": Row(V1, "18", "18", "sshd-keygen"),
    "salloc's": Row(V1, "18", "18", "salloc"),
    "a shell in the shell": Row(V1, "18", "18", "bash"),
    "set and empty": Row(V1, "", "17", "bash"),
}

# $1: the directory of a row. Nothing is printed, nothing is left, and the shell goes on.
DRIVER = """\
before=$(set | grep -c slurm_adopt) || :
set -eu
. "$1/script"
echo "status $?" >"$1/out"
echo "value ${SLURM_JOB_ID-none}" >>"$1/out"
echo "child $(printenv SLURM_JOB_ID || echo none)" >>"$1/out"
echo "left $(($(set | grep -c slurm_adopt || :) - before))" >>"$1/out"
"""


def arranged(node: Host, row: Row, number: int) -> str:
    """Write the files of a row; return the directory."""
    top = f"tmp/shells/{number}"
    step = row.cgroup.strip().partition("::")[2].partition("/step_extern")[0] + "/step_extern"
    node.write(f"{top}/cgroup", row.cgroup)
    node.write(f"{top}/parent", row.parent + "\n")
    if row.title:
        node.write(f"{top}/fs{step}/slurm/cgroup.procs", "12\n13\n4711\n")
        node.write(f"{top}/proc/13/cmdline", "/usr/sbin/slurmstepd\0")
        node.write(f"{top}/proc/4711/cmdline", row.title)
    replaced = {
        "/proc/self/cgroup": f"/{top}/cgroup",
        "/proc/$PPID/comm": f"/{top}/parent",
        "/sys/fs/cgroup": f"/{top}/fs",
        "/proc/": f"/{top}/proc/",
    }
    text = SCRIPT
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    node.write(f"{top}/script", text)
    return f"/{top}"


POSIX = [shell for shell in SHELLS if shell != "tcsh"] + ["busybox"]


@pytest.mark.parametrize("shell", POSIX)
def test_the_script_by_itself(shells: Cluster, shell: str) -> None:
    node = shells.n1
    argv = ["/bin/busybox", "sh"] if shell == "busybox" else [SHELLS[shell]]
    node.write("tmp/driver", DRIVER)
    places = {name: arranged(node, row, n) for n, (name, row) in enumerate(ROWS.items())}
    runs = []
    for name, row in ROWS.items():
        given = "-u SLURM_JOB_ID" if row.before is None else f"SLURM_JOB_ID={row.before}"
        runs.append(f"env {given} {shlex.join(argv)} /tmp/driver {places[name]}")
    done = node.run(["sh", "-c", "\n".join(runs)])
    assert (done.stdout, done.stderr) == ("", "")
    for name, row in ROWS.items():
        value = "none" if row.after is None else row.after
        said = node.read(f"{places[name]}/out").splitlines()
        assert said == ["status 0", f"value {value}", f"child {value}", "left 0"], name


STRACE = "strace -f -qq -o /tmp/calls -e trace=execve,fork,vfork,clone,clone3 --"


def test_it_starts_no_program(shells: Cluster) -> None:
    """In a job on v1 and v2, with a SLUID, and outside."""
    node = shells.n1
    for number, name in enumerate(("v1", "v2", "a SLUID", "no job", "the client's")):
        row = ROWS[name]
        script = arranged(node, row, number) + "/script"
        given = "-u SLURM_JOB_ID" if row.before is None else f"SLURM_JOB_ID={row.before}"
        for shell in POSIX[:-1]:
            run = f"{STRACE} env {given} {SHELLS[shell]} -c '. {script}'"
            node.run(["sh", "-c", run])
            calls = node.read("tmp/calls").splitlines()
            started = [call for call in calls if " = -1 " not in call]
            assert len(started) == 2, (name, shell, calls)  # env, and the shell in its place


# Real logins


class Uses(NamedTuple):
    """In which kinds of use a shell of n1 has the job's id."""

    terminal: str
    script: str
    command: str


def seen(cluster: Cluster, shell: str) -> Uses:
    """Log in with a shell in each kind of use; return what the variable is."""
    cluster.n1.run(["usermod", "-s", SHELLS[shell], "alice"])
    found = []
    for options, command, given in (
        (("-tt",), (), f"{ASK}\nexit\n"),
        ((), (), f"{ASK}\n"),
        ((), (ASK,), ""),
    ):
        argv = [*ssh_argv("n1", "alice", options), *command]
        done = cluster.login.run(argv, "alice", input=given, check=False)
        (value,) = re.findall(r"=(\d*)=", done.stdout)
        found.append(value)
    return Uses(*found)


def table(number: int) -> dict[str, Uses]:
    """Return a table of the page, by shell."""
    heads = "| login shell | at a terminal |"
    rows = guide.page(PAGE).split(heads)[number].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0]: Uses(*row[1:4]) for row in cells}


def set_up(node: Host) -> tuple[list[str], list[str]]:
    """Return the page's commands: for /etc/profile.d, and for the rest."""
    node.run(["sh", "-c", "mkdir -p /opt/slurm_adopt && cp -r /checkout/contrib /opt/slurm_adopt/"])
    node.write("home/alice/.zshrc", "")  # else zsh asks its user what to write there
    found = guide.commands(PAGE, "Set it up")
    return found[:2], found[2:]


@pytest.mark.parametrize("rest", [False, True], ids=["profile.d", "all"])
def test_each_shell(site: Cluster, rest: bool) -> None:
    """What the page's tables say, by real logins into the second of two jobs."""
    node = site.n1
    profile, more = set_up(node)
    site.submit("alice")
    job = site.submit("alice")
    assert set(seen(site, "bash")) == {""}
    node.run(["sh", "-ec", "\n".join([*profile, *(more if rest else [])])])
    words = {"": "no", str(job): "yes"}
    found = {
        shell: Uses(*(words.get(value, value) for value in seen(site, shell))) for shell in SHELLS
    }
    assert found == table(1 if rest else 2)
    node.run(["usermod", "-s", SHELLS["dash"], "alice"])
    (line,) = (line for line in guide.commands(PAGE) if line.startswith("ssh node"))
    said = site.login.run([*ssh_argv("n1", "alice"), shlex.split(line)[2]], "alice")
    assert (said.stdout, said.stderr) == (f"{job}\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_copies_are_as_before(site: Cluster, shell: str) -> None:
    """Nothing is printed into what scp, sftp and rsync speak; without a job nothing changes."""
    node = site.n1
    node.run(["sh", "-ec", "\n".join(itertools.chain(*set_up(node)))])
    node.pam("sshd", STACK(*pam.PRODUCTION, "action_no_jobs=ignore"))
    node.run(["usermod", "-s", SHELLS[shell], "alice"])
    copies = """
        set -e
        scp -q /etc/hostname alice@n1:/tmp/1
        scp -q -O /etc/hostname alice@n1:/tmp/2
        echo "put /etc/hostname /tmp/3" | sftp -q -b - alice@n1 >&2
        rsync /etc/hostname alice@n1:/tmp/4
        ssh alice@n1 "cat /tmp/1 /tmp/2 /tmp/3 /tmp/4"
    """
    assert set(seen(site, shell)) == {""}
    site.submit("alice")
    done = site.login.run(["sh", "-c", copies], "alice")
    assert done.stdout == "login\n" * 4
    assert done.stderr == "sftp> put /etc/hostname /tmp/3\n"
    node.run(["sh", "-c", "rm /tmp/[1-4]"])


@contextlib.contextmanager
def sshd_with(node: Host, *settings: str) -> Iterator[None]:
    """Have sshd run with more settings."""
    for options in ([word for one in settings for word in ("-o", one)], []):
        node.stop("sshd")
        node.start("sshd", options=options)
        if options:
            try:
                yield
            except BaseException:
                node.stop("sshd")
                node.start("sshd")
                raise


def command(cluster: Cluster, text: str = ASK, user: str = "alice", *options: str) -> str:
    """Return what a command by ssh prints."""
    argv = [*ssh_argv("n1", user, options), text]
    return cluster.login.run(argv, user, check=False).stdout.strip()


def test_other_values(site: Cluster) -> None:
    """What the client sends gives way; what salloc and srun set in the session stays."""
    node = site.n1
    node.run(["sh", "-ec", "\n".join(itertools.chain(*set_up(node)))])
    job = site.submit("alice")
    with sshd_with(node, "AcceptEnv=SLURM_JOB_ID"):
        sent = ("-o", "SetEnv=SLURM_JOB_ID=99")
        for shell in ("bash", "zsh"):
            node.run(["usermod", "-s", SHELLS[shell], "alice"])
            assert command(site, ASK, "alice", *sent) == f"={job}="
            inner = f"SLURM_JOB_ID=77 {SHELLS[shell]} -lc {shlex.quote(ASK)}"
            assert command(site, f"{inner}; true") == "=77="
    allocated = command(site, f"salloc -Q -w n1 bash -ilc {shlex.quote(ASK)} 2>&1")
    (value,) = re.findall(r"=(\d+)=", allocated)
    assert int(value) > job
    step = f"srun -Q --jobid={job} bash -lc {shlex.quote(ASK)}"
    assert command(site, step) == f"={job}="


# Other ways

PUT = """\
#!/bin/sh
[ "$PAM_TYPE" = open_session ] || exit 0
job=$(sed -n 's,.*/job_\\([0-9]*\\)/step_extern.*,\\1,p' /proc/$PPID/cgroup | head -n 1)
echo "SLURM_JOB_ID=$job" >/run/job.env
[ "$PAM_USER" = alice ] || touch /run/other-is-in
until [ -e /run/other-is-in ]; do sleep 0.05; done
"""
WRAPPER = "/usr/local/bin/with-job"


def test_pam_env_with_a_file(site: Cluster) -> None:
    """A login alone has its own job; of two at the same moment one has the other's."""
    node = site.n1
    node.write("usr/local/sbin/put-job", PUT, 0o755)
    lines = [
        "session required pam_exec.so quiet /usr/local/sbin/put-job",
        "session required pam_env.so readenv=1 envfile=/run/job.env",
    ]
    node.pam("sshd", [*STACK(*pam.PRODUCTION), *lines])
    alices, bobs = site.submit("alice"), site.submit("bob")
    node.run(["touch", "/run/other-is-in"])
    assert command(site) == f"={alices}="
    node.run(["rm", "/run/other-is-in", "/run/job.env"])
    argv = [*ssh_argv("n1", "alice"), ASK]
    waiting = site.login.popen(argv, "alice", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        written = node.root / "run/job.env"
        wait_for("alice's file", lambda: written.exists() and written.read_text(), 20)
        assert command(site, user="bob") == f"={bobs}="
        assert waiting.communicate(timeout=60)[0].strip() == f"={bobs}="
    finally:
        end(waiting)
        node.run(["rm", "-f", "/run/other-is-in", "/run/job.env"])


def test_what_sshd_can_do(site: Cluster) -> None:
    """Static variables, a script of its own, and a command in front of all others."""
    node = site.n1
    alices, bobs = site.submit("alice"), site.submit("bob")
    with sshd_with(node, f"SetEnv=SLURM_JOB_ID={alices}"):
        assert [command(site, user=user) for user in ("alice", "bob")] == [f"={alices}="] * 2
    assert alices != bobs
    node.write("etc/ssh/sshrc", f"{SCRIPT}\necho $SLURM_JOB_ID >/tmp/seen-by-sshrc\n")
    assert command(site) == "=="
    assert node.read("tmp/seen-by-sshrc") == f"{alices}\n"
    node.run(["rm", "/etc/ssh/sshrc", "/tmp/seen-by-sshrc"])

    node.write(WRAPPER, f'{SCRIPT}\nexec "$SHELL" -c "$SSH_ORIGINAL_COMMAND"\n', 0o755)
    keys = "home/alice/.ssh/authorized_keys"
    usual = node.read(keys)
    node.write(keys, f'command="echo only this" {usual}')
    try:
        assert command(site) == "only this"
        with sshd_with(node, f"ForceCommand=sh {WRAPPER}"):
            assert command(site) == f"={alices}="
    finally:
        node.write(keys, usual)


def test_pam_exec_s_output(site: Cluster) -> None:
    """It is shown to the user, in the session phase of a terminal, and sets nothing."""
    node = site.n1
    node.write("usr/local/sbin/print-job", "#!/bin/sh\necho SLURM_JOB_ID=1\n", 0o755)
    line = "session required pam_exec.so stdout /usr/local/sbin/print-job"
    node.pam("sshd", [*STACK(*pam.PRODUCTION), line])
    site.submit("alice")
    argv = [*ssh_argv("n1", "alice", ("-tt",))]
    done = site.login.run(argv, "alice", input=f"{ASK}\nexit\n", check=False)
    assert "SLURM_JOB_ID=1" in done.stdout.splitlines()
    assert re.findall(r"=(\d*)=", done.stdout) == [""]
