"""How the daemons of a cluster trust each other: munge, auth/slurm, what binds a credential.

Scenarios like those of scenarios.py; what they change in the configuration the cell takes back.
"""

from __future__ import annotations

import contextlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.cluster.harness import pam
from tests.cluster.harness.config import NODES
from tests.cluster.harness.host import DAEMONS, Daemon, Host
from tests.cluster.harness.network import ADDRESSES
from tests.cluster.scenarios.axes import STRICT, two_jobs
from tests.cluster.scenarios.basic import IT, LOOK, comes_from, landed, says

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
SITE = "/run/site"  # where a site may have put munged's socket, or a slurm.conf

# Another munged, with the key that all have.
ANOTHER = "munged-site"
DAEMONS[ANOTHER] = Daemon(
    ("/usr/sbin/munged", "--foreground", f"--socket={SITE}/munge",
     f"--pid-file={SITE}/munged.pid", f"--seed-file={SITE}/munged.seed"),
    user="munge",
    path=f"{SITE[1:]}/munge",
)  # fmt: skip


def clock(seconds: int) -> list[str]:
    """Return what in front of a command gives it a clock of its own."""
    return ["env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME={seconds:+}s"]


@contextlib.contextmanager
def another_munged(*hosts: Host, under: Sequence[str] = ()) -> Iterator[None]:
    """Run a second munged on each host."""
    for host in hosts:
        host.run(["install", "-d", "-o", "munge", "-g", "munge", SITE])
        host.start(ANOTHER, under=under)
    try:
        yield
    finally:
        for host in hosts:
            host.stop(ANOTHER)


# auth/munge


def munge_socket(cluster: Cluster) -> None:
    """Find munged where AuthInfo says that it is, and nobody at the usual place."""
    usual = cluster.settings
    with another_munged(*cluster.hosts.values()):
        try:
            conf = f"{usual.slurm_conf}AuthInfo=socket={SITE}/munge\n"
            cluster.reconfigure(replace(usual, slurm_conf=conf))
            for node in cluster.nodes:
                node.stop("munged")
            cluster.pam(pam.with_module(*STRICT))
            for job in two_jobs(cluster):
                comes_from(cluster, job, ("n2", "n1"))
                comes_from(cluster, job, ("n1", "n2"))
        finally:
            for node in cluster.nodes:
                node.start("munged")
            cluster.reconfigure(usual)


def munge_ttl(cluster: Cluster) -> None:
    """Give credentials the time to live that AuthInfo says.

    The module has a slurm.conf of its own, whose munged is 100 s behind: by the clock of the source
    what it makes is as old, and good for 300 s if nothing else is said.
    """
    job, _ = two_jobs(cluster)
    with another_munged(cluster.n1, under=clock(-100)):
        for ttl in (200, 50):
            script = 'cp /etc/slurm/*.conf "$0"; echo "AuthInfo=socket=$0/munge,ttl=$1" >>"$0/$2"'
            cluster.n1.run(["sh", "-ec", script, SITE, str(ttl), "slurm.conf"])
            cluster.pam(pam.with_module(f"slurm_conf={SITE}/slurm.conf", *STRICT))
            if ttl > 100:
                comes_from(cluster, job, ("n2", "n1"))
            else:
                refused(cluster, job, "munge key")


def refused(cluster: Cluster, job: int, why: str) -> None:
    """Assert that a login from the job on n2 is refused on n1, where the log has a text."""
    mark = cluster.n1.mark()
    assert cluster.in_job(job, "alice", "n2", ["ssh", "n1"], check=False).rc == 255
    says(cluster, "n1", mark, why)


# auth/slurm


def named_keys(cluster: Cluster) -> None:
    """Have tokens with a key's name and the user's identity in them."""
    keys = [
        {"alg": "HS256", "kty": "oct", "kid": name, "k": _base64(name.encode() * 8), **more}
        for name, more in (("older", {}), ("newer", {"use": "default"}))
    ]
    conf = f"{cluster.settings.slurm_conf}AuthInfo=use_client_ids\n"
    text = json.dumps({"keys": keys})
    settings = replace(cluster.settings, slurm_conf=conf, slurm_key=text, key_file="slurm.jwks")
    cluster.reconfigure(settings)
    header, claims = token(cluster.n1)
    assert header["kid"] == "newer", header
    assert "id" in claims, claims
    cluster.pam(pam.with_module(*STRICT))
    for job in two_jobs(cluster):
        comes_from(cluster, job, ("n2", "n1"))
        comes_from(cluster, job, ("n1", "n2"))


def sackd_instead(cluster: Cluster) -> None:
    """Have sackd make tokens, and as long a time to live as AuthInfo says; slurmd makes none.

    sackd on n1 is 100 s behind: what it makes would be good for 60 s if nothing else were said.
    """
    usual, node = cluster.settings, cluster.n1
    conf = f"{usual.slurm_conf}AuthInfo=disable_sack,ttl=900\n"
    _give_run_directory(cluster, "slurm")
    try:
        cluster.reconfigure(replace(usual, slurm_conf=conf, sackd=("ctl", *NODES, "login")))
        node.stop("sackd")
        node.start("sackd", under=clock(-100))
        _, claims = token(node)
        assert claims["exp"] - claims["iat"] == 900, claims
        cluster.pam(pam.with_module(*STRICT))
        job, _ = two_jobs(cluster)
        comes_from(cluster, job, ("n2", "n1"))
        with _without_sackd(node):
            refused(cluster, job, "no sack socket: slurm.conf has AuthInfo=disable_sack")
    finally:
        _give_run_directory(cluster, "root")
        cluster.reconfigure(usual)


