"""The stepds of this node: which answer, of which release, and what state their jobs are in."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from slurm_adopt.cli import deadlines
from slurm_adopt.cli.checks.finding import Check, Seen, error, ok, skipped, warning
from slurm_adopt.slurm import proc, versions
from slurm_adopt.slurm.cgroup import hierarchy, paths, step_cgroup
from slurm_adopt.slurm.config import conf as config
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.stepd import step_sockets, stepd

from . import slurm_facts
from .conf_lines import where
from .slurm_facts import listed, needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.slurm.cgroup.step_cgroup import Layout
    from slurm_adopt.slurm.stepd.step_sockets import StepSocket

STEPDS = "stepds"

ASKED = needs(slurm_facts.conf, slurm_facts.place, slurm_facts.asked)


@ASKED
def answer(host: Host) -> Iterator[Seen]:
    """Whether all stepds answer."""
    asked = slurm_facts.asked(host)
    silent = {step: why for step, why in asked.silent.items() if not step.stranger}
    if silent:
        layout = _layout(host)
        texts = [f"{_job(layout, step)}: {why}" for step, why in silent.items()]
        yield error("not all extern stepds answer", listed(texts))
    elif asked.answers:
        yield ok("all extern stepds answer", str(len(asked.answers)))
    else:
        yield ok("no job is here now: there is no extern stepd to answer")


def _layout(host: Host) -> Layout | None:
    try:
        return slurm_facts.layout(host)
    except SetupError:
        return None


def _job(layout: Layout | None, step: StepSocket) -> str:
    owner = layout.owner(step) if layout else None
    return f"job {step.job_id}" + ("" if owner is None else f" of uid {owner}")


@ASKED
def releases(host: Host) -> Iterator[Seen]:
    """Which releases the stepds are of."""
    spoken = sorted({answer.protocol for answer in slurm_facts.asked(host).answers.values()})
    known = [row.name for number in spoken if (row := versions.release_of(number))]
    unknown = [f"{number >> 8}.{number & 255}" for number in spoken
               if versions.release_of(number) is None]  # fmt: skip
    if unknown:
        yield warning("stepds speak a protocol of a release that is not known",
                      f"protocol {listed(unknown)}")  # fmt: skip
    elif known:
        yield ok(f"the stepds are of Slurm {' and '.join(known)}")
    else:
        yield skipped("no stepd has said its release")


@ASKED
def extern_steps(host: Host) -> Iterator[Seen]:
    """Whether each job here has an extern step."""
    node, spool = slurm_facts.place(host)
    asked = slurm_facts.asked(host)
    served = {step.job_id for step in (*asked.answers, *asked.silent)}
    others = [step for step in step_sockets.steps(spool, node) if step.job_id not in served]
    answers, silent, _ = slurm_facts.ask(host, others)
    lone = [step for step in (*answers, *silent) if not step.stranger]
    jobs = f"job {listed(sorted({step.job_id for step in lone}))}"
    slurm_conf = slurm_facts.conf(host)
    at = where(host, slurm_conf, "PrologFlags")
    if not lone:
        yield ok("each job here has an extern step" if served else "no job is here now")
    elif died := {step.job_id for step in asked.dead} & {step.job_id for step in lone}:
        yield error("the extern stepd of a job has died", f"job {listed(sorted(died))}", spool)
    elif not config.contains(slurm_conf):
        yield error("a job has no extern step", jobs, *at)
    elif old := {step.job_id for step in lone if step.pid and _is_of_before(host, step.pid)}:
        yield warning("a job of before slurmd was started last has no extern step",
                      f"job {listed(sorted(old))}", *at)  # fmt: skip
    elif not served and _has_changed(host, slurm_conf.path):
        yield warning("no job has an extern step; slurm.conf is newer than slurmd", jobs, *at)
    else:
        yield ok("a job here has no extern step any more: it is ending", jobs)


def _has_changed(host: Host, path: str) -> bool:
    """Say whether a file is newer than each slurmd, which may not know what it says."""
    started = [proc.start_time(slurmd.pid) for slurmd in slurm_facts.slurmds(host)
               if slurmd.program == "slurmd"]  # fmt: skip
    up = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    with suppress(OSError):
        changed = os.stat(path).st_mtime - up
        return bool(started) and changed > max(started) / os.sysconf("SC_CLK_TCK")
    return False


def _is_of_before(host: Host, pid: int) -> bool:
    """Say whether a stepd is older than slurmd.

    The extern step of a job ends first: then others of its steps have up to KillWait.
    """
    started = [proc.start_time(slurmd.pid) for slurmd in slurm_facts.slurmds(host)
               if slurmd.program == "slurmd"]  # fmt: skip
    return bool(started) and proc.start_time(pid) < min(started)


def _wanted_layout(host: Host, unused: str) -> Layout | Seen:
    """Return where extern steps have their cgroups; else what to say, `unused` if nowhere."""
    try:
        layout = slurm_facts.layout(host)
    except SetupError as wrong:
        return skipped("the cgroups of this node are not known", str(wrong))
    return skipped(unused) if layout is None else layout


@ASKED
def suspended(host: Host) -> Iterator[Seen]:
    """Whether jobs are frozen, so that nobody is adopted into them."""
    layout = _wanted_layout(host, "this configuration has no cgroups that could be frozen")
    if isinstance(layout, Seen):
        yield layout
        return
    asked = slurm_facts.asked(host)
    texts = [
        f"job {step.job_id} of uid {each.uid}: {why}"
        for step, each in asked.answers.items()
        if each.state in stepd.ALIVE and (why := layout.obstacle(step, each.uid))
    ]
    if texts:
        yield warning("a job is suspended, or its cgroup is not Slurm's", listed(texts))
    else:
        yield ok("no job here is suspended")


@ASKED
def states(host: Host) -> Iterator[Seen]:
    """Whether extern steps are being set up for long, or end."""
    asked = slurm_facts.asked(host)
    starting = [step for step, each in asked.answers.items() if each.state == stepd.STARTING]
    slow = [step for step in starting if host.is_root and _age(step.pid) > deadlines.STARTS]
    ending = [step for step, each in asked.answers.items() if each.state not in stepd.ALIVE]
    if slow:
        yield warning("an extern step is being set up for more than a minute",
                      f"job {listed(step.job_id for step in slow)}")  # fmt: skip
    elif starting:
        yield ok("an extern step is being set up: its user can log in in a moment",
                 f"job {listed(step.job_id for step in starting)}")  # fmt: skip
    elif ending:
        yield ok("a job is ending: nobody can log in to it any more",
                 f"job {listed(step.job_id for step in ending)}")  # fmt: skip
    else:
        yield ok("no extern step here is being set up or ending")


def _age(pid: int) -> float:
    """Return how many seconds ago a process was started; 0 where that does not show."""
    started = proc.start_time(pid)
    return proc.age(started) if started else 0.0


@ASKED
def step_cgroups(host: Host) -> Iterator[Seen]:
    """Whether each extern step has the cgroups that sessions are to be put into."""
    layout = _wanted_layout(host, "this configuration confines nothing by cgroups")
    if isinstance(layout, Seen):
        yield layout
        return
    asked = slurm_facts.asked(host)
    running = {step: each.uid for step, each in asked.answers.items()
               if each.state in stepd.ALIVE and each.state != stepd.STARTING}  # fmt: skip
    texts = [
        f"job {step.job_id}: {', '.join(names)}"
        for step, uid in running.items()
        if (names := _lacking(host, layout, step, uid))
    ]
    if texts:
        yield error("an extern step lacks cgroups that the configuration wants", listed(texts))
    elif running:
        yield ok("each extern step has the cgroups that the configuration wants")
    else:
        yield ok("no job is here now that would have cgroups")


def _lacking(host: Host, layout: Layout, step: StepSocket, uid: int) -> list[str]:
    """Return the controllers in which a step has no cgroup.

    What jobacct_gather/cgroup wants is left out: in 26.05 its cgroups come with the first process.
    """
    if hierarchy.UNIFIED in layout.missing(step.pid, step, uid):
        try:
            stepds = hierarchy.of_process(step.pid, layout.proc).get(hierarchy.UNIFIED, "")
        except SetupError:  # it has just ended
            return []
        return [] if paths.parse_stepd(stepds) else ["cgroup v2"]
    missing = layout.missing(os.getpid(), step, uid)
    return [name for name, path in missing.items() if path is None and name in _at_once(host)]


def _at_once(host: Host) -> frozenset[str]:
    """Return the controllers of v1 in which each step has a cgroup before its first process."""
    without = config.Conf(slurm_facts.conf(host).path)
    without.values = {**slurm_facts.conf(host).values, "jobacctgathertype": ""}
    return step_cgroup.confining(without, slurm_facts.cgroup_conf(host))


CHECKS = (
    Check(
        "SA411",
        STEPDS,
        "stepds answer",
        answer,
        expected="Each extern stepd of this node answers.",
        why="Nobody can log in to a job whose stepd does not answer. Its user waits for seconds "
        "before that is said.",
        fix="Find out why the stepd hangs (ps, dmesg, SlurmdLogFile). Resume it with kill -CONT if "
        "it is stopped, or end the job.",
        seconds=deadlines.SLOW,
    ),
    Check(
        "SA412",
        STEPDS,
        "releases of the stepds",
        releases,
        expected="The stepds are of releases that are known to this version of the module.",
        why="What stepds of a newer release are asked may have changed.",
        fix="Update this module, and see docs/reference/compatibility.md.",
        seconds=deadlines.SLOW,
    ),
    Check(
        "SA413",
        STEPDS,
        "extern steps",
        extern_steps,
        expected="Each job that has a step here has an extern step, and its stepd runs.",
        why="A job without an extern step does not count: its user is refused.",
        fix="Set PrologFlags=Contain, and restart slurmd. Jobs that were started before have no "
        "extern step until they end. Where an extern stepd has died the job has to be started "
        "again.",
        seconds=deadlines.SLOW,
    ),
    Check(
        "SA414",
        STEPDS,
        "suspended jobs",
        suspended,
        expected="No job on this node is suspended.",
        why="What is put into a suspended job stops. So its user is refused, unless "
        "action_suspended=allow is set.",
        fix="Resume the job with scontrol resume, or leave it: its user is told why.",
        seconds=deadlines.SLOW,
    ),
    Check(
        "SA415",
        STEPDS,
        "states of the jobs",
        states,
        expected="An extern step is ready within a minute.",
        why="Until it is ready its user waits at each login, and is then refused.",
        fix="Find out what holds the stepd up: an InitScript of job_container.conf, a SPANK plugin "
        "or a dead file system. Set the option wait_for_job= to wait longer.",
        seconds=deadlines.SLOW,
    ),
    Check(
        "SA416",
        STEPDS,
        "cgroups of the jobs",
        step_cgroups,
        expected="Each extern step has a cgroup wherever this configuration confines jobs.",
        why="A session cannot be put into a cgroup that is not there. Its adoption fails.",
        fix="If the configuration was changed, restart slurmd. Jobs that were started before lack "
        "the cgroups until they end.",
        seconds=deadlines.SLOW,
    ),
)
