"""`slurm-adopt check` of PAM, options, the bridge and sshd: a sound host, and broken set-ups.

Each row breaks the real n1 in one way; the check names it by code and place. Rows have the PAM file
that they write, or a command; what they change is put back, and at the end all is sound again.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.cluster.harness import cli, pam
from tests.cluster.harness.host import end
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import stock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

OURS = ("PAM", "options", "bridge", "sshd")  # categories
SSHD = "/etc/pam.d/sshd"
SETTINGS = "/etc/ssh/sshd_config"
CHECKOUT = "/opt/slurm_adopt"
PACKAGE = f"{CHECKOUT}/src/slurm_adopt"
IMAGE = f"{PACKAGE}/__pycache__/login.cpython-311.image"
MODULE = "/lib/security/pam_python.so"
SITE = "/usr/lib/python3/dist-packages"

BOTH = pam.both(*pam.PRODUCTION)
ACCOUNT, SESSION = pam.both_lines(*pam.PRODUCTION)
GUARD, LINE = ACCOUNT
SESSION_GUARD, SESSION_LINE = SESSION
INCLUDE, SESSION_INCLUDE = "@include common-account", "@include common-session"


def instead(old: str, *new: str, lines: list[str] = BOTH) -> list[str]:
    """Return a stack with other lines in the place of one."""
    at = lines.index(old)
    return [*lines[:at], *new, *lines[at + 1 :]]


def before(line: str, *new: str, lines: list[str] = BOTH) -> list[str]:
    """Return a stack with more lines in front of one."""
    return instead(line, *new, line, lines=lines)


ACCOUNT_ONLY = pam.with_module(*pam.PRODUCTION)
SESSION_ONLY = instead(GUARD, lines=instead(LINE))


class Broken(NamedTuple):
    """A set-up: how it is made, and what the check says of it.

    `line`: the text of the line that is named, in `file`; "" for a file without a line.
    """

    name: str
    code: str
    result: str
    title: str
    line: str = ""
    file: str = SSHD
    stack: list[str] = BOTH
    do: str = ""
    undo: str = ""


def option(name: str, code: str, result: str, title: str, *options: str) -> Broken:
    """Return a set-up with other options on both lines; the account line is named."""
    stack = pam.both(*pam.PRODUCTION, *options)
    return Broken(name, code, result, title, " ".join((LINE, *options)), SSHD, stack)


def broken_checkout(
    name: str, code: str, result: str, title: str, do: str, file: str, line: str = ""
) -> Broken:
    """Return a set-up that changes the checkout, of which there is a copy meanwhile."""
    do = f"cp -a {CHECKOUT} {CHECKOUT}.kept; {do}"
    undo = f"rm -rf {CHECKOUT}; mv {CHECKOUT}.kept {CHECKOUT}"
    return Broken(name, code, result, title, line, file, BOTH, do, undo)


def setting(name: str, code: str, result: str, title: str, line: str) -> Broken:
    """Return a set-up with one line in front of all of sshd's others; sshd reads none of it."""
    do = f"cp -p {SETTINGS} {SETTINGS}.kept; sed -i '1i {line}' {SETTINGS}"
    undo = f"mv {SETTINGS}.kept {SETTINGS}"
    return Broken(name, code, result, title, line, SETTINGS, BOTH, do, undo)


def asking(name: str, code: str, title: str, line: str) -> Broken:
    """Return the same where users are asked for one of several jobs."""
    stack = pam.both(*pam.PRODUCTION, "action_unknown=ask")
    return setting(name, code, "warning", title, line)._replace(stack=stack)


OPTIONAL = LINE.replace("required", "optional")
SUFFICIENT = SESSION_LINE.replace("required", "sufficient")
ALLOWED = "account sufficient pam_listfile.so item=user sense=allow file=/etc/allowed onerr=fail"
NO_MODULE = "account required pam_nowhere.so"
LOCAL = "account sufficient pam_localuser.so"
SYSTEM = "account sufficient pam_usertype.so issystem"
SYSTEMD = "-session optional pam_systemd.so"
FAR = GUARD.replace("success=1", "success=2")
REQUIRD = "session requird pam_limits.so"
NOWHERE = "session include nowhere"
LONG = f"session optional pam_echo.so {'x' * 1000}"
SLURM_S = "account required pam_slurm_adopt.so"
SHARED_ACCOUNT, _ = pam.where_installed(*pam.PRODUCTION)
OTHER_SESSION = f"{SESSION_LINE} action_no_jobs=ignore"
NO_SCRIPT = LINE.replace(CHECKOUT, "/opt/nowhere")
SHORT_PATH = LINE.replace(f"{CHECKOUT}/pam/", "")
EXPIRES = "account\t[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so "

