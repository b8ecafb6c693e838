"""Our Markdown pages: their kind, wrapped lines, short sentences; what they name is there."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from slurm_adopt.decision.options import OPTIONS, parse
from tests.cluster.tools.bench.__main__ import main as bench
from tests.cluster.tools.instructions import main as count
from tests.dev.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOP = Path(__file__).parents[2]
PAGES = [
    page
    for place in (TOP.glob("*.md"), TOP.glob("docs/**/*.md"), TOP.glob("tests/**/*.md"))
    for page in sorted(place)
]
KINDS = {
    "tutorial.md": "tutorial",
    "how-to": "how-to",
    "reference": "reference",
    "explanation": "explanation",
    "performance.md": "explanation",
}
WIDTH, ROW, WORDS = 100, 160, 30

# Blocks of a page


def kind(line: str) -> str:
    """Say what a line outside of fences is: text is what else is left."""
    if not line.strip():
        return "blank"
    if line.startswith("|"):
        return "row"
    if line.startswith("#"):
        return "heading"
    return "code" if line.startswith("    ") and not LIST.match(line) else "text"


LIST = re.compile(r"^ *(?:[-*] |\d+\. )")


def lines_of(text: str) -> Iterator[tuple[int, str, str]]:
    """Return the lines with number and kind; what a program writes between marks is `made`."""
    fenced = made = in_text = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
            yield number, line, "code"
            continue
        made = (made or line.startswith("<!-- begin")) and not line.startswith("<!-- end")
        found = "code" if fenced else kind(line)
        if found == "code" and in_text and not fenced:  # an item of a list goes on
            found = "text"
        in_text = found == "text"
        yield number, line, "made" if made and found == "text" else found


def prose(text: str) -> str:
    """Return the paragraphs and items of lists, one a line, each without links and code."""
    blocks: list[str] = []
    for found, group in groupby(lines_of(text), lambda one: one[2]):
        if found == "text":
            blocks.append("")
            for _, line, _ in group:
                if LIST.match(line):
                    blocks.append("")
                blocks[-1] += f" {LIST.sub('', line, count=1).strip()}"
    joined = "\n".join(blocks)
    joined = re.sub(r"`[^`\n]*`", "X", joined)
    return re.sub(r"!?\[([^\]\n]*)\]\([^)\n]*\)", r"\1", joined)


def code_of(text: str) -> list[str]:
    """Return the lines of code, and what is code within the text and the tables."""
    blocks: list[str] = []
    rest: list[str] = []
    for _, line, found in lines_of(text):
        (blocks if found == "code" else rest).append(line)
    spans = re.findall(r"`([^`]+)`", re.sub(r"\n(?! *[-|#])", " ", "\n".join(rest)))
    return blocks + [" ".join(span.split()) for span in spans]


# What may be wrong with a page


def too_wide(text: str) -> list[str]:
    """Return the lines that are too long, but for code and what has no place to be broken."""
    limits = {"row": ROW, "code": 10_000}
    return [
        f"line {number}: {len(line)} characters"
        for number, line, found in lines_of(text)
        if len(line) > limits.get(found, WIDTH) and " " in line[:WIDTH].strip()
    ]


END = re.compile(r"(?<=[.!?])[*_)\"]* +(?=[A-Z*_(\"\[0-9])")


def too_long(text: str) -> list[str]:
    """Return the sentences of more than 30 words."""
    sentences = (one for line in prose(text).splitlines() for one in END.split(line))
    return [
        f"{len(one.split())} words: {one.strip()}" for one in sentences if len(one.split()) > WORDS
    ]


OURS_ALONE = re.compile(r"\b(anew|[Rr]ooms?|[Ll]aws?|[Hh]ouse)\b")


def private(text: str) -> list[str]:
    """Return words that the field does not have for these things."""
    return OURS_ALONE.findall(prose(text))


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    found: set[str] = set()
    for _, line, what in lines_of(page.read_text()):
        if what == "heading":
            words = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower().replace("`", ""))
            found.add(words.replace(" ", "-"))
    return found


LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def dead_links(text: str, page: Path) -> list[str]:
    """Return the links that lead nowhere in the repository."""
    kept = "\n".join(line for _, line, found in lines_of(text) if found != "code")
    dead = []
    for link in LINK.findall(kept):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


def unknown_commands(text: str) -> list[str]:
    """Return the commands of ./dev that it does not have, and options that they do not have."""
    found = []
    for code in code_of(text):
        for name, rest in re.findall(r"\./dev ([a-z]+)([^|;]*)", code):
            there = set(DEV_ALONE.get(name, ())) | {
                option
                for parameter in getattr(main.commands.get(name), "params", ())
                if isinstance(parameter, click.Option)
                for option in parameter.opts
            }
            options = re.findall(r"(?<= )--?[a-z][a-z-]*", rest)
            own = name in ("shell", "test")  # the rest is another program's
            if name not in main.commands and name not in DEV_ALONE:
                found.append(name)
            found += [] if own else [f"{name} {one}" for one in options if one not in there]
    return found


# Done by the script itself; and what reads its options itself.
DEV_ALONE: dict[str, tuple[str, ...]] = {
    "clean": (),
    "bench": (
        *("--instructions", "--commands"),
        *(option for parameter in [*bench.params, *count.params] for option in parameter.opts),
    ),
}

NAMES = {option.name: option for option in OPTIONS}
# What else is written name=value in small letters: of other modules and programs, of Debian's
OTHERS = {
    *("ccache", "class", "default", "file", "front", "ignore", "item", "mode", "module_unknown"),
    *("new_authtok_reqd", "nr_inodes", "onerr", "sense", "size", "slurm", "socket", "success"),
    *("ttl", "user_readenv", "driver", "rootless_storage_path", "name"),
    *("comm", "dev", "ino", "permissive", "pid", "scontext", "tclass", "tcontext"),
}
MISSPELT = {"action_no_jobs=ignorex", "action_unknown=allowed", "action_unknown=newst"}


def unknown_options(text: str) -> list[str]:
    """Return what looks like an option of ours, with its value, and is none."""
    found = []
    for code in code_of(text):
        for name, value in re.findall(r"(?<![-\w.:/])([a-z][a-z_0-9]*)=([\w.*]*)", code):
            option = NAMES.get(name)
            if option is None and name not in OTHERS:
                found.append(f"{name}=")
            if option and value and isinstance(option.values, tuple):
                known = {*option.values, *option.older}
                if value not in known and f"{name}={value}" not in MISSPELT:
                    found.append(f"{name}={value}")
    return found


@cache
def files() -> list[str]:
    """Return the paths of the repository's own files."""
    places = ("src", "pam", "tests", "docs")
    return [str(path.relative_to(TOP)) for place in places for path in (TOP / place).rglob("*")]


