"""Make the login image: the code that logins run, in one file beside the byte code.

Run as root by the Python whose image it is, `python3 -I login_image.py`, whenever the sources have
changed. system/importing.py says when a login uses it. Docstrings, annotations and what is under
TYPE_CHECKING are left out, and so are the columns of code that tracebacks have since Python 3.11.
"""

from __future__ import annotations

import ast
import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER
from _imp import source_hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from typing import Any

    File = tuple[str, int, int | None, int, bytes]  # path, type, size, time, hash

# What every login runs, in this order, each behind what it imports when it is run.
ALWAYS = (
    "slurm_adopt.front.pam_python",
    "slurm_adopt.node.deferral",
    "slurm_adopt.node.login_slot",
    "slurm_adopt.node.pam_stack",
)
FIRST = "slurm_adopt.system.importing"
HASH_KEY = 20  # any number; importing.py has the same
ASIDE = ("cli", "__pycache__")  # directories that no login imports
PROGRAMS = ("__main__.py", "epilog.py", "login_image.py", "runtime_dir.py")  # nor these
MODE = 0o644
MODULES = "_modules"  # sys.modules, as importing.py names it in a module of the image
COLUMNS_OFF = "no_debug_ranges"


class Strip(ast.NodeTransformer):
    """Takes out of a module what is not needed to run it."""

    def __init__(self, package: str) -> None:
        """`package`: the one that the module is in, or is."""
        self._package = package

    def _body(self, node: Any) -> Any:
        self.generic_visit(node)
        body = node.body
        first = body[0].value if body and isinstance(body[0], ast.Expr) else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            node.body = body[1:] or [ast.copy_location(ast.Pass(), body[0])]
        return node

    def visit_Module(self, node: ast.Module) -> Any:
        """Take out the docstring."""
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        """Take out the docstring."""
        return self._body(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """Take out the annotations as well."""
        node.returns = None
        every = node.args
        for each in (*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg):
            if each:
                each.annotation = None
        return self._body(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        """Take out the annotation."""
        self.generic_visit(node)
        bare = ast.Assign([node.target], node.value) if node.value else ast.Pass()
        return ast.copy_location(bare, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        """Take out what is about annotations; name modules as a whole, which is found sooner."""
        if node.module == "__future__":
            return None
        node.module, node.level = self._whole(node), 0
        return node

    def _whole(self, node: ast.ImportFrom) -> str:
        above = self._package.rsplit(".", node.level - 1)[0] if node.level > 1 else self._package
        names = [above] if node.level else []
        return ".".join([*names, node.module] if node.module else names)

    def visit_If(self, node: ast.If) -> Any:
        """Take out what is for type checkers."""
        self.generic_visit(node)
        of_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return node.orelse if of_types else node


def _taken(node: ast.ImportFrom) -> list[ast.stmt]:
    """Return what takes names from a module that has run, which costs less than an import."""
    found: list[ast.stmt] = []
    for each in node.names:
        modules = ast.Name(MODULES, ast.Load())
        module = ast.Subscript(modules, ast.Constant(node.module), ast.Load())
        value = ast.Attribute(module, each.name, ast.Load())
        target = ast.Name(each.asname or each.name, ast.Store())
        found.append(ast.copy_location(ast.Assign([target], value), node))
    return found


class Package:
    """The package as a login may import it."""

    def __init__(self, top: str) -> None:
        """`top`: the directory that has it."""
        self.top = top
        self.directories: list[str] = []
        self.sources: dict[str, str] = {}  # name -> path
        self.texts: dict[str, bytes] = {}
        self.entries: dict[str, os.stat_result] = {}
        self.trees: dict[str, ast.Module] = {}
        whole = f"{top}/slurm_adopt"
        for folder, folders, files in os.walk(whole):
            folders[:] = sorted(set(folders) - {*ASIDE})
            self.directories.append(folder)
            for name in sorted(files):
                if name.endswith(".py") and not (folder == whole and name in PROGRAMS):
                    self._add(f"{folder}/{name}")

    def _add(self, path: str) -> None:
        name = path[len(self.top) + 1 : -3].replace("/", ".").removesuffix(".__init__")
        self.entries[path] = os.lstat(path)
        with open(path, "rb") as file:
            self.texts[path] = file.read()
        package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
        tree = Strip(package).visit(ast.parse(self.texts[path], path))
        self.sources[name], self.trees[name] = path, ast.fix_missing_locations(tree)

    def code(self, name: str, before: Container[str]) -> Any:
        """Return the code of a module; `before`: those whose names it takes without imports."""
        body: list[ast.stmt] = []
        for node in self.trees[name].body:
            here = isinstance(node, ast.ImportFrom) and node.module in before
            body += _taken(node) if isinstance(node, ast.ImportFrom) and here else [node]
        tree = ast.fix_missing_locations(ast.Module(body, []))
        return compile(tree, self.sources[name], "exec", dont_inherit=True)

    def order(self, name: str, found: dict[str, None]) -> None:
        """Add a module behind all that it imports when it is run."""
        if name in found or name not in self.sources:
            return
        self.order(name.rpartition(".")[0], found)
        if self.sources[name].endswith("/__init__.py"):
            found[name] = None  # before its modules, which are imported below it
        for each in self._imports(name):
            self.order(each, found)
        found[name] = None

    def _imports(self, name: str) -> Iterator[str]:
        for node in self.trees[name].body:
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{each.name}" for each in node.names)

    def file(self, name: str) -> File:
        """Return what tells whether a module's source is as it was."""
        path = self.sources[name]
        text, time = self.texts[path], self.entries[path].st_mtime_ns
        return path, 0o100000, len(text), time, source_hash(HASH_KEY, text)

    def image(self) -> bytes:
        """Return the image."""
        order: dict[str, None] = {}
        for name in ALWAYS:
            self.order(name, order)
        always = tuple((name, self.sources[name], self.code(name, order)) for name in order)
        files: list[File] = [(path, 0o040000, None, 0, b"") for path in self.directories]
        files += map(self.file, (FIRST, *order))
        parts, others = b"", {}
        for name in sorted(self.sources.keys() - {FIRST, *order}):
            before = dict(order)
            self.order(name, before)
            needs = tuple(each for each in before if each not in order and each != name)
            part = marshal.dumps(self.code(name, before))
            parts = part + parts
            where = len(parts), len(part), source_hash(HASH_KEY, part)
            others[name] = marshal.dumps((self.file(name), *where, needs))
        image = (self.top, tuple(files), always, others)
        first = marshal.dumps((self.code(FIRST, ()), image))
        return MAGIC_NUMBER + len(first).to_bytes(4, "little") + first + parts


def place(top: str) -> str:
    """Return the path of the image of the Python that runs."""
    return f"{top}/slurm_adopt/__pycache__/login.{sys.implementation.cache_tag}.image"


def make(top: str) -> None:
    """Put the image into its place, whole."""
    path = place(top)
    data = Package(top).image()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = f"{path}.{os.getpid()}"
    try:
        with open(new, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(new, MODE)
        os.replace(new, path)
    except BaseException:
        if os.path.exists(new):
            os.unlink(new)
        raise


def main() -> int:
    """Make it beside this file; one line and status 1 where that cannot be done."""
    if COLUMNS_OFF not in sys._xoptions:  # noqa: SLF001
        again = [sys.executable, "-I", "-X", COLUMNS_OFF, __file__]
        os.execv(sys.executable, again)  # noqa: S606
    top = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    try:
        make(top)
    except (OSError, SyntaxError, ValueError) as error:
        sys.stderr.write(f"login_image.py: there is no image: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
