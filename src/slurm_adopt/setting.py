"""Where this node's Slurm is: slurm.conf, node name, spool directory; and why there.

slurm.conf is the one of the option slurm_conf=, else the first of the usual places. What the
running slurmd was started with is looked at only where that does not lead anywhere: no file in the
usual places, no node of this host in it, several of them, or an unreadable spool directory.
"""

from __future__ import annotations

import os

from .slurm import conf, spool
from .slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .log import Log
    from .slurm.conf import Conf
    from .slurm.running import Slurmd
    from .slurm.spool import StepSocket

_LISTED = 4  # names in a line of the log


class Setting:
    """This node's configuration; everything is looked up when it is first asked for."""

    __slots__ = ("_conf", "_given", "_hostname", "_log", "_nodename", "_place", "_running")

    def __init__(self, slurm_conf: str, nodename: str, hostname: str, log: Log) -> None:
        """`slurm_conf` and `nodename` are the options, "" where they are not set."""
        self._given = slurm_conf
        self._nodename = nodename
        self._hostname = hostname
        self._log = log
        self._conf: Conf | None = None
        self._place: tuple[str, str] | None = None
        self._running: list[Slurmd] | None = None

    @property
    def conf(self) -> Conf:
        """slurm.conf; SetupError if there is none."""
        return self._conf or self._load(*self._first())

    @property
    def name(self) -> str:
        """The node name; SetupError if it cannot be told."""
        return self._located()[0]

    @property
    def spool(self) -> str:
        """The spool directory."""
        return self._located()[1]

    @property
    def trusted(self) -> frozenset[int]:
        """Uids that a stepd or slurmd may run as: root and SlurmdUser."""
        return self.conf.uids("SlurmdUser")

    def steps(self) -> list[StepSocket]:
        """List the extern steps of this node; SetupError if its spool directory cannot be read."""
        try:
            return spool.extern_steps(self.spool, self.name)
        except SetupError:
            if not self._switch():
                raise
        return spool.extern_steps(self.spool, self.name)

    # which slurm.conf

    def _load(self, path: str, why: str) -> Conf:
        self._log.debug(f"configuration: {path}, {why}")
        self._conf, self._place = conf.load(path), None
        for remark in self._conf.remarks:
            self._log.error(remark)
        return self._conf

    def _first(self) -> tuple[str, str]:
        """Return the path of slurm.conf, and why that one."""
        if self._given:
            return self._given, "as slurm_conf= says"
        if there := conf.usual():
            others = f"; not read: {', '.join(there[1:])}" if there[1:] else ""
            return there[0], f"the first of the usual places{others}"
        for slurmd in self._slurmds():
            if slurmd.conf:
                return slurmd.conf, f"as {slurmd} was started with"
        raise SetupError(
            f"no slurm.conf in any of {', '.join(conf.PLACES)}{self._seen()}; if this node runs "
            "slurmd, say where its slurm.conf is with slurm_conf=/path/to/slurm.conf"
        )

    def _switch(self) -> bool:
        """Take the slurm.conf of a running slurmd instead, if that is another one."""
        for slurmd in () if self._given else self._slurmds():
            if slurmd.conf not in ("", self.conf.path):
                self._load(
                    slurmd.conf, f"as {slurmd} was started with; {self.conf.path} leads nowhere"
                )
                return True
        return False

    def _slurmds(self) -> list[Slurmd]:
        """Return root's running slurmds; those with the node name of the option, if it is set."""
        if self._running is None:
            from .slurm import running

            found = running.slurmds()
            self._running = [s for s in found if s.node == self._nodename] or found
        return self._running

    def _seen(self) -> str:
        running = ", ".join(map(str, self._slurmds()[:_LISTED]))
        return f" (running here: {running})" if running else ""

    # which node, which directory

    def _located(self) -> tuple[str, str]:
        if self._place is None:
            name, host = self._node()
            self._place = name, self._directory(name, host)
            self._log.debug(f"node name {name}, spool directory {self._place[1]}")
        return self._place

    def _node(self) -> tuple[str, str]:
        """Return the NodeName and its NodeHostname."""
        if self._nodename:
            return self._spelled(conf.as_configured(self.conf, self._nodename), self._nodename)
        names = conf.node_names(self.conf, self._hostname)
        if not names and self._switch():
            names = conf.node_names(self.conf, self._hostname)
        if len(names) > 1:
            return self._one_of(names)
        if names:
            return names[0][0], self._spelled(names[0], self._hostname)[1]
        return self._of_slurmd() or self._of_sockets()

    def _spelled(self, found: tuple[str, str], wanted: str) -> tuple[str, str]:
        """Say so where slurm.conf writes a name in another case."""
        for name in found:
            if name != wanted and name.lower() == wanted.lower():
                self._log.info(f"{wanted} is {name} in {self.conf.path}: taken for the same")
                break
        return found

    def _one_of(self, names: list[tuple[str, str]]) -> tuple[str, str]:
        """Choose among the nodes of this host: the first whose slurmd runs, else the first."""
        alive = {slurmd.node for slurmd in self._slurmds()}
        chosen = ([found for found in names if found[0] in alive] or names)[0]
        listed = ", ".join(name for name, _ in names[:_LISTED])
        more = ", …" if len(names) > _LISTED else ""
        self._log.info(
            f"{len(names)} nodes of {self.conf.path} are on this host ({listed}{more}): taken for "
            f"{chosen[0]}; nodename=NAME decides"
        )
        return chosen

    def _of_slurmd(self) -> tuple[str, str] | None:
        """Take the node name that a running slurmd was given."""
        for slurmd in self._slurmds():
            if slurmd.node:
                self._log.debug(f"node name as {slurmd} was started with")
                return conf.as_configured(self.conf, slurmd.node)
        return None

    def _of_sockets(self) -> tuple[str, str]:
        """Take the node name from the sockets in the spool directory, if they carry just one."""
        path = self.conf.get("SlurmdSpoolDir", conf.DEFAULT_SPOOL)
        if "%" in path:
            names = set()
        else:
            names = spool.node_names(path, alive=True) or spool.node_names(path)
        if len(names) == 1:
            return names.pop(), self._hostname.partition(".")[0]
        raise SetupError(
            f"cannot tell the node name: no NodeName or NodeHostname in {self.conf.path} is "
            f"{self._hostname}{self._seen()}; if this node runs slurmd, give its name with "
            "nodename=NAME"
        )

    def _directory(self, name: str, host: str) -> str:
        """Return the spool directory; for %h a slurmd since 22.05 takes the host's own name."""
        path = conf.spool_directory(self.conf, name, host)
        own = conf.spool_directory(self.conf, name, self._hostname.partition(".")[0])
        return own if own != path and os.path.isdir(own) and not os.path.isdir(path) else path
