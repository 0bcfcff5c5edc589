"""Which other servers requests are sent to, and which of them are signed. Sends nothing.

Source: ollama: internal/cloud/policy.go; server/cloud_proxy.go.
"""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ollama_tw.config.parsers import CLOUD
from ollama_tw.errors import OllamaError
from ollama_tw.library.names import ReferenceSource, parse_reference
from ollama_tw.net.origin import Origin, origin_of
from ollama_tw.wire.decode_errors import DECODE_ERRORS

_CLOUD = origin_of(CLOUD)


class Operation(enum.Enum):
    """Operations of the cloud; the value ends the error text when it is disabled."""

    MODEL = "remote model is unavailable"
    DETAILS = "remote model details are unavailable"
    WEB_SEARCH = "web search is unavailable"
    WEB_FETCH = "web fetch is unavailable"


@dataclass(frozen=True)
class RemoteServer:
    """A server: ``base`` is its URL without a final slash, ``signed`` is True if requests are signed."""

    base: str
    signed: bool


@dataclass(frozen=True)
class CloudPolicy:
    """``base`` is the cloud's URL; ``remotes`` are the permitted hosts of stubs, in lower case."""

    disabled: bool
    base: str
    remotes: tuple[str, ...]

    def require(self, operation: Operation) -> None:
        """Raise OllamaError 403 if the cloud, stubs included, is disabled."""
        if self.disabled:
            raise OllamaError(403, f"ollama cloud is disabled: {operation.value}")

    @property
    def cloud(self) -> RemoteServer:
        """The server of cloud references."""
        return RemoteServer(self.base, True)

    def server_at(self, remote_host: str) -> RemoteServer:
        """Return the server of a stub; raises OllamaError 400 unless its host is in ``remotes``."""
        try:
            origin = origin_of(remote_host)
        except ValueError:
            raise cannot_run() from None
        if origin.host not in self.remotes:
            raise cannot_run()
        if origin == _CLOUD:
            return self.cloud
        return RemoteServer(str(origin) + urlsplit(remote_host).path.rstrip("/"), self._signs(origin))

    def _signs(self, origin: Origin) -> bool:
        # Over plain HTTP a signature could be intercepted.
        of_cloud = origin.scheme == "https" and origin.host == _CLOUD.host
        return of_cloud or origin == origin_of(self.base)


def cannot_run() -> OllamaError:
    """Return the error for a stub whose host is not permitted, or that does not support the operation."""
    return OllamaError(400, "this server cannot run this remote model")


def cloud_name(sent: str) -> str | None:
    """Return the model of a cloud reference; None for any other name, valid or not."""
    try:
        reference = parse_reference(sent)
    except OllamaError:
        return None
    return reference.base if reference.source is ReferenceSource.CLOUD else None


class _ServerFile(msgspec.Struct):
    disable_ollama_cloud: bool = False


def cloud_status(home: Path, no_cloud: bool) -> dict[str, Any]:
    """Return the reply of ``/api/status``: whether the cloud is disabled, and by what. Blocking.

    ``home`` is ``~/.ollama``; ``no_cloud`` is ``OLLAMA_NO_CLOUD``.
    """
    try:
        data = (home / "server.json").read_bytes()
        in_file = msgspec.json.decode(data, type=_ServerFile).disable_ollama_cloud
    except (OSError, *DECODE_ERRORS):
        in_file = False
    source = {(False, False): "none", (True, False): "env", (False, True): "config", (True, True): "both"}
    return {"cloud": {"disabled": no_cloud or in_file, "source": source[no_cloud, in_file]}}
