"""What others keep in /tmp for a session, where its job has a /tmp of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.harness import pam
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios.login_methods import STRICT

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster

# Does what pam_krb5 does with a ticket: puts it where the argument says and has KRB5CCNAME lead
# there when the credentials are set, which is before the session phase; removes it at the end.
CACHE = """\
import ctypes, os
UID = 5001
ADD_KEY, KEYCTL = {"x86_64": (248, 250)}.get(os.uname().machine, (217, 219))
libc = ctypes.CDLL(None)

def pam_sm_authenticate(pamh, flags, argv):
    return pamh.PAM_IGNORE

def pam_sm_setcred(pamh, flags, argv):
    kind, _, place = argv[1].partition(":")
    if flags & 4:  # PAM_DELETE_CRED
        if kind == "FILE" and os.path.exists(place):
            os.unlink(place)
        return pamh.PAM_SUCCESS
    if pamh.user != "alice" or "KRB5CCNAME" in pamh.env:  # sshd calls a second time
        return pamh.PAM_IGNORE
    if kind == "KEYRING":
        keyring = libc.syscall(KEYCTL, 22, UID, -2)  # KEYCTL_GET_PERSISTENT
        key = libc.syscall(ADD_KEY, b"user", b"ticket", b"ticket", 6, keyring)
        libc.syscall(KEYCTL, 4, key, UID, -1)  # KEYCTL_CHOWN
        libc.syscall(KEYCTL, 5, key, 0x3F3F0000)  # KEYCTL_SETPERM
    else:
        file = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(file, b"ticket")
        os.fchown(file, UID, UID)
        os.close(file)
    pamh.env["KRB5CCNAME"] = argv[1]
    return pamh.PAM_SUCCESS
"""
MODULE = "/etc/security/cache.py"
IN_TMP = "FILE:/tmp/krb5cc_5001_x"
IN_RUN = "FILE:/run/krb5cc_5001_x"
KEYRING = "KEYRING:persistent:5001"

# Prints what the session finds in its cache.
LOOK = """\
import ctypes, os
kind, _, place = os.environ["KRB5CCNAME"].partition(":")
KEYCTL = {"x86_64": 250}.get(os.uname().machine, 219)
libc = ctypes.CDLL(None)
if kind == "KEYRING":
    keyring = libc.syscall(KEYCTL, 22, -1, -2)
    key = libc.syscall(KEYCTL, 10, keyring, b"user", b"ticket", 0)  # KEYCTL_SEARCH
    data = ctypes.create_string_buffer(6)
    libc.syscall(KEYCTL, 11, key, data, 6)  # KEYCTL_READ
    print(data.raw.decode())
else:
    print(open(place).read() if os.path.exists(place) else "out of sight")
"""

# (our lines, where the ticket is, whether the session finds it, whether it stays on the node)
CACHES = [
    ("both", IN_TMP, False, True),
    ("account", IN_TMP, True, False),
    ("both", IN_RUN, True, False),
    ("both", KEYRING, True, False),
]


def cache(cluster: Cluster, lines: str, place: str, found: bool, left: bool) -> None:
    """Have a ticket made before the session line; look for it in the session and after that."""
    node = cluster.n1
    node.write(MODULE, CACHE)
    node.write("/usr/local/bin/look-for-ticket", LOOK, 0o755)
    stack = pam.both(*STRICT) if lines == "both" else pam.with_module(*STRICT)
    node.pam("sshd", [stack[0], f"auth optional pam_python.so {MODULE} {place}", *stack[1:]])
    cluster.submit("alice")
    said = cluster.ssh("alice", command="python3 -I /usr/local/bin/look-for-ticket")
    assert said.out.strip() == ("ticket" if found else "out of sight"), said
    file = node.root / place.removeprefix("FILE:").lstrip("/")
    try:
        if left:
            assert file.exists()
        else:
            wait_for("no ticket left", lambda: not file.exists())
    finally:
        file.unlink(missing_ok=True)


# A client with an agent; what it does over the forwarded one.
AGENT = """\
eval $(ssh-agent) >/dev/null
trap 'kill $SSH_AGENT_PID' EXIT
ssh-add -q ~/.ssh/id_ed25519
ssh -A n1 'ls $SSH_AUTH_SOCK /tmp; ssh-add -l; ssh n2 echo there'
"""


def agent(cluster: Cluster) -> None:
    """Forward an agent: its socket is in the job's /tmp, and works."""
    cluster.pam(pam.both(*STRICT))
    cluster.submit("alice", "n1,n2")
    before = set((cluster.n1.root / "tmp").glob("ssh-*"))
    said = cluster.login.run(["sh", "-ec", AGENT], "alice").stdout
    socket, *listed = said.split("\n")
    assert socket.startswith("/tmp/ssh-")
    assert socket.split("/")[2] in listed
    assert "(ED25519)" in said
    assert "there" in listed
    assert set((cluster.n1.root / "tmp").glob("ssh-*")) == before
