"""Ways out of a job: what starts processes for users outside of their jobs."""

from __future__ import annotations

import grp
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli.accounts import name_of, uid_of
from slurm_adopt.cli.checks import places
from slurm_adopt.cli.checks.finding import Check, ok, skipped, warning
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.decision.options import parse
from slurm_adopt.node import pam_files
from slurm_adopt.slurm import proc

from . import processes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host

WAYS = "ways out"
LINGER = "/var/lib/systemd/linger"
SYSTEMD = "/run/systemd/system"  # there where PID 1 is systemd: sd_booted(3)
UNIT = "user@.service"
SHOWN = 8  # names in a line
UNKNOWN_UID = "uid {}"  # a user without a name


class Scheduler(NamedTuple):
    """A daemon that runs users' commands at times."""

    name: str
    services: dict[str, str]  # program -> its PAM service
    allow: str
    deny: str
    spools: tuple[str, ...]  # files of users that are still to run
    kept: str  # what such a file is called
    closed: bool  # whether users are kept out where neither file is there


CRON = Scheduler(
    "cron",
    {"cron": "cron", "crond": "crond", "cronie": "crond", "fcron": "fcron"},
    "/etc/cron.allow",
    "/etc/cron.deny",
    ("/var/spool/cron/crontabs", "/var/spool/cron/tabs", "/var/spool/cron"),
    "crontabs",
    closed=False,
)
AT = Scheduler(
    "at",
    {"atd": "atd"},
    "/etc/at.allow",
    "/etc/at.deny",
    ("/var/spool/cron/atjobs", "/var/spool/at"),
    "at jobs",
    closed=True,
)

# Program of root's that lets users in -> what it is, and its PAM service; "" where it asks no PAM.
# fmt: off
DOORS = {
    "dropbear":     ("Dropbear",           ""),
    "telnetd":      ("telnet",             "login"),
    "in.telnetd":   ("telnet",             "login"),
    "in.rlogind":   ("rlogin",             "rlogin"),
    "in.rshd":      ("rsh",                "rsh"),
    "shellinaboxd": ("Shell In A Box",     "login"),
    "xrdp-sesman":  ("xrdp",               "xrdp-sesman"),
    "cockpit-ws":   ("Cockpit",            "cockpit"),
    "cockpit-tls":  ("Cockpit",            "cockpit"),
    "rserver":      ("RStudio Server",     "rstudio"),
    "gdm3":         ("GNOME's login",      "gdm-password"),
    "gdm":          ("GNOME's login",      "gdm-password"),
    "sddm":         ("KDE's login",        "sddm"),
    "lightdm":      ("LightDM",            "lightdm"),
}
# fmt: on
# The same, started by systemd for each connection: what is enabled.
SOCKETS = "/etc/systemd/system/sockets.target.wants"
SOCKET_UNITS = {
    "cockpit.socket": ("Cockpit", "cockpit"),
    "dropbear.socket": ("Dropbear", ""),
    "telnet.socket": ("telnet", "login"),
    "rlogin.socket": ("rlogin", "rlogin"),
    "rsh.socket": ("rsh", "rsh"),
}
INETD = "/etc/inetd.conf"
INETD_SERVICES = ("telnet", "login", "shell", "exec")

# What is told to start containers, as root, by whoever may write to it.
ENGINES = {
    "/run/docker.sock": "Docker",
    "/run/podman/podman.sock": "Podman",
    "/run/containerd/containerd.sock": "containerd",
    "/run/crio/crio.sock": "CRI-O",
    "/var/lib/incus/unix.socket": "Incus",
    "/var/lib/lxd/unix.socket": "LXD",
    "/var/snap/lxd/common/lxd/unix.socket": "LXD",
}


