"""What `check` says of PAM lines, byte code, owners and sshd, where no cluster is needed."""

from __future__ import annotations

import os
import py_compile
import re
import shutil
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurm_adopt.cli.checks.bridge import bridge, bridge_trial, exec_trial, image, owners
from slurm_adopt.cli.checks.bridge import exec_line as exec_line_checks
from slurm_adopt.cli.checks.host import Host
from slurm_adopt.cli.checks.pam import by_exec, options, pam_users
from slurm_adopt.cli.checks.sshd import configured as sshd
from slurm_adopt.cli.checks.sshd import sshd_settings as of_sshd
from slurm_adopt.cli.checks.table import CHECKS
from slurm_adopt.cli.verdict import fronts
from slurm_adopt.cli.verdict.remarks import Remarks
from slurm_adopt.decision.login import Login
from slurm_adopt.decision.options import Options
from slurm_adopt.decision.outcome import ACTIONS, REFUSALS, SITUATIONS, Outcome
from slurm_adopt.front import answer as front_answer
from slurm_adopt.front import pam_exec, refusal_text
from slurm_adopt.node.pam_files import Line
from tests.fakes.below_root import below_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen

JUMP: dict[str, str | int] = {"success": 1, "default": "ignore"}
ENDS: dict[str, str | int] = {"success": "done", "default": "ignore"}


def line(text: str) -> Line:
    return Line("sshd", 0, ["required", *text.split()], {"success": 1, "default": "ignore"})


# (line, its value, whom it lets by)
WHO = [
    ("pam_succeed_if.so quiet uid eq 0", "success", "root"),
    ("pam_succeed_if.so quiet uid = 0", "success", "root"),
    ("pam_succeed_if.so user ingroup wheel", "success", "members of group wheel"),
    ("pam_succeed_if.so user = carol", "success", "user carol"),
    ("pam_succeed_if.so user in carol:dave", "success", "users carol:dave"),
    ("pam_succeed_if.so quiet uid < 1000", "success", "users who are 'uid < 1000'"),
    ("pam_succeed_if.so user ingroup hpc", "auth_err", "users who are not 'user ingroup hpc'"),
    ("pam_localuser.so", "success", "users of /etc/passwd"),
    ("/lib/security/pam_localuser.so", "success", "users of /etc/passwd"),
    ("pam_unix.so", "new_authtok_reqd", "users whose password has expired"),
    ("pam_x.so", "success", "users for whom pam_x.so says yes"),
    ("pam_x.so", "user_unknown", "users for whom pam_x.so returns user_unknown"),
]


@pytest.mark.parametrize(("text", "value", "expected"), WHO)
def test_who(text: str, value: str, expected: str) -> None:
    assert pam_users.who(line(text), value) == expected


BOTH = ("success", "auth_err")
# (line, what it returns for root)
ROOT = [
    ("pam_succeed_if.so quiet uid eq 0", BOTH[:1]),
    ("pam_succeed_if.so uid ne 0", BOTH[1:]),
    ("pam_succeed_if.so uid < 1000", BOTH[:1]),
    ("pam_succeed_if.so uid >= 1000 quiet", BOTH[1:]),
    ("pam_succeed_if.so user = root", BOTH[:1]),
    ("pam_succeed_if.so user != root", BOTH[1:]),
    ("pam_succeed_if.so user =~ ro*", BOTH[:1]),
    ("pam_succeed_if.so user in alice:root", BOTH[:1]),
    ("pam_succeed_if.so user notin alice:root", BOTH[1:]),
    ("pam_succeed_if.so user notingroup root", BOTH[1:]),
    ("pam_succeed_if.so user ingroup nowhere:root", BOTH[:1]),
    ("pam_succeed_if.so user ingroup nowhere", BOTH[1:]),
    ("pam_succeed_if.so service in crond", BOTH[1:]),
    ("pam_succeed_if.so uid eq 0 shell = /bin/zsh", BOTH),
    ("pam_succeed_if.so uid eq 1 shell = /bin/zsh", BOTH[1:]),
    ("pam_succeed_if.so uid", ("service_err",)),
    ("pam_usertype.so issystem", ("success",)),
    ("pam_usertype.so isregular", ("auth_err",)),
    ("pam_nologin.so", ("ignore",)),
    ("pam_deny.so", ("auth_err",)),
    ("pam_unix.so", ("success",)),
]


