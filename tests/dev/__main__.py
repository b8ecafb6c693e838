"""Entry of `python -m tests.dev`, which `./dev` runs once the machine has what it needs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from rich.console import Console

from tests.cluster.harness.root import BuildError, cache_dir, suite_root
from tests.cluster.harness.state import clusters
from tests.cluster.harness.wait import NotInTimeError
from tests.signals import heed

if TYPE_CHECKING:
    from tests.cluster.harness.state import State

HOSTS = ("ctl", "n1", "n2", "login")

console = Console(highlight=False)


@click.group()
def main() -> None:
    """Develop slurm_adopt on a real Slurm cluster."""
    on_signals_leave()


def on_signals_leave() -> None:
    """Make the signals that end a program as harmless as Ctrl-C: what is up comes down."""
    heed(_terminated)


def _terminated(signum: int) -> NoReturn:
    """Leave through every `finally`."""
    sys.exit(128 + signum)


@main.command()
@click.option("--keep", is_flag=True, help="leave the cluster up afterwards")
def demo(keep: bool) -> None:
    """Bring up a cluster and log in by ssh in every situation."""
    from tests.cluster.tools.demo import main as show

    sys.exit(show(console, keep))


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(arguments: tuple[str, ...]) -> None:
    """Run all tests, a quick part of them (--quick), or what the pytest arguments choose."""
    if not arguments or arguments == ("--quick",):
        from tests.dev import division

        chosen = division.QUICK if arguments else division.ALL
        for suite in division.suites(chosen):
            suite_root(suite, console.print)
        arguments = division.beside_each_other(chosen)
        os.environ.setdefault("SLURM_ADOPT_PATIENCE", division.PATIENCE)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])


@main.command()
@click.argument("cells", nargs=-1)
def vm(cells: tuple[str, ...]) -> None:
    """Run the tests in virtual machines, or those of some cells; print a table of them."""
    from tests.vm.table import run

    sys.exit(run(console, cells))


@main.command()
@click.option("--write", is_flag=True, help="put the table into compatibility.md as well")
@click.argument("cells", nargs=-1)
def matrix(cells: tuple[str, ...], write: bool) -> None:
    """Run the cells, in namespaces and in machines, or those named; print a table of them."""
    from tests.dev.matrix import run

    sys.exit(run(console, cells, write))


@main.command()
def deb() -> None:
    """Build the Debian package; its path, what is in it, and what lintian says of it."""
    from tests.dev.deb import make

    sys.exit(make(console))


@main.command()
@click.argument("kinds", nargs=-1)
def packages(kinds: tuple[str, ...]) -> None:
    """Build the packages, or those of some kinds (deb, rpm, wheel); install and use them."""
    from tests.dev.packages import run

    sys.exit(run(kinds))


@main.command()
@click.argument("releases", nargs=-1, type=click.IntRange(8, 10))
def rpm(releases: tuple[int, ...]) -> None:
    """Build the packages for RHEL 8, 9 and 10, or for some of them, into dist."""
    from tests.dev import rpm

    for release in releases or rpm.RELEASES:
        files = rpm.build(release)
        console.print(*files, *rpm.lint(*files), sep="\n", markup=False)


@main.command()
def wheel() -> None:
    """Build the wheel and the sdist into dist."""
    from tests.dev import wheel

    console.print(*wheel.build(), sep="\n", markup=False)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host", type=click.Choice(HOSTS))
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def shell(host: str, command: tuple[str, ...]) -> None:
    """Enter a host of a cluster that is up, or run a command there."""
    found = _newest()
    argv = found.hosts[host].enter(command or ("bash", "-l"))
    os.execvpe(argv[0], argv, {**os.environ, "HOME": "/root"})


@main.command()
@click.argument("name", default="demo")
def down(name: str) -> None:
    """Stop and remove the demo's cluster, or the one of that name; and what a killed run left."""
    states = clusters()
    for state in states:
        if state.driver.alive():
            console.print(f"cluster {state.name}: in use by process {state.driver.pid}")
        elif state.stale or state.name == name:
            state.remove()
            console.print(f"cluster {state.name}: stopped and removed")
        else:
            console.print(f"cluster {state.name}: left up; ./dev down {state.name} removes it")
    if not states:
        console.print("no cluster is up")


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure what a login costs; `--instructions [COMMIT...]` counts its instructions.

    `--commands [SESSIONS]` measures the commands of slurm-adopt on a node with many ssh sessions.
    """
    command = [sys.executable, "-m", "tests.cluster.tools.bench", *arguments]
    os.execv(command[0], command)  # so that who ends this ends that, and it takes down what is up


@main.command()
@click.option("--tries", default=500, help="logins of the attacker; an eighth of it in the machine")
@click.option("--parallel", default=20, help="clients of the attacker at the same time")
@click.option("--cells", default="", help="PLACE/STACK/METHOD/ATTACK, patterns, commas between")
@click.option("--vm", is_flag=True, help="those in the virtual machine as well")
@click.option("--list", "listing", is_flag=True, help="only name the cells")
@click.option("--json", "file", type=click.Path(path_type=Path), help="write what was seen there")
def lockout(
    tries: int, parallel: int, cells: str, vm: bool, listing: bool, file: Path | None
) -> None:
    """Have a user freeze the own job and log in to it; see whether others still get in."""
    from tests.cluster.tools import lockout

    chosen = lockout.chosen(cells, vm)
    if listing or not chosen:
        console.print(*(cell.name for cell in chosen or lockout.CELLS.values()), sep="\n")
        sys.exit(0 if chosen else 2)
    sys.exit(lockout.run(console, chosen, tries, parallel, file))


@main.command()
@click.option("--jobs", default="", help="only jobs with this in `COMMAND OPTIONS`")
@click.option("--json", "file", type=click.Path(path_type=Path), help="write what was seen there")
def programs(jobs: str, file: Path | None) -> None:
    """Start programs in sessions in jobs made in many ways; print a table of what failed."""
    from tests.cluster.tools.programs import run

    sys.exit(run(console, jobs, file))


@main.command()
@click.option("--logins", default="300", help="how many at the same moment; commas between")
@click.option("--jobs", default=30, help="how many jobs, where they are not for one")
@click.option(
    "--shapes",
    default="one job,users,newest,callerid",
    help="into one job; into the jobs of many users; into the jobs of one user, from the login "
    "node (newest) or from inside of each (callerid); commas between",
)
@click.option(
    "--modules", default="C module,both lines,account line", help="which stacks; commas between"
)
@click.option("--json", "file", type=click.Path(path_type=Path), help="write what was seen there")
def storm(logins: str, jobs: int, shapes: str, modules: str, file: Path | None) -> None:
    """Open hundreds of logins at once, with the C module and with ours; see where all are.

    In the table "half in" counts sessions in some of the job's cgroups and not in others, "in part"
    those that are outside while their sshd of root's is in the job.
    """
    from tests.cluster.tools.storm import MODULES, SHAPES, run

    numbers = [int(word) for word in logins.split(",")]
    for given, known in ((shapes, SHAPES), (modules, MODULES)):
        if unknown := {*given.split(",")} - {*known}:
            raise click.UsageError(f"{', '.join(unknown)}: there are {', '.join(known)}")
    chosen, by = shapes.split(","), modules.split(",")
    sys.exit(run(console, numbers, jobs, chosen, by, file))


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def fronts(arguments: tuple[str, ...]) -> None:
    """Play the cluster's tests with the module run by pam_exec; pytest's arguments choose."""
    from tests.dev import fronts as by_pam_exec

    chosen = (*by_pam_exec.arguments(), *arguments)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *chosen])


def _tier(name: str, module: str, what: str) -> None:
    """Add a command that runs a module of the tests, which reads the arguments itself."""

    @main.command(
        name, help=what, context_settings={"ignore_unknown_options": True, "help_option_names": []}
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


_tier("faults", "tests.cluster.tools.faults", "Play every fault on the real cluster.")
_tier("inject", "tests.cluster.tools.inject", "Have every system call of a login fail in turn.")
_tier("fuzz", "tests.fuzz", "Fuzz every parser that meets bytes it did not write.")
_tier("soak", "tests.cluster.tools.soak", "Log in thousands of times while everything changes.")


@main.command()
def compare() -> None:
    """See the C module and ours in the same situations; print what differs."""
    from tests.cluster.tools.compare import main as see

    sys.exit(see())


@main.command()
def clients() -> None:
    """See which clients show why a login was refused; have them all in a job, and gone with it."""
    from tests.cluster.tools.clients import run

    sys.exit(run(console))


@main.command()
def man() -> None:
    """Write the manual pages and the page of checks, from their sources and the code's tables."""
    from tests.dev import command_page, manpage

    manpage.write()
    command_page.write()
    for page in (manpage.PAGE, command_page.PAGE, command_page.CHECKS_PAGE):
        console.print(f"wrote {page}")


