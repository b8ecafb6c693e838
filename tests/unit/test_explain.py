"""`slurm-adopt explain` over stand-ins of stepds: verdict, other options, what is printed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from slurm_adopt.cli.errors import CliError
from slurm_adopt.cli.explain import command, session_place, what_if
from slurm_adopt.cli.explain import facts as explain_facts
from slurm_adopt.cli.explain import text as explain_text
from slurm_adopt.cli.explain.command import check
from slurm_adopt.cli.verdict import looking_job
from slurm_adopt.cli.verdict.pam_line import Lines, where
from slurm_adopt.cli.verdict.verdict import Verdict, verdict
from slurm_adopt.decision.options import Options, parse
from slurm_adopt.node.slurm_site import SlurmSite
from slurm_adopt.slurm import auth
from slurm_adopt.slurm.stepd import starting
from tests.fakes import slurmd
from tests.fakes.requests import (
    REQUEST_ADD_EXTERN_PID,
    REQUEST_GET_NS_FD,
    REQUEST_GET_NS_FDS,
    REQUEST_STEP_LIST_PIDS,
    REQUEST_STEP_UID,
    REQUEST_X11_DISPLAY,
)
from tests.fakes.stepd import Stepd, int32
from tests.fakes.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable

    Decide = Callable[..., Verdict]

PAGE = Path(__file__).parents[2] / "docs/reference/explain.md"
UID, PID = 5001, 42
ENDING = 3
STEP = "freezer/slurm/uid_5001/job_{}/step_extern"
V2_STEP = "/system.slice/n1_slurmstepd.scope/job_7/step_extern"
SCRIPT = "/opt/pam/pam_slurm_adopt.py"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    found = Tree(tmp_path)
    found.mount("freezer")
    found.process(os.getpid(), "5:freezer:/")
    return found


@pytest.fixture
def decide(tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Decide:
    """Return what decides about alice on a node n1 whose spool directory is the test's own."""
    text = f"NodeName=n1\nSlurmdSpoolDir={tmp_path}\nAuthType=auth/test\n"
    (tmp_path / "slurm.conf").write_text(text)
    monkeypatch.setitem(cast("dict[str, Any]", auth.PLUGINS), "auth/test", lambda _: slurmd.Auth())
    monkeypatch.setattr(SlurmSite, "layout", lambda _: tree.layout(""))

    def of(
        *words: str, uid: int | None = UID, service: str = "sshd", apart: bool = False
    ) -> Verdict:
        options, _ = parse([f"slurm_conf={tmp_path}/slurm.conf", "nodename=n1", *words])
        return verdict("alice", uid, options, service, apart=apart)

    return of


def stepd(tmp_path: Path, tree: Tree, job: int, **how: Any) -> Stepd:
    tree.make(STEP.format(job))
    replies = {REQUEST_X11_DISPLAY: bytes(8), **how.pop("replies", {})}
    return Stepd(tmp_path / f"n1_{job}.4294967292", replies=replies, **how)


def asked(one: Stepd) -> list[int]:
    return [number for number, _ in one.received]


def would(found: Verdict) -> dict[str, tuple[str, int | None]]:
    return {
        other.option: (other.verdict.end, other.verdict.job_id) for other in what_if.others(found)
    }


# The verdict, and what would change it


def test_other_values_are_tried_from_memory(tmp_path: Path, tree: Tree, decide: Decide) -> None:
    """Each stepd is asked once for its user, and none to take a process."""
    with stepd(tmp_path, tree, 7) as first, stepd(tmp_path, tree, 8) as second:
        found = decide()
        assert (found.end, found.job_id, found.option) == ("adopted", 8, "action_unknown")
        assert would(found) == {
            "action_unknown=allow": ("allowed", None),
            "action_unknown=deny": ("refused", None),
        }
        refused = what_if.refused_by_stepd(found)
        assert refused
        assert (refused.end, refused.option) == ("allowed", "action_adopt_failure")
        numbers = asked(first) + asked(second)
    assert numbers.count(REQUEST_STEP_UID) == 2
    assert REQUEST_ADD_EXTERN_PID not in numbers


