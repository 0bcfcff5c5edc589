"""Registry authentication: challenges, realms and tokens."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ollama_tw.errors import OllamaError
from ollama_tw.identity.signer import Signer
from ollama_tw.net.origin import Origin
from ollama_tw.registry.challenge import (
    Challenge,
    check_realm,
    parse_challenge,
    read_token,
    token_authorization,
    token_url,
)


def test_parses_a_challenge() -> None:
    header = 'Bearer realm="https://r.example/token",service="r.example",scope="repository:a/b:pull push:x"'
    assert parse_challenge(header) == Challenge(
        "https://r.example/token", "r.example", "repository:a/b:pull push:x"
    )


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Challenge("", "", "")),
        ('Basic realm="x"', Challenge("x", "", "")),
        ('Bearer service="s", realm="a"b", scope=""', Challenge('a"b', "s", "")),
        ("Bearer realm=unquoted", Challenge("", "", "")),
        ('Bearer xrealm="no",realm="yes"', Challenge("yes", "", "")),
    ],
)
def test_unusual_challenges(header: str, expected: Challenge) -> None:
    assert parse_challenge(header) == expected


def test_token_url() -> None:
    challenge = Challenge(
        "https://r.example/token?z=1&a=b c", "r.example:5000", "repository:a/b:pull other:x"
    )
    assert token_url(challenge, now=1700000000.9, nonce="NONCE") == (
        "https://r.example/token?a=b+c&nonce=NONCE&scope=repository%3Aa%2Fb%3Apull&scope=other%3Ax"
        "&service=r.example%3A5000&ts=1700000000&z=1"
    )


def test_signature_of_a_token_request() -> None:
    key = Ed25519PrivateKey.generate()
    header = token_authorization(Signer(key), "https://r.example/token?ts=1")
    public, signature = header.split(":")
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert line == f"ssh-ed25519 {public}"
    key.public_key().verify(
        base64.b64decode(signature),
        b"GET,https://r.example/token?ts=1,"
        b"ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ==",
    )


REGISTRY = Origin("https", "registry.ollama.ai", 443)


@pytest.mark.parametrize(
    ("realm", "registry"),
    [
        ("https://registry.ollama.ai/token", REGISTRY),
        ("https://REGISTRY.ollama.ai:443/token", REGISTRY),
        ("https://ollama.com/token", REGISTRY),
        ("https://huggingface.co/t", Origin("https", "hf.co", 443)),
        ("https://hf.co/t", Origin("https", "huggingface.co", 443)),
        ("http://localhost:5000/t", Origin("http", "localhost", 5000)),
        ("https://[::1]:5000/t", Origin("https", "::1", 5000)),
    ],
)
def test_realms_of_the_registry(realm: str, registry: Origin) -> None:
    check_realm(realm, registry)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token":""}',
        b'{"token":"a b"}',
        b'{"token":"a\\r\\nX: y"}',
        b"\xff",
        b'{"token":"\xff"}',
        pytest.param(b'{"x":' * 100_000, id="nested too deeply"),
    ],
)
def test_replies_without_a_token(body: bytes) -> None:
    with pytest.raises(OllamaError, match="token"):
        read_token(body)


def test_token() -> None:
    assert read_token(json.dumps({"token": "abc.def"}).encode()) == "abc.def"
    assert read_token(b'{"access_token":"x"}') == "x"