@pytest.mark.parametrize(("text", "expected"), ROOT)
def test_what_lines_return_for_root(text: str, expected: tuple[str, ...]) -> None:
    assert tuple(pam_users.of_root("sshd")(line(text))) == expected


# Owners


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory below root's alone: /tmp is everybody's, but for what root has in it."""
    yield from below_root()


def test_owners(place: Path) -> None:
    """All of many, each once: what is not root's own, and who may write it."""
    folder, file, link = place / "a", place / "a/file", place / "link"
    folder.mkdir()
    file.write_text("")
    link.symlink_to(file)
    assert owners.others_may_write(str(link)) == ""
    os.chown(folder, 0, 50)
    folder.chmod(0o2775)
    os.chown(link, 5001, 0, follow_symlinks=False)
    paths = [str(link), str(file), str(place / "nowhere")]
    assert list(owners.all_others_may_write(paths)) == [
        (str(link), "belongs to uid 5001 and gid 0, and has mode 0777"),
        (str(folder), "belongs to uid 0 and gid 50, and has mode 2775"),
    ]
    assert owners.others_may_write(str(file)).startswith(f"{folder} belongs to uid 0 and gid 50")
    assert owners.others_may_write(str(place / "nowhere")) == ""
    (folder / "deep").mkdir()
    (place / "c").symlink_to(folder / "deep")
    assert owners.others_may_write(f"{place}/c/../file").startswith(f"{folder} belongs to uid 0")


# Byte code


