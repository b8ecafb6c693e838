"""`slurm-adopt install` on files in a folder: whatever goes wrong, a PAM file is old or new."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from slurm_adopt import __version__
from slurm_adopt.cli import processes
from slurm_adopt.cli.checks.slurm.epilog import Given
from slurm_adopt.cli.errors import ERROR, CliError
from slurm_adopt.cli.install import (
    epilog_line,
    fronts,
    image,
    place,
    plan,
    proof,
    record,
    trial,
    writing,
)
from slurm_adopt.cli.install.applying import Node
from slurm_adopt.cli.install.plan import Change, Plan, Wish
from slurm_adopt.cli.install.record import Kept, Record, Trial
from slurm_adopt.node import pam_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BEFORE = b"account required pam_nologin.so\n@include common-account"  # no newline at its end
OURS = b"account required pam_python.so /opt/x/pam/pam_slurm_adopt.py\n"
AFTER = OURS + BEFORE
EDIT = b"# by hand\n"
SERVICE = "sshd"
WISH = Wish(SERVICE, "pam_python", {}, "/opt/x/pam/pam_slurm_adopt.py")


class FakeTimer(NamedTuple):
    """What would be told to systemd or at."""

    told: list[str]

    def arm(self, given: Trial) -> Trial:
        self.told.append("arm")
        return given._replace(job="7")

    def disarm(self, given: Trial) -> None:  # noqa: ARG002
        self.told.append("disarm")


class Site:
    """A folder with a PAM file and a place for records."""

    def __init__(self, folder: Path) -> None:
        self.etc = folder / "etc"
        self.pam = self.etc / "pam.d"
        self.file = self.pam / SERVICE
        self.top = folder / "state"
        self.said: list[str] = []
        self.told: list[str] = []
        self.pam.mkdir(parents=True)
        self.file.write_bytes(BEFORE)

    @contextmanager
    def node(self) -> Iterator[Node]:
        with record.held(top=str(self.top)) as folder:
            timer: Any = FakeTimer(self.told)
            yield Node(SERVICE, folder, timer, self.said.append, str(self.etc))

    def plan(self) -> Plan:
        now = self.file.read_bytes()
        changes = [] if OURS in now else [Change(str(self.file), now, OURS + now)]
        return Plan(changes, [], {})

    def install(self, seconds: int | None = None) -> Trial | None:
        with self.node() as node:
            node.settle()
            planned = self.plan()
            return node.install(WISH, planned, seconds) if planned.changes else None

    def uninstall(self) -> list[str]:
        with self.node() as node:
            node.settle()
            files, notes = node.removal()
            node.uninstall(files)
        return notes

    def settle(self) -> Record:
        with self.node() as node:
            return node.settle()

    @property
    def record(self) -> Record:
        with self.node() as node:
            return node.record

    @property
    def clean(self) -> bool:
        """Say whether nothing but the file is there."""
        return os.listdir(self.pam) == [SERVICE] and not self.top.exists()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path)

    def without(service: str, etc: str) -> Plan:
        assert (service, etc) == (SERVICE, str(made.etc))
        now = made.file.read_bytes()
        bare = now.replace(OURS, b"")
        return Plan([Change(str(made.file), now, bare)] if bare != now else [], [], {})

    monkeypatch.setattr(plan, "uninstall", without)
    monkeypatch.setattr(proof, "lockouts", lambda _: [])
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow where others write
    monkeypatch.setattr(trial, "begin", lambda s: Trial("abcd", time.time() + s, trial.AT, ""))
    return made


# As it should go


def test_there_and_back_to_the_byte(site: Site) -> None:
    site.install()
    assert site.file.read_bytes() == AFTER
    assert site.record == Record((Kept(str(site.file), BEFORE, BEFORE, AFTER),))
    assert site.uninstall() == []
    assert site.file.read_bytes() == BEFORE
    assert site.clean


def test_twice_is_once(site: Site) -> None:
    site.install()
    first = site.record
    site.install()
    assert (site.file.read_bytes(), site.record) == (AFTER, first)
    site.uninstall()
    site.uninstall()
    assert site.file.read_bytes() == BEFORE
    assert site.clean


def test_the_texts_can_be_copied_by_hand(site: Site) -> None:
    site.install()
    texts = {path.read_bytes() for path in (site.top / "install").iterdir()}
    assert {BEFORE, AFTER} < texts
    assert stat.S_IMODE((site.top / "install").stat().st_mode) == 0o700


def test_an_edited_file_keeps_its_edits(site: Site) -> None:
    site.install()
    site.file.write_bytes(EDIT + AFTER)
    (note,) = site.uninstall()
    assert "has been edited since" in note
    assert site.file.read_bytes() == EDIT + BEFORE
    assert site.clean


@pytest.mark.parametrize("seconds", [None, 600])
def test_a_file_that_is_gone(site: Site, seconds: int | None) -> None:
    """There is nothing to take out of it, and what is recorded goes."""
    site.install(seconds)
    site.file.unlink()
    if seconds:
        with site.node() as node:
            assert node.trial_over("abcd")
    else:
        site.uninstall()
    assert not os.listdir(site.pam)
    assert not site.top.exists()


def test_a_folder_that_cannot_be_locked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS without locks."""

    def failing(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", failing)
    assert "cannot be locked: No locks available: nothing" in refusal(site.install)
    assert site.file.read_bytes() == BEFORE


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_record_that_is_no_file(site: Site, make: Callable[[Path], None]) -> None:
    """Nothing is waited for."""
    site.install()
    path = site.top / "install" / f"{SERVICE}.json"
    path.unlink()
    make(path)
    assert "is damaged" in refusal(site.uninstall)
    assert site.file.read_bytes() == AFTER


def test_a_pam_file_that_has_become_a_fifo(site: Site) -> None:
    """Nothing is waited for."""
    site.install()
    site.file.unlink()
    os.mkfifo(site.file)
    assert "is not a regular file" in refusal(site.uninstall)


def test_lines_by_hand_come_out_as_well(site: Site) -> None:
    site.file.write_bytes(AFTER)
    site.uninstall()
    assert site.file.read_bytes() == BEFORE
    assert site.clean


def test_a_second_change_goes_back_to_the_first_text(site: Site) -> None:
    """Uninstall gives back what was there before all, also after options have been changed."""
    site.install()
    other = AFTER.replace(b".py", b".py wait_for_job=5")
    with site.node() as node:
        node.install(WISH, Plan([Change(str(site.file), AFTER, other)], [], {}), None)
    assert site.file.read_bytes() == other
    site.uninstall()
    assert site.file.read_bytes() == BEFORE
    assert site.clean


def test_lines_of_somebody_else_are_not_given_back(site: Site) -> None:
    """Where lines of ours were changed that were written by hand, uninstall leaves none."""
    site.file.write_bytes(AFTER)
    other = AFTER.replace(b".py", b".py wait_for_job=5")
    with site.node() as node:
        node.install(WISH, Plan([Change(str(site.file), AFTER, other)], [], {}), None)
    site.uninstall()
    assert site.file.read_bytes() == BEFORE


def test_owner_mode_and_attributes_stay(site: Site) -> None:
    os.chown(site.file, 12, 34)
    site.file.chmod(0o640)
    os.setxattr(site.file, "user.label", b"value")
    for step in (site.install, site.uninstall):
        step()
        found = site.file.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12, 34, 0o640)
        assert os.getxattr(site.file, "user.label") == b"value"


