"""Texts about the account at ollama.com that several commands print."""

import os
import sys

import click

from ollama_tw.errors import OllamaError


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
