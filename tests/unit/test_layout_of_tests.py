"""Where the tests keep what they share: a helper imports no test, and no test imports another.

Imports are read from the source, also those inside functions and those for types alone.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

# What the modules below a place must not import, by how its name begins.
NEVER = {
    "tests": ("tests.unit.", "tests.vm.conftest"),
    "tests.fakes": ("tests.cluster", "tests.vm", "tests.dev"),
    "tests.cluster.harness": (
        "tests.cluster.cells",
        "tests.cluster.scenarios",
        "tests.cluster.tools",
        "tests.dev",
        "tests.vm",
    ),
    "tests.cluster.inside": ("tests.cluster", "tests.vm", "tests.dev"),
}


def imports(text: str) -> list[str]:
    """Return the whole names of all that a module imports."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names]
    return found


def offences(module: str, text: str) -> list[str]:
    """Return what a module imports that it must not."""
    never = tuple(
        name for place, names in NEVER.items() for name in names if f"{module}.".startswith(place)
    )
    return [
        f"{module} imports {name}"
        for name in imports(text)
        if name.startswith((*never, ".")) or _is_of_a_test(name)
    ]


def _is_of_a_test(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "tests" and any(part.startswith("test_") for part in parts)


def _modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(TESTS.parent).with_suffix("").parts): path
        for path in sorted(TESTS.rglob("*.py"))
    }


@pytest.mark.parametrize("place", NEVER)
def test_nothing_is_imported_that_must_not_be(place: str) -> None:
    modules = {name: path for name, path in _modules().items() if f"{name}.".startswith(place)}
    assert modules, place
    assert not [line for name, path in modules.items() for line in offences(name, path.read_text())]


# (module, what it says, what is imported that must not be)
OFFENDERS = [
    ("tests.unit.test_a", "from tests.unit.test_b import Tree", "tests.unit.test_b.Tree"),
    ("tests.unit.test_a", "from tests.vm import test_v2", "tests.vm.test_v2"),
    ("tests.unit.test_a", "def f():\n    import tests.unit.test_b", "tests.unit.test_b"),
    ("tests.unit.test_a", "from . import test_b", "..test_b"),
    ("tests.cluster.tools.x", "from tests.cluster.test_y import Y", "tests.cluster.test_y.Y"),
    ("tests.cluster.tools.x", "from tests.vm import conftest", "tests.vm.conftest"),
    ("tests.fakes.x", "from tests.cluster.harness.y import Y", "tests.cluster.harness.y.Y"),
    ("tests.cluster.harness.x", "from tests.cluster import tools", "tests.cluster.tools"),
    (
        "tests.cluster.harness.x",
        "if TYPE_CHECKING:\n    from tests.cluster.scenarios.basic import LOOK",
        "tests.cluster.scenarios.basic.LOOK",
    ),
    ("tests.cluster.inside.x", "import tests.cluster.harness.y", "tests.cluster.harness.y"),
]


@pytest.mark.parametrize(("module", "text", "imported"), OFFENDERS)
def test_the_offender_is_named(module: str, text: str, imported: str) -> None:
    assert offences(module, text) == [f"{module} imports {imported}"]


# What each may import.
ALLOWED = [
    ("tests.unit.test_a", "from tests.fakes.tree import Tree\nimport tests.decisions"),
    ("tests.unit.test_a", "from tests.cluster.harness.suites import SUITES"),
    ("tests.cluster.standins.x", "from tests.fakes.stepd import Stepd"),
]


@pytest.mark.parametrize(("module", "text"), ALLOWED)
def test_what_is_shared_may_be_imported(module: str, text: str) -> None:
    assert offences(module, text) == []
