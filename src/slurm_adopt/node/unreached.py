"""Where nothing took a connection to slurmd a moment ago: for a minute nobody waits there again.

A firewall that drops packets keeps each login of a user with several jobs waiting. So a login that
has waited for the whole time leaves a note, a file named after address and port. It has the moment
by the clock since boot, which nobody sets, and which goes on while a host sleeps.

A note decides one thing: that the question is not asked. The login is then what it is where a
slurmd refuses. No note makes a job one of the user's. The directory is root's with mode 0700. What
is another's, is no regular file, is not whole, or is from the future, is no note. Without notes,
or where they cannot be written, the question is asked. A user who can keep slurmd from taking
connections gains a minute: the logins of these seconds would have had no answer either.
"""

from __future__ import annotations

import os
from time import CLOCK_BOOTTIME, clock_gettime

from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import PeerError
from slurm_adopt.system.root_dirs import DIRECTORY, check, contents, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Place = tuple[str, int]  # address and port

KEPT = 60  # seconds that a note counts
MOST = 1000  # notes: no more are written, and none is needed where sources are that many
_SIZE = 32  # bytes of a note, and more
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def noted(places: Iterable[Place], notes: str) -> dict[Place, float]:
    """Return the places that have a note that counts, and how many seconds ago it was left.

    `notes`: the directory that has them.
    """
    try:
        directory = os.open(notes, DIRECTORY)
    except OSError:
        return {}
    try:
        check(directory, 0o077)
        ages = {place: _age(directory, _name(place)) for place in places}
    except OSError:
        return {}
    finally:
        os.close(directory)
    return {place: age for place, age in ages.items() if age is not None}


def leave(place: Place, notes: str) -> None:
    """Leave a note, and take away those that count no more; OSError if it cannot be left."""
    top, _, name = notes.rpartition("/")
    directory = opened(name, 0o700, 0o077, top)
    try:
        if _sweep(directory) >= MOST:
            return
        descriptor = os.open(_name(place), _WRITE, 0o600, dir_fd=directory)
        try:
            os.write(descriptor, b"%d\n" % (clock_gettime(CLOCK_BOOTTIME) * 1000))
        finally:
            os.close(descriptor)
    finally:
        os.close(directory)


def not_asked(places: dict[Place, float]) -> PeerError:
    """Return the error of a question that is not asked, for the first of these places."""
    (address, port), age = next(iter(places.items()))
    host = f"[{address}]" if ":" in address else address
    return PeerError(
        f"slurmd at {host}:{port}: not asked: nothing took a connection there {age:.0f} s ago: the "
        "host is down, or a firewall drops it"
    )


def _name(place: Place) -> str:
    return f"{place[0]}-{place[1]}"


def _age(directory: int, name: str) -> float | None:
    """Return how many seconds ago a note was left; None if there is none that counts."""
    try:
        data = contents(directory, name, _SIZE)
    except OSError:
        return None
    left = number(data[:-1]) if data.endswith(b"\n") else None
    if left is None:
        return None
    age = clock_gettime(CLOCK_BOOTTIME) - left / 1000
    return age if 0 <= age < KEPT else None


def _sweep(directory: int) -> int:
    """Take away what counts no more, and return how many notes are left."""
    left = 0
    for name in os.listdir(directory):
        if _age(directory, name) is not None:
            left += 1
            continue
        try:
            os.unlink(name, dir_fd=directory)
        except OSError:  # another login has done so, or it is a directory
            pass
    return left
