"""docs/reference/messages.md has every text that the module can log or show, once, and no other.

The code is read by `ast`, not run. A text is a string, or what an f-string or a sum of strings can
be, with `<>` in place of each value. It counts if it has words with a blank between, or is raised
as it is. Docstrings do not count, nor what is listed below.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "messages.md"
PACKAGE = ROOT / "src" / "slurm_adopt"
TO_WHO_RUNS_IT = (PACKAGE / "cli", PACKAGE / "login_image.py")  # they log and show nothing else
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "pam").rglob("*.py")])
SOURCES = [path for path in SOURCES if not {path, *path.parents}.intersection(TO_WHO_RUNS_IT)]
REST = "REST"  # a part of the entry script, which it runs where it needs it

VALUE = "<>"
WORD = re.compile(r"[A-Za-z]{2}")

# What is raised by these is a text without a blank, too.
ERRORS = frozenset({
    "CredentialError", "FormatError", "MistakeError", "PeerError", "RefusedError", "SetupError",
})  # fmt: skip
# Calls whose strings are none: rows of the manual page, names of a message's fields, errors that
# are caught where they are raised, patterns, types.
NO_TEXTS = frozenset({
    "Action", "AttributeError", "FileNotFoundError", "Kind", "Option", "ValueError", "cast",
    "compile", "fullmatch", "int32", "mem", "partition", "receive", "strftime", "string", "take",
    "u16", "u32", "uint",
})  # fmt: skip
TABLES = frozenset({"record.py", "time_limits.py", "variables.py"})  # their strings are for docs
# Parts that say nothing without what they are put into.
PARTS = frozenset({
    "<> port <>", "<>pam_slurm_adopt: <>", "Access denied by pam_slurm_adopt:", "callerid reply",
    "credential refused", "error <>", "frozen cgroup", "job <> of uid <>", "munged at <>",
    "sack at <>", "slurmd at <>:<>", "stepd of job <>", "stepd of job <> <>",
    "no sack socket: slurm.conf has AuthInfo=disable_sack; remove that, or run sackd",
})  # fmt: skip
# Strings that nobody is shown: names in tables, and errors that are caught.
UNSEEN = frozenset({
    "PID 1 is not root's here", "frozen 1", "mount or hangs up",
    "neither a pipe nor a terminal", "no terminal",
})  # fmt: skip


def plain(text: str) -> str:
    """Return a text with all values alike, and one blank for several."""
    return " ".join(re.sub(r"<[^<>]*>|\{\w+\}", VALUE, text).split())


class Reader(ast.NodeVisitor):
    """Collects the texts of a module."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: dict[str, int] = {}
        self._constants: dict[str, list[str]] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._constants[node.targets[0].id] = self._forms(node.value)
        self.visit(tree)

    def visit_Assign(self, node: ast.Assign) -> None:
        if [ast.unparse(target) for target in node.targets] == [REST]:
            self.visit(ast.parse(ast.literal_eval(node.value)))
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Pass over types, which are strings in the entry script."""
        for part in (*node.decorator_list, *node.args.defaults, *node.body):
            self.visit(part)

    def _forms(self, node: ast.AST) -> list[str]:
        """Return what an expression can be; [] if it is not known to be a string."""
        forms: list[str] = []
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            forms = [node.value]
        elif isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            forms = [node.value.decode("latin-1")]
        elif isinstance(node, ast.JoinedStr):
            forms = _joined(self._part(value) for value in node.values)
        elif isinstance(node, ast.IfExp):
            forms = self._forms(node.body) + self._forms(node.orelse)
        elif isinstance(node, ast.BoolOp):
            forms = [form for value in node.values for form in self._forms(value)]
        elif isinstance(node, ast.Name):
            forms = self._constants.get(node.id, [])
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            sides = self._forms(node.left), self._forms(node.right)
            forms = _joined(side or [VALUE] for side in sides) if any(sides) else []
        return forms

    def _part(self, node: ast.expr) -> list[str]:
        """Return what a part of an f-string can be: a value, or the words of a choice."""
        if not isinstance(node, ast.FormattedValue):
            return self._forms(node)
        forms = self._forms(node.value) if isinstance(node.value, (ast.IfExp, ast.Name)) else []
        return forms if any(" " in form for form in forms) else [VALUE]

    def _note(self, node: ast.expr, *, any_text: bool = False) -> None:
        for form in self._forms(node):
            bare = form.replace(VALUE, "").strip()
            if WORD.search(bare) and (any_text or " " in plain(form)):
                self.found.setdefault(plain(form), node.lineno)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:  # the entry script's annotations are strings
            self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in NO_TEXTS:
            return
        if called == "Situation":  # name, option, code, level, when, message
            for argument in (*node.args[:1], *node.args[5:]):
                self._note(argument)
            return
        if called in ERRORS:
            self._note(node.args[0], any_text=True)
        self.generic_visit(node)

    def _text(self, node: ast.expr) -> None:
        """Note a text as a whole; look at what is in it, but is not written out."""
        if self._forms(node):
            self._note(node)
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.FormattedValue):
                if self._part(part) == [VALUE]:
                    self.visit(part.value)
            elif not self._forms(part):
                self.visit(part)

    visit_Constant = visit_JoinedStr = visit_IfExp = visit_BinOp = visit_BoolOp = _text  # noqa: N815

    def visit_Compare(self, node: ast.Compare) -> None:
        """Pass over what something is compared with."""
        for side in (node.left, *node.comparators):
            if not isinstance(side, ast.Constant):
                self.visit(side)

    def visit_Dict(self, node: ast.Dict) -> None:
        """Pass over keys."""
        for value in node.values:
            self.visit(value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Pass over keys and types."""
        self.visit(node.value)


