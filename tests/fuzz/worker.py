"""One target under atheris: `python -m tests.fuzz.worker TARGET LIBFUZZER-ARGUMENTS`.

The process is atheris's: it ends when libFuzzer does. What it imports of slurm_adopt, now or later,
is instrumented.
"""

from __future__ import annotations

import sys

from tests.fuzz.target import bounded, of_family


def main(family: str, name: str, arguments: list[str]) -> None:
    """Fuzz a target; this does not return."""
    import atheris  # type: ignore[import-untyped]  # it has no types

    with atheris.instrument_imports(include=["slurm_adopt"]):
        run = bounded(of_family(family)[name].run)
        atheris.Setup([name, *arguments], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
