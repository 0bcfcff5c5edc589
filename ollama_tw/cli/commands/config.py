"""``ollama config``: checks the configuration file of the server, and shows where each setting comes from."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ollama_tw.cli.command import CONTEXT_SETTINGS, Command, UsageError, json_option, print_json
from ollama_tw.cli.tables import table
from ollama_tw.config.declaration import SettingsError, Variable
from ollama_tw.config.settings import CONFIG, VARIABLES, models_directory
from ollama_tw.configfile.document import Document
from ollama_tw.configfile.load import NAME, SYSTEM, find_file, mistake_lines, read_file
from ollama_tw.configfile.models import OPTION_KEYS
from ollama_tw.golang.durations import format_duration

_READ = tuple(variable for variable in VARIABLES if variable.name in ("OLLAMA_CONFIG", "OLLAMA_MODELS"))
_WIDTH = 60


@click.group(
    "config",
    context_settings=CONTEXT_SETTINGS,
    invoke_without_command=True,
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check and show the configuration of the server on this machine.

    The file is that of OLLAMA_CONFIG, else ollama.toml beside the models directory, else
    /etc/ollama/ollama.toml. Environment variables override it: run this with those of the server.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("check", cls=Command, variables=_READ, short_help="Check the configuration file")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_context
def check(ctx: click.Context, file: Path | None) -> None:
    """Print each mistake in FILE, by default that of the server, with its line.

    The exit status is 1 if there is a mistake.
    """
    path = file or _file()
    if path is None:
        click.echo(f"there is no configuration file: neither {_beside_models()} nor {SYSTEM} exists")
        return
    document = read_file(path)
    for line in mistake_lines(document):
        click.echo(line)
    if document.mistakes:
        ctx.exit(1)
    click.echo(f"{path}: no mistakes")


@command.command("show", cls=Command, variables=_READ, short_help="Show each setting and where it comes from")
@json_option
def show(as_json: bool) -> None:
    """Show each setting with its value and its source: the environment, a line of the file or the default."""
    document = read_file(_file())
    settings = list(_settings(document, os.environ))
    if as_json:
        print_json(
            {
                "file": None if document.path is None else str(document.path),
                "settings": settings,
                "models": {name: _model(document, name) for name in document.models},
                "aliases": {alias.name: alias.target for alias in document.aliases.values()},
                "mistakes": mistake_lines(document),
            }
        )
        return
    rows = [(one["name"], one["value"], one["from"]) for one in settings]
    rows += [row for name in document.models for row in _model_rows(document, name)]
    rows += [
        (f'aliases."{one.name}"', one.target, _place(document, "aliases", one.name))
        for one in document.aliases.values()
    ]
    click.echo(table(rows, header=("SETTING", "VALUE", "FROM"), cell_width=_WIDTH), nl=False)
    for line in mistake_lines(document):
        click.echo(f"Warning: {line}", err=True)


def _settings(document: Document, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for variable in VARIABLES:
        if variable is CONFIG:
            continue
        name = variable.name.removeprefix("OLLAMA_").lower()
        value, source = _value(variable, document, environ)
        yield {"name": name, "value": value, "from": source}


def _value(variable: Variable[object], document: Document, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the text of the value that the server takes, and its source."""
    remarks: list[str] = []
    if variable.is_set(environ):
        text = environ[variable.name].strip().strip("\"'")
        try:
            variable.parse(text, remarks.append)
        except ValueError:
            return variable.default, f"default, because {variable.name} is not valid"
        return text, f"environment {variable.name}"
    if variable.name in document.settings:
        return document.settings[variable.name], _place(
            document, variable.name.removeprefix("OLLAMA_").lower()
        )
    return variable.default, "default"


def _place(document: Document, *path: str) -> str:
    """Return the file and the line in which the value at ``path`` is set."""
    return f"{document.path}:{document.lines[path]}"


def _model_rows(document: Document, name: str) -> Iterator[tuple[str, str, str]]:
    for key, value in _model(document, name).items():
        if key != "options":
            yield f'models."{name}".{key}', _written(value), _place(document, "models", name, key)
            continue
        for option, chosen in value.items():
            place = _place(document, "models", name, key, option)
            yield f'models."{name}".options.{option}', _written(chosen), place


def _model(document: Document, name: str) -> dict[str, Any]:
    """Return what is set of a model, by the keys of its table."""
    config = document.models[name]
    options = dict(config.options)
    renamed = {
        key: options.pop(option)
        for key, option in OPTION_KEYS.items()
        if ("models", name, key) in document.lines and option in options
    }
    return renamed | {
        key: value
        for key, value in (
            ("parallel", config.parallel),
            ("kv_cache_type", config.kv_cache_type),
            ("keep_alive", None if config.keep_alive is None else format_duration(config.keep_alive)),
            ("pin", config.pin or None),
            ("preload", config.preload or None),
            ("draft", config.draft),
            ("options", options or None),
        )
        if value is not None
    }


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _file() -> Path | None:
    try:
        return find_file(os.environ)
    except SettingsError as error:
        raise UsageError(str(error)) from error


def _beside_models() -> Path:
    return models_directory(os.environ).parent / NAME
