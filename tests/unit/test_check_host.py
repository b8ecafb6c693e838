"""What the checks of this host, of ways out and of the Epilog make of texts and files."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.cli.checks import places
from slurm_adopt.cli.checks.host import Host
from slurm_adopt.cli.checks.machine import (
    host_state,
    log_path,
    packages,
    processes,
    run_dir,
    selinux,
    ways_out,
)
from slurm_adopt.cli.checks.slurm import epilog, slurm_facts
from slurm_adopt.cli.checks.sshd import sshd_process, sshd_settings
from slurm_adopt.slurm import proc
from slurm_adopt.slurm.config.slurmd_processes import Slurmd

if TYPE_CHECKING:
    from collections.abc import Iterator

SLUID = "s3JKMNPQRSTVWX"

# (cgroups of a process, whether it is in a job, the job's id)
CGROUPS: list[tuple[tuple[str, ...], bool, int | None]] = [
    ((), False, None),
    (("/",), False, None),
    (("/", "/slurm/uid_5001/job_7/step_extern"), True, 7),
    (("/x/slurm_n1/uid_5001/job_7/step_0/task_0", "/"), True, 7),
    (("/slurm/uid_5001/job_7",), False, None),
    (("/slurm/uid_5001/job_7x/step_0",), False, None),
    (("/system.slice/slurmstepd.scope/job_9/step_batch/user/task_0",), True, 9),
    (("/system.slice/n1_slurmstepd.scope/job_9/step_extern/user",), True, 9),
    ((f"/system.slice/slurmstepd.scope/{SLUID}/step_extern/user",), True, None),
    (("/system.slice/slurmstepd.scope/system",), False, None),
    (("/user.slice/user-5001.slice/session-3.scope",), False, None),
    # Users make cgroups of any name in their own systemd's.
    (("/user.slice/user-5001.slice/user@5001.service/slurmstepd.scope/job_9/step_0",), False, None),
    (("/x/user@5001.service/slurm/uid_5001/job_9/step_0",), False, None),
]


@pytest.mark.parametrize(("cgroups", "inside", "job"), CGROUPS)
def test_a_process_in_a_job(cgroups: tuple[str, ...], inside: bool, job: int | None) -> None:
    one = processes.Process(1, 0, 5001, "sleep", cgroups)
    assert (one.in_job, one.job_id) == (inside, job)


@pytest.mark.parametrize(
    ("uid", "user"),
    [(0, False), (999, False), (1000, True), (5001, True), (59999, True), (64030, False),
     (65534, False), (65536, True), (1 << 31, True)],
)  # fmt: skip
def test_who_is_a_user(uid: int, user: bool) -> None:
    assert processes.is_user(uid) is user


def process(top: Path, pid: int, status: str, cgroup: str) -> None:
    (top / str(pid)).mkdir()
    (top / str(pid) / "status").write_text(status)
    (top / str(pid) / "cgroup").write_text(cgroup)


STATUS = "Name:\t{}\nState:\t{} (x)\nPPid:\t1\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"


def test_processes_that_there_are(tmp_path: Path) -> None:
    """A zombie is none; what cannot be read is none; root's program counts before its name."""
    process(tmp_path, 5, STATUS.format("sh", "S", uid=5001), "2:freezer:/a:b\n0::/\n")
    process(tmp_path, 6, STATUS.format("sleep", "Z", uid=5001), "0::/\n")
    process(tmp_path, 7, STATUS.format("x", "S", uid=0), "0::/\n")
    (tmp_path / "7/exe").symlink_to("/usr/sbin/cron (deleted)")
    process(tmp_path, 8, "", "")
    process(tmp_path, 9, STATUS.format("cron", "S", uid=0) + "NSpid:\t9\t1\n", "")
    assert processes.look(str(tmp_path)) == [
        (5, 1, 5001, "sh", ("/a:b", "/"), False),
        (7, 1, 0, "cron", ("/",), False),
        (9, 1, 0, "cron", (), True),
    ]


