"""``ollama signout``: disconnects the server's key from an account at ollama.com."""

import click

from ollama_tw.cli.account import ask_account
from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command
from ollama_tw.cli.variables import CLIENT
from ollama_tw.errors import OllamaError


@click.command("signout", cls=Command, variables=CLIENT)
def command() -> None:
    """Sign out from ollama.com."""
    client = connected()
    try:
        ask_account(client, "/api/signout")
    except OllamaError as error:
        if error.status != 401:
            raise
        click.echo("You are not signed in to ollama.com\n")
        return
    click.echo("You have signed out of ollama.com\n")
