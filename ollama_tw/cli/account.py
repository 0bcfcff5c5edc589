"""The account at ollama.com: requests about it, and texts that several commands print."""

import os
import sys
from typing import Any

import click

from ollama_tw.cli.client import Client
from ollama_tw.errors import OllamaError


def ask_account(client: Client, path: str) -> Any:
    """Send a POST request about the account; the error of one that failed has what to do about it."""
    try:
        return client.call("POST", path)
    except OllamaError as error:
        if error.status not in (500, 503):
            raise
        raise OllamaError(error.status, f"{error.message}: {_remedy(client)}") from error


def _remedy(client: Client) -> str:
    """Return why the server has no answer of ollama.com, and what to do."""
    try:
        disabled = client.call("GET", "/api/status")["cloud"]["disabled"]
    except (OllamaError, KeyError, TypeError):
        # Of an older server.
        disabled = False
    if disabled:
        return "the server is set up not to use ollama.com (OLLAMA_NO_CLOUD, or ~/.ollama/server.json)"
    return "the server cannot reach ollama.com: check its network, and HTTPS_PROXY for a proxy"


def print_signin_url(error: OllamaError, *, opens: bool = False) -> None:
    """Print the address at which a user signs in, if there is one; ``opens`` it in a browser, too.

    A browser is opened from a terminal on a desktop only.
    """
    url = error.details.get("signin_url")
    if not url:
        return
    if opens and sys.stdout.isatty() and _has_desktop():
        import webbrowser

        webbrowser.open(url)
    click.echo(f"If your browser did not open, navigate to:\n    {url}\n")


def _has_desktop() -> bool:
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
