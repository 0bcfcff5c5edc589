"""``ollama signin``: connects the server's key with an account at ollama.com."""

import click

from ollama_tw.cli.account import ask_account, print_signin_url
from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command
from ollama_tw.cli.variables import CLIENT
from ollama_tw.errors import OllamaError


@click.command("signin", cls=Command, variables=CLIENT)
def command() -> None:
    """Sign in to ollama.com, which runs cloud models and takes pushed ones."""
    client = connected()
    try:
        user = ask_account(client, "/api/me")
    except OllamaError as error:
        if error.status != 401:
            raise
        click.echo("You need to be signed in to Ollama to run Cloud models.\n")
        print_signin_url(error, opens=True)
        return
    if user and user.get("name"):
        click.echo(f"You are already signed in as user '{user['name']}'\n")
