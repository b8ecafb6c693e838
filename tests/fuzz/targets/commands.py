"""What the commands of slurm-adopt read: files of sshd, systemd and Slurm, and names of nodes."""

from __future__ import annotations

import re

from slurm_adopt.cli.checks import places
from slurm_adopt.cli.checks.machine import log_path, run_dir
from slurm_adopt.cli.checks.slurm import conf_lines, epilog, host_lists
from slurm_adopt.cli.checks.sshd import configured, sshd_process, sshd_settings
from slurm_adopt.cli.install import slurm_lines
from slurm_adopt.cli.install.pam_text import PamText
from slurm_adopt.decision.options import BY_NAME
from slurm_adopt.slurm.config import conf, hostlist
from slurm_adopt.slurm.errors import SetupError
from tests.fuzz.given import folder, put
from tests.fuzz.target import target

KINDS = ("nodename", "partitionname", "downnodes", "nodeset", "frontendname", "switchname")


@target(
    "ClusterName=a", "SlurmUser=", "Epilog=", "NodeName=", "PartitionName=", "DownNodes=", '"', "#",
    "\\\n", " ", "\t", "=", "\n", "/etc/slurm/epilog.sh", "\xc2\xa0", longest=2048,
)  # fmt: skip
def lines_of_slurm_conf(data: bytes) -> None:
    """The line that a check names for a key has the value that a login goes by.

    Escapes and lines of other kinds are left out: those are told apart by their first key.
    """
    path = put(f"{folder('lines_of_slurm_conf')}/slurm.conf", data)
    try:
        found = conf.load(path)
    except SetupError:
        return
    lines = list(conf_lines._Reader(found).read(path, 0))
    for line in lines:
        assert 1 <= line.number <= data.count(b"\n") + 1
    lower = data.lower()
    if b"\\" in data or any(kind.encode() in lower for kind in (*KINDS, "include")):
        return
    said = {line.key: line.value for line in lines}
    assert said == found.values, (said, found.values)


@target(
    "n1", "n2", "n10", "n007", "node", "-", ".", ",", "1", "01", "\xd9\xa7", "9" * 20, longest=512
)
def folded_names(data: bytes) -> None:
    """Names that are folded to a host list are the same names when it is expanded.

    So they are told apart by the lists of a saved report.
    """
    text = data.decode("utf-8", "surrogateescape")
    names = [name for name in text.split(",") if name and not {*"[]"} & {*name}]
    folded = host_lists.folded(names)
    try:
        again = hostlist.expand(folded) if folded else []
    except SetupError:
        assert any(len(name) > hostlist.LONGEST for name in names), folded
        return
    assert sorted(again) == sorted({*names}), folded


@target(
    "Port 22", "UsePAM yes", "PAMServiceName sshd", "Match all", "Match User u", "Include", "=",
    "#", "MaxStartups 10:30:100", "LoginGraceTime 2m", "\n", " ", "1w2d", "9999999999h", "-f",
    "-o", "-D", "sshd_config", longest=1024,
)  # fmt: skip
def sshd_config(data: bytes) -> None:
    """A setting is found in a line that has its name; times are sums of their parts."""
    path = put(f"{folder('sshd_config')}/sshd_config", data.replace(b"nclude", b"ncluded"))
    text = data.decode("utf-8", "replace")
    rows = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for name in ("Port", "UsePAM", "MaxStartups"):
        file, number = sshd_settings.place(path, name, "10:30:100")
        assert file == path
        assert 0 <= number <= len(rows)
        assert not number or name.lower() in rows[number - 1].lower()
    options = sshd_settings._options(text.split("\n"))
    assert len(options) % 2 == 0
    assert {*options[::2]} <= {*sshd_settings.GIVEN}
    seconds = configured._seconds(text[:64])
    assert seconds >= 0
    plain = re.fullmatch(r"([0-9]{1,18})m", text)
    assert plain is None or seconds == 60 * int(plain[1])


@target(
    "d /run/slurm_adopt 0711 root root 10d", "x /run/slurm_adopt", "D! /run", "e /run/* - - - 1d",
    "[Journal]", "[Service]", "Storage=none", "MaxLevelStore=err", "RateLimitBurst=5", "debug",
    "\n", "Max open files            1024                 524288               files     \n", "=",
    ";", "[", "]", longest=1024,
)  # fmt: skip
def files_of_systemd(data: bytes) -> None:
    """A setting is one of its section, by its last line; a line that cleans names our directory."""
    path = put(f"{folder('files_of_systemd')}/journald.conf", data)
    found = places.settings([path], "Journal")
    for key, (value, file, number) in found.items():
        assert file == path
        line = data.split(b"\n")[number - 1].decode("utf-8", "replace")
        assert key in line
        assert value in line
        assert b"[" in data
    text = data.decode("utf-8", "replace")
    for line in text.split("\n"):
        assert (
            not run_dir.cleaned(line) or "run" in line or "*" in line or "?" in line or "[" in line
        )
        run_dir.is_spared(line)
        assert log_path.severity(line) >= 0
    limit = sshd_process.soft_limit(text, "Max open files")
    assert limit is None or str(limit) in text


@target(
    "#!/bin/sh\n", "exit 0\n", "cd /opt/slurm_adopt/src && ", "python3 -sBEm slurm_adopt.epilog\n",
    "for folder in /opt/slurm_adopt /usr/lib; do", "exec ", ">", "2>&1", "#", "'", '"', "\\", "\n",
    longest=1024,
)  # fmt: skip
def epilog_script(data: bytes) -> None:
    """A script runs our program only in a line that names it, and no comment does."""
    path = put(f"{folder('epilog_script')}/epilog", data)
    runs = list(epilog._runs(path))
    rows = data.decode("utf-8", "replace").split("\n")
    for number in runs:
        row = rows[number - 1]
        assert any(name in row for name in epilog.PROGRAMS) or path in row
        assert not row.lstrip().startswith("#")
        end = epilog.unreached("\n".join(rows), number)
        assert 0 <= end < number
        assert not end or "e" in rows[end - 1]
    missing = epilog.missing_folder("\n".join(rows), path)
    assert not missing or missing in "\n".join(rows)


@target(
    "account required pam_slurm_adopt.so ", "account required pam_slurm.so\n",
    "action_unknown=newest", "ignore_root=0", "ignore_root=1", "service=sshd", "log_level=debug5",
    "disable_x11=1", "use_first_job", "-account ", "\\\n", "#", "\n", " ", longest=1024,
)  # fmt: skip
def options_of_slurm_s_module(data: bytes) -> None:
    """What is taken over is an option of ours with one of its values, never ignore_root=0."""
    for entry in PamText(data).entries:
        if not slurm_lines.is_slurm_s(entry):
            continue
        taken = slurm_lines.take_over(entry, "sshd")
        assert {*taken.options} <= {*BY_NAME}
        assert taken.options.get("ignore_root", "1") == "1"
        assert taken.options.get("service", "sshd") in ("sshd", "*")
        for name, value in taken.options.items():
            values = BY_NAME[name].values
            assert not isinstance(values, tuple) or value in values
        assert len(taken.options) + len(taken.notes) >= min(1, len(entry.arguments)) or (
            entry.kind != "account"
        )
