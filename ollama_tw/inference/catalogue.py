"""Resolves a model reference to an installed model that this server can run."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from ollama_tw.cloud.policy import CloudPolicy, Operation, cannot_run
from ollama_tw.cloud.stubs import Stub
from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.configfile.document import UNCONFIGURED, LiveDocument, ModelConfig
from ollama_tw.errors import OllamaError
from ollama_tw.files import translate_disk_errors
from ollama_tw.gguf.adapters import validate_adapter
from ollama_tw.gguf.projectors import validate_projector
from ollama_tw.gguf.reader import GGUFError, Header
from ollama_tw.gguf.validation import validate_header
from ollama_tw.inference.infill import (
    InfillTokens,
    infill_tokens_of_metadata,
    infill_tokens_of_vocabulary,
)
from ollama_tw.library.backend_models import BackendModel, BackendModels
from ollama_tw.library.model import DEFAULT_TEMPLATE, Model
from ollama_tw.library.names import ModelReference, ReferenceSource, parse_reference
from ollama_tw.library.queries import capabilities
from ollama_tw.library.rendering import PromptPath, Rendering
from ollama_tw.library.show import model_capabilities, model_rendering
from ollama_tw.library.store import ModelNotFound, Store
from ollama_tw.output.description import Description
from ollama_tw.output.known_layouts import BY_NAME
from ollama_tw.output.template_tags import from_tags
from ollama_tw.templates.family_prompts import FAMILIES
from ollama_tw.templates.family_template import family_template
from ollama_tw.templates.gotemplate import Template, TemplateError, parse
from ollama_tw.templates.reply_description import describe

_log = logging.getLogger(__name__)

parse_go_template = lru_cache(maxsize=64)(parse)


@dataclass(frozen=True)
class Entry:
    """A model that this server can run; ``sent`` is its reference as the client sent it."""

    sent: str
    model: Model
    header: Header
    rendering: Rendering
    capabilities: frozenset[str]
    config: ModelConfig = UNCONFIGURED
    draft_path: Path | None = None
    """File of the model that drafts for this one."""

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the model, and the options of the configuration file, which replace them."""
        return {**self.model.params, **self.config.options} if self.config.options else self.model.params

    @cached_property
    def template(self) -> Template | None:
        """The Go template in use, or None if :attr:`chat_template` writes the prompts.

        Raises TemplateError if it cannot be parsed.
        """
        if self.rendering.path is PromptPath.NATIVE and self.chat_template:
            return None
        return self.go_template

    @property
    def chat_template(self) -> str:
        """The chat template of the GGUF file, or that of the model's family; "" if there is none."""
        return family_template(self.rendering.family) or self.header.chat_template or ""

    @cached_property
    def description(self) -> Description:
        """Description of the model's replies, by its chat template, its family or its Go template.

        Raises TemplateError if the Go template cannot be parsed.
        """
        template, config = self.template, self.model.config
        if template is None:
            family = FAMILIES.get(self.rendering.family)
            if family is None:
                return describe(self.chat_template)
            return BY_NAME.get(config.parser) or BY_NAME[family.parser]
        name = "harmony" if self.rendering.harmony else config.parser
        if name in BY_NAME:
            return BY_NAME[name]
        return from_tags(template.traits.tool_tag, *template.traits.thinking_tags)

    def prepare(self) -> None:
        """Derive the description on the caller's thread: the first one of a template takes milliseconds."""
        with suppress(TemplateError):  # raised again by the request that needs it
            _ = self.description

    @property
    def go_template(self) -> Template:
        """The model's Go template or the default one, also if it is not in use. Raises TemplateError."""
        return parse_go_template(self.model.template or DEFAULT_TEMPLATE)

    def require(self, capability: str, doing: str) -> None:
        """Raise 400 if the model lacks ``capability``, which ``doing`` ('chat', 'generate') requires."""
        if capability not in self.capabilities:
            raise OllamaError(400, f'"{self.sent}" does not support {doing}')


NO_CLOUD = CloudPolicy(disabled=True, base="", remotes=())
"""The policy that allows no remote models."""


def not_found(sent: str) -> OllamaError:
    """Return the error of generate, chat and show for a missing model."""
    return OllamaError(404, f"model '{sent}' not found")


def not_found_try_pulling(sent: str) -> OllamaError:
    """Return the error of the embedding endpoints for a missing model."""
    return OllamaError(404, f'model "{sent}" not found, try pulling it first')


