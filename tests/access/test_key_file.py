import json
import os
import stat
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ollama_tw.access import key_file
from ollama_tw.access.client import Client, Scope
from ollama_tw.access.key_file import KeyFileError, read_keys, update_keys
from ollama_tw.access.keys import Key, new_key
from ollama_tw.tracking.priority import Priority
from tests.helpers import PATIENCE

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def key(name: str = "alice", **fields: Any) -> tuple[Key, str]:
    scopes = frozenset({Scope.INFERENCE, Scope.METRICS})
    return new_key(Client(name, scopes, anonymous=False, **fields), NOW, NOW + timedelta(days=30))


def test_keys_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    alice, _ = key(priority=Priority.HIGH, concurrent=2, tokens_per_minute=9000)
    bob, _ = new_key(Client("bob", frozenset({Scope.ADMIN}), anonymous=False), NOW)
    assert read_keys(path) == ()
    update_keys(path, lambda _: [alice])
    update_keys(path, lambda keys: [*keys, bob])
    assert read_keys(path) == (alice, bob)


def test_the_file_is_for_its_owner_and_has_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    alice, secret = key()
    umask = os.umask(0)
    try:
        update_keys(path, lambda _: [alice])
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret.removeprefix("otw-") not in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_the_new_file_belongs_to_the_owner_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may change the keys of a server that runs as another user."""
    path = tmp_path / "keys.json"
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(os, "fchown", lambda _, user, group: given.append((user, group)), raising=False)
    update_keys(path, lambda _: [key()[0]])
    update_keys(path, lambda _: [])
    owner = tmp_path.stat()
    assert given == [(owner.st_uid, owner.st_gid)] * 2


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "_LOCK_SECONDS", PATIENCE)
    path = tmp_path / "keys.json"

    def add(name: str) -> None:
        update_keys(path, lambda keys: [*keys, key(name)[0]])

    threads = [threading.Thread(target=add, args=(f"k{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.client.name for one in read_keys(path)} == {f"k{n}" for n in range(8)}


def test_a_change_that_fails_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    update_keys(path, lambda _: [key()[0]])
    before = path.read_bytes()

    def fail(keys: Sequence[Key]) -> Sequence[Key]:
        raise LookupError

    with pytest.raises(LookupError):
        update_keys(path, fail)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_a_lock_that_was_left_behind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "_LOCK_SECONDS", 0.0)
    lock = tmp_path / "keys.json.new"
    lock.touch()
    with pytest.raises(KeyFileError, match=f"if there is none, remove {lock}"):
        update_keys(tmp_path / "keys.json", lambda _: [])


ENTRY = {
    "name": "alice",
    "salt": "AAAA",
    "hash": "AAAA",
    "scopes": ["inference"],
    "created": "2026-11-28T12:00:00Z",
}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "Input data was truncated"),
        ("{,}", "JSON is malformed"),
        ([], "Expected `object`"),
        ({"version": 2, "keys": []}, "its version is 2, this server reads version 1"),
        ({"version": 1, "keys": [{**ENTRY, "scopes": ["all"]}]}, "Invalid enum value 'all'"),
        ({"version": 1, "keys": [{**ENTRY, "hash": 1}]}, "Expected `bytes`"),
        ({"version": 1, "keys": [{**ENTRY, "created": "2026-11-28T12:00:00"}]}, "timezone"),
        ({"version": 1, "keys": [{**ENTRY, "expires": "soon"}]}, "Invalid RFC3339"),
        ({"version": 1, "keys": [{**ENTRY, "priority": "top"}]}, "one of low, normal, high"),
        ({"version": 1, "keys": [{**ENTRY, "concurrent": 0}]}, "a limit of alice is less than 1"),
        ({"version": 1, "keys": [{**ENTRY, "name": "a b"}]}, "cannot be the name of a key"),
        ({"version": 1, "keys": [{**ENTRY, "expire": "2027-01-01T00:00:00Z"}]}, "unknown field `expire`"),
        ({"version": 1, "keys": [ENTRY, ENTRY]}, "two keys have the same name"),
    ],
)
def test_files_that_are_not_valid(tmp_path: Path, document: Any, reason: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(KeyFileError) as error:
        read_keys(path)
    assert str(error.value).startswith(f"{path} is not a valid file of keys: ")
    assert reason in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be read: is a directory"):
        read_keys(tmp_path)
