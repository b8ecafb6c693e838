"""What `install` and `uninstall` would make of PAM files of the distributions, and of sites."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.cli.install import sound
from slurm_adopt.cli.install.plan import CannotError, Plan, Wish, install, uninstall
from slurm_adopt.node import pam_files, pam_stack
from tests.fakes import libpam
from tests.fakes import pam_distributions as distributions
from tests.fakes.pam_stacks import CONTROLS

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
NO_SCRIPT = "pam_exec.so quiet stdout /nowhere/pam_slurm_adopt_exec"
REFUSING = "pam_debug.so acct=perm_denied open_session=session_err"
ADOPTING = "pam_debug.so acct=success open_session=success"
# (user, what the other modules return, what is in place of ours, whether the user gets in)
LOGINS = [
    ("root", ROOT, MISSING, True),
    ("root", ROOT, NO_SCRIPT, True),
    ("root", ROOT, REFUSING, True),
    ("nobody", USER, MISSING, False),
    ("nobody", USER, NO_SCRIPT, False),
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


def test_libpam_lets_groups_by_that_jump_over_our_lines(tmp_path: Path) -> None:
    """Those who jumped over Slurm's line get in; also where our lines cannot be run."""
    jump = "account [success=1 default=ignore] pam_succeed_if.so quiet user = nobody"
    text, _ = planned(tmp_path, migrating(jump, C), REPLACE)
    cases = logins({**EVERY["local"], "sshd": text})
    assert set(libpam.run(cases)) <= {0, 12}  # PAM_NEW_AUTHTOK_REQD


def test_libpam_without_our_lines() -> None:
    """Everybody gets in by the stacks as they are shipped: so it is our lines that refuse above."""
    names = ["debian12", "debian13", "sid", "suse", "sssd", "local"]
    codes = libpam.run([case for name in names for case in logins(EVERY[name])])
    assert set(codes) <= {0, 12}  # PAM_NEW_AUTHTOK_REQD


# Sites of their own: stacks put together at random, always the same ones

SITES_MADE = 150
RUNS = 12  # of each, with other values every time
NOTHING_SAID_YES = 6  # PAM_PERM_DENIED


class Site:
    """A service's files, in which {N} stands for what the Nth line's module returns."""

    def __init__(self, number: int) -> None:
        self._random = random.Random(f"site {number}")
        self.count = 0
        self.files: Files = {}
        self._file("sshd", self._random.randint(2, 6))

    def _file(self, name: str, count: int) -> None:
        lines = []
        for _ in range(count):
            deeper = self._random.random()
            if name == "sshd" and deeper < 0.3 and len(self.files) < 3:
                other = f"common-{len(self.files)}"
                self.files[other] = ""
                self._file(other, self._random.randint(1, 3))
                lines.append(f"both {self._random.choice(('include', 'substack'))} {other}")
            else:
                control = self._random.choice(("required", "required", *CONTROLS))
                lines.append(f"both {control} pam_x.so {{{self.count}}}")
                self.count += 1
        if name == "sshd":
            lines.insert(0, "both required pam_permit.so")
            lines.insert(self._random.randint(1, len(lines)), "both required pam_unix.so {0}")
        text = "".join(f"{line}\n" for line in lines)
        phases = [text.replace("both", phase) for phase in ("account", "session")]
        self.files[name] = "".join(phases)

    def runs(self, sshd: str, ours: str) -> list[Files]:
        """Return files for libpam: the same values each time for the same site."""
        made = random.Random(str(self.files))
        found = []
        for _ in range(RUNS):
            values = [made.choice(("success", "ignore", "auth_err")) for _ in range(self.count)]
            texts = {**self.files, "sshd": sshd}
            found.append({n: _for_debug(text, values, ours) for n, text in texts.items()})
        return found


def _for_debug(text: str, values: list[str], ours: str) -> str:
    text = re.sub(r"\{(\d+)\}", lambda number: values[int(number[1])], text)
    text = re.sub(r"(?m)^(.*)pam_python\.so .*pam_slurm_adopt.*$", rf"\1{ours}", text)
    text = re.sub(r"pam_(?:x|unix)\.so (\w+)", r"pam_debug.so acct=\1 open_session=\1", text)
    return _INCLUDE.sub(r"\1{here}/\2", text)


