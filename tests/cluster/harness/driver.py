"""Calls of PAM inside a host, without sshd: the exact return code, and all that comes with it."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.cluster.harness import pam
from tests.cluster.harness.host import Host, end
from tests.cluster.harness.wait import wait_for
from tests.fakes.background import Background

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SCRIPT = "/checkout/tests/cluster/inside/pam_driver.py"
PORT = 5022
SERVICE = "sshd"
CALL = "acct_mgmt"
PHASES = {  # function of PAM -> type of the lines that it runs
    "authenticate": "auth",
    "setcred": "auth",
    "acct_mgmt": "account",
    "chauthtok": "password",
    "open_session": "session",
    "close_session": "session",
}

CODES = {  # <security/_pam_types.h>
    0: "PAM_SUCCESS",
    3: "PAM_SERVICE_ERR",
    4: "PAM_SYSTEM_ERR",
    6: "PAM_PERM_DENIED",
    10: "PAM_USER_UNKNOWN",
    14: "PAM_SESSION_ERR",
    19: "PAM_CONV_ERR",
    26: "PAM_ABORT",
    28: "PAM_MODULE_UNKNOWN",
}
WORDS = {  # pam_strerror(3), which is what pamtester prints
    "PAM_PERM_DENIED": "Permission denied",
    "PAM_SYSTEM_ERR": "System error",
    "PAM_USER_UNKNOWN": "User not known to the underlying authentication module",
    "PAM_SESSION_ERR": "Cannot make/remove an entry for the specified session",
    "PAM_IGNORE": "Authentication failure",  # as pam.revealing() has it
}
PAM_SILENT = 0x8000

# What pamtester does not show: pam_exec hands it PAM's environment, and is where it is. Its lines
# come to pamtester as messages to the user.
SEEN = "seen "
LOOK = "/usr/local/sbin/pam-look"
LOOKING = f"""\
#!/bin/sh
exec 2>/dev/null
env | sed 's/^/{SEEN}variable /'
sed 's/^/{SEEN}cgroup /' /proc/$$/cgroup
echo "{SEEN}namespace $(readlink /proc/$$/ns/mnt)"
"""
NOT_OURS = ("PAM_", "SSH_CONNECTION=", "PWD=")  # pam_exec's, what was there before, the shell's

# Connects to a port of a host, from wherever it is run, and stays: `python3 -c HOLD HOST PORT`.
HOLD = """\
import socket, sys, time
held = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
time.sleep(600)
"""


@dataclass(frozen=True)
class Answer:
    """What came of a call of PAM."""

    code: str  # that the module returned; "" if it did not return
    said: tuple[str, ...]  # to the user
    environment: dict[str, str]  # PAM's, without what was there before
    cgroups: dict[str, str]  # of the process, by controller
    namespace: str  # that it has its mounts in, as its /proc/PID/ns/mnt shows it
    ended: str  # how the process ended, if not as it should
    cpus: str = ""  # that it may use then, with commas between
    log: list[str] = field(default_factory=list)  # the process's lines in the syslog


@dataclass(frozen=True)
class Tested:
    """What pamtester shows."""

    status: int
    printed: str
    environment: dict[str, str]  # PAM's
    cgroups: dict[str, str]
    namespace: str


class Driver(Background):
    """Makes calls in a host; `with Driver(host) as driver:`."""

    def __init__(self, host: Host) -> None:
        """Start what makes them."""
        self.host = host
        self._numbers = itertools.count()
        self._process = host.popen(
            ["python3", "-IS", SCRIPT, str(PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        host.write(LOOK, LOOKING, 0o755)
        wait_for("the PAM driver", lambda: PORT in host.listening(), 30)

    def end(self) -> None:
        """End it."""
        end(self._process)

    def call(self, line: str, user: str | None, call: str = CALL, **request: Any) -> Answer:
        """Have PAM call the module of one line of a stack; see pam_driver.py for the request."""
        what = {"service": SERVICE, "call": call, **request}
        self.host.pam(what["service"], pam.revealing(line, PHASES[call]))
        mark = self.host.mark()
        answer = self._ask({**what, "user": user})
        known = {"SSH_CONNECTION", *request.get("environment", {})}
        environment = answer.get("environment", {})
        return Answer(
            code=_code(answer["code"], call, line) if "code" in answer else "",
            said=tuple(words for _, words in answer.get("said", ())),
            environment={n: value for n, value in environment.items() if n not in known},
            cgroups=cgroups(answer.get("cgroups", "")),
            namespace=answer.get("namespace", ""),
            ended=answer["ended"],
            cpus=",".join(map(str, answer.get("cpus", ()))),
            log=[line for line in self.log(mark) if f"[{answer['pid']}]" in line],
        )

    def pamtester(self, line: str, user: str, **request: Any) -> Tested:
        """Do the same by pamtester for the account phase; pam_exec looks around after the module.

        The result is as pam.revealing() has it.
        """
        module = line.removeprefix("account required ")
        self.host.pam(
            SERVICE,
            [
                f"account [success=1 ignore=ignore default=bad] {module}",
                "account required pam_deny.so",
                f"account optional pam_exec.so quiet stdout {LOOK}",
            ],
        )
        what = {"service": SERVICE, "user": user, "pamtester": CALL, **request}
        answer = self._ask(what)
        lines = answer["output"].splitlines()
        variables = _seen(lines, "variable")
        return Tested(
            status=answer["status"],
            printed="\n".join(one for one in lines if not one.startswith(SEEN)),
            environment=dict(
                word.split("=", 1) for word in variables if not word.startswith(NOT_OURS)
            ),
            cgroups=cgroups("\n".join(_seen(lines, "cgroup"))),
            namespace="".join(_seen(lines, "namespace")),
        )

    @contextlib.contextmanager
    def connection(
        self, source: Host, user: str | None = None, prefix: Sequence[str] = (), target: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Have all calls inherit a TCP connection that a process on another host holds.

        `prefix`: a command in front of that process's own; `target`: what it calls this host, if
        not by its name. Yields what sshd would say about it.
        """
        holder = source.popen(
            [*prefix, "python3", "-c", HOLD, target or self.host.name, str(PORT)],
            user,
            stdin=subprocess.DEVNULL,
        )
        try:
            ends = self._ask({"accept": True})["connection"]
            yield {"items": {"rhost": ends[0]}, "environment": {"SSH_CONNECTION": _words(ends)}}
        finally:
            self._ask({"hang_up": True})
            end(holder)

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def log(self, mark: int) -> list[str]:
        """Return the syslog's lines after a mark, up to now: all that was sent has come."""
        last = f"end {next(self._numbers)} of what was asked for"
        self._ask({"log": last})

        def lines() -> list[str]:
            found = self.host.log(mark)
            return found if found and any(line.endswith(last) for line in found) else []

        return wait_for(last, lines, 30, every=0.002)


def _seen(lines: list[str], what: str) -> list[str]:
    """Return what LOOKING says of one thing."""
    prefix = f"{SEEN}{what} "
    return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]


def _words(ends: Sequence[object]) -> str:
    return " ".join(map(str, ends))


def _code(number: int, call: str, line: str) -> str:
    """Return the module's code: for PAM_IGNORE the line after it has answered."""
    ignored = None if pam.never_ignores(line) else pam.IGNORED.get(PHASES[call], 0)
    return "PAM_IGNORE" if number == ignored else CODES.get(number, str(number))


def cgroups(text: str) -> dict[str, str]:
    """Read a /proc/PID/cgroup: path by controller."""
    fields = (line.split(":", 2) for line in text.splitlines())
    return {name: path for _, names, path in fields for name in names.split(",")}
