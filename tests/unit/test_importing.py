"""What the entry scripts import: files that root alone may write, and nothing is left of it."""

from __future__ import annotations

import ast
import errno
import importlib.util
import os
import py_compile
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Callable

import pytest

from slurm_adopt.system import importing
from tests.fakes.below_root import below_root

if TYPE_CHECKING:
    from collections.abc import Iterator

PAM = Path(__file__).parents[2] / "pam"
SCRIPTS = ("pam_slurm_adopt.py", "pam_slurm_adopt_exec")
ALICE = 5001
PYTHON = "/usr/bin/python3"


@pytest.fixture
def top() -> Iterator[Path]:
    """Return a directory that is root's, below root's alone."""
    yield from below_root()


def script(name: str) -> ModuleType:
    """Load an entry script as a module."""
    loader = SourceFileLoader("entry", str(PAM / name))
    spec = importlib.util.spec_from_loader("entry", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = kept
    module._rest()
    return module


LOOKS = [importing.check, *(script(name)._check for name in SCRIPTS)]

# (what it is, mode, uid, gid, whether others than root may write it)
RULE = [
    ("file", 0o644, 0, 0, False),
    ("file", 0o664, 0, 0, False),  # as root's tar has it of git's archives
    ("file", 0o664, 0, 50, True),
    ("file", 0o646, 0, 0, True),
    ("file", 0o1646, 0, 0, True),  # of a file the sticky bit says nothing
    ("file", 0o644, ALICE, 0, True),
    ("file", 0o644, 0, ALICE, False),
    ("file", 0o4755, 0, 0, False),
    ("directory", 0o755, 0, 0, False),
    ("directory", 0o775, 0, 0, False),
    ("directory", 0o2775, 0, 50, True),
    ("directory", 0o757, 0, 0, True),
    ("directory", 0o1777, 0, 0, False),
    ("directory", 0o1775, 0, 50, False),
    ("directory", 0o1777, ALICE, 0, True),
]


def said(look: Callable[[str], object], path: Path) -> str:
    try:
        look(str(path))
    except PermissionError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("kind", "mode", "uid", "gid", "others"), RULE)
def test_the_rule_is_one(top: Path, kind: str, mode: int, uid: int, gid: int, others: bool) -> None:
    """By the package and by each script, for the file itself and for what is below it."""
    path = top / "it"
    path.mkdir() if kind == "directory" else path.write_text("")
    os.chown(path, uid, gid)
    path.chmod(mode)
    whose = f"{path} belongs to uid {uid} and gid {gid}, and has mode {mode:04o}; "
    text = f"{whose}others than root may write it: run chown root:root and chmod go-w"
    assert [said(look, path) for look in LOOKS] == [text if others else ""] * 3
    if kind == "directory":
        (path / "below").write_text("")
        assert [said(look, path / "below") for look in LOOKS] == [text if others else ""] * 3


@pytest.mark.parametrize("look", LOOKS)
def test_a_list_that_lets_others_write(
    top: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[str], object]
) -> None:
    """The bits of the group are its mask then; not every file system has such lists."""
    path = top / "it"
    path.write_text("")
    monkeypatch.setattr(os, "listxattr", lambda _: [importing.ACL])
    assert said(look, path) == ""
    path.chmod(0o664)
    assert "has mode 0664 and an access control list; " in said(look, path)
    monkeypatch.setattr(os, "listxattr", lambda _: fails(errno.ENOTSUP))
    assert said(look, path) == ""
    for number in (errno.EIO, errno.ENOMEM, errno.EACCES):  # it cannot be told
        monkeypatch.setattr(os, "listxattr", lambda _: fails(number))  # noqa: B023
        assert "has mode 0664 and an access control list; " in said(look, path)


def fails(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_the_scripts_have_the_same_beginning() -> None:
    """What each does before it has the package stands in both, word for word but for types."""
    found = []
    for name in SCRIPTS:
        head, _, rest = (PAM / name).read_text().partition("REST = r'''\n")
        tree = ast.parse(head + rest.partition("'''\n")[0])
        functions = {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef)}
        found.append([ast.dump(ast.Module(functions[each].body, []))
                      for each in ("_of_image", "_importing", "_check")])  # fmt: skip
    assert found[0] == found[1]