@contextlib.contextmanager
def _without_sackd(node: Host) -> Iterator[None]:
    """End a node's sackd for a while: without one the node does not get rid of its jobs."""
    node.stop("sackd")
    (node.root / "run/slurm/sack.socket").unlink(missing_ok=True)
    try:
        yield
    finally:
        node.start("sackd")


def _give_run_directory(cluster: Cluster, user: str) -> None:
    """Have the nodes' directory for the sack belong to whom the sack runs as, as 26.05 wants it."""
    for node in cluster.nodes:
        node.run(["chown", f"{user}:", "/run/slurm"])


TOKEN = """\
from slurm_adopt.slurm.auth import of
from slurm_adopt.slurm.config.conf import load
from slurm_adopt.slurm.waiting import Deadline
print(of(load("/etc/slurm/slurm.conf")).encode(b"", Deadline(9)))
"""


def token(host: Host) -> tuple[dict[str, Any], dict[str, Any]]:
    """Have the sack on a host make a token; return its header and its claims."""
    said = host.run(["env", "PYTHONPATH=/checkout/src", "python3", "-c", TOKEN])
    first, second, _ = said.stdout.strip().split(".")
    return _part(first), _part(second)


def _part(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


# What a slurmd takes, and how it says no (auth/munge)

# Attempt of slurmd_probe.py -> what comes of it, by release of the slurmd, as asked in its version.
# fmt: off
TYPE, BODY = "answered, bound to type, for us", "answered, bound to type and body, for us"
HASH, CLOSES, AUTH, HTTP = "error 5003", "closes", "error 1007", "HTTP"
TAKES = {
    #                        20.11   22.05   24.11   26.05
    "no payload":           (TYPE,   BODY,   BODY,   BODY),
    "type":                 (TYPE,   HASH,   HASH,   HASH),
    "type, big-endian":     (HASH,   BODY,   BODY,   BODY),
    "another type":         (HASH,   HASH,   HASH,   HASH),
    "K12":                  (HASH,   BODY,   BODY,   BODY),
    "K12 of another body":  (HASH,   HASH,   HASH,   HASH),
    "used twice":           (TYPE,   BODY,   BODY,   BODY),
    "for another user":     (CLOSES, CLOSES, CLOSES, AUTH),
    "made up":              (CLOSES, CLOSES, CLOSES, AUTH),
    "newer":                (CLOSES, CLOSES, CLOSES, HTTP),
    "older":                (CLOSES, CLOSES, CLOSES, HTTP),
}
# fmt: on
RELEASES = ("20.11", "22.05", "24.11", "26.05")
BLOCKED = {  # what it refuses with block_null_hash and block_zero_hash beside that
    "20.11": ["no payload"],
    "22.05": ["no payload", "type", "type, big-endian"],
    "24.11": ["no payload", "type", "type, big-endian"],
    "26.05": ["no payload", "type", "type, big-endian"],
}


def what_slurmd_takes(cluster: Cluster) -> None:
    """Take from slurmd what its release says it gives: a table of compatibility.md."""
    release = cluster.roots["n2"].slurm.slurm
    expected = {name: by[RELEASES.index(release)] for name, by in TAKES.items()}
    assert probe(cluster, release, *expected) == expected


def blocked_hashes(cluster: Cluster) -> None:
    """Ask a source that takes none but bound credentials, in the version of the stepds here.

    The jobs start before it refuses the others, and end after: what their older srun has begun,
    slurmctld speaks of in its older version.
    """
    job = cluster.submit("alice", "n1,n2")
    cluster.submit("alice", "n1")
    cluster.pam(pam.with_module(*STRICT))
    with _blocking(cluster.n2):
        if "auth/slurm" not in cluster.settings.slurm_conf:
            blocked = BLOCKED[cluster.roots["n2"].slurm.slurm]
            said = probe(cluster, cluster.roots["n1"].slurm.slurm, *blocked)
            assert said == dict.fromkeys(blocked, HASH)
        mark = cluster.n1.mark()
        with cluster.session("alice", "n2") as session:  # the only job there: nobody is asked
            assert landed(session.run(f"ssh -n n1 '{LOOK}'"), "n1") == job
        says(cluster, "n1", mark, IT)


@contextlib.contextmanager
def _blocking(node: Host) -> Iterator[None]:
    """Have a node's slurmd refuse what block_null_hash and block_zero_hash name."""
    path = "etc/slurm/slurm.conf"
    usual = node.read(path)
    more = "CommunicationParameters=block_null_hash,block_zero_hash\n"
    _restart(node, path, usual + more)
    try:
        yield
    finally:
        _restart(node, path, usual)


def _restart(node: Host, path: str, conf: str) -> None:
    node.stop("slurmd")
    node.write(path, conf)
    node.start("slurmd")


def probe(cluster: Cluster, release: str, *attempts: str) -> dict[str, str]:
    """Ask n2's slurmd from n1 in the version of a release; return what comes of each attempt."""
    where = [ADDRESSES["n2"][0], str(DAEMONS["slurmd"].port)]
    script = [
        "python3",
        "/checkout/tests/cluster/inside/slurmd_probe.py",
        *where,
        release,
        *attempts,
    ]
    said = cluster.n1.run(["env", "PYTHONPATH=/checkout/src", *script], timeout=90).stdout
    found: dict[str, str] = json.loads(said)
    return {name: words.partition(" in the version of ")[0] for name, words in found.items()}


MUNGE: tuple[Callable[[Cluster], None], ...] = (
    munge_socket, munge_ttl, what_slurmd_takes, blocked_hashes,
)  # fmt: skip
SLURM: tuple[Callable[[Cluster], None], ...] = (named_keys, sackd_instead, blocked_hashes)
