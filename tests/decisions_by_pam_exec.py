"""What becomes of a login by pam_exec's front, where that is not what decisions.py says.

Each difference is a column of a row that is another here, the rows in which it is, and why. A row
as this front has it is by_pam_exec(row). That no difference is missing is what the cluster shows
(tests/cluster/test_decisions_by_pam_exec.py), since each row is played there by both fronts. That
none is too many is what tests/unit/test_pam_exec_table.py shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.decisions import Row

SUCCESS, FAILURE, IGNORE = "PAM_SUCCESS", "PAM_SYSTEM_ERR", "PAM_IGNORE"
CONV_ERR = "PAM_CONV_ERR"
SUFFICIENT = "ignore_passes=0"  # beside a row's own options


class Seen(NamedTuple):
    """What is to be seen of one row: as decisions.py has it with pam_python."""

    code: str  # of the line, for the required one
    sufficient: str  # the same with SUFFICIENT
    variables: bool  # whether SLURM_JOB_ID is set
    display: bool  # whether DISPLAY and XAUTHORITY are
    silent: str  # what is shown with PAM_SILENT
    logged: bool  # whether the module is run at all, so that it can log


class Difference(NamedTuple):
    """A column that has another value, and in which rows."""

    column: str
    rows: Callable[[Row], bool]
    value: Callable[[Row], object]
    why: str


def _refused(row: Row) -> bool:
    return row.code not in (SUCCESS, IGNORE) and row.user is not None


def _nobody(row: Row) -> bool:
    return row.user is None


def _ignored(row: Row) -> bool:
    return row.code == IGNORE


DIFFERENCES = [
    Difference("code", _refused, lambda _: FAILURE,
               "of all that is no success pam_exec makes PAM_SYSTEM_ERR"),
    Difference("code", _ignored, lambda _: SUCCESS,
               "no exit status is PAM_IGNORE; on a line that is required it is success"),
    Difference("sufficient", _refused, lambda _: FAILURE,
               "of all that is no success pam_exec makes PAM_SYSTEM_ERR"),
    Difference("sufficient", lambda row: _ignored(row) and row.user != "root", lambda _: FAILURE,
               "no exit status is PAM_IGNORE; ignore_passes=0 makes it the failure that a line "
               "which is sufficient passes on"),
    Difference("sufficient", lambda row: _ignored(row) and row.user == "root", lambda _: SUCCESS,
               "root is never refused, by no option"),
    Difference("code", _nobody, lambda _: CONV_ERR,
               "pam_exec asks for a name that is not there, and fails before it runs a program"),
    Difference("sufficient", _nobody, lambda _: CONV_ERR, "the same"),
    Difference("logged", _nobody, lambda _: False, "the same"),
    Difference("variables", lambda row: bool(row.job), lambda _: False,
               "a program cannot set variables in its caller's PAM environment"),
    Difference("display", lambda row: row.display, lambda _: False,
               "a program cannot set variables in its caller's PAM environment"),
    Difference("silent", lambda row: bool(row.shown), lambda row: row.shown,
               "pam_exec hands on no flags"),
]  # fmt: skip


def by_pam_python(row: Row) -> Seen:
    """Return what is to be seen of a row with the other front."""
    return Seen(row.code, row.code, bool(row.job), row.display, "", True)


def by_pam_exec(row: Row) -> Seen:
    """Return what is to be seen of a row with this one."""
    changed: dict[str, Any] = {d.column: d.value(row) for d in DIFFERENCES if d.rows(row)}
    return by_pam_python(row)._replace(**changed)


class Own(NamedTuple):
    """A case that decisions.py does not have, since pam_python's front does what is wanted."""

    situation: str  # of those in tests/cluster/scenarios/situations.py
    options: str
    code: str
    job: str
    says: tuple[str, ...]
    by_pam_python: str  # the code there
    why: str


OTHER_PROCESS = "can enter the job's namespaces"
WHY = "a process enters namespaces for itself alone (setns(2))"
NAMESPACES = "one job, with namespaces"

OWN = [
    Own(NAMESPACES, "action_adopt_failure=deny", FAILURE, "", (OTHER_PROCESS,), SUCCESS, WHY),
    Own(NAMESPACES, "action_adopt_failure=allow", SUCCESS, "", (OTHER_PROCESS,), SUCCESS, WHY),
    Own(NAMESPACES, "join_container=false action_adopt_failure=deny", SUCCESS, "only",
        ("adopted into job ",), SUCCESS, WHY),
]  # fmt: skip


def first_of_each_answer(rows: Iterator[Row]) -> set[Row]:
    """Return of the rows with one answer in one situation the first: a login shows no more."""
    found: dict[tuple[object, ...], Row] = {}
    for row in rows:
        seen = (row.situation, row.user, row.code, row.shown, row.job, row.display)
        found.setdefault(seen, row)
    return {*found.values()}
