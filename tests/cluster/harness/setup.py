"""What is written into the hosts before their daemons start."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.harness import config, pam
from tests.cluster.harness.host import CHECKOUT, FRONT, Host
from tests.cluster.harness.network import etc_hosts

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULE_DIR = "/opt/slurm_adopt"
AUTH_LOG, KEEP_AUTH_LOG = "var/log/auth.log", "run/auth.log-is-kept"  # see inside/syslogd.py

# Users, their keys and passwords are made on the first host and copied to the others.
ACCOUNTS = """\
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
for account; do
    user=${account%:*} ssh=/home/${account%:*}/.ssh
    useradd --create-home --shell /bin/bash --uid "${account#*:}" "$user"
    mkdir -m 700 "$ssh"
    ssh-keygen -q -t ed25519 -N '' -f "$ssh/id_ed25519" -C "$user"
    cp "$ssh/id_ed25519.pub" "$ssh/authorized_keys"
    chown -R "$user:$user" "$ssh"
    echo "$user:password of $user"
done | chpasswd
"""
PENALTIES = ("PerSourcePenaltyExemptList", "10.78.0.0/24,fd78::/64")
USER_FILES = ("etc/passwd", "etc/shadow", "etc/group", "etc/gshadow")
HOMES = ("home", "root/.ssh")
KEYS = ("etc/munge/munge.key", "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub")

DIRECTORIES = """\
install -d -o munge -g munge /run/munge
install -d -o slurm -g slurm /run/slurmctld /var/spool/slurmctld
install -d -o "$0" -g "$0" /run/slurm
install -d /run/sshd /var/spool/slurmd
rm -f /run/nologin
"""

INSTALL = """\
rm -rf "$0.new"
mkdir -p "$0.new"
cp -r --no-preserve=all /checkout/src /checkout/pam "$0.new"
find "$0.new" -name __pycache__ -prune -exec rm -r {} +
chmod 755 "$0.new/pam/pam_slurm_adopt_exec"
rm -rf "$0"
mv "$0.new" "$0"
/usr/bin/python3 -m compileall -q "$0"
/usr/bin/python3 -I "$0/src/slurm_adopt/login_image.py"
"""


def write_accounts(hosts: list[Host]) -> None:
    """Make the users on the first host and copy them to the others."""
    first, *others = hosts
    (first.root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    users = [f"{name}:{uid}" for name, uid in config.USERS.items()]
    first.run(["sh", "-ec", ACCOUNTS, "sh", *users])
    for host in hosts:
        _add_users(first.root, host.root / FRONT.lstrip("/"))
    for other in others:
        _add_users(first.root, other.root)
        for path in HOMES:
            source, target = first.root / path, other.root / path
            subprocess.run(["cp", "-a", "-T", "--remove-destination", source, target], check=True)
        for path in KEYS:  # each suite has made its own, for its own users
            (other.root / path).write_bytes((first.root / path).read_bytes())


def _add_users(source: Path, target: Path) -> None:
    """Add the users to a root folder's files; the suite's own accounts stay as they are."""
    for path in USER_FILES if target.is_dir() else ():
        lines = (source / path).read_text().splitlines(keepends=True)
        with (target / path).open("a") as file:
            file.writelines(line for line in lines if line.partition(":")[0] in config.USERS)


def write_files(host: Host) -> None:
    """Write the configuration that does not change with the settings."""
    slurm_runs_as = "root" if host.name in config.NODES else "slurm"
    host.run(["sh", "-ec", DIRECTORIES, slurm_runs_as])
    for root in ("", *host.front[1:]):
        host.write(f"{root}/etc/hosts", etc_hosts())
    host.write("etc/hostname", host.name + "\n")
    host.write("etc/ssh/sshd_config", config.SSHD_CONFIG)
    _forgive(host)
    host.write("etc/ssh/ssh_config", config.SSH_CONFIG)
    key = host.read("etc/ssh/ssh_host_ed25519_key.pub")
    host.write("etc/ssh/ssh_known_hosts", f"* {key}")
    host.pam("sshd", pam.stack())


def _forgive(host: Host) -> None:
    """Have sshd take all logins from the cluster, where it would refuse the source of failed ones.

    OpenSSH before 9.8 does not know the option.
    """
    whom = ["-o", "=".join(PENALTIES)]
    if host.run([*host.front, "/usr/sbin/sshd", "-t", *whom], check=False).returncode == 0:
        text = config.SSHD_CONFIG.replace("UseDNS", f"{' '.join(PENALTIES)}\nUseDNS")
        host.write("etc/ssh/sshd_config", text)


def write_slurm(hosts: Iterable[tuple[Host, str]], settings: config.Settings) -> None:
    """Write Slurm's configuration for each host and its release of Slurm."""
    for host, release in hosts:
        files = {
            "slurm.conf": config.slurm_conf(settings, release),
            "cgroup.conf": config.cgroup_conf(settings, release),
            "gres.conf": config.GRES_CONF,
        }
        for name, text in files.items():
            if settings.configless and host.name in config.NODES:
                (host.root / "etc/slurm" / name).unlink(missing_ok=True)
            else:
                host.write(f"etc/slurm/{name}", text)
        for name in config.KEY_FILES:
            (host.root / "etc/slurm" / name).unlink(missing_ok=True)
        if settings.slurm_key:
            key = f"/etc/slurm/{settings.key_file}"
            host.write(key, settings.slurm_key, 0o600)
            host.run(["chown", "slurm:slurm", key])


def keep_auth_log(host: Host) -> None:
    """Have what `slurm-adopt` reads of logins logged as on a host of Debian's."""
    host.write(AUTH_LOG, "")
    host.write(KEEP_AUTH_LOG, "")


def drop_auth_log(host: Host) -> None:
    """Undo `keep_auth_log`."""
    for path in (KEEP_AUTH_LOG, AUTH_LOG):
        (host.root / path).unlink()


def install_module(host: Host) -> None:
    """Install the checkout's module: a copy with byte code and login image that belongs to root."""
    if (CHECKOUT / "src").is_dir() and (CHECKOUT / "pam").is_dir():
        host.run([*host.front, "sh", "-ec", INSTALL, MODULE_DIR])
