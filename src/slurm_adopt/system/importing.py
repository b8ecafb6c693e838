"""The package, imported from files that nobody but root may write.

An entry script runs this module first, and has looked at its file, or at the image. The finder is
there during a call only: it is for this package alone, and leaves Python's own paths, hooks and
caches as they are. All directories above a file are looked at before the file, from the top. So
nobody but root can exchange it between the look and the import.

The login image has the code of what logins run, this module included, in one file beside the byte
code: login_image.py makes it. Its modules are run without Python's import system. It is used where
the files that it was made of are as they were then, and only root may write them and their
directories. Otherwise the modules are imported from their files, one by one. Of a module that only
some logins need the file is looked at when it is needed, and the code is read then.
"""

from __future__ import annotations

import os
import stat
import sys

# What importlib is made of: it is there in every Python, and costs no import.
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, ModuleType
    from typing import Any

PACKAGE = "slurm_adopt"
LINKS = 40  # as many as the kernel follows in one path
ACL = "system.posix_acl_access"

# How byte code begins (PEP 552): with time and size of its source; with a hash that nobody compares
TIMED, UNCHECKED = MAGIC_NUMBER + b"\0\0\0\0", MAGIC_NUMBER + b"\1\0\0\0"
MOST = 0xFFFFFFFF
TAG = sys.implementation.cache_tag
CODE = type((lambda: None).__code__)

# An entry script gives us this from the image that we came in: the directory that has the
# package; (path, type, size, time, hash) of each directory, and of the modules that each login
# runs; (name, path, code) of these, in order. And of each other by name, as bytes: the same of its
# file; where its code is, from the end; size and hash of that; what has to run before it.
IMAGE: Any = None
TYPE_AND_WRITERS = 0o170022  # bits of a mode: what it is, and whether group or all may write it
REGULAR = 0o100000
HASH_KEY = 20  # any number; login_image.py has the same


def usable(image: Any) -> bool:
    """Return whether an image is of the files that are there, which root alone may write.

    A file whose time alone has changed is read: those who make images of nodes change times.
    """
    global IMAGE  # noqa: PLW0603 - this module is run once
    top, files, _, _ = IMAGE = image
    if f"{top}/{PACKAGE}/system/importing.py" != __file__:
        return False
    return _as_made(files)


def _as_made(files: Any) -> bool:
    lstat = os.lstat
    touched = []
    for path, kind, size, time, _ in files:
        entry = lstat(path)
        if entry.st_mode & TYPE_AND_WRITERS != kind or entry.st_uid:
            return False
        if size is not None:
            if entry.st_size != size:
                return False
            if entry.st_mtime_ns != time:
                touched.append(path)
    return not touched or _same(files, frozenset(touched))


def _same(files: Any, touched: frozenset[str]) -> bool:
    """Return whether files have the text that they had when the image was made."""
    from _imp import source_hash

    for path, _, _, _, of_text in files:
        if path in touched:
            with open(path, "rb", 0) as file:
                if source_hash(HASH_KEY, file.read()) != of_text:
                    return False
    return True


def _run_image() -> None:
    """Run the modules of the image that each login needs. Only the others are kept then."""
    global IMAGE  # noqa: PLW0603 - as in usable()
    _run(IMAGE[2])
    IMAGE = (*IMAGE[:1], (), (), IMAGE[3])


def _run(wanted: Any) -> None:
    """Run modules: (name, path, code) of each, behind those that it imports."""
    modules, new = sys.modules, type(sys)
    for name, path, code in wanted:
        if name in modules:  # a call before this one has failed, and come so far
            if getattr(modules[name], "_modules", None) is not modules:
                raise ImportError(f"another {name} is loaded")
            continue
        module = modules[name] = new(name)
        above, _, last = name.rpartition(".")
        names = module.__dict__
        names["__file__"], names["_modules"] = path, modules
        if path.endswith("/__init__.py"):
            names["__package__"], names["__path__"] = name, [path[:-12]]
        else:
            names["__package__"] = above
        try:
            exec(code, names)  # noqa: S102
        except BaseException:
            del modules[name]
            raise
        if above:
            modules[above].__dict__[last] = module