def _joined(parts: Iterable[list[str]]) -> list[str]:
    """Return all that the parts can be together."""
    found = [""]
    for forms in parts:
        found = [before + form for before in found for form in forms]
    return found


def read(source: str) -> dict[str, int]:
    """Return the texts of a module, and the line of each."""
    return Reader(ast.parse(source)).found


def texts() -> dict[str, str]:
    """Return the texts of the code, and where each is."""
    found: dict[str, str] = {}
    for path in SOURCES:
        if path.name not in TABLES:
            for text, line in read(path.read_text()).items():
                found.setdefault(text, f"{path.relative_to(ROOT)}:{line}")
    return found


LEVEL = re.compile(r" \((?:error|info|debug|reason|user)[^)]*\)\.\n")
CODE = re.compile(r"`([^`]+)`")


class Item:
    """A list item of the page: texts in backquotes, their level, then cause and cure."""

    def __init__(self, text: str) -> None:
        level = LEVEL.search(text)
        assert level, f"no level: {text}"
        self.level = level[0].strip(" ().\n")
        self.texts = [plain(found) for found in CODE.findall(text[: level.start()])]
        self.body = text[level.end() :]
        assert not CODE.sub("", text[: level.start()]).strip("-, \n"), f"not a text: {text}"


def items(page: str) -> list[Item]:
    """Return the list items of a page, each of which is about messages."""
    paragraphs = re.split(r"\n(?=- |\n)", page)
    return [Item(text.strip() + "\n") for text in paragraphs if text.strip().startswith("- ")]


def entries(page: str) -> list[str]:
    """Return the messages of a page in its order."""
    return [text for item in items(page) for text in item.texts]


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text()


@pytest.fixture(scope="module")
def code() -> dict[str, str]:
    return texts()


def test_each_is_on_the_page(page: str, code: dict[str, str]) -> None:
    known = PARTS | UNSEEN | set(entries(page))
    assert {text: place for text, place in code.items() if text not in known} == {}


def test_the_page_has_no_other(page: str, code: dict[str, str]) -> None:
    assert [text for text in entries(page) if text not in code] == []


def test_each_is_there_once(page: str) -> None:
    assert [text for text, times in Counter(entries(page)).items() if times > 1] == []


def test_the_exceptions_are_needed(page: str, code: dict[str, str]) -> None:
    assert (PARTS | UNSEEN) - code.keys() == set()
    assert (PARTS | UNSEEN) & set(entries(page)) == set()


def test_each_has_its_cause(page: str) -> None:
    """But for debug lines; what is to be done stands with all errors."""
    for item in items(page):
        assert item.level == "debug" or item.body.lstrip().startswith("Cause: "), item.texts
        assert "error" not in item.level or "\n  Cure: " in item.body, item.texts


# (source of a module, its texts)
READ = [
    ("'A docstring of it.'", []),
    ("def f():\n    'A docstring.'\n    log.error(f'cannot {x}: {y.z}')", ["cannot <>: <>"]),
    ("raise PeerError('callerid=0')", ["callerid=0"]),
    ("raise ValueError('nobody sees it')", []),
    ("log.info('one')", []),
    ("raise PeerError(text)", []),
    ("x = 'it is ' + ('so' if y else f'as {z}')", ["it is so", "it is as <>"]),
    ("said += f', {n} left'", [", <> left"]),
    ("x = f'{a} is {b or \"not there\"}'", ["<> is <>", "not there"]),
    ("x = f'it is {\"as before\" if e else \"not so\"}'", ["it is as before", "it is not so"]),
    ("HINT = 'do this'\nx = f'{y}: {HINT}'", ["do this", "<>: do this"]),
    ("HINTS = {2: 'start it'}\nx = HINTS['not this']", ["start it"]),
    ("reader.u32('length of it')", []),
    ("x = name == 'the same again'", []),
    ("def f(x: 'dict[str, A]' = g('or it')) -> 'list[B, C]':\n    h('in it')", ["or it", "in it"]),
    ("REST = '''def f():\n    h('not at once')'''", ["not at once"]),
    ("x = y or b'of bytes'", ["of bytes"]),
    ("Situation('no jobs', '', 'CODE', 'info', 'when so', 'No jobs here')",
     ["no jobs", "No jobs here"]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), READ)
def test_what_is_read(source: str, expected: list[str]) -> None:
    assert sorted(read(source)) == sorted(expected)


def test_what_is_an_entry() -> None:
    page = (
        "Of `no item` (error).\n\n- `one <two>`,\n  `three\n  four` (error).\n  Cause: `x y`.\n"
        "- `z` (info).\n"
    )
    assert entries(page) == ["one <>", "three four", "z"]
    with pytest.raises(AssertionError, match="no level"):
        entries("- `one two`: a text.\n")
    with pytest.raises(AssertionError, match="not a text"):
        entries("- `one two` or so (error).\n  Cause: z.\n")
