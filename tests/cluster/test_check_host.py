"""`slurm-adopt check` on a real host: set-ups that are broken on purpose, and the sound one.

Codes SA8xx (this host) and SA9xx (ways out of a job, the Epilog). Each row breaks one thing on n1,
and names the finding that is new then.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import pytest

from tests.cluster.harness import cli, pam, scancel
from tests.cluster.harness.cluster import EXTERN
from tests.cluster.harness.epilog import EPILOG as OF_CONTRIB
from tests.cluster.harness.moved import move, parent, unmove
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tests.cluster.harness.cluster import Cluster

    Breaking = Callable[[Cluster], AbstractContextManager[None]]

SLURM_CONF = "/etc/slurm/slurm.conf"
EPILOG = "/etc/slurm/epilog"
OUR_LINE = "cd /opt/slurm_adopt/src && /usr/bin/python3 -sBEm slurm_adopt.epilog"
PACKAGES = "/usr/lib/python3/dist-packages"
OLD = "/usr/local/lib/python3.11/dist-packages/rich-12.5.1.dist-info"
INIT = "/opt/slurm_adopt/src/slurm_adopt/__init__.py"


@pytest.fixture(autouse=True, scope="module")
def without_an_epilog(running_cluster: Cluster) -> None:
    """Begin where no file of tests has left its script of Slurm's Epilog."""
    running_cluster.n1.run(["rm", "-f", EPILOG])


class Broken(NamedTuple):
    """What is broken, and the finding that names it: `line` is text of the line that it shows."""

    name: str
    code: str
    result: str
    title: str
    breaking: Breaking
    file: str = ""
    line: str = ""


# Ways to break something; each is undone


def shell(do: str, undo: str) -> Breaking:
    """Break by one command on n1, and mend by another."""

    @contextlib.contextmanager
    def breaking(cluster: Cluster) -> Iterator[None]:
        try:
            cluster.n1.run(["sh", "-ec", do])
            yield
        finally:
            cluster.n1.run(["sh", "-ec", undo])

    return breaking


def with_file(path: str, text: str, mode: int = 0o644) -> Breaking:
    """Have a file that is not there else."""

    @contextlib.contextmanager
    def breaking(cluster: Cluster) -> Iterator[None]:
        assert not (cluster.n1.root / path.lstrip("/")).exists()
        try:
            cluster.n1.write(path, text, mode)
            yield
        finally:
            cluster.n1.run(["rm", "-f", path])

    return breaking


def and_also(*ways: Breaking) -> Breaking:
    """Break several things, in this order."""

    @contextlib.contextmanager
    def breaking(cluster: Cluster) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for way in ways:
                stack.enter_context(way(cluster))
            yield

    return breaking


def without(path: str) -> Breaking:
    """Have something away."""
    return shell(f"mv {path} {path}.away", f"mv {path}.away {path}")


def slurm_conf(*lines: str) -> Breaking:
    """Have more lines in the slurm.conf of n1, for whoever reads it now."""

    @contextlib.contextmanager
    def breaking(cluster: Cluster) -> Iterator[None]:
        usual = cluster.n1.read(SLURM_CONF)
        try:
            cluster.n1.write(SLURM_CONF, usual + "".join(f"{line}\n" for line in lines))
            yield
        finally:
            cluster.n1.write(SLURM_CONF, usual)

    return breaking


def epilog(text: str, *more: str, mode: int = 0o755, key: str = "Epilog") -> Breaking:
    """Have slurm.conf name a script."""
    return and_also(with_file(EPILOG, text, mode), slurm_conf(f"{key}={EPILOG}", *more))


def running(program: str, user: str = "root") -> Breaking:
    """Have a program that goes by a name."""
    path = f"/tmp/{program}"
    by = f"setpriv --reuid={user} --clear-groups"
    return shell(
        f"cp /usr/bin/sleep {path}; {by} {path} 999 >/dev/null 2>&1 & echo $! >{path}.pid; "
        f'until [ "$(readlink /proc/$!/exe)" = {path} ]; do sleep 0.01; done',
        f"kill -KILL $(cat {path}.pid); rm {path} {path}.pid",
    )


