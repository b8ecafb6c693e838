"""`slurm-adopt use`, user_choice and action_unknown=ask, by real logins of a user with two jobs."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from slurm_adopt.decision.outcome import CHOOSE
from tests.cluster.harness import cli, pam, scancel
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import COMMAND, REFUSED, job_of, land
from tests.cluster.harness.login import Result, ssh_argv
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import job_namespaces, login_methods

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

CHOICES = "/run/slurm_adopt/choices"
CHOICE = "user_choice=1"
DENY = "action_unknown=deny"
ASK = "action_unknown=ask"
TEXT = "the job that the user has chosen; "


@dataclass(frozen=True)
class Scene:
    """Alice has two jobs on n1."""

    cluster: Cluster
    node: Host
    older: int
    newest: int

    def uid(self, user: str = "alice") -> str:
        """Return a user's uid."""
        return self.node.run(["id", "-u", user]).stdout.strip()

    def options(self, *options: str, stack: Any = pam.both) -> None:
        """Give the module on n1 these options."""
        self.node.pam("sshd", stack(*options))

    def login(self) -> int | None:
        """Log in from the login node; return the job that the login is in."""
        result = self.cluster.ssh("alice", command=COMMAND, timeout=60)
        return job_of(self.node, result.out)

    def use(self, *words: str, user: str | None = "alice", env: Any = None) -> tuple[int, str]:
        """Run the command on n1, outside of all jobs; return its status and what it says."""
        done = cli.run(self.node, "use", *words, user=user, env=env)
        assert done.stderr.count("\n") <= 1
        return done.returncode, done.stdout + done.stderr

    def touch(self, job: int | str, user: str = "alice") -> None:
        """Have a user set the time that is alice's choice, without the command."""
        self.node.run(["touch", "-hmd", f"@{job}", f"{CHOICES}/{self.uid()}"], user)


@pytest.fixture
def scene(cluster: Cluster) -> Iterator[Scene]:
    """Return two jobs on n1; the site lets users choose."""
    cluster.n1.run(["rm", "-rf", "/run/slurm_adopt"])
    found = Scene(cluster, cluster.n1, cluster.submit("alice"), cluster.submit("alice"))
    found.options(CHOICE)
    yield found
    cluster.n1.run(["rm", "-rf", "/run/slurm_adopt"])


# The command


def test_from_a_shell_in_the_job(scene: Scene) -> None:
    """The first login makes the place; then the user chooses, and takes it back."""
    assert scene.login() == scene.newest
    assert scene.use(str(scene.older)) == (
        0,
        f"logins to this node that come from none of your jobs go to job {scene.older}\n",
    )
    assert scene.login() == scene.older
    with scene.cluster.session("alice") as session:
        assert job_of(scene.node, session.run(COMMAND)) == scene.older
        words = " ".join(["env", *(f"{n}={v}" for n, v in cli.FROM_CHECKOUT.items()), *cli.PROGRAM])
        assert "no job is chosen any more" in session.run(f"{words} use --clear")
        assert scene.login() == scene.newest
        assert f"go to job {scene.older}" in session.run(f"{words} use this")
    assert scene.login() == scene.older


STACKS = {
    "account": pam.with_module,
    "session": lambda *options: [*pam.stack(), *pam.session_lines(*options)],
    "both": pam.both,
}


@pytest.mark.parametrize("lines", STACKS)
def test_from_a_step(scene: Scene, lines: str) -> None:
    """As a batch script has it; whichever line adopts."""
    scene.options(CHOICE, stack=STACKS[lines])
    assert scene.login() == scene.newest
    for job in (scene.older, scene.newest):
        environment = [f"{name}={value}" for name, value in cli.FROM_CHECKOUT.items()]
        argv = ["env", *environment, *cli.PROGRAM, "use", "this"]
        said = scene.cluster.in_job(job, "alice", "n1", argv).out
        assert f"go to job {job}" in said
        assert scene.login() == job


