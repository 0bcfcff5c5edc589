"""``ollama ps``: prints the models that are loaded."""

from typing import Any

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, json_option, model_argument, print_json
from ollama_tw.cli.listings import running_table
from ollama_tw.cli.variables import CLIENT


@click.command("ps", cls=Command, variables=CLIENT)
@model_argument("prefix", nargs=-1)
@json_option
def command(prefix: tuple[str, ...], as_json: bool) -> None:
    """List the loaded models whose names begin with PREFIX, by default all."""
    models: list[dict[str, Any]] = (connected().call("GET", "/api/ps") or {}).get("models") or []
    if prefix:
        models = [model for model in models if model.get("name", "").startswith(prefix[0])]
    if as_json:
        print_json({"models": models})
    else:
        click.echo(running_table(models), nl=False)
