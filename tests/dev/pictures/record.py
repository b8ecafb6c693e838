"""What the pictures of real runs show: a session's cgroups before and after, and the demo."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.suites import SUITES
from tests.cluster.scenarios import login_methods
from tests.cluster.tools import demo
from tests.dev.pictures.cgroup import SEEN
from tests.vm.node import Node

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE = {"v1": "bookworm", "v2": "trixie"}
COLUMNS = 104  # of the demo's screen
# Background, ink, and the colours by number: red, green and cyan are what the demo uses.
THEME = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [(72, 79, 88), (248, 81, 73), (63, 185, 80), (210, 153, 34), (68, 147, 248), (188, 140, 255),
     (121, 192, 255), (177, 186, 196)],
)  # fmt: skip
SCREEN = """\
<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}"
     viewBox="0 0 {width} {height}" xml:space="preserve">
<title>./dev demo</title>
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, 'DejaVu Sans Mono', monospace;
  font-size: {char_height}px; line-height: {line_height}px }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
<rect fill="#0d1117" width="{width}" height="{height}" rx="8"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
LOGIND = "session optional pam_systemd.so"


class Site(Protocol):
    """A cluster in namespaces, or a node in a machine."""

    @property
    def n1(self) -> Any:
        """The node."""

    def pam(self, lines: Sequence[str]) -> None:
        """Write sshd's PAM stack."""

    def submit(self, user: str) -> int:
        """Start a job; return its id."""

    def session(self, user: str) -> Any:
        """Log in to n1, and stay."""


def cgroups(site: Site, mover: str) -> dict[str, list[str]]:
    """Return where a shell of alice's is, by what is in sshd's PAM stack."""
    site.submit("alice")
    stacks = {
        "sshd": pam.stack(),
        "moved": [*pam.stack(), mover],
        "adopted": [*pam.both()[:-2], mover, *pam.session_lines()],
    }
    found = {}
    for moment, lines in stacks.items():
        site.pam(lines)
        with site.session("alice") as session:
            said = site.n1.run(["cat", f"/proc/{session.pid}/cgroup"]).stdout
            found[moment] = said.splitlines()
    return found


def in_namespaces() -> dict[str, list[str]]:
    """Return what is seen on cgroup v1, with a line that moves sessions as pam_systemd does."""
    with Cluster("pictures") as cluster, login_methods.prepared(cluster.n1):
        return cgroups(cluster, login_methods.MOVE)


def in_machine() -> dict[str, list[str]]:
    """Return what is seen on cgroup v2, with pam_systemd itself."""
    with Node(SUITES[SUITE["v2"]]) as node:
        return cgroups(node, LOGIND)


def record(kind: str) -> None:
    """Look at the cgroups of one kind, and keep what is seen."""
    seen = json.loads(SEEN.read_text()) if SEEN.exists() else {}
    found = {"v1": in_namespaces, "v2": in_machine}[kind]()
    seen[kind] = {"slurm": SUITES[SUITE[kind]].slurm, **found}
    SEEN.write_text(json.dumps(dict(sorted(seen.items())), indent=1) + "\n")


def record_demo() -> str:
    """Play the demo; return what it shows."""
    console = Console(record=True, width=COLUMNS, highlight=False, force_terminal=True)
    if demo.main(console, keep=False):
        raise RuntimeError("the demo is not as it should be: no picture is made of it")
    return console.export_svg(theme=THEME, code_format=SCREEN, unique_id="demo")
