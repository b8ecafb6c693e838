"""`slurm-adopt whoami` says which job holds a shell by its cgroups, and what the job has here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.harness import cli, pam
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.login import Session

GUIDE = Path(__file__).parents[2] / "docs/how-to/which-job.md"
PROGRAM = " ".join([*(f"{n}={v}" for n, v in cli.FROM_CHECKOUT.items()), *cli.PROGRAM, "whoami"])


def says(session: Session, *arguments: str, before: str = "") -> tuple[int, list[str]]:
    """Return status and lines of it in a session; `before`: what the shell does first."""
    said = session.run(f"({before or ':'}; {PROGRAM} {' '.join(arguments)}; echo $?)")
    assert "Traceback" not in said
    *lines, status = said.splitlines()
    return int(status), lines


def facts(session: Session, before: str = "") -> dict[str, Any]:
    _, lines = says(session, "--json", before=before)
    found: dict[str, Any] = json.loads("\n".join(lines))
    return found


def test_a_login_s_shell(cluster: Cluster) -> None:
    """The job of two that holds it, with its CPUs and memory as the kernel has them."""
    cluster.pam(pam.both("job_env=all"))
    script = "exec sleep 900"
    job = cluster.submit("alice", script=script, mem="123M", name="fluid", options=("-t", "90"))
    with cluster.session("alice") as session:
        cluster.submit("alice")
        found = facts(session)
        cpus = cluster.n1.run(["cat", cluster.cpuset(job)]).stdout.strip()
        assert (found["schema"], found["in_job"], found["job"]) == (1, True, job)
        assert found["name"] == "fluid"
        assert found["memory_bytes"] == 123 << 20
        assert ",".join(map(str, found["cpus"])) == cpus
        assert found["remarks"] == []
        assert set(found["steps"].values()) == {"step_extern"}
        status, lines = says(session)
        assert status == 0
        assert lines[:2] == [f"job     {job}", "name    fluid"]
        assert lines[2] == "ends    not known"  # 22.05 has no SLURM_JOB_END_TIME
        assert lines[3:5] == [f"CPUs    1 ({cpus})", "memory  123 MiB"]
        assert len(lines) == 6
        assert says(session, "--prompt") == (0, [f"job {job}"])


def test_the_environment_does_not_count(cluster: Cluster) -> None:
    """Another number in it is told; what it says of that job is not said of this one."""
    job = cluster.submit("alice")
    with cluster.session("alice") as session:
        for said in (str(job + 1), "x", "9" * 5000, "'1;2'", "$(printf '\\033[31m')"):
            others = f"export SLURM_JOB_ID={said} SLURM_JOB_NAME=evil SLURM_JOB_END_TIME=9999999999"
            found = facts(session, others)
            assert (found["job"], found["name"], found["end_time"]) == (job, None, None)
            (remark,) = found["remarks"]
            assert remark.startswith("SLURM_JOB_ID is ")
            assert remark.endswith(f", but this shell is in job {job}")
            status, lines = says(session, before=others)
            assert status == 0
            assert lines[-1].endswith(f", but this shell is in job {job}")
            assert "\033" not in "".join(lines)
            assert says(session, "--prompt", before=others) == (0, [f"job {job}"])
        assert facts(session, "unset SLURM_JOB_ID")["remarks"] == []


@pytest.mark.parametrize(
    ("end", "line"),
    [
        ("$(($(date +%s) + 7230))", r"ends    at \d{4}-\d\d-\d\d \d\d:\d\d at the latest, in 2 h"),
        ("$(($(date +%s) + 180030))", "ends    at .* at the latest, in 2 d 2 h 00 min"),
        ("1000000000", "ends    at 2001-09-0. .* at the latest: that is over"),
        ("9" * 18, "ends    not known"),
        ("-1", "ends    not known"),
        ("soon", "ends    not known"),
    ],
)
def test_when_it_ends(cluster: Cluster, end: str, line: str) -> None:
    """As SLURM_JOB_END_TIME says, which Slurm has since 23.11; else it is not known."""
    import re

    cluster.submit("alice")
    with cluster.session("alice") as session:
        _, lines = says(session, before=f"export SLURM_JOB_END_TIME={end}")
        assert re.match(line, lines[2]), lines


def test_names_are_printable(cluster: Cluster) -> None:
    """A job's name sends a terminal nothing."""
    cluster.submit("alice")
    with cluster.session("alice") as session:
        evil = "export SLURM_JOB_NAME=$(printf 'a\\033]0;b\\007\\nc')"
        _, lines = says(session, before=evil)
        assert lines[1] == r"name    a\x1b]0;b\x07\nc"
        _, (shown, *_) = says(session, before=f"{evil}$(yes | head -9999 | tr -d '\\n')")
        assert max(map(len, lines)) < 300
        assert shown.startswith("job ")


