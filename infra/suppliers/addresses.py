"""Where a webhook may go: public https only, decided on the addresses the name has now.

The caller connects to the address that was checked, not to the name again: a name that changes its address in
between (DNS rebinding) gains nothing. Redirects are not followed for the same reason.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from infra.suppliers.endpoint import WebhookUrlRefused

_LONGEST_URL = 2_000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """``address`` is where to connect; ``host`` what to ask for and whose certificate to expect."""

    url: SplitResult
    host: str
    port: int
    address: str


async def resolve(url: str, *, allow_private: bool) -> Target:
    """Raises ``WebhookUrlRefused``; ``OSError`` when the name has no address."""
    parts = parse(url, allow_private=allow_private)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in found]
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise WebhookUrlRefused(f"{host} leads to an address that is not public", field="url")
    return Target(parts, host, port, addresses[0])


def parse(url: str, *, allow_private: bool) -> SplitResult:
    """What can be said of a URL without asking the network."""
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as error:
        raise WebhookUrlRefused("that is not a URL", field="url") from error
    schemes = {"https", "http"} if allow_private else {"https"}
    if parts.scheme not in schemes or not parts.hostname or not port_is_fine or len(url) > _LONGEST_URL:
        raise WebhookUrlRefused("an https URL with a host is needed", field="url")
    if parts.username or parts.password or parts.fragment:
        raise WebhookUrlRefused("no credentials or fragment in a webhook URL", field="url")
    return parts


def is_public(address: str) -> bool:
    """Globally routable unicast: not loopback, private, link-local (cloud metadata), multicast or reserved."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (
            ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else None
        )  # fmt: skip
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
