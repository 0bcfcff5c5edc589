"""Which servers may be asked, for what, and who is signed for; nothing here asks.

Source: ``spec/models-and-cli.md`` sections 3.7, 4.5 and 5.9.
"""

import enum
from dataclasses import dataclass
from urllib.parse import urlsplit

from ollama_tw.config.parsers import CLOUD
from ollama_tw.errors import OllamaError
from ollama_tw.library.names import ReferenceSource, parse_reference
from ollama_tw.net.origin import Origin, origin_of

_CLOUD = origin_of(CLOUD)


class Operation(enum.Enum):
    """What a turned off cloud is said to be unavailable for."""

    MODEL = "remote model is unavailable"
    DETAILS = "remote model details are unavailable"
    WEB_SEARCH = "web search is unavailable"
    WEB_FETCH = "web fetch is unavailable"


@dataclass(frozen=True)
class Target:
    """A server: ``base`` is a URL without a slash at its end, ``signed`` whether it gets signatures."""

    base: str
    signed: bool


@dataclass(frozen=True)
class CloudPolicy:
    """``base`` is the cloud's URL, ``remotes`` are the hosts in lower case that stubs may name."""

    disabled: bool
    base: str
    remotes: tuple[str, ...]

    def require(self, operation: Operation) -> None:
        """Raise 403 where all of this is turned off."""
        if self.disabled:
            raise OllamaError(403, f"ollama cloud is disabled: {operation.value}")

    @property
    def cloud(self) -> Target:
        """Where cloud references go."""
        return Target(self.base, True)

    def target(self, remote_host: str) -> Target:
        """The server that a stub names; 400 unless the operator has allowed its host."""
        try:
            origin = origin_of(remote_host)
        except ValueError:
            raise cannot_run() from None
        if origin.host not in self.remotes:
            raise cannot_run()
        if origin == _CLOUD:
            return self.cloud
        return Target(str(origin) + urlsplit(remote_host).path.rstrip("/"), self._signs(origin))

    def _signs(self, origin: Origin) -> bool:
        # Over plain HTTP a signature could be taken on the way.
        of_cloud = origin.scheme == "https" and origin.host == _CLOUD.host
        return of_cloud or origin == origin_of(self.base)


def cannot_run() -> OllamaError:
    """The refusal of a model whose server may not be asked, or not for this."""
    return OllamaError(400, "this server cannot run this remote model")


def cloud_name(sent: str) -> str | None:
    """The model that a cloud reference means; None for other references, and for what is no name: its
    endpoint has the words for that."""
    try:
        reference = parse_reference(sent)
    except OllamaError:
        return None
    return reference.base if reference.source is ReferenceSource.CLOUD else None
