"""The command `slurm-adopt` on a host, from the checkout, with the suite's own packages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    from tests.cluster.harness.login import Machine

PROGRAM = ("/usr/bin/python3", "-m", "slurm_adopt")
FROM_CHECKOUT = {"PYTHONPATH": "/checkout/src", "PYTHONDONTWRITEBYTECODE": "1"}


def run(
    host: Machine,
    *arguments: str,
    user: str | None = None,
    env: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run it; return its status and output, whatever the status is. `under`: a command in front."""
    # By env: another user's environment is made anew.
    given = [f"{name}={value}" for name, value in {**FROM_CHECKOUT, **(env or {})}.items()]
    argv = [*under, "env", *given, *PROGRAM, *arguments]
    done = host.run(argv, user, check=False, timeout=timeout)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def run_json(
    host: Machine,
    *arguments: str,
    user: str | None = None,
    under: Sequence[str] = (),
    timeout: float = 60,
) -> Any:
    """Run it with --json; return what it has printed."""
    done = run(host, *arguments, "--json", user=user, under=under, timeout=timeout)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"no JSON: {done}") from None