def test_from_a_job_with_namespaces_of_its_own(cluster: Cluster) -> None:
    """Its shells have a /tmp of their own, and the host's /run: the place is the same."""
    node = cluster.n1
    node.run(["rm", "-rf", "/run/slurm_adopt"])
    with job_namespaces.plugin_in_use(cluster, job_namespaces.TMPFS):
        older, newest = cluster.submit("alice"), cluster.submit("alice")
        scene = Scene(cluster, node, older, newest)
        scene.options(CHOICE)
        with cluster.session("alice") as session:
            assert job_of(node, session.run(COMMAND)) == newest
            assert (
                session.run("readlink /proc/self/ns/mnt")
                != node.run(["readlink", "/proc/self/ns/mnt"]).stdout
            )
            session.run(f"touch -hmd @{older} {CHOICES}/{scene.uid()}")
        assert scene.login() == older
        cluster.cancel_all()
    node.run(["rm", "-rf", "/run/slurm_adopt"])


def test_what_knows_better_comes_first(scene: Scene) -> None:
    """A login from inside one of the user's jobs goes there."""
    assert scene.login() == scene.newest
    assert scene.use(str(scene.newest))[0] == 0
    there = scene.cluster.submit("alice", "n1,n2")
    login = ["ssh", "n1", COMMAND]

    def inside() -> Result:
        return scene.cluster.in_job(there, "alice", "n2", login, timeout=60, check=False)

    assert land(scene.node, inside).job == there
    assert scene.login() == scene.newest


def test_where_the_site_does_not_let_them(scene: Scene) -> None:
    assert scene.login() == scene.newest
    assert scene.use(str(scene.older))[0] == 0
    scene.options()
    assert scene.login() == scene.newest
    status, said = scene.use()
    assert status == 1
    assert "but user_choice=1 is not set for this node's sshd: logins do not look at it" in said
    scene.node.run(["rm", "-r", CHOICES])
    status, said = scene.use(str(scene.older))
    assert status == 2
    assert "this node takes no choices: user_choice=1 is not set for its sshd" in said
    assert scene.login() == scene.newest
    assert not (scene.node.root / CHOICES.lstrip("/")).exists()


def test_what_it_shows(scene: Scene) -> None:
    older, newest = scene.older, scene.newest
    assert scene.use()[1].startswith("no job is chosen\nJOB  SINCE")
    status, said = scene.use(str(older))
    assert status == 2
    assert "no place for your choice on this node yet: your first login by ssh makes it" in said
    assert scene.use("--clear") == (0, "no job is chosen any more\n")
    assert scene.login() == newest
    scene.use(str(older))
    head, *rows = scene.use()[1].splitlines()
    assert head.endswith(f"go to job {older}")
    assert [row.split()[0] for row in rows] == ["JOB", str(older), str(newest)]
    assert [row.endswith("chosen") for row in rows] == [False, True, False]
    found = cli.run_json(scene.node, "use", user="alice")
    since = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert [job["job"] for job in found["jobs"]] == [older, newest]
    assert all(re.fullmatch(since, job["since"]) for job in found["jobs"])
    assert found["choice"].pop("made") > 1_700_000_000
    assert {**found, "jobs": None} == {
        "schema": 1,
        "user": "alice",
        "enabled": True,
        "place": True,
        "choice": {"job": older, "counts": True, "why_not": ""},
        "jobs": None,
    }
    assert cli.run_json(scene.node, "use", user="bob") == {
        "schema": 1, "user": "bob", "enabled": True, "place": False, "choice": None, "jobs": [],
    }  # fmt: skip


