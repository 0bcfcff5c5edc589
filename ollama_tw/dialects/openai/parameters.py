"""Request fields that several endpoints share: sampling, reasoning, format, choices.

Source: ollama: openai/openai.go, FromChatRequest, FromCompleteRequest.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from ollama_tw.errors import OllamaError

MAX_CHOICES = 128
"""The largest ``n``, as in OpenAI's API."""

_MAX_BIAS = 100.0
_MAX_BIASED_TOKENS = 1024
_TOKEN_ID = re.compile(r"[0-9]{1,9}")
_EFFORTS: Mapping[str, bool | str | None] = {
    "": None,
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}


class StreamOptions(msgspec.Struct):
    """Options of a stream."""

    include_usage: bool = False


class CompletionParameters(msgspec.Struct, kw_only=True):
    """The fields that the requests of both kinds of completion have.

    ``options`` are native options, which Ollama does not read here.
    """

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: Any = None
    logit_bias: Any = None
    n: int | None = None
    options: dict[str, Any] = {}
    debug_render_only: bool = msgspec.field(default=False, name="_debug_render_only")


class Reasoning(msgspec.Struct):
    """Options of reasoning."""

    effort: str = ""
    max_tokens: int | None = None
    summary: Any = None


class JSONSchema(msgspec.Struct):
    """The schema of a response format."""

    schema: Any = None
    strict: bool = False


class ResponseFormat(msgspec.Struct):
    """The format of the content."""

    type: str = ""
    json_schema: JSONSchema | None = None


def think_value(effort: str) -> bool | str | None:
    """Return the native ``think`` for a reasoning effort. Raises :class:`OllamaError` 400."""
    try:
        return _EFFORTS[effort]
    except KeyError:
        raise OllamaError(
            400,
            f'invalid reasoning value: "{effort}" (must be "minimal", "low", "medium", "high", "xhigh", '
            '"ultra", "max", or "none")',
        ) from None


def native_format(response_format: ResponseFormat | None) -> Any:
    """Return the native ``format``; unset for plain text."""
    if response_format is None:
        return UNSET
    kind = response_format.type.strip().lower()
    if kind == "json_object":
        return "json"
    if kind == "json_schema" and response_format.json_schema is not None:
        return response_format.json_schema.schema
    return UNSET


def is_strict(response_format: ResponseFormat | None) -> bool:
    """Return whether the format must be enforced in full."""
    schema = None if response_format is None else response_format.json_schema
    return schema is not None and schema.strict


def without_none(**options: Any) -> dict[str, Any]:
    """Return ``options`` without those that are None."""
    return {name: value for name, value in options.items() if value is not None}


def logit_bias(value: Any) -> tuple[tuple[int, float], ...]:
    """Parse the biases of tokens: an object of token ids and numbers between -100 and 100."""
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > _MAX_BIASED_TOKENS:
        raise OllamaError(
            400, f'"logit_bias" must be an object of at most {_MAX_BIASED_TOKENS} token ids with biases'
        )
    found = []
    for token, bias in value.items():
        number = isinstance(bias, int | float) and not isinstance(bias, bool)
        if not _TOKEN_ID.fullmatch(token) or not number or not -_MAX_BIAS <= bias <= _MAX_BIAS:
            raise OllamaError(
                400, f'"logit_bias" must map token ids to numbers between {-_MAX_BIAS:g} and {_MAX_BIAS:g}'
            )
        found.append((int(token), float(bias)))
    return tuple(found)


_GO_TYPES = {
    bool: "bool",
    dict: "map[string]interface {}",
    list: "[]interface {}",
    str: "string",
    type(None): "<nil>",
}


def go_type_of(value: Any) -> str:
    """Return Go's name of the type of a decoded JSON value, for Ollama's messages."""
    return _GO_TYPES.get(type(value), "float64")


def choice_count(n: int | None) -> int:
    """Return the number of choices for one prompt, one for ``n`` below 1. Raises :class:`OllamaError` 400."""
    if n is None or n < 1:
        return 1
    if n > MAX_CHOICES:
        raise OllamaError(400, f'"n" must not be more than {MAX_CHOICES}')
    return n


def seeded(options: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the options of choice ``number``.

    A given seed is increased for each choice, so that the choices differ but are reproducible.
    """
    seed = options.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not number or seed == -1:
        return dict(options)
    return {**options, "seed": seed + number}
