"""What takes a trial back at its time: a timer of systemd's, or a job of at's.

Both are files on the disk: they are there after a crash and after a reboot. A time that has passed
meanwhile comes at the boot. They run `slurm-adopt uninstall --trial-over NAME`, which does nothing
where that trial has ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli import processes
from slurm_adopt.cli.deadlines import TIMER
from slurm_adopt.cli.errors import ERROR, USAGE, CliError
from slurm_adopt.cli.logins.moments import UNITS

from .record import Trial

__all__ = ["Timer", "Trial", "begin", "duration"]

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEMD, AT = "systemd", "at"
UNITS_AT = "/etc/systemd/system"
RUNS = "/run/systemd/system"  # there where systemd is PID 1: sd_booted(3)
STAMPS = "/var/lib/systemd/timers"
SHORTEST, LONGEST = 60, 7 * 86400  # seconds
AGAIN = 60  # seconds after which systemd tries again what has failed
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {
    "PATH": PATH,
    "LC_ALL": "C",
    "TZ": "UTC0",  # at reads times by it
    "SHELL": "/bin/sh",
    "HOME": "/root",
    "LOGNAME": "root",
}

SERVICE = """\
# Written by slurm-adopt install --trial; removed when the trial ends.
[Unit]
Description=Take back the trial of slurm-adopt install for {service}

[Service]
Type=oneshot
ExecStart={command}
"""
TIMER_UNIT = """\
# Written by slurm-adopt install --trial; removed when the trial ends.
[Unit]
Description=The end of the trial of slurm-adopt install for {service}

[Timer]
OnCalendar={date}
OnActiveSec={seconds}
OnUnitInactiveSec={again}
Persistent=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


class Timer(NamedTuple):
    """The timer of one service's trial."""

    service: str
    command: Sequence[str]  # of slurm-adopt

    def arm(self, trial: Trial) -> Trial:
        """Have the trial taken back at its end; return it with what does that.

        CliError where that cannot be, or the command itself does not run as it will then.
        """
        _ran(*self.command, "--version")
        return (_Systemd if trial.by == SYSTEMD else _At)(self).arm(trial)

    def disarm(self, trial: Trial) -> None:
        """Remove what would take the trial back; nothing is wrong where it is not there."""
        (_Systemd if trial.by == SYSTEMD else _At)(self).disarm(trial)

    def line(self, trial: Trial) -> list[str]:
        """Return the command that takes the trial back."""
        return [*self.command, "uninstall", "--service", self.service, "--trial-over", trial.name]


def duration(text: str) -> int:
    """Return the seconds of a time such as 10m; CliError if it is none, too short or too long."""
    found = re.fullmatch(r"([0-9]{1,6}) ?([a-z]+?)s?", text.strip().lower())
    if not found or found[2] not in UNITS:
        raise CliError(f"--trial {text[:32]!r} is no time: write 10m, 1h or 1d", USAGE)
    seconds = int(found[1]) * UNITS[found[2]]
    if not SHORTEST <= seconds <= LONGEST:
        raise CliError(f"--trial {text[:32]}: write a time from 1m to 7d", USAGE)
    return seconds


def begin(seconds: float) -> Trial:
    """Return a trial that ends after some seconds; CliError where nothing could take it back."""
    name = os.urandom(4).hex()
    if os.path.isdir(RUNS):
        return Trial(name, time.time() + seconds, SYSTEMD, "")
    if _is_running("atd"):
        minutes = -(-(time.time() + seconds) // 60)  # at knows no seconds
        return Trial(name, minutes * 60.0, AT, "")
    raise CliError(
        "--trial needs what takes it back: neither systemd nor atd runs here. Start atd, or "
        "install without --trial and keep a root shell open: nothing is changed",
        ERROR,
    )


class _Systemd:
    """A timer, and the service that it starts; both are enabled for the next boot."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._name = f"slurm-adopt-trial-{timer.service}"

    def arm(self, trial: Trial) -> Trial:
        self.disarm(trial)  # what a trial has left whose record is lost
        date = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(trial.ends))
        seconds = max(1, round(trial.ends - time.time()))
        command = " ".join(map(_quoted, self._timer.line(trial)))
        service = self._timer.service
        _write(self._path("service"), SERVICE.format(service=service, command=command))
        _write(
            self._path("timer"),
            TIMER_UNIT.format(service=service, date=date, seconds=seconds, again=AGAIN),
        )
        _ran("systemctl", "daemon-reload")
        _ran("systemctl", "enable", "--now", "--quiet", f"{self._name}.timer")
        return trial

    def disarm(self, trial: Trial) -> None:  # noqa: ARG002 - there is one for each service
        there = [kind for kind in ("timer", "service") if os.path.lexists(self._path(kind))]
        if not there:
            return
        with contextlib.suppress(CliError):  # it was not enabled yet
            _ran("systemctl", "disable", "--now", "--quiet", f"{self._name}.timer")
        for kind in there:
            os.unlink(self._path(kind))
        # systemd keeps a unit that has failed, and OnUnitInactiveSec= would count from then.
        with contextlib.suppress(CliError):
            _ran("systemctl", "reset-failed", f"{self._name}.service")
        with contextlib.suppress(OSError):
            os.unlink(f"{STAMPS}/stamp-{self._name}.timer")
        with contextlib.suppress(CliError):
            _ran("systemctl", "daemon-reload")

    def _path(self, kind: str) -> str:
        return f"{UNITS_AT}/{self._name}.{kind}"


class _At:
    """A job of at's."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer

    def arm(self, trial: Trial) -> Trial:
        date = time.strftime("%Y%m%d%H%M", time.gmtime(trial.ends))
        said = _ran("at", "-t", date, given=f"{shlex.join(self._timer.line(trial))}\n")
        number = re.search(r"^job ([0-9]+) at ", said, re.MULTILINE)
        if not number:
            raise CliError(f"at has not taken the job that ends the trial: {said}", ERROR)
        return trial._replace(job=number[1])

    def disarm(self, trial: Trial) -> None:
        # at gives the numbers of jobs that are gone to others: only a job of this trial is removed.
        if not trial.job:
            return
        with contextlib.suppress(CliError):
            own = trial.name
            if own in _ran("at", "-c", trial.job):
                _ran("atrm", trial.job)


def _ran(*argv: str, given: str = "") -> str:
    """Return what a command has printed; CliError where it fails or does not end."""
    try:
        done = subprocess.run(  # noqa: S603 - systemctl, at
            argv,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            cwd="/",
            timeout=TIMER,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise CliError(f"{argv[0]} has not ended within {TIMER:g} s", ERROR) from None
    except OSError as error:
        raise CliError(f"{argv[0]} cannot be run: {error.strerror}", ERROR) from None
    said = " ".join(done.stdout.split()) if done.returncode else done.stdout
    if done.returncode:
        raise CliError(f"{shlex.join(argv)} has failed: {said or done.returncode}", ERROR)
    return said


def _write(path: str, text: str) -> None:
    """Write a unit that survives a reboot."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o644), "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())


def _quoted(word: str) -> str:
    """Return a word of ExecStart= as systemd.service(5) reads it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or " " in word else word


def _is_running(name: str) -> bool:
    """Say whether a daemon of root's runs; users may call a process of theirs the same.

    atd takes another effective uid, and keeps root's as its real one.
    """
    return any(one.program == name and 0 in one.uids for one in processes.listed().values())
