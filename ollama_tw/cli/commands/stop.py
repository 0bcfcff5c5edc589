"""``ollama stop``: unloads a model."""

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, model_argument
from ollama_tw.cli.loading import unload
from ollama_tw.cli.variables import CLIENT
from ollama_tw.errors import OllamaError


@click.command("stop", cls=Command, variables=CLIENT)
@model_argument("model")
def command(model: str) -> None:
    """Unload MODEL from memory once its running requests are done."""
    client = connected()
    try:
        unload(client, model)
    except OllamaError as error:
        if "not found" in error.message:
            raise OllamaError(error.status, f'couldn\'t find model "{model}" to stop') from error
        raise