STACKS = [
    Broken("no PAM file", "SA101", "error", "no PAM file for the service sshd", "",
           "/etc/pam.d", do=f"mv {SSHD} /root/sshd.kept", undo=f"mv /root/sshd.kept {SSHD}"),
    Broken("a control that nobody knows", "SA101", "warning", "not surely read", REQUIRD,
           stack=instead("session required pam_limits.so", REQUIRD)),
    Broken("an include that is not there", "SA101", "warning", "not surely read", NOWHERE,
           stack=before(SESSION_GUARD, NOWHERE)),
    Broken("and refuses", "SA101", "error", "of a file that is not there", NOWHERE,
           stack=before(SESSION_GUARD, NOWHERE)),
    Broken("an @include that is not there", "SA101", "error", "refuses sshd as a whole",
           "@include nowhere", stack=before(GUARD, "@include nowhere")),
    Broken("a line that libpam cuts", "SA101", "warning", "not surely read", LONG,
           stack=before(SESSION_GUARD, LONG)),
    Broken("a phase that is left to other", "SA101", "error", "takes those of other", "",
           stack=[line for line in ACCOUNT_ONLY if "session" not in line]),
    Broken("everybody may write sshd's PAM file", "SA102", "error", "may write a PAM file", "",
           do=f"chmod 666 {SSHD}", undo=f"chmod 644 {SSHD}"),
    Broken("the directory is a user's", "SA102", "error", "may write a PAM file", "",
           "/etc/pam.d", do="chown alice /etc/pam.d", undo="chown root /etc/pam.d"),
    Broken("a user may exchange what is included", "SA102", "error", "may write a PAM file", "",
           "/etc/pam.d/common-account", do="chown alice /etc/pam.d/common-account",
           undo="chown root /etc/pam.d/common-account"),
    Broken("no line at all", "SA103", "error", "no account line", "", stack=pam.stack()),
    Broken("no session line at all", "SA104", "error", "no session line", "", stack=pam.stack()),
    Broken("the session line alone", "SA103", "warning", "no account line", "",
           stack=SESSION_ONLY),
    Broken("two account lines", "SA103", "warning", "several account lines", f"{LINE} ",
           stack=before(INCLUDE, f"{LINE} ")),
    Broken("the account line alone", "SA104", "warning", "no session line", "",
           stack=ACCOUNT_ONLY),
    Broken("two session lines", "SA104", "warning", "several session lines", f"{SESSION_LINE} ",
           stack=[*BOTH, f"{SESSION_LINE} "]),
    Broken("an optional account line", "SA105", "error", "refusal by the account line", OPTIONAL,
           stack=instead(LINE, OPTIONAL)),
    Broken("a sufficient session line", "SA105", "error", "refusal by the session line",
           SUFFICIENT, stack=instead(SESSION_LINE, SUFFICIENT)),
    Broken("a reset behind the account line", "SA105", "error", "refusal by the account line",
           LINE, stack=before(INCLUDE, "account [default=reset] pam_permit.so")),
    Broken("no guard in the account phase", "SA106", "error", "account phase can lock out root",
           LINE, stack=instead(GUARD)),
    Broken("no guard in the session phase", "SA106", "error", "session phase can lock out root",
           SESSION_LINE, stack=instead(SESSION_GUARD)),
    Broken("a guard that jumps too far", "SA106", "error", "account phase can lock out root",
           LINE, stack=instead(GUARD, FAR)),
    Broken("a guard for another user", "SA106", "error", "account phase can lock out root", LINE,
           stack=instead(GUARD, GUARD.replace("eq 0", "eq 1"))),
    Broken("nobody says yes to root", "SA106", "error", "account phase can lock out root", LINE,
           stack=instead(INCLUDE)),
    Broken("local users go by, to the session line", "SA107", "warning", "pam_localuser.so",
           LOCAL, stack=before(GUARD, LOCAL)),
    Broken("local users go by", "SA107", "error", "pam_localuser.so", LOCAL,
           stack=before(GUARD, LOCAL, lines=ACCOUNT_ONLY)),
    Broken("and get in without a job", "SA108", "warning", "more than the administrators'",
           stack=before(GUARD, LOCAL, lines=ACCOUNT_ONLY), file=""),
    Broken("system users go by", "SA107", "error", "pam_usertype.so", SYSTEM,
           stack=before(GUARD, SYSTEM, lines=ACCOUNT_ONLY)),
    Broken("an expired password goes by", "SA107", "warning", "pam_unix.so", EXPIRES,
           "/etc/pam.d/common-account",
           [*instead(GUARD, lines=instead(LINE)), *ACCOUNT]),
    Broken("administrators in the account phase alone", "SA107", "warning",
           "the session line refuses whom pam_succeed_if.so lets by", pam.ADMINS,
           stack=before(GUARD, pam.ADMINS)),
    Broken("a list of users in the account phase alone", "SA107", "warning",
           "the session line refuses whom pam_listfile.so lets by", ALLOWED,
           stack=before(GUARD, ALLOWED)),
    Broken("one image for other machines", "SA109", "warning", "pam_python.so cannot be loaded",
           SHARED_ACCOUNT[1], stack=pam.GUIDE["where installed"](*pam.PRODUCTION)),
    Broken("a line that ends the session phase", "SA110", "warning", "not certain to come",
           SESSION_LINE, stack=before(SESSION_GUARD, "session sufficient pam_permit.so")),
    Broken("pam_systemd behind the session line", "SA111", "error", "moves sessions", SYSTEMD,
           stack=[*BOTH, SYSTEMD]),
    Broken("pam_systemd with the account line alone", "SA111", "error", "moves sessions", SYSTEMD,
           stack=[*ACCOUNT_ONLY, SYSTEMD]),
    Broken("Slurm's module beside ours", "SA112", "error", "pam_slurm_adopt.so", SLURM_S,
           stack=before(INCLUDE, SLURM_S)),
    Broken("our line in a file of pam-auth-update's", "SA113", "warning", "pam-auth-update", LINE,
           "/etc/pam.d/common-account", stack=instead(LINE),
           do=f"cp -p /etc/pam.d/common-account /root/kept; "
              f"sed -i '1i {LINE}' /etc/pam.d/common-account",
           undo="mv /root/kept /etc/pam.d/common-account"),
    Broken("a profile with our line", "SA113", "warning", "profile slurm", f"  {LINE[8:]}",
           "/usr/share/pam-configs/slurm",
           do=f"printf 'Name: slurm\\nAccount:\\n  {LINE[8:]}\\n' >/usr/share/pam-configs/slurm",
           undo="rm /usr/share/pam-configs/slurm"),
    Broken("a file beside authselect's", "SA113", "warning", "password-auth", "",
           "/etc/pam.d/password-auth",
           do="mkdir /etc/authselect; echo sssd >/etc/authselect/authselect.conf; "
              "echo 'auth required pam_deny.so' >/etc/pam.d/password-auth",
           undo="rm -r /etc/authselect /etc/pam.d/password-auth"),
    Broken("a module that is not there", "SA114", "error", "wants pam_nowhere.so", NO_MODULE,
           stack=before(GUARD, NO_MODULE)),
    Broken("and a - in front of the line", "SA114", "error", "wants pam_nowhere.so",
           f"-{NO_MODULE}", stack=before(GUARD, f"-{NO_MODULE}")),
    Broken("a file with line ends of DOS", "SA114", "error", "wants pam_nologin.so",
           "account required pam_nologin.so", do=f"sed -i 's/$/\\r/' {SSHD}"),
]  # fmt: skip

