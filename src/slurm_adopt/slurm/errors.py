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


class SetupError(SlurmAdoptError):
    """This node cannot be used as it is; the message says what to do about it."""