def sshd_under(*command: str) -> Breaking:
    """Have sshd started by another command."""

    @contextlib.contextmanager
    def breaking(cluster: Cluster) -> Iterator[None]:
        cluster.n1.stop("sshd")
        try:
            cluster.n1.start("sshd", under=command)
            yield
        finally:
            if cluster.n1.pid("sshd"):
                cluster.n1.stop("sshd")
            cluster.n1.start("sshd")

    return breaking


def in_mounts(script: str) -> Breaking:
    """Have sshd in mounts of its own that a script has changed."""
    return sshd_under("unshare", "--mount", "sh", "-ec", f'{script}; exec "$@"', "sh")


def stack(*lines: str) -> Breaking:
    """Have other lines in sshd's stack; the fixture of the next test sets the usual ones."""

    @contextlib.contextmanager
    def breaking(cluster: Cluster) -> Iterator[None]:
        cluster.n1.pam("sshd", list(lines))
        try:
            yield
        finally:
            cluster.n1.pam("sshd", pam.with_module())

    return breaking


def listening(path: str, mode: str, group: str = "root") -> Breaking:
    """Have a socket with a mode; nobody has to answer."""
    make = f"import socket; socket.socket(socket.AF_UNIX).bind('{path}')"
    return shell(f'python3 -c "{make}"; chgrp {group} {path}; chmod {mode} {path}', f"rm -f {path}")


@contextlib.contextmanager
def session_without_job(cluster: Cluster) -> Iterator[None]:
    """Have a user in who was not asked for a job."""
    cluster.n1.pam("sshd", pam.stack())
    with cluster.session("bob"):
        yield


@contextlib.contextmanager
def session_in_part(cluster: Cluster) -> Iterator[None]:
    """Have a session that is in some hierarchies of its job alone."""
    node = cluster.n1
    cluster.submit("alice", mem="10M")
    try:
        with cluster.session("alice") as session:
            login = parent(node, session.pid)
            move(node, [parent(node, login), login, session.pid], "memory")
            yield
    finally:
        unmove(node)


@contextlib.contextmanager
def process_outside(cluster: Cluster) -> Iterator[None]:
    """Have a process in no job of a user who has one."""
    cluster.submit("alice", mem="10M")
    process = cluster.n1.popen(["sleep", "999"], "alice")
    sleeps = ["pgrep", "-u", "alice", "-x", "sleep"]
    try:
        wait_for("it sleeps", lambda: not cluster.n1.run(sleeps, check=False).returncode)
        yield
    finally:
        process.kill()
        process.wait()
        cluster.n1.run(["pkill", "-KILL", "-u", "alice", "sleep"], check=False)


@contextlib.contextmanager
def left_by_its_job(cluster: Cluster) -> Iterator[None]:
    """Have a job end whose extern stepd has been killed, and a process of its session go on."""
    job = cluster.submit("alice", mem="10M")
    with cluster.session("alice") as session:
        sleeping = int(session.run("setsid sleep 999 >&- 2>&- <&- & echo $!"))
        login = parent(cluster.n1, session.pid)
        cluster.n1.run(["pkill", "-KILL", "-f", rf"^slurmstepd: \[{job}\.extern\]"])
        scancel.end(cluster, job)
        cluster.wait_idle()
        try:
            cluster.n1.run(["kill", "-KILL", str(session.pid)])  # SA911 names it, too
            wait_for("the session gone", lambda: not cluster.n1.alive(login))
            yield
        finally:
            cluster.n1.run(["sh", "-c", END.format(job=job)])
            cluster.n1.run(["sh", "-c", f"rm -f {cluster.settings.spool}/n1_*.{EXTERN}"])
            wait_for("the process gone", lambda: not cluster.n1.alive(sleeping))


