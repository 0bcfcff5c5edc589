"""Model names: grammar, full and short form, and the source suffix of references.

Source: ollama: types/model/name.go; internal/modelref/modelref.go.
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

# Placeholder for a part that is missing beside its separator; never valid.
_MISSING = "!MISSING!"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-.:]{0,349}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,79}", re.ASCII)
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-.]{0,79}", re.ASCII)
_PATTERNS = (_HOST, _NAMESPACE, _MODEL, _MODEL)


class InvalidName(ValueError):
    """Invalid model name; the only argument is the text."""


@dataclass(frozen=True)
class Name:
    """Complete model name, made by :func:`parse_name` or :func:`name_from_parts`, which validate it."""

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
        """The display form: without default host and namespace, always with the tag."""
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
    """Parse ``[scheme://][host/][namespace/]model[:tag]`` and fill in defaults.

    Raises InvalidName if a part is missing or has an invalid character or length.
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
    """Return the name of a manifest at this path; raises InvalidName if a part is invalid."""
    if not _valid((host, namespace, model, tag)):
        raise InvalidName(f"{host}/{namespace}/{model}:{tag}")
    return Name(host, namespace, model, tag)


def _cut_last(text: str) -> tuple[str, str]:
    """Split ``text`` at its last slash; without one, all of it is the right side."""
    left, slash, right = text.rpartition("/")
    if not slash:
        return "", right
    return left or _MISSING, right or _MISSING


def _valid(parts: tuple[str, str, str, str]) -> bool:
    return all(pattern.fullmatch(part) for pattern, part in zip(_PATTERNS, parts, strict=True))


class ReferenceSource(enum.Enum):
    """Source that the suffix of a model reference selects: this server or the cloud."""

    LOCAL = "local"
    CLOUD = "cloud"
    UNSPECIFIED = "unspecified"


def split_source(raw: str) -> tuple[str, ReferenceSource]:
    """Split a suffix ``:local``, ``:cloud`` or ``-cloud`` off ``raw``; return the rest and the source.

    Raises OllamaError 400 for a blank reference and for one with two such suffixes.
    """
    text = raw.strip()
    if not text:
        raise OllamaError(400, "model is required")
    base, source = _strip_source(text)
    if (
        source is not ReferenceSource.UNSPECIFIED
        and _strip_source(base)[1] is not ReferenceSource.UNSPECIFIED
    ):
        raise OllamaError(400, f"use either :local or :cloud, not both: {quote(raw)}")
    return base, source


@dataclass(frozen=True)
class ModelReference:
    """A model reference of a client: ``sent`` in whole, ``base`` without the suffix of its source."""

    sent: str
    base: str
    name: Name
    source: ReferenceSource


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
    if source is ReferenceSource.CLOUD:
        has_tag = ":" in base.rpartition("/")[2]
        base += "-cloud" if has_tag else ":cloud"
    return base


def _strip_source(text: str) -> tuple[str, ReferenceSource]:
    base, colon, suffix = text.rpartition(":")
    if not colon:
        return text, ReferenceSource.UNSPECIFIED
    word = suffix.strip().lower()
    if word == "cloud":
        return base, ReferenceSource.CLOUD
    if word == "local":
        return base, ReferenceSource.LOCAL
    if word.endswith("-cloud") and "/" not in word:
        return f"{base}:{suffix.strip()[: -len('-cloud')]}", ReferenceSource.CLOUD
    return text, ReferenceSource.UNSPECIFIED
