from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ollama_tw.access.client import Client, Scope
from ollama_tw.access.key_file import KeyFileError, update_keys
from ollama_tw.access.keyring import Keyring
from ollama_tw.access.keys import Key, new_key

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Ring:
    """A keyring on a file, with a clock of its own."""

    def __init__(self, path: Path, *, required: bool = False) -> None:
        self.path = path
        self.now = NOW
        self.log: list[str] = []
        self.keys = Keyring(path, self.log.append, required=required, now=lambda: self.now)

    def add(self, name: str, days: int | None = None) -> tuple[Key, str]:
        expires = None if days is None else NOW + timedelta(days=days)
        key, secret = new_key(Client(name, frozenset({Scope.INFERENCE}), anonymous=False), NOW, expires)
        update_keys(self.path, lambda keys: [*keys, key])
        self.keys.refresh()
        return key, secret

    def remove(self, name: str) -> None:
        update_keys(self.path, lambda keys: [one for one in keys if one.client.name != name])
        self.keys.refresh()


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path / "keys.json")


def test_without_keys_none_is_needed(ring: Ring) -> None:
    assert not ring.keys.in_use
    assert ring.keys.find("otw-x") is None


def test_a_key_is_found_by_its_secret_as_soon_as_it_is_added(ring: Ring) -> None:
    alice, secret = ring.add("alice")
    bob, other = ring.add("bob")
    assert ring.keys.in_use
    assert ring.keys.find(secret) == alice
    assert ring.keys.find(other) == bob
    assert ring.keys.find(secret + "x") is None
    assert ring.keys.find("") is None
    assert ring.keys.find("\udcff") is None
    assert ring.log[0] == f"read 1 keys from {ring.path}"


def test_a_removed_key_is_not_valid_any_more(ring: Ring) -> None:
    alice, secret = ring.add("alice")
    ring.add("bob")
    assert ring.keys.current(alice) == alice
    ring.remove("alice")
    assert ring.keys.find(secret) is None
    assert ring.keys.current(alice) is None


def test_a_key_of_the_same_name_is_another_key(ring: Ring) -> None:
    alice, _ = ring.add("alice")
    ring.remove("alice")
    ring.add("alice")
    assert ring.keys.current(alice) is None


def test_an_expired_key_is_found_and_is_not_current(ring: Ring) -> None:
    key, secret = ring.add("alice", days=1)
    assert ring.keys.current(key) == key
    ring.now += timedelta(days=1)
    found = ring.keys.find(secret)
    assert found == key
    assert ring.keys.is_expired(key)
    assert ring.keys.current(key) is None


def test_the_last_key_that_is_removed_opens_the_server_and_is_reported(ring: Ring) -> None:
    ring.add("alice")
    ring.remove("alice")
    assert not ring.keys.in_use
    assert ring.log[-1] == f"{ring.path} has no keys any more: requests are answered without one"


def test_where_keys_are_required_the_server_stays_closed(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "keys.json", required=True)
    assert ring.keys.in_use
    ring.add("alice")
    ring.remove("alice")
    assert ring.keys.in_use
    assert ring.keys.size == 0


def test_a_file_that_disappears_keeps_the_keys_before(ring: Ring) -> None:
    alice, secret = ring.add("alice")
    hidden = ring.path.rename(ring.path.with_name("hidden"))
    ring.keys.refresh()
    assert ring.keys.find(secret) == alice
    assert ring.log[-1] == f"{ring.path} is missing; the keys that were read before stay valid"
    hidden.rename(ring.path)
    ring.remove("alice")
    assert not ring.keys.in_use


def test_a_file_that_becomes_invalid_keeps_the_keys_before(ring: Ring) -> None:
    alice, secret = ring.add("alice")
    ring.path.write_text("{")
    ring.keys.refresh()
    ring.keys.refresh()
    assert ring.keys.find(secret) == alice
    complaints = [line for line in ring.log if "not a valid file of keys" in line]
    assert len(complaints) == 1
    assert complaints[0].endswith("; the keys that were read before stay valid")


def test_an_invalid_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{")
    with pytest.raises(KeyFileError):
        Ring(path)


def test_a_file_that_others_can_read_is_reported(ring: Ring) -> None:
    ring.add("alice")
    ring.path.chmod(0o644)
    Keyring(ring.path, ring.log.append)
    assert ring.log[-1] == f"{ring.path} is accessible to others than its owner: chmod 600 it"
