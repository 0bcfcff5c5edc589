"""One operation's requests at one registry: redirects checked hop by hop, the token kept.

Source: ``spec/models-and-cli.md`` sections 3.5 and 3.7; ``spec/security.md`` on redirects.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

from twisted.internet import defer
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer, IResponse

from ollama_tw.errors import OllamaError
from ollama_tw.identity import auth
from ollama_tw.library import manifests
from ollama_tw.library.names import Name
from ollama_tw.net.addresses import Zone
from ollama_tw.net.body import HELD, BodyReader, BodyTooLarge, read_all
from ollama_tw.net.explain import TransportError, explain
from ollama_tw.net.network import Network, origin_host, without_query
from ollama_tw.net.origin import Origin, origin_of
from ollama_tw.net.user_agent import PATIENCE, USER_AGENT

# A registry may work out a manifest while we wait.
_MANIFEST_PATIENCE = 120.0
_MAX_REDIRECTS = 10
_MAX_WAIT = 60
_MAX_ERROR = 4096
_MAX_TOKEN = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

Body = Callable[[], IBodyProducer]
"""Makes the body of a request, anew for each try."""


class StatusError(OllamaError):
    """The registry refused: ``code`` is its HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(500, message)
        self.code = code


@dataclass(frozen=True)
class Hop:
    """A response, the URL that gave it, and whether that is still the registry itself."""

    response: IResponse
    url: str
    at_registry: bool

    def header(self, name: str) -> str:
        """The value of a header; "" where there is none."""
        values: list[str] = self.response.headers.getRawHeaders(name) or [""]
        return values[0]

    @property
    def wait(self) -> float:
        """The seconds of Retry-After, of which a minute is obeyed; 0 where there are none."""
        text = self.header("Retry-After").strip()
        return float(min(int(text), _MAX_WAIT)) if re.fullmatch("[0-9]{1,9}", text) else 0.0