def test_sites_of_their_own(tmp_path: Path) -> None:
    """For root nothing changes. A user gets in where the site and we say so; or we say how else."""
    cases, told = [], []
    for number in range(SITES_MADE):
        site = Site(number)
        etc = make(tmp_path / str(number), site.files)
        before = site.files["sshd"]
        try:
            plan = install(WISH, etc)
        except CannotError:
            continue
        apply(plan)
        after = Path(etc, "pam.d/sshd").read_text()
        apply(uninstall("sshd", etc))
        assert Path(etc, "pam.d/sshd").read_text() == before
        lines = [
            (before, ADOPTING, "nobody"),
            (after, MISSING, "root"),
            (after, ADOPTING, "nobody"),
            (after, REFUSING, "nobody"),
        ]
        for phase in ("account", "session"):
            for texts in zip(*(site.runs(text, ours) for text, ours, _ in lines)):
                told.append((number, phase, plan.notes))
                cases += [(text, user, phase) for text, (_, _, user) in zip(texts, lines)]
    codes = iter(libpam.run(cases))
    by_notes = 0
    for number, phase, notes in told:
        was, root, adopted, refused = (next(codes) for _ in range(4))
        assert (root == 0) == (was == 0), (number, phase)
        assert (adopted == 0) == (was == 0) or was == NOTHING_SAID_YES, (number, phase)
        assert refused or notes, (number, phase)
        by_notes += refused == 0
    assert SITES_MADE / 5 < len({number for number, *_ in told}) < SITES_MADE * 4 / 5
    assert by_notes > RUNS


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
     (f"{GUARD}\naccount sufficient pam_python.so {SCRIPT} {FULL}\naccount required pam_access.so",
      "")),
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


# Lines of Slurm's modules

C = "account required pam_slurm_adopt.so"
REPLACE = WISH._replace(replace=True)


def migrating(*lines: str, base: Files = EVERY["local"]) -> Files:
    """Return a site's files with lines at the end of the account phase, as Slurm's page tells."""
    end = INCLUDE if INCLUDE in base["sshd"] else "@include common-account\n"
    text = "".join(f"{line}\n" for line in lines)
    return {**base, "sshd": base["sshd"].replace(end, end + text)}


# (the C module's arguments, the options that ours gets, what is said)
TAKEN: list[tuple[str, dict[str, str], list[str]]] = [
    ("", {}, []),
    ("action_unknown=newest", {"action_unknown": "newest"}, []),
    ("action_adopt_failure=allow log_level=debug3 nodename=n1 service=sshd",
     {"action_adopt_failure": "allow", "log_level": "debug3", "nodename": "n1", "service": "sshd"},
     []),
    ("Action_No_Jobs=IGNORE", {"action_no_jobs": "ignore"}, []),
    ("service=* disable_x11=1 join_container=false single_job_skip_rpc=0 ignore_root=1",
     {"service": "*", "disable_x11": "1", "join_container": "false", "single_job_skip_rpc": "0",
      "ignore_root": "1"}, []),
    ("action_unknown=user", {"action_unknown": "newest"},
     ["action_unknown=user of pam_slurm_adopt.so becomes action_unknown=newest: "]),
    ("action_no_jobs=ignorex", {"action_no_jobs": "deny"},
     ["action_no_jobs=ignorex of pam_slurm_adopt.so becomes action_no_jobs=deny: "]),
    ("ignore_root=0", {}, ["ignore_root=0 of pam_slurm_adopt.so is not taken over: "]),
    ("service=other", {}, ["service=other of pam_slurm_adopt.so is not taken over: "]),
    ("debug wait_for_job=5", {},
     ["debug of pam_slurm_adopt.so is not taken over: this module has no such option",
      "wait_for_job=5 of pam_slurm_adopt.so is not taken over: pam_slurm_adopt.so does not kn"]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "taken", "said"), TAKEN)
def test_options_are_taken_over(
    tmp_path: Path, given: str, taken: dict[str, str], said: list[str]
) -> None:
    files = migrating(f"{C} {given}".rstrip())
    text, plan = planned(tmp_path, files, REPLACE)
    assert plan.taken == taken
    assert [note[: len(start)] for note, start in zip(plan.notes, said)] == said
    assert len(plan.notes) == len(said)
    defaults = dict(word.split("=") for word in DENY.split())
    words = " ".join(f"{name}={value}" for name, value in {**defaults, **taken}.items())
    plain, _ = planned(tmp_path / "plain", EVERY["local"])
    assert text == plain.replace(DENY, words)


