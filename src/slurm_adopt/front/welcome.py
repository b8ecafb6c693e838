"""The line that tells a user in which job a session is, with welcome=1.

sshd keeps what a session module says. It shows it before a shell that was asked for without a
command, as it shows the message of the day (session.c, check_quietlogin and display_loginmsg).

All that takes files is done before the login is decided: after that these may be the job's own.
"""

from __future__ import annotations

from time import gmtime, localtime, time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from time import struct_time

TERMINALS = ("/dev/", "tty", "pts/")
DIGITS = 11  # of a number of seconds: until the year 5138


class Welcome:
    """Words for a user who logs in."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        """Note the time zone; /etc/localtime is read for it."""
        self._offset = localtime().tm_gmtoff

    @staticmethod
    def is_interactive(tty: str | None) -> bool:
        """Say whether somebody may be there to read, by PAM_TTY: it is `ssh` for all of sshd's."""
        return tty is not None and (tty == "ssh" or tty.startswith(TERMINALS))

    def text(self, job_id: int, end: str | None) -> str:
        """Return the line; `end`: SLURM_JOB_END_TIME, seconds since the epoch, if it is known."""
        at = self._clock(end)
        if not at:
            return f"This session is part of job {job_id} and ends with it."
        return f"This session is part of job {job_id} and ends with it, at {at} at the latest."

    def _clock(self, end: str | None) -> str:
        """Return the time of day, with the day if it is not today; "" where it is not known."""
        if not end or not (end.isascii() and end.isdigit() and len(end) <= DIGITS and int(end)):
            return ""  # a process of the job may say anything
        then, now = self._here(int(end)), self._here(time())
        clock = f"{then.tm_hour:02}:{then.tm_min:02}"
        day = then[:3] == now[:3]
        return clock if day else f"{then.tm_year}-{then.tm_mon:02}-{then.tm_mday:02} {clock}"

    def _here(self, seconds: float) -> struct_time:
        return gmtime(seconds + self._offset)
