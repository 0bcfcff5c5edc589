"""Failed attempts with unknown keys, which are answered more slowly from address to address."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

FREE = 3
"""Attempts of an address within a minute that are answered at once."""

_FORGET_SECONDS = 60.0
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 8.0
_MAX_ADDRESSES = 4096
_IPV6_NETWORK_BITS = 64


class Attempts:
    """Counts the failed attempts of each address. Memory is bounded."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def failed(self, address: str, now: float) -> float:
        """Count an attempt at ``now`` and return the seconds after which it is to be answered.

        The count of an address begins again a minute after its last failure.
        """
        source = _source(address)
        count, last = self._failures.pop(source, (0, now))
        count = 1 if now - last > _FORGET_SECONDS else count + 1
        self._failures[source] = count, now
        if len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)
        if count <= FREE:
            return 0.0
        return float(min(_FIRST_DELAY * 2 ** min(count - FREE - 1, 16), _LONGEST_DELAY))


def _source(address: str) -> str:
    """Return ``address``, of IPv6 the network: a host has all addresses of one."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(IPv6Address(int(parsed) >> _IPV6_NETWORK_BITS << _IPV6_NETWORK_BITS))
    return address