# What is left in a job's cgroup.
END = "grep -l job_{job}/step_ /proc/[0-9]*/cgroup | cut -d/ -f3 | xargs -r kill -KILL"
JOURNAL = "/etc/systemd/journald.conf.d/site.conf"
LOGIND = "/etc/systemd/logind.conf.d/site.conf"
IPC_STAYS = with_file(LOGIND, "[Login]\nRemoveIPC=no\n")
STUB_FILE = "/run/systemd/system/user@.service.d/stub.conf"
STUB = and_also(
    shell(f"mkdir -p {STUB_FILE.rpartition('/')[0]}", "rm -r /run/systemd"),
    with_file(STUB_FILE, "[Service]\nType=oneshot\nExecStart=\nExecStart=/bin/true\n"),
)
OWN = (
    "mkdir -p /run/slurm_adopt/adoptions; chmod 711 /run/slurm_adopt; chmod 700 /run/slurm_adopt/*"
)
NOT_OWN = "rm -rf /run/slurm_adopt"
CHOICES = OWN.replace("adoptions", "choices").replace("700", "711")
CGROUPS = "$(findmnt -nr -t cgroup,cgroup2 -o TARGET | head -1)"
DOCKER = "groupadd -f docker; gpasswd -a alice docker >/dev/null"

