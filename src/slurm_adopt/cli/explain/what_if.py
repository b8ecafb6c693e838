"""What other values of the options would have come to: by the engine, over the same facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.decision.options import ASIDE, OPTIONS, Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.verdict.verdict import Verdict


class Other(NamedTuple):
    """One option with another value, and what that would come to."""

    option: str  # name=value
    verdict: Verdict


def others(found: Verdict) -> Iterator[Other]:
    """Yield each other value of each option that would change what becomes of the user."""
    for name, value in _values(found):
        values: dict[str, str] = {one.name: found.options[one.name] for one in OPTIONS}
        tried = found.but(Options({**values, name: value}))
        if not tried.is_like(found):
            yield Other(f"{name}={value}", tried)


def _values(found: Verdict) -> Iterator[tuple[str, str]]:
    for option in OPTIONS:
        name, values = option.name, option.values
        if name not in ASIDE and isinstance(values, tuple):
            yield from ((name, value) for value in values if value != found.options[name])
    if found.outcome.situation == "other service":
        yield "service", found.login.service


def refused_by_stepd(found: Verdict) -> Verdict | None:
    """Return what it comes to where the chosen job's stepd refuses; None where no job is chosen.

    Whether it refuses cannot be known without having it take a process.
    """
    return None if found.job_id is None else found.but(refusing=[found.job_id])
