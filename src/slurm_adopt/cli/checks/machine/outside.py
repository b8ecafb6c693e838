"""Who is outside of all jobs now, and what has outlived its job."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING

from slurm_adopt.cli.accounts import name_of
from slurm_adopt.cli.checks.finding import Check, ok, skipped, warning
from slurm_adopt.cli.checks.host import LateError
from slurm_adopt.cli.deadlines import AGAIN, SLOW
from slurm_adopt.cli.processes import below, tree
from slurm_adopt.cli.sessions import ssh_sessions
from slurm_adopt.cli.verdict.looking_node import LookingNode
from slurm_adopt.cli.verdict.remarks import Remarks
from slurm_adopt.slurm.errors import SetupError, SlurmAdoptError
from slurm_adopt.slurm.stepd import step_sockets

from . import processes
from .ways_out import SHOWN, UNKNOWN_UID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.cli.sessions.ssh_sessions import Session
    from slurm_adopt.node.slurm_site import SlurmSite

    from .processes import Process

OUTSIDE = "ways out"
SESSIONS = ("sshd", "sshd-session")  # the second since OpenSSH 9.8
ASKED = 3  # users whose jobs the stepds are asked for: each may take as long as SHARED
MANAGED = ("systemd", "(sd-pam)")  # the user's own systemd: see SA902


def _outside(host: Host) -> list[Process]:
    """Return the processes of users that are in no job; sessions of a container's sshd are none."""
    found = [one for one in processes.of(host) if processes.is_user(one.uid) and not one.in_job]
    return [one for one in found if not (one.nested and one.program in SESSIONS)]


def sessions(host: Host) -> Iterator[Seen]:
    """Which users have ssh sessions outside of jobs: those of `slurm-adopt sessions --outside`."""

    def site() -> SlurmSite:
        _ = host.site.name, host.site.spool
        return host.site

    look = lambda: host.once("site of sessions", site)  # noqa: E731
    _, _, every = ssh_sessions.judged(look, None if host.is_root else os.geteuid())
    every = [one for one in every if processes.is_user(one.login.uid)]
    alone = [one for one in every if one.outside == ssh_sessions.NO_JOB]
    partly = [one for one in every if one.is_outside and one.outside != ssh_sessions.NO_JOB]
    if alone:
        yield warning("ssh sessions of users are in no job", _whose(alone))
    if partly:
        title = "ssh sessions of users are not wholly in a running job of theirs"
        yield warning(title, f"{_whose(partly)}; {partly[0].why}")
    if alone or partly:
        return
    if any(one.outside == ssh_sessions.UNKNOWN for one in every):
        yield skipped("whether ssh sessions are in jobs does not show", ssh_sessions.NO_CGROUPS)
    elif host.is_root:
        yield ok("no ssh session of a user is outside of all jobs")
    else:
        yield ok("no ssh session that may be seen is outside of all jobs")


def _whose(found: list[Session]) -> str:
    return _counted(Counter(one.login.uid for one in found))


def _counted(found: Counter[int]) -> str:
    told = [f"{name_of(uid, UNKNOWN_UID)} {count}" for uid, count in sorted(found.items())]
    more = f" and {len(told) - SHOWN} more users" if len(told) > SHOWN else ""
    return ", ".join(told[:SHOWN]) + more


def others(host: Host) -> Iterator[Seen]:
    """Which users with a job here have processes in no job, beside ssh sessions."""
    everything = processes.of(host)
    outside = _outside(host)
    shells = _descendants(everything, [one for one in outside if one.program in SESSIONS])
    found = [one for one in outside if one.program not in MANAGED and one.pid not in shells]
    with_jobs = {one.uid for one in everything if one.in_job}
    unknown = sorted({one.uid for one in found} - with_jobs)
    with_jobs |= {uid for uid in unknown[:ASKED] if _has_job(host, uid)}
    found = [one for one in found if one.uid in with_jobs]
    if found:
        where = sorted({one.cgroup for one in found})
        said = f"{_counted(Counter(one.uid for one in found))}; in {', '.join(where[:2])}"
        yield warning("users with a job here have processes in no job", said)
    else:
        yield ok("users with a job here have no other process outside of jobs")


def _has_job(host: Host, uid: int) -> bool:
    """Ask the stepds; in a hurry nobody is asked, as one may be silent."""
    if host.quick:
        return False
    node = LookingNode(host.options, Remarks())
    try:
        return bool(host.once(f"jobs of uid {uid}", lambda: node.jobs(uid)))
    except (SlurmAdoptError, LateError):  # a stepd is silent: SA4xx says so
        return False


def _descendants(everything: list[Process], tops: list[Process]) -> set[int]:
    """Return the pids of some processes and of all that they have started."""
    children = below(everything)
    return {pid for one in tops for pid in tree(one.pid, children)}


def left_over(host: Host) -> Iterator[Seen]:
    """Which jobs have ended, and still have processes."""
    try:
        listed = _steps(host)
    except SetupError as wrong:
        yield skipped("which jobs are here cannot be told", str(wrong))
        return
    alive = {one.job_id for one in listed if step_sockets.listens(one.path)}
    gone = _held(processes.of(host), alive)
    if gone:  # a step may just have ended, or begun
        time.sleep(AGAIN)
        alive |= {one.job_id for one in _steps(host) if step_sockets.listens(one.path)}
        gone = _held(processes.look(), alive)
    if gone:
        told = [f"job {job}: {count}" for job, count in sorted(gone.items())]
        yield warning("processes have outlived their job", ", ".join(told[:SHOWN]))
    else:
        yield ok("no process has outlived its job")


def _steps(host: Host) -> list[step_sockets.StepSocket]:
    return step_sockets.steps(host.site.spool, host.site.name)


def _held(everything: list[Process], alive: set[int]) -> Counter[int]:
    """Count the processes of each job that has no stepd."""
    jobs = (one.job_id for one in everything)
    return Counter(job for job in jobs if job is not None and job not in alive)


CHECKS = (
    Check(
        "SA911",
        OUTSIDE,
        "ssh sessions are in jobs",
        sessions,
        expected="Each ssh session of a user is wholly in a running job of the user's.",
        why="Such a session has no limits, is not charged, and does not end with a job. It was let "
        "in by an option or before this module was set up, was moved out, or was not asked for.",
        fix="Run `slurm-adopt sessions --outside`: it says whose they are, and why. Set "
        "action_adopt_failure=deny and action_generic_failure=deny, and look at SA1xx.",
        seconds=SLOW,
    ),
    Check(
        "SA912",
        OUTSIDE,
        "other processes are in jobs",
        others,
        expected="All processes of users who have a job here are in jobs.",
        why="They use cores and memory that nobody has given them. The cgroup says where they "
        "come from: cron, user@UID.service, or another daemon.",
        fix="Close the way that they have come by: see the other checks of this category.",
        seconds=SLOW,
    ),
    Check(
        "SA913",
        OUTSIDE,
        "no process outlives its job",
        left_over,
        expected="No process is in the cgroup of a job that has no stepd any more.",
        why="The stepds of the job have been killed, or have given up. Nothing of Slurm's ends "
        "these processes, and others may have the job's cores by now.",
        fix="Set up the Epilog as docs/how-to/epilog.md says. End these processes as root.",
        seconds=SLOW,
    ),
)
