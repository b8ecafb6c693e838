"""The table of time limits: the page has exactly its rows, and no module has limits of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from slurm_adopt import time_limits
from slurm_adopt.decision.options import OPTIONS
from slurm_adopt.slurm import time_limits as of_slurm
from slurm_adopt.slurm.time_limits import Limit

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "reference" / "time-limits.md"
SOURCE = TOP / "src" / "slurm_adopt"
TABLES = [SOURCE / "time_limits.py", SOURCE / "slurm" / "time_limits.py"]
MODULES = [
    path
    for path in sorted([*SOURCE.rglob("*.py"), TOP / "pam" / "pam_slurm_adopt.py"])
    if path not in (*TABLES, SOURCE / "cli" / "deadlines.py")
]

OURS, SLURMS = (
    {name: row for name, row in vars(module).items() if isinstance(row, Limit)}
    for module in (time_limits, of_slurm)
)
ROWS = {**OURS, **SLURMS}


# The page

HEAD = ["| what is waited for | silence | last end | name |", "|---|---|---|---|"]


def row(name: str, limit: Limit) -> str:
    """Return a limit as the page shows it; an option with its default."""
    silence = f"{limit.silence:g} s" if limit.silence else ""
    last = f"{limit.last:g} s" if limit.last else ""
    if limit.option and limit.last:
        last += f", or `{limit.option}` if that is longer"
    elif limit.option:
        (default,) = (option.default for option in OPTIONS if option.name == limit.option)
        last = f"`{limit.option}` ({default} s)"
    return f"| {limit.what} | {silence} | {last} | `{name}` |"


def table() -> list[str]:
    return [*HEAD, *(row(name, limit) for name, limit in ROWS.items())]


def test_the_page_has_these_rows() -> None:
    lines = [line.strip() for line in PAGE.read_text().splitlines()]
    start = lines.index(HEAD[0])
    end = next(index for index, line in enumerate(lines[start:], start) if line[:1] != "|")
    assert lines[start:end] == table()


def test_each_row_has_its_name_and_an_end() -> None:
    assert not set(OURS) & set(SLURMS)
    assert all(limit.silence or limit.last or limit.option for limit in ROWS.values())
    assert {limit.option for limit in ROWS.values()} - {""} <= {option.name for option in OPTIONS}


def test_each_row_is_used() -> None:
    """What no module waits by is no limit."""
    text = "\n".join(path.read_text() for path in MODULES)
    unused = [
        name
        for name, limit in ROWS.items()
        if not (limit.option and f'.seconds("{limit.option}")' in text)
        and f"time_limits.{name}." not in text
        and not any(f"{name}{use}" in text for use in (".last", ".silence", ")"))
    ]
    assert unused == []


# The modules

# Seconds between two looks: they end no wait, and are short.
PAUSES = {"DENSE", "PAUSE", "POLL", "POLLED", "RETRY", "SLOWEST", "_TICK"}
LONGEST_PAUSE = 1.0
# Other fractions: of a time that is left, of a clock's precision, the least that a wait takes.
FRACTIONS = {"AT_LEAST", "COARSE", "ROUNDS", "SHARE"}
# What takes a time to wait for.
WAITS = {"Deadline", "Patience", "alarm", "poll", "select", "setitimer", "settimeout", "sleep"}
WAITS |= {"sigtimedwait", "within"}


def found(source: str) -> list[str]:
    """Return what a module says of seconds by itself, with the line."""
    tree = ast.parse(source)
    constants = dict(_constants(tree))
    bad = []
    for name, (line, value) in constants.items():
        if name in PAUSES and value > LONGEST_PAUSE:
            bad.append(f"{line}: {name} is {value:g} s")
        elif isinstance(value, float) and name not in PAUSES | FRACTIONS:
            bad.append(f"{line}: {name} = {value:g}")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _called(node) not in WAITS:
            continue
        for argument in node.args:
            for part in _parts(argument):
                if isinstance(part, ast.Constant) and _is_number(part.value) and part.value:
                    bad.append(f"{part.lineno}: {_called(node)}({ast.unparse(argument)})")
                if isinstance(part, ast.Name) and part.id in set(constants) - PAUSES - FRACTIONS:
                    bad.append(f"{part.lineno}: {_called(node)}({part.id})")
    return sorted(set(bad))


def _constants(tree: ast.Module) -> list[tuple[str, tuple[int, float]]]:
    """Return the numbers that a module gives a name, with the line."""
    named = []
    for node in tree.body:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        for target in targets:
            if isinstance(target, ast.Name) and value and not list(_names(value)):
                try:
                    number = eval(ast.unparse(value), {"__builtins__": {}})
                except (NameError, TypeError, SyntaxError):
                    continue
                if _is_number(number):
                    named.append((target.id, (node.lineno, number)))
    return named


def _names(node: ast.expr) -> list[ast.expr]:
    return [part for part in ast.walk(node) if isinstance(part, (ast.Name, ast.Call))]


def _parts(argument: ast.expr) -> list[ast.expr]:
    """Return what an argument is made of, but for factors, a least of 1 ms, and what is called."""
    if isinstance(argument, ast.BinOp) and isinstance(argument.op, ast.Div):
        return _parts(argument.left)
    if isinstance(argument, ast.BinOp) and isinstance(argument.op, ast.Mult):
        sides = (argument.left, argument.right)
        return [p for side in sides if not isinstance(side, ast.Constant) for p in _parts(side)]
    if isinstance(argument, (ast.BinOp, ast.BoolOp, ast.IfExp)):
        sides = ast.iter_child_nodes(argument)  # type: ignore[assignment]
        return [p for side in sides if isinstance(side, ast.expr) for p in _parts(side)]
    if isinstance(argument, ast.Call) and _called(argument) in ("max", "min", "float", "int"):
        parts = [part for each in argument.args for part in _parts(each)]
        least = _called(argument) == "max"
        return [p for p in parts if not (least and isinstance(p, ast.Constant) and p.value == 1)]
    return [argument]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TOP)))
def test_no_module_has_limits_of_its_own(path: Path) -> None:
    assert [f"{path}:{line}" for line in found(path.read_text())] == []


# (what a module may say, whether that is a limit of its own)
SAID = [
    ("LONGEST = 2.0", True),
    ("LONGEST: float = 2.5", True),
    ("LONGEST = 2\ndef f():\n    Deadline(LONGEST)", True),
    ("Deadline(5)", True),
    ("deadline.within(min(0.5, deadline.left()))", True),
    ("sleep(3)", True),
    ("socket.settimeout(2 if x else 3)", True),
    ("poll.poll(max(500, int(seconds * 1000)))", True),
    ("POLL = 30.0", True),
    ("signal.setitimer(signal.ITIMER_REAL, 600)", True),
    ("POLL = 0.2\nsleep(min(POLL, deadline.left()))", False),
    ("LONGEST = time_limits.WATCHED.last\nDeadline(LONGEST)", False),
    ("LIMIT = 200", False),
    ("poll.poll(LOGGED.last * 1000)", False),
    ("poll.poll(max(1, int(seconds * 1000)))", False),
    ("PARTS = 4\ndeadline.within(deadline.left() / PARTS)", False),
    ("sleep(0)", False),
]


@pytest.mark.parametrize(("source", "expected"), SAID)
def test_what_counts_as_a_limit(source: str, expected: bool) -> None:
    assert bool(found(source)) is expected


if __name__ == "__main__":
    print("\n".join(table()))


def test_each_number_of_the_commands_stands_once() -> None:
    """Of two of one name the last would count, and the first be read."""
    tree = ast.parse((SOURCE / "cli" / "deadlines.py").read_text())
    names = [ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign)
             for target in node.targets]  # fmt: skip
    assert sorted(names) == sorted({*names})
