"""What an ordinary login costs is what is recorded: in instructions, which repeat, by callgrind.

After a change that is meant, `./dev bench --instructions --record` records what it costs now.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness.cluster import Cluster, Roots
from tests.cluster.harness.suites import WITH_VALGRIND
from tests.cluster.tools import instructions
from tests.cluster.tools.bench import measuring
from tests.cluster.tools.bench.subjects import FRONTS, prepare
from tests.cluster.tools.bench.worlds import MEMORY
from tests.conftest import show_logs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITES_TOO = (WITH_VALGRIND,)

RUNS = 2  # the least of them counts: what is waited for in a loop only adds


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> Iterator[dict[str, float]]:
    """Count the logins; all adopt."""
    roots = {"n1": Roots(WITH_VALGRIND)}
    with Cluster(f"instructions-{os.getpid()}", roots=roots) as cluster:
        show_logs_of(request.config, cluster)
        prepare(cluster.n1)
        cluster.submit("alice", mem=MEMORY)
        mark = cluster.n1.mark()
        counted = measuring.count_login(cluster.n1, RUNS)
        adopted = sum(instructions.ADOPTED in line for line in cluster.n1.log(mark))
        assert adopted == (1 + RUNS) * len(FRONTS)  # one is not counted
        yield counted


@pytest.mark.parametrize("front", [front.name for front in FRONTS])
def test_instructions_of_an_ordinary_login(found: dict[str, float], front: str) -> None:
    """In millions, beyond an empty script; it is also told when it costs less than recorded."""
    known = json.loads(instructions.RECORD.read_text())
    least, most = instructions.bounds(known, instructions.kind(), front)
    assert least <= instructions.own(found)[front] <= most
