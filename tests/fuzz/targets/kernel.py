"""What the kernel says in /proc and /sys, and names of files that others may make."""

from __future__ import annotations

import os
import re
import socket
import struct
from contextlib import suppress

from slurm_adopt import epilog
from slurm_adopt.decision.variables import VARIABLES
from slurm_adopt.node import listening, login_slot, own_address, session_process, ssh_connection
from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.session import environment, job_process, limits, runtime_dir
from slurm_adopt.session.job_process import JobProcess
from slurm_adopt.slurm import proc
from slurm_adopt.slurm.cgroup import cpuset, hierarchy, job_cgroup, paths
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.stepd import pulse, step_sockets
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes.log import Lines
from tests.fuzz.given import SPLIT, folder, instead, process, put
from tests.fuzz.target import target

INODES = (111, 222, 333)  # of process 7's sockets
JOBS = 1 << 32
UIDS = 1 << 32
LONG = 60.0  # seconds

_ROW = re.compile(rb"[0-9A-Fa-f]{8}(?:[0-9A-Fa-f]{24})?:[0-9A-Fa-f]{4}")


@target(
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n",
    "   0: 0100007F:1A85 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 ",
    "111 1 0000000000000000 100 0 0 10 0\n", "0100007F:0016", "01", "0A", "06", "07", "02", " 111 ",
    " 222 ", " 333 ", "00000000000000000000000001000000:0016", "0000000000000000FFFF00000100007F",
    "\n", ":", " ", SPLIT, longest=4096,
)  # fmt: skip
def tcp_table(data: bytes) -> None:
    """No connection is found that a row of the table does not have, and of whole rows none is lost.

    The first part is /proc/PID/net/tcp, the second tcp6. The rows are read by an independent rule.
    """
    tcp, _, tcp6 = data.partition(SPLIT)
    top = process("tcp_table", net_tcp=tcp, net_tcp6=tcp6)
    os.makedirs(f"{top}/7/fd", exist_ok=True)
    for at, inode in enumerate(INODES):
        with suppress(FileExistsError):
            os.symlink(f"socket:[{inode}]", f"{top}/7/fd/{at}")
    rows = [row for line in (tcp + b"\n" + tcp6).split(b"\n") if (row := _row(line))]
    there: dict[int, set[Connection]] = {}
    for inode, connection in rows:
        there.setdefault(inode, set()).add(connection)
    found = ssh_connection.connections_of(7, top, Deadline(LONG))
    assert {*found} <= {one for inode in INODES for one in there.get(inode, ())}
    assert len(found) == len(there.keys() & {*INODES}), (found, there)
    assert len(ssh_connection.connections_of(7, top)) == len(found)
    for connection in found:
        socket.inet_pton(connection.family, connection.source)
        assert 0 < connection.source_port < 65536
        assert 0 <= connection.destination_port < 65536
    _listening(top, tcp, tcp6)


def _listening(top: str, *tables: bytes) -> None:
    """Look at the sockets that listen: the ports are those of rows in this state, and of root's."""
    any_socket = Connection("10.0.0.1", 50000, "10.0.0.2", 22)
    ports = {0x1A85: None, 22: None}
    os.makedirs(f"{top}/self", exist_ok=True)
    with suppress(FileExistsError):
        os.symlink("../7/net", f"{top}/self/net")
    places = own_address.places(any_socket, [*ports], {0}, Deadline(LONG), top)
    text = b"\n".join(tables).upper()
    for address, port in places:
        assert b":%04X" % port in text, (address, port)
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    listening._looked_up(7, {*INODES}, top)


def _row(line: bytes) -> tuple[int, Connection] | None:
    """Return what a row of the table says, read without the code that is looked at."""
    words = line.split()
    if len(words) < 11 or not re.fullmatch(rb"[0-9]{1,20}", words[9]):
        return None
    if not (_ROW.fullmatch(words[1]) and _ROW.fullmatch(words[2])) or words[3] in (b"02", b"07"):
        return None
    here, there = _address(words[1]), _address(words[2])
    if (":" in here[0]) != (":" in there[0]) or not there[1]:
        return None
    return int(words[9]), Connection(*there, *here)


