"""slurm.conf and cgroup.conf: where they are, what they say; this node's name and spool.

Syntax after src/common/parse_config.c and slurm.conf(5): `Key=Value` pairs separated by blanks,
keys regardless of case, values in double quotes or bare, `#` starts a comment unless a backslash
stands before it, a backslash at the end of a line continues it, `Include FILE` reads another file,
the last of two values counts. No environment variable is read: SLURM_CONF is ignored.
"""

from __future__ import annotations

import os
import pwd

from slurm_adopt.slurm import files
from slurm_adopt.slurm.digits import id_of, number
from slurm_adopt.slurm.errors import SetupError

from . import hostlist

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from .node_lines import Block

    Pairs = dict[str, str]

FETCHED = "/run/slurm/conf/slurm.conf"  # a link to where a configless slurmd keeps its copy
PLACES = (  # in this order
    "/etc/slurm/slurm.conf",
    FETCHED,
    "/etc/slurm-llnl/slurm.conf",
    "/usr/local/etc/slurm.conf",
)
# PrologFlags that give a job its extern step: the one that says so, and those that include it
# (prolog_str2flags in src/common/read_config.c; RunInJob since 24.05).
CONTAIN = frozenset({"contain", "x11", "runinjob"})
DEFAULT_SPOOL = "/var/spool/slurmd"  # DEFAULT_SPOOLDIR, src/common/read_config.h
DEFAULT_PORT = "6818"  # SLURMD_PORT, src/common/read_config.h
INCLUDES = 1000  # files in one configuration
DEPTH = 32  # of files that include each other
FILE_LIMIT = 64 << 20  # bytes in one file
_FEW = 64  # NodeName lines that take little memory
_LARGE = 1 << 13  # bytes of a file whose NodeName lines are parsed when they are asked for

# Blanks are those of ASCII, as for the C library: others are letters of a name.
BLANKS = " \t\r\v\f"


class Conf:
    """One parsed configuration: `values` by lower-case key, and the NodeName lines in order.

    Where they are many there may be only those about some names, until others are asked for.
    """

    __slots__ = ("_about", "_nodes", "files", "path", "remarks", "values")

    def __init__(self, path: str) -> None:
        """Start empty; `path` is the file that is read."""
        self.path = path
        self.files: list[tuple[str, object]] = []  # and what each is known by
        self.values: dict[str, str] = {}
        self._nodes: list[Pairs | Block] = []
        self._about: frozenset[str] = frozenset()  # these names; none: all lines are here
        self.remarks: list[str] = []  # what was passed over

    @property
    def nodes(self) -> list[Pairs]:
        """All NodeName lines: parses them, and keeps that."""
        self._complete()
        lines = [line for part in self._nodes for line in _parsed(part)]
        self._nodes = [*lines]
        return lines

    def nodes_about(
        self, names: Collection[str], *, fold: bool = False, words: Collection[str] = ()
    ) -> Iterator[Pairs]:
        """Yield, in order, the NodeName lines that may name one of `names`.

        Others may be among them: the caller compares. `fold`: in any case. Lines with DEFAULT are
        always yielded. Of a block's other lines one is yielded for all. A block in which one of
        `words` stands, in lower case, is yielded whole.
        """
        if fold or words or not self._about.issuperset(names):
            self._complete()
        for part in self._nodes:
            if isinstance(part, dict) or any(map(part.has, words)):
                yield from _parsed(part)
                continue
            about = part.about(names, fold)
            for line in part.lines():
                first = _node_lines(line)
                if first and not is_default(first[0]):
                    if line not in about:
                        yield first[0]
                    break
            yield from (node for line in about for node in _node_lines(line))

    def add_node(self, line: Pairs | Block) -> None:
        """Take a NodeName line, or a block of them."""
        self._nodes.append(line)

    def add_nodes_about(self, names: frozenset[str], block: Block) -> None:
        """Take a block's lines that may be about some names, and leave out the others."""
        self._about = names
        self._nodes += [line for text in block.about(names, False) for line in _node_lines(text)]

    def _complete(self) -> None:
        """Read the lines that were left out: those that are there now; SetupError."""
        if self._about:
            self._nodes = load(self.path)._nodes  # noqa: SLF001 - of this class
            self._about = frozenset()

    def is_current(self) -> bool:
        """Say whether no file has changed since it was read."""
        return all(known and known == _known_by(path) for path, known in self.files)

    def is_light(self) -> bool:
        """Say whether there are few NodeName lines here, and no block of them."""
        few = len(self._nodes) <= _FEW
        return few and all(isinstance(node, dict) for node in self._nodes)

    def get(self, key: str, default: str = "") -> str:
        """Return the value of a key given in any case."""
        return self.values.get(key.lower(), default)

    def yes(self, key: str) -> bool:
        """Return whether a yes/no key says yes (src/common/parse_config.c: yes, up, true, 1)."""
        return self.get(key).lower() in ("yes", "up", "true", "1")

    def words(self, key: str) -> list[str]:
        """Return the comma list of a key, in lower case."""
        return [word.strip().lower() for word in self.get(key).split(",") if word.strip()]

    def uids(self, key: str) -> frozenset[int]:
        """Return root and the user that SlurmUser or SlurmdUser names; unknown ones are nobody."""
        user = self.get(key, "root").partition("(")[0]
        if user == "root":
            return frozenset({0})
        uid = id_of(user)
        try:
            return frozenset({0, pwd.getpwnam(user).pw_uid if uid is None else uid})
        except (KeyError, ValueError):  # ValueError: a name that this locale cannot spell
            return frozenset({0})


