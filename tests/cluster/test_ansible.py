"""The role of contrib/ansible, played by ansible-playbook on the login host against n1 as root."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.harness import guide, pam
from tests.cluster.harness.cluster import Cluster, Roots
from tests.cluster.harness.epilog import EPILOG, NAME
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.landing import COMMAND, job_of
from tests.cluster.harness.suites import WITH_MORE
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import stock
from tests.cluster.scenarios.uses import running
from tests.conftest import show_logs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.parametrize("suite", [WITH_MORE], ids=["more"], scope="module"),
]

PLACE = "/srv/play"
ENVIRONMENT = {
    "ANSIBLE_ROLES_PATH": f"{PLACE}/roles",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_PIPELINING": "1",
    "HOME": "/root",
}
FILE = "etc/pam.d/sshd"
INSTALLED = "/usr/libexec/slurm-adopt"
ARGUMENTS = "meta/argument_specs.yml"
EPILOGS = "/etc/slurm/epilog.d"
OPTIONS = {"action_adopt_failure": "deny", "action_generic_failure": "deny"}
CHECK = ["--only", "PAM"]
LAYOUT = """\
top=$1/usr/libexec/slurm-adopt
mkdir -p $top/bin $1/usr/share/slurm-adopt $1/usr/bin $1/DEBIAN
cp -r --no-preserve=all /checkout/src /checkout/pam $top
cp -r /checkout/contrib/epilog.d /checkout/contrib/profile.d $1/usr/share/slurm-adopt
install -m 755 /checkout/bin/slurm-adopt $top/bin
chmod 755 $top/pam/pam_slurm_adopt_exec
ln -s ../libexec/slurm-adopt/bin/slurm-adopt $1/usr/bin/slurm-adopt
find $1 -name __pycache__ -prune -exec rm -r {} +
printf '%s\\n' 'Package: slurm-adopt' 'Version: 1' 'Architecture: all' 'Maintainer: a <a@b>' \\
    'Depends: python3-click' 'Description: like the real one' >$1/DEBIAN/control
