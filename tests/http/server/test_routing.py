"""Routes that are added by the first request to a path without one."""

from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

from ollama_tw.access.requirement import Access
from ollama_tw.http.server.replies import send_text
from ollama_tw.http.server.routing import Routes


class AddLaterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.added = 0
        self.failing = False
        routes = Routes()

        def add() -> None:
            if self.failing:
                raise ImportError("a module is missing")
            self.added += 1
            routes.add("POST", "/late/<name>", lambda request, name: send_text(request, name), Access.READ)

        routes.add("GET", "/early/<name>", lambda request, name: send_text(request, name), Access.READ)
        routes.add_later(add)
        self.client: Any = StubTreq(routes.resource())

    def answer(self, method: str, path: str) -> tuple[int, str]:
        response = self.successResultOf(self.client.request(method, f"http://h{path}"))
        return response.code, self.successResultOf(response.text())

    def test_other_requests_do_not_add_them(self) -> None:
        self.assertEqual(self.answer("GET", "/early/a"), (200, "a"))
        self.assertEqual(self.answer("POST", "/early/a")[0], 405)
        self.assertEqual(self.added, 0)

    def test_the_first_request_adds_them_and_is_answered(self) -> None:
        self.assertEqual(self.answer("POST", "/late/a"), (200, "a"))
        self.assertEqual(self.answer("POST", "/late/b"), (200, "b"))
        self.assertEqual(self.answer("GET", "/late/b")[0], 405)
        self.assertEqual(self.added, 1)

    def test_routes_that_could_not_be_added_are_tried_again(self) -> None:
        self.failing = True
        self.assertEqual(self.answer("POST", "/late/a")[0], 500)
        self.assertEqual(len(self.flushLoggedErrors(ImportError)), 1)
        self.failing = False
        self.assertEqual(self.answer("POST", "/late/a"), (200, "a"))

    def test_an_unknown_path(self) -> None:
        self.assertEqual(self.answer("GET", "/none")[0], 404)
        self.assertEqual(self.answer("POST", "/late/a"), (200, "a"))
        self.assertEqual(self.added, 1)
