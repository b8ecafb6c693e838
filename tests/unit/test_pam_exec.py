"""The front that pam_exec runs: the script as a program of its own, and what its items become.

The script runs in namespaces in which nothing of this machine's is: no slurmd, and a /dev/log of
the test's.
"""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import socket
import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from slurm_adopt.decision.adoption import Adoption
from slurm_adopt.decision.outcome import REFUSALS, SITUATIONS, Outcome
from slurm_adopt.front import answer as front_answer
from slurm_adopt.front import pam_exec
from slurm_adopt.front.pam_exec import Items, status
from slurm_adopt.node.adoption_note import NAME
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.system import log
from slurm_adopt.system.root_dirs import TOP
from tests.fakes.handle import CODES
from tests.fakes.requests import REQUEST_ADD_EXTERN_PID
from tests.fakes.stepd import Stepd, int32

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "pam/pam_slurm_adopt_exec"
USER = "daemon"  # on every Debian, uid 1
NO_JOBS = "Access denied by pam_slurm_adopt: you have no active jobs on this node\n"

CONF = """\
AuthType=auth/munge
NodeName=n1
ProctrackType=proctrack/linuxproc
SlurmdSpoolDir={spool}
SlurmdUser=root
"""

# Starts a program with an environment in which a name may stand twice, as pam_exec does, and has a
# file of that name mapped; `closed`: without a standard output.
LAUNCH = """
import ctypes, mmap, os, sys

def array(words):
    return (ctypes.c_char_p * (len(words) + 1))(*words)

strings, closed, *argv = sys.argv[1:]
with open("/dev/caller", "w") as file:
    file.write(str(os.getpid()))
with open("/dev/pam_exec.so", "w+b") as file:
    file.truncate(1)
    mapped = mmap.mmap(file.fileno(), 1)
pid = os.fork()
if pid == 0:
    if closed:
        os.close(1)
    words = [os.fsencode(word) for word in argv]
    given = [bytes.fromhex(one) for one in strings.split()]
    ctypes.CDLL(None).execve(words[0], array(words), array(given))
    os._exit(126)
_, status = os.waitpid(pid, 0)
os._exit(os.waitstatus_to_exitcode(status) & 255)
"""
# As PID 1 of the namespaces: with the test's /dev, and what is to happen first; "$@" is the rest.
INSIDE = 'set -e; cd /; mount --bind "$0" /dev; {before}\n"$@"; exit $?'


class Ran(NamedTuple):
    """What came of a run of the script."""

    status: int
    said: str
    log: str


class Place:
    """A folder with a Slurm of the test's own, and the namespaces' /dev."""

    def __init__(self, top: Path) -> None:
        self.dev = top / "dev"
        self.dev.mkdir()
        os.mknod(self.dev / "null", 0o20666, os.makedev(1, 3))
        self.spool = top / "spool"
        self.spool.mkdir()
        (top / "slurm.conf").write_text(CONF.format(spool=self.spool))
        self.options = (f"slurm_conf={top}/slurm.conf", "nodename=n1")
        self.syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.syslog.bind(str(self.dev / "log"))
        self.syslog.setblocking(False)

    def run(
        self,
        environment: tuple[bytes, ...],
        *options: str,
        before: str = "",
        script: Path = SCRIPT,
        closed: bool = False,
        pids: bool = True,
    ) -> Ran:
        """Run the script; `pids`: with PIDs of its own, so that nothing of this machine's runs."""
        apart = ["--pid", "--fork", "--mount-proc"] if pids else []
        strings = " ".join(one.hex() for one in environment)
        launch = ["/usr/bin/python3", "-I", "-c", LAUNCH, strings]
        inside = ["sh", "-c", INSIDE.format(before=before), str(self.dev), *launch]
        done = subprocess.run(
            ["unshare", "--mount", *apart, *inside, "1" if closed else "", str(script),
             *self.options, *options],
            check=False,
            capture_output=True,
            cwd="/",
            timeout=120,
        )  # fmt: skip
        assert not done.stderr, done.stderr
        lines = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines.append(self.syslog.recv(1 << 16).decode())
        return Ran(done.returncode, done.stdout.decode(), "\n".join(lines))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.syslog.close()