def test_byte_code(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    tag, magic = str(sys.implementation.cache_tag), MAGIC_NUMBER.hex()
    modes = py_compile.PycInvalidationMode

    def state(mode: py_compile.PycInvalidationMode | None = None, magic: str = magic) -> str:
        if mode is not None:
            py_compile.compile(str(source), invalidation_mode=mode, doraise=True)
        return bridge._state_of_code(str(source), tag, magic)

    source.write_text("a = 1\n")
    assert state() == "missing"
    for mode in modes:
        assert state(mode) == "fresh"
        assert state(magic="00000000") == "stale"
    assert state(modes.UNCHECKED_HASH) == "fresh"
    source.write_text("a = 22\n")
    assert state() == "unchecked"
    source.write_text("a = 1\n")
    state(modes.CHECKED_HASH)
    source.write_text("a = 22\n")
    assert state() == "stale"
    state(modes.TIMESTAMP)
    os.utime(source, (1, 1))
    assert state() == "stale"
    (tmp_path / "__pycache__" / f"a.{tag}.pyc").write_bytes(b"cut")
    assert state() == "stale"


def test_why_no_login_uses_the_image(place: Path) -> None:
    (place / "__pycache__").mkdir()
    package, source, folder = str(place), place / "front/a.py", place / "front"
    path = Path(image.path_of(package, "cpython-39"))

    def why(*, made_again: bool = False) -> str:
        said, again = image.why_unused(package, "cpython-39", [str(source)])
        assert again is made_again
        return said

    folder.mkdir(mode=0o755)
    source.write_text("")
    source.chmod(0o644)
    assert why(made_again=True) == f"there is no {path}"
    path.write_bytes(b"")
    path.chmod(0o644)
    assert why(made_again=True) == f"{path} is of other sources, or is not whole"
    for file, said in (
        (path, f"{path} belongs to uid 5001"),
        (path.parent, f"{path.parent} belongs to uid 5001"),
        (source, f"{source} belongs to uid 5001"),
        (folder, f"{folder} belongs to uid 5001"),
    ):
        os.chown(file, 5001, 0)
        assert why(made_again=file == path) == f"{path} is there, but {said}"
        os.chown(file, 0, 0)
    source.chmod(0o664)
    assert why() == f"{path} is there, but {source} has mode 0664, where others may write"
    source.unlink()
    source.symlink_to(path)
    assert why() == f"{path} is there, but {source} is a link"


def test_what_makes_the_image(tmp_path: Path) -> None:
    """The Python of the login: that of pam_exec's first line, or the one that pam_python has."""
    assert image.maker(str(tmp_path)) == ""
    (tmp_path / "login_image.py").touch()
    by_exec = {"interpreter": "/usr/bin/python3", "version": [3, 12, 1], "prefix": "/usr"}
    by_python = {"version": [3, 12, 1], "prefix": "/usr/local"}
    for told, program in ((by_exec, "/usr/bin/python3"), (by_python, "/usr/local/bin/python3.12")):
        argv = [program, "-I", f"{tmp_path}/login_image.py"]
        assert image.command(str(tmp_path), told) == argv


def test_what_a_path_file_runs(tmp_path: Path) -> None:
    for text, number in [
        ("", 0),
        ("/opt/x\n# import os\n", 0),
        ("/opt/x\nimport os; os.x()\n", 2),
        ("import\tos", 1),
        ("important\n", 0),
    ]:
        (tmp_path / "a.pth").write_text(text)
        assert bridge._code_in(str(tmp_path / "a.pth")) == number


def _host(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host whose pam_python has told this."""
    host = Host()
    host.is_root = True
    our = Line(
        "sshd", 0, ["required", "pam_python.so", "/o/pam_slurm_adopt.py"], {"default": "bad"}
    )
    monkeypatch.setattr(host, "our_lines", lambda _: [our])
    host._kept["trial of pam_python"] = {"path": [], **told}, None
    return host


def test_variables_of_sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count where pam_python heeds them."""
    file = tmp_path / "ssh"
    file.write_text("# PYTHONPATH=/x\nSSHD_OPTS=\n export PYTHONHOME=/home/alice\n")
    monkeypatch.setattr(bridge, "ENVIRONMENTS", ("/nowhere", str(file)))
    for flags, expected in [({}, ("warning", 3)), ({"isolated": 1}, ("ok", 0))]:
        (seen,) = bridge.variables(_host({"flags": flags}, monkeypatch))
        assert (seen.result, seen.line) == expected


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"version": [3, 8, 1], "start": 0.0204, "prefix": "/usr", "flags": {}}
    (seen,) = bridge.runs(_host(told, monkeypatch))
    assert (seen.result, seen.title) == ("error", "pam_python runs Python 3.8.1, which is too old")
    assert seen.found == "starts in 20 ms of CPU time; /usr"


def test_what_a_trial_says() -> None:
    """Where runuser was not reached there was no trial; else pam_python has failed."""
    assert bridge_trial._read('ready\n{"a": 1}\n', "", 0) == {"a": 1}
    with pytest.raises(bridge_trial.NoTrialError, match="unshare: Operation not permitted"):
        bridge_trial._read("", "unshare: Operation not permitted\n", 1)
    for out, err, status, expected in [
        ("ready\n", "runuser: cannot open session: Module is unknown\n", 1, "cannot open session"),
        ("ready\n", "", -11, "signal 11"),
        ("ready\n", "", 1, "status 1"),
    ]:
        with pytest.raises(bridge_trial.FailedError, match=expected):
            bridge_trial._read(out, err, status)


def test_no_program_for_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge_trial, "PATH", "/nowhere")
    with pytest.raises(bridge_trial.NoTrialError, match="unshare: No such file"):
        bridge_trial.trial("pam_python.so", "/nowhere")


# Lines of pam_exec's


