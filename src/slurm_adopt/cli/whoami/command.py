"""The command line of `slurm-adopt whoami`, which wants click where the prompt does not."""

from __future__ import annotations

import time

import click

from slurm_adopt.cli.output import as_json, line

from .job_resources import UNKNOWN
from .shell_job import IN_JOB, OUTSIDE, SHOWN, Shell
from .shell_job import prompt as prompt_


@click.command()
@click.option("--prompt", is_flag=True, help="Print `job 42`, or nothing: for PS1.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def command(prompt: bool, json_: bool) -> int:
    """Say which job holds this shell, and what the job has on this node.

    The cgroups of the shell say it. Name and end of the job are those of the environment, if the
    environment is of the same job.

    Exit status: 0 in a job, 1 outside.
    """
    if prompt and not json_:
        return prompt_()
    shell = Shell()
    if json_:
        as_json(shell.as_dict())
    else:
        for text in described(shell):
            line(text)
    return IN_JOB if shell.place.job else OUTSIDE


def described(shell: Shell) -> list[str]:
    """Return the lines that a user reads."""
    found = shell.resources
    if found is None:
        return ["This shell is in no job.", *shell.remarks()]
    job = shell.place.job if shell.job_id is None else shell.job_id
    rows = [
        ("job", str(job)),
        ("name", (shell.name or UNKNOWN)[:SHOWN]),
        ("ends", _ends(shell.end)),
        ("CPUs", found.cpus_text),
        ("memory", found.memory_text),
        ("GPUs", found.gpus_text),
    ]
    return [f"{name:<8}{value}" for name, value in rows] + shell.remarks()


def _ends(end: int | None) -> str:
    """Say when the job ends, and how long that is from now."""
    if end is None:
        return UNKNOWN
    try:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(end))
    except (OverflowError, ValueError, OSError):  # the environment says anything
        return UNKNOWN
    left = end - int(time.time())
    if left <= 0:
        return f"at {when} at the latest: that is over"
    days, rest = divmod(left, 86400)
    hours, minutes = rest // 3600, rest % 3600 // 60
    span = (f"{days} d " if days else "") + f"{hours} h {minutes:02} min"
    return f"at {when} at the latest, in {span}"
