"""One running machine: qemu without KVM, and commands in it over one ssh connection."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.harness.host import ENVIRONMENT, HostTimeoutError, end
from tests.cluster.harness.root import cache_dir
from tests.cluster.harness.wait import wait_for
from tests.fakes.background import Background
from tests.vm.image import ADDRESS, CONTROL_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.vm.image import Image
    from tests.vm.payload import Payload

BOOT = 600  # seconds; 20 to 70 on an idle machine
CONNECT = 60  # seconds for one try to connect to a machine that boots
COMMAND = 120  # seconds for a command, if nothing else is said

# No KVM: pure emulation. With cx16 and la57 one boot in some panicked.
CPU = "max,-cx16,-la57"
KERNEL = "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off loglevel=4"
NO_AUDIT = "audit=0"


class BootError(Exception):
    """The machine did not come up; the message has the end of its console."""


class Machine(Background):
    """A machine; `with Machine(…) as machine:` boots it and ends it."""

    def __init__(
        self,
        name: str,
        image: Image,
        payload: Payload,
        memory: int = 2048,
        kernel: str = NO_AUDIT,
    ) -> None:
        """Describe a machine; `memory` in MiB. Nothing happens before it is entered.

        `kernel`: more of the kernel's command line.
        """
        self.name = name
        self.image = image
        self.payload = payload
        self.memory = memory
        self.kernel = kernel
        self._qemu: subprocess.Popen[bytes] | None = None
        self._link: subprocess.Popen[bytes] | None = None
        self._directory = Path()

    def start(self) -> None:
        """Boot."""
        self.boot()

    # Its life

    def boot(self) -> None:
        """Start it and return when commands can be run."""
        cache_dir().mkdir(parents=True, exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(prefix="slurm_adopt-vm-"))
        try:
            self._boot()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Switch it off, as by its plug; nothing of it is left."""
        for process in (self._link, self._qemu):
            if process and process.poll() is None:
                process.kill()
                process.wait(30)
        if self._directory != Path():
            shutil.rmtree(self._directory, ignore_errors=True)

    def _boot(self) -> None:
        key = self._directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.payload.texts["payload/control.pub"] = key.with_suffix(".pub").read_text()
        self.payload.write(self._directory / "payload.tar")
        port = _free_port()
        self._qemu = subprocess.Popen(
            [*_prefix(), *self._command(port)],
            stdin=subprocess.DEVNULL,
            stderr=(self._directory / "qemu.log").open("wb"),
            env={**os.environ, "TMPDIR": str(cache_dir())},  # what it writes may be large
            start_new_session=True,
        )
        self._connect(port)

    def _command(self, port: int) -> list[str]:
        """Return qemu's command line: no device that is not needed, no network but the port."""
        drive = "if=virtio,format=raw,file="
        return [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot",
            "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", "2", "-m", str(self.memory),
            "-display", "none", "-serial", f"file:{self.console}",
            "-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd),
            "-append", f"{KERNEL} {self.kernel}",
            "-drive", f"{drive}{self.image.disk},snapshot=on",
            "-drive", f"{drive}{self._directory / 'payload.tar'},readonly=on",
            "-netdev",
            f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-{ADDRESS}:{CONTROL_PORT}",
            "-device", "virtio-net-pci,netdev=net,romfile=",
            "-device", "virtio-rng-pci",
        ]  # fmt: skip

    def _connect(self, port: int) -> None:
        """Open the connection that every command uses, once its sshd answers."""
        deadline = time.monotonic() + BOOT
        while time.monotonic() < deadline:
            if self._link is None or self._link.poll() is not None:
                self._link = self._open(port)
            if self._qemu and self._qemu.poll() is not None:
                raise BootError(f"qemu ended: {(self._directory / 'qemu.log').read_text()}")
            if self._control.is_socket():
                return
            time.sleep(0.5)
        raise BootError(f"{self.name}: not up within {BOOT} s\n{self.console_tail()}")

    def _open(self, port: int) -> subprocess.Popen[bytes]:
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                   "-o", f"ConnectTimeout={CONNECT}", "-o", "BatchMode=yes",
                   "-o", "ServerAliveInterval=20", "-o", "ServerAliveCountMax=9"]  # fmt: skip
        key = str(self._directory / "key")
        return subprocess.Popen(
            ["ssh", "-F", "none", "-MNS", str(self._control), "-i", key, "-p", str(port),
             *options, "root@127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self._directory / "ssh.log").open("ab"),
            start_new_session=True,
        )  # fmt: skip

    @property
    def _control(self) -> Path:
        return self._directory / "link"

    @property
    def console(self) -> Path:
        """The file with what the machine says on its serial console."""
        return self._directory / "console"

    def console_tail(self, lines: int = 30) -> str:
        """Return the end of what the machine said on its console."""
        text = self.console.read_text(errors="backslashreplace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # Commands

    def popen(
        self,
        argv: Sequence[str],
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a command in the machine; it loses its input and output with `end`."""
        if user:
            argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups",
                    "--reset-env", *argv]  # fmt: skip
        words = ["env", *(f"{k}={v}" for k, v in (env or {}).items()), *argv]
        return subprocess.Popen(
            ["ssh", "-F", "none", "-S", str(self._control), "-T", "-o", "BatchMode=yes",
             "root@127.0.0.1", shlex.join(words)],
            env=ENVIRONMENT,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
            **options,
        )  # fmt: skip

    def run(
        self,
        argv: Sequence[str],
        user: str | None = None,
        input: str | None = None,  # noqa: A002 - as subprocess.run names it
        timeout: float = COMMAND,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine; return its status and output."""
        process = self.popen(
            ["timeout", "-k", "5", str(timeout), *argv],
            user,
            env,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(input, timeout + 15)
        except subprocess.TimeoutExpired:
            end(process)
            out, err = process.communicate()
            said = f"{self.name}: {shlex.join(argv)}: not within {timeout:g} s\n{out}{err}"
            raise HostTimeoutError(said) from None
        finally:
            end(process)
        done = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check and done.returncode:
            raise RuntimeError(
                f"{self.name}: {shlex.join(argv)}: status {done.returncode}\n{out}{err}"
            )
        return done

    def sh(self, script: str, *words: str, user: str | None = None, check: bool = True) -> str:
        """Run a shell script in the machine; return what it prints."""
        return self.run(["sh", "-c", script, "sh", *words], user, check=check).stdout

    # Files and processes

    def read(self, path: str) -> str:
        """Return the text of one of its files."""
        return self.run(["cat", "/" + path.lstrip("/")]).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write one of its files; the directories above it are made."""
        script = 'mkdir -p "$(dirname "$1")"; cat >"$1"; chmod "$2" "$1"'
        file = "/" + path.lstrip("/")
        self.run(["sh", "-ec", script, "sh", file, f"{mode:o}"], input=text)

    def alive(self, pid: int) -> bool:
        """Say whether a pid is a running process (a zombie is not)."""
        said = self.run(["cat", f"/proc/{pid}/stat"], check=False).stdout
        return bool(said) and said.rpartition(")")[2].split()[0] not in "ZX"

    def cgroup(self, pid: int) -> str:
        """Return a process's cgroup in the unified hierarchy."""
        (line,) = self.read(f"proc/{pid}/cgroup").splitlines()
        return line.removeprefix("0::")

    # The log

    def mark(self) -> str:
        """Return the present end of the journal."""
        said = self.sh("journalctl --sync; journalctl -n 0 --show-cursor -q")
        return said.partition("-- cursor: ")[2].strip()

    def log(self, since: str) -> list[str]:
        """Return the journal's messages after a mark."""
        script = 'journalctl --sync; journalctl -q -o cat --after-cursor "$1"'
        return self.sh(script, since, check=False).splitlines()

    def wait_for(
        self, what: str, script: str, details: Callable[[], str] = lambda: "", timeout: float = 120
    ) -> str:
        """Return what a shell script prints, once it prints something."""
        probe = lambda: self.sh(script, check=False).strip()  # noqa: E731
        return wait_for(f"{self.name}: {what}", probe, timeout, details, every=0.2)


def _prefix() -> list[str]:
    """Return what runs in front of qemu: others go first, and it never outlives this process."""
    return ["nice", "-n", "10", "setpriv", "--pdeathsig", "KILL"]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