# Debian's lines are in sshd by hand, or in common-account by pam-auth-update.
SITES: list[tuple[str, Files, Files, list[str]]] = [
    # (what it is, the site's files, those that the same plan is made of without it, notes)
    ("last, as Slurm's page tells", migrating(C), EVERY["local"], []),
    ("on a shared file system", migrating(f"-{C}"), EVERY["local"], []),
    ("on Debian", migrating(C, base=EVERY["debian12"]), EVERY["debian12"], []),
    ("with root's guard", migrating(GUARD, C), EVERY["local"], []),
    ("both modules", migrating("account required pam_slurm.so", C), EVERY["local"], []),
    ("in front of the include", with_lines(C), EVERY["sssd"], []),
    ("in two lines", migrating(C.replace("pam_", "\\\n pam_")), EVERY["local"], []),
    ("by its path", migrating(C.replace(" pam_", " /opt/pam_")), EVERY["local"], []),
    ("a session line", migrating(C, C.replace("account", "session")), EVERY["local"], []),
    (
        "pam_access behind it",
        migrating(C, "account required pam_access.so"),
        migrating("account required pam_access.so"),
        [],
    ),
    (
        "behind RHEL's include, which local users go around",
        migrating(C, base=EVERY["sssd"]),
        EVERY["sssd"],
        [
            "users of /etc/passwd went by pam_slurm_adopt.so at pam_localuser.so, and need a job",
            "system users went by pam_slurm_adopt.so at pam_usertype.so, and need a job now",
        ],
    ),
    (
        "pam_access in front, as pam_slurm's README tells",
        migrating("account sufficient pam_access.so", "account required pam_slurm.so debug"),
        migrating("account sufficient pam_access.so"),
        [
            "debug of pam_slurm.so is not taken over: this module has no such option",
            "those whom access.conf allows went by pam_slurm.so at pam_access.so, and need a job",
        ],
    ),
]


@pytest.mark.parametrize(("site", "without", "said"), [row[1:] for row in SITES])
def test_slurm_s_line_is_replaced(
    tmp_path: Path, site: Files, without: Files, said: list[str]
) -> None:
    text, plan = planned(tmp_path, site, REPLACE)
    assert text == planned(tmp_path / "without", without)[0]
    assert [note[: len(start)] for note, start in zip(plan.notes, said)] == said
    assert len(plan.notes) == len(said)
    with pytest.raises(CannotError, match=r"sshd:\d+: '.*' is there: run with --replace"):
        install(WISH, str(tmp_path / "etc"))


def test_libpam_runs_what_migrated_sites_have_then(tmp_path: Path) -> None:
    cases = []
    for number, (_, site, *_rest) in enumerate(SITES):
        text, _ = planned(tmp_path / str(number), site, REPLACE)
        cases += logins({**site, "sshd": text})
    codes = iter(libpam.run(cases))
    wrong = [name for name, *_ in SITES if [next(codes) == 0 for _ in EXPECTED] != EXPECTED]
    assert wrong == []


def test_groups_that_jump_over_slurm_s_line_jump_over_ours(tmp_path: Path) -> None:
    alice = WHEEL.replace("user ingroup wheel", "user = alice")
    site = migrating(alice, WHEEL.replace("=2", "=1"), C)
    text, plan = planned(tmp_path, site, REPLACE)
    account = [alice.replace("=2", "=3"), WHEEL, GUARD, OURS]
    assert "\n".join(account) in text
    assert "\n".join(account).replace("account", "session") in text
    assert text.count("ingroup wheel") == text.count("alice") == 2
    assert plan.notes == []


def test_a_line_that_is_not_about_users_may_not_jump_over_slurm_s(tmp_path: Path) -> None:
    jump = WHEEL.replace("=2", "=1").replace("user ingroup wheel", "service = sshd")
    with pytest.raises(CannotError, match=r"the line of pam_succeed_if.so would jump to another"):
        install(REPLACE, make(tmp_path, migrating(jump, C)))


