"""Whether the account phase leaves the adoption to a session line, which has to be certain to come.

So has the session phase: OpenSSH's programs call it.
"""

from __future__ import annotations

from slurm_adopt.decision.options import parse

from . import pam_stack
from .session_process import is_sshd, login_began

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .phase import Phase

NOT_SSHD = "this program is not OpenSSH's sshd, and may not open a session"


def session_line_comes(phase: Phase) -> bool:
    """Say whether a session line of this module will adopt the login; why not goes to the log."""
    if is_sshd(phase.pid):
        began = login_began(phase.pid)
        why, line = pam_stack.expected(phase.account_of, since=began)
        why = why or _other_options(phase, line)
    else:
        why, line = NOT_SSHD, pam_stack.session_line(phase.account_of)
    if why:  # no session line at all is a choice
        tell = phase.log.debug if line is None else phase.log.info
        tell(f"the account phase adopts: {why}")
    return not why


def _other_options(phase: Phase, line: list[str] | None) -> str:
    """Say so where the session line would decide otherwise: an adoption that fails, above all.

    A line that is less strict than the account line would let in whom that refuses.
    """
    theirs, _ = parse(line or [])
    names = phase.options.differing(theirs)
    return f"the session line has other options: {', '.join(names)}" if names else ""
