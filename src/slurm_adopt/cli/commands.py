"""The group of all commands; each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

from slurm_adopt import __version__

# Command -> module in this folder, which has a click command `command`; what it is for.
COMMANDS = {
    "check": (
        "checks.command",
        "Is this node ready? Each finding has its place and what to do.",
    ),
    "explain": ("explain.command", "What would a login of a user come to now, and why?"),
    "logins": ("logins.command", "List and count the logins that the module has decided."),
    "sessions": ("sessions.command", "Which ssh sessions are on this node, and in which jobs?"),
    "whoami": ("whoami.command", "Which job holds this shell?"),
    "install": ("install.command", "Write the module's lines into a PAM file; try them first."),
    "uninstall": ("install.uninstall_command", "Take the module's lines out of a PAM file."),
    "use": ("use", "Which of your jobs do your next logins to this node go to?"),
}


class _Group(click.Group):
    """A group whose commands are the rows of COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"slurm_adopt.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def group() -> None:
    """Install slurm_adopt on this node, and look at how it works.

    Nothing is changed but by `install` and `uninstall`, which write PAM files as root, and by
    `use`, which notes what its user has chosen.

    Each command that looks prints JSON with --json. Exit status: see the manual page
    slurm-adopt(1).
    """