def call(user: str = USER, kind: str = "account", service: str = "sshd") -> tuple[bytes, ...]:
    """Return what pam_exec puts into the environment of a call, its own items last."""
    items = {"PAM_SERVICE": service, "PAM_USER": user, "PAM_TTY": "ssh", "PAM_RHOST": "127.0.0.1",
             "PAM_TYPE": kind}  # fmt: skip
    return tuple(os.fsencode(f"{name}={value}") for name, value in items.items())


DENY = "action_no_jobs=deny"
IGNORE = "action_no_jobs=ignore"
SUFFICIENT = "ignore_passes=0"
OTHER = "service=login"
ROOT_TOO = "ignore_root=0"

# (PAM_TYPE, user, options, exit status, what the user is told): nobody has a job
CALLS = [
    ("account", USER, (), 1, NO_JOBS),
    ("open_session", USER, (), 1, NO_JOBS),
    ("close_session", USER, (), 0, ""),
    ("close_session", USER, (SUFFICIENT, OTHER), 0, ""),
    ("auth", USER, (IGNORE,), 1, ""),
    ("password", USER, (IGNORE,), 1, ""),
    ("setcred", USER, (IGNORE,), 1, ""),
    ("ACCOUNT", USER, (IGNORE,), 1, ""),
    ("", USER, (IGNORE,), 1, ""),
    ("account", USER, (IGNORE,), 0, ""),
    ("account", USER, (IGNORE, SUFFICIENT), 1, ""),
    ("open_session", USER, (IGNORE, SUFFICIENT), 1, ""),
    ("account", USER, (IGNORE, "ignore_passes=1"), 0, ""),
    ("account", USER, (IGNORE, "ignore_passes=no"), 1, ""),
    ("account", USER, (OTHER,), 0, ""),
    ("account", USER, (OTHER, SUFFICIENT), 1, ""),
    ("account", USER, ("reference=1",), 1, None),
    ("account", "nobody-has", (), 1, ""),
    ("account", "", (), 1, ""),
    ("account", "al\udcffce", (), 1, ""),
    ("account", "root", (), 0, ""),
    ("open_session", "root", (SUFFICIENT, DENY), 0, ""),
    ("account", "root", (ROOT_TOO, DENY), 0, ""),
    ("account", "root", (ROOT_TOO, IGNORE, SUFFICIENT), 0, ""),
    ("open_session", "root", (ROOT_TOO, "action_generic_failure=deny"), 0, ""),
]


@pytest.mark.parametrize(("kind", "user", "options", "code", "said"), CALLS)
def test_exit_status(
    place: Place, kind: str, user: str, options: tuple[str, ...], code: int, said: str | None
) -> None:
    ran = place.run(call(user, kind), *options)
    assert ran.status == code, ran.log
    if said is not None:
        assert ran.said == said
    else:
        reference = ran.said.rpartition("(ref ")[2].rstrip(")\n")
        assert f", ref {reference}: " in ran.log
    assert "cannot run" not in ran.log or kind not in ("account", "open_session")
    if kind not in ("account", "open_session", "close_session"):
        assert f"PAM_TYPE={kind}: this module has account and session lines only" in ran.log


def test_no_pam_type_of_ours_is_an_error() -> None:
    with pytest.raises(SetupError, match="account and session lines only"):
        status([], {"PAM_TYPE": "auth" * 100, "PAM_USER": USER}, 1)


# The answer of each code

OF_CODES = [
    (code, SUFFICIENT if sufficient else "", expected)
    for code, *wanted in (
        ("PAM_SUCCESS", 0, 0),
        ("PAM_IGNORE", 0, 1),
        *((code, 1, 1) for code in sorted(REFUSALS)),
    )
    for sufficient, expected in enumerate(wanted)
]


@pytest.mark.parametrize(("code", "option", "expected"), OF_CODES)
@pytest.mark.parametrize("kind", ["account", "open_session"])
def test_exit_status_of_a_code(
    monkeypatch: pytest.MonkeyPatch, kind: str, code: Any, option: str, expected: int
) -> None:
    outcome = Outcome(SITUATIONS["no jobs"], code, "")
    monkeypatch.setattr(pam_exec, "answer", lambda *_: outcome)
    monkeypatch.setattr(pam_exec, "check_called", lambda *_: None)
    items = {"PAM_TYPE": kind, "PAM_USER": USER}
    assert status(option.split(), items, 1) == expected
    assert status(option.split(), {**items, "PAM_USER": "root"}, 1) == expected * (
        code != "PAM_IGNORE"
    )


