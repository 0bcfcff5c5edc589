"""Reranking with a real library and a fake backend, whose score is the length of the common prefix."""

import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer_only

from ollama_tw.config.settings import Settings
from ollama_tw.inference.catalogue import Catalogue
from ollama_tw.inference.rerank import Reranking, RerankRequest
from ollama_tw.interfaces import IRunner, Ranking, RunnerError
from ollama_tw.testing.fake import FakeRunner
from ollama_tw.tracking.context import RequestContext
from tests.engine.harness import begin
from tests.helpers.gguf_files import METADATA, write_gguf
from tests.inference.test_service import DiskPool, ServiceCase
from tests.llama.tiny_rankers import write_ranker


@implementer_only(IRunner)
class EmbeddingRunner(FakeRunner):
    """A runner without ``rank``."""


class RerankCase(ServiceCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        write_ranker(Path(folder.name) / "r.gguf")
        self._install("ranker", Path(folder.name) / "r.gguf")
        headless = METADATA | {"llama.pooling_type": 4}
        self._install("headless", write_gguf(Path(folder.name) / "h.gguf", metadata=headless))
        settings = Settings.read({"HOME": folder.name}, self.fail)
        catalogue = Catalogue(self.store, DiskPool())  # type: ignore[arg-type]
        self.reranking = Reranking(catalogue, self.scheduler, settings)

    def start(self, chat: bool = False, stream: bool = False, **fields: Any) -> Deferred[Any]:
        body = {"model": "ranker", "query": "abcd", "documents": ["abx", "abcd", "x", "abc"]} | fields
        return begin(self.reranking.rerank(msgspec.convert(body, type=RerankRequest), RequestContext()))

    def rank(self, **fields: Any) -> dict[str, Any]:
        result = self.start(**fields)
        self.work()
        reply: dict[str, Any] = self.successResultOf(result)
        return reply


class ReplyTests(RerankCase):
    def test_the_best_comes_first(self) -> None:
        self.assertEqual(
            self.rank(),
            {
                "model": "ranker",
                "object": "list",
                "usage": {"prompt_tokens": 27, "total_tokens": 27},
                "results": [
                    {"index": 1, "relevance_score": 4.0, "document": {"text": "abcd"}},
                    {"index": 3, "relevance_score": 3.0, "document": {"text": "abc"}},
                    {"index": 0, "relevance_score": 2.0, "document": {"text": "abx"}},
                    {"index": 2, "relevance_score": 0.0, "document": {"text": "x"}},
                ],
            },
        )

    def test_the_best_alone_and_without_their_texts(self) -> None:
        reply = self.rank(top_n=2, return_documents=False)
        self.assertEqual(
            reply["results"], [{"index": 1, "relevance_score": 4.0}, {"index": 3, "relevance_score": 3.0}]
        )
        # Documents that are not returned count as well.
        self.assertEqual(reply["usage"]["total_tokens"], 27)

    def test_more_wanted_than_there_are(self) -> None:
        self.assertEqual(len(self.rank(top_n=5)["results"]), 4)

    def test_documents_as_objects(self) -> None:
        reply = self.rank(documents=[{"text": "x", "id": 7}, "", {"text": "ab"}])
        self.assertEqual(
            reply["results"],
            [
                {"index": 2, "relevance_score": 2.0, "document": {"text": "ab"}},
                {"index": 0, "relevance_score": 0.0, "document": {"text": "x"}},
                {"index": 1, "relevance_score": 0.0, "document": {"text": ""}},
            ],
        )

    def test_the_same_score_keeps_the_order(self) -> None:
        reply = self.rank(documents=["ab1", "ab2", "abc", "ab3"])
        self.assertEqual([one["index"] for one in reply["results"]], [2, 0, 1, 3])

    def test_scores_below_zero_and_as_short_as_they_are(self) -> None:
        scores = [Ranking(-0.10000000149011612, 1), Ranking(-3.0, 1), Ranking(0.5, 1)]
        with patch.object(FakeRunner, "rank", lambda *_: scores):
            reply = self.rank(documents=["a", "b", "c"])
        self.assertEqual([one["relevance_score"] for one in reply["results"]], [0.5, -0.1, -3.0])

    def test_options_and_keep_alive_are_the_native_ones(self) -> None:
        self.rank(options={"num_ctx": 64, "num_thread": 3}, keep_alive="1m")
        self.assertEqual((self.backend.plans[0].context_length, self.backend.plans[0].threads), (64, 3))
        self.reactor.advance(61)
        self.work()
        self.assertTrue(self.backend.runners[0].closed)


class RefusalTests(RerankCase):
    def test_what_is_wrong_with_the_request(self) -> None:
        a_text = '"documents" must be an array that is not empty'
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({"query": ""}, '"query" must be a string that is not empty'),
            ({"documents": None}, a_text),
            ({"documents": []}, a_text),
            ({"documents": "text"}, a_text),
            ({"documents": {"text": "a"}}, a_text),
            *(
                (
                    {"documents": ["a", bad]},
                    '"documents[1]" must be a string, or an object whose "text" is a string',
                )
                for bad in (1, None, True, ["a"], {}, {"text": 1}, {"image": "http://x"})
            ),
            ({"documents": ["a"] * 2049}, '"documents" has 2049 items, more than the maximum of 2048'),
            ({"top_n": 0}, '"top_n" must be at least 1'),
            ({"top_n": -1}, '"top_n" must be at least 1'),
            ({"keep_alive": "soon"}, 'time: invalid duration "soon"'),
        )
        for fields, text in cases:
            with self.subTest(text=text, fields=fields):
                self.assertEqual(self.refused(**fields), (400, text))
        self.assertEqual(self.loads, 0)

    def test_models_that_cannot(self) -> None:
        for model in ("m", "embedder"):
            self.assertEqual(
                self.refused(model=model),
                (400, f'"{model}" does not support reranking: its pooling type is not rank'),
            )
        self.assertEqual(
            self.refused(model="headless"),
            (400, '"headless" does not support reranking: its file has no classification head'),
        )
        for model in ("missing", ""):
            self.assertEqual(
                self.refused(model=model), (404, f'model "{model}" not found, try pulling it first')
            )
        self.assertEqual(self.loads, 0)

    def test_a_backend_that_cannot(self) -> None:
        with patch("ollama_tw.testing.fake.FakeRunner", EmbeddingRunner):
            self.assertEqual(self.refused(), (400, "the backend of this model does not support reranking"))

    def test_a_document_that_is_too_long(self) -> None:
        text = (
            '"documents[1]" and the query have 21 tokens together, more than the context of 20: '
            "split the document or ask for a larger num_ctx"
        )
        self.assertEqual(
            self.refused(documents=["a", "b" * 17, "c"], options={"num_ctx": 20}),
            (400, text),
        )

    def test_an_engine_that_fails(self) -> None:
        with patch.object(FakeRunner, "rank", side_effect=RunnerError("it broke")):
            self.assertEqual(self.refused(), (500, "it broke"))
        for score in (float("nan"), float("inf"), 1e39):
            with patch.object(FakeRunner, "rank", lambda *_, score=score: [Ranking(score, 1)]):
                self.assertEqual(self.refused(), (500, "the model returned a score that is NaN or infinite"))