def _address(text: bytes) -> tuple[str, int]:
    digits, _, port = text.partition(b":")
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if len(packed) == 16 and packed.startswith(b"\0" * 10 + b"\xff\xff"):
        packed = packed[12:]
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed), int(port, 16)


@target(
    "0::/system.slice/slurmstepd.scope/job_7/step_extern/user/task_0", "0::", "\n", ":", "/",
    "5:freezer:/slurm/uid_1000/job_7/step_extern", "slurm_n1", "uid_", "job_", "step_extern",
    "step_batch", "/user/", "/slurm", "task_special", "name=systemd", "cpu,cpuacct", "..",
    "sABCDEFGHIJKLM", "007", "4294967295", "4294967296",
)  # fmt: skip
def proc_cgroup(data: bytes) -> None:
    """A path that is taken for a step's composes to itself, and its job and user are in range.

    The cgroups are those of the lines, by the last line of each controller.
    """
    top = process("proc_cgroup", cgroup=data)
    found = hierarchy.of_process(7, top)
    lines = data.decode("utf-8", "surrogateescape").rstrip("\n").split("\n")
    assert len(found) <= sum(line.count(",") + 1 for line in lines)
    for controller, path in found.items():
        assert any(
            line.endswith(f":{path}") and controller in line.split(":")[1].split(",")
            for line in lines
            if line.count(":") > 1 or (not path and ":" in line)
        ), (controller, path)
        for place in (paths.parse_v1(path), paths.parse_v2(path), paths.parse_stepd(path)):
            if place is not None:
                _check_place(path, place)
        if step := paths.any_step(path):
            assert path.startswith(f"{step[0]}/{step[1]}")


def _check_place(path: str, place: paths.Place) -> None:
    assert place.step == f"{place.job}/{paths.EXTERN}"
    assert path == place.step + (f"/{place.below}" if place.below else path[len(place.step) :])
    assert path[len(place.step) :] in ("", "/", f"/{place.below}")
    if place.job_id is not None:
        assert 0 <= place.job_id < JOBS, place.job_id
        assert place.job.rpartition("/")[2] == f"job_{place.job_id}"
        assert place.may_be_of(place.job_id)
    if place.uid is not None and place.job_id is not None and place.top is not None:
        assert 0 <= place.uid < UIDS, place.uid
        again = paths.v1_step(place.above, place.top, place.uid, place.job_id)
        assert again == place.step, again


@target(
    "7 (sshd) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2", "(", ")", " R ", " T ",
    "7 (a) b) S", "-1", "0", "18446744073709551615", "\n", longest=8192,
)  # fmt: skip
def proc_stat(data: bytes) -> None:
    """The start of a process is the 22nd field, counted from behind its name, or 0."""
    top = process("proc_stat", stat=data, task_7_stat=data)
    behind = data[data.rfind(b")") + 1 :].split() if b")" in data else data.split()
    started = proc.start_time(7, top)
    plain = behind[19] if len(behind) > 19 else b""
    number = int(plain) if re.fullmatch(rb"[0-9]{1,20}", plain) else 0
    assert started == number, started
    one = pulse.Pulse(7, top)
    assert isinstance(one.runs, bool)
    one.felt()
    assert one._used >= -1 or b"-" in data


@target(
    "Name:\tsshd\nUmask:\t0022\nState:\tS (sleeping)\nPPid:\t1\n", "\nUid:\t0\t0\t0\t0\n",
    "\nUid:\t1000\t1000\t1000\t1000\n", "PPid:\t", "flags:\t0100002\n", "pos:\t0\n", "\t", "\n",
    "0", longest=8192,
)  # fmt: skip
def proc_status(data: bytes) -> None:
    """A process is root's only if the first line with its uids says so four times."""
    top = process("proc_status", status=data, fdinfo_3=data)
    process_ = f"{top}/7"
    first = next((line for line in (b"\n" + data).split(b"\n")[2:] if line[:4] == b"Uid:"), b"")
    assert proc.is_root(process_) == (first[4:].split() == [b"0"] * 4)
    assert proc.is_of(process_, 1000) == (first[4:].split() == [b"1000"] * 4)
    parent = proc.parent_of(7, top)
    assert parent == 0 or re.search(rb"PPid[^\n]*:[^\n]*%d" % parent, data), parent
    mode = login_slot._mode(top, 7, 3)
    assert mode in (-1, os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_ACCMODE)
    session_process.session_process(7, top)


