"""Certificates that can be replaced while the server runs."""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer


@implementer(IOpenSSLContextFactory)
class ReloadingContext:
    """The context that ``make`` gave last; connections that are open keep theirs."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._current = make()

    def getContext(self) -> Any:
        return self._current.getContext()

    def reload(self) -> None:
        """Make it anew. Where that raises, the old one stays."""
        fresh = self._make()
        # Certificates and keys that do not belong together show only here.
        fresh.getContext()
        self._current = fresh


def make_reloading(endpoint: Any, again: Callable[[], Any]) -> ReloadingContext | None:
    """Put a :class:`ReloadingContext` into a TLS ``endpoint`` that has just been made by ``again``;
    None for an endpoint without TLS."""
    # Twisted parses the many parameters of "ssl:" and keeps what comes of them here and nowhere else.
    name = "_sslContextFactory"
    if getattr(endpoint, name, None) is None:
        return None
    context = ReloadingContext(lambda: getattr(again(), name))
    setattr(endpoint, name, context)
    return context
