"""Signing in: a registry's challenge, and the signed request for a token.

Source: ``spec/models-and-cli.md`` section 3.7; which realms are trusted, ``spec/security.md``
(CVE-2025-51471).
"""

import base64
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from ollama_tw.errors import OllamaError
from ollama_tw.net.origin import Origin, origin_of

# base64(hex(sha256(""))): the digest of the empty body that every token request has.
_EMPTY_BODY = "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="

# Hosts that are one registry under two names.
_ALIASES = ({"registry.ollama.ai", "ollama.com"}, {"hf.co", "huggingface.co"})

_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Challenge:
    """What a ``WWW-Authenticate: Bearer`` header asks for; a value that is not there is ""."""

    realm: str
    service: str
    scope: str


def parse_challenge(header: str) -> Challenge:
    """The values between quotes; a quote inside that no comma follows belongs to the value."""
    return Challenge(*(_value(header, key) for key in ("realm", "service", "scope")))


def _value(header: str, key: str) -> str:
    found = re.search(rf'(?:^|[\s,]){key}="(.*?)"(?=\s*(?:,|$))', header, re.DOTALL)
    return found[1] if found else ""


def check_realm(realm: str, registry: Origin) -> None:
    """Refuse, with OllamaError 500, to sign in anywhere but at the registry or its other name."""
    try:
        origin = origin_of(realm)
    except ValueError:
        host = urlsplit(realm).netloc if "[" not in realm and "]" not in realm else realm
        raise _foreign(host, registry) from None
    same_port = origin.port == registry.port
    aliases = same_port and any({origin.host, registry.host} <= group for group in _ALIASES)
    if not aliases and (origin.host, origin.port) != (registry.host, registry.port):
        raise _foreign(origin.netloc, registry)
    if origin.scheme != registry.scheme:
        raise OllamaError(500, f"the realm of {registry.netloc} would be asked over {origin.scheme}")


def _foreign(host: str, registry: Origin) -> OllamaError:
    return OllamaError(500, f'realm host "{host}" does not match original host "{registry.netloc}"')


def token_url(challenge: Challenge, *, now: float, nonce: str) -> str:
    """The URL of the token request: the realm with the challenge's values and ``ts`` and ``nonce``."""
    url = urlsplit(challenge.realm)
    values = parse_qsl(url.query, keep_blank_values=True)
    values.append(("service", challenge.service))
    values += [("scope", scope) for scope in challenge.scope.split()]
    values += [("ts", str(int(now))), ("nonce", nonce)]
    values.sort(key=lambda pair: pair[0])
    return urlunsplit((url.scheme, url.netloc, url.path, urlencode(values), ""))


def new_nonce() -> str:
    """Sixteen random bytes."""
    return secrets.token_urlsafe(16)


class Signer:
    """The server's private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        self.public_line = line
        """The public key as a line of ``authorized_keys``, without a comment."""
        self._public = line.split(" ")[1]

    @classmethod
    def load(cls, path: Path) -> "Signer":
        """The key in the file; blocking. Raises OllamaError 500 where there is none that can be used."""
        try:
            key = load_ssh_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise OllamaError(500, "the server's private key cannot be read") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise OllamaError(500, "the server's private key is not an ed25519 key")
        return cls(key)

    def authorization(self, text: str) -> str:
        """The Authorization header that signs ``text``: public key and signature, no scheme word."""
        signature = base64.b64encode(self._key.sign(text.encode())).decode()
        return f"{self._public}:{signature}"

    def token_authorization(self, url: str) -> str:
        """The Authorization header of the token request to ``url``."""
        return self.authorization(f"GET,{url},{_EMPTY_BODY}")


class _TokenReply(msgspec.Struct):
    token: str = ""
    access_token: str = ""


def read_token(body: bytes) -> str:
    """The token in the reply of the realm; OllamaError 500 where there is none."""
    try:
        reply = msgspec.json.decode(body, type=_TokenReply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OllamaError(500, "the registry's token cannot be read") from error
    token = reply.token or reply.access_token
    if not _TOKEN.fullmatch(token):
        raise OllamaError(500, "the registry gave no token")
    return token


FindSigner = Callable[[], Awaitable[Signer]]
"""Reads the server's key; raises OllamaError."""
