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
from ollama_tw.http.openai.routes import OpenAIEmbeddingRoutes
from ollama_tw.http.server.routing import Routes
from ollama_tw.wire.native import EmbedRequest


class Record:
    embeddings = [[1.0, -0.5], [0.25, 2.0]]  # noqa: RUF012
    prompt_eval_count = 5


class FakeEmbedder:
    def __init__(self) -> None:
        self.requests: list[EmbedRequest] = []
        self.error: Exception | None = None

    async def embed(self, request: EmbedRequest, cancel: threading.Event) -> Any:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return Record


class FakeTokens:
    async def detokenize(self, model: str, tokens: Any) -> list[str]:
        return ["".join(map(chr, one)) for one in tokens]


class EmbeddingTests(TestCase):
    def setUp(self) -> None:
        self.embedder = FakeEmbedder()
        routes = Routes()
        tokens: Any = FakeTokens()
        any_reactor: Any = reactor
        OpenAIEmbeddingRoutes(Dialect(any_reactor, ERRORS), self.embedder, tokens).register(routes)
        self.client: Any = StubTreq(routes.resource())

    async def post(self, **body: Any) -> tuple[int, Any]:
        content = json.dumps({"model": "m", **body}).encode()
        response = await self.client.post("http://x/v1/embeddings", data=content)
        return response.code, json.loads(await treq.content(response))

    async def test_vectors_as_numbers(self) -> None:
        status, reply = await self.post(input=["a", "b"], dimensions=2, options={"num_ctx": 64})
        self.assertEqual(status, 200)
        self.assertEqual(
            reply,
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "embedding": [1.0, -0.5], "index": 0},
                    {"object": "embedding", "embedding": [0.25, 2.0], "index": 1},
                ],
                "model": "m",
                "usage": {"prompt_tokens": 5, "total_tokens": 5},
            },
        )
        [request] = self.embedder.requests
        self.assertEqual(
            (request.input, request.dimensions, request.options), (["a", "b"], 2, {"num_ctx": 64})
        )

    async def test_vectors_as_base64(self) -> None:
        _, reply = await self.post(input=["a", "b"], encoding_format="BASE64")
        # 1.0 and -0.5 are 0000803f and 000000bf as little-endian float32.
        self.assertEqual(reply["data"][0]["embedding"], "AACAPwAAAL8=")

    async def test_the_inputs_that_are_embedded(self) -> None:
        for given, embedded in (
            ("", [""]),
            ("text", ["text"]),
            ([104, 105], ["hi"]),
            ([[104], [105]], ["h", "i"]),
            (7, 7),
        ):
            await self.post(input=given)
            self.assertEqual(self.embedder.requests[-1].input, embedded)

    async def test_invalid_requests(self) -> None:
        for body, message in (
            ({"input": []}, "invalid input"),
            ({}, "invalid input"),
            (
                {"input": "x", "encoding_format": "int8"},
                "Invalid value for 'encoding_format' = int8. Supported values: ['float', 'base64'].",
            ),
        ):
            status, reply = await self.post(**body)
            self.assertEqual((status, reply["error"]["message"]), (400, message))
        self.assertEqual(self.embedder.requests, [])

    async def test_an_error_of_the_service(self) -> None:
        self.embedder.error = OllamaError(404, 'model "m" not found, try pulling it first')
        status, reply = await self.post(input="x")
        self.assertEqual(status, 404)
        self.assertEqual(
            reply,
            {
                "error": {
                    "message": 'model "m" not found, try pulling it first',
                    "type": "not_found_error",
                    "param": None,
                    "code": None,
                }
            },
        )

    async def test_an_unexpected_exception_is_sent_as_its_number_only(self) -> None:
        self.embedder.error = RuntimeError("/secret/path")
        status, reply = await self.post(input="x")
        self.assertEqual((status, reply["error"]["type"]), (500, "api_error"))
        self.assertNotIn("secret", reply["error"]["message"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