def _part(name: str) -> Any:
    """Run a module that only some logins need; return it, None where its file has to do."""
    before = loads(IMAGE[3][name])[4]  # noqa: S302 - what root alone may write
    wanted = kept([one for one in (*before, name) if one not in sys.modules])
    if wanted is None:
        return None
    _run(wanted)
    return sys.modules[name]


def kept(names: list[str]) -> Any:
    """Return (name, path, code) of modules that only some logins need, as the image has them.

    None where the source of one has changed, or the image: it is read again.
    """
    from _imp import source_hash

    top, _, _, others = IMAGE
    found = []
    try:
        new = [(name, *loads(others[name])[:4]) for name in names]  # noqa: S302
        if not _as_made([file for _, file, _, _, _ in new]):
            return None
        with open(f"{top}/{PACKAGE}/__pycache__/login.{TAG}.image", "rb", 0) as image:
            entry = os.fstat(image.fileno())
            if entry.st_uid or entry.st_mode & TYPE_AND_WRITERS != REGULAR:
                return None  # a job's namespaces may have been entered since
            for name, file, place, size, of_code in new:
                image.seek(-place, 2)
                code = image.read(size)
                if source_hash(HASH_KEY, code) != of_code:
                    return None
                found.append((name, file[0], loads(code)))  # noqa: S302
    except (OSError, KeyError, MemoryError):
        return None
    return found


def why(path: str, entry: os.stat_result) -> str:
    """Say whose a file is, where others than root may write it; "" where only root may.

    What is root's below a sticky directory of root's stays as it is. The bits of the group are the
    mask of an access control list.
    """
    mode = entry.st_mode
    free = stat.S_ISLNK(mode) or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX)
    by_all = mode & stat.S_IWOTH and not free
    listed = mode & stat.S_IWGRP and not free and (entry.st_gid or _has_acl(path))
    if not (entry.st_uid or by_all or listed):
        return ""
    uid, gid = entry.st_uid, entry.st_gid
    text = f"belongs to uid {uid} and gid {gid}, and has mode {stat.S_IMODE(mode):04o}"
    return text if gid or not listed else f"{text} and an access control list"


def _has_acl(path: str) -> bool:
    """Return whether a file has an access control list; True where that cannot be told."""
    try:
        return ACL in os.listxattr(path)
    except OSError as error:
        from errno import ENOTSUP

        return error.errno != ENOTSUP  # its file system has none