def usual() -> list[str]:
    """Return the usual places that have a slurm.conf; the first of them counts."""
    return [path for path in PLACES if _is_there(path)]


def _is_there(path: str) -> bool:
    """Say whether a file is there; what cannot be looked at is: reading it then says why.

    It may be on a file system that has gone, or SELinux may hide it. Taken for missing, it would
    give its place to a file that nobody reads any more, or to defaults.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _known_by(path: str) -> object:
    """Return what changes where a file does; None where it cannot be looked at."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    times = found.st_mtime_ns, found.st_ctime_ns
    return found.st_dev, found.st_ino, found.st_size, times


def load(path: str, about: frozenset[str] = frozenset()) -> Conf:
    """Read slurm.conf and what it includes; SetupError if that cannot be done.

    `about`: names of the node that is asked for first, or of its host. Where there are many
    others, their lines are not kept.
    """
    conf = Conf(path)
    _read(conf, path, (), about)
    return conf


def load_beside(slurm_conf: str, name: str) -> Conf:
    """Read another file from the directory of slurm.conf; a missing one is empty (all defaults)."""
    path = os.path.join(os.path.dirname(slurm_conf), name)
    if not _is_there(path):
        return Conf(path)
    return load(path)


def _read(conf: Conf, path: str, chain: tuple[str, ...], about: frozenset[str]) -> None:
    """Read a file; `chain`: the files that include it, outermost first."""
    conf.files.append((path, _known_by(path)))
    if path in chain:
        raise SetupError(f"{path} includes itself: " + " -> ".join((*chain, path)))
    if len(chain) > DEPTH:
        raise SetupError(f"{path}: Include is nested more than {DEPTH} files deep")
    if len(conf.files) > INCLUDES:
        raise SetupError(f"{path}: more than {INCLUDES} files are included; is it a loop?")
    for part in _parts(path, about):
        if isinstance(part, str):
            _take(conf, part, (*chain, path), about)
        elif about:
            conf.add_nodes_about(about, part)
        else:
            conf.add_node(part)


