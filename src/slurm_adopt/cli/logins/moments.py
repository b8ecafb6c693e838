"""Points in time as users write them: `2h`, `today`, `2026-11-28 07:30`."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from slurm_adopt.cli.errors import USAGE, CliError

UNITS = {
    "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400,
    "w": 604800, "week": 604800,
}  # fmt: skip
FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S")
TODAY = ("%H:%M:%S", "%H:%M")
KNOWN = "2h, 30min, 7d, today, yesterday, now, 07:30, 2026-11-28, '2026-11-28 07:30' or @SECONDS"

_AGO = re.compile(r"-?(\d{1,6}) ?([a-z]+?)s?(?: ago)?", re.ASCII)


def moment(text: str, option: str, now: float | None = None) -> float:
    """Return a point in time in seconds since 1970; CliError if it is not known what is meant."""
    now = time.time() if now is None else now
    word = text.strip().lower()
    ago = _AGO.fullmatch(word)
    if ago and ago[2] in UNITS:
        return now - int(ago[1]) * UNITS[ago[2]]
    if re.fullmatch(r"@[0-9]{1,11}(\.[0-9]{1,6})?", word):
        return float(word[1:])
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006 - local time, as in logs
    days = {"now": None, "today": 0, "yesterday": 1}
    if word in days:
        back = days[word]
        return now if back is None else (midnight - timedelta(days=back)).timestamp()
    found = _parsed(text.strip(), midnight)
    if found is None:
        raise CliError(f"{option} {text[:64]!r} is no time: write {KNOWN}", USAGE)
    return found


def _parsed(text: str, midnight: datetime) -> float | None:
    for form in (*FORMS, *TODAY):
        try:
            found = datetime.strptime(text, form)  # noqa: DTZ007
        except ValueError:
            continue
        if form in TODAY:
            found = midnight.replace(hour=found.hour, minute=found.minute, second=found.second)
        try:
            return found.timestamp()
        except (OverflowError, OSError, ValueError):
            return None
    return None


def shown(seconds: float) -> str:
    """Return a point in time as people read it, in local time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return f"@{seconds:.0f}"
