"""PAM stacks in files: is there a session line of ours, and is it reached."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slurm_adopt.node import pam_files, pam_stack
from tests.cluster.harness import pam

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "pam_python.so /opt/slurm_adopt/pam/pam_slurm_adopt.py"
LINE = f"session required {OURS}"
GUARD = "session [success=1 default=ignore] pam_succeed_if.so quiet uid eq 0"
ENDS = "session sufficient pam_localuser.so\n"

# (sshd's file, other files, arguments or None)
STACKS: list[tuple[str, dict[str, str], list[str] | None]] = [
    (LINE, {}, []),
    (f"{LINE} log_level=debug nodename=n1", {}, ["log_level=debug", "nodename=n1"]),
    (f"  Session\tREQUIRED {OURS}  # last", {}, []),
    (f"-session required {OURS}", {}, []),
    (f"session requisite {OURS}", {}, []),
    (f"session [success=ok ignore=ignore default=bad] {OURS}", {}, []),
    (f"session [default=die] {OURS}", {}, []),
    (f"session [success=ok] {OURS}", {}, []),  # what is not named is bad
    # a failure that counts for nothing
    (f"session optional {OURS}", {}, None),
    (f"session [success=ok default=ignore] {OURS}", {}, None),
    (f"session sufficient {OURS}", {}, None),
    (f"session [success=ok default=bad] {OURS} x=1", {}, ["x=1"]),
    (f"{GUARD}\n{LINE}", {}, []),
    (f"session required pam_x.so # \\\n{LINE} a=b", {}, ["a=b"]),  # no continuation in a comment
    (f"session required \\\n  {OURS} \\ \n a=b", {}, ["a=b"]),
    ("session required pam_python.so ./pam_slurm_adopt.py", {}, []),
    (f"{LINE} first=1\n{LINE} second=2", {}, ["first=1"]),
    # none
    ("", {}, None),
    (f"account required {OURS}", {}, None),
    (f"# {LINE}", {}, None),
    (f"session required pam_unix.so # {OURS}", {}, None),
    ("session required pam_slurm_adopt.so", {}, None),
    ("session required pam_python.so /opt/other/not_pam_slurm_adopt.py", {}, None),
    ("session required", {}, None),
    ("session", {}, None),
    # other files
    ("@include common", {"common": LINE}, []),
    ("@include common\n", {"common": f"{LINE} a=1\n"}, ["a=1"]),
    ("session include common", {"common": f"account required x.so\n{LINE}"}, []),
    ("session substack common", {"common": LINE}, []),
    ("account include common", {"common": LINE}, None),
    ("@include common", {"common": "@include deeper", "deeper": LINE}, []),
    (f"@include nowhere\n{LINE}", {}, []),
    ("@include sshd", {}, None),
    (
        "@include a\n@include a",
        {"a": "@include b\n@include b", "b": "@include a\n@include a"},
        None,
    ),
    (f"session required pam_unix.so\n{LINE}", {}, []),
    # a line in front that may end the stack
    (ENDS + LINE, {}, None),
    (f"session [success=done default=ignore] pam_x.so\n{LINE}", {}, None),
    (f"session [ success = done default=ignore ] pam_x.so\n{LINE}", {}, None),
    (f"account sufficient pam_localuser.so\n{LINE}", {}, []),
    (f"{LINE}\n{ENDS}", {}, []),
    (f"session include common\n{LINE}", {"common": ENDS}, None),
    (f"@include common\n{LINE}", {"common": ENDS}, None),
    (f"session substack common\n{LINE}", {"common": ENDS}, []),
    ("session substack common", {"common": ENDS + LINE}, None),
]


@pytest.mark.parametrize(("text", "others", "expected"), STACKS)
def test_session_line(
    tmp_path: Path, text: str, others: dict[str, str], expected: list[str] | None
) -> None:
    for name, content in {"sshd": text, **others}.items():
        (tmp_path / name).write_text(content)
    assert pam_stack.session_line("sshd", (str(tmp_path),)) == expected


# (arguments of the line, whether it enters)
JOINS = [
    ("", True),
    ("join_container=true", True),
    ("JOIN_CONTAINER=False", False),
    ("join_container=flase", True),  # a misspelt value means the strictest
    ("join_container=false join_container=true", True),
    ("service=login", False),
    ("service=*", True),
    ("action_adopt_failure=deny", True),
]


@pytest.mark.parametrize(("arguments", "expected"), JOINS)
def test_joins(tmp_path: Path, arguments: str, expected: bool) -> None:
    (tmp_path / "sshd").write_text(f"{LINE} {arguments}\n")
    assert pam_stack.joins("sshd", (str(tmp_path),)) == expected
    assert not pam_stack.joins("login", (str(tmp_path),))


def test_no_line_of_pam_exec_s_joins(tmp_path: Path) -> None:
    """It can enter no namespace for sshd: the account line of pam_python's does it then."""
    (tmp_path / "sshd").write_text("session required pam_exec.so quiet /o/pam_slurm_adopt_exec\n")
    assert not pam_stack.joins("sshd", (str(tmp_path),))


