"""Route of the installed backends, which Ollama does not have."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from twisted.web.http import Request

from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.engine.backends import DiscoveredBackend, refresh
from ollama_tw.http.server.replies import send_json
from ollama_tw.http.server.routing import Routes


class BackendRoutes:
    """``/api/backends``: describes ``found``, of which ``chosen`` runs the models."""

    def __init__(
        self, found: Sequence[DiscoveredBackend], chosen: DiscoveredBackend, disk: WorkerPool
    ) -> None:
        self._found = found
        self._chosen = chosen
        self._disk = disk

    def register(self, routes: Routes) -> None:
        """Add the route to ``routes``."""
        routes.add("GET", "/api/backends", self.backends)

    async def backends(self, request: Request) -> None:
        """List the backends, probed again."""
        entries = [self._entry(one, await self._disk.run(refresh, one)) for one in self._found]
        send_json(request, {"backends": entries})

    def _entry(self, one: DiscoveredBackend, now: DiscoveredBackend) -> dict[str, Any]:
        return {
            "name": now.name,
            "version": now.version,
            "available": now.probe.available,
            "reason": now.probe.reason,
            "chosen": one is self._chosen,
            "devices": [asdict(device) for device in now.probe.devices],
        }
