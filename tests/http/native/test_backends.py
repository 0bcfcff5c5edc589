from typing import Any

from treq.testing import StubTreq
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ollama_tw.engine.backend_selection import BackendSelection
from ollama_tw.engine.backends import DiscoveredBackend
from ollama_tw.http.native.backends import BackendRoutes
from ollama_tw.http.server.routing import Routes
from ollama_tw.interfaces import Device, IBackend, Probe


class Quiet:
    name = "quiet"


@implementer(IBackend)
class Working:
    name = "working"
    priority = 0
    version = "1.2"

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def probe(self) -> Probe:
        return self._probe

    def load(self, plan: Any, progress: Any) -> Any:
        raise AssertionError


class Disk:
    def run(self, work: Any, *args: Any) -> Deferred[Any]:
        return succeed(work(*args))


class BackendsTests(SynchronousTestCase):
    def test_installed_and_chosen_backends(self) -> None:
        routes = Routes()
        devices = (Device("D", "a device", "gpu", 1, 2),)
        broken = DiscoveredBackend(Quiet(), Probe(reason="it cannot be imported"), "/x/quiet.py")  # type: ignore[arg-type]
        chosen = DiscoveredBackend(Working(Probe(devices)), Probe(), "/x/working.py")
        BackendRoutes(BackendSelection(lambda: [chosen, broken]), Disk()).register(routes)  # type: ignore[arg-type]
        client: Any = StubTreq(routes.resource())
        response = self.successResultOf(client.get("http://h/api/backends"))
        self.assertEqual(
            self.successResultOf(response.json()),
            {
                "backends": [
                    {
                        "name": "working",
                        "version": "1.2",
                        "available": True,
                        "reason": "",
                        "chosen": True,
                        "runner": "inprocess",
                        "sandbox": None,
                        "devices": [
                            {"name": "D", "description": "a device", "kind": "gpu", "free": 1, "total": 2}
                        ],
                    },
                    {
                        "name": "quiet",
                        "version": "",
                        "available": False,
                        "reason": "it cannot be imported",
                        "chosen": False,
                        "runner": "inprocess",
                        "sandbox": None,
                        "devices": [],
                    },
                ]
            },
        )
