"""The vocabularies of models that need not be loaded for them."""

from collections import OrderedDict
from collections.abc import Callable

from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import IBackend, IVocabulary, IVocabularyReader, LoadError

_MOST = 4


class Vocabularies:
    """The last few vocabularies that were asked for, by the paths of their files.

    ``owner`` tells whose a model is, and where that backend has it.
    """

    def __init__(self, owner: Callable[[str], tuple[IBackend, str]], pool: WorkerPool) -> None:
        self._owner = owner
        self._pool = pool
        self._kept: OrderedDict[str, IVocabulary] = OrderedDict()

    async def get(self, model_path: str) -> IVocabulary:
        """The vocabulary of a model file. Raises :class:`OllamaError` 500 where it cannot be read and
        501 where the backend has no way to."""
        found = self._kept.get(model_path)
        if found is None:
            backend, location = self._owner(model_path)
            if not IVocabularyReader.providedBy(backend):
                raise OllamaError(501, f"backend {backend.name} cannot count tokens by itself")
            try:
                found = await self._pool.run(IVocabularyReader(backend).read_vocabulary, location)
            except LoadError as error:
                raise OllamaError(500, str(error)) from error
            self._kept[model_path] = found
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        self._kept.move_to_end(model_path)
        return found