OPTIONS = [
    option("a misspelt option", "SA121", "error", "of the account line", "action_no_job=deny"),
    option("a misspelt value", "SA121", "error", "of the account line", "action_unknown=newst"),
    option("an option twice", "SA121", "warning", "of the account line",
           "log_level=info", "log_level=debug"),
    option("a value of an early release", "SA121", "warning", "of the account line",
           "action_unknown=any"),
    Broken("another option on the session line", "SA122", "warning", "action_no_jobs",
           OTHER_SESSION, stack=instead(SESSION_LINE, OTHER_SESSION)),
    Broken("no option: failures let in", "SA123", "warning", "action_adopt_failure=allow",
           pam.OURS, stack=pam.both()),
    Broken("no option: no slurmd lets in", "SA123", "warning", "action_generic_failure=auto",
           pam.OURS, stack=pam.both()),
    option("no job lets in", "SA123", "warning", "action_no_jobs=ignore", "action_no_jobs=ignore"),
    option("several jobs let in", "SA123", "warning", "action_unknown=allow",
           "action_unknown=allow"),
    option("a suspended job lets in", "SA123", "warning", "action_suspended=allow",
           "action_suspended=allow"),
    option("root is adopted", "SA124", "warning", "ignore_root=0", "ignore_root=0"),
    option("a question that is never asked", "SA125", "warning", "single_job_skip_rpc=0",
           "callerid=0", "single_job_skip_rpc=0"),
    option("several jobs are never known", "SA125", "warning", "action_unknown=deny",
           "callerid=0", "action_unknown=deny"),
    Broken("a question where nobody can be asked", "SA125", "warning", "action_unknown=ask",
           f"{SESSION_LINE} action_unknown=ask",
           stack=instead(f"{LINE} action_unknown=ask", lines=instead(
               GUARD, lines=pam.both(*pam.PRODUCTION, "action_unknown=ask")))),
    Broken("limits without a session line", "SA125", "warning", "job_limits=1",
           f"{LINE} job_limits=1", stack=pam.with_module(*pam.PRODUCTION, "job_limits=1")),
    Broken("namespaces without a session line", "SA125", "warning", "join_container=true",
           f"{LINE} join_container=true",
           stack=pam.with_module(*pam.PRODUCTION, "join_container=true")),
    Broken("two who make a runtime directory", "SA125", "warning", "XDG_RUNTIME_DIR",
           f"{LINE} runtime_dir=job",
           stack=before(SESSION_GUARD, SYSTEMD,
                        lines=pam.both(*pam.PRODUCTION, "runtime_dir=job"))),
    option("no message", "SA126", "warning", "message=", "message=/etc/nowhere"),
    option("a message that is a directory", "SA126", "warning", "message=", "message=/etc"),
    option("lines for another service", "SA127", "error", "ignores sshd", "service=login"),
]  # fmt: skip