cat >$1/DEBIAN/prerm <<'END'
#!/bin/sh
find /usr/libexec/slurm-adopt -name __pycache__ -type d -prune -exec rm -r {} +
END
chmod 755 $1/DEBIAN/prerm
dpkg-deb --root-owner-group -Zgzip -z1 -b $1 $1.deb
"""
REPOSITORY = """\
rm -rf $1
mkdir $1
cp -r --no-preserve=all /checkout/src /checkout/pam /checkout/bin /checkout/contrib $1
chmod 755 $1/bin/slurm-adopt $1/pam/pam_slurm_adopt_exec $1/contrib/epilog.d/*
find $1 -name __pycache__ -prune -exec rm -r {} +
cd $1
git init -q
git add .
git -c user.name=a -c user.email=a@example commit -qm first
"""


class Play:
    """n1 with the stock file of its sshd, and ansible-playbook on the login host."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.login, self.node = cluster.login, cluster.n1

    def run(self, *arguments: str, status: int = 0, **given: Any) -> Recap:
        """Play the role with these variables; return what Ansible says, with this status."""
        given = {"check": CHECK, **given}
        variables = {f"slurm_adopt_{name}": value for name, value in given.items()}
        book = [
            {
                "hosts": "compute",
                "remote_user": "root",
                "gather_facts": False,
                "roles": ["slurm_adopt"],
            }
        ]
        self.login.write(f"{PLACE}/play.yml", json.dumps(book))
        self.login.write(f"{PLACE}/variables.json", json.dumps(variables))
        argv = ["ansible-playbook", "-i", "hosts", "-e", "@variables.json", *arguments, "play.yml"]
        done = self.login.run(
            ["sh", "-c", f'cd {PLACE} && exec "$@"', "sh", *argv],
            env=ENVIRONMENT,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return Recap(done.stdout + done.stderr)


class Recap:
    """How a play went, as ansible-playbook prints it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tasks: dict[str, str] = {}  # what became of each on n1: ok, changed, skipping, fatal
        name = ""
        for line in text.splitlines():
            if task := re.match(r"TASK \[(?:slurm_adopt : )?(.*)\] \*+$", line):
                name = task[1]
            said = re.match(r"(ok|changed|skipping|fatal): \[n1\]", line)
            if said and self.tasks.get(name) != "changed":  # of a loop, one is enough
                self.tasks[name] = said[1]

    @property
    def changing(self) -> list[str]:
        """The tasks that changed something, or would."""
        return [name for name, said in self.tasks.items() if said == "changed"]


@pytest.fixture(scope="module")
def controlled(suite: object) -> Iterator[Cluster]:
    """Bring up a cluster whose login host has Ansible, the role and a package."""
    assert suite is WITH_MORE
    roots = dict.fromkeys(("login", "n1"), Roots(WITH_MORE))
    with Cluster(f"ansible-{os.getpid()}", roots=roots) as cluster:
        cluster.login.write(
            f"{PLACE}/hosts", "[compute]\nn1 ansible_python_interpreter=/usr/bin/python3\n"
        )
        copy = guide.command("ansible", "cp -r").replace("/opt/slurm_adopt", "/checkout")
        cluster.login.run(["sh", "-ec", f"cd {PLACE}; mkdir roles; {copy}"])
        for host, script in ((cluster.login, LAYOUT), (cluster.n1, REPOSITORY)):
            host.run(["sh", "-ec", script, "sh", "/srv/slurm-adopt"], timeout=120)
        yield cluster


@pytest.fixture
def play(controlled: Cluster, request: pytest.FixtureRequest) -> Iterator[Play]:
    """Return it with nothing of the module on n1."""
    show_logs_of(request.config, controlled)
    node = controlled.n1
    node.run(["rm", "-rf", "/opt/slurm_adopt"])
    node.pam("sshd", stock.debian(stock.suite_of(controlled)))
    yield Play(controlled)
    node.pam("sshd", pam.stack())
    left = f"/opt/slurm_adopt /usr/local/bin/slurm-adopt {EPILOGS} /var/lib/slurm_adopt"
    node.run(["sh", "-c", f"dpkg --purge slurm-adopt; rm -rf {left} /etc/profile.d/slurm_adopt.*"])
    controlled.cancel_all()


def test_a_package(play: Play) -> None:
    """From nothing to a node that adopts; again without a change; and away."""
    node = play.node
    usual = node.read(FILE)
    given: dict[str, Any] = {
        "package": "/srv/slurm-adopt.deb",
        "options": OPTIONS,
        "epilog_directory": EPILOGS,
        "profile_d": True,
    }
    foreseen = play.run("--check", **given)
    assert foreseen.changing == ["Copy the package to the node"]
    assert node.read(FILE) == usual

    done = play.run(**given)
    assert done.changing == [
        "Copy the package to the node",
        "Install the package (deb, a file or a URL)",
        "Write the PAM lines",
        "Make the Epilog's directory",
        "Copy the Epilog's script",
        "Copy the files for /etc/profile.d",
    ]
    assert list(done.tasks)[-1] == "Check the node"
    assert f" {INSTALLED}/pam/pam_slurm_adopt.py action_adopt_failure=deny" in node.read(FILE)
    assert node.read(f"{EPILOGS}/{NAME}") == EPILOG
    job = play.cluster.submit("alice")
    assert job_of(node, play.cluster.ssh("alice", command=COMMAND).out) == job
    assert [play.cluster.ssh(user).rc for user in ("bob", "root")] == [255, 0]

    assert play.run(**given).changing == []
    by_name = {**given, "package": "slurm-adopt", "options": {"action_no_jobs": "ignore"}}
    foreseen = play.run("--check", **by_name)
    assert foreseen.changing == ["See what would change in the PAM file"]

    node.write(f"{EPILOGS}/10-site", "#!/bin/sh\n", 0o755)
    gone = play.run(state="absent", **given)
    assert gone.changing == [
        "Take the PAM lines out",
        "Remove the Epilog's script",
        "Remove the files in /etc/profile.d",
        "Remove the package",
        "Remove the copy of the package",
    ]
    assert node.read(FILE) == usual
    assert not (node.root / "var/cache/slurm-adopt.deb").exists()
    assert not (node.root / INSTALLED.lstrip("/")).exists()
    assert play.run(state="absent", **given).changing == []


def test_a_checkout(play: Play) -> None:
    """Cloned, on trial, by pam_exec; what goes wrong is told, and fails the play."""
    node = play.node
    node.pam("sshd", node.read(FILE).replace("user_readenv=1", ""))
    usual = node.read(FILE)
    given: dict[str, Any] = {
        "source": "checkout",
        "repository": "/srv/slurm-adopt",
        "requires": [],
        "front": "pam_exec",
        "options": {"action_unknown": "newest", "callerid_timeout": 2},
        "trial": "10m",
        "epilog_directory": EPILOGS,
    }
    with running(node, ("/usr/sbin/atd", "-f", "-l", "99"), "root"):
        wait_for("atd", lambda: node.run(["pidof", "atd"], check=False).returncode == 0)
        done = play.run(**given)
        assert done.changing == [
            "Clone the repository",
            "Compile the module",
            "Make the login image",
            "Put the command into PATH",
            "Write the PAM lines",
            "Confirm",
            "Make the Epilog's directory",
            "Copy the Epilog's script",
        ]
        assert "/opt/slurm_adopt/pam/pam_slurm_adopt_exec" in node.read(FILE)
        assert node.run(["atq"]).stdout == ""
        job = play.cluster.submit("alice")
        assert job_of(node, play.cluster.ssh("alice", command=COMMAND).out) == job

    wrong = play.run(status=2, **{**given, "options": {"action_no_jobs": "maybe"}})
    assert wrong.tasks["See what would change in the PAM file"] == "fatal"
    assert "action_no_jobs" in wrong.text
    wrong = play.run(status=2, **{**given, "state": "away"})
    assert "value of slurm_adopt_state must be one of: present, absent" in wrong.text

    node.run(["mv", "/etc/slurm/slurm.conf", "/etc/slurm/slurm.conf.away"])
    try:
        wrong = play.run(status=2, **{**given, "check": ["--only", "SA301"]})
    finally:
        node.run(["mv", "/etc/slurm/slurm.conf.away", "/etc/slurm/slurm.conf"])
    assert wrong.changing == []
    assert wrong.tasks["Check the node"] == "fatal"
    assert "slurm_adopt: 1 error" in wrong.text

    gone = play.run(state="absent", **given)
    assert gone.changing == ["Take the PAM lines out", "Remove the checkout"]
    assert node.read(FILE) == usual
    assert node.read(f"{EPILOGS}/{NAME}") == EPILOG  # nothing else is there: it stays


def test_the_page_s_playbook(play: Play) -> None:
    """It is one that Ansible takes, with variables that the role has."""
    (book,) = re.findall(r"```yaml\n(.*?)```", guide.page("ansible"), re.DOTALL)
    play.login.write(f"{PLACE}/slurm_adopt.yml", book)
    for line in guide.commands("ansible"):
        if line.startswith("ansible-playbook"):
            syntax = f"{line} --syntax-check -i hosts"
            play.login.run(["sh", "-ec", f"cd {PLACE}; {syntax}"], env=ENVIRONMENT)
    role = CHECKOUT / "contrib/ansible/roles/slurm_adopt"
    defaults, specified = (role / "defaults/main.yml").read_text(), (role / ARGUMENTS).read_text()
    known = set(re.findall(r"(?m)^(slurm_adopt_\w+):", defaults))
    assert set(re.findall(r"(?m)^      (slurm_adopt_\w+):$", specified)) == known
    section = guide.page("ansible").partition("## All variables")[2].partition("\n## ")[0]
    named = re.findall(r"`(slurm_adopt_\w+)`", re.sub(r"(?m)^(\|[^|]*\|).*", r"\1", section))
    assert set(named) == known
    assert set(re.findall(r"(slurm_adopt_\w+):", book)) <= known