WRONG: list[tuple[list[str], dict[str, str], str | None, int, str]] = [
    (["42", "--clear"], {}, "alice", 3, "give a job or --clear, not both"),
    (["x"], {}, "alice", 3, "'x' is not a job id, such as 42, nor 'this'"),
    (["42_7"], {}, "alice", 3, "'42_7' is not a job id"),
    (["0"], {}, "alice", 3, "'0' is not a job id"),
    (["-1"], {}, "alice", 3, "try 'slurm-adopt use --help'"),
    (["9" * 5000], {}, "alice", 3, "is not a job id"),
    (["\x1b[2J\u0667"], {}, "alice", 3, "is not a job id"),
    (["42", "43"], {}, "alice", 3, "try 'slurm-adopt use --help'"),
    (["this"], {}, "alice", 3, "this shell has no SLURM_JOB_ID: give the job's id"),
    (["this"], {"SLURM_JOB_ID": "x"}, "alice", 3, "this shell has no SLURM_JOB_ID"),
    (["this"], {"SLURM_JOB_ID": "77777"}, "alice", 2, "job 77777 is none of your jobs on this "),
    (["77777"], {}, "alice", 2, "job 77777 is none of your jobs on this node (those are "),
    (["77777"], {}, "bob", 2, "job 77777 is none of your jobs on this node (you have none here)"),
    (["77777"], {}, None, 3, "root has no choice to make"),
    ([], {}, None, 3, "root has no choice to make"),
]


def test_bad_input(scene: Scene) -> None:
    assert scene.login() == scene.newest
    for words, env, user, status, text in WRONG:
        found = scene.use(*words, user=user, env=env)
        assert found[0] == status, (words, found)
        assert text in found[1], (words, found)
        assert found[1].startswith("slurm-adopt: "), (words, found)
        assert found[1].rstrip("\n").isprintable(), (words, found)
    assert scene.login() == scene.newest


def test_without_slurm(scene: Scene) -> None:
    """A slurm.conf that is not there, or is garbage, is one line."""
    conf = scene.node.root / "etc/slurm/slurm.conf"
    usual = conf.read_text()
    try:
        conf.write_text("\0\1")
        status, said = scene.use(str(scene.older))
        assert (status, said.count("\n")) == (3, 1)
        assert "your jobs on this node cannot be told: " in said
    finally:
        conf.write_text(usual)


# What a user may choose


def test_another_s_job(scene: Scene) -> None:
    """Whatever is written there, it is one of the user's own jobs or none."""
    bobs = scene.cluster.submit("bob")
    assert scene.login() == scene.newest
    status, said = scene.use(str(bobs))
    assert status == 2
    assert f"job {bobs} is none of your jobs on this node" in said
    for number in (bobs, 77777, 1, (1 << 32) - 1, 1 << 32, -3):
        scene.touch(number)
        mark = scene.node.mark()
        assert scene.login() == scene.newest
        none = not 0 < number < 1 << 32
        why = "no job" if none else f"job {number}, which is not one of the jobs to take"
        assert any(f"the user has chosen {why}" in line for line in scene.node.log(mark))
    with pytest.raises(RuntimeError, match="Operation not permitted"):
        scene.touch(scene.older, "bob")
    scene.touch(bobs)
    status, said = scene.use()
    assert status == 1
    assert f"job {bobs} is chosen, but does not count: that is none of your jobs here now" in said


def test_gone_with_the_job(scene: Scene) -> None:
    assert scene.login() == scene.newest
    scene.touch(scene.older)
    assert scene.login() == scene.older
    scene.cluster.cancel(scene.older)
    scene.cluster.wait_gone(scene.older)
    latest = scene.cluster.submit("alice")
    mark = scene.node.mark()
    assert scene.login() == latest
    said = f"the user has chosen job {scene.older}, which is not one of the jobs to take"
    assert any(said in line for line in scene.node.log(mark))
    assert scene.use()[0] == 1


