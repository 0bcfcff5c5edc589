"""State of a server at one moment: its loaded models, requests and figures. Blocking.

Ollama itself has only ``/api/ps``; what else is missing is left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ollama_tw.cli.client import Client
from ollama_tw.errors import OllamaError

_NO_METRICS: Mapping[str, float] = {}
_SAMPLE = re.compile(r"^(ollama_\w+) (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Snapshot:
    """Records of ``/api/ps`` and ``/api/requests``, None if the server lacks the latter, and the metrics.

    ``error`` is why the server could not be asked, "" if it could.
    """

    models: Sequence[Mapping[str, Any]] = ()
    requests: Sequence[Mapping[str, Any]] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def tokens_per_second(self) -> float | None:
        """The sum of the speeds of all requests that generate, None if it is not known."""
        if self.requests is None:
            return None
        running = (one for one in self.requests if one.get("phase") == "decode")
        return float(sum(one.get("tokens_per_second") or 0 for one in running))


def take_snapshot(client: Client) -> Snapshot:
    """Ask the server; a failure becomes the ``error`` of the result."""
    try:
        models = (client.call("GET", "/api/ps") or {}).get("models") or []
    except OllamaError as error:
        return Snapshot(error=error.message)
    return Snapshot(models, _requests(client), _metrics(client))


def parse_metrics(text: str) -> dict[str, float]:
    """Return the samples without labels of Prometheus's text format."""
    found = {}
    for name, value in _SAMPLE.findall(text):
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return found


def _requests(client: Client) -> Sequence[Mapping[str, Any]] | None:
    try:
        reply = client.call("GET", "/api/requests")
    except OllamaError:
        return None
    requests = reply.get("requests") if isinstance(reply, dict) else None
    return requests if isinstance(requests, list) else None


def _metrics(client: Client) -> Mapping[str, float]:
    try:
        return parse_metrics(client.text("/metrics"))
    except OllamaError:
        return _NO_METRICS
