"""Routes of the account and the state of the cloud.

Source: ollama: server/routes.go, StatusHandler, WhoamiHandler, SignoutHandler.
"""

from typing import Any

from twisted.web.http import Request

from ollama_tw.access.requirement import Access
from ollama_tw.cloud.account import Account, NotSignedIn
from ollama_tw.errors import OllamaError
from ollama_tw.http.server.replies import send_json
from ollama_tw.http.server.routing import Routes


class AccountRoutes:
    """``/api/status``, ``/api/me`` and ``/api/signout``.

    ``status`` is the result of :func:`~ollama_tw.cloud.account.cloud_status` at start-up.
    """

    def __init__(self, account: Account, status: dict[str, Any]) -> None:
        self._account = account
        self._status = status

    def register(self, routes: Routes) -> None:
        """Add the routes to ``routes``."""
        routes.add("GET", "/api/status", self.status, Access.READ)
        routes.add("POST", "/api/me", self.me, Access.ADMIN)
        routes.add("POST", "/api/signout", self.sign_out, Access.ADMIN)
        routes.add("DELETE", "/api/user/keys/<key>", self.sign_out, Access.ADMIN)

    def status(self, request: Request) -> None:
        """Send whether the cloud is turned off, and by which setting."""
        send_json(request, self._status)

    async def me(self, request: Request) -> None:
        """Describe the user that the server's key is registered for."""
        if self._status["cloud"]["disabled"]:
            raise OllamaError(503, "account unavailable")
        try:
            send_json(request, await self._account.user())
        except NotSignedIn:
            url = await self._account.signin_url()
            send_json(request, {"error": "unauthorized", "signin_url": url}, 401)

    async def sign_out(self, request: Request, key: str = "") -> None:
        """Remove the server's key from the account; the key in the path is ignored."""
        if self._status["cloud"]["disabled"]:
            raise OllamaError(500, "there was an error signing out")
        try:
            await self._account.sign_out()
        except NotSignedIn as error:
            raise OllamaError(401, "you are not currently signed in") from error
        send_json(request, None)