def test_daemons_are_no_children_of_their_own() -> None:
    one, child, other = (
        processes.Process(pid, parent, 0, "sshd", ()) for pid, parent in ((5, 1), (6, 5), (7, 2))
    )
    assert processes.daemons([one, child, other]) == [one, other]


# (mountinfo, options of /proc)
PROC = "22 1 0:21 / /proc rw,nosuid - proc proc rw,{}\n"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", None),
        ("22 1 0:21 / /sys rw - sysfs sysfs rw\n", None),
        (PROC.format("hidepid=2"), ["rw", "nosuid", "rw", "hidepid=2"]),
        (PROC.format("x") + PROC.format("subset=pid"), ["rw", "nosuid", "rw", "subset=pid"]),
        ("22 1 0:21 / /proc rw shared:5 - proc none rw\n", ["rw", "rw"]),
        ("short /proc line\n", None),
    ],
)
def test_how_proc_is_mounted(text: str, options: list[str] | None) -> None:
    assert host_state.proc_options(text) == options


@pytest.mark.parametrize(
    ("line", "removes"),
    [
        ("d /run/slurm_adopt 0711 root root 10d", True),
        ("D /run/slurm_adopt/runtime/ 0711 root root 1d -", True),
        ("d /run 0755 - - 30d", True),
        ("e /run/* - - - 2d", True),
        ("d /run/* - - - 2d", False),  # no pattern in this type
        ("d /run 0755 root root -", False),
        ("d /run 0755 root root", False),
        ("d! /run 0755 root root 1d", False),
        ("d /run/slurm 0755 root root 1d", False),
        ("q /tmp 1777 root root 10d", False),
        ("x /run/slurm_adopt - - - 1d", False),
        ("# d /run 0755 - - 30d", False),
        ("", False),
    ],
)
def test_what_cleans_by_age(line: str, removes: bool) -> None:
    assert bool(run_dir.cleaned(line)) is removes


@pytest.mark.parametrize(
    ("line", "spared"),
    [("x /run/slurm_adopt", True), ("x /run/slurm*", True), ("X /run/slurm_adopt", False),
     ("x /run", False), ("x", False), ("", False)],
)  # fmt: skip
def test_what_is_not_cleaned(line: str, spared: bool) -> None:
    assert run_dir.is_spared(line) is spared


@pytest.mark.parametrize(
    ("text", "guest"),
    [(b"flags\t\t: fpu hypervisor lm\n", True), (b"flags\t: fpu lm\n", False),
     (b"model name\t: hypervisor\n", False), (b"", False)],
)  # fmt: skip
def test_a_virtual_machine(text: bytes, guest: bool) -> None:
    assert host_state.is_guest(text) is guest


def process_named(name: str) -> processes.Process:
    return processes.Process(9, 1, 105, name, ())


@pytest.mark.parametrize(
    ("answer", "running", "guest", "result", "found"),
    [
        (0, "chronyd", False, "ok", ""),
        (5, "chronyd", True, "warning", "chronyd runs"),
        (5, "systemd-timesyn", False, "warning", "systemd-timesyn runs"),
        (5, "sleep", False, "warning", "no known time service runs"),
        (5, "sleep", True, "skipped", ""),
        (-1, "sleep", False, "skipped", ""),
    ],
)
def test_the_clock(
    monkeypatch: pytest.MonkeyPatch,
    answer: int,
    running: str,
    guest: bool,
    result: str,
    found: str,
) -> None:
    monkeypatch.setattr(host_state, "in_container", lambda: False)
    monkeypatch.setattr(host_state, "is_guest", lambda _: guest)
    monkeypatch.setattr(host_state, "_adjtimex", lambda: answer)
    monkeypatch.setattr(processes, "look", lambda: [process_named(running)])
    (seen,) = host_state.clock(Host())
    assert (seen.result, seen.found) == (result, found)


