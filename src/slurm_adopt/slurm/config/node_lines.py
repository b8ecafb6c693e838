"""The NodeName lines of a large slurm.conf, unread until somebody asks about a node.

A cluster has thousands of them, and a login wants one. So the text is searched by bytes.find() and
the like, and only lines are parsed that may be about the node that is asked for: those
that have its name, and those with a host list `PREFIX[...]` whose prefix its name begins with.
Which of them is, says the parser of all lines.

A login does not even keep the other lines (conf.load): the file is searched as it is read.

A block has lines of one spelling (`NodeName=`), comments and empty lines. It is ASCII without
backslashes: no line goes on in the next one, and lower() of the bytes is lower() of the text.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Union

    Piece = Union[bytes, "Block"]

_RUN = 16  # lines that are worth a block
_USUAL = b"NodeName="
_BLANKS = b" \t\r\v\f"
_WORDS = bytes.maketrans(b'=,"' + _BLANKS, b" " * (3 + len(_BLANKS)))  # what a host list follows


def pieces(data: bytes) -> Iterator[Piece]:
    """Yield what a file is made of, in order: blocks of node lines, and text that has all else."""
    start = _spelling(data)
    if not start:
        yield data
        return
    first = 0 if data.startswith(start) else data.find(b"\n" + start) + 1
    last = data.rfind(b"\n" + start)
    end = data.find(b"\n", max(last, first) + 1)
    block = data[first : end if end >= 0 else len(data)]
    nodes = block.count(b"\n" + start)
    if nodes != len(block) - len(block.replace(b"\n", b"")) or not _is_plain(block):
        yield from _runs(data.split(b"\n"), start)
    elif b"\\" in data[data.rfind(b"\n", 0, max(first - 1, 0)) + 1 : first]:
        yield data
    else:
        yield data[:first]
        yield Block(block)
        yield data[first + len(block) :]


def _spelling(data: bytes) -> bytes:
    """Return what the first NodeName line begins with; nothing where none begins so."""
    if data.startswith(_USUAL) or b"\n" + _USUAL in data:
        return _USUAL
    at = data.lower().find(b"nodename")
    if at < 0:
        return b""
    line = data.rfind(b"\n", 0, at) + 1
    start = data[line : data.find(b"=", at) + 1]
    return start if start.lower().translate(None, _BLANKS) == b"nodename=" else b""


def _is_plain(block: bytes) -> bool:
    return block.isascii() and b"\\" not in block


def _runs(lines: list[bytes], start: bytes) -> Iterator[Piece]:
    """Yield the same where other lines stand among the node lines."""
    passed = (start, b"#")
    others = [at for at, line in enumerate(lines) if line and not line.startswith(passed)]
    text: list[bytes] = []
    begin = 0
    for other in (*others, len(lines)):
        run = lines[begin:other]
        block = b"\n".join(run) if len(run) >= _RUN else b"\\"
        if _is_plain(block) and not (text and b"\\" in text[-1]):
            yield b"\n".join(text)
            yield Block(block)
            text = []
        else:
            text += run
        text += lines[other : other + 1]
        begin = other + 1
    yield b"\n".join(text)


class Block:
    """Node lines that nobody has parsed yet."""

    __slots__ = ("_text",)

    def __init__(self, text: bytes) -> None:
        """Take whole lines."""
        self._text = text

    def text(self) -> str:
        """Return all lines."""
        return self._text.decode("ascii")

    def lines(self) -> Iterator[str]:
        """Yield all lines in order."""
        begin = 0
        while begin <= len(self._text):
            yield self._line(begin)
            begin = self._end(begin) + 1

    def has(self, word: str) -> bool:
        """Say whether an ASCII word in lower case stands anywhere, in any case."""
        return word.encode("ascii") in self._text.lower()

    def about(self, names: Collection[str], fold: bool) -> list[str]:
        """Return, in order, the lines that may have one of these names, and perhaps others.

        `fold`: in any case.
        """
        text = self._text.lower() if fold else self._text
        wanted = [
            (name.lower() if fold else name).encode("utf-8", "surrogateescape") for name in names
        ]
        if b"" in wanted:
            return list(self.lines())
        found = {begin for name in wanted for begin in _with_name(text, name)}
        found.update(_with_list(text, wanted))
        return [self._line(begin) for begin in sorted(found)]

    def _end(self, begin: int) -> int:
        end = self._text.find(b"\n", begin)
        return end if end >= 0 else len(self._text)

    def _line(self, begin: int) -> str:
        return self._text[begin : self._end(begin)].decode("ascii")


def _with_name(text: bytes, name: bytes) -> Iterator[int]:
    """Yield where the lines begin that have a name, not as a part of a longer one."""
    at = text.find(name)
    while at >= 0:
        after = at + len(name)
        if not (text[after : after + 1].isalnum() or text[max(at - 1, 0) : at].isalnum()):
            yield text.rfind(b"\n", 0, at) + 1
        at = text.find(name, at + 1)


def _with_list(text: bytes, names: list[bytes]) -> Iterator[int]:
    """Yield where the lines begin that have a host list in which one of the names may be."""
    at = text.find(b"[")
    while at >= 0:
        begin = text.rfind(b"\n", 0, at) + 1
        prefix = text[begin:at].translate(_WORDS).rpartition(b" ")[2]
        if any(name.startswith(prefix) for name in names):
            yield begin
        at = text.find(b"[", at + 1)
