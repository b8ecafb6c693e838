"""Faults of what runs the module: Python, its library, pam_python, the package; odd processes.

Root is let in with each of them: by the entry script, else by the guard in front of our lines.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from dataclasses import replace
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from tests.cluster.faults.fault import (
    GENERIC,
    OWN,
    PATIENT,
    REFUSED,
    SOURCE,
    UNKNOWN,
    Fault,
    shell,
)
from tests.cluster.harness.host import end
from tests.cluster.harness.wait import NotInTimeError, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring

USERS = ("one", "two", "none")
EVERYBODY = dict.fromkeys(USERS, GENERIC)
CHOSEN = {"one": GENERIC, "two": GENERIC}  # between the phases; `none` is refused by then
LOADED = {"one": OWN, "two": SOURCE}  # what sshd has loaded by then is all that it wants
NOBODY = dict.fromkeys(USERS, REFUSED)  # whatever the options say: no code of ours runs
NO_MORE = {"one": REFUSED, "two": REFUSED}
NOTHING = shell("true", "true")

# The package

HOME = "/opt/slurm_adopt"
SAVE = f"cp -a {HOME} /var/spool/opt; cd {HOME}/src/slurm_adopt;"
# A note of the account phase that no session phase has read: the next note's writer removes it.
NOTES = "/run/slurm_adopt/adoptions/*"
RESTORE = f"rm -rf {HOME} {NOTES}; mv /var/spool/opt {HOME}"
CANNOT = "cannot run: "


def unusable(name: str, bring: Bring) -> Fault:
    """Return a fault of the package, or of what it imports; what sshd has loaded stays."""
    return Fault(
        name,
        bring,
        EVERYBODY,
        CANNOT,
        in_session=CHOSEN,
        says_in_session="",
        remarks={("pam_exec", "session"): CANNOT},
        exceptions={("pam_python", "session"): LOADED},
        undecided=True,
    )


def package(name: str, script: str) -> Fault:
    """Return a fault of the package's files, in the folder of which a script runs."""
    return unusable(name, shell(f"{SAVE} {script}", RESTORE))


def harmless(name: str, script: str) -> Fault:
    """Return a fault of the package's files that changes nothing."""
    return Fault(name, shell(f"{SAVE} {script}", RESTORE))


ENGINE = "decision/engine.py"
PYC = "__pycache__/*.cpython-3*.pyc"
IMAGE = "__pycache__/login.*.image"
EACH_PYC = f"rm {IMAGE}; for f in */{PYC} */*/{PYC}; do %s; done"  # the image is used without it
EACH_IMAGE = f"for f in {IMAGE}; do %s; done"
HEAD = "conv=notrunc status=none"

