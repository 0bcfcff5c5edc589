"""The file of the API keys, ``keys.json``.

It is replaced as a whole, so that a server never reads a half-written one, and only its owner can read it.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from ollama_tw.access.client import Client, Scope
from ollama_tw.access.keys import Key, is_key_name
from ollama_tw.errors import reason_of
from ollama_tw.files import NO_FOLLOW, make_directory, sync_directory
from ollama_tw.posix import give_to_owner
from ollama_tw.tracking.priority import Priority
from ollama_tw.wire.decode_errors import DECODE_ERRORS

_VERSION = 1
_MAX_BYTES = 16 << 20
# Longer than a busy machine or a slow disk keeps a command that holds the lock.
_LOCK_SECONDS = 30.0

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class KeyFileError(Exception):
    """A file of keys that cannot be used; the text is one sentence for the operator."""


class _StoredKey(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A key in the file."""

    name: str
    salt: bytes
    hash: bytes
    scopes: list[Scope]
    created: _Moment
    expires: _Moment | None = None
    priority: str = Priority.NORMAL.name.lower()
    concurrent: int | None = None
    tokens_per_minute: int | None = None


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    keys: list[_StoredKey]


def read_keys(path: Path) -> tuple[Key, ...]:
    """Return the keys in the file ``path``, none if there is no such file. Raises :class:`KeyFileError`."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {reason_of(error)}") from error
    try:
        document = msgspec.json.decode(data, type=_Document)
        if document.version != _VERSION:
            raise ValueError(f"its version is {document.version}, this server reads version {_VERSION}")
        keys = tuple(_loaded(stored) for stored in document.keys)
        if len({key.client.name for key in keys}) < len(keys):
            raise ValueError("two keys have the same name")
    except (ValueError, *DECODE_ERRORS) as error:
        raise KeyFileError(f"{path} is not a valid file of keys: {error}") from error
    return keys


def update_keys(path: Path, change: Callable[[tuple[Key, ...]], Sequence[Key]]) -> None:
    """Replace the keys in the file ``path`` by those that ``change`` returns for them.

    The file has mode 0600. Run by root, it belongs to the owner of the file before, or of its directory, so
    that the server's user can read it. Raises :class:`KeyFileError`, OSError, and what ``change`` raises.
    """
    make_directory(path.parent)
    temporary = path.with_name(f"{path.name}.new")
    descriptor = _locked(temporary)
    try:
        with os.fdopen(descriptor, "wb") as file:
            keys = change(read_keys(path))
            file.write(_encoded(keys))
            file.flush()
            give_to_owner(descriptor, path)
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _locked(temporary: Path) -> int:
    """Create the file that becomes the new one; while it exists, other processes wait."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600)
        except FileExistsError:
            if time.monotonic() > deadline:
                raise KeyFileError(
                    f"another command is changing the keys; if there is none, remove {temporary}"
                ) from None
            time.sleep(0.05)


def _encoded(keys: Sequence[Key]) -> bytes:
    document = _Document(_VERSION, [_stored(key) for key in keys])
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _stored(key: Key) -> _StoredKey:
    client = key.client
    return _StoredKey(
        name=client.name,
        salt=key.salt,
        hash=key.digest,
        scopes=sorted(client.scopes),
        created=key.created,
        expires=key.expires,
        priority=client.priority.name.lower(),
        concurrent=client.concurrent,
        tokens_per_minute=client.tokens_per_minute,
    )


def _loaded(stored: _StoredKey) -> Key:
    if not is_key_name(stored.name):
        raise ValueError(f"{stored.name[:80]!r} cannot be the name of a key")
    if stored.priority.upper() not in Priority.__members__:
        raise ValueError(f"the priority of {stored.name} is not one of low, normal, high")
    for limit in (stored.concurrent, stored.tokens_per_minute):
        if limit is not None and limit < 1:
            raise ValueError(f"a limit of {stored.name} is less than 1")
    client = Client(
        stored.name,
        frozenset(stored.scopes),
        Priority[stored.priority.upper()],
        stored.concurrent,
        stored.tokens_per_minute,
        anonymous=False,
    )
    return Key(client, stored.salt, stored.hash, stored.created, stored.expires)
