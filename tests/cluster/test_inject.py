"""System calls of a login that fail: a part of `./dev inject`, which tries each with many errors.

Root gets in wherever the module's own code runs, a user without a job never does, and a user with
one is in it by the kernel's word, or refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.inject.calls import ACCOUNT, LOAD, SESSION, START, Call, is_hit, of_module
from tests.cluster.inject.engine import Bench
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
    (SESSION, "connect", 1, "/dev/log"),
    (SESSION, "sendto", 1, "/dev/log"),
]


def test_calls_are_counted_by_name_from_the_start() -> None:
    assert of_module(TRACE, "pam_python", ACCOUNT) == [Call(*row, imports=False) for row in FOUND]


READ = "7     read(3</proc/12/stat>, 0x7ffd3f8c4390, 4096) = -1 EIO (Input/output error) (INJECTED)"


@pytest.mark.parametrize(("about", "hit"), [("/proc/PID/stat", True), ("/proc/PID/status", False)])
def test_another_call_is_no_hit(about: str, hit: bool) -> None:
    assert is_hit(READ, Call(ACCOUNT, "read", 3, about, imports=False)) == hit


def test_each_call_has_errors_or_none() -> None:
    assert not set(ERRORS) & NEVER
    assert all(len(set(errors)) == len(errors) for errors in ERRORS.values())