@pytest.mark.parametrize("look", LOOKS)
def test_links(top: Path, look: Callable[[str], object]) -> None:
    """All that a path leads through counts: links between, their directories, what they lead to."""
    home, real = top / "home", top / "real"
    for folder in (home, real):
        folder.mkdir()
    (real / "file").write_text("")
    (top / "plain").symlink_to("real/../real/./file")
    (home / "between").symlink_to(real)
    (top / "through").symlink_to(home / "between")
    (top / "round").symlink_to("round")
    for path in (top / "plain", top / "through/file", top / "through/../real/file"):
        assert said(look, path) == ""
    os.chown(home, ALICE, 0)
    assert said(look, top / "plain") == ""
    for path in (top / "through/file", top / "through/../real/file"):
        assert said(look, path).startswith(f"{home} belongs to uid {ALICE}")
    os.chown(home, 0, 0)
    os.chown(home / "between", ALICE, 0, follow_symlinks=False)
    assert said(look, top / "through/file").startswith(f"{home}/between belongs to")
    with pytest.raises((OSError, RecursionError)):
        look(str(top / "round"))
    with pytest.raises(FileNotFoundError):
        look(str(top / "nowhere/file"))


def test_byte_code_that_comes_later(top: Path) -> None:
    """It was not looked at: the source is compiled."""
    (top / "slurm_adopt").mkdir()
    source = top / "slurm_adopt/later.py"
    source.write_text("NUMBER = 1\n")
    spec = importing.Finder(str(top)).find_spec("slurm_adopt.later")
    assert spec
    loader = spec.loader
    assert isinstance(loader, importing.Loader)
    source.write_text("NUMBER = 2\n")
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    source.write_text("NUMBER = 1\n")
    code = loader.get_code("slurm_adopt.later")
    names: dict[str, object] = {}
    assert code
    exec(code, names)
    assert names["NUMBER"] == 1


# A package that is imported as a script does it, in a process of its own

CALL = """
import sys
sys.dont_write_bytecode = True
sys.argv[0] = {script!r}
before = [list(each) for each in (sys.path, sys.path_hooks, sys.meta_path, sys.path_importer_cache)]
names = dict(__name__="script")
with open({script!r}) as file:
    exec(compile(file.read(), {script!r}, "exec"), names)
for _ in (1, 2):  # two PAM lines
    try:
        names["_front"]({script!r})("loaded")
        print("ran")
    except BaseException as error:
        print(type(error).__name__, error)
after = [list(each) for each in (sys.path, sys.path_hooks, sys.meta_path, sys.path_importer_cache)]
print(before == after)
"""
FRONT = """
def loaded():
    from slurm_adopt.part import later
    assert later.NUMBER == {number}
"""


