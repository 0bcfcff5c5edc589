"""Cache of vocabularies, and backends without them."""

# mypy: allow-untyped-calls

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from ollama_tw.engine.backends import DiscoveredBackend
from ollama_tw.engine.vocabularies import Vocabularies
from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import IVocabularyReader, LoadError, Probe


class Pool:
    def run(self, work: Any, *args: Any) -> Deferred[Any]:
        return succeed(work(*args))


@implementer(IVocabularyReader)
class Reader:
    name = "reader"

    def __init__(self) -> None:
        self.read: list[str] = []

    def read_vocabulary(self, model_path: str) -> Any:
        self.read.append(model_path)
        if model_path == "bad":
            raise LoadError("it is bad")
        return model_path.upper()


class VocabulariesTests(TestCase):
    def setUp(self) -> None:
        self.backend = Reader()
        backend: Any = self.backend
        pool: Any = Pool()
        self.vocabularies = Vocabularies(lambda path: (DiscoveredBackend(backend, Probe()), path), pool)

    async def test_a_file_is_read_once(self) -> None:
        self.assertEqual([await self.vocabularies.get("a") for _ in range(3)], ["A", "A", "A"])
        self.assertEqual(self.backend.read, ["a"])

    async def test_the_least_recently_used_is_dropped(self) -> None:
        for path in "abcdaea":
            await self.vocabularies.get(path)
        self.assertEqual("".join(self.backend.read), "abcde")
        await self.vocabularies.get("b")
        self.assertEqual("".join(self.backend.read), "abcdeb")

    async def test_a_file_that_cannot_be_read(self) -> None:
        with self.assertRaises(OllamaError) as caught:
            await self.vocabularies.get("bad")
        self.assertEqual((caught.exception.status, caught.exception.message), (500, "it is bad"))

    async def test_a_backend_without_vocabularies(self) -> None:
        backend: Any = SimpleNamespace(name="other")
        pool: Any = Pool()
        vocabularies = Vocabularies(lambda path: (DiscoveredBackend(backend, Probe()), path), pool)
        self.assertIsNone(await vocabularies.get("a"))
