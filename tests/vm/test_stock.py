"""`./dev` on Debian as it comes, with systemd and cgroup v2: the demo, and tests on its cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.root import suite_root
from tests.cluster.harness.suites import SUITES
from tests.vm.image import STOCK, Cache, image
from tests.vm.machine import Machine
from tests.vm.payload import SETUP, Payload, checkout
from tests.vm.stock import CELLS, FOLDER, PARTS, WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOTS = ("bookworm", "trixie")  # what `./dev test` wants in its cache
LONG = 3600  # seconds; the demo takes 15 on a machine that is not emulated

TESTS = (
    *(f"{FOLDER}/{file}" for file in WHOLE),
    *(f"{FOLDER}/{file}::{test}" for file, tests in PARTS.items() for test in tests),
)
# On cgroup v2 an extern stepd up to 24.11 may die of adoptions at the same instant (test_v2.py has
# what the module makes of it): of two, one removes the empty task_special under the other.
BUT = ("--deselect", f"{FOLDER}/test_adoption.py::test_twenty_at_once")

SLOW = {"SLURM_ADOPT_PATIENCE": "10", "TERM": "dumb", "COLUMNS": "120"}
PLACES = ("dev", "docs", "pam", "pyproject.toml", "src", "tests")

# What a run could leave changed: services and slices, the cgroups with their controllers, mounts.
STATE = r"""\
systemctl list-units --state=active --plain --no-legend --type=service,slice,scope,socket |
    sed -E 's/ +/ /g' | cut -d' ' -f1-4 | grep -vE '^systemd-(tmpfiles-clean|hostnamed|timedated)'
cd /sys/fs/cgroup
find . -name cgroup.subtree_control | sort | while read -r file; do
    echo "$file: $(cat "$file")"
done
cut -d' ' -f5- /proc/self/mountinfo | grep -v /run/credentials/ | sort
ls -d /run/slurm_adopt 2>/dev/null || true
"""


@pytest.fixture(scope="module", params=CELLS)
def stock(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Boot a machine with a checkout and a filled cache on it."""
    suite = CELLS[request.param]
    roots = tuple(suite_root(SUITES[name]) for name in ROOTS)
    cache = Cache(roots, CHECKOUT / "tests/requirements.txt")
    disk = image(replace(suite, packages=STOCK), print, cache)
    with Machine(suite.name, disk, Payload({SETUP: ""}, checkout(*PLACES)), 3072) as machine:
        yield machine


def unchanged(machine: Machine, *arguments: str) -> None:
    """Run `./dev`, with success; the machine is as it was."""
    before = machine.sh(STATE)
    argv = ["/checkout/dev", *arguments]
    done = machine.run(argv, timeout=LONG, check=False, env=SLOW)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert machine.sh(STATE).splitlines() == before.splitlines()


def test_demo(stock: Machine) -> None:
    """All is as it should be."""
    unchanged(stock, "demo")


def test_cluster(stock: Machine) -> None:
    """Logins, limits, accounting and the end, and that a killed driver leaves nothing behind."""
    unchanged(stock, "test", "-v", "-p", "no:cacheprovider", *TESTS, *BUT)
