"""The APIs of the servers: of this project's own, of llama-server, and of vLLM and others like it.

All of them run prompts of tokens at ``/v1/completions``; they differ in the rest.

Source: llama.cpp: tools/server/README.md; the OpenAI-compatible server of vLLM; docs/api/.
"""

from abc import ABC, abstractmethod
from ast import literal_eval
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ollama_tw import interfaces as tw
from ollama_tw.library.modelfile.parameters import KINDS, parse_parameter
from ollama_tw.support.http import EngineError, HTTPEngine
from ollama_tw.wire.options import Kind
from ollama_tw_upstream.servers import Server

_PROPERTIES = ("context_length", "pooling_type", "normalize_embeddings")
_MOST_BIAS = 100.0
_PROBLEM = 400
_UNAVAILABLE = 503


@dataclass(frozen=True)
class Listing:
    """A model as one server has it."""

    name: str
    """Name for users."""
    id: str
    """Name at the server."""
    context_length: int
    """Tokens of context that a job can have; 0 if they are unknown."""
    vocabulary_size: int = 0
    """0 if it is unknown; the server then refuses unknown tokens itself."""
    metadata: Mapping[str, str | int] = field(default_factory=dict)
    template: str = ""
    """Go template; "" if the metadata has a chat template, or none is known."""
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[Mapping[str, str]] = ()

    @property
    def described(self) -> bool:
        """True if it is known how prompts are written."""
        return bool(self.template or self.metadata.get("tokenizer.chat_template"))


@dataclass(frozen=True)
class Condition:
    """Report of a server on itself and on one model."""

    state: Literal["ready", "loading", "draining"] = "ready"
    resident: bool = True
    """True if the model is in its memory."""
    lanes: int | None = None
    """None if it does not report them."""
    busy: int = 0
    """Number of lanes in use, by whomever."""


