"""The Debian package on a node: installed, used at logins, upgraded, kept, removed, purged."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.cluster.harness import pam
from tests.cluster.harness.landing import COMMAND, job_of
from tests.cluster.scenarios import login_image, stock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host
    from tests.packages.root import Root

NAME = "slurm-adopt"
LIB = "/usr/libexec/slurm-adopt"
SRC = f"{LIB}/src"
PACKAGE = f"{SRC}/slurm_adopt"
SCRIPTS = [f"{LIB}/pam/{name}" for name in ("pam_slurm_adopt.py", "pam_slurm_adopt_exec")]
STATE = ("/run/slurm_adopt", "/var/lib/slurm_adopt")
FRONTS = {
    front: [line.replace("/opt/slurm_adopt", LIB) for line in pam.DOCUMENTED[name](*pam.PRODUCTION)]
    for front, name in (("pam_exec", "by pam_exec"), ("pam_python", "both"))
}
LINES = FRONTS["pam_python"]
UNIT = "/etc/systemd/system/slurm-adopt-trial-sshd"

# Debian 12's file has what makes pam_exec unsafe, so that front would not be written.
FOR_PAM_EXEC = "sed -i 's/ user_readenv=1//' /etc/pam.d/sshd"

# Where the package and what it makes may have left something.
PLACES = ("/bin", "/etc", "/lib", "/opt", "/root", "/sbin", "/srv", "/usr", "/var/lib", *STATE)
OF_DPKG = re.compile(r"/var/lib/(dpkg|apt)/|/etc/ld\.so\.cache")

# Of each source below $1: whether it has byte code of this Python, checked by the source's hash
# (PEP 552: flags 3), and of this source; and all other byte code there.
CODE = """\
import importlib.util, pathlib, sys
top = pathlib.Path(sys.argv[1])
sources = {importlib.util.cache_from_source(str(path)): path for path in top.rglob("*.py")}
for code, source in sources.items():
    try:
        head = open(code, "rb").read(16)
    except OSError:
        print("missing:", code)
        continue
    flags = int.from_bytes(head[4:8], "little")
    expected = importlib.util.MAGIC_NUMBER, importlib.util.source_hash(source.read_bytes())
    if flags != 3 or (head[:4], head[8:]) != expected:
        print("not fresh:", code, flags)
print(len(sources), sys.implementation.cache_tag)
"""

IMPORT = f"import sys; sys.path.insert(0, '{SRC}'); import slurm_adopt.decision.engine"

# The package of the next release: one source less, one more.
NEXT = f"""\
dpkg-deb -R "$1" /tmp/next
rm /tmp/next{SRC}/slurm_adopt/cli/live_thread.py
rm -r /tmp/next{SRC}/slurm_adopt/cli/whoami
echo "import os" >/tmp/next{SRC}/slurm_adopt/cli/another.py
sed -i 's/^Version: .*/&+next/' /tmp/next/DEBIAN/control
dpkg-deb --root-owner-group -Zgzip -b /tmp/next /tmp/next.deb
rm -r /tmp/next
"""


def sh(place: Host | Root, script: str, *arguments: str, check: bool = True) -> str:
    """Run a script on a host or in a root folder; return what it has printed on both outputs."""
    argv = ["sh", "-ec", f"exec 2>&1; {script}", "sh", *arguments]
    return str(place.run(argv, check=check, timeout=300).stdout)


def put(place: Host | Root, deb: Path) -> str:
    """Put the package's file there; return its path."""
    shutil.copy(deb, place.root / "tmp")
    (place.root / "tmp" / deb.name).chmod(0o644)
    return f"/tmp/{deb.name}"


def install(place: Host | Root, file: str) -> str:
    """Install a package's file by apt."""
    return sh(place, 'apt-get -qy install --reinstall --allow-downgrades "$1"', file)


def files(place: Host | Root) -> set[str]:
    """Return all files, with mode, owner and where a link leads; and the text of PAM files."""
    found = sh(place, f"find {' '.join(PLACES)} -xdev -printf '%p %M %U:%G %l\\n' || true")
    texts = sh(place, "cd /etc/pam.d; sha256sum *")
    lines = (line for line in found.splitlines() if line.startswith("/"))
    return {line for line in lines if not OF_DPKG.match(line)} | {*texts.splitlines()}


def python_of_pam_python(place: Host | Root) -> str:
    """Return the Python that libpam-python depends on, as dpkg says."""
    depends = sh(place, "dpkg-query -W -f '${Depends}' libpam-python")
    found = re.search(r"libpython(3\.\d+)", depends)
    assert found, depends
    return f"python{found[1]}"


def assert_byte_code(place: Host | Root, *pythons: str) -> None:
    """See that each source has fresh byte code of these Pythons, and that there is no other.

    Logins read the image that is made of it.
    """
    tags = [login_image.tag_of(python) for python in pythons]
    count = 0
    for python, tag in zip(pythons, tags):
        said = sh(place, f'/usr/bin/{python} -IB -c "$1" "$2"', CODE, SRC).split()
        assert said[1:] == [tag], said
        count = int(said[0])
    assert count > 100
    code = sh(place, f"find {LIB} -name '*.pyc' -printf '%f %M %U\\n'").splitlines()
    assert {line.split(".", 1)[1] for line in code} == {f"{tag}.pyc -rw-r--r-- 0" for tag in tags}
    assert len(code) == count * len(tags)
    login_image.assert_read(place, PACKAGE, SCRIPTS, *pythons)


def assert_logins(cluster: Cluster, job: int | None) -> None:
    """See that a user lands in this job, or is refused where there is none, and root gets in."""
    result = cluster.ssh("alice", command=COMMAND)
    landed = (result.rc, job_of(cluster.n1, result.out))
    assert landed == ((0, job) if job else (255, None)), result
    assert cluster.ssh("root").rc == 0


