"""Rules of this project's own that no linter knows, read from the source."""

from __future__ import annotations

import ast
import builtins
import errno
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
MODULES = sorted([*(TOP / "src").rglob("*.py"), *(TOP / "pam").glob("*.py")])

ERRNOS = set(errno.errorcode.values())
OS_ERRORS = {
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, OSError)
}


def _is_int(node: ast.AST | None) -> bool:
    """Say whether this is a number, or has one among its elements."""
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return any(_is_int(each) for each in node.elts)
    return isinstance(node, ast.Constant) and type(node.value) is int


def errno_numbers(tree: ast.AST) -> list[ast.AST]:
    """Return where an errno is written as a number."""
    found: list[ast.AST] = []
    numbers = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _is_int(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in OS_ERRORS:
            found += [node] * bool(node.args and _is_int(node.args[0]))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            errnos = any(getattr(side, "attr", "") == "errno" for side in sides)
            named = any(getattr(side, "id", "") in numbers for side in sides)
            found += [node] * (errnos and (named or any(map(_is_int, sides))))
        if isinstance(node, ast.Assign):
            names = {getattr(target, "id", "") for target in node.targets}
            found += [node] * bool(names & ERRNOS and _is_int(node.value))
    return found


def uids_made_up(tree: ast.AST) -> list[ast.AST]:
    """Return where an unknown uid or gid becomes a number: 0 would be root's."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            found += [node] * (any(map(_is_id, node.values[:-1])) and _is_int(node.values[-1]))
        if isinstance(node, ast.IfExp):
            found += [node] * (
                any(map(_is_id, (node.body, node.orelse)))
                and any(map(_is_int, (node.body, node.orelse)))
            )
        if isinstance(node, ast.Call) and _word(node.func) in ("get", "getattr", "pop"):
            said = [a.value for a in node.args if isinstance(a, ast.Constant)]
            names = [value for value in said if isinstance(value, str)]
            found += [node] * (any(map(_names_id, names)) and _is_int(node.args[-1]))
        if isinstance(node, ast.FunctionDef):
            found += [
                node
                for argument, default in _defaults(node.args)
                if _names_id(argument) and _is_int(default)
            ]
    return found


def exceptions_kept(tree: ast.AST) -> list[ast.AST]:
    """Return where a name keeps a caught exception, and no `finally` of the function deletes it.

    The exception refers to the frame, the frame to the exception, and by its callers to PAM's
    handle: pam_python crashes where the handle is collected after pam_end().
    """
    found: list[ast.AST] = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            deleted = {
                _word(target)
                for node in ast.walk(function)
                for last in (node.finalbody if isinstance(node, ast.Try) else ())
                if isinstance(last, ast.Delete)
                for target in last.targets
            }
            caught = [
                (handler.name, node)
                for handler in ast.walk(function)
                if isinstance(handler, ast.ExceptHandler) and handler.name
                for node in ast.walk(handler)
                if isinstance(node, ast.Assign)
            ]
            found += [
                node
                for name, node in caught
                if getattr(node.value, "id", "") == name
                and any(isinstance(t, ast.Name) and t.id not in deleted for t in node.targets)
            ]
    return found


def _defaults(arguments: ast.arguments) -> list[tuple[str, ast.expr | None]]:
    plain = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    pairs = [*zip(plain, arguments.defaults), *zip(arguments.kwonlyargs, arguments.kw_defaults)]
    return [(argument.arg, default) for argument, default in pairs]


def _word(node: ast.AST) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _is_id(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else node
    return _names_id(_word(called))


def _names_id(name: str) -> bool:
    return not {"uid", "gid", "euid", "egid"}.isdisjoint(name.lower().split("_"))


@pytest.mark.parametrize("rule", [errno_numbers, uids_made_up, exceptions_kept])
def test_the_source_keeps_the_rule(rule: object) -> None:
    assert callable(rule)
    assert [
        f"{path.relative_to(TOP)}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)}"
        for path in MODULES
        for node in rule(ast.parse(path.read_text()))
    ] == []


# (what the source may say, how often it breaks which rule)
ERRNO_SAID = [
    ('raise FileNotFoundError(2, "x")', 1),
    ("if error.errno == 2: pass", 1),
    ("if error.errno in (2, 39): pass", 1),
    ("ENOSYS = 38", 1),
    ("_OTHERS = (2, 39)\nif error.errno in _OTHERS: pass", 1),
    ("_OTHERS = (ENOENT, ENOTEMPTY)\nif error.errno in _OTHERS: pass", 0),
    ('raise OSError(ENOSPC, "x")', 0),
    ('raise FileNotFoundError("x")', 0),
]
UID_SAID = [
    ("node.jobs(login.uid or 0)", 1),
    ("uid = options.get('uid', 0)", 1),
    ("uid = getattr(login, 'uid', 0)", 1),
    ("uid = 0 if unknown else login.uid", 1),
    ("uid = uid_of(user) or 0", 1),
    ("def f(uid: int = 0): pass", 1),
    ("def f(*, uid=0): pass", 1),
    ("f(login.uid) or g(login.uid)", 0),
    ("if login.uid == 0: pass", 0),
    ("number = error.errno or 0", 0),
]

_KEEPS = "def f():\n  try: g()\n  except OSError as error: failure = error\n"
KEPT = [
    (_KEEPS, 1),
    (_KEEPS + "  raise failure", 1),
    (_KEEPS + "  finally: del failure", 0),
    ("def f():\n  try: g()\n  except OSError as error: failure = str(error)", 0),
]


@pytest.mark.parametrize(("source", "count"), KEPT)
def test_what_keeps_an_exception(source: str, count: int) -> None:
    assert len(exceptions_kept(ast.parse(source))) == count


@pytest.mark.parametrize(("source", "count"), ERRNO_SAID)
def test_what_is_an_errno_as_a_number(source: str, count: int) -> None:
    assert len(errno_numbers(ast.parse(source))) == count


@pytest.mark.parametrize(("source", "count"), UID_SAID)
def test_what_makes_up_a_uid(source: str, count: int) -> None:
    assert len(uids_made_up(ast.parse(source))) == count
