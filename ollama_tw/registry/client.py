"""HTTP client for one model at its registry: authentication, and redirects checked one by one.

Source: ollama: server/images.go, makeRequestWithRetry, pullModelManifest. The rules for redirects:
docs/operating.md.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urljoin

import msgspec
from twisted.internet import defer
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer, IResponse

from ollama_tw.errors import OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.identity.signer import LoadSigner
from ollama_tw.library import manifests
from ollama_tw.library.names import Name
from ollama_tw.net.addresses import Zone
from ollama_tw.net.body import BUFFER_LIMIT, BodyReader, BodyTooLarge, read_all
from ollama_tw.net.connection_errors import TransportError, explain
from ollama_tw.net.network import STALL_TIMEOUT, Network, origin_host, without_query
from ollama_tw.net.origin import Origin, origin_of
from ollama_tw.net.user_agent import USER_AGENT
from ollama_tw.registry import challenge as auth
from ollama_tw.wire.decode_errors import DECODE_ERRORS

# A registry may compute a manifest on request.
_MANIFEST_TIMEOUT = 120.0
_MAX_REDIRECTS = 10
_MAX_RETRY_AFTER = 60
_MAX_QUOTED = 400
_MAX_ERROR = 4096
_MAX_TOKEN = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

BodyFactory = Callable[[], IBodyProducer]
"""Creates the body of a request, once for each attempt."""


class StatusError(OllamaError):
    """The registry responded with an error; ``code`` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(500, message)
        self.code = code


@dataclass(frozen=True)
class RegistryResponse:
    """A response, its URL after redirects, and whether that is still at the registry's origin."""

    response: IResponse
    url: str
    at_registry: bool

    @property
    def code(self) -> int:
        """The HTTP status."""
        code: int = self.response.code
        return code

    def header(self, name: str) -> str:
        """Return the value of a header, or ""."""
        values: list[str] = self.response.headers.getRawHeaders(name) or [""]
        return values[0]

    @property
    def is_compressed(self) -> bool:
        """True if the body has a content encoding, which is never requested."""
        return self.header("Content-Encoding").lower() not in ("", "identity")

    @property
    def retry_after(self) -> float:
        """The seconds of ``Retry-After``, at most 60; 0 if it is absent or a date."""
        text = self.header("Retry-After").strip()
        return float(min(int(text), _MAX_RETRY_AFTER)) if re.fullmatch("[0-9]{1,9}", text) else 0.0


