"""A FUSE file system with one file, in which closing never ends: `fuse.py DIRECTORY`.

Prints a line when it is mounted, and one for each process that waits in close(2). All ends with
this program. With a second word nothing is answered but the mount. The numbers are those of
linux/fuse.h.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from typing import Callable

LOOKUP, FORGET, GETATTR, OPEN, FLUSH, INIT, OPENDIR = 1, 2, 3, 14, 25, 26, 27
SILENT = (FORGET, FLUSH, 36, 42)  # also INTERRUPT and BATCH_FORGET, which want no answer
ENOSYS = 38
DIRECTORY, FILE = 1, 2  # inodes


def attributes(inode: int) -> bytes:
    mode = stat.S_IFDIR | 0o777 if inode == DIRECTORY else stat.S_IFREG | 0o666
    return struct.pack("<6Q10I", inode, *[0] * 5, *[0] * 3, mode, 1, 0, 0, 0, 4096, 0)


def init(_: int) -> bytes:
    return struct.pack("<4I2H2I2HI", 7, 31, 1 << 16, 0, 12, 9, 1 << 16, 1, 16, 0, 0) + bytes(28)


ANSWERS: dict[int, Callable[[int], bytes]] = {
    INIT: init,
    LOOKUP: lambda _: struct.pack("<4Q2I", FILE, 0, 3600, 3600, 0, 0) + attributes(FILE),
    GETATTR: lambda inode: struct.pack("<Q2I", 3600, 0, 0) + attributes(inode),
    OPEN: lambda _: struct.pack("<Q2I", 1, 0, 0),
    OPENDIR: lambda _: struct.pack("<Q2I", 1, 0, 0),
}


def mount(directory: str) -> int:
    """Mount; return the descriptor of the kernel's questions."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"fuse", directory.encode(), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), "mount")
    return device


def main() -> None:
    device = mount(sys.argv[1])
    print("mounted", flush=True)
    while True:
        question = os.read(device, 1 << 17)
        _, what, number, inode = struct.unpack("<IIQQ", question[:24])
        if what == FLUSH:
            print("closing", flush=True)
        if what not in SILENT and (what == INIT or len(sys.argv) < 3):
            answer = ANSWERS[what](inode) if what in ANSWERS else b""
            error = 0 if what in ANSWERS else -ENOSYS
            os.write(device, struct.pack("<IiQ", 16 + len(answer), error, number) + answer)


if __name__ == "__main__":
    main()
