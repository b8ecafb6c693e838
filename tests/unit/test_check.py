"""`slurm-adopt check`: what runs checks, the report, JSON, saved reports, metrics, statuses."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurm_adopt.cli import output, textfile
from slurm_adopt.cli.checks import command as check
from slurm_adopt.cli.checks import host as hosts
from slurm_adopt.cli.checks import metrics, report, saved
from slurm_adopt.cli.checks.finding import Check, Finding, Seen, error, ok, skipped, warning
from slurm_adopt.cli.checks.host import Host, LateError
from slurm_adopt.cli.checks.report import Report
from slurm_adopt.cli.checks.runner import run
from slurm_adopt.cli.checks.table import BY_CODE, CHECKS
from slurm_adopt.cli.checks.would_decide import Decision
from slurm_adopt.cli.errors import CliError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = Path(__file__).parents[2] / "src"

ALICE = Decision("alice", 5001, "job", 9, (9,), "adopted", "", "the only one")
BOB = Decision("bob", 5002, "refused", None, (), "no jobs", "action_no_jobs=deny", "no job")
ROOT = Decision("root", 0, "ignored", None, (), "root", "", "")


def row(
    code: str, *seen: Seen, category: str = "one", seconds: float = 5, quick: bool = True
) -> Check:
    """Return a check that sees these."""
    return Check(code, category, f"what {code} is", lambda _: seen, "It is so.", "It matters.",
                 "Make it so.", quick, seconds)  # fmt: skip


GOOD = row("SA001", ok("all is well"))
ODD = row("SA102", warning("not as it should be", "something", "/etc/x", 7), category="two")
BAD = row("SA103", error("broken", "a ruin", "/etc/y"), ok("the other half"), category="two")
UNSEEN = row("SA104", skipped("only root sees it", "uid 1"), category="two")
SLOW = row("SA105", ok("slowly"), quick=False)


def findings(*rows: Check) -> list[Finding]:
    return list(run(rows, Host()))


# What runs checks


def test_findings_are_in_order_and_timed() -> None:
    found = findings(GOOD, BAD)
    assert [(one.code, one.result, one.title) for one in found] == [
        ("SA001", "ok", "all is well"),
        ("SA103", "error", "broken"),
        ("SA103", "ok", "the other half"),
    ]
    assert all(one.seconds >= 0 for one in found)


def test_only_what_is_bad_has_why_and_fix() -> None:
    good, bad, _ = findings(GOOD, BAD)
    assert (good.expected, good.why, good.fix) == ("It is so.", "", "")
    assert (bad.expected, bad.why, bad.fix) == ("It is so.", "It matters.", "Make it so.")


def test_a_check_that_raises_is_a_finding() -> None:
    def broken(_: Host) -> Iterator[Seen]:
        yield ok("first")
        raise ZeroDivisionError

    (found,) = findings(row("SA001")._replace(look=broken))
    assert found.result == "warning"
    assert "ZeroDivisionError" in found.found
    assert "test_check.py" in found.found


def test_a_check_that_sees_nothing_is_a_finding() -> None:
    (found,) = findings(row("SA001"))
    assert (found.result, found.found) == ("warning", "it has seen nothing")


@pytest.fixture
def stuck() -> Iterator[Callable[[Host], list[Seen]]]:
    """Return a look that ends with the test only."""
    over = threading.Event()

    def look(_: Host) -> list[Seen]:
        over.wait()
        return []

    yield look
    over.set()


def test_a_check_that_does_not_end_is_a_finding(stuck: Callable[[Host], list[Seen]]) -> None:
    """The others go on."""
    first, second = findings(row("SA001", seconds=0.05)._replace(look=stuck), GOOD)
    assert (first.result, first.title) == ("warning", "what SA001 is: not known within 0.05 s")
    assert second.result == "ok"


def test_no_check_begins_after_the_end_of_all(stuck: Callable[[Host], list[Seen]]) -> None:
    slow = row("SA001")._replace(look=stuck)
    first, second = run([slow, GOOD], Host(), 0.05)
    assert (first.result, second.result) == ("warning", "warning")
    assert "took too long" in second.title


def test_quick_leaves_out_what_is_not() -> None:
    assert [one.code for one in run([GOOD, SLOW], Host(quick=True))] == ["SA001"]
    assert [one.code for one in run([GOOD, SLOW], Host())] == ["SA001", "SA105"]


def test_what_several_need_is_looked_up_once() -> None:
    host, calls = Host(), []
    for _ in range(2):
        assert host.once("it", lambda: calls.append(1) or "found") == "found"  # type: ignore[func-returns-value]
    assert len(calls) == 1


def test_what_fails_for_one_fails_for_all() -> None:
    host, calls = Host(), []

    def fails() -> None:
        calls.append(1)
        raise KeyError("it")

    for _ in range(2):
        with pytest.raises(KeyError):
            host.once("it", fails)
    assert len(calls) == 1


def test_what_is_late_for_one_is_late_for_all() -> None:
    host, over = Host(), threading.Event()
    try:
        for seconds in (0.05, 1000.0):
            with pytest.raises(LateError):
                host.once("it", over.wait, seconds)
    finally:
        over.set()


def test_within_raises_what_is_raised() -> None:
    def fails() -> None:
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        hosts.within(5, fails)


# The table


def test_codes_are_unique_and_sorted() -> None:
    codes = [each.code for each in CHECKS]
    assert len(BY_CODE) == len(codes)
    assert codes == sorted(codes)
    assert all(re.fullmatch(r"SA\d{3}", code) for code in codes)


def test_the_checks_of_a_category_stand_together() -> None:
    """Else the report would not be in the order of codes."""
    categories = [each.category for each in CHECKS]
    together = [
        category for at, category in enumerate(categories) if categories[at - 1] != category
    ]
    assert len(together) == len({*together})


# First words that are written small.
NAMES = re.compile(r"slurmd|sshd|systemd|munged?|loginctl|slurm-adopt|pam-auth-update|.*[._=/].*")


@pytest.mark.parametrize("each", CHECKS, ids=lambda each: each.code)
def test_texts_of_a_check(each: Check) -> None:
    """Each is one line; why and fix are sentences."""
    for text in (each.category, each.name, each.expected, each.why, each.fix):
        assert text
        assert text.isascii()
        assert text == " ".join(text.split())
    for text in (each.why, each.fix):
        first = text.split()[0]
        assert not first[0].islower() or NAMES.fullmatch(first)
        assert text.endswith(".")
    assert not each.name.endswith(".")
    assert each.seconds > 0


# The first line


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([GOOD], "slurm_adopt: ok, 1 check"),
        ([GOOD, UNSEEN], "slurm_adopt: ok, 2 checks, 1 skipped"),
        ([GOOD, ODD], "slurm_adopt: 1 warning: SA102"),
        ([ODD, BAD, GOOD], "slurm_adopt: 1 error, 1 warning: SA103 SA102"),
        ([row("SA001", error("a"), error("b"))], "slurm_adopt: 2 errors: SA001"),
        ([row("SA001", warning("a"), error("b"))], "slurm_adopt: 1 error, 1 warning: SA001"),
    ],
)
def test_first_line(rows: list[Check], said: str) -> None:
    assert report.first_line([Report(findings(*rows), [])]) == said


@pytest.mark.parametrize("number", [5, 10, 11, 12, 100, 999])
def test_first_line_fits_a_reason_of_slurm_s(number: int) -> None:
    many = findings(*(row(f"SA{code:03}", error("bad"), warning("odd")) for code in range(number)))
    said = report.first_line([Report(many, [])])
    assert len(said) <= 80
    assert said.isascii()
    listed = re.findall(r"SA\d{3}", said)
    left = re.search(r" and (\d+) more$", said)
    assert listed == [f"SA{code:03}" for code in range(len(listed))]
    assert len(listed) + (int(left[1]) if left else 0) == number


# The report


def shown(*reports: Report, width: int = 1000) -> list[str]:
    return [text for _, text in report.text([*reports], "->", width)]


def test_the_report() -> None:
    lines = shown(Report(findings(GOOD, ODD, BAD, UNSEEN), [ALICE, BOB, ROOT]))
    assert lines == [
        "slurm_adopt: 1 error, 1 warning: SA103 SA102",
        "",
        "one",
        "  ok       SA001  all is well",
        "",
        "two",
        "  warning  SA102  not as it should be",
        "           expected  It is so.",
        "           found     something",
        "           where     /etc/x:7",
        "           why       It matters.",
        "           fix       Make it so.",
        "           see       docs/reference/checks.md#sa102",
        "  error    SA103  broken",
        "           expected  It is so.",
        "           found     a ruin",
        "           where     /etc/y",
        "           why       It matters.",
        "           fix       Make it so.",
        "           see       docs/reference/checks.md#sa103",
        "  ok       SA103  the other half",
        "  skipped  SA104  only root sees it",
        "                     uid 1",
        "",
        "would be decided now",
        "  alice -> job 9 (the only one)",
        "  bob -> refused (no job)",
        "  root -> ignored",
    ]


def test_why_it_could_not_be_seen_is_said_once() -> None:
    """Of many checks that one thing keeps from seeing; what is wrong is said each time."""
    rows = [row(f"SA10{at}", skipped(f"not seen {at}", "no slurm.conf")) for at in range(3)]
    lines = shown(Report(findings(*rows, ODD, ODD._replace(code="SA109")), []))
    assert sum("no slurm.conf" in line for line in lines) == 1
    assert sum("found     something" in line for line in lines) == 2


def test_what_several_findings_of_a_check_have_in_common_is_said_once() -> None:
    seen = [error(f"line {at} is wrong", f"word {at}", "/etc/x", at) for at in (1, 2)]
    lines = shown(Report(findings(row("SA102", *seen, category="two"), BAD), []))
    assert [line.split()[0] for line in lines[3:14]] == [
        *("error", "expected", "found", "where", "why", "fix", "see"),
        *("error", "found", "where"),
        "error",
    ]


@pytest.mark.parametrize("width", [1, 11, 20, 40, 80])
def test_lines_fit_the_terminal(width: int) -> None:
    """Nothing is lost where they are broken; below twenty columns the terminal breaks them."""
    long = warning("a title of several words " * 5, "found " * 30, "/etc/" + "x" * 60, 12)
    given = Report(findings(row("SA001", long)), [ALICE])
    lines = shown(given, width=width)[1:]
    assert max(map(len, lines)) <= max(width, 20)
    assert "".join("".join(lines).split()) == "".join("".join(shown(given)[1:]).split())


def test_what_comes_from_outside_sends_a_terminal_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from slurm_adopt.cli import output

    evil = findings(row("SA001", error("a\x1b[2Jb\nc", "\x07", "/etc/\x9b31m")))
    output.styled(report.text([Report(evil, [])], "->", 80))
    out = capsys.readouterr().out
    assert all(char.isprintable() for line in out.split("\n") for char in line)
    assert "a\\x1b[2Jb" in out


# JSON

KEYS = ["code", "category", "result", "title", "expected", "found", "where", "why", "fix",
        "seconds"]  # fmt: skip


@pytest.fixture
def of_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have `check` look at these rows, and nobody be decided about."""

    def use(*rows: Check, decisions: tuple[Decision, ...] = ()) -> None:
        monkeypatch.setattr(check, "CHECKS", rows)
        monkeypatch.setattr(check, "would_decide", lambda _: [*decisions])

    return use