BRIDGE = [
    Broken("no script", "SA201", "error", "there is no /opt/nowhere", NO_SCRIPT,
           stack=instead(LINE, NO_SCRIPT)),
    Broken("no package either", "SA203", "error", "cannot import", NO_SCRIPT,
           stack=instead(LINE, NO_SCRIPT)),
    Broken("a script without its path", "SA201", "error", "without a whole path", SHORT_PATH,
           stack=instead(LINE, SHORT_PATH)),
    Broken("no pam_python", "SA202", "error", "does not run", LINE,
           do=f"mv {MODULE} {MODULE}.kept", undo=f"mv {MODULE}.kept {MODULE}"),
    Broken("a pam_python that is cut off", "SA202", "error", "does not run", LINE,
           do=f"cp -p {MODULE} {MODULE}.kept; truncate -s 4096 {MODULE}",
           undo=f"mv {MODULE}.kept {MODULE}"),
    broken_checkout("half a package", "SA203", "error", "cannot import",
                    f"rm {PACKAGE}/decision/engine.py", SSHD, LINE),
    broken_checkout("a package with a mistake", "SA203", "error", "cannot import",
                    f"echo '(' >>{PACKAGE}/decision/engine.py", SSHD, LINE),
    broken_checkout("a part that few logins need", "SA203", "error", "a part of this module is",
                    f"rm {PACKAGE}/node/unfinished_login.py", SSHD, LINE),
    broken_checkout("a folder that few logins need", "SA203", "error", "a part of this module is",
                    f"rm -r {PACKAGE}/slurm/slurmd", SSHD, LINE),
    broken_checkout("a source that is newer", "SA204", "warning", "compile parts of the module",
                    f"touch -d '1 hour ago' {PACKAGE}/decision/engine.py",
                    f"{PACKAGE}/decision/engine.py"),
    broken_checkout("no byte code", "SA204", "warning", "compile parts of the module",
                    f"rm -r {PACKAGE}/front/__pycache__", f"{PACKAGE}/front/__init__.py"),
    broken_checkout("byte code of another source", "SA204", "error", "of another source",
                    f"python3 -m compileall -qf --invalidation-mode unchecked-hash {PACKAGE}/node; "
                    f"echo '#' >>{PACKAGE}/node/node.py", f"{PACKAGE}/node/node.py"),
    broken_checkout("neither byte code nor login image", "SA204", "warning", "each login compiles",
                    f"rm -r {PACKAGE}/front/__pycache__ {IMAGE}", f"{PACKAGE}/front/__init__.py"),
    broken_checkout("no login image", "SA204", "warning", "file by file", f"rm {IMAGE}", IMAGE),
    broken_checkout("a login image of other sources", "SA204", "warning", "file by file",
                    f"echo '#' >>{PACKAGE}/node/node.py; python3 -m compileall -q {PACKAGE}/node",
                    IMAGE),
    broken_checkout("a login image of which a part is stale", "SA204", "warning", "import parts of",
                    f"echo '#' >>{PACKAGE}/node/unreached.py; "
                    f"python3 -m compileall -q {PACKAGE}/node", f"{PACKAGE}/node/unreached.py"),
    broken_checkout("a login image of a user's", "SA204", "warning", "file by file",
                    f"chown alice {IMAGE}", IMAGE),
    broken_checkout("and others may write it", "SA205", "error", "may write what root runs",
                    f"chown alice {IMAGE}", IMAGE),
    broken_checkout("a checkout of a user's", "SA205", "error", "may write what root runs",
                    f"chown alice {CHECKOUT}", CHECKOUT),
    broken_checkout("byte code that everybody writes", "SA205", "error", "may write what root runs",
                    f"chmod 777 {PACKAGE}/node/__pycache__", f"{PACKAGE}/node/__pycache__"),
    broken_checkout("a module that a group writes", "SA205", "error", "may write what root runs",
                    f"chgrp alice {PACKAGE}/node/node.py; chmod g+w {PACKAGE}/node/node.py",
                    f"{PACKAGE}/node/node.py"),
    Broken("pam_python is a user's", "SA205", "error", "may write what root runs", "",
           f"/usr{MODULE}", do=f"chown alice {MODULE}", undo=f"chown root {MODULE}"),
    Broken("code in a .pth file", "SA206", "warning", "slow.pth", "import sys", f"{SITE}/slow.pth",
           do=f"echo 'import sys' >{SITE}/slow.pth", undo=f"rm {SITE}/slow.pth"),
]  # fmt: skip

# By pam_exec
BY_EXEC = pam.by_pam_exec(*pam.PRODUCTION)
EXEC, SESSION_EXEC = (lines[-1] for lines in pam.both_by_pam_exec(*pam.PRODUCTION))
SCRIPT = f"{CHECKOUT}/pam/pam_slurm_adopt_exec"
PAM_EXEC = "/usr/lib/x86_64-linux-gnu/security/pam_exec.so"
READS = "auth required pam_env.so user_readenv=1"
AT_CLOSE = "session optional pam_env.so readenv=0 user_readenv=1"
DEBIAN = (stock.EXAMPLES / "sshd.debian12").read_text().splitlines()
DEBIAN_BY_EXEC = [
    EXEC.replace("account", line.split()[0]) if "pam_python.so" in line else line for line in DEBIAN
]
(OF_DEBIAN,) = (line for line in DEBIAN if "user_readenv=1" in line)
IN_AUTH = EXEC.replace("account required", "auth optional")
REQUIRED_IN_AUTH = EXEC.replace("account", "auth")
NO_IGNORE = f"{EXEC} ignore_passes=0"
ENDS = EXEC.replace("required", "sufficient")
FALSE_PAIR = EXEC.replace("pam_exec.so quiet stdout", "pam_python.so")


def changed(
    name: str, code: str, result: str, title: str, old: str, new: str, line: str = EXEC
) -> Broken:
    """Return a set-up with other words on one of the lines of pam_exec's."""
    other = line.replace(old, new)
    return Broken(name, code, result, title, other, stack=instead(line, other, lines=BY_EXEC))


def added(name: str, code: str, result: str, title: str, *options: str) -> Broken:
    """Return a set-up with other options on both; the account line is named."""
    stack = pam.by_pam_exec(*pam.PRODUCTION, *options)
    return Broken(name, code, result, title, " ".join((EXEC, *options)), SSHD, stack)


def first_line(name: str, code: str, result: str, title: str, line: str, *place: str) -> Broken:
    """Return a set-up whose script begins with another line."""
    do = f"sed -i '1s|.*|{line}|' {SCRIPT}"
    broken = broken_checkout(name, code, result, title, do, *(place or (SSHD, EXEC)))
    return broken._replace(stack=BY_EXEC)


