import base64
import hmac
import re
from datetime import UTC, datetime, timedelta

import pytest

from ollama_tw.access.client import Client, Scope
from ollama_tw.access.keys import is_key_name, new_key

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
CLIENT = Client("alice", frozenset({Scope.INFERENCE}), anonymous=False)


def test_a_secret_has_256_bits_and_is_not_in_the_key() -> None:
    key, secret = new_key(CLIENT, NOW)
    assert re.fullmatch(r"otw-[A-Za-z0-9_-]{43}", secret)
    assert len(base64.urlsafe_b64decode(secret.removeprefix("otw-") + "=")) == 32
    assert secret not in repr(key)
    assert secret.encode() not in key.digest


def test_a_key_matches_its_secret_only() -> None:
    key, secret = new_key(CLIENT, NOW)
    other, other_secret = new_key(CLIENT, NOW)
    assert key.matches(secret.encode())
    assert not key.matches(other_secret.encode())
    assert not key.matches(secret[:-1].encode())
    assert not key.matches(b"")
    assert not other.matches(secret.encode())


def test_equal_secrets_have_different_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_tw.access.keys.secrets.token_urlsafe", lambda size: "A" * 43)
    (first, _), (second, _) = new_key(CLIENT, NOW), new_key(CLIENT, NOW)
    assert first.digest != second.digest


def test_the_comparison_takes_the_same_time_for_every_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ``hmac.compare_digest`` of two hashes, whose lengths do not depend on the secret."""
    compared: list[tuple[int, int]] = []

    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr("ollama_tw.access.keys.hmac.compare_digest", compare)
    key, secret = new_key(CLIENT, NOW)
    for given in (secret, secret[:10], "", "x" * 10_000):
        key.matches(given.encode())
    assert compared == [(32, 32)] * 4


def test_a_key_expires() -> None:
    key, _ = new_key(CLIENT, NOW, NOW + timedelta(days=1))
    assert not key.is_expired(NOW + timedelta(hours=23))
    assert key.is_expired(NOW + timedelta(days=1))
    assert not new_key(CLIENT, NOW)[0].is_expired(datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize("name", ["alice", "a", "9", "team.web-1_x", "bob@example.org", "A" * 64])
def test_names(name: str) -> None:
    assert is_key_name(name)


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a\n", "a=b", "ä", "A" * 65, 'a"'])
def test_names_that_would_confuse_a_log(name: str) -> None:
    assert not is_key_name(name)
