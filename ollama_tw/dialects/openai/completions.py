"""Requests and replies of ``/v1/completions``, whole and streamed.

Source: ollama: openai/openai.go, FromCompleteRequest, ToCompletion, ToCompleteChunk.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from ollama_tw.dialects.openai.chat import FINGERPRINT, CompletionIdentity, logprobs_object
from ollama_tw.dialects.openai.finish import finish_reason
from ollama_tw.dialects.openai.parameters import (
    MAX_CHOICES,
    CompletionParameters,
    choice_count,
    go_type_of,
    logit_bias,
    seeded,
    without_none,
)
from ollama_tw.dialects.openai.usage import NO_USAGE, usage
from ollama_tw.errors import OllamaError
from ollama_tw.wire.dialect_extras import RequestExtras
from ollama_tw.wire.native import GenerateRecord, GenerateRequest, Logprob

GO_TYPE = "openai.CompletionRequest"


class CompletionRequest(CompletionParameters, kw_only=True):
    """The body of ``/v1/completions``."""

    prompt: Any = ""
    """A text, several texts, the tokens of one text, or those of several."""
    suffix: str = ""
    logprobs: int | None = None
    """The number of alternatives for each token; 0 for the log probabilities of the tokens alone."""
    echo: bool = False
    best_of: int | None = None
    preserved: list[str] = msgspec.field(default_factory=list)
    """Special tokens that are part of the text; OpenAI does not have the field."""


def native_requests(request: CompletionRequest) -> list[list[tuple[GenerateRequest, RequestExtras]]]:
    """Return the native requests of each prompt, one for each choice, with their extras.

    Raises :class:`OllamaError` 400.
    """
    options = {
        "temperature": 1.0,
        "top_p": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        **request.options,
        **without_none(
            temperature=request.temperature,
            top_p=request.top_p or None,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            num_predict=request.max_tokens,
            seed=request.seed,
            stop=_stop(request.stop),
        ),
    }
    bias = logit_bias(request.logit_bias)
    prompts, wanted = _prompts(request.prompt), choice_count(request.n)
    _check_extras(request, prompts, wanted)
    if len(prompts) * wanted > MAX_CHOICES:
        raise OllamaError(400, f'"n" answers to each "prompt" must not be more than {MAX_CHOICES} in all')

    def native(prompt: str | tuple[int, ...], number: int) -> tuple[GenerateRequest, RequestExtras]:
        generate = GenerateRequest(
            model=request.model,
            prompt=prompt if isinstance(prompt, str) else "",
            suffix=request.suffix,
            options=seeded(options, number),
            logprobs=request.logprobs is not None,
            top_logprobs=request.logprobs or 0,
            debug_render_only=request.debug_render_only,
        )
        return generate, RequestExtras(
            logit_bias=bias,
            prompt_tokens=() if isinstance(prompt, str) else prompt,
            preserved=tuple(request.preserved),
        )

    return [[native(prompt, number) for number in range(wanted)] for prompt in prompts]


def _check_extras(request: CompletionRequest, prompts: Sequence[str | tuple[int, ...]], wanted: int) -> None:
    if request.best_of is not None and request.best_of > wanted:
        raise OllamaError(
            400, '"best_of" above "n" is not supported: request "n" answers and choose among them'
        )
    if not request.echo:
        return
    if request.logprobs is not None:
        raise OllamaError(
            400, '"echo" is not supported with "logprobs": the prompt has no log probabilities here'
        )
    if request.max_tokens == 0:
        raise OllamaError(400, '"max_tokens" must be at least 1 with "echo"')
    if request.suffix or not all(isinstance(prompt, str) for prompt in prompts):
        raise OllamaError(400, '"echo" is supported for text prompts without "suffix" only')


def echoes(request: CompletionRequest) -> list[str]:
    """Return the text that precedes the answers to each prompt: the prompt with ``echo``, else nothing."""
    texts = [prompt if isinstance(prompt, str) else "" for prompt in _prompts(request.prompt)]
    return texts if request.echo else [""] * len(texts)


def _prompts(value: Any) -> list[str | tuple[int, ...]]:
    if value is None or isinstance(value, str):
        return [value or ""]
    if isinstance(value, list):
        if not value:
            return [""]
        if all(isinstance(item, str) for item in value):
            return list(value)
        if tokens := token_ids(value):
            return [tokens]
        several = [token_ids(item) for item in value]
        if all(several):
            return [tokens for tokens in several if tokens]
    raise OllamaError(400, '"prompt" must be a string, an array of strings, or tokens in arrays')


def token_ids(value: Any) -> tuple[int, ...] | None:
    """Return ``value`` as tokens; None if it is empty or not a list of tokens."""
    if isinstance(value, list) and value and all(type(item) is int and 0 <= item < 2**31 for item in value):
        return tuple(value)
    return None


def _stop(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return None
    for item in value:
        if not isinstance(item, str):
            raise OllamaError(400, f"invalid type for 'stop' field: {go_type_of(item)}")
    return value


def whole_reply(
    identity: CompletionIdentity, prompts: Sequence[Sequence[GenerateRecord]], echoed: Sequence[str]
) -> dict[str, Any]:
    """Return the reply to a request without a stream, from the records of each prompt's choices.

    ``echoed`` has the text before the answers to each prompt.
    """
    pairs = [(record, echo) for answers, echo in zip(prompts, echoed, strict=True) for record in answers]
    return {
        **_object(identity, [_choice(index, record, 0, echo) for index, (record, echo) in enumerate(pairs)]),
        "usage": usage(prompts),
    }


class ChoiceStream:
    """Translates the records of one choice to chunks. ``now`` returns Unix seconds.

    ``echo`` is the text before the answer.
    """

    def __init__(
        self,
        identity: CompletionIdentity,
        index: int,
        *,
        with_usage: bool,
        now: Callable[[], int],
        echo: str = "",
    ) -> None:
        self._identity = identity
        self._index = index
        self._with_usage = with_usage
        self._now = now
        self._echo = echo
        self._offset = 0

    def feed(self, record: GenerateRecord) -> list[dict[str, Any]]:
        """Return the chunks for ``record``."""
        identity = replace(self._identity, created=self._now())
        chunk = _object(identity, [_choice(self._index, record, self._offset, self._echo)])
        self._echo = ""
        self._offset += len(record.response)
        return [{**chunk, "usage": NO_USAGE} if self._with_usage else chunk]


def usage_chunk(identity: CompletionIdentity, prompts: Sequence[Sequence[GenerateRecord]]) -> dict[str, Any]:
    """Return the chunk after the last choice, for ``include_usage``."""
    return {**_object(identity, []), "usage": usage(prompts)}


def _object(identity: CompletionIdentity, listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": identity.id,
        "object": "text_completion",
        "created": identity.created,
        "model": identity.model,
        "system_fingerprint": FINGERPRINT,
        "choices": listed,
    }


def _choice(index: int, record: GenerateRecord, offset: int, echo: str) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "text": echo + record.response,
        "index": index,
        "finish_reason": finish_reason(record),
    }
    if record.logprobs:
        choice["logprobs"] = _logprobs(record.logprobs, offset)
    return choice


def _logprobs(logprobs: Sequence[Logprob], offset: int) -> dict[str, Any]:
    """Return log probabilities in the older form, a list for each property, and in the newer one.

    Ollama omits them.
    """
    offsets = []
    for one in logprobs:
        offsets.append(offset)
        offset += len(one.token)
    return {
        "text_offset": offsets,
        "token_logprobs": [one.logprob for one in logprobs],
        "tokens": [one.token for one in logprobs],
        "top_logprobs": [{top.token: top.logprob for top in one.top_logprobs or []} for one in logprobs],
        **logprobs_object(logprobs),
    }
