"""Requests and records of the kinds of server. Pure.

During a reply JSON is decoded only up to the first piece of text; the last records are decoded after it has
ended. The client shares the processor with the servers that it measures.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ollama_tw.errors import reason_of


@dataclass(frozen=True, slots=True)
class Counts:
    """Token counts of a reply, reported by its server; `cached` is None if it is not reported."""

    output: int
    prompt: int
    cached: int | None


class Dialect(Protocol):
    """An API for streamed completions of raw prompts."""

    path: str

    def body(self, model: str, prompt: str, output_tokens: int) -> dict[str, Any]:
        """Return the JSON body of a request for `output_tokens` tokens, sampled greedily."""
        ...

    def unloading(self, model: str) -> tuple[str, dict[str, Any]]:
        """Return the path and the body of the request that unloads ``model``; "" if there is none."""
        ...

    def payload(self, line: bytes) -> bytes | None:
        """Return the JSON document in a line of the stream, or None if there is none."""
        ...

    def text(self, record: dict[str, Any]) -> str:
        """Return the piece of the reply in a record, which may be empty."""
        ...

    def counts(self, record: dict[str, Any]) -> Counts | None:
        """Return the token counts in a record, or None if it has none."""
        ...


class Ollama:
    """`POST /api/generate`: one JSON object per line."""

    path = "/api/generate"

    def body(self, model: str, prompt: str, output_tokens: int) -> dict[str, Any]:
        """Return the JSON body of a request; see :class:`Dialect`."""
        # llama-server has no penalty by default. The model must stay loaded while the other servers are
        # measured, or its load time would be measured.
        options = {"num_predict": output_tokens, "temperature": 0, "repeat_penalty": 1.0}
        return {
            "model": model,
            "prompt": prompt,
            "raw": True,
            "stream": True,
            "keep_alive": "2h",
            "options": options,
        }

    def unloading(self, model: str) -> tuple[str, dict[str, Any]]:
        """Return the request that unloads ``model``."""
        return self.path, {"model": model, "keep_alive": 0}

    def payload(self, line: bytes) -> bytes | None:
        """Return the JSON document in a line, None if it has none."""
        return line or None

    def text(self, record: dict[str, Any]) -> str:
        """Return the piece of text in a record."""
        return str(record.get("response") or record.get("thinking") or "")

    def counts(self, record: dict[str, Any]) -> Counts | None:
        """Return the token counts of the last record, None for any other."""
        if not record.get("done"):
            return None
        return Counts(
            record.get("eval_count", 0), record.get("prompt_eval_count", 0), record.get("prompt_cached_count")
        )


class OpenAI:
    """`POST /v1/completions` of llama-server: server-sent events, with fields of its own."""

    path = "/v1/completions"

    def body(self, model: str, prompt: str, output_tokens: int) -> dict[str, Any]:
        """Return the JSON body of a request; see :class:`Dialect`."""
        return {
            "model": model,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "temperature": 0,
            "repeat_penalty": 1.0,
            "ignore_eos": True,
            "cache_prompt": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def unloading(self, model: str) -> tuple[str, dict[str, Any]]:
        """Return no request: OpenAI's API has none."""
        return "", {}

    def payload(self, line: bytes) -> bytes | None:
        """Return the JSON document in a line, None if it has none."""
        if not line.startswith(b"data:"):
            return None
        document = line[5:].strip()
        return None if document == b"[DONE]" else document

    def text(self, record: dict[str, Any]) -> str:
        """Return the piece of text in a record."""
        choices = record.get("choices")
        return str(choices[0].get("text") or "") if choices else ""

    def counts(self, record: dict[str, Any]) -> Counts | None:
        """Return the token counts of the last record, None for any other."""
        usage = record.get("usage")
        if not usage:
            return None
        details = usage.get("prompt_tokens_details") or {}
        return Counts(
            usage.get("completion_tokens", 0), usage.get("prompt_tokens", 0), details.get("cached_tokens")
        )


class OpenAIChat(OpenAI):
    """`POST /v1/chat/completions` with OpenAI's own fields only, for servers that refuse others."""

    path = "/v1/chat/completions"

    def body(self, model: str, prompt: str, output_tokens: int) -> dict[str, Any]:
        """Return the JSON body of a request with one message."""
        return {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def text(self, record: dict[str, Any]) -> str:
        """Return the piece of the answer or of the thinking."""
        choices = record.get("choices")
        delta = (choices[0].get("delta") or {}) if choices else {}
        return str(delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or "")


DIALECTS: dict[str, Dialect] = {"ollama": Ollama(), "openai": OpenAI(), "openai-chat": OpenAIChat()}


def failure(record: dict[str, Any]) -> str | None:
    """Return the error text of a record of either dialect, or None."""
    error = record.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error)
    return str(error) if error else None


def read(document: bytes) -> dict[str, Any]:
    """Decode the JSON object of a record. Raises ValueError if it is not a JSON object."""
    try:
        record = json.loads(document)
    except RecursionError as error:
        raise ValueError(reason_of(error)) from error
    if not isinstance(record, dict):
        raise ValueError(f"not a JSON object: {document[:60]!r}")
    return record


class Reply:
    """The records of one reply with the times at which they arrived."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._rest = b""
        self._before_text = 0
        self.has_text = False
        """True if a piece of text has arrived."""
        self.documents: list[bytes] = []
        self.times: list[float] = []

    def feed(self, data: bytes, now: float) -> None:
        """Add bytes of the body, split anywhere. Raises ValueError if the first record is not JSON."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.take(lines, now)

    def take(self, lines: Iterable[bytes], now: float) -> None:
        """Add complete lines; see :meth:`feed`."""
        for line in lines:
            document = self._dialect.payload(line.rstrip(b"\r"))
            if document is None:
                continue
            self.documents.append(document)
            self.times.append(now)
            if not self.has_text:
                self.has_text = bool(self._dialect.text(read(document)))
                self._before_text += not self.has_text

    def finish(self) -> tuple[Counts, Sequence[float]]:
        """Return the counts and the arrival times of the pieces of text.

        Raises ValueError with the server's error text, or if no record has token counts.
        """
        counts: Counts | None = None
        end = len(self.documents)
        while end > 0:
            record = read(self.documents[end - 1])
            error = failure(record)
            if error is not None:
                raise ValueError(error)
            counts = counts or self._dialect.counts(record)
            if self._dialect.text(record):
                break
            end -= 1
        if counts is None:
            raise ValueError("the reply ended without its token counts")
        return counts, self.times[self._before_text : end]

    def whole_text(self) -> str:
        """Join all pieces. Call it after the measurement: it decodes every record."""
        return "".join(self._dialect.text(read(document)) for document in self.documents)
