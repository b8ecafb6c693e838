"""All faults, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.faults import of_node, of_python, of_slurm

if TYPE_CHECKING:
    from tests.cluster.faults.fault import Fault

FAMILIES = (of_slurm.FAULTS, of_node.FAULTS, of_python.FAULTS)

FAULTS: dict[str, Fault] = {fault.name: fault for family in FAMILIES for fault in family}
