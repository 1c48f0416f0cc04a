"""Who clicks, as far as a request tells: a bot, a returning browser, a repeat of a moment ago."""

from __future__ import annotations

import ipaddress
import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from core.ids import LinkId, TouchId
from marketplace.promotion.errors import InvalidTouchToken
from marketplace.promotion.touch_token import COOKIE, TouchSigner

REPEAT_WITHIN = timedelta(seconds=30)
"""The same browser on the same link again: one for the counters, though each keeps its own id."""

_REMEMBERED = 100_000
_COOKIE_LIFE_S = 90 * 86_400
_LONGEST_HOST = 253
_BOTS = re.compile(
    rb"bot\b|bot/|crawl|spider|slurp|preview|scanner|monitor|headless|phantom|curl/|wget/|python-|aiohttp|httpx"
    rb"|go-http|java/|okhttp|libwww|facebookexternalhit|whatsapp|telegram|skypeuri|lighthouse|pingdom|uptime",
    re.IGNORECASE,
)
_PREFETCH = frozenset({b"prefetch", b"preview", b"prerender"})


@dataclass(frozen=True, slots=True)
class Visitor:
    """``session_key`` names the browser; ``new_cookie`` is what it must be given to be known again."""

    session_key: bytes
    new_cookie: str | None
    is_bot: bool
    ip_prefix_hash: bytes | None
    user_agent_hash: bytes | None
    referrer_host: str | None


def read_visitor(
    headers: Iterable[tuple[bytes, bytes]], client: tuple[str, int] | None, signer: TouchSigner
) -> Visitor:
    agent = referrer = cookies = purpose = b""
    for name, value in headers:
        if name == b"user-agent":
            agent = value
        elif name == b"cookie":
            cookies = value
        elif name == b"referer":
            referrer = value
        elif name in (b"purpose", b"sec-purpose", b"x-moz"):
            purpose = value.lower().split(b";")[0].strip()
    session_key, new_cookie = _session(cookies, signer)
    return Visitor(
        session_key=session_key,
        new_cookie=new_cookie,
        is_bot=not agent or purpose in _PREFETCH or _BOTS.search(agent) is not None,
        ip_prefix_hash=_network(client, signer),
        user_agent_hash=signer.trace(agent) if agent else None,
        referrer_host=_host(referrer),
    )


def set_cookie(value: str, *, secure: bool) -> bytes:
    flags = "; Secure" if secure else ""
    return f"{COOKIE}={value}; Max-Age={_COOKIE_LIFE_S}; Path=/; HttpOnly; SameSite=Lax{flags}".encode()


def _session(cookies: bytes, signer: TouchSigner) -> tuple[bytes, str | None]:
    for pair in cookies.split(b";"):
        name, _, value = pair.strip().partition(b"=")
        if name == COOKIE.encode():
            try:
                return signer.session_of(value.decode("latin-1")), None
            except InvalidTouchToken:
                break  # forged or of another secret: a new browser to us
    fresh = signer.new_cookie()
    return signer.session_of(fresh), fresh


def _network(client: tuple[str, int] | None, signer: TouchSigner) -> bytes | None:
    """A keyed hash of the /24 (IPv4) or /48 (IPv6) the click came from, never of the address."""
    if client is None:
        return None
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return None
    return signer.trace(address.packed[: 3 if address.version == 4 else 6])


def _host(referrer: bytes) -> str | None:
    if not referrer:
        return None
    try:
        host = urlsplit(referrer.decode("latin-1")).hostname
    except ValueError:
        return None
    # The column is text: no NUL and nothing endless gets there.
    return host if host and len(host) <= _LONGEST_HOST and host.isascii() and host.isprintable() else None


class Repeats:
    """Remembers the first touch of a browser on a link for half a minute; bounded, in memory, a counter's aid."""

    def __init__(self) -> None:
        self._first: OrderedDict[tuple[bytes, LinkId], tuple[TouchId, datetime]] = OrderedDict()

    def first_of(
        self, session_key: bytes, link_id: LinkId, touch_id: TouchId, at: datetime
    ) -> TouchId | None:
        """The touch that this one repeats, or ``None`` when it is the first."""
        key = (session_key, link_id)
        known = self._first.get(key)
        if known is not None and timedelta(0) <= at - known[1] <= REPEAT_WITHIN:
            return known[0]
        self._first[key] = (touch_id, at)
        self._first.move_to_end(key)
        if len(self._first) > _REMEMBERED:
            self._first.popitem(last=False)
        return None
