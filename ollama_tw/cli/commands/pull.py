"""``ollama pull``: downloads a model from a registry to the server."""

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, json_option, model_argument, print_json
from ollama_tw.cli.transfers import pull
from ollama_tw.cli.variables import CLIENT


@click.command("pull", cls=Command, variables=CLIENT, short_help="Pull a model from a registry")
@model_argument("model")
@click.option("--insecure", is_flag=True, help="Use an insecure registry")
@json_option
def command(model: str, insecure: bool, as_json: bool) -> None:
    """Download MODEL from its registry. A download that was interrupted is continued."""
    pull(connected(), model, insecure=insecure, report=print_json if as_json else None)
