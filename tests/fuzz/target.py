"""What a target is: a function of bytes that asserts an invariant, and what a fuzzer has to know.

The first sentence of a target's docstring is its invariant. A target that returns has found it
kept. An exception that it lets go, a time or a memory beyond the limits is a finding.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Union

HERE = Path(__file__).parent
FAMILIES = ("commands", "config", "kernel", "notes", "pam", "peers", "words")
KEPT = ("corpus", "regressions")  # folders of inputs, each with one of every target
CPU = 5.0  # seconds of the CPU that an input may take, whatever else the machine does
TIMEOUT = 300  # seconds for one that waits
MEMORY = 600  # MiB of the process

Run = Callable[[bytes], None]
Word = Union[str, bytes]


class SlowError(BaseException):
    """An input takes too long; no handler of the code that is looked at catches it."""


def bounded(run: Run, seconds: float = CPU) -> Run:
    """Return a target that ends with SlowError if an input takes more of the CPU."""

    def late(*_: object) -> None:
        raise SlowError(f"more than {seconds:g} s of the CPU")

    def within(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            run(data)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    signal.signal(signal.SIGVTALRM, late)
    return within


class Target(NamedTuple):
    """One target; `words` are its dictionary, `longest` the size of an input in bytes."""

    name: str
    family: str
    run: Run
    words: tuple[bytes, ...]
    longest: int

    @property
    def invariant(self) -> str:
        """The first sentence of the function's docstring, on one line."""
        text = " ".join((self.run.__doc__ or "").split())
        found = re.match(r".*?\.(?= |$)", text)
        return found[0] if found else ""

    def dictionary(self) -> str:
        """Return the dictionary as libFuzzer reads it."""
        return "".join(f'"{_escaped(word)}"\n' for word in self.words)

    def inputs(self, kept: str) -> list[Path]:
        """Return the files of its corpus, or of its regressions."""
        return sorted((HERE / kept / self.name).glob("*"))


def _escaped(word: bytes) -> str:
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02X}"
        for byte in word
    )


_TARGETS: dict[str, Target] = {}


def target(*words: Word, longest: int = 2048) -> Callable[[Run], Run]:
    """Make a function a target, by its own name."""

    def named(run: Run) -> Run:
        family = run.__module__.rpartition(".")[2]
        dictionary = (word.encode() if isinstance(word, str) else word for word in words)
        name = run.__name__
        _TARGETS[name] = Target(name, family, run, tuple(dict.fromkeys(dictionary)), longest)
        return run

    return named


def of_family(family: str) -> dict[str, Target]:
    """Return the targets of one module of targets."""
    import_module(f"tests.fuzz.targets.{family}")
    return {name: one for name, one in _TARGETS.items() if one.family == family}


def every() -> dict[str, Target]:
    """Return all targets by name."""
    return {name: one for family in FAMILIES for name, one in of_family(family).items()}
