"""Registry authentication: the challenge of a 401 response, and the signed request for a token.

Source: ollama: server/auth.go, getAuthorizationToken; server/images.go, parseRegistryChallenge. That a token
is requested from the registry's own host only: CVE-2025-51471.
"""

import re
import secrets
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.identity.signer import Signer
from ollama_tw.net.origin import Origin, origin_of
from ollama_tw.wire.decode_errors import DECODE_ERRORS

# base64(hex(sha256(""))): the digest of the empty body of a token request.
_EMPTY_BODY = "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="

# Pairs of host names of the same registry.
_ALIASES = ({"registry.ollama.ai", "ollama.com"}, {"hf.co", "huggingface.co"})

_MAX_HEADER = 4096
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Challenge:
    """The parameters of a ``WWW-Authenticate: Bearer`` header; an absent one is ""."""

    realm: str
    service: str
    scope: str


def parse_challenge(header: str) -> Challenge:
    """Parse the quoted parameters; a quote that is not followed by a comma belongs to the value."""
    return Challenge(*(_value(header, key) for key in ("realm", "service", "scope")))


def _value(header: str, key: str) -> str:
    if len(header) > _MAX_HEADER:
        return ""
    found = re.search(rf'(?:^|[\s,]){key}="(.*?)"(?=\s*(?:,|$))', header, re.DOTALL)
    return found[1] if found else ""


def check_realm(realm: str, registry: Origin) -> None:
    """Raise OllamaError 500 unless ``realm`` has the host, port and scheme of ``registry`` or its alias."""
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
        raise OllamaError(500, f"the realm of {registry.netloc} must not use {origin.scheme}")


def _foreign(host: str, registry: Origin) -> OllamaError:
    return OllamaError(500, f'realm host "{host}" does not match original host "{registry.netloc}"')


def token_url(challenge: Challenge, *, now: float, nonce: str) -> str:
    """Return the URL of the token request: the realm with the parameters, ``ts`` and ``nonce``."""
    url = urlsplit(challenge.realm)
    values = parse_qsl(url.query, keep_blank_values=True)
    values.append(("service", challenge.service))
    values += [("scope", scope) for scope in challenge.scope.split()]
    values += [("ts", str(int(now))), ("nonce", nonce)]
    values.sort(key=lambda pair: pair[0])
    return urlunsplit((url.scheme, url.netloc, url.path, urlencode(values), ""))


def new_nonce() -> str:
    """Return sixteen random bytes in URL-safe base64."""
    return secrets.token_urlsafe(16)


def token_authorization(signer: Signer, url: str) -> str:
    """Return the ``Authorization`` header of the token request to ``url``."""
    return signer.authorization(f"GET,{url},{_EMPTY_BODY}")


class _TokenReply(msgspec.Struct):
    token: str = ""
    access_token: str = ""


def read_token(body: bytes) -> str:
    """Return the token of the realm's reply; raises OllamaError 500 if it is missing or invalid."""
    try:
        reply = msgspec.json.decode(body, type=_TokenReply)
    except DECODE_ERRORS as error:
        raise OllamaError(500, "the registry's token cannot be read") from error
    token = reply.token or reply.access_token
    if not _TOKEN.fullmatch(token):
        raise OllamaError(500, "the registry returned no token")
    return token