def test_a_link_stays_a_link(site: Site) -> None:
    real = site.file.rename(site.etc / "sshd-of-the-site")
    site.file.symlink_to(real)
    site.install()
    assert site.file.is_symlink()
    assert real.read_bytes() == AFTER
    site.uninstall()
    assert site.file.is_symlink()
    assert real.read_bytes() == BEFORE


def test_a_file_that_was_not_there_is_removed_again(site: Site) -> None:
    other = site.pam / "other"
    with site.node() as node:
        node.install(WISH, Plan([Change(str(other), None, OURS)], [], {}), None)
    assert stat.S_IMODE(other.stat().st_mode) == 0o644
    site.uninstall()
    assert site.clean


# What goes wrong


def refusal(work: Callable[[], object]) -> str:
    """Return the one line that a command ends with."""
    with pytest.raises(CliError) as caught:
        work()
    assert caught.value.status == ERROR
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_edited_in_between(site: Site) -> None:
    planned = site.plan()
    site.file.write_bytes(EDIT + BEFORE)

    def late() -> None:
        with site.node() as node:
            node.install(WISH, planned, None)

    assert "has been edited since it was looked at" in refusal(late)
    assert site.file.read_bytes() == EDIT + BEFORE
    assert site.clean


def test_a_file_with_another_name(site: Site) -> None:
    """A rename would part them."""
    os.link(site.file, site.etc / "other-name")
    assert "has other names as well" in refusal(site.install)
    assert site.file.read_bytes() == BEFORE
    assert site.clean