def test_the_real_clock_has_a_state() -> None:
    """0 to 5, as adjtimex(2) has them."""
    assert 0 <= host_state._adjtimex() <= host_state.TIME_ERROR


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_a_kernel_without_descriptors_of_processes(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def pidfd_open(_: int) -> int:
        raise error

    (seen,) = host_state.kernel(Host())
    assert seen.result == "ok"
    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    (seen,) = host_state.kernel(Host())
    assert seen.result == "skipped"


@pytest.mark.parametrize(
    ("selectors", "taken"),
    [
        ("auth,authpriv.*", True),
        ("*.*", True),
        ("*.info;mail.none;authpriv.none;cron.none", False),
        ("*.*;auth,authpriv.none", False),
        ("authpriv.notice", False),
        ("authpriv.=info", True),
        ("authpriv.=debug", False),
        ("AUTHPRIV.debug", True),
        ("*.debug;authpriv.!info", False),
        ("*.debug;authpriv.!=info", False),
        ("*.debug;authpriv.!=err", True),
        ("auth.*", False),
        ("authpriv.nonsense", False),
        ("#authpriv.*", False),
        ("$ModLoad", False),
        ("", False),
    ],
)
def test_what_rsyslog_takes(selectors: str, taken: bool) -> None:
    assert log_path.takes_authpriv(selectors) is taken


@pytest.mark.parametrize(
    ("text", "number"),
    [("info", 6), ("INFO", 6), ("err", 3), ("error", 3), ("warn", 4), ("7", 7), ("nonsense", 8)],
)
def test_levels(text: str, number: int) -> None:
    assert log_path.severity(text) == number


LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max file size             unlimited            unlimited            bytes
Max open files            256                  20000                files
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [("Max open files", 256), ("Max file size", None), ("Max address space", None)],
)
def test_soft_limits(name: str, value: int | None) -> None:
    assert sshd_process.soft_limit(LIMITS, name) == value


@pytest.mark.parametrize(
    ("bits", "missing"),
    [
        ("000001ffffffffff", []),
        ("000001fffff7ffff", ["CAP_SYS_PTRACE"]),
        ("00000000a80425fb", ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]),  # as in a usual container
        ("0", list(sshd_process.CAPABILITIES)),
        ("", []),
    ],
)
def test_capabilities(bits: str, missing: list[str]) -> None:
    assert sshd_process.lacking(bits) == missing


def test_read_only_mounts() -> None:
    text = (
        "1 0 0:1 / /run rw,nosuid shared:2 - tmpfs tmpfs rw\n"
        "2 0 0:1 / /run ro,nosuid - tmpfs tmpfs rw\n"
        "3 0 0:2 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"
        "4 0 0:3 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
        "5 0 0:4 / /usr ro - ext4 /dev/sda ro\n"
        "short line\n"
    )
    assert sshd_process.read_only(text) == ["/run", "/sys/fs/cgroup"]


@pytest.mark.parametrize(
    ("label", "result"),
    [
        ("unconfined", "ok"),
        ("/usr/sbin/sshd (complain)", "ok"),
        ("sshd (unconfined)", "ok"),
        ("/usr/sbin/sshd (enforce)", "warning"),
        ("/usr/sbin/sshd//shell (enforce)", "warning"),
        ("", "skipped"),
    ],
)
def test_a_profile_of_apparmor(label: str, result: str) -> None:
    assert sshd_process.profile(label).result == result


# What the kernel answers, with classes and permissions of our own numbers

ASKED = selinux.Asked("to write", "u:r:t:s0", "file", ("open", "write"))


