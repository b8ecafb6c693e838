"""The one family of errors; each group is mapped to an outcome in one place (engine.py)."""

from __future__ import annotations


class SlurmAdoptError(Exception):
    """Base of all errors raised on purpose. str() is one line for the log."""


class PeerError(SlurmAdoptError):
    """A peer (stepd, slurmd, munged) refused, broke off, or did not answer in time."""


class FormatError(PeerError):
    """A peer sent bytes that do not follow the format; the message names the field."""


class UnsettledError(PeerError):
    """A peer took a request and did not answer: it may still carry it out."""


class SuspendedError(PeerError):
    """Nothing may be put into a job's step now: it is frozen, or a cgroup of the user's is there.

    `taken`: whether a stepd had taken the process before that was seen.
    """

    taken = False


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