def test_a_lockout_is_taken_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def wrong(_: str) -> list[str]:
        seen.append(site.file.read_bytes())
        return ["SA106 the account phase can lock out root"]

    monkeypatch.setattr(proof, "lockouts", wrong)
    assert "taken back" in refusal(lambda: site.install(600))
    assert seen == [AFTER]
    assert site.file.read_bytes() == BEFORE
    assert site.told == ["arm", "disarm"]
    assert site.clean


def test_of_several_files_all_or_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    second = site.pam / "second"
    second.write_bytes(BEFORE)
    rename = os.rename

    def refusing(source: Any, target: Any, **where: Any) -> None:
        if target == str(second):
            raise OSError(errno.EIO, "Input/output error", source)
        rename(source, target, **where)

    monkeypatch.setattr(os, "rename", refusing)
    changes = [Change(str(path), BEFORE, AFTER) for path in (site.file, second)]
    with pytest.raises(CliError), site.node() as node:
        node.install(WISH, Plan(changes, [], {}), None)
    assert (site.file.read_bytes(), second.read_bytes()) == (BEFORE, BEFORE)


def test_another_that_runs(site: Site) -> None:
    with site.node():
        assert "another slurm-adopt install" in refusal(site.install)
    site.install()


def _link(site: Site) -> None:
    site.top.symlink_to(site.etc)


def _file(site: Site) -> None:
    site.top.write_bytes(b"")


def _of_others(site: Site) -> None:
    site.top.mkdir()
    os.chown(site.top, 5001, 0)


def _open_to_all(site: Site) -> None:
    site.top.mkdir()
    site.top.chmod(0o777)


def _readable(site: Site) -> None:
    (site.top / "install").mkdir(parents=True)
    (site.top / "install").chmod(0o755)


def _inner_of_others(site: Site) -> None:
    (site.top / "install").mkdir(parents=True, mode=0o700)
    os.chown(site.top / "install", 5001, 0)


def _inner_link(site: Site) -> None:
    site.top.mkdir()
    (site.top / "install").symlink_to(site.etc)


SQUATTED = [_link, _file, _of_others, _open_to_all, _readable, _inner_of_others, _inner_link]


@pytest.mark.parametrize("squat", SQUATTED)
def test_a_squatted_folder(site: Site, squat: Callable[[Site], None]) -> None:
    squat(site)
    assert "cannot be used" in refusal(site.install)
    assert site.file.read_bytes() == BEFORE
    assert os.listdir(site.pam) == [SERVICE]
    assert "cannot be used" in refusal(site.uninstall)


DAMAGE = [
    b"", b"{", b"[]", b"{}", b"null", b'{"schema": 2}',
    b'{"schema": 1, "installed": [{}], "change": [], "trial": null}',
    b'{"schema": 1, "installed": [], "change": [{"path": "/x", "base": "00"}], "trial": null}',
    (b'{"schema": 1, "change": [], "trial": null, "installed": [{"path": "/x", "base": "00", '
    b'"before": null, "after": null}]}'),
    b'{"schema": 1, "installed": [], "change": [], "trial": {"name": "x"}}',
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGE)
def test_a_damaged_record(site: Site, text: bytes) -> None:
    site.install()
    (site.top / "install/sshd.json").write_bytes(text)
    assert "is damaged" in refusal(site.uninstall)
    assert "is damaged" in refusal(site.install)
    assert site.file.read_bytes() == AFTER


def test_a_damaged_text(site: Site) -> None:
    site.install()
    for path in (site.top / "install").glob("sshd.????????????????"):
        path.write_bytes(EDIT)
    assert "is damaged" in refusal(site.uninstall)


# A trial


def test_a_trial_is_taken_back(site: Site) -> None:
    tried = site.install(600)
    assert tried
    assert site.file.read_bytes() == AFTER
    assert site.record.trial == tried
    with site.node() as node:
        assert not node.trial_over("another")
    assert site.file.read_bytes() == AFTER
    with site.node() as node:
        assert node.trial_over(tried.name)
    assert site.file.read_bytes() == BEFORE
    assert site.told == ["arm", "disarm"]
    assert site.clean


def test_a_trial_that_is_confirmed(site: Site) -> None:
    tried = site.install(600)
    assert tried
    with site.node() as node:
        assert node.confirm()
        assert not node.confirm()
    assert site.told == ["arm", "disarm"]
    with site.node() as node:
        assert not node.trial_over(tried.name)
    assert site.file.read_bytes() == AFTER
    site.uninstall()
    assert site.file.read_bytes() == BEFORE
    assert site.clean