OLD_PYTHON = (
    f"cp -p {SCRIPT} {SCRIPT}.kept; sed -i '1s|.*|#!/root/python3.6|' {SCRIPT}\n"
    "cat >/root/python3.6 <<'EOF'\n#!/bin/sh\necho '{\"version\": [3, 6, 8]}'\nEOF\n"
    "chmod 755 /root/python3.6"
)
CONTAINERS = "JobContainerType=job_container/tmpfs"
SLURM_CONF = "/etc/slurm/slurm.conf"
OF_EXEC = [
    Broken("users' variables", "SA115", "error", "user_readenv=1 in the auth phase", READS,
           stack=[READS, *BY_EXEC]),
    Broken("users' variables in the file of Debian 12", "SA115", "error",
           "user_readenv=1 in the session phase", OF_DEBIAN, stack=DEBIAN_BY_EXEC),
    Broken("users' variables when the session closes", "SA115", "error",
           "user_readenv=1 in the session phase", AT_CLOSE, stack=[*BY_EXEC, AT_CLOSE]),
    Broken("the script in the auth phase", "SA116", "error", "a line of type auth", IN_AUTH,
           stack=[IN_AUTH, *BY_EXEC]),
    Broken("pam_python decides, pam_exec adopts", "SA117", "warning",
           "the account line is run by pam_python, the session line by pam_exec", SESSION_EXEC,
           stack=instead(SESSION_LINE, SESSION_EXEC)),
    Broken("pam_exec decides, pam_python adopts", "SA117", "warning",
           "the account line is run by pam_exec, the session line by pam_python", SESSION_LINE,
           stack=instead(LINE, EXEC)),
    Broken("a required line that does not pass", "SA128", "warning", "ignore_passes=0", NO_IGNORE,
           stack=instead(EXEC, NO_IGNORE, lines=BY_EXEC)),
    Broken("a sufficient line that passes", "SA128", "error", "ignore_passes=1", ENDS,
           stack=instead(EXEC, ENDS, lines=BY_EXEC)),
    Broken("and the refusal does not count", "SA105", "error", "refusal by the account line", ENDS,
           stack=instead(EXEC, ENDS, lines=BY_EXEC)),
    Broken("the lines behind decide", "SA105", "warning", "refusal by the account line",
           f"{ENDS} ignore_passes=0",
           stack=instead(EXEC, f"{ENDS} ignore_passes=0", lines=BY_EXEC)),
    Broken("no guard", "SA106", "error", "account phase can lock out root", EXEC,
           stack=instead(GUARD, lines=BY_EXEC)),
    added("variables", "SA129", "warning", "job_env=all does nothing", "job_env=all"),
    added("a directory", "SA129", "warning", "runtime_dir=job does nothing", "runtime_dir=job"),
    added("DISPLAY", "SA129", "warning", "disable_x11=1 does nothing", "disable_x11=1"),
    added("a question", "SA129", "warning", "action_unknown=ask does nothing",
          "action_unknown=ask"),
    Broken("namespaces", "SA129", "error", "nobody can enter the jobs' namespaces", SESSION_EXEC,
           stack=BY_EXEC, do=f"cp -p {SLURM_CONF} {SLURM_CONF}.kept; "
           f"echo {CONTAINERS} >>{SLURM_CONF}", undo=f"mv {SLURM_CONF}.kept {SLURM_CONF}"),
    changed("no script", "SA201", "error", "there is no /opt/nowhere", CHECKOUT, "/opt/nowhere"),
    Broken("the other front's script", "SA201", "error", "pam_python.so is not pam_exec.so",
           FALSE_PAIR, stack=instead(EXEC, FALSE_PAIR, lines=BY_EXEC)),
    Broken("a script that is not executable", "SA201", "error", "is not executable", EXEC,
           stack=BY_EXEC, do=f"chmod -x {SCRIPT}", undo=f"chmod 755 {SCRIPT}"),
    Broken("and does not run", "SA209", "error", "does not run", EXEC,
           stack=BY_EXEC, do=f"chmod -x {SCRIPT}", undo=f"chmod 755 {SCRIPT}"),
    broken_checkout("half a package", "SA203", "error", "cannot import",
                    f"rm {PACKAGE}/decision/engine.py", SSHD, EXEC)._replace(stack=BY_EXEC),
    broken_checkout("no byte code", "SA204", "warning", "compile parts of the module",
                    f"rm -r {PACKAGE}/front/__pycache__",
                    f"{PACKAGE}/front/__init__.py")._replace(stack=BY_EXEC),
    Broken("a script of a user's", "SA205", "error", "may write what root runs", "", SCRIPT,
           BY_EXEC, f"chown alice {SCRIPT}", f"chown root {SCRIPT}"),
    Broken("pam_exec is a user's", "SA205", "error", "may write what root runs", "", PAM_EXEC,
           BY_EXEC, f"chown alice {PAM_EXEC}", f"chown root {PAM_EXEC}"),
    first_line("users' variables steer Python", "SA207", "warning", "heeds variables",
               "#!/usr/bin/python3", SCRIPT, "#!/usr/bin/python3"),
    first_line("no interpreter", "SA209", "error", "does not run", "#!/usr/bin/python4 -IS"),
    first_line("a first line of DOS", "SA209", "error", "does not run", r"#!/usr/bin/python3\r"),
    first_line("another program", "SA209", "error", "does not run", "#!/bin/cat"),
    Broken("an old Python", "SA209", "error", "Python 3.6.8, which is too old", EXEC, SSHD, BY_EXEC,
           OLD_PYTHON, f"mv {SCRIPT}.kept {SCRIPT}; rm /root/python3.6"),
    Broken("no pam_exec", "SA209", "error", "there is no pam_exec.so", EXEC, SSHD, BY_EXEC,
           f"mv {PAM_EXEC} {PAM_EXEC}.kept", f"mv {PAM_EXEC}.kept {PAM_EXEC}"),
    changed("users are told nothing", "SA210", "warning", "tells users nothing", " stdout", ""),
    changed("words of pam_exec's", "SA210", "warning", "adds a word of its own", " quiet", "",
            SESSION_EXEC),
    changed("a word that pam_exec does not know", "SA210", "error", "has pam_exec run quite",
            "quiet", "quite"),
    changed("a phase that is not this one", "SA210", "error", "type= keeps pam_exec", "quiet",
            "quiet type=open_session"),
    changed("a phase too many", "SA210", "warning", "type stands in front", "quiet",
            "quiet type=account"),
    changed("a password for the script", "SA210", "warning", "expose_authtok stands in front",
            "quiet", "quiet expose_authtok"),
    changed("a file of what is said", "SA210", "warning", "log stands in front", "stdout",
            "stdout log=/var/log/x"),
]  # fmt: skip

