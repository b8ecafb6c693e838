"""Slurm's configuration, and what tells where it is."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from slurm_adopt.slurm.auth.munge import Munge
from slurm_adopt.slurm.auth.sack import Sack
from slurm_adopt.slurm.cgroup import paths, step_cgroup
from slurm_adopt.slurm.config import (
    aliases,
    conf,
    hostlist,
    node_lines,
    slurmd_ports,
    slurmd_processes,
)
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.slurmd.callerid import encrypted
from slurm_adopt.slurm.versions import RELEASES
from tests.fuzz.given import SPLIT, folder, instead, put
from tests.fuzz.target import target

UIDS = 1 << 32
FEW = 1000  # names that a host list may have here: most of the time would go into long ones
BLANKS = b" \t\r\v\f"
KEYS = (
    "NodeName=", "NodeHostname=", "NodeAddr=", "Port=", "PartitionName=", "SlurmdSpoolDir=",
    "SlurmdPort=", "SlurmUser=", "SlurmdUser=", "AuthType=", "AuthInfo=", "ClusterName=",
    "PrologFlags=", "ProctrackType=", "TaskPlugin=", "SelectTypeParameters=", "TLSType=",
    "JobAcctGatherType=", "MaxNodeCount=", "Include ", "DEFAULT", "Contain", "socket=", "ttl=",
    "disable_sack", "n[1-4,7]", "n1", "ctl", "localhost", "/var/spool/%n/%h", "a.conf", "root",
    "%c", "\\\n", "\\#", '"', "#", " ", "\t", "=", "\n",
)  # fmt: skip


@target(*KEYS, SPLIT, longest=4096)
def slurm_conf(data: bytes) -> None:
    """Whatever the file says, all that a login asks of it is answered in its range or refused.

    A file of plain `Key=Value` words, read naively byte by byte, says the same. What is included
    comes from the second part.
    """
    top = folder("slurm_conf")
    main, _, included = data.partition(SPLIT)
    path = put(f"{top}/slurm.conf", main)
    put(f"{top}/a.conf", included)
    try:
        found = conf.load(path)
    except SetupError:
        return
    _same_unread(path, found)
    plain = _plainly(main)
    if plain is not None:
        assert {key: os.fsencode(value) for key, value in found.values.items()} == plain
    for line in (found.values, *found.nodes):
        for value in line.values():
            assert _is_within(os.fsencode(value), main + included + main), value
    for uids in (found.uids("SlurmUser"), found.uids("SlurmdUser")):
        assert 0 in uids
        assert all(0 <= uid < UIDS for uid in uids), uids
    flags = found.get("PrologFlags").lower()
    assert not conf.contains(found) or any(word in flags for word in conf.CONTAIN)
    _asked(found)


def _same_unread(path: str, whole: conf.Conf) -> None:
    """See that a file is read the same where its NodeName lines wait until they are asked for."""
    with instead(conf, "_LARGE", 0), instead(node_lines, "_RUN", 1):
        first = conf.load(path, frozenset({"n1"}))
        with suppress(SetupError):
            named = conf.node_names(whole, "n1")
            assert conf.node_names(first, "n1") == named
        assert (first.values, first.nodes) == (whole.values, whole.nodes)
        unread = conf.load(path)
        assert (unread.values, unread.remarks) == (whole.values, whole.remarks)
        for name in ("n1", "n1.site", "N4", "localhost"):
            with suppress(SetupError):
                named = conf.node_names(whole, name)
                assert conf.node_names(unread, name) == named
        assert unread.nodes == whole.nodes


def _asked(found: conf.Conf) -> None:
    """Ask what a login asks; each question may be refused by itself."""
    with suppress(SetupError):
        for name, host in conf.node_names(found, "n1.site"):
            spool = conf.spool_directory(found, name, host)
            assert spool == found.get("SlurmdSpoolDir", conf.DEFAULT_SPOOL) or "%" in found.get(
                "SlurmdSpoolDir"
            )
            assert conf.has_node(found, name) or not found.nodes
    with suppress(SetupError):
        conf.dynamic(found, "n1.site")
        assert conf.as_configured(found, "N1")[0].lower() == "n1"
    with suppress(SetupError):
        ports = slurmd_ports.ports_at(found, "10.0.0.1", hosts="/nowhere")
        assert ports
        assert all(0 < port < 65536 for port in ports)
    assert all(0 < port < 65536 for port in slurmd_ports.all_ports(found))
    with suppress(SetupError):
        assert 0 < conf.slurmd_port(found) < 65536
    for release in RELEASES:
        encrypted(found, release.protocol)
    sack = Sack.from_conf(found)
    assert all(socket.startswith("/run/") and ".." not in socket for socket in sack.sockets)
    munge = Munge.from_auth_info(found.get("AuthInfo"))
    assert 0 <= munge.ttl < UIDS


def _is_within(value: bytes, letters: bytes) -> bool:
    """Say whether all bytes of a value come in this order, with others between them."""
    at = 0
    for byte in value:
        at = letters.find(bytes((byte,)), at) + 1
        if not at:
            return False
    return True


def _plainly(text: bytes) -> dict[str, bytes] | None:
    """Return what a file says that has nothing but plain words in its lines; None for another."""
    if any(byte in text for byte in b'\\"#') or not text:
        return None
    found = {}
    for line in text.split(b"\n"):
        for word in line.translate(bytes.maketrans(BLANKS, b" " * len(BLANKS))).split(b" "):
            if not word:
                continue
            key, equals, value = word.partition(b"=")
            name = key.lower().decode("utf-8", "surrogateescape").lower()
            if not (key and equals and value) or value[:1] == b"=":
                return None
            if name in ("include", "nodename", "partitionname"):
                return None
            found[name] = value
    return found


@target(
    "CgroupMountpoint=", "CgroupPlugin=", "cgroup/v1", "cgroup/v2", "autodetect", "disabled",
    "CgroupSlice=", "system.slice", "ConstrainCores=yes", "ConstrainRAMSpace=", "ConstrainDevices=",
    "ConstrainSwapSpace=", "yes", "no", "/sys/fs/cgroup", "#", "\\\n", '"', "\n", "=",
)  # fmt: skip
def cgroup_conf(data: bytes) -> None:
    """Whatever the file says, a layout of the mounted hierarchies comes of it, or a SetupError.

    The controllers are those that Slurm confines jobs by, and no others.
    """
    top = folder("cgroup_conf")
    put(f"{top}/cgroup.conf", data)
    os.makedirs(f"{top}/self", exist_ok=True)
    put(f"{top}/self/mountinfo", _MOUNTS)
    slurm = conf.Conf(f"{top}/slurm.conf")
    slurm.values.update(
        taskplugin="task/cgroup", selecttypeparameters="cr_memory", prologflags="contain"
    )
    try:
        found = conf.load_beside(slurm.path, "cgroup.conf")
        layout = step_cgroup.layout(slurm, found, "n1", top)
    except SetupError:
        return
    assert not paths.mountpoint(found).endswith("/")
    assert not paths.slice_of(found).startswith("/")
    if layout is None:
        assert found.get("CgroupPlugin").lower() == "disabled"
        return
    assert layout.controllers <= {"freezer", "cpuset", "memory", "devices", "cpuacct"}
    assert "freezer" in layout.controllers


_MOUNTS = b"""\
30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
31 24 0:27 / /sys/fs/cgroup/freezer rw shared:10 - cgroup cgroup rw,freezer
"""


@target("n[", "]", ",", "-", "[1-4,7]", "[01-10]", "n1", "00", "9", "65536", "[0-99999]")
def host_list(data: bytes) -> None:
    """An expanded list is bounded, has as many names as are counted, and contains each of them.

    Without brackets it is what stands between the commas.
    """
    text = data.decode("utf-8", "surrogateescape")
    try:
        with instead(hostlist, "LIMIT", FEW):
            names = hostlist.expand(text)
    except SetupError:
        return
    assert len(names) <= FEW
    assert sum(map(len, names)) <= FEW * 255, "too long together"
    assert hostlist.count(text) == len(names)
    if "[" not in text:
        assert names == text.split(",")
    for name in {*names[:3], *names[-3:], names[len(names) // 2]}:
        assert hostlist.contains(text, name), name
        assert hostlist.contains(text, name.upper(), fold=True) or not name.isascii(), name
    there = set(names)
    for name in ("", "n1", "n01", "n2", f"{names[0]}0", names[0][:-1], names[-1] + "x"):
        assert hostlist.contains(text, name) == (name in there), name


@target("127.0.1.1", "10.0.0.1", "::1", "fe80::1", " ", "\t", "#", "\n", "n1", "n1.site", "alias")
def hosts_file(data: bytes) -> None:
    """A line ends at its newline and a word at a blank of ASCII, as for the C library."""
    path = put(f"{folder('hosts_file')}/hosts", data)
    rows = [line.partition(b"#")[0].split() for line in data.split(b"\n")]
    mine = [row[1:] for row in rows if b"n1" in [word.lower() for word in row[1:]]]
    expected = [names[0] for names in mine] + [name for names in mine for name in names]
    given = [os.fsencode(name) for name in aliases.of_hosts("n1", path)]
    assert given == list(dict.fromkeys(expected))
    at = {name.lower() for row in rows if row[:1] == [b"10.0.0.1"] for name in row[1:]}
    assert {os.fsencode(name) for name in slurmd_ports.names_of("10.0.0.1", path)} == {
        os.fsencode(name.decode("utf-8", "surrogateescape").lower()) for name in at
    }


SHORT = b"bcCd:Df:F::GhL:Mn:N:svVZ"
LONG = {
    "authinfo": 1, "ca-cert-file": 1, "conf": 1, "conf-server": 1, "extra": 1, "instance-id": 1,
    "instance-type": 1, "parameters": 1, "version": 0, "help": 0,
}  # fmt: skip


@target(
    "-f", "-N", "-D", "-DvN", "-F", "-d", "-L", "-n", "--", "--conf-server", "--conf", "=", "\0",
    "n1", "/etc/slurm.conf", "--extra", "--version", "slurmd",
)  # fmt: skip
def slurmd_command_line(data: bytes) -> None:
    """The options of a slurmd are those that the C library's getopt_long finds."""
    text = data.decode("utf-8", "surrogateescape").split("\0")
    found = slurmd_processes.parse(text)
    known = {*LONG, *"dfLnN"}
    assert set(found) <= known
    one = slurmd_processes.Slurmd(7, found.get("f", ""), "-f", found)
    assert one.node == found.get("N", "")
    assert str(one)
    words = [os.fsencode(word) for word in text]
    long_ones = [
        word[2:].partition(b"=")[0].decode("latin-1") for word in words if word[:2] == b"--"
    ]
    if all(name in LONG or not name for name in long_ones) and len(words) < 64:
        expected = _getopt(words)
        assert {name: os.fsencode(value) for name, value in found.items()} == expected


