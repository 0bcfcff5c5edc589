"""Base class of the commands of ``ollama``, with the texts of Cobra for usage errors.

Cobra is the Go library of Ollama's command line. Source: cobra: args.go; pflag: errors.go.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ollama_tw.config.declaration import Variable
from ollama_tw.golang.quoting import quote

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_F = TypeVar("_F", bound=Callable[..., Any])

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class UsageError(click.ClickException):
    """An invalid command line; the text is the whole message."""


class OptionalValue(click.Option):
    """An option whose value is given as ``--name=VALUE`` only; ``--name`` alone has the value ``implied``."""

    def __init__(self, *args: Any, implied: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.implied = implied


class Command(click.Command):
    """A command whose help lists the environment variables that it reads, after its options."""

    def __init__(self, *args: Any, variables: Sequence[Variable[object]] = (), **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT_SETTINGS)
        super().__init__(*args, **kwargs)
        self.variables = variables

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; raises UsageError for a wrong number of them."""
        args = spelled_out(self.params, args)
        if not ctx.resilient_parsing:
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


def spelled_out(params: Sequence[click.Parameter], args: Sequence[str]) -> list[str]:
    """Return ``args`` with the forms of pflag that click lacks in those that it has.

    These are the values of switches (``--verbose=false``) and options with an implied value (``--think``).
    Raises UsageError for the value of a switch that is not a boolean.
    """
    options = {name: param for param in params if isinstance(param, click.Option) for name in param.opts}
    result: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            return [*result, arg, *rest]
        name, separator, value = arg.partition("=")
        option = options.get(name)
        if option is None:
            result.append(arg)
        elif isinstance(option, OptionalValue):
            # Click reads "--name=VALUE", but not "-n=VALUE".
            result.append(f"{option.opts[-1]}={value if separator else option.implied}")
        elif not option.is_flag:
            result.append(arg)
            if not separator:
                result += [following for following in [next(rest, None)] if following is not None]
        elif not separator or value in _TRUE:
            result.append(name)
        elif value not in _FALSE:
            raise _invalid(option, value, "ParseBool")
    return result


def whole_number(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return the value of an option as a number; raises UsageError. A callback of click."""
    try:
        return int(value)
    except ValueError as error:
        raise _invalid(param, value, "ParseInt") from error


def truth(ctx: click.Context, param: click.Parameter, value: str | None) -> bool | None:
    """Return the value of an option that is given as a boolean, None if it is not given; raises UsageError.

    A callback of click.
    """
    if value is None:
        return None
    if value not in _TRUE | _FALSE:
        raise _invalid(param, value, "ParseBool")
    return value in _TRUE


def _invalid(param: click.Parameter | None, value: str, parser: str) -> UsageError:
    """Return the error of a value that Go's function ``parser`` refuses."""
    name = "" if param is None else ", ".join(param.opts)
    return UsageError(
        f'invalid argument {quote(value)} for "{name}" flag: strconv.{parser}: parsing {quote(value)}: '
        "invalid syntax"
    )


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


def model_argument(name: str, **settings: Any) -> Callable[[_F], _F]:
    """Return the decorator of an argument that is a model, which shells complete."""
    return click.argument(name, shell_complete=complete_models, **settings)


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list["CompletionItem"]:
    """Return the models of the server that begin with ``incomplete``. A callback of click."""
    from ollama_tw.cli.completion import model_names

    return model_names(incomplete)


def print_json(value: object) -> None:
    """Print one line of JSON, as soon as it is there."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line")
