"""The login image: what a login runs from one file, and when it does without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from slurm_adopt.login_image import FIRST, Package
from tests.fakes.below_root import below_root

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
EVERY = tuple(name for name in Package(str(CHECKOUT / "src")).sources if name != FIRST)
SCRIPTS = ("pam_slurm_adopt.py", "pam_slurm_adopt_exec")
PYTHON = "/usr/bin/python3"
PYCACHE = "src/slurm_adopt/__pycache__"
ALICE = 5001

# What a script has loaded when it has the package: whether from the image, and the names of each
# module that are the module's own.
LOADED = """
import json, sys
sys.dont_write_bytecode = True
sys.argv[0] = {script!r}
names = dict(__name__="script")
with open({script!r}) as file:
    exec(compile(file.read(), {script!r}, "exec"), names)
names["_front"]({script!r})
modules = {{name: module for name, module in sys.modules.items() if name.startswith("slurm_adopt")}}
image = modules["slurm_adopt.system.importing"].IMAGE
later = {later!r}
finder = modules["slurm_adopt.system.importing"].Finder({top!r})
with finder:
    for name in later:
        __import__(name)
print(json.dumps([image is not None, {{
    name: sorted(one for one in vars(module) if not one.startswith("_") or one == "__path__")
    for name, module in sys.modules.items() if name.startswith("slurm_adopt")
}}]))
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Return a directory that is root's, below root's alone."""
    yield from below_root()


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what comes into it: a checkout that is root's, compiled, with its image."""
    shutil.copytree(CHECKOUT / "pam", place / "pam")
    ignored = shutil.ignore_patterns("__pycache__", "cli")
    shutil.copytree(CHECKOUT / "src", place / "src", ignore=ignored)
    for path in (place, *place.rglob("*")):
        os.chown(path, 0, 0)
        path.chmod(path.stat().st_mode & ~0o022)
    subprocess.run([PYTHON, "-m", "compileall", "-q", str(place / "src")], check=True)
    made(place)
    kept = tmp_path_factory.mktemp("whole")
    subprocess.run(["cp", "-a", f"{place}/.", kept], check=True)
    return kept


@pytest.fixture
def copy(place: Path, whole: Path) -> Path:
    """Return the place, as it was."""
    subprocess.run(["find", str(place), "-mindepth", "1", "-delete"], check=True)
    subprocess.run(["cp", "-a", f"{whole}/.", place], check=True)
    os.chown(place, 0, 0)
    place.chmod(0o755)
    return place


def made(top: Path) -> subprocess.CompletedProcess[str]:
    argv = [PYTHON, "-I", str(top / "src/slurm_adopt/login_image.py")]
    return subprocess.run(argv, check=True, capture_output=True, text=True)


def image(top: Path) -> Path:
    (path,) = (top / PYCACHE).glob("login.*.image")
    return path


Names = dict[str, list[str]]


def loaded(top: Path, script: str, later: tuple[str, ...] = ()) -> tuple[bool, Names]:
    text = LOADED.format(script=f"{top}/pam/{script}", later=later, top=f"{top}/src")
    argv = [PYTHON, "-IS", "-c", text]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    assert not done.stderr
    used, names = json.loads(done.stdout)
    return bool(used), names


NAMES = pytest.mark.parametrize("script", SCRIPTS)
FOR_COMPILERS = {"annotations", "TYPE_CHECKING"}


@NAMES
def test_it_has_what_the_files_have(copy: Path, script: str) -> None:
    """The same names in the same modules, also where these are imported later."""
    used, with_it = loaded(copy, script, EVERY)
    image(copy).unlink()
    without_used, without = loaded(copy, script, EVERY)
    assert (used, without_used) == (True, False)
    assert with_it.keys() == without.keys()
    for name, names in without.items():
        assert set(with_it[name]) - FOR_COMPILERS == set(names) - FOR_COMPILERS, name


def test_what_is_imported_from_files_all_the_same(copy: Path) -> None:
    """What a script runs from the image is what it imports without."""
    _, with_it = loaded(copy, SCRIPTS[0])
    image(copy).unlink()
    _, without = loaded(copy, SCRIPTS[0])
    assert set(without) <= set(with_it)
    assert len(set(with_it) - set(without)) <= 6  # those that a login by sshd imports later


def test_it_is_root_s_and_whole(copy: Path) -> None:
    """Made again, it is the same, and nothing else is left."""
    before = image(copy).read_bytes()
    entry = image(copy).stat()
    assert (entry.st_mode & 0o7777, entry.st_uid) == (0o644, 0)
    files = sorted(path.name for path in (copy / PYCACHE).iterdir())
    assert not made(copy).stderr
    assert image(copy).read_bytes() == before
    assert sorted(path.name for path in (copy / PYCACHE).iterdir()) == files


