"""Why a connection failed, in one sentence for the user."""

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


class TransportError(OllamaError):
    """The network or a server broke a request off; another try may succeed.

    ``wait`` is how many seconds the server wants to be left alone before that.
    """

    def __init__(self, message: str, wait: float = 0) -> None:
        super().__init__(500, message)
        self.wait = wait


class BadBundle(Exception):
    """The user's own authorities cannot be used; the text says why in one sentence."""


def causes_of(exception: BaseException) -> Iterator[BaseException]:
    """The exception and all that Twisted has packed into it."""
    yield exception
    reasons: Any = getattr(exception, "reasons", None)
    if isinstance(reasons, Iterable):
        for reason in reasons:
            inner = reason.value if isinstance(reason, Failure) else reason
            if isinstance(inner, BaseException):
                yield from causes_of(inner)


def explain(exception: BaseException, host: str, refused: Iterable[str] = ()) -> str:
    """One sentence about why ``host`` (``name:port``) could not be asked, or broke off.

    ``refused`` are addresses to which a redirect must not lead.
    """
    for address in refused:
        return f"the registry may not redirect to {host}, which is at {address}"
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
            return f"the registry may not redirect to {host}"
        case VerificationError():
            return f"tls: failed to verify certificate: it is not valid for {name}"
        case SSL.Error():
            return _of_openssl(cause)
        case error.DNSLookupError():
            return f"dial tcp: lookup {name}: no such host"
        case error.ConnectionRefusedError():
            return f"dial tcp {host}: connect: connection refused"
        case error.TimeoutError() | defer.TimeoutError() | TimeoutError():
            return f"{host} did not answer in time"
        case error.ConnectError():
            return f"dial tcp {host}: the host cannot be reached"
        case error.ConnectionDone() | error.ConnectionLost() | error.ConnectionAborted():
            return "the connection broke off"
    return None


def _of_openssl(cause: SSL.Error) -> str:
    """OpenSSL's own words, of which the certificate's faults are the commonest."""
    reasons = [entry[-1] for entry in (cause.args[0] if cause.args else ()) if entry]
    reason = reasons[0] if reasons else "the handshake failed"
    if reason == "certificate verify failed":
        return "tls: failed to verify certificate: it is not signed by an authority that is trusted here"
    return f"tls: {reason}"
