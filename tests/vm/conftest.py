"""The node of each cell, booted once for all its tests; and the table at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.config import Settings
from tests.cluster.harness.suites import SUITES
from tests.vm.cells import OF_FILE
from tests.vm.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterator


_node = pytest.StashKey[Node]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a file on the node of each of its cells."""
    if "booted" in metafunc.fixturenames:
        cells = OF_FILE[metafunc.definition.path.name]
        metafunc.parametrize("booted", cells, indirect=True, scope="module")


@pytest.fixture(scope="module")
def booted(request: pytest.FixtureRequest) -> Iterator[Node]:
    """Boot the cell's node."""
    suite = OF_FILE[request.path.name][request.param]
    with Node(SUITES[suite]) as node:
        request.config.stash[_node] = node
        yield node


@pytest.fixture
def node(booted: Node) -> Iterator[Node]:
    """Return the node without jobs, with our module in sshd's stack."""
    booted.pam(pam.with_module())
    booted.reconfigure(Settings())
    yield booted
    booted.cancel_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Attach the ends of the node's logs to the report of a failed test."""
    report = yield
    node = item.config.stash.get(_node, None)
    if call.excinfo and node and "booted" in getattr(item, "fixturenames", ()):
        report.sections.append(("logs of the node", node.tails()))
    return report
