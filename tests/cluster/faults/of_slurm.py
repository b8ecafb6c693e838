"""Faults of Slurm's files."""

from __future__ import annotations

from tests.cluster.faults.fault import ADOPT, GENERIC, Fault, shell

CONF = "/etc/slurm/slurm.conf"
EVERYBODY = {"one": GENERIC, "two": GENERIC, "none": GENERIC}
CHOSEN = {"one": ADOPT, "two": ADOPT}  # by the account phase; the session phase cannot adopt

FAULTS = (
    Fault("nothing", shell("true", "true")),
    Fault(
        "slurm.conf missing",
        shell(f"mv {CONF} /etc/slurm/away", f"mv /etc/slurm/away {CONF}"),
        EVERYBODY,
        "no slurm.conf in any of",
        CHOSEN,
    ),
)