def test_a_group_that_jumps_over_both_of_slurm_s_lines_is_let_by_once(tmp_path: Path) -> None:
    jump = WHEEL.replace("=2", "=1")
    text, _ = planned(tmp_path, migrating(jump, f"{C} a", jump, C.replace("_adopt", "")), REPLACE)
    assert text.count("ingroup wheel") == 2
    assert f"{WHEEL}\n{GUARD}\n{OURS}\n" in text


def test_a_sufficient_line_of_slurm_s_keeps_its_place(tmp_path: Path) -> None:
    """What stands behind it lets users in without a job; a session line would refuse them."""
    site = migrating(C.replace("required", "sufficient"), "account required pam_access.so")
    text, plan = planned(tmp_path, site, REPLACE)
    line = f"{GUARD}\n{OURS.replace('required', 'sufficient')}"
    assert text == site["sshd"].replace(C.replace("required", "sufficient"), line)
    assert any("there is no session line" in note for note in plan.notes)
    apply(plan)
    assert install(WISH, str(tmp_path / "etc")).changes == []


def test_options_are_taken_over_where_none_are_wished(tmp_path: Path) -> None:
    """Else the same wish would come to something else the second time."""
    wish = REPLACE._replace(options={"Action_unknown": "deny", "wait_for_job": "5"})
    site = migrating(f"{C} action_unknown=newest log_level=debug")
    text, plan = planned(tmp_path, site, wish)
    assert text.count(f"{SCRIPT} {DENY} action_unknown=deny wait_for_job=5\n") == 2
    assert plan.taken == {}
    lost = "log_level=debug of pam_slurm_adopt.so is not taken over, since options are given: "
    assert plan.notes == [f"{lost}give it, too"]
    apply(plan)
    assert install(wish, str(tmp_path / "etc")).changes == []


def test_slurm_s_line_beside_ours_goes(tmp_path: Path) -> None:
    text, plan = planned(tmp_path, migrating(f"{C} log_level=debug", base=BOTH), REPLACE)
    assert text == BOTH["sshd"]
    assert plan.taken == {}


# Refusals

IN_AUTH = EVERY["local"]["password-auth"].replace("account     required pam_unix.so", C)
IN_COMMON = f"{EVERY['debian12']['common-account']}{C} action_unknown=any debug"
PROFILE = "Name: Slurm\nAccount-Type: Additional\nAccount:\n\trequired\tpam_slurm_adopt.so\tx=1\n"
OTHERS = EVERY["debian12"]
LENIENT = "[ignore=ignore open_err=ignore module_unknown=ignore default=bad]"