def _take(conf: Conf, text: str, chain: tuple[str, ...], about: frozenset[str]) -> None:
    """Take the lines of a text, and those of what it includes."""
    values = conf.values
    printed = text.replace("\n", " ").replace("\t", " ")
    plain = printed.isascii() and printed.isprintable() and '"' not in printed
    for line in _lines(text):
        key, equals, value = line.partition("=")
        if plain and key and equals and " " not in line and "\t" not in line:  # nearly all
            key = key.lower()
            if key == "nodename":
                conf.add_node({key: value})
            elif key != "partitionname":
                values[key] = value
        elif line[:7].lower() == "include" and line[7:8] in tuple(BLANKS):
            _include(conf, line[7:].lstrip(BLANKS), chain, about)
        else:
            pairs = _pairs(line)
            if "nodename" in pairs:
                conf.add_node(pairs)
            elif "partitionname" not in pairs:
                values.update(pairs)


def _parts(path: str, about: frozenset[str]) -> Iterator[str | Block]:
    """Yield a file in parts, in order: text, and where it is large blocks of NodeName lines."""
    large = False
    for data in files.texts(path, FILE_LIMIT) if about else (files.read(path, FILE_LIMIT),):
        if b"\0" in data:
            raise SetupError(f"{path} is not a text file: it has NUL bytes")
        if not large:
            if len(data) < _LARGE:
                yield data.decode("utf-8", "surrogateescape")
                continue
            from .node_lines import Block, pieces

            large = True
        for piece in pieces(data):
            if isinstance(piece, Block):
                yield piece
            elif piece.strip():
                yield piece.decode("utf-8", "surrogateescape")


def _parsed(part: Pairs | Block) -> list[Pairs]:
    return [part] if isinstance(part, dict) else _node_lines(part.text())


def _node_lines(text: str) -> list[Pairs]:
    """Parse the NodeName lines of a block."""
    return [line for line in map(_pairs, _lines(text)) if line]


def _lines(text: str) -> Iterable[str]:
    """Return logical lines without comments, blank ones left out.

    An odd number of backslashes at the end continues a line; then each stands for what follows it
    (_strip_continuation and _strip_escapes in src/common/parse_config.c).
    """
    if "\\" in text:
        return _joined(text)
    lines = text.split("\n")
    if "#" in text:
        lines = [line.partition("#")[0] for line in lines]
    return [line for line in [line.strip(BLANKS) for line in lines] if line]


def _joined(text: str) -> Iterator[str]:
    """Yield the lines of a text that has backslashes."""
    from .odd_lines import uncomment, unescape

    pending = ""
    for raw in text.split("\n"):
        stripped = uncomment(raw).rstrip(BLANKS)
        if stripped.endswith("\\") and (len(stripped) - len(stripped.rstrip("\\"))) % 2:
            pending += stripped[:-1]
            continue
        line, pending = pending + stripped, ""
        if line.strip(BLANKS):
            yield unescape(line).strip(BLANKS)
    if pending.strip(BLANKS):
        yield unescape(pending).strip(BLANKS)


def _pairs(line: str) -> Pairs:
    """Return the values of a line by lower-case key."""
    if "=" not in line:
        return {}
    words = line.replace("\t", " ")
    if words.isascii() and words.isprintable() and '"' not in words:
        pairs = [word.partition("=") for word in words.split(" ") if word]
        if all(key and value for key, _, value in pairs):
            return {key.lower(): value for key, _, value in pairs}
    from .odd_lines import pairs as found

    return {key.lower(): value for key, value in found(line)}


def _include(conf: Conf, name: str, chain: tuple[str, ...], about: frozenset[str]) -> None:
    """Read an included file; a pattern is passed over, as Slurm does (23.11)."""
    name = name.strip('"').replace("%c", conf.get("ClusterName").lower())
    if any(char in name for char in "*?["):
        conf.remarks.append(f"{chain[-1]}: Include {name}: patterns are not supported")
    else:
        _read(conf, os.path.join(os.path.dirname(conf.path), name), chain, about)


def contains(conf: Conf) -> str:
    """Return PrologFlags as slurm.conf has it if that gives jobs an extern step, "" if not."""
    return "" if CONTAIN.isdisjoint(conf.words("PrologFlags")) else conf.get("PrologFlags")