@target(
    *(f"{name}=" for name in VARIABLES), "\0", "=", "7", "n[1-4]", "4", "2(x4)", "16(x2),8", "(x",
    ")", ",", "/home/u", "$(id)", "`", "\n", "a", "all", longest=4096,
)  # fmt: skip
def proc_environ(data: bytes) -> None:
    """A variable is handed over only in plain ASCII, as the process has it first, groups whole."""
    seen = job_process._split(data)
    for entry in data.split(b"\0"):
        key, equals, _ = entry.partition(b"=")
        assert not equals or seen[key] == _getenv(data, key)
    shown = JobProcess(7, seen, b"")
    own = {"SLURM_JOB_ID": "7", "SLURM_JOBID": "7", "SLURMD_NODENAME": "n1"}
    given = f"all,{','.join(VARIABLES)}"
    log = Lines()
    found = environment.variables(given, own, job_cgroup.JobCgroups({}, {}), shown, log)  # type: ignore[arg-type]
    for name, value in found.items():
        assert name in VARIABLES
        assert re.fullmatch(r"[A-Za-z0-9_ .,:=+@%/#()\[\]-]{1,8192}", value), (name, value)
        assert value in (own.get(name), _getenv(data, name.encode()).decode("ascii", "replace"))
    assert sum(name.startswith("SLURM_MEM_PER_") for name in found) <= 1
    group = {"SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES", "SLURM_JOB_CPUS_PER_NODE"}
    assert len(group & found.keys()) in (0, 3)
    if group <= found.keys():
        assert _getenv(data, b"SLURM_JOB_ID") == b"7"
    with suppress(SetupError):
        text = {key.decode("latin-1"): said.decode("latin-1") for key, said in seen.items()}
        job = epilog.Job(text)
        assert 0 <= job.uid < UIDS
        assert 0 <= job.job_id < JOBS


def _getenv(data: bytes, name: bytes) -> bytes:
    """Return what getenv(3) would: of several the first."""
    for entry in data.split(b"\0"):
        if entry.startswith(name + b"="):
            return entry[len(name) + 1 :]
    return b""


@target(
    "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
    "31 24 0:27 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n", " - ", "cgroup2",
    "cgroup", "rw,cpu,cpuacct", "\\040", "\\011", "\\012", "\\134", "\\043", "\\134040",
    "/sys/fs/cgroup", " / ", "\n",
)  # fmt: skip
def mountinfo(data: bytes) -> None:
    """A hierarchy is found only in a line of its kind, at the place that the line names.

    The kernel's octal escapes are undone once, all of them. `rw` is no controller's name.
    """
    top = folder("mountinfo")
    os.makedirs(f"{top}/self", exist_ok=True)
    put(f"{top}/self/mountinfo", data)
    found = hierarchy.mounted("/sys/fs/cgroup", top)
    there: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for line in data.split(b"\n"):
        fields = line.split(b" ")
        at = fields.index(b"-") if b"-" in fields else len(fields)
        if 4 < at < len(fields) - 3 and fields[at + 1] in (b"cgroup", b"cgroup2"):
            names = [b""] if fields[at + 1] == b"cgroup2" else fields[at + 3].split(b",")
            for name in names:
                if name == b"rw":
                    continue
                there.setdefault(name, []).append(
                    (_unescaped(fields[4]), _unescaped(fields[3]) or b"/")
                )
    assert {os.fsencode(name) for name in found} == there.keys()
    for controller, mount in found.items():
        seen = os.fsencode(mount.point), os.fsencode(mount.root or "/")
        assert seen in there[os.fsencode(controller)], (controller, seen)
        assert mount.directory(mount.root + "/job_7") == f"{mount.point}/job_7"


def _unescaped(field: bytes) -> bytes:
    return re.sub(rb"\\([01][0-7]{2})", lambda found: bytes((int(found[1], 8),)), field)


