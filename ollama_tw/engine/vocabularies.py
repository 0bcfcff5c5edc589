"""The vocabularies of models that need not be loaded for them."""

from collections import OrderedDict

from ollama_tw.engine.threads import WorkerPool
from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import IBackend, IVocabulary, IVocabularyReader, LoadError

_MOST = 4


class Vocabularies:
    """The last few vocabularies that were asked for, by the paths of their files."""

    def __init__(self, backend: IBackend, pool: WorkerPool) -> None:
        self._backend = backend
        self._pool = pool
        self._kept: OrderedDict[str, IVocabulary] = OrderedDict()

    async def get(self, model_path: str) -> IVocabulary:
        """The vocabulary of a model file. Raises :class:`OllamaError` 500 where it cannot be read and
        501 where the backend has no way to."""
        found = self._kept.get(model_path)
        if found is None:
            if not IVocabularyReader.providedBy(self._backend):
                raise OllamaError(501, f"backend {self._backend.name} cannot count tokens by itself")
            try:
                found = await self._pool.run(self._backend.read_vocabulary, model_path)
            except LoadError as error:
                raise OllamaError(500, str(error)) from error
            self._kept[model_path] = found
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        self._kept.move_to_end(model_path)
        return found
