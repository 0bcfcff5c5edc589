"""``ollama top``: shows what the server does."""

import sys
from typing import TYPE_CHECKING

import click

from ollama_tw.cli.client import connected
from ollama_tw.cli.command import Command, json_option, print_json
from ollama_tw.cli.terminal import is_dumb
from ollama_tw.cli.variables import CLIENT
from ollama_tw.errors import OllamaError

if TYPE_CHECKING:
    from ollama_tw.cli.top.snapshot import Snapshot

_PIPE_SIZE = (160, 1_000_000)


@click.command("top", cls=Command, variables=CLIENT)
@json_option
def command(as_json: bool) -> None:
    """Show loaded models, requests, lanes, tokens per second and memory; q quits.

    In a pipe, and with --json, the state of now is printed once.
    """
    from ollama_tw.cli.top.snapshot import take_snapshot

    client = connected()
    if as_json:
        snapshot = _state(take_snapshot(client))
        print_json(
            {"models": snapshot.models, "requests": snapshot.requests, "metrics": dict(snapshot.metrics)}
        )
    elif sys.stdin.isatty() and sys.stdout.isatty() and not is_dumb():
        from ollama_tw.cli.top.display import show

        show(client)
    else:
        from ollama_tw.cli.top.screen import screen

        for line in screen(_state(take_snapshot(client)), client.url, *_PIPE_SIZE)[1:]:
            click.echo(line.text)


def _state(snapshot: "Snapshot") -> "Snapshot":
    """Return the snapshot; raises OllamaError if the server could not be asked."""
    if snapshot.error:
        raise OllamaError(0, snapshot.error)
    return snapshot
