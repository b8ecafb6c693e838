"""A fresh root folder of a Debian suite that commands run in: what they write ends with it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.harness.root import suite_root
from tests.cluster.harness.wait import PATIENCE, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from tests.cluster.harness.suites import Suite

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}

# The root's tree of mounts: $1 is the suite's folder, $2 an empty one for what is written.
MOUNTS = """\
mount -t tmpfs -o mode=755 slurm_adopt "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
cd "$2/root"
mkdir .old
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
pivot_root . .old
umount -l /.old
rmdir /.old
echo ready
exec sleep infinity
"""


class Root:
    """A suite's root folder in a mount and a pid namespace of its own, with the machine's network.

    The folder in the cache stays as it is: what is written here goes with the namespace.
    """

    mounts = MOUNTS

    def __init__(self, suite: Suite) -> None:
        """Nothing is mounted yet."""
        self.suite = suite
        self._scratch = tempfile.TemporaryDirectory(prefix="slurm_adopt-root-")
        self._holder: subprocess.Popen[str]
        self._init = 0  # its PID 1, as the machine sees it

    def __enter__(self) -> Self:
        """Mount it; the namespaces end with this process."""
        unshare = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork")
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *unshare, "--kill-child", "sh", "-ec", self.mounts,
             "sh", suite_root(self.suite), self._scratch.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self._holder.stdout
        if self._holder.stdout.readline() != "ready\n":
            self.__exit__(None, None, None)
            raise RuntimeError(f"the root of {self.suite.name} cannot be mounted")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self._init = int(children.read_text())
        self.write("etc/resolv.conf", Path("/etc/resolv.conf").read_text())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all that runs in it; its mounts go with the last process."""
        self._holder.kill()
        self._holder.wait()
        wait_for(
            "processes gone", lambda: not (self._init and Path(f"/proc/{self._init}").exists())
        )
        self._scratch.cleanup()

    @property
    def path(self) -> Path:
        """Where it is, as the machine's own processes reach it."""
        return Path(f"/proc/{self._init}/root")

    @property
    def root(self) -> Path:
        """The same, by the name that a host of a cluster has for it."""
        return self.path

    def read(self, path: str) -> str:
        """Return the text of one of its files."""
        return (self.path / path.lstrip("/")).read_text(errors="backslashreplace")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write one of its files; the directories above it are made."""
        file = self.path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def run(
        self,
        argv: Sequence[str],
        check: bool = True,
        timeout: float = 300,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it; both outputs are in `stdout`. Raise where it fails, with these."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._init), "--mount", "--pid", "--", *argv],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            timeout=timeout * PATIENCE,
            env={**ENVIRONMENT, **(env or {})},
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}")
        return done

    def sh(self, script: str, *arguments: str, check: bool = True) -> str:
        """Run a script of the shell in it; return what it prints on both outputs."""
        return self.run(["sh", "-ec", script, "sh", *arguments], check).stdout

    def files(self, *below: str) -> set[str]:
        """Return all that lies below these folders of it, or at these paths."""
        found = self.run(["find", *below, "-print0"], check=False).stdout.split("\0")
        return {name for name in found if name.startswith("/")}
