"""Rate limits of keys and addresses: token buckets in this process."""

import ipaddress
import math
import time
from collections import OrderedDict

from topwork.errors import TooManyRequests

MINUTE = 60.0
BURST_SECONDS = 10.0
MOST_NAMES = 10_000


def subscriber(address: str) -> str:
    """Return what stands for whoever has an address: of IPv6 the first 64 bits.

    One subscriber is given at least so many addresses, and could use a fresh one for each request.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # No address of a network, such as a unix socket's.
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


class Buckets:
    """One bucket for each name; a full one holds ten seconds' worth of requests.

    The least recently used name is forgotten when there are too many, so memory is bounded.

    Args:
        per_minute: How fast each is filled; 0 takes every request.
    """

    def __init__(self, per_minute: int) -> None:
        self._rate = per_minute / MINUTE
        self._size = max(1.0, self._rate * BURST_SECONDS)
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> None:
        """Take one token.

        Raises:
            TooManyRequests: There is none; `retry_after` says when there will be one.
        """
        if not self._rate:
            return
        now = time.monotonic()
        level, then = self._levels.pop(name, (self._size, now))
        level = min(self._size, level + (now - then) * self._rate)
        taken = level >= 1.0
        self._levels[name] = (level - 1.0 if taken else level, now)
        if len(self._levels) > MOST_NAMES:
            self._levels.popitem(last=False)
        if not taken:
            raise TooManyRequests(retry_after=math.ceil((1.0 - level) / self._rate))