@pytest.fixture
def selinuxfs(tmp_path: Path) -> Path:
    (tmp_path / "class/file/perms").mkdir(parents=True)
    (tmp_path / "class/file/index").write_text("6")
    for name, number in (("read", 2), ("write", 3), ("open", 20)):
        (tmp_path / "class/file/perms" / name).write_text(str(number))
    return tmp_path


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("ffffffff ffffffff 0 ffffffff 1 0", []),
        ("80004 ffffffff 0 ffffffff 1 0", []),
        ("4 ffffffff 0 ffffffff 1 0", ["to write: file { open }"]),
        ("2 ffffffff 0 ffffffff 1 0", ["to write: file { open write }"]),
        ("0 ffffffff 0 ffffffff 1 1", []),  # a permissive domain
        ("0 ffffffff 0 ffffffff 1", ["to write: file { open write }"]),  # of old kernels
    ],
)
def test_selinux_s_answers(selinuxfs: Path, answer: str, refused: list[str]) -> None:
    asked = []

    def ask(question: str) -> str:
        asked.append(question)
        return answer

    assert selinux.refused("u:r:sshd_t:s0", [ASKED], ask, str(selinuxfs)) == refused
    assert asked == ["u:r:sshd_t:s0 u:r:t:s0 6"]


@pytest.mark.parametrize("answer", ["", "what"])
def test_selinux_says_nonsense(selinuxfs: Path, answer: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        selinux.refused("u:r:sshd_t:s0", [ASKED], lambda _: answer, str(selinuxfs))


@pytest.mark.parametrize(
    ("context", "kind"),
    [("system_u:system_r:sshd_t:s0-s0:c0.c1023", "sshd_t"), ("kernel", ""), ("", "")],
)
def test_domain_of_a_context(context: str, kind: str) -> None:
    assert sshd_process.domain(context) == kind


# Packages


@pytest.mark.parametrize(
    ("version", "least", "old"),
    [("5.9.4", (5, 7), False), ("5.6.7", (5, 7), True), ("5.7", (5, 7), False),
     ("0.5.14", (0, 5, 14), False), ("0.5.9", (0, 5, 14), True), ("13.0rc1", (12, 6), False),
     ("", (12, 6), False)],
)  # fmt: skip
def test_versions(version: str, least: tuple[int, ...], old: bool) -> None:
    assert (packages.numbers(version) < least) is old


def test_the_version_in_a_folder(tmp_path: Path) -> None:
    assert packages.version_of(str(tmp_path)) == ""
    (tmp_path / "slurm_adopt").mkdir()
    (tmp_path / "slurm_adopt/__init__.py").write_text('"""x"""\n__version__ = "1.2.3"\n')
    assert packages.version_of(str(tmp_path)) == "1.2.3"


# systemd's files


def test_drop_ins(tmp_path: Path) -> None:
    """By their names, the administrator's before the vendor's of the same name; the last counts."""
    etc, usr = tmp_path / "etc", tmp_path / "usr"
    for path, text in (
        (usr / "x.conf", "[A]\nkey=main\n[B]\nkey=b\n"),
        (usr / "x.conf.d/10.conf", "[A]\nkey=vendor\n"),
        (etc / "x.conf.d/10.conf", "[A]\n#key=no\nkey = ten \nother=1\n"),
        (usr / "x.conf.d/20.conf", "[A]\nkey=twenty\n"),
        (etc / "x.conf.d/30.txt", "[A]\nkey=thirty\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = places.drop_ins("x.conf", (str(etc), str(usr)))
    assert [os.path.relpath(path, tmp_path) for path in found] == [
        "usr/x.conf",
        "etc/x.conf.d/10.conf",
        "usr/x.conf.d/20.conf",
    ]
    assert places.settings(found, "A") == {
        "key": ("twenty", f"{usr}/x.conf.d/20.conf", 2),
        "other": ("1", f"{etc}/x.conf.d/10.conf", 4),
    }


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("[Service]\nExecStart=\nExecStart=/bin/true\n", True),
        ("[Service]\nExecStart=/lib/systemd/systemd --user\n", False),
        ("[Service]\nExecStart=\n", False),
        ("[Unit]\nExecStart=/bin/true\n", False),
        ("", False),
    ],
)
def test_a_stub_for_the_users_systemd(tmp_path: Path, text: str, closed: bool) -> None:
    (tmp_path / "user@.service").write_text("[Service]\nExecStart=/lib/systemd/systemd --user\n")
    (tmp_path / "user@.service.d").mkdir()
    (tmp_path / "user@.service.d/x.conf").write_text(text)
    assert ways_out.stub((str(tmp_path),)) is closed


def test_the_users_systemd_is_masked(tmp_path: Path) -> None:
    (tmp_path / "user@.service").symlink_to("/dev/null")
    assert ways_out.stub((str(tmp_path),))
    assert not ways_out.stub((str(tmp_path / "none"),))


# Epilog


def test_where_slurm_conf_sets_a_key(tmp_path: Path) -> None:
    """In each file that is included, once."""
    main, more = tmp_path / "slurm.conf", tmp_path / "more.conf"
    main.write_text(
        '#Epilog=/no\nEpilog=/a\nInclude more.conf\nepilog = "/c" # third\nEpilogX=1\nInclude no\n'
    )
    more.write_text("EPILOG=/b\nInclude slurm.conf\n")
    assert epilog.given(str(main), "Epilog") == [
        ("/a", str(main), 2),
        ("/b", str(more), 1),
        ("/c", str(main), 4),
    ]


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("#!/bin/sh\n", 0o755, ""),
        ("#! /bin/sh -e\n", 0o700, ""),
        ("#!\t/usr/bin/env python3\n", 0o755, ""),
        ("\x7fELF", 0o755, ""),
        ("#!/bin/sh\n", 0o644, "is not executable"),
        ("exit 0\n", 0o755, "does not begin with #!"),
        ("", 0o755, "does not begin with #!"),
        ("#!/bin/none\n", 0o755, "wants /bin/none"),
        ("#!/bin/sh\r\n", 0o755, "wants /bin/sh\\r"),
        ("#!\n", 0o755, "wants "),
    ],
)
def test_what_slurmd_can_run(tmp_path: Path, text: str, mode: int, why: str) -> None:
    script = tmp_path / "epilog"
    script.write_bytes(text.encode())
    script.chmod(mode)
    assert epilog.not_runnable(str(script)) == why


