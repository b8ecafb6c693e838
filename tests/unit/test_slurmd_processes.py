"""The running slurmds: whose, which options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_adopt.slurm.config import slurmd_processes


def process(
    proc: Path,
    pid: int,
    words: list[str],
    exe: str = "/usr/sbin/slurmd",
    uids: str = "0\t0\t0\t0",
    environment: tuple[str, ...] = (),
) -> None:
    """Make a process of a /proc."""
    directory = proc / str(pid)
    directory.mkdir(parents=True)
    (directory / "exe").symlink_to(exe)
    (directory / "cwd").symlink_to("/var/cwd")
    (directory / "status").write_text(f"Name:\tslurmd\nUid:\t{uids}\nGid:\t0\t0\t0\t0\n")
    for name, strings in (("cmdline", words), ("environ", environment)):
        (directory / name).write_bytes(b"".join(word.encode() + b"\0" for word in strings))


# (command line, -f, -N, --conf-server)
COMMANDS = [
    ("slurmd", "", "", False),
    ("slurmd -D -s", "", "", False),
    ("slurmd -f /c/slurm.conf -N n1", "/c/slurm.conf", "n1", False),
    ("slurmd -Nn1 -f/c/slurm.conf", "/c/slurm.conf", "n1", False),
    ("slurmd -DvvN n1 -M", "", "n1", False),
    ("slurmd -f c/slurm.conf", "/var/cwd/c/slurm.conf", "", False),
    ("slurmd -d /opt/-N -L -f -n -N", "", "", False),
    ("slurmd --conf-server ctl:6817 -N n1", "", "n1", True),
    ("slurmd --conf-server=ctl --systemd", "", "", True),
    ("slurmd -Z --conf Feature=-N --extra -f -N d7", "", "d7", False),
    ("slurmd -Fgpu -N f1", "", "f1", False),
    ("slurmd -FN", "", "", False),
    ("slurmd -- -N n1", "", "", False),
    ("slurmd -N", "", "", False),
]


@pytest.mark.parametrize(("command", "conf", "node", "configless"), COMMANDS)
def test_options(tmp_path: Path, command: str, conf: str, node: str, configless: bool) -> None:
    process(tmp_path, 7, command.split())
    (found,) = slurmd_processes.slurmds(str(tmp_path))
    assert (found.pid, found.conf, found.node, found.configless) == (7, conf, node, configless)
    assert found.told is bool(conf)
    assert "slurmd 7 (" in str(found)


# (program, uids, counts)
WHOSE = [
    ("/usr/sbin/slurmd", "0\t0\t0\t0", True),
    ("/opt/slurm/sbin/slurmd (deleted)", "0\t0\t0\t0", True),
    ("/usr/sbin/slurmd-wlm", "0\t0\t0\t0", True),
    ("/usr/sbin/slurmd-wlm (deleted)", "0\t0\t0\t0", True),
    ("/home/alice/slurmd", "5001\t5001\t5001\t5001", False),
    ("/home/alice/slurmd", "5001\t0\t0\t0", False),
    ("/home/alice/slurmd", "0\t5001\t0\t0", False),
    ("/usr/sbin/slurmdbd", "0\t0\t0\t0", False),
    ("/usr/sbin/srun", "0\t0\t0\t0", False),
]


@pytest.mark.parametrize(("program", "uids", "counts"), WHOSE)
def test_whose(tmp_path: Path, program: str, uids: str, counts: bool) -> None:
    process(tmp_path, 7, ["slurmd", "-N", "n1"], program, uids)
    assert bool(slurmd_processes.slurmds(str(tmp_path))) is counts


# What a slurmd reads, the first first: Slurm's own order. TOP is a directory with an installation
# in opt/, another one in old/, and what a configless slurmd has fetched.
# (program, command line, environment, slurm.conf, as the log has it)
CONFS = [
    ("TOP/opt/sbin/slurmd", "slurmd", (), "TOP/opt/etc/slurm.conf", " beside its program)"),
    ("TOP/opt/sbin/slurmd (deleted)", "slurmd", (), "TOP/opt/etc/slurm.conf", " beside its "),
    ("TOP/old/sbin/slurmd", "slurmd", (), "TOP/old/etc/slurm/slurm.conf", " beside its program)"),
    ("TOP/x/sbin/slurmd", "TOP/opt/sbin/slurmd -D", (), "TOP/opt/etc/slurm.conf", " beside its "),
    ("TOP/x/sbin/slurmd", "opt/sbin/slurmd -D", (), "", "slurmd 7 (no options)"),
    ("TOP/opt/sbin/slurmd", "slurmd", ("SLURM_CONF=/e",), "/e", "slurmd 7 (SLURM_CONF=/e)"),
    ("TOP/opt/sbin/slurmd", "slurmd", ("A=SLURM_CONF=/e",), "TOP/opt/etc/slurm.conf", ""),
    ("TOP/opt/sbin/slurmd", "slurmd", ("SLURM_CONF=",), "TOP/opt/etc/slurm.conf", ""),
    ("TOP/opt/sbin/slurmd", "slurmd", ("SLURM_CONF=c/d",), "/var/cwd/c/d", ""),
    ("TOP/x/slurmd", "slurmd", ("SLURM_CONF=/e", "SLURM_CONF=/f"), "/e", ""),  # as getenv(3)
    ("TOP/opt/sbin/slurmd", "slurmd -f /f", ("SLURM_CONF=/e",), "/f", "slurmd 7 (-f /f)"),
    ("TOP/opt/sbin/slurmd", "slurmd -f /f --conf-server c", ("SLURM_CONF=/e",), "TOP/run", ""),
    ("TOP/opt/sbin/slurmd", "slurmd --conf-server c", (), "TOP/run", "slurmd 7 (--conf-server)"),
    (
        "TOP/opt/sbin/slurmd",
        "slurmd --conf-server c",
        ("SLURM_CONF=/e", "SLURMD_RECONF_CONF_CACHE=/s/conf-cache"),
        "/s/conf-cache/slurm.conf",
        "slurmd 7 (--conf-server)",
    ),
    ("TOP/x/sbin/slurmd", "slurmd", ("SLURMD_RECONF_CONF_CACHE=/s",), "/s/slurm.conf", ""),
    ("TOP/opt/sbin/slurmstepd", "slurmstepd: [7.extern]", (), "TOP/opt/etc/slurm.conf",
     "slurmstepd 7 (TOP/opt/etc/slurm.conf beside its program)"),
    ("TOP/opt/sbin/slurmstepd", "x -f /f -N y", ("]", "", "", "/bin", "SLURM_CONF=/etc/passwd"),
     "/etc/passwd", "slurmstepd 7 (SLURM_CONF=/etc/passwd)"),
    ("TOP/opt/sbin/slurmstepd", "x", ("]", "SLURM_CONF=/nowhere"), "TOP/opt/etc/slurm.conf", ""),
    ("TOP/opt/sbin/slurmstepd", "x", ("]", "", "", "CONF=/e"), "TOP/opt/etc/slurm.conf", ""),
]  # fmt: skip


@pytest.mark.parametrize(("program", "command", "environment", "conf", "named"), CONFS)
def test_which_slurm_conf(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    command: str,
    environment: tuple[str, ...],
    conf: str,
    named: str,
) -> None:
    for name in ("opt/etc/slurm.conf", "old/etc/slurm/slurm.conf", "run"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    top = str(tmp_path)
    monkeypatch.setattr(slurmd_processes, "FETCHED", f"{top}/run")
    program, command, conf, named = (
        text.replace("TOP", top) for text in (program, command, conf, named)
    )
    process(tmp_path / "proc", 7, command.split(), program, environment=environment)
    (found,) = slurmd_processes.slurmds(f"{top}/proc")
    assert found.conf == conf
    assert named in str(found)
    assert found.told is bool(conf and "beside its program" not in str(found))


def test_nothing_fetched_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurmd_processes, "FETCHED", str(tmp_path / "nowhere"))
    process(tmp_path / "proc", 7, ["slurmd", "--conf-server", "c"])
    (found,) = slurmd_processes.slurmds(str(tmp_path / "proc"))
    assert (found.conf, found.told) == ("", False)


# What a stepd's child may be when something of it is read: the user's, or by then a setuid program
# that the user's has become.
BECOMES = [("/home/alice/slurmd", "5001\t5001\t5001\t5001"), ("/usr/bin/sudo", "0\t0\t0\t0")]
EVIL = "/home/alice/slurm.conf"


# What is read then: the exe, or what comes after it.
@pytest.mark.parametrize("reading", ["exe", "strings"])
@pytest.mark.parametrize("name", ["slurmd", "slurmstepd"])
@pytest.mark.parametrize(("exe", "uids"), BECOMES)
def test_a_child_that_becomes_a_program_of_the_users(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exe: str,
    uids: str,
    name: str,
    reading: str,
) -> None:
    """A stepd's child is root's until it runs what the user calls slurmd, with -f of the user's."""
    process(tmp_path, 7, ["slurmstepd: [1.0]"], f"/usr/sbin/{name}")
    read = getattr(slurmd_processes, reading)

    def become(path: str) -> object:
        shutil.rmtree(tmp_path / "7")
        process(tmp_path, 7, ["slurmd", "-f", EVIL], exe, uids, (f"SLURM_CONF={EVIL}",))
        return read(path)

    assert [one.program for one in slurmd_processes.slurmds(str(tmp_path))] == [name]
    monkeypatch.setattr(slurmd_processes, reading, become)
    if reading == "exe":
        assert slurmd_processes.programs(slurmd_processes.PROGRAMS, str(tmp_path)) == {}
    assert slurmd_processes.slurmds(str(tmp_path)) == []