def test_every_code_of_the_table_has_a_status() -> None:
    assert {code for code, *_ in OF_CODES} == {"PAM_SUCCESS", "PAM_IGNORE", *REFUSALS}
    assert {*REFUSALS} <= {*CODES.values()}


# The environment

EVIL = b"PAM_USER=root"
EVIL_TYPE = b"PAM_TYPE=close_session"

# (what stands in front of pam_exec's own items, where a user's variables are; exit status)
DOUBLED = [
    ((EVIL,), 1),
    ((EVIL_TYPE,), 1),
    ((EVIL, EVIL_TYPE, b"PAM_SERVICE=login"), 1),
    ((b"PAM_USER", b"PAM_TYPE", b"=", b""), 1),  # names without a value
    ((b"PAM_USER==root", b"X=PAM_USER=root"), 1),
    ((b"LANG=de_DE.ISO-8859-1", b"LC_ALL=tr_TR", b"TZ=\xff", b"PATH=/evil", b"HOME=/evil"), 1),
    ((b"PYTHONPATH=/evil", b"PYTHONSTARTUP=/evil/x.py", b"PYTHONHOME=/evil"), 1),
    ((b"PYTHONINSPECT=1", b"PYTHONDEVMODE=1", b"PYTHONUTF8=0"), 1),
    ((b"SLURM_CONF=/evil/slurm.conf",), 1),
    ((b"X=" + b"\xfe" * 50_000, b"\xff\xfe=1"), 1),
    ((b"SSH_CONNECTION=\xff",), 1),
]


@pytest.mark.parametrize(("front", "code"), DOUBLED)
def test_no_variable_of_a_user_s_steers(place: Place, front: tuple[bytes, ...], code: int) -> None:
    ran = place.run((*front, *call()))
    assert (ran.status, ran.said) == (code, NO_JOBS)
    assert f"user {USER} (uid 1) from 127.0.0.1, pid " in ran.log


@pytest.mark.parametrize("without", ["PAM_USER", "PAM_SERVICE", "PAM_TTY", "PAM_RHOST"])
def test_an_item_that_is_not_there(place: Place, without: str) -> None:
    """Pam_exec leaves out those that are not set; that is no way in."""
    given = tuple(one for one in call() if not one.startswith(without.encode()))
    ran = place.run(given)
    assert ran.status == (0 if without == "PAM_SERVICE" else 1)  # of no service of ours
    assert "cannot run" not in ran.log


def test_nothing_in_the_environment(place: Place) -> None:
    ran = place.run((), IGNORE)
    assert ran.status == 1


WITHOUT_PROC = "mount -t tmpfs none /proc"


@pytest.mark.parametrize(
    ("user", "front", "options", "code"),
    [
        (USER, (), (), 1),
        (USER, (EVIL,), (), 1),
        (USER, (), (IGNORE,), 0),
        ("root", (b"PAM_USER=daemon",), (), 0),
        ("root", (), (ROOT_TOO,), 0),
    ],
)
def test_without_proc(
    place: Place, user: str, front: tuple[bytes, ...], options: tuple[str, ...], code: int
) -> None:
    """Another program prints the environment, of which Python's own has the first of two."""
    ran = place.run((*front, *call(user)), *options, before=WITHOUT_PROC)
    assert ran.status == code, ran.log
    assert "cannot run" not in ran.log


def test_standard_output_is_closed(place: Place) -> None:
    """Nobody is told, and the answer is the same."""
    ran = place.run(call(), closed=True)
    assert (ran.status, ran.said) == (1, "")
    assert "-> PAM_PERM_DENIED in " in ran.log


@pytest.mark.parametrize("kind", ["account", "open_session"])
def test_an_adoption(place: Place, kind: str) -> None:
    """The process that called PAM is the one that a stepd is asked to take."""
    with Stepd(place.spool / "n1_7.4294967292", uid=1) as stepd:
        ran = place.run(call(kind=kind), "action_adopt_failure=deny", pids=False)
    assert (ran.status, ran.said) == (0, ""), ran.log
    (body,) = [body for number, body in stepd.received if number == REQUEST_ADD_EXTERN_PID]
    caller = (place.dev / "caller").read_text()
    assert body == int32(int(caller))
    assert f", pid {caller}: adopted into job 7 (the only job)" in ran.log


