"""How a login becomes part of a job: who says what to whom, from top to bottom."""

from __future__ import annotations

from typing import NamedTuple

from tests.dev.pictures.svg import LINE, MARGIN, PADDING, Picture, width, wrapped

ACROSS = 1120
ACTORS = {  # name -> where its line is, and what stands at its head
    "ssh": (100, "ssh client"),
    "sshd": (310, "sshd of node n1"),
    "module": (540, "slurm_adopt, in sshd"),
    "stepd": (790, "slurmstepds of n1"),
    "slurmd": (1000, "slurmd at the source"),
}
HEAD = 34
GAP = 12
NOTE = 210  # width of a note


class Phase(NamedTuple):
    """From here on it is this phase; none without a name."""

    name: str = ""


class Note(NamedTuple):
    """What one of them does by itself."""

    who: str
    text: str
    kind: str = "box"


class Says(NamedTuple):
    """What one of them asks or tells another."""

    who: str
    whom: str
    text: str
    answer: bool = False


STORY: tuple[Phase | Note | Says, ...] = (
    Says("ssh", "sshd", "key, password or keyboard-interactive"),
    Phase("account phase: it decides"),
    Says("sshd", "module", "pam_sm_acct_mgmt"),
    Note("module", "root: PAM_IGNORE, before anything is read", "aside"),
    Says("module", "stepd", "to all at once: whose job is it, and in which state?"),
    Says("stepd", "module", "uid, state", answer=True),
    Note("module", "no job of this user: action_no_jobs", "bad"),
    Says("module", "slurmd", "several jobs: which job has the other end of this connection?"),
    Says("slurmd", "module", "job 42", answer=True),
    Note("module", "this selects among the user's own jobs here, and does nothing else"),
    Note("module", "nobody knows: action_unknown", "aside"),
    Note("module", "would job 42 take it? Its stepd has answered, and no cgroup of it is frozen"),
    Says("module", "sshd", "PAM_SUCCESS", answer=True),
    Phase(),
    Note("sshd", "the user is authenticated; the slot of MaxStartups is given back", "good"),
    Phase("session phase: it adopts"),
    Note("sshd", "pam_systemd and others may move process 4711 away"),
    Says("sshd", "module", "pam_sm_open_session, in process 4711"),
    Says("module", "stepd", "to that of job 42: whose is it? Then: take process 4711"),
    Note("stepd", "writes 4711 into the cgroups of its extern step"),
    Says("stepd", "module", "done; display and namespaces of the job", answer=True),
    Note("module", "/proc/4711/cgroup: what is missing is written, and read back again"),
    Note("module", "variables are set, namespaces entered, limits set"),
    Says("module", "sshd", "PAM_SUCCESS", answer=True),
    Phase(),
    Says("sshd", "ssh", "a shell in \u2026/job_42/step_extern", answer=True),
)


def draw() -> str:
    """Return the picture."""
    picture = Picture("How a login becomes part of a job", ACROSS)
    top = MARGIN + HEAD
    for middle, head in ACTORS.values():
        wide = width(head, "bold") + 2 * PADDING
        picture.box(middle - wide / 2, MARGIN, wide, HEAD, "ask")
        picture.text(middle, MARGIN + 22, head, "bold text", "middle")
    y: float = top + GAP
    phase, began = "", y
    for event in STORY:
        if isinstance(event, Phase):
            if phase:
                _band(picture, began, y, phase)
                y += GAP
            phase, began = event.name, y
            y += LINE + 2 * GAP if phase else 0
        elif isinstance(event, Note):
            y = _note(picture, y, event)
        else:
            y = _says(picture, y, event)
    picture.under = True
    for middle, _ in ACTORS.values():
        picture.arrow([(middle, top), (middle, y)], "line dashed", head=False)
    return picture.svg()


def _band(picture: Picture, top: float, bottom: float, name: str) -> None:
    picture.under = True
    picture.box(MARGIN / 2 + 4, top, ACROSS - MARGIN - 8, bottom - top, "band")
    picture.under = False
    wide = width(name, "bold") + 2 * PADDING
    picture.box(MARGIN / 2 + 4, top, wide, LINE + 8, "ask")
    picture.lines(MARGIN / 2 + 4 + PADDING, top + 3, [name], "bold text")


def _note(picture: Picture, top: float, note: Note) -> float:
    lines = wrapped(note.text, NOTE - 2 * PADDING)
    middle = ACTORS[note.who][0]
    wide = max(map(width, lines)) + 2 * PADDING
    high = LINE * len(lines) + 10
    picture.box(middle - wide / 2, top, wide, high, note.kind)
    picture.lines(middle - wide / 2 + PADDING, top + 4, lines)
    return top + high + GAP


def _says(picture: Picture, top: float, says: Says) -> float:
    """Draw an arrow under its text, which is between the one who says it and the next."""
    start, end = ACTORS[says.who][0], ACTORS[says.whom][0]
    left = min(start, end)
    room = min(right for right, _ in ACTORS.values() if right > left) - left - 24
    lines = wrapped(says.text, room)
    style = "quiet" if says.answer else "text"
    for line in lines:
        picture.text(left + 12 + room / 2, top + 12, line, style, "middle")
        top += LINE
    points = [(start + (2 if end > start else -2), top), (end - (2 if end > start else -2), top)]
    picture.arrow(points, "line dashed" if says.answer else "line-blue")
    return top + GAP
