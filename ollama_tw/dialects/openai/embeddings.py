"""``/v1/embeddings``. Source: ``spec/inference-api.md`` section 6.5."""

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
    """The body; ``options`` are the native ones, which Ollama does not take here."""

    model: str = ""
    input: Any = None
    dimensions: int = 0
    encoding_format: str = ""
    options: dict[str, Any] = {}


def check(request: EmbeddingRequest) -> None:
    """Raises :class:`OllamaError` 400 for an encoding that there is not, and for no input."""
    if request.encoding_format.lower() not in ("", "float", "base64"):
        raise OllamaError(
            400,
            f"Invalid value for 'encoding_format' = {request.encoding_format}. "
            "Supported values: ['float', 'base64'].",
        )
    if request.input is None or request.input == []:
        raise OllamaError(400, "invalid input")


def tokens_in(request: EmbeddingRequest) -> list[tuple[int, ...]] | None:
    """The inputs, where they came as tokens; Ollama takes texts only."""
    if not isinstance(request.input, list):
        return None
    if one := token_ids(request.input):
        return [one]
    several = [token_ids(item) for item in request.input]
    return [tokens for tokens in several if tokens] if all(several) else None


def native_request(request: EmbeddingRequest, texts: Sequence[str] | None = None) -> EmbedRequest:
    """The native request, for ``texts`` where they were made of tokens."""
    inputs = list(texts) if texts is not None else request.input
    return EmbedRequest(
        model=request.model,
        # The native endpoint takes an empty text for no input at all.
        input=[inputs] if isinstance(inputs, str) else inputs,
        dimensions=request.dimensions,
        options=request.options,
    )


def reply(request: EmbeddingRequest, vectors: Sequence[Sequence[float]], tokens: int) -> dict[str, Any]:
    """The reply; ``tokens`` is what all inputs have together."""
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
    """Little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