def test_a_trial_that_would_keep_everybody_out_is_not_confirmed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install(600)
    monkeypatch.setattr(proof, "lockouts", lambda _: ["SA106 can lock out root"])

    def confirm() -> None:
        with site.node() as node:
            node.confirm()

    assert "the trial goes on" in refusal(confirm)
    assert site.record.trial


def test_a_trial_over_an_installation_gives_that_back(site: Site) -> None:
    site.install()
    other = AFTER.replace(b".py", b".py wait_for_job=5")
    with site.node() as node:
        node.install(WISH, Plan([Change(str(site.file), AFTER, other)], [], {}), 600)
        assert node.trial_over("abcd")
    assert site.file.read_bytes() == AFTER
    site.uninstall()
    assert site.file.read_bytes() == BEFORE
    assert site.clean


def test_a_trial_over_an_installation_whose_file_is_edited(site: Site) -> None:
    """The lines become those of before: without any, everybody would get in."""
    site.install()
    other = AFTER.replace(b".py", b".py wait_for_job=5")
    with site.node() as node:
        node.install(WISH, Plan([Change(str(site.file), AFTER, other)], [], {}), 600)
        site.file.write_bytes(EDIT + other)
        assert node.trial_over("abcd")
    assert site.file.read_bytes() == EDIT + AFTER
    assert "our lines alone become what they were" in site.said[-1]
    site.uninstall()
    assert site.file.read_bytes() == EDIT + BEFORE


def test_a_trial_over_an_installation_whose_line_is_edited(site: Site) -> None:
    """What was tried is not there as it was: the lines go, whatever they are."""
    site.install()
    other = AFTER.replace(b".py", b".py wait_for_job=5")
    with site.node() as node:
        node.install(WISH, Plan([Change(str(site.file), AFTER, other)], [], {}), 600)
        site.file.write_bytes(AFTER + EDIT)
        assert node.trial_over("abcd")
    assert site.file.read_bytes() == BEFORE + EDIT


