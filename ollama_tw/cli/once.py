"""One answer of ``ollama run`` that is not interactive: a completion or an embedding.

Source: ollama: cmd/cmd.go, generate, generateEmbedding.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from ollama_tw.cli.answer import Answer, Style, summary
from ollama_tw.cli.attachments import extract
from ollama_tw.cli.client import Client
from ollama_tw.cli.command import print_json
from ollama_tw.cli.lookup import Found
from ollama_tw.cli.progress import Progress
from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as golang_json

INCOMPLETE = "the server ended the answer before it was complete"


def generate(
    client: Client,
    found: Found,
    prompt: str,
    fields: Mapping[str, Any],
    style: Style,
    *,
    verbose: bool,
    report: Callable[[Any], None] | None,
) -> None:
    """Print the answer to ``prompt``; ``report`` gets the records instead. Ctrl-C ends the answer."""
    images: list[str] = []
    if found.takes_files:
        prompt, images = extract(prompt, lambda text: click.echo(text, err=True))
    body = {"model": found.name, "prompt": prompt, **({"images": images} if images else {}), **fields}
    answer = Answer.of(style)
    record: dict[str, Any] = {}
    records = client.stream("/api/generate", body)
    try:
        with Progress() as progress:
            progress.spinner("")
            try:
                for record in records:
                    if report is not None:
                        progress.clear()
                        report(record)
                    elif record.get("response") or record.get("thinking") or record.get("tool_calls"):
                        if record.get("response") or not style.hides_thinking:
                            progress.clear()
                        answer.add(
                            record.get("response", ""),
                            record.get("thinking", ""),
                            record.get("tool_calls") or (),
                        )
            finally:
                progress.clear()
                answer.end()
        if not record.get("done"):
            raise OllamaError(0, INCOMPLETE)
    except KeyboardInterrupt:
        if sys.stdout.isatty():
            click.echo()
        return
    except OllamaError:
        if sys.stdout.isatty() and answer.content:
            # The error stands on a line of its own.
            click.echo()
        raise
    if report is not None:
        return
    if prompt:
        click.echo("\n")
    if verbose:
        click.echo(summary(record), err=True, nl=False)


def embed(client: Client, model: str, text: str, fields: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the embedding of ``text``: the vector, or the whole reply ``as_json``."""
    reply = client.call("POST", "/api/embed", {"model": model, "input": text, **fields}) or {}
    if as_json:
        print_json(reply)
        return
    vectors = reply.get("embeddings") or []
    if not vectors:
        raise OllamaError(0, "no embeddings returned")
    click.echo(golang_json.encode(vectors[0]).decode())
