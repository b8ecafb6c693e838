"""What SELinux allows sshd, as the kernel itself computes it from the loaded policy.

selinuxfs: a write of `SOURCE TARGET CLASS` to `access` is answered by what is allowed, in hex, as
the first of six fields, and flags as the last. Numbers of classes and permissions are below
`class/`. Source: security/selinux/selinuxfs.c (sel_write_access) and security.h
(AVD_FLAGS_PERMISSIVE).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.slurm import proc
from slurm_adopt.slurm.cgroup import paths
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.stepd import step_sockets

from . import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from slurm_adopt.cli.checks.host import Host

FS = "/sys/fs/selinux"
LABEL = "security.selinux"
PERMISSIVE = 1  # AVD_FLAGS_PERMISSIVE: nothing is refused to this domain
REPLY = 4096


class Asked(NamedTuple):
    """One thing that the module does in sshd: to what, of which class, with which permissions."""

    what: str
    target: str  # a context
    kind: str
    permissions: tuple[str, ...]


def enforcing() -> bool | None:
    """Say whether SELinux refuses anything; None where it is off."""
    text = proc.read(f"{FS}/enforce").strip(b"\0\n ")
    return text == b"1" if text else None


def context_of(pid: int) -> str:
    """Return the context of a process; "" where it cannot be seen."""
    return proc.read(f"/proc/{pid}/attr/current").decode("utf-8", "replace").strip("\0\n ")


def label(path: str) -> str:
    """Return the context of a file; "" where it has none."""
    try:
        return os.getxattr(path, LABEL).rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return ""


def wanted(host: Host, sshd: str) -> Iterator[Asked]:
    """Yield what the module does, as far as there is something here to do it to."""
    yield Asked("to look at processes", sshd, "capability", ("sys_ptrace",))
    yield Asked("to end a login that its job has stopped", sshd, "capability", ("kill",))
    for what, path, kind, permissions in _files(host):
        if target := label(path):
            yield Asked(what, target, kind, permissions)
    for one in processes.running(host, ("slurmstepd", "slurmstepd-wlm"))[:1]:
        if target := context_of(one.pid):
            yield Asked("to connect to a stepd", target, "unix_stream_socket", ("connectto",))


def _files(host: Host) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    try:
        conf, spool = host.site.conf.path, host.site.spool
        sockets = step_sockets.extern_steps(spool, host.site.name)
    except SetupError:
        return
    yield f"to read {conf}", conf, "file", ("open", "read")
    yield f"to read {spool}", spool, "dir", ("open", "read", "search")
    for socket in sockets[:1]:
        yield "to use the socket of a stepd", socket.path, "sock_file", ("write",)
    for name in ("cgroup.procs", "freezer/cgroup.procs"):
        if os.path.exists(path := f"{paths.MOUNTPOINT}/{name}"):
            yield f"to write into {path}", path, "file", ("open", "write")
    yield "to keep notes in /run", "/run", "dir", ("add_name", "write")


def refused(
    source: str, asked: list[Asked], ask: Callable[[str], str] | None = None, root: str = FS
) -> list[str]:
    """Return what the policy does not allow a domain; OSError or ValueError if it does not say."""
    found = []
    for one in asked:
        missing = set(one.permissions) - _allowed(source, one, ask or _ask, root)
        if missing:
            found.append(f"{one.what}: {one.kind} {{ {' '.join(sorted(missing))} }}")
    return found


def _allowed(source: str, one: Asked, ask: Callable[[str], str], root: str) -> set[str]:
    folder = f"{root}/class/{one.kind}"
    number = int(_text(f"{folder}/index"))
    fields = ask(f"{source} {one.target} {number}").split()
    allowed = int(fields[0], 16)
    if len(fields) > 5 and int(fields[5], 16) & PERMISSIVE:
        return set(one.permissions)
    bits = {name: int(_text(f"{folder}/perms/{name}")) - 1 for name in one.permissions}
    return {name for name, bit in bits.items() if allowed >> bit & 1}


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip("\0\n ")


def _ask(question: str) -> str:
    """Ask the kernel: what is written is answered by what is read from the same open file."""
    descriptor = os.open(f"{FS}/access", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(descriptor, question.encode())
        return os.read(descriptor, REPLY).decode("ascii", "replace").strip("\0\n ")
    finally:
        os.close(descriptor)
