"""docs/performance.md: its figures come from docs/performance.json, which `./dev bench` writes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.tools.bench import report
from tests.cluster.tools.bench.rows import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cluster.tools.bench.goals import Found

DOCS = Path(__file__).parents[2] / "docs"
WIDTH = 100  # of the page's lines
PAGE, DATA = DOCS / "performance.md", DOCS / "performance.json"


def found() -> Found:
    """Return what was measured: by row, measure and subject."""
    rows: Found = json.loads(DATA.read_text())["rows"]
    return rows


def origins() -> dict[str, dict[str, dict[str, Any]]]:
    """Return when and on what: by row, and by what was measured of it."""
    kept: dict[str, dict[str, dict[str, Any]]] = json.loads(DATA.read_text()).get("origins", {})
    return kept


def keep(said: Mapping[str, Any]) -> None:
    """Take in what a run has found; what it has not measured stays as it was."""
    known = json.loads(DATA.read_text()) if DATA.exists() else {}
    kept = {**said}
    for part in ("rows", "origins"):
        old, new = known.get(part, {}), said.get(part, {})
        both = {name: {**old.get(name, {}), **new.get(name, {})} for name in NAMES}
        kept[part] = {name: row for name, row in both.items() if row}
    DATA.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text()))
    from tests.dev import pictures  # they are drawn from that file

    pictures.write()


def page(text: str) -> str:
    """Return the page with the tables as the data are now."""
    several = {**parts(found()), "origins": [report.origins(origins())]}
    made = {name: "\n".join(map(_markdown, tables)) for name, tables in several.items()}
    if unmeasured := report.unmeasured(found()):
        made["goals"] += f"\n{textwrap.fill(_begun(unmeasured), WIDTH)}.\n"
    for name, tables in made.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{tables}\n{end}{after}"
    return text


def parts(rows: Found) -> dict[str, list[report.Rows]]:
    """Return the tables of each made part of the page."""
    return {
        "goals": [report.verdicts(rows)],
        "times": [
            report.times(rows),
            report.cpu_times(rows),
            report.answers(rows),
            report.storm(rows),
            report.listeners(rows),
        ],
        "pythons": [report.floors(rows)],
        "memory": [report.memory(rows)],
        "counts": list(report.counts(rows)),
        "traceback": [report.traceback(rows)],
    }


def _markdown(table: report.Rows) -> str:
    """Return a table with its title; a sentence where nothing was measured."""
    if not table.rows:
        return f"{_begun(table.title)}: not measured.\n"
    ruler = ["---" if at < table.words else "---:" for at in range(len(table.columns))]
    lines = [f"| {' | '.join(row)} |" for row in (table.columns, ruler, *table.rows)]
    return "\n".join([f"{_begun(table.title)}:", "", *lines, ""])


def _begun(title: str) -> str:
    return title[:1].upper() + title[1:]