def exec_line(words: str, control: str = "required", options: str = "") -> Line:
    """Return a line of pam_exec's with words in front of the script."""
    given = [control, "pam_exec.so", *words.split(), "/o/pam_slurm_adopt_exec", *options.split()]
    ends = {"required": "ok", "sufficient": "done"}[control]
    refuses = {"required": "bad", "sufficient": "ignore"}[control]
    return Line("sshd", 0, given, {"success": ends, "default": refuses})


# (code, uid, options, what pam_exec returns)
RETURNED = [
    ("PAM_SUCCESS", 5001, "", "success"),
    ("PAM_SUCCESS", 5001, "ignore_passes=0", "success"),
    ("PAM_IGNORE", 5001, "", "success"),
    ("PAM_IGNORE", 5001, "ignore_passes=0", "system_err"),
    ("PAM_IGNORE", 0, "ignore_passes=0", "success"),
    ("PAM_PERM_DENIED", 5001, "", "system_err"),
    ("PAM_PERM_DENIED", 5001, "ignore_passes=0", "system_err"),
]


@pytest.mark.parametrize(("code", "uid", "given", "expected"), RETURNED)
def test_what_our_lines_return(
    code: str, uid: int, given: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the front itself has it; pam_python returns the code."""
    assert fronts.returns(exec_line("quiet", options=given), code, uid) == expected
    said = line(f"pam_python.so /o/pam_slurm_adopt.py {given}")
    assert fronts.returns(said, code, uid) == code[4:].lower()
    monkeypatch.setattr(pam_exec, "uid_of", lambda _: uid)
    outcome = Outcome(SITUATIONS["no jobs"], code, "")  # type: ignore[arg-type]
    monkeypatch.setattr(pam_exec, "answer", lambda *_: outcome)
    monkeypatch.setattr(pam_exec, "check_called", lambda *_: None)
    status = pam_exec.status(given.split(), {"PAM_TYPE": "account"}, 1)
    assert {0: "success", 1: "system_err"}[status] == expected


# (words in front of the script, service, what is said of the account line)
WORDS = [
    ("quiet stdout", "sshd", []),
    ("debug QUIET Stdout quiet_log", "sshd", []),
    ("quiet stdout", "crond", []),
    ("quiet stdout", "su", ["with a user's uid"]),
    ("quiet stdout seteuid", "su", []),
    ("", "sshd", ["tells users nothing", "adds a word of its own"]),
    ("quiet stdout type=account", "sshd", ["type stands in front"]),
    ("quiet stdout TYPE=auth", "sshd", ["type= keeps pam_exec"]),
    ("quiet log=/x", "sshd", ["log stands in front", "tells users nothing"]),
    ("quiet stdout stderr", "sshd", ["has pam_exec run stderr"]),
]


@pytest.mark.parametrize(("words", "service", "expected"), WORDS)
def test_words_of_pam_exec(
    words: str, service: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(service)
    there = {"account": [exec_line(words)]}
    monkeypatch.setattr(host, "our_lines", lambda phase: there.get(phase, []))
    said = [seen for seen in exec_line_checks.words(host) if seen.result != "ok"]
    assert [text in seen.title for seen, text in zip(said, expected)] == [True] * len(said)
    assert len(said) == len(expected)


@pytest.mark.parametrize(
    ("control", "given", "expected"),
    [
        ("required", "", "ok"),
        ("required", "ignore_passes=0", "warning"),
        ("sufficient", "", "error"),
        ("sufficient", "ignore_passes=0", "ok"),
    ],
)
def test_ignore_passes(
    control: str, given: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of docs/how-to/pam-exec.md."""
    host = Host()
    there = {"account": [exec_line("quiet stdout", control, given)]}
    monkeypatch.setattr(host, "our_lines", lambda phase: there.get(phase, []))
    assert [seen.result for seen in by_exec.ignoring(host)] == [expected]


PYTHON = sys.executable


def script(folder: Path, *lines: str) -> str:
    path = folder / "script"
    path.write_text("".join(f"{text}\n" for text in lines))
    path.chmod(0o755)
    return str(path)


# (lines of a script, what is said)
NO_TRIAL = [
    ([], "names no interpreter"),
    (["import sys"], "names no interpreter"),
    (["#!"], "names no interpreter"),
    (["#!/nowhere -IS"], "there is no '/nowhere'"),
    ([f"#!{PYTHON}\r"], "there is no"),
    (["#!/bin/false"], "/bin/false: exit status 1"),
    (["#!/bin/cat"], "/bin/cat: it does not answer as Python does"),
    (["#!/bin/sleep 60"], "/bin/sleep --help"),
]


@pytest.mark.parametrize(("lines", "expected"), NO_TRIAL)
def test_scripts_that_do_not_run(tmp_path: Path, lines: list[str], expected: str) -> None:
    with pytest.raises(bridge_trial.FailedError, match=expected):
        exec_trial.trial(script(tmp_path, *lines))


def test_a_script_without_its_package(tmp_path: Path) -> None:
    """It is not run: it would log that it cannot."""
    told = exec_trial.trial(script(tmp_path, f"#!{PYTHON} -IS", "open('/run/x', 'w')"))
    assert "No module named 'slurm_adopt'" in told["wrong"]
    assert not os.path.exists("/run/x")


def test_the_script_of_a_wheel(tmp_path: Path) -> None:
    """It is in the package, which no folder of its interpreter's has."""
    checkout = Path(__file__).parents[2]
    package = tmp_path / "slurm_adopt"
    shutil.copytree(checkout / "src/slurm_adopt", package)
    shutil.copytree(checkout / "pam", package / "pam")
    told = exec_trial.trial(str(package / "pam/pam_slurm_adopt_exec"))
    assert told.get("package", {}).get("file") == str(package / "__init__.py"), told


def test_a_script_that_fails_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its package beside it, the script itself is run as well."""
    (tmp_path / "src").symlink_to(Path(__file__).parents[2] / "src")
    (tmp_path / "pam").mkdir()
    look = "import os; assert os.environ['PAM_TYPE'] == 'close_session'"
    told = exec_trial.trial(script(tmp_path / "pam", f"#!{PYTHON} -IS", look))
    assert told["package"]["file"].endswith("/src/slurm_adopt/__init__.py")
    assert told["flags"]["isolated"] == 1
    assert told["site"] is False
    for text, expected in [
        ("raise SystemExit(3)", "exit status 3"),
        ("raise ValueError(4)", "ValueError: 4"),
        ("import os; os.abort()", "signal 6"),
    ]:
        with pytest.raises(bridge_trial.FailedError, match=expected):
            exec_trial.trial(script(tmp_path / "pam", f"#!{PYTHON} -IS", text))
    monkeypatch.setattr(exec_trial, "BRIDGE", 3.0)
    with pytest.raises(bridge_trial.FailedError, match="not answered within 3 s"):
        exec_trial.trial(script(tmp_path / "pam", f"#!{PYTHON} -IS", "import time; time.sleep(60)"))


# Options


def test_every_value_that_lets_in_is_named() -> None:
    """So is a value that gets into the table of the engine later."""
    opens = {
        (name, value)
        for name, values in ACTIONS.items()
        for value, action in values.items()
        if action.does == "auto" or (action.does == "answer" and action.code not in REFUSALS)
    }
    assert {(name, value) for name, value, _ in options.FAIL_OPEN} == opens


def test_messages(tmp_path: Path) -> None:
    assert options.MESSAGE_LIMIT == refusal_text.LIMIT
    file = tmp_path / "message"
    for data, wrong in [
        (b"%u has no job on %h (%j): %m, 100%%\n", ""),
        (b"\n\n", "is empty"),
        (b"\xff\n", "is not UTF-8"),
        (b"100% of %u\n", "has % , which stands for nothing"),
        (b"see %x\n", "has %x, which stands for nothing"),
        (b"%m (%r)\n", "has %r, which stands for nothing without reference=1"),
        (b"\x1b[31mno\n", "has control characters, which are left out"),
        (b"x" * 4097, "is larger than 4096 bytes"),
    ]:
        file.write_bytes(data)
        assert options._wrong_message(str(file), referred=False).endswith(wrong)
        assert bool(options._wrong_message(str(file), referred=False)) == bool(wrong)
    file.write_text("%m (%r)\n")
    assert options._wrong_message(str(file), referred=True) == ""


def test_the_signs_of_a_message_are_the_module_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a value when the file is shown."""
    monkeypatch.setattr(refusal_text, "render", lambda _, values: "".join(sorted(values)))
    outcome = Outcome(SITUATIONS["no jobs"], "PAM_PERM_DENIED", "")
    login = Login("alice", 5001, "sshd", 1)
    said = front_answer._words(Options({"message": "/m"}), login, outcome, "4F7K", Remarks())
    assert said == "".join(sorted(options.REPLACED))


def _with_lines(monkeypatch: pytest.MonkeyPatch, **lines: str) -> Host:
    """Return a host with these options on the lines of its phases."""
    host = Host()
    script = "/o/pam_slurm_adopt.py"
    there = {phase: [line(f"pam_python.so {script} {said}")] for phase, said in lines.items()}
    monkeypatch.setattr(host, "our_lines", lambda phase: there.get(phase, []))
    return host


SEVERAL = "callerid=0 action_unknown=deny"
ASK = "action_unknown=ask"
# (options of the account line, of the session line, whether something is odd)
ODD = [
    (SEVERAL, SEVERAL, True),
    (f"{SEVERAL} user_choice=1", f"{SEVERAL} user_choice=1", False),
    (ASK, ASK, False),
    (None, ASK, True),
]


@pytest.mark.parametrize(("account", "session", "odd"), ODD)
def test_options_that_fit_together(
    account: str | None, session: str, odd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = {"account": account, "session": session}
    host = _with_lines(monkeypatch, **{phase: said for phase, said in lines.items() if said})
    assert [seen.result for seen in options.consistent(host)] == ["warning" if odd else "ok"]


# sshd


def test_where_a_setting_stands(tmp_path: Path) -> None:
    config, more = tmp_path / "sshd_config", tmp_path / "more"
    config.write_text(
        f"# UsePAM no\nInclude {more}\nmaxstartups 5\nMaxStartups=10:30:100\nMatch User alice\n"
        "    PermitRootLogin no\nMatch all\nPermitRootLogin yes\n"
    )
    more.write_text("\nusepam yes\n")
    for name, value, expected in [
        ("UsePAM", "yes", (str(more), 2)),
        ("MaxStartups", "10:30:100", (str(config), 4)),
        ("MaxStartups", "5:100:5", (str(config), 3)),
        ("PermitRootLogin", "yes", (str(config), 8)),
        ("LoginGraceTime", "120", (str(config), 0)),
    ]:
        assert of_sshd.place(str(config), name, value) == expected
    assert of_sshd.place("/nowhere", "UsePAM", "yes") == ("/nowhere", 0)


def test_a_configuration_that_includes_itself(tmp_path: Path) -> None:
    config = tmp_path / "sshd_config"
    config.write_text(f"Include {config}\nUsePAM yes\n")
    assert of_sshd.place(str(config), "UsePAM", "yes") == (str(config), 2)


def test_options_of_a_running_sshd() -> None:
    for words, expected in [
        ("-D", ()),
        ("-D -f /etc/x -p 22", ("-f", "/etc/x")),
        ("-D -oUsePAM=no -E -f -f /etc/x", ("-o", "UsePAM=no", "-f", "/etc/x")),
        ("-D -f", ("-f", "")),
    ]:
        assert of_sshd._options(words.split()) == expected
    assert of_sshd.Sshd("/usr/sbin/sshd", ("-f", "/etc/x")).config == "/etc/x"
    assert of_sshd.Sshd("/usr/sbin/sshd").config == of_sshd.DEFAULT


def _seen(look: Any, said: dict[str, str], program: str = "/usr/sbin/sshd") -> list[Seen]:
    """Return what a look at the settings of one sshd comes to."""
    host = Host()
    host.is_root = True
    one = of_sshd.Sshd(program, (), listens=True)
    host._kept["sshds"] = [one], None
    for user in ("nobody", "root"):
        host._kept[f"sshd -T {one} {user} 22"] = {"usepam": "yes", **said}, None
    return list(look(host))


DEFAULT_PENALTIES = "crash:90 authfail:5 noauth:1 grace-exceeded:10 refuseconnection:10 max:600"
PENALTIES = [
    ({}, "ok"),
    ({"persourcepenalties": "no"}, "ok"),
    ({"persourcepenalties": DEFAULT_PENALTIES, "persourcepenaltyexemptlist": "none"}, "warning"),
    ({"persourcepenalties": DEFAULT_PENALTIES, "persourcepenaltyexemptlist": "10.0.0.0/8"}, "ok"),
    ({"persourcepenalties": DEFAULT_PENALTIES.replace("authfail:5", "authfail:0")}, "ok"),
    ({"persourcepenalties": "crash:90.000000 authfail:0.000000 noauth:1.000000"}, "ok"),
    ({"persourcepenalties": "crash:90 authfail:0.500000"}, "warning"),
]


@pytest.mark.parametrize(("said", "expected"), PENALTIES)
def test_penalties(said: dict[str, str], expected: str) -> None:
    assert [seen.result for seen in _seen(sshd.penalties, said)] == [expected]


def test_the_service_of_sshd() -> None:
    """PAMServiceName, where sshd has it; before that its program's name."""
    for said, program, expected in [
        ({}, "/usr/sbin/sshd", "ok"),
        ({"pamservicename": "sshd"}, "/opt/sshd-mine", "ok"),
        ({"pamservicename": "ssh-users"}, "/usr/sbin/sshd", "error"),
        ({}, "/opt/sshd-mine", "error"),
    ]:
        assert [seen.result for seen in _seen(sshd.service, said, program)] == [expected]


def test_times_of_sshd() -> None:
    for text, seconds in [("120", 120), ("2m", 120), ("1h30m", 5400), ("0", 0), ("1w", 604800)]:
        assert sshd._seconds(text) == seconds


def test_startups() -> None:
    for value, result in [
        ("10:30:100", "ok"),
        ("1000", "ok"),
        ("5", "warning"),
        ("5:30:10", "warning"),
    ]:
        assert [s.result for s in _seen(sshd.startups, {"maxstartups": value})] == [result]


def test_not_root_is_told_so() -> None:
    host = Host()
    host.is_root = False
    host._kept["sshds"] = [of_sshd.Sshd("/usr/sbin/sshd", (), listens=True)], None
    assert [seen.result for seen in sshd.found_(host)] == ["skipped"]
    assert [seen.result for seen in sshd.penalties(host)] == ["skipped"]


def test_no_sshd() -> None:
    host = Host()
    host._kept["sshds"] = [], None
    assert [seen.result for seen in sshd.found_(host)] == ["skipped"]


# The rows


OURS = [check for check in CHECKS if check.code[:3] in ("SA1", "SA2", "SA7")]


def test_rows_say_all() -> None:
    """Each code once; what is expected, why and what to do; pages that they name are there."""
    codes = [check.code for check in OURS]
    assert codes == sorted(set(codes))
    top = Path(__file__).parents[2]
    for check in OURS:
        assert check.expected.endswith(".")
        for text in (check.expected, check.why, check.fix):
            for sentence in re.split(r"\. ", text):
                assert len(sentence.split()) <= 25, sentence
        assert check.why.endswith(".")
        assert check.fix.endswith(".")
        named = [word.rstrip(".,") for word in check.fix.split() if word.startswith("docs/")]
        assert all((top / page).is_file() for page in named)