class _Option(ctypes.Structure):
    """struct option of getopt_long(3)."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("has_arg", ctypes.c_int),
        ("flag", ctypes.c_void_p),
        ("val", ctypes.c_int),
    )


_LIBC = ctypes.CDLL(None)
_TABLE = (_Option * (len(LONG) + 1))(
    *(_Option(name.encode(), has, None, 256 + at) for at, (name, has) in enumerate(LONG.items())),
    _Option(None, 0, None, 0),
)


def _getopt(words: list[bytes]) -> dict[str, bytes]:
    """Return what getopt_long(3) finds, of options with a value the last; "" for a missing one."""
    given = (ctypes.c_char_p * (len(words) + 2))(b"slurmd", *words, None)
    ctypes.c_int.in_dll(_LIBC, "optind").value = 0
    ctypes.c_int.in_dll(_LIBC, "opterr").value = 0
    names = [*LONG]
    found: dict[str, bytes] = {}
    while True:
        code = _LIBC.getopt_long(len(words) + 1, given, SHORT, _TABLE, None)
        if code == -1:
            return found
        value = ctypes.c_char_p.in_dll(_LIBC, "optarg").value
        if code == ord("?"):
            missing = ctypes.c_int.in_dll(_LIBC, "optopt").value
            missing = missing if missing >= 0 else missing & 0xFF  # a char is signed
            name = names[missing - 256] if missing >= 256 else chr(missing)
            takes = name in "dfLnN" if len(name) == 1 else LONG.get(name)
            found.update({name: b""} if takes else {})
        elif code >= 256 and LONG[names[code - 256]]:
            found[names[code - 256]] = value or b""
        elif chr(code) in "dfLnN":
            found[chr(code)] = value or b""