def _chown(path: Path) -> None:
    os.chown(path, ALICE, 0)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])


def _of_another_python(path: Path) -> None:
    path.write_bytes(b"\0\0\r\n" + path.read_bytes()[4:])


def _beginning(data: bytes) -> bytes:
    return MAGIC_NUMBER + len(data).to_bytes(4, "little") + data


# What is wrong with the image: none of them keeps a user out.
WRONG: dict[str, Callable[[Path], object]] = {
    "none": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": _cut,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "head alone": lambda path: path.write_bytes(MAGIC_NUMBER),
    "garbage": lambda path: path.write_bytes(MAGIC_NUMBER + b"\xff" * 99),
    "garbage of a size": lambda path: path.write_bytes(_beginning(b"\xff" * 99)),
    "no code": lambda path: path.write_bytes(_beginning(b"(\x02\0\0\0NN")),
    "one thing": lambda path: path.write_bytes(_beginning(b"N")),
    "cut in its size": lambda path: path.write_bytes(_beginning(b"")[:6]),
    "another Python's": _of_another_python,
    "a FIFO": _fifo,
    "a directory": _directory,
    "a link": _link,
    "a user's": _chown,
    "a group's": lambda path: path.chmod(0o664),
    "everybody's": lambda path: path.chmod(0o646),
}


@NAMES
@pytest.mark.parametrize("wrong", WRONG)
def test_one_that_is_not_as_it_should_be(copy: Path, script: str, wrong: str) -> None:
    WRONG[wrong](image(copy))
    used, names = loaded(copy, script)
    assert not used
    assert "slurm_adopt.decision.engine" in names


def _edit(path: Path) -> None:
    text = path.read_text()
    entry = path.stat()
    path.write_text(text.replace('"""', "'''", 2))  # of the same size
    os.utime(path, ns=(entry.st_atime_ns, entry.st_mtime_ns + 10**9))


