"""HTTP client for other servers: signed requests, and responses read with back pressure.

Source: ollama: server/cloud_proxy.go.
"""

# mypy: allow-untyped-calls
# (twisted has few annotations there)

from collections.abc import Callable, Mapping

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from ollama_tw import OLLAMA_VERSION
from ollama_tw.cloud.account import Account
from ollama_tw.cloud.policy import RemoteServer
from ollama_tw.cloud.rewriting import LineSplitter, LineTooLong, error_object, error_text, signed_target
from ollama_tw.errors import OllamaError
from ollama_tw.identity.signer import LoadSigner, Signer
from ollama_tw.net.body import BodyReader, BodyTooLarge, read_all
from ollama_tw.net.connection_errors import TransportError, explain
from ollama_tw.net.network import STALL_TIMEOUT, Network, origin_host
from ollama_tw.net.user_agent import USER_AGENT

MAX_CONCURRENT = 512
"""Concurrent requests to other servers; bounds requests that are forwarded in a circle."""

MAX_LINE = 16 * 1024 * 1024
"""Maximum bytes of one record of a stream."""

MAX_REPLY = 64 * 1024 * 1024
"""Maximum bytes of a response that is not streamed; embeddings are the largest."""

_MAX_ERROR = 64 * 1024


class RemoteResponse:
    """A response of another server, whose body is read by one of the methods."""

    def __init__(self, response: IResponse, reader: BodyReader, clock: IReactorTime, host: str) -> None:
        self.status: int = response.code
        self._response = response
        self._reader = reader
        self._clock = clock
        self._host = host
        self._lines = LineSplitter(MAX_LINE)

    def header(self, name: str) -> str:
        """Return the value of a header, or ""."""
        values: list[str] = self._response.headers.getRawHeaders(name) or [""]
        return values[0]

    @property
    def content_type(self) -> str:
        """The media type of the body, in lower case and without parameters."""
        return self.header("Content-Type").partition(";")[0].strip().lower()

    def stop(self) -> None:
        """Discard the rest of the body and close the connection. To be called in any case."""
        self._reader.stop()

    async def lines(self) -> list[bytes]:
        """Return the lines that have arrived, at least one; none at the end. Raises OllamaError 502."""
        try:
            while chunks := await self._reader.read(self._clock, None):
                if found := [line for chunk in chunks for line in self._lines.feed(chunk)]:
                    return found
            rest = self._lines.end()
            self._lines = LineSplitter(MAX_LINE)
            return [rest] if rest else []
        except LineTooLong:
            raise OllamaError(502, f"{self._host} sent a record of more than {MAX_LINE} bytes") from None
        except (CancelledError, OllamaError):
            raise
        except Exception as error:
            raise self._body_error(error) from error

    async def whole(self, limit: int = MAX_REPLY, timeout: float | None = None) -> bytes:
        """Return the whole body of at most ``limit`` bytes. Raises OllamaError 502."""
        try:
            return await read_all(self._reader, self._clock, limit, timeout)
        except BodyTooLarge:
            raise OllamaError(502, f"{self._host} sent more than {limit} bytes") from None
        except (CancelledError, OllamaError):
            raise
        except Exception as error:
            raise self._body_error(error) from error

    async def error_object(self) -> bytes:
        """Return the JSON object for the client of a response with status 400 or above."""
        return error_object(self.status, await self._error_body())

    async def error(self) -> OllamaError:
        """Return the error of a response with status 400 or above."""
        return OllamaError(self.status, error_text(self.status, await self._error_body()))

    async def _error_body(self) -> bytes:
        try:
            return await self.whole(_MAX_ERROR, STALL_TIMEOUT)
        except OllamaError:
            return b""

    def _body_error(self, error: Exception) -> OllamaError:
        return OllamaError(502, f"{self._host}: {explain(error, self._host)}")


class RemoteClient:
    """Sends requests to other servers, signed with this server's key. ``account`` is the key's account."""

    def __init__(self, network: Network, load_signer: LoadSigner, account: Account) -> None:
        self._network = network
        self._load_signer = load_signer
        self._account = account
        self._concurrent = 0

    async def send(
        self,
        server: RemoteServer,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> RemoteResponse:
        """Send a request and return the response, of any status except a redirect.

        The caller must call its ``stop``. Raises OllamaError: 401 if the request cannot be signed or the
        key is unknown, 502 for network errors and unusable responses, 503 above MAX_CONCURRENT.
        """
        if self._concurrent >= MAX_CONCURRENT:
            raise OllamaError(503, "server busy, please try again.  maximum pending requests exceeded")
        self._concurrent += 1
        try:
            response = await self._request(server, method, path, body, query, headers or {})
        except BaseException:
            self._concurrent -= 1
            raise
        reader = _CountedReader(response, self._network.reactor, self._ended)
        host = origin_host(server.base)
        reply = RemoteResponse(response, reader, self._network.clock, host)
        fault = _fault(reply)
        if fault:
            reply.stop()
            raise OllamaError(502, f"{host} {fault}")
        if reply.status == 401 and server.signed:
            reply.stop()
            raise await self._unauthorized()
        return reply

    def _ended(self) -> None:
        self._concurrent -= 1

    async def _request(
        self,
        server: RemoteServer,
        method: str,
        path: str,
        body: bytes | None,
        query: str,
        given: Mapping[str, str],
    ) -> IResponse:
        headers = {
            "user-agent": USER_AGENT,
            **given,
            "accept-encoding": "identity",
            "x-ollama-client-version": OLLAMA_VERSION,
        }
        if body is not None:
            headers.setdefault("content-type", "application/json")
        uri = f"{path}?{query}" if query else path
        if server.signed:
            uri = signed_target(path, query, self._network.clock.seconds())
            headers["authorization"] = (await self._key()).authorization(f"{method},{uri}")
        producer = None if body is None else _BytesProducer(body)
        try:
            return await self._network.request(
                method, server.base + uri, headers, producer, timeout=None, shared=False
            )
        except TransportError as error:
            raise OllamaError(502, error.message) from error

    async def _key(self) -> Signer:
        try:
            return await self._load_signer()
        except OllamaError:
            raise await self._unauthorized() from None

    async def _unauthorized(self) -> OllamaError:
        """Return the 401 error, with the URL to sign in at if the key can be read."""
        try:
            details = {"signin_url": await self._account.signin_url()}
        except OllamaError:
            details = {}
        return OllamaError(401, "unauthorized", details)


def _fault(reply: RemoteResponse) -> str:
    """Return the reason why a response is unusable, as the predicate of a sentence; "" if it is usable."""
    if reply.status >= 600:
        return f"answered with status {reply.status}"
    if 300 <= reply.status < 400:
        return "sent a redirect, which is not followed"
    if reply.header("Content-Encoding").lower() not in ("", "identity"):
        return "sent a compressed response that was not requested"
    return ""


class _CountedReader(BodyReader):
    """A reader that calls ``ended`` when the body ends or is discarded."""

    def __init__(self, response: IResponse, reactor: IReactorTime, ended: Callable[[], None]) -> None:
        self._ended: Callable[[], None] | None = ended
        super().__init__(response, reactor)

    def _report_end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Record the end of the body."""
        super().connectionLost(reason)
        self._report_end()

    def stop(self) -> None:
        """Discard the rest of the body."""
        super().stop()
        self._report_end()


@implementer(IBodyProducer)
class _BytesProducer:
    """Request body in memory."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write the whole body at once."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: the body has been written."""

    def resumeProducing(self) -> None:
        """Do nothing: the body has been written."""

    def stopProducing(self) -> None:
        """Do nothing: the body has been written."""