OTHER_SSHD = "/root/sshd_other"
SECOND = (
    f"printf 'Port 2299\\nUsePAM no\\nPidFile none\\n' >{OTHER_SSHD}; "
    f"/usr/sbin/sshd -D -f {OTHER_SSHD} </dev/null >/dev/null 2>&1 & echo $! >/run/second; "
    "for i in $(seq 200); do grep -aq listener /proc/$(cat /run/second)/cmdline && break; "
    "sleep 0.05; done"
)
ENDED = "kill $(cat /run/second); "
GARBAGE = "Garbage yes"
SETTINGS_OF_SSHD = [
    setting("what sshd does not know", "SA701", "error", "does not take its", GARBAGE),
    setting("no PAM", "SA702", "error", "UsePAM no", "UsePAM no"),
    Broken("a second sshd", "SA710", "warning", "different settings", "", OTHER_SSHD, BOTH, SECOND,
           f"{ENDED}rm {OTHER_SSHD}"),
    Broken("a second sshd without PAM", "SA702", "error", "UsePAM no", "UsePAM no", OTHER_SSHD,
           BOTH, SECOND, f"{ENDED}rm {OTHER_SSHD}"),
    Broken("an sshd by another name", "SA703", "error", "the service sshd-admin", "", OTHER_SSHD,
           BOTH, "cp /usr/sbin/sshd /usr/sbin/sshd-admin; "
           + SECOND.replace("/usr/sbin/sshd", "/usr/sbin/sshd-admin"),
           f"{ENDED}rm {OTHER_SSHD} /usr/sbin/sshd-admin"),
    Broken("no method", "SA704", "warning", "no method", "", SETTINGS, BOTH,
           f"cp -p {SETTINGS} {SETTINGS}.kept; sed -i '1i PubkeyAuthentication no\\n"
           f"PasswordAuthentication no\\nKbdInteractiveAuthentication no' {SETTINGS}",
           f"mv {SETTINGS}.kept {SETTINGS}"),
    asking("a question that no method asks", "SA704", "action_unknown=ask asks nobody",
           "KbdInteractiveAuthentication no"),
    asking("a question without an end", "SA706", "LoginGraceTime 0", "LoginGraceTime 0"),
    setting("root is kept out", "SA705", "warning", "only the console", "PermitRootLogin no"),
    setting("no end of a login", "SA706", "warning", "LoginGraceTime 0", "LoginGraceTime 0"),
    setting("a short login", "SA706", "warning", "may be too short", "LoginGraceTime 20"),
    Broken("few logins at a time", "SA707", "warning", "takes only 5", "MaxStartups 5", SETTINGS,
           BOTH, f"cp -p {SETTINGS} {SETTINGS}.kept; "
           f"sed -i 's/^MaxStartups .*/MaxStartups 5/' {SETTINGS}",
           f"mv {SETTINGS}.kept {SETTINGS}"),
    setting("users' own variables", "SA709", "warning", "PermitUserEnvironment",
            "PermitUserEnvironment LD_*"),
]  # fmt: skip

BROKEN = [*STACKS, *OPTIONS, *BRIDGE, *OF_EXEC, *SETTINGS_OF_SSHD]


# As the command's --json has it, of some checks alone.
RUN = """
import json
from slurm_adopt.cli.checks.host import Host
from slurm_adopt.cli.checks.runner import run
from slurm_adopt.cli.checks.table import CHECKS
chosen = [check for check in CHECKS if {check.code, check.category} & set(%r)]
print(json.dumps([found.as_dict() for found in run(chosen, Host(%r))]))
"""


def findings(
    node: Host, *only: str, service: str = "sshd", user: str | None = None
) -> list[dict[str, Any]]:
    """Return what checks say, by code or category; without any, all that are here."""
    program = RUN % (only or OURS, service)
    argv = ["env", "PYTHONPATH=/checkout/src", "python3", "-B", "-c", program]
    done = node.run(argv, user, check=False, timeout=60)
    assert done.stdout, done
    said: list[dict[str, Any]] = json.loads(done.stdout)
    return said


@contextlib.contextmanager
def set_up(node: Host, broken: Broken) -> Iterator[None]:
    node.pam("sshd", broken.stack)
    if broken.do:
        node.run(["sh", "-ec", broken.do])
    try:
        yield
    finally:
        if broken.undo:
            node.run(["sh", "-ec", broken.undo])


def number(node: Host, broken: Broken) -> int:
    """Return where the line is that the check is to name; sshd does not say where it stumbles."""
    if broken.line in ("", GARBAGE):
        return 0
    return node.read(broken.file).splitlines().index(broken.line) + 1


