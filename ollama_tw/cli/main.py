"""Entry point of the ``ollama`` command: imports the module of a command, runs it, prints its errors."""

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches

import click

from ollama_tw.cli.command import CONTEXT_SETTINGS, UsageError, error_text
from ollama_tw.errors import OllamaError

# In the order of the help. Each name is a module of this package with a ``command``. It is imported when
# the command is run, so that no command loads what another one needs.
COMMANDS = ("serve",)
ALIASES = {"start": "serve"}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ollama_tw.cli.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            raise UsageError(f'unknown command "{args[0]}" for "ollama"{_suggestions(args[0])}')
        return super().resolve_command(ctx, args)


def _suggestions(word: str) -> str:
    lowered = word.lower()
    begun = [name for name in COMMANDS if name.startswith(lowered)]
    names = begun or get_close_matches(lowered, COMMANDS, cutoff=0.6)
    lines = "".join(f"\t{name}\n" for name in names)
    return f"\n\nDid you mean this?\n{lines}" if lines else ""


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from ollama_tw.cli.version import version_lines

    for line in version_lines():
        click.echo(line)
    ctx.exit()


@click.group("ollama", cls=_Commands, context_settings=CONTEXT_SETTINGS, invoke_without_command=True)
@click.option(
    "-v",
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show version information",
)
@click.pass_context
def ollama(ctx: click.Context) -> None:
    """Run language models on this machine."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, by default that of the process, and exit.

    The exit status is 0, 1 after an error (one line ``Error: TEXT`` on standard error), 130 after Ctrl-C,
    or the command's own.
    """
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = ollama.main(
            args=None if arguments is None else list(arguments), prog_name="ollama", standalone_mode=False
        )
    except click.ClickException as error:
        return _fail(error_text(error))
    except OllamaError as error:
        return _fail(error.message)
    except OSError as error:
        reason = error.strerror or str(error)
        return _fail(f"{reason}: {error.filename}" if error.filename else reason)
    except (click.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def _fail(text: str) -> int:
    click.echo(f"Error: {text}", err=True)
    return 1
