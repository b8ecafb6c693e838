"""The decision table by the other front: by a real pam_exec, by pamtester, by ssh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import decisions
from tests.cluster.harness import pam
from tests.cluster.harness.driver import PAM_SILENT, WORDS, cgroups
from tests.cluster.scenarios.rows import COMMAND, OURS, SSHD, by_sshd, log, place
from tests.cluster.scenarios.situations import Scenery, Stage, driver, scenery
from tests.decisions_by_pam_exec import (
    FAILURE,
    IGNORE,
    OWN,
    SUCCESS,
    SUFFICIENT,
    by_pam_exec,
    first_of_each_answer,
)

if TYPE_CHECKING:
    from tests.decisions import Row
    from tests.decisions_by_pam_exec import Own

__all__ = ["driver", "scenery"]  # pytest finds them here

ROWS = list(decisions.rows())
IN_SHORT = first_of_each_answer(iter(ROWS))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(scenery: Scenery, row: Row, pytestconfig: pytest.Config) -> None:
    """Rows that differ in how an option is spelt are played by one call, but in the long tier."""
    stage = scenery.stage(row.situation, row.user)
    line = f"{pam.EXEC} {row.options}".strip()
    of_call(stage, row, line, "acct_mgmt")
    if row in IN_SHORT or pytestconfig.getoption("--front") == "pam_exec":
        of_call(stage, row, line, "open_session")
        of_sufficient(stage, row, line)
        of_pamtester(stage, row, line)
        of_login(stage, row, line)


def of_call(stage: Stage, row: Row, line: str, phase: str) -> None:
    """See what pam_exec returns, shows and logs, and where the process is then."""
    seen = by_pam_exec(row)
    answer = stage.driver.call(line, row.user, phase, **stage.request)
    assert not answer.ended
    assert answer.code == seen.code, answer
    assert answer.said == ((row.shown,) if row.shown else ())
    assert answer.environment == {}  # neither by seen.variables nor by seen.display
    assert (seen.variables, seen.display) == (False, False)
    place(stage, row, answer.cgroups)
    log(stage, row if seen.logged else row._replace(level=""), answer.log, OURS[phase])
    if row.shown and row in IN_SHORT and phase == "acct_mgmt":
        silent = stage.driver.call(line, row.user, phase, flags=PAM_SILENT, **stage.request)
        assert (silent.code, silent.said) == (seen.code, (seen.silent,))


def of_sufficient(stage: Stage, row: Row, line: str) -> None:
    """See the same with the option for a line that is sufficient, where that is to matter."""
    if row.code == IGNORE:
        answer = stage.driver.call(f"{line} {SUFFICIENT}", row.user, **stage.request)
        assert answer.code == by_pam_exec(row).sufficient, answer


def of_pamtester(stage: Stage, row: Row, line: str) -> None:
    if row.user is None:
        return
    code = by_pam_exec(row).code
    done = stage.driver.pamtester(line, row.user, **stage.request)
    assert (done.status == 0) == (code == SUCCESS), done
    assert (row.shown in done.printed) if row.shown else ("pam_slurm_adopt" not in done.printed)
    if done.status:
        assert f"pamtester: {WORDS[code]}" in done.printed.splitlines()
    assert done.environment == {}
    if "/proc" not in stage.request.get("umount", ()):  # else it cannot look
        place(stage, row, done.cgroups)


def of_login(stage: Stage, row: Row, line: str) -> None:
    """See whether a login by ssh gets in, and where."""
    if not stage.login:
        return
    row = by_sshd(row)
    stage.pam(line)
    mark = stage.cluster.n1.mark()
    result = stage.login(COMMAND)
    allowed = by_pam_exec(row).code == SUCCESS
    assert result.rc == (0 if allowed else 255), result
    assert (row.shown in result.err) if row.shown else ("pam_slurm_adopt" not in result.err)
    ours = OURS["acct_mgmt"]
    lines = [entry for entry in stage.driver.log(mark) if SSHD in entry and ours in entry]
    log(stage, row, lines, ours)
    if allowed:
        said, *rest = result.out.splitlines()
        assert said == "job= display="
        place(stage, row, cgroups("\n".join(rest)))


@pytest.mark.parametrize("own", OWN, ids=lambda own: f"{own.situation} [{own.options}]")
def test_what_only_pam_python_can(scenery: Scenery, own: Own) -> None:
    """And what comes of it here; that the other front can is seen in the same situation."""
    stage = scenery.stage(own.situation, "alice")
    usual = stage.driver.call(f"{pam.OURS} {own.options}", "alice", **stage.request)
    assert usual.code == own.by_pam_python
    for phase in OURS:
        answer = stage.driver.call(f"{pam.EXEC} {own.options}", "alice", phase, **stage.request)
        assert answer.code == own.code, answer
        assert bool(answer.said) == (own.code == FAILURE)
        for part in own.says:
            assert part in "".join(answer.log)
        inside = [path for path in answer.cgroups.values() if "/job_" in path]
        assert bool(inside) == bool(own.job), answer