def chain(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all that a whole path leads through, from the top: directories, links, what is linked.

    OSError where something is not there.
    """
    at, rest, links = "", path.split("/")[::-1], 0
    while rest:
        name = rest.pop()
        if name == "..":
            at = at.rpartition("/")[0]
            continue
        if name in ("", ".") and at:
            continue
        each = f"{at}/{name}"
        entry = os.lstat(each)
        yield each, entry
        if stat.S_ISLNK(entry.st_mode):
            links += 1
            if links > LINKS:
                raise OSError(f"{path}: too many links")
            target = os.readlink(each)
            rest += target.split("/")[::-1]
            at = "" if target.startswith("/") else at
        else:
            at = each.rstrip("/")


def check(path: str) -> None:
    """Refuse a path that others than root may write, or lead elsewhere."""
    for each, entry in chain(path):
        _refuse(each, entry)


def _refuse(path: str, entry: os.stat_result) -> None:
    others = why(path, entry)
    if others:
        hint = "others than root may write it: run chown root:root and chmod go-w"
        raise PermissionError(f"{path} {others}; {hint}")


def _check_below(path: str) -> os.stat_result:
    """Check a file whose directory is checked already; return what it is, behind links."""
    entry = os.lstat(path)
    if stat.S_ISLNK(entry.st_mode):
        check(path)
        return os.stat(path)
    _refuse(path, entry)
    return entry


def _source(path: str) -> os.stat_result:
    """Check a file with source, as _check_below; ImportError for a FIFO, which might never end."""
    entry = _check_below(path)
    if not stat.S_ISREG(entry.st_mode):
        raise ImportError(f"{path} is not a regular file")
    return entry


class Loader(SourceFileLoader):
    """Python's own, but that byte code that is garbage counts as none.

    Byte code that is plainly good is run without Python's further looks at it, which cost more.
    """

    def __init__(self, name: str, path: str, code: str, fresh: bytes) -> None:
        """`code`: where the byte code is, "" for none: none is read that has come since then.

        `fresh`: how it begins where it is of the source.
        """
        super().__init__(name, path)
        self._code, self._fresh = code, fresh

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code of a module."""
        if not self._code:
            return self._compiled()
        try:
            data = self.get_data(self._code)
        except OSError:
            data = b""
        try:
            if data[:16] != self._fresh and data[:8] != UNCHECKED:
                return super().get_code(fullname)
            code = loads(data[16:])  # noqa: S302 - what root alone may write
        except (EOFError, TypeError, ValueError, ImportError, MemoryError):
            code = None
        return code if isinstance(code, CODE) else self._compiled()

    def _compiled(self) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


class FromImage(SourceFileLoader):
    """Python's own, of a module that has run."""

    def __init__(self, name: str, path: str, module: ModuleType) -> None:
        """Keep the module."""
        super().__init__(name, path)
        self._module = module

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        del spec
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing."""


class Finder:
    """The finder of this package alone, in a `with` block."""

    def __init__(self, top: str) -> None:
        """`top`: the directory that has the package."""
        self._top = top
        self._checked: set[str] = set()

    def __enter__(self) -> None:
        """Come first."""
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        """Go."""
        sys.meta_path.remove(self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where a module of the package is; PermissionError if others may write it."""
        del path, target
        if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
            return None
        if IMAGE and name in IMAGE[3]:
            module = _part(name)
            if module:
                return self._of_image(name, module)
        place = f"{self._top}/{name.replace('.', '/')}"
        try:
            entry = _source(f"{place}.py")
        except FileNotFoundError:
            return self._package(name, place)
        folder, _, last = place.rpartition("/")
        return self._spec(name, folder, last, entry)

    def _of_image(self, name: str, module: ModuleType) -> ModuleSpec:
        path = str(module.__file__)
        spec = ModuleSpec(name, FromImage(name, path, module), origin=path)
        spec.submodule_search_locations = getattr(module, "__path__", None)
        spec.has_location = True
        return spec

    def _package(self, name: str, place: str) -> ModuleSpec:
        try:
            _check_below(place)
            entry = _source(f"{place}/__init__.py")
        except FileNotFoundError:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name) from None
        spec = self._spec(name, place, "__init__", entry)
        spec.submodule_search_locations = [place]
        return spec

    def _spec(self, name: str, folder: str, last: str, entry: os.stat_result) -> ModuleSpec:
        file = f"{folder}/{last}.py"
        code = f"{folder}/__pycache__/{last}.{TAG}.pyc"
        try:
            if folder not in self._checked:
                _check_below(f"{folder}/__pycache__")
                self._checked.add(folder)
            if not stat.S_ISREG(_check_below(code).st_mode):
                code = ""
        except FileNotFoundError:
            code = ""
        numbers = int(entry.st_mtime) & MOST, entry.st_size & MOST
        fresh = TIMED + b"".join(number.to_bytes(4, "little") for number in numbers)
        spec = ModuleSpec(name, Loader(name, file, code, fresh), origin=file)
        spec.has_location, spec.cached = True, code or None
        return spec


def front(script: str, name: str) -> Callable[..., Any]:
    """Import a front for a script; return what calls one of its functions.

    PermissionError where others than root may write the script, or what is imported.
    """
    top = __file__.rsplit("/", 3)[0]
    if script.startswith("/"):
        check(script)
    if not IMAGE:
        check(__file__)
    finder = Finder(top)
    with finder:
        if IMAGE:
            _run_image()
        module = __import__(name, fromlist=["*"])

    def call(function: str, *arguments: Any) -> Any:
        with finder:
            return getattr(module, function)(*arguments)

    return call
