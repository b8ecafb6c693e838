"""slurm.conf: which one is read, and what it must say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_adopt.slurm.errors import SetupError

from .finding import Check, error, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .finding import Seen
    from .host import Host

SLURM = "slurm.conf"


def which(host: Host) -> Iterator[Seen]:
    """Which slurm.conf is read, and why that one."""
    try:
        path = host.site.conf.path
    except SetupError as wrong:
        yield error("no slurm.conf can be read", str(wrong))
        return
    why = next((text for text in host.remarks.of("debug") if text.startswith("configuration")), "")
    yield ok(f"slurm.conf is {path}", why, path)


CHECKS = (
    Check(
        "SA301",
        SLURM,
        "slurm.conf is found",
        which,
        expected="a slurm.conf in one of the usual places, or of the running slurmd",
        why="Without it the module cannot tell node name and spool directory. Each login then is "
        "answered by action_generic_failure.",
        fix="Set the option slurm_conf= to the file that slurmd reads.",
    ),
)