@main.command()
@click.option("--record", is_flag=True, help="play the demo, and look at cgroups on v1")
@click.option("--vm", is_flag=True, help="look at cgroups on v2, in a machine")
def pictures(record: bool, vm: bool) -> None:
    """Draw the pictures of the documentation."""
    from tests.dev import pictures
    from tests.dev.pictures import record as seen

    if record:
        (pictures.FOLDER / pictures.DEMO).write_text(seen.record_demo())
        seen.record("v1")
    if vm:
        seen.record("v2")
    pictures.write()
    console.print(f"wrote {pictures.FOLDER}")


@main.command()
def clean() -> None:
    """Remove the cache: the hosts' root folders and this Python environment."""
    if names := [state.name for state in clusters()]:
        raise click.ClickException(f"clusters are up: {', '.join(names)}; ./dev down first")
    shutil.rmtree(cache_dir())
    console.print(f"removed {cache_dir()}")


def _newest() -> State:
    """Return the cluster that is up; the one kept by the demo before those of tests."""
    up = sorted(clusters(), key=lambda state: (state.keep, state.driver.started))
    if not up:
        raise click.ClickException("no cluster is up; ./dev demo --keep leaves one up")
    return up[-1]


if __name__ == "__main__":
    try:
        main(prog_name="./dev")
    except (BuildError, NotInTimeError, RuntimeError, OSError) as error:
        console.print(f"./dev: {error}", style="red", markup=False)
        sys.exit(1)
