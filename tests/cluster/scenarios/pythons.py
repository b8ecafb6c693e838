"""The Python of each suite, also of those in which there is no pam_python to load it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.landing import job_of

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster

OF_SUITE = {"bullseye": "3.9", "bookworm": "3.11", "trixie": "3.13", "sid": "3.14"}
PROGRAM = ("python3", "-IB", "/checkout/tests/cluster/inside/every_module.py")


def own_python(cluster: Cluster) -> None:
    """All modules are imported by the suite's python3, and a process of it goes into a job."""
    job = cluster.submit("alice")
    said = cluster.n1.run([*PROGRAM, "alice"]).stdout
    version, modules, code, cgroup = said.split("\n", 3)
    assert version == OF_SUITE[cluster.roots["n1"].slurm.name]
    package = CHECKOUT / "src/slurm_adopt"
    files = {str(path.relative_to(package.parent)) for path in package.rglob("*.py")}
    names = {file.removesuffix(".py").removesuffix("/__init__") for file in files}
    assert {"slurm_adopt", *modules.split()} == {name.replace("/", ".") for name in names}
    assert code == "0"
    assert job_of(cluster.n1, cgroup) == job
