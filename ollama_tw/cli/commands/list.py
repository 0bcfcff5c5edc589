"""``ollama list``: prints the models of the server."""

from typing import Any

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, json_option, model_argument, print_json
from ollama_tw.cli.listings import model_table
from ollama_tw.cli.variables import CLIENT


@click.command("list", cls=Command, variables=CLIENT)
@model_argument("prefix", nargs=-1)
@json_option
def command(prefix: tuple[str, ...], as_json: bool) -> None:
    """List the models whose names begin with PREFIX, by default all."""
    models: list[dict[str, Any]] = (connected().call("GET", "/api/tags") or {}).get("models") or []
    if prefix:
        begin = prefix[0].lower()
        models = [model for model in models if model.get("name", "").lower().startswith(begin)]
    if as_json:
        print_json({"models": models})
    else:
        click.echo(model_table(models), nl=False)