def test_before_the_job(scene: Scene) -> None:
    """A job that has the id of the choice, and was started here later: as if it were requeued."""
    assert scene.login() == scene.newest
    to_come = scene.newest + 1
    scene.touch(to_come)
    time.sleep(0.5)  # more than the clocks of processes and files differ by
    assert scene.cluster.submit("alice") == to_come
    scene.cluster.submit("alice")
    mark = scene.node.mark()
    assert scene.login() == to_come + 1
    said = f"the user has chosen job {to_come} before it was started here"
    assert any(said in line for line in scene.node.log(mark))
    status, told = scene.use()
    assert (status, "it was made before that job was started here" in told) == (1, True)
    assert scene.use(str(to_come))[0] == 0
    assert scene.login() == to_come


def test_a_chosen_job_that_takes_nothing(scene: Scene) -> None:
    """A suspended one: action_unknown decides among the others."""
    assert scene.login() == scene.newest
    assert scene.use(str(scene.older))[0] == 0
    scancel.send(scene.cluster.ctl, "STOP", str(scene.older), user="alice")

    def frozen() -> bool:
        return "the job is suspended" in verdict(scene, CHOICE)

    wait_for("a frozen job", frozen, 30)
    mark = scene.node.mark()
    assert scene.login() == scene.newest
    said = f"the user has chosen job {scene.older}, but "
    assert any(said in line for line in scene.node.log(mark))
    scancel.send(scene.cluster.ctl, "CONT", str(scene.older), user="alice")
    wait_for("a thawed job", lambda: not frozen(), 30)
    assert scene.login() == scene.older


# Where it is kept: see unit/test_user_choice.py for all that a user might try

TRIED = """\
cd /run/slurm_adopt/choices || exit 9
for try in 'rm -f {0}' 'ln -sfn /etc/shadow {0}' 'ln /etc/passwd {0}.x' 'mkfifo {0}.x' \
        'mkdir {0}.x' 'mv {0} {0}.x' 'dd if=/dev/zero of={0} bs=1M count=1024' 'echo x >{0}' \
        'chown -h bob {0}' 'touch {0}.x' 'ls'; do
    if sh -c "$try" >/dev/null 2>&1; then echo "done: $try"; fi
done
"""


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_nobody_puts_anything_there(scene: Scene, who: str) -> None:
    assert scene.login() == scene.newest
    scene.touch(scene.older)
    listing = ["find", "/run/slurm_adopt", "-printf", r"%p %y %u %m %s\n"]
    before = scene.node.run(listing).stdout
    assert scene.node.run(["sh", "-c", TRIED.format(scene.uid())], who, check=False).stdout == ""
    assert scene.node.run(listing).stdout == before
    assert scene.login() == scene.older


@contextmanager
def full(node: Host, inodes: int) -> Iterator[None]:
    """Have a file system at /run/slurm_adopt that has no room for more than some inodes."""
    node.run(["mkdir", "-p", "/run/slurm_adopt"])
    options = f"size=4k,nr_inodes={inodes},mode=711"
    node.run(["mount", "-t", "tmpfs", "-o", options, "choices", "/run/slurm_adopt"])
    try:
        yield
    finally:
        node.run(["umount", "/run/slurm_adopt"])


def test_a_full_disk(scene: Scene) -> None:
    """There is no place then, and the login goes on; where there is one, a choice needs none."""
    with full(scene.node, 2):
        mark = scene.node.mark()
        assert scene.login() == scene.newest
        said = [line for line in scene.node.log(mark) if "cannot make /run/slurm_adopt/" in line]
        assert "No space left on device; slurm-adopt use has no place to keep a choice" in said[0]
        assert scene.use(str(scene.older))[0] == 2
    with full(scene.node, 3):
        assert scene.login() == scene.newest
        filler = scene.node.run(["touch", "/run/slurm_adopt/more"], check=False)
        assert "No space left" in filler.stderr
        assert scene.use(str(scene.older))[0] == 0
        assert scene.login() == scene.older