def test_steps_of_srun_and_of_a_batch_script(cluster: Cluster) -> None:
    """A shell that Slurm itself has started."""
    job = cluster.submit("alice")
    argv = ["env", *(f"{n}={v}" for n, v in cli.FROM_CHECKOUT.items()), *cli.PROGRAM, "whoami"]
    done = cluster.in_job(job, "alice", "n1", [*argv, "--json"])
    found = json.loads(done.out)
    assert found["job"] == job
    assert set(found["steps"].values()) == {"step_0"}
    out = "tmp/whoami-of-batch"
    script = f"{PROGRAM} --prompt >/{out}; exec sleep 900"
    batch = cluster.submit("alice", script=script)
    wait_for("its line", lambda: (cluster.n1.root / out).exists() and cluster.n1.read(out), 20)
    assert cluster.n1.read(out) == f"job {batch}\n"
    cluster.n1.run(["rm", f"/{out}"])


@pytest.fixture
def gpus(cluster: Cluster) -> Iterator[None]:
    """Have the devices that Slurm takes for GPUs by the names of NVIDIA's as well."""
    fake = "major=$((0x$(stat -c %t /dev/fakegpu$n))) minor=$((0x$(stat -c %T /dev/fakegpu$n)))"
    make = f"for n in 0 1; do {fake}; mknod -m 666 /dev/nvidia$n c $major $minor; done"
    cluster.n1.run(["sh", "-ec", make])
    yield
    cluster.n1.run(["rm", "-f", "/dev/nvidia0", "/dev/nvidia1"])


@pytest.mark.usefixtures("gpus")
def test_gpus(cluster: Cluster) -> None:
    """Those that the job's cgroup lets it open."""
    cluster.submit("alice", gres="gpu:1")
    with cluster.session("alice") as session:
        assert facts(session)["gpus"] == ["nvidia0"]
        assert says(session)[1][-1] == "GPUs    nvidia0"
    cluster.cancel_all()
    cluster.submit("alice")
    with cluster.session("alice") as session:
        assert facts(session)["gpus"] == []
        assert says(session)[1][-1] == "GPUs    none"


def test_outside_of_jobs(cluster: Cluster) -> None:
    """Status 1; no prompt; what the environment says is not believed."""
    cluster.pam(pam.both("action_no_jobs=ignore"))
    with cluster.session("carol") as session:
        assert says(session, "--prompt") == (1, [])
        assert says(session) == (1, ["This shell is in no job."])
        assert facts(session)["in_job"] is False
        pretended = says(session, before="export SLURM_JOB_ID=4")
        assert pretended == (
            1,
            ["This shell is in no job.", "SLURM_JOB_ID is 4, but this shell is in no job"],
        )
    done = cli.run(cluster.n1, "whoami", "--prompt")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_moved_away(cluster: Cluster) -> None:
    """In some hierarchies of its job only: that is told."""
    cluster.submit("alice")
    with cluster.session("alice") as session:
        command = f"echo {session.pid} >/sys/fs/cgroup/memory/cgroup.procs"
        cluster.n1.run(["sh", "-c", command])
        found = facts(session)
        assert found["missing"] == ["memory"]
        assert found["remarks"] == ["in some of the job's cgroups only, not in its memory"]


def test_the_guide_s_prompt(cluster: Cluster) -> None:
    """The line for ~/.bashrc shows the job in front of the prompt, and nothing outside of jobs."""
    (line,) = (one for one in GUIDE.read_text().splitlines() if "whoami --prompt)" in one)
    given = " ".join(f"{name}={value}" for name, value in cli.FROM_CHECKOUT.items())
    script = f'#!/bin/sh\n{given} exec {" ".join(cli.PROGRAM)} "$@"\n'
    cluster.n1.write("usr/local/bin/slurm-adopt", script, 0o755)
    job = cluster.submit("alice")
    shell = f"""bash -c 'PS1="\\$ "; {line.strip()}; echo "$PS1"'"""
    with cluster.session("alice") as session:
        assert session.run(shell).strip() == f"[job {job}] $"
    with cluster.session("root") as session:
        assert session.run(shell).strip() == "$"
    cluster.n1.run(["rm", "/usr/local/bin/slurm-adopt"])


def test_without_click(cluster: Cluster) -> None:
    """The prompt wants neither click nor rich; the rest says what to install."""
    node = cluster.n1
    job = cluster.submit("alice")
    for name in ("click", "rich"):
        node.write(f"opt/without/{name}.py", "raise ImportError('not here')\n")
    without = PROGRAM.replace("PYTHONPATH=", "PYTHONPATH=/opt/without:")
    with cluster.session("alice") as session:
        assert session.run(f"{without} --prompt") == f"job {job}\n"
        said = session.run(f"{without}; echo $?").splitlines()
        assert said == [
            "slurm-adopt: it needs click: install python3-click (or pip install click)",
            "3",
        ]
    node.run(["rm", "-r", "/opt/without"])
