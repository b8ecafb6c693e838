"""What several checks need of this host's Slurm, looked up once for each host."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Callable, NamedTuple

from slurm_adopt.cli import deadlines
from slurm_adopt.cli.checks.finding import skipped
from slurm_adopt.cli.checks.host import LateError
from slurm_adopt.cli.checks.machine import processes
from slurm_adopt.cli.checks.places import pam_line
from slurm_adopt.cli.verdict.pam_line import named
from slurm_adopt.slurm import auth, proc, versions
from slurm_adopt.slurm.config import conf as slurm_config
from slurm_adopt.slurm.config import hostlist, slurmd_processes
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.stepd import ask_all, old_greeting, step_sockets
from slurm_adopt.slurm.waiting import Deadline, Patience

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slurm_adopt.cli.checks.finding import Look, Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.node.slurm_site import SlurmSite
    from slurm_adopt.slurm.cgroup.step_cgroup import Layout
    from slurm_adopt.slurm.config.conf import Conf
    from slurm_adopt.slurm.config.slurmd_processes import Slurmd
    from slurm_adopt.slurm.stepd.ask_all import Answer
    from slurm_adopt.slurm.stepd.step_sockets import StepSocket

_LISTED = 8  # jobs or nodes in one text


# slurm.conf


def site(host: Host) -> SlurmSite:
    """Return where this host's Slurm is, settled: it may turn to a running slurmd's slurm.conf."""
    return host.once("slurm's site", lambda: _settled(host), deadlines.SITE)


def _settled(host: Host) -> SlurmSite:
    found = host.site
    with suppress(SetupError):
        found.steps()
    return found


def conf(host: Host) -> Conf:
    """Return slurm.conf; SetupError."""
    return host.once("slurm.conf", lambda: site(host).conf)


def cgroup_conf(host: Host) -> Conf:
    """Return the cgroup.conf beside slurm.conf; an empty one if there is none; SetupError."""
    path = conf(host).path
    return host.once("cgroup.conf", lambda: slurm_config.load_beside(path, "cgroup.conf"))


def place(host: Host) -> tuple[str, str]:
    """Return node name and spool directory; SetupError."""
    found = site(host)
    return host.once("node name", lambda: (found.name, found.spool))


def layout(host: Host) -> Layout | None:
    """Return where the extern steps of this node have their cgroups; SetupError."""
    found = site(host)
    return host.once("layout", found.layout)


def gres_of_node(host: Host) -> str:
    """Return the Gres of this node's line in slurm.conf; of any node where its name is unknown."""
    slurm_conf = conf(host)
    try:
        name = place(host)[0]
    except SetupError:
        return next((line["gres"] for line in slurm_conf.nodes if line.get("gres")), "")
    default = ""
    for line in slurm_conf.nodes:
        if slurm_config.is_default(line):
            default = line.get("gres", default)
        elif hostlist.contains(line["nodename"], name, fold=True):
            return line.get("gres", default)
    return ""


def release(host: Host) -> str:
    """Return the release of the Slurm that runs here, as 24.05; "" where that does not show."""
    return ".".join(version(host).split(".")[:2])


def version(host: Host) -> str:
    """Return what the running slurmd calls its version, else the newest stepd's release; or ""."""
    return host.once("version", lambda: _version(host), deadlines.VERSION + deadlines.STEPDS)


def _version(host: Host) -> str:
    for slurmd in slurmds(host):
        if not processes.is_this_host_s(slurmd.pid):
            continue
        if said := _asked_version(f"{proc.PROC}/{slurmd.pid}/exe", slurmd.program):
            return said
    try:
        spoken = [answer.protocol for answer in asked(host).answers.values()]
    except (SetupError, LateError):
        return ""
    known = versions.layout_of(max(spoken)) if spoken else None
    return known.name if known else ""


