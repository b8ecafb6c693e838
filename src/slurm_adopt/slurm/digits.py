"""Whole numbers in text that comes from outside.

str.isdecimal() and int() take the digits of all scripts. And int() refuses more than 4300 of them
since Python 3.11, which is a ValueError where nobody expects one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Text = Union[str, bytes]

MOST = 20  # digits: as many as a number of 64 bits has
IDS = 1 << 32  # of jobs, steps and users
_LEAST = (0, 0, *(10**digits for digits in range(1, 10)))  # by how many digits a number has


def number(text: Text) -> int | None:
    """Return what ASCII digits say; None for anything else, and for more than MOST of them."""
    return int(text) if len(text) <= MOST and text.isascii() and text.isdigit() else None


def id_of(text: Text) -> int | None:
    """Return an id of 32 bits as Slurm and the kernel write it, without a leading zero; or None."""
    digits = len(text)
    if digits >= len(_LEAST) or not (text.isascii() and text.isdigit()):
        return None
    found = int(text)
    return found if _LEAST[digits] <= found < IDS else None
