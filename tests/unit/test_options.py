"""The parser of PAM arguments, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slurm_adopt.decision.options import LONG, OPTIONS, Option, parse

if TYPE_CHECKING:
    from slurm_adopt.decision.options import Name

# (argument, option, value it comes to, part of the complaint or "")
ROWS = [
    ("action_no_jobs=ignore", "action_no_jobs", "ignore", ""),
    ("action_no_jobs=deny", "action_no_jobs", "deny", ""),
    ("ACTION_NO_JOBS=Ignore", "action_no_jobs", "ignore", ""),
    ("action_no_jobs=denyy", "action_no_jobs", "deny", "unrecognized action_no_jobs=denyy"),
    ("action_no_jobs=", "action_no_jobs", "deny", "it takes deny or ignore"),
    ("action_no_jobs=allow", "action_no_jobs", "deny", "unrecognized"),
    ("action_unknown=allow", "action_unknown", "allow", ""),
    ("action_unknown=any", "action_unknown", "newest", "it now means newest"),
    ("action_unknown=ignore", "action_unknown", "allow", "it now means allow"),
    ("action_adopt_failure=Ignore", "action_adopt_failure", "allow", "it now means allow"),
    ("action_adopt_failure=any", "action_adopt_failure", "deny", "unrecognized"),
    ("action_unknown=newst", "action_unknown", "deny", "setting to 'deny'"),
    ("action_adopt_failure=deny", "action_adopt_failure", "deny", ""),
    ("action_adopt_failure=alow", "action_adopt_failure", "deny", "setting to 'deny'"),
    ("action_generic_failure=allow", "action_generic_failure", "allow", ""),
    ("action_generic_failure=x", "action_generic_failure", "deny", "setting to 'deny'"),
    ("ignore_root=0", "ignore_root", "0", ""),
    ("ignore_root=no", "ignore_root", "1", "it takes 1 or 0"),
    ("disable_x11=0", "disable_x11", "0", ""),
    ("disable_x11=yes", "disable_x11", "1", "unrecognized"),
    ("join_container=FALSE", "join_container", "false", ""),
    ("single_job_skip_rpc=0", "single_job_skip_rpc", "0", ""),
    ("log_level=debug3", "log_level", "debug3", ""),
    ("log_level=7", "log_level", "7", ""),
    ("log_level=10", "log_level", "info", "unrecognized log_level=10"),
    ("log_level=loud", "log_level", "info", "unrecognized"),
    ("nodename=n1.cluster", "nodename", "n1.cluster", ""),
    ("nodename=../../etc", "nodename", "", "unrecognized"),
    ("nodename=", "nodename", "", "unrecognized"),
    ("service=*", "service", "*", ""),
    ("service=a b", "service", "sshd", "unrecognized"),
    ("slurm_conf=/opt/slurm/etc/slurm.conf", "slurm_conf", "/opt/slurm/etc/slurm.conf", ""),
    ("slurm_conf=slurm.conf", "slurm_conf", "", "it takes an absolute path"),
    ("slurm_conf=/a\nb", "slurm_conf", "", "unrecognized"),
    ("message=/etc/x", "message", "/etc/x", ""),
    ("message=x", "message", "", "it takes an absolute path"),
    ("callerid=0", "callerid", "0", ""),
    ("callerid_timeout=0.5", "callerid_timeout", "0.5", ""),
    ("callerid_timeout=nan", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout=-1", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout=1e9", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout=1e0", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout=1_0", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout=\u0663", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout= 3", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout=inf", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout=.", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout=1.5.1", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout=", "callerid_timeout", "2", "unrecognized"),
    ("callerid_timeout=" + "9" * 5000, "callerid_timeout", "2", "unrecognized"),
    ("wait_for_job=nan", "wait_for_job", "0", "unrecognized"),
    ("wait_for_job=1_0", "wait_for_job", "0", "unrecognized"),
    ("wait_for_job=60.0", "wait_for_job", "60.0", ""),
    ("log_level=\u0663", "log_level", "info", "unrecognized"),
    ("job_env=all", "job_env", "all", ""),
    ("job_env=TMPDIR", "job_env", "TMPDIR", ""),
    ("job_env=SLURM_JOB_NAME,TMPDIR", "job_env", "SLURM_JOB_NAME,TMPDIR", ""),
    ("job_env=", "job_env", "SLURM_JOB_ID", "it takes names of the manual page's"),
    ("job_env=TMPDIR,", "job_env", "SLURM_JOB_ID", "unrecognized job_env=TMPDIR,"),
    ("job_env=TMPDIR, HOME", "job_env", "SLURM_JOB_ID", "setting to 'SLURM_JOB_ID'"),
    ("job_env=PATH", "job_env", "SLURM_JOB_ID", "unrecognized job_env=PATH"),
    ("job_env=LD_PRELOAD", "job_env", "SLURM_JOB_ID", "unrecognized"),
    ("job_env=All", "job_env", "all", ""),
    ("job_env=tmpdir,Slurm_Job_Name", "job_env", "TMPDIR,SLURM_JOB_NAME", ""),
    ("job_env=All,tmpdir", "job_env", "all,TMPDIR", ""),
    ("job_env=all,PATH", "job_env", "SLURM_JOB_ID", "unrecognized"),
    ("job_limits=1", "job_limits", "1", ""),
    ("welcome=1", "welcome", "1", ""),
    ("welcome=yes", "welcome", "0", "it takes 0 or 1"),
    ("job_limits=yes", "job_limits", "1", "it takes 0 or 1"),
    ("reference=1", "reference", "1", ""),
    ("reference=yes", "reference", "0", "it takes 0 or 1"),
    ("action_nojobs=deny", "action_no_jobs", "deny", "did you mean action_no_jobs=?"),
    ("action_no_jobs", "action_no_jobs", "deny", "ignoring unrecognized option"),
    ("", "service", "sshd", "ignoring unrecognized option ''"),
    ("=", "service", "sshd", "ignoring unrecognized option '='"),
    ("ﬀ=1", "service", "sshd", "ignoring unrecognized option"),
    ("x" * 10_000, "service", "sshd", "ignoring unrecognized option 'xxx"),
    ("service=" + "y" * 10_000, "service", "y" * 10_000, ""),
    ("log_level=" + "9" * 10_000, "log_level", "info", "unrecognized log_level=999"),
]


@pytest.mark.parametrize(("argument", "name", "value", "complaint"), ROWS)
def test_argument(argument: str, name: Name, value: str, complaint: str) -> None:
    options, complaints = parse([argument])
    assert options[name] == value
    cut = len(argument) > LONG  # of that PAM may have cut, there is a complaint of its own
    assert len(complaints) == bool(complaint) + cut
    assert complaint in "".join(complaints)
    assert len("".join(complaints)) < 600


def test_defaults_are_the_c_modules() -> None:
    options, complaints = parse([])
    assert not complaints
    assert {option.name: options[option.name] for option in OPTIONS if option.since} == {
        "ignore_root": "1",
        "action_no_jobs": "deny",
        "action_unknown": "newest",
        "action_adopt_failure": "allow",
        "action_generic_failure": "auto",  # the C module's, ignore, but on compute nodes
        "log_level": "info",
        "disable_x11": "0",
        "nodename": "",
        "service": "sshd",
        "join_container": "true",
        "single_job_skip_rpc": "1",
    }


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_listed_value_is_taken(option: Option) -> None:
    for value in option.values if isinstance(option.values, tuple) else ():
        options, complaints = parse([f"{option.name}={value}"])
        assert (options[option.name], complaints) == (value, [])


def test_the_last_of_two_counts() -> None:
    """A contradiction is complained of, a repetition is not."""
    options, complaints = parse(["action_unknown=deny", "ACTION_UNKNOWN=allow"])
    assert options["action_unknown"] == "allow"
    assert complaints == ["action_unknown is given more than once; the last value counts: 'allow'"]
    assert parse(["action_unknown=deny", "action_unknown=DENY"])[1] == []


@pytest.mark.parametrize(("length", "complained"), [(800, False), (801, True), (10_000, True)])
def test_a_line_that_pam_may_have_cut(length: int, complained: bool) -> None:
    _, complaints = parse(["nodename=n1", "nodename=".ljust(length - 11, "n")])
    assert any("characters long" in line for line in complaints) is complained


@pytest.mark.parametrize(("level", "number"), [("quiet", 0), ("info", 3), ("9", 9), ("debug5", 9)])
def test_log_level_as_number(level: str, number: int) -> None:
    assert parse([f"log_level={level}"])[0].log_level == number