def activate(node: Host, front: str) -> list[str]:
    """Write the PAM lines of a front by the command; return those that name the package."""
    sh(node, f"slurm-adopt install --front={front}")
    lines = [line for line in node.read("etc/pam.d/sshd").splitlines() if LIB in line]
    assert lines == [line for line in FRONTS[front] if LIB in line]
    return lines


def checked(node: Host, *numbers: str) -> dict[str, str]:
    """Return what `slurm-adopt check` says of some checks."""
    said = node.run(["slurm-adopt", "check", "--json"], check=False, timeout=120).stdout
    found = json.loads(said)["findings"]
    return {one["code"]: one["result"] for one in found if one["code"] in numbers}


@contextlib.contextmanager
def purged(place: Host | Root) -> Iterator[None]:
    """Leave no package behind, whatever a test came to."""
    before = place.read("etc/pam.d/sshd")
    try:
        yield
    finally:
        place.write("etc/pam.d/sshd", before)
        sh(place, f"dpkg --purge {NAME} || true")


def life(cluster: Cluster, deb: Path) -> None:
    """Go from a node without the package to one without it; log in on each step."""
    node = cluster.n1
    node.pam("sshd", stock.debian(stock.suite_of(cluster)))
    sh(node, FOR_PAM_EXEC)
    # Of other tests: purge removes the one, unless a file of PAM's names another copy.
    sh(node, f"rm -rf {' '.join(STATE)}; sed -i '/pam_slurm_adopt/d' /etc/pam.d/*")
    before = files(node)
    with purged(node):
        file = put(node, deb)
        said = install(node, file)
        assert "no PAM file is changed" in said
        assert LIB not in node.read("etc/pam.d/sshd")
        assert_byte_code(node, python_of_pam_python(node))
        assert sh(node, "readlink -f $(command -v slurm-adopt)").strip() == f"{LIB}/bin/slurm-adopt"

        for front in FRONTS:
            activate(node, front)
            assert_logins(cluster, None)
        job = cluster.submit("alice")
        for front in FRONTS:
            activate(node, front)
            assert_logins(cluster, job)
        assert checked(node, "SA203", "SA204", "SA205") == dict.fromkeys(
            ("SA203", "SA204", "SA205"), "ok"
        )

        _upgrades(cluster, file, job)
        _is_kept(cluster, job)

        sh(node, "slurm-adopt uninstall")
        sh(node, f"mkdir -p {' '.join(STATE)}; touch {STATE[1]}/a")
        sh(node, f"touch {UNIT}.timer {UNIT}.service")  # whose lines were taken out by hand
        sh(node, f"apt-get -qy remove {NAME}")
        left = sh(node, f"ls -d {LIB} /usr/bin/slurm-adopt {STATE[1]} || true")
        assert [line for line in left.splitlines() if line.startswith("/")] == [STATE[1]]
        sh(node, f"apt-get -qy purge {NAME}; rm /tmp/*.deb")
        assert sorted(files(node) - before) == []
        assert before - files(node) == set()
        cluster.cancel_all()


def _upgrades(cluster: Cluster, file: str, job: int) -> None:
    """Go to the same release, to a next one with other sources, and back; logins go on."""
    node = cluster.n1
    python = python_of_pam_python(node)
    for _ in range(2):
        assert "no PAM file is changed" not in install(node, file)
        assert_byte_code(node, python)
    sh(node, NEXT, file)
    sh(node, f"find {SRC} -name '*.py' -exec touch -d @1000000000 {{}} +")  # as images have them
    imported = sh(node, f'{python} -IBv -c "$1" 2>&1', IMPORT)
    assert f"# code object from '{SRC}/slurm_adopt/decision/__pycache__/engine." in imported
    assert f"# code object from {SRC}" not in imported  # as of a source that is compiled
    read = login_image.opened(node, python, SCRIPTS[0])
    assert login_image.path(PACKAGE, python) in read
    assert [path for path in read if path.endswith(".pyc")] == []
    assert_logins(cluster, job)
    install(node, "/tmp/next.deb")
    assert_byte_code(node, python)
    gone = sh(node, f"ls -d {SRC}/slurm_adopt/cli/whoami || true")
    assert "No such file" in gone
    assert_logins(cluster, job)
    install(node, file)
    assert_byte_code(node, python)
    assert_logins(cluster, job)


def _is_kept(cluster: Cluster, job: int) -> None:
    """See that it stays while lines name it: everybody but root would be refused."""
    node = cluster.n1
    for how, front in zip(("remove", "purge"), FRONTS):
        lines = activate(node, front)
        said = node.run(["sh", "-c", f"apt-get -qy {how} {NAME} 2>&1"], check=False, timeout=120)
        assert said.returncode == 100
        assert "slurm-adopt is not removed: PAM would refuse everybody but root" in said.stdout
        named = re.findall(r"^/etc/pam.d/sshd:(.*)$", said.stdout, re.MULTILINE)
        assert named == lines
        status = sh(node, f"dpkg-query -W -f '${{Status}}' {NAME}")
        assert status == "install ok installed"
        assert_byte_code(node, python_of_pam_python(node))
        assert_logins(cluster, job)


def contents(deb: Path) -> dict[str, str]:
    """Return the mode of each file in a package, by its path; of a link where it leads."""
    listed = subprocess.run(
        ["dpkg-deb", "--contents", deb], check=True, capture_output=True, text=True
    ).stdout
    found = {}
    for line in listed.splitlines():
        mode, owner, _, _, _, name = line.split(maxsplit=5)
        path, _, link = name.partition(" -> ")
        assert owner == "root/root"
        if not mode.startswith("d"):
            found[path.removeprefix(".")] = link or mode
    return found
