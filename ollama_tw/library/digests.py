"""SHA-256 digests of blobs.

Source: ollama: manifest/paths.go, BlobsPath.
"""

import hashlib
import re

from ollama_tw.errors import OllamaError

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})", re.ASCII)


def parse_digest(text: str) -> str:
    """Return ``text`` as ``sha256:<64 lower-case hex digits>``; raises OllamaError 400 if it is invalid."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise OllamaError(400, "invalid digest format")
    return f"sha256:{match[1].lower()}"


def is_digest(text: str) -> bool:
    """Return whether ``text`` is a digest as :func:`parse_digest` accepts it."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(data: bytes) -> str:
    """Return the digest of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
