"""The benchmark's own arithmetic, and its page: goals, strace's lines, tables, options."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import cgroups
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.tools.bench import counting, goals, measuring, report
from tests.cluster.tools.bench.__main__ import chosen_rows, command
from tests.cluster.tools.bench.rows import (
    LISTENERS,
    MEMORY,
    NAMES,
    PYTHONS,
    ROWS,
    SOURCE,
    STORM,
    WITHOUT,
)
from tests.cluster.tools.bench.subjects import FRONTS, SUBJECTS
from tests.cluster.tools.instructions import bounds
from tests.dev import performance

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.tools.bench.goals import Found


def test_the_page_has_the_figures_of_the_data() -> None:
    """Where this fails, `./dev bench` with --write brings the page up to date."""
    text = performance.PAGE.read_text()
    assert performance.page(text) == text


def test_each_marker_of_a_made_part_stands_once() -> None:
    text = performance.PAGE.read_text()
    names = {*performance.parts({}), "origins"}
    assert set(re.findall(r"<!-- (?:begin|end) (\w+) -->", text)) == names
    for name in names:
        for which in ("begin", "end"):
            assert text.count(f"<!-- {which} {name} -->\n") == 1


def test_the_data_say_when_and_on_what_each_row_was_measured() -> None:
    kept = performance.origins()
    for name, row in performance.found().items():
        whats = {"counts" if measure in counting.NUMBERS else "time" for measure in row}
        assert set(kept[name]) == whats
        assert all(set(one) == set(report.ORIGIN) for one in kept[name].values())


def test_the_page_explains_every_goal() -> None:
    section = performance.PAGE.read_text().partition("<!-- end goals -->")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
    named = {name.strip() for row in rows for name in row.split("; ")}
    assert {goal.name for goal in goals.GOALS} <= named


def test_the_data_are_of_rows_that_there_are() -> None:
    found = performance.found()
    assert set(found) <= set(NAMES)
    subjects = {name for row in found.values() for of in row.values() for name in of}
    assert subjects <= {*SUBJECTS, WITHOUT, SOURCE}


def test_the_page_explains_every_row() -> None:
    section = performance.PAGE.read_text().partition("## What each row is")[2].partition("\n## ")[0]
    named = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    for name in ROWS:
        first, _, rest = name.partition(" ")
        general = f"N {rest}" if first.isdecimal() else name
        assert general.replace("N job of", "N jobs of") in named
    assert ", ".join(PYTHONS).replace(", Python", ",") in named


# What is wanted

# One login of each subject; the limit is 20 + 22 - 2 = 40 by pam_python, and 70 by the other.
MS: dict[str, float] = {"permit": 2, "C": 22, "empty": 20, "ours": 42, "empty by pam_exec": 50,
      "ours by pam_exec": 77}  # fmt: skip
FASTER = {**MS, "ours": 40, "ours by pam_exec": 70}
SLOWER = {**MS, "C": 122, "ours": 82, "ours by pam_exec": 127}
FEWER = {"ms": FASTER, "cpu_ms": MS}
MORE = {"ms": MS, "cpu_ms": MS}
FOUND: Found = {
    "one job": {"ms": MS, "instructions": {name: ms * 1_000_000 for name, ms in MS.items()}},
    "three jobs, callerid": {**FEWER, "answer_ms": {SOURCE: 8}},
    "60000 sockets": {**MORE, "answer_ms": {SOURCE: 9}},
    "10 NodeName lines": FEWER,
    "5000 NodeName lines": MORE,
    "2 jobs of this user": FEWER,
    "20 jobs of this user": MORE,
    "source refuses": {"ms": MS},
    "source drops, first login": {"ms": SLOWER},
    "no job": MORE,
    MEMORY: {"pss": MS},
    STORM: {
        "logins": {"C": 300, "ours": 300, "ours by pam_exec": 300},
        "inside": {"C": 300, "ours": 300, "ours by pam_exec": 298},
        "per_second": {"permit": 20, "C": 10, "empty": 20, "ours": 9.1, "ours by pam_exec": 8},
    },
    LISTENERS: {
        "own_ms": {"ours": 10, "ours by pam_exec": 20},
        "own_ms_full": {"ours": 11, "ours by pam_exec": 24},
    },
}
VERDICTS = {
    ("one job", "own instructions"): ((22, False), (27, False)),
    ("one job", "to the limit"): ((1.05, True), (1.1, False)),
    ("three jobs, callerid", "to the limit"): ((1, True), (1, True)),
    ("60000 sockets", "to no other sockets, less the answer"): ((33 / 32, False), (68 / 62, False)),
    ("5000 NodeName lines", "to 10 lines"): ((1.05, True), (1.1, False)),
    ("20 jobs of this user", "for each job more"): ((2 / 18, False), (7 / 18, False)),
    ("source drops, first login", "extra time, to the C module's"): ((0.4, True), (0.5, True)),
    ("no job", "to an empty script"): ((2.1, False), (1.54, False)),
    (MEMORY, "PSS that stays"): ((22, False), (75, False)),
    (STORM, "not wholly in"): ((0, True), (2, False)),
    (STORM, "logins a second, to the C module's"): ((0.91, True), (0.8, False)),
    (LISTENERS, "to no sockets that listen"): ((1.1, True), (1.2, False)),
}


def test_verdicts() -> None:
    """What is not measured has none."""
    several = {((v.goal.row, v.goal.name), v.front): v for v in goals.verdicts(FOUND)}
    measured = {key for key, verdict in several.items() if verdict.value is not None}
    assert measured == {(key, front) for key in VERDICTS for front in FRONTS}
    for key, expected in VERDICTS.items():
        for front, (value, reached) in zip(FRONTS, expected):
            verdict = several[key, front]
            assert verdict.value == pytest.approx(value)
            assert verdict.reached is reached


def test_a_slower_machine_is_in_both_rows() -> None:
    """What ours waits for is no longer on a slower machine: 20 ms of 40."""
    cpu: dict[str, float] = {"empty": 10, "ours": 20}
    slow: Found = {
        "one job": {"ms": {"ours": 40}, "cpu_ms": cpu},
        "no job": {"ms": {"ours": 60}, "cpu_ms": {"empty": 20, "ours": 40}},
    }
    assert goals.to_row("no job", "one job")(slow, FRONTS[0]) == 1
    assert goals.for_each("no job", "one job", 2)(slow, FRONTS[0]) == 0


def test_answers_of_the_source() -> None:
    """Ours to no other sockets stays beside what is left without the answer."""
    (_, last) = report.answers(FOUND).rows
    assert last == ["60000 sockets", "9.0", "1.05", "1.10", "1.03", "1.10"]
    alone = report.answers({"60000 sockets": FOUND["60000 sockets"]})
    assert alone.rows == [["60000 sockets", "9.0", *[report.NONE] * 4]]


def test_the_limit_of_logins_at_once() -> None:
    """Each takes 50 ms by an empty script; the C module's own work are 100 ms, less 50."""
    rows = {row[0]: row[1:] for row in report.storm(FOUND).rows}
    assert rows["ours, exec"] == ["298", "8.0", "0.80"]
    assert rows["empty"] == [report.NONE, "20.0", "2.00"]
    assert rows["limit, pam_python"] == [report.NONE, "10.0", "1.00"]
    assert rows["limit, pam_exec"] == [report.NONE] * 3  # its empty script has no figure


