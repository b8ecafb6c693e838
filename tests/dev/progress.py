"""Progress of tests in several processes: a line for each file that is done, and each failure."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Show it in the process that has the terminal."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(terminal))


class Progress:
    """What is done of each file."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self.terminal = terminal
        self.all = 0
        self.left: Counter[str] = Counter()  # tests of each file
        self.bad: Counter[str] = Counter()
        self.began: dict[str, float] = {}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Count the tests: each process has found the same."""
        self.left = Counter(map(_file, ids))
        self.all = len(ids)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, tuple[str, str, Any]]:
        """Have pytest count it, and print nothing before its summary."""
        category, _, word = yield
        return category, "", "" if category == "passed" else word

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note when a file begins."""
        self.began.setdefault(_file(nodeid), time.monotonic())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name what fails; the hosts' logs come at the end."""
        if report.failed:
            self.bad[_file(report.nodeid)] += 1
            phase = "" if report.when == "call" else f" ({report.when})"
            self.terminal.write_line(f"FAILED {report.nodeid}{phase}", red=True)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Say when a file is done."""
        file = _file(nodeid)
        self.left[file] -= 1
        if not self.left[file]:
            done = 100 * (self.all - self.left.total()) // self.all
            took = time.monotonic() - self.began[file]
            bad = f", {self.bad[file]} failed" if self.bad[file] else ""
            self.terminal.write_line(f"[{done:3}%] {file}: {took:.0f} s{bad}")


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