SQUATTED = {
    "a file": "echo 42 >{0}; chown alice {0}",
    "a FIFO": "mkfifo {0}; chown alice {0}",
    "a directory": "mkdir {0}; chown alice {0}",
    "a large file": "truncate -s 1G {0}; chown alice {0}",
    "bob's link": "ln -s x {0}; chown -h bob {0}",
}


@pytest.mark.parametrize("what", SQUATTED)
def test_something_else_is_there(scene: Scene, what: str) -> None:
    """Only root could have put it there: it does not count, and holds up nobody."""
    there = f"{CHOICES}/{scene.uid()}"
    make = f"umask 0; mkdir -pm 711 /run/slurm_adopt {CHOICES}; {SQUATTED[what].format(there)}"
    scene.node.run(["sh", "-ec", f"{make}; touch -hmd @{scene.older} {there}"])
    mark = scene.node.mark()
    assert scene.login() == scene.newest
    text = f"{there} is not a link of the user's: remove it"
    assert any(text in line for line in scene.node.log(mark))
    status, said = scene.use(str(scene.older))
    assert (status, text in said) == (2, True)


def test_squatted_directory(scene: Scene) -> None:
    """Bob had /run/slurm_adopt/choices first, where a site has let that happen."""
    make = f"umask 0; mkdir -pm 711 /run/slurm_adopt; mkdir {CHOICES}; chown bob {CHOICES}"
    link = f"{CHOICES}/{scene.uid()}"
    scene.node.run(["sh", "-ec", f"{make}; ln -s x {link}; chown -h alice {link}"])
    scene.touch(scene.older)
    mark = scene.node.mark()
    assert scene.login() == scene.newest
    assert any("does not belong to root, or others may" in line for line in scene.node.log(mark))
    assert scene.use()[0] == 2


def test_many_first_logins_at_once(scene: Scene) -> None:
    argv = [*ssh_argv("n1", "alice"), "echo $SLURM_JOB_ID"]
    script = 'for n in 1 2 3 4 5 6 7 8; do "$@" & done; wait'
    mark = scene.node.mark()
    said = scene.cluster.login.run(["sh", "-c", script, "sh", *argv], "alice", timeout=60).stdout
    assert said.split() == [str(scene.newest)] * 8
    assert not [line for line in scene.node.log(mark) if "cannot make" in line]
    scene.touch(scene.older)
    said = scene.cluster.login.run(["sh", "-c", script, "sh", *argv], "alice", timeout=60).stdout
    assert said.split() == [str(scene.older)] * 8


# The Prolog's lines of the page, for those who choose before they have ever logged in


def test_the_prolog_s_lines(scene: Scene, pytestconfig: pytest.Config) -> None:
    root: Path = pytestconfig.rootpath
    page = (root / "docs/how-to/choose-a-job.md").read_text()
    (lines,) = re.findall(r"\n((?:    .*\n)+)", page.partition("Prolog")[2])[:1]
    script = "\n".join(line[4:] for line in lines.splitlines())
    for _ in range(2):  # of a second job
        scene.node.run(["env", f"SLURM_JOB_UID={scene.uid()}", "sh", "-ec", script])
    assert scene.use()[0] == 0
    assert scene.use(str(scene.older))[0] == 0
    # The Prolog of another job has made the link since this one looked.
    late = script.replace("[ ! -L", "[ ! -d")
    for lines in (script, late):
        scene.node.run(["env", f"SLURM_JOB_UID={scene.uid()}", "sh", "-ec", lines])
        assert scene.login() == scene.older
    assert late != script


# A user who is refused