def test_what_slurmd_cannot_run(tmp_path: Path) -> None:
    assert epilog.not_runnable(str(tmp_path)) == "is no file"
    assert epilog.not_runnable(str(tmp_path / "none")) == "leads nowhere"


def test_who_can_change_a_script(tmp_path: Path) -> None:
    folder = tmp_path / "epilog.d"
    folder.mkdir(mode=0o755)
    script = folder / "epilog"
    script.touch(0o755)
    assert epilog.not_safe(str(script)) == ""
    for path, mode, why in ((script, 0o775, "0775"), (folder, 0o777, "0777")):
        path.chmod(mode)
        assert epilog.not_safe(str(script)) == f"{path} has mode {why}"
        path.chmod(0o755)
    os.chown(folder, 64030, 0)
    assert epilog.not_safe(str(script)) == f"{folder} belongs to uid 64030"
    assert epilog.not_safe(str(script), frozenset({0, 64030})) == ""


@pytest.mark.parametrize(
    ("text", "line", "ends"),
    [
        ("#!/bin/sh\nours\nexit 0\n", 2, 0),
        ("#!/bin/sh\nexit 0\nours\n", 3, 2),
        ("#!/bin/sh\nexit\nours\n", 3, 2),
        ("#!/bin/sh\nexec /x\nours\n", 3, 2),
        ("#!/bin/sh\nexec >/log\nours\n", 3, 0),
        ("#!/bin/sh\nif x; then\n  exit 0\nfi\nours\n", 5, 0),
        ("#!/bin/sh\nx || exit 0\nours\n", 3, 0),
        ("#!/bin/sh\n# exit 0\nexits\nours\n", 4, 0),
    ],
)
def test_what_ends_a_script_before_ours(text: str, line: int, ends: int) -> None:
    assert epilog.unreached(text, line) == ends


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cd {} && python3 -m slurm_adopt.epilog", ""),
        ("cd /none/src && python3 -m slurm_adopt.epilog", "/none/src"),
        ("cd /none/src; python3 -m slurm_adopt.runtime_dir", "/none/src"),
        ("cd /none && other", ""),
        ("python3 -m slurm_adopt.epilog", ""),
    ],
)
def test_where_a_script_looks_for_ours(tmp_path: Path, line: str, found: str) -> None:
    (tmp_path / "slurm_adopt").mkdir()
    (tmp_path / "slurm_adopt/epilog.py").touch()
    assert epilog.missing_folder(line.format(tmp_path)) == found


