"""What `install` and `uninstall` would make of PAM files of the distributions, and of sites."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.cli.install.plan import CannotError, Plan, Wish, install, uninstall
from slurm_adopt.node import pam_files, pam_stack
from tests.fakes import libpam
from tests.fakes import pam_distributions as distributions

if TYPE_CHECKING:
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


def test_libpam_without_our_lines() -> None:
    """Everybody gets in by the stacks as they are shipped: so it is our lines that refuse above."""
    names = ["debian12", "debian13", "sid", "suse", "sssd", "local"]
    codes = libpam.run([case for name in names for case in logins(EVERY[name])])
    assert set(codes) <= {0, 12}  # PAM_NEW_AUTHTOK_REQD


# What stays as it is

GUARD = "account [success=1 default=ignore] pam_succeed_if.so quiet uid eq 0"
SGUARD = GUARD.replace("account", "session")
WHEEL = "account [success=2 default=ignore] pam_succeed_if.so quiet user ingroup wheel"
SWHEEL = WHEEL.replace("account", "session")
OURS = f"account required pam_python.so {SCRIPT} {DENY}"
SOURS = OURS.replace("account", "session")
RHEL = EVERY["sssd"]["sshd"]
INCLUDE = "account    include      password-auth\n"
BYTES = {
    "no newline at the end": RHEL[:-1],
    "nothing behind the include of postlogin": f"{RHEL}\n\n",
    "tabs": RHEL.replace("    ", "\t"),
    "capitals": RHEL.replace("account ", "Account ").replace("session ", "SESSION "),
    "a comment in latin-1": f"# f\xfcr \xa0 alle\r\n{RHEL}",
    "a comment behind a line": RHEL.replace("pam_nologin.so", "pam_nologin.so # \xe9 \\"),
    "a line in two": RHEL.replace("include      password-auth", "include \\\n password-auth"),
    "the last line in two": RHEL[:-1].replace("include      postlogin", "include \\\n postlogin"),
    "comments above the include": RHEL.replace(INCLUDE, f"\n# a\n  # b\n{INCLUDE}"),
    "blanks in an empty line": RHEL.replace(INCLUDE, f" \t\n# a\n{INCLUDE}"),
    "two empty lines": RHEL.replace(INCLUDE, f"\n\n{INCLUDE}\n\n"),
    "only the first line is a comment": RHEL.replace(
        "account    required     pam_sepermit.so\naccount    required     pam_nologin.so\n", ""
    ).replace("auth       substack     password-auth\nauth       include      postlogin\n", ""),
    "a dash": RHEL.replace("session    include      postlogin", "-session optional pam_x.so"),
    "account lines at the end": RHEL.replace(INCLUDE, "") + INCLUDE,
    "account lines at the end, without a newline": RHEL.replace(INCLUDE, "") + INCLUDE[:-1],
    "other lines behind": f"{RHEL}password include password-auth\n# end",
    "an empty line and a comment behind": f"{RHEL}\n# end",
    "an empty line behind, without a newline": f"{RHEL}\n ",
    "no include": RHEL.replace(INCLUDE, "account required pam_unix.so\naccount sufficient x.so\n"),
    "a line of administrators in front": RHEL.replace(
        INCLUDE, f"account sufficient pam_listfile.so item=user file=/etc/in\n{INCLUDE}"
    ),
    "a jump that ends before ours": RHEL.replace(
        INCLUDE,
        "account [success=1 default=ignore] pam_succeed_if.so user ingroup wheel\n"
        f"account required pam_access.so\n{INCLUDE}",
    ),
}


@pytest.mark.parametrize("name", BYTES)
def test_all_else_stays_to_the_byte(tmp_path: Path, name: str) -> None:
    text, _ = planned(tmp_path, {**EVERY["sssd"], "sshd": BYTES[name]})
    etc = str(tmp_path / "etc")
    Path(etc, "pam.d/sshd").write_bytes(text.encode("latin-1"))
    assert install(WISH, etc).changes == []
    left = [
        line for line in text.split("\n") if "slurm_adopt" not in line and "uid eq 0" not in line
    ]
    was = BYTES[name].split("\n")
    assert [line for line in left if line.strip()] == [line for line in was if line.strip()]
    apply(uninstall("sshd", etc))
    assert Path(etc, "pam.d/sshd").read_bytes() == BYTES[name].encode("latin-1")


# Lines of ours that are there


def with_lines(account: str = "", session: str = "", sshd: str = RHEL) -> Files:
    """Return RHEL's files with lines in front of the include, and at the end."""
    account, session = (f"{text}\n" if text else "" for text in (account, session))
    return {**EVERY["sssd"], "sshd": sshd.replace(INCLUDE, account + INCLUDE) + session}