# fmt: off
BROKEN = (
    # This host
    Broken("/run is full", "SA803", "warning", "/run is full",
           shell("mount -o remount,size=200k /run", "mount -o remount,size=50% /run"), "/run"),
    Broken("/run is read-only", "SA803", "error", "/run is mounted read-only",
           shell("mount --bind /run /run; mount -o remount,bind,ro /run", "umount /run"), "/run"),
    Broken("/run is writable for all", "SA803", "error", "/run is not root's alone",
           shell("chmod 777 /run", "chmod 755 /run"), "/run"),
    Broken("the notes' directory is open", "SA804", "error",
           "/run/slurm_adopt/adoptions is open to others",
           shell(f"{OWN}; chmod 755 /run/slurm_adopt/adoptions", NOT_OWN),
           "/run/slurm_adopt/adoptions"),
    Broken("a user's directory", "SA804", "error", "/run/slurm_adopt does not belong to root",
           shell(f"{OWN}; chown alice /run/slurm_adopt", NOT_OWN), "/run/slurm_adopt"),
    Broken("a link", "SA804", "error", "/run/slurm_adopt is not a directory",
           shell("rm -rf /run/slurm_adopt; ln -s /tmp /run/slurm_adopt", NOT_OWN),
           "/run/slurm_adopt"),
    Broken("choices that others could make", "SA804", "error",
           "/run/slurm_adopt/choices is open to others",
           shell(f"{CHOICES}; chmod 777 /run/slurm_adopt/choices", NOT_OWN),
           "/run/slurm_adopt/choices"),
    Broken("a file in the place of a choice", "SA804", "error",
           "/run/slurm_adopt/choices/1001 is not the link of a user's choice",
           shell(f"{CHOICES}; touch /run/slurm_adopt/choices/1001", NOT_OWN),
           "/run/slurm_adopt/choices/1001"),
    Broken("another user's link", "SA804", "error",
           "/run/slurm_adopt/choices/1001 is not the link of a user's choice",
           shell(f"{CHOICES}; ln -s x /run/slurm_adopt/choices/1001; "
                 "chown -h bob /run/slurm_adopt/choices/1001", NOT_OWN),
           "/run/slurm_adopt/choices/1001"),
    Broken("a cleaner by age", "SA805", "warning",
           "systemd-tmpfiles removes what is old in /run/slurm_adopt",
           with_file("/etc/tmpfiles.d/site.conf", "# ours\nd /run 0755 root root 10d\n"),
           "/etc/tmpfiles.d/site.conf", "d /run"),
    Broken("tmpreaper", "SA805", "warning", "tmpreaper removes what is old in /run",
           with_file("/etc/tmpreaper.conf", "TMPREAPER_TIME=7d\nTMPREAPER_DIRS='/tmp/. /run/.'\n"),
           "/etc/tmpreaper.conf", "TMPREAPER_DIRS"),
    Broken("nologin", "SA807", "warning", "/etc/nologin keeps every user out but root",
           with_file("/etc/nologin", "later\n"), "/etc/nologin"),
    Broken("two runtime directories", "SA808", "warning",
           "two modules set XDG_RUNTIME_DIR: pam_systemd, and ours with runtime_dir=job",
           and_also(stack(*pam.both("runtime_dir=job"), "-session optional pam_systemd.so"),
                    epilog(f"#!/bin/sh\n{OUR_LINE}\n")), "/etc/pam.d/sshd", "pam_systemd.so"),
    Broken("shared memory goes", "SA809", "warning",
           "logind removes the shared memory of a user's jobs at logout",
           and_also(stack(*pam.with_module(), "-session optional pam_systemd.so"), STUB),
           "/etc/pam.d/sshd", "pam_systemd.so"),
    Broken("shared memory is to go", "SA809", "warning",
           "logind removes the shared memory of a user's jobs at logout",
           and_also(stack(*pam.with_module(), "-session optional pam_systemd.so"), STUB,
                    with_file(LOGIND, "[Login]\nRemoveIPC=yes\n")), LOGIND, "RemoveIPC=yes"),
    Broken("/proc has processes only", "SA802", "error",
           "/proc has processes only: it is mounted with subset=pid",
           shell("mount -t proc -o subset=pid proc /proc", "umount /proc"), "/proc"),
    # The log
    Broken("no space for logs", "SA815", "warning", "/var/log is full",
           shell("mount -t tmpfs -o size=1m none /var/log", "umount /var/log"), "/var/log"),
    Broken("no log daemon", "SA811", "error", "nobody takes the module's log lines",
           without("/dev/log"), "/dev/log"),
    Broken("journald keeps errors alone", "SA812", "warning",
           "journald drops lines of level info",
           and_also(running("systemd-journald"),
                    with_file(JOURNAL, "[Journal]\nMaxLevelStore=warning\n")),
           JOURNAL, "MaxLevelStore"),
    Broken("journald keeps nothing", "SA812", "warning", "journald keeps nothing",
           and_also(running("systemd-journald"), with_file(JOURNAL, "[Journal]\nStorage=none\n")),
           JOURNAL, "Storage"),
    Broken("a small burst", "SA813", "warning",
           "journald drops lines where many users log in at once",
           and_also(running("systemd-journald"),
                    with_file(JOURNAL, "[Journal]\n#RateLimitBurst=1\nRateLimitBurst=50\n")),
           JOURNAL, "RateLimitBurst=50"),
    Broken("rsyslog without authpriv", "SA814", "warning",
           "no line of rsyslog's takes the facility authpriv",
           and_also(running("rsyslogd"),
                    with_file("/etc/rsyslog.conf", "*.*;auth,authpriv.none -/var/log/all\n")),
           "/etc/rsyslog.conf"),
    # sshd's process
    Broken("few descriptors", "SA821", "warning", "sshd runs with limits that are low",
           sshd_under("prlimit", "--nofile=256")),
    Broken("a capability less", "SA822", "warning", "sshd runs without CAP_SYS_PTRACE",
           sshd_under("setpriv", "--bounding-set=-sys_ptrace")),
    Broken("cgroups are read-only for sshd", "SA823", "error", "read-only",
           in_mounts(f"mount -o remount,bind,ro {CGROUPS}"), "/sys/fs/cgroup"),
    Broken("sshd without the spool directory", "SA823", "error",
           "sshd does not see the spool directory of slurmd",
           in_mounts("mount -t tmpfs none /var/spool"), "/var/spool/slurmd"),
    # Packages
    Broken("an old rich", "SA831", "warning", "python3-rich is too old",
           shell(f"mkdir -p {OLD}; printf 'Name: rich\\nVersion: 12.5.1\\n' >{OLD}/METADATA",
                 f"rm -r {OLD}")),
    Broken("no rich", "SA831", "skipped", "python3-rich is missing",
           without(f"{PACKAGES}/rich")),
    Broken("no pyroute2", "SA831", "skipped", "python3-pyroute2 is missing",
           without(f"{PACKAGES}/pyroute2")),
    Broken("another slurm_adopt", "SA832", "warning", "there are other versions of slurm_adopt",
           shell(f"mkdir {PACKAGES}/slurm_adopt; "
                 f"echo '__version__ = \"0.0.1\"' >{PACKAGES}/slurm_adopt/__init__.py",
                 f"rm -r {PACKAGES}/slurm_adopt"),
           PACKAGES),
    Broken("the lines run another version", "SA832", "warning",
           "the PAM lines run another version than this command's",
           shell(f"cp -p {INIT} {INIT}.kept; sed -i 's/^__version__.*/__version__ = \"9\"/' {INIT}",
                 f"mv {INIT}.kept {INIT}"),
           "/etc/pam.d/sshd", "pam_slurm_adopt.py"),
    Broken("two copies in the lines", "SA832", "warning",
           "the PAM lines run different copies of slurm_adopt",
           stack(*pam.with_module(), pam.SESSION.replace("/opt/", "/srv/")),
           "/etc/pam.d/sshd", "/srv/slurm_adopt"),
    # Ways out
    Broken("linger", "SA901", "warning", "users have a systemd of their own without a session",
           shell("mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/alice",
                 "rm -r /var/lib/systemd"),
           "/var/lib/systemd/linger"),
    Broken("the user's own systemd", "SA902", "warning",
           "users have a systemd of their own, outside of their jobs",
           and_also(shell("mkdir -p /run/systemd/system", "rm -r /run/systemd"), IPC_STAYS,
                    stack(*pam.with_module(), "-session optional pam_systemd.so")),
           "/etc/pam.d/sshd", "pam_systemd.so"),
    Broken("a user's systemd that runs", "SA902", "warning",
           "a systemd of users' own runs outside of their jobs",
           and_also(shell("mkdir -p /run/systemd/system", "rm -r /run/systemd"),
                    running("systemd", "alice"))),
    Broken("cron", "SA903", "warning", "users can use cron, which runs commands outside of jobs",
           running("cron"), "/etc/pam.d/cron"),
    Broken("cron for one user", "SA903", "warning",
           "users can use cron, which runs commands outside of jobs",
           and_also(running("cron"), with_file("/etc/cron.allow", "root\nalice\n")),
           "/etc/pam.d/cron"),
    Broken("a crontab that is left", "SA903", "warning",
           "crontabs of users still run outside of jobs",
           and_also(running("cron"), with_file("/etc/cron.allow", "root\n"),
                    with_file("/var/spool/cron/crontabs/alice", "* * * * * true\n", 0o600),
                    shell("chown alice /var/spool/cron/crontabs/alice", "true")),
           "/etc/cron.allow"),
    Broken("at", "SA904", "warning", "users can use at, which runs commands outside of jobs",
           running("atd"), "/etc/pam.d/atd"),
    Broken("Dropbear", "SA905", "warning", "Dropbear lets users in without asking PAM",
           running("dropbear")),
    Broken("telnet", "SA905", "warning", "telnet lets users in without a job",
           running("in.telnetd"), "/etc/pam.d/login"),
    Broken("Cockpit by a socket", "SA905", "warning", "Cockpit lets users in without a job",
           shell("mkdir -p /etc/systemd/system/sockets.target.wants; "
                 "touch /etc/systemd/system/sockets.target.wants/cockpit.socket",
                 "rm -r /etc/systemd/system/sockets.target.wants"), "/etc/pam.d/cockpit"),
    Broken("inetd", "SA905", "warning", "inetd lets users in without a job",
           with_file("/etc/inetd.conf", "#shell\ntelnet stream tcp nowait root /usr/sbin/tcpd\n"),
           "/etc/inetd.conf", "telnet"),
    Broken("Docker for all", "SA906", "warning", "users can have Docker start containers as root",
           listening("/run/docker.sock", "666"), "/run/docker.sock"),
    Broken("Docker for a group", "SA906", "warning",
           "users can have Docker start containers as root",
           and_also(shell(DOCKER, "groupdel docker"),
                    listening("/run/docker.sock", "660", "docker")), "/run/docker.sock"),
    Broken("a session without a job", "SA911", "warning", "ssh sessions of users are in no job",
           session_without_job),
    Broken("a session partly in its job", "SA911", "warning",
           "ssh sessions of users are not wholly in a running job of theirs", session_in_part),
    Broken("a process outside", "SA912", "warning",
           "users with a job here have processes in no job", process_outside),
    Broken("a job's rest", "SA913", "warning", "processes have outlived their job",
           left_by_its_job),
    # The Epilog
    Broken("no such Epilog", "SA921", "error", "Epilog names no file that is there",
           slurm_conf("# ours", "Epilog=/etc/slurm/none"), SLURM_CONF, "Epilog="),
    Broken("a pattern for nothing", "SA921", "error", "Epilog names no file that is there",
           slurm_conf("epilog = /etc/slurm/none.d/*"), SLURM_CONF, "epilog ="),
    Broken("no path", "SA921", "error", "Epilog is no absolute path",
           slurm_conf("Epilog=epilog.sh"), SLURM_CONF, "Epilog="),
    Broken("not executable", "SA921", "error",
           f"slurmd cannot run Epilog: {EPILOG} is not executable",
           epilog(f"#!/bin/sh\n{OUR_LINE}\n", mode=0o644), EPILOG),
    Broken("no #!", "SA921", "error",
           f"slurmd cannot run Epilog: {EPILOG} does not begin with #!",
           epilog(f"{OUR_LINE}\n"), EPILOG),
    Broken("no interpreter", "SA921", "error",
           f"slurmd cannot run Epilog: {EPILOG} wants /bin/sh\\r",
           epilog(f"#!/bin/sh\r\n{OUR_LINE}\n"), EPILOG),
    Broken("a directory in a pattern", "SA921", "error",
           "slurmd cannot run Epilog: /etc/slurm/epilog.d/old is no file",
           and_also(shell("mkdir -p /etc/slurm/epilog.d/old", "rm -r /etc/slurm/epilog.d"),
                    slurm_conf("Epilog=/etc/slurm/epilog.d/*")), "/etc/slurm/epilog.d/old"),
    Broken("writable for all", "SA921", "error", "others than root can change Epilog",
           epilog(f"#!/bin/sh\n{OUR_LINE}\n", mode=0o777), EPILOG),
    Broken("no such Prolog", "SA926", "error", "Prolog names no file that is there",
           slurm_conf("Prolog=/etc/slurm/none"), SLURM_CONF, "Prolog="),
    Broken("runtime directories stay", "SA922", "warning",
           "no Epilog removes the jobs' runtime directories",
           and_also(stack(*pam.with_module("runtime_dir=job")),
                    epilog("#!/bin/sh\nexit 0\n")), SLURM_CONF, "Epilog="),
    Broken("it ends before", "SA922", "warning", "the Epilog ends before this module's program",
           epilog(f"#!/bin/sh\nexit 0\n{OUR_LINE}\n"), EPILOG, "slurm_adopt.epilog"),
    Broken("it goes elsewhere", "SA922", "error",
           "the Epilog looks for this module's program where it is not",
           epilog(f"#!/bin/sh\n{OUR_LINE.replace('/opt', '/srv')}\n"), EPILOG, "/srv"),
    Broken("it runs in the job", "SA922", "warning",
           "the Epilog runs in the job, and leaves the job's sessions alone",
           epilog(f"#!/bin/sh\n{OUR_LINE}\n", "PrologFlags=RunInJob"), EPILOG,
           "slurm_adopt.epilog"),
    Broken("it has little time", "SA923", "warning",
           "slurmd may end the Epilog before this module's program is done",
           epilog(f"#!/bin/sh\n{OUR_LINE}\n", "PrologEpilogTimeout=10"), SLURM_CONF,
           "PrologEpilogTimeout="),
    Broken("another line follows", "SA922", "warning",
           "an Epilog= that follows takes the place of the one with this module's program",
           and_also(epilog(f"#!/bin/sh\n{OUR_LINE}\n"),
                    with_file("/etc/slurm/theirs", "#!/bin/sh\nexit 0\n", 0o755),
                    slurm_conf("Epilog=/etc/slurm/theirs")), SLURM_CONF, "theirs"),
    Broken("little time to be killed", "SA925", "warning",
           "a session that is slow to end drains the node",
           slurm_conf("UnkillableStepTimeout=5"), SLURM_CONF, "UnkillableStepTimeout=5"),
    Broken("KillWait is long", "SA924", "warning", "sessions outlive their job's end for long",
           slurm_conf("KillWait=3600"), SLURM_CONF, "KillWait=3600"),
)