@pytest.mark.parametrize("broken", BROKEN, ids=[f"{one.code} {one.name}" for one in BROKEN])
def test_a_broken_set_up_is_named(cluster: Cluster, broken: Broken) -> None:
    with set_up(cluster.n1, broken):
        expected = (broken.result, broken.file, number(cluster.n1, broken))
        said = findings(cluster.n1, broken.code)
    places = [
        (one["result"], one["where"]["file"], one["where"]["line"])
        for one in said
        if broken.title in one["title"]
    ]
    assert places == [expected], said
    assert all(one["why"] and one["fix"] for one in said if one["result"] in ("warning", "error"))


SOUND = {
    "both lines": BOTH,
    "the example for Debian 12": DEBIAN,
    "administrators": pam.GUIDE["administrators"](*pam.PRODUCTION),
    "a list of denied users": pam.GUIDE["listfile"](*pam.PRODUCTION),
    "pam_systemd in front": before(SESSION_GUARD, SYSTEMD),
    "no other account line": pam.alone_and_session(*pam.PRODUCTION),
    "by pam_exec": BY_EXEC,
}
RHEL = {"password-auth": stock.PASSWORD_AUTH, "postlogin": stock.POSTLOGIN}


@pytest.mark.parametrize("stack", SOUND.values(), ids=SOUND)
def test_a_sound_host(cluster: Cluster, stack: list[str]) -> None:
    """As the guide installs it: no warning, nothing left out, and all titles fit in a line."""
    cluster.n1.pam("sshd", stack)
    said = findings(cluster.n1)
    assert [one for one in said if one["result"] != "ok"] == []
    assert {one["code"] for one in said} == {*(f"SA{n}" for n in CODES)}
    assert [one["title"] for one in said if len(one["title"]) > 76] == []


@contextlib.contextmanager
def rhel(node: Host) -> Iterator[None]:
    """Give a node what RHEL's file includes."""
    for name, text in RHEL.items():
        node.pam(name, text)
    yield
    node.run(["rm", *(f"/etc/pam.d/{name}" for name in RHEL)])


def test_a_sound_host_with_rhel_s_files(cluster: Cluster) -> None:
    with rhel(cluster.n1):
        cluster.n1.pam("sshd", (stock.EXAMPLES / stock.RHEL).read_text())
        said = findings(cluster.n1)
    assert [one for one in said if one["result"] != "ok"] == []
    assert [one["where"]["file"] for one in said if "pam_systemd" in one["title"]] == [
        "/etc/pam.d/password-auth"
    ]


def test_behind_the_include_of_rhel_s(cluster: Cluster) -> None:
    """Local and system users go by; that is found in the file that is included."""
    lines = stock.behind_the_include(stock.rhel(), (ACCOUNT, []))
    with rhel(cluster.n1):
        cluster.n1.pam("sshd", lines)
        said = findings(cluster.n1, "SA107", "SA111")
    bad = [(one["code"], one["where"], one["result"]) for one in said if one["result"] != "ok"]
    numbers = [
        (code, stock.PASSWORD_AUTH[: stock.PASSWORD_AUTH.index(text)].count("\n") + 1)
        for code, text in [
            ("SA107", "account     sufficient                                   pam_localuser"),
            ("SA107", "account     sufficient                                   pam_usertype"),
            ("SA111", "-session "),
        ]
    ]
    place = "/etc/pam.d/password-auth"
    assert bad == [(code, {"file": place, "line": n}, "error") for code, n in numbers]


def test_lines_for_cron(cluster: Cluster) -> None:
    """The lines of the guide for another service; what is sshd's is left out."""
    account, session = pam.at_or_cron("cron")
    usual = cluster.n1.read("etc/pam.d/cron")
    cluster.n1.pam("cron", [*account, "@include common-account", "@include common-session",
                            *session])  # fmt: skip
    try:
        said = findings(cluster.n1, service="cron")
    finally:
        cluster.n1.write("etc/pam.d/cron", usual)
    assert [one for one in said if one["result"] in ("warning", "error")] == []
    assert {one["code"] for one in said if one["result"] == "skipped"} == {
        f"SA{n}" for n in range(702, 710)
    }


@pytest.mark.parametrize("name", ["where installed", "listfile", "others decide"])
def test_what_the_guide_prints_has_no_error(cluster: Cluster, name: str) -> None:
    """Warnings are what these are made for: a door that is open on purpose."""
    made = {**pam.GUIDE, "others decide": pam.others_decide}[name]
    cluster.n1.pam("sshd", made(*pam.PRODUCTION))
    said = findings(cluster.n1)
    assert [one for one in said if one["result"] == "error"] == []
    assert {one["code"] for one in said if one["result"] == "warning"} <= {
        "where installed": {"SA109", "SA110"},
        "listfile": set(),
        "others decide": {"SA123"},
    }[name]


CODES = (
    *(*range(101, 118), *range(121, 130)),
    *(*range(201, 208), 209, 210),  # SA208 was about psutil
    *range(701, 711),
)


def test_each_code_has_a_broken_set_up() -> None:
    """But for those that no set-up of this cluster can show: unit tests have them."""
    shown = {one.code for one in BROKEN}
    assert {f"SA{n}" for n in CODES} - shown == {"SA708"}


def test_who_gets_in(cluster: Cluster) -> None:
    for stack, title in [
        (BOTH, "without a job gets in: root"),
        (pam.GUIDE["administrators"](), "without a job get in: root, members of group wheel"),
    ]:
        cluster.n1.pam("sshd", stack)
        (said,) = findings(cluster.n1, "SA108")
        assert (said["result"], said["title"]) == ("ok", title)


def test_one_copy_by_two_paths(cluster: Cluster) -> None:
    """A path with .. in it leads to the same copy."""
    detour = LINE.replace(f"{CHECKOUT}/pam", f"{CHECKOUT}/src/../pam")
    cluster.n1.pam("sshd", instead(LINE, detour))
    assert [one["result"] for one in findings(cluster.n1, "SA832")] == ["ok"]


