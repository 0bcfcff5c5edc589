"""Vocabularies of models that are not loaded, for counting tokens."""

from collections import OrderedDict
from collections.abc import Callable

from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.engine.backends import DiscoveredBackend
from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import IVocabulary, IVocabularyReader, LoadError

_MAX_CACHED = 4


class Vocabularies:
    """LRU cache of vocabularies by the path of their model.

    ``owner`` maps a model's path to its backend and to the model's location in that backend. It is called
    in ``pool``, which also reads the files.
    """

    def __init__(self, owner: Callable[[str], tuple[DiscoveredBackend, str]], pool: WorkerPool) -> None:
        self._owner = owner
        self._pool = pool
        self._cached: OrderedDict[str, IVocabulary] = OrderedDict()

    async def get(self, model_path: str) -> IVocabulary | None:
        """Return the vocabulary of a model, read on a worker thread unless it is cached.

        Returns None if the backend provides no :class:`IVocabularyReader`. Raises :class:`OllamaError` 500 if
        the vocabulary cannot be read.
        """
        vocabulary = self._cached.get(model_path)
        if vocabulary is None:
            owner, location = await self._pool.run(self._owner, model_path)
            if not IVocabularyReader.providedBy(owner.backend):
                return None
            try:
                vocabulary = await self._pool.run(IVocabularyReader(owner.backend).read_vocabulary, location)
            except LoadError as error:
                raise OllamaError(500, str(error)) from error
            self._cached[model_path] = vocabulary
            while len(self._cached) > _MAX_CACHED:
                self._cached.popitem(last=False)
        self._cached.move_to_end(model_path)
        return vocabulary