def test_what_is_wanted_of_memory_depends_on_the_front() -> None:
    wanted = [v.wanted for v in goals.verdicts({}) if v.goal.row == MEMORY]
    assert wanted == [0.8, 0.1]


def test_every_goal_is_of_a_row() -> None:
    assert {goal.row for goal in goals.GOALS} <= set(NAMES)


def test_the_last_line_counts_what_is_reached() -> None:
    goals_of_front = len(goals.GOALS) * len(FRONTS)
    said = report.summary({"one job": {"ms": MS}})
    unknown = f"{goals_of_front - 2} were not measured"
    assert said == f"1 of 2 goals are reached, 1 missed; {unknown}"


def test_goals_that_were_not_measured_are_named_with_their_rows() -> None:
    said = report.unmeasured(FOUND)
    assert "), to no other sockets, less the answer (1000 sockets; 250000 sockets), " in said
    assert "not wholly in" not in said


@pytest.mark.parametrize("found", [FOUND, {}])
def test_the_page_names_them_where_there_are_some(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performance, "found", lambda: found)
    begun = "Goals that were not measured: to the limit ("
    assert (begun in performance.page(performance.PAGE.read_text())) is bool(found)
    monkeypatch.setattr(report, "unmeasured", lambda _: "")
    assert begun not in performance.page(performance.PAGE.read_text())


