"""``ollama push``: uploads a model from the server to a registry."""

import click

from ollama_tw.cli.account import ask_account, print_signin_url
from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, model_argument
from ollama_tw.cli.transfers import push
from ollama_tw.cli.variables import CLIENT
from ollama_tw.errors import OllamaError
from ollama_tw.library.names import InvalidName, Name, parse_name

_OWN_DOMAINS = (".ollama.ai", ".ollama.com")
_REFUSALS = ("access denied", "unauthorized")


@click.command("push", cls=Command, variables=CLIENT)
@model_argument("model")
@click.option("--insecure", is_flag=True, help="Use an insecure registry")
def command(model: str, insecure: bool) -> None:
    """Upload MODEL to the registry in its name."""
    client = connected()
    name = _parsed(model)
    is_own = name is not None and name.host.endswith(_OWN_DOMAINS)
    if is_own:
        try:
            ask_account(client, "/api/me")
        except OllamaError as error:
            if error.status != 401:
                raise
            click.echo("You need to be signed in to push models to ollama.com.\n")
            print_signin_url(error)
            return
    try:
        push(client, model, insecure=insecure)
    except OllamaError as error:
        if not any(text in error.message for text in _REFUSALS):
            raise
        raise OllamaError(
            error.status,
            "you are not authorized to push to this namespace, create the model under a namespace you own",
        ) from error
    if name is not None:
        address = f"https://ollama.com/{name.short.removesuffix(':latest')}" if is_own else name.full
        click.echo(f"\nYou can find your model at:\n\n\t{address}")


def _parsed(model: str) -> Name | None:
    """Return the name, None for an invalid one, which the server refuses."""
    try:
        return parse_name(model)
    except InvalidName:
        return None