# What is true of the sound host.
SOUND = {
    "SA802": "/proc is mounted whole",
    "SA803": "/run is root's, writable, and has space left",
    "SA805": "nothing removes old files in /run/slurm_adopt",
    "SA807": "no nologin file keeps users out",
    "SA808": "no known module sets XDG_RUNTIME_DIR",
    "SA809": "no login of users' is a session of logind's",
    "SA811": "a log daemon listens on /dev/log",
    "SA815": "/var/log has space left",
    "SA821": "sshd's own limits are high enough",
    "SA822": "sshd has the capabilities that the module uses",
    "SA823": "sshd sees cgroups, /run and Slurm's files as this host has them",
    "SA831": "python3-pyroute2, python3-rich: there, and new enough",
    "SA832": "one version of slurm_adopt is here",
    "SA901": "no user has linger",
    "SA902": "PID 1 is not systemd: users have no systemd of their own",
    "SA903": "cron does not run",
    "SA904": "at does not run",
    "SA905": "no other known daemon lets users in",
    "SA906": "no known container engine of root's takes orders from users",
    "SA911": "no ssh session of a user is outside of all jobs",
    "SA912": "users with a job here have no other process outside of jobs",
    "SA913": "no process has outlived its job",
    "SA921": "slurm.conf has no Epilog",
    "SA922": "no Epilog ends what a killed extern stepd leaves",
    "SA923": "PrologEpilogTimeout leaves the Epilog time",
    "SA924": "KillWait ends sessions soon",
    "SA925": "UnkillableStepTimeout gives sessions time to end",
    "SA926": "slurm.conf has no Prolog",
}
# fmt: on