ROUNDS = [
    ("one job", 30, 30),
    ("Python 3.14", 30, 30),
    ("250000 sockets", 20, 5),
    ("source drops, first login", 20, 3),
    ("source drops, first login", 1, 1),
    (LISTENERS, 20, 5),
    (STORM, 20, 2),
    (STORM, 1, 1),
    (MEMORY, 20, 5),
]


@pytest.mark.parametrize(("name", "wanted", "runs"), ROUNDS)
def test_runs_of_a_row(name: str, wanted: int, runs: int) -> None:
    assert measuring.rounds(name, wanted) == runs


def test_rows_in_which_the_machine_was_busy_are_named() -> None:
    """An empty script waits for nothing else."""
    idle = {"ms": MS, "cpu_ms": {**MS, "empty": 19}}
    other = {"ms": MS, "cpu_ms": {**MS, "empty": 10}}
    assert report.busy({"one job": idle}) == ""
    said = report.busy({"one job": idle, "no job": other, "1000 sockets": other})
    assert said == "the machine was busy, so times say little: no job; 1000 sockets"


MARGINS = [
    ("one job", "to the limit", 1.166, "10 % above"),
    ("one job", "to the limit", 1.06, "-"),
    ("one job", "to the limit", 0.53, "50 % below"),
    ("one job", "own instructions", 15.5, "2.50 M above"),
    ("20 jobs of this user", "for each job more", -0.05, "0.15 ms below"),
    (STORM, "not wholly in", 2, "2 logins above"),
    (STORM, "not wholly in", 0, "-"),
    ("one job", "to the limit", None, "-"),
]


@pytest.mark.parametrize(("row", "name", "value", "margin"), MARGINS)
def test_margins(row: str, name: str, value: float | None, margin: str) -> None:
    (goal,) = (one for one in goals.GOALS if (one.row, one.name) == (row, name))
    assert goals.Verdict(goal, FRONTS[0], value).margin == margin


def test_every_table_has_as_many_fields_as_columns() -> None:
    counts = dict.fromkeys(counting.NUMBERS, MS) | {"instructions": {**MS, WITHOUT: 15}}
    found: Found = {**FOUND, "Python 3.11": {**counts, "ms": MS, "cpu_ms": MS}}
    tables = list(report.all_rows(found))
    assert len(tables) == 14
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}


# What strace has written

LINES = [
    ('12 openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3', {"files": 1}),
    ('12 openat(AT_FDCWD, "/no", O_RDONLY) = -1 ENOENT (No such file or directory)', {}),
    ('12 read(3, ""..., 4096) = 1200', {"bytes": 1200}),
    ('12 read(3, ""..., 4096) = -1 EAGAIN (Resource temporarily unavailable)', {}),
    ('12 write(3, ""..., 40) = 40', {}),
    ('13 connect(3, {sa_family=AF_UNIX, sun_path="/run/x"}, 10) = 0', {"connections": 1}),
    ("13 connect(3, {sa_family=AF_INET}, 16) = -1 EINPROGRESS (In progress)", {"connections": 1}),
    ("13 connect(3, {sa_family=AF_UNIX}, 16) = -1 ENOENT (No such file or directory)", {}),
    ('13 <... recvfrom resumed>""..., 64, 0, NULL, NULL) = 4', {"bytes": 4}),
    ("13 mmap(NULL, 8, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f0c12345000", {}),
    ("13 exit_group(0) = ?", {}),
]  # fmt: skip
NO_CALLS = [
    "13 recvfrom(3,  <unfinished ...>",
    "13 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---",
    "13 +++ exited with 0 +++",
]


@pytest.mark.parametrize(("line", "counted"), LINES)
def test_a_call(line: str, counted: dict[str, int]) -> None:
    nothing = dict.fromkeys(counting.NUMBERS[1:], 0)
    assert counting.counted([line]) == {**nothing, "calls": 1, **counted}


@pytest.mark.parametrize("line", NO_CALLS)
def test_no_call(line: str) -> None:
    assert set(counting.counted([line]).values()) == {0}


def test_instructions_of_a_file() -> None:
    assert counting.total("events: Ir\n1 2\ntotals: 123\n") == 123


