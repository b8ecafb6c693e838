"""What `./dev soak` runs inside the hosts: logins one after the other; a look at the node.

    python3 soak.py clients
    python3 soak.py look

`clients` reads a line of JSON for each login: `argv`; `env`, to be added; `limit`, seconds after
which it is killed. It answers each with a line: `begin` and `end` by CLOCK_MONOTONIC, which all
hosts share, `status` (null: killed), `out`, `err`. A look prints what logins could leave behind.
Run by the hosts' own Python, with the standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

PROC = Path("/proc")
KEPT = 2000  # characters of what a client has said
USERS = 1000  # the first uid of users


def clients() -> None:
    """Log in as often as told to, until the standard input ends."""
    for line in sys.stdin:
        print(json.dumps(_login(**json.loads(line))), flush=True)


def _login(argv: list[str], env: dict[str, str], limit: float) -> dict[str, Any]:
    begin, status = time.monotonic(), None
    with subprocess.Popen(
        argv,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            out, err = process.communicate(timeout=limit)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
    said = [text.decode(errors="replace") for text in (out, err)]
    return {
        "begin": begin,
        "end": time.monotonic(),
        "status": status,
        "out": said[0][:KEPT],
        "err": said[1][-KEPT:],
    }


def look() -> dict[str, Any]:
    """Return what is there: of the listening sshd, and of the node."""
    listener = int(Path("/run/sshd.daemon").read_text())
    cgroups = [f"{at}/{one}" for at, dirs, _ in os.walk("/sys/fs/cgroup") for one in dirs]
    return {
        "descriptors": len(os.listdir(f"/proc/{listener}/fd")),
        "threads": len(os.listdir(f"/proc/{listener}/task")),
        "rss_kb": _memory(listener, "Rss"),
        "private_kb": _memory(listener, "Private_Dirty"),
        "run": sum(len(files) + len(dirs) for _, dirs, files in os.walk("/run/slurm_adopt")),
        "cgroups": len(cgroups),
        "cgroup_names": cgroups,
        "stray_sockets": sum(map(_is_stray, Path("/var/spool/slurmd").glob("*_*.*"))),
        "temporary": len(os.listdir("/tmp")) + len(os.listdir("/var/tmp")),
        **_processes(),
    }


def _memory(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _is_stray(path: Path) -> bool:
    """Say whether nobody listens on a stepd's socket."""
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(str(path))
        return False
    return True


def _processes() -> dict[str, Any]:
    """Return how many there are, and the names of users' and of sessions' sshds."""
    names: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for path in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(path.name) == os.getpid():
                continue
            name = (path / "comm").read_text().strip()
            title = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            session = title.startswith("sshd: ") and "[listener]" not in title
            names[name] += 1
            if path.stat().st_uid >= USERS or session:
                left[title or name] += 1
    return {"processes": sum(names.values()), "left": dict(left)}


if __name__ == "__main__":
    if sys.argv[1] == "clients":
        clients()
    else:
        print(json.dumps(look()))