def _asked_version(program: str, name: str) -> str:
    """Return what a slurmd says to -V: `slurm 24.05.2`, or `slurm-wlm 22.05.8` of Debian's."""
    if name != "slurmd":
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(  # noqa: S603 - the program of a process of root's, by its pid
            [program, "-V"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=deadlines.VERSION,
            check=False,
            env={"LC_ALL": "C"},
        )
        words = said.stdout.decode("ascii", "replace").split()
        if len(words) == 2 and words[0].startswith("slurm") and words[1][:1].isdigit():
            return words[1]
    return ""


def at_least(host: Host, name: str) -> bool | None:
    """Say whether the Slurm here is of a release or newer; None where that does not show."""
    found = release(host)
    return _number(found) >= _number(name) if found else None


def _number(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in name.split("."))


# slurmd and the stepds


def slurmds(host: Host) -> list[Slurmd]:
    """Return root's slurmds here, or root's stepds where there is none; root alone sees them."""
    return host.once("slurmds", slurmd_processes.slurmds)


class Asked(NamedTuple):
    """What some stepds of this node have said."""

    answers: dict[StepSocket, Answer]
    silent: dict[StepSocket, str]  # and why there is no answer
    dead: list[StepSocket]  # sockets that nobody listens on

    @property
    def strangers(self) -> dict[StepSocket, str]:
        """Sockets that somebody else than Slurm listens on."""
        return {step: why for step, why in self.silent.items() if step.stranger}


def asked(host: Host) -> Asked:
    """Ask the extern stepds for user and state, as a login does; SetupError."""
    return host.once("stepds", lambda: _asked(host), deadlines.STEPDS + deadlines.SHARED)


def _asked(host: Host) -> Asked:
    name, spool = place(host)
    return ask(host, step_sockets.extern_steps(spool, name))


def ask(host: Host, steps: list[StepSocket]) -> Asked:
    """Ask the stepds of some steps for user and state."""
    deadline = (
        Deadline(deadlines.AT_ONCE) if host.quick else Patience(deadlines.SILENT, deadlines.STEPDS)
    )

    def introduce(left: Deadline) -> bytes:  # stepds of 17.11 and 18.08, as a login does
        return old_greeting.make(auth.of(conf(host)), left)

    answers, silent = ask_all.ask_all(steps, site(host).trusted, deadline, introduce)
    return Asked(answers, silent, [s for s in steps if s not in answers and s not in silent])


# Texts


def listed(texts: Iterable[object]) -> str:
    """Return the first of some texts, and how many more there are."""
    each = [str(text) for text in texts]
    more = f" and {len(each) - _LISTED} more" if len(each) > _LISTED else ""
    return ", ".join(each[:_LISTED]) + more


def needs(*wanted: Callable[[Host], object]) -> Callable[[Look], Look]:
    """Skip a check where what it needs cannot be had: another check says why.

    The first line of a look's docstring is its question, which is not answered then.
    """

    def around(look: Look) -> Look:
        @wraps(look)
        def looked(host: Host) -> Iterator[Seen]:
            for each in wanted:
                try:
                    each(host)
                except (SetupError, LateError) as wrong:
                    yield skipped(
                        f"{_question(look)}: not known, since {_LACKING[each]}", str(wrong)
                    )
                    return
            yield from look(host)

        return looked

    return around


def _question(look: Look) -> str:
    text = (look.__doc__ or "").partition("\n")[0].rstrip(".")
    return text[:1].lower() + text[1:]


_LACKING: dict[Callable[[Host], object], str] = {
    conf: "no slurm.conf can be read",
    cgroup_conf: "cgroup.conf cannot be read",
    place: "the node name is not known",
    layout: "the cgroups of this node are not known",
    asked: "the stepds cannot be asked",
}


def option_place(host: Host, name: str) -> tuple[str, int]:
    """Return file and line of PAM where one of our lines sets an option; "" and 0 for nowhere."""
    setting = (line for line in host.all_our_lines() if name in named(line.ours or []))
    return next(map(pam_line, setting), ("", 0))
