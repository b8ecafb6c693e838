"""What a session gets from its job by job_env and job_limits, as the job's own process has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_adopt.decision.variables import ALL, MODULE, PROCESS, VARIABLES
from tests.cluster.harness import pam
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.harness.site import Site

STRICT = ("action_adopt_failure=deny", "action_generic_failure=deny")
OWN = {name for name, (source, *_) in VARIABLES.items() if source == MODULE}
NAMED = ",".join(name for name, (*_, asked_for) in VARIABLES.items() if asked_for != ALL)
OF_PROCESS = {name for name, (source, *_) in VARIABLES.items() if source == PROCESS}


# The pid of the program that a job's script has become; exec sets up its environment later.
SLEEPS = """\
pid=$(cat $0) && [ "$(cat /proc/$pid/comm)" = sleep ] && [ "$(head -c1 /proc/$pid/environ)" ] &&
    echo $pid
"""


def env(text: str, separator: str = "\n") -> dict[str, str]:
    """Take what `env` prints, or /proc/PID/environ, apart."""
    pairs = (line.partition("=") for line in text.split(separator))
    return {name: value for name, equals, value in pairs if equals}


def of_session(site: Site, user: str = "alice", **how: Any) -> dict[str, str]:
    """Return the variables of a login that are in the table."""
    result = site.ssh(user, command="env", **how)
    assert result.rc == 0, result.err
    return {name: value for name, value in env(result.out).items() if name in VARIABLES}


def job(site: Site, script: str, **how: Any) -> tuple[int, int]:
    """Start a batch job whose script becomes `sleep`; return its id and that pid."""
    text = f"echo $$ >/tmp/pid-$SLURM_JOB_ID\n{script}"
    number = site.submit("alice", script=text, **how)
    find = ["sh", "-c", SLEEPS, f"/tmp/pid-{number}"]
    probe = lambda: site.n1.run(find, check=False).stdout  # noqa: E731
    return number, int(wait_for("the job's program runs", probe, 30, site.tails))


def cpus(site: Site, number: int) -> str:
    """Return how many CPUs the job's cgroup has, as a number in text."""
    found = 0
    for part in site.n1.read(site.cpuset(number)).strip().split(","):
        first, _, last = part.partition("-")
        found += int(last or first) - int(first) + 1
    return str(found)


def limits(site: Site, which: str = "-n") -> list[str]:
    """Return soft and hard limit of a login's shell."""
    return site.ssh("alice", command=f"ulimit -S {which}; ulimit -H {which}").out.split()


def job_variables(site: Site) -> None:
    """Hand over each variable of the table that the job's own process has, and no other."""
    site.pam(pam.both(*STRICT, f"job_env=all,{NAMED}"))
    options = ("--job-name=a job, [1]", "--ntasks=1", "--array=5")
    number, pid = job(
        site, "TMPDIR=/tmp/of-job exec sleep 900", mem="123M", gres="gpu:1", options=options
    )
    of_job = env(site.n1.read(f"proc/{pid}/environ"), "\0")
    found = of_session(site)
    expected = {name: value for name, value in of_job.items() if name in OF_PROCESS}
    assert {name: value for name, value in found.items() if name in OF_PROCESS} == expected
    assert found["SLURM_JOB_NAME"] == "a job, [1]"
    assert found["SLURM_ARRAY_TASK_ID"] == "5"
    assert found["TMPDIR"] == "/tmp/of-job"
    assert found["SLURM_MEM_PER_NODE"] == of_job["SLURM_MEM_PER_NODE"] == "123"
    assert found["SLURM_CPUS_ON_NODE"] == of_job["SLURM_CPUS_ON_NODE"] == cpus(site, number)
    assert {name: found[name] for name in OWN} == {name: of_job[name] for name in OWN}
    assert len(expected) > 20, expected


def job_limits(site: Site) -> None:
    """Set soft and hard limits as the job's process has them."""
    set_them = "ulimit -S -n 300; ulimit -H -n 400; ulimit -p 700; ulimit -S -s 2048; ulimit -c 0"
    job(site, f"{set_them}; exec sleep 900")
    site.pam(pam.both(*STRICT, "job_limits=1"))
    assert limits(site) == ["300", "400"]
    assert limits(site, "-u") == ["700", "700"]
    assert limits(site, "-s")[0] == "2048"
    assert limits(site, "-c") == ["0", "0"]
    site.pam(pam.both(*STRICT, "job_env=all"))
    assert limits(site) != ["300", "400"]


EVERYWHERE: tuple[Callable[[Site], None], ...] = (job_variables, job_limits)