FILE = re.compile(r"(?<![\w/*.<-])((?:(?:src|pam|tests|docs)/[\w./-]+)|(?:[a-z]\w+/)*[a-z]\w+\.py)")
ELSEWHERE = {"tests/vectors/callerid-R.json"}  # R is any release


def unknown_files(text: str) -> list[str]:
    """Return paths, file names and modules of ours that are not there."""
    found = []
    for code in code_of(text):
        for path in FILE.findall(code):
            named = path.rstrip("./")
            ends = any(f"/{file}".endswith(f"/{named}") for file in files())
            if not ends and named not in ELSEWHERE:
                found.append(named)
        modules = re.findall(r"-s?B?E?m (slurm_adopt[\w.]*)", code)
        found += [module for module in modules if not importlib.util.find_spec(module)]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
@pytest.mark.parametrize(
    "wrong", [too_wide, too_long, private, unknown_commands, unknown_options, unknown_files]
)
def test_page(page: Path, wrong: Callable[[str], list[str]]) -> None:
    assert wrong(page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links(page: Path) -> None:
    assert dead_links(page.read_text(), page) == []


@pytest.mark.parametrize("page", sorted((TOP / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_a_page_says_its_kind(page: Path) -> None:
    """Below its title, in its first line: tutorial, how-to, reference or explanation."""
    title, blank, first, *_ = page.read_text().splitlines()
    assert title.startswith("# ")
    assert not blank
    assert KINDS[page.relative_to(TOP / "docs").parts[0]] in first[:30].lower()


@pytest.mark.parametrize("page", sorted((TOP / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_a_page_is_in_the_readme(page: Path) -> None:
    """The index has all pages."""
    assert f"({page.relative_to(TOP)})" in (TOP / "README.md").read_text()


def options_alone(page: Path) -> list[list[str]]:
    """Return a page's lines of code that are options of ours and nothing else."""
    code = [line.split() for line in code_of(page.read_text()) if line]
    return [words for words in code if words and all(is_ours(word) for word in words)]


def is_ours(word: str) -> bool:
    """Say whether a word is an option of ours with its value."""
    name, equals, value = word.partition("=")
    return bool(name in NAMES and equals and value and word not in MISSPELT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_options_are_taken_as_they_stand(page: Path) -> None:
    """Without a complaint of the parser."""
    for words in options_alone(page):
        values = [word for word in words if word.partition("=")[2] not in PLACEHOLDERS]
        assert parse(values)[1] == [], words


PLACEHOLDERS = {"NAME"}


def test_pages_show_options_alone() -> None:
    assert sum(len(options_alone(page)) for page in PAGES) > 20


LONG = " ".join(["word"] * 31)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (too_wide, f"{'word ' * 21}\n"),
        (too_wide, f"| {'word ' * 33} |\n"),
        (too_wide, f"- item\n    {'word ' * 21}\n"),
        (too_long, f"{LONG}.\n"),
        (too_long, f"Short one. {LONG[:90]}\n{LONG[90:]}. Short.\n"),
        (too_long, f"- {LONG}\n"),
        (too_long, f"Name `a b` and [two words](x.md) {LONG[:-15]}.\n"),
        (private, "All is done anew.\n"),
        (unknown_commands, "Run `./dev nothing`.\n"),
        (unknown_commands, "    ./dev demo --nothing\n"),
        (unknown_options, "Set `action_nothing=deny`.\n"),
        (unknown_options, "Set `action_unknown=oldest`.\n"),
        (unknown_options, "    account required x.py action_unknown=oldest\n"),
        (unknown_files, "See `tests/unit/test_nothing.py`.\n"),
        (unknown_files, "| `slurm/nothing.py` |\n"),
        (unknown_files, "    cd /opt && python3 -sBEm slurm_adopt.nothing\n"),
    ],
)
def test_what_is_wrong_is_seen(wrong: Callable[[str], list[str]], text: str) -> None:
    assert len(wrong(text)) == 1


@pytest.mark.parametrize("link", ["nothing.md", "README.md#nothing", "#nothing", "docs/no.svg"])
def test_a_dead_link_is_seen(link: str) -> None:
    assert dead_links(f"See [this\npage]({link}).\n", TOP / "README.md") == [link]
