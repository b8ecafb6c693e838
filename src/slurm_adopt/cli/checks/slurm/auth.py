"""Authentication: a credential made and checked here, by munge or by the sack of auth/slurm."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from slurm_adopt.cli import deadlines
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.slurm import auth
from slurm_adopt.slurm.auth.munge import Munge
from slurm_adopt.slurm.auth.sack import Sack
from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.waiting import Deadline

from . import slurm_facts
from .conf_lines import where
from .slurm_conf import open_to
from .slurm_facts import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.slurm.auth.credential import Auth

AUTH = "authentication"
SHORT = 5  # seconds: a credential that lives no longer makes small differences of clocks matter
PAYLOAD = b"slurm-adopt check"
MUNGE_KEY = "/etc/munge/munge.key"


def plugin(host: Host) -> Auth:
    """Return the auth plugin of slurm.conf; SetupError."""
    return auth.of(slurm_facts.conf(host))


@needs(slurm_facts.conf)
def supported(host: Host) -> Iterator[Seen]:
    """Whether AuthType is one that this module speaks."""
    conf = slurm_facts.conf(host)
    at = where(host, conf, "AuthType")
    try:
        yield ok(f"AuthType is {plugin(host).plugin_name}", "", *at)
    except SetupError as wrong:
        yield error("AuthType is not one that this module supports", str(wrong), *at)


def _of_kind(host: Host, kind: type[Munge | Sack]) -> tuple[Auth | None, str]:
    """Return the plugin if it is of this kind; else None and why not."""
    try:
        found = plugin(host)
    except SetupError as wrong:
        return None, str(wrong)
    if isinstance(found, kind):
        return found, ""
    return None, f"AuthType is {found.plugin_name}"


@needs(slurm_facts.conf)
def munge(host: Host) -> Iterator[Seen]:
    """Whether munge makes a credential, and accepts it."""
    yield from _tried(host, Munge, "munge", "munge")


@needs(slurm_facts.conf)
def sack(host: Host) -> Iterator[Seen]:
    """Whether the sack makes a token, and accepts it."""
    yield from _tried(host, Sack, "the sack", "the sack socket")


def _tried(host: Host, kind: type[Munge | Sack], who: str, what: str) -> Iterator[Seen]:
    """Try the plugin if it is of this kind; `what` is not used if it is not."""
    found, why = _of_kind(host, kind)
    if found is None:
        yield skipped(f"{what} is not used by this configuration", why)
    else:
        yield from _round_trip(host, found, who)


def _round_trip(host: Host, found: Auth, who: str) -> Iterator[Seen]:
    """Have a credential of our own made and checked."""
    at = where(host, slurm_facts.conf(host), "AuthInfo")
    deadline = Deadline(deadlines.AT_ONCE if host.quick else deadlines.CREDENTIAL)
    try:
        text = found.encode(PAYLOAD, deadline)
    except PeerError as wrong:
        yield error(f"{who} makes no credential", str(wrong), *at)
        return
    try:
        credential = found.decode(text, deadline)
    except PeerError as wrong:
        yield error(f"{who} does not accept its own credential", str(wrong), *at)
        return
    if (credential.uid, credential.payload) != (os.geteuid(), PAYLOAD):
        yield error(f"{who} reads another credential than it has made",
                    f"uid {credential.uid}, not {os.geteuid()}", *at)  # fmt: skip
        return
    yield ok(f"{who} makes credentials and accepts them")


@needs(slurm_facts.conf)
def munge_socket(host: Host) -> Iterator[Seen]:
    """Whether anybody could listen in munged's place."""
    found, why = _of_kind(host, Munge)
    if not isinstance(found, Munge):
        yield skipped("munge is not used by this configuration", why)
        return
    try:
        owner = os.stat(found.socket).st_uid
    except OSError as wrong:
        yield skipped("munge has no socket to look at", f"{found.socket}: {wrong.strerror}")
        return
    directory = os.path.realpath(os.path.dirname(found.socket))
    if why := open_to(directory, frozenset({0, owner})):
        yield error("others than munged may write where its socket is", why, found.socket)
    else:
        yield ok("nobody but munged and root can make a socket in the place of munged's")


