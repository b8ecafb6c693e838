"""`slurm-adopt explain`: what a login of a user would come to now, and why.

By the module's own engine, over a node that changes nothing (looking_node.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slurm_adopt.cli import complete
from slurm_adopt.cli.accounts import uid_of
from slurm_adopt.cli.errors import OK, UNKNOWN, USAGE, WARNING, CliError
from slurm_adopt.cli.output import as_json
from slurm_adopt.cli.verdict.looking_node import NO_SOURCE
from slurm_adopt.cli.verdict.pam_line import Lines, service_of
from slurm_adopt.cli.verdict.verdict import verdict
from slurm_adopt.decision.options import BY_NAME, parse
from slurm_adopt.slurm.digits import number

from . import facts as explain_facts
from . import login_source, whole_stack
from . import text as explain_text

if TYPE_CHECKING:
    from collections.abc import Sequence

# Exit status by whether the user would get in, or the session is where it should be.
STATUS = {True: OK, False: WARNING, None: UNKNOWN}


@click.command()
@click.argument("user", required=False, shell_complete=complete.users)
@click.argument("options", nargs=-1, metavar="[OPTION=VALUE]...", shell_complete=complete.options)
@click.option("--service", metavar="NAME", help="The PAM service to look at. Default: sshd.")
@click.option(
    "--from",
    "from_",
    metavar="ADDRESS[:PORT]",
    help="The other end of the connection. The slurmd there is asked about it.",
)
@click.option("--pid", metavar="PID", help="Is the ssh session of this process in its job?")
@click.option("--ref", metavar="REF", help="All that the log has of the login with this reference.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def command(
    user: str | None,
    options: tuple[str, ...],
    service: str | None,
    from_: str | None,
    pid: str | None,
    ref: str | None,
    json_: bool,
) -> int:
    """Say what a login of USER would come to now, and why.

    The answer is the module's own: with the options of its line in the service's PAM stack, or with
    those given as OPTION=VALUE. Nothing is changed on the node.

    Where other lines of the stack let the user in all the same, or refuse, a line says so.

    With --pid: whether an ssh session that is there is in its job, and who has moved it if not.

    With --ref: what the log has of the login that a refused user was shown this reference of.

    Exit status: 0 the user would get in, 1 the user would be refused. With --pid: 0 the session is
    where it should be, 1 it is not. 3 this cannot be told.
    """
    if ref is not None:
        from slurm_adopt.cli.logins import log_lines, story

        source = log_lines.find()
        return story.show(source, story.reference(ref), log_lines.Wanted(), as_json=json_)
    if pid is not None:
        return _of_process(pid, user, service, options, json_=json_)
    if user is None or "=" in user:
        raise CliError("say which user: slurm-adopt explain USER [option=value ...]", USAGE)
    return _of_login(user, service, options, from_, json_=json_)


def _of_login(
    user: str, service: str | None, tried: Sequence[str], from_: str | None, *, json_: bool
) -> int:
    check(tried)
    service = service_of(service)
    given = login_source.parse(from_) if from_ is not None else None
    lines = Lines(service)
    options, _ = lines.options(tried)
    source = login_source.find(given) if given else None
    connection = source.connection if source else None
    no_source = source.remark if source else NO_SOURCE
    found = verdict(user, uid_of(user), options, service, connection, no_source, apart=lines.apart)
    other = whole_stack.other_end(found)
    facts = explain_facts.of_login(found, lines, tried, given, source, other)
    if json_:
        as_json(facts)
    else:
        explain_text.show(facts)
    certain = other is not None and other.outcome != "perhaps let in"
    end = other.outcome if other and certain else found.end
    return STATUS[end != "refused"]


def _of_process(
    text: str, user: str | None, service: str | None, tried: Sequence[str], *, json_: bool
) -> int:
    if user is not None:
        tried = (user, *tried)  # options may be given without a user
    check(tried)
    pid = number(text)
    if not pid:
        raise CliError(f"--pid {text}: a process id is a number", USAGE)
    from . import session_place

    service = service_of(service)
    lines = Lines(service)
    options, _ = lines.options(tried)
    facts = session_place.of(pid, options, service, apart=lines.apart)
    if json_:
        as_json(facts)
    else:
        explain_text.show_place(facts)
    return STATUS[facts["as_it_should"]]


def check(words: Sequence[str]) -> None:
    """Refuse what the module would complain of; a value of an early release is none of that."""
    for word in words:
        name, equals, given = word.partition("=")
        option = BY_NAME.get(name.lower())
        if option and equals and given.lower() in option.older:
            continue
        for complaint in parse([word])[1]:
            raise CliError(_said(word, complaint), USAGE)


def _said(word: str, complaint: str) -> str:
    """Return the parser's complaint, as it concerns a command line."""
    if complaint.startswith("ignoring "):
        return f"{complaint.removeprefix('ignoring ')}; options are OPTION=VALUE"
    if not complaint.startswith("unrecognized "):
        return complaint
    allowed = complaint.rpartition("(it takes ")[2].rstrip(")")
    return f"unrecognized {word}: {word.partition('=')[0]} takes {allowed}"
