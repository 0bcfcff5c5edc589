"""Route of the installed backends, which Ollama does not have."""

from dataclasses import asdict
from typing import Any

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.concurrency.threads import WorkerPool
from ollama_tw.engine.backend_selection import BackendSelection
from ollama_tw.engine.backends import DiscoveredBackend, refresh
from ollama_tw.http.server.replies import send_json
from ollama_tw.http.server.routing import Routes
from ollama_tw.runner.backend import ProcessBackend


class BackendRoutes:
    """``/api/backends``: describes the ``backends``, probed again on a thread of ``disk``."""

    def __init__(self, backends: BackendSelection, disk: WorkerPool) -> None:
        self._backends = backends
        self._disk = disk

    def register(self, routes: Routes) -> None:
        """Add the route to ``routes``."""
        routes.add("GET", "/api/backends", self.backends, Access.MANAGE)

    async def backends(self, request: Request) -> None:
        """List the backends, probed again."""
        chosen = await self._disk.run(self._backends.chosen)
        entries = [
            _entry(await self._disk.run(refresh, one), chosen=one is chosen) for one in self._backends.all()
        ]
        send_json(request, {"backends": entries})


def _entry(one: DiscoveredBackend, *, chosen: bool) -> dict[str, Any]:
    backend: Any = one.backend
    in_children = isinstance(backend, ProcessBackend)
    return {
        "name": one.name,
        "version": one.version,
        "available": one.probe.available,
        "reason": one.probe.reason,
        "chosen": chosen,
        "runner": "process" if in_children else "inprocess",
        "sandbox": asdict(backend.sandbox) if in_children and backend.sandbox else None,
        "devices": [asdict(device) for device in one.probe.devices],
    }