class Engine(ABC):
    """One server. All methods block and raise EngineError."""

    kind = "an OpenAI-compatible engine"

    def __init__(self, server: Server, http: HTTPEngine) -> None:
        self.server = server
        self.http = http

    @abstractmethod
    def models(self) -> Sequence[Listing]:
        """Return the models."""

    @abstractmethod
    def condition(self, model: Listing) -> Condition:
        """Return the condition of the server and the model."""

    @abstractmethod
    def texts(self, model: Listing) -> tuple[str, str]:
        """Return the texts of the tokens that begin and end a sequence, "" for those that are unknown."""

    @abstractmethod
    def tokenize(self, model: Listing, text: str, *, add_special: bool) -> Sequence[int]:
        """Return the tokens of ``text``."""

    @abstractmethod
    def detokenize(self, model: Listing, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``."""

    def body(self, model: Listing, job: tw.Job, prompt: Sequence[int], limit: int) -> dict[str, Any]:
        """Return the request of ``/v1/completions``."""
        body = {
            "model": model.id,
            "prompt": list(prompt),
            "max_tokens": limit,
            "logit_bias": {str(token): bias for token, bias in job.logit_bias} or None,
            "logprobs": None if job.logprobs is None else max(job.logprobs, 1),
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._sampling(job),
        }
        return {name: value for name, value in body.items() if value is not None}

    def _sampling(self, job: tw.Job) -> dict[str, Any]:
        return asdict(job.sampling) | {
            "repetition_penalty": job.sampling.repeat_penalty,
            "seed": None if job.sampling.seed < 0 else job.sampling.seed,
            "grammar": job.grammar or None,
        }


class OpenAIEngine(Engine):
    """vLLM, SGLang and others with ``/tokenize`` and ``/detokenize`` in vLLM's form."""

    def models(self) -> Sequence[Listing]:
        """Return the models of ``/v1/models``, whose chat templates are unknown."""
        return [
            _listing(entry, int(entry.get("max_model_len") or 0), {})
            for entry in self.http.ask("/v1/models")["data"] or ()
        ]

    def condition(self, model: Listing) -> Condition:
        """Return ready if ``/health`` reports it, or does not exist."""
        return Condition("loading" if self.http.status("/health") >= _UNAVAILABLE else "ready")

    def texts(self, model: Listing) -> tuple[str, str]:
        """Return nothing: they are unknown."""
        return "", ""

    def tokenize(self, model: Listing, text: str, *, add_special: bool) -> Sequence[int]:
        """Return the tokens of ``text``."""
        body = {"model": model.id, "prompt": text, "add_special_tokens": add_special}
        return list(self.http.ask("/tokenize", body)["tokens"])

    def detokenize(self, model: Listing, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``."""
        return str(self.http.ask("/detokenize", {"model": model.id, "tokens": list(tokens)})["prompt"])

    def body(self, model: Listing, job: tw.Job, prompt: Sequence[int], limit: int) -> dict[str, Any]:
        """Return the request; special tokens are part of the text if the job preserves any."""
        body = super().body(model, job, prompt, limit)
        return body | {"skip_special_tokens": False} if job.preserved else body


class LlamaServer(Engine):
    """llama-server of llama.cpp, with one model."""

    kind = "llama-server"

    def models(self) -> Sequence[Listing]:
        """Return the model."""
        template = self._properties().get("chat_template", "")
        return [
            _listing(
                entry,
                int((entry.get("meta") or {}).get("n_ctx") or 0),
                {"tokenizer.chat_template": template},
                # It does not refuse tokens outside the vocabulary.
                int((entry.get("meta") or {}).get("n_vocab") or 0),
            )
            for entry in self.http.ask("/v1/models")["data"]
        ]

    def _properties(self) -> dict[str, Any]:
        return dict(self.http.ask("/props"))

    def condition(self, model: Listing) -> Condition:
        """Return its slots, which it may hide."""
        if self.http.status("/health") != 200:
            return Condition("loading")
        try:
            slots = self.http.ask("/slots")
        except EngineError as error:
            if error.status is None:
                # It answers this between two batches, which may take long.
                return Condition()
            return Condition(lanes=self._properties().get("total_slots"))
        return Condition(lanes=len(slots), busy=sum(bool(slot["is_processing"]) for slot in slots))

    def texts(self, model: Listing) -> tuple[str, str]:
        """Return those of its properties."""
        about = self._properties()
        return about.get("bos_token", ""), about.get("eos_token", "")

    def tokenize(self, model: Listing, text: str, *, add_special: bool) -> Sequence[int]:
        """Return the tokens of ``text``."""
        return list(self.http.ask("/tokenize", {"content": text, "add_special": add_special})["tokens"])

    def detokenize(self, model: Listing, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``."""
        return str(self.http.ask("/detokenize", {"tokens": list(tokens)})["content"])

    def body(self, model: Listing, job: tw.Job, prompt: Sequence[int], limit: int) -> dict[str, Any]:
        """Return the request, with the special tokens that are part of the text."""
        body = super().body(model, job, prompt, limit)
        return body | {"preserved_tokens": list(job.preserved)} if job.preserved else body


class OwnServer(Engine):
    """A server of this project, with the models of its library."""

    kind = "ollama_tw"

    def __init__(self, server: Server, http: HTTPEngine) -> None:
        super().__init__(server, http)
        self._known: dict[tuple[str, str], Listing] = {}
        """Models by name and digest."""

    def models(self) -> Sequence[Listing]:
        """Return the models of the library that have a file."""
        found = {}
        for entry in self.http.ask("/api/tags?library=true")["models"]:
            key = entry["name"], entry["digest"]
            if "remote_host" not in entry:
                found[key] = self._known.get(key) or self._describe(entry["name"])
        self._known = found
        return list(found.values())

    def _describe(self, name: str) -> Listing:
        shown = self.http.ask("/api/show", {"model": name})
        architecture = shown["model_info"].get("general.architecture", "")
        # What describes the layers is left out: they take no memory here.
        kept = ("general.architecture", *(f"{architecture}.{key}" for key in _PROPERTIES))
        info = {
            key: value
            for key, value in shown["model_info"].items()
            if isinstance(value, str | int) and (key in kept or key.startswith("tokenizer."))
        }
        template = shown.get("template", "")
        if "{%" in template:  # Jinja
            info["tokenizer.chat_template"] = template
            template = ""
        trained = info.get(f"{architecture}.context_length", 0)
        return Listing(
            name,
            name,
            trained if isinstance(trained, int) else 0,
            metadata=info,
            template=template,
            system=shown.get("system", ""),
            parameters=_parameters(shown.get("parameters", "")),
            messages=shown.get("messages", ()),
        )

    def condition(self, model: Listing) -> Condition:
        """Return the state of ``/readyz``, and the slots of the model if it is loaded."""
        if self.http.status("/readyz") != 200:
            return Condition("draining")
        for entry in self.http.ask("/api/ps")["models"]:
            if entry["name"] == model.id:
                return Condition(lanes=entry["slots"], busy=entry["running"])
        return Condition(resident=False)

    def texts(self, model: Listing) -> tuple[str, str]:
        """Return the texts of the tokens that its metadata names."""
        keys = ("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id")
        ids = [model.metadata.get(key) for key in keys]
        first, last = (self.detokenize(model, [one]) if isinstance(one, int) else "" for one in ids)
        return first, last

    def tokenize(self, model: Listing, text: str, *, add_special: bool) -> Sequence[int]:
        """Return the tokens of ``text``."""
        body = {"model": model.id, "text": text, "add_special": add_special}
        return list(self.http.ask("/api/tokenize", body)["tokens"])

    def detokenize(self, model: Listing, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``."""
        body = {"model": model.id, "tokens": list(tokens)}
        return str(self.http.ask("/api/detokenize", body)["text"])

    def _sampling(self, job: tw.Job) -> dict[str, Any]:
        # As options, they take precedence over the parameters of the model.
        options = asdict(job.sampling) | {"stop": list(job.stop)}
        if job.grammar:
            options["grammar"] = job.grammar
        return {"options": options, "preserved": list(job.preserved)}

    def body(self, model: Listing, job: tw.Job, prompt: Sequence[int], limit: int) -> dict[str, Any]:
        """Return the request, with the context that the job needs, and with biases that the API allows."""
        body = super().body(model, job, prompt, limit)
        if job.logit_bias:
            body["logit_bias"] = {
                str(token): min(max(bias, -_MOST_BIAS), _MOST_BIAS) for token, bias in job.logit_bias
            }
        body["options"]["num_ctx"] = len(prompt) + limit
        return body


def _parameters(text: str) -> dict[str, Any]:
    """Return the parameters that ``/api/show`` lists, one value a line, texts quoted as in Go."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, literal = line.partition(" ")
        literal = literal.strip()
        with suppress(ValueError, SyntaxError):  # a parameter that is no option
            value = literal_eval(literal) if literal.startswith('"') else parse_parameter(name, literal)
            found[name] = [*found.get(name, ()), value] if KINDS.get(name) is Kind.STRINGS else value
    return found


def connect(server: Server, http: HTTPEngine) -> Engine:
    """Return the engine at ``server``, by what it has. Raises EngineError if it cannot be reached."""
    if http.status("/props") < _PROBLEM:
        return LlamaServer(server, http)
    if http.status("/readyz") in (200, _UNAVAILABLE):
        return OwnServer(server, http)
    return OpenAIEngine(server, http)


def _listing(
    entry: Mapping[str, Any], context_length: int, metadata: dict[str, str | int], vocabulary_size: int = 0
) -> Listing:
    identifier = str(entry["id"])
    # llama-server's default for the name is the path of its file.
    name = identifier.rpartition("/")[2] if identifier.startswith("/") else identifier
    architecture: dict[str, str | int] = {
        "general.architecture": "remote",
        "remote.context_length": context_length,
    }
    return Listing(
        name.removesuffix(".gguf"), identifier, context_length, vocabulary_size, architecture | metadata
    )