@needs(slurm_facts.conf)
def keys(host: Host) -> Iterator[Seen]:
    """Whether the key that vouches for everybody is secret."""
    if not host.is_root:
        yield skipped("the keys of Slurm and munge are shown to root only")
        return
    beside = os.path.dirname(slurm_facts.conf(host).path)
    places = [MUNGE_KEY, *(f"{beside}/{name}" for name in ("slurm.key", "slurm.jwks"))]
    there = [path for path in places if os.path.exists(path)]
    bad = False
    for path in there:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & 0o077:
            bad = True
            yield error("a key that credentials are made with can be read by others",
                        f"{path} has mode {mode:04o}", path)  # fmt: skip
    if there and not bad:
        yield ok("the keys that credentials are made with are secret", ", ".join(there))
    if not there:
        yield skipped("no key lies in a usual place")


@needs(slurm_facts.conf)
def lifetime(host: Host) -> Iterator[Seen]:
    """Whether credentials live long enough for clocks that differ a little."""
    conf = slurm_facts.conf(host)
    at = where(host, conf, "AuthInfo")
    words = dict(word.strip().partition("=")[::2] for word in conf.get("AuthInfo").split(","))
    ttl = words.get("ttl", "")
    if ttl and not (ttl.isascii() and ttl.isdecimal()):
        yield warning("ttl of AuthInfo is not a number of seconds", ttl, *at)
    elif ttl and 0 < int(ttl[:9]) < SHORT:
        yield warning(f"credentials live less than {SHORT} s: clocks must not differ by that",
                      f"AuthInfo=ttl={ttl}", *at)  # fmt: skip
    elif ttl not in ("", "0"):
        yield ok(f"credentials live {ttl} s", "", *at)
    else:
        yield ok("credentials have the lifetime that is the default", "", *at)


CHECKS = (
    Check(
        "SA601",
        AUTH,
        "AuthType",
        supported,
        expected="AuthType is auth/munge, which is the default, or auth/slurm.",
        why="With another plugin no slurmd can be asked by callerid.",
        fix="Set the option callerid=0, and choose a value for action_unknown.",
    ),
    Check(
        "SA602",
        AUTH,
        "munge",
        munge,
        expected="munge makes a credential for this process, and accepts it.",
        why="Without munge no slurmd can be asked by callerid. Slurm itself does not work, either.",
        fix="Start munge (systemctl start munge), and compare munge.key and the clock with those "
        "of other hosts.",
        seconds=2 * deadlines.CREDENTIAL,
    ),
    Check(
        "SA603",
        AUTH,
        "sack socket",
        sack,
        expected="The sack makes a token for this process, and accepts it.",
        why="Without it no slurmd can be asked by callerid.",
        fix="Start slurmd, or sackd on a host without slurmd. Remove disable_sack from AuthInfo.",
        seconds=2 * deadlines.CREDENTIAL,
    ),
    Check(
        "SA604",
        AUTH,
        "place of munge's socket",
        munge_socket,
        expected="The directory of munge's socket, and those above, belong to root or munge, and "
        "nobody else may write to them.",
        why="Whoever listens in munged's place can vouch for anybody.",
        fix="Run chown and chmod go-w on what is named, and restart munge.",
    ),
    Check(
        "SA605",
        AUTH,
        "keys",
        keys,
        expected="munge.key, slurm.key and slurm.jwks can be read by their owners alone.",
        why="Who has the key can be anybody on the cluster, root included.",
        fix="Run chmod 600 on what is named. If a user may have read it, make a new key for all "
        "hosts.",
    ),
    Check(
        "SA606",
        AUTH,
        "lifetime of credentials",
        lifetime,
        expected="AuthInfo has no ttl, or one of at least 5 s.",
        why="A credential that is older than its lifetime is refused. Clocks of two hosts differ.",
        fix="Remove ttl from AuthInfo in slurm.conf, or raise it.",
    ),
)