def test_one_option_at_a_time(decide: Decide) -> None:
    found = decide("action_no_jobs=deny")
    assert (found.end, found.words) == (
        "refused",
        "refused: Access denied by pam_slurm_adopt: you have no active jobs on this node",
    )
    assert would(found) == {"action_no_jobs=ignore": ("ignored", None)}
    assert what_if.refused_by_stepd(found) is None


@pytest.mark.parametrize(
    ("words", "uid", "service", "end", "option", "others"),
    [
        ((), 0, "sshd", "ignored", "ignore_root", {}),
        (("ignore_root=0",), 0, "sshd", "ignored", "ignore_root", {}),
        ((), None, "sshd", "refused", "", {}),
        ((), UID, "login", "ignored", "service", {"service=login": ("refused", None)}),
    ],
    ids=["root", "root spared", "unknown user", "another service"],
)
def test_before_jobs_are_counted(
    decide: Decide,
    words: tuple[str, ...],
    uid: int | None,
    service: str,
    end: str,
    option: str,
    others: dict[str, Any],
) -> None:
    found = decide(*words, uid=uid, service=service)
    assert (found.end, found.option) == (end, option)
    assert would(found) == others


def test_a_namespace_that_is_not_handed_out(tmp_path: Path, tree: Tree, decide: Decide) -> None:
    """It would fail the adoption, but for join_container=false."""
    with stepd(tmp_path, tree, 7, replies={REQUEST_GET_NS_FD: int32(-1)}):
        found = decide("action_adopt_failure=deny")
        assert (found.end, found.option) == ("refused", "action_adopt_failure")
        assert would(found) == {
            "action_adopt_failure=allow": ("allowed", None),
            "join_container=false": ("adopted", 7),
        }


@pytest.mark.parametrize(
    ("kinds", "apart", "variables", "end"),
    [
        ([], False, {"SLURM_JOB_ID": "7"}, "adopted"),
        (["mnt"], False, {"SLURM_JOB_ID": "7"}, "adopted"),
        ([], True, {}, "adopted"),
        (["mnt"], True, {}, "refused"),
    ],
)
def test_by_pam_exec(
    tmp_path: Path,
    tree: Tree,
    decide: Decide,
    monkeypatch: pytest.MonkeyPatch,
    kinds: list[str],
    apart: bool,
    variables: dict[str, str],
    end: str,
) -> None:
    """The session gets no variable, and namespaces cannot be entered for it."""
    seen = property(lambda _: kinds, lambda *_: None)
    monkeypatch.setattr(looking_job.LookingJob, "namespaces", seen, raising=False)
    with stepd(tmp_path, tree, 7):
        found = decide("action_adopt_failure=deny", apart=apart)
        assert found.end == end
        if found.outcome.adoption:
            assert found.outcome.environment == variables
        else:
            assert "nobody can enter the job's namespaces" in found.why
            assert would(found)["join_container=false"] == ("adopted", 7)


def test_a_hierarchy_without_the_step(tmp_path: Path, decide: Decide) -> None:
    with Stepd(tmp_path / "n1_7.4294967292", replies={REQUEST_X11_DISPLAY: bytes(8)}):
        found = decide()
    assert (found.end, found.option) == ("allowed", "action_adopt_failure")
    assert "job 7 has no cgroup for freezer" in found.why


