"""What is up: one file per cluster, so that another process can enter it or take it down."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.cluster.harness import cgroups
from tests.cluster.harness.host import Host, Process

STATE_DIR = Path("/run/slurm_adopt")


@dataclass
class State:
    """The processes and cgroups of one cluster; written as each comes into being."""

    name: str
    driver: Process = field(default_factory=lambda: Process.of(os.getpid()))
    keep: bool = False
    switch: Process | None = None
    hosts: dict[str, Host] = field(default_factory=dict)
    cgroup_dirs: list[Path] = field(default_factory=list)  # those that hold the hosts'

    @property
    def directory(self) -> Path:
        """Where it is written."""
        return STATE_DIR / self.name

    @property
    def stale(self) -> bool:
        """Say whether nobody wants it any more: its driver is gone and did not say `keep`."""
        return not self.keep and not self.driver.alive()

    def save(self) -> None:
        """Write it."""
        data = {
            "driver": asdict(self.driver),
            "keep": self.keep,
            "switch": self.switch and asdict(self.switch),
            "cgroup_dirs": [str(d) for d in self.cgroup_dirs],
            "hosts": {
                h.name: {"init": asdict(h.init), "cgroup_dirs": [str(d) for d in h.cgroup_dirs]}
                for h in self.hosts.values()
            },
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        new = self.directory / "state.new"
        new.write_text(json.dumps(data, indent=1))
        new.rename(self.directory / "state.json")

    @classmethod
    def load(cls, name: str) -> State:
        """Read a cluster's state; FileNotFoundError if there is none of that name."""
        data = json.loads((STATE_DIR / name / "state.json").read_text())
        hosts = {
            host: Host(host, Process(**h["init"]), [Path(d) for d in h["cgroup_dirs"]])
            for host, h in data["hosts"].items()
        }
        switch = Process(**data["switch"]) if data["switch"] else None
        dirs = [Path(d) for d in data["cgroup_dirs"]]
        return cls(name, Process(**data["driver"]), data["keep"], switch, hosts, dirs)

    def remove(self) -> None:
        """End everything that is in the state, and forget it."""
        cgroups.thaw(self.cgroup_dirs)
        for host in self.hosts.values():
            host.init.kill()
        for host in self.hosts.values():
            host.remove()
        if self.switch:
            self.switch.kill()
        cgroups.remove(self.cgroup_dirs)
        shutil.rmtree(self.directory, ignore_errors=True)
        with contextlib.suppress(OSError):  # another cluster's state may be there
            STATE_DIR.rmdir()


def clusters() -> list[State]:
    """Return every cluster that is up, or was left behind."""
    found = []
    for file in sorted(STATE_DIR.glob("*/state.json")):
        # It may just be going, or be written by another version of this file.
        with contextlib.suppress(FileNotFoundError, KeyError, TypeError):
            found.append(State.load(file.parent.name))
    return found


def sweep() -> None:
    """Remove what a killed driver left behind."""
    for state in clusters():
        if state.stale:
            state.remove()
