"""What the README says is what the code does and what the tests run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from slurm_adopt.decision.options import LOG_LEVELS, OPTIONS, Option
from slurm_adopt.decision.variables import ALL, CGROUP, GROUP, MODULE, NAMED, PROCESS, VARIABLES
from slurm_adopt.slurm import versions
from slurm_adopt.slurm.auth import PLUGINS
from slurm_adopt.slurm.versions import RELEASES, Release
from tests.cluster.cells import CELLS
from tests.cluster.harness import config, guide, pam
from tests.cluster.harness.suites import SUITES
from tests.cluster.scenarios import credentials, penalties
from tests.cluster.scenarios.job_namespaces import PLUGINS as NAMESPACES
from tests.cluster.scenarios.job_namespaces import private_namespaces
from tests.cluster.tools import clients
from tests.dev import matrix
from tests.vm import node as machine_node
from tests.vm.cells import OF_FILE

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text()
PAGES = sorted((TOP / "docs").rglob("*.md"))
ROWS = {row[1]: row[2] for row in re.finditer(r"^\| `(\w+)` \| (.*?) \|", README, re.MULTILINE)}


def our_lines(lines: list[str]) -> set[str]:
    return {line for line in lines if "pam_succeed_if" in line or "pam_python" in line}


def test_pam_lines_are_those_that_are_tested() -> None:
    """The page on installing has all."""
    install = guide.page("install")
    documented = {
        line.strip()
        for line in install.splitlines()
        if line.startswith(("    account ", "    session "))
    }
    tested = (our_lines(stack(*pam.PRODUCTION)) for stack in pam.DOCUMENTED.values())
    assert documented == set().union(*tested)


def test_the_readme_shows_what_install_writes() -> None:
    """It is of a package: both lines by pam_python, and by pam_exec that of the account phase."""
    shown = re.findall(r"^\+((?:account|session) .*)$", README, re.MULTILINE)
    account, session = pam.both_lines(*pam.PRODUCTION)
    by_exec = pam.both_by_pam_exec(*pam.PRODUCTION)[0][-1]
    written = [*account, *session, by_exec]
    assert shown == [
        line.replace("/opt/slurm_adopt/", "/usr/libexec/slurm-adopt/") for line in written
    ]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_option_row(option: Option) -> None:
    """Each option is there, its default first, with all its values."""
    row = re.findall(r"`([^`]+)`", ROWS[option.name])
    assert not option.default or row[0] == option.default
    if isinstance(option.values, tuple):
        assert set(row) == set(option.values)
    if option.name == "log_level":
        assert set(row) <= {*LOG_LEVELS, *map(str, range(10))}


def test_no_option_is_made_up() -> None:
    assert set(ROWS) == {option.name for option in OPTIONS}


DESIGN = (TOP / "docs" / "explanation" / "design.md").read_text()
PACKAGE = TOP / "src" / "slurm_adopt"


CONTRIBUTING = (TOP / "CONTRIBUTING.md").read_text()
TESTS = TOP / "tests"


def test_every_test_is_in_the_table_of_what_it_shows() -> None:
    """`CONTRIBUTING.md` says of each file of tests what it is for, and names no others."""
    table = CONTRIBUTING.partition("## Which test shows what\n")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+/test_\w+\.py)`", table)
    there = [str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")]
    assert sorted({*named}) == sorted(there)


def test_every_module_is_in_the_design_page() -> None:
    """Each folder has a table of its modules, with a word on each, and no others are named."""
    modules = DESIGN.partition("\n## Modules\n")[2].partition("\n## ")[0]
    sections = dict(part.split("\n", 1) for part in modules.split("\n### ")[1:])
    named = {
        f"{title.strip('`') if title.endswith('/`') else ''}{name}"
        for title, text in sections.items()
        for name in re.findall(r"^\| `(\w+\.py)` \| .{10}", text, re.MULTILINE)
    }
    there = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
    assert named == {name for name in there if not name.endswith("__init__.py")}


# docs/reference/compatibility.md

COMPATIBILITY = (TOP / "docs/reference/compatibility.md").read_text()
BOUND = {versions.LOOSE: "nothing or type", versions.BOUND: "type and body"}
PAYLOADS = {versions.TYPE: "type", versions.K12: "K12"}


def release_row(release: Release) -> str:
    """Return the row of the table of releases, from versions.py and tests/vectors."""
    captured = (TOP / "tests" / "vectors" / f"callerid-{release.name}.json").exists()
    cells = [
        release.name,
        f"{release.protocol >> 8}",
        f"{release.extern_step}",
        release.greeting,
        " and ".join(name for name, _ in release.x11),
        release.het_cgroup,
        release.namespaces,
        f"{sum(size for _, size in release.header)}",
        release.plugin,
        ", then ".join(PAYLOADS[payload] for payload in release.request_payloads),
        BOUND[release.reply_payloads],
        "job" if len(release.answer) == 2 else "job and step",
        "yes" if release.tls else "no",
        "captured" if captured else "tables",
    ]
    return f"| {' | '.join(cells)} |"


def test_table_of_releases() -> None:
    """What the table says of each release is what the code does, and there are no other rows."""
    table = re.compile(r"\| \d\d\.\d\d \| \d+ \|")
    rows = [line for line in COMPATIBILITY.splitlines() if table.match(line)]
    assert rows == [release_row(release) for release in RELEASES]


def test_auth_plugins_are_documented() -> None:
    assert all(f"`AuthType={name}`" in COMPATIBILITY for name in PLUGINS)


# Releases are rows: nothing but versions.py asks which one there is

PROTOCOLS = re.compile(r"protocol|release|version")
NOT_RELEASES = {  # what looks like it: -1 in place of a protocol, the names of munged's errors
    ("ask_all.py", "protocol < 0"),
    ("stepd.py", "self.protocol < 0"),
    ("munge.py", "error.name not in ('CRED_EXPIRED', 'CRED_REWOUND')"),
}


def of_release(node: ast.AST) -> bool:
    """Say whether this may be a release, its name or its protocol number."""
    if isinstance(node, ast.Attribute):
        return node.attr == "name" or bool(PROTOCOLS.search(node.attr))
    return isinstance(node, ast.Name) and not is_fixed(node) and bool(PROTOCOLS.search(node.id))


def is_fixed(node: ast.AST) -> bool:
    """Say whether this is a constant, or made of constants: 42 << 8, RELEASES[3].protocol."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Name):
        return node.id.isupper()
    if isinstance(node, ast.Attribute):
        return node.attr.isupper() or is_fixed(node.value)
    if isinstance(node, ast.Subscript):
        return is_fixed(node.value)
    if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Call)):
        parts = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
        return any(is_fixed(part) for part in parts)
    return False


