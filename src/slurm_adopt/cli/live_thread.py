"""Processes whose first thread has ended while others run: a user can make any process so.

/proc/PID/status calls it a zombie then, and its cgroups of v1 are / (kernel/cgroup/cgroup.c,
proc_cgroup_show). What it is shows in the directories of the other threads.
"""

from __future__ import annotations

from slurm_adopt.slurm.proc import listing, read


def has_ended(status: bytes) -> bool:
    """Say whether a thread has ended, by the text of its `status`."""
    return _field(status, b"State")[:1] in (b"Z", b"X")


def place(process: str, status: bytes) -> str:
    """Return the directory to look at for a process that has this `status`: that of a live thread.

    It is the process's own unless only its first thread has ended.
    """
    if has_ended(status) and _field(status, b"Threads") not in (b"", b"0", b"1"):
        for thread in listing(f"{process}/task"):
            found = f"{process}/task/{thread}"
            if (text := read(f"{found}/status")) and not has_ended(text):
                return found
    return process


def _field(status: bytes, name: bytes) -> bytes:
    return status.partition(b"\n" + name + b":")[2].partition(b"\n")[0].strip()
