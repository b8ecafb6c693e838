"""A machine's disk: a Debian suite with kernel and systemd in an ext4 file, built once and cached.

Nothing of what a run tests is in it: that comes in as a second disk (payload.py), so the image
stays as long as its recipe does. The machine is Debian's own but for two units, which bring in the
payload and let the driver log in, and what keeps a machine without a network from waiting for one.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.harness.root import BuildError, cache_dir, suite_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.harness.suites import Suite

SIZE = "8G"  # of the file system; the file is sparse
CACHE = "/var/cache/slurm_adopt"  # of a checkout on the machine
CONTROL_PORT = 2200
ADDRESS = "10.0.2.15"  # as qemu's user network has it

# fmt: off
MACHINE = (
    "dbus", "initramfs-tools", "iproute2", "kmod", "libpam-systemd", "linux-image-cloud-amd64",
    "openssh-client", "openssh-server", "passwd", "procps", "python3",
    "systemd", "systemd-sysv", "udev",
)
NODE = (
    *MACHINE,
    "cron", "dbus-user-session", "libpam-python", "libpam-slurm-adopt", "munge", "polkitd",
    "python3-click", "python3-psutil", "python3-pyroute2", "python3-rich",
    "slurm-client", "slurmctld", "slurmd",
)
STOCK = (*MACHINE, "debootstrap", "python3-venv")  # the latter two are what `./dev` installs
SELINUX = (  # put into a node, and what compiles a policy module
    "auditd", "checkpolicy", "make", "policycoreutils", "policycoreutils-python-utils",
    "selinux-policy-default", "selinux-policy-dev", "semodule-utils", "setools",
)
# fmt: on

PAYLOAD_SERVICE = f"""\
[Unit]
Description=The network, and what this machine is to do, from its second disk
DefaultDependencies=no
After=sysinit.target
Before=basic.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'until ip link set eth0 up; do sleep .2; done'
ExecStart=/bin/sh -c 'ip addr add {ADDRESS}/24 dev eth0'
ExecStart=/bin/tar -C / -xf /dev/vdb
ExecStart=/bin/sh -e /payload/setup.sh
StandardOutput=journal+console
TimeoutStartSec=600

[Install]
WantedBy=basic.target
"""

CONTROL_SERVICE = """\
[Unit]
Description=The way in of what drives this machine
After=payload.service ssh.service

[Service]
ExecStartPre=/bin/mkdir -p /run/sshd
ExecStart=/usr/sbin/sshd -D -f /etc/ssh/control.conf

[Install]
WantedBy=multi-user.target
"""

CONTROL_CONF = f"""\
ListenAddress {ADDRESS}:{CONTROL_PORT}
AuthorizedKeysFile /payload/control.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
MaxSessions 200
PidFile none
"""

FILES = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 0\n",
    "etc/hostname": "n1\n",
    "etc/hosts": f"127.0.0.1 localhost\n{ADDRESS} n1\n::1 ip6-localhost\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/resolv.conf": "",
    "etc/ssh/control.conf": CONTROL_CONF,
    "etc/systemd/system/payload.service": PAYLOAD_SERVICE,
    "etc/systemd/system/control.service": CONTROL_SERVICE,
}
LINKS = {
    "etc/systemd/system/basic.target.wants/payload.service": "../payload.service",
    "etc/systemd/system/multi-user.target.wants/control.service": "../control.service",
}


@dataclass(frozen=True)
class Image:
    """What a machine starts from."""

    disk: Path
    kernel: Path
    initrd: Path


@dataclass(frozen=True)
class Cache:
    """What a checkout's own cache has in it on the machine, which cannot download anything."""

    roots: tuple[Path, ...]  # root folders of suites
    requirements: Path  # of the Python environment; it is made with the machine's own Python

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that decides what is in it."""
        return CACHE_SCRIPT, *(root.name for root in self.roots), self.requirements.read_text()


def image(suite: Suite, report: Callable[[str], None], cache: Cache | None = None) -> Image:
    """Return the image of a suite with these packages; build it if it is not in the cache.

    Where the suite has SELinux's policy every file has the label that the policy wants.
    """
    root = suite_root(suite, report)
    label = LABEL if (root / POLICY).is_dir() else ""
    recipe = repr((SIZE, FILES, LINKS, MAKE + label, cache and cache.key))
    key = hashlib.sha256(recipe.encode()).hexdigest()[:8]
    disk = cache_dir() / f"vm-{root.name.removeprefix('root-')}-{key}.ext4"
    if not disk.exists():
        for stale in cache_dir().glob(f"vm-{root.name.removeprefix('root-')}-*.ext4"):
            stale.unlink()
        report(f"Debian {suite.name}: disk image")
        _make(root, disk, cache, label)
    return Image(disk, _newest(root, "vmlinuz-*"), _newest(root, "initrd.img-*"))


# The suite's folder with our files over it; all mounts end with the script.
MAKE = """\
mkdir work merged
mount -t overlay -o "lowerdir=$1,upperdir=$PWD/upper,workdir=$PWD/work" overlay merged
"""
# Debian's SELinux. The names of labels are checked by the machine, which has the policy loaded.
POLICY = "etc/selinux/default"
LABEL = f"""\
mount -t proc proc merged/proc
chroot merged setfiles -F -e /proc /{POLICY}/contexts/files/file_contexts / 2>&1 | tail -n 20
umount merged/proc
"""
MKFS = 'mke2fs -q -t ext4 -E root_owner=0:0 -d merged disk "$2"\n'

# The names are those that `./dev` and suite_root look for.
CACHE_SCRIPT = f"""\
python=$3 requirements=$4
shift 4
mount --rbind /dev merged/dev
mount -t proc proc merged/proc
release=$(chroot merged /usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
key=$({{ cat "$requirements"; chroot merged /usr/bin/python3 -V; }} | sha256sum | cut -c1-12)
venv={CACHE}/venv-$key
"$python" -m pip download -qq --only-binary=:all: --python-version "$release" \\
    -d merged/wheels -r "$requirements"
cp "$requirements" merged/wheels/requirements.txt
chroot merged /usr/bin/python3 -m venv "$venv"
chroot merged "$venv/bin/python" -m pip install -qq --no-index --find-links /wheels \\
    -r /wheels/requirements.txt
touch "merged$venv/complete"
rm -r merged/wheels
umount -l merged/proc merged/dev
for root; do
    inside=merged{CACHE}/${{root##*/}}
    mkdir "$inside"
    mount --bind "$root" "$inside"
done
"""


def _make(root: Path, disk: Path, cache: Cache | None, label: str) -> None:
    """Write the folder, with our files over it, into a file system."""
    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="vm-new-") as directory:
        scratch = Path(directory)
        _write_files(scratch / "upper")
        script, words = MAKE + label + MKFS, [str(root), SIZE]
        if cache:
            script = MAKE + CACHE_SCRIPT + MKFS.replace('"$2"', SIZE)
            words += [sys.executable, str(cache.requirements), *map(str, cache.roots)]
        private = ("unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh")
        argv = [*private, *words]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=scratch)
        if done.returncode:
            raise BuildError(f"no disk image of {root}: {done.stdout}{done.stderr}")
        (scratch / "disk").rename(disk)


def _write_files(upper: Path) -> None:
    for name, text in FILES.items():
        file = upper / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for name, target in LINKS.items():
        link = upper / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def _newest(root: Path, pattern: str) -> Path:
    found = sorted((root / "boot").glob(pattern))
    if not found:
        raise BuildError(f"{root}/boot has no {pattern}")
    return found[-1]