# Rows and options


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ("one job, account line alone", ["one job, account line alone"]),
        ("no job,1000 sockets", ["no job", "1000 sockets"]),
        ("*NodeName lines", [name for name in ROWS if name.endswith("NodeName lines")]),
        ("Python", list(PYTHONS)),
        ("one job,no job", ["one job", "no job"]),
        ("one job, account line alone,no job", ["one job, account line alone", "no job"]),
        ("one job, no job", ["one job", "no job"]),
        ("one job, account line alone, no job", ["one job, account line alone", "no job"]),
        ("one job , 1000 sockets,no job", ["one job", "no job", "1000 sockets"]),
    ],
)
def test_chosen_rows(patterns: str, chosen: list[str]) -> None:
    assert chosen_rows(patterns) == chosen


REFUSED = [
    (["--runs", "0"], "0 is not in the range x>=1"),
    (["--only", "luck"], "'luck'"),
    (["--json", "/no/file"], "/no/file cannot be written"),
    (["--rows", "nothing"], "no row is named like 'nothing'; ./dev bench --list names them"),
    (["--rows", "no job,such,row of"], "no row is named like 'such' or 'row of'"),
    (["--rows", "one job, such"], "no row is named like 'such'"),
    (["--rows", ""], "no row is named like ''"),
    (["--rows", STORM, "--only", "counts"], "nothing of these rows is counted"),
    (["--rows", MEMORY, "--only", "counts"], "nothing of these rows is counted"),
    (["--only", "time", "--instructions"], "--instructions stands first"),
    (["--rows", "no job", "--commands"], "--commands stands first"),
    (["--instructions", "nonsense"], "git knows no commit nonsense"),
    (["--instructions", "--foo"], "--foo"),
    (["--instructions", "--record", "HEAD"], "--record is of this checkout; it takes no commits"),
    (["--commands", "x"], "'x' is not a valid integer"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED)
def test_bad_words_are_refused(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, before a cluster is made."""
    with pytest.raises(SystemExit) as ended:
        command(given)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("words", [[], ["--instructions"], ["--commands"]])
def test_help_is_that_of_the_words(words: list[str]) -> None:
    dev = [sys.executable, "-m", "tests.dev", "bench", *words, "--help"]
    said = subprocess.run(dev, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert said.startswith(f"Usage: {' '.join(['./dev', 'bench', *words])} [OPTIONS]")


# The record that test_instructions.py reads

KNOWN = {"cgroup v1": {"pam_python": 100.0, "pam_exec": 200.0}}


@pytest.mark.parametrize(("host", "least", "most"), [("cgroup v1", 97, 103), ("cgroup v2", 0, 103)])
def test_bounds(host: str, least: float, most: float) -> None:
    assert bounds(KNOWN, host, "pam_python") == pytest.approx((least, most))


def test_the_cluster_is_favoured_where_there_are_shares(tmp_path: Path) -> None:
    """By cgroup v1 and v2; other hierarchies have none."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "memory").mkdir()
    (tmp_path / "cpu/cpu.shares").write_text("1024")
    cgroups.favour([tmp_path / "cpu", tmp_path / "memory"])
    assert (tmp_path / "cpu/cpu.shares").read_text() == "262144"
    assert list((tmp_path / "memory").iterdir()) == []


def test_what_a_run_has_not_measured_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page, its data and its pictures are written anew from both."""
    from tests.dev import pictures

    monkeypatch.setattr(performance, "DATA", tmp_path / "data.json")
    monkeypatch.setattr(performance, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(pictures, "write", lambda: None)
    (tmp_path / "page.md").write_text("<!-- begin times -->\n<!-- end times -->\n")
    for measure, ms in (("ms", MS), ("cpu_ms", FASTER), ("ms", SLOWER)):
        origin = dict.fromkeys(report.ORIGIN, measure)
        said = {"rows": {"one job": {measure: ms}}, "origins": {"one job": {measure: origin}}}
        performance.keep(said)
    assert performance.found() == {"one job": {"ms": SLOWER, "cpu_ms": FASTER}}
    assert set(performance.origins()["one job"]) == {"ms", "cpu_ms"}
    assert "| one job | 2.0 | 122.0 |" in (tmp_path / "page.md").read_text()
