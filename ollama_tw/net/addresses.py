"""Which addresses a registry may send us to.

Source: ``spec/security.md``, the row on redirects into the inner network.
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

# Addresses of clouds' metadata services that lie in ranges which are otherwise harmless.
_METADATA = frozenset(map(ipaddress.ip_address, ("168.63.129.16", "100.100.100.200", "fd00:ec2::254")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Zone(enum.Enum):
    """How far an address reaches."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    OTHER = "unusable"


def zone_of(text: str) -> Zone:
    """The zone of an IP address; those that it wraps (mapped, 6to4, NAT64) count for themselves."""
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


def may_lead_to(registry: Collection[Zone], target: Zone) -> bool:
    """Whether a registry all of whose addresses lie in ``registry`` may redirect to ``target``."""
    if target is Zone.PUBLIC:
        return True
    if not registry or Zone.PUBLIC in registry or target is Zone.OTHER:
        return False
    return target in registry or (target is Zone.PRIVATE and Zone.LOOPBACK in registry)


class ForbiddenAddress(Exception):
    """A redirect leads to a place that the registry has no business to send us to."""


Allows = Callable[[str], bool]
"""Whether a connection to this IP address may be made."""


@implementer(IResolutionReceiver)
class _Sieve:
    """Passes on the addresses that are allowed."""

    def __init__(self, receiver: IResolutionReceiver, allows: Allows, refused: list[str]) -> None:
        self._receiver = receiver
        self._allows = allows
        self._refused = refused

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        assert isinstance(address, IPv4Address | IPv6Address)
        if self._allows(address.host):
            self._receiver.addressResolved(address)
        else:
            self._refused.append(address.host)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()


@implementer(IHostnameResolver)
class _SievingResolver:
    def __init__(self, resolver: IHostnameResolver, allows: Allows, refused: list[str]) -> None:
        self._resolver = resolver
        self._allows = allows
        self._refused = refused

    def resolveHostName(
        self, resolutionReceiver: IResolutionReceiver, *args: Any, **kwargs: Any
    ) -> IHostResolution:
        sieve = _Sieve(resolutionReceiver, self._allows, self._refused)
        return self._resolver.resolveHostName(sieve, *args, **kwargs)


@implementer(IReactorPluggableNameResolver, IReactorTCP, IReactorTime)
class CheckedReactor:
    """The reactor for a ``HostnameEndpoint`` that connects only to addresses which are allowed.

    What is connected to is what was checked, so a name cannot change its address in between.
    ``refused`` collects the addresses that were not.
    """

    def __init__(self, reactor: Any, resolver: IHostnameResolver, allows: Allows, refused: list[str]) -> None:
        self._reactor = reactor
        self.nameResolver = _SievingResolver(resolver, allows, refused)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IResolutionReceiver)
class AddressList:
    """Collects what a name resolves to; ``done`` is called with the addresses as texts."""

    def __init__(self, done: Callable[[list[str]], None]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        assert isinstance(address, IPv4Address | IPv6Address)
        self._found.append(address.host)

    def resolutionComplete(self) -> None:
        self._done(self._found)
