"""``ollama cp``: copies a model on the server."""

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, model_argument
from ollama_tw.cli.variables import CLIENT


@click.command("cp", cls=Command, variables=CLIENT)
@model_argument("source")
@model_argument("destination")
def command(source: str, destination: str) -> None:
    """Copy the model SOURCE to DESTINATION; the two share their files."""
    connected().call("POST", "/api/copy", {"source": source, "destination": destination})
    click.echo(f"copied '{source}' to '{destination}'")
