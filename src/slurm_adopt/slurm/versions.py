"""Slurm releases as data: what differs between them on the wire, one row each.

Sources: src/common/slurm_protocol_common.h (numbers), src/slurmd/slurmstepd/req.c (stepd),
src/common/slurm_protocol_pack.c and src/common/slurm_protocol_api.c (network). A new release is a
new row.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    Layout = tuple[tuple[str, int], ...]  # integers in order: name, bytes
    StepdFormats = tuple[int, str, Layout, str, str]
    RpcFormats = tuple[Layout, str, tuple[int, ...], frozenset[int], Layout, bool]

OLD_EXTERN: Final = 0xFFFFFFFF  # SLURM_EXTERN_CONT up to 20.02
EXTERN: Final = 0xFFFFFFFC  # since 20.11

# fmt: off
# How a stepd wants to be greeted: with a credential, or with a number (it knows us by SO_PEERCRED).
BY_CREDENTIAL, BY_NUMBER = "credential", "number"

# Answer to REQUEST_X11_DISPLAY; after it come `length` bytes of XAUTHORITY.
X11_17_11 = (("display", 4),)
X11_18_08 = (("display", 4), ("length", 4))

# Whose job id is in the names of the cgroups of a heterogeneous job's component.
OWN, LEADER = "own", "leader"

# How a stepd hands out the job's namespaces: not at all; the mount namespace alone, on
# REQUEST_GET_NS_FD (20.11.0 to 20.11.4 do not know it and hang up); all, on REQUEST_GET_NS_FDS.
NO_NS, MOUNT_NS_OR_HANGUP, MOUNT_NS, ALL_NS = "none", "mount or hangs up", "mount", "all"

# Header of a network message (pack_header); a simple one has no forwards, returns and origin.
_HEAD      = (("version", 2), ("flags", 2))
_INDEX     = (("index", 2),)
_REST      = (("type", 2), ("body_length", 4), ("forwards", 2), ("returns", 2))
HEADER_17_11 = (*_HEAD, *_INDEX, *_REST, ("origin_address", 4), ("origin_port", 2))  # 22 bytes
HEADER_20_11 = (*_HEAD, *_INDEX, *_REST, ("origin_family", 2))                       # 18 bytes
HEADER_22_05 = (*_HEAD,          *_REST, ("origin_family", 2))                       # 16 bytes

# How the auth section names its plugin: packed string and u32 plugin version, or u32 id.
BY_NAME, BY_ID = "name", "id"

# Payload of a credential: what it binds the credential to. The value is the payload's first byte
# (HASH_PLUGIN_* in slurm/slurm.h); EMPTY stands for no payload.
EMPTY, TYPE, K12, SHA3 = 0, 1, 2, 4
LOOSE  = frozenset({EMPTY, TYPE})  # 20.11.9 and 21.08.8 bind to the message type, older to nothing
BOUND  = frozenset({K12, SHA3})    # to type and body; SHA3 where HashPlugin=hash/sha3 (24.05+)

# Body of RESPONSE_NETWORK_CALLERID; after it comes the node name as a packed string.
ANSWER_17_11 = (("job_id", 4), ("return_code", 4))
ANSWER_25_11 = (("sluid", 8), ("job_id", 4), ("step_id", 4), ("step_het_comp", 4),
                ("return_code", 4))

# What TLSType=tls/s2n encrypts: 24.11 only what is between slurmctld and slurmdbd, 25.05 all RPCs.
CLEAR, TLS = False, True

# Formats by the release that they came with.
#              extern step  greeting       X11 answer  component's cgroups  namespaces
STEPD_17_11 = (OLD_EXTERN,  BY_CREDENTIAL, X11_17_11,  OWN,                 NO_NS)
STEPD_18_08 = (OLD_EXTERN,  BY_CREDENTIAL, X11_18_08,  OWN,                 NO_NS)
STEPD_19_05 = (OLD_EXTERN,  BY_NUMBER,     X11_18_08,  LEADER,              NO_NS)
STEPD_20_11 = (EXTERN,      BY_NUMBER,     X11_18_08,  OWN,                 MOUNT_NS_OR_HANGUP)
STEPD_21_08 = (EXTERN,      BY_NUMBER,     X11_18_08,  OWN,                 MOUNT_NS)
STEPD_25_11 = (EXTERN,      BY_NUMBER,     X11_18_08,  OWN,                 ALL_NS)

# A slurmd of 22.05 or 23.02 with block_zero_hash refuses the TYPE payload of protocols 36 and 37
# and takes K12 there; 20.11.9 and 21.08.8 refuse K12 (seen on all four).
#            header        plugin   payload of request  reply  answer        TLS
RPC_17_11 = (HEADER_17_11, BY_NAME, (TYPE,),            LOOSE, ANSWER_17_11, CLEAR)
RPC_19_05 = (HEADER_17_11, BY_ID,   (TYPE,),            LOOSE, ANSWER_17_11, CLEAR)
RPC_20_11 = (HEADER_20_11, BY_ID,   (TYPE, K12),        LOOSE, ANSWER_17_11, CLEAR)
RPC_22_05 = (HEADER_22_05, BY_ID,   (K12,),             BOUND, ANSWER_17_11, CLEAR)
RPC_25_05 = (HEADER_22_05, BY_ID,   (K12,),             BOUND, ANSWER_17_11, TLS)
RPC_25_11 = (HEADER_22_05, BY_ID,   (K12,),             BOUND, ANSWER_25_11, TLS)
# fmt: on


class Release:
    """One row of RELEASES."""

    __slots__ = (
        "answer",
        "extern_step",
        "greeting",
        "header",
        "het_cgroup",
        "name",
        "namespaces",
        "plugin",
        "protocol",
        "reply_payloads",
        "request_payloads",
        "tls",
        "x11",
    )

    def __init__(self, name: str, protocol: int, stepd: StepdFormats, rpc: RpcFormats) -> None:
        """Take one row.

        name              as `slurmctld -V` without the point release
        protocol          number on the wire

        What its stepds speak:
        extern_step       step id of the extern step
        greeting          BY_CREDENTIAL or BY_NUMBER
        x11               layout of the answer to REQUEST_X11_DISPLAY
        het_cgroup        OWN or LEADER
        namespaces        NO_NS, MOUNT_NS_OR_HANGUP, MOUNT_NS or ALL_NS

        What its slurmds speak:
        header            layout of the header
        plugin            BY_NAME or BY_ID
        request_payloads  what to put into a request's credential; the next after error 5003
        reply_payloads    what a reply's credential may hold
        answer            layout of the callerid answer
        tls               whether TLSType=tls/s2n encrypts what slurmd is asked
        """
        self.name = name
        self.protocol = protocol
        self.extern_step, self.greeting, self.x11, self.het_cgroup, self.namespaces = stepd
        (
            self.header,
            self.plugin,
            self.request_payloads,
            self.reply_payloads,
            self.answer,
            self.tls,
        ) = rpc


# fmt: off
RELEASES = (
    #        name    protocol  its stepds   its slurmds
    Release("17.11",  32 << 8, STEPD_17_11, RPC_17_11),
    Release("18.08",  33 << 8, STEPD_18_08, RPC_17_11),
    Release("19.05",  34 << 8, STEPD_19_05, RPC_19_05),
    Release("20.02",  35 << 8, STEPD_19_05, RPC_19_05),
    Release("20.11",  36 << 8, STEPD_20_11, RPC_20_11),
    Release("21.08",  37 << 8, STEPD_21_08, RPC_20_11),
    Release("22.05",  38 << 8, STEPD_21_08, RPC_22_05),
    Release("23.02",  39 << 8, STEPD_21_08, RPC_22_05),
    Release("23.11",  40 << 8, STEPD_21_08, RPC_22_05),
    Release("24.05",  41 << 8, STEPD_21_08, RPC_22_05),
    Release("24.11",  42 << 8, STEPD_21_08, RPC_22_05),
    Release("25.05",  43 << 8, STEPD_21_08, RPC_25_05),
    Release("25.11",  44 << 8, STEPD_25_11, RPC_25_11),
    Release("26.05",  45 << 8, STEPD_25_11, RPC_25_11),
    Release("26.11",  46 << 8, STEPD_25_11, RPC_25_11),  # by its source of August 2026
)
# fmt: on

# The number that a stepd is greeted with. It only checks that this is not below its minimum, so the
# one after the newest known release passes everywhere from 19.05 on.
GREETING = RELEASES[-1].protocol + (1 << 8)

AUTH_SLURM = 40 << 8  # 23.11: the first release that has auth/slurm

EXTERN_STEPS = frozenset(release.extern_step for release in RELEASES)

_BY_PROTOCOL = {release.protocol: release for release in RELEASES}

REACH = 3  # a daemon serves at most three releases older than itself (24.11 and later; before: two)


def release_of(protocol: int) -> Release | None:
    """Return the row of a protocol number; None for a release this table does not know."""
    return _BY_PROTOCOL.get(protocol)


def layout_of(protocol: int) -> Release | None:
    """Return the row whose formats a number uses: what is newer than the table is like its last.

    None for a number that is no Slurm release, or one older than the table.
    """
    newest = RELEASES[-1]
    if protocol > newest.protocol and not protocol % 256:
        return newest
    return _BY_PROTOCOL.get(protocol)


def to_try(protocol: int) -> list[Release]:
    """Return the releases to speak to a daemon that may be up to REACH releases away, best first.

    That of `protocol` (or the nearest below), the older ones in turn, then the newer ones: a daemon
    serves peers older than itself, never newer ones, so the older go first.
    """
    below = [release for release in RELEASES if release.protocol <= protocol]
    above = [release for release in RELEASES if release.protocol > protocol]
    return below[: -REACH - 2 : -1] + above[:REACH]
