"""The cgroups of a session's process, before and after it has become part of a job.

They are those of real runs, kept in cgroups.json: `./dev pictures --record` looks again.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.dev.pictures.svg import LINE, MARGIN, PADDING, Picture, width

SEEN = Path(__file__).with_name("cgroups.json")
MOMENTS = {
    "sshd": ("sshd has taken the connection", "box"),
    "moved": ("pam_systemd has moved the session", "aside"),
    "adopted": ("the session line of slurm_adopt has run", "good"),
}
KINDS = {
    "v1": "cgroup v1, Slurm {slurm} (in place of pam_systemd a script that does the same)",
    "v2": "cgroup v2 under systemd, Slurm {slurm}",
}
ACROSS = 960
GAP = 12


def draw() -> str:
    """Return the picture."""
    picture = Picture("A session's cgroups before and after", ACROSS)
    seen = json.loads(SEEN.read_text())
    y: float = MARGIN
    for kind, title in KINDS.items():
        y = picture.lines(MARGIN, y, [title.format(**seen[kind])], "bold blue") + GAP
        for moment, (what, style) in MOMENTS.items():
            if moment != "sshd":
                picture.arrow([(MARGIN + 40, y), (MARGIN + 40, y + 2 * LINE - 2)], "line-blue")
                y += 2 * LINE
            y = _moment(picture, y, what, style, seen[kind][moment])
        y += 2 * GAP
    notes = (
        "On v1 a session is in the job in the hierarchies by which Slurm confines jobs.",
        "What the session starts is where the session is. Both are gone with the job.",
    )
    picture.lines(MARGIN, y - GAP, [*notes], "quiet")
    return picture.svg()


def _moment(picture: Picture, top: float, what: str, style: str, lines: list[str]) -> float:
    """Draw a box with the cgroups of one moment; return its lower edge."""
    groups: dict[str, list[str]] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        groups.setdefault(path, []).append(controllers or "v2")
    high = LINE * (len(groups) + 1) + 2 * PADDING - 4
    picture.box(MARGIN, top, ACROSS - 2 * MARGIN, high, style)
    y = picture.lines(MARGIN + PADDING, top + PADDING - 2, [what], "bold text")
    ordered = sorted(groups.items(), key=lambda group: "/job_" not in group[0])
    wide = max(width(path, "mono") for path in groups)
    for path, names in ordered:
        picture.text(MARGIN + PADDING, y + 13, path, "mono text")
        if names != ["v2"]:
            said = ", ".join(sorted(name.removeprefix("name=") for name in names))
            picture.text(MARGIN + PADDING + wide + 24, y + 13, said, "quiet")
        y += LINE
    return top + high
