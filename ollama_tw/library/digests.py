"""The digests that name blobs.

Source: ``spec/models-and-cli.md`` section 2.1.
"""

import hashlib
import re

from ollama_tw.errors import OllamaError

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})", re.ASCII)


def parse_digest(text: str) -> str:
    """``text`` as ``sha256:<64 lower-case hex digits>``; OllamaError 400 where it is no digest."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise OllamaError(400, "invalid digest format")
    return f"sha256:{match[1].lower()}"


def is_digest(text: str) -> bool:
    """Whether :func:`parse_digest` takes ``text``."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(data: bytes) -> str:
    """The digest of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
