"""Liveness, readiness and Prometheus routes, which Ollama does not have."""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from collections.abc import Callable
from typing import Literal

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.http.server.replies import send_text
from ollama_tw.http.server.routing import Routes
from ollama_tw.metrics import CONTENT_TYPE, Metrics

Readiness = Literal["starting", "ready", "draining"]
"""Returns whether models can be run: not until a backend is chosen, and not while the server drains."""


class HealthRoutes:
    """``/healthz``, ``/readyz`` and ``/metrics``."""

    def __init__(self, metrics: Metrics, readiness: Callable[[], Readiness]) -> None:
        self._metrics = metrics
        self._readiness = readiness

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("HEAD GET", "/healthz", self.healthz, Access.OPEN)
        routes.add("HEAD GET", "/readyz", self.readyz, Access.OPEN)
        routes.add("GET", "/metrics", self.metrics, Access.METRICS)

    def healthz(self, request: Request) -> None:
        """Answer 200 while the reactor runs."""
        send_text(request, "ok\n")

    def readyz(self, request: Request) -> None:
        """Answer 200 if models can be run, else 503."""
        readiness = self._readiness()
        if readiness == "ready":
            send_text(request, "ready\n")
        else:
            request.setHeader("Retry-After", "1")
            send_text(request, f"{readiness}\n", 503)

    def metrics(self, request: Request) -> None:
        """Send the metrics in Prometheus's text format."""
        send_text(request, self._metrics.render().decode(), content_type=CONTENT_TYPE)