def found(cluster: Cluster, user: str | None = None) -> list[dict[str, Any]]:
    """Return the findings about host and ways out."""
    findings = cli.run_json(cluster.n1, "check", user=user)["findings"]
    return [one for one in findings if one["code"] >= "SA8"]


def bad(findings: list[dict[str, Any]]) -> list[str]:
    """Return the warnings and errors, in short."""
    return [
        f"{one['code']} {one['title']} ({one['found']})"
        for one in findings
        if one["result"] in ("warning", "error")
    ]


def test_the_sound_host(cluster: Cluster) -> None:
    """Nothing is wrong there, and each line says what is true; with users at work on it."""
    cluster.submit("alice", mem="10M")
    with cluster.session("alice"):
        findings = found(cluster)
    assert not bad(findings)
    titles = {one["code"]: one["title"] for one in findings}
    assert titles | SOUND == titles


@pytest.mark.parametrize("row", BROKEN, ids=lambda row: row.name)
def test_a_broken_host(cluster: Cluster, row: Broken) -> None:
    """It is named, by code, result, title and place; nothing else is."""
    with row.breaking(cluster):
        findings = found(cluster)
        named = [one for one in findings if one["code"] == row.code]
        hits = [one for one in named if row.title in one["title"] and one["result"] == row.result]
        assert len(hits) == 1, named
        (hit,) = hits
        assert hit["where"]["file"].startswith(row.file), hit
        assert bool(hit["where"]["file"]) == bool(row.file), hit
        if row.line:
            text = cluster.n1.read(row.file).split("\n")[hit["where"]["line"] - 1]
            assert row.line in text
        else:
            assert hit["where"]["line"] == 0
        assert not [one for one in bad(findings) if not one.startswith(row.code)]
    if row.result != "skipped":
        assert hit["why"]
        assert hit["fix"]


