"""What may be wrong where this node has no extern step that answers."""

from __future__ import annotations

from slurm_adopt.slurm.config import conf
from slurm_adopt.slurm.stepd import step_sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .slurm_site import SlurmSite


def hint(site: SlurmSite, *, nodename: str, dead: int) -> str:
    """Say what may be wrong; "" if nothing shows.

    `nodename`: the option, "" if it is not set; `dead`: how many sockets of extern steps nobody
    listens on.
    """
    directory, name = site.spool, site.name
    others = step_sockets.other_steps(directory, name)
    if others and dead:
        return (
            f"{others} steps run here, but no extern stepd answers ({dead} sockets "
            f"without a stepd in {directory}): if the extern stepds have died, nobody can log "
            f"in to these jobs any more; {_extern_steps(site, 'otherwise ')}"
        )
    if others:
        return f"{others} steps run here, but no job has an extern step: {_extern_steps(site)}"
    if names := step_sockets.node_names(directory, alive=True) - {name}:
        return (
            f"the jobs in {directory} belong to node {' '.join(sorted(names)[:4])}, but this "
            f"host is taken for node {name}: is nodename= right?"
        )
    if nodename and not conf.has_node(site.conf, name):
        return f"node {name} is not in {site.conf.path}: is nodename= right?"
    return ""


def _extern_steps(site: SlurmSite, otherwise: str = "") -> str:
    """Say what keeps jobs from having an extern step, by PrologFlags."""
    path = site.conf.path
    if flags := conf.contains(site.conf):
        return (
            f"{otherwise}they were started before PrologFlags={flags} was set in {path}, and "
            "do not count as jobs until they end"
        )
    return (
        f"{otherwise}set PrologFlags=contain in {path} (X11 and RunInJob include it, Alloc "
        "does not; jobs started before do not count as jobs until they end)"
    )