@pytest.mark.parametrize("action", ["deny", "allow"])
def test_a_stepd_that_takes_nothing(place: Place, action: str) -> None:
    replies = {REQUEST_ADD_EXTERN_PID: int32(-1)}
    with Stepd(place.spool / "n1_7.4294967292", uid=1, replies=replies):
        ran = place.run(call(), f"action_adopt_failure={action}", pids=False)
    assert ran.status == (action == "deny"), ran.log
    assert "adopt failure: job 7 (the only job): " in ran.log


# The caller has ended before the script has looked who it is. What it leaves holds the pipe of the
# command substitution, which so ends with the script.

ORPHAN = """
said=$({inherits} sh -c '(sleep 0.3; exec env PAM_TYPE=account "$@") &' sh {command})
exit 0
"""


# Runs a command as what inherits from it (PR_SET_CHILD_SUBREAPER), by the uid that it is given.
SUBREAPER = """
import ctypes, os, sys
uid, *argv = sys.argv[1:]
ctypes.CDLL(None).prctl(36, 1)
os.spawnvp(os.P_WAIT, argv[0], argv)
os.seteuid(int(uid))
try:
    while os.wait():
        pass
except ChildProcessError:
    pass
"""


@pytest.mark.parametrize("uid", ["", "0", "1"], ids=["init", "root's", "a user's"])
def test_the_caller_has_ended(place: Place, uid: str) -> None:
    """What has the script then is init or another process, which nobody may bring into a job."""
    file = place.spool.parent / "subreaper.py"
    file.write_text(SUBREAPER)
    inherits = uid and f"/usr/bin/python3 -I {file} {uid}"
    items = f"PAM_SERVICE=sshd PAM_USER={USER}"
    command = " ".join((items, str(SCRIPT), *place.options))
    with Stepd(place.spool / "n1_7.4294967292", uid=1) as stepd:
        ran = place.run(call(), before=ORPHAN.format(command=command, inherits=inherits))
    assert stepd.received == []
    assert "has not called PAM by pam_exec: what did has ended" in ran.log


# Where the package is


def installed(top: Path, how: str) -> Path:
    """Install the script with its package in a folder; return its path there."""
    if how == "wheel":
        site = top / "lib/python3.99/site-packages"
        shutil.copytree(CHECKOUT / "src/slurm_adopt", site / "slurm_adopt")
        shutil.copytree(CHECKOUT / "pam", site / "slurm_adopt/pam")
        return site / "slurm_adopt/pam" / SCRIPT.name
    shutil.copytree(CHECKOUT / "src/slurm_adopt", top / "src/slurm_adopt")
    shutil.copytree(CHECKOUT / "pam", top / "pam")
    script = top / "pam" / SCRIPT.name
    if how == "link":
        (top / "bin").mkdir()
        (top / "bin/adopt").symlink_to("../pam/" + SCRIPT.name)
        return top / "bin/adopt"
    if how == "link to the folder":
        (top / "other").symlink_to("pam")
        return top / "other" / SCRIPT.name
    return script


@pytest.mark.parametrize("how", ["layout", "link", "link to the folder", "wheel"])
def test_where_the_package_is(place: Place, tmp_path: Path, how: str) -> None:
    script = installed(tmp_path / "usr/libexec/slurm-adopt", how)
    ran = place.run(call(), script=script)
    assert (ran.status, ran.said) == (1, NO_JOBS), ran.log
    assert place.run(call("root"), script=script).status == 0
    written = [path for path in (tmp_path / "usr").rglob("*.pyc") if "slurm_adopt" in path.name]
    assert not written  # what root runs at a login writes no files


# The package is broken

GENERIC = "action_generic_failure="
IS_SLURM = "cp /bin/sleep {place}/slurmd; {place}/slurmd 60 &"
EXIT, RAISES, NO_SYNTAX, MEMORY = (
    "raise SystemExit(0)", "1 // 0", "def", "raise MemoryError"
)  # fmt: skip

