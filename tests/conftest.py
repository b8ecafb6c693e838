"""The real cluster for tests that want it, and the hosts' logs when one of them fails."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.cluster.cells import Cell
from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.root import BuildError, root_path, suite_root
from tests.cluster.harness.suites import BOOKWORM, Suite
from tests.cluster.harness.wait import NotInTimeError, wait_for
from tests.dev import division
from tests.properties import LONG
from tests.signals import heed

if TYPE_CHECKING:
    from collections.abc import Iterator

# What they assert is shown as what a test asserts.
SCENARIOS = (Path(__file__).parent / "cluster/scenarios").glob("[!_]*.py")
for scenario in SCENARIOS:
    if (name := f"tests.cluster.scenarios.{scenario.stem}") not in sys.modules:
        pytest.register_assert_rewrite(name)

LOG_LINES = 40

# No example has a time limit: a machine may be slow. What is drawn is the same each time, but with
# --hypothesis-profile=long.
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("here", deadline=None, suppress_health_check=SLOW, derandomize=True)
settings.register_profile(
    LONG, deadline=None, suppress_health_check=SLOW, derandomize=False, max_examples=20_000
)
settings.load_profile("here")

ENDING = 60.0  # seconds that other processes have to take their clusters down

_cluster = pytest.StashKey[Cluster]()
_workers = pytest.StashKey[list[Any]]()
_pid = os.getpid()


def pytest_configure(config: pytest.Config) -> None:
    """Have the signals that end a program interrupt: the clusters come down."""
    if _is_worker(config):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    heed(_interrupted, once=_is_worker(config))
    pam.use_front(config.getoption("--front"))


def _interrupted(signum: int) -> NoReturn:
    """Do as Ctrl-C does; what a test has forked just ends."""
    if os.getpid() == _pid:
        raise KeyboardInterrupt
    os._exit(128 + signum)


def _is_worker(config: pytest.Config) -> bool:
    """Say whether this is one of several processes that xdist has started."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Keep SIGCHLD from the thread that each of several processes has beside its tests.

    It inherits this; tests see then what they would see in sshd, which has one thread.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodeready(node: Any) -> None:
    """Know the processes that xdist has started."""
    node.config.stash.setdefault(_workers, []).append(node)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Tell the others to end as well; xdist would kill them while they take their clusters down."""
    if exitstatus != pytest.ExitCode.INTERRUPTED:
        return
    workers = session.config.stash.get(_workers, [])
    for worker in workers:
        worker.gateway._io.popen.terminate()
    with contextlib.suppress(NotInTimeError):
        wait_for("clusters down", lambda: all(map(_has_ended, workers)), ENDING)


def _has_ended(worker: Any) -> bool:
    """Say whether a process has done all it had to do, or is gone."""
    return hasattr(worker, "workeroutput") or worker.channel.isclosed()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what chooses the cells of the matrix, and the front; without, as `./dev test` has it."""
    parser.addoption("--cells", default="", help="cells of test_matrix.py, by comma")
    parser.addoption("--front", default="pam_python", choices=pam.FRONTS, help="of sshd's stacks")


def show_logs_of(config: pytest.Config, cluster: Cluster) -> None:
    """Show this cluster's logs when a test fails."""
    config.stash[_cluster] = cluster


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    """Bring the cluster up once for all tests."""
    with Cluster(f"test-{os.getpid()}") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def _emptied_cluster(running_cluster: Cluster) -> None:
    """End what another file's tests have left of their jobs: `check` would name it."""
    running_cluster.cancel_all()
    running_cluster.end_left_over()


@pytest.fixture
def cluster(
    running_cluster: Cluster, _emptied_cluster: None, request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    """Return the cluster without jobs, with our module in sshd's stack on the nodes."""
    show_logs_of(request.config, running_cluster)
    running_cluster.pam(pam.with_module())
    yield running_cluster
    running_cluster.cancel_all()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses the cluster; run it after everything that is quick.

    Where several processes share the files, those that take long come first then. A process that
    has a cluster up gets no unit test any more, since some of them count their children.
    """
    for item in items:
        if "running_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")
    if _is_worker(config):
        tests = Counter(_file(item) for item in items)
        items.sort(key=lambda item: division.rank(_file(item), tests[_file(item)]))
    else:
        items.sort(key=lambda item: item.get_closest_marker("cluster") is not None)


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the root folders of the clusters that are chosen, here where the progress is seen."""
    chosen = [] if session.config.option.collectonly else session.items
    wanted = dict.fromkeys(suite for item in chosen for suite in _suites(item))
    missing = [suite for suite in wanted if not root_path(suite).is_dir()]
    try:
        for suite in missing:
            suite_root(suite)
    except (BuildError, OSError) as error:
        needs = " and ".join(f"Debian {suite.name}" for suite in missing)
        said = str(error), f"the chosen tests need the packages of {needs}"
        raise pytest.UsageError(*said) from None


def _suites(item: pytest.Item) -> list[Suite]:
    """Return the suites that a test's cluster is made of, or that it reads; none for others."""
    if item.path.parent.name != "cluster":
        return []
    callspec = getattr(item, "callspec", None)
    params = callspec.params if callspec else {}
    cell, suite = params.get("cell"), params.get("suite")
    if isinstance(suite, Suite):
        return [suite]
    module = getattr(item, "module", None)
    own = cell.suites if isinstance(cell, Cell) else [BOOKWORM]
    return [*own, *getattr(module, "SUITES_TOO", ())]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Attach the ends of the hosts' logs to the report of a failed test."""
    report = yield
    cluster = item.config.stash.get(_cluster, None)
    if call.excinfo and cluster and item.get_closest_marker("cluster"):
        report.sections.append(("logs of the hosts", cluster.tails(LOG_LINES)))
    return report
