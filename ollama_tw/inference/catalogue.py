"""From the name that a request sends to a model that is installed here, and what it can do.

Source: ``spec/inference-api.md`` sections 0.3 to 0.6.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ollama_tw.cloud.policy import CloudPolicy, Operation, cannot_run
from ollama_tw.cloud.stubs import Stub
from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.errors import OllamaError
from ollama_tw.gguf.reader import GGUFError, Header
from ollama_tw.gguf.validation import validate_header
from ollama_tw.library.backend_models import BackendModel, BackendModels
from ollama_tw.library.model import Model
from ollama_tw.library.names import InvalidName, Name, ReferenceSource, parse_name, split_source
from ollama_tw.library.queries import capabilities
from ollama_tw.library.rendering import Rendering
from ollama_tw.library.show import model_capabilities, model_rendering
from ollama_tw.library.store import ModelNotFound, Store


@dataclass(frozen=True)
class Entry:
    """An installed model that can be run here; ``sent`` is its name as the client wrote it."""

    sent: str
    model: Model
    header: Header
    rendering: Rendering
    capabilities: frozenset[str]

    def require(self, capability: str, doing: str) -> None:
        """Raise 400 unless the model is able to do what ``doing`` ('chat', 'generate') asks for."""
        if capability not in self.capabilities:
            raise OllamaError(400, f'"{self.sent}" does not support {doing}')


NO_CLOUD = CloudPolicy(disabled=True, base="", remotes=())
"""No model runs elsewhere."""


def not_found(sent: str) -> OllamaError:
    """What generate, chat and show answer for a model that is not here."""
    return OllamaError(404, f"model '{sent}' not found")


def not_pulled(sent: str) -> OllamaError:
    """What the embedding endpoints answer for a model that is not here."""
    return OllamaError(404, f'model "{sent}" not found, try pulling it first')


class Catalogue:
    """The installed models and those of ``backend_models``, looked up on the disk pool.

    ``cloud`` tells whether a model may run elsewhere.
    ``go_template`` is OLLAMA_GO_TEMPLATE: whether a model's Go template goes before the chat template in
    its file, None where the more able one does.
    """

    def __init__(
        self,
        store: Store,
        disk: WorkerPool,
        backend_models: BackendModels | None = None,
        go_template: bool | None = None,
        cloud: CloudPolicy = NO_CLOUD,
    ) -> None:
        self._cloud = cloud
        self._go_template = go_template
        self._store = store
        self._disk = disk
        self._backend_models = backend_models
        self._sound: set[str] = set()
        """Digests of the files that passed :func:`validate_header`."""

    async def find(
        self, sent: str, missing: Callable[[str], OllamaError] = not_found, *, any_case: bool = True
    ) -> Entry:
        """The model that ``sent`` names, in other upper and lower case too with ``any_case``. Raises
        ``missing(sent)`` where there is none, 400 for what is no name, and 400 or 403 for a model that
        runs elsewhere."""
        found = await self.find_anywhere(sent, missing, any_case=any_case)
        if isinstance(found, Stub):
            self._cloud.require(Operation.MODEL)
            raise cannot_run()
        return found

    async def find_anywhere(
        self, sent: str, missing: Callable[[str], OllamaError] = not_found, *, any_case: bool = True
    ) -> Entry | Stub:
        """As :meth:`find`, for who can have a request answered by another server."""
        if not sent.strip():
            raise missing(sent)
        base, source = split_source(sent)
        if source is ReferenceSource.CLOUD:
            # The doors forward what can be forwarded; this was asked for something else.
            self._cloud.require(Operation.MODEL)
            raise OllamaError(400, f'"{sent}" runs in the cloud, which does not offer this')
        try:
            name = parse_name(base)
        except InvalidName as error:
            raise OllamaError(400, "invalid model name") from error
        try:
            return await self._disk.run(self._installed, sent, name, source, missing, any_case)
        except ModelNotFound as error:
            listed = None
            if self._backend_models is not None:
                listed = await self._disk.run(self._backend_models.recent, name)
            if listed is None:
                raise missing(sent) from error
            return _backend_entry(sent, listed)

    def _installed(
        self,
        sent: str,
        name: Name,
        source: ReferenceSource,
        missing: Callable[[str], OllamaError],
        any_case: bool,
    ) -> Entry | Stub:
        """The entry of a model in the store: the whole of a request's blocking work, in one go.

        Raises :class:`ModelNotFound`, and what :meth:`find` raises.
        """
        model = self._store.load(self._store.resolve(name) if any_case else name)
        if model.is_remote:
            if source is ReferenceSource.LOCAL:
                raise missing(sent)
            return Stub(sent, model)
        if not model.is_gguf:
            raise OllamaError(400, f'"{sent}" is not a GGUF model: this server runs GGUF models only')
        return self._entry(sent, model)

    def _entry(self, sent: str, model: Model) -> Entry:
        header = self._store.header(model)
        if model.model_digest not in self._sound:
            # What was pulled, or lay here before this server, was not checked by create.
            try:
                validate_header(header)
            except GGUFError as error:
                raise OllamaError(400, f"the model cannot be loaded: {error}") from error
            self._sound.add(model.model_digest)
        setting = self._go_template
        rendering = model_rendering(model, header, go_template_setting=setting)
        able = capabilities(self._store, model, go_template_setting=setting)
        return Entry(sent, model, header, rendering, frozenset(able))


def _backend_entry(sent: str, listed: BackendModel) -> Entry:
    rendering = model_rendering(listed.model, listed.header)
    found = frozenset(model_capabilities(listed.model, listed.header))
    return Entry(sent, listed.model, listed.header, rendering, found)
