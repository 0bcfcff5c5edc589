"""One request at another server: signed where that is due, its answer read at the reader's pace.

Source: ``spec/models-and-cli.md`` sections 3.7 and 5.9; ``spec/inference-api.md`` section 0.3.
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

from ollama_tw.cloud.account import Account
from ollama_tw.cloud.policy import Target
from ollama_tw.cloud.rewriting import Lines, TooLong, refusal_object, refusal_text, signed_target
from ollama_tw.errors import OllamaError
from ollama_tw.identity.auth import FindSigner, Signer
from ollama_tw.net.body import BodyReader, BodyTooLarge, read_all
from ollama_tw.net.explain import TransportError, explain
from ollama_tw.net.network import Network, origin_host
from ollama_tw.net.user_agent import PATIENCE, PROTOCOL_VERSION, USER_AGENT

MOST_AT_ONCE = 512
"""Requests that may be under way at other servers: one that leads back here must come to an end."""

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one record of a stream."""

MAX_REPLY = 64 * 1024 * 1024
"""Bytes of a reply that is kept whole; embeddings are the largest."""

_MAX_REFUSAL = 64 * 1024


class Answer:
    """A server's answer, whose body is still to be read, by one of the methods."""

    def __init__(self, response: IResponse, reader: BodyReader, clock: IReactorTime, host: str) -> None:
        self.status: int = response.code
        self._response = response
        self._reader = reader
        self._clock = clock
        self._host = host
        self._lines = Lines(MAX_LINE)

    def header(self, name: str) -> str:
        values: list[str] = self._response.headers.getRawHeaders(name) or [""]
        return values[0]

    @property
    def content_type(self) -> str:
        """Without parameters."""
        return self.header("Content-Type").partition(";")[0].strip().lower()

    def stop(self) -> None:
        """Read no more; the connection is closed. To be called in any case."""
        self._reader.stop()

    async def lines(self) -> list[bytes]:
        """The next lines of the body, as many as have arrived; none at the end. Raises OllamaError 502."""
        try:
            while chunks := await self._reader.read(self._clock, None):
                if found := [line for chunk in chunks for line in self._lines.feed(chunk)]:
                    return found
            rest = self._lines.end()
            self._lines = Lines(MAX_LINE)
            return [rest] if rest else []
        except TooLong:
            raise OllamaError(502, f"{self._host} sent a record of more than {MAX_LINE} bytes") from None
        except (CancelledError, OllamaError):
            raise
        except Exception as error:
            raise self._broken(error) from error

    async def whole(self, limit: int = MAX_REPLY, patience: float | None = None) -> bytes:
        """The whole body. Raises OllamaError 502."""
        try:
            return await read_all(self._reader, self._clock, limit, patience)
        except BodyTooLarge:
            raise OllamaError(502, f"{self._host} sent more than {limit} bytes") from None
        except (CancelledError, OllamaError):
            raise
        except Exception as error:
            raise self._broken(error) from error

    async def refusal(self) -> bytes:
        """The object that tells the client of a status of 400 and above."""
        return refusal_object(self.status, await self._reason())

    async def refused(self) -> OllamaError:
        """The error that a status of 400 and above stands for."""
        return OllamaError(self.status, refusal_text(self.status, await self._reason()))

    async def _reason(self) -> bytes:
        try:
            return await self.whole(_MAX_REFUSAL, PATIENCE)
        except OllamaError:
            return b""

    def _broken(self, error: Exception) -> OllamaError:
        return OllamaError(502, f"{self._host}: {explain(error, self._host)}")


class Cloud:
    """Asks other servers. ``signer`` and ``account`` are those of this server's key."""

    def __init__(self, network: Network, signer: FindSigner, account: Account) -> None:
        self._network = network
        self._signer = signer
        self._account = account
        self._under_way = 0

    async def ask(
        self,
        target: Target,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to a request, of whatever status but a redirect; its ``stop`` is to be called in the
        end. Raises OllamaError: 401 where it cannot be signed or the signature is not known, 502 for what
        the network does, 503 where too many requests are under way.
        """
        if self._under_way >= MOST_AT_ONCE:
            raise OllamaError(503, "server busy, please try again.  maximum pending requests exceeded")
        self._under_way += 1
        try:
            response = await self._send(target, method, path, body, query, headers or {})
        except BaseException:
            self._under_way -= 1
            raise
        reader = _CountedReader(response, self._network.reactor, self._ended)
        answer = Answer(response, reader, self._network.clock, origin_host(target.base))
        wrong = _fault(answer)
        if wrong:
            answer.stop()
            raise OllamaError(502, f"{origin_host(target.base)} {wrong}")
        if answer.status == 401 and target.signed:
            answer.stop()
            raise await self._unauthorized()
        return answer

    def _ended(self) -> None:
        self._under_way -= 1

    async def _send(
        self, target: Target, method: str, path: str, body: bytes | None, query: str, given: Mapping[str, str]
    ) -> IResponse:
        headers = {
            "user-agent": USER_AGENT,
            **given,
            "accept-encoding": "identity",
            "x-ollama-client-version": PROTOCOL_VERSION,
        }
        if body is not None:
            headers.setdefault("content-type", "application/json")
        uri = f"{path}?{query}" if query else path
        if target.signed:
            uri = signed_target(path, query, self._network.clock.seconds())
            headers["authorization"] = (await self._key()).authorization(f"{method},{uri}")
        producer = None if body is None else _Bytes(body)
        try:
            return await self._network.request(
                method, target.base + uri, headers, producer, patience=None, shared=False
            )
        except TransportError as error:
            raise OllamaError(502, error.message) from error

    async def _key(self) -> Signer:
        try:
            return await self._signer()
        except OllamaError:
            raise await self._unauthorized() from None

    async def _unauthorized(self) -> OllamaError:
        """What tells a user where to sign in, which takes a key that can be read."""
        try:
            details = {"signin_url": await self._account.signin_url()}
        except OllamaError:
            details = {}
        return OllamaError(401, "unauthorized", details)


def _fault(answer: Answer) -> str:
    """Why an answer cannot be used, after the name of who gave it; "" where it can."""
    if answer.status >= 600:
        return f"answered with status {answer.status}"
    if 300 <= answer.status < 400:
        return "redirects, which is not followed"
    if answer.header("Content-Encoding").lower() not in ("", "identity"):
        return "compressed its answer unasked"
    return ""


class _CountedReader(BodyReader):
    """Calls ``ended`` when the body is over or is given up."""

    def __init__(self, response: IResponse, reactor: IReactorTime, ended: Callable[[], None]) -> None:
        self._ended: Callable[[], None] | None = ended
        super().__init__(response, reactor)

    def _over(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        super().connectionLost(reason)
        self._over()

    def stop(self) -> None:
        super().stop()
        self._over()


@implementer(IBodyProducer)
class _Bytes:
    """A body that is in memory anyhow."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All is written already."""

    def resumeProducing(self) -> None:
        """See ``pauseProducing``."""

    def stopProducing(self) -> None:
        """See ``pauseProducing``."""
