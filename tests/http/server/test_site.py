import json
from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import TestCase
from twisted.web.http_headers import Headers

from ollama_tw.http.server.site import RootResource
from tests.http.sample import build


class InMemoryTests(TestCase):
    """Statuses, headers and bodies, without a socket."""

    def setUp(self) -> None:
        routes, self.sample, guard = build()
        self.client: Any = StubTreq(RootResource(guard, routes.resource()))

    async def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Headers, bytes]:
        response = await self.client.request(
            method, "http://localhost" + path, data=body, headers=headers, allow_redirects=False
        )
        return response.code, response.headers, await response.content()

    def header(self, headers: Headers, name: str) -> list[str]:
        return list(headers.getRawHeaders(name, []))

    async def test_root(self) -> None:
        status, headers, body = await self.ask("GET", "/")
        self.assertEqual((status, body), (200, b"Ollama is running"))
        self.assertEqual(self.header(headers, "content-type"), ["text/plain; charset=utf-8"])
        status, headers, body = await self.ask("HEAD", "/")
        self.assertEqual((status, body), (200, b""))

    async def test_version(self) -> None:
        status, headers, body = await self.ask("GET", "/api/version")
        self.assertEqual((status, body), (200, b'{"version":"0.5.0"}'))
        self.assertEqual(self.header(headers, "content-type"), ["application/json; charset=utf-8"])
        self.assertEqual((await self.ask("HEAD", "/api/version"))[0], 200)

    async def test_errors_for_the_user(self) -> None:
        status, headers, body = await self.ask("GET", "/api/known")
        self.assertEqual((status, body), (503, b'{"error":"server busy \\u003cnow\\u003e"}'))
        self.assertEqual(self.header(headers, "content-type"), ["application/json; charset=utf-8"])
        self.assertEqual(self.header(headers, "retry-after"), ["1"])
        status, headers, body = await self.ask("POST", "/api/echo", b"")
        self.assertEqual((status, body), (400, b'{"error":"missing request body"}'))
        self.assertEqual(self.header(headers, "retry-after"), [])

    async def test_a_cancelled_request_is_499(self) -> None:
        status, _, body = await self.ask("GET", "/api/cancel")
        self.assertEqual((status, body), (499, b'{"error":"request canceled"}'))

    async def test_unexpected_exceptions_are_logged_and_answered_without_their_text(self) -> None:
        status, headers, body = await self.ask("GET", "/api/broken")
        self.assertEqual(status, 500)
        self.assertEqual(self.header(headers, "content-type"), ["application/json; charset=utf-8"])
        text = json.loads(body)["error"]
        self.assertRegex(text, r"^internal server error; the server's log has it as request [0-9a-f]{8}$")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    async def test_unknown_paths(self) -> None:
        for path in (
            "/nope",
            "/api",
            "/api/echo/x",
            "/%2Fapi/ps",
            "/api/show/a%2Fb",
            "/%ff",
            "/nope/",
        ):
            for method in ("GET", "POST", "DELETE"):
                status, headers, body = await self.ask(method, path)
                self.assertEqual((path, status, body), (path, 404, b"404 page not found"))
                self.assertEqual(self.header(headers, "content-type"), ["text/plain"])

    async def test_known_paths_with_other_methods(self) -> None:
        for method, path, allow in (
            ("GET", "/api/echo", "POST"),
            ("HEAD", "/api/ps", "GET"),
            ("PUT", "/api/odd", "HEAD, GET, POST, DELETE"),
            ("BREW", "/api/version", "HEAD, GET"),
        ):
            status, headers, body = await self.ask(method, path)
            self.assertEqual(status, 405)
            self.assertEqual(body, b"" if method == "HEAD" else b"405 method not allowed")
            self.assertEqual(self.header(headers, "allow"), [allow])
            self.assertEqual(self.header(headers, "content-type"), ["text/plain"])

    async def test_a_path_that_is_not_clean_is_redirected(self) -> None:
        for path, location in (
            ("//api/echo", "/api/echo"),
            ("/api//echo?a=//b", "/api/echo?a=//b"),
            ("/./api/x/../echo", "/api/echo"),
            ("///", "/"),
            ("/../..", "/"),
            ("//api/echo/", "/api/echo/"),
            ("//evil.example/%2F%2e%2e", "/evil.example/%2F%2e%2e"),
        ):
            for method in ("POST", "GET", "HEAD"):
                status, headers, body = await self.ask(method, path)
                self.assertEqual((path, status, body), (path, 307, b""))
                self.assertEqual(self.header(headers, "location"), [location])

    async def test_trailing_slash(self) -> None:
        for method, path, status, location in (
            ("GET", "/api/version/", 301, "/api/version"),
            ("HEAD", "/api/version/", 307, "/api/version"),
            ("POST", "/api/echo/?a=b%20c", 307, "/api/echo?a=b%20c"),
            ("GET", "/api/show/x%20y/", 301, "/api/show/x%20y"),
        ):
            answer, headers, body = await self.ask(method, path)
            self.assertEqual((answer, body), (status, b""))
            self.assertEqual(self.header(headers, "location"), [location])
        self.assertEqual((await self.ask("GET", "/api/echo/"))[0], 404)

    async def test_foreign_origins_and_hosts_are_refused_before_routing(self) -> None:
        forbidden: tuple[dict[str, Any], ...] = ({"Origin": "http://evil.example"}, {"Host": "evil.example"})
        for headers in forbidden:
            for method, path in (("GET", "/"), ("POST", "/api/echo"), ("GET", "/nope"), ("OPTIONS", "/")):
                status, _, body = await self.ask(method, path, **headers)
                self.assertEqual((status, body), (403, b""))

    async def test_allowed_origin(self) -> None:
        status, headers, _ = await self.ask("GET", "/nope", Origin="http://localhost:5173")
        self.assertEqual(status, 404)
        self.assertEqual(self.header(headers, "vary"), ["Origin"])
        self.assertEqual(self.header(headers, "access-control-allow-origin"), ["http://localhost:5173"])

    async def test_preflight_on_any_path(self) -> None:
        for path in ("/api/echo", "/nope"):
            status, headers, body = await self.ask("OPTIONS", path, Origin="http://localhost:5173")
            self.assertEqual((status, body), (204, b""))
            self.assertEqual(self.header(headers, "access-control-max-age"), ["43200"])
            self.assertEqual(
                self.header(headers, "vary"),
                ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"],
            )
            self.assertEqual(self.header(headers, "content-length"), [])

    async def test_options_without_an_origin(self) -> None:
        self.assertEqual((await self.ask("OPTIONS", "/api/echo"))[0], 204)
        self.assertEqual((await self.ask("OPTIONS", "/api/echo", Host="127.0.0.1:11434"))[0], 405)
        self.assertEqual((await self.ask("OPTIONS", "/nope", Host="127.0.0.1:11434"))[0], 404)
