"""The way of the module's log lines: who takes them, what is kept, and whether there is space."""

from __future__ import annotations

import _socket
import os
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks import places
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.slurm import proc
from slurm_adopt.system import container_log
from slurm_adopt.system.log import SOCK_FLAGS, SOCKETS

from . import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host

LOG = "log"
JOURNALD = ("systemd-journald", "systemd-journal")  # the program, and its name cut by the kernel
SYSLOGS = ("rsyslogd", "syslog-ng", "busybox-syslogd", "syslogd")
RSYSLOG = ("/etc/rsyslog.conf", "/etc/rsyslog.d")
SSHD_UNITS = ("ssh.service", "sshd.service")
DIRECTORY = "/var/log"
FREE = 16 << 20  # bytes that the directory of logs has to have left
BURST = 1000  # lines that must pass at once: some hundred logins at the start of a large job
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")  # syslog(3)
OTHER_NAMES = {"error": "err", "warn": "warning", "panic": "emerg"}
INFO = SEVERITIES.index("info")


def taken(host: Host) -> Iterator[Seen]:
    """Whether somebody takes the module's lines."""
    for path in SOCKETS:
        if _listens(path):
            yield ok(f"a log daemon listens on {path}")
            return
    if not host.is_root:
        yield skipped("no log daemon listens; only root sees whether PID 1 takes the lines")
        return
    try:
        os.close(container_log.opened())
    except OSError as wrong:
        yield error("nobody takes the module's log lines", wrong.strerror or str(wrong), SOCKETS[0])
    else:
        yield ok("log lines go to the standard error of PID 1, as in a container")


def _listens(path: str) -> bool:
    with_daemon = _socket.socket(_socket.AF_UNIX, SOCK_FLAGS)
    try:
        with_daemon.connect(path)
    except OSError:
        return False
    finally:
        with_daemon.close()
    return True


def journal(host: Host) -> Iterator[Seen]:
    """Whether journald keeps the module's lines."""
    if not processes.running(host, JOURNALD):
        yield skipped("journald does not run here")
        return
    given = places.settings(places.drop_ins("journald.conf", places.SYSTEMD), "Journal")
    found = list(_kept(given, other=bool(processes.running(host, SYSLOGS))))
    yield from found or [ok("journald keeps lines of level info")]


def _kept(given: dict[str, tuple[str, str, int]], *, other: bool) -> Iterator[Seen]:
    """`other`: whether a syslog daemon runs as well."""
    storage, file, number = given.get("Storage", ("auto", "", 0))
    if storage.lower() == "none" and not other:
        yield warning("journald keeps nothing", f"Storage={storage}", file, number)
    level, file, number = given.get("MaxLevelStore", ("debug", "", 0))
    if severity(level) < INFO:
        yield warning("journald drops lines of level info", f"MaxLevelStore={level}", file, number)


def severity(text: str) -> int:
    """Return the number of a level by its name or number; unknown ones are the last."""
    name = OTHER_NAMES.get(text.lower(), text.lower())
    if name in SEVERITIES:
        return SEVERITIES.index(name)
    return int(text) if text.isdecimal() else len(SEVERITIES)


def rate(host: Host) -> Iterator[Seen]:
    """Whether journald drops lines of a burst of logins."""
    if not processes.running(host, JOURNALD):
        yield skipped("journald does not run here")
        return
    given = places.settings(places.drop_ins("journald.conf", places.SYSTEMD), "Journal")
    for unit in SSHD_UNITS:  # a unit's own limit counts for it (systemd.exec(5))
        own = places.settings(places.drop_ins(unit, places.UNITS), "Service")
        given.update({key.replace("LogRate", "Rate"): value for key, value in own.items()})
    burst, file, number = given.get("RateLimitBurst", ("10000", "", 0))
    interval = given.get("RateLimitIntervalSec", ("30s", "", 0))[0]
    if burst.isdecimal() and 0 < int(burst) < BURST and interval.strip("smhin ") != "0":
        said = f"{burst} lines in {interval}"
        yield warning("journald drops lines where many users log in at once", said, file, number)
    else:
        yield ok("journald takes the lines of many logins at once")