def test_on_v2(tmp_path: Path, decide: Decide, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step is beside its stepd; there need be no cgroup for processes in it yet."""
    here = Tree(tmp_path / "v2")
    here.mount("nsdelegate", "cgroup2")
    here.make(f"{V2_STEP}/user", f"{V2_STEP}/slurm")
    here.process(os.getpid(), f"0::{V2_STEP}/slurm")  # the stand-in of the stepd is here
    monkeypatch.setattr(SlurmSite, "layout", lambda _: here.layout("", "CgroupPlugin=cgroup/v2"))
    with Stepd(tmp_path / "n1_7.4294967292", replies={REQUEST_X11_DISPLAY: bytes(8)}):
        found = decide()
    assert found.outcome.adoption
    assert (found.job_id, found.outcome.adoption.paths) == (7, {"": f"{V2_STEP}/user"})


def test_a_component_of_a_heterogeneous_job(tmp_path: Path, tree: Tree, decide: Decide) -> None:
    """In 20.02 its cgroups are under the id of its leader."""
    tree.make(STEP.format(6))
    tree.process(PID, "5:freezer:/slurm/uid_5001/job_6/step_extern")
    replies = {REQUEST_STEP_LIST_PIDS: int32(1) + int32(PID), REQUEST_X11_DISPLAY: bytes(8)}
    with Stepd(tmp_path / "n1_7.4294967295", protocol=35 << 8, replies=replies):
        found = decide()
    assert found.outcome.adoption
    assert found.job_id == 7
    assert found.outcome.adoption.paths == {"freezer": "/slurm/uid_5001/job_6/step_extern"}


@pytest.mark.parametrize(("euid", "end"), [(0, "allowed"), (UID, "allowed"), (UID + 1, "adopted")])
def test_a_stepd_that_tells_others_nothing(
    tmp_path: Path,
    tree: Tree,
    decide: Decide,
    monkeypatch: pytest.MonkeyPatch,
    euid: int,
    end: str,
) -> None:
    """To root and the job's user a refusal means something, to another user it does not."""
    monkeypatch.setattr(looking_job, "asks_as", lambda: euid)
    with stepd(tmp_path, tree, 7, protocol=44 << 8, replies={REQUEST_GET_NS_FDS: None}):
        found = decide()
        assert found.end == end
        if end == "adopted":
            given = told(found, tmp_path)
            assert given["session"]["without"] == [looking_job.UNTOLD]
            assert given["not_seen"]


def test_a_job_that_is_being_set_up(
    tmp_path: Path, decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of; nobody waits."""
    monkeypatch.setattr(starting, "wait", lambda *_: pytest.fail("waits"))
    with Stepd(tmp_path / "n1_7.0"):
        found = decide("wait_for_job=30")
        assert told(found, tmp_path)["being_set_up"] == "job 7 has another step"
    assert found.end == "refused"


def test_a_mistake_in_the_node(decide: Decide, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has thought of is decided as in a login."""
    monkeypatch.setattr(SlurmSite, "steps", lambda *_: 1 / 0)
    found = decide("action_generic_failure=deny")
    assert (found.end, found.option) == ("refused", "action_generic_failure")
    assert "ZeroDivisionError" in found.why


# What is told of it


def told(found: Verdict, tmp_path: Path) -> dict[str, Any]:
    return explain_facts.of_login(found, Lines("sshd", (str(tmp_path / "pam.d"),)))


def test_jobs(tmp_path: Path, tree: Tree, decide: Decide) -> None:
    """Those that are ending are told, and do not count; of other users' nothing is."""
    with (
        stepd(tmp_path, tree, 7),
        stepd(tmp_path, tree, 8, state=ENDING),
        stepd(tmp_path, tree, 9, uid=5002),
    ):
        jobs = told(decide(), tmp_path)["jobs"]
    assert [(job["job"], job["state"], job["counts"], job["chosen"]) for job in jobs] == [
        (7, "running", True, True),
        (8, "ending", False, False),
    ]
    assert {job["release"] for job in jobs} == {"22.05"}
    assert all(job["started"] for job in jobs)


def test_what_the_session_gets(tmp_path: Path, tree: Tree, decide: Decide) -> None:
    with stepd(tmp_path, tree, 7, replies={REQUEST_X11_DISPLAY: int32(95) + int32(3) + b"/x\0"}):
        given = told(decide("runtime_dir=job"), tmp_path)
    assert given["session"]["environment"] == {
        "SLURM_JOB_ID": "7",
        "DISPLAY": "localhost:95.0",
        "XAUTHORITY": "/x",
        "XDG_RUNTIME_DIR": "/run/slurm_adopt/runtime/n1_5001_7",
    }
    assert given["cgroups"] == {"freezer": "/slurm/uid_5001/job_7/step_extern"}


def test_it_can_be_printed(
    tmp_path: Path, tree: Tree, decide: Decide, capsys: pytest.CaptureFixture[str]
) -> None:
    """As JSON, and as lines that send a terminal nothing."""
    with stepd(tmp_path, tree, 7), stepd(tmp_path, tree, 8):
        given = told(decide(), tmp_path)
    assert json.loads(json.dumps(given)) == given
    given["user"] = "al\x1b[2Jice"
    given["session"]["environment"]["X"] = "\x1b]0;x\x07"
    explain_text.show(given)
    text = capsys.readouterr().out
    assert text.startswith("al\\x1b[2Jice would be let in to job 8 (the newest of 2; ")
    assert "variable    X=\\x1b]0;x\\x07\n" in text
    assert "if its stepd refuses the process: al\\x1b[2Jice would be let in without a job" in text
    assert text.replace("\n", "").isprintable()


def test_the_page_has_these_keys(tmp_path: Path, tree: Tree, decide: Decide) -> None:
    """Those of a login, of what is within it, and of a place: one table each."""
    with stepd(tmp_path, tree, 7):
        given = told(decide(), tmp_path)
    tables = PAGE.read_text().partition("## JSON\n")[2].split("| key | meaning |\n|---|---|\n")[1:]
    rows = [re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for table in tables]
    login, job, source, session, of_verdict, place = (
        [*re.findall(r"`(\w+)`", " ".join(row))] for row in rows
    )
    assert login == [*given]
    assert sorted(job) == sorted(given["jobs"][0])
    assert sorted(source) == sorted(given["source"])
    assert sorted(session) == sorted(given["session"])
    assert of_verdict == [*given["verdict"]]
    assert place == [*session_place.of(os.getpid(), Options({}), "sshd")]


# The PAM lines


@pytest.mark.parametrize(
    ("files", "account", "session"),
    [
        ({"sshd": ""}, None, None),
        ({"sshd": f"# account {SCRIPT}\naccount required pam_python.so {SCRIPT}"}, "sshd:2", None),
        ({"sshd": f"\n-session required pam_python.so {SCRIPT} callerid=0"}, None, "sshd:2"),
        (
            {
                "sshd": f"account include ours\nsession required pam_python.so {SCRIPT}",
                "ours": f"\n\naccount required pam_python.so {SCRIPT} callerid=0",
            },
            "ours:3",
            "sshd:2",
        ),
    ],
)
def test_where_the_lines_are(
    tmp_path: Path, files: dict[str, str], account: str | None, session: str | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    lines = Lines("sshd", (str(tmp_path),))
    found = {phase: line and where(line) for phase, line in lines.of.items()}
    wanted = {"account": account, "session": session}
    assert found == {name: end and f"{tmp_path}/{end}" for name, end in wanted.items()}
    asks = lines.options()[0].on("callerid")
    assert asks != any("callerid=0" in text for text in files.values())
    assert lines.options(["callerid=1"])[0].on("callerid")


def test_mistakes_of_the_line(tmp_path: Path) -> None:
    """They mean the strictest value, as in a login; those in place of it are not complained of."""
    line = f"account required pam_python.so {SCRIPT} action_unknown=newst"
    (tmp_path / "sshd").write_text(line)
    lines = Lines("sshd", (str(tmp_path),))
    options, mistakes = lines.options()
    assert options["action_unknown"] == "deny"
    (mistake,) = mistakes
    assert mistake.startswith("unrecognized action_unknown=newst, setting to 'deny', the strictest")
    assert lines.options(["action_unknown=allow"])[0]["action_unknown"] == "allow"


def test_a_very_long_word() -> None:
    with pytest.raises(CliError, match="the options are 1008 characters long"):
        check(["message=" + "/" * 1000])


@pytest.mark.parametrize("asked", [["alice"], ["--pid", "1"]])
def test_a_service_that_is_not_there(asked: list[str]) -> None:
    with pytest.raises(CliError, match=r"no PAM service \.\./passwd: no file of that name"):
        command.command.main([*asked, "--service", "../passwd"], standalone_mode=False)