class Catalogue:
    """The installed models and the ``backend_models``, looked up on the disk pool.

    ``cloud`` decides whether remote models may be run, ``configured`` has aliases and settings of models.
    ``go_template`` is ``OLLAMA_GO_TEMPLATE``: True
    prefers a model's Go template to the chat template in its file, None takes the more able one.
    """

    def __init__(
        self,
        store: Store,
        disk: WorkerPool,
        backend_models: BackendModels | None = None,
        go_template: bool | None = None,
        cloud: CloudPolicy = NO_CLOUD,
        configured: LiveDocument | None = None,
    ) -> None:
        self._cloud = cloud
        self._configured = configured or LiveDocument()
        self._go_template = go_template
        self._store = store
        self._disk = disk
        self._backend_models = backend_models
        self._sound: set[tuple[str, ...]] = set()
        """Digests of the files of each model that passed the checks of :mod:`ollama_tw.gguf`."""
        self._refused_drafts: set[tuple[str, str | None]] = set()
        """Models of which a warning has been logged, and their drafts in the configuration file."""
        self._infill: dict[str, InfillTokens | None] = {}
        """The tokens in the vocabularies of the files that were asked to fill in text, by digest."""

    async def find(
        self, sent: str, missing: Callable[[str], OllamaError] = not_found, *, any_case: bool = True
    ) -> Entry:
        """Return the model that ``sent`` refers to, compared without case if ``any_case``.

        Raises ``missing(sent)`` if there is none, 400 for an invalid name, and 400 or 403 for a model
        that another server runs.
        """
        found = await self.find_or_stub(sent, missing, any_case=any_case)
        if isinstance(found, Stub):
            self._cloud.require(Operation.MODEL)
            raise cannot_run()
        return found

    async def find_or_stub(
        self, sent: str, missing: Callable[[str], OllamaError] = not_found, *, any_case: bool = True
    ) -> Entry | Stub:
        """Return the model that ``sent`` refers to, or the stub of one that another server runs.

        Raises as :meth:`find` does.
        """
        if not sent.strip():
            raise missing(sent)
        sent = self._configured.resolve_alias(sent)
        reference = parse_reference(sent)
        if reference.source is ReferenceSource.CLOUD:
            # Requests of endpoints that the cloud has are forwarded before they come here.
            self._cloud.require(Operation.MODEL)
            raise OllamaError(400, f'"{sent}" is a cloud model, which this endpoint does not support')
        try:
            return await self._disk.run(self._installed, reference, missing, any_case)
        except ModelNotFound as error:
            listed = None
            if self._backend_models is not None:
                listed = await self._disk.run(self._backend_models.recent, reference.name)
            if listed is None:
                raise missing(sent) from error
            return _backend_entry(sent, listed, self._configured.model(listed.model.name.short))

    async def infill_tokens(self, entry: Entry) -> InfillTokens | None:
        """Return the tokens with which the model fills in text, from its metadata or its vocabulary.

        Raises OllamaError 500 if the model's file cannot be read.
        """
        found = infill_tokens_of_metadata(entry.header.metadata)
        if found is None and entry.model.model_digest:
            found = await self._disk.run(self._infill_tokens_of_file, entry)
        return found

    def _infill_tokens_of_file(self, entry: Entry) -> InfillTokens | None:
        digest = entry.model.model_digest
        if digest not in self._infill:
            try:
                texts = entry.header.raw_strings("tokenizer.ggml.tokens")
            except (GGUFError, OSError) as error:
                raise OllamaError(500, "the vocabulary of the model cannot be read") from error
            self._infill[digest] = infill_tokens_of_vocabulary(texts)
        return self._infill[digest]

    def _installed(
        self, reference: ModelReference, missing: Callable[[str], OllamaError], any_case: bool
    ) -> Entry | Stub:
        """Return the entry of a model in the store. Does all blocking work of a look-up, on a disk thread.

        Raises :class:`ModelNotFound`, and what :meth:`find` raises.
        """
        sent, name = reference.sent, reference.name
        model = self._store.load(self._store.resolve(name) if any_case else name)
        if model.is_remote:
            if reference.source is ReferenceSource.LOCAL:
                raise missing(sent)
            return Stub(sent, model)
        if not model.is_gguf:
            raise OllamaError(400, f'"{sent}" is not a GGUF model: this server runs GGUF models only')
        return self._entry(sent, model)

    def _entry(self, sent: str, model: Model) -> Entry:
        header = self._store.header(model)
        self._check_files(model, header)
        setting = self._go_template
        rendering = model_rendering(model, header, go_template_setting=setting)
        able = capabilities(self._store, model, go_template_setting=setting)
        config = self._configured.model(model.name.short)
        draft = self._draft_of(model, config)
        entry = Entry(sent, model, header, rendering, frozenset(able), config, draft)
        if "completion" in able:
            entry.prepare()
        return entry

    def _check_files(self, model: Model, header: Header) -> None:
        """Raise 400 if a file of the model could end the process.

        Create checks its files, but not those that were pulled or were in the store before.
        """
        files = (model.model_digest, *model.projector_digests, *model.adapter_digests)
        if files in self._sound:
            return
        try:
            with translate_disk_errors():
                validate_header(header)
                for digest in model.projector_digests:
                    validate_projector(self._store.header_of(digest))
                for digest in model.adapter_digests:
                    validate_adapter(self._store.header_of(digest), header)
        except GGUFError as error:
            raise OllamaError(400, f"the model cannot be loaded: {error}") from error
        self._sound.add(files)

    def _draft_of(self, model: Model, config: ModelConfig) -> Path | None:
        """Return the file of the draft model, None without one, or if it cannot be used."""
        try:
            if config.draft:
                other = self._store.load(self._store.resolve(parse_reference(config.draft).name))
                path, digest = other.model_path, other.model_digest
            elif config.draft is None:
                path, digest = model.draft_path, model.draft_digest
            else:
                return None
            if path is not None and (digest,) not in self._sound:
                with translate_disk_errors():
                    validate_header(self._store.header_of(digest))
                self._sound.add((digest,))
        except (OllamaError, GGUFError, ModelNotFound) as error:
            if (model.name.short, config.draft) not in self._refused_drafts:
                self._refused_drafts.add((model.name.short, config.draft))
                reason = f"{error} is not installed" if isinstance(error, ModelNotFound) else error
                _log.warning("the draft model of %s is not used: %s", model.name.short, reason)
            return None
        return path


def _backend_entry(sent: str, listed: BackendModel, config: ModelConfig) -> Entry:
    rendering = model_rendering(listed.model, listed.header)
    found = frozenset(model_capabilities(listed.model, listed.header))
    return Entry(sent, listed.model, listed.header, rendering, found, config)
