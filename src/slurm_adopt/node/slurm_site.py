"""Where this node's Slurm is: slurm.conf, node name, spool directory; and why there.

slurm.conf is the one of the option slurm_conf=, else the first of the usual places. What the
running slurmd was started with is looked at only where that does not lead anywhere: no file in the
usual places or one that cannot be read, no node of this host in it, several of them, an unreadable
spool directory, or no extern step at all.
"""

from __future__ import annotations

import os

from slurm_adopt.slurm import proc
from slurm_adopt.slurm.cgroup import paths, step_cgroup
from slurm_adopt.slurm.config import conf
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.stepd import step_sockets
from slurm_adopt.time_limits import NAMED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.cgroup.step_cgroup import Layout
    from slurm_adopt.slurm.config.conf import Conf
    from slurm_adopt.slurm.config.slurmd_processes import Slurmd
    from slurm_adopt.slurm.stepd.step_sockets import StepSocket
    from slurm_adopt.system.log import Log

_LISTED = 4  # names in a line of the log
_NAMES_LIMIT = 1 << 16  # bytes of all these


class SlurmSite:
    """This node's configuration; everything is looked up when it is first asked for."""

    __slots__ = (
        "_asked_for",
        "_beside",
        "_conf",
        "_given",
        "_hostname",
        "_laid_out",
        "_log",
        "_looked",
        "_nodename",
        "_place",
        "_running",
        "known",
    )

    def __init__(self, slurm_conf: str, nodename: str, hostname: str, log: Log) -> None:
        """`slurm_conf` and `nodename` are the options, "" where they are not set."""
        self._given = slurm_conf
        self._nodename = nodename
        self._hostname = hostname
        self._log = log
        self._conf: Conf | None = None
        self.known: Conf | None = None  # what an earlier phase of this login has read
        self._place: tuple[str, str] | None = None
        self._beside: tuple[Conf, Conf] | None = None  # slurm.conf, and the cgroup.conf beside it
        self._laid_out: tuple[Conf, Layout | None] | None = None
        self._running: list[Slurmd] | None = None
        self._looked = False
        self._asked_for: list[str] | None = None

    @property
    def conf(self) -> Conf:
        """slurm.conf; SetupError if there is none."""
        return self._conf or self._load_first()

    @property
    def kept(self) -> Conf | None:
        """What was read, for the phase that follows; None where that takes much memory."""
        return self._conf if self._conf and self._conf.is_light() else None

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

    @property
    def runs_slurm(self) -> bool:
        """Whether this host is a compute node: root's slurmd, or a stepd of root's, runs here.

        It is taken for one where that cannot be seen: without /proc, or a descriptor to read it.
        """
        from slurm_adopt.slurm.config import slurmd_processes

        if self._slurmds() or slurmd_processes.hidden():
            return True
        return not proc.status(f"{proc.PROC}/self/status")

    def layout(self) -> Layout | None:
        """Return where this node's extern steps have their cgroups; None where they have none.

        Looked up once for each slurm.conf.
        """
        slurm_conf = self.conf
        if self._laid_out is None or self._laid_out[0] is not slurm_conf:
            layout = step_cgroup.layout(slurm_conf, self._cgroup_conf(), self.name)
            self._laid_out = slurm_conf, layout
        return self._laid_out[1]

    def mountpoint(self) -> str:
        """Return where cgroup.conf says that cgroups are mounted, or below."""
        return paths.mountpoint(self._cgroup_conf())

    def _cgroup_conf(self) -> Conf:
        """Return cgroup.conf, read once for each slurm.conf."""
        slurm_conf = self.conf
        if self._beside is None or self._beside[0] is not slurm_conf:
            self._beside = slurm_conf, conf.load_beside(slurm_conf.path, "cgroup.conf")
        return self._beside[1]

    def steps(self, only: int | None = None) -> list[StepSocket]:
        """List the extern steps of this node; SetupError if its spool directory cannot be read.

        `only`: of the job of that id.
        """
        if only is not None:
            try:
                if found := step_sockets.extern_steps(self.spool, self.name, only):
                    return found
            except SetupError:  # said by what comes now
                pass
            return [step for step in self.steps() if step.job_id == only]
        try:
            found = step_sockets.extern_steps(self.spool, self.name)
        except SetupError:
            if not self._switch("names no readable spool directory"):
                raise
            found = step_sockets.extern_steps(self.spool, self.name)
        return found or self._steps_elsewhere()

    def _steps_elsewhere(self) -> list[StepSocket]:
        """List the extern steps by a running slurmd's slurm.conf, where ours leads to none.

        Ours may be one that was left behind. It stays where the other leads to no step either, but
        for one that slurmd was told: wait_for_job looks there.
        """
        if self._looked or self._given:
            return []
        self._looked = True
        before = self._conf, self._place
        try:
            if self._switch("leads to no extern step"):
                found = step_sockets.extern_steps(self.spool, self.name)
                if found or self._is_told():
                    return found
        except SetupError as error:
            self._log.debug(str(error))
        self._conf, self._place = before
        return []

    # which slurm.conf

    def _load(self, path: str, why: str) -> Conf:
        self._log.debug(f"configuration: {path}, {why}")
        known, self.known = self.known, None
        if known is None or known.path != path or not known.is_current():
            hosts = self._hostname, self._hostname.partition(".")[0]
            known = conf.load(path, frozenset([self._nodename] if self._nodename else hosts))
        self._conf, self._place = known, None
        for remark in self._conf.remarks:
            self._log.error(remark)
        return self._conf

    def _load_first(self) -> Conf:
        """Load the given slurm.conf, else the first of the usual places, else a running slurmd's.

        That also where the first of the usual places cannot be read.
        """
        if self._given:
            return self._load(self._given, "as slurm_conf= says")
        there = conf.usual()
        if there:
            others = f"; not read: {', '.join(there[1:])}" if there[1:] else ""
            try:
                return self._load(there[0], f"the first of the usual places{others}")
            except SetupError as error:
                slurmd = self._another(there[0])
                if slurmd is None:
                    raise
                return self._load(slurmd.conf, f"as {slurmd} was started with; {error}")
        for slurmd in self._slurmds():
            if slurmd.conf:
                return self._load(slurmd.conf, f"as {slurmd} was started with")
        raise SetupError(
            f"no slurm.conf in any of {', '.join(conf.PLACES)}{self._seen()}; if this node runs "
            "slurmd, set slurm_conf=/path/to/slurm.conf"
        )

    def _switch(self, why: str) -> bool:
        """Take the slurm.conf of a running slurmd instead, if that is another one.

        One that is only guessed may be none that anybody reads: it has to be in order.
        """
        path = self.conf.path
        slurmd = None if self._given else self._another(path)
        if slurmd is None:
            return False
        try:
            self._load(slurmd.conf, f"as {slurmd} was started with; {path} {why}")
        except SetupError as error:
            if slurmd.told:
                raise
            self._log.debug(str(error))
            return False
        return True

    def _is_told(self) -> bool:
        """Say whether a running slurmd was told to read this slurm.conf."""
        return any(slurmd.told and slurmd.conf == self.conf.path for slurmd in self._slurmds())

    def _another(self, path: str) -> Slurmd | None:
        """Return the first running slurmd with another slurm.conf; one that was told it first."""
        found = [slurmd for slurmd in self._slurmds() if slurmd.conf not in ("", path)]
        return min(found, key=lambda slurmd: not slurmd.told) if found else None

    def _slurmds(self) -> list[Slurmd]:
        """Return root's running slurmds; those with the node name of the option, if it is set."""
        if self._running is None:
            from slurm_adopt.slurm.config import slurmd_processes

            found = slurmd_processes.slurmds()
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
        names, before = self._names(), self._conf
        if not names and self._switch("names no node of this host"):
            names = self._names()
            if not names and not self._is_told():
                self._conf = before
        if len(names) > 1:
            return self._one_of(names)
        if names:
            return names[0][0], self._spelled(names[0], self._hostname)[1]
        return self._of_slurmd() or self._of_aliases() or self._of_sockets()

    def _names(self) -> list[tuple[str, str]]:
        """Return the nodes that are on this host by its name; a dynamic one has no line."""
        names = conf.node_names(self.conf, self._hostname)
        if names or not (dynamic := conf.dynamic(self.conf, self._hostname)):
            return names
        from slurm_adopt.slurm.config import aliases

        return conf.named(self.conf, aliases.of_hosts(self._hostname)) or dynamic

    def _spelled(self, found: tuple[str, str], wanted: str) -> tuple[str, str]:
        """Say so where slurm.conf writes a name in another case."""
        for name in found:
            if name != wanted and name.lower() == wanted.lower():
                self._log.info(f"{wanted} is {name} in {self.conf.path}: taken for the same node")
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
            f"{chosen[0]}; set nodename=NAME to choose another"
        )
        return chosen

    def _of_slurmd(self) -> tuple[str, str] | None:
        """Take the node name that a running slurmd was given."""
        for slurmd in self._slurmds():
            if slurmd.node:
                self._log.debug(f"node name as {slurmd} was started with")
                return conf.as_configured(self.conf, slurmd.node)
        return None

    def _of_aliases(self) -> tuple[str, str] | None:
        """Take the node that is an alias of this host, as slurmd does, first by /etc/hosts.

        All else that this host asks for names may be the DNS, in which a wait may be long. It is
        asked, in a child, only where a slurmd runs, and has found its name somewhere.
        """
        from slurm_adopt.slurm.config import aliases

        found = conf.named(self.conf, aliases.of_hosts(self._hostname))
        where = aliases.HOSTS
        if not found and self._alive() is None and self._runs_slurmd():
            found, where = conf.named(self.conf, self._asked()), "nsswitch.conf's services"
        if len(found) > 1:
            return self._one_of(found)
        if found:
            self._log.debug(f"node name as {where} has it: {found[0][0]} is {self._hostname}")
            return found[0]
        return None

    def _asked(self) -> list[str]:
        """Return the names of this host by all that nsswitch.conf names; it is asked once."""
        if self._asked_for is None:
            self._asked_for = self._ask()
        return self._asked_for

    def _ask(self) -> list[str]:
        from slurm_adopt.slurm.config import aliases
        from slurm_adopt.slurm.errors import PeerError
        from slurm_adopt.slurm.waiting import Patience
        from slurm_adopt.system import child

        def names() -> bytes:
            return os.fsencode("\n".join(aliases.of_host(self._hostname)))

        try:
            found = child.run(names, Patience(NAMED.silence, NAMED.last), _NAMES_LIMIT)
        except PeerError as error:
            self._log.error(
                f"cannot look up the names of {self._hostname}: {error}; set nodename=NAME to "
                "avoid that"
            )
            return []
        return os.fsdecode(found).split("\n")

    def _runs_slurmd(self) -> bool:
        return any(slurmd.program == "slurmd" for slurmd in self._slurmds())

    def _of_sockets(self) -> tuple[str, str]:
        """Take the node name from the sockets in the spool directory, if they carry just one."""
        if name := self._alive() or self._carried(alive=False):
            return name, self._hostname.partition(".")[0]
        raise SetupError(
            f"cannot tell the node name: no NodeName or NodeHostname in {self.conf.path} is "
            f"{self._hostname}{self._seen()}; if this node runs slurmd, set nodename=NAME"
        )

    def _alive(self) -> str | None:
        return self._carried(alive=True)

    def _carried(self, *, alive: bool) -> str | None:
        """Return the node name that the sockets in the spool directory carry, if it is just one."""
        path = self.conf.get("SlurmdSpoolDir", conf.DEFAULT_SPOOL)
        names = set() if "%" in path else step_sockets.node_names(path, alive=alive)
        return names.pop() if len(names) == 1 else None

    def _directory(self, name: str, host: str) -> str:
        """Return the spool directory; for %h a slurmd since 22.05 takes the host's own name."""
        path = conf.spool_directory(self.conf, name, host)
        own = conf.spool_directory(self.conf, name, self._hostname.partition(".")[0])
        return own if own != path and os.path.isdir(own) and not os.path.isdir(path) else path