def test_a_trial_that_nothing_has_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timer was lost: the next run takes it back."""
    tried = site.install(600)
    assert tried
    assert site.settle().trial == tried
    monkeypatch.setattr(time, "time", lambda: tried.ends + 1)
    assert site.settle() == Record()
    assert "a trial was over" in site.said[-1]
    assert site.file.read_bytes() == BEFORE


def test_a_trial_whose_file_is_edited(site: Site) -> None:
    site.install(600)
    site.file.write_bytes(EDIT + AFTER)
    with site.node() as node:
        node.trial_over("abcd")
    assert site.file.read_bytes() == EDIT + BEFORE
    assert site.clean


def test_a_trial_is_ended_by_uninstall(site: Site) -> None:
    site.install(600)
    site.uninstall()
    assert site.file.read_bytes() == BEFORE
    assert site.told == ["arm", "disarm"]
    assert site.clean


def test_a_timer_that_cannot_be_set(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> Trial:
        raise CliError("systemctl has failed", ERROR)

    monkeypatch.setattr(FakeTimer, "arm", failing)
    assert refusal(lambda: site.install(600)) == "systemctl has failed"
    assert site.file.read_bytes() == BEFORE
    assert site.clean


# What takes a trial back

DURATIONS = [
    ("10m", 600),
    ("10min", 600),
    ("90s", 90),
    ("1h", 3600),
    ("2 hours", 7200),
    ("7d", 604800),
]
NO_DURATIONS = ["", "10", "m", "soon", "-10m", "59s", "8d", "1.5h", "10m10s", "10\u0664m", "1e3s"]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_how_long_a_trial_is(text: str, seconds: int) -> None:
    assert trial.duration(text) == seconds


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_what_is_no_time_for_a_trial(text: str) -> None:
    with pytest.raises(CliError, match="--trial"):
        trial.duration(text)


PROGRAM = """\
#!/bin/sh
echo "$(basename $0) $*" >>{log}
[ "$1" != -c ] || echo "slurm-adopt uninstall --trial-over abcd"
echo "job 42 at Sat Nov 28 23:10:00 2026" >&2
exit {status}
"""
COMMAND = ["env", "A=/opt/a b/%n/$x", "slurm-adopt"]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs(tmp_path)
    monkeypatch.setattr(trial, "UNITS_AT", str(made.units))
    monkeypatch.setattr(trial, "STAMPS", str(made.units))
    monkeypatch.setattr(os, "environ", {"PATH": f"{made.folder}:/usr/bin:/bin"})
    with_path = {**trial._ENVIRONMENT, "PATH": f"{made.folder}:/usr/bin:/bin"}
    monkeypatch.setattr(trial, "_ENVIRONMENT", with_path)
    return made


class Programs:
    """systemctl, at and atrm that note how they are run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.units, self.log = folder / "bin", folder / "units", folder / "log"
        self.folder.mkdir()
        self.units.mkdir()
        self.become(0)

    def become(self, status: int) -> None:
        for name in ("systemctl", "at", "atrm", "slurm-adopt"):
            path = self.folder / name
            path.write_text(PROGRAM.format(log=self.log, status=status))
            path.chmod(0o755)

    @property
    def told(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


TIMER = trial.Timer(SERVICE, COMMAND)
TRIAL = Trial("abcd", 1795906380.0, trial.SYSTEMD, "")  # 2026-11-28 22:53:00 UTC


def test_systemd_takes_it_back(programs: Programs) -> None:
    assert TIMER.arm(TRIAL) == TRIAL
    assert programs.told == [
        "slurm-adopt --version",
        "systemctl daemon-reload",
        "systemctl enable --now --quiet slurm-adopt-trial-sshd.timer",
    ]
    units = {path.name: path.read_text() for path in programs.units.iterdir()}
    service, timer = (units[f"slurm-adopt-trial-sshd.{kind}"] for kind in ("service", "timer"))
    assert (
        'ExecStart=env "A=/opt/a b/%%n/$$x" slurm-adopt uninstall --service sshd '
        "--trial-over abcd\n" in service
    )
    assert "OnCalendar=2026-11-28 22:53:00 UTC\nOnActiveSec=" in timer
    assert "\nPersistent=true\n" in timer
    assert "WantedBy=timers.target" in timer
    TIMER.disarm(TRIAL)
    assert programs.told[3:] == [
        "systemctl disable --now --quiet slurm-adopt-trial-sshd.timer",
        "systemctl reset-failed slurm-adopt-trial-sshd.service",
        "systemctl daemon-reload",
    ]
    assert [*programs.units.iterdir()] == []
    TIMER.disarm(TRIAL)
    assert len(programs.told) == 6


def test_what_a_lost_trial_has_left_goes_first(programs: Programs) -> None:
    TIMER.arm(TRIAL)
    TIMER.arm(TRIAL._replace(name="cdef"))
    assert [line.split()[1] for line in programs.told if line.startswith("systemctl")] == [
        *("daemon-reload", "enable"),
        *("disable", "reset-failed", "daemon-reload"),
        *("daemon-reload", "enable"),
    ]
    service = programs.units / "slurm-adopt-trial-sshd.service"
    assert service.read_text().count("--trial-over cdef") == 1


def test_at_takes_it_back(programs: Programs) -> None:
    """At the same moment, whatever the time zone of the administrator's shell and of at are."""
    given = TIMER.arm(TRIAL._replace(by=trial.AT))
    assert given.job == "42"
    assert trial._ENVIRONMENT["TZ"] == "UTC0"
    date = time.strftime("%Y%m%d%H%M", time.gmtime(TRIAL.ends))
    assert programs.told[1:] == [f"at -t {date}"]
    TIMER.disarm(given)
    assert programs.told[2:] == ["at -c 42", "atrm 42"]


def test_a_job_of_at_s_that_is_another_s_stays(programs: Programs) -> None:
    """At gives a number again."""
    TIMER.disarm(TRIAL._replace(by=trial.AT, job="42", name="cdef"))
    assert programs.told == ["at -c 42"]


@pytest.mark.parametrize("by", [trial.SYSTEMD, trial.AT])
def test_a_timer_that_is_refused(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    programs.become(1)
    assert "has failed: job 42" in refusal(lambda: TIMER.arm(TRIAL._replace(by=by)))
    monkeypatch.setattr(os, "environ", {"PATH": str(programs.units)})
    monkeypatch.setattr(trial, "_ENVIRONMENT", {"PATH": str(programs.units)})
    assert "cannot be run" in refusal(lambda: TIMER.arm(TRIAL._replace(by=by)))


def test_a_command_that_would_not_run_then(programs: Programs) -> None:
    """As root's timer runs it, which has none of this environment."""
    (programs.folder / "slurm-adopt").write_text("#!/bin/sh\necho no module; exit 1\n")
    assert "--version has failed: no module" in refusal(lambda: TIMER.arm(TRIAL))
    assert programs.told == []
    assert [*programs.units.iterdir()] == []


def test_this_command_runs_without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """That which is not beside its script is run by its own interpreter."""
    monkeypatch.setattr(os.path, "isfile", lambda _: False)
    argv = [*place.command(), "--version"]
    done = subprocess.run(argv, check=True, env={}, cwd="/", capture_output=True, text=True)
    assert __version__ in done.stdout


# (systemd is PID 1, atd runs, what takes a trial back)
HOSTS = [(True, True, trial.SYSTEMD), (True, False, trial.SYSTEMD), (False, True, trial.AT)]


@pytest.mark.parametrize(("systemd", "atd", "by"), HOSTS)
def test_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, systemd: bool, atd: bool, by: str
) -> None:
    monkeypatch.setattr(trial, "RUNS", str(tmp_path if systemd else tmp_path / "none"))
    monkeypatch.setattr(trial, "_is_running", lambda name: atd and name == "atd")
    begun = trial.begin(601)
    assert begun.by == by
    assert begun.ends - time.time() > 590
    assert by != trial.AT or begun.ends % 60 == 0


def test_nothing_that_takes_it_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trial, "RUNS", str(tmp_path / "none"))
    monkeypatch.setattr(trial, "_is_running", lambda _: False)
    assert "neither systemd nor atd" in refusal(lambda: trial.begin(600))