class RegistryClient:
    """Sends requests about the model ``name`` to its registry, over HTTP if ``insecure``.

    A token is requested once and kept for the later requests of the client.
    """

    def __init__(self, network: Network, load_signer: LoadSigner, name: Name, insecure: bool) -> None:
        self._network = network
        self._load_signer = load_signer
        self.clock = network.clock
        self._token = ""
        self._zones: frozenset[Zone] | None = None
        self.name = name
        base = f"{'http' if insecure else 'https'}://{name.host}"
        try:
            self.origin: Origin = origin_of(base)
        except ValueError as error:
            raise OllamaError(500, f'the registry "{name.host}" is not a valid host') from error
        self.repository = f"{base}/v2/{name.namespace}/{name.model}"

    # -------------------------------------------------------------------------------- requests

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: BodyFactory | None = None,
        *,
        follow: bool = True,
        timeout: float = STALL_TIMEOUT,
    ) -> RegistryResponse:
        """Send a request, authenticate after a 401, and follow redirects if ``follow``.

        Only GET and HEAD use kept connections.

        The response has any status except 401; its body is to be read or discarded by the caller. Raises
        OllamaError; TransportError if the request may be retried.
        """
        reply = await self._follow(method, url, headers or {}, body, follow, timeout)
        if reply.code != 401 or not reply.at_registry:
            return reply
        challenge = auth.parse_challenge(reply.header("WWW-Authenticate"))
        self.discard(reply)
        if challenge.realm:
            self._token = await self._new_token(challenge)
            reply = await self._follow(method, url, headers or {}, body, follow, timeout)
            if reply.code != 401:
                return reply
            self.discard(reply)
        raise StatusError(401, "unauthorized: access denied")

    async def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: BodyFactory | None,
        follow: bool,
        timeout: float,
    ) -> RegistryResponse:
        current = url
        at_registry = True
        for _ in range(_MAX_REDIRECTS + 1):
            at_registry = at_registry and _origin(current) == self.origin
            fields = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
            if at_registry and self._token:
                fields["Authorization"] = f"Bearer {self._token}"
            response = await self._network.request(
                method,
                current,
                fields,
                body() if body is not None else None,
                redirected_from=None if at_registry else await self._registry_zones(),
                timeout=timeout,
                # Twisted repeats only these if the registry has closed a kept connection.
                shared=method in ("GET", "HEAD"),
            )
            reply = RegistryResponse(response, current, at_registry)
            location = reply.header("Location")
            if not follow or reply.code not in _REDIRECTS or not location:
                return reply
            self.discard(reply)
            current = self.resolve(current, location)
        raise StatusError(
            reply.code, f"maximum redirects exceeded ({_MAX_REDIRECTS}) for {without_query(url)}"
        )

    def resolve(self, base: str, location: str) -> str:
        """Return the absolute URL of a ``Location`` header; raises OllamaError if it must not be followed."""
        try:
            target = urljoin(base, location).partition("#")[0]
            scheme = origin_of(target).scheme
        except ValueError as error:
            raise OllamaError(500, "the registry redirects to an invalid URL") from error
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
        signature = auth.token_authorization(await self._load_signer(), url)
        fields = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Authorization": signature}
        response = await self._network.request("GET", url, fields, timeout=STALL_TIMEOUT)
        reply = RegistryResponse(response, url, True)
        if reply.code != 200:
            raise await self.error_of(reply)
        return auth.read_token(await self.read_body(reply, _MAX_TOKEN))

    def reader(self, reply: RegistryResponse, buffer_limit: int = BUFFER_LIMIT) -> BodyReader:
        """Return a reader of the response's body that buffers about ``buffer_limit`` bytes."""
        return BodyReader(reply.response, self._network.reactor, buffer_limit)

    def discard(self, reply: RegistryResponse) -> None:
        """Discard the body of a response."""
        self.reader(reply).stop()

    async def read_body(self, reply: RegistryResponse, limit: int, timeout: float = STALL_TIMEOUT) -> bytes:
        """Return the whole body of at most ``limit`` bytes; raises OllamaError."""
        if reply.is_compressed:
            self.discard(reply)
            raise OllamaError(500, "the registry sent a compressed body that was not requested")
        try:
            return await read_all(self.reader(reply), self.clock, limit, timeout)
        except BodyTooLarge as error:
            raise OllamaError(500, f"the registry sent more than {limit} bytes") from error
        except (defer.CancelledError, OllamaError):
            raise
        except Exception as error:
            raise body_error(reply, error) from error

    async def error_of(self, reply: RegistryResponse) -> OllamaError:
        """Read the body of a response with status 400 or above and return its error."""
        if reply.code == 404:
            self.discard(reply)
            return StatusError(404, "file does not exist")
        try:
            body = _one_line(await self.read_body(reply, _MAX_ERROR))
        except OllamaError:
            body = ""
        return StatusError(reply.code, f"{reply.code}: {body}" if body else str(reply.code))

    # -------------------------------------------------------------------------------- manifests

    async def manifest(self) -> bytes:
        """Return the manifest of the model, verbatim and not validated; raises OllamaError."""
        reply = await self.send(
            "GET",
            f"{self.repository}/manifests/{self.name.tag}",
            {"Accept": manifests.MANIFEST_TYPE},
            timeout=_MANIFEST_TIMEOUT,
        )
        if reply.code != 200:
            raise await self.error_of(reply)
        return await self.read_body(reply, manifests.MAX_MANIFEST_BYTES, _MANIFEST_TIMEOUT)

    def blob_url(self, digest: str) -> str:
        """Return the URL of a blob in the registry."""
        return f"{self.repository}/blobs/{digest}"


def _one_line(body: bytes) -> str:
    """Return the first line of an error's body, or its JSON on one line, as printable text.

    Any host can be named as a registry: more of its answer is no concern of the client.
    """
    lines = body.decode("utf-8", "replace").strip().splitlines() or [""]
    if len(lines) > 1:
        with suppress(*DECODE_ERRORS):
            lines = [gojson.encode(msgspec.json.decode(body)).decode()]
    text = "".join(character for character in " ".join(lines[0].split()) if character.isprintable())
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"


def _origin(url: str) -> Origin | None:
    try:
        return origin_of(url)
    except ValueError:
        return None


def body_error(reply: RegistryResponse, error: Exception) -> TransportError:
    """Return the error for a body that ended early."""
    if isinstance(error, PotentialDataLoss):
        return TransportError("unexpected EOF")
    return TransportError(f'Get "{without_query(reply.url)}": {explain(error, origin_host(reply.url))}')
