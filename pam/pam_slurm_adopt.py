"""What pam_python loads: root first, then the package, then one call; no exception leaves it.

PAM lines: account required pam_python.so /path/to/pam_slurm_adopt.py [option=value ...]
           session required pam_python.so /path/to/pam_slurm_adopt.py [option=value ...]
README.md has the guard for root that belongs in front of each. This file is compiled again at each
login, so it is short: the rest is in the package, and in a text, REST. It imports no file before
root is answered, `__future__` included: one that cannot be read would refuse root.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# Of this handle, in this process: the account phase's, for the session.
MEMORY: "dict[str, Any]" = {}


def pam_sm_acct_mgmt(pamh: "Any", flags: int, argv: list[str]) -> int:
    """Answer the account phase."""
    return _answer("account", pamh, flags, argv)


def pam_sm_open_session(pamh: "Any", flags: int, argv: list[str]) -> int:
    """Answer the session phase."""
    return _answer("session", pamh, flags, argv)


def _answer(phase: str, pamh: "Any", flags: int, argv: list[str]) -> int:
    root = False
    try:
        root = _is_root(pamh)
        if root and "ignore_root=0" not in map(str.lower, argv):
            return int(pamh.PAM_IGNORE)
        return int(_front(_script(argv))(phase, pamh, flags, argv[1:], MEMORY))
    except BaseException as error:  # noqa: BLE001 - SystemExit, too: what leaves us refuses everybody
        try:
            return int(_rest()["_without_package"](phase, pamh, argv, root, error))
        except BaseException:  # noqa: BLE001 - no memory, for one
            return int(pamh.PAM_IGNORE if root else pamh.PAM_PERM_DENIED)


def _is_root(pamh: "Any") -> bool:
    """Return whether the user is uid 0; by name where the user database cannot be asked."""
    try:
        user = pamh.user
    except UnicodeDecodeError as error:
        user = error.object.decode("utf-8", "surrogateescape")
    try:
        import pwd

        return pwd.getpwnam(user).pw_uid == 0
    except Exception:  # noqa: BLE001
        return bool(user == "root")


def _script(argv: list[str]) -> str:
    """Return our path: one that is not whole is pam_python's own directory's."""
    return argv[0] if argv[0][:1] == "/" else str(globals().get("__file__", argv[0]))


def _front(script: str) -> "Any":
    """Return what calls the package: that of this script (a checkout's, a wheel's), else another.

    Nothing is imported that others than root may write: see system/importing.py.
    """
    above, pam, _ = script.rpartition("/pam/")
    name = "slurm_adopt.system.importing"
    if name not in sys.modules:
        found = _of_image(f"{above}/src/slurm_adopt") or _of_image(above)
        sys.modules[name] = found or _rest()["_importing"](above if pam else "")
    return sys.modules[name].front(script, "slurm_adopt.front.pam_python")


def _of_image(package: str) -> "Any":
    """Run the module that imports the others, from the login image: the same in both scripts.

    None where anything is not as it should be: _importing does without, or says what is wrong.
    """
    try:
        from _frozen_importlib_external import MAGIC_NUMBER
        from marshal import loads
        from os import lstat

        at = ""
        for name in f"{package}/__pycache__/login.{sys.implementation.cache_tag}.image".split("/"):
            at += "/" + name
            entry = lstat(at)  # a directory or file that root alone may write
            if entry.st_uid or entry.st_mode & 0o170022 not in (0o040000, 0o100000):
                return None
        with open(at, "rb", 0) as file:
            if file.read(4) != MAGIC_NUMBER:
                return None
            size = int.from_bytes(file.read(4), "little")
            code, image = loads(file.read(size))  # noqa: S302
        module = type(sys)("slurm_adopt.system.importing")
        module.__file__ = f"{package}/system/importing.py"
        exec(code, module.__dict__)  # noqa: S102
        return module if module.usable(image) else None
    except Exception:  # noqa: BLE001 - there are the sources
        return None


def _rest() -> "dict[str, Any]":
    """Return this script's names, with those of REST."""
    if "_check" not in globals():
        exec(compile(REST, "REST of " + str(globals().get("__file__")), "exec"), globals())  # noqa: S102
    return globals()