def ran(*arguments: str) -> int:
    status: int = check.command.main([*arguments], "check", standalone_mode=False)
    return status


def test_json(of_rows: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    of_rows(ODD, GOOD, decisions=(BOB,))
    assert ran("--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["schema", "findings", "would_decide"]
    assert said["schema"] == 1
    odd, good = said["findings"]
    assert list(odd) == KEYS
    assert odd["where"] == {"file": "/etc/x", "line": 7}
    assert (good["result"], good["why"]) == ("ok", "")
    (bob,) = said["would_decide"]
    assert bob == {
        "user": "bob",
        "uid": 5002,
        "decision": "refused",
        "job": None,
        "jobs": [],
        "situation": "no jobs",
        "option": "action_no_jobs=deny",
        "why": "no job",
    }


@pytest.mark.parametrize(
    ("rows", "arguments", "status"),
    [
        ([GOOD], [], 0),
        ([GOOD, UNSEEN], [], 0),
        ([GOOD, ODD], [], 1),
        ([GOOD, ODD], ["--fail-on", "warning"], 1),
        ([GOOD, ODD], ["--fail-on", "error"], 0),
        ([BAD, ODD], [], 2),
        ([BAD, ODD], ["--fail-on", "error"], 2),
        ([BAD, ODD, GOOD], ["--only", "sa102"], 1),
        ([BAD, ODD, GOOD], ["--only", "One"], 0),
        ([BAD, ODD, GOOD], ["--only", "one", "--only", "SA103"], 2),
        ([GOOD, SLOW._replace(look=BAD.look)], ["--quick"], 0),
    ],
)
def test_status(
    of_rows: Callable[..., None], rows: list[Check], arguments: list[str], status: int
) -> None:
    of_rows(*rows)
    assert ran(*arguments) == status


def test_only_says_nothing_of_decisions(
    of_rows: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """But for users that are asked for."""
    of_rows(GOOD, ODD, decisions=(ROOT,))
    ran("--only", "SA001")
    assert "decided" not in capsys.readouterr().out
    ran("--only", "SA001", "--user", "root")
    assert "  root " in capsys.readouterr().out


# Bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "SA999"], "no check and no category (there are one)"),
        (["--only", ""], "no check and no category"),
        (["--user", "nobody-of-this-name"], "no user nobody-of-this-name on this host"),
        (["--user", "a\nb"], "no user a"),
        (["--user", ""], "no user  on this host"),
        (["--service", "no-such-service"], "no PAM service no-such-service"),
        (["--service", "../passwd"], "no PAM service ../passwd"),
        (["--service", "."], "no PAM service ."),
        (["--nodes", "--quick"], "--nodes needs the network"),
        (["--nodes", "n[1-"], "brackets do not match"),
        (["--nodes", "n[x]"], "--nodes: "),
        (["--nodes", "n1,,n2"], "an empty name"),
        (["--input", "/nowhere/x"], "cannot read /nowhere/x: No such file or directory"),
        (["--input", "/"], "cannot read /: Is a directory"),
        (["--input", "/dev/null"], "no report in it"),
        (["--input", "x", "--quick"], "--quick is about this node"),
        (["--input", "x", "--user", "root"], "--user is about this node"),
        (["--input", "x", "--nodes"], "--nodes is about this node"),
        (["--prometheus", "/nowhere/x.prom"], "cannot write /nowhere/x.prom: No such file"),
        (["--prometheus", "/tmp"], "cannot write /tmp: it is a directory"),
    ],
)
def test_bad_input_is_one_line(
    of_rows: Callable[..., None], arguments: list[str], said: str
) -> None:
    of_rows(GOOD)
    with pytest.raises(CliError) as caught:
        ran(*arguments)
    assert said in str(caught.value)
    assert caught.value.status == 3


@pytest.mark.parametrize(
    "arguments", [[], ["nothing"], ["check", "--nothing"], ["check", "--fail-on", "x"],
                  ["check", "surplus"], ["check", "--user"], ["check", "--only", "SA999"]]
)  # fmt: skip
def test_usage_is_status_3_and_one_line(arguments: list[str]) -> None:
    done = program(*arguments)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("slurm-adopt: ")


# The program as a whole


def program(*arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1",
           **how.pop("env", {})}  # fmt: skip
    argv = [sys.executable, "-m", "slurm_adopt", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env=env, check=False, timeout=120,
                          **how)  # fmt: skip


def test_help_names_all_options() -> None:
    done = program("check", "--help")
    assert done.returncode == 0
    for parameter in check.command.params:
        assert parameter.opts[0] in done.stdout


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Return a file with a report that no pipe takes at once."""
    path = tmp_path / "many.json"
    found = [one.as_dict() for one in findings(BAD, ODD)] * 2000
    numbered = [{**one, "title": f"{one['title']} {at}"} for at, one in enumerate(found)]
    path.write_text(json.dumps({"schema": 1, "findings": numbered, "would_decide": []}))
    return path


@pytest.mark.parametrize("more", [[], ["--json"], ["--only", "SA102"], ["--help"]])
def test_a_closed_pipe(many: Path, more: list[str]) -> None:
    """Status as a shell has it for SIGPIPE, and not a word; with little to write as with much."""
    ours, theirs = os.pipe()
    os.close(ours)
    argv = [sys.executable, "-m", "slurm_adopt", "check", "--input", str(many), *more]
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with os.fdopen(theirs, "w") as closed:
        done = subprocess.run(
            argv,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=env,
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk() -> None:
    argv = [sys.executable, "-m", "slurm_adopt", "check", "--help"]
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=env, timeout=120
        )
    assert done.returncode == 3
    assert done.stderr == "slurm-adopt: No space left on device\n"


STUCK = """\
import threading
from slurm_adopt.cli import main
from slurm_adopt.cli.checks import command as check
from slurm_adopt.cli.checks.finding import Check
def look(host):
    threading.Event().wait()
check.CHECKS = (Check("SA001", "one", "it", look, "E.", "W.", "F.", True, 0.05),)
check.would_decide = lambda host: []
main.main(["check"])
"""


def test_a_stuck_check_does_not_keep_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK], env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "not known within 0.05 s" in done.stdout
    assert done.stderr == ""


LASTING = """\
import os, time
from slurm_adopt.cli import main
from slurm_adopt.cli.checks import command as check
def lasting(host):
    print(os.getpid(), flush=True)
    time.sleep(600)
check.would_decide = lasting
main.main(["check"])
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_is_killed_leaves_no_child(signum: signal.Signals) -> None:
    """Nor has one that is interrupted: the terminal interrupts both."""
    argv, env = [sys.executable, "-c", LASTING], {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        process.send_signal(signum)
        assert process.wait(60) == -signum
        assert process.stdout.read() == ""  # the child has let go of it
    assert not Path(f"/proc/{child}/cmdline").exists() or not Path(
        f"/proc/{child}/cmdline").read_bytes()  # fmt: skip


def test_an_interrupt() -> None:
    argv, env = [sys.executable, "-c", LASTING], {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == ""


AT_ONCE = """\
import os, signal
from slurm_adopt.cli import apart, main
apart.run = lambda work: os.kill(os.getpid(), signal.SIGINT)
main.main(["check"])
"""


def test_an_interrupt_before_the_command() -> None:
    """It ends as other programs do, without a word; ignored, it is ignored."""
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    for ignored, status in (("", -signal.SIGINT), ("trap '' INT; ", 0)):
        argv = ["sh", "-c", f'{ignored}exec "$@"', "sh", sys.executable, "-c", AT_ONCE]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False,
                              timeout=60)  # fmt: skip
        assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(many: Path, tmp_path: Path, closed: str) -> None:
    """What is written there is lost; status and what is written elsewhere stay as they are."""
    argv = [sys.executable, "-m", "slurm_adopt", "check", "--input", str(many)]
    argv += ["--only", "SA102"]
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    usual = subprocess.run(argv, capture_output=True, text=True, check=False, env=env, timeout=120)
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *argv], capture_output=True, text=True, check=False,
        env=env, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (usual.returncode, "")
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else usual.stdout)