# The Epilog's line

CONF = "/etc/slurm/slurm.conf"
READY = "/opt/slurm_adopt/contrib/epilog.d/90-slurm_adopt"
# (what slurm.conf has, whether there is a script that is ready, lines without comments, comments)
EPILOGS = [
    (None, READY, ["Epilog=/etc/slurm/epilog.d/*"], [f"install -D -m 755 {READY} /etc/slurm/epi"]),
    (None, "", ["Epilog=/etc/slurm/epilog.slurm_adopt"], ["python3 -sBEm slurm_adopt.epilog"]),
    ("/etc/epilog", READY, ["Epilog=/etc/slurm/epilog.d/90-slurm_adopt"], ["has to stay"]),
    ("/x/epilog.d/*", READY, [], [f"{READY} /x/epilog.d/90-slurm_adopt", f"{CONF}:7 runs it"]),
]


@pytest.mark.parametrize(("given", "ready", "lines", "comments"), EPILOGS)
def test_the_epilog_s_line(
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    ready: str,
    lines: list[str],
    comments: list[str],
) -> None:
    there = [Given(given, CONF, 7)] if given else []
    monkeypatch.setattr(epilog_line, "_of_slurm_conf", lambda: (CONF, there))
    monkeypatch.setattr(epilog_line, "_ready", lambda: ready)
    said = [*epilog_line.lines()]
    assert [line for line in said if not line.startswith("#")] == lines
    assert [one for one in comments if one not in "\n".join(said)] == []


# (name, its uids, whether it may take a trial back)
DAEMONS = [
    ("atd", (0, 0, 0, 0), True),
    ("atd", (0, 1, 1, 1), True),  # as Debian's has them
    ("atd", (1000, 1000, 1000, 1000), False),
    ("atd", (1, 1, 1, 1), False),
    ("cron", (0, 0, 0, 0), False),
]


@pytest.mark.parametrize(("name", "uids", "is_one"), DAEMONS)
def test_a_daemon_is_root_s(
    monkeypatch: pytest.MonkeyPatch, name: str, uids: tuple[int, ...], is_one: bool
) -> None:
    there = {7: processes.Process(7, 1, uids, name, 0, 7, nested=False)}
    monkeypatch.setattr(processes, "listed", lambda: there)
    assert trial._is_running("atd") is is_one


# pam_exec, where users write the environment of what root runs

ENVIRONMENTS = [
    ("session required pam_env.so user_readenv=1", False),
    ("session required pam_env.so envfile=/etc/default/locale user_readenv=1", False),
    ("auth required /lib/security/pam_env.so user_readenv=1", False),
    ("session required pam_env.so user_readenv=2", False),
    ("session required pam_env.so user_readenv=0 user_readenv=1", False),
    ("session required pam_env.so user_readenv=1 user_readenv=0", True),
    ("@include other-file", False),
    ("session required pam_env.so user_readenv=2", False),
    ("session required pam_env.so user_readenv=0 user_readenv=1", False),
    ("session required pam_env.so user_readenv=1 user_readenv=0", True),
    ("session required pam_env.so user_readenv=0", True),
    ("session required pam_env.so", True),
    ("# session required pam_env.so user_readenv=1", True),
    ("session required pam_exec.so user_readenv=1", True),
]