# (the files, what is said behind "…/etc/pam.d/")
CANNOT: list[tuple[str, Files, str]] = [
    ("no file", {"other": ""}, r"there is no PAM file .*/sshd: name a service that has one"),
    ("an empty file", {"sshd": ""}, r"sshd has no include in its account phase, as the files"),
    ("not known", {"sshd": "account required pam_x.so\n"}, r"sshd has no include in its account"),
    ("a directory", {"etc/pam.d/sshd/x": ""}, r"cannot read .*/sshd: it is not a regular file"),
    ("no session", {"sshd": "account required pam_unix.so\n"}, "sshd has no session line, as"),
    ("DOS", {**OTHERS, "sshd": RHEL.replace("\n", "\r\n")}, r"the line ends of DOS.*; run: sed -i"),
    ("not ASCII", with_lines("account required pam_\xfc.so"), r"sshd:\d+: .* not ASCII: mend that"),
    ("no such include", {"sshd": RHEL}, r"sshd:\d+: there is no file password-auth: mend that fir"),
    ("a control", with_lines("account [x] pam_x.so"), r"sshd:\d+: .*the control is not understood"),
    ("cut off", with_lines("", "session required \\\n"), "a comment or an empty line inside"),
    ("a comment in a line", with_lines("account \\\n#\nrequired x.so"), r"sshd:\d+: .* a comment"),
    ("too long", with_lines(f"account required pam_x.so {'x' * 1000}"), r"more than 1000 bytes: m"),
    ("a jump over our place", with_lines("account [success=1 default=ignore] pam_x.so"),
     r"sshd:6: the line of pam_x.so would jump to another line than now: take it out first, or ed"),
    ("a jump over ours, which has no guard",
     with_lines(f"account [success=1 default=ignore] pam_x.so\n{OURS}"),
     r"sshd:6: the line of pam_x.so would jump to another line than now: take it out first, or ed"),
    ("a jump to ours, past its guard",
     with_lines(f"account [success=1 default=ignore] pam_succeed_if.so user = root\n{GUARD}\n"
                f"account {LENIENT} pam_python.so {SCRIPT}"),
     r"the account phase could lock out root: see docs/how-to/install.md$"),
    ("a jump past the end", with_lines("", "session [success=2 default=ignore] pam_x.so"),
     r"sshd:\d+: the line of pam_x.so would jump to another line than now: take"),
    ("root is refused already", with_lines("account requisite pam_deny.so"),
     r"the account phase can lock out root: root is refused by sshd: 'requisite pam_deny.so'"),
    ("only others get in", with_lines("account required pam_succeed_if.so uid >= 1000"),
     r"the account phase can lock out root: root is refused by sshd: 'required pam_succeed_if.so"),
    ("a refusal is forgotten",
     with_lines("", f"{SOURS}\nsession [default=reset] pam_x.so\nsession required pam_permit.so"),
     r"a refusal by the session line does not count"),
    ("two lines", with_lines(f"{GUARD}\n{OURS}\n{GUARD}\n{OURS}"),
     r"sshd has several account lines of this module \(7, 9\): leave one, or run slurm-adopt uni"),
    ("ours in an included file", {**OTHERS, "common-account": OURS},
     r"common-account:1 has a line of this module, .*; take the line out of .*common-account, whi"),
    # Slurm's line in a file that a tool writes
    ("by hand in common-account", {**OTHERS, "common-account": IN_COMMON},
     r"common-account:5 has a line of pam_slurm_adopt.so, .*; take the line out of .*common-accou"),
    ("by pam-auth-update", {**OTHERS, "common-account": IN_COMMON,
                            "usr/share/pam-configs/slurm": PROFILE,
                            "usr/share/pam-configs/unix": "Name: Unix\n# pam_slurm_adopt.so\n"},
     r"adopt.so, .*; run: pam-auth-update --remove slurm; then give .* action_unknown=newest$"),
    ("by hand in password-auth", {**EVERY["local"], "password-auth": IN_AUTH},
     r"password-auth:\d has a line of pam_slurm_adopt.so, .*; take the line out of .*password-"),
]  # fmt: skip


@pytest.mark.parametrize("wish", [WISH, REPLACE], ids=["", "replace"])
@pytest.mark.parametrize(("files", "said"), [row[1:] for row in CANNOT])
def test_stacks_that_are_refused(tmp_path: Path, files: Files, said: str, wish: Wish) -> None:
    with pytest.raises(CannotError, match=said) as caught:
        install(wish, make(tmp_path, files))
    assert "\n" not in str(caught.value)
    assert caught.value.status == 2


CUSTOM = {"etc/authselect/authselect.conf": "custom/site\nwith-slurm\n"}
TEMPLATE = "etc/authselect/custom/site/password-auth"
VENDOR = "usr/share/authselect/vendor/sssd/password-auth"
EDIT = r"take the line out of .*/{}, and run: authselect apply-changes$"
# (files of authselect, what is said)
BY_AUTHSELECT: list[tuple[Files, str]] = [
    ({**CUSTOM, TEMPLATE: f'{C} {{include if "with-slurm"}}'},
     r"run: authselect disable-feature with-slurm$"),
    ({**CUSTOM, TEMPLATE: f'{C} {{include if "with-x"}}'}, EDIT.format(TEMPLATE)),
    ({**CUSTOM, TEMPLATE: C}, EDIT.format(TEMPLATE)),
    ({"etc/authselect/authselect.conf": "sssd\n", VENDOR: C}, EDIT.format(VENDOR)),
    ({**CUSTOM, TEMPLATE: f"# {C}"}, "take the line out of authselect's profile, and run: auths"),
    (CUSTOM, "take the line out of authselect's profile, and run: authselect apply-changes$"),
    ({}, "take the line out of authselect's profile, and run: authselect apply-changes$"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "said"), BY_AUTHSELECT)