BROKEN = """\
from slurm_adopt.cli import main
from slurm_adopt.cli.checks import command as check
check.run = lambda checks, host: 1 / 0
main.main(["check"])
"""


def test_a_mistake_of_ours_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert re.fullmatch(
        r"slurm-adopt: unexpected ZeroDivisionError: .* \(please report this\)\n", done.stderr
    )


def test_an_encoding_without_the_arrow(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(check._as_dict(Report(findings(GOOD), [ALICE]))))
    env = {"PYTHONIOENCODING": "ascii"}
    assert "alice -> job 9" in program("check", "--input", str(path), env=env).stdout
    env = {"PYTHONIOENCODING": "utf-8"}
    said = program("check", "--input", str(path), env=env)
    assert "alice \u2192 job 9" in said.stdout


@pytest.mark.parametrize(
    ("term", "colour"), [("xterm-256color", True), ("dumb", False), ("", False)]
)
def test_on_a_terminal(tmp_path: Path, term: str, colour: bool) -> None:
    """Of 20 columns: no line is longer; colours where the terminal has them."""
    path = tmp_path / "one.json"
    path.write_text(json.dumps(check._as_dict(Report(findings(GOOD, BAD), [ALICE]))))
    out = on_terminal(["check", "--input", str(path)], 20, term)
    assert ("\x1b[" in out) == colour
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out).replace("\r", "").splitlines()
    assert "broken" in "".join(plain)
    assert max(len(line) for line in plain[1:]) <= 20


