"""What `./dev fuzz` runs, without a fuzzer: its corpora, what it has found, what it must find."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from slurm_adopt.cli.checks import saved
from slurm_adopt.cli.checks.slurm import host_lists
from slurm_adopt.cli.checks.sshd import sshd_process
from slurm_adopt.cli.errors import CliError
from slurm_adopt.cli.install import record
from slurm_adopt.cli.logins import counts, decisions, log_lines
from slurm_adopt.decision import options
from slurm_adopt.front import refusal_text
from slurm_adopt.node import adoption_note, login_slot, pam_files, user_choice
from slurm_adopt.node import pam_stack as stacks
from slurm_adopt.session import environment, runtime_dir
from slurm_adopt.slurm import proc
from slurm_adopt.slurm.auth import sack
from slurm_adopt.slurm.cgroup import cpuset, hierarchy, paths
from slurm_adopt.slurm.config import aliases, conf, hostlist, slurmd_ports, slurmd_processes
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.stepd import step_sockets, stepd
from slurm_adopt.system import journal, log
from tests.fuzz.given import SPLIT, instead
from tests.fuzz.target import FAMILIES, HERE, KEPT, SlowError, Target, bounded, every

TARGETS = every()
SMALL = 8192  # bytes of a file of a corpus
TOGETHER = 1 << 18  # bytes of all of them
GUIDED = (
    "cgroup_conf",
    "host_list",
    "munge_reply",
    "note_of_adoption",
    "pam_arguments",
    "pam_stack_files",
    "proc_cgroup",
    "proc_environ",
    "refusal",
    "sack_token",
    "slurm_conf",
    "slurmd_reply",
    "stepd_conversation",
    "stepds_at_once",
    "tcp_table",
)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_target(target: Target) -> None:
    """It says what it asserts, and has what a fuzzer begins with; all that is kept passes."""
    assert 30 < len(target.invariant) < 160
    assert 5 <= len(target.words) < 120
    assert all(target.words)
    assert re.fullmatch(r'("([ !#-\[\]-~]|\\x[0-9A-F]{2})+"\n)+', target.dictionary())
    assert len(target.inputs("corpus")) >= 2
    for kept in KEPT:
        for path in target.inputs(kept):
            data = path.read_bytes()
            assert len(data) <= min(SMALL, 2 * target.longest), path
            target.run(data)


def test_every_family_and_folder_is_of_a_target() -> None:
    modules = {path.stem for path in (HERE / "targets").glob("*.py")} - {"__init__"}
    assert modules == {*FAMILIES} == {target.family for target in TARGETS.values()}
    files = [path for kept in KEPT for path in (HERE / kept).glob("*/*")]
    assert {path.parent.name for path in files} == {*TARGETS}
    assert sum(path.stat().st_size for path in files) < TOGETHER
    assert {*GUIDED} < {*TARGETS}


@pytest.mark.parametrize("name", TARGETS)
def test_anything_short_is_taken(name: str) -> None:
    """No target expects a shape of its input."""
    for data in (b"", b"\0", b"\n", b"=", b"\xff", bytes(range(256)), SPLIT, b"[" * 40):
        TARGETS[name].run(data)


# What fuzzing has found, and what is right


def refused(function: Callable[[], object], kind: type[Exception]) -> str:
    """Return what an error says."""
    with pytest.raises(kind) as error:
        function()
    return str(error.value)


def of_process(tmp_path: Path, name: str, data: bytes) -> str:
    """Return a /proc in which process 7 has this file."""
    (tmp_path / "7/fdinfo").mkdir(parents=True)
    (tmp_path / "7" / name).write_bytes(data)
    return str(tmp_path)


def in_proc(top: Path, name: str, data: bytes) -> str:
    """Return a /proc in which the process that looks has this file."""
    (top / "self").mkdir()
    (top / "self" / name).write_bytes(data)
    return str(top)


def hosts(path: str, data: bytes, _: Path) -> object:
    del data
    return aliases.of_hosts("n1", path), sorted(slurmd_ports.names_of("10.0.0.1", path))


def stack(_: str, data: bytes, top: Path) -> object:
    (top / "sshd").write_bytes(data)
    return stacks.why_uncertain("sshd", (str(top),))


def slurm_values(path: str, data: bytes, _: Path) -> object:
    del data
    found = conf.load(path)
    return found.values, found.uids("SlurmUser")


def folded(_: str, data: bytes, __: Path) -> object:
    return host_lists.folded(data.decode().split(","))


def record_of(_: str, data: bytes, top: Path) -> object:
    with record.held(top=str(top / "lib")) as folder:
        (top / "lib/install/sshd.json").write_bytes(data)
        return refused(lambda: folder.load("sshd"), CliError).partition(" is ")[2][:7]


def named(_: str, data: bytes, top: Path) -> object:
    for name in data.decode().split("\0"):
        (top / name).touch()
    whose = [runtime_dir._whose(name) for name in data.decode().split("\0")]
    return [step.job_id for step in step_sockets.steps(str(top), "n1")], whose


RIGHT: dict[str, tuple[Callable[[str, bytes, Path], object], object]] = {
    "cpu_list/all-again": (lambda _, data, __: cpuset.parse(data.decode()), set()),
    "cpu_list/beyond-all": (lambda _, data, __: cpuset.parse(data.decode()), set()),
    "host_list/names-that-are-long": (
        lambda _, data, __: refused(lambda: hostlist.expand(data.decode()), SetupError).rpartition(
            ": "
        )[2],
        "a name is too long",
    ),
    "files_of_systemd/limit-without-a-number": (
        lambda _, data, __: sshd_process.soft_limit(data.decode(), "Max open files"),
        None,
    ),
    "folded_names/digits-of-another-script": (folded, "n\u0667,n8"),
    "folded_names/digits-without-end": (folded, f"n{'8' * 41},n{'9' * 41}"),
    "hosts_file/form-feed-in-a-comment": (hosts, ([], [])),
    "hosts_file/letter-that-ends-lines-in-latin-1": (hosts, ([], ["n\xe51"])),
    "hosts_file/blank-that-is-none": (hosts, ([], ["n1\xa0x\u2028y"])),
    "install_record/nested": (record_of, "damaged"),
    "install_record/path-that-is-no-path": (record_of, "damaged"),
    "install_record/trial-without-an-end": (record_of, "damaged"),
    "lines_of_slurm_conf/blank-that-is-none": (
        lambda path, _, __: conf.load(path).values,
        {"slurm\xa0user": "root", "a": "b"},
    ),
    "mountinfo/all-of-the-escapes": (
        lambda _, data, __: hierarchy._unescape(data.decode().split(" ")[4]),
        "/sys/fs/cgroup/a\nb#c\\040d",
    ),
    "mountinfo/line-without-a-mount-point": (
        lambda _, data, top: hierarchy.mounted("/", in_proc(top, "mountinfo", data))[""].point,
        "/sys/fs/cgroup",
    ),
    "names_in_directories/leading-zeros": (named, ([], [None, None, None])),
    "names_in_directories/job-beyond-32-bits": (named, ([], [None, None])),
    "note_of_adoption/leading-zero": (
        lambda _, data, __: adoption_note._parse(data, 1000, 42, 5),
        None,
    ),
    "pam_stack_files/nul-in-an-include": (
        stack,
        "sshd has a character that is not ASCII",
    ),
    "proc_cgroup/one-colon": (
        lambda _, data, __: hierarchy.by_controller(data.decode().split("\n")),
        {},
    ),
    "proc_cgroup/leading-zero": (
        lambda _, data, __: paths.parse_v1(data.decode().strip().partition("r:")[2]),
        None,
    ),
    "proc_cgroup/job-beyond-32-bits": (
        lambda _, data, __: paths.any_step(data.decode().strip()[3:]),
        None,
    ),
    "proc_stat/digits-without-end": (
        lambda _, data, top: proc.start_time(7, of_process(top, "stat", data)),
        0,
    ),
    "proc_status/flags-that-are-no-number": (
        lambda _, data, top: login_slot._mode(of_process(top, "fdinfo/3", data), 7, 3),
        -1,
    ),
    "refusal/control-characters-alone": (
        lambda path, _, __: refused(lambda: refusal_text.render(path, {}), SetupError)[-8:],
        "is empty",
    ),
    "refusal/words-that-grow": (
        lambda path, _, __: len(refusal_text.render(path, {"m": "no job"})),
        4096,
    ),
    "slurm_conf/blank-that-is-none": (
        slurm_values,
        ({"clustername": "a\xa0b", "slurmdport": "1\u20287"}, {0}),
    ),
    "slurm_conf/uid-beyond-32-bits": (
        slurm_values,
        ({"slurmuser": "4294967296", "slurmduser": "01"}, {0}),
    ),
    "textfile_counts/bound-that-is-no-number": (
        lambda _, data, __: counts.parsed(data.decode()),
        None,
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_was_found_is_right(tmp_path: Path, name: str) -> None:
    path = HERE / "regressions" / name
    look, right = RIGHT[name]
    found = look(str(path), path.read_bytes(), tmp_path)
    assert found == (right.format(top=tmp_path) if isinstance(right, str) else right)


def test_every_regression_has_what_is_right() -> None:
    files = (HERE / "regressions").glob("*/*")
    assert {f"{path.parent.name}/{path.name}" for path in files} == {*RIGHT}


def test_nested_at_any_depth(tmp_path: Path) -> None:
    """Python gives up reading it at one depth, and showing it at another."""
    path = tmp_path / "reports"
    for depth in range(1, 1200):
        nested = "[" * depth + "]" * depth
        path.write_text(nested)
        assert refused(lambda: saved.read(str(path)), CliError)
        with contextlib.suppress(log_lines.NoLineError):
            assert "MESSAGE" in log_lines.of_json(f'{{"MESSAGE": {nested}}}'.encode())


# What a target must report: a parser that is broken, and an input that shows it


def forged(name: str, value: str) -> bytes:
    return f"{name}={value}\n".encode("utf-8", "replace")


STEPD = (HERE / "corpus/stepd_conversation/24.11").read_bytes()
DISPLAY = STEPD.index(b"/tmp/.X") - 8  # then the length of the path
COUNTS = (HERE / "corpus/textfile_counts/zero").read_bytes()

# (target, where what is broken stands, its name, what is in its place, an input)
BROKEN: list[tuple[str, Any, str, object, bytes]] = [
    (
        "choice_of_a_user",
        user_choice,
        "LARGEST",
        1 << 64,
        ((1 << 33) * 10**9).to_bytes(8, "little"),
    ),
    ("cpu_list", cpuset, "number", lambda text: int(text or 0) + 1, b"0-3,8"),
    (
        "decision_in_a_log",
        decisions,
        "_UID",
        re.compile(r".* \(uid ([0-9]+)\) from "),
        b"x (uid 0) from y\n",
    ),
    ("host_list", hostlist, "_in_ranges", lambda *_: True, b"n[3-9]"),
    ("hosts_file", aliases, "_once", sorted, b"127.0.0.1 z n1 a\n"),
    ("journal_record", journal, "_field", forged, b"sshd[1]\nu\nx\n_UID=0"),
    (
        "mountinfo",
        hierarchy,
        "_unescape",
        lambda field: field,
        b"1 2 3 / /a\\040b rw - cgroup2 c rw\n",
    ),
    ("note_of_adoption", adoption_note, "id_of", lambda _: 7, b"chosen 1000 8"),
    ("pam_arguments", options, "_valid", lambda _, given: given, b"action_unknown=maybe"),
    (
        "pam_stack_files",
        pam_files,
        "_ours",
        lambda given: given,
        b"session required pam_unix.so x\n",
    ),
    (
        "proc_cgroup",
        paths,
        "id_of",
        int,
        b"5:freezer:/slurm/uid_1/job_07/step_extern\n",
    ),
    ("proc_environ", environment, "_fits", lambda *_: True, b"SLURM_JOB_NAME=$(id)\0"),
    ("proc_status", proc, "is_of", lambda *_: True, b"Name:\tx\nUid:\t1\t1\t1\t1\n"),
    ("refusal", refusal_text, "LIMIT", 1 << 20, b"%m" * 500 + b"\nu"),
    ("sack_token", sack, "_UID_LIMIT", 1 << 64, b'\0\0\0\0{"uid":4294967296,"ruid":0,"host":"a"}'),
    ("saved_reports", saved, "_shown", lambda value: f"{value}\n", b"[]"),
    ("slurm_conf", conf, "port_number", lambda *_: 0, b"SlurmdPort=7\n"),
    ("slurmd_command_line", slurmd_processes, "_WITH_VALUE", frozenset("N"), b"-f\0/a"),
    (
        "stepd_conversation",
        stepd,
        "DISPLAY_MAX",
        1 << 31,
        STEPD[: DISPLAY + 2] + b"\1" + STEPD[DISPLAY + 3 :],
    ),
    ("syslog_line", log, "printable", lambda text: text, b"a\nb"),
    ("textfile_counts", counts.Counts, "lines", lambda _: [], COUNTS),
]


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "value", "data"), BROKEN, ids=[row[0] for row in BROKEN]
)
def test_a_broken_parser_is_seen(
    name: str, owner: Any, attribute: str, value: object, data: bytes
) -> None:
    """The target that is silent about it would be silent for hours."""
    TARGETS[name].run(data)
    with instead(owner, attribute, value), pytest.raises(Exception):  # noqa: B017, PT011 - any
        TARGETS[name].run(data)


def test_a_slow_parser_is_seen() -> None:
    """By the time of the CPU: the machine may have other work."""

    def spin(_: bytes) -> None:
        while True:
            with contextlib.suppress(Exception):
                int("7")

    before = signal.getsignal(signal.SIGVTALRM)
    try:
        with pytest.raises(SlowError, match="more than 0"):
            bounded(spin, 0.05)(b"")
        bounded(lambda _: None, 0.05)(b"")
        assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGVTALRM, before)


# The fuzzer itself


def fuzzed(*arguments: str, file: Path) -> tuple[int, str, dict[str, Any]]:
    """Run `./dev fuzz`; return its status, what it says, and what it has written."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments, "--json", str(file)],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": "src:.", "SLURM_ADOPT_CACHE": str(file.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, json.loads(file.read_text())


def test_guided(tmp_path: Path) -> None:
    """A short run of those that are at the door; hours of all are `./dev fuzz`."""
    status, said, seen = fuzzed("1", *GUIDED, "--jobs", "2", file=tmp_path / "seen.json")
    assert status == 0, said
    assert {one["target"] for one in seen["targets"]} == {*GUIDED}
    assert all(one["runs"] > 0 and one["cov"] > 0 for one in seen["targets"]), said
    last = said.strip().splitlines()[-1]
    assert re.fullmatch(rf"{len(GUIDED)} targets, [1-9]\d* runs, \d+ seconds, 0 findings", last)
