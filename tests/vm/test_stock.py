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

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOTS = ("bookworm", "trixie")  # what `./dev test` wants in its cache
LONG = 3600  # seconds; the demo takes 15 on a machine that is not emulated
FOLDER = "tests/cluster"

# What is played, on a cluster of Debian 12's Slurm on either machine: whole files, and parts.
WHOLE = ("test_adoption.py", "test_cleanup.py")
PARTS = {
    "test_uses.py": ("test_every_kind_of_use[publickey]", "test_copies"),
    "test_source.py": tuple(
        f"test_the_job_it_comes_from[{way}]"
        for way in ("to the other node", "by address", "second hop", "own node by loopback")
    ),
}
TESTS = (
    *(f"{FOLDER}/{file}" for file in WHOLE),
    *(f"{FOLDER}/{file}::{test}" for file, tests in PARTS.items() for test in tests),
)
# On cgroup v2 an extern stepd up to 24.11 may die of adoptions at the same instant (test_v2.py has
# what the module makes of it): of two, one removes the empty task_special under the other.
BUT = ("--deselect", f"{FOLDER}/test_adoption.py::test_twenty_at_once")

# What is not, and why.
V1 = "expects the paths of cgroup v1"
LONG_HERE = "not tried here: emulated, it would take longer than the cell has"
NOT_HERE = {
    "test_at_and_cron.py": LONG_HERE,
    "test_decisions.py": f"{V1}: /slurm_NODE/uid_N/job_N/step_extern in five hierarchies",
    "test_demo.py": "the demo itself is played",
    "test_differential.py": f"{V1}, by which it tells the two modules apart",
    "test_epilog.py": f"{LONG_HERE}; test_v2.py sees the Epilog",
    "test_examples.py": LONG_HERE,
    "test_expired.py": LONG_HERE,
    "test_failures.py": f"{LONG_HERE}; its rows of proctrack/linuxproc expect v1's hierarchies",
    "test_guide.py": LONG_HERE,
    "test_how_sshd_runs.py": LONG_HERE,
    "test_input.py": LONG_HERE,
    "test_job_environment.py": f"{LONG_HERE}; test_v2.py sees variables and limits",
    "test_keyboard_interactive.py": LONG_HERE,
    "test_lockout.py": f"{V1}; `./dev lockout --vm` plays it in a machine with v2",
    "test_matrix.py": LONG_HERE,
    "test_namespaces.py": LONG_HERE,
    "test_own_job.py": f"{V1}: what a user does there is done to v1's hierarchies",
    "test_own_node.py": LONG_HERE,
    "test_peer.py": f"{V1}, of the C module",
    "test_programs.py": f"{LONG_HERE}; and its hosts need more of Debian's packages",
    "test_python.py": LONG_HERE,
    "test_recipes.py": LONG_HERE,
    "test_root.py": f"{LONG_HERE}; what it says of users expects v1's freezer",
    "test_runtime_dir.py": LONG_HERE,
    "test_session.py": f"{LONG_HERE}; the test_session.py in this folder sees the session phase",
    "test_source_faults.py": LONG_HERE,
    "test_source_liars.py": LONG_HERE,
    "test_stacks.py": f"{V1}: four hierarchies by their names",
    "test_where_slurm_is.py": LONG_HERE,
    "test_wait_for_job.py": f"{LONG_HERE}; test_v2.py sees the wait",
    "test_storm.py": f"{V1}: it slows a stepd down in a cgroup of v1",
    "test_write.py": f"{V1}, in which its stand-in moves processes; test_v2.py has v2's",
    "test_x11.py": LONG_HERE,
}
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


CELLS = {f"demo-{name}": SUITES[name] for name in ("bookworm", "trixie")}


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
