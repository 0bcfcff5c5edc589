import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from twisted.web.resource import Resource

from ollama_tw.cloud.account import Account
from ollama_tw.cloud.policy import cloud_status
from ollama_tw.http.native.account import AccountRoutes
from ollama_tw.http.server.guard import Guard, HostPolicy, OriginPolicy
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.site import make_site
from ollama_tw.identity.signer import Signer
from tests.http.fakes import connect
from tests.http.native.test_transfers import Reply
from tests.registry.fakes import RegistryCase, reactor


@pytest.mark.parametrize(
    ("content", "no_cloud", "disabled", "source"),
    [
        (None, False, False, "none"),
        (None, True, True, "env"),
        ('{"disable_ollama_cloud":true}', False, True, "config"),
        ('{"disable_ollama_cloud":true}', True, True, "both"),
        ('{"disable_ollama_cloud":false}', True, True, "env"),
        ("{", False, False, "none"),
        pytest.param('{"x":' * 100_000, False, False, "none", id="nested too deeply"),
        ('{"disable_ollama_cloud":"yes"}', False, False, "none"),
    ],
)
def test_status(tmp_path: Path, content: str | None, no_cloud: bool, disabled: bool, source: str) -> None:
    if content is not None:
        (tmp_path / "server.json").write_text(content)
    assert cloud_status(tmp_path, no_cloud) == {"cloud": {"disabled": disabled, "source": source}}


class Cloud(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.answer = (200, b"{}")
        self.seen: list[tuple[str, str, str]] = []

    def render(self, request: Any) -> bytes:
        self.seen.append((request.method.decode(), request.uri.decode(), request.getHeader("authorization")))
        request.setResponseCode(self.answer[0])
        return self.answer[1]


class AccountTests(RegistryCase):
    def setUp(self) -> None:
        super().setUp()
        self.cloud = Cloud()
        self.base = f"http://{self.listen(self.cloud)}"
        self.serve({"cloud": {"disabled": False, "source": "none"}})

    def serve(self, status: dict[str, Any], signer: Any = None) -> None:
        routes = Routes()
        account = Account(self.new_network(), signer or self.signer, "my box", self.base)
        AccountRoutes(account, status).register(routes)
        guard = Guard(OriginPolicy([]), HostPolicy("127.0.0.1", [], "box"))
        self.port = reactor.listenTCP(
            0, make_site(routes.resource(), guard, reactor=reactor), interface="127.0.0.1"
        )
        self.addCleanup(self.port.stopListening)

    async def ask(self, method: str, path: str) -> tuple[int, Any]:
        client = await connect(self.port)
        client.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        reply = Reply(await client.gone)
        return reply.status, json.loads(reply.body)

    async def test_status_route(self) -> None:
        self.assertEqual(
            await self.ask("GET", "/api/status"), (200, {"cloud": {"disabled": False, "source": "none"}})
        )

    async def test_the_user_who_is_signed_in(self) -> None:
        self.cloud.answer = (200, b'{"id":"1","email":"a@b","name":"ada","plan":"","bio":"x","secret":1}')
        self.assertEqual(
            await self.ask("POST", "/api/me"),
            (200, {"id": "1", "email": "a@b", "name": "ada", "bio": "x", "plan": "free"}),
        )
        method, uri, authorization = self.cloud.seen[0]
        self.assertEqual((method, uri), ("POST", "/api/me?ts=0"))
        public, signature = authorization.split(":")
        key = load_ssh_public_key(f"ssh-ed25519 {public}".encode())
        assert isinstance(key, Ed25519PublicKey)
        key.verify(base64.b64decode(signature), b"POST,/api/me?ts=0")

    async def test_no_user_is_signed_in(self) -> None:
        line = (await self.signer()).public_line
        encoded = base64.urlsafe_b64encode(line.encode()).rstrip(b"=").decode()
        for answer in ((401, b""), (200, b"{}")):
            self.cloud.answer = answer
            self.assertEqual(
                await self.ask("POST", "/api/me"),
                (
                    401,
                    {
                        "error": "unauthorized",
                        "signin_url": f"https://ollama.com/connect?name=my%20box&key={encoded}",
                    },
                ),
            )

    async def test_errors_of_the_cloud(self) -> None:
        for answer in ((500, b""), (200, b"<html>"), (200, b"[]"), (200, b'{"name":' * 2_000)):
            self.cloud.answer = answer
            self.assertEqual(await self.ask("POST", "/api/me"), (503, {"error": "account unavailable"}))

    async def test_a_key_that_cannot_be_read(self) -> None:
        async def signer() -> Signer:
            return Signer.load(self.root / "no-such-key")

        self.serve({"cloud": {"disabled": False, "source": "none"}}, signer)
        self.assertEqual(
            await self.ask("POST", "/api/me"), (500, {"error": "error getting authorization details"})
        )
        self.assertEqual(
            await self.ask("POST", "/api/signout"), (500, {"error": "there was an error signing out"})
        )

    async def test_sign_out(self) -> None:
        self.assertEqual(await self.ask("POST", "/api/signout"), (200, None))
        self.assertEqual(await self.ask("DELETE", "/api/user/keys/whatever"), (200, None))
        self.assertEqual(self.cloud.seen[0][:2], self.cloud.seen[1][:2])
        self.assertRegex(self.cloud.seen[0][1], r"^/api/user/keys/c3NoLWVkMjU1MTk[\w-]+\?ts=0$")
        self.cloud.answer = (401, b"")
        self.assertEqual(
            await self.ask("POST", "/api/signout"), (401, {"error": "you are not currently signed in"})
        )
        self.cloud.answer = (500, b"")
        self.assertEqual(
            await self.ask("POST", "/api/signout"), (500, {"error": "there was an error signing out"})
        )

    async def test_a_cloud_that_is_turned_off_is_not_asked(self) -> None:
        self.serve({"cloud": {"disabled": True, "source": "env"}})
        self.assertEqual((await self.ask("POST", "/api/me"))[0], 503)
        self.assertEqual((await self.ask("POST", "/api/signout"))[0], 500)
        self.assertEqual(self.cloud.seen, [])