PACKAGE = (
    package("package missing", "rm -r ../../src"),
    package("package is a file", "cd ..; rm -r slurm_adopt; touch slurm_adopt"),
    package("package without a folder", "rm -r decision"),
    package("package file missing", f"rm {ENGINE}"),
    package("package file empty", f": >{ENGINE}"),
    package("package file garbage", f"head -c 9999 /dev/urandom >{ENGINE}"),
    package("package file truncated in its first line", f"truncate -s 10 {ENGINE}"),
    package(
        "package file truncated in its middle",
        f"truncate -s $(($(stat -c %s {ENGINE}) / 2)) {ENGINE}",
    ),
    package("package file truncated to half of its pages", f"truncate -s 4096 {ENGINE}"),
    package("package file is a directory", f"rm {ENGINE}; mkdir {ENGINE}"),
    package("package file is a FIFO", f"rm {ENGINE}; mkfifo {ENGINE}"),
    package("package file cannot be read (EIO)", f"ln -sf /proc/self/mem {ENGINE}"),
    package("package file is a loop of links", f"ln -sf engine.py {ENGINE}"),
    package("package exits", f"echo 'raise SystemExit(0)' >{ENGINE}"),
    package("package of a newer Python", f"echo 'type X = int' >>{ENGINE}"),
    package("package with a function renamed", f"sed -i 's/^def decide(/def decided(/' {ENGINE}"),
    harmless(
        "package installed again",
        "cp -a . ../new; mv ../slurm_adopt ../old; mv ../new ../slurm_adopt; rm -r ../old",
    ),
    harmless(".pyc empty", EACH_PYC % 'truncate -s 0 "$f"'),
    harmless(".pyc garbage", EACH_PYC % 'head -c 4096 /dev/urandom >"$f"'),
    harmless(".pyc truncated", EACH_PYC % 'truncate -s 200 "$f"'),
    harmless(".pyc of another Python", EACH_PYC % f"""printf 'a\\r\\r\\n' | dd of="$f" {HEAD}"""),
    harmless(".pyc stale", f"rm {IMAGE}; find . -name '*.py' -exec touch {{}} +"),
    harmless(".pyc missing", "find . -name __pycache__ -exec rm -r {} +"),
    harmless("login image empty", EACH_IMAGE % ': >"$f"'),
    harmless("login image truncated", EACH_IMAGE % 'truncate -s -9999 "$f"'),
    harmless("login image is a FIFO", EACH_IMAGE % 'rm "$f"; mkfifo "$f"'),
    harmless("login image cannot be read (EIO)", EACH_IMAGE % 'ln -sf /proc/self/mem "$f"'),
    harmless("login image of other sources", f"echo '#' >>{ENGINE}"),
    harmless("login image of sources with other times", "find . -name '*.py' -exec touch {} +"),
    harmless("login image missing", f"rm {IMAGE}"),
)

# A package that is replaced by another version in mid-login: sshd has loaded what it has wanted
# until then, and takes the rest from the new one.
OF_JOB = (*PATIENT, "job_env=all", "job_limits=1")
REPLACED = (
    Fault(
        "package replaced in mid-login, in what finds the source's job",
        shell(f"{SAVE} sed -i 's/^def ask(/def asked(/' node/source_job.py", RESTORE),
        {"two": UNKNOWN},
        "unexpected AttributeError",
        in_session={},
        says_in_session="",
    ),
    Fault(
        "package replaced in mid-login, in what gives the job's variables",
        shell(f"{SAVE} sed -i 's/^def own(/def owned(/' session/environment.py", RESTORE),
        more=OF_JOB,
        phases=("session",),
        says="the job's variables and limits are left out: unexpected AttributeError",
    ),
)

# The entry scripts

FOLDER = f"{HOME}/pam"
SCRIPT = "pam_slurm_adopt.py"
EXEC = "pam_slurm_adopt_exec"


def script(name: str, text: str, **more: Any) -> Fault:
    """Return a fault of the script that pam_python loads; what it has loaded stays."""
    bring = shell(f"{SAVE} cd {FOLDER}; {text}", RESTORE)
    return Fault(name, bring, NOBODY, fronts=("pam_python",), **{"in_session": {}, **more})


def program(name: str, text: str) -> Fault:
    """Return a fault of the script that pam_exec runs."""
    bring = shell(f"{SAVE} cd {FOLDER}; {text}", RESTORE)
    return Fault(name, bring, NOBODY, in_session=NO_MORE, fronts=("pam_exec",))