@pytest.fixture
def copy(top: Path) -> Path:
    """Return a checkout with a package of a few modules, compiled."""
    shutil.copytree(PAM, top / "pam")
    package = top / "src/slurm_adopt"
    for folder in ("front", "system", "part"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    shutil.copy(str(importing.__file__), package / "system/importing.py")
    for name in ("pam_python", "pam_exec"):
        (package / f"front/{name}.py").write_text(FRONT.format(number=1))
    (package / "part/later.py").write_text("NUMBER = 1\n")
    compiled(package)
    return top


def compiled(package: Path, mode: str = "timestamp") -> None:
    argv = [PYTHON, "-m", "compileall", "-q", "-f", "--invalidation-mode", mode, str(package)]
    subprocess.run(argv, check=True)


def ran(copy: Path, name: str) -> str:
    """Return what comes of two PAM lines in one process."""
    text = CALL.format(script=f"{copy}/pam/{name}")
    argv = [PYTHON, "-IS", "-c", text]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    assert not done.stderr
    first, second, clean = done.stdout.splitlines()
    assert clean == "True"  # paths, hooks, finders and caches are as they were
    assert first == second
    return first


NAMES = pytest.mark.parametrize("name", SCRIPTS)


@NAMES
@pytest.mark.parametrize(
    "file",
    [
        "pam/SCRIPT",
        "pam",
        "",
        "src",
        "src/slurm_adopt/__init__.py",
        "src/slurm_adopt/system",
        "src/slurm_adopt/system/importing.py",
        "src/slurm_adopt/system/__pycache__/importing.TAG.pyc",
        "src/slurm_adopt/part",
        "src/slurm_adopt/part/__init__.py",
        "src/slurm_adopt/part/later.py",
        "src/slurm_adopt/part/__pycache__",
        "src/slurm_adopt/part/__pycache__/later.TAG.pyc",
    ],
)
def test_what_others_may_write_is_not_loaded(copy: Path, name: str, file: str) -> None:
    """Nor what is imported in the call alone."""
    path = copy / file.replace("SCRIPT", name).replace("TAG", str(sys.implementation.cache_tag))
    assert ran(copy, name) == "ran"
    os.chown(path, ALICE, 0)
    line = ran(copy, name)
    assert line.startswith(f"PermissionError {path} belongs to uid {ALICE} and gid 0, and has mode")


@NAMES
def test_what_is_not_loaded_does_not_matter(copy: Path, name: str) -> None:
    other = copy / "src/slurm_adopt/other.py"
    other.write_text("")
    os.chown(other, ALICE, 0)
    assert ran(copy, name) == "ran"


@NAMES
def test_a_module_that_is_missing(copy: Path, name: str) -> None:
    """It is looked for in this package alone."""
    (copy / "src/slurm_adopt/part/later.py").unlink()
    (copy / "src/slurm_adopt/part/later.so").write_text("")
    assert "cannot import name 'later'" in ran(copy, name)
    shutil.rmtree(copy / "src/slurm_adopt/part")
    assert ran(copy, name) == "ModuleNotFoundError No module named 'slurm_adopt.part'"
    shutil.rmtree(copy / "src")
    assert ran(copy, name) == "ModuleNotFoundError No module named 'slurm_adopt'"


@NAMES
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("part/later.py", "ImportError {path} is not a regular file"),
        ("part/__init__.py", "ImportError {path} is not a regular file"),
        ("part/__pycache__/later.TAG.pyc", "ran"),
        ("system/importing.py", "ModuleNotFoundError No module named 'slurm_adopt'"),
        ("system/__pycache__/importing.TAG.pyc", "ran"),
    ],
)
def test_nothing_is_read_that_may_never_end(copy: Path, name: str, file: str, said: str) -> None:
    path = copy / "src/slurm_adopt" / file.replace("TAG", str(sys.implementation.cache_tag))
    path.unlink()
    os.mkfifo(path)
    assert ran(copy, name) == said.format(path=path)


GARBAGE = {
    "none": None,
    "empty": b"",
    "of another Python": b"\0\0\r\n" + bytes(99),
    "cut in its head": importlib.util.MAGIC_NUMBER + b"\0\0\0\0",
    "unchecked, and cut": importing.UNCHECKED + bytes(8),
    "unchecked, no code": importing.UNCHECKED + bytes(8) + b"N",
    "unchecked, garbage": importing.UNCHECKED + bytes(8) + b"\xff" * 99,
    "odd flags": importlib.util.MAGIC_NUMBER + b"\xff" * 99,
}


@NAMES
@pytest.mark.parametrize("garbage", GARBAGE)
def test_byte_code_that_is_garbage(copy: Path, name: str, garbage: str) -> None:
    """The source is there: users are not refused."""
    data = GARBAGE[garbage]
    for file in copy.rglob("*.pyc"):
        file.unlink() if data is None else file.write_bytes(data)
    assert ran(copy, name) == "ran"


@pytest.mark.parametrize("mode", ["timestamp", "checked-hash", "unchecked-hash"])
def test_python_s_rules_of_byte_code_hold(copy: Path, mode: str) -> None:
    """Fresh byte code is run, and stale is not; what is unchecked is run whatever the source is."""
    package = copy / "src/slurm_adopt"
    later = package / "part/later.py"
    compiled(package, mode)
    entry = later.stat()
    later.write_text("NUMBER = 2\n")
    (package / "front/pam_python.py").write_text(FRONT.format(number=2))
    if mode == "timestamp":  # of the same size: the time alone tells
        os.utime(later, ns=(entry.st_atime_ns, entry.st_mtime_ns + 10**9))
    py_compile.compile(str(package / "front/pam_python.py"))
    assert (ran(copy, SCRIPTS[0]) == "ran") is (mode != "unchecked-hash")
    os.utime(later, ns=(entry.st_atime_ns, entry.st_mtime_ns))
    assert (ran(copy, SCRIPTS[0]) == "ran") is (mode == "checked-hash")
