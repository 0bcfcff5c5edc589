"""The account at ollama.com to which the server's key belongs, and whether the cloud is used at all.

Source: ``spec/models-and-cli.md`` sections 3.7, 5.7, 5.8 and 5.9.
"""

import base64
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from ollama_tw.errors import OllamaError
from ollama_tw.identity.auth import FindSigner, Signer
from ollama_tw.net.body import BodyReader, BodyTooLarge, read_all
from ollama_tw.net.network import Network
from ollama_tw.net.user_agent import PATIENCE, USER_AGENT

CLOUD = "https://ollama.com"

_MAX_REPLY = 64 * 1024
_OPTIONAL = ("bio", "avatarurl", "firstname", "lastname")


class NotSignedIn(Exception):
    """The server's key belongs to no account."""


class _ServerFile(msgspec.Struct):
    disable_ollama_cloud: bool = False


def cloud_status(home: Path, no_cloud: bool) -> dict[str, Any]:
    """Whether the cloud is turned off, and by what; ``home`` is ``~/.ollama``. Blocking."""
    try:
        data = (home / "server.json").read_bytes()
        in_file = msgspec.json.decode(data, type=_ServerFile).disable_ollama_cloud
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        in_file = False
    source = {(False, False): "none", (True, False): "env", (False, True): "config", (True, True): "both"}
    return {"cloud": {"disabled": no_cloud or in_file, "source": source[no_cloud, in_file]}}


class Account:
    """Asks the cloud about the account. ``hostname`` is that of this machine."""

    def __init__(self, network: Network, signer: FindSigner, hostname: str, cloud: str = CLOUD) -> None:
        self._network = network
        self._signer = signer
        self._hostname = hostname
        self._cloud = cloud

    async def user(self) -> dict[str, Any]:
        """Who is signed in, as ``/api/me`` tells it; raises NotSignedIn, OllamaError 503, and 500
        where the key cannot be read."""
        await self._key()
        try:
            status, body = await self._ask("POST", "/api/me")
            found = msgspec.json.decode(body, type=dict[str, Any]) if status == 200 else {}
        except (OllamaError, BodyTooLarge, msgspec.DecodeError, UnicodeDecodeError) as error:
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
        """Take the key from the account; raises NotSignedIn, OllamaError 500."""
        try:
            status, _ = await self._ask("DELETE", f"/api/user/keys/{_encoded(await self._signer())}")
        except (OllamaError, BodyTooLarge) as error:
            raise OllamaError(500, "there was an error signing out") from error
        if status == 401:
            raise NotSignedIn
        if status >= 300:
            raise OllamaError(500, "there was an error signing out")

    async def signin_url(self) -> str:
        """Where a person adds the key to an account; raises OllamaError 500."""
        key = _encoded(await self._key())
        return f"{CLOUD}/connect?name={quote(self._hostname, safe='')}&key={key}"

    async def _key(self) -> Signer:
        try:
            return await self._signer()
        except OllamaError as error:
            raise OllamaError(500, "error getting authorization details") from error

    async def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and body of a signed request."""
        target = f"{path}?ts={int(self._network.clock.seconds())}"
        headers = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Authorization": (await self._signer()).authorization(f"{method},{target}"),
        }
        response = await self._network.request(method, self._cloud + target, headers, patience=PATIENCE)
        reader = BodyReader(response, self._network.reactor)
        return response.code, await read_all(reader, self._network.clock, _MAX_REPLY, PATIENCE)


def _encoded(signer: Signer) -> str:
    """The public key as it stands in the cloud's URLs."""
    return base64.urlsafe_b64encode(signer.public_line.encode()).rstrip(b"=").decode()
