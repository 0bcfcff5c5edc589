"""What to send to a server and how to read its records, for the two kinds of server. Pure.

While a reply runs its lines are only counted; JSON is read up to the first piece of text and, once the reply
is over, at its end: the client shares the processor with the servers it measures.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Counts:
    """Token counts of a reply as its server gives them; `cached` is None where it does not say."""

    output: int
    prompt: int
    cached: int | None


class Dialect(Protocol):
    """One way to ask for a completion of a raw prompt, streamed line by line."""

    path: str

    def body(self, model: str, prompt: str, output_tokens: int) -> dict[str, Any]:
        """The JSON body that asks for `output_tokens` tokens, greedily."""
        ...

    def payload(self, line: bytes) -> bytes | None:
        """The JSON document in a line of the stream; None for a line that carries none."""
        ...

    def text(self, record: dict[str, Any]) -> str:
        """The piece of the reply in a record, empty in most last ones."""
        ...

    def counts(self, record: dict[str, Any]) -> Counts | None:
        """The token counts in a record, None in all but one."""
        ...


class Ollama:
    """`POST /api/generate`, one JSON object a line."""

    path = "/api/generate"

    def body(self, model: str, prompt: str, output_tokens: int) -> dict[str, Any]:
        # The penalty is off because llama-server has none by default; the model must outlive the turns
        # of the other servers, or its load time would be measured.
        options = {"num_predict": output_tokens, "temperature": 0, "repeat_penalty": 1.0}
        return {
            "model": model,
            "prompt": prompt,
            "raw": True,
            "stream": True,
            "keep_alive": "2h",
            "options": options,
        }

    def payload(self, line: bytes) -> bytes | None:
        return line or None

    def text(self, record: dict[str, Any]) -> str:
        return str(record.get("response") or record.get("thinking") or "")

    def counts(self, record: dict[str, Any]) -> Counts | None:
        if not record.get("done"):
            return None
        return Counts(
            record.get("eval_count", 0), record.get("prompt_eval_count", 0), record.get("prompt_cached_count")
        )


class OpenAI:
    """`POST /v1/completions` as llama-server has it: server-sent events, and fields that only it knows."""

    path = "/v1/completions"

    def body(self, model: str, prompt: str, output_tokens: int) -> dict[str, Any]:
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

    def payload(self, line: bytes) -> bytes | None:
        if not line.startswith(b"data:"):
            return None
        document = line[5:].strip()
        return None if document == b"[DONE]" else document

    def text(self, record: dict[str, Any]) -> str:
        choices = record.get("choices")
        return str(choices[0].get("text") or "") if choices else ""

    def counts(self, record: dict[str, Any]) -> Counts | None:
        usage = record.get("usage")
        if not usage:
            return None
        details = usage.get("prompt_tokens_details") or {}
        return Counts(
            usage.get("completion_tokens", 0), usage.get("prompt_tokens", 0), details.get("cached_tokens")
        )


DIALECTS: dict[str, Dialect] = {"ollama": Ollama(), "openai": OpenAI()}


def failure(record: dict[str, Any]) -> str | None:
    """The error text of a record of either kind, or None."""
    error = record.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error)
    return str(error) if error else None


def read(document: bytes) -> dict[str, Any]:
    """A record's JSON object. Raises ValueError for anything else."""
    record = json.loads(document)
    if not isinstance(record, dict):
        raise ValueError(f"not a JSON object: {document[:60]!r}")
    return record


class Reply:
    """The records of one reply, with the time at which each came."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._rest = b""
        self._before_text = 0
        self.has_text = False
        """True if a piece of text has come."""
        self.documents: list[bytes] = []
        self.times: list[float] = []

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes of the body, cut anywhere. Raises ValueError for a first record that is not JSON."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.take(lines, now)

    def take(self, lines: Iterable[bytes], now: float) -> None:
        """Take whole lines, as `feed` does."""
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
        """The counts, and the times of the pieces of text, from the first piece to the last.

        Raises ValueError with the server's error text, or when no record carries counts.
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
        """All pieces joined; for after the measurement, since it reads every record."""
        return "".join(self._dialect.text(read(document)) for document in self.documents)