SCRIPTS = (
    script(
        "script missing",
        f"rm {SCRIPT}",
        in_session=CHOSEN,  # whether it is root's is looked at in each phase
        says_in_session=CANNOT,
        undecided=True,
    ),
    script("script empty", f": >{SCRIPT}"),
    script("script garbage", f"head -c 4096 /dev/urandom >{SCRIPT}"),
    script("script truncated", f"truncate -s 3000 {SCRIPT}"),
    script("script with a syntax error", f"echo '(' >>{SCRIPT}"),
    script("script is a directory", f"rm {SCRIPT}; mkdir {SCRIPT}"),
    script("script cannot be read (EIO)", f"ln -sf /proc/self/mem {SCRIPT}"),
    program("program missing", f"rm {EXEC}"),
    program("program empty", f": >{EXEC}"),
    program("program garbage", f"head -c 4096 /dev/urandom >{EXEC}"),
    program("program truncated", f"truncate -s 3000 {EXEC}"),
    program("program truncated after a function", f"sed -i '/^def _items/,$d' {EXEC}"),
    program("program with a syntax error", f"echo '(' >>{EXEC}"),
    program("program is a directory", f"rm {EXEC}; mkdir {EXEC}"),
    program("program not executable", f"chmod 644 {EXEC}"),
    program("program with an interpreter that is missing", f"sed -i '1s/.*/#!.nowhere/' {EXEC}"),
)

# pam_python, and Python itself

LIBRARY = "/usr/lib/python3.11"


def away(path: str, instead: str = "true") -> Bring:
    """Move a file away; `instead`: what is done then."""
    return shell(
        f"f=$(echo {path}); echo $f >/var/spool/away; mv $f $f.away; {instead}",
        f"f=$(cat /var/spool/away); rm -rf $f {NOTES}; mv $f.away $f",
    )


def bridge(name: str, path: str, instead: str = "true") -> Fault:
    """Return a fault of what pam_python needs to start; what sshd has loaded stays."""
    return Fault(name, away(path, instead), NOBODY, in_session={}, fronts=("pam_python",))


def python(name: str, path: str, instead: str = "true") -> Fault:
    """Return a fault of what both fronts need to start."""
    return Fault(
        name,
        away(path, instead),
        NOBODY,
        in_session=NO_MORE,
        exceptions={("pam_python", "session"): LOADED},
    )


def of_exec(name: str, path: str, instead: str = "true") -> Fault:
    """Return a fault of what pam_exec's script needs to start."""
    bring = away(path, instead)
    return Fault(name, bring, NOBODY, in_session=NO_MORE, fronts=("pam_exec",))


def module_of_python(name: str) -> Fault:
    """Return a fault of a module that pam_python needs itself, and ours does not."""
    return Fault(
        f"{name} of Python's library missing",
        away(f"{LIBRARY}/{name}"),
        NOBODY,
        in_session={},
        exceptions={("pam_exec", phase): LOADED for phase in ("account", "both")},
    )


LIBPYTHON = "/usr/lib/*/libpython3.11.so.1.0"
PYTHON = (
    bridge("pam_python missing", "/usr/lib/security/pam_python.so"),
    bridge("pam_python garbage", "/usr/lib/security/pam_python.so", "echo ELF >$f"),
    bridge("libpython missing", LIBPYTHON),
    bridge("libpython empty", LIBPYTHON, ": >$f"),
    bridge("libpython garbage", LIBPYTHON, "head -c 9999 /dev/urandom >$f"),
    python("Python's library missing", LIBRARY),
    python("Python's library empty", LIBRARY, "mkdir $f"),
    python("encodings missing", f"{LIBRARY}/encodings"),
    python("encodings garbage", f"{LIBRARY}/encodings", "mkdir $f; echo '(' >$f/__init__.py"),
    bridge("traceback.py of Python's library missing", f"{LIBRARY}/traceback.py"),
    bridge("linecache.py of Python's library garbage", f"{LIBRARY}/linecache.py", "echo '(' >$f"),
    *map(module_of_python, ("re", "contextlib.py")),
    Fault("__future__.py of Python's library missing", away(f"{LIBRARY}/__future__.py")),
    of_exec("/usr/bin/python3 missing", "/usr/bin/python3"),
    of_exec("/usr/bin/python3 a dangling link", "/usr/bin/python3", "ln -s python3.99 $f"),
    of_exec("/usr/bin/python3 another program", "/usr/bin/python3", "ln -s /bin/false $f"),
)  # fmt: skip

