"""What those who watch over the server ask: does it live, does it accept, and its figures.

Not part of Ollama's API. ``/healthz`` and ``/readyz`` answer text, ``/metrics`` Prometheus's format.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from collections.abc import Callable

from twisted.web.http import Request

from ollama_tw.http.server.replies import send_text
from ollama_tw.http.server.routing import Routes
from ollama_tw.metrics import CONTENT_TYPE, Metrics


class HealthRoutes:
    """``ready`` tells whether new work is accepted: not any more when the server drains."""

    def __init__(self, metrics: Metrics, ready: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._ready = ready

    def register(self, routes: Routes) -> None:
        routes.add("HEAD GET", "/healthz", self.healthz)
        routes.add("HEAD GET", "/readyz", self.readyz)
        routes.add("GET", "/metrics", self.metrics)

    def healthz(self, request: Request) -> None:
        send_text(request, "ok\n")

    def readyz(self, request: Request) -> None:
        if self._ready():
            send_text(request, "ready\n")
        else:
            request.setHeader("Retry-After", "1")
            send_text(request, "draining\n", 503)

    def metrics(self, request: Request) -> None:
        send_text(request, self._metrics.render().decode(), content_type=CONTENT_TYPE)