# fmt: off
MENDED = (
    ("cron with our lines", "SA903", "what cron runs for users is brought into their jobs",
     lambda: and_also(running("cron"), _lines_in("cron"))),
    ("cron closed", "SA903", "users may not use cron",
     lambda: and_also(running("cron"), with_file("/etc/cron.allow", "root\n"))),
    ("at closed", "SA904", "users may not use at",
     lambda: and_also(running("atd"), with_file("/etc/at.allow", "root\n"))),
    ("a stub for the user's own systemd", "SA902",
     "users' own systemd is masked, or a stub is in its place",
     lambda: and_also(
         STUB, IPC_STAYS, stack(*pam.with_module(), "-session optional pam_systemd.so"))),
    ("shared memory stays", "SA809", "logind leaves users' shared memory alone",
     lambda: and_also(
         STUB, IPC_STAYS, stack(*pam.with_module(), "-session optional pam_systemd.so"))),
    ("the guide's Epilog", "SA922", "the Epilog runs this module's program",
     lambda: epilog(f"#!/bin/sh\n{OUR_LINE}\nexit 0\n")),
    ("the guide's Epilog, run by another", "SA922", "the Epilog runs this module's program",
     lambda: and_also(
         with_file("/etc/slurm/epilog.slurm_adopt", f"#!/bin/sh\n{OUR_LINE}\n", 0o755),
         epilog("#!/bin/sh\ntest ! -x /etc/slurm/epilog.slurm_adopt || "
                "/etc/slurm/epilog.slurm_adopt\nexit 0\n"))),
    ("contrib's Epilog", "SA922", "the Epilog runs this module's program",
     lambda: epilog(OF_CONTRIB)),
    ("tmpfiles.d with an exception", "SA805", "nothing removes old files in /run/slurm_adopt",
     lambda: with_file("/etc/tmpfiles.d/site.conf",
                       "d /run 0755 root root 10d\nx /run/slurm_adopt\n")),
    ("rsyslog as on Debian", "SA814", "rsyslog takes the facility authpriv",
     lambda: and_also(running("rsyslogd"),
                      with_file("/etc/rsyslog.conf", "auth,authpriv.*\t/var/log/auth.log\n"))),
    ("/run/slurm_adopt after a login", "SA804",
     "/run/slurm_adopt is root's, and nobody else can write there", lambda: shell(OWN, NOT_OWN)),
)
# fmt: on


