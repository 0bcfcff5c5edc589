"""``ollama show``: prints the details of a model."""

from typing import Any

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, UsageError, json_option, model_argument, print_json
from ollama_tw.cli.description import description
from ollama_tw.cli.variables import CLIENT

_PARTS = ("license", "modelfile", "parameters", "system", "template")
_WITHOUT_NEWLINE = ("system", "template")


@click.command("show", cls=Command, variables=CLIENT)
@model_argument("model")
@click.option("--license", is_flag=True, help="Show license of a model")
@click.option("--modelfile", is_flag=True, help="Show Modelfile of a model")
@click.option("--parameters", is_flag=True, help="Show parameters of a model")
@click.option("--template", is_flag=True, help="Show template of a model")
@click.option("--system", is_flag=True, help="Show system message of a model")
@click.option("-v", "--verbose", is_flag=True, help="Show detailed model information")
@json_option
def command(model: str, verbose: bool, as_json: bool, **parts: bool) -> None:
    """Print the description of MODEL, or one of its parts."""
    chosen = [name for name in _PARTS if parts[name]]
    if len(chosen) > 1:
        raise UsageError(
            "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' "
            "can be specified"
        )
    shown: dict[str, Any] = connected().call("POST", "/api/show", {"model": model, "verbose": verbose}) or {}
    if as_json:
        print_json({name: shown.get(name, "") for name in chosen} if chosen else shown)
    elif chosen:
        click.echo(shown.get(chosen[0], ""), nl=chosen[0] not in _WITHOUT_NEWLINE)
    else:
        click.echo(description(shown, verbose=verbose), nl=False)