def test_the_refusal_names_the_command(scene: Scene) -> None:
    """And what it says works, without a login before."""
    scene.options(CHOICE, DENY)
    result = scene.cluster.ssh("alice")
    assert result.rc == 255
    assert f"{REFUSED}{CHOOSE}" in result.err
    words = CHOOSE.partition("srun ")[2].split()
    assert words[-3:] == ["slurm-adopt", "use", "this"]
    environment = [f"{name}={value}" for name, value in cli.FROM_CHECKOUT.items()]
    options = [word.replace("JOBID", str(scene.older)) for word in words[:-3]]
    argv = ["srun", *options, "env", *environment, *cli.PROGRAM, *words[-2:]]
    assert f"go to job {scene.older}" in scene.cluster.login.run(argv, "alice").stdout
    assert scene.login() == scene.older
    scene.options(DENY)
    result = scene.cluster.ssh("alice")
    assert (result.rc, CHOOSE in result.err) == (255, False)


# What looks and changes nothing agrees

EXPLAINED = """\
import os, pwd, sys
from slurm_adopt.cli.verdict.verdict import verdict
from slurm_adopt.decision.options import parse
found = verdict("alice", pwd.getpwnam("alice").pw_uid, parse(sys.argv[1:])[0])
print(found.job_id, found.outcome.text, os.path.exists("/run/slurm_adopt/choices"))
"""


def verdict(scene: Scene, *options: str) -> str:
    """Return what the engine says over a node that changes nothing."""
    environment = [f"{name}={value}" for name, value in cli.FROM_CHECKOUT.items()]
    argv = ["env", *environment, "/usr/bin/python3", "-c", EXPLAINED, *options]
    return scene.node.run(argv).stdout


def test_the_verdict_agrees(scene: Scene) -> None:
    assert verdict(scene, CHOICE).startswith(f"{scene.newest} ")
    assert verdict(scene, CHOICE).endswith(" False\n")  # it makes no place
    assert scene.login() == scene.newest
    scene.touch(scene.older)
    said = f"{scene.older} adopted into job {scene.older} ({TEXT}"
    assert verdict(scene, CHOICE, DENY).startswith(said)
    assert verdict(scene, CHOICE, ASK).startswith(said)
    assert "; the user cannot be asked)" in verdict(scene, ASK)


# action_unknown=ask

# Runs a command on a terminal of its own and types: `python3 -c TYPIST ANSWERS COMMAND...`, where
# ANSWERS is a list of what is waited for and what is typed then. Prints how that went.
TYPIST = """\
import json, os, pty, sys
answers = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if not pid:
    os.execvp(sys.argv[2], sys.argv[2:])
shown, seen = b"", b""
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    if not data:
        break
    shown, seen = shown + data, seen + data
    if answers and answers[0][0].encode() in seen:
        os.write(terminal, answers.pop(0)[1].encode() + b"\\n")
        seen = b""
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps([status, shown.decode(errors="replace"), len(answers)]))
"""
PASSWORD = ("assword: ", "password of alice")
WHICH = "Which one is this login for? ["


@dataclass(frozen=True)
class Typed:
    """How a login went whose user has typed something."""

    rc: int
    shown: str
    left: int  # answers that nobody has asked for
    job: int | None


def typist(answers: Sequence[tuple[str, str]], *options: str) -> list[str]:
    """Return what logs in to n1 by keyboard-interactive on a terminal."""
    ask = ["NumberOfPasswordPrompts=1", "PreferredAuthentications=keyboard-interactive"]
    argv = ["ssh", "-T", *options, *(word for one in ask for word in ("-o", one)), "alice@n1"]
    return ["python3", "-c", TYPIST, json.dumps(answers), *argv, COMMAND]


def typing(scene: Scene, answers: Sequence[tuple[str, str]]) -> Typed:
    """Log in so; return how that went."""
    done = scene.cluster.login.run(typist(answers), "alice", timeout=60)
    rc, shown, left = json.loads(done.stdout)
    return Typed(rc, shown, left, job_of(scene.node, shown.replace("\r", "")))


# What is typed -> the role of the job, "" for a refusal
ANSWERS: list[tuple[list[str], str]] = [
    (["{older}"], "older"),
    (["{newest}"], "newest"),
    ([""], "newest"),
    (["77777", "{older}"], "older"),
    (["x", ""], "newest"),
    (["{bobs}", ""], "newest"),
    (["77777", "no", "{bobs}"], ""),
]  # fmt: skip