# What Python runs before any script: it does not, for pam_exec's (python3 -IS)

PACKAGES = "/usr/lib/python3/dist-packages"


def pth(name: str, code: str, *, ends: bool = False) -> Fault:
    """Return a `.pth` of a package of root's own; `ends`: whether Python does not start with it."""
    file = f"{PACKAGES}/hostile.pth"
    bring = shell(f"cat >{file} <<'END'\nimport sys; {code}\nEND", f"rm {file}")
    expected = NOBODY if ends else {}
    return Fault(f".pth that {name}", bring, expected, in_session={}, fronts=("pam_python",))


def customize(name: str, code: str, *, ends: bool = False) -> Fault:
    """Return a sitecustomize; `ends`: whether Python does not start with it."""
    file = "/etc/python3.11/sitecustomize.py"
    bring = shell(
        f"cp -a {file} /var/spool/; echo '{code}' >{file}", f"mv /var/spool/sitecustomize.py {file}"
    )
    expected = NOBODY if ends else {}
    return Fault(
        f"sitecustomize that {name}", bring, expected, in_session={}, fronts=("pam_python",)
    )


SITE = (
    pth("raises", "raise RuntimeError"),
    pth("exits", "sys.exit()", ends=True),
    pth("ends the process", "import os; os._exit(0)", ends=True),
    pth("prints", "print('x' * 100000)"),
    pth("changes sys.path", "sys.path[:0] = ['/nowhere', '']"),
    pth("sleeps", "import time; time.sleep(1)"),
    pth("starts a program", "import subprocess; subprocess.run(['true'])"),
    customize("raises", "raise RuntimeError"),
    customize("exits", "raise SystemExit", ends=True),
)

# Other modules in the stack that change the process, or the interpreter

MODULE = """\
import ctypes, os, sys
libc = ctypes.CDLL(None)
STATE = {{}}

def before():
{before}

def after():
{after}

def pam_sm_acct_mgmt(pamh, flags, argv):
    (after if argv[1] == "after" else before)()
    return pamh.PAM_IGNORE

pam_sm_open_session = pam_sm_acct_mgmt

def pam_sm_close_session(pamh, flags, argv):
    return pamh.PAM_IGNORE
"""


def process(name: str, before: str, after: str = "pass", **more: Any) -> Fault:
    """Return a module that does something before our lines, and something after them."""
    text = ["".join(f"    {line}\n" for line in part.splitlines()) for part in (before, after)]
    module = MODULE.format(before=text[0], after=text[1])
    usual = {"bring": NOTHING, "phases": ("account", "both")}
    return Fault(name, module=module, **{**usual, **more})


def interpreter(name: str, before: str, after: str = "pass", **more: Any) -> Fault:
    """Return a module that does something to the interpreter that it shares with ours."""
    return process(name, before, after, fronts=("pam_python",), **more)


