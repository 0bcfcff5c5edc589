"""``ollama keys``: adds, lists and removes the API keys of the server on this machine."""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from ollama_tw.access.client import Client, Scope
from ollama_tw.access.key_file import KeyFileError, read_keys, update_keys
from ollama_tw.access.keys import Key, is_key_name, new_key
from ollama_tw.cli.command import CONTEXT_SETTINGS, Command, UsageError, json_option, print_json
from ollama_tw.cli.tables import table
from ollama_tw.config.declaration import SettingsError
from ollama_tw.config.settings import VARIABLES, Settings
from ollama_tw.tracking.priority import Priority

_NAMES = ("OLLAMA_CONFIG", "OLLAMA_MODELS")
_READ = tuple(variable for variable in VARIABLES if variable.name in _NAMES)
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@click.group(
    "keys",
    context_settings=CONTEXT_SETTINGS,
    invoke_without_command=True,
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Add, list and remove the API keys of the server on this machine.

    As soon as there is one key, every request needs one. The keys are kept in keys.json beside the models
    directory, or beside the file of OLLAMA_CONFIG: run this as the server's user, with its environment. A
    running server sees each change.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _expiry(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Return the moment that is meant by ``30d``, ``12h``, ``4w`` or a date. A callback of click."""
    if value is None:
        return None
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        if found := re.fullmatch("([1-9][0-9]{0,5})([hdw])", value):
            return now + timedelta(**{_UNITS[found[2]]: int(found[1])})
        moment = datetime.fromisoformat(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"--expires {value}: give a time such as 30d, 12h or 4w, or a date") from None
    if moment <= now:
        raise UsageError(f"--expires {value}: this is in the past")
    return moment


@command.command("add", cls=Command, variables=_READ, short_help="Add a key")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="Scope of the key; may be repeated (default inference)",
)
@click.option("--expires", callback=_expiry, metavar="30d|DATE", help="Time after which the key expires")
@click.option("--concurrent", type=click.IntRange(1), metavar="N", help="Maximum of requests at once")
@click.option("--tokens-per-minute", type=click.IntRange(1), metavar="N", help="Maximum of tokens a minute")
@click.option(
    "--priority",
    type=click.Choice([priority.name.lower() for priority in Priority]),
    default="normal",
    help="Order among waiting requests (default normal)",
)
@json_option
def add(
    name: str,
    scopes: Sequence[str],
    expires: datetime | None,
    concurrent: int | None,
    tokens_per_minute: int | None,
    priority: str,
    as_json: bool,
) -> None:
    """Add a key with NAME, and print its secret, which is not stored and cannot be shown again."""
    if not is_key_name(name):
        raise UsageError(
            f'the name "{name}" is not valid: give 1 to 64 letters, digits and ._@- that begin with a letter '
            "or a digit"
        )
    client = Client(
        name,
        frozenset(map(Scope, scopes or (Scope.INFERENCE,))),
        Priority[priority.upper()],
        concurrent,
        tokens_per_minute,
        anonymous=False,
    )
    key, secret = new_key(client, datetime.now(UTC).replace(microsecond=0), expires)

    def change(keys: tuple[Key, ...]) -> Sequence[Key]:
        if any(one.client.name == name for one in keys):
            raise UsageError(f'there is a key "{name}" already: remove it first')
        return (*keys, key)

    _update(_path(), change)
    if as_json:
        print_json({**_described(key), "secret": secret})
    else:
        click.echo(secret)
        click.echo(f'This is the secret of the key "{name}". It is not stored and not shown again.', err=True)


@command.command("list", cls=Command, variables=_READ, short_help="List the keys")
@json_option
def show(as_json: bool) -> None:
    """List the keys, without their secrets."""
    keys = _read(_path())
    if as_json:
        print_json({"keys": [_described(key) for key in keys]})
        return
    header = ("NAME", "SCOPES", "PRIORITY", "CONCURRENT", "TOKENS/MIN", "CREATED", "EXPIRES")
    click.echo(table([_row(key) for key in keys], header=header), nl=False)


@command.command("remove", cls=Command, variables=_READ, short_help="Remove a key")
@click.argument("name")
def remove(name: str) -> None:
    """Remove the key NAME: requests with it are refused from now on."""
    left: list[Key] = []

    def change(keys: tuple[Key, ...]) -> Sequence[Key]:
        left[:] = [one for one in keys if one.client.name != name]
        if len(left) == len(keys):
            raise UsageError(f'there is no key "{name}"')
        return left

    _update(_path(), change)
    click.echo(f"removed key '{name}'")
    if not left:
        click.echo("Warning: no key is left, so the server answers requests without one", err=True)


def _path() -> Path:
    try:
        return Settings.read(os.environ, lambda text: None).keys_file
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def _read(path: Path) -> tuple[Key, ...]:
    try:
        return read_keys(path)
    except KeyFileError as error:
        raise click.ClickException(str(error)) from error


def _update(path: Path, change: Any) -> None:
    try:
        update_keys(path, change)
    except KeyFileError as error:
        raise click.ClickException(str(error)) from error


def _described(key: Key) -> dict[str, Any]:
    client = key.client
    return {
        "name": client.name,
        "scopes": sorted(client.scopes),
        "priority": client.priority.name.lower(),
        "concurrent": client.concurrent,
        "tokens_per_minute": client.tokens_per_minute,
        "created": key.created.isoformat(),
        "expires": None if key.expires is None else key.expires.isoformat(),
    }


def _row(key: Key) -> tuple[str, ...]:
    client = key.client
    return (
        client.name,
        ",".join(sorted(client.scopes)),
        client.priority.name.lower(),
        _limit(client.concurrent),
        _limit(client.tokens_per_minute),
        f"{key.created:%Y-%m-%d}",
        _expires(key),
    )


def _limit(value: int | None) -> str:
    return "-" if value is None else str(value)


def _expires(key: Key) -> str:
    if key.expires is None:
        return "never"
    text = f"{key.expires:%Y-%m-%d %H:%M}"
    return f"{text} (expired)" if key.is_expired(datetime.now(UTC)) else text