def test_places(tmp_path: Path) -> None:
    """The first that has the file counts, also for what is included; a path is taken as it is."""
    first, second = tmp_path / "etc", tmp_path / "lib"
    first.mkdir()
    second.mkdir()
    places = (str(first), str(second))
    (second / "sshd").write_text("@include common\n")
    assert pam_stack.session_line("sshd", places) is None
    (second / "common").write_text(LINE)
    assert pam_stack.session_line("SSHD", places) == []
    (first / "common").write_text("")
    assert pam_stack.session_line("sshd", places) is None
    (first / "sshd").write_text(f"@include {second}/common")
    assert pam_stack.session_line("sshd", places) == []


def test_bounds(tmp_path: Path) -> None:
    """What is too large, too deep, or no file is passed over."""
    place = (str(tmp_path),)
    (tmp_path / "sshd").write_text("#" * pam_files.LIMIT + f"\n{LINE}\n")
    assert pam_stack.session_line("sshd", place) is None
    (tmp_path / "sshd").unlink()
    (tmp_path / "sshd").mkdir()
    assert pam_stack.session_line("sshd", place) is None
    (tmp_path / "sshd").rmdir()
    for depth in range(pam_files.DEPTH + 2):
        (tmp_path / f"{depth}").write_text(f"@include {depth + 1}\n")
    (tmp_path / f"{pam_files.DEPTH}").write_text(LINE)
    assert pam_stack.session_line("0", place) == []
    assert pam_stack.session_line("1", place) == []
    (tmp_path / f"{pam_files.DEPTH}").write_text(f"@include {pam_files.DEPTH + 1}\n")
    (tmp_path / f"{pam_files.DEPTH + 1}").write_text(LINE)
    assert pam_stack.session_line("0", place) is None
    (tmp_path / "ours").write_text(LINE)
    for empty, expected in ((pam_files.FILES - 2, []), (pam_files.FILES - 1, None)):
        (tmp_path / "sshd").write_text("@include nowhere\n" * empty + "@include ours\n")
        assert pam_stack.session_line("sshd", place) == expected


def test_where_lines_stand(tmp_path: Path) -> None:
    """Each by the file that was read, and the first of the lines that it goes over."""
    here, common = str(tmp_path / "sshd"), str(tmp_path / "common")
    text = "# 1\n\n@include common\nsession required \\\n  pam_x.so\n"
    text += f"{LINE}\nsession substack common\n"
    Path(here).write_text(text)
    Path(common).write_text("\nsession optional pam_y.so\n")
    stack = pam_files.read("session", "sshd", (str(tmp_path),))
    assert [(line.path, line.number) for line in stack.lines] == [
        (common, 2),
        (here, 4),
        (here, 6),
        (here, 7),
        (common, 2),
    ]
    assert stack.paths == [here, common, common]
    assert stack.flaw_at == ("", 0)