def told_apart(source: str) -> list[str]:
    """Return the expressions of a program that depend on which release there is."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            bad = any(map(of_release, parts)) and any(map(is_fixed, parts))
            if all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):  # release is None
                bad = bad and ast.unparse(node.comparators[0]) != "None"
        elif isinstance(node, ast.Subscript):
            bad = is_fixed(node.value) and of_release(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            starts = node.func.attr == "startswith" and of_release(node.func.value)
            looks_up = is_fixed(node.func.value) and any(map(of_release, node.args))
            bad = starts or (node.func.attr in ("get", "index", "count") and looks_up)
        else:
            bad = isinstance(node, ast.Match) and of_release(node.subject)
        if bad:
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "source",
    [
        "protocol >= AUTH_SLURM",
        "protocol >= versions.AUTH_SLURM",
        "step.protocol == 42 << 8",
        "9216 <= self.protocol < limit",
        "layout_of(p).name >= '25.11'",
        "release.name in ('24.11', '25.05')",
        "release.name.startswith('25')",
        "release is RELEASES[3]",
        "reply.protocol != RELEASES[-1].protocol",
        "release == release_of(42 << 8)",
        "{'25.11': 1}[release.name]",
        "LIMITS.get(protocol, 7)",
        "match release.name:\n    case '25.11': pass",
    ],
)
def test_a_release_that_is_told_apart_is_seen(source: str) -> None:
    assert told_apart(source)


@pytest.mark.parametrize(
    "source",
    ["release.plugin == BY_ID", "release is None", "reply.protocol != release.protocol",
     "step.greeting == NUMBER", "other.name == own.name", "protocol or RELEASES[-1].protocol"],
)  # fmt: skip
def test_what_a_row_says_is_not_telling_apart(source: str) -> None:
    assert not told_apart(source)


def test_no_release_is_told_apart_in_the_code() -> None:
    found = {
        (path.name, what)
        for path in (TOP / "src").rglob("*.py")
        for what in told_apart(path.read_text())
        if path.name != "versions.py"
    }
    assert found == NOT_RELEASES


def test_a_release_is_in_all_tables_of_the_tests() -> None:
    """Those that the recipe names; the clusters would stop at what is missing."""
    steps = CONTRIBUTING.partition("### A release of Slurm\n")[2].partition("\n## ")[0]
    in_v2, releases = set(OF_FILE["test_v2.py"].values()), {s.slurm for s in SUITES.values()}
    own = {c.roots["n1"].slurm.slurm for c in CELLS.values() if private_namespaces in c.scenarios}
    tables = {
        "DIALECTS": (set(config.DIALECTS), releases),
        "RELEASES": (set(credentials.RELEASES), releases),
        "BLOCKED": (set(credentials.BLOCKED), releases),
        "PLUGINS": (set(NAMESPACES), own),
        "JOB": (set(machine_node.JOB), in_v2),
        "IDLE": (set(machine_node.IDLE), in_v2),
    }
    assert {
        name: there ^ wanted for name, (there, wanted) in tables.items() if there != wanted
    } == {}
    columns = {what: len(said) for what, said in credentials.TAKES.items()}
    assert columns == dict.fromkeys(columns, len(credentials.RELEASES))
    assert [name for name in (*tables, "TAKES") if f"`{name}`" not in steps] == []


def test_the_guide_s_pam_lines_are_those_that_are_tested() -> None:
    lines = [line for page in PAGES for line in page.read_text().splitlines()]
    shown = {line.strip() for line in lines if re.match("    -?(account|session) ", line)}
    stacks, options = [*pam.GUIDE.values(), *pam.DOCUMENTED.values()], ((), pam.PRODUCTION)
    tested = {line for stack in stacks for given in options for line in stack(*given)}
    migrating = {" ".join((pam.C_MODULE, *pam.PRODUCTION))}
    of_cron = {line for half in pam.at_or_cron("cron") for line in half}
    assert shown <= tested | migrating | of_cron | {*pam.CONFINED}
    beside = {*pam.administrators()[0][:1], *pam.administrators()[1][:1], pam.DENIED}
    assert beside | migrating | of_cron <= shown


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("install", pam.both_lines),
        ("migrate", pam.both_lines),
        ("images", pam.where_installed),
    ],
)
def test_the_guide_prints_both_pairs(name: str, lines: pam.Printed) -> None:
    """The guard for root is right in front of each line, and both lines have the same options."""
    account, session = ("".join(f"    {line}\n" for line in pair)
                        for pair in lines(*pam.PRODUCTION))  # fmt: skip
    assert account in guide.page(name).partition(session)[0]


FROM = {MODULE: "the module", CGROUP: "the job's cgroup", PROCESS: "a process of the job"}


@pytest.mark.parametrize("name", VARIABLES)
def test_the_guide_has_the_table_of_variables(name: str) -> None:
    """Each is in one row: where it comes from, with what it comes, whether `all` has it."""
    source, _, group, asked_for = VARIABLES[name]
    rows = [
        line.split(" | ")
        for line in guide.page("environment-and-limits").splitlines()
        if line.startswith("| `") and line.endswith(("yes |", "name |"))
    ]
    (row,) = [row for row in rows if f"`{name}`" in row[0]]
    _, where, together, in_all = row
    assert FROM[source] in where
    assert (together != "alone") == bool(group)
    assert together.endswith(group) or not group
    members = {other for other in VARIABLES if group and GROUP[other] == group}
    alike = " ".join(others for others, _, words, _ in rows if words == together)
    assert members <= set(re.findall(r"`(\w+)`", alike))
    assert in_all.rstrip(" |") == {ALL: "yes", NAMED: "only by name"}[asked_for]


def test_nothing_is_skipped() -> None:
    """What a test needs is made for it; where that cannot be it fails."""
    skips = re.compile(r"pytest\.(skip|xfail|importorskip)\b|mark\.(skip|skipif|xfail)\b")
    found = [path.name for path in (TOP / "tests").rglob("*.py") if skips.search(path.read_text())]
    assert found == []


def test_every_cell_has_a_row() -> None:
    """Each cell of `./dev matrix` is in the table of this page, and all of it has passed."""
    table = COMPATIBILITY.partition(matrix.BEGIN)[2].partition(matrix.END)[0]
    rows, _ = matrix.parse(table)
    assert [*rows][2:] == [*matrix.CELLS]  # below the head
    results = {name: rows[name][matrix.HEAD.index("result")] for name in matrix.CELLS}
    failed = [name for name, said in results.items() if not re.match(r"(\d+) of \1 passed$", said)]
    assert failed == []


def test_what_clients_show() -> None:
    """The page's table of clients is the one that `./dev clients` compares with."""
    lines = (TOP / "docs/reference/clients.md").read_text().splitlines()
    start = lines.index(clients.table()[0])
    assert lines[start : lines.index("", start)] == clients.table()


def test_settings_against_penalties() -> None:
    """What the page has for sshd_config is what others get in with, where it is tried."""
    tried = {option.replace("=", " ") for setup in penalties.SETUPS for option in setup.options}
    found = guide.commands("penalties")
    settings = [line for line in found if line.startswith("PerSource")]
    assert len(settings) == 2
    assert {*settings} <= tried