CLOSED = """\
import fcntl
STATE["open"] = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100) for number in range(3)]
os.closerange(0, 3)
"""
OPENED = """\
for number, copy in enumerate(STATE["open"]):
    os.dup2(copy, number)
    os.close(copy)
"""
IGNORED = "libc.signal(17, 1)", "libc.signal(17, 0)"
NOTES_GONE = shell("true", f"rm -rf {NOTES}")
BLOCKED = """\
STATE["mask"] = (ctypes.c_ulong * 16)()
libc.sigprocmask(0, (ctypes.c_ulong * 16)(0xFFFFFFFFFFFFFFFF), STATE["mask"])
"""
THREAD = """\
import _thread
lock = _thread.allocate_lock()
lock.acquire()
_thread.start_new_thread(lock.acquire, ())
"""
NO_CWD = """\
os.mkdir("/tmp/removed")
os.chdir("/tmp/removed")
os.rmdir("/tmp/removed")
"""
# With users: else root's guard finds no user either.
OTHER_ROOT = shell("mkdir -p /mnt/etc; cp /etc/passwd /etc/group /mnt/etc", "rm -r /mnt/etc")
CHROOT = """\
STATE["root"] = os.open("/", os.O_RDONLY)
os.chroot("/mnt")
"""
UNROOT = """\
os.fchdir(STATE["root"])
os.chroot(".")
os.close(STATE["root"])
"""
AUDIT = """\
def hook(event, arguments):
    if event == "open" and STATE.get("armed"):
        raise RuntimeError("not here")
if "armed" not in STATE:
    sys.addaudithook(hook)
STATE["armed"] = True
"""
SHADOW = """\
import types
sys.modules["slurm_adopt"] = types.ModuleType("slurm_adopt")
"""
HANDLER = """\
import signal
for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGUSR1):
    signal.signal(number, lambda *_: None)
"""
PATCH = """\
import time
time.time = time.monotonic = lambda: 0.0
"""
IMPOSTOR = shell(
    "mkdir /mnt/slurm_adopt; echo 'raise SystemExit' >/mnt/slurm_adopt/__init__.py",
    "rm -r /mnt/slurm_adopt",
)
EMPTY = """\
STATE["path"] = list(sys.path)
sys.path.clear()
"""
RESTORED = 'sys.path[:] = STATE["path"]'
AWAY = """\
for name in ("os", "re", "stat", "contextlib", "pwd", "_socket"):
    sys.modules.pop(name, None)
"""
UNUSABLE = {"expected": EVERYBODY, "says": CANNOT, "undecided": True}

PROCESSES = (
    process("descriptors 0, 1 and 2 closed", CLOSED, OPENED),
    interpreter("SIGCHLD ignored", *IGNORED),
    # pam_exec itself does not learn then how our program has ended (waitpid(2): ECHILD).
    process(
        "SIGCHLD ignored, pam_exec",
        *IGNORED,
        fronts=("pam_exec",),
        expected=NOBODY,
        bring=NOTES_GONE,
    ),
    process("SIGPIPE at its default", "libc.signal(13, 0)", "libc.signal(13, 1)"),
    process("all signals blocked", BLOCKED, 'libc.sigprocmask(2, STATE["mask"], None)'),
    process("a thread in sshd", THREAD),
    process("the current directory removed", NO_CWD, 'os.chdir("/")'),
    process("another root directory", CHROOT, UNROOT, expected=NOBODY, bring=OTHER_ROOT),
    process("umask 777", 'STATE["umask"] = os.umask(0o777)', 'os.umask(STATE["umask"])'),
    interpreter(
        "a package of this name first in sys.path", 'sys.path.insert(0, "/mnt")', bring=IMPOSTOR
    ),
    interpreter("sys.path empty", EMPTY, RESTORED),
    interpreter("modules of Python's library away", AWAY),
    interpreter(
        "another slurm_adopt in sys.modules", SHADOW, 'del sys.modules["slurm_adopt"]', **UNUSABLE
    ),
    interpreter("handlers of another module's", HANDLER),
    interpreter("another module that raises", "raise RuntimeError", "raise SystemExit"),
    interpreter(
        "a low limit of recursion",
        "sys.setrecursionlimit(16)",
        "sys.setrecursionlimit(1000)",
        **{**UNUSABLE, "says": "RecursionError"},
    ),
    interpreter("no garbage collection", "import gc; gc.disable()"),
    interpreter("an audit hook that raises", AUDIT, 'STATE["armed"] = False', **UNUSABLE),
    interpreter(
        "sockets with a time limit",
        "import _socket; _socket.setdefaulttimeout(0.0001)",
        "import _socket; _socket.setdefaulttimeout(None)",
    ),
    interpreter("warnings as errors", 'import warnings; warnings.simplefilter("error")'),
    interpreter("standard streams closed", "sys.stdin = sys.stdout = sys.stderr = None"),
    interpreter("environment emptied", "os.environ.clear()"),
)