def on_terminal(arguments: list[str], columns: int, term: str) -> str:
    """Run the command on a terminal; return what it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    env |= {"PYTHONPATH": str(SOURCE), "TERM": term}
    argv = [sys.executable, "-m", "slurm_adopt", *arguments]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env):
        os.close(theirs)
        shown = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # all of the other side is closed
                break
            if not more:
                break
            shown += more
    os.close(ours)
    return shown.decode()


def test_nothing_is_imported_from_the_directory(tmp_path: Path) -> None:
    """Nor from where variables point: root runs the command in users' directories."""
    marker = tmp_path / "marker"
    for name in ("click", "json", "os", "signal", "sitecustomize", "slurm_adopt"):
        (tmp_path / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "os.py")}
    program = SOURCE.parent / "bin/slurm-adopt"
    first = program.read_text().partition("\n")[0]
    argv = [sys.executable, first.rpartition(" ")[2], str(program), "check", "--help"]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0
    assert not marker.exists()


def test_names_of_users_programs_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no UTF-8 makes no half characters, which strict readers refuse."""
    output.as_json({"a\udcff": ["\udce4b", ("\u00e4", 1, None)]})
    said = capsys.readouterr().out
    assert json.loads(said) == {"a?": ["?b", ["\u00e4", 1, None]]}
    assert "\\ud" not in said


def test_names_of_users_programs_in_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are shown as they are, on a terminal too."""
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    name = "[red]:warning: \\[/] \x1b[31m"
    output.table(("NAME",), [(name,)])
    assert "[red]:warning: \\[/] \\x1b[31m" in capsys.readouterr().out