def test_root_is_kept_out_and_administrators_are_not(cluster: Cluster) -> None:
    kept_out = next(one for one in BROKEN if one.code == "SA705")
    with set_up(cluster.n1, kept_out):
        cluster.n1.pam("sshd", pam.GUIDE["administrators"](*pam.PRODUCTION))
        (said,) = findings(cluster.n1, "SA705")
    assert (said["result"], "wheel" in said["title"]) == ("ok", True)


@pytest.mark.parametrize(
    ("stack", "how"),
    [
        (instead(LINE, EXEC), "chosen by the account phase"),
        (instead(SESSION_LINE, SESSION_EXEC), "the only job"),
    ],
    ids=["pam_exec decides", "pam_python decides"],
)
def test_two_fronts_in_one_service(cluster: Cluster, stack: list[str], how: str) -> None:
    """The login is in its job; what pam_python has decided is decided again (SA117)."""
    job = cluster.submit("alice")
    cluster.n1.pam("sshd", stack)
    mark = cluster.n1.mark()
    login = cluster.ssh("alice", "n1", "cat /proc/self/cgroup")
    assert cluster.job_of(login.out) == job
    said = [line for line in cluster.n1.log(mark) if ":session): user alice" in line]
    assert len(said) == 1
    assert f"adopted into job {job} ({how}" in said[0], said
    cluster.cancel_all()


# ld.so(8) writes such files; LD_PRELOAD runs code in the same way.
LOADED = "LD_DEBUG DEFAULT=libs\nLD_DEBUG_OUTPUT DEFAULT=/run/loaded\n"


@pytest.mark.parametrize("line", [READS, AT_CLOSE])
def test_users_variables_come_to_root_s_script(cluster: Cluster, line: str) -> None:
    """What SA115 is about: the dynamic loader of what root runs heeds a user's file."""
    cluster.submit("alice")
    cluster.n1.pam("sshd", [line, *BY_EXEC] if line is READS else [*BY_EXEC, line])
    cluster.n1.write("home/alice/.pam_environment", LOADED)
    try:
        assert cluster.ssh("alice").rc == 0
        listed = ["sh", "-c", "stat -c %U /run/loaded.* | sort -u"]
        wait_for("root's file", lambda: "root" in cluster.n1.run(listed, check=False).stdout)
    finally:
        cluster.n1.run(["sh", "-c", "rm -f /run/loaded.* /home/alice/.pam_environment"])
        cluster.cancel_all()


def test_a_user_s_process_is_no_sshd(cluster: Cluster) -> None:
    """Whatever it is called, and whatever it says of itself."""
    cluster.n1.pam("sshd", BOTH)
    cluster.n1.run(["sh", "-ec", "cp /bin/sleep /tmp/sshd; chmod 755 /tmp/sshd"])
    words = "exec -a 'sshd: /tmp/sshd -f /tmp/mine [listener] 0 of 1-1 startups' /tmp/sshd 60"
    squatter = cluster.n1.popen(["bash", "-c", words], "alice")
    try:
        argv = ["sh", "-c", "grep -aqs '^sshd: /tmp/sshd' /proc/[0-9]*/cmdline"]
        wait_for("the squatter", lambda: cluster.n1.run(argv, check=False).returncode == 0)
        said = findings(cluster.n1, "SA701", "SA710")
    finally:
        end(squatter)
        cluster.n1.run(["rm", "/tmp/sshd"])
    assert [(one["result"], one["where"]["file"]) for one in said] == [("ok", SETTINGS), ("ok", "")]


@pytest.mark.parametrize(
    ("stack", "code"), [(BOTH, "SA202"), (BY_EXEC, "SA209")], ids=["pam_python", "pam_exec"]
)
def test_the_trial_leaves_nothing(cluster: Cluster, stack: list[str], code: str) -> None:
    """No file, no mount, no line in the log."""
    cluster.n1.pam("sshd", stack)
    look = "mount; ls -A /etc/pam.d /tmp /run"
    before_it, mark = cluster.n1.run(["sh", "-c", look]).stdout, cluster.n1.mark()
    (said,) = findings(cluster.n1, code)
    assert said["result"] == "ok"
    assert cluster.n1.run(["sh", "-c", look]).stdout == before_it
    assert [line for line in cluster.n1.log(mark) if "reader-of-the-log" not in line] == []


def test_a_user_s_check(cluster: Cluster) -> None:
    """What only root can see is left out."""
    cluster.n1.pam("sshd", BOTH)
    said = findings(cluster.n1, user="alice")
    assert [one for one in said if one["result"] in ("warning", "error")] == []
    skipped = {one["code"] for one in said if one["result"] == "skipped"}
    assert skipped == {f"SA{n}" for n in (*range(202, 208), *range(701, 710))}


def test_by_the_command(cluster: Cluster) -> None:
    """It prints the same, among all others."""
    cluster.n1.pam("sshd", instead(LINE, OPTIONAL))
    found = cli.run_json(cluster.n1, "check")["findings"]
    said = [one for one in found if one["code"] == "SA105" and one["result"] == "error"]
    at = number(cluster.n1, Broken("", "", "", "", OPTIONAL))
    assert [one["where"] for one in said] == [{"file": SSHD, "line": at}]


def test_the_same_on_both_nodes(cluster: Cluster) -> None:
    cluster.pam(BOTH)
    titles = [[one["title"] for one in findings(node)] for node in cluster.nodes]
    assert titles[0] == titles[1]
