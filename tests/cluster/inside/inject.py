"""Logins by pamtester inside a host in which a system call fails, many beside each other.

`python3 inject.py WORKERS` reads a case on each line of standard input and answers each with a
line, in the order in which they end. Both are JSON:

    {"id": 7, "front": "pam_python", "phase": "account", "program": "/usr/sbin/pamtester",
     "user": "alice", "calls": ["acct_mgmt", "open_session"], "items": {"rhost": "10.78.0.4"},
     "strace": ["-e", "trace=openat", "-e", "inject=openat:error=EIO:when=9"], "seconds": 90,
     "record": false}

For pam_python strace starts pamtester; for pam_exec it starts the interpreter of the script that
pam_exec runs in `phase`. strace is a grandchild there (-D): the traced process is who it would be.

pamtester's last call is one more, `authenticate`: its question for the password keeps the process
where it is until its cgroups are read here, outside of what is traced. Nothing but the standard
library.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Case = dict[str, Any]

FOLDER = Path("/run/inject")
PROMPT = b"Password: "
STRACE = ["/usr/bin/strace", "-D", "-f"]
QUICK = ["--seccomp-bpf"]  # the process is stopped only for the calls that are traced
# What pam_exec's script is run by. The file is there before pamtester is.
INTERPRETER = """\
#!/bin/sh
if read -r phase strace </run/inject/$PPID && [ "$PAM_TYPE" = "$phase" ]; then
    # shellcheck disable=SC2086 # a list of words
    exec /usr/bin/env -u PWD $strace -o /run/inject/$PPID.trace /usr/bin/python3 "$@"
fi
exec /usr/bin/env -u PWD /usr/bin/python3 "$@"
"""
LEFT = 1.0  # seconds that a child may take to end once its login is decided
WRONG = re.compile(r"\+\+\+ killed by (\w+)")


def play(case: Case) -> Case:
    """Play one case; return what became of it."""
    argv = [case["program"], *(f"-I{name}={value}" for name, value in case["items"].items())]
    argv += ["sshd", case["user"], *case["calls"], "authenticate"]
    words = [*STRACE, *([] if case["record"] else QUICK), *case["strace"]]
    if case["front"] == "pam_python":
        argv = [*words, "-o", str(FOLDER / f"case{case['id']}.trace"), *argv]
    else:
        kind = {"account": "account", "session": "open_session"}[case["phase"]]
        started = 'echo "$0" >/run/inject/$$; exec "$@"'
        argv = ["sh", "-c", started, " ".join([kind, *words]), *argv]
    began = time.monotonic()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    said, waits = listen(process.stdout.fileno(), began + case["seconds"])
    seconds = time.monotonic() - began
    found: Case = {"cgroups": "", "threads": 1, "children": [], "descriptors": []}
    if waits:
        found = look(process.pid)
        process.stdin.close()
        said += listen(process.stdout.fileno(), time.monotonic() + 30)[0]
    else:
        process.stdin.close()
    status = ended(process)
    trace = FOLDER / (
        f"case{case['id']}.trace" if case["front"] == "pam_python" else f"{process.pid}.trace"
    )
    text = trace.read_text(errors="backslashreplace") if trace.exists() else ""
    for file in (trace, FOLDER / str(process.pid)):
        file.unlink(missing_ok=True)
    return {
        "id": case["id"],
        "pid": process.pid,
        "status": status,
        "said": said.decode(errors="backslashreplace"),
        "seconds": round(seconds, 3),
        **found,
        "trace": text if case["record"] else "",
        "hit": [line for line in text.splitlines() if "(INJECTED)" in line or "(DELAYED)" in line],
        "killed": WRONG.findall(text),
    }


def listen(source: int, end: float) -> tuple[bytes, bool]:
    """Read to the end of a pipe, or to the question for the password; say which of the two."""
    said = b""
    while select.select([source], [], [], max(0.0, end - time.monotonic()))[0]:
        piece = os.read(source, 1 << 16)
        said += piece
        if PROMPT in said:
            return said, True
        if not piece:
            return said, False
    return said, False


def look(pid: int) -> Case:
    """Return what the kernel says of a process that has been let in."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    end = time.monotonic() + LEFT
    while (left := children.read_text().split()) and time.monotonic() < end:
        time.sleep(0.01)
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        "cgroups": Path(f"/proc/{pid}/cgroup").read_text(),
        "threads": int(status.partition("Threads:")[2].split()[0]),
        "children": left,
        "descriptors": sorted(map(target, Path(f"/proc/{pid}/fd").iterdir())),
    }


def target(descriptor: Path) -> str:
    """Return what a descriptor is for, without the number of a pipe or socket."""
    return re.sub(r":\[\d+\]$", "", str(descriptor.readlink()))


def ended(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit status; None if it had to be killed."""
    try:
        return process.wait(5)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return None


def main() -> None:
    """Answer until standard input ends."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    lock = threading.Lock()

    def answer(line: str) -> None:
        case = json.loads(line)
        try:
            found = play(case)
        except Exception as error:  # noqa: BLE001 - the case has failed, the others go on
            found = {"id": case["id"], "error": f"{error!r}"}
        with lock:
            print(json.dumps(found), flush=True)

    with ThreadPoolExecutor(int(sys.argv[1])) as pool:
        for line in sys.stdin:
            pool.submit(answer, line)


if __name__ == "__main__":
    main()