def test_where_a_flaw_stands(tmp_path: Path) -> None:
    here = str(tmp_path / "sshd")
    for text, number in [
        ("\nsession requird pam_x.so\n", 2),
        ("\n\nsession required\n", 3),
        ("\n@include nowhere\n", 2),
        (f"{LINE}\n# {'x' * pam_files.LONG}\n", 2),
    ]:
        Path(here).write_text(text)
        stack = pam_files.read("session", "sshd", (str(tmp_path),))
        assert stack.flaw
        assert stack.flaw_at == (here, number), text


# Is our line certain to come?

DEBIANS = {
    "common-auth": "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\n",
    "common-password": "password [success=1 default=ignore] pam_unix.so obscure yescrypt\n",
    "common-account": """\
account [success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so
account requisite\t\t\tpam_deny.so
account required\t\t\tpam_permit.so
""",
    "common-session": """\
session\t[default=1]\t\t\tpam_permit.so
session\trequisite\t\t\tpam_deny.so
session\trequired\t\t\tpam_permit.so
session\trequired\tpam_unix.so
session\toptional\tpam_systemd.so
""",
}
DEBIAN = f"""\
@include common-auth
account required pam_nologin.so
@include common-account
session [success=ok ignore=ignore module_unknown=ignore default=bad] pam_selinux.so close
session required pam_loginuid.so
session optional pam_keyinit.so force revoke
@include common-session
session optional pam_motd.so  motd=/run/motd.dynamic
session optional pam_motd.so noupdate
session optional pam_mail.so standard noenv # [1]
session required pam_limits.so
session required pam_env.so # [1]
session required pam_env.so envfile=/etc/default/locale
session [success=ok ignore=ignore module_unknown=ignore default=bad] pam_selinux.so open
@include common-password
{GUARD}
{LINE}
"""
RHEL = f"""\
auth substack password-auth
auth include postlogin
account required pam_sepermit.so
account required pam_nologin.so
account include password-auth
password include password-auth
session required pam_selinux.so close
session required pam_loginuid.so
session required pam_selinux.so open env_params
session required pam_namespace.so
session optional pam_keyinit.so force revoke
session optional pam_motd.so
session include password-auth
session include postlogin
{GUARD}
{LINE}
"""
POSTLOGIN = """\
session optional pam_umask.so silent
session [success=1 default=ignore] pam_succeed_if.so service !~ gdm* service !~ su* quiet
session [default=1] pam_lastlog.so nowtmp showfailed
session optional pam_lastlog.so silent noupdate showfailed
"""
LOCAL = """\
auth required pam_env.so
auth sufficient pam_unix.so try_first_pass
account required pam_unix.so
session optional pam_keyinit.so revoke
session required pam_limits.so
-session optional pam_systemd.so
session [success=1 default=ignore] pam_succeed_if.so service in crond quiet use_uid
session required pam_unix.so
"""
SSSD = f"""\
account sufficient pam_localuser.so
account sufficient pam_usertype.so issystem
account [default=bad success=ok user_unknown=ignore] pam_sss.so
account required pam_permit.so
{LOCAL}session optional pam_sss.so
"""
ADMINS = "session [success=2 default=ignore] pam_succeed_if.so quiet user ingroup wheel"
JUMP = "session [success=1 default=ignore] pam_x.so"
PERMIT = "session required pam_permit.so"


def account(text: str) -> str:
    """Return session lines as account lines."""
    return text.replace("session ", "account ")


def twice(text: str) -> str:
    """Return lines for both phases."""
    return f"{account(text)}\n{text}"


GUARDED = f"{GUARD}\n{LINE}"


def guarded(old: str, new: str) -> str:
    """Return our line behind another guard than the documented one."""
    assert GUARD.count(old) == 1
    return GUARDED.replace(old, new)