@pytest.mark.parametrize("lines", ["account", "both"])
def test_asked_on_a_terminal(scene: Scene, lines: str) -> None:
    """keyboard-interactive: the user is shown the jobs, and answers."""
    bobs = scene.cluster.submit("bob")
    stack = pam.both if lines == "both" else pam.with_module
    scene.options(ASK, *pam.PRODUCTION, stack=stack)
    roles = {"older": scene.older, "newest": scene.newest, "bobs": bobs}
    for words, role in ANSWERS:
        mark = scene.node.mark()
        given = [(WHICH, word.format(**roles)) for word in words]
        found = typing(scene, [PASSWORD, *given])
        assert found.left == 0, found
        assert found.job == (roles[role] if role else None), (words, found)
        assert found.rc == (0 if role else 255), (words, found)
        assert found.shown.count("You have several jobs on this node:") == len(words)
        assert found.shown.count("That is none of these jobs.") == len(words) - 1
        listed = re.findall(
            r"^ +(\d+)  since \d{4}-\d\d-\d\d \d\d:\d\d\r?$", found.shown, re.MULTILINE
        )
        assert listed == [str(scene.older), str(scene.newest)] * len(words)
        assert f"{WHICH}{scene.newest}] " in found.shown
        if not role:
            assert REFUSED in found.shown
        said = [line for line in scene.node.log(mark) if "pam_slurm_adopt" in line]
        reason = "the user's answer; " if role else "the user has named none of the jobs in 3 ans"
        assert any(reason in line for line in said), said


NAMES = {"train 7": "train 7", "a'b;c": "", "\u00e9": "", "n" * 200: "n" * 32}


def test_names_are_shown(scene: Scene) -> None:
    """Of jobs with a process here, and as plain text alone."""
    scene.options(ASK)
    jobs = {
        scene.cluster.submit("alice", script="sleep 1000", name=name, mem="10M"): shown
        for name, shown in NAMES.items()
    }
    found = typing(scene, [PASSWORD, (WHICH, str(scene.older))])
    assert found.job == scene.older
    lines = found.shown.replace("\r", "").splitlines()
    for job, name in jobs.items():
        (line,) = [line for line in lines if line.split()[:1] == [str(job)]]
        assert line.partition(str(job))[2].partition("since")[0].strip() == name


def test_a_program_that_types_the_password(scene: Scene) -> None:
    """It is refused, and the password is in no log."""
    scene.options(ASK)
    mark = scene.node.mark()
    result = scene.cluster.ssh("alice", method="keyboard-interactive")
    assert result.rc == 255
    assert not [line for line in scene.node.log(mark) if "password of alice" in line]


@pytest.mark.parametrize("method", ["publickey", "password"])
def test_where_nobody_can_be_asked(scene: Scene, method: str) -> None:
    """The newest, and nothing of the question is shown; scp and sftp are as they were."""
    scene.options(ASK)
    mark = scene.node.mark()
    result = scene.cluster.ssh("alice", command=COMMAND, method=method)
    assert (result.rc, result.err) == (0, "")
    assert job_of(scene.node, result.out) == scene.newest
    assert any("; the user cannot be asked)" in line for line in scene.node.log(mark))


def test_copies_where_nobody_can_be_asked(scene: Scene) -> None:
    scene.options(ASK)
    login = scene.cluster.login
    for legacy in ("-O", "-s"):
        name = f"/tmp/copy{legacy}"
        done = login.run(
            ["scp", "-B", "-q", legacy, "/etc/hostname", f"alice@n1:{name}"], "alice", timeout=60
        )
        assert done.stdout + done.stderr == ""
        scene.node.run(["rm", name])


