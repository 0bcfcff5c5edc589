"""``ollama run``: answers one prompt, or starts an interactive session."""

import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from ollama_tw.cli.command import (
    Command,
    OptionalValue,
    UsageError,
    json_option,
    model_argument,
    print_json,
    truth,
    whole_number,
)
from ollama_tw.cli.paths import path_of
from ollama_tw.cli.variables import SESSION
from ollama_tw.errors import OllamaError, reason_of
from ollama_tw.golang.durations import format_duration, parse_duration

if TYPE_CHECKING:
    from ollama_tw.cli.chats import Chat

_LEVELS = ("high", "medium", "low", "max")
_LAST = "last"
_RENDERER = "ollama_tw.cli.rendering.answer"
_CLOUD = "https://ollama.com"


def _think(ctx: click.Context, param: click.Parameter, value: str | None) -> bool | str | None:
    if value is None or value in _LEVELS:
        return value
    if value in ("true", "false"):
        return value == "true"
    raise UsageError(f'invalid value for --think: "{value}" (must be true, false, high, medium, low, or max)')


def _keep_alive(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    if not value:
        return None
    try:
        duration = parse_duration(value)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return -1 if duration < 0 else format_duration(duration)


def _format(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """Return the format: the word json, or a JSON schema."""
    if not value or value == "json":
        return value or None
    import json

    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"invalid value for --format: neither json nor a JSON schema: {reason_of(error)}"
        ) from error


@click.command("run", cls=Command, variables=SESSION)
@model_argument("model", required=False)
@click.argument("prompt", nargs=-1)
@click.option(
    "-c",
    "--continue",
    "chat_id",
    cls=OptionalValue,
    implied=_LAST,
    metavar="[=ID]",
    help="Continue the last conversation (of MODEL if given), or conversation ID",
)
@click.option(
    "--keepalive", "keep_alive", callback=_keep_alive, help="Duration to keep a model loaded (e.g. 5m)"
)
@click.option("--verbose", is_flag=True, help="Show timings for response")
@click.option("--insecure", is_flag=True, help="Use an insecure registry")
@click.option("--nowordwrap", is_flag=True, help="Don't wrap words to the next line automatically")
@click.option("--plain", is_flag=True, help="Print answers as they are instead of rendering their Markdown")
@click.option("--format", callback=_format, help="Response format (json, or a JSON schema)")
@click.option(
    "--think",
    cls=OptionalValue,
    implied="true",
    callback=_think,
    help="Enable thinking mode: true/false or high/medium/low/max for supported models",
)
@click.option("--hidethinking", is_flag=True, help="Hide thinking output (if provided)")
@click.option(
    "--truncate",
    cls=OptionalValue,
    implied="true",
    callback=truth,
    help="For embedding models: truncate inputs exceeding context",
)
@click.option(
    "--dimensions",
    default="0",
    callback=whole_number,
    help="For embedding models: truncate the output vector",
)
@json_option
def command(
    model: str | None,
    prompt: tuple[str, ...],
    chat_id: str | None,
    keep_alive: int | str | None,
    verbose: bool,
    insecure: bool,
    nowordwrap: bool,
    plain: bool,
    format: Any,
    think: bool | str | None,
    hidethinking: bool,
    truncate: bool | None,
    dimensions: int,
    as_json: bool,
) -> None:
    """Run MODEL, which is pulled if the server lacks it, or imported if it is the path of a GGUF file.

    The answer to PROMPT, after what standard input holds, is printed. Without either, a session starts on
    a terminal.
    """
    from ollama_tw.cli.client import connected
    from ollama_tw.cli.lookup import find
    from ollama_tw.cli.starting import connected_or_started

    if model is None and chat_id is None:
        raise UsageError("requires at least 1 arg(s), only received 0")
    prompts = [*_standard_input(), *prompt]
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    is_interactive = has_terminal and not prompts and not as_json
    chat = _chat(chat_id, model, is_interactive=is_interactive)
    model = model or (chat.model if chat is not None else "")
    renders = has_terminal and not plain and not nowordwrap and format is None and not as_json
    if renders:
        # What renders answers is imported while the server works.
        threading.Thread(target=importlib.import_module, args=(_RENDERER,), daemon=True).start()
    client = connected_or_started() if has_terminal and not as_json else connected()
    if (path := path_of(model)) is not None:
        from ollama_tw.cli.importing import import_one

        model = import_one(client, path)
    found = find(client, model, insecure=insecure, confirm=click.confirm if is_interactive else None)
    if found.can("embedding"):
        from ollama_tw.cli.once import embed

        text = " ".join(prompts)
        if not text:
            raise UsageError(
                f'embedding models require input text. Usage: ollama run {found.name} "your text here"'
            )
        limits = {"keep_alive": keep_alive, "truncate": truncate, "dimensions": dimensions or None}
        embed(client, found.name, text, {k: v for k, v in limits.items() if v is not None}, as_json=as_json)
        return
    if found.can("image"):
        raise UsageError("image generation models are not currently supported")
    if has_terminal and (host := found.shown.get("remote_host")):
        where = "'ollama.com' ⚡" if host.startswith(_CLOUD) else f"'{host}'"
        click.echo(f"Connecting to '{found.shown.get('remote_model') or found.name}' on {where}", err=True)
    think_is_set = think is not None
    if not think_is_set and found.can("thinking"):
        think = True
    if is_interactive:
        from ollama_tw.cli.session.loop import run
        from ollama_tw.cli.session.state import State

        state = State(
            found,
            keep_alive=keep_alive,
            format=format,
            think=think,
            think_is_set=think_is_set,
            wraps=not nowordwrap,
            hides_thinking=hidethinking,
            verbose=verbose,
            renders=not plain,
        )
        if chat is not None:
            state.goes_on_with(chat)
        run(client, state)
        return
    from ollama_tw.cli.answer import Style
    from ollama_tw.cli.once import generate

    fields = {"keep_alive": keep_alive, "format": format, "think": think}
    generate(
        client,
        found,
        " ".join(prompts),
        {key: value for key, value in fields.items() if value is not None},
        Style.of(
            sys.stdout,
            wraps=not nowordwrap and sys.stdin.isatty(),
            hides_thinking=hidethinking,
            renders=renders,
        ),
        verbose=verbose,
        report=print_json if as_json else None,
    )


def _chat(id: str | None, model: str | None, *, is_interactive: bool) -> "Chat | None":
    """Return the kept conversation that the session continues, None for a new one."""
    if id is None:
        return None
    if not is_interactive:
        raise UsageError("--continue continues a session: it needs a terminal, and takes no prompt")
    from ollama_tw.cli.chats import Chats

    return Chats().last(model) if id == _LAST else Chats().get(id)


def _standard_input() -> list[str]:
    """Return what standard input holds unless it is a terminal: one text, none if it is empty."""
    if sys.stdin.isatty():
        return []
    try:
        text = sys.stdin.buffer.read().decode(errors="replace")
    except OSError as error:
        raise OllamaError(0, f"standard input cannot be read: {reason_of(error)}") from error
    return [text] if text else []