def test_files_of_authselect(tmp_path: Path, files: Files, said: str) -> None:
    etc = make(tmp_path, {**EVERY["local"], **files, "etc/authselect/password-auth": IN_AUTH})
    Path(etc, "pam.d/password-auth").unlink()
    Path(etc, "pam.d/password-auth").symlink_to("../authselect/password-auth")
    with pytest.raises(CannotError, match=said):
        install(REPLACE, etc)


@pytest.mark.parametrize("target", ["sshd.site", "../authselect/sshd"])
def test_a_link_is_refused(tmp_path: Path, target: str) -> None:
    etc = make(tmp_path, {**EVERY["local"], "etc/authselect/sshd": RHEL, "sshd.site": RHEL})
    Path(etc, "pam.d/sshd").unlink()
    Path(etc, "pam.d/sshd").symlink_to(target)
    said = r"sshd is a link to /.*(authselect writes|run: cp)"
    with pytest.raises(CannotError, match=said):
        install(WISH, etc)
    with pytest.raises(CannotError, match=said):
        uninstall("sshd", etc)


# (what is wished, what is said)
WISHES = [
    (WISH._replace(service="../x"), "'../x' is not a PAM service that can have lines of ours"),
    (WISH._replace(service=""), "'' is not a PAM service"),
    (WISH._replace(service="other"), "'other' is not a PAM service"),
    (WISH._replace(service="sshd2"), "there is no PAM file .*/pam.d/sshd2"),
    (WISH._replace(script="/a b/pam_slurm_adopt.py"), "cannot be written in a PAM line"),
    (WISH._replace(options={"message": "/a b"}), "'message=/a b' cannot be written in a PAM line"),
    (WISH._replace(options={"message": "/a#"}), "'message=/a#' cannot be written in a PAM line"),
    (WISH._replace(options={"message": "/a\nauth"}), "cannot be written in a PAM line"),
    (WISH._replace(options={"action_unkown": "deny"}), "did you mean action_unknown="),
    (WISH._replace(options={"action_unknown": "x"}), "unrecognized action_unknown=x"),
    (WISH._replace(options={"message": "/" + "x" * 900}), "the options are 909 characters long"),
    (WISH._replace(script=f"/{'x' * 300}/pam_slurm_adopt.py", options={"message": f"/{'x' * 700}"}),
     "the line would be longer than PAM surely reads: 1098 bytes behind its control, at most 900"),
    (WISH._replace(options={"service": "su"}), "service=su would keep this module out of sshd"),
]  # fmt: skip


@pytest.mark.parametrize(("wish", "said"), WISHES)
def test_wishes_that_are_refused(tmp_path: Path, wish: Wish, said: str) -> None:
    etc = make(tmp_path, EVERY["local"])
    with pytest.raises(CannotError, match=said):
        install(wish, etc)


# Other services, and files of /usr/lib


def test_cron(tmp_path: Path) -> None:
    """As docs/how-to/at-and-cron.md has it: system users are let by, and the service is named."""
    etc = make(tmp_path, EVERY["debian12"])
    plan = install(WISH._replace(service="cron"), etc)
    apply(plan)
    text = Path(etc, "pam.d/cron").read_text()
    for phase in ("account", "session"):
        guard = f"{phase} [success=1 default=ignore] pam_succeed_if.so quiet uid < 1000"
        line = f"{phase} required pam_python.so {SCRIPT} service=cron {DENY}"
        assert f"{guard}\n{line}\n" in text
    assert text.index("account required") < text.index("@include common-account")
    assert text.index("pam_limits") < text.index("session required pam_python")
    assert install(WISH._replace(service="cron"), etc).changes == []
    apply(uninstall("cron", etc))
    assert Path(etc, "pam.d/cron").read_text() == distributions.CRON


def test_a_file_of_usr_lib(tmp_path: Path) -> None:
    """SUSE 16 has sshd there: a file in /etc/pam.d takes its place, and goes with our lines."""
    files = {name: text for name, text in distributions.SUSE.items() if name != "sshd"}
    etc = make(tmp_path, {**files, "usr/lib/pam.d/sshd": distributions.SUSE["sshd"]})
    assert uninstall("sshd", etc).changes == []
    plan = install(WISH, etc)
    (change,) = plan.changes
    assert change.path == f"{etc}/pam.d/sshd"
    assert change.before is None
    assert [note for note in plan.notes if "whose updates do not count any more" in note]
    apply(plan)
    assert Path(change.path).read_text() == planned(tmp_path / "other", distributions.SUSE)[0]
    assert install(WISH, etc).changes == []
    plan = uninstall("sshd", etc)
    apply(plan)
    assert not Path(change.path).exists()
    assert "goes: without our lines it is" in plan.notes[0]


