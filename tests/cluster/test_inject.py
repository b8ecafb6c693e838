"""System calls of a login that fail: a part of `./dev inject`, which tries each with many errors.

Root gets in wherever the module's own code runs, a user without a job never does, and a user with
one is in it by the kernel's word, or refused.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.inject.calls import ACCOUNT, LOAD, SESSION, START, Call, is_hit, of_module
from tests.cluster.inject.engine import BOUND, Bench, Case
from tests.cluster.inject.errors import ERRORS, NEVER
from tests.cluster.inject.scenes import SCENES
from tests.cluster.tools.inject import figures, planned, play

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster

CASES = 15  # of each login, from its first call to its last
MANY = 10  # of a login that makes at least as many calls


@pytest.mark.parametrize("name", SCENES)
def test_calls_that_fail(cluster: Cluster, name: str) -> None:
    scene = SCENES[name]
    with Bench(cluster).prepared() as bench:
        with bench.set_for(scene):
            cases = len(planned(bench, scene))
        seen = play(bench, scene, every=max(1, cases // CASES))
    assert [one for one in seen if one.wrong] == []
    hit = [one for one in seen if one.hit]
    assert len(hit) >= MANY, figures(seen)


# How strace's output is read

TRACE = """\
7     openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY) = 3</etc/passwd>
7     close(3</etc/passwd>)             = 0
7     openat(AT_FDCWD</>, "/usr/lib/security/pam_python.so", O_RDONLY) = 3</x/pam_python.so>
7     read(3</x/pam_python.so>, "\\177ELF", 832) = 832
7     openat(AT_FDCWD</>, "/etc/pam.d/common-account", O_RDONLY) = 4</etc/pam.d/common-account>
7     openat(AT_FDCWD</>, "/etc/inject/account.begin", O_RDONLY) = 3</etc/inject/account.begin>
7     close(3</etc/inject/account.begin>) = 0
7     openat(AT_FDCWD</>, "/x/pam/pam_slurm_adopt.py", O_RDONLY) = 3</x/pam/pam_slurm_adopt.py>
7     read(3</x/pam/pam_slurm_adopt.py>, "", 4096) = 0
7     close(3</x/pam/pam_slurm_adopt.py>) = 0
7     openat(AT_FDCWD</>, "/proc/7/stat", O_RDONLY) = 3</proc/7/stat>
8     openat(AT_FDCWD</>, "/of/a/child", O_RDONLY) = 3</of/a/child>
7     read(3</proc/7/stat>, "", 4096)   = 0
7     openat(AT_FDCWD</>, "/etc/inject/account.end", O_RDONLY) = 3</etc/inject/account.end>
7     read(3</etc/inject/account.end>, "", 4096) = 0
7     openat(AT_FDCWD</>, "/etc/inject/session.begin", O_RDONLY) = 3</etc/inject/session.begin>
7     socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 4<socket:[99]>
7     connect(4<socket:[99]>, {sa_family=AF_UNIX, sun_path="/dev/log"}, 11) = 0
7     sendto(4<socket:[99]>, "", 0, 0, NULL, 0) = 0
7     openat(AT_FDCWD</>, "/etc/inject/session.end", O_RDONLY) = 5</etc/inject/session.end>
7     +++ exited with 0 +++
"""
SCRIPT = "/x/pam/pam_slurm_adopt.py"
FOUND = [
    (LOAD, "openat", 2, "/usr/lib/security/pam_python.so"),
    (LOAD, "read", 1, "/x/pam_python.so"),
    (START, "openat", 4, "/etc/inject/account.begin"),
    (START, "close", 2, "/etc/inject/account.begin"),
    (START, "openat", 5, SCRIPT),
    (START, "read", 2, SCRIPT),
    (START, "close", 3, SCRIPT),
    (ACCOUNT, "openat", 6, "/proc/PID/stat"),
    (ACCOUNT, "read", 3, "/proc/PID/stat"),
    (SESSION, "openat", 8, "/etc/inject/session.begin"),
    (SESSION, "socket", 1, ""),
    (SESSION, "connect", 1, "socket: /dev/log"),
    (SESSION, "sendto", 1, "socket: /dev/log"),
]


def test_calls_are_counted_by_name_from_the_start() -> None:
    assert of_module(TRACE, "pam_python", ACCOUNT) == [Call(*row, imports=False) for row in FOUND]


FAILS = "7     read(3<{}>, 0x7ffd3f8c4390, 4096) = -1 EIO (Input/output error) (INJECTED)"
# (what is read where a call fails, what the call is about, whether it is that one)
HITS = [
    ("/proc/12/stat", "/proc/PID/stat", True),
    ("/proc/12/stat", "/proc/PID/status", False),
    ("socket:[99]", "socket: /dev/log", True),
    ("socket:[99]", "/etc/passwd", False),  # sshd's connection
    ("pipe:[98]", "", True),
    ("/etc/passwd", "/etc/passwd", True),
]


@pytest.mark.parametrize(("read", "about", "hit"), HITS)
def test_another_call_is_no_hit(read: str, about: str, hit: bool) -> None:
    assert is_hit(FAILS.format(read), Call(ACCOUNT, "read", 3, about, imports=False)) == hit


# How it is judged

STEP = "/slurm_n1/uid_5001/job_{}/step_extern"
IN, HALF = ("cpuset", "devices", "freezer", "memory"), ("cpuset",)
HIT = "7     read(3</proc/7/stat>, 0x7ffd3f8c4390, 4096) = -1 EIO (Input/output error) (INJECTED)"
BOTH = ["acct_mgmt", "open_session"]


def cgroups(job: int = 0, controllers: tuple[str, ...] = IN) -> str:
    """Return a /proc/PID/cgroup."""
    return "".join(
        f"{number}:{name}:{STEP.format(job) if job and name in controllers else '/'}\n"
        for number, name in enumerate(IN, 1)
    )


# (scene, part, what is there, outcome, whether it is an escape, what is wrong)
JUDGED: list[tuple[str, str, dict[str, Any], str, bool, list[str]]] = [
    ("job", ACCOUNT, {"done": BOTH, "cgroups": cgroups(8)}, "in the job", False, []),
    ("job", ACCOUNT, {"done": BOTH[:1]}, "refused", False, []),
    ("job", ACCOUNT, {"done": BOTH, "cgroups": cgroups()}, "let in, in no job", True, [""]),
    ("job", ACCOUNT, {"done": BOTH, "cgroups": cgroups(9)}, "let in, in 9", True, [""]),
    ("job", SESSION, {"done": BOTH, "cgroups": cgroups(8, HALF)}, "let in, half in", True, [""]),
    ("no job", ACCOUNT, {}, "refused", False, []),
    ("no job", ACCOUNT, {"done": BOTH[:1]}, "let in by the account phase", True, [""]),
    ("no job", START, {"done": BOTH[:1]}, "let in by the account phase", True, [""]),
    ("no job", START, {"killed": ["SIGABRT"], "status": -6}, "refused", False, []),
    ("no job", ACCOUNT, {"killed": ["SIGABRT"], "status": -6}, "refused", False, ["killed: "]),
    ("no job", ACCOUNT, {"said": "Traceback (most recent"}, "refused", False, ["traceback"]),
    ("no job", ACCOUNT, {"status": None, "seconds": 150.0}, "refused", False, ["took 150 s"]),
    ("no job", ACCOUNT, {"seconds": BOUND + 4}, "refused", False, ["took "]),
    ("no job", ACCOUNT, {"seconds": BOUND}, "refused", False, []),
    ("root", START, {"done": BOTH}, "let in", False, []),
    ("root", START, {}, "refused", True, ["refused"]),
    ("root, no guard", ACCOUNT, {}, "refused", True, ["refused"]),
    ("root, no guard", START, {}, "covered by the guard", False, []),
    ("root", LOAD, {"done": BOTH, "threads": 2}, "let in", False, []),
    ("job", SESSION, {"done": BOTH, "cgroups": cgroups(8), "children": [9]}, "in the job", False,
     ["children "]),
    ("job", SESSION, {"done": BOTH, "cgroups": cgroups(8), "descriptors": ["pipe"]}, "in the job",
     False, ["descriptors left: pipe"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "part", "there", "outcome", "escape", "wrong"), JUDGED)
def test_what_is_wrong(
    name: str, part: str, there: dict[str, Any], outcome: str, escape: bool, wrong: list[str]
) -> None:
    scene = SCENES[f"pam_python/{name}"]
    bench = Bench(SimpleNamespace(n1=SimpleNamespace(name="n1", root=Path("/"))))  # type: ignore[arg-type]
    bench.jobs, bench.descriptors[scene.name] = [8], ["/dev/null"]
    case = Case(scene, ACCOUNT, Call(part, "read", 3, "/proc/PID/stat", imports=False), "error=EIO")
    usual = {"done": [], "cgroups": "", "threads": 1, "children": [], "descriptors": ["/dev/null"]}
    ended = {"status": 1, "said": "", "seconds": 0.1, "killed": [], "hit": [HIT]}
    seen = bench.judge(case, {**usual, **ended, **there}, [])
    assert seen.outcome.startswith(outcome)
    assert (seen.escape, seen.hit) == (escape, HIT)
    assert len(seen.wrong) == len(wrong)
    assert all(found.startswith(said) for found, said in zip(seen.wrong, wrong))


def test_what_somebody_else_s_call_does_to_root_is_not_ours() -> None:
    """The reads of sshd itself are counted as well, and others may come first."""
    scene = SCENES["pam_python/sshd, root"]
    bench = Bench(SimpleNamespace(n1=SimpleNamespace(name="n1", root=Path("/"))))  # type: ignore[arg-type]
    bench.descriptors[scene.name] = []
    case = Case(scene, ACCOUNT, Call(START, "read", 3, "/etc/passwd", imports=False), "error=EIO")
    answer = {"done": [], "threads": 1, "children": [], "descriptors": [], "status": 255,
              "said": "", "seconds": 0.1, "killed": [], "hit": [HIT]}  # fmt: skip
    seen = bench.judge(case, answer, [])
    assert (seen.hit, seen.escape, seen.wrong) == ("", False, [])


def test_each_call_has_errors_or_none() -> None:
    assert not set(ERRORS) & NEVER
    assert all(len(set(errors)) == len(errors) for errors in ERRORS.values())
