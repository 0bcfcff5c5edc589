import json
import threading
from typing import Any

import treq
from treq.testing import StubTreq
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from ollama_tw.dialects.openai.errors import ERRORS
from ollama_tw.errors import OllamaError
from ollama_tw.http.dialect_support import Dialect
from ollama_tw.http.rerank import RerankRoutes
from ollama_tw.http.server.routing import Routes
from ollama_tw.inference.rerank import RerankRequest

FOREIGN = ("/v1/rerank", "/v1/reranking")
ALL = ("/api/rerank", *FOREIGN)
REPLY = {"model": "m", "object": "list", "results": [{"index": 0, "relevance_score": -0.5}]}


class FakeReranker:
    def __init__(self) -> None:
        self.requests: list[RerankRequest] = []
        self.error: Exception | None = None

    async def rerank(self, request: RerankRequest, cancel: threading.Event) -> dict[str, Any]:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return REPLY


class RerankRouteTests(TestCase):
    def setUp(self) -> None:
        self.reranker = FakeReranker()
        routes = Routes()
        any_reactor: Any = reactor
        RerankRoutes(Dialect(any_reactor, ERRORS), self.reranker).register(routes)
        self.client: Any = StubTreq(routes.resource())

    async def post(self, path: str, content: bytes) -> tuple[int, Any]:
        response = await self.client.post(f"http://x{path}", data=content)
        return response.code, json.loads(await treq.content(response))

    async def test_every_path_accepts_the_same_body(self) -> None:
        body = {
            "model": "m",
            "query": "q",
            "documents": ["a", {"text": "b"}],
            "top_n": 1,
            "return_documents": False,
            "options": {"num_ctx": 64},
            "keep_alive": "1m",
            "truncation": True,
        }
        for path in ALL:
            self.assertEqual(await self.post(path, json.dumps(body).encode()), (200, REPLY))
            self.assertEqual(
                self.reranker.requests[-1],
                RerankRequest(
                    model="m",
                    query="q",
                    documents=["a", {"text": "b"}],
                    top_n=1,
                    return_documents=False,
                    options={"num_ctx": 64},
                    keep_alive="1m",
                ),
            )

    async def test_results_contain_their_texts_by_default(self) -> None:
        for body in (b'{"model": "m"}', b'{"model": "m", "top_n": null, "return_documents": null}'):
            await self.post("/v1/rerank", body)
            self.assertIsNone(self.reranker.requests[-1].top_n)
            self.assertTrue(self.reranker.requests[-1].return_documents)

    async def test_errors_have_the_format_of_their_api(self) -> None:
        self.reranker.error = OllamaError(404, "no such model")
        self.assertEqual(await self.post("/api/rerank", b"{}"), (404, {"error": "no such model"}))
        for path in FOREIGN:
            status, reply = await self.post(path, b"{}")
            self.assertEqual(
                (status, reply),
                (
                    404,
                    {
                        "error": {
                            "message": "no such model",
                            "type": "not_found_error",
                            "param": None,
                            "code": None,
                        }
                    },
                ),
            )

    async def test_wrong_types(self) -> None:
        for body, text in (
            (b'{"query": ["q"]}', '"query" must be a string, not an array'),
            (b'{"model": 1}', '"model" must be a string, not a number'),
            (b'{"top_n": "2"}', '"top_n" must be an integer, not a string'),
            (b'{"top_n": true}', '"top_n" must be an integer, not a boolean'),
            (b'{"top_n": 1.5}', '"top_n" must be an integer, not a decimal number'),
            (b'{"return_documents": 1}', '"return_documents" must be a boolean, not a number'),
            (b'{"options": []}', '"options" must be an object, not an array'),
            (b"[]", "json: cannot unmarshal array into Go value of type api.RerankRequest"),
        ):
            self.assertEqual(await self.post("/api/rerank", body), (400, {"error": text}))
            for path in FOREIGN:
                status, reply = await self.post(path, body)
                self.assertEqual((status, reply["error"]["message"]), (400, text))
        self.assertEqual(self.reranker.requests, [])
