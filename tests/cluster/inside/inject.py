"""Logins inside a host in which a system call fails, many beside each other.

`python3 inject.py WORKERS [PORT]` takes a connection to PORT, which each login by pamtester has
then. It reads a case on each line of standard input and answers each with a line, in the order in
which they end. Both are JSON:

    {"id": 7, "front": "pam_python", "phase": "account", "program": "/usr/sbin/pamtester",
     "user": "alice", "calls": ["acct_mgmt", "open_session"],
     "strace": ["-e", "trace=openat", "-e", "inject=openat:error=EIO:when=9"], "seconds": 90,
     "record": false, "remove": ""}

For pam_python strace starts pamtester; for pam_exec it starts the interpreter of the script that
pam_exec runs in `phase`. strace is a grandchild there (-D): the traced process is who it would be.

With an sshd of its own as the program it is the same with that, and a client's shell that stays.

pamtester's last call is one more, `authenticate`: its question for the password keeps the process
where it is until its cgroups are read here, outside of what is traced. Nothing but the standard
library.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Case = dict[str, Any]
Popen = subprocess.Popen[bytes]

FOLDER = Path("/run/inject")
SSHD = "/usr/sbin/sshd"
SSH = ["-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oLogLevel=ERROR"]
SHELL = "echo at $$; read end"  # what a session of sshd's does
AT = re.compile(rb"^at (\d+)$", re.MULTILINE)
PROMPT = b"Password: "  # of pamtester
DONE = {"acct_mgmt": "account management done.", "open_session": "successfully opened a session"}
STRACE = ["/usr/bin/strace", "-D", "-f", "-y"]
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
LAST = re.compile(r"\d+ +\+\+\+ ")  # the process has ended
ELSEWHERE = "10.78.0.4"  # where a login comes from that has no connection
CONNECTION: list[socket.socket] = []  # the one that each login by pamtester has, if there is one
NOTHING: Case = {"cgroups": "", "threads": 1, "children": [], "descriptors": []}


def play(case: Case) -> Case:
    """Play one case; return what became of it."""
    if case["remove"]:
        shutil.rmtree(case["remove"], ignore_errors=True)
    login = by_sshd if case["program"] == SSHD else by_pamtester
    with contextlib.ExitStack() as going:
        process, asks = login(case, going)
        assert asks.stdin
        assert asks.stdout
        source, began = asks.stdout.fileno(), time.monotonic()
        said, waits = listen(source, began + case["seconds"])
        seconds = time.monotonic() - began
        found = look(process.pid, said) if waits else dict(NOTHING)
        asks.stdin.close()
        said += listen(source, time.monotonic() + 30)[0]
        status = ended(process)
        text = traced(case, process.pid)
    words = said.decode(errors="backslashreplace")
    done = [call for call in case["calls"] if DONE[call] in words]
    return {
        "id": case["id"],
        "pid": process.pid,
        "status": status,
        "said": words,
        "done": case["calls"] if case["program"] == SSHD and waits else done,
        "seconds": round(seconds, 3),
        **found,
        "trace": text if case["record"] else "",
        "hit": [line for line in text.splitlines() if "(INJECTED)" in line or "(DELAYED)" in line],
        "killed": WRONG.findall(text),
    }


def by_pamtester(case: Case, going: contextlib.ExitStack) -> tuple[Popen, Popen]:
    """Start pamtester: it calls PAM, and asks."""
    del going
    source = CONNECTION[0].getpeername()[0] if CONNECTION else ELSEWHERE
    argv = [
        case["program"],
        f"-Irhost={source}",
        "sshd",
        case["user"],
        *case["calls"],
        "authenticate",
    ]
    process = subprocess.Popen(
        in_strace(case, argv),
        pass_fds=[one.fileno() for one in CONNECTION],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
    )
    return process, process


def by_sshd(case: Case, going: contextlib.ExitStack) -> tuple[Popen, Popen]:
    """Have ssh log in to an sshd of its own: that calls PAM, and the session's shell asks."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        key = (
            f"/{case['user'] if case['user'] == 'root' else 'home/' + case['user']}/.ssh/id_ed25519"
        )
        client = subprocess.Popen(
            ["ssh", "-p", port, "-i", key, *SSH, f"{case['user']}@127.0.0.1", SHELL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        going.callback(ended, client)
        connection, _ = server.accept()
    with connection:
        process = subprocess.Popen(
            in_strace(case, [SSHD, "-i"]),
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    return process, client


def in_strace(case: Case, argv: list[str]) -> list[str]:
    """Return the command that runs what calls PAM, with strace where the case wants it."""
    words = [*STRACE, *([] if case["record"] else QUICK), *case["strace"]]
    if case["front"] == "pam_python":
        return [*words, "-o", str(FOLDER / f"case{case['id']}.trace"), *argv]
    kind = {"account": "account", "session": "open_session"}[case["phase"]]
    return ["sh", "-c", 'echo "$0" >/run/inject/$$; exec "$@"', " ".join([kind, *words]), *argv]


def traced(case: Case, pid: int) -> str:
    """Return what strace has written, once it has ended; the files are gone then."""
    by_case = FOLDER / f"case{case['id']}.trace"
    trace = by_case if case["front"] == "pam_python" else FOLDER / f"{pid}.trace"
    end = time.monotonic() + 5
    text = ""
    while trace.exists() and time.monotonic() < end:
        text = trace.read_text(errors="backslashreplace")
        if LAST.match(text.rpartition("\n")[0].rpartition("\n")[2]):
            break
        time.sleep(0.005)
    for file in (trace, FOLDER / str(pid)):
        file.unlink(missing_ok=True)
    return text


def listen(source: int, end: float) -> tuple[bytes, bool]:
    """Read to the end of a pipe, or to the question for the password; say which of the two."""
    said = b""
    while select.select([source], [], [], max(0.0, end - time.monotonic()))[0]:
        piece = os.read(source, 1 << 16)
        said += piece
        if PROMPT in said or AT.search(said):
            return said, True
        if not piece:
            return said, False
    return said, False


def look(pid: int, said: bytes) -> Case:
    """Return what the kernel says of a process that has been let in: sshd's is the shell's."""
    shell = AT.search(said)
    children = Path(f"/proc/{pid}/task/{pid}/children")
    end = time.monotonic() + LEFT
    while (left := [] if shell else children.read_text().split()) and time.monotonic() < end:
        time.sleep(0.01)
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        "cgroups": Path(f"/proc/{shell[1].decode() if shell else pid}/cgroup").read_text(),
        "threads": int(status.partition("Threads:")[2].split()[0]),
        "children": left,
        "descriptors": sorted(map(target, Path(f"/proc/{pid}/fd").iterdir())),
    }


def target(descriptor: Path) -> str:
    """Return what a descriptor is for, without the number of a pipe or socket."""
    return re.sub(r":\[\d+\]$", "", str(descriptor.readlink()))


def ended(process: Popen) -> int | None:
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
    if sys.argv[2:]:
        with socket.create_server(("", int(sys.argv[2]))) as server:
            CONNECTION.append(server.accept()[0])

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
