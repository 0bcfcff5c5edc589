"""Requests and replies of ``/v1/embeddings``.

Source: ollama: middleware/openai.go, EmbeddingsMiddleware; openai/openai.go, ToEmbeddingList.
"""

import base64
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from ollama_tw.dialects.openai.completions import token_ids
from ollama_tw.errors import OllamaError
from ollama_tw.wire.native import EmbedRequest

GO_TYPE = "openai.EmbedRequest"


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """The body; ``options`` are native options, which Ollama does not read here."""

    model: str = ""
    input: Any = None
    dimensions: int = 0
    encoding_format: str = ""
    options: dict[str, Any] = {}


def check(request: EmbeddingRequest) -> None:
    """Raise :class:`OllamaError` 400 for an unknown encoding and for a missing input."""
    if request.encoding_format.lower() not in ("", "float", "base64"):
        raise OllamaError(
            400,
            f"Invalid value for 'encoding_format' = {request.encoding_format}. "
            "Supported values: ['float', 'base64'].",
        )
    if request.input is None or request.input == []:
        raise OllamaError(400, "invalid input")


def tokens_in(request: EmbeddingRequest) -> list[tuple[int, ...]] | None:
    """Return the inputs if they are tokens, which Ollama refuses; otherwise None."""
    if not isinstance(request.input, list):
        return None
    if one := token_ids(request.input):
        return [one]
    several = [token_ids(item) for item in request.input]
    return [tokens for tokens in several if tokens] if all(several) else None


def native_request(request: EmbeddingRequest, texts: Sequence[str] | None = None) -> EmbedRequest:
    """Return the native request; ``texts`` replace inputs that are tokens."""
    inputs = list(texts) if texts is not None else request.input
    return EmbedRequest(
        model=request.model,
        # The native endpoint treats an empty text as a missing input.
        input=[inputs] if isinstance(inputs, str) else inputs,
        dimensions=request.dimensions,
        options=request.options,
    )


def reply(request: EmbeddingRequest, vectors: Sequence[Sequence[float]], tokens: int) -> dict[str, Any]:
    """Return the reply; ``tokens`` is the number of tokens of all inputs."""
    encoded = request.encoding_format.lower() == "base64"
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "embedding": _base64(vector) if encoded else vector, "index": index}
            for index, vector in enumerate(vectors)
        ],
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _base64(vector: Sequence[float]) -> str:
    """Encode a vector as little-endian float32 in base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
