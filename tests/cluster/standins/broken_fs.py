"""A FUSE file system over a file or a directory that cannot be opened: `broken_fs PATH HOW`.

`HOW`: the number of an error that each opening ends with, or `silent`: none ends at all. Prints a
line when it is mounted. All that waits ends with this program. Run it as a module.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys

from tests.cluster.standins.fuse import ENOSYS, FORGET, GETATTR, INIT, LOOKUP, OPEN, OPENDIR, init

UNANSWERED = (FORGET, 36, 42)  # also INTERRUPT and BATCH_FORGET, which want no answer
OPENING = (OPEN, OPENDIR, LOOKUP)
READABLE = 0o666


def main(path: str, how: str) -> None:
    """Mount over the path and answer until killed."""
    kind = stat.S_IFMT(os.stat(path).st_mode)
    mode = kind | READABLE | (0o111 if stat.S_ISDIR(kind) else 0)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode={kind:o},user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"fuse", path.encode(), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), "mount")
    print("mounted", flush=True)
    attributes = struct.pack("<6Q10I", 1, *[0] * 5, *[0] * 3, mode, 1, 0, 0, 0, 4096, 0)
    known = {INIT: init(1), GETATTR: struct.pack("<Q2I", 3600, 0, 0) + attributes}
    while True:
        question = os.read(device, 1 << 17)
        _, what, number, _ = struct.unpack("<IIQQ", question[:24])
        if what in UNANSWERED or (what in OPENING and how == "silent"):
            continue
        answer = known.get(what, b"")
        error = 0 if answer else -(int(how) if what in OPENING else ENOSYS)
        os.write(device, struct.pack("<IiQ", 16 + len(answer), error, number) + answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