TWINS = twice(f"{ADMINS}\n{GUARDED}")


def twins(old: str, new: str) -> str:
    """Return other twins than those of the guide."""
    assert ADMINS.count(old) == 1
    return twice(f"{ADMINS.replace(old, new)}\n{GUARDED}")


PASSWORD_AUTH = """\
account required pam_unix.so
account sufficient pam_localuser.so
account required pam_permit.so
"""


def documented(table: dict[str, Callable[..., list[str]]], name: str) -> tuple[str, dict[str, str]]:
    """Return the files of a stack that our documentation has."""
    return "\n".join(table[name]()), {**DEBIANS, "password-auth": PASSWORD_AUTH}


# (name, (sshd's file, other files), "" or a word of the reason)
CERTAIN: list[tuple[str, tuple[str, dict[str, str]], str]] = [
    # what is documented
    ("both", documented(pam.DOCUMENTED, "both"), ""),
    ("alone", documented(pam.DOCUMENTED, "alone"), ""),
    ("account line only", documented(pam.DOCUMENTED, "account line only"), "no session lines"),
    ("administrators", documented(pam.GUIDE, "administrators"), ""),
    ("listfile", documented(pam.GUIDE, "listfile"), ""),
    ("others decide", documented({"others": pam.others_decide}, "others"), ""),
    ("where installed", documented(pam.GUIDE, "where installed"), "neither required"),
    # what distributions ship
    ("Debian", (DEBIAN, DEBIANS), ""),
    ("RHEL, sssd", (RHEL, {"password-auth": SSSD, "postlogin": POSTLOGIN}), ""),
    ("RHEL, local", (RHEL, {"password-auth": LOCAL, "postlogin": POSTLOGIN}), ""),
    ("no password-auth", (RHEL, {"postlogin": POSTLOGIN}), "no file password-auth"),
    # our line
    ("alone in it", (LINE, {}), ""),
    ("requisite", (f"-Session [Requisite] {OURS}", {}), ""),
    ("any service", (f"{LINE} service=*", {}), ""),
    ("optional", (f"session optional {OURS}", {}), "neither required nor requisite"),
    ("sufficient", (f"session sufficient {OURS}", {}), "neither"),
    ("like required", (f"session [success=ok ignore=ignore default=bad] {OURS}", {}), "neither"),
    ("another service", (f"{LINE} service=login", {}), "another service"),
    ("another module", (LINE.replace("pam_python", "pam_exec"), {}), "by pam_python.so"),
    ("another script", (LINE.replace("/opt", "/x.py /opt"), {}), "by pam_python.so"),
    ("a path to it", (LINE.replace("pam_python", "/lib/security/pam_python"), {}), ""),
    ("two", (f"{LINE}\n{LINE}", {}), "2 session lines"),
    ("one for each service", (f"{LINE}\n{LINE} service=login", {}), "2 session lines"),
    ("none", (PERMIT, {}), "no session lines"),
    ("none but in other", (PERMIT, {"other": LINE}), "no session lines"),
    ("in an include", ("@include a", {"a": f"{PERMIT}\n{LINE}"}), ""),
    ("in a substack", ("session substack a", {"a": f"{PERMIT}\n{LINE}"}), ""),
    ("by path", ("session include {tmp}/a", {"a": LINE}), ""),
    ("in a file of the phase", ("account include a", {"a": LINE}), "no session lines"),
    # a line that ends the stack
    ("sufficient in front", (ENDS + LINE, {}), "pam_localuser.so' may end"),
    ("behind", (f"{LINE}\n{ENDS}", {}), ""),
    ("done", (f"session [success=done default=bad] pam_x.so\n{LINE}", {}), "may end"),
    ("done by default", (f"session [success=ok default=done] pam_x.so\n{LINE}", {}), "may end"),
    ("default counts once", (f"session [default=ok default=done] pam_x.so\n{LINE}", {}), ""),
    ("done in an include", (f"session include a\n{LINE}", {"a": ENDS}), "a: 'sufficient"),
    ("done in a substack", (f"session substack a\n{LINE}", {"a": ENDS}), ""),
    ("done in ours", ("session substack a", {"a": ENDS + LINE}), "may end"),
    ("done in its include", ("session substack a", {"a": f"@include b\n{LINE}", "b": ENDS}), "end"),
    (
        "done in one below",
        ("session substack a", {"a": f"session substack b\n{LINE}", "b": ENDS}),
        "",
    ),
    ("another phase's", (ENDS.replace("session", "auth") + LINE, {}), ""),
    ("requisite in front", (f"session requisite pam_x.so\n{LINE}", {}), ""),
    ("die in a substack", (f"session substack a\n{LINE}", {"a": "session [default=die] x.so"}), ""),
    ("binding is none", (f"session binding pam_x.so\n{LINE}", {}), "not understood"),
    ("after a bracket", (f"session [success=done]pam_x.so\n{LINE}", {}), "may end"),
    ("without brackets", (f"session default=done pam_x.so\n{LINE}", {}), "may end"),
    # jumps
    ("the guard", (GUARDED, {}), ""),
    ("in another order", (guarded("success=1 default=ignore", "default=ignore success=1"), {}), ""),
    ("not for root", (guarded("eq 0", "ge 0"), {}), "may jump"),
    ("the guard reversed", (guarded("success=1 default=ignore", "default=1"), {}), "may jump"),
    ("two lines", (guarded("success=1", "success=2") + f"\n{PERMIT}", {}), "may jump"),
    ("another's guard", (guarded("pam_succeed", "/opt/pam_succeed"), {}), "may jump"),
    ("the guard of a substack", (f"{GUARD}\nsession substack a", {"a": LINE}), ""),
    ("one line", (f"{JUMP}\n{PERMIT}\n{LINE}", {}), ""),
    ("ours", (f"{JUMP}\n{LINE}", {}), "pam_x.so' may jump over this module's line"),
    ("ours and more", (f"{JUMP.replace('=1', '=2')}\n{PERMIT}\n{LINE}", {}), "may jump"),
    ("a substack", (f"{JUMP}\nsession substack a\n{LINE}", {"a": f"{PERMIT}\n{PERMIT}"}), ""),
    ("an empty one", (f"{JUMP}\nsession substack a\n{LINE}", {"a": ""}), ""),
    ("an include of one", (f"{JUMP}\nsession include a\n{LINE}", {"a": PERMIT}), ""),
    (
        "an include of none",
        (f"{JUMP}\nsession include a\n{LINE}", {"a": "auth required x.so"}),
        "jump",
    ),
    ("the substack of ours", (f"{JUMP}\nsession substack a", {"a": LINE}), "may jump"),
    ("the include of ours", (f"{JUMP}\nsession include a", {"a": f"{PERMIT}\n{LINE}"}), ""),
    ("out of its substack", (f"session substack a\n{LINE}", {"a": JUMP}), ""),
    ("out of its include", (f"session include a\n{LINE}", {"a": JUMP}), "may jump"),
    ("over another phase's", (f"{JUMP}\naccount required x.so\n{LINE}", {}), "may jump"),
    (
        "over another file's",
        (f"{JUMP}\n@include a\n{LINE}", {"a": f"auth required x.so\n{PERMIT}"}),
        "",
    ),
    ("over done", (f"session [default=1] x.so\n{ENDS}{LINE}", {}), ""),
    ("only by a jump", (f"{JUMP}\nsession requisite pam_deny.so\n{LINE}", {}), ""),
    ("too far", (f"session [success=9 default=ignore] x.so\n{LINE}", {}), ""),  # that is a refusal
    # a refusal that is forgotten
    ("reset behind", (f"{LINE}\nsession [default=reset] x.so", {}), "may undo a refusal"),
    ("reset in front", (f"session [default=reset] x.so\n{LINE}", {}), ""),
    (
        "reset in a substack",
        (f"{LINE}\nsession substack a", {"a": "session [default=reset] x.so"}),
        "undo",
    ),
    (
        "die, reset behind",
        (
            "session substack a\nsession [default=reset] y.so",
            {"a": f"session [default=die] x.so\n{LINE}"},
        ),
        "undo",
    ),
    (
        "too far, reset behind",
        (
            "session substack a\nsession [default=reset] y.so",
            {"a": f"session [default=9] x.so\n{LINE}"},
        ),
        "undo",
    ),
    # a jump that the account line has as well
    ("twins", (TWINS, {}), ""),
    ("twins in Debian's", (DEBIAN.replace(GUARDED, TWINS), DEBIANS), ""),
    ("in front of both", (TWINS.replace(account(LINE), ""), {}), "ingroup wheel' may jump"),
    ("none in account", (f"{account(GUARDED)}\n{ADMINS}\n{GUARDED}", {}), "may jump"),
    ("behind account", (f"{account(LINE)}\n{twice(ADMINS)}\n{GUARDED}", {}), "may jump"),
    ("another group", (TWINS.replace("wheel", "adm", 1), {}), "may jump"),
    ("another control", (TWINS.replace("=2", "=3", 1), {}), "may jump"),
    ("not so far", (TWINS.replace(account(LINE), account(f"{PERMIT}\n{LINE}")), {}), "may jump"),
    ("jumped over", (f"{account(JUMP)}\n{TWINS}", {}), "may jump"),
    ("jumped over with ours", (account(JUMP).replace("=1", "=3") + f"\n{TWINS}", {}), ""),
    ("an end in front", (f"{account(ENDS)}{TWINS}", {}), ""),
    ("two account lines", (f"{TWINS}\n{account(LINE)}", {}), "may jump"),
    ("a doubtful account line", (f"{TWINS}\naccount [okay] x.so", {}), "may jump"),
    ("by the service", (twins("user ingroup", "service ="), {}), "may jump"),
    ("by the host", (twins("ingroup", "innetgr"), {}), "may jump"),
    ("of who asks", (twins("quiet", "use_uid"), {}), "may jump"),
    ("of who asks, hidden", (twins("wheel", "use_uid wheel"), {}), "may jump"),
    ("no condition", (twins(" user ingroup wheel", ""), {}), "may jump"),
    ("half a condition", (twins("wheel", "wheel uid lt"), {}), "may jump"),
    ("by a symbol", (twins("user ingroup wheel", "uid < 1000"), {}), ""),
    ("two conditions", (twins("wheel", "a:b uid lt 500"), {}), ""),
    ("another module's", (twins("succeed_if", "x"), {}), "may jump"),
    ("the reverse", (twins("success=2 default=ignore", "success=ignore default=2"), {}), ""),
    ("twins and a jump", (f"{TWINS}".replace(ADMINS, f"{JUMP}\n{ADMINS}"), {}), ""),
    ("too far", (twins("success=2", "success=3"), {}), ""),  # that is a refusal
    # mistakes, and what libpam's releases read in different ways
    ("no such file", ("@include nowhere\n" + LINE, {}), "no file nowhere"),
    ("a folder", (f"session include folder\n{LINE}", {}), "not a regular file"),
    ("a loop", (f"@include sshd\n{LINE}", {}), "too deep"),
    ("no name", (f"@include\n{LINE}", {}), "without a name"),
    ("no module", (f"session required\n{LINE}", {}), "names no module"),
    ("no control", (f"session\n{LINE}", {}), "names no module"),
    ("an unknown type", (f"sesion required x.so\n{LINE}", {}), ""),  # it is taken for auth
    (
        "an unknown type of ours",
        ("session include a", {"a": f"sesion required x.so\n{LINE}"}),
        "is not a module type",
    ),
    ("an unknown value", (f"session [succes=ok] x.so\n{LINE}", {}), "not understood"),
    ("an unknown action", (f"session [success=okay] x.so\n{LINE}", {}), "not understood"),
    ("upper case", (f"session [SUCCESS=done] x.so\n{LINE}", {}), "not understood"),
    ("no action", (f"session [success=] x.so\n{LINE}", {}), "not understood"),
    ("no blank", (f"session [success=okdefault=bad] x.so\n{LINE}", {}), "not understood"),
    ("a jump of 0", (f"session [success=0] x.so\n{LINE}", {}), "not understood"),
    ("a huge jump", (f"session [success=4294967297] x.so\n{LINE}", {}), "not understood"),
    ("blanks", (f"session [ success = ok  default = bad ] x.so\n{LINE}", {}), ""),
    ("no control in it", (f"session [] x.so\n{LINE}", {}), "not understood"),
    ("an open bracket", (f"session [success=ok x.so\n{LINE}", {}), "names no module"),
    ("a bracket in brackets", (f"session required x.so [a\\] b]\n{LINE}", {}), ""),
    ("in the control", (f"session [default=ok\\] default=done] x\n{LINE}", {}), "not understood"),
    ("a continued line", (f"session required \\\n x.so\\ \n y\n{LINE}", {}), ""),
    ("a continued comment", (f"# x \\\n{ENDS}{LINE}", {}), "may end"),
    ("a comment behind", (f"session required x.so # \\\n{ENDS}{LINE}", {}), "may end"),
    (
        "a comment in a line",
        (f"session required \\\n# x\n x.so\n{LINE}", {}),
        "a comment or an empty line",
    ),
    (
        "an empty line in a line",
        (f"session required x.so \\\n\n{LINE}", {}),
        "a comment or an empty line",
    ),
    ("an end in a line", (f"{LINE}\nsession required \\", {}), "ends inside"),
    ("a long line", (f"# {'x' * 999} {ENDS}{LINE}", {}), "more than 1000 bytes"),
    (
        "a long line in pieces",
        ("session required x.so \\\n" + "y \\\n" * 400 + f"\n{LINE}", {}),
        "1000",
    ),
    ("a return", (f"session required x.so\r\n{LINE}", {}), "not ASCII"),
    (
        "a letter that is not ASCII",
        (f"session required x.so \N{KELVIN SIGN}\n{LINE}", {}),
        "not ASCII",
    ),
    ("such a comment", (f"# \N{KELVIN SIGN}\n{LINE}", {}), ""),
    ("too many lines", (f"{PERMIT}\n" * pam_files.LINES + LINE, {}), "more than 256 session lines"),
    (
        "too many files",
        ("session include a\n" * pam_files.FILES + LINE, {"a": ""}),
        "more than 64 files",
    ),
]


