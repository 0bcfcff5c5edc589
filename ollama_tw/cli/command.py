"""Base class of the commands of ``ollama``, with the texts of Cobra for usage errors.

Cobra is the Go library of Ollama's command line. Source: cobra: args.go; pflag: errors.go.
"""

from collections.abc import Sequence
from typing import Any

import click

from ollama_tw.config.variables import Variable

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class UsageError(click.ClickException):
    """An invalid command line; the text is the whole message."""


class Command(click.Command):
    """A command whose help lists the environment variables that it reads, after its options."""

    def __init__(self, *args: Any, variables: Sequence[Variable[object]] = (), **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT_SETTINGS)
        super().__init__(*args, **kwargs)
        self.variables = variables

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; raises UsageError for a wrong number of them."""
        self._count_arguments(ctx, args)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the environment variables at the end of the help."""
        if self.variables:
            with formatter.section("Environment Variables"):
                formatter.write_dl([(variable.name, variable.summary) for variable in self.variables])
        super().format_epilog(ctx, formatter)

    def _count_arguments(self, ctx: click.Context, args: list[str]) -> None:
        """Raise UsageError if there are more or fewer arguments than the command takes."""
        options = [param for param in self.params if isinstance(param, click.Option)]
        bare = click.Command(self.name, params=[*options], context_settings=self.context_settings)
        values, received, _ = bare.make_parser(ctx).parse_args(list(args))
        asks_for_help = bare.get_help_option(ctx)
        if asks_for_help is not None and values.get(asks_for_help.name):
            return
        arguments = [param for param in self.params if isinstance(param, click.Argument)]
        most = len(arguments)
        least = sum(param.required for param in arguments)
        count = len(received)
        if any(param.nargs == -1 for param in arguments):
            if count < least:
                raise UsageError(f"requires at least {least} arg(s), only received {count}")
        elif least == most != count:
            raise UsageError(f"accepts {most} arg(s), received {count}")
        elif count > most:
            raise UsageError(f"accepts at most {most} arg(s), received {count}")
        elif count < least:
            raise UsageError(f"requires at least {least} arg(s), only received {count}")


def error_text(error: click.ClickException) -> str:
    """Return the message for the user: Ollama's text where it has one, else click's."""
    if isinstance(error, click.NoSuchOption):
        name = error.option_name
        if name.startswith("--"):
            return f"unknown flag: {name}"
        return f"unknown shorthand flag: '{name[1:2]}' in {name}"
    if isinstance(error, click.BadOptionUsage) and "requires" in error.message:
        return f"flag needs an argument: {error.option_name}"
    return error.format_message()
