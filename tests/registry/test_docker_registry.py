"""Push to and pull from the distribution project's own registry, where it is installed."""

import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread

from tests.registry.fakes import CONFIG, OLLAMA, RegistryCase, layer, manifest_of, reactor, sha256

BINARY = shutil.which("docker-registry") or shutil.which("registry")

_CONFIGURATION = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


class _Process(ProcessProtocol):
    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def processEnded(self, reason: Any) -> None:
        reason.trap(ProcessTerminated)
        self.ended.callback(None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            continue
        else:
            return
    raise AssertionError("the registry does not start")


class DockerRegistryTests(RegistryCase):
    if BINARY is None:
        skip = "docker-registry is not installed"

    async def start(self) -> str:
        """A registry with an empty store; returns ``host:port``."""
        port = _free_port()
        configuration = self.root / "registry.yml"
        configuration.write_text(_CONFIGURATION.format(root=self.root / "registry", port=port))
        assert BINARY is not None
        protocol = _Process()
        process = reactor.spawnProcess(
            protocol, BINARY, [BINARY, "serve", str(configuration)], env={"PATH": os.environ["PATH"]}
        )

        def stop() -> Deferred[None]:
            process.signalProcess("KILL")
            return protocol.ended

        self.addCleanup(stop)
        await deferToThread(_wait_until_up, f"http://127.0.0.1:{port}/v2/")
        return f"127.0.0.1:{port}"

    async def test_push_then_pull(self) -> None:
        host = await self.start()
        name = self.name(host=host)
        weights = os.urandom(300_000)
        config = b'{"model_format":"gguf"}\n'
        layers = [layer(OLLAMA + "model", weights), layer(OLLAMA + "license", b"MIT")]
        for data in (weights, b"MIT", config):
            self.store.blobs.put(data)
        self.store.commit(name, manifest_of(*layers, config=layer(CONFIG, config)))

        pushes = self.new_pushes(self.store)
        await Deferred.fromCoroutine(pushes.push(f"{host}/library/m", True, self.records.append))
        self.assertEqual(self.records[-1], {"status": "success"})

        other = self.new_store("other")
        await self.pull(name, self.new_pulls(other))
        self.assertEqual(self.finals(other), self.finals())
        self.assertEqual(other.manifest(name), self.store.manifest(name))
        self.assertEqual(self.finals(other)[sha256(weights).replace(":", "-")], weights)

        # A second time there is nothing to send.
        del self.records[:]
        await Deferred.fromCoroutine(pushes.push(f"{host}/library/m", True, self.records.append))
        self.assertEqual(
            [record.get("completed") for record in self.records], [None, 300_000, 3, 24, None, None]
        )