@pytest.mark.parametrize(
    ("text", "others", "word"),
    [(*files, word) for _, files, word in CERTAIN],
    ids=[name for name, _, _ in CERTAIN],
)
def test_why_uncertain(tmp_path: Path, text: str, others: dict[str, str], word: str) -> None:
    (tmp_path / "folder").mkdir()
    for name, content in {"sshd": text, **others}.items():
        (tmp_path / name).write_text(content.replace("{tmp}", str(tmp_path)))
    reason = pam_stack.why_uncertain("sshd", (str(tmp_path),))
    assert word in reason
    assert bool(word) == bool(reason), reason


def test_why_uncertain_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "sshd").write_text(f"@include common\n{LINE}\n")
    (tmp_path / "common").write_text(ENDS)
    reason = pam_stack.why_uncertain("sshd", (str(tmp_path),))
    assert (
        reason
        == "common: 'sufficient pam_localuser.so' may end the stack before this module's line"
    )


@pytest.mark.parametrize("service", ["other", "Other", "../sshd", "", "login"])
def test_why_uncertain_of_other_services(tmp_path: Path, service: str) -> None:
    for name in ("sshd", "other"):
        (tmp_path / name).write_text(f"{LINE} service=*")
    place = (str(tmp_path),)
    assert pam_stack.why_uncertain(service, place)
    assert not pam_stack.why_uncertain("SSHD", place)


