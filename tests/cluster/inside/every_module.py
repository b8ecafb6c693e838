"""Runs under a suite's own python3: imports all there is, parses a few inputs, brings itself in.

`python3 -IB every_module.py USER` prints, line by line: the version, the names of the modules, the
PAM code of USER's account phase, and then this process's /proc/PID/cgroup.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
SCRIPT = CHECKOUT / "pam/pam_slurm_adopt.py"
sys.path[:0] = [str(CHECKOUT / "src"), str(SCRIPT.parent)]


class Handle:
    """What pam_python hands over."""

    PAM_SUCCESS, PAM_PERM_DENIED, PAM_IGNORE = 0, 6, 25
    PAM_SILENT = 0x8000
    service, rhost = "sshd", "10.0.0.1"

    def __init__(self, user: str) -> None:
        """Be that of a login of this user."""
        self.user = user
        self.env: dict[str, str] = {}


def everything() -> list[str]:
    """Import every module of the package; return their names."""
    package = importlib.import_module("slurm_adopt")
    found = [module.name for module in pkgutil.walk_packages(package.__path__, "slurm_adopt.")]
    for name in found:
        importlib.import_module(name)
    return found


def parses() -> None:
    """Parse some inputs of the kinds that a login meets."""
    from slurm_adopt.decision import options
    from slurm_adopt.slurm import wire
    from slurm_adopt.slurm.config import conf, hostlist
    from slurm_adopt.slurm.slurmd import body_hash

    found, complaints = options.parse(["wait_for_job=2.5", "action_unknown=deny", "nonsense=1"])
    assert (found.seconds("wait_for_job"), found["action_unknown"]) == (2.5, "deny")
    assert len(complaints) == 1
    assert hostlist.expand("n[1-2,08],x") == ["n1", "n2", "n08", "x"]
    slurm_conf = conf.load("/etc/slurm/slurm.conf")
    assert conf.has_node(slurm_conf, "n1")
    assert conf.slurmd_port(slurm_conf) == 6818
    reader = wire.Reader((7).to_bytes(4, "big"), "test", "big")
    assert reader.u32("number") == 7
    assert body_hash.digest(b"").hex().startswith("1ac2d450fc3b4205")  # RFC 9861


def main() -> None:
    """Do all of it."""
    print(".".join(map(str, sys.version_info[:2])))
    print(*everything())
    parses()
    script = importlib.import_module("pam_slurm_adopt")
    print(script.pam_sm_acct_mgmt(Handle(sys.argv[1]), 0, [str(SCRIPT)]))
    print(Path("/proc/self/cgroup").read_text())


if __name__ == "__main__":
    main()