class Session:
    """Requests about the model ``name`` at its registry, over HTTP where ``insecure``."""

    def __init__(self, network: Network, signer: auth.FindSigner, name: Name, insecure: bool) -> None:
        self._network = network
        self._signer = signer
        self.clock = network.clock
        self._token = ""
        self._zones: frozenset[Zone] | None = None
        self.name = name
        base = f"{'http' if insecure else 'https'}://{name.host}"
        try:
            self.origin: Origin = origin_of(base)
        except ValueError as error:
            raise OllamaError(500, f'the registry "{name.host}" is not a host') from error
        self.repository = f"{base}/v2/{name.namespace}/{name.model}"

    # -------------------------------------------------------------------------------- requests

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        follow: bool = True,
        patience: float = PATIENCE,
    ) -> Hop:
        """Send a request, signing in where the registry asks for it, and follow its redirects.

        The response may have any status but 401, and its body is unread. Raises OllamaError;
        TransportError where another try may help.
        """
        hop = await self._follow(method, url, headers or {}, body, follow, patience)
        if hop.response.code != 401 or not hop.at_registry:
            return hop
        challenge = auth.parse_challenge(hop.header("WWW-Authenticate"))
        self.drop(hop)
        if challenge.realm:
            self._token = await self._new_token(challenge)
            hop = await self._follow(method, url, headers or {}, body, follow, patience)
            if hop.response.code != 401:
                return hop
            self.drop(hop)
        raise StatusError(401, "unauthorized: access denied")

    async def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        follow: bool,
        patience: float,
    ) -> Hop:
        here = url
        at_registry = True
        for _ in range(_MAX_REDIRECTS + 1):
            at_registry = at_registry and _origin(here) == self.origin
            fields = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
            if at_registry and self._token:
                fields["Authorization"] = f"Bearer {self._token}"
            response = await self._network.request(
                method,
                here,
                fields,
                body() if body is not None else None,
                led_by=None if at_registry else await self._registry_zones(),
                patience=patience,
            )
            hop = Hop(response, here, at_registry)
            location = hop.header("Location")
            if not follow or response.code not in _REDIRECTS or not location:
                return hop
            self.drop(hop)
            here = self.resolve(here, location)
        raise StatusError(
            hop.response.code, f"maximum redirects exceeded ({_MAX_REDIRECTS}) for {without_query(url)}"
        )

    def resolve(self, base: str, location: str) -> str:
        """The absolute URL of a Location header; OllamaError where it must not be followed."""
        try:
            target = urljoin(base, location).partition("#")[0]
            scheme = origin_of(target).scheme
        except ValueError as error:
            raise OllamaError(500, "the registry redirects to something that is no URL") from error
        if scheme == "http" and base.startswith("https:"):
            raise OllamaError(500, "the registry redirects from https to http, which is not followed")
        return target

    async def _registry_zones(self) -> frozenset[Zone]:
        if self._zones is None:
            self._zones = await self._network.zones_of(self.origin)
        return self._zones

    async def _new_token(self, challenge: auth.Challenge) -> str:
        auth.check_realm(challenge.realm, self.origin)
        url = auth.token_url(challenge, now=self.clock.seconds(), nonce=auth.new_nonce())
        signature = (await self._signer()).token_authorization(url)
        fields = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Authorization": signature}
        response = await self._network.request("GET", url, fields, patience=PATIENCE)
        if response.code != 200:
            raise await self.refusal(Hop(response, url, True))
        return auth.read_token(await self.text(Hop(response, url, True), _MAX_TOKEN))

    def reader(self, hop: Hop, held: int = HELD) -> BodyReader:
        """What reads the body of a response; ``held`` bytes of it may wait to be read."""
        return BodyReader(hop.response, self._network.reactor, held)

    def drop(self, hop: Hop) -> None:
        """Do without the body of a response."""
        self.reader(hop).stop()

    async def text(self, hop: Hop, limit: int, patience: float = PATIENCE) -> bytes:
        """The whole body, which may have ``limit`` bytes; raises OllamaError."""
        if hop.header("Content-Encoding").lower() not in ("", "identity"):
            self.drop(hop)
            raise OllamaError(500, "the registry sent a compressed body that was not asked for")
        try:
            return await read_all(self.reader(hop), self.clock, limit, patience)
        except BodyTooLarge as error:
            raise OllamaError(500, f"the registry sent more than {limit} bytes") from error
        except (defer.CancelledError, OllamaError):
            raise
        except Exception as error:
            raise broken(hop, error) from error

    async def refusal(self, hop: Hop) -> OllamaError:
        """The error that a response of status 400 and above stands for; its body is read."""
        code = hop.response.code
        if code == 404:
            self.drop(hop)
            return StatusError(404, "file does not exist")
        try:
            body = (await self.text(hop, _MAX_ERROR)).decode("utf-8", "replace").strip()
        except OllamaError:
            body = ""
        return StatusError(code, f"{code}: {body}" if body else str(code))

    # -------------------------------------------------------------------------------- manifests

    async def manifest(self) -> bytes:
        """The manifest of the model, verbatim and unchecked; raises OllamaError."""
        hop = await self.send(
            "GET",
            f"{self.repository}/manifests/{self.name.tag}",
            {"Accept": manifests.MANIFEST_TYPE},
            patience=_MANIFEST_PATIENCE,
        )
        if hop.response.code != 200:
            raise await self.refusal(hop)
        return await self.text(hop, manifests.MAX_MANIFEST_BYTES, _MANIFEST_PATIENCE)

    def blob_url(self, digest: str) -> str:
        """Where the registry has the blob."""
        return f"{self.repository}/blobs/{digest}"


def _origin(url: str) -> Origin | None:
    try:
        return origin_of(url)
    except ValueError:
        return None


def broken(hop: Hop, error: Exception) -> TransportError:
    """The error for a body that broke off."""
    if isinstance(error, PotentialDataLoss):
        return TransportError("unexpected EOF")
    return TransportError(f'Get "{without_query(hop.url)}": {explain(error, origin_host(hop.url))}')
