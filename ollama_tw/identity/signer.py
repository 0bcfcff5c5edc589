"""Signatures with the server's private key.

Source: ollama: auth/auth.go, Sign.
"""

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from ollama_tw.errors import OllamaError


class Signer:
    """Signs texts with the private key ``key``."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        self.public_line = line
        """The public key as a line of ``authorized_keys``, without a comment."""
        self._public = line.split(" ")[1]

    @classmethod
    def load(cls, path: Path) -> "Signer":
        """Read the private key from a file. Blocking. Raises OllamaError 500 if it is missing or invalid."""
        try:
            key = load_ssh_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise OllamaError(500, "the server's private key cannot be read") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise OllamaError(500, "the server's private key is not an ed25519 key")
        return cls(key)

    def authorization(self, text: str) -> str:
        """Return the ``Authorization`` header that signs ``text``: public key and signature, no scheme."""
        signature = base64.b64encode(self._key.sign(text.encode())).decode()
        return f"{self._public}:{signature}"


LoadSigner = Callable[[], Awaitable[Signer]]
"""Loads the server's key; raises OllamaError."""
