"""The account at ollama.com that the server's key belongs to.

Source: ollama: server/routes.go, WhoamiHandler, SignoutHandler; auth/auth.go.
"""

import base64
from typing import Any
from urllib.parse import quote

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.identity.signer import LoadSigner, Signer
from ollama_tw.net.body import BodyReader, BodyTooLarge, read_all
from ollama_tw.net.network import STALL_TIMEOUT, Network
from ollama_tw.net.user_agent import USER_AGENT
from ollama_tw.wire.decode_errors import DECODE_ERRORS

_WEBSITE = "https://ollama.com"
_MAX_REPLY = 64 * 1024
_OPTIONAL = ("bio", "avatarurl", "firstname", "lastname")


class NotSignedIn(Exception):
    """The server's key does not belong to an account."""


class Account:
    """Client for the account API of ``cloud``. ``hostname`` is the name of this machine."""

    def __init__(self, network: Network, load_signer: LoadSigner, hostname: str, cloud: str) -> None:
        self._network = network
        self._load_signer = load_signer
        self._hostname = hostname
        self._cloud = cloud

    async def user(self) -> dict[str, Any]:
        """Return the account's user in the form of ``/api/me``.

        Raises NotSignedIn, OllamaError 503 if the cloud fails, and 500 if the key cannot be read.
        """
        await self._key()
        try:
            status, body = await self._request("POST", "/api/me")
            found = msgspec.json.decode(body, type=dict[str, Any]) if status == 200 else {}
        except (OllamaError, BodyTooLarge, *DECODE_ERRORS) as error:
            raise OllamaError(503, "account unavailable") from error
        if status == 401 or (status == 200 and not found.get("name")):
            raise NotSignedIn
        if status != 200:
            raise OllamaError(503, "account unavailable")
        user = {key: found.get(key, "") for key in ("id", "email", "name")}
        user.update({key: found[key] for key in _OPTIONAL if found.get(key)})
        user["plan"] = found.get("plan") or "free"
        return user

    async def sign_out(self) -> None:
        """Remove the key from the account; raises NotSignedIn, OllamaError 500."""
        try:
            status, _ = await self._request("DELETE", f"/api/user/keys/{_encoded(await self._load_signer())}")
        except (OllamaError, BodyTooLarge) as error:
            raise OllamaError(500, "there was an error signing out") from error
        if status == 401:
            raise NotSignedIn
        if status >= 300:
            raise OllamaError(500, "there was an error signing out")

    async def signin_url(self) -> str:
        """Return the URL at which a user adds the key to an account; raises OllamaError 500."""
        key = _encoded(await self._key())
        return f"{_WEBSITE}/connect?name={quote(self._hostname, safe='')}&key={key}"

    async def _key(self) -> Signer:
        try:
            return await self._load_signer()
        except OllamaError as error:
            raise OllamaError(500, "error getting authorization details") from error

    async def _request(self, method: str, path: str) -> tuple[int, bytes]:
        """Send a signed request; return status and body."""
        target = f"{path}?ts={int(self._network.clock.seconds())}"
        headers = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Authorization": (await self._load_signer()).authorization(f"{method},{target}"),
        }
        response = await self._network.request(method, self._cloud + target, headers, timeout=STALL_TIMEOUT)
        reader = BodyReader(response, self._network.reactor)
        return response.code, await read_all(reader, self._network.clock, _MAX_REPLY, STALL_TIMEOUT)


def _encoded(signer: Signer) -> str:
    """Return the public key in the encoding of the cloud's URLs."""
    return base64.urlsafe_b64encode(signer.public_line.encode()).rstrip(b"=").decode()
