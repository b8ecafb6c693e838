"""Every row of the decision table on the real node: by calls of PAM, by pamtester, by ssh."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests import decisions
from tests.cluster.harness import cli, pam
from tests.cluster.harness.driver import PAM_SILENT, WORDS, Driver, cgroups
from tests.cluster.scenarios.rows import COMMAND, CONFINED, OURS, SSHD, by_sshd, log, place
from tests.cluster.scenarios.situations import ARRANGEMENTS, Scenery, Stage, driver, scenery

if TYPE_CHECKING:
    from tests.decisions import Row

    # What a login comes to, by option=value, by situation and user.
    Explained = dict[tuple[str, str | None], dict[str, tuple[str, str, int | None]]]

__all__ = ["driver", "scenery"]  # pytest finds them here

ROWS = list(decisions.rows())


@pytest.fixture(scope="module")
def explained() -> Explained:
    """Return what `explain` has said so far, by the login and the option."""
    return {}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(scenery: Scenery, row: Row, explained: Explained) -> None:
    stage = scenery.stage(row.situation, row.user)
    line = f"{pam.OURS} {row.options}".strip()
    for phase in OURS:  # a session line alone decides as the account line does
        of_call(stage, row, line, phase)
    if row.user is not None:
        of_pamtester(stage, row, line)
    if stage.login:
        of_login(stage, row, line)
    of_explain(stage, row, line, explained)


def of_call(stage: Stage, row: Row, line: str, phase: str) -> None:
    """See exactly what the module returns, says, sets, logs, and where the process is then."""
    answer = stage.driver.call(line, row.user, phase, **stage.request)
    assert not answer.ended
    assert answer.code == row.code
    assert answer.said == ((row.shown,) if row.shown else ())
    environment(stage, row, answer.environment)
    place(stage, row, answer.cgroups)
    log(stage, row, answer.log, OURS[phase])
    if row.shown:
        silent = stage.driver.call(line, row.user, phase, flags=PAM_SILENT, **stage.request)
        assert (silent.code, silent.said) == (row.code, ())


def environment(stage: Stage, row: Row, found: dict[str, str]) -> None:
    names = {"SLURM_JOB_ID"} if row.job else set()
    assert found.keys() == names | ({"DISPLAY", "XAUTHORITY"} if row.display else set())
    if row.job:
        assert found["SLURM_JOB_ID"] == str(stage.jobs[row.job])
    if row.display:
        assert re.fullmatch(r"localhost:[0-9]+\.0", found["DISPLAY"])
        assert found["XAUTHORITY"].startswith("/tmp/.Xauthority-")


def of_pamtester(stage: Stage, row: Row, line: str) -> None:
    """See the same where pam_python has an interpreter of its own."""
    done = stage.driver.pamtester(line, str(row.user), **stage.request)
    assert (done.status == 0) == (row.code == "PAM_SUCCESS"), done
    assert (row.shown in done.printed) if row.shown else ("pam_slurm_adopt" not in done.printed)
    if done.status:
        assert done.printed.splitlines()[-1] == f"pamtester: {WORDS[row.code]}"
    environment(stage, row, done.environment)
    if "/proc" not in stage.request.get("umount", ()):  # else it cannot look
        place(stage, row, done.cgroups)


# Whether a stepd takes the process cannot be known without asking it to: of these `explain` says
# what comes of it if the stepd refuses.
REFUSED = {
    "several jobs, from one that fails",
    "the only job fails",
    "the newest job fails",
    "the only job fails, not confined by cgroups",
}


def of_explain(stage: Stage, row: Row, line: str, explained: Explained) -> None:
    """See that `slurm-adopt explain` says what the module has done, also of the other values."""
    stage.cluster.n1.pam("sshd", pam.stack(line))
    said = explain(stage, row)
    verdict = said["if_its_stepd_refuses"] if row.situation in REFUSED else said["verdict"]
    assert comes_to(verdict) == answer(stage, row), said
    assert (said["option"] or {}).get("where") in (None, "default", "/etc/pam.d/sshd:3")
    assert len(said["mistakes"]) == bool(row.complaint)
    if row.job and row.situation not in REFUSED:
        environment(stage, row, said["session"]["environment"])
        place(stage, row, said["cgroups"] or dict.fromkeys(CONFINED, "/"))
        assert said["session"]["confined"] == bool(said["cgroups"])
    known = explained.setdefault((row.situation, row.user), {})
    known[row.options.rpartition(" ")[2]] = comes_to(said["verdict"])
    would = {one["option"]: comes_to(one) for one in said["would"]}
    for option in known.keys() & would.keys():
        assert would[option] == known[option], option


def explain(stage: Stage, row: Row) -> Any:
    """Ask about the same login by the command."""
    arguments = ["explain", row.user or ""]
    if ends := stage.request.get("environment", {}).get("SSH_CONNECTION"):
        arguments += ["--from", ":".join(ends.split()[:2])]
    without = "".join(f"umount {path} && " for path in stage.request.get("umount", ()))
    under = ["unshare", "--mount", "sh", "-c", f'{without}exec "$@"', "sh"] if without else []
    return cli.run_json(stage.cluster.n1, *arguments, under=under)


def comes_to(verdict: Any) -> tuple[str, str, int | None]:
    return verdict["code"], verdict["shown"], verdict["job"]


def answer(stage: Stage, row: Row) -> tuple[str, str, int | None]:
    return row.code, row.shown, stage.jobs[row.job] if row.job else None


def of_login(stage: Stage, row: Row, line: str) -> None:
    """See whether a login by ssh gets in, and where."""
    assert stage.login
    row = by_sshd(row)
    stage.pam(line)
    mark = stage.cluster.n1.mark()
    result = stage.login(COMMAND)
    allowed = row.code in ("PAM_SUCCESS", "PAM_IGNORE")
    assert result.rc == (0 if allowed else 255), result
    assert (row.shown in result.err) if row.shown else ("pam_slurm_adopt" not in result.err)
    ours = OURS["acct_mgmt"]
    lines = [entry for entry in stage.driver.log(mark) if SSHD in entry and ours in entry]
    log(stage, row, lines, ours)
    if not allowed:
        return
    said, *rest = result.out.splitlines()
    job = str(stage.jobs[row.job]) if row.job else ""
    assert said.startswith(f"job={job} display={'localhost' if row.display else ''}")
    place(stage, row, cgroups("\n".join(rest)))


def test_every_situation_is_arranged() -> None:
    assert {row.situation for row in ROWS} == set(ARRANGEMENTS)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("account required pam_permit.so", "PAM_SUCCESS"),
        ("account required pam_debug.so acct=ignore", "PAM_IGNORE"),
        ("account required pam_debug.so acct=perm_denied", "PAM_PERM_DENIED"),
        ("account required pam_debug.so acct=session_err", "PAM_SESSION_ERR"),
        ("account required pam_debug.so acct=user_unknown", "PAM_USER_UNKNOWN"),
    ],
)
def test_the_driver_tells_codes_apart(driver: Driver, line: str, code: str) -> None:
    assert driver.call(line, "alice").code == code
