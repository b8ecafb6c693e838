"""The hosts' root folder: a Debian suite with Slurm in it, built once and cached."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.suites import APT_CONF, BOOKWORM, Suite

__all__ = [
    "BuildError",
    "Suite",
    "cache_dir",
    "host_mirror",
    "locked",
    "root_path",
    "suite_root",
]

Report = Callable[[str], None]

DEFAULT_MIRROR = "http://deb.debian.org/debian"


class BuildError(Exception):
    """The root folder cannot be built; the message says which command failed."""


def cache_dir() -> Path:
    """Where built things are kept between runs."""
    return Path(os.environ.get("SLURM_ADOPT_CACHE") or "/var/cache/slurm_adopt")


def root_path(suite: Suite) -> Path:
    """Return where the suite's root folder is, or will be once it is built."""
    return cache_dir() / f"root-{suite.name}-{suite.key}"


def suite_root(suite: Suite = BOOKWORM, report: Report = print) -> Path:
    """Return the suite's root folder; build it if it is not in the cache."""
    done = root_path(suite)
    if done.is_dir():
        return done
    if suite.base:
        suite_root(suite.base, report)
    cache_dir().mkdir(parents=True, exist_ok=True)
    with locked(done.with_suffix(".lock")):
        if not done.is_dir():
            _build(suite, done, report)
    return done


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file: the second of two processes waits and finds the work done."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(suite: Suite, done: Path, report: Report) -> None:
    """Build beside the final place, then rename: what has the name is complete."""
    for stale in done.parent.glob(done.name + ".new-*"):
        shutil.rmtree(stale)
    new = done.with_name(f"{done.name}.new-{uuid.uuid4().hex[:8]}")
    log = done.with_suffix(".log")
    try:
        with log.open("w") as output:
            _fill(suite, new, _Runner(output.fileno(), report))
    except subprocess.CalledProcessError as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BuildError(f"{error.cmd}\nfailed; the end of {log}:\n{tail}") from error
    finally:
        if not (new / "complete").exists():
            shutil.rmtree(new, ignore_errors=True)
    (new / "complete").unlink()
    new.rename(done)


@dataclass
class _Runner:
    """Runs the commands of a build with their output in the log."""

    output: int
    report: Report

    def __call__(self, *argv: str) -> None:
        """Run a command; raise CalledProcessError when it fails. Nothing it started outlives it."""
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            start_new_session=True,
        )
        try:
            status = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if status:
            raise subprocess.CalledProcessError(status, argv)


def _fill(suite: Suite, new: Path, run: _Runner) -> None:
    """Debian's base, or a copy of what has it; then packages by apt inside it, none started."""
    packages = suite.more or suite.packages
    if suite.base:
        run("cp", "-a", str(root_path(suite.base)), str(new))
    else:
        run.report(f"Debian {suite.name}: base system")
        _debootstrap(suite, new, run)
    _configure_apt(new)
    run.report(f"Debian {suite.name}: {len(packages)} packages and what they need")
    # A private mount namespace: the mounts end with the command, whatever happens.
    inside = f"""
        mount -t proc proc {new}/proc
        mount --rbind /dev {new}/dev
        chroot {new} apt-get -q update
        chroot {new} apt-get -qy install "$@"
        chroot {new} apt-get clean
    """
    private = ("unshare", "--mount", "--propagation", "private", "sh", "-ec", inside, "sh")
    run(*private, *packages)
    for lists in (new / "var/lib/apt/lists").glob("*_*"):
        lists.unlink()
    (new / "etc/resolv.conf").write_text("")  # no name server: nothing ever waits for one
    (new / "complete").touch()


def _debootstrap(suite: Suite, new: Path, run: _Runner) -> None:
    mirror = suite.mirror or host_mirror()
    where = [mirror or DEFAULT_MIRROR, suite.script] if suite.script else [mirror] if mirror else []
    run("debootstrap", "--variant=minbase", suite.name, str(new), *where)


def _configure_apt(new: Path) -> None:
    """Let apt inside the folder reach what the machine's own apt reaches."""
    write = {
        "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
        "etc/apt/apt.conf.d/90slurm_adopt": APT_CONF + _host_acquire(new),
        "etc/dpkg/dpkg.cfg.d/unsafe-io": "force-unsafe-io\n",
        "etc/resolv.conf": Path("/etc/resolv.conf").read_text(),
    }
    for name, text in write.items():
        (new / name).write_text(text)
    (new / "usr/sbin/policy-rc.d").chmod(0o755)


def _host_acquire(new: Path) -> str:
    """Return the machine's proxy and CA settings for apt; files they name are copied."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Retries")
    lines = [line for line in _output("apt-config", "dump").splitlines() if line.startswith(wanted)]
    for line in lines:
        file = Path(line.partition(' "')[2].rstrip('";'))
        if file.is_absolute() and file.is_file():
            copy = new / file.relative_to("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    return "".join(line + "\n" for line in lines)


def host_mirror() -> str | None:
    """Return the Debian mirror that the machine's own apt uses for its suite, if it has one."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line
    )
    suite = release.get("VERSION_CODENAME", "").strip('"')
    targets = _output("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)")
    for line in targets.splitlines():
        uri, _, where = line.partition(" ")
        if where == f"{suite} main" and uri.startswith("http"):
            return uri
    return None


def _output(*argv: str) -> str:
    """Return what a command prints; nothing when it fails."""
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout
