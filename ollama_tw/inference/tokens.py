"""Tokenizes, detokenizes and counts tokens: without loading a model, if its backend can."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from msgspec.structs import replace as changed

from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.config.settings import Settings
from ollama_tw.engine.retry import run_again_after_death
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.engine.vocabularies import Vocabularies
from ollama_tw.errors import OllamaError
from ollama_tw.inference.catalogue import Catalogue, Entry
from ollama_tw.inference.planning import model_requirements
from ollama_tw.inference.prompting import chat_prompt
from ollama_tw.interfaces import IRunner, IVocabulary, RunnerError
from ollama_tw.prompt.think import Think, parse_think, resolve_think
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.native import ChatRequest
from ollama_tw.wire.options import Options, resolve

MAX_BYTES = 8 << 20
"""Bytes of text that are tokenized at once, which takes up to 66 times their memory."""

MAX_TOKENS = MAX_BYTES // 2
"""Tokens that are converted to text at once."""

_NO_LIMIT = 1 << 40

T = TypeVar("T")


@dataclass(frozen=True)
class _VocabularyRunner:
    """A vocabulary with the members of a runner that are needed to build a prompt."""

    vocabulary: IVocabulary
    context_length: int = _NO_LIMIT

    def __getattr__(self, name: str) -> Any:
        return getattr(self.vocabulary, name)


class Tokens:
    """Tokenizes and counts with the vocabularies of models. All methods raise :class:`OllamaError`."""

    def __init__(
        self,
        catalogue: Catalogue,
        vocabularies: Vocabularies,
        workers: WorkerPool,
        scheduler: Scheduler,
        settings: Settings,
    ) -> None:
        self._catalogue = catalogue
        self._vocabularies = vocabularies
        self._workers = workers
        self._scheduler = scheduler
        self.settings = settings

    async def tokenize(self, model: str, text: str, add_special: bool = False) -> Sequence[int]:
        """Return the tokens of ``text``; ``add_special`` adds those that begin and end a prompt.

        Raises 400 beyond :data:`MAX_BYTES`.
        """
        _require_size([text])
        entry = await self._find(model)
        return await self._run(entry, lambda vocabulary: vocabulary.tokenize(text, add_special=add_special))

    async def detokenize(self, model: str, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of ``tokens``; 400 for an unknown one or too many."""
        if sum(map(len, tokens)) > MAX_TOKENS:
            raise OllamaError(400, f"at most {MAX_TOKENS} tokens can be converted at once: divide them")
        entry = await self._find(model)
        return await self._run(entry, lambda vocabulary: _texts(vocabulary, tokens))

    async def count(self, request: ChatRequest) -> int:
        """Return the number of tokens of the whole prompt of ``request``; 400 beyond :data:`MAX_BYTES`.

        ``think`` is ignored for a model that does not support thinking.
        """
        _require_size(message.content for message in request.messages)
        entry = await self._find(request.model)
        entry.require("completion", "chat")
        if request.tools and "tools" not in entry.capabilities:
            raise OllamaError(400, f"{entry.model.name.full} does not support tools")
        capable = "thinking" in entry.capabilities
        asked = parse_think(request.think) if capable else Think()
        think = resolve_think(asked, model=request.model, capable=capable, harmony=entry.rendering.harmony)
        return await self._run(entry, lambda vocabulary: _count(entry, request, think, vocabulary))

    async def _run(self, entry: Entry, work: Callable[[IVocabulary], T]) -> T:
        """Call ``work`` with the vocabulary of ``entry`` on a worker thread.

        A backend that cannot read vocabularies has the model loaded, and its runner takes their place.
        """
        vocabulary = await self._vocabularies.get(str(entry.model.model_path))
        if vocabulary is not None:
            return await run_again_after_death(lambda: self._workers.run(work, vocabulary))
        requirements = model_requirements(entry, resolve(entry.params, {}), self.settings, None)
        async with self._scheduler.lease(requirements, RequestContext(), runs=False) as lease:
            return await self._workers.run(work, lease.model.runner)

    async def _find(self, model: str) -> Entry:
        if not model.strip():
            raise OllamaError(400, "model is required")
        return await self._catalogue.find(model)


def _require_size(texts: Iterable[str]) -> None:
    """Raise OllamaError 400 if ``texts`` are too long to be tokenized at once."""
    size = sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
    if size > MAX_BYTES:
        raise OllamaError(
            400,
            f"the text has {size} bytes, of which at most {MAX_BYTES} can be tokenized at once: divide it",
        )


def _texts(vocabulary: IVocabulary, tokens: Sequence[Sequence[int]]) -> list[str]:
    try:
        return [vocabulary.detokenize(one) for one in tokens]
    except RunnerError as error:
        raise OllamaError(400, str(error)) from error


def _count(entry: Entry, request: ChatRequest, think: Think, vocabulary: IVocabulary) -> int:
    build = chat_prompt(entry, changed(request, truncate=False), Options(), think, shift=False)
    prompt = build(cast(IRunner, _VocabularyRunner(vocabulary)))
    _require_size([prompt.text])
    return len(vocabulary.tokenize(prompt.text) if prompt.tokens is None else prompt.tokens)