@target(
    "Limit                     Soft Limit           Hard Limit           Units     \n",
    *(f"{name:26}" for name in limits.LIMITS), "unlimited", "1024", " ", "\n",
    "9223372036854775807", "18446744073709551615", longest=8192,
)  # fmt: skip
def proc_limits(data: bytes) -> None:
    """No limit is ever above the hard limit that the process had, or a soft one above its hard."""
    for text, (_, least) in limits.LIMITS.items():
        row = limits._row(data, text)
        if row is None:
            continue
        assert text.encode() in data
        assert all(0 <= value <= limits.UNLIMITED for value in row)
        for had in ((256, 1024), (1024, limits.UNLIMITED), (0, 0)):
            soft, hard = limits._between(row, least, had)
            assert 0 <= soft <= hard <= had[1]
            assert hard >= min(least, had[1])


@target("\0", "7", "\n", "=", "SLURM_JOB_ID=7", "Limit", "\xc3\xa4", longest=512)
def packed_process(data: bytes) -> None:
    """What the child that looks at a user's process sends is what its parent reads.

    The parts are its remarks, its limits, and its environment.
    """
    remarks, shown, variables = [*data.split(SPLIT, 2), b"", b""][:3]
    search = job_process.Search.__new__(job_process.Search)
    search._remarks = [remarks.decode("utf-8", "replace").replace("\0", "")]
    seen = JobProcess(42, job_process._split(variables), shown.replace(b"\0", b""))
    lines, found = job_process._unpacked(search._packed(seen))
    assert found is not None
    assert (found.pid, found.environment, found.limits) == (42, seen.environment, seen.limits)
    assert all(line.isascii() for line in lines)
    assert job_process._unpacked(search._packed(None))[1] is None


@target("0-3,8", "0-65535,", ",", "-", "0", "4294967295", "18446744073709551615", longest=4096)
def cpu_list(data: bytes) -> None:
    """A list of CPUs gives the numbers that it names, at most as many as a kernel may have."""
    text = data.decode("ascii", "replace").strip()
    found = cpuset.parse(text)
    assert len(found) <= cpuset.LARGEST
    assert max(found, default=0) < cpuset.LARGEST
    for cpu in sorted(found)[:50]:
        assert any(_names(part, cpu) for part in text.split(",")), cpu


def _names(part: str, cpu: int) -> bool:
    ends = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
    return ends is not None and int(ends[1]) <= cpu <= int(ends[2] or ends[1])


@target(
    "n1_7.4294967292", "n1_7.0", "n1_7.4294967295", "n1_7.4294967291.1", "n1_", ".", "_", "\0", "7",
    "n1_1000_7", ".n1_1000_7.42",
)  # fmt: skip
def names_in_directories(data: bytes) -> None:
    """A name in the spool directory is a step's only if it is the node's, a job's and a step's.

    So is a name of a job's runtime directory, which is composed to itself.
    """
    names = [name for name in data.decode("utf-8", "surrogateescape").split("\0") if name]
    names = [name.replace("/", "_")[:255] for name in names]
    with instead(step_sockets, "_listing", lambda _: names):
        found = step_sockets.steps("/spool", "n1")
        extern = step_sockets.extern_steps("/spool", "n1")
        lone = step_sockets.lone_steps("/spool", "n1")
        beside = step_sockets.job_steps("/spool", "n1", 7)
        nodes = step_sockets.node_names("/spool")
    for one in found:
        name = os.path.basename(one.path)
        assert re.fullmatch(r"n1_[0-9]+(\.[0-9]+)+", name), name
        assert int(name[3:].partition(".")[0]) == one.job_id
    ended = re.compile(r"n1_0*[0-9]+\.0*(4294967292|4294967295)")
    assert all(ended.fullmatch(os.path.basename(one.path)) for one in extern)
    assert {one.path for one in lone} <= {one.path for one in found}
    assert all(one.job_id == 7 for one in beside)
    assert all(any(name.startswith(f"{node}_") for name in names) for node in nodes)
    for name in names:
        whose = runtime_dir._whose(name)
        if whose and not name.startswith("."):
            assert 0 <= whose[1] < UIDS, whose
            assert 0 <= whose[2] < JOBS, whose
            assert runtime_dir._name(*whose) == name
