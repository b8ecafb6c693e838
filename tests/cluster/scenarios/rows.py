"""What is seen of a row of tests/decisions.py: where the process is, and what the log says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.scenarios.situations import Stage
    from tests.decisions import Row

CONFINED = ("cpuset", "devices", "freezer", "memory")
COMMAND = "echo job=$SLURM_JOB_ID display=$DISPLAY; cat /proc/self/cgroup"
OURS = {
    "acct_mgmt": "pam_slurm_adopt(sshd:account): ",
    "open_session": "pam_slurm_adopt(sshd:session): ",
}
SSHD = " sshd["
LET_BY = "though this program is sshd; set service=sshd to have its logins decided"

# The stepd has taken the process by then; what cannot be read back cannot be put back either.
TAKEN = "freezer is not mounted"


def place(stage: Stage, row: Row, found: dict[str, str]) -> None:
    """Find the process in every confined cgroup of the row's job; elsewhere in none of any."""
    assert {*CONFINED} <= found.keys()
    if not row.job:
        inside = [found[name] for name in CONFINED if "/job_" in found[name]]
        assert not inside or row.situation == TAKEN
        return
    if "not confined" in row.situation:
        assert {found[name] for name in CONFINED} == {"/"}
        return
    uid = stage.cluster.n1.run(["id", "-u", str(row.user)]).stdout.strip()
    step = f"/slurm_n1/uid_{uid}/job_{stage.jobs[row.job]}/step_extern"
    assert {found[name].removesuffix("/task_0") for name in CONFINED} == {step}


def log(stage: Stage, row: Row, lines: list[str], ours: str) -> None:
    """Find the line with the decision, at its level, and one for what is no value of today."""
    assert all(ours in line for line in lines)
    decided = [line for line in lines if " -> PAM_" in line]
    assert len(decided) == bool(row.level)
    for line in decided:
        assert f" authpriv.{row.level} " in line
        for part in row.says:
            assert part.format(**stage.jobs) in line
    complaints = [line for line in lines if "unrecognized" in line or "early release" in line]
    assert len(complaints) == bool(row.complaint)
    for line in complaints:
        assert " authpriv.err " in line
        assert row.complaint in line


def by_sshd(row: Row) -> Row:
    """Return a row as a login by ssh has it: another service's name is worth a line there."""
    if row.situation == "another service":
        return row._replace(level="info", says=(*row.says, LET_BY))
    return row
