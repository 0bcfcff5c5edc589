"""``ollama rm``: deletes models."""

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, model_argument
from ollama_tw.cli.loading import unload
from ollama_tw.cli.variables import CLIENT
from ollama_tw.errors import OllamaError


@click.command("rm", cls=Command, variables=CLIENT)
@model_argument("models", nargs=-1, required=True, metavar="MODEL...")
def command(models: tuple[str, ...]) -> None:
    """Unload and delete each MODEL, and its files that no other model uses."""
    client = connected()
    for model in models:
        try:
            unload(client, model)
        except OllamaError as error:
            if "not found" not in error.message.lower():
                click.echo(f"Warning: unable to stop model '{model}'", err=True)
        client.call("DELETE", "/api/delete", {"model": model})
        click.echo(f"deleted '{model}'")