def test_completion() -> None:
    env = {"_SLURM_ADOPT_COMPLETE": "bash_complete", "COMP_WORDS": "slurm-adopt check --only SA3",
           "COMP_CWORD": "3"}  # fmt: skip
    said = program(env=env).stdout.split()
    assert "plain,SA301" in said
    env |= {"COMP_WORDS": "slurm-adopt ch", "COMP_CWORD": "1"}
    assert program(env=env).stdout.split() == ["plain,check"]


# Reports that were saved


def as_saved(*rows: Check, decisions: tuple[Decision, ...] = ()) -> str:
    return json.dumps(check._as_dict(Report(findings(*rows), [*decisions])), indent=1)


SOUND, OF_BAD = as_saved(GOOD), as_saved(GOOD, BAD, decisions=(BOB,))
RULE = "-" * 15


def prefixed(**nodes: str) -> str:
    """Return texts as pdsh gives them, line by line in turns."""
    lines = [text.split("\n") for text in nodes.values()]
    longest = max(map(len, lines))
    return "".join(
        f"{node}: {text[at]}\n"
        for at in range(longest)
        for node, text in zip(nodes, lines)
        if at < len(text)
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (SOUND, [()]),
        (SOUND + OF_BAD, [(), ()]),
        (f"\n{SOUND}\n\n{OF_BAD}\n", [(), ()]),
        (f"{RULE}\nn1\n{RULE}\n{SOUND}\n{RULE}\nn7\n{RULE}\n{OF_BAD}\n", [("n1",), ("n7",)]),
        (f"{RULE}\nn[1-3] (3)\n{RULE}\n{SOUND}\n", [("n1", "n2", "n3")]),
        (prefixed(n1=SOUND, n2=OF_BAD), [("n1",), ("n2",)]),
    ],
)
def test_saved_reports(tmp_path: Path, text: str, names: list[tuple[str, ...]]) -> None:
    path = tmp_path / "saved"
    path.write_text(text)
    reports = saved.read(str(path))
    assert [each.nodes for each in reports] == names
    assert [each.number for each in reports] == [len(each) or 1 for each in names]
    assert {one.code for each in reports for one in each.findings} >= {"SA001"}


