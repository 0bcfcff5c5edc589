"""Model names: their grammar, their two written forms, and the local/cloud suffix.

Source: ``spec/models-and-cli.md`` sections 1.1, 1.2 and 1.4.
"""

import enum
import re
from dataclasses import dataclass

from ollama_tw.errors import OllamaError
from ollama_tw.golang.quoting import quote

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
DEFAULT_SCHEME = "https"

# What stands for a side that a separator announced and that is not there; never valid.
_MISSING = "!MISSING!"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-.:]{0,349}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,79}", re.ASCII)
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-.]{0,79}", re.ASCII)
_PATTERNS = (_HOST, _NAMESPACE, _MODEL, _MODEL)


class InvalidName(ValueError):
    """The text is no model name; its only argument is the text."""


@dataclass(frozen=True)
class Name:
    """A complete model name; :func:`parse_name` and :func:`name_from_parts` make valid ones."""

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = DEFAULT_SCHEME

    @property
    def full(self) -> str:
        """``host/namespace/model:tag``, without the scheme."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """The form shown to people: default host and namespace left out, the tag always there."""
        if self.host.lower() != DEFAULT_HOST:
            return self.full
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """The path of the manifest below ``manifests/``: host, namespace, model, tag."""
        return (self.host, self.namespace, self.model, self.tag)


def parse_name(text: str) -> Name:
    """The name that ``[scheme://][host/][namespace/]model[:tag]`` stands for, defaults filled in.

    Raises InvalidName where a part is missing or has a byte or length that its grammar forbids.
    """
    rest, tag = text, ""
    if (colon := rest.rfind(":")) > rest.rfind("/"):
        rest, tag = rest[:colon] or _MISSING, rest[colon + 1 :] or _MISSING
    rest, model = _cut_last(rest)
    rest, namespace = _cut_last(rest)
    scheme, separator, host = rest.partition("://")
    if not separator:
        scheme, host = "", rest
    name = Name(
        host or DEFAULT_HOST,
        namespace or DEFAULT_NAMESPACE,
        model,
        tag or DEFAULT_TAG,
        scheme or DEFAULT_SCHEME,
    )
    if not _valid(name.parts):
        raise InvalidName(text)
    return name


def name_from_parts(host: str, namespace: str, model: str, tag: str) -> Name:
    """The name of a manifest found at this path; raises InvalidName where a part is not valid."""
    if not _valid((host, namespace, model, tag)):
        raise InvalidName(f"{host}/{namespace}/{model}:{tag}")
    return Name(host, namespace, model, tag)


def _cut_last(text: str) -> tuple[str, str]:
    """``text`` around its last slash; without one, everything is the right side."""
    left, slash, right = text.rpartition("/")
    if not slash:
        return "", right
    return left or _MISSING, right or _MISSING


def _valid(parts: tuple[str, str, str, str]) -> bool:
    return all(pattern.fullmatch(part) for pattern, part in zip(_PATTERNS, parts, strict=True))


class Source(enum.Enum):
    """Where a reference asks its model to run."""

    LOCAL = "local"
    CLOUD = "cloud"
    UNSPECIFIED = "unspecified"


def split_source(raw: str) -> tuple[str, Source]:
    """``raw`` without its ``:local``, ``:cloud`` or ``-cloud`` suffix, and what the suffix said.

    Raises OllamaError 400 for a blank reference and for one with two such suffixes.
    """
    text = raw.strip()
    if not text:
        raise OllamaError(400, "model is required")
    base, source = _strip_source(text)
    if source is not Source.UNSPECIFIED and _strip_source(base)[1] is not Source.UNSPECIFIED:
        raise OllamaError(400, f"use either :local or :cloud, not both: {quote(raw)}")
    return base, source


@dataclass(frozen=True)
class ModelReference:
    """A model reference of a client: ``sent`` in whole, ``base`` without the suffix of its source."""

    sent: str
    base: str
    name: Name
    source: Source


def parse_reference(sent: str) -> ModelReference:
    """Parse a model reference: a name with an optional ``:local``, ``:cloud`` or ``-cloud`` suffix.

    Raises OllamaError 400 for a blank reference, one with two suffixes and an invalid name.
    """
    base, source = split_source(sent)
    try:
        return ModelReference(sent, base, parse_name(base), source)
    except InvalidName as error:
        raise OllamaError(400, "invalid model name") from error


def stub_name(sent: str) -> str:
    """Return ``sent`` without its source suffix; for a cloud reference, the name of its stub.

    Raises OllamaError 400 as :func:`split_source` does.
    """
    base, source = split_source(sent)
    if source is Source.CLOUD:
        has_tag = ":" in base.rpartition("/")[2]
        base += "-cloud" if has_tag else ":cloud"
    return base


def _strip_source(text: str) -> tuple[str, Source]:
    base, colon, suffix = text.rpartition(":")
    if not colon:
        return text, Source.UNSPECIFIED
    word = suffix.strip().lower()
    if word == "cloud":
        return base, Source.CLOUD
    if word == "local":
        return base, Source.LOCAL
    if word.endswith("-cloud") and "/" not in word:
        return f"{base}:{suffix.strip()[: -len('-cloud')]}", Source.CLOUD
    return text, Source.UNSPECIFIED