# sshd's own environment


def variables(name: str, *words: str) -> Fault:
    """Return an sshd that is started with variables."""
    return Fault(name, NOTHING, setting=lambda arena: arena.with_sshd("env", *words))


PYTHON_VARIABLES = (
    "PYTHONHOME=/nowhere", "PYTHONPATH=/nowhere", "PYTHONSTARTUP=/nowhere", "PYTHONDEVMODE=1",
    "PYTHONPLATLIBDIR=nowhere", "PYTHONWARNINGS=error", "PYTHONMALLOC=debug", "PYTHONINSPECT=1",
    "PYTHONTRACEMALLOC=9", "PYTHONDUMPREFS=1", "PYTHONIOENCODING=nothing", "PYTHONUTF8=9",
)  # fmt: skip
ENVIRONMENT = (
    variables("Python's variables in sshd's environment", *PYTHON_VARIABLES),
    *(
        variables(f"LC_ALL={name}", f"LC_ALL={name}", f"LANG={name}")
        for name in ("C", "tr_TR.UTF-8", "xx_YY.UTF-9")
    ),
    variables("TZ=/nowhere", "TZ=:/nowhere"),
)

# A file system that does not answer

LIMIT = 60.0  # seconds that root has
SILENT = "/checkout/tests/cluster/standins/fuse.py"


@contextlib.contextmanager
def silent_library(arena: Arena) -> Iterator[None]:
    """Have Python's library on a file system that does not answer until root is in."""
    arena.sh("test -e /dev/fuse || mknod /dev/fuse c 10 229")
    argv = ["/usr/bin/python3", "-IS", SILENT, LIBRARY, "silent"]
    fuse = arena.node.popen(argv, stdout=subprocess.PIPE)
    assert fuse.stdout
    assert fuse.stdout.readline() == "mounted\n"

    def wait_for_root() -> None:
        with contextlib.suppress(NotInTimeError):
            wait_for("root is in", lambda: "root" in arena.over, LIMIT)
        end(fuse)

    waiting = threading.Thread(target=wait_for_root)
    waiting.start()
    try:
        yield
    finally:
        waiting.join()
        arena.sh(f"umount -l {LIBRARY}; rm -rf {NOTES}")


DISK = (
    Fault(
        "Python's library on a file system that does not answer",
        silent_library,
        NOBODY,
        in_session=NO_MORE,
        exceptions={("pam_python", "session"): LOADED},
    ),
)

ALL = (*PACKAGE, *REPLACED, *SCRIPTS, *PYTHON, *SITE, *PROCESSES, *ENVIRONMENT, *DISK)
# What differs little from its neighbours is for the full run alone.
RARELY = (
    "package is a file", "package without*", "package file empty", "package file is a FIFO",
    "package file truncated in its m*", "package file is a loop*", "package exits",
    "package of a newer*",
    "login image empty", "login image is a FIFO", "login image cannot*", "login image missing",
    ".pyc empty", ".pyc truncated", ".pyc missing", "script empty", "script truncated",
    "script with*", "script is*", "program empty", "program truncated", "program with a syntax*",
    "program is*", "pam_python garbage", "libpython empty", "libpython garbage", "*library empty",
    "encodings g*", "linecache*", "contextlib*", "/usr/bin/python3 missing",
    "/usr/bin/python3 another*", ".pth that ends*", ".pth that prints", ".pth that sleeps",
    ".pth that starts*", "sitecustomize that exits", "SIGPIPE*", "sys.path empty", "no garbage*",
    "standard streams*", "environment emptied", "LC_ALL=C", "LC_ALL=xx*", "TZ=*",
)  # fmt: skip
FAULTS = tuple(
    replace(fault, often=not any(fnmatch(fault.name, pattern) for pattern in RARELY))
    for fault in ALL
)
