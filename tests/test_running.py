"""The running slurmds: whose, which options."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_adopt.slurm import running


def process(
    proc: Path, pid: int, words: list[str], exe: str = "/usr/sbin/slurmd", uids: str = "0\t0\t0\t0"
) -> None:
    """Make a process of a /proc."""
    directory = proc / str(pid)
    directory.mkdir(parents=True)
    (directory / "exe").symlink_to(exe)
    (directory / "cwd").symlink_to("/var/cwd")
    (directory / "status").write_text(f"Name:\tslurmd\nUid:\t{uids}\nGid:\t0\t0\t0\t0\n")
    (directory / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))


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
    (found,) = running.slurmds(str(tmp_path))
    assert (found.pid, found.conf, found.node, found.configless) == (7, conf, node, configless)
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
    ("/usr/sbin/slurmstepd", "0\t0\t0\t0", False),
]


@pytest.mark.parametrize(("program", "uids", "counts"), WHOSE)
def test_whose(tmp_path: Path, program: str, uids: str, counts: bool) -> None:
    process(tmp_path, 7, ["slurmd", "-N", "n1"], program, uids)
    assert bool(running.slurmds(str(tmp_path))) is counts


def test_several(tmp_path: Path) -> None:
    """By pid; one of those that were started alike; processes that ended are passed over."""
    for pid, node in ((30, "n1"), (4, "n2"), (31, "n1")):
        process(tmp_path, pid, ["slurmd", "-N", node])
    (tmp_path / "5").mkdir()
    (tmp_path / "self").mkdir()
    assert [one.pid for one in running.slurmds(str(tmp_path))] == [4, 30]


def test_this_machine() -> None:
    """The real /proc can be read, whatever runs there."""
    assert all(one.pid > 0 for one in running.slurmds())
    assert running.slurmds("/nowhere") == []