@pytest.mark.parametrize(("line", "safe"), ENVIRONMENTS)
def test_when_pam_exec_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, safe: bool
) -> None:
    (tmp_path / SERVICE).write_text(f"account required pam_permit.so\n{line}\n")
    (tmp_path / "other-file").write_text("session required pam_env.so user_readenv=1\n")
    monkeypatch.setattr(pam_files, "PLACES", (str(tmp_path),))
    if safe:
        fronts._check_environment(SERVICE)
    else:
        assert "run programs as root" in refusal(lambda: fronts._check_environment(SERVICE))


# At every step. The steps are the calls by which a run changes a disk.

STEPS = ("open", "rename", "unlink", "mkdir", "rmdir", "fsync", "chmod", "fchmod", "fchown")
ALLOCATES = ("open", "mkdir", "fsync")  # what fails on a full disk


def at_step(number: int, happens: Callable[[str], None], names: tuple[str, ...] = STEPS) -> Any:
    """Return a patch: something happens at a step, in front of it; `count[0]`: how many came."""
    patch, count = pytest.MonkeyPatch(), [0]

    def stepping(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any, **named: Any) -> Any:
            is_change = name != "open" or bool(given[1] & os.O_CREAT)
            count[0] += is_change
            if is_change and count[0] >= number:
                happens(name)
            return real(*given, **named)

        return step

    for name in names:
        patch.setattr(os, name, stepping(name, getattr(os, name)))
    return patch, count


def once(number: int, happens: Callable[[str], None]) -> Any:
    patch, count = at_step(number, lambda name: happens(name) if count[0] == number else None)
    return patch, count


