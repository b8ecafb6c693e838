"""What repeats where milliseconds do not: instructions, system calls, bytes, files, connections.

valgrind's callgrind counts the instructions, of all processes that a login starts. strace sees the
calls. Both are children's parents in the logins that they look at, as sshd is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.cluster.harness.host import Host

OUT = "/run/counts"
# What glibc chooses by the CPU it runs on would make hosts differ.
UNLIKE = ("AVX2", "AVX2_Usable", "AVX_Fast_Unaligned_Load", "ERMS")
SAME_EVERYWHERE = "GLIBC_TUNABLES=glibc.cpu.hwcaps=" + ",".join(f"-{one}" for one in UNLIKE)

READING = {"read", "pread64", "readv", "recvfrom", "recvmsg"}
OPENING = {"open", "openat", "openat2"}
TOOLS = ("valgrind", "strace")
NUMBERS = ("instructions", "calls", "bytes", "files", "connections")


def under_valgrind(name: str, command: Sequence[str]) -> list[str]:
    """Return what counts the instructions of a command, into files of this name."""
    out = f"--callgrind-out-file={OUT}/{name}.valgrind.%p"
    how = ["-q", "--tool=callgrind", out, "--trace-children=yes"]
    return ["/usr/bin/env", SAME_EVERYWHERE, "/usr/bin/valgrind", *how, *command]


def under_strace(name: str, command: Sequence[str]) -> list[str]:
    """Return what writes the system calls of a command into a file of this name."""
    return ["/usr/bin/strace", "-f", "-qq", "-s", "0", "-o", f"{OUT}/{name}.strace", *command]


def empty(node: Host) -> None:
    """Remove what was counted before."""
    node.run(["sh", "-c", f"rm -rf {OUT}; mkdir {OUT}"])


def instructions(node: Host, name: str) -> int:
    """Return the instructions of all processes of a command."""
    return sum(total(path.read_text()) for path in _files(node, f"{name}.valgrind.*"))


def total(text: str) -> int:
    """Return what one process has executed, from callgrind's file."""
    return sum(map(int, re.findall(r"^totals: (\d+)", text, re.MULTILINE)))


def calls(node: Host, name: str) -> dict[str, int]:
    """Return the numbers of calls, bytes that were read, files and connections."""
    (path,) = _files(node, f"{name}.strace")
    return counted(path.read_text(errors="replace").splitlines())


def _files(node: Host, pattern: str) -> list[Path]:
    found = list((node.root / OUT.lstrip("/")).glob(pattern))
    if not found:
        raise RuntimeError(f"nothing was counted as {pattern}")
    return found


LINE = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>).* = (-?\d+|0x[0-9a-f]+|\?)(?: |$)")
FAILED = re.compile(r" = -1 (\w+)")


def counted(lines: Iterable[str]) -> dict[str, int]:
    """Return the same, from what strace has written with -f."""
    found = dict.fromkeys(NUMBERS[1:], 0)
    for line in lines:
        call = LINE.match(line)
        if not call:
            continue  # a signal, an end, or the first half of a call
        name, said = call.groups()
        found["calls"] += 1
        worked = said.isdecimal()
        failure = FAILED.search(line)
        if name in READING and worked:
            found["bytes"] += int(said)
        found["files"] += name in OPENING and worked
        begun = worked or (failure is not None and failure[1] == "EINPROGRESS")
        found["connections"] += name == "connect" and begun
    return found