BOTH = with_lines(f"{GUARD}\n{OURS}", f"{SGUARD}\n{SOURS}")
OTHER_ORDER = OURS.replace(DENY, " ".join(reversed(DENY.split())))
AUTO = f"account required pam_python.so {SCRIPT} action_unknown=deny"
SAUTO = AUTO.replace("account", "session")
UNKNOWN = WISH._replace(options={"action_unknown": "deny"})
FULL = f"{DENY} action_unknown=deny"

# (lines that are there, what is wished, lines that are there then)
THERE = [
    ((f"{GUARD}\n{OURS}", f"{SGUARD}\n{SOURS}"), WISH, None),
    ((f"{GUARD}\n{OTHER_ORDER}", f"{SGUARD}\n{SOURS}"), WISH, None),
    ((f"{GUARD}\n{OTHER_ORDER}", f"{SGUARD}\n{SOURS}"),
     WISH._replace(options={"action_generic_failure": "deny"}), None),
    # no options keep those that are there
    ((f"{GUARD}\n{AUTO}", f"{SGUARD}\n{SAUTO}"), WISH, None),
    ((f"{GUARD}\n{AUTO}", f"{SGUARD}\n{SAUTO}"), UNKNOWN,
     (f"{GUARD}\n{OURS} action_unknown=deny", f"{SGUARD}\n{SOURS} action_unknown=deny")),
    ((f"{GUARD}\n{AUTO}", f"{SGUARD}\n{SAUTO}"), BY_EXEC,
     (f"{GUARD}\naccount required pam_exec.so quiet stdout {EXEC} action_unknown=deny",
      f"{SGUARD}\nsession required pam_exec.so quiet stdout {EXEC} action_unknown=deny")),
    ((f"{GUARD}\naccount requisite \\\n pam_python.so {SCRIPT}", f"{SGUARD}\n{SOURS}"), UNKNOWN,
     (f"{GUARD}\naccount requisite pam_python.so {SCRIPT} {FULL}",
      f"{SGUARD}\nsession required pam_python.so {SCRIPT} {FULL}")),
    # one of the two, or a guard, is not there
    ((f"{GUARD}\n{AUTO}", ""), WISH,
     (f"{GUARD}\n{AUTO}", f"{distributions.COMMENTS['session']}\n{SGUARD}\n{SAUTO}")),
    (("", f"{SGUARD}\n{SAUTO}"), WISH,
     (f"{distributions.COMMENTS['account']}\n{GUARD}\n{AUTO}", f"{SGUARD}\n{SAUTO}")),
    ((OURS, SOURS), WISH, (f"{GUARD}\n{OURS}", f"{SGUARD}\n{SOURS}")),
    ((f"{WHEEL.replace('=2', '=1')}\n{OURS}", f"{SWHEEL}\n{SGUARD}\n{SOURS}"), WISH,
     (f"{WHEEL}\n{GUARD}\n{OURS}", f"{SWHEEL}\n{SGUARD}\n{SOURS}")),
    # administrators' lines stay, and are given to a session line that is not there
    ((f"{WHEEL}\n{GUARD}\n{AUTO}", f"{SWHEEL}\n{SGUARD}\n{SAUTO}"), UNKNOWN,
     (f"{WHEEL}\n{GUARD}\naccount required pam_python.so {SCRIPT} {FULL}",
      f"{SWHEEL}\n{SGUARD}\nsession required pam_python.so {SCRIPT} {FULL}")),
    ((f"{WHEEL}\n{GUARD}\n{OURS}", ""), WISH,
     (f"{WHEEL}\n{GUARD}\n{OURS}",
      f"{distributions.COMMENTS['session']}\n{SWHEEL}\n{SGUARD}\n{SOURS}")),
    # what stands behind ours decides: no session line, whose refusal would count
    ((f"{GUARD}\naccount sufficient pam_python.so {SCRIPT}\naccount required pam_access.so", ""),
     UNKNOWN,
     (f"{GUARD}\naccount sufficient pam_python.so {SCRIPT} {FULL}\n"
      "account required pam_access.so", "")),
]  # fmt: skip


@pytest.mark.parametrize(("there", "wish", "expected"), THERE)
def test_lines_of_ours_that_are_there(
    tmp_path: Path, there: tuple[str, str], wish: Wish, expected: tuple[str, str] | None
) -> None:
    etc = make(tmp_path, with_lines(*there))
    apply(install(wish, etc))
    text = Path(etc, "pam.d/sshd").read_text()
    assert text == with_lines(*(expected or there))["sshd"]
    assert install(wish, etc).changes == []
