"""TLS contexts that are reloaded while the server runs."""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer


@implementer(IOpenSSLContextFactory)
class ReloadingContext:
    """The context that ``make`` returned last. Open connections keep the one they began with."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._current = make()

    def getContext(self) -> Any:
        """Return the current OpenSSL context."""
        return self._current.getContext()

    def reload(self) -> None:
        """Replace the context; it stays if ``make`` raises an error."""
        fresh = self._make()
        # A key that does not match the certificate is detected only here.
        fresh.getContext()
        self._current = fresh


def make_reloading(endpoint: Any, make_endpoint: Callable[[], Any]) -> ReloadingContext | None:
    """Install a :class:`ReloadingContext` in a TLS ``endpoint`` that ``make_endpoint`` has just returned.

    Returns None for an endpoint without TLS.
    """
    # Twisted keeps the context that results from the parameters of "ssl:" only in this attribute.
    name = "_sslContextFactory"
    if getattr(endpoint, name, None) is None:
        return None
    context = ReloadingContext(lambda: getattr(make_endpoint(), name))
    setattr(endpoint, name, context)
    return context