@pytest.mark.parametrize(("mode", "counts"), [(0o755, True), (0o4755, False), (0o2755, False)])
def test_setuid_program(tmp_path: Path, mode: int, counts: bool) -> None:
    """Anybody may have started it, under any name that a link has."""
    (tmp_path / "slurmd").touch()
    (tmp_path / "slurmd").chmod(mode)
    process(tmp_path / "proc", 7, ["slurmd"], str(tmp_path / "slurmd"))
    assert bool(slurmd_processes.slurmds(str(tmp_path / "proc"))) is counts


def test_stepds_count_where_no_slurmd_runs(tmp_path: Path) -> None:
    process(tmp_path, 3, ["slurmstepd: [1.extern]"], "/usr/sbin/slurmstepd")
    process(tmp_path, 4, ["slurmstepd: [2.extern]"], "/usr/sbin/slurmstepd-wlm")
    assert [(one.program, one.pid) for one in slurmd_processes.slurmds(str(tmp_path))] == [
        ("slurmstepd", 3)
    ]
    process(tmp_path, 5, ["slurmd"])
    assert [(one.program, one.pid) for one in slurmd_processes.slurmds(str(tmp_path))] == [
        ("slurmd", 5)
    ]


def test_several(tmp_path: Path) -> None:
    """By pid; one of those that were started alike; processes that ended are passed over."""
    for pid, node in ((30, "n1"), (4, "n2"), (31, "n1")):
        process(tmp_path, pid, ["slurmd", "-N", node])
    (tmp_path / "5").mkdir()
    (tmp_path / "self").mkdir()
    assert [one.pid for one in slurmd_processes.slurmds(str(tmp_path))] == [4, 30]


