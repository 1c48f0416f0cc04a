"""Where a tracked link may lead: checked when the link is made, never taken from a query."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from infra.config import Environment, Settings
from marketplace.promotion.errors import BadDestination

_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class DestinationPolicy:
    """https to any public name; plain http and bare addresses only to ``trusted_hosts``."""

    trusted_hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> DestinationPolicy:
        """Trusts the platform's own storefront host; on a developer's machine also that machine."""
        hosts = {urlsplit(settings.storefront_url).hostname or ""}
        if settings.env is not Environment.PRODUCTION:
            hosts |= {"127.0.0.1", "localhost", "::1"}
        return cls(frozenset(hosts - {""}))

    def checked(self, url: str) -> str:
        """Raises ``BadDestination``."""
        if len(url) > _LONGEST or not url.isascii() or any(c <= " " or c in '\\"<>\x7f' for c in url):
            raise BadDestination(
                f"an address of at most {_LONGEST} printable ASCII letters", field="destination"
            )
        try:
            parts = urlsplit(url)
            host, _ = (parts.hostname or "").lower(), parts.port
        except ValueError as error:
            raise BadDestination("this address cannot be read", field="destination") from error
        if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
            raise BadDestination("an http or https address with a host and no password", field="destination")
        if host not in self.trusted_hosts and (parts.scheme != "https" or not _is_public_name(host)):
            raise BadDestination("only https addresses of public hosts", field="destination")
        return url


def _is_public_name(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".local", ".internal"))
    return False