# What an ordinary login does not need. It is a text, so that no login pays for compiling it: a test
# reads it as a part of this file.
REST = r'''
def _importing(above: str) -> "Any":
    """Run the module that imports the others, by a file that only root may write."""
    from _frozen_importlib_external import SourceFileLoader, cache_from_source
    from os.path import dirname, isfile

    name = "slurm_adopt.system.importing"
    places = [above and f"{above}/src", *sys.path, dirname(above)]
    files = [f"{place}/slurm_adopt/system/importing.py" for place in places if place[:1] == "/"]
    file = next(filter(isfile, files), "")
    if not file:
        raise ModuleNotFoundError("No module named 'slurm_adopt'")
    _check(file)
    loader, module, code = SourceFileLoader(name, file), type(sys)(name), None
    if isfile(cache_from_source(file)):  # else none is read that comes now
        _check(cache_from_source(file))
        try:
            code = loader.get_code(name)
        except (EOFError, ImportError, TypeError, ValueError):  # byte code that is garbage
            pass
    code = code or loader.source_to_code(loader.get_data(file), file)
    module.__file__ = file
    exec(code, module.__dict__)  # noqa: S102 - a module of our own
    return module


def _check(path: str) -> None:
    """Refuse a path that others than root may write, or lead elsewhere; that module has it, too."""
    from os import listxattr, lstat, readlink
    from os.path import dirname, join

    each, below = path, ""
    while each != below:
        entry = lstat(each)
        mode, gid, listed = entry.st_mode, entry.st_gid, False
        if mode & 0o170000 == 0o120000:  # a link
            _check(join(dirname(each), readlink(each)))
            mode &= 0o777000
        elif mode & 0o41000 == 0o41000:  # a sticky directory: what is root's in it stays
            mode &= ~0o22
        elif mode & 0o20 and not gid:
            try:
                listed = "system.posix_acl_access" in listxattr(each)
            except OSError as error:
                from errno import ENOTSUP

                listed = error.errno != ENOTSUP  # its file system has none
        if entry.st_uid or mode & (0o22 if gid or listed else 2):
            mode = entry.st_mode & 0o7777
            whose = f"belongs to uid {entry.st_uid} and gid {gid}, and has mode {mode:04o}"
            whose = f"{whose} and an access control list" if listed else whose
            hint = "others than root may write it: run chown root:root and chmod go-w"
            raise PermissionError(f"{each} {whose}; {hint}")
        each, below = dirname(each), each


def _without_package(
    phase: str, pamh: "Any", argv: list[str], root: bool, error: BaseException
) -> int:
    """Log what went wrong; answer by action_generic_failure as the PAM line itself says it."""
    given = dict(word.lower().partition("=")[::2] for word in argv[1:])
    service = _service(pamh)
    _complain(f"{service}:{phase}", error)
    if root or given.get("service", "sshd") not in ("*", service.lower()):
        return int(pamh.PAM_IGNORE)
    action = given.get("action_generic_failure", "auto")
    if action == "auto":
        action = "deny" if _runs_slurm() else "ignore"
    if phase == "session" and action == "ignore" and _let_in():
        action = "deny"  # as decision/session_phase.py: not left to modules that it went by
    answers = {"allow": pamh.PAM_SUCCESS, "ignore": pamh.PAM_IGNORE}
    return int(answers.get(action, pamh.PAM_PERM_DENIED))


def _let_in() -> bool:
    """Say whether the account phase let the user in for a job."""
    outcome = MEMORY["decided"][1] if "decided" in MEMORY else None
    return bool(outcome and (outcome.adoption or outcome.choice))


def _runs_slurm() -> bool:
    """Say whether a slurmd or stepd of root's runs here; True where that cannot be seen."""
    from os import listdir, readlink

    try:
        readlink("/proc/self")
        pids = [name for name in listdir("/proc") if name.isdecimal()]
    except OSError:
        return True
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", "rb") as file:
                root = any(line.split() == [b"Uid:", *[b"0"] * 4] for line in file)
            name = _program(f"/proc/{pid}") if root else ""
        except OSError:  # ended since, or a thread of the kernel
            continue
        if name.partition(" ")[0].removesuffix("-wlm") in ("slurmd", "slurmstepd"):
            return True
    return False


def _program(process: str) -> str:
    """Return the name of a process's program; where that is kept from us, what it is called by."""
    from os import readlink

    try:
        return readlink(f"{process}/exe").rpartition("/")[2]
    except PermissionError:
        with open(f"{process}/comm", "rb") as file:
            return file.read().decode("utf-8", "replace").strip()


def _service(pamh: "Any") -> str:
    """Return the name of the service; "" where it has none, or one that is no UTF-8."""
    try:
        return pamh.service or ""
    except UnicodeDecodeError:
        return ""


def _complain(what: str, error: BaseException) -> None:
    """Log one line at authpriv.err, as log.py would: without syslog(3), without waiting."""
    others = type(error) is PermissionError and error.errno is None
    shown = f"{type(error).__name__}({error})" if isinstance(error, OSError) else repr(error)
    why = error if others else f"{shown}; is the package complete?"
    text = f"pam_slurm_adopt({what}): cannot run: {why}"
    line = text.encode("ascii", "backslashreplace")[:900]
    try:
        _to_syslog(line)
    except Exception:  # noqa: BLE001
        try:  # nothing is imported that may be missing
            _to_container_log(line)
        except Exception:  # noqa: BLE001, S110 - nobody is left to tell
            pass


def _to_syslog(line: bytes) -> None:
    import _socket

    flags = _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
    syslog = _socket.socket(_socket.AF_UNIX, flags)
    try:
        syslog.connect("/dev/log")
        syslog.send(b"<83>pam_slurm_adopt: " + line)
    finally:
        syslog.close()


def _to_container_log(line: bytes) -> None:
    """Write to PID 1's standard error, if that is a pipe of root's, as container_log.py does."""
    import os

    if os.stat("/proc/1").st_uid == 0 and os.stat("/proc/1/fd/2").st_mode & 0o170000 == 0o010000:
        stderr = os.open("/proc/1/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(stderr, line + b"\n")
        finally:
            os.close(stderr)
'''


def _ignore(pamh: "Any", flags: int, argv: list[str]) -> int:  # noqa: ARG001
    """Answer a phase that this module has no part in."""
    return int(pamh.PAM_IGNORE)


pam_sm_authenticate = pam_sm_setcred = pam_sm_chauthtok = pam_sm_close_session = _ignore
