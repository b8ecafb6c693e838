"""Trees of files in the place of /proc and /sys/fs/cgroup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_adopt.slurm.cgroup import step_cgroup
from slurm_adopt.slurm.config import conf

if TYPE_CHECKING:
    from pathlib import Path


class Tree:
    """A machine's /proc and /sys/fs/cgroup as far as they are looked at."""

    def __init__(self, top: Path) -> None:
        self.proc = top / "proc"
        self.mnt = top / "mnt"
        self.mounts: list[str] = []

    def mount(self, controllers: str, kind: str = "cgroup", root: str = "/") -> None:
        point = self.mnt if kind == "cgroup2" else self.mnt / controllers
        point.mkdir(parents=True, exist_ok=True)
        self.mounts.append(
            f"33 25 0:29 {root} {point} rw,nosuid shared:9 - {kind} cgroup rw,{controllers}\n"
        )
        (self.proc / "self").mkdir(parents=True, exist_ok=True)
        (self.proc / "self/mountinfo").write_text("".join(self.mounts) + "short line\n")

    def make(self, *paths: str) -> None:
        for path in paths:
            (self.mnt / path.lstrip("/")).mkdir(parents=True)
            (self.mnt / path.lstrip("/") / "cgroup.procs").touch()

    def process(self, pid: int, *lines: str) -> None:
        (self.proc / str(pid)).mkdir(parents=True, exist_ok=True)
        (self.proc / str(pid) / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def layout(
        self, slurm_conf: str, cgroup_conf: str = "", node: str = "n1"
    ) -> step_cgroup.Layout:
        found = step_cgroup.layout(
            parsed(self.mnt, "slurm.conf", slurm_conf),
            parsed(self.mnt, "cgroup.conf", f"CgroupMountpoint={self.mnt}\n{cgroup_conf}"),
            node,
            str(self.proc),
        )
        assert found
        return found


def parsed(directory: Path, name: str, text: str) -> conf.Conf:
    (directory / name).write_text(text)
    return conf.load(str(directory / name))


ALL = "TaskPlugin=task/affinity,task/cgroup\nSelectTypeParameters=CR_Core_Memory\n"