# (what stands in pam_exec.py, None: nothing is there, user, options, exit status, with a slurmd)
BROKEN = [
    (None, USER, (), 0, 1),
    (EXIT, USER, (), 0, 1),
    (RAISES, USER, (), 0, 1),
    (NO_SYNTAX, USER, (f"{GENERIC}auto",), 0, 1),
    (MEMORY, USER, (SUFFICIENT,), 1, 1),
    ("raise KeyboardInterrupt", USER, (f"{GENERIC}deny",), 1, 1),
    (RAISES, USER, (f"{GENERIC}ignore",), 0, 0),
    (RAISES, USER, (f"{GENERIC}ignore", SUFFICIENT), 1, 1),
    (RAISES, USER, (f"{GENERIC}allow", SUFFICIENT), 0, 0),
    (RAISES, USER, (f"{GENERIC}dney",), 1, 1),
    (RAISES, USER, ("Action_Generic_Failure=DENY",), 1, 1),
    (RAISES, USER, (f"{GENERIC}deny", OTHER), 0, 0),
    (RAISES, USER, (f"{GENERIC}deny", OTHER, SUFFICIENT), 1, 1),
    (RAISES, USER, (f"{GENERIC}deny", "service=*"), 1, 1),
    (EXIT, "root", (f"{GENERIC}deny",), 0, 0),
    (EXIT, "root", (f"{GENERIC}deny", ROOT_TOO, SUFFICIENT), 0, 0),
    (None, "root", (ROOT_TOO,), 0, 0),
]


@pytest.mark.parametrize("slurmd", [False, True])
@pytest.mark.parametrize(("text", "user", "options", "code", "with_slurmd"), BROKEN)
def test_the_package_cannot_be_used(
    place: Place,
    tmp_path: Path,
    text: str | None,
    user: str,
    options: tuple[str, ...],
    code: int,
    with_slurmd: int,
    slurmd: bool,
) -> None:
    script = installed(tmp_path / "broken", "layout")
    front = tmp_path / "broken/src/slurm_adopt/front/pam_exec.py"
    if text is None:
        front.unlink()
    else:
        front.write_text(text)
    before = IS_SLURM.format(place=tmp_path) if slurmd else ""
    ran = place.run(call(user), *options, script=script, before=before)
    assert ran.status == (with_slurmd if slurmd else code)
    assert ran.said == ""
    if user == USER or ROOT_TOO in options:
        assert "pam_slurm_adopt(sshd:account): cannot run: " in ran.log
    else:
        assert ran.log == ""


@pytest.mark.parametrize(("kind", "code"), [("account", 1), ("open_session", 1), ("auth", 1)])
def test_no_script_of_the_other_front_beside_it(
    place: Place, tmp_path: Path, kind: str, code: int
) -> None:
    """Nothing can be logged then, and nothing is known of this host: refused."""
    script = tmp_path / SCRIPT.name
    shutil.copy(SCRIPT, script)
    ran = place.run(call(kind=kind), script=script)
    assert (ran.status, ran.said) == (code, "")
    assert place.run(call("root", kind="account"), script=script).status == 0


# An older Python


def test_root_gets_in_by_python_3_6() -> None:
    """The script is read by it, and evaluates no annotation that it does not know."""
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
    assert not [one for one in ast.walk(tree) if isinstance(one, ast.NamedExpr)]
    imported = [one.module for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)]
    assert "__future__" not in imported  # no annotations of it
    for function in (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)):
        evaluated = [function.returns, *(one.annotation for one in function.args.args)]
        assert all(isinstance(one, (ast.Name, ast.Constant)) for one in evaluated), function.name


def test_root_gets_in_by_two_modules_of_python_s() -> None:
    """And by one that it can do without: a small Python may have no more, not even ctypes.

    atexit is built in: it has no file.
    """
    found = [one for one in ast.walk(ast.parse(SCRIPT.read_text())) if isinstance(one, ast.Import)]
    named = {name.name for one in found for name in one.names}
    assert named == {"atexit", "os", "sys", "pwd"}


def test_a_script_that_is_cut_off_lets_nobody_in(tmp_path: Path) -> None:
    """Whatever is left of it: pam_exec takes an exit status of 0 for a yes."""
    lines = SCRIPT.read_text().splitlines(keepends=True)
    first = next(at for at, line in enumerate(lines) if "atexit.register" in line) + 1
    cut = tmp_path / "cut"
    for end in range(first, len(lines), 3):
        cut.write_text("".join(lines[:end]))
        done = subprocess.run(
            ["/usr/bin/python3", "-IS", str(cut)], check=False, stderr=subprocess.DEVNULL
        )
        assert done.returncode == 1, end