# What starts programs as the user

MOUNT = "session optional pam_mount.so"


def test_our_session_line_stands_in_front_of_what_starts_programs(tmp_path: Path) -> None:
    site = with_lines("", f"{MOUNT}\n-session optional pam_gnome_keyring.so auto_start")
    text, plan = planned(tmp_path, site)
    assert text.index(SOURS) < text.index(MOUNT)
    assert plan.notes == []
    assert install(WISH, str(tmp_path / "etc")).notes == []
    apply(plan)
    apply(uninstall("sshd", str(tmp_path / "etc")))
    assert (tmp_path / "etc/pam.d/sshd").read_text() == site["sshd"]


def test_what_starts_programs_in_front_is_told(tmp_path: Path) -> None:
    site = {**EVERY["local"], "postlogin": f"{distributions.POSTLOGIN}{MOUNT}\n"}
    text, plan = planned(tmp_path, site)
    assert text.endswith(f"{SOURS}\n")
    told = "what pam_mount.so starts for users is outside of their jobs"
    assert plan.notes == [f"{told}: put it behind our session line"]


# Uninstall

ALONE = "account sufficient pam_succeed_if.so quiet uid eq 0"
# (lines that are there, what is left of them)
LEFT = [
    ((f"{GUARD}\n{OURS}", f"{SGUARD}\n{SOURS}"), ("", "")),
    ((OURS, ""), ("", "")),
    (("", f"{SGUARD}\n-session optional pam_python.so {SCRIPT}"), ("", "")),
    ((f"{WHEEL}\n{GUARD}\n{OURS}", f"{SWHEEL}\n{SGUARD}\n{SOURS}"), ("", "")),
    ((f"{ALONE}\n{OURS}", ""), ("", "")),
    ((f"{GUARD}\n{OURS}\n{GUARD}\n{OURS}", ""), ("", "")),
    ((f"{GUARD}\naccount required pam_exec.so quiet stdout {EXEC}", ""), ("", "")),
    ((f"{GUARD}\naccount required pam_access.so\n{GUARD}\n{OURS}", ""),
     (f"{GUARD}\naccount required pam_access.so", "")),
    ((f"# our nodes\n{GUARD}\n{OURS}\n# end", ""), ("# our nodes\n# end", "")),
    ((f"{distributions.COMMENTS['account']}\n{GUARD}\n{OURS}\n\n# end", ""), ("\n# end", "")),
    ((f"account required pam_access.so\n{OURS}\naccount required pam_time.so", ""),
     ("account required pam_access.so\naccount required pam_time.so", "")),
]  # fmt: skip


@pytest.mark.parametrize(("there", "left"), LEFT)
def test_uninstall(tmp_path: Path, there: tuple[str, str], left: tuple[str, str]) -> None:
    etc = make(tmp_path, with_lines(*there))
    apply(uninstall("sshd", etc))
    assert Path(etc, "pam.d/sshd").read_text() == with_lines(*left)["sshd"]
    plan = uninstall("sshd", etc)
    assert plan.changes == []
    assert plan.notes == [f"{etc}/pam.d/sshd has no line of this module"]


# (the files, what is said)
NOT_TAKEN_OUT = [
    ({"sshd": f"{ALONE}\n{OURS}\nsession required pam_unix.so\n"},
     "without this module's lines the account phase would refuse root: put the include of account"),
    (with_lines(f"account [success=3 default=ignore] pam_x.so\n{GUARD}\n{OURS}"),
     "sshd:6: the line of pam_x.so would jump to another line than now: take it out first"),
    ({**OTHERS, "common-account": f"{OURS}\naccount required pam_unix.so\n"},
     "common-account:1 has a line of this module"),
    ({"other": ""}, "there is no PAM file"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "said"), NOT_TAKEN_OUT)
