"""Lines of slurm.conf beyond plain `Key=Value`: with quotes, with escapes, with blanks around `=`.

Most files have none, so that no login compiles these regular expressions. Source:
src/common/parse_config.c.
"""

from __future__ import annotations

import re

PAIR = re.compile(r'(?<![^\s=])([^\s=]+)\s*=\s*(?:"([^"]*)"|(\S*))', re.ASCII)
_COMMENT = re.compile(r"(?<!\\)(?:\\\\)*#")
_ESCAPE = re.compile(r"\\(.?)")


def pairs(line: str) -> list[tuple[str, str]]:
    """Return the keys of a line, as they are written, and their values."""
    return [(key, quoted or bare) for key, quoted, bare in PAIR.findall(line)]


def uncomment(line: str) -> str:
    """Cut at the first # that does not follow an odd number of backslashes."""
    found = _COMMENT.search(line)
    return line[: found.end() - 1] if found else line


def unescape(line: str) -> str:
    """Put in the place of each backslash and its character that character."""
    return _ESCAPE.sub(r"\1", line)