OF_CONTRIB = Path(__file__).parents[2] / "contrib/epilog.d/90-slurm_adopt"


def test_the_folders_of_contrib_s_epilog(tmp_path: Path) -> None:
    """In the checkout that it is part of, or installed; a copy of it far from both has neither."""
    text = OF_CONTRIB.read_text()
    link = tmp_path / "90-slurm_adopt"
    link.symlink_to(OF_CONTRIB)
    assert epilog.missing_folder(text, str(OF_CONTRIB)) == ""
    assert epilog.missing_folder(text, str(link)) == ""
    nowhere = text.replace("/usr/libexec", "/none").replace("/opt", f"{tmp_path}/opt")
    looked = f"/none/slurm-adopt {tmp_path}/opt/slurm_adopt"
    assert epilog.missing_folder(nowhere, str(tmp_path / "copy")) == looked
    (tmp_path / "opt/slurm_adopt/src/slurm_adopt").mkdir(parents=True)
    (tmp_path / "opt/slurm_adopt/src/slurm_adopt/epilog.py").touch()
    assert epilog.missing_folder(nowhere, str(tmp_path / "copy")) == ""


@pytest.fixture
def in_another_root(tmp_path: Path) -> Iterator[int]:
    """Have a process of root's with a root directory of its own, as in a container."""
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        os.chroot(tmp_path)
        os.write(tell, b"x")
        signal.pause()
        os._exit(0)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_a_container_s_root_runs_is_not_run(
    in_another_root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root in there is root here, and the programs may be a user's."""
    marker, program = tmp_path / "marker", tmp_path / "slurmd"
    program.write_text(f"#!/bin/sh\ntouch {marker}\necho slurm 24.05.2\n")
    program.chmod(0o755)
    asked = slurm_facts._asked_version
    monkeypatch.setattr(slurm_facts, "_asked_version", lambda _, name: asked(str(program), name))
    nothing = slurm_facts.Asked({}, {}, [])
    monkeypatch.setattr(slurm_facts, "asked", lambda _: nothing)
    for pid, said in ((in_another_root, ""), (os.getpid(), "24.05.2")):
        found = [Slurmd(pid, "", "", {})]
        monkeypatch.setattr(slurm_facts, "slurmds", lambda _, found=found: found)
        assert slurm_facts.version(Host()) == said
        assert marker.exists() == bool(said)


def test_an_sshd_by_name_alone_is_not_run(
    in_another_root: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one of a container's, nor another program that a user has called so."""
    own, real_link = os.getpid(), os.readlink
    for pid, program, runs in (
        (own, "/usr/sbin/sshd", True),
        (own, "/usr/bin/sudo", False),
        (in_another_root, "/usr/sbin/sshd", False),
    ):
        texts = {f"/proc/{pid}/cmdline": b"sshd: /usr/sbin/sshd -D [listener] 0 of 10-100\0"}
        links = {f"/proc/{pid}/exe": program}
        monkeypatch.setattr(proc, "pids", lambda pid=pid: [pid])
        monkeypatch.setattr(proc, "comm", lambda _: "sshd")
        monkeypatch.setattr(proc, "read", texts.__getitem__)
        monkeypatch.setattr(
            os, "readlink", lambda path, links=links: links.get(path) or real_link(path)
        )
        assert [one.program for one in sshd_settings.sshds() if one.listens] == [program] * runs