def test_su_asks_on_a_terminal_alone(scene: Scene) -> None:
    """A script's standard input is its own."""
    node = scene.node
    stock = node.read("etc/pam.d/su")
    options = f"service=* callerid=0 {ASK}"
    lines = [f"{pam.OURS} {options}", f"{pam.SESSION} {options}"]
    node.pam("su", ["auth sufficient pam_rootok.so", *lines, "session required pam_permit.so"])
    su = ["su", "alice", "-c", f"cat; {COMMAND}"]
    try:
        said = node.run(["setsid", *su], input=f"{scene.older}\n").stdout
        assert said.startswith(f"{scene.older}\n")
        assert job_of(node, said.partition("\n")[2]) == scene.newest
        answers = json.dumps([(WHICH, str(scene.older))])
        argv = ["python3", "-c", TYPIST, answers, "su", "alice", "-c", COMMAND]
        rc, shown, left = json.loads(node.run(argv).stdout)
        assert (rc, left) == (0, 0)
        assert job_of(node, shown.replace("\r", "")) == scene.older
    finally:
        node.pam("su", stock)


def test_root_is_not_asked(scene: Scene) -> None:
    """With ignore_root=0: a program that types root's password once gets in."""
    jobs = [scene.cluster.submit("root") for _ in range(2)]
    stack = [line for line in pam.both("ignore_root=0", ASK, CHOICE) if "uid eq 0" not in line]
    scene.node.pam("sshd", stack)
    scene.node.run(["chpasswd"], input="root:password of root\n")
    mark = scene.node.mark()
    result = scene.cluster.ssh("root", command=COMMAND, method="keyboard-interactive", timeout=60)
    assert result.rc == 0
    assert job_of(scene.node, result.out) == jobs[1]
    log = scene.node.log(mark)
    assert any("; the user cannot be asked)" in line for line in log), log
    assert not any("the user has " in line for line in log if "chosen no job" not in line), log
    assert not (scene.node.root / CHOICES.lstrip("/") / "0").is_symlink()


SHORT = 2022
POSTPONED = "Postponed keyboard-interactive/pam for alice"  # the second prompt is asked


def test_silence(scene: Scene) -> None:
    """LoginGraceTime ends it, as while a password is asked for; no job has had the process."""
    scene.options(ASK)
    node, options = scene.node, ["-o", "LoginGraceTime=5", "-o", "PidFile=none"]
    sshd = node.popen(["/usr/sbin/sshd", "-D", "-p", str(SHORT), *options])
    taken, mark = login_methods.Taken(node), node.mark()
    try:
        wait_for("the second sshd", lambda: SHORT in node.listening(), 30)
        silent = scene.cluster.login.popen(
            typist([PASSWORD], "-p", str(SHORT)), "alice", stdin=-1, stdout=-1
        )
        try:
            asked = lambda: POSTPONED in str(node.log(mark))  # noqa: E731
            wait_for("the question", asked, 30, every=0.2)
            of_login = ["pgrep", "-f", "^sshd(-session)?: alice"]  # the second since OpenSSH 9.8
            assert node.run(of_login, check=False).stdout
            gone = lambda: node.run(of_login, check=False).stdout == ""  # noqa: E731
            wait_for("its processes gone", gone, 60, every=0.2)
            assert silent.poll() is None
        finally:
            end(silent)
        assert not taken.pids()
        assert not [line for line in node.log(mark) if "pam_slurm_adopt" in line]
    finally:
        end(sshd)


def test_chosen_before_it_is_asked(scene: Scene) -> None:
    """Who has chosen is not asked."""
    scene.options(ASK, CHOICE)
    found = typing(scene, [PASSWORD, (WHICH, str(scene.newest))])
    assert (found.job, found.left) == (scene.newest, 0)
    assert scene.use(str(scene.older))[0] == 0
    found = typing(scene, [PASSWORD])
    assert (found.job, WHICH in found.shown) == (scene.older, False)
