"""Address checks against server-side request forgery through redirects.

A server may redirect to public addresses, and to private ones only if it is itself at such an address.
Names are resolved once: the addresses that are checked are the ones that are connected to.
"""

import enum
import ipaddress
from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
)
from zope.interface import implementer

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address

# Addresses of cloud metadata services outside the link-local range.
_METADATA = frozenset(map(ipaddress.ip_address, ("168.63.129.16", "100.100.100.200", "fd00:ec2::254")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Zone(enum.Enum):
    """Scope of an IP address."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    OTHER = "unusable"


def zone_of(text: str) -> Zone:
    """Return the zone of an IP address; of an IPv6 address with an embedded IPv4 address, that of the latter.

    IPv4-mapped, 6to4 and NAT64 addresses are recognised. Raises ValueError.
    """
    address = _unwrapped(ipaddress.ip_address(text.partition("%")[0]))
    if address.is_loopback:
        return Zone.LOOPBACK
    if address.is_link_local or address in _METADATA:
        return Zone.LINK_LOCAL
    if address.is_unspecified or address.is_multicast:
        return Zone.OTHER
    return Zone.PUBLIC if address.is_global else Zone.PRIVATE


def _unwrapped(address: _IP) -> _IP:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return inner or address
    return address


def may_redirect(source: Collection[Zone], target: Zone) -> bool:
    """Return whether a server whose addresses all lie in the zones ``source`` may redirect to ``target``."""
    if target is Zone.PUBLIC:
        return True
    if not source or Zone.PUBLIC in source or target is Zone.OTHER:
        return False
    return target in source or (target is Zone.PRIVATE and Zone.LOOPBACK in source)


class ForbiddenAddress(Exception):
    """A redirect leads to an address that :func:`may_redirect` does not allow."""


AddressCheck = Callable[[str], bool]
"""Returns whether a connection to an IP address is allowed."""


def _host(address: IAddress) -> str:
    if not isinstance(address, IPv4Address | IPv6Address):
        raise TypeError(f"not an IP address: {address}")
    return address.host


@implementer(IResolutionReceiver)
class _FilteringReceiver:
    """Passes on the allowed addresses, and adds the others to ``refused``."""

    def __init__(self, receiver: IResolutionReceiver, is_allowed: AddressCheck, refused: list[str]) -> None:
        self._receiver = receiver
        self._is_allowed = is_allowed
        self._refused = refused

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        host = _host(address)
        if self._is_allowed(host):
            self._receiver.addressResolved(address)
        else:
            self._refused.append(host)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()


@implementer(IHostnameResolver)
class _FilteringResolver:
    def __init__(self, resolver: IHostnameResolver, is_allowed: AddressCheck, refused: list[str]) -> None:
        self._resolver = resolver
        self._is_allowed = is_allowed
        self._refused = refused

    def resolveHostName(
        self, resolutionReceiver: IResolutionReceiver, *args: Any, **kwargs: Any
    ) -> IHostResolution:
        receiver = _FilteringReceiver(resolutionReceiver, self._is_allowed, self._refused)
        return self._resolver.resolveHostName(receiver, *args, **kwargs)


@implementer(IReactorPluggableNameResolver, IReactorTCP, IReactorTime)
class CheckedReactor:
    """Reactor for a ``HostnameEndpoint`` that connects only to allowed addresses.

    The check is part of name resolution, so that a name cannot change its address between check and
    connection. Other addresses are added to ``refused``.
    """

    def __init__(
        self, reactor: Any, resolver: IHostnameResolver, is_allowed: AddressCheck, refused: list[str]
    ) -> None:
        self._reactor = reactor
        self.nameResolver = _FilteringResolver(resolver, is_allowed, refused)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IResolutionReceiver)
class AddressCollector:
    """Collects the addresses of a name; ``done`` is called with them as texts."""

    def __init__(self, done: Callable[[list[str]], None]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Do nothing: the resolution is not cancelled."""

    def addressResolved(self, address: IAddress) -> None:
        """Add an address."""
        self._found.append(_host(address))

    def resolutionComplete(self) -> None:
        """Report the addresses."""
        self._done(self._found)
