"""Logins by ssh: one command, or a session that stays."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tests.cluster.harness.host import end
from tests.cluster.harness.wait import PATIENCE, wait_for
from tests.fakes.background import Background

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SSH = ("ssh", "-T")
CONNECT = 20  # seconds
ASKPASS = "/usr/local/bin/askpass"
ANSWER = """\
#!/bin/sh
case $1 in
*second*) echo "second word of $LOGIN_AS" ;;
*) echo "password of $LOGIN_AS" ;;
esac
"""
METHODS = ("publickey", "password", "keyboard-interactive")


MARK = "--end of output--"


class Machine(Protocol):
    """What a login needs of the host that it starts from or ends on."""

    name: str

    def popen(
        self,
        argv: Sequence[str],
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a command in the host."""

    def run(
        self,
        argv: Sequence[str],
        user: str | None = None,
        input: str | None = None,  # noqa: A002 - as subprocess.run names it
        timeout: float = 30,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host; return its status and output."""

    def read(self, path: str) -> str:
        """Return the text of one of its files."""

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write one of its files."""

    def alive(self, pid: int) -> bool:
        """Say whether a pid of the host is a running process."""


class SessionEndedError(Exception):
    """The connection ended; the message is what ssh and the session said last."""


@dataclass(frozen=True)
class Result:
    """How a login went."""

    rc: int
    out: str
    err: str
    seconds: float


def ssh_argv(
    target: str, user: str, options: Sequence[str] = (), method: str = "publickey"
) -> list[str]:
    """Return ssh's command line up to the target; `options` go before ours."""
    ask = "no" if method == "publickey" else "yes"
    chosen = [f"PreferredAuthentications={method}", f"PasswordAuthentication={ask}",
              f"KbdInteractiveAuthentication={ask}", "NumberOfPasswordPrompts=1",
              f"ConnectTimeout={CONNECT * PATIENCE:.0f}"]  # fmt: skip
    return [*SSH, *options, *(word for o in chosen for word in ("-o", o)), f"{user}@{target}"]


def ssh(
    source: Machine,
    target: str,
    user: str,
    command: str,
    options: Sequence[str] = (),
    *,
    method: str = "publickey",
    input: str | None = None,  # noqa: A002 - as subprocess.run names it
    timeout: float = 30,
    as_user: str | None = None,
) -> Result:
    """Log in from one host to another as the same user (or from `as_user`'s account)."""
    started = time.monotonic()
    done = source.run(
        [*asking(source, user, method), *ssh_argv(target, user, options, method), command],
        as_user or user,
        input=input,
        timeout=timeout,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


def asking(source: Machine, user: str, method: str) -> list[str]:
    """Return the prefix that answers ssh's questions for the password and a second word."""
    if method == "publickey":
        return []
    source.write(ASKPASS, ANSWER, 0o755)
    return ["env", f"SSH_ASKPASS={ASKPASS}", "SSH_ASKPASS_REQUIRE=force", f"LOGIN_AS={user}"]


class Session(Background):
    """A login that stays: `pid` is its shell on the target, which takes commands."""

    def __init__(
        self,
        source: Machine,
        target_host: Machine,
        user: str,
        *,
        target: str | None = None,
        options: Sequence[str] = (),
        method: str = "publickey",
        timeout: float = 30,
    ) -> None:
        """Log in; raise SessionEndedError with what ssh said when that is refused."""
        self.host = target_host
        argv = ssh_argv(target or target_host.name, user, options, method)
        self.process = source.popen(
            [*asking(source, user, method), *argv, "exec sh 2>&1"],
            user,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.run("", timeout)
            self.pid = int(self.run("echo $$", timeout))
        except BaseException:
            self.close()
            raise

    def end(self) -> None:
        """Log out."""
        self.close()

    def _read(self) -> None:
        """Pass on the output line by line, then None."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def send(self, text: str) -> None:
        """Write to the session's shell."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # the output says why
            self.process.stdin.write(text)
            self.process.stdin.flush()

    def run(self, command: str, timeout: float = 30) -> str:
        """Run a command in the session's shell; return its output with the errors in it."""
        self.send(f"{command}\necho {MARK}\n")
        deadline = time.monotonic() + timeout * PATIENCE
        said: list[str] = []
        while True:
            try:
                line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"{command!r}: not within {timeout:g} s: {said}") from None
            if line is None:
                self.lines.put(None)
                raise SessionEndedError("".join(said))
            if line.endswith(MARK + "\n"):
                return "".join([*said, line.removesuffix(MARK + "\n")])
            said.append(line)

    def alive(self) -> bool:
        """Say whether the shell still runs on the target."""
        return self.host.alive(self.pid)

    def wait_gone(self, timeout: float = 15) -> None:
        """Return when the shell has gone from the target."""
        wait_for(f"session {self.pid} gone", lambda: not self.alive(), timeout)

    def close(self) -> None:
        """Break the connection."""
        end(self.process)
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):  # what nobody has read
                self.process.stdin.close()
