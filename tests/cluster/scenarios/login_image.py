"""The login image of a package that is installed: a login reads it, and no other file of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.cluster.harness.host import Host
    from tests.packages.root import Root

# Imports a front as an entry script does, $1, and prints the files of the package that are opened.
OPENED = """\
import sys
opened = []
sys.addaudithook(lambda event, given: event == "open" and opened.append(str(given[0])))
sys.argv[0] = script = sys.argv[1]
names = {"__name__": "a login"}
with open(script) as file:
    exec(compile(file.read(), script, "exec"), names)
opened.clear()
names["_front"](script)
print(*sorted({path for path in opened if "/slurm_adopt/" in path}), sep="\\n")
"""


def tag_of(python: str) -> str:
    """Return what stands in the names of a Python's files: of python3.11, say."""
    return f"cpython-{python.removeprefix('python').replace('.', '')}"


def path(package: str, python: str) -> str:
    """Return where the image of a package is."""
    return f"{package}/__pycache__/login.{tag_of(python)}.image"


def opened(place: Host | Root, python: str, script: str) -> list[str]:
    """Return the files of the package that an import by an entry script opens."""
    argv = [f"/usr/bin/{python}", "-IBSc", OPENED, script]
    found = str(place.run(argv, timeout=60).stdout).split()
    return [f"/{file.lstrip('/')}" for file in found]


def assert_read(place: Host | Root, package: str, scripts: Collection[str], *pythons: str) -> None:
    """See that logins by these Pythons read their image alone, and that there is no other."""
    images = {path(package, python): python for python in pythons}
    assert entries(place, package) == {f"{each} 644 0:0" for each in images}
    for image, python in images.items():
        for script in scripts:
            assert set(opened(place, python, script)) == {image}  # again for what few logins need


def entries(place: Host | Root, package: str) -> set[str]:
    """Return the images of a package, and what is half made: path, mode and owner of each."""
    argv = ["find", package, "-name", "login.*.image*", "-printf", "%p %m %U:%G\\n"]
    return {*str(place.run(argv).stdout).splitlines()}