def test_a_saved_report_is_as_it_was(
    tmp_path: Path, of_rows: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Text, JSON and status: those of the node that has saved it."""
    of_rows(GOOD, BAD, ODD, UNSEEN, decisions=(ALICE, BOB, ROOT))
    path = tmp_path / "saved"
    assert ran("--json") == 2
    path.write_text(capsys.readouterr().out)
    assert ran() == 2
    text = capsys.readouterr().out
    assert ran("--input", str(path)) == 2
    assert capsys.readouterr().out == text
    assert ran("--input", str(path), "--json") == 2
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())
    assert ran("--input", str(path), "--only", "SA102") == 1
    assert capsys.readouterr().out.startswith("slurm_adopt: 1 warning: SA102\n")


def test_many_nodes_are_grouped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "saved"
    nodes = {f"n{number}": OF_BAD if number in (3, 5) else SOUND for number in range(1, 13)}
    path.write_text(prefixed(**nodes))
    assert ran("--input", str(path)) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "slurm_adopt: 1 error on 2 of 12 nodes: SA103"
    assert "  ok       SA001  all is well" in lines
    assert "  error    SA103  broken [2 of 12 nodes: n3 n5]" in lines
    assert lines[-1].endswith(" refused (no job) [2 of 12 nodes: n3 n5]")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("slurmd 2724 (no options)", "slurmd 31 (no options)", True),
        ("refuses to take process 12", "refuses to take process 4711", True),
        ("pids 1 2 3, which", "pids 7, which", True),
        ("process 12.", "process 13.", True),
        ("slurmd 22.05", "slurmd 24.11", False),
        ("job 9", "job 10", False),
    ],
)
def test_pids_make_no_difference(one: str, other: str, alike: bool) -> None:
    """In JSON they are there."""
    reports = [
        Report(findings(row("SA001", error(said, said))), [BOB._replace(why=said)])
        for said in (one, other)
    ]
    lines = [shown(each) for each in reports]
    assert (lines[0] == lines[1]) == alike
    assert (len([line for line in shown(*reports) if "of 2 nodes" in line]) == 0) == alike
    assert reports[0].findings[0].as_dict()["found"] == one


def test_sound_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "saved"
    path.write_text(SOUND * 12)
    assert ran("--input", str(path)) == 0
    assert capsys.readouterr().out.startswith("slurm_adopt: ok on all 12 nodes, 1 check\n")


def test_ten_thousand_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "saved"
    path.write_text(SOUND * 9_999 + OF_BAD)
    assert ran("--input", str(path)) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "slurm_adopt: 1 error on 1 of 10000 nodes: SA103"
    assert len(lines) < 20


def test_from_standard_input() -> None:
    done = program("check", "--input", "-", input=SOUND)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "slurm_adopt: ok, 1 check")


def changed(**fields: object) -> str:
    value = json.loads(OF_BAD)
    for name, field in fields.items():
        first = value["findings"][0] if name in value["findings"][0] else value
        first = value["would_decide"][0] if name in value["would_decide"][0] else first
        first[name] = field
    return json.dumps(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON in line 1"),
        (f"{SOUND}\nslurm-adopt: it needs click\n", "no JSON in line"),
        (f"{RULE}\nn1\n{RULE}\nsh: not found\n", "no JSON in line 1 of n1"),
        (prefixed(n1=SOUND) + "sh: x\n", "no JSON"),
        (prefixed(n1=SOUND) + "{\n", "a line without the name of its node: {"),
        ("[" * 100_000, "no JSON in line 1"),
        ("[]", "report 1: [] where an object is expected"),
        ("{}", "report 1: schema is missing"),
        (f"{SOUND}7", "report 2: 7 where an object is expected"),
        (changed(schema=2), "report 1: schema 2, and this release knows 1"),
        (changed(schema=True), "report 1: schema is True"),
        (changed(findings={}), "report 1: findings is {}"),
        (changed(code=1), "report 1: code is 1"),
        (changed(result="fine"), "report 1: result is 'fine', not ok or "),
        (changed(where=None), "report 1: where is None"),
        (changed(where={"file": "x", "line": "7"}), "report 1: line is '7'"),
        (changed(seconds="1"), "report 1: seconds is '1'"),
        (changed(decision="perhaps"), "report 1: decision is 'perhaps'"),
        (changed(jobs=3), "report 1: jobs is 3"),
        ("\x00\xff", "no JSON in line 1"),
    ],
)
def test_what_is_no_report_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "saved"
    path.write_text(text)
    with pytest.raises(CliError) as caught:
        saved.read(str(path))
    assert said in str(caught.value)
    assert caught.value.status == 3


# Metrics


def test_metrics() -> None:
    found = [one._replace(seconds=0.25) for one in findings(GOOD, ODD, BAD, UNSEEN)]
    lines = [line for line in metrics.lines(found) if not line.startswith("#")]
    assert lines == [
        'slurm_adopt_check_result{code="SA001",category="one"} 0',
        'slurm_adopt_check_result{code="SA102",category="two"} 1',
        'slurm_adopt_check_result{code="SA103",category="two"} 2',
        'slurm_adopt_check_result{code="SA104",category="two"} 3',
        *(
            f'slurm_adopt_check_seconds{{code="{code}",category="{category}"}} 0.25'
            for code, category in (("SA001", "one"), ("SA102", "two"), ("SA103", "two"),
                                   ("SA104", "two"))
        ),
        'slurm_adopt_check_findings{result="ok"} 2',
        'slurm_adopt_check_findings{result="warning"} 1',
        'slurm_adopt_check_findings{result="error"} 1',
        'slurm_adopt_check_findings{result="skipped"} 1',
    ]  # fmt: skip


def test_each_metric_has_a_head_in_front_of_its_samples() -> None:
    named: list[str] = []
    for line in metrics.lines(findings(GOOD, BAD)):
        if line.startswith("# HELP"):
            named.append(line.split()[2])
        elif line.startswith("# TYPE"):
            assert line.split()[2:] == [named[-1], "gauge"]
        else:
            assert line.partition("{")[0] == named[-1]
    assert len(named) == len({*named}) == 3


def test_a_label_is_escaped() -> None:
    assert textfile.sample("m", {"a": 'x"\\\ny'}, 1) == 'm{a="x\\"\\\\\\ny"} 1'
    assert textfile.sample("m", {}, 0.5) == "m 0.5"


def test_the_file_is_replaced_as_a_whole(
    tmp_path: Path, of_rows: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has it open reads the old one to its end; everybody may read the new one."""
    path = tmp_path / "check.prom"
    path.write_text("old\n")
    path.chmod(0o600)
    of_rows(ODD)
    with path.open() as before:
        assert ran("--prometheus", str(path)) == 1
        assert before.read() == "old\n"
    assert path.read_text().splitlines()[2].endswith(" 1")
    assert path.stat().st_mode & 0o7777 == 0o644
    assert [*tmp_path.iterdir()] == [path]
    assert capsys.readouterr().out.startswith("slurm_adopt: 1 warning")


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("mine\n")
    path = tmp_path / "check.prom"
    path.symlink_to(kept)
    textfile.write(str(path), ["m 1"])
    assert kept.read_text() == "mine\n"
    assert not path.is_symlink()


def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "check.prom"
    path.write_text("old\n")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(CliError, match="No space left on device"):
        textfile.write(str(path), ["m 1"])
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "old\n"


# What would be decided


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (ALICE, "alice -> job 9 (the only one)"),
        (BOB, "bob -> refused (no job)"),
        (ROOT, "root -> ignored"),
        (ALICE._replace(decision="let in", job=None, why="x"), "alice -> let in without a job (x)"),
        (Decision("", None, "unknown", None, (), "", "", "no spool"), "not known (no spool)"),
    ],
)
def test_a_decision_in_a_line(decision: Decision, said: str) -> None:
    assert decision.text("->") == said


def test_time_of_quick() -> None:
    """It is for health checks: on a host without Slurm, too, it ends soon."""
    started = time.monotonic()
    assert program("check", "--quick").returncode in (0, 1, 2)
    assert time.monotonic() - started < 60
