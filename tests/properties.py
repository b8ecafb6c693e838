"""What stateful properties share: how long they are tried, and what draws their answers.

How long is the profile of hypothesis (conftest.py).

`./dev test` draws the same each time. `--hypothesis-profile=long` draws as many examples as it
says, others each time.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, cast

from hypothesis import Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from slurm_adopt.decision.outcome import Outcome

if TYPE_CHECKING:
    from hypothesis.stateful import RuleBasedStateMachine

    from slurm_adopt.decision.options import Options
    from slurm_adopt.decision.session_phase import Before

LONG = "long"
QUICK = [Phase.explicit, Phase.generate]  # looking for the smallest example takes minutes
MUTANT = 1000  # examples at most until a mistake on purpose is found


# A seed for each step: hypothesis chooses the steps, and a step draws the many answers in it by its
# seed. Drawn one by one they would take ten times as long.
ANY = st.randoms(use_true_random=True)


class Dice:
    """Draws one of several."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def of(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def fork(self) -> Dice:
        """Return another one, for who draws at any time."""
        return Dice(Random(self._random.random()))

    def once_in(self, times: int) -> bool:
        return self._random.randrange(times) == 0


def bounded(examples: int, steps: int) -> settings:
    """Return settings with so many examples; with those of the profile where that is the long."""
    if settings.get_current_profile_name() == LONG:
        return settings(stateful_step_count=steps)
    return settings(
        max_examples=examples, stateful_step_count=steps, phases=QUICK, report_multiple_bugs=False
    )


def finds(machine: type[RuleBasedStateMachine], examples: int = MUTANT) -> bool:
    """Say whether a property fails, by the same examples each time."""
    until_found = settings(
        max_examples=examples,
        stateful_step_count=12,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        print_blob=False,
    )
    try:
        run_state_machine_as_test(machine, settings=until_found)
    except (AssertionError, ArithmeticError, Flaky):
        return True
    return False


# What an option's value means where it comes to an answer, apart from the engine's own table.
MEANS = {
    "allow": "PAM_SUCCESS",
    "deny": "PAM_PERM_DENIED",
    "ignore": "PAM_IGNORE",
    "newest": "PAM_PERM_DENIED",
    "ask": "PAM_PERM_DENIED",
}
GOVERNS = {
    "generic failure": "action_generic_failure",
    "no jobs": "action_no_jobs",
    "unknown job": "action_unknown",
    "adopt failure": "action_adopt_failure",
    "job suspended": "action_suspended",
}
FIXED = {
    "root": "PAM_IGNORE",
    "root spared": "PAM_IGNORE",
    "other service": "PAM_IGNORE",
    "no user": "PAM_SESSION_ERR",
    "unknown user": "PAM_USER_UNKNOWN",
    "chosen": "PAM_SUCCESS",
    "adopted": "PAM_SUCCESS",
    "still adopted": "PAM_SUCCESS",
}


def code_of(outcome: Outcome, options: Options, before: Before, runs_slurm: bool | None) -> str:
    """Return the code that an outcome must have, as the options name it.

    `before`: what the session phase knows of the account phase. `runs_slurm`: what the node has
    said; None where it was not asked, or could not tell.
    """
    if outcome.situation == "as before":
        return before.code if isinstance(before, Outcome) else "none"
    if outcome.situation in FIXED:
        return FIXED[outcome.situation]
    value = options[cast("Any", GOVERNS[outcome.situation])]
    if value == "auto":
        value = "ignore" if runs_slurm is False else "deny"
    told = before.adoption or before.choice if isinstance(before, Outcome) else before
    # Who was let in for a job is not left to the others of the stack.
    return "PAM_PERM_DENIED" if told and MEANS[value] == "PAM_IGNORE" else MEANS[value]
