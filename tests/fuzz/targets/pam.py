"""What stands in PAM's files, and what comes through PAM."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from slurm_adopt.cli.install import our_lines
from slurm_adopt.cli.install.pam_text import PamText
from slurm_adopt.decision.options import BY_NAME, LOG_LEVELS, OPTIONS, SWITCHES, parse
from slurm_adopt.decision.variables import VARIABLES
from slurm_adopt.front.pam_exec import Items
from slurm_adopt.node import asking, pam_files, pam_stack, ssh_connection
from slurm_adopt.node.jobs import Job
from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.errors import PeerError
from slurm_adopt.slurm.stepd.step_sockets import StepSocket
from tests.fuzz.given import SPLIT, folder, put
from tests.fuzz.target import target

SCRIPTS = (b"pam_slurm_adopt.py", b"pam_slurm_adopt_exec")
TIMES = {"callerid_timeout": (0.1, 30.0), "wait_for_job": (0.0, 60.0)}


@target(
    *(f"{option.name}=" for option in OPTIONS),
    *dict.fromkeys(value for option in OPTIONS if isinstance(option.values, tuple)
                   for value in option.values),
    *LOG_LEVELS, "\n", "=", "all", ",", "SLURM_JOB_NAME", "any", "user", "/etc/motd", "0.1", "30",
    longest=1024,
)  # fmt: skip
def pam_arguments(data: bytes) -> None:
    """Each option has the value that its last argument names, and what is not understood is strict.

    Arguments are the lines.
    """
    arguments = data.decode("utf-8", "surrogateescape").split("\n")
    options, complaints = parse(arguments)
    given: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name.lower() in BY_NAME:
            given[name.lower()] = value
    for option in OPTIONS:
        value, said = options[option.name], given.get(option.name)
        if said is None:
            assert value == option.default
            continue
        assert _means(option.name, said) == value, (option.name, said, value)
        if value != said.lower() and value == option.strictest and option.strictest:
            assert complaints, (option.name, said)
    for switch in SWITCHES:
        assert options.on(switch) in (True, False)
    assert 0 <= options.log_level < len(LOG_LEVELS)
    assert 0.1 <= options.seconds("callerid_timeout") <= 30
    assert 0 <= options.seconds("wait_for_job") <= 60
    assert len(complaints) <= 2 * len(arguments) + 2


def _means(name: str, said: str) -> str:
    """Return what a value means: the table's own, or the strictest."""
    option = BY_NAME[name]
    said = option.older.get(said.lower(), said)
    good = said
    if isinstance(option.values, tuple):
        good = next((value for value in option.values if value == said.lower()), "")
        return good or option.strictest
    if name == "log_level":
        known = said.lower() in LOG_LEVELS or bool(re.fullmatch("[0-9]", said))
        return said.lower() if known else option.strictest
    if name in TIMES:
        plain = re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", said)
        least, most = TIMES[name]
        return said if plain and least <= float(said) <= most else option.strictest
    if name == "job_env":
        names = [
            word.lower() if word.lower() == "all" else word.upper() for word in said.split(",")
        ]
        known = all(word == "all" or word in VARIABLES for word in names)
        return ",".join(names) if known else option.strictest
    if name in ("message", "slurm_conf"):
        return said if said[:1] == "/" and said.isprintable() else option.strictest
    return said if said and said.isprintable() and not {*said} & {" ", "/"} else option.strictest


WORDS = (
    "session required pam_python.so /opt/slurm_adopt/pam/pam_slurm_adopt.py\n",
    "account required pam_exec.so quiet stdout /opt/slurm_adopt/pam/pam_slurm_adopt_exec\n",
    "session [success=1 default=ignore] pam_succeed_if.so quiet uid eq 0\n", "session ", "account ",
    "auth ", "-session ", "required ", "requisite ", "sufficient ", "optional ", "include ",
    "substack ", "@include ", "common-session", "sshd", "[success=1 default=ignore]", "[default=",
    "done", "die", "reset", "\\\n", "\\]", "#", "pam_unix.so", "pam_systemd.so", "service=*",
    "join_container=true", "join_container=false", "type=session", "\t", "\n", SPLIT,
)  # fmt: skip


@target(*WORDS, longest=4096)
def pam_stack_files(data: bytes) -> None:
    """Only lines with our script are ours, and only a stack with one of them is certain.

    The parts are the service sshd, and what it includes as common-session and as other.
    """
    top = folder("pam_stack_files")
    names = ("sshd", "common-session", "other")
    parts = data.split(SPLIT, 2)
    for name, part in zip(names, [*parts, b"", b""]):
        put(f"{top}/{name}", part)
    places = (top,)
    there = sum(part.count(script) for part in parts for script in SCRIPTS)
    for phase in ("session", "account"):
        stack = pam_files.read(phase, "sshd", places)
        assert len(stack.paths) <= pam_files.FILES
        for index in stack.ours:
            line = stack.lines[index]
            assert any(script.decode() in word for word in line.arguments for script in SCRIPTS)
        for line in stack.lines:
            text = "\0".join((line.control, line.module, *line.arguments)).encode("latin-1")
            held = any(script in text for script in SCRIPTS)
            assert held or line.ours is None
            for action in line.actions.values():
                assert action in pam_files._ACTIONS or (isinstance(action, int) and action > 0)
    why = pam_stack.why_uncertain("sshd", places)
    ours, joins = pam_stack.session_line("sshd", places), pam_stack.joins("sshd", places)
    if not there:
        assert why
        assert ours is None
        assert not joins
    if not why:
        assert re.search(rb"(?i)session", data)
        _certain(pam_files.read("session", "sshd", places))


