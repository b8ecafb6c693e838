"""What one process of sshd tells another: account phase in a child, then the session.

Keyboard-interactive runs the account phase in a child that ends; its parent then opens the session.
If that is adopted already, it must know: a second request to the stepd would start a second
accounting entry and watcher. If only a job has been chosen, it must know that others of the account
stack may not have been asked. A file of root's says so, named after the process and its start time.
The session phase takes it away; where there is no session line, the next such login does once the
process is gone. The PAM environment would not do: users may write it (pam_env, user_readenv).
"""

from __future__ import annotations

import os

from slurm_adopt.decision.adoption import Adoption, Choice
from slurm_adopt.slurm.digits import id_of
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import is_root_still, start_time
from slurm_adopt.system.root_dirs import DIRECTORY, TOP, check, opened

NAME = "adoptions"
CHOSEN = "chosen"  # the first word, if nothing is adopted yet
LIMIT = 1 << 16  # bytes; a dozen hierarchies need about 2 KiB


def leave(adoption: Adoption, top: str = TOP) -> None:
    """Write down an adoption for the process that it is about; SetupError if that fails."""
    lines = [f"{adoption.uid} {adoption.job_id} {','.join(adoption.environment)}".rstrip()]
    lines += [f"{controller}:{path}" for controller, path in adoption.paths.items()]
    started = adoption.started or start_time(adoption.pid)
    _leave(adoption.pid, started, "\n".join(lines), top)


def leave_choice(choice: Choice, pid: int, top: str = TOP) -> None:
    """Write down the choice of a job for a process; SetupError if that fails."""
    _leave(pid, start_time(pid), f"{CHOSEN} {choice.uid} {choice.job_id}", top)


def _leave(pid: int, started: int, text: str, top: str) -> None:
    if not started:
        raise SetupError(f"process {pid} has ended")
    data = text.encode("utf-8", "surrogateescape")
    try:
        directory = opened(NAME, 0o700, 0o077, top)
        try:
            _sweep(directory)
            _write(directory, f"{pid}-{started}", data)
        finally:
            os.close(directory)
    except OSError as error:
        raise SetupError(f"cannot write {top}/{NAME}: {error.strerror}") from None


def take(pid: int, uid: int, top: str = TOP) -> Adoption | Choice | None:
    """Return what was left for a process, once; None if there is nothing.

    Of the variables it has the names alone.
    """
    started = start_time(pid)
    name = f"{pid}-{started}"
    try:
        directory = os.open(f"{top}/{NAME}", DIRECTORY)
    except OSError:
        return None
    try:
        check(directory, 0o077)
        data = _read(directory, name)
        os.unlink(name, dir_fd=directory)
    except OSError:
        return None
    finally:
        os.close(directory)
    return _parse(data, uid, pid, started if pid != os.getpid() else 0)


def _write(directory: int, name: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        if os.write(descriptor, data) != len(data):
            from errno import ENOSPC

            raise OSError(ENOSPC, "no space left")
    finally:
        os.close(descriptor)


def _read(directory: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(descriptor, LIMIT)
    finally:
        os.close(descriptor)


def _sweep(directory: int) -> None:
    """Take away what was left for processes that are gone; other logins may do so as well."""
    for name in os.listdir(directory):
        pid, _, started = name.partition("-")
        # It may be a user's for a moment; a user's for good has been given the pid since.
        root = pid.isdecimal() and is_root_still(f"/proc/{pid}")
        if not root or str(start_time(int(pid))) != started:
            try:
                os.unlink(name, dir_fd=directory)
            except FileNotFoundError:
                continue


def _parse(data: bytes, uid: int, pid: int, started: int) -> Adoption | Choice | None:
    """Read what was written; None if it is not whole, or about another user."""
    first, *lines = data.decode("utf-8", "surrogateescape").split("\n")
    words = first.split(" ")
    if words[0] == CHOSEN:
        chosen = id_of(words[2]) if len(words) == 3 and words[1] == str(uid) else None
        if chosen is None or lines:
            return None
        return Choice(chosen, uid, "chosen by the account phase")
    names = words[2].split(",") if len(words) == 3 else []
    job_id = id_of(words[1]) if len(words) in (2, 3) and words[0] == str(uid) else None
    if job_id is None or not all(map(str.isidentifier, names)):
        return None
    paths = dict(line.partition(":")[::2] for line in lines)
    return Adoption(pid, uid, job_id, started).proven(paths, dict.fromkeys(names, ""))
