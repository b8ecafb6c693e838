"""Names of hosts written as a host list: n1, n2, n3 as n[1-3]."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)


def folded(names: Iterable[str]) -> str:
    """Return a host list of some names, each once, those that differ in a number together."""
    plain: list[str] = []
    alike: dict[tuple[str, str], list[str]] = {}
    for name in dict.fromkeys(names):
        if found := _NUMBERED.fullmatch(name):
            before, digits, behind = found.groups()
            alike.setdefault((before, behind), []).append(digits)
        else:
            plain.append(name)
    for (before, behind), numbers in sorted(alike.items()):
        padded = any(digits[0] == "0" and digits != "0" for digits in numbers)
        for width in sorted({len(digits) if padded else 0 for digits in numbers}):
            some = [int(digits) for digits in numbers if not padded or len(digits) == width]
            text = ",".join(_range(*ends, width) for ends in _ranges(sorted(some)))
            plain.append(
                f"{before}{text}{behind}" if len(some) == 1 else f"{before}[{text}]{behind}"
            )
    return ",".join(plain)


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _range(low: int, high: int, width: int) -> str:
    return f"{low:0{width}}" if low == high else f"{low:0{width}}-{high:0{width}}"
