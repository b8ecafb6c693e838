"""Slurm's hostlists: `n[1-4,7],m[01-03]` (src/common/hostlist.c)."""

from __future__ import annotations

from slurm_adopt.slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 65536  # names in one expanded list (MAX_RANGE)
LONGEST = 255  # characters of a name; the DNS has 253
_DIGITS = 40  # in a range
_BRACKETS = 8  # in one name; Slurm itself has at most 5 (HIGHEST_DIMENSIONS)


def contains(hostlist: str, name: str, fold: bool = False) -> bool:
    """Return whether the list has the name, without expanding it; `fold`: in any case."""
    if fold:
        hostlist, name = hostlist.lower(), name.lower()
    if "[" not in hostlist:
        return name in hostlist.split(",")
    return any(_matches(part, name) for part in _parts(hostlist))


def expand(hostlist: str) -> list[str]:
    """Return all names in order; SetupError if there are too many or the list is malformed."""
    names: list[str] = []
    for part in _parts(hostlist):
        for name in _names(part):
            names.append(name)
            if len(name) > LONGEST:
                raise SetupError(f"host list {hostlist[:80]}: a name is too long")
            if len(names) > LIMIT:
                raise SetupError(f"host list {hostlist[:80]} has more than {LIMIT} names")
    return names


def count(hostlist: str) -> int:
    """Return how many names the list has, without expanding it; SetupError if it is malformed."""
    return sum(map(_count, _parts(hostlist)))


def _parts(hostlist: str) -> Iterator[str]:
    """Split at commas outside brackets."""
    depth = start = 0
    for at, char in enumerate(hostlist):
        depth += (char == "[") - (char == "]")
        if not 0 <= depth <= 1:
            break
        if char == "," and depth == 0:
            yield _bounded(hostlist[start:at])
            start = at + 1
    if depth:
        raise SetupError(f"host list {hostlist[:80]}: brackets do not match")
    yield _bounded(hostlist[start:])


def _bounded(part: str) -> str:
    """Refuse too many brackets: each is a call inside another, and more ways to split a name."""
    if part.count("[") > _BRACKETS:
        raise SetupError(f"host list {part[:80]}: more than {_BRACKETS} brackets in a name")
    return part


def _split(part: str) -> tuple[str, list[tuple[str, str]], str]:
    """Split `a[1-4,7]rest` into `a`, its ranges as texts, and `rest`."""
    prefix, _, rest = part.partition("[")
    inside, _, rest = rest.partition("]")
    ranges = []
    for piece in inside.split(","):
        low, _, high = piece.partition("-")
        high = high or low
        digits = low + high
        numbers = low and high and digits.isdecimal() and digits.isascii()
        if not numbers or len(digits) > _DIGITS or int(high) < int(low):
            raise SetupError(f"host list {part[:80]}: {piece[:20]!r} is not a range of numbers")
        ranges.append((low, high))
    return prefix, ranges, rest


def _names(part: str) -> Iterator[str]:
    if "[" not in part:
        yield part
        return
    prefix, ranges, rest = _split(part)
    for low, high in ranges:
        for number in range(int(low), int(high) + 1):
            for tail in _names(rest):
                yield f"{prefix}{number:0{len(low)}}{tail}"


def _count(part: str) -> int:
    if "[" not in part:
        return 1
    _, ranges, rest = _split(part)
    return sum(int(high) - int(low) + 1 for low, high in ranges) * _count(rest)


def _matches(part: str, name: str) -> bool:
    if "[" not in part:
        return part == name
    prefix, ranges, rest = _split(part)
    if not name.startswith(prefix):
        return False
    tail = name[len(prefix) :]
    digits = len(tail) - len(tail.lstrip("0123456789"))
    return any(
        _in_ranges(tail[:size], ranges) and _matches(rest, tail[size:])
        for size in range(digits, 0, -1)
    )


def _in_ranges(digits: str, ranges: list[tuple[str, str]]) -> bool:
    if len(digits) > _DIGITS:
        return False
    number = int(digits)
    return any(
        int(low) <= number <= int(high) and f"{number:0{len(low)}}" == digits
        for low, high in ranges
    )