def _names(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _users(names: Iterable[str]) -> list[str]:
    """Return those names that are users', and not root's or a service's."""
    return [name for name in names if (uid := uid_of(name)) is not None and processes.is_user(uid)]


# The user's own systemd


def linger(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Which users have linger."""
    try:
        names = os.listdir(LINGER)
    except FileNotFoundError:
        names = []
    except OSError as wrong:
        yield skipped(f"{LINGER} cannot be read", str(wrong.strerror))
        return
    users = [name for name in names if uid_of(name) != 0]
    if users:
        yield warning("users have a systemd of their own without a session", _names(users), LINGER)
    else:
        yield ok("no user has linger")


def user_manager(host: Host) -> Iterator[Seen]:
    """Whether a session has a systemd of the user's own started, outside of the job."""
    if not os.path.isdir(SYSTEMD):
        yield ok("PID 1 is not systemd: users have no systemd of their own")
        return
    running = {name_of(one.uid, UNKNOWN_UID) for one in processes.of(host) if _is_manager(one)}
    stack = host.stack("session").lines
    lines = [line for line in stack if os.path.basename(line.module) == "pam_systemd.so"]
    if running and (not lines or stub()):
        yield warning("a systemd of users' own runs outside of their jobs", _names(running))
    elif not lines:
        yield ok(f"{host.service} does not ask pam_systemd: users get no systemd of their own")
    elif stub():
        yield ok("users' own systemd is masked, or a stub is in its place")
    else:
        file, number = places.pam_line(lines[0])
        title = "users have a systemd of their own, outside of their jobs"
        yield warning(title, "systemd-run --user leaves the job", file, number)


def _is_manager(one: processes.Process) -> bool:
    outside = not one.in_job and not one.nested
    return one.program == "systemd" and processes.is_user(one.uid) and outside


def stub(units: tuple[str, ...] = places.UNITS) -> bool:
    """Say whether user@.service is masked, or starts something else than systemd."""
    there = [f"{root}/{UNIT}" for root in units if os.path.lexists(f"{root}/{UNIT}")]
    if there and os.path.realpath(there[0]) == "/dev/null":
        return True
    given = places.settings(places.drop_ins(UNIT, units), "Service")
    command = given.get("ExecStart", ("", "", 0))[0]
    return bool(command) and "systemd --user" not in command


# cron and at


def cron(host: Host) -> Iterator[Seen]:
    """Whether users can have cron run commands outside of jobs."""
    return scheduler(host, CRON)


def at(host: Host) -> Iterator[Seen]:
    """Whether users can have at run commands outside of jobs."""
    return scheduler(host, AT)


def scheduler(host: Host, one: Scheduler) -> Iterator[Seen]:
    """Whether users can have a daemon run commands outside of jobs."""
    running = processes.running(host, one.services)
    if not running:
        yield ok(f"{one.name} does not run")
        return
    service = one.services[running[0].program]
    if line := _line_of(service):
        title = f"what {one.name} runs for users is brought into their jobs"
        yield ok(title, "", *places.pam_line(line))
        return
    file = _file_of(service)
    if os.path.exists(one.allow) and not os.access(one.allow, os.R_OK):
        yield skipped(f"only root reads {one.allow}")
        return
    allowed = _allowed(one)
    left = _kept_for(one)
    if allowed is None or allowed:
        title = f"users can use {one.name}, which runs commands outside of jobs"
        found = f"{one.allow} has {_names(allowed)}" if allowed else f"there is no {one.allow}"
        yield warning(title, f"{found}; no account line of this module in {file}", file)
    elif left:
        title = f"{one.kept} of users still run outside of jobs"
        yield warning(title, _names(left), one.allow)
    else:
        yield ok(f"users may not use {one.name}")


def _line_of(service: str) -> pam_files.Line | None:
    """Return our account line in a service's stack, if it is for the service and can refuse."""
    stack = pam_files.read("account", service, pam_files.PLACES)
    for line in (stack.lines[index] for index in stack.ours):
        options, _ = parse(line.ours or [])
        if options["service"] in ("*", service) and line.actions.get("default") in ("bad", "die"):
            return line
    return None


def _file_of(service: str) -> str:
    """Return the PAM file of a service; where it would be, if there is none."""
    found = (f"{place}/{service}" for place in pam_files.PLACES)
    return next(
        (path for path in found if os.path.exists(path)), f"{pam_files.PLACES[0]}/{service}"
    )


def _allowed(one: Scheduler) -> list[str] | None:
    """Return the users who may use it; None for all, or all but a few."""
    if os.path.exists(one.allow):
        words = (line.split("#")[0].strip() for _, line in places.lines(one.allow))
        return _users(word for word in words if word)
    return [] if one.closed and not os.path.exists(one.deny) else None


def _kept_for(one: Scheduler) -> set[str]:
    """Return the users who have something that is still to run."""
    found = set()
    for spool in one.spools:
        for name in proc.listing(spool):
            try:
                file = os.lstat(f"{spool}/{name}")
            except OSError:
                continue
            if stat.S_ISREG(file.st_mode) and processes.is_user(file.st_uid):
                found.add(name_of(file.st_uid, UNKNOWN_UID))
    return found


# Other ways in


def doors(host: Host) -> Iterator[Seen]:
    """Which other daemons let users in."""
    if not any(one.uid == 0 for one in processes.of(host)):
        yield skipped("processes of root's cannot be seen")
        return
    programs = dict.fromkeys(one.program for one in processes.running(host, DOORS))
    open_ = [seen for name in programs for seen in _open(name, *DOORS[name])]
    for name, (what, service) in SOCKET_UNITS.items():
        if os.path.lexists(f"{SOCKETS}/{name}"):
            open_ += _open(name, what, service)
    for number, text in places.lines(INETD):
        if text.split()[:1] and text.split()[0] in INETD_SERVICES:
            found = f"the line {text.split()[0]!r}"
            open_.append(warning("inetd lets users in without a job", found, INETD, number))
    yield from open_ or [ok("no other known daemon lets users in")]


def _open(name: str, what: str, service: str) -> list[Seen]:
    """Return what is said of a daemon or a socket unit."""
    if not service:
        return [warning(f"{what} lets users in without asking PAM", name)]
    if _line_of(service):
        return []
    found = f"{name} is there; its PAM service is {service}"
    return [warning(f"{what} lets users in without a job", found, _file_of(service))]


def engines(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Whether users can have a container engine start something as root."""
    found = [(path, who) for path in ENGINES if (who := writers(path))]
    for path, who in found:
        yield warning(f"users can have {ENGINES[path]} start containers as root", who, path)
    if not found:
        yield ok("no known container engine of root's takes orders from users")


def writers(path: str) -> str:
    """Say which users may write to a socket, "" if none of those that are known."""
    try:
        found = os.stat(path)
        folder = os.stat(os.path.dirname(path))
    except OSError:
        return ""
    if found.st_mode & stat.S_IWOTH and folder.st_mode & stat.S_IXOTH:
        return "everybody may write to it"
    if not found.st_mode & stat.S_IWGRP or found.st_gid == 0:
        return ""
    try:
        group = grp.getgrgid(found.st_gid)
    except KeyError:
        return ""
    users = _users(group.gr_mem)
    return f"group {group.gr_name}: {_names(users)}" if users else ""


CHECKS = (
    Check(
        "SA901",
        WAYS,
        "no user has linger",
        linger,
        expected="No user is in /var/lib/systemd/linger.",
        why="At boot systemd starts a systemd of the user's own, without a session. What that "
        "runs is outside of all jobs, without limits, and goes on when no job is left.",
        fix="Run `loginctl disable-linger USER` for each. docs/how-to/pam-systemd.md says how "
        "to close this for all.",
        seconds=SLOW,
    ),
    Check(
        "SA902",
        WAYS,
        "users have no systemd of their own",
        user_manager,
        expected="There is no pam_systemd in the session stack, or a stub in the place of "
        "user@.service.",
        why="With pam_systemd a session has `systemd --user` started, which is in no job. "
        "systemd-run --user then starts a command outside of the job: without its limits, not "
        "charged, and alive after scancel.",
        fix="Take pam_systemd out of the stack, or put the stub of docs/how-to/pam-systemd.md "
        "into the place of user@.service. Then end those that run: systemctl stop user@UID.",
        seconds=SLOW,
    ),
    Check(
        "SA903",
        WAYS,
        "cron stays in jobs",
        cron,
        expected="No cron runs, its PAM file has this module's account line, or /etc/cron.allow "
        "has no users.",
        why="What cron runs for a user is in no job, and goes on when the user has none.",
        fix="Follow docs/how-to/at-and-cron.md: bring it into the users' jobs, or close it by "
        "/etc/cron.allow and remove the crontabs that are there (crontab -r -u USER).",
        seconds=SLOW,
    ),
    Check(
        "SA904",
        WAYS,
        "at stays in jobs",
        at,
        expected="No atd runs, its PAM file has this module's account line, or /etc/at.allow has "
        "no users.",
        why="What at runs for a user is in no job, and goes on when the user has none.",
        fix="Follow docs/how-to/at-and-cron.md: bring it into the users' jobs, or close it by "
        "/etc/at.allow and remove the jobs that are there (atrm).",
        seconds=SLOW,
    ),
    Check(
        "SA905",
        WAYS,
        "no other daemon lets users in",
        doors,
        expected="No daemon but sshd lets users in, or its PAM file has this module's account line "
        "with service=NAME.",
        why="Who comes in by another daemon is not asked for a job, and is in none.",
        fix="Stop the daemon on compute nodes, or write this module's lines into its PAM file, "
        "with service=NAME.",
        seconds=SLOW,
    ),
    Check(
        "SA906",
        WAYS,
        "container engines take no orders from users",
        engines,
        expected="Sockets of root's container engines are root's alone.",
        why="A container engine of root's starts what it is told, as root and outside of the job. "
        "Who may write to its socket is root on this node.",
        fix="Take the users out of the group, or stop the engine on compute nodes. Rootless "
        "podman stays in the job.",
        seconds=SLOW,
    ),
)