def _lines_in(service: str) -> Breaking:
    """Have the guide's lines in the PAM file of cron or at."""

    @contextlib.contextmanager
    def breaking(cluster: Cluster) -> Iterator[None]:
        usual = cluster.n1.read(f"etc/pam.d/{service}")
        account, session = pam.at_or_cron(service)
        cluster.n1.pam(service, [*account, *usual.splitlines(), *session])
        try:
            yield
        finally:
            cluster.n1.pam(service, usual)

    return breaking


@pytest.mark.parametrize(
    ("code", "title", "way"), [row[1:] for row in MENDED], ids=[row[0] for row in MENDED]
)
def test_a_mended_host(
    cluster: Cluster, code: str, title: str, way: Callable[[], Breaking]
) -> None:
    """What the guide says is enough."""
    with way()(cluster):
        findings = found(cluster)
    assert not bad(findings)
    assert [one["title"] for one in findings if one["code"] == code] == [title]


HIDDEN = (
    ("SA823", "only root sees what sshd may do", lambda: shell("true", "true")),
    ("SA904", "only root reads /etc/at.allow",
     lambda: and_also(running("atd"), with_file("/etc/at.allow", "root\n", 0o600))),
    ("SA921", "only root sees what Epilog names: /etc/slurm/epilog.d/*",
     lambda: and_also(shell("mkdir -m 700 -p /etc/slurm/epilog.d", "rm -r /etc/slurm/epilog.d"),
                      slurm_conf("Epilog=/etc/slurm/epilog.d/*"))),
    ("SA922", "the Epilog may be read by root alone",
     lambda: epilog(f"#!/bin/sh\n{OUR_LINE}\n", mode=0o700)),
)  # fmt: skip


@pytest.mark.parametrize(("code", "title", "way"), HIDDEN, ids=[row[0] for row in HIDDEN])
def test_a_user_hears_what_cannot_be_seen(
    cluster: Cluster, code: str, title: str, way: Callable[[], Breaking]
) -> None:
    """It is skipped, and no warning is made of it."""
    with way()(cluster):
        findings = found(cluster, user="alice")
    assert not bad(findings)
    (one,) = (one for one in findings if one["code"] == code)
    assert (one["result"], one["title"]) == ("skipped", title)