def rsyslog(host: Host) -> Iterator[Seen]:
    """Where rsyslog writes the facility authpriv."""
    if not processes.running(host, ("rsyslogd",)):
        yield skipped("rsyslog does not run here")
        return
    scripted = False
    for path in [RSYSLOG[0], *_included()]:
        for number, line in places.lines(path):
            words = line.split(None, 1)
            if (
                len(words) == 2
                and takes_authpriv(words[0])
                and words[1].strip() not in ("~", "stop")
            ):
                yield ok("rsyslog takes the facility authpriv", line, path, number)
                return
            scripted = scripted or line.startswith(("if ", "action(", "ruleset("))
    if scripted:
        yield skipped("rsyslog's rules are a script: where authpriv goes was not looked at")
    else:
        yield warning("no line of rsyslog's takes the facility authpriv", file=RSYSLOG[0])


def _included() -> list[str]:
    names = sorted(proc.listing(RSYSLOG[1]))
    return [f"{RSYSLOG[1]}/{name}" for name in names if name.endswith(".conf")]


def takes_authpriv(selectors: str) -> bool:
    """Say whether a selector of rsyslog.conf(5) takes authpriv.info: the last that fits counts."""
    taken = False
    for one in selectors.split(";"):
        facilities, dot, priority = one.partition(".")
        names = facilities.lower().split(",")
        if not dot or facilities.startswith("#") or not {"*", "authpriv"} & set(names):
            continue
        negated, exact = priority.startswith("!"), priority.lstrip("!").startswith("=")
        level = priority.lstrip("!=").lower()
        if level == "none":
            taken = False
            continue
        lowest = len(SEVERITIES) - 1 if level == "*" else severity(level)
        fits = lowest < len(SEVERITIES) and (lowest == INFO if exact else lowest >= INFO)
        taken = taken and not fits if negated else taken or fits
    return taken


def space(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Whether there is space for logs."""
    try:
        found = os.statvfs(DIRECTORY)
    except OSError as wrong:
        yield warning(f"{DIRECTORY} cannot be looked at", str(wrong), DIRECTORY)
        return
    left = found.f_bavail * found.f_frsize
    if left < FREE:
        yield warning(f"{DIRECTORY} is full", f"{left >> 20} MiB are left", DIRECTORY)
    elif found.f_files and not found.f_favail:
        yield warning(f"{DIRECTORY} is full", "no inode is left", DIRECTORY)
    else:
        yield ok(f"{DIRECTORY} has space left")


CHECKS = (
    Check(
        "SA811",
        LOG,
        "somebody takes the log lines",
        taken,
        expected="A syslog daemon or journald listens on /dev/log. In a container the standard "
        "error of PID 1 will do.",
        why="The module says in its log why a user was let in or refused, and what is broken. "
        "Here nobody sees that.",
        fix="Start journald or a syslog daemon such as rsyslog. docs/how-to/containers.md says "
        "what a container needs.",
    ),
    Check(
        "SA812",
        LOG,
        "journald keeps the lines",
        journal,
        expected="Journald keeps lines of level info, or a syslog daemon does.",
        why="Decisions are lines of level info. Without them nobody can tell later why a login "
        "was refused.",
        fix="Set Storage=auto and MaxLevelStore=info, or a lower level, in journald.conf. Then: "
        "systemctl restart systemd-journald.",
        seconds=SLOW,
    ),
    Check(
        "SA813",
        LOG,
        "journald's rate limit",
        rate,
        expected=f"RateLimitBurst is at least {BURST}, or there is no limit.",
        why="Each login has several lines, with sshd's own. Where many users log in at once "
        "journald drops lines of sshd above its limit, and those of the module with them.",
        fix="Raise RateLimitBurst in journald.conf, or LogRateLimitBurst of sshd's unit; the "
        "default is 10000. Then: systemctl restart systemd-journald.",
        seconds=SLOW,
    ),
    Check(
        "SA814",
        LOG,
        "rsyslog takes the lines",
        rsyslog,
        expected="A line such as `auth,authpriv.* /var/log/auth.log` is in rsyslog.conf.",
        why="The module's lines have the facility authpriv. rsyslog drops what no line takes.",
        fix="Add the line to /etc/rsyslog.conf. Then: systemctl restart rsyslog.",
        seconds=SLOW,
    ),
    Check(
        "SA815",
        LOG,
        "space for logs",
        space,
        expected=f"At least {FREE >> 20} MiB and an inode are left in {DIRECTORY}.",
        why="Logins go on, but what the module says of them is lost.",
        fix="Make space, and look at logrotate's configuration.",
        seconds=SLOW,
    ),
)
