"""Who clicks, as far as a request tells: a bot, a returning browser, a repeat of a moment ago."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import urlsplit

from core.ids import LinkId, TouchId
from marketplace.promotion.errors import InvalidTouchToken
from marketplace.promotion.touches.ad_clicks import ad_parameters
from marketplace.promotion.touches.bots import is_bot
from marketplace.promotion.touches.touch_token import COOKIE, TouchSigner

REPEAT_WITHIN = timedelta(seconds=30)
"""The same browser on the same link again: one for the counters, though each keeps its own id."""

_REMEMBERED = 100_000
_REMEMBERED_AGENTS = 4096
_REMEMBERED_NETWORKS = 16_384
_COOKIE_LIFE_S = 90 * 86_400
_LONGEST_HOST = 253
_WECHAT = b"MicroMessenger"
"""In the agent of WeChat's and WeCom's own browsers, which can open a mini-program."""
_PREFETCH = frozenset({b"prefetch", b"preview", b"prerender"})


@dataclass(frozen=True, slots=True)
class Visitor:
    """``session_key`` names the browser; ``new_cookie`` is what it must be given to be known again. ``in_wechat``:
    it can open a mini-program."""

    session_key: bytes
    new_cookie: str | None
    is_bot: bool
    ip_prefix_hash: bytes | None
    user_agent_hash: bytes | None
    referrer_host: str | None
    in_wechat: bool = False
    ad_parameters: str | None = None


class VisitorReader:
    """Reads visitors from requests; what many of them share (agents, networks) is worked out once."""

    def __init__(self, signer: TouchSigner) -> None:
        self._signer = signer
        self._agent = lru_cache(maxsize=_REMEMBERED_AGENTS)(self._read_agent)
        self._network = lru_cache(maxsize=_REMEMBERED_NETWORKS)(self._read_network)

    def read(
        self, headers: Iterable[tuple[bytes, bytes]], client: tuple[str, int] | None, query: bytes = b""
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
        session_key, new_cookie = self._session(cookies)
        bot, agent_hash, in_wechat = self._agent(agent)
        return Visitor(
            session_key=session_key,
            new_cookie=new_cookie,
            is_bot=bot or purpose in _PREFETCH,
            ip_prefix_hash=None if client is None else self._network(client[0]),
            user_agent_hash=agent_hash,
            referrer_host=_host(referrer),
            in_wechat=in_wechat,
            ad_parameters=ad_parameters(query, referrer.partition(b"?")[2]),
        )

    def _session(self, cookies: bytes) -> tuple[bytes, str | None]:
        for pair in cookies.split(b";"):
            name, _, value = pair.strip().partition(b"=")
            if name == COOKIE.encode():
                try:
                    return self._signer.session_of(value.decode("latin-1")), None
                except InvalidTouchToken:
                    break  # forged or of another secret: a new browser to us
        cookie, session_key = self._signer.new_session()
        return session_key, cookie

    def _read_agent(self, agent: bytes) -> tuple[bool, bytes | None, bool]:
        """Whether it is a bot, its keyed hash, and whether it is WeChat."""
        return is_bot(agent), self._signer.trace(agent) if agent else None, _WECHAT in agent

    def _read_network(self, host: str) -> bytes | None:
        """A keyed hash of the /24 (IPv4) or /48 (IPv6) the click came from, never of the address."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return None
        return self._signer.trace(address.packed[: 3 if address.version == 4 else 6])


def set_cookie(value: str, *, secure: bool) -> bytes:
    flags = "; Secure" if secure else ""
    return f"{COOKIE}={value}; Max-Age={_COOKIE_LIFE_S}; Path=/; HttpOnly; SameSite=Lax{flags}".encode()


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
