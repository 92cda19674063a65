"""Addresses of the internet that a server may be sent to by its users (OWASP: SSRF).

A name is resolved once; whoever connects uses the addresses that were checked, so a name that
points elsewhere a moment later (DNS rebinding) changes nothing.
"""

import ipaddress
import socket
from typing import NamedTuple

from topwork.errors import AddressRefused, AddressUnknown

# All that was ever given out of IPv6 (RFC 4291, 2.4); Python calls more of it global.
GIVEN_OUT = ipaddress.ip_network("2000::/3")
# They carry an IPv4 address inside: 6to4 (RFC 3056), Teredo (RFC 4380).
CARRIERS = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32")))


class Endpoint(NamedTuple):
    """What a socket connects to."""

    family: int
    address: tuple[str, int] | tuple[str, int, int, int]


def resolve(host: str, port: int, *, private: bool) -> list[Endpoint]:
    """Return where a host may be reached; takes as long as the resolver does.

    Args:
        host: A name or an address.
        port: 1..65535.
        private: Whether addresses that are not of the internet are allowed.

    Raises:
        AddressUnknown: Nothing is known under this name.
        AddressRefused: An address of it is private, loopback, link-local or otherwise special.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressUnknown(f"{host!r} has no address: {error}", param="url") from error
    endpoints = [Endpoint(family, address) for family, _, _, _, address in found]  # type: ignore[arg-type] # Of the two internet families alone.
    for endpoint in endpoints:
        if not private and not is_public(endpoint.address[0]):
            raise AddressRefused(f"{host!r} is {endpoint.address[0]}", param="url")
    return endpoints


def is_public(text: str) -> bool:
    """Tell whether an address is one of the internet, for one receiver."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address not in GIVEN_OUT or any(address in carrier for carrier in CARRIERS):
            return False
    return address.is_global and not address.is_multicast
