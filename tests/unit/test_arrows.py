"""Which module may import which: arrows between folders go one way, and modules make no circle.

Imports are read from the source, those inside functions as well. What is imported for types alone,
under TYPE_CHECKING, is apart: it is not there at run time.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).parents[2] / "src"
PACKAGE = "slurm_adopt"

# What each folder may import of the package, by folder or module, besides itself. `epilog` and
# `runtime_dir` are programs of their own; `time_limits` is a table that imports slurm's alone.
LEAVES = (
    "slurm.waiting",
    "slurm.digits",
    "slurm.errors",
    "slurm.files",
    "slurm.proc",
    "slurm.time_limits",
)
ARROWS = {
    "": ("node", "session", "slurm", "system", "time_limits", "epilog"),
    "front": ("decision", "node", "slurm.errors", "slurm.files", "system"),
    "decision": ("slurm.errors", "slurm.digits"),
    "node": ("decision", "session", "slurm", "system", "time_limits"),
    "session": ("decision", "slurm", "system", "time_limits"),
    "system": (*LEAVES, "time_limits"),
    "slurm": (),
    "cli": ("decision", "node", "session", "slurm", "system", "time_limits"),
    "__main__": ("cli",),
}
TIME_LIMITS = ("slurm.time_limits",)

# decision/ does no input or output: all that it imports besides the package.
PURE = {"__future__", "collections.abc", "difflib", "errno", "typing"}


class Import(NamedTuple):
    """One import: by which module, of which, and where it stands."""

    importer: str
    imported: str
    place: str
    types_only: bool = False


def imports_of(path: Path, source: Path = SOURCE) -> list[Import]:
    """Return all imports of a file; a module of the package by its whole name."""
    importer = module_name(path, source)
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    found = []

    def visit(node: ast.AST, types_only: bool) -> None:
        for name in _imported(node, package, source):
            place = f"{path.relative_to(source)}:{getattr(node, 'lineno', 0)}"
            found.append(Import(importer, name, place, types_only))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for number, branch in enumerate((node.body, node.orelse)):
                for statement in branch:
                    visit(statement, types_only or not number)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, types_only)

    visit(ast.parse(path.read_text()), False)
    return found


def module_name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(node: ast.AST, package: str, source: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *([base] if base else [])])
    return [_module(f"{base}.{alias.name}", base, source) for alias in node.names]


def _module(whole: str, base: str, source: Path) -> str:
    """Return `from base import name` as a module: the name's own if it is one, else the base."""
    path = source / whole.replace(".", "/")
    return whole if path.is_dir() or path.with_suffix(".py").exists() else base


def everything(source: Path = SOURCE) -> list[Import]:
    return [each for path in sorted(source.rglob("*.py")) for each in imports_of(path, source)]


def within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(f"{allowed}.")


def short(name: str) -> str:
    """Return a module's name below the package; "" for the package itself."""
    return name.partition(f"{PACKAGE}")[2].lstrip(".")


def against_arrows(imports: list[Import]) -> list[str]:
    """Return which imports go against the arrows."""
    bad = []
    for each in imports:
        if each.types_only or not within(each.imported, PACKAGE):
            continue
        importer, imported = short(each.importer), short(each.imported)
        folder = importer.partition(".")[0] if "." in importer or importer in ARROWS else ""
        allowed = TIME_LIMITS if importer == "time_limits" else (folder, *ARROWS[folder])
        if imported and not any(within(imported, one) for one in allowed if one):
            bad.append(f"{each.place}: {importer or PACKAGE} imports {imported}")
    return bad


def circles(imports: list[Import]) -> list[str]:
    """Return the circles of modules: each by the imports that make it, with their places."""
    arrows: dict[str, dict[str, str]] = {}
    for each in imports:
        if not each.types_only and within(each.imported, PACKAGE):
            arrows.setdefault(each.importer, {}).setdefault(each.imported, each.place)
    bad: set[tuple[str, ...]] = set()
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            bad.add(tuple(path[path.index(module) :]))
        elif module not in done:
            for imported in arrows.get(module, {}):
                walk(imported, [*path, module])
            done.add(module)

    for module in sorted(arrows):
        walk(module, [])
    return [
        "; ".join(
            f"{arrows[one][other]}: {short(one)} imports {short(other)}"
            for one, other in zip(circle, (*circle[1:], circle[0]))
        )
        for circle in sorted(bad)
    ]


def impure(imports: list[Import]) -> list[str]:
    """Return what decision/ imports that may do input or output."""
    return [
        f"{each.place}: {short(each.importer)} imports {each.imported}"
        for each in imports
        if not each.types_only
        and within(short(each.importer), "decision")
        and not within(each.imported, PACKAGE)
        and each.imported not in PURE
    ]


def test_arrows_go_one_way() -> None:
    assert against_arrows(everything()) == []


def test_there_is_no_circle() -> None:
    assert circles(everything()) == []


def test_the_decision_does_no_io() -> None:
    assert impure(everything()) == []


def test_slurm_s_side_could_be_lifted_out() -> None:
    """It names nothing of the package outside itself, not even for types."""
    outside = [
        f"{each.place}: {short(each.importer)} imports {short(each.imported)}"
        for each in everything()
        if within(short(each.importer), "slurm")
        and within(each.imported, PACKAGE)
        and short(each.imported)
        and not within(short(each.imported), "slurm")
    ]
    assert outside == []


# That these find what they look for: a package with one thing wrong

FILES = {
    "decision/engine": "from slurm_adopt.slurm.errors import PeerError\n",
    "front/pam_python": "from slurm_adopt.decision import engine\nfrom ..node import jobs\n",
    "node/jobs": "from . import stepds\n",
    "node/stepds": "import os\nTYPE_CHECKING = False\nif TYPE_CHECKING:\n    from . import jobs\n",
    "slurm/errors": "",
    "system/log": "",
}
# (module, what is wrong in it, who finds that, what is said)
WRONG = [
    ("decision/engine", "import os", impure, "engine.py:2: decision.engine imports os"),
    ("decision/engine", "def f():\n    from time import sleep", impure, "engine.py:3: decision.en"),
    ("decision/engine", "from ..system import log", against_arrows, "imports system.log"),
    (
        "slurm/errors",
        "from slurm_adopt.system.log import Log",
        against_arrows,
        "errors imports sys",
    ),
    ("system/log", "def f():\n    from slurm_adopt.node import jobs", against_arrows, "log.py:2: "),
    ("node/jobs", "def f():\n    from slurm_adopt.front.pam_python import x", against_arrows, ":3"),
    ("node/stepds", "def f():\n    from .jobs import Job", circles, "stepds imports node.jobs"),
    ("node/stepds", "if x:\n    pass\nelse:\n    from .jobs import Job", circles, "stepds.py:8"),
]


@pytest.mark.parametrize(("module", "wrong", "who", "said"), WRONG)
def test_an_offender_is_named(
    tmp_path: Path, module: str, wrong: str, who: Callable[[list[Import]], list[str]], said: str
) -> None:
    """With its file and line; and where nothing is wrong nobody is named."""
    for name, text in FILES.items():
        path = tmp_path / PACKAGE / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert [each(everything(tmp_path)) for each in (against_arrows, circles, impure)] == [
        [],
        [],
        [],
    ]
    with (tmp_path / PACKAGE / f"{module}.py").open("a") as file:
        file.write(wrong + "\n")
    (offender,) = who(everything(tmp_path))
    assert said in offender