def test_lines_that_are_not_taken_out(tmp_path: Path, files: Files, said: str) -> None:
    with pytest.raises(CannotError, match=said):
        uninstall("sshd", make(tmp_path, files))


def test_a_broken_stack_keeps_nobody_from_uninstalling(tmp_path: Path) -> None:
    site = with_lines(f"account [x] pam_x.so\n{GUARD}\n{OURS}", f"{SGUARD}\n{SOURS}")
    etc = make(tmp_path, {**site, "postlogin": "session required pam_\xfc.so\n"})
    apply(uninstall("sshd", etc))
    assert Path(etc, "pam.d/sshd").read_text() == with_lines("account [x] pam_x.so")["sshd"]


def test_ours_in_an_included_file_is_told(tmp_path: Path) -> None:
    etc = make(tmp_path, {**BOTH, "postlogin": f"{SGUARD}\n{SOURS}\n"})
    plan = uninstall("sshd", etc)
    assert len(plan.changes) == 1
    assert "postlogin:2 has a line of this module, which is not for this command" in plan.notes[0]


def test_no_room_for_the_planned_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is judged in memory; a user cannot write there."""
    etc = make(tmp_path, EVERY["local"])
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    assert install(WISH, etc).changes
    monkeypatch.setattr(sound, "MEMORY", "/nowhere")
    with pytest.raises(CannotError, match=r"temporary file: No such file .*: make room in /tmp"):
        install(WISH, etc)


def test_no_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has no strerror for that."""
    etc = make(tmp_path, EVERY["local"])
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/nowhere"])
    assert install(WISH, etc).changes
    monkeypatch.setattr(sound, "MEMORY", "/nowhere")
    with pytest.raises(CannotError, match="No usable temporary directory"):
        install(WISH, etc)


@pytest.mark.parametrize("kind", ["auth", "password"])
def test_a_line_in_a_phase_that_it_does_not_answer(tmp_path: Path, kind: str) -> None:
    """It is named, and uninstall takes it out: without the script it would refuse root."""
    line = OURS.replace("account", kind)
    etc = make(tmp_path, {**BOTH, "sshd": f"{GUARD.replace('account', kind)}\n{line}\n{RHEL}"})
    with pytest.raises(CannotError, match=rf"sshd:2 has this module in the {kind} phase"):
        install(WISH, etc)
    apply(uninstall("sshd", etc))
    assert Path(etc, "pam.d/sshd").read_text() == RHEL


@pytest.mark.parametrize("name", ["debian12", "sssd"])
def test_a_part_of_services_is_none(tmp_path: Path, name: str) -> None:
    """Nothing would come of the lines there, but Python in each su and sudo."""
    included = "password-auth" if name == "sssd" else "common-account"
    files = EVERY[name]
    files = {**files, included: f"{files[included]}session required pam_permit.so\n"}
    with pytest.raises(CannotError, match=f"{included} is a part of sshd and others"):
        install(WISH._replace(service=included), make(tmp_path, files))


@pytest.mark.parametrize(
    ("condition", "all_users"),
    [
        ("uid >= 1000", True),
        ("uid ne 0", True),
        ("user != root", True),
        ("user notingroup nologin", True),
        ("uid >= 1000 user ingroup wheel", False),
        ("uid < 1000", False),
        ("user in alice:bob", False),
    ],
)
def test_a_guard_the_wrong_way_round(tmp_path: Path, condition: str, all_users: bool) -> None:
    """A line that lets by all users is none of the administrators': it is told."""
    wrong = f"account [success=1 default=ignore] pam_succeed_if.so quiet {condition}"
    _, plan = planned(tmp_path, with_lines(f"{wrong}\n{OURS}"))
    told = [note for note in plan.notes if "lets users by" in note]
    assert len(told) == all_users


def test_nothing_is_written(tmp_path: Path) -> None:
    etc = make(tmp_path, BOTH)
    before = {path: path.stat() for path in Path(etc).rglob("*")}
    install(UNKNOWN, etc)
    uninstall("sshd", etc)
    after = {path: path.stat() for path in Path(etc).rglob("*")}
    assert [(p, s.st_mtime_ns, s.st_ino) for p, s in before.items()] == [
        (p, s.st_mtime_ns, s.st_ino) for p, s in after.items()
    ]
