"""Entry point of the ``ollama`` command: imports the module of a command, runs it, prints its errors."""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ollama_tw.cli.command import CONTEXT_SETTINGS, UsageError, error_text
from ollama_tw.cli.terminal import enable_control_sequences
from ollama_tw.errors import OllamaError, reason_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# In the order of the help, which shows the texts. Each name is a module of ``commands`` with a ``command``.
# It is imported when the command is run, so that no command loads what another one needs.
COMMANDS = {
    "serve": "Start Ollama",
    "create": "Create a model",
    "show": "Show information for a model",
    "run": "Run a model",
    "stop": "Stop a running model",
    "pull": "Pull a model from a registry",
    "push": "Push a model to a registry",
    "signin": "Sign in to ollama.com",
    "signout": "Sign out from ollama.com",
    "list": "List models",
    "ps": "List running models",
    "cp": "Copy a model",
    "rm": "Remove a model",
    "keys": "Manage the API keys of the server",
    "chats": "List kept conversations",
    "config": "Check and show the configuration of the server",
    "import": "Create models from GGUF files and folders",
    "fit": "Estimate the memory and speed of a model on this machine",
    "launch": "Launch a program that uses this server",
    "top": "Show the models and requests of the server",
    "logs": "Show the server's log",
    "bench": "Measure a server",
    "prune": "Remove files that no model uses",
    "doctor": "Check this machine",
    "completion": "Print the completion script of a shell",
    "help": "Help about any command",
}
ALIASES = {"start": "serve", "ls": "list", "login": "signin", "logout": "signout"}
_FLAGS = ("--verbose", "--nowordwrap")
_COMPLETION = "_OLLAMA_COMPLETE"
# What a shell reports of a program that SIGPIPE has ended.
_BROKEN_PIPE = 141


class _OutputClosed(Exception):
    """Nobody reads standard output any more."""


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Click would exit with 1.
            raise _OutputClosed from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Flags before the name of the command are the command's, as in Cobra; alone they do nothing.
        flags = list(takewhile(lambda arg: arg.partition("=")[0] in _FLAGS, args))
        rest = args[len(flags) :]
        return super().parse_args(ctx, [rest[0], *flags, *rest[1:]] if rest else [])

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        # ``import`` cannot be written in an import statement.
        module = "import_files" if name == "import" else name
        command: click.Command = importlib.import_module(f"ollama_tw.cli.commands.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
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
@click.option("--verbose", is_flag=True, expose_value=False, help="Show timings for response")
@click.option(
    "--nowordwrap",
    is_flag=True,
    expose_value=False,
    help="Don't wrap words to the next line automatically",
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
    _prepare_streams()
    enable_control_sequences()
    sys.exit(_run(arguments))


def _prepare_streams() -> None:
    """Replace closed standard streams, and let characters that a stream cannot encode be printed as "?"."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # Open for the life of the process.
            stream = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if name != "stdin" else "surrogateescape")


def _run(arguments: Sequence[str] | None) -> int:
    if _COMPLETION in os.environ:
        # Click answers the shell; the module adds what it lacks.
        importlib.import_module("ollama_tw.cli.completion")
    try:
        code = ollama.main(
            args=None if arguments is None else list(arguments), prog_name="ollama", standalone_mode=False
        )
        sys.stdout.flush()
    except click.ClickException as error:
        return _fail(error_text(error))
    except OllamaError as error:
        return _fail(error.message)
    except (_OutputClosed, BrokenPipeError):
        # The interpreter must not report that it cannot write the rest, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        reason = reason_of(error)
        return _fail(f"{reason}: {error.filename}" if error.filename else reason)
    except (click.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def _fail(text: str) -> int:
    click.echo(f"Error: {text}", err=True)
    return 1