def _kill(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do a thing in a child that is killed at a step; say whether it was."""
    child = os.fork()
    if child == 0:
        at_step(step, _kill)
        with suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def every_step(work: Callable[[int], bool]) -> None:
    """Go through all steps until the work is done without one."""
    for step in range(1, 500):
        if not work(step):
            assert step > 10
            return
    pytest.fail("it never ends")


def test_install_is_killed_at_every_step(site: Site) -> None:
    def attempt(step: int) -> bool:
        killed = killed_at(step, site.install)
        assert site.file.read_bytes() in (BEFORE, AFTER)
        left = site.file.read_bytes()
        finished = site.settle().installed
        assert site.file.read_bytes() == (AFTER if finished else BEFORE)
        assert os.listdir(site.pam) == [SERVICE]
        if left == AFTER and not finished:
            assert "taken back" in site.said[-1]
        site.install()
        assert site.file.read_bytes() == AFTER
        site.uninstall()
        assert site.file.read_bytes() == BEFORE
        assert site.clean
        return killed

    every_step(attempt)


def test_a_trial_is_killed_at_every_step(site: Site) -> None:
    """What was written is taken back by the timer, which is set before."""

    def attempt(step: int) -> bool:
        killed = killed_at(step, lambda: site.install(600))
        assert site.file.read_bytes() in (BEFORE, AFTER)
        if site.file.read_bytes() == AFTER:
            with site.node() as node:
                assert node.trial_over("abcd")
        site.settle()
        assert site.file.read_bytes() == BEFORE
        assert site.clean
        return killed

    every_step(attempt)


def test_the_end_of_a_trial_is_killed_at_every_step(site: Site) -> None:
    def end() -> None:
        with site.node() as node:
            node.trial_over("abcd")

    def attempt(step: int) -> bool:
        site.install(600)
        killed = killed_at(step, end)
        assert site.file.read_bytes() in (BEFORE, AFTER)
        end()  # as the timer does it again
        assert site.file.read_bytes() == BEFORE
        site.settle()
        assert site.clean
        return killed

    every_step(attempt)


def test_uninstall_is_killed_at_every_step(site: Site) -> None:
    def attempt(step: int) -> bool:
        site.install()
        killed = killed_at(step, site.uninstall)
        assert site.file.read_bytes() in (BEFORE, AFTER)
        site.uninstall()
        assert site.file.read_bytes() == BEFORE
        assert site.clean
        return killed

    every_step(attempt)


def _full(_: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _term(_: str) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _hup(_: str) -> None:
    os.kill(os.getpid(), signal.SIGHUP)


def _interrupt(_: str) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("happens", [_full, _interrupt])
@pytest.mark.parametrize("seconds", [None, 600])
def test_a_failure_at_every_step(
    site: Site, happens: Callable[[str], None], seconds: int | None
) -> None:
    """What was written is taken back at once, or the installation is whole."""

    def attempt(step: int) -> bool:
        patch, count = once(step, happens)
        failed = ""
        try:
            site.install(seconds)
        except CliError as error:
            failed = str(error)
        except KeyboardInterrupt:
            pass
        finally:
            patch.undo()
        assert "cannot be put back" not in failed
        came: bool = count[0] >= step
        left = site.settle()
        whole = bool(left.installed or left.trial)  # ^C may come when all is done
        assert not (failed and whole)
        assert site.file.read_bytes() == (AFTER if whole else BEFORE)
        assert whole or site.clean
        site.uninstall()
        assert site.file.read_bytes() == BEFORE
        assert site.clean
        return came

    every_step(attempt)


def test_the_disk_is_full_from_a_step_on(site: Site) -> None:
    def attempt(step: int) -> bool:
        patch, count = at_step(step, _full, ALLOCATES)
        failed = ""
        try:
            site.install()
        except CliError as error:
            failed = str(error)
        finally:
            patch.undo()
        assert not failed or "No space left" in failed
        assert site.file.read_bytes() == (BEFORE if failed else AFTER)
        site.uninstall()
        assert site.clean
        came: bool = count[0] >= step
        return came

    every_step(attempt)


@pytest.mark.parametrize("happens", [_term, _hup])
def test_a_signal_at_every_step(site: Site, happens: Callable[[str], None]) -> None:
    """In a child: outside of the critical part a signal ends it as any program."""

    def attempt(step: int) -> bool:
        child = os.fork()
        if child == 0:
            _, count = once(step, happens)
            with suppress(BaseException):
                site.install()
            os._exit(0 if count[0] >= step else 2)
        _, status = os.waitpid(child, 0)
        finished = site.settle().installed
        assert site.file.read_bytes() == (AFTER if finished else BEFORE)
        site.uninstall()
        assert site.file.read_bytes() == BEFORE
        assert site.clean
        return status != 2 << 8

    every_step(attempt)


def test_what_cannot_be_put_back_stays_recorded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back fails: the line says which file to copy, and a trial's timer is left."""
    monkeypatch.setattr(proof, "lockouts", lambda _: ["SA106 can lock out root"])

    def failing(_: writing.Writing) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(writing.Writing, "back", failing)
        said = refusal(lambda: site.install(600))
    assert f"to {site.file}" in said
    copy = said.partition("Copy ")[2].split(" to ")[0]
    with open(copy, "rb") as file:
        assert file.read() == BEFORE
    assert site.told == ["arm"]
    with site.node() as node:
        assert node.trial_over("abcd")
    assert site.file.read_bytes() == BEFORE
    assert site.clean


# The login image

# What the program that makes it does: what is said of it
MAKERS = {
    "import sys; sys.exit('login_image.py: there is no image: no space')": (
        "there is no login image, so each login imports the module file by file: ",
        "login_image.py: there is no image: no space",
    ),
    "import sys; sys.exit(3)": ("there is no login image, ", "status 3"),
    "import time; time.sleep(99)": ("there is no login image, ", "it has not ended within 0.1 s"),
    "": ("written: ", ".image"),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_an_image_that_cannot_be_made_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, maker: str
) -> None:
    (tmp_path / "login_image.py").write_text(maker)
    told = {"interpreter": sys.executable, "version": [3, 9, 0], "tag": "cpython-39",
            "package": {"file": f"{tmp_path}/__init__.py"}, "image": False}  # fmt: skip
    monkeypatch.setattr(place, "script_of", lambda _: "/a")
    monkeypatch.setattr(place, "package", lambda: str(tmp_path))
    monkeypatch.setattr("slurm_adopt.cli.checks.bridge.exec_trial.trial", lambda _: told)
    if "sleep" in maker:
        monkeypatch.setattr(image, "IMAGE", 0.1)
    said = image.make("pam_exec")
    assert said.startswith(MAKERS[maker][0]), said
    assert said.endswith(MAKERS[maker][1]), said
    told["image"] = True
    assert image.make("pam_exec") == ""
    told["changed"] = ["/a/node/unreached.py"]
    in_part = "the login image is stale, so some logins import parts of the module file by file: "
    assert image.make("pam_exec").startswith(in_part if maker else "written: ")