def test_why_uncertain_by_place(tmp_path: Path) -> None:
    """A file that is there but cannot be read is not looked for elsewhere."""
    first, second = tmp_path / "etc", tmp_path / "lib"
    first.mkdir()
    second.mkdir()
    places = (str(first), str(second))
    (second / "sshd").write_text(LINE)
    assert not pam_stack.why_uncertain("sshd", places)
    (first / "sshd").symlink_to("nowhere")
    assert "cannot read" in pam_stack.why_uncertain("sshd", places)
    (first / "sshd").unlink()
    (first / "sshd").write_text(ENDS + LINE)
    assert "may end" in pam_stack.why_uncertain("sshd", places)


def test_why_uncertain_where_libpam_does_not_know_at_include(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sshd").write_text(f"@include common\n{LINE}")
    (tmp_path / "common").write_text("")
    assert not pam_stack.why_uncertain("sshd", (str(tmp_path),))
    monkeypatch.setattr(pam_files, "DEBIAN", str(tmp_path / "none"))
    assert "Debian only" in pam_stack.why_uncertain("sshd", (str(tmp_path),))


WORDS = "session - [ ] = # \\ @include include substack sshd required success default 1 done x.so"
PIECES = st.sampled_from((*WORDS.split(), " ", "\t", "\n", "\0", "\xe9", OURS))


@given(st.lists(PIECES).map("".join))
@example(f"session required {OURS}")
def test_any_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """No text is too much for it, and what is certain for the one is one for the other."""
    folder = tmp_path_factory.getbasetemp()
    (folder / "sshd").write_text(text)
    if not pam_stack.why_uncertain("sshd", (str(folder),)):
        assert pam_stack.session_line("sshd", (str(folder),)) is not None


# What has changed since the login began


@pytest.fixture
def settled(tmp_path: Path) -> tuple[tuple[str, ...], float]:
    """Return the folders of a stack that is certain, and a time after the last change."""
    for place, name, text in (
        ("etc", "sshd", "session include common\n"),
        ("lib", "common", GUARDED),
    ):
        (tmp_path / place).mkdir()
        (tmp_path / place / name).write_text(f"{text}\n")
    places = tuple(str(tmp_path / place) for place in ("etc", "lib"))
    assert pam_stack.why_uncertain("sshd", places) == ""
    time.sleep(0.05)
    return places, time.time()


def rewritten(path: Path) -> None:
    path.write_text(path.read_text())


def replaced(path: Path) -> None:
    new = path.with_name("new")
    new.write_text(path.read_text())
    os.utime(new, (0, 0))
    new.rename(path)


def shadowed(path: Path) -> None:
    (path.parents[1] / "etc/common").write_text(path.read_text())


def unshadowed(path: Path) -> None:
    shadowed(path)
    (path.parents[1] / "etc/common").unlink()


CHANGES = [
    ("etc/sshd", rewritten),
    ("etc/sshd", replaced),
    ("lib/common", rewritten),
    ("lib/common", replaced),
    ("lib/common", shadowed),
    ("lib/common", unshadowed),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_files_that_changed_since_the_login_began(
    tmp_path: Path,
    settled: tuple[tuple[str, ...], float],
    name: str,
    change: Callable[[Path], None],
) -> None:
    """Libpam may have read them before, with other lines in them."""
    places, began = settled
    assert pam_stack.why_uncertain("sshd", places, began) == ""
    change(tmp_path / name)
    assert pam_stack.why_uncertain("sshd", places) == ""
    assert "has changed since this login began" in pam_stack.why_uncertain("sshd", places, began)
    time.sleep(0.05)
    assert pam_stack.why_uncertain("sshd", places, time.time()) == ""
