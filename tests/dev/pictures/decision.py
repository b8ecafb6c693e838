"""The decision: from question to question, and what answers each situation.

Situations, options, values and PAM codes are those of the code's tables. Only the questions are
written here, and which situations each of them leads to.
"""

from __future__ import annotations

from typing import NamedTuple

from slurm_adopt.decision.options import BY_NAME
from slurm_adopt.decision.outcome import (
    ACTION_CODES,
    ACTIONS,
    AUTO_MEANS,
    REFUSALS,
    SITUATIONS,
    Action,
    Situation,
)
from tests.dev.pictures.svg import LINE, MARGIN, PADDING, Picture, width, wrapped

ASKED, CASE, ANSWER, ACROSS = MARGIN, 300, 660, 1060
ROWS: dict[str, Situation] = {row.name: row for row in SITUATIONS.values()}
ASK_WIDE, CASE_WIDE = 220, 330
GAP = 12


class Question(NamedTuple):
    """What is asked, the situations that it ends in, and the answer that leads on."""

    text: str
    situations: tuple[str, ...]
    onward: str = ""


QUESTIONS = (
    Question(
        "Is it a login to decide about?",
        ("root", "other service", "no user", "unknown user"),
        "yes",
    ),
    Question("Can the user's jobs on this node be told?", ("generic failure",), "yes"),
    Question("Has the user a job here?", ("no jobs",), "yes"),
    Question(
        "Several jobs: which one does the login come from?", ("unknown job",), "one job is chosen"
    ),
    Question("Does this job take the login?", ("job suspended", "adopt failure"), "yes"),
    Question("Which line adopts?", ("chosen", "adopted")),
    Question(
        "Session phase: what has the account phase come to, if not to \u201cchosen\u201d?",
        ("still adopted", "as before"),
    ),
    Question("Root, with ignore_root=0: is it no adoption?", ("root spared",)),
)


def draw() -> str:
    """Return the picture."""
    asked = [name for question in QUESTIONS for name in question.situations]
    if sorted(asked) != sorted(SITUATIONS):
        raise ValueError(f"not each situation once: {sorted({*asked} ^ {*SITUATIONS})}")
    picture = Picture("What a login comes to, by situation and by option", ACROSS)
    y: float = MARGIN
    for x, head in ((ASKED, "Question"), (CASE, "Situation"), (ANSWER, "Answer")):
        picture.lines(x, y, [head], "bold quiet")
    y += LINE + GAP
    for question in QUESTIONS:
        y = _question(picture, y, question)
    notes = (
        "An option's default is bold. A value that is not in the list means the strictest one.",
        "Where the job has just ended, all is decided again, once, by the jobs that are left.",
    )
    for note in notes:
        y = picture.lines(ASKED, y, [note], "quiet")
    return picture.svg()


def _question(picture: Picture, top: float, question: Question) -> float:
    """Draw a question with its situations; return where the next one begins."""
    lines = wrapped(question.text, ASK_WIDE - 2 * PADDING)
    high = LINE * len(lines) + 2 * PADDING - 4
    picture.box(ASKED, top, ASK_WIDE, high, "ask")
    picture.lines(ASKED + PADDING, top + PADDING - 2, lines)
    y, at, stem = top, top + LINE, (ASKED + ASK_WIDE + CASE) / 2
    picture.arrow([(ASKED + ASK_WIDE, at), (CASE - 2, at)])
    for name in question.situations:
        if y != top:
            picture.arrow([(stem, at), (stem, y + LINE), (CASE - 2, y + LINE)])
        y = _situation(picture, y, ROWS[name])
    y = max(y, top + high + GAP)
    if question.onward:
        x = ASKED + 30
        y = max(y, top + high + 2 * LINE)
        picture.arrow([(x, top + high), (x, y + GAP - 2)], "line-blue")
        picture.lines(x + PADDING, top + high + 2, [question.onward], "blue")
    return y + GAP


def _situation(picture: Picture, top: float, row: Situation) -> float:
    """Draw a situation and what answers it; return the lower edge of both, and the gap."""
    name = wrapped(row.name, CASE_WIDE, "bold")
    when = wrapped(row.when, CASE_WIDE - 2 * PADDING)
    answers = _answers(row)
    high = LINE * (len(name) + len(when)) + 2 * PADDING - 4
    picture.box(CASE, top, CASE_WIDE, high)
    y = picture.lines(CASE + PADDING, top + PADDING - 2, name, "bold text")
    picture.lines(CASE + PADDING, y, when)
    picture.arrow([(CASE + CASE_WIDE, top + LINE), (ANSWER - 2, top + LINE)])
    beside = LINE * len(answers) + 2 * PADDING - 4
    picture.box(ANSWER, top, ACROSS - MARGIN - ANSWER, beside, _kind(row))
    for number, parts in enumerate(answers):
        x: float = ANSWER + PADDING
        for text, style in parts:
            picture.lines(x, top + PADDING - 2 + LINE * number, [text], style)
            x += width(text, style) + 6
    return top + max(high, beside) + GAP


def _kind(row: Situation) -> str:
    return {"PAM_SUCCESS": "good", "PAM_IGNORE": "aside"}.get(
        row.code, "bad" if row.code in REFUSALS else "box"
    )


Parts = list[tuple[str, str]]  # of a line: text and style


def _answers(row: Situation) -> list[Parts]:
    """Return the lines with the answer: a fixed code, or the option and each of its values."""
    if not row.option:
        return [[(row.code, _ink(row.code)), (REMARKS.get(row.code, ""), "quiet")]]
    option = BY_NAME[row.option]
    lines: list[Parts] = [[(row.option, "bold text")]]
    for value in option.values:
        style = "bold text" if value == option.default else "text"
        parts = _action(ACTIONS[row.option][value])
        lines += [[(f"{value}:", style), *part] for part in parts]
    return lines


def _action(action: Action) -> list[Parts]:
    """Return what a value comes to; one line for each case."""
    if action.does == "auto":
        where = ((True, "where root's slurmd runs"), (False, "elsewhere"))
        codes = [(ACTION_CODES[AUTO_MEANS[runs]], remark) for runs, remark in where]
        return [[(code, _ink(code)), (remark, "quiet")] for code, remark in codes]
    if action.does != "answer":
        return [[(CHOOSING[action.does], "blue")]]
    remark = "without adoption" if action.code == "PAM_SUCCESS" else REMARKS.get(action.code, "")
    return [[(action.code, _ink(action.code)), (remark, "quiet")]]


CHOOSING = {
    "newest": "the newest of these jobs is chosen",
    "ask": "the job that the user answers, or the newest",
}
REMARKS = {"PAM_IGNORE": "the rest of the stack decides"}


def _ink(code: str) -> str:
    if code in REFUSALS:
        return "red"
    return {"PAM_SUCCESS": "green", "PAM_IGNORE": "amber"}.get(code, "quiet")
