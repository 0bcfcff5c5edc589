"""Error texts of failed outbound requests."""

from collections.abc import Iterable, Iterator
from typing import Any

from OpenSSL import SSL
from service_identity.exceptions import VerificationError
from twisted.internet import defer, error
from twisted.logger import Logger
from twisted.python.failure import Failure

from ollama_tw.errors import OllamaError
from ollama_tw.net.addresses import ForbiddenAddress
from ollama_tw.net.origin import BadURL
from ollama_tw.net.proxy import ProxyError

_log = Logger()


# OpenSSL's reasons for an answer that does not begin with a TLS record: nearly always one of plain HTTP.
_NOT_TLS = frozenset({"wrong version number", "packet length too long", "record layer failure"})


class TransportError(OllamaError):
    """A request failed because of the network or a temporary error of the server; it may be retried.

    ``retry_after`` is the delay in seconds that the server requested, or 0.
    """

    def __init__(self, message: str, retry_after: float = 0) -> None:
        super().__init__(500, message)
        self.retry_after = retry_after


class BadBundle(Exception):
    """``SSL_CERT_FILE`` is unusable; the text is a sentence for the user."""


def causes_of(exception: BaseException) -> Iterator[BaseException]:
    """Yield the exception and, recursively, those that Twisted has wrapped in it (``reasons``)."""
    yield exception
    reasons: Any = getattr(exception, "reasons", None)
    if isinstance(reasons, Iterable):
        for reason in reasons:
            inner = reason.value if isinstance(reason, Failure) else reason
            if isinstance(inner, BaseException):
                yield from causes_of(inner)


def explain(exception: BaseException, host: str, refused: Iterable[str] = ()) -> str:
    """Return one sentence about why a request to ``host`` (``name:port``) failed.

    ``refused`` are addresses of the host to which a redirect is not allowed.
    """
    for address in refused:
        return f"redirect to {host} ({address}) is not allowed"
    causes = list(causes_of(exception))
    for cause in causes:
        sentence = _sentence(cause, host)
        if sentence is not None:
            return sentence
    _log.debug("request to {host} failed: {error!r}", host=host, error=causes[-1])
    return "the request failed"


def _sentence(cause: BaseException, host: str) -> str | None:
    name = host.rpartition(":")[0]
    match cause:
        case ProxyError() | BadBundle() | BadURL():
            return str(cause)
        case ForbiddenAddress():
            return f"redirect to {host} is not allowed"
        case VerificationError():
            return f"tls: failed to verify certificate: certificate is not valid for {name}"
        case SSL.Error():
            return _openssl_sentence(cause)
        case error.DNSLookupError():
            return f"dial tcp: lookup {name}: no such host"
        case error.ConnectionRefusedError():
            return f"dial tcp {host}: connect: connection refused"
        case error.TimeoutError() | defer.TimeoutError() | TimeoutError():
            return f"{host} did not answer in time"
        case error.ConnectError():
            return f"dial tcp {host}: the host cannot be reached"
        case error.ConnectionDone() | error.ConnectionLost() | error.ConnectionAborted():
            return "the connection was lost"
    return None


def _openssl_sentence(cause: SSL.Error) -> str:
    """Return OpenSSL's reason, or Go's text for an untrusted certificate and for a server without TLS."""
    reasons = [entry[-1] for entry in (cause.args[0] if cause.args else ()) if entry]
    reason = reasons[0] if reasons else "the handshake failed"
    if reason == "certificate verify failed":
        return "tls: failed to verify certificate: certificate signed by unknown authority"
    if reason in _NOT_TLS:
        return "http: server gave HTTP response to HTTPS client"
    return f"tls: {reason}"
