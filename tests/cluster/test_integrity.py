"""What others than root may write is not run at a login: root gets in, the log names it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.landing import COMMAND, job_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

TOP = "/opt/slurm_adopt"
PACKAGE = f"{TOP}/src/slurm_adopt"
MODULE = f"{PACKAGE}/decision/engine.py"  # which every login imports
CODE = f"{PACKAGE}/decision/__pycache__/engine.cpython-311.pyc"
IMAGE = f"{PACKAGE}/__pycache__/login.cpython-311.image"  # without it the byte code is read
CODE_OF_FIRST = f"{PACKAGE}/system/__pycache__/importing.cpython-311.pyc"

# What root runs at a login, and what leads to it.
FILES = {
    "script": f"{TOP}/pam/SCRIPT",
    "directory of the scripts": f"{TOP}/pam",
    "checkout": TOP,
    "above it": "/opt",
    "src": f"{TOP}/src",
    "package": PACKAGE,
    "what imports": f"{PACKAGE}/system/importing.py",
    "package in it": f"{PACKAGE}/decision",
    "module": MODULE,
    "byte code": CODE,
    "directory of byte code": f"{PACKAGE}/decision/__pycache__",
}
OF_CODE = (FILES["byte code"], FILES["directory of byte code"])  # which no image replaces then
# An access control list by which uid 5001 may write "$1" (acl(5)).
LISTED = """\
python3 -c '
import os, struct, sys
entries = (1, 7, -1), (2, 7, 5001), (4, 7, -1), (16, 7, -1), (32, 5, -1)
listed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
os.setxattr(sys.argv[1], "system.posix_acl_access", struct.pack("<I", 2) + listed)
' "$1"
"""
# How others come to write it: shell commands, of "$1".
WAYS = {
    "its group may": 'chgrp alice "$1"; chmod g+w "$1"',
    "everybody may": 'chmod o+w "$1"',
    "alice's": 'chown alice "$1"',
    "a list has alice": f'chmod g+w "$1"; {LISTED}',
    "in alice's home": 'mv "$1" /home/alice/it; ln -s /home/alice/it "$1"',
    "by a link in alice's home": (
        'mv "$1" /srv/it; ln -s /srv/it /home/alice/it; ln -s /home/alice/it "$1"'
    ),
}
FINE = {
    "root's group may": 'chmod g+w "$1"',
    "behind a link of root's": 'mv "$1" /srv/it; ln -s /srv/it "$1"',
    "byte code is garbage": f'rm {IMAGE}; echo garbage >"{CODE}"; echo garbage >"{CODE_OF_FIRST}"',
    "byte code is cut": f'rm {IMAGE}; truncate -s 99 "{CODE}"; truncate -s 99 "{CODE_OF_FIRST}"',
    "byte code is missing": f'rm {IMAGE} "{CODE}" "{CODE_OF_FIRST}"',
}
KEEP = "cp -a /opt /srv/opt; stat -c %a /opt >/srv/mode"
RESTORE = """\
if test -h /opt; then rm /opt; mkdir /opt; fi
rm -rf /opt/* /home/alice/it
chown root:root /opt; chmod "$(cat /srv/mode)" /opt
cp -a /srv/opt/. /opt/
rm -rf /srv/opt /srv/mode /srv/it
"""
SCRIPTS = {"pam_python": "pam_slurm_adopt.py", "pam_exec": "pam_slurm_adopt_exec"}
LINES = {"pam_python": pam.OURS, "pam_exec": pam.EXEC}
SERVICE = "service=integrity"
FRONTS = pytest.mark.parametrize("front", LINES)


@contextlib.contextmanager
def changed(node: Host, way: str, path: str) -> Iterator[None]:
    """Have a file of n1's be in a way, and put /opt back as it was."""
    node.run(["sh", "-ec", KEEP])
    try:
        node.run(["sh", "-ec", way, "sh", path])
        yield
    finally:
        node.run(["sh", "-ec", RESTORE])


def asked(node: Host, user: str) -> bool:
    """Say whether PAM lets a user in, by our line alone."""
    done = node.run(["pamtester", "integrity", user, "acct_mgmt"], check=False)
    return done.returncode == 0


def lines(node: Host, mark: int) -> list[str]:
    return [line for line in node.log(mark) if "pam_slurm_adopt(" in line]


def wrong(node: Host, path: str, *, linked: bool) -> list[str]:
    """Return what is not as it should be, where others may write a path."""
    found = []
    mark = node.mark()
    if not asked(node, "root"):
        found.append("root is refused")
    found += [f"root: {line}" for line in lines(node, mark)]
    mark = node.mark()
    if asked(node, "alice"):
        found.append("alice is let in")
    said = lines(node, mark)
    named = "/home/alice" if linked else path
    hint = "others than root may write it: run chown root:root and chmod go-w"
    if len(said) != 1 or f"cannot run: {named} belongs to uid " not in said[0]:
        found.append(f"not one line of {named}: {said}")
    elif not said[0].endswith(hint) or "authpriv.err" not in said[0]:
        found.append(said[0])
    return found


@FRONTS
@pytest.mark.parametrize("way", WAYS)
def test_what_others_may_write_is_not_run(cluster: Cluster, front: str, way: str) -> None:
    """Root gets in without the guard; alice does not, though she has a job; one line says why."""
    node = cluster.n1
    cluster.submit("alice")
    line = f"{LINES[front]} {SERVICE} action_generic_failure=deny"
    node.pam("integrity", [line, "account required pam_permit.so"])
    found = {}
    for name, place in FILES.items():
        path = place.replace("SCRIPT", SCRIPTS[front])
        without = f"rm {IMAGE}; " if place in OF_CODE else ""
        with changed(node, without + WAYS[way], path):
            if flaws := wrong(node, path, linked="home" in way):
                found[name] = flaws
        if not asked(node, "alice"):
            found[f"{name}, put back"] = ["alice is refused"]
    assert found == {}


@FRONTS
@pytest.mark.parametrize("way", FINE)
def test_what_only_root_may_write_is_run(cluster: Cluster, front: str, way: str) -> None:
    """Also where byte code is no good: the source is there."""
    node = cluster.n1
    cluster.submit("alice")
    node.pam("integrity", [f"{LINES[front]} {SERVICE} action_adopt_failure=deny"])
    found = {}
    for path in (TOP, f"{TOP}/src", PACKAGE, MODULE):
        with changed(node, FINE[way], path):
            mark = node.mark()
            if not asked(node, "alice") or "adopted into job" not in "".join(lines(node, mark)):
                found[path] = lines(node, mark)
    assert found == {}


# In the image's place: code that tells that it has run, and nothing else. "$1" is the image.
PLANTED = """\
python3 -c '
import importlib.util, marshal, sys
code = compile("open(\\"/srv/it\\", \\"w\\")", "planted", "exec")
first = marshal.dumps((code, None))
with open(sys.argv[1], "wb") as file:
    file.write(importlib.util.MAGIC_NUMBER + len(first).to_bytes(4, "little") + first)
' "$1"
"""
IMAGES = {
    **{f"planted, {name}": f"{PLANTED}{way}" for name, way in WAYS.items() if "/srv/it" not in way},
    "garbage": 'echo garbage >"$1"',
    "empty": ': >"$1"',
    "cut": 'truncate -s -99 "$1"',
    "cut in its beginning": 'truncate -s 99999 "$1"',
    "a directory": 'rm "$1"; mkdir "$1"',
    "a FIFO": 'rm "$1"; mkfifo "$1"',
    "missing": 'rm "$1"',
}


@FRONTS
def test_an_image_that_is_not_fit_is_not_used(cluster: Cluster, front: str) -> None:
    """The login goes on without; one that root has planted would be run."""
    node = cluster.n1
    cluster.submit("alice")
    line = f"{LINES[front]} {SERVICE} action_adopt_failure=deny"
    node.pam("integrity", [line, "account required pam_permit.so"])
    ran, found = node.root / "srv/it", {}
    for name, way in IMAGES.items():
        with changed(node, way, IMAGE):
            mark = node.mark()
            adopted = asked(node, "alice") and "adopted into job" in "".join(lines(node, mark))
            if not adopted or not asked(node, "root") or ran.exists():
                found[name] = [*lines(node, mark), str(ran.exists())]
    assert found == {}
    with changed(node, PLANTED, IMAGE):
        assert asked(node, "alice")
        assert ran.exists()


# (action_generic_failure, whether a user gets in where others may write the module)
ANSWERS = {"auto": False, "deny": False, "ignore": True, "allow": True}


@FRONTS
@pytest.mark.parametrize("stack", ["guarded", "unguarded"])
def test_logins_where_others_may_write(cluster: Cluster, front: str, stack: str) -> None:
    """By sshd, in both phases: root is let in, and users as action_generic_failure says."""
    node = cluster.n1
    job = cluster.submit("alice")
    with pam.front(front):
        for value, allowed in ANSWERS.items():
            both = pam.both(f"action_generic_failure={value}", "action_adopt_failure=deny")
            kept = [line for line in both if stack == "guarded" or "uid eq 0" not in line]
            node.pam("sshd", kept)
            with changed(node, WAYS["its group may"], MODULE):
                root, alice = (cluster.ssh(user, command=COMMAND) for user in ("root", "alice"))
            assert (root.rc, "step_extern" in root.out) == (0, False), root
            assert (alice.rc == 0, "step_extern" in alice.out) == (allowed, False), alice
            restored = cluster.ssh("alice", command=COMMAND)
            assert job_of(node, restored.out) == job, restored