def _grow(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n")


def _touch(path: Path) -> None:
    os.utime(path)


SOURCES = (
    "slurm_adopt/__init__.py",
    "slurm_adopt/system/importing.py",
    "slurm_adopt/decision/engine.py",
)


@pytest.mark.parametrize("file", SOURCES)
@pytest.mark.parametrize(
    ("change", "still"),
    [(_edit, False), (_grow, False), (_touch, True)],
    ids=["edit", "grow", "touch"],
)
def test_a_source_that_has_changed(
    copy: Path, file: str, change: Callable[[Path], None], still: bool
) -> None:
    """It counts, and not the image; a time alone is no change."""
    change(copy / "src" / file)
    used, names = loaded(copy, SCRIPTS[0])
    assert used is still
    assert "slurm_adopt.decision.engine" in names
    made(copy)
    assert loaded(copy, SCRIPTS[0])[0]


# Modules that only some logins need: one, and another that it needs in turn.

LATER = "slurm_adopt.node.source_job"
NEEDED = "slurm_adopt.slurm.slurmd.rpc"


def place_of(top: Path, name: str) -> Path:
    return top / "src" / f"{name.replace('.', '/')}.py"


@pytest.mark.parametrize("changed", [LATER, NEEDED])
def test_a_source_that_has_changed_and_that_only_some_logins_need(copy: Path, changed: str) -> None:
    """It counts, and so do the files of what needs it; the rest is from the image."""
    _, before = loaded(copy, SCRIPTS[0], (LATER,))
    with place_of(copy, changed).open("a") as file:
        file.write("NEW = 1\n")
    used, after = loaded(copy, SCRIPTS[0], (LATER,))
    assert used
    assert before.keys() <= after.keys()
    assert "NEW" in after[changed]
    made(copy)
    used, after = loaded(copy, SCRIPTS[0], (LATER,))
    assert used
    assert before.keys() == after.keys()
    assert "NEW" in after[changed]


def test_what_others_may_write_of_what_only_some_logins_need(copy: Path) -> None:
    os.chown(place_of(copy, NEEDED), ALICE, 0)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        loaded(copy, SCRIPTS[0], (LATER,))
    refused = f"PermissionError: {place_of(copy, NEEDED)} belongs to uid {ALICE}"
    assert refused in caught.value.stderr


LOADED_LATER = """
import os, sys
names = dict(__name__="script")
with open({script!r}) as file:
    exec(compile(file.read(), "script", "exec"), names)
names["_front"]({script!r})
with open({image!r}, "rb") as file:
    data = file.read()
os.unlink({image!r})
data = {becomes}
if data is not None:
    with open({image!r}, "wb") as file:
        file.write(data)
with sys.modules["slurm_adopt.system.importing"].Finder({top!r}):
    import {later}
print(*(hasattr(sys.modules[name], "_modules") for name in ({later!r}, {needed!r})))
"""
# What the image becomes while the login goes on, and whether its code is run then
MEANWHILE = {
    "the same": ("data", True),
    "gone": ("None", False),
    "empty": ("b''", False),
    "cut": ("data[:-1]", False),
    "zeros": ("bytes(len(data))", False),
    "another": ("data[1:] + data[:1]", False),
    "with another beginning": ("data[9:]", True),
    "the same, a user's": ("(os.mknod({image!r}), os.chown({image!r}, 5001, 0), data)[2]", False),
    "flipped bits": ("bytes(each ^ 1 for each in data)", False),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_an_image_that_changes_during_a_login(copy: Path, what: str) -> None:
    """The files are there all the same."""
    becomes, by_image = MEANWHILE[what]
    script = str(copy / "pam" / SCRIPTS[0])
    text = LOADED_LATER.format(
        script=script,
        image=str(image(copy)),
        becomes=becomes.format(image=str(image(copy))),
        top=str(copy / "src"),
        later=LATER,
        needed=NEEDED,
    )
    argv = [PYTHON, "-IS", "-c", text]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(by_image)] * 2


@pytest.mark.parametrize("share", [0.6, 0.8, 0.99])
def test_one_that_is_cut_behind_its_beginning(copy: Path, share: float) -> None:
    """What was cut off comes from files; what is left of it is garbage to whoever reads it."""
    path = image(copy)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    used, names = loaded(copy, SCRIPTS[0], EVERY)
    assert used
    assert set(EVERY) <= names.keys()


@pytest.mark.parametrize("what", ["moved", "copied beside", "by a link"])
def test_another_place(copy: Path, what: str) -> None:
    """The image names its files: those of another place are not taken for them."""
    other = copy / "other"
    other.mkdir()
    if what == "by a link":
        other.rmdir()
        other.symlink_to(".")
    else:
        move = shutil.move if what == "moved" else shutil.copytree
        for name in ("src", "pam"):
            move(str(copy / name), str(other / name))
    used, names = loaded(other, SCRIPTS[0])
    assert not used
    assert "slurm_adopt.decision.engine" in names


@pytest.mark.parametrize(
    "path",
    ["", "src", "src/slurm_adopt", PYCACHE, "src/slurm_adopt/node", "src/slurm_adopt/node/jobs.py"],
)
@NAMES
def test_what_others_may_write_is_refused_as_without_it(copy: Path, script: str, path: str) -> None:
    os.chown(copy / path, ALICE, 0)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        loaded(copy, script)
    assert f"PermissionError: {copy / path} belongs to uid {ALICE}" in caught.value.stderr


def test_another_module_of_our_name(copy: Path) -> None:
    """It is not taken for ours, and nothing is put into it."""
    text = f"""
import sys
names = dict(__name__="script")
with open({str(copy / "pam" / SCRIPTS[0])!r}) as file:
    exec(compile(file.read(), "script", "exec"), names)
other = sys.modules["slurm_adopt"] = type(sys)("slurm_adopt")
before = set(vars(other))
try:
    names["_front"]({str(copy / "pam" / SCRIPTS[0])!r})
except ImportError as error:
    print(error, set(vars(other)) == before)
del sys.modules["slurm_adopt"]
names["_front"]({str(copy / "pam" / SCRIPTS[0])!r})
print(sys.modules["slurm_adopt"] is not other)
"""
    argv = [PYTHON, "-IS", "-c", text]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["another slurm_adopt is loaded True", "True"]


def test_what_cannot_be_made_is_said(copy: Path) -> None:
    """In one line; the login does without."""
    image(copy).unlink()
    engine = copy / "src/slurm_adopt/decision/engine.py"
    engine.write_text("def\n")
    done = subprocess.run(
        [PYTHON, "-I", str(copy / "src/slurm_adopt/login_image.py")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("login_image.py: there is no image: ")
    assert done.stderr.count("\n") == 1
    assert not list((copy / PYCACHE).glob("login.*"))


def test_tags(copy: Path) -> None:
    """Each Python has its own."""
    assert image(copy).name == f"login.{sys.implementation.cache_tag}.image"
