"""Auth plugins: they make credentials for our requests and check those of replies."""

from __future__ import annotations

from slurm_adopt.slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.auth.credential import Auth
    from slurm_adopt.slurm.config.conf import Conf


def of(conf: Conf) -> Auth:
    """Return the plugin that AuthType and AuthInfo of slurm.conf describe; SetupError."""
    name = conf.get("AuthType", "auth/munge")
    plugin = PLUGINS.get(name.lower())
    if plugin is None:
        raise SetupError(
            f"AuthType={name[:40]} in {conf.path} is not supported; supported: "
            + ", ".join(PLUGINS)
        )
    return plugin(conf)


def _munge(conf: Conf) -> Auth:
    from slurm_adopt.slurm.auth.munge import Munge

    return Munge.from_auth_info(conf.get("AuthInfo"))


def _slurm(conf: Conf) -> Auth:
    from slurm_adopt.slurm.auth.sack import Sack

    return Sack.from_conf(conf)


PLUGINS = {"auth/munge": _munge, "auth/slurm": _slurm}
