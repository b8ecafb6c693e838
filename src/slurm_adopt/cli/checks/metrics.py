"""What `slurm-adopt check --prometheus` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_adopt.cli.textfile import head, sample

from .finding import RESULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .finding import Finding

VALUES = {"ok": 0, "warning": 1, "error": 2, "skipped": 3}  # as a plugin of Nagios would exit
RESULT, SECONDS, COUNT = (
    "slurm_adopt_check_result",
    "slurm_adopt_check_seconds",
    "slurm_adopt_check_findings",
)


def lines(findings: list[Finding]) -> Iterator[str]:
    """Yield the metrics: of each check its worst result and its time, of each result its number."""
    by_code: dict[str, Finding] = {}
    for each in findings:
        kept = by_code.setdefault(each.code, each)
        if RESULTS.index(each.result) > RESULTS.index(kept.result):
            by_code[each.code] = each
    yield from head(RESULT, "gauge", "0 ok, 1 warning, 2 error, 3 skipped: the worst of a check")
    for each in by_code.values():
        yield sample(RESULT, _labels(each), VALUES[each.result])
    yield from head(SECONDS, "gauge", "What a check took")
    for each in by_code.values():
        yield sample(SECONDS, _labels(each), round(each.seconds, 4))
    yield from head(COUNT, "gauge", "How many findings there are of each result")
    for result in VALUES:
        number = sum(each.result == result for each in findings)
        yield sample(COUNT, {"result": result}, number)


def _labels(each: Finding) -> dict[str, str]:
    return {"code": each.code, "category": each.category}
