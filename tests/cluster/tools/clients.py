"""`./dev clients`: which clients show a user why a login was refused, and where they land.

Each client tries to log in to n1 without a job, by each method alone, refused by the account line;
and by public key, refused by a session line that stands alone. Then it does so with a job, and all
that it runs there has to be in the job and gone with it.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from rich.table import Table

from tests.cluster.harness import pam, scancel
from tests.cluster.harness.cluster import Cluster, Roots
from tests.cluster.harness.host import HostTimeoutError
from tests.cluster.harness.login import METHODS, asking
from tests.cluster.harness.suites import BOOKWORM
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import login_methods, penalties
from tests.cluster.scenarios.uses import CONFIG, processes, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from tests.cluster.harness.host import Host

HOSTS = ("ctl", "n1", "n2", "login")
SAID = "you have no active jobs on this node"
YES, NO, CANNOT = "yes", "no", "-"
LIBRARIES = "/checkout/tests/cluster/inside/client_libraries.py"
PASSWORD = "password of alice"


@dataclass(frozen=True)
class Client:
    """One client; `script` is for sh, as alice on the login host; $1 is the command on n1."""

    name: str
    packages: tuple[str, ...]  # Debian's, beside those that every host has
    script: str
    shows: tuple[str, ...]  # for each of METHODS, then by a session line alone


PLINK = '-batch -hostkey "$HOSTKEY" -i ~/key.ppk -pw "$PASSWORD"'
CURL = 'curl -sSk -u "alice:$PASSWORD" --key ~/.ssh/id_ed25519 --pubkey ~/.ssh/id_ed25519.pub'

# fmt: off
OF_OPENSSH = (
    Client("ssh",      (), 'ssh n1 "$1"',                      (YES, YES, YES, YES)),
    Client("ssh -q",   (), 'ssh -q n1 "$1"',                   (NO, NO, NO, YES)),
    Client("scp",      (), "scp /etc/hostname n1:/tmp/1",      (YES, YES, YES, NO)),
    Client("scp -O",   (), "scp -O /etc/hostname n1:/tmp/2",   (YES, YES, YES, YES)),
    Client("scp -q",   (), "scp -q /etc/hostname n1:/tmp/3",   (NO, NO, NO, NO)),
    Client("sftp",     (), "echo pwd | sftp n1",               (YES, YES, YES, NO)),
    Client("sftp -q",  (), "echo pwd | sftp -q n1",            (NO, NO, NO, NO)),
    Client("sftp -b",  (), "echo pwd | sftp -b - n1",          (YES, CANNOT, CANNOT, NO)),
    Client("rsync",    (), "rsync /etc/hostname n1:/tmp/4",    (YES, YES, YES, NO)),
)
OTHERS = (
    Client("sshfs", ("sshfs",), "timeout 3 sshfs -f n1:/tmp ~/mnt",       (YES, YES, YES, NO)),
    Client("git", ("git",), "git ls-remote n1:/tmp/git",                  (YES, YES, YES, NO)),
    Client("lftp", ("lftp",),
           'lftp -e "set net:max-retries 1; ls; bye" sftp://alice:@n1',   (NO, NO, NO, NO)),
    Client("autossh", ("autossh",), 'AUTOSSH_GATETIME=30 autossh -M0 n1 "$1"',
           (YES, YES, YES, YES)),
    Client("mosh", ("mosh",),
           'timeout 5 script -qc "mosh --server=\'LANG=C.UTF-8 mosh-server\' n1 -- $1" /dev/null',
           (YES, YES, YES, YES)),
    Client("clush", ("clustershell",), 'clush -w n1 "$1"',
           (YES, CANNOT, CANNOT, YES)),
    Client("pdsh", ("pdsh",), 'PDSH_RCMD_TYPE=ssh pdsh -w n1 "$1"',       (YES, YES, YES, YES)),
    Client("parallel", ("parallel",), 'parallel --will-cite -S n1 ::: "$1"', (YES, YES, YES, YES)),
    Client("ansible", ("ansible-core",), 'ansible all -i n1, -m raw -a "$1"',
           (YES, CANNOT, CANNOT, YES)),
    Client("plink", ("putty-tools",), f'plink {PLINK} alice@n1 "$1"',     (NO, NO, YES, YES)),
    Client("psftp", ("putty-tools",), f"echo pwd | psftp {PLINK} alice@n1", (NO, NO, YES, NO)),
    Client("dbclient", ("dropbear-bin",),
           'DROPBEAR_PASSWORD=$PASSWORD dbclient -y -i ~/key.db alice@n1 "$1"',
           (YES, YES, YES, YES)),
    Client("curl sftp: (libssh2)", ("curl",), f"{CURL} sftp://n1/etc/hostname", (NO, NO, NO, NO)),
    Client("curl scp: (libssh2)", ("curl",), f"{CURL} scp://n1/etc/hostname", (NO, NO, NO, NO)),
    *(Client(name, packages, f'python3 {LIBRARIES} {name} "$PASSWORD" "$1"', shows)
      for name, packages, shows in (
          ("paramiko", ("python3-paramiko",), (NO, NO, NO, YES)),
          ("asyncssh", ("python3-asyncssh",), (NO, NO, NO, YES)),
          ("libssh", ("libssh-4",), (NO, NO, CANNOT, YES)))),
)
# fmt: on
CLIENTS = (*OF_OPENSSH, *OTHERS)

# What stays on n1, beside the clients that run a command: the script, and what is seen there.
STAYING = (
    ("ssh n1 tmux new -d sleep 2001", "sleep 2001"),
    ("ssh n1 screen -dm sleep 2002", "sleep 2002"),
    ('ssh n1 "setsid -f sleep 2003 >/dev/null 2>&1"', "sleep 2003"),
    ("sshfs n1:/tmp ~/mnt", "sftp-server"),
)
TOOLS = ("fuse3", "screen", "tmux")

FUSE = """\
[ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229
ln -sf /proc/self/mounts /etc/mtab
"""
SETUP = """\
cd
ssh-keygen -y -f .ssh/id_ed25519 >.ssh/id_ed25519.pub
[ -z "$(command -v puttygen)" ] || puttygen .ssh/id_ed25519 -O private -o key.ppk
[ -z "$(command -v dropbearconvert)" ] || dropbearconvert openssh dropbear .ssh/id_ed25519 key.db
mkdir -p mnt
"""
OF_USER = """\
PasswordAuthentication yes
NumberOfPasswordPrompts 1
"""


def header() -> tuple[str, ...]:
    """Return the heads of the table's columns."""
    return ("client", *METHODS, "session line alone")


def table() -> list[str]:
    """Return the guide's table."""
    rows = [header(), ("---",) * len(header()), *((c.name, *c.shows) for c in CLIENTS)]
    return [f"|{'|'.join(row)}|" if "---" in row else f"| {' | '.join(row)} |" for row in rows]


@contextlib.contextmanager
def prepared(cluster: Cluster) -> Iterator[None]:
    """Give alice what the clients want on the login host."""
    login = cluster.login
    login.run(["sh", "-c", FUSE])
    login.run(["sh", "-ec", SETUP], "alice")
    login.write(CONFIG, OF_USER)
    asking(login, "alice", "password")
    cluster.n1.run(["install", "-d", "-m", "1777", "/run/screen"])
    cluster.n1.run(["git", "init", "-q", "--bare", "/tmp/git"], "alice", check=False)
    try:
        yield
    finally:
        (login.root / CONFIG).unlink()


def argv(client: Client, command: str) -> list[str]:
    """Return what alice runs."""
    asks = asking_always()
    script = f'HOSTKEY=$(ssh-keygen -lf /etc/ssh/ssh_known_hosts | cut -d" " -f2)\n{client.script}'
    home = ["HOME=/home/alice", f"PASSWORD={PASSWORD}"]
    return ["env", *asks, *home, "sh", "-c", script, "sh", command]


def asking_always() -> list[str]:
    """Return the variables that have ssh's questions answered."""
    return ["SSH_ASKPASS=/usr/local/bin/askpass", "SSH_ASKPASS_REQUIRE=force", "LOGIN_AS=alice"]


@contextlib.contextmanager
def only(node: Host, method: str) -> Iterator[None]:
    """Have sshd offer one method."""
    node.stop("sshd")
    node.start("sshd", options=("-o", f"AuthenticationMethods={method}"))
    try:
        yield
    finally:
        node.stop("sshd")
        node.start("sshd")


def said(cluster: Cluster, client: Client, command: str = "true") -> str:
    """Run a client to its end; return what it prints."""
    try:
        done = cluster.login.run(argv(client, command), "alice", input="", check=False, timeout=20)
    except HostTimeoutError as error:
        return str(error)
    return done.stdout + done.stderr


def shown(cluster: Cluster, clients: Sequence[Client]) -> dict[str, tuple[str, ...]]:
    """Have the clients refused; return for each method, and late, whether the reason shows."""
    found: dict[str, list[str]] = {client.name: [] for client in clients}
    node = cluster.n1
    for method in METHODS:
        node.pam("sshd", pam.both(*pam.PRODUCTION))
        with only(node, method):
            for client in clients:
                mark = node.mark()
                reason = SAID in said(cluster, client)
                asked = any("no jobs" in line for line in node.log(mark))
                found[client.name].append(YES if reason else NO if asked else CANNOT)
    node.pam("sshd", penalties.session_line_alone(*pam.PRODUCTION))
    for client in clients:
        found[client.name].append(YES if SAID in said(cluster, client) else NO)
        _end_masters(cluster.login)
    return {name: tuple(row) for name, row in found.items()}


def _end_masters(login: Host) -> None:
    """End connections that a client has kept for the next one."""
    login.run(["pkill", "-u", "alice", "-x", "ssh"], check=False)


def refusals(cluster: Cluster, clients: Sequence[Client]) -> None:
    """See that each client shows what its row says."""
    with prepared(cluster):
        assert shown(cluster, clients) == {client.name: client.shows for client in clients}


def landed(cluster: Cluster, clients: Sequence[Client]) -> list[str]:
    """Have each client stay on n1 with a job, and end the job; return what went otherwise."""
    node, login = cluster.n1, cluster.login
    cluster.pam(pam.both(*login_methods.STRICT))
    job = cluster.submit("alice", cpus=2)
    wrong = []
    with contextlib.ExitStack() as opened:
        for number, client in enumerate(clients, 1001):
            before = processes(node)
            opened.enter_context(running(login, tuple(argv(client, f"sleep {number}"))))
            wait_for(f"{client.name} on n1", partial(_new, node, before, f"sleep {number}"), 20)
        for script, runs in STAYING:
            before = processes(node)
            login.run(["env", "HOME=/home/alice", "sh", "-c", script], "alice")
            wait_for(f"{script} on n1", partial(_new, node, before, runs))
        for pid, args in processes(node).items():
            with contextlib.suppress(RuntimeError):  # it has ended
                if login_methods.job_with(node, pid) != job:
                    wrong.append(f"not in the job: {args}")
        scancel.end(cluster, job, timeout=60)
        with contextlib.suppress(TimeoutError):
            wait_for("all of it gone", lambda: not processes(node), 30)
        wrong += [f"not gone with the job: {args}" for args in processes(node).values()]
    _end_masters(login)
    return wrong


def tmux_keeps_its_job(cluster: Cluster) -> list[str]:
    """Open a window of a tmux server from another job; return what went otherwise."""
    node, login = cluster.n1, cluster.login
    job = cluster.submit("alice")
    login.run(["ssh", "n1", "tmux new -d sleep 2001"], "alice")
    newest = cluster.submit("alice")
    login.run(["ssh", "n1", "tmux new-window -d sleep 2004"], "alice")
    wait_for("the new window", partial(_new, node, {}, "sleep 2004"))
    windows = [pid for pid, args in processes(node).items() if "sleep 2004" in args]
    jobs = {login_methods.job_with(node, pid) for pid in windows}
    cluster.cancel(job, newest)
    return [] if jobs == {job} else [f"tmux: a window in {jobs}, not in job {job}"]


def _new(node: Host, before: dict[int, str], runs: str) -> bool:
    """Say whether n1 has a new process of alice's with these words."""
    return any(runs in args for pid, args in processes(node).items() if pid not in before)


def run(console: Console) -> int:
    """Bring up a cluster with all clients; print the table and what differs from it."""
    packages = {name for client in CLIENTS for name in client.packages} | {*TOOLS}
    suite = replace(BOOKWORM, more=tuple(sorted(packages)))
    roots = dict.fromkeys(HOSTS, Roots(suite))
    with Cluster("clients", report=console.print, roots=roots) as cluster, prepared(cluster):
        found = shown(cluster, CLIENTS)
        shown_here = Table(*header())
        for name, row in found.items():
            shown_here.add_row(name, *row)
        console.print(shown_here)
        wrong = [
            f"{client.name}: expected {client.shows}, seen {found[client.name]}"
            for client in CLIENTS
            if found[client.name] != client.shows
        ]
        wrong += landed(cluster, [client for client in CLIENTS if "$1" in client.script])
        wrong += tmux_keeps_its_job(cluster)
    for line in wrong:
        console.print(line, style="red", markup=False)
    console.print("all that stayed was in the job, and gone with it" if not wrong else "")
    return bool(wrong)


__all__ = ["CLIENTS", "OF_OPENSSH", "refusals", "run", "table"]

if __name__ == "__main__":
    sys.exit("run ./dev clients")
