"""The content of a configuration file, and the one that is in force."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ollama_tw.configfile.lines import KeyPath


@dataclass(frozen=True, order=True)
class Mistake:
    """A mistake in the file, in ``line``, from 1 on."""

    line: int
    text: str


@dataclass(frozen=True)
class ModelConfig:
    """Settings of one model; None takes the server's."""

    parallel: int | None = None
    """Number of slots."""
    kv_cache_type: str | None = None
    keep_alive: int | None = None
    """Time in nanoseconds that the model stays loaded, unless a request sets another."""
    pin: bool = False
    """The model is neither evicted nor does it expire."""
    preload: bool = False
    """The model is loaded when the server starts."""
    draft: str | None = None
    """Name of the model that drafts for this one, "" for none; None takes the model's own draft model."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that replace the model's parameters; a request may set others."""


UNCONFIGURED = ModelConfig()


class Alias(NamedTuple):
    """Another name of a model, as it was written, and the reference that it stands for."""

    name: str
    target: str


def alias_key(text: str) -> str:
    """Return the key of an alias: clients may add a tag, and write names in any case."""
    return text.strip().lower().removesuffix(":latest")


@dataclass(frozen=True)
class Document:
    """Contents of a configuration file. An empty one changes nothing."""

    path: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Values of environment variables, by their names."""
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """Lines by place: ``("num_parallel",)``, ``("models", SHORT_NAME, KEY)``, ``("aliases", NAME)``."""
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    """Settings of models by their short names in lower case."""
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    """Aliases by :func:`alias_key`."""
    mistakes: tuple[Mistake, ...] = ()

    def model(self, short_name: str) -> ModelConfig:
        """Return the settings of the model with this name, as ``/api/tags`` shows it."""
        return self.models.get(short_name.lower(), UNCONFIGURED)

    def resolve_alias(self, sent: str) -> str:
        """Return the model reference that ``sent`` is an alias of, else ``sent``."""
        alias = self.aliases.get(alias_key(sent)) if self.aliases else None
        return sent if alias is None else alias.target


EMPTY = Document()


class LiveDocument:
    """The configuration file that is in force; a reload replaces :attr:`current`. Read on any thread."""

    def __init__(self, current: Document = EMPTY) -> None:
        self.current = current

    def model(self, short_name: str) -> ModelConfig:
        """Return the settings of a model: see :meth:`Document.model`."""
        return self.current.model(short_name)

    def resolve_alias(self, sent: str) -> str:
        """Return the model that ``sent`` stands for: see :meth:`Document.resolve_alias`."""
        return self.current.resolve_alias(sent)
