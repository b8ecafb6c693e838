"""A plan is carried out, and taken back: whatever happens, a PAM file is whole, old or new.

The order of a change: what stood there and what shall is recorded, then a trial's timer is set,
then the files are written, then checked. A run that is killed leaves a record, which the next run
finds. What fails, or is interrupted, is taken back at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli.errors import ERROR, CliError
from slurm_adopt.cli.logins.moments import shown

from . import plan, proof, trial
from .errors import CannotError
from .our_lines import with_lines_of
from .record import Kept, Record
from .writing import File, Writing, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from .plan import Plan, Wish
    from .record import Folder, Trial

NOTHING_CHANGED = "nothing is changed"


class Node(NamedTuple):
    """A service of this node, and the folder that is held meanwhile."""

    service: str
    folder: Folder
    timer: trial.Timer
    say: Callable[[str], None]
    etc: str = "/etc"

    @property
    def record(self) -> Record:
        """What is recorded of the service."""
        return self.folder.load(self.service)

    # What an earlier run has left

    def settle(self) -> Record:
        """Take back what a killed run has left, and a trial whose time is over.

        Return the record. Its change is a trial that runs, or there is none.
        """
        record = self.record
        there = {f"{self.etc}/pam.d/{self.service}", *(one.path for one in _all(record))}
        Writing(File(path, None, None) for path in there).tidy()
        if not record.change:
            return record
        untouched = all(read(one.path) == one.before for one in record.change)
        if record.trial and not untouched and time.time() < record.trial.ends:
            return record
        if untouched and record.trial:
            self.say("the trial is ended: its lines are not there, and the files are as before it")
        elif untouched:
            self.say("an earlier run was interrupted: it has left the files as they were")
        elif record.trial:
            self.say(f"a trial was over at {shown(record.trial.ends)}: it is taken back now")
        else:
            self.say("an earlier run was interrupted before it was done: it is taken back")
        return self.undo(record)

    def undo(self, record: Record) -> Record:
        """Put the files back as they were before the change; return what is recorded then."""
        files = [self._undone(one) for one in record.change]
        with self._reported():
            _write([one for one in files if one.before != one.after])
        done = Record(record.installed)
        self._save(done, record)
        return done

    def _undone(self, one: Kept) -> File:
        now = read(one.path)
        if now in (one.after, one.before):
            return File(one.path, now, one.before)
        was = with_lines_of(now, one.after, one.before)
        if was is not None:
            self.say(f"{one.path} has been edited since: our lines alone become what they were")
            return File(one.path, now, was)
        self.say(f"{one.path} has been edited since: our lines alone are taken out")
        return File(one.path, now, self._without_ours().get(one.path, now))

    # Changes

    def install(self, wish: Wish, planned: Plan, seconds: int | None) -> Trial | None:
        """Carry out a plan, as a trial of some seconds or for good; CliError: as before."""
        old = self.record
        files = [File(*change) for change in planned.changes]
        change = tuple(self._kept(old, file) for file in files)
        tried = trial.begin(seconds) if seconds else None
        new = old._replace(change=change, trial=tried)
        writing = Writing(files)
        with _interruptible(), self._reported():
            try:
                self.folder.save(self.service, new)
                if tried:
                    tried = self.timer.arm(tried)
                    new = new._replace(trial=tried)
                    self.folder.save(self.service, new)
                writing.prepare()
                writing.put()
                _prove(wish.service)
                if not tried:
                    self.folder.save(self.service, _finished(new))
            except BaseException:
                self._go_back(writing, old, new)
                raise
        writing.tidy()
        return tried

    def confirm(self) -> bool:
        """Make the trial that runs the installation; False if there is none."""
        record = self.record
        if not record.trial:
            return False
        wrong = proof.lockouts(self.service)
        if wrong:
            raise CliError(f"not confirmed, and the trial goes on: {'; '.join(wrong)}", ERROR)
        with self._reported():
            self.folder.save(self.service, _finished(record))
        with contextlib.suppress(OSError, CliError):  # it does nothing any more
            self.timer.disarm(record.trial)
        return True

    def trial_over(self, name: str) -> bool:
        """Take a trial back; False, and nothing is done, where it has ended already."""
        record = self.record
        if record.trial and record.trial.name == name:
            self.undo(record)
            return True
        if not record.trial:
            self.timer.disarm(trial.Trial(name, 0.0, trial.SYSTEMD, ""))
        return False

    def uninstall(self, files: list[File]) -> None:
        """Write what `removal` has planned, and forget what was installed."""
        record = self.record
        change = tuple(Kept(file.path, file.after, file.before, file.after) for file in files)
        new = record._replace(change=change, trial=record.trial)
        writing = Writing(files)
        with _interruptible(), self._reported():
            try:
                if not record.trial:  # else its timer does the same, if this is killed
                    self.folder.save(self.service, new)
                writing.prepare()
                writing.put()
            except BaseException:
                self._go_back(writing, record, new)
                raise
        writing.tidy()
        self._save(Record(), record)

    def removal(self) -> tuple[list[File], list[str]]:
        """Return how the files are without our lines, and lines for the administrator."""
        kept = {one.path: one for one in _all(self.record)}
        now = {path: read(path) for path in kept}
        edited = [path for path, one in kept.items() if now[path] not in (one.after, one.base)]
        planned = self._without_ours() if edited or not kept else {}
        files = [File(path, read(path), after) for path, after in planned.items()]
        files += [
            File(path, now[path], one.base)
            for path, one in kept.items()
            if path not in edited and path not in planned and now[path] != one.base
        ]
        notes = [f"{path} has been edited since: our lines alone are taken out" for path in edited]
        return files, notes

    def _without_ours(self) -> dict[str, bytes | None]:
        """Return the files that have lines of ours now, as they are without.

        None, where somebody has removed a file that this command has written.
        """
        written = [one.path for one in _all(self.record) if one.after is not None]
        if written and not any(map(os.path.lexists, written)):
            return {}
        changes = plan.uninstall(self.service, self.etc).changes
        return {change.path: change.after for change in changes}

    def _kept(self, old: Record, file: File) -> Kept:
        """Return what is recorded of a file that is about to change."""
        for one in old.installed:
            if one.path == file.path and one.after == file.before:
                return Kept(file.path, one.base, file.before, file.after)
        # What is there is not what this command has written: lines of ours are somebody else's.
        without: dict[str, bytes | None] = {}
        with contextlib.suppress(CannotError):  # there is nothing better to go back to
            without = self._without_ours()
        return Kept(file.path, without.get(file.path, file.before), file.before, file.after)

    def _go_back(self, writing: Writing, old: Record, new: Record) -> None:
        """Have all as it was; where that cannot be, the record stays, and a trial's timer."""
        for number in (signal.SIGINT, *_SIGNALS):  # nothing but SIGKILL interrupts the way back
            signal.signal(number, signal.SIG_IGN)
        try:
            writing.back()
        except OSError as error:
            texts = [
                f"{self.folder.place_of(self.service, one.before)} to {one.path}"
                for one in new.change
                if one.before is not None
            ]
            raise CliError(
                f"the old text cannot be put back: {error.strerror}. Copy {', '.join(texts)}",
                ERROR,
            ) from None
        writing.tidy()
        self._save(old, new)

    def _save(self, record: Record, old: Record) -> None:
        """Record how it is again, and have nothing take back what is not there."""
        if old.trial and not record.trial:
            with contextlib.suppress(OSError, CliError):
                self.timer.disarm(old.trial)
        with contextlib.suppress(OSError, CliError):  # the next run finds it, and does this
            self.folder.save(self.service, record)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Make one line of what the system says."""
        try:
            yield
        except OSError as error:
            where = f": {error.filename}" if isinstance(error.filename, str) else ""
            raise CliError(
                f"it cannot be written: {error.strerror}{where}; {NOTHING_CHANGED}", ERROR
            ) from None


def _all(record: Record) -> tuple[Kept, ...]:
    return (*record.installed, *record.change)


def _finished(record: Record) -> Record:
    """Return the record of a change that is done."""
    changed = {one.path for one in record.change}
    others = tuple(one for one in record.installed if one.path not in changed)
    return Record((*others, *record.change))


def _prove(service: str) -> None:
    wrong = proof.lockouts(service)
    if wrong:
        said = "; ".join(wrong)
        raise CliError(f"taken back, since it would have kept everybody out: {said}", ERROR)


def _write(files: list[File]) -> None:
    """Replace files, all or none."""
    writing = Writing(files)
    try:
        writing.prepare()
        writing.put()
    except BaseException:
        writing.back()
        raise
    finally:
        writing.tidy()


# Signals: a shell that is closed while this runs ends it as ^C does, and not in the middle

_SIGNALS = (signal.SIGHUP, signal.SIGTERM)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Have signals that end a process raise, so that what is half done is taken back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_SIGNALS)}
    for number in _SIGNALS:
        if before[number] != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: object) -> None:  # noqa: ARG001 - signal.signal's form
    raise SystemExit(128 + number)