# The user database cannot be asked


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load the script as a module."""
    monkeypatch.setattr("sys.argv", [str(SCRIPT)])
    loader = SourceFileLoader("entry", str(SCRIPT))
    spec = spec_from_loader("entry", loader)
    assert spec
    module = module_from_spec(spec)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader.exec_module(module)
    module._rest()
    return module


# (notes, PAM_TYPE, service, action, status)
LET_IN = [
    ("OURS", "open_session", "sshd", "ignore", 1),
    ("OURS", "open_session", "sshd", "allow", 0),
    ("OURS", "open_session", "su", "ignore", 0),
    ("OURS", "account", "sshd", "ignore", 0),
    ("1-77", "open_session", "sshd", "ignore", 0),
    ("", "open_session", "sshd", "ignore", 0),
]


@pytest.mark.parametrize(("notes", "kind", "service", "action", "status"), LET_IN)
def test_a_package_that_is_gone_in_the_session_phase(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType, notes: str, kind: str, service: str,
    action: str, status: int,
) -> None:  # fmt: skip
    """Whom the account phase let in for a job is not left to the modules that it went by."""
    asked: list[str] = []

    def listdir(path: str) -> list[str]:
        asked.append(path)
        return notes.replace("OURS", f"{os.getppid()}-77").split()

    monkeypatch.setattr(script.os, "listdir", listdir)
    monkeypatch.setattr(script, "_beside", lambda: {"_complain": lambda *_: None})
    items = {"PAM_TYPE": kind, "PAM_SERVICE": service}
    given = [f"action_generic_failure={action}"]
    assert script._without_package(items, given, False, OSError()) == status
    assert script._without_package(items, given, True, OSError()) == 0
    assert set(asked) <= {f"{TOP}/{NAME}"}


def test_the_script_s_own_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType
) -> None:
    """As the PAM line has it: what is above a link is the kernel's to say; also without a cwd."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.setattr("sys.argv", ["pam/it"])
    assert script._script() == f"{tmp_path}/gone/pam/it"
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr("sys.argv", ["/opt/link/../pam/it"])
    assert script._script() == "/opt/link/../pam/it"


@pytest.mark.parametrize(("user", "expected"), [("root", True), ("alice", False), ("", False)])
def test_root_without_a_user_database(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType, user: str, expected: bool
) -> None:
    monkeypatch.setattr("pwd.getpwnam", lambda _: 1 // 0)
    assert script._is_root(user) is expected


# The items as a Service


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what would go to syslog."""
    found: list[str] = []
    monkeypatch.setattr(log.Log, "_connect", lambda _: None)
    monkeypatch.setattr(log.Log, "_send", lambda _, line: found.append(line.decode()))
    monkeypatch.setattr(front_answer, "uid_of", {"root": 0, "alice": 5001}.get)
    monkeypatch.setattr(pam_exec, "uid_of", {"root": 0, "alice": 5001}.get)
    return found


ITEMS = {"PAM_TYPE": "account", "PAM_USER": "alice", "PAM_SERVICE": "sshd", "PAM_RHOST": "::1"}


def test_both_phases_of_a_login_have_one_reference() -> None:
    """By the process that called; two logins have two."""
    own, other = Items(ITEMS, os.getpid()), Items({**ITEMS, "PAM_TYPE": "x"}, os.getppid())
    assert own.reference() == Items({}, os.getpid()).reference() != other.reference()
    assert len(own.reference()) == front_answer.REFERENCE
    assert {*own.reference()} <= {*front_answer.LETTERS}


def test_what_is_not_there_is_empty() -> None:
    items = Items({}, 1)
    assert (items.user, items.name, items.rhost, items.tty) == ("", "", None, None)
    assert items.variable("SSH_CONNECTION") is None
    assert items.converse is None


def test_welcome(monkeypatch: pytest.MonkeyPatch, lines: list[str], capfd: Any) -> None:
    """By the standard output, as a refusal is."""
    adoption = Adoption(9, 5001, 7, 1)
    outcome = Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", "adopted", adoption)
    monkeypatch.setattr(front_answer, "decide_session", lambda *_: outcome)
    monkeypatch.setattr(pam_exec, "check_called", lambda *_: None)
    items = {**ITEMS, "PAM_TYPE": "open_session", "PAM_TTY": "ssh"}
    assert status(["welcome=1"], items, os.getppid()) == 0
    assert capfd.readouterr().out == "This session is part of job 7 and ends with it.\n"
    assert len(lines) == 1
