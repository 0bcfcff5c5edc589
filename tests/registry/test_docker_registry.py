"""Push to and pull from the registry of the distribution project, if it is installed."""

import os

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.registry.docker import DockerRegistry
from tests.registry.fakes import CONFIG, OLLAMA, RegistryCase, layer, manifest_of, sha256


class DockerRegistryTests(RegistryCase):
    @pytest.fixture(autouse=True)
    def _program(self, registry_program: str) -> None:
        self.program = registry_program

    async def start(self) -> str:
        """Start a registry with an empty store; return ``host:port``."""
        registry = DockerRegistry(self.program, self.root / "registry")
        self.addCleanup(registry.stop)
        await deferToThread(registry.wait_until_up)
        return registry.host

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

        # The second push has nothing to send.
        del self.records[:]
        await Deferred.fromCoroutine(pushes.push(f"{host}/library/m", True, self.records.append))
        self.assertEqual(
            [record.get("completed") for record in self.records], [None, 300_000, 3, 24, None, None]
        )
