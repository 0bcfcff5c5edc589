"""API keys: secrets are made once and kept as salted hashes."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from ollama_tw.access.client import Client

PREFIX = "otw-"
"""The beginning of each secret, by which scanners find one that was published."""

_SECRET_BYTES = 32
_SALT_BYTES = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Key:
    """A key: the client that it identifies, the hash of its secret, and its dates."""

    client: Client
    salt: bytes
    digest: bytes
    created: datetime
    expires: datetime | None = None
    """None if it does not expire."""

    def matches(self, secret: bytes) -> bool:
        """Return whether ``secret`` is the key's, in a time that does not depend on the answer."""
        return hmac.compare_digest(_digest(self.salt, secret), self.digest)

    @property
    def partition(self) -> int:
        """Number of the key's part of the prompt cache, from 1 on: see :class:`~ollama_tw.interfaces.Job`."""
        return 1 + int.from_bytes(self.digest[:4]) % (2**31 - 1)

    def is_expired(self, now: datetime) -> bool:
        """Return whether the key is no longer valid at ``now``."""
        return self.expires is not None and self.expires <= now


def new_key(client: Client, created: datetime, expires: datetime | None = None) -> tuple[Key, str]:
    """Return a new key of ``client``, and its secret of 256 bits, which the key does not contain."""
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    salt = secrets.token_bytes(_SALT_BYTES)
    return Key(client, salt, _digest(salt, secret.encode()), created, expires), secret


def is_key_name(name: str) -> bool:
    """Return whether ``name`` can be the name of a key, which logs contain."""
    return _NAME.fullmatch(name) is not None


def _digest(salt: bytes, secret: bytes) -> bytes:
    # A slow hash would gain nothing: 2**256 secrets cannot be tried.
    return hashlib.sha256(salt + secret).digest()