SEES = """
from slurm_adopt.slurm.config import slurmd_processes as running
names = frozenset({"slurmd-of-test"})
print(bool(running.programs(names)), running.hidden(names))
"""


@pytest.mark.parametrize(
    ("rights", "seen"),
    [([], "True False"), (["setpriv", "--bounding-set=-sys_ptrace"], "False True")],
)
def test_a_program_that_may_not_be_looked_at(tmp_path: Path, rights: list[str], seen: str) -> None:
    """Root without CAP_SYS_PTRACE does not see what root with it runs."""
    program = tmp_path / "slurmd-of-test"
    shutil.copy("/bin/sleep", program)
    source = {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    argv = [*rights, sys.executable, "-c", SEES]
    with subprocess.Popen([str(program), "60"]) as slurmd:
        try:
            done = subprocess.run(argv, env=source, check=True, capture_output=True, text=True)
        finally:
            slurmd.kill()
    assert done.stdout.strip() == seen


# (what it is called by, uids, whether it counts)
HIDDEN = [
    ("slurmd", "0\t0\t0\t0", True),
    ("slurmstepd-wlm", "0\t0\t0\t0", True),
    ("slurmctld", "0\t0\t0\t0", False),
    ("slurmd", "5001\t0\t0\t0", False),
]


@pytest.mark.parametrize(("called", "uids", "counts"), HIDDEN)
def test_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, uids: str, counts: bool
) -> None:
    process(tmp_path, 7, ["slurmd"], uids=uids)
    (tmp_path / "7/comm").write_text(f"{called}\n")
    assert not slurmd_processes.hidden(proc=str(tmp_path))  # its exe is seen
    monkeypatch.setattr(os, "readlink", denied)
    assert slurmd_processes.slurmds(str(tmp_path)) == []
    assert slurmd_processes.hidden(proc=str(tmp_path)) is counts


def denied(_: str) -> str:
    raise PermissionError


def test_this_machine() -> None:
    """The real /proc can be read, whatever runs there."""
    assert all(one.pid > 0 for one in slurmd_processes.slurmds())
    assert slurmd_processes.slurmds("/nowhere") == []
