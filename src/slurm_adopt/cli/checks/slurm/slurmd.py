"""This node: its name, the spool directory and what lies in it, the slurmd that runs here."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from slurm_adopt.cli import deadlines
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.host import LateError
from slurm_adopt.slurm import proc, versions
from slurm_adopt.slurm.config import conf as config
from slurm_adopt.slurm.config import slurmd_processes
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.stepd import step_sockets

from . import slurm_facts
from .conf_lines import where
from .slurm_conf import open_to
from .slurm_facts import listed, needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host

NODE = "node"
MANY = 200  # dead sockets that are worth a word: each costs a login ten microseconds
_SOCKET = re.compile(r".+_\d+\.\d+(\.\d+)?")
_ALIASES = "node name as "  # begins a remark of slurm_site.py


@needs(slurm_facts.conf)
def name(host: Host) -> Iterator[Seen]:
    """Which node this is, and how that is known."""
    conf = slurm_facts.conf(host)
    try:
        found = slurm_facts.place(host)[0]
    except (SetupError, LateError) as wrong:
        yield error("the node name cannot be told", str(wrong), conf.path)
        return
    several = [text for text in host.remarks.of("info") if " are on this host (" in text]
    said = [text for text in host.remarks.of("debug") if text.startswith(_ALIASES)]
    if host.options["nodename"]:
        at = slurm_facts.option_place(host, "nodename")
        yield ok("the node name is that of the option nodename=", found, *at)
    elif several:
        yield warning("slurm.conf has several nodes on this host", several[-1], conf.path)
    elif said:
        yield ok(f"the node name is known, {said[-1].removeprefix(_ALIASES).split(' ')[0]}"
                 " has it", said[-1])  # fmt: skip
    elif config.node_names(conf, os.uname().nodename):
        yield ok("slurm.conf has the node name in the line with this host's name", found)
    else:
        yield ok("the node name is that of the sockets in the spool directory", found)


@needs(slurm_facts.conf, slurm_facts.place)
def right_node(host: Host) -> Iterator[Seen]:
    """Whether slurm.conf has this node, and slurmd runs under its name."""
    conf = slurm_facts.conf(host)
    found, spool = slurm_facts.place(host)
    at = slurm_facts.option_place(host, "nodename") if host.options["nodename"] else (conf.path, 0)
    given = [slurmd.node for slurmd in slurm_facts.slurmds(host) if slurmd.node]
    alive = step_sockets.node_names(spool, alive=True) if os.access(spool, os.R_OK) else set()
    if not config.has_node(conf, found):
        yield error("slurm.conf has no node of the name that this host is taken for", found, *at)
    elif given and found not in given:
        yield error("slurmd was started with another node name",
                    f"this host is taken for {found}, slurmd for {listed(given)}", *at)  # fmt: skip
    elif alive and found not in alive:
        yield error("the jobs in the spool directory are of another node",
                    f"this host is taken for {found}, the jobs are of {listed(sorted(alive))}",
                    *at)  # fmt: skip
    else:
        yield ok("slurm.conf has this node, and nothing here goes by another name", found)


@needs(slurm_facts.conf, slurm_facts.place)
def spool(host: Host) -> Iterator[Seen]:
    """Whether the spool directory is there, and whose it is."""
    conf = slurm_facts.conf(host)
    at = where(host, conf, "SlurmdSpoolDir")
    directory = slurm_facts.place(host)[1]
    try:
        os.listdir(directory)
    except OSError as wrong:
        text = f"{directory}: {wrong.strerror}"
        if host.is_root or not isinstance(wrong, PermissionError):
            yield error("the spool directory cannot be read", text, *at)
        else:
            yield skipped("the spool directory cannot be read by this user", text)
        return
    if why := open_to(os.path.realpath(directory), conf.uids("SlurmdUser")):
        yield error("others than root and slurmd may write to the spool directory", why, *at)
    else:
        yield ok("only root and slurmd may write to the spool directory", directory, *at)


def runs(host: Host) -> Iterator[Seen]:
    """Whether slurmd runs here."""
    if not host.is_root:
        yield from _runs_for_users()
        return
    found = [slurmd for slurmd in slurm_facts.slurmds(host) if slurmd.program == "slurmd"]
    stopped = [
        each for each in found if proc.stat(f"{proc.PROC}/{each.pid}")[:1] in ([b"T"], [b"t"])
    ]
    if stopped:
        yield error("slurmd is stopped", listed(stopped))
    elif found:
        yield ok("slurmd runs here, as root")
    elif slurm_facts.slurmds(host):
        yield error("slurmd does not run here; stepds do")
    elif slurmd_processes.hidden():
        yield skipped("slurmd may run, but root is not let look at its process")
    else:
        yield error("neither slurmd nor a stepd runs here as root")


def _runs_for_users() -> Iterator[Seen]:
    """Say what the names of processes say; a user can call a process so, but root's are root's."""
    processes = [f"{proc.PROC}/{pid}" for pid in proc.pids()]
    found = [one for one in processes if proc.comm(one).removesuffix("-wlm") == "slurmd"]
    if any(map(proc.is_root, found)):
        yield ok("slurmd runs here, as root")
    else:
        yield skipped("no slurmd is shown to this user")


def release(host: Host) -> Iterator[Seen]:
    """Which release of Slurm runs here, and whether it is one that is known."""
    found, whole = slurm_facts.release(host), slurm_facts.version(host)
    known = [row.name for row in versions.RELEASES]
    if not found:
        yield skipped("the release of Slurm does not show")
    elif found in known:
        yield ok(f"this node runs Slurm {found}", whole)
    elif slurm_facts.at_least(host, known[-1]):
        yield warning(f"this node runs Slurm {found}, which is newer than any that is known", whole)
    else:
        yield error(f"this node runs Slurm {found}, which is not supported", whole)


@needs(slurm_facts.conf, slurm_facts.place, slurm_facts.asked)
def dead(host: Host) -> Iterator[Seen]:
    """How many sockets lie in the spool directory without a stepd."""
    node, directory = slurm_facts.place(host)
    asked = slurm_facts.asked(host)
    lying = len(asked.dead)
    there = len(asked.answers) + len(asked.silent)
    text = f"{there} sockets of extern steps with a stepd, {lying} without, in {directory}"
    del node
    if lying >= MANY:
        yield warning("many sockets without a stepd lie in the spool directory", text, directory)
    elif lying:
        yield ok("few sockets without a stepd lie in the spool directory", text, directory)
    else:
        yield ok("each socket in the spool directory has its stepd", text, directory)


@needs(slurm_facts.conf, slurm_facts.place, slurm_facts.asked)
def planted(host: Host) -> Iterator[Seen]:
    """Whether somebody else than Slurm has made one of the sockets, or listens on it."""
    trusted = slurm_facts.conf(host).uids("SlurmdUser")
    directory = slurm_facts.place(host)[1]
    bad = 0
    for file in sorted(filter(_SOCKET.fullmatch, proc.listing(directory))):
        path = f"{directory}/{file}"
        try:
            status = os.lstat(path)
        except OSError:  # its step has just ended
            continue
        why = ""
        if not stat.S_ISSOCK(status.st_mode):
            why = "it is not a socket"
        elif status.st_uid not in trusted:
            why = f"it belongs to uid {status.st_uid}"
        if why:
            bad += 1
            yield error("a file in the spool directory is like a stepd's socket and is none",
                        f"{path}: {why}", path)  # fmt: skip
    for step, why in slurm_facts.asked(host).strangers.items():
        bad += 1
        yield error("somebody else than Slurm listens on a socket in the spool directory", why,
                    step.path)  # fmt: skip
    if not bad:
        yield ok("all sockets in the spool directory are Slurm's")


CHECKS = (
    Check(
        "SA401",
        NODE,
        "node name",
        name,
        expected="slurm.conf has one node on this host, or the option nodename= chooses one.",
        why="The sockets of jobs carry the node name. With a wrong name the module finds no job, "
        "and refuses every user.",
        fix="Set the option nodename= to the NodeName of this node.",
    ),
    Check(
        "SA402",
        NODE,
        "this node in slurm.conf",
        right_node,
        expected="slurm.conf has a node of this name. slurmd and the jobs here go by it.",
        why="The sockets of jobs carry the node name. With a wrong name the module finds no job, "
        "and refuses every user.",
        fix="Correct the option nodename=, or the NodeName line in slurm.conf.",
    ),
    Check(
        "SA403",
        NODE,
        "spool directory",
        spool,
        expected="The spool directory is there. It and the directories above it belong to root or "
        "SlurmdUser, and nobody else may write to them.",
        why="Each login looks for the sockets of jobs there. Who may write there can remove a "
        "job's socket, so that its user is refused.",
        fix="Correct SlurmdSpoolDir in slurm.conf, or run chown root and chmod go-w on what is "
        "named.",
    ),
    Check(
        "SA404",
        NODE,
        "slurmd runs",
        runs,
        expected="slurmd runs here as root, and is not stopped.",
        why="Without slurmd no job starts here, and no other node can ask this one by callerid. "
        "Users of running jobs can still log in.",
        fix="Start slurmd (systemctl start slurmd). On a host without jobs take the lines of this "
        "module out of the PAM stack.",
    ),
    Check(
        "SA405",
        NODE,
        "release of Slurm",
        release,
        expected="The release of Slurm is known to this version of the module.",
        why="A newer release may have changed what stepds and slurmds are asked. What is not known "
        "is taken for the newest known release.",
        fix="Update this module, and see docs/reference/compatibility.md.",
        seconds=deadlines.SLOW,
    ),
    Check(
        "SA406",
        NODE,
        "sockets without a stepd",
        dead,
        expected="Fewer than 200 sockets of extern steps lie in the spool directory without a "
        "stepd.",
        why="Some releases (24.11.5) leave a socket behind. Each login tries them all.",
        fix="Remove the sockets of jobs that have ended, while no slurmstepd of theirs runs. A "
        "newer release of Slurm leaves none.",
        seconds=deadlines.SLOW,
    ),
    Check(
        "SA407",
        NODE,
        "sockets are Slurm's",
        planted,
        expected="What looks like a stepd's socket is a socket of root's or SlurmdUser's, and one "
        "of these listens on it.",
        why="Somebody may have made it to pass for a job. The module takes no notice of it.",
        fix="Find out who could write to the spool directory. Remove what is named.",
        seconds=deadlines.SLOW,
    ),
)