def _certain(stack: pam_files.Stack) -> None:
    """Assert that the run in which all modules succeed comes to our line, or is refused before.

    Conditions on the user alone are not met: who meets them jumps over both lines of ours.
    """
    assert len(stack.ours) == 1
    ours = stack.ours[0]
    assert stack.lines[ours].control.lower() in ("required", "requisite")
    at = 0
    while at < ours:
        line = stack.lines[at]
        action = line.actions.get("success", line.actions.get("default", "ignore"))
        if pam_stack.is_of_user(line):
            action = "ignore"
        if action in ("die", "bad"):  # refused, and nothing that is certain may undo it
            return
        complete = True
        if isinstance(action, int):
            at, complete = pam_stack.jump(stack.lines, at, action)
        else:
            at += 1
        while action == "done" and at < len(stack.lines) and stack.lines[at].level >= line.level:
            at += 1  # to the end of its substack
        if not complete:  # libpam refuses a run that jumps behind the end
            return
    assert at == ours


def _letters(text: str) -> str:
    """Return what is left without blanks, ends of lines and backslashes."""
    return "".join(text.replace("\\", "").split())


@target(*WORDS, longest=4096)
def pam_text(data: bytes) -> None:
    """What is not edited stays to the byte, and taking our lines out leaves none of them."""
    text = PamText(data)
    assert text.edited().data == data
    ends = 0
    for entry in text.entries:
        assert ends <= entry.start < entry.end <= len(text.lines)
        ends = entry.end
        assert str(entry)
        source = _letters("".join(text.lines[entry.start : entry.end]))
        assert all(_letters(word) in source for word in entry.words[:1])
    for index in (0, len(text.lines) // 2, len(text.lines)):
        edited = PamText(data)
        edited.insert(index, ["# a line"])
        new = edited.edited()
        lines = new.data.decode("latin-1").split("\n")
        assert "# a line" in lines
        again = PamText(new.data)
        for number in sorted(new.new, reverse=True):
            again.remove(number - 1, number)
        assert again.edited().data.rstrip(b"\n") == data.rstrip(b"\n")
    for phase in ("account", "session"):
        for pair in our_lines.pairs(text, phase, our_lines.is_ours):
            our_lines.take_out(text, pair)
    left = PamText(text.edited().data)
    kinds = {entry.kind for entry in left.entries if our_lines.is_ours(entry)}
    assert not kinds & {"account", "session"}
    assert {*left.lines} <= {*text.lines} | {line.rstrip("\n") for line in text.lines}


@target(
    "127.0.0.1 50000 127.0.0.2 22", "10.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", " ", "\0",
    "22", "65536", "SSH_CONNECTION=", "PAM_RHOST=", "PAM_USER=", "PAM_TTY=", "PAM_SERVICE=", "n1",
    longest=512,
)  # fmt: skip
def said_by_the_service(data: bytes) -> None:
    """What the environment says only confirms: the connection is one of the sockets', or none."""
    text = data.decode("utf-8", "surrogateescape")
    items = dict(word.partition("=")[::2] for word in text.split("\0") if "=" in word)
    one = Items(items, os.getpid())
    shown = [
        Connection("10.0.0.1", 50000, "10.0.0.2", 22),
        Connection("127.0.0.1", 50000, "127.0.0.2", 22),
        Connection("fe80::1", 50001, "fe80::2", 22),
    ]
    for sockets in (shown, shown[:1], [shown[0], shown[0]], []):
        found, remark = ssh_connection.choose(sockets, one.variable("SSH_CONNECTION"), one.rhost)
        assert found is None or found in sockets
        assert found is not None or remark
        if found is not None and one.rhost:
            with suppress(ValueError):
                assert found.source == ssh_connection.normal(one.rhost)[1]
    for word in text.split():
        with suppress(ValueError):
            family, address = ssh_connection.normal(word)
            assert ssh_connection.normal(address) == (family, address)


@target("7", "8", "\n", " ", "007", "99999999999999999999", "\u0667", "-1", longest=128)
def typed_answer(data: bytes) -> None:
    """Whatever is typed, and whatever jobs are called, the answer is one of the jobs or none.

    The last line is what jobs are called, the others are answers.
    """
    text = data.decode("utf-8", "surrogateescape")
    *said, name = text.split("\n")
    jobs = [Job(StepSocket(f"/spool/n1_{job}.4294967292", job), 1000) for job in (7, 8, 31)]
    asked: list[str] = []

    def converse(question: str) -> str | None:
        asked.append(question)
        return said.pop(0) if said else None

    with suppress(PeerError):
        found = asking.ask(jobs, jobs[2], converse, lambda some: {job.job_id: name for job in some})
        assert found in (None, 7, 8, 31)
    assert len(asked) <= asking.TRIES
    assert all(len(question) < 1000 for question in asked)