def slurmd_port(conf: Conf) -> int:
    """Return SlurmdPort, by default 6818; SetupError if it is no port."""
    return port_number(conf.get("SlurmdPort", DEFAULT_PORT), f"SlurmdPort in {conf.path}")


def port_number(text: str, what: str) -> int:
    """Return a port; SetupError that names `what` if it is none."""
    port = number(text)
    if port is None or not 0 < port < 65536:
        raise SetupError(f"{what} is {text[:40]}, which is not a port number")
    return port


# Node name and spool directory


def node_names(conf: Conf, hostname: str) -> list[tuple[str, str]]:
    """Return (NodeName, NodeHostname) of the nodes that the host with this name is.

    Order of src/common/stepd_api.c, _guess_nodename, without what asks the DNS or the environment:
    short host name, full host name, `localhost`; then, beyond Slurm, the same in any case. There
    are several where several slurmd run on a host; Slurm takes any of them, here they are in the
    order of the file. The host's aliases are left to named().
    """
    return named(conf, [hostname.partition(".")[0], hostname, "localhost"])


def named(conf: Conf, hosts: list[str]) -> list[tuple[str, str]]:
    """Return (NodeName, NodeHostname) of the nodes on the first of these hosts that has one."""
    for fold in (False, True):
        for host in dict.fromkeys(hosts):
            if found := _nodes_on(conf, host, fold):
                return found
    return []


def dynamic(conf: Conf, hostname: str) -> list[tuple[str, str]]:
    """Return what a node that no NodeName line has is called, where there may be such nodes."""
    short = hostname.partition(".")[0]
    return [(short, short)] if conf.get("MaxNodeCount", "0") != "0" else []


def _nodes_on(conf: Conf, hostname: str, fold: bool) -> list[tuple[str, str]]:
    """Return the nodes whose NodeHostname, by default NodeName, is `hostname`; `fold`: any case."""
    found = []
    for line in conf.nodes_about([hostname], fold=fold):
        names = line["nodename"]
        hosts = line.get("nodehostname", names)
        if is_default(line) or not hostlist.contains(hosts, hostname, fold):
            continue
        if "nodehostname" not in line and not fold:
            found.append((hostname, hostname))
            continue
        found += [
            (name, host)
            for name, host in parallel(names, hosts)
            if host == hostname or (fold and host.lower() == hostname.lower())
        ]
    return found


def is_default(line: dict[str, str]) -> bool:
    """Return whether a NodeName line is the one that sets defaults for those after it."""
    return line["nodename"].upper() == "DEFAULT"


def parallel(names: str, others: str) -> list[tuple[str, str]]:
    """Return each node name with its own of `others`; the last one is for all the rest."""
    nodes, expanded = hostlist.expand(names), hostlist.expand(others)
    return list(zip(nodes, expanded + expanded[-1:] * (len(nodes) - len(expanded))))


def has_node(conf: Conf, name: str) -> bool:
    """Return whether a NodeName line has a node, in any case; True where nodes may be dynamic."""
    lines = (line for line in conf.nodes_about([name], fold=True) if not is_default(line))
    found = any(hostlist.contains(line["nodename"], name, fold=True) for line in lines)
    return found or conf.get("MaxNodeCount", "0") != "0"


def as_configured(conf: Conf, name: str) -> tuple[str, str]:
    """Return a NodeName as slurm.conf writes it, and its NodeHostname for %h; itself if unknown."""
    for fold in (False, True):
        for line in conf.nodes_about([name], fold=fold):
            if is_default(line) or not hostlist.contains(line["nodename"], name, fold):
                continue
            hosts = line.get("nodehostname", line["nodename"])
            for node, host in parallel(line["nodename"], hosts):
                if node == name or (fold and node.lower() == name.lower()):
                    return node, host
    return name, name


def spool_directory(conf: Conf, name: str, hostname: str) -> str:
    """Return SlurmdSpoolDir with the first %h and then the first %n replaced (read_config.c)."""
    path = conf.get("SlurmdSpoolDir", DEFAULT_SPOOL)
    return path.replace("%h", hostname, 1).replace("%n", name, 1)
