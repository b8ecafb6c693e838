"""What `install` and `uninstall` would make of PAM files of the distributions, and of sites."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slurm_adopt.cli.install.plan import CannotError, Plan, Wish, install, uninstall
from slurm_adopt.node import pam_files, pam_stack
from tests.fakes import libpam
from tests.fakes import pam_distributions as distributions
from tests.fakes.pam_distributions import Files

SCRIPT = "/opt/slurm_adopt/pam/pam_slurm_adopt.py"
EXEC = "/usr/libexec/slurm-adopt/pam/pam_slurm_adopt_exec"
WISH = Wish("sshd", "pam_python", {}, SCRIPT)
BY_EXEC = WISH._replace(front="pam_exec", script=EXEC)
DENY = "action_adopt_failure=deny action_generic_failure=deny"
EVERY = distributions.every()


def make(folder: Path, files: Files) -> str:
    """Write files of /etc/pam.d, and those with a path below the root; return the folder etc."""
    etc = folder / "etc"
    for name, text in files.items():
        path = folder / name if "/" in name else etc / "pam.d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
    return str(etc)


def apply(plan: Plan) -> None:
    """Write what is planned."""
    for change in plan.changes:
        path = Path(change.path)
        assert (path.read_bytes() if path.exists() else None) == change.before
        if change.after is None:
            path.unlink()
        else:
            path.write_bytes(change.after)


def planned(folder: Path, files: Files, wish: Wish = WISH) -> tuple[str, Plan]:
    """Return the text that the service's file would have, and the plan."""
    plan = install(wish, make(folder, files))
    (change,) = plan.changes
    assert change.after is not None
    return change.after.decode("latin-1"), plan


# The distributions


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("sshd.debian12", EVERY["debian12"]),
        ("sshd.debian13", EVERY["debian13"]),
        ("sshd.rhel9", EVERY["sssd"]),
    ],
)
def test_the_examples_are_what_is_planned(tmp_path: Path, name: str, files: Files) -> None:
    text, plan = planned(tmp_path, files)
    assert text == distributions.example(name)
    assert plan.taken == {}


@pytest.mark.parametrize("wish", [WISH, BY_EXEC], ids=["pam_python", "pam_exec"])
@pytest.mark.parametrize("name", EVERY)
def test_every_stack(tmp_path: Path, name: str, wish: Wish) -> None:
    """Both lines come in, a second time changes nothing, and uninstall gives back the bytes."""
    etc = make(tmp_path, EVERY[name])
    places = (f"{etc}/pam.d",)
    plan = install(wish, etc)
    apply(plan)
    text = Path(etc, "pam.d/sshd").read_text()
    for phase in ("account", "session"):
        lines = [line for line in text.split("\n") if line.startswith(phase)]
        ours = [at for at, line in enumerate(lines) if wish.script in line]
        assert len(ours) == 1
        assert lines[ours[0] - 1].endswith("pam_succeed_if.so quiet uid eq 0")
        stack = pam_files.read(phase, "sshd", places)
        assert not stack.flaw
    if wish.front == "pam_python":
        assert pam_stack.why_uncertain("sshd", places) == ""
        assert plan.notes == []
    assert install(wish, etc).changes == []
    apply(uninstall("sshd", etc))
    assert Path(etc, "pam.d/sshd").read_text() == EVERY[name]["sshd"]


# What other modules return, by user; what is not here says yes.
ROOT = {
    "pam_usertype.so": "success",
    "pam_sss.so": "user_unknown",
    "pam_winbind.so": "user_unknown",
}
USER = {"pam_usertype.so": "auth_err", "pam_localuser.so": "auth_err"}
LOCAL = {**USER, "pam_localuser.so": "success", "pam_sss.so": "user_unknown"}
EXPIRED = {**USER, "pam_unix.so": "new_authtok_reqd"}
REAL = ("pam_succeed_if.so", "pam_permit.so", "pam_deny.so")
_LINE = re.compile(r"^-?(account|session)[ \t]+(\[[^]]*\]|\w+)[ \t]+(\S+)(.*)$", re.MULTILINE)
_INCLUDE = re.compile(r"(@include[ \t]+|(?:include|substack)[ \t]+)([\w.-]+)")


def for_libpam(files: Files, says: dict[str, str], ours: str) -> Files:
    """Return files whose modules are pam_debug's, but for conditions; `ours`: in place of ours."""

    def module(found: re.Match[str]) -> str:
        kind, control, name, rest = found.groups()
        if "pam_slurm_adopt" in found[0]:
            return f"{kind} {control} {ours}"
        if control in ("include", "substack") or name in REAL:
            return f"{kind} {control} {name}{rest}"
        value = says.get(name, "ignore" if name == "pam_nologin.so" else "success")
        return f"{kind} {control} pam_debug.so acct={value} open_session={value}"

    return {
        name: _INCLUDE.sub(r"\1{here}/\2", _LINE.sub(module, text)) for name, text in files.items()
    }


MISSING = "/nowhere/pam_python.so"
REFUSING = "pam_debug.so acct=perm_denied open_session=session_err"
ADOPTING = "pam_debug.so acct=success open_session=success"
# (user, what the other modules return, what is in place of ours, whether the user gets in)
LOGINS = [
    ("root", ROOT, MISSING, True),
    ("root", ROOT, REFUSING, True),
    ("nobody", USER, MISSING, False),
    ("nobody", USER, REFUSING, False),
    ("nobody", LOCAL, REFUSING, False),
    ("nobody", EXPIRED, REFUSING, False),
    ("nobody", USER, ADOPTING, True),
    ("nobody", LOCAL, ADOPTING, True),
]


def logins(files: Files) -> list[tuple[dict[str, str], str, str]]:
    """Return what libpam is to run: each login of LOGINS in both phases."""
    return [
        (for_libpam(files, says, ours), user, phase)
        for user, says, ours, _ in LOGINS
        for phase in ("account", "session")
    ]


EXPECTED = [gets_in for *_, gets_in in LOGINS for _ in range(2)]


def test_libpam_runs_every_planned_stack(tmp_path: Path) -> None:
    """Root gets in whatever our lines come to; users where our lines let them, and only there."""
    cases = []
    for name, files in EVERY.items():
        text, _ = planned(tmp_path / name.replace(" ", "-"), files)
        cases += logins({**files, "sshd": text})
    codes = iter(libpam.run(cases))
    wrong = {
        name: got for name in EVERY if (got := [next(codes) == 0 for _ in EXPECTED]) != EXPECTED
    }
    assert wrong == {}


def test_libpam_without_our_lines(tmp_path: Path) -> None:
    """Everybody gets in by the stacks as they are shipped: so it is our lines that refuse above."""
    names = ["debian12", "debian13", "sid", "suse", "sssd", "local"]
    codes = libpam.run([case for name in names for case in logins(EVERY[name])])
    assert set(codes) <= {0, 12}  # PAM_NEW_AUTHTOK_REQD
