"""The one family of errors; each group is mapped to an outcome in one place (engine.py)."""

from __future__ import annotations

# What some errors of peers are, beyond that: classes of their own would be made at each login.
UNSETTLED = "unsettled"  # it took a request and did not answer: it may still carry it out
SUSPENDED = "suspended"  # nothing may be put into a job's step now: see Layout.obstacle()
NO_ANSWER = "unanswered"  # the time is over
HUNG_UP = "hangup"  # it has closed the connection instead of answering


class SlurmAdoptError(Exception):
    """Base of all errors raised on purpose. str() is one line for the log.

    `kind`: one of those above, or "". `taken`, of one that is SUSPENDED: whether a stepd had taken
    the process before that was seen.
    """

    kind = ""
    taken = False


class PeerError(SlurmAdoptError):
    """A peer (stepd, slurmd, munged) refused, broke off, or did not answer in time."""

    def __init__(self, text: str, kind: str = "") -> None:
        """`kind`: one of those above, if it is one of them."""
        super().__init__(text)
        self.kind = kind


class FormatError(PeerError):
    """A peer sent bytes that do not follow the format; the message names the field."""


class MistakeError(SlurmAdoptError):
    """An exception that nobody has thought of; it counts for the step that it happened in."""


class SetupError(SlurmAdoptError):
    """This node cannot be used as it is; the message says what to do about it."""


def shortage(error: OSError) -> str:
    """Say why nothing more can be opened, and what has to be raised."""
    from errno import EMFILE, ENFILE

    if error.errno == ENFILE:
        return "this host is out of open files (sysctl fs.file-max)"
    if error.errno == EMFILE:
        return (
            "this process is out of descriptors (RLIMIT_NOFILE: is nofile of pam_limits, in "
            "front of this module, too low?)"
        )
    return f"{error.strerror}"
