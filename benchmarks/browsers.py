"""Browsers that click at a steady rate on a market of two brands, and one click now and then that is followed."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import SystemClock
from core.ids import BrandId, TouchId
from infra.db.session import Database, make_engine
from marketplace.audiences import service as audiences
from marketplace.audiences.models import CommunityChannel, PlacementKind
from marketplace.brands import onboarding
from marketplace.brands.models import TenantKind
from marketplace.brands.roles import BRAND_SCOPES
from marketplace.promotion import service as promotion
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.touches.touch_facts import touch_facts_for
from marketplace.promotion.touches.touch_token import SignedTouch, TouchSigner

FOLLOW_EVERY_S = 0.25
_AGENT = b"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Safari/605"
_TOKEN = re.compile(rb"[?&]lyt=([A-Za-z0-9_-]+)")
_CLIENTS = 32
_ROW = text("SELECT true FROM touches WHERE id = :id")


@dataclass(slots=True)
class Clicked:
    """``refused`` are answers without a redirect, which claim no click. Latencies in milliseconds."""

    given: set[UUID] = field(default_factory=set)
    refused: int = 0
    before_ms: list[float] = field(default_factory=list)
    during_ms: list[float] = field(default_factory=list)
    """While the database was away."""
    attributable_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Market:
    """``links`` are the codes of further links, by id."""

    code: str
    advertiser: BrandId
    links: Mapping[UUID, str] = field(default_factory=dict)


async def market_of(url: str, *, links: int = 0) -> Market:
    """Two brands, their agreement, one link of it and so many more."""
    db, clock = Database(make_engine(url)), SystemClock()
    async with db.unit_of_work(SYSTEM) as session:
        actors = []
        for name in ("Advertiser", "Promoter"):
            made = await onboarding.onboard(
                session, kind=TenantKind.BRAND, name=name, email=f"{name}@example.com".lower(), country="CN",
                currency="CNY", clock=clock,
            )  # fmt: skip
            actors.append(Actor(ActorKind.BRAND, made.tenant_id, scopes=BRAND_SCOPES))
        advertiser, promoter = actors
        invitation = await promotion.invite(
            session, advertiser, advertiser_id=advertiser.brand_id, promoter_brand_id=promoter.brand_id,
            terms=Terms.flat(100_000), clock=clock,
        )  # fmt: skip
        opened = await promotion.accept(session, promoter, invitation, clock=clock)
        for signer in actors:
            await promotion.sign_agreement(
                session, signer, opened.agreement_id, content_hash=opened.content_hash, clock=clock
            )
        community = await audiences.create_community(
            session, promoter, name="Outage", channel=CommunityChannel.WECOM_GROUP, clock=clock
        )
        placement = await audiences.create_placement(
            session, promoter, community_id=community, kind=PlacementKind.POST, name="post", clock=clock
        )
        link, *further = [
            await promotion.create_link(
                session, promoter, agreement_id=opened.agreement_id, placement_id=placement,
                destination="https://shop.example.com/cream?utm=1", policy=DestinationPolicy(), clock=clock,
            )
            for _ in range(1 + links)
        ]  # fmt: skip
    await db.close()
    return Market(link.code, advertiser.brand_id, {each.id: each.code for each in further})


class Browsers:
    """Clicks at a steady rate over a few connections, each click a browser without a cookie; of so many ``agents``,
    where one that clicks twenty times a minute must not be taken for a script."""

    def __init__(self, port: int, code: str, clicked: Clicked, *, agents: int = 1) -> None:
        self._port, self._clicked = port, clicked
        self._requests = itertools.cycle(
            [
                b"GET /l/%s HTTP/1.1\r\nhost: l\r\nuser-agent: %s.%d\r\n\r\n" % (code.encode(), _AGENT, n)
                for n in range(agents)
            ]
        )
        self.sent = 0
        self.away = False

    async def click(self, clicks: int, rate: float) -> None:
        started = time.perf_counter()
        await asyncio.gather(*(self._one(clicks, rate, started) for _ in range(_CLIENTS)))

    async def _one(self, clicks: int, rate: float, started: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while self.sent < clicks:
            due = started + self.sent / rate
            self.sent += 1
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            away, at = self.away, time.perf_counter()
            await self.ask(reader, writer)
            (self._clicked.during_ms if away else self._clicked.before_ms).append(
                1000 * (time.perf_counter() - at)
            )
        writer.close()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """One click; its token when it was redirected."""
        writer.write(next(self._requests))
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if length is not None and int(length[1]):
            await reader.readexactly(int(length[1]))
        token = _TOKEN.search(head)
        if not head.startswith(b"HTTP/1.1 302") or token is None:
            self._clicked.refused += 1
            return None
        self._clicked.given.add(UUID(bytes=urlsafe_b64decode(token[1] + b"=" * (-len(token[1]) % 4))[:16]))
        return token[1]


async def follow(
    browsers: Browsers, port: int, url: str, signer: TouchSigner, market: Market, clicked: Clicked
) -> None:
    """A click now and then, asked for as attribution would until it is there."""
    db = Database(make_engine(url, pool_size=1))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while not browsers.away:
            started = time.perf_counter()
            token = await browsers.ask(reader, writer)
            if token is not None:
                await read_by_attribution(db, signer.read(token.decode()), market)
                clicked.attributable_ms.append(1000 * (time.perf_counter() - started))
            await asyncio.sleep(FOLLOW_EVERY_S)
    finally:
        writer.close()
        await db.close()


async def read_by_attribution(db: Database, signed: SignedTouch, market: Market) -> None:
    """Returns when the click's row is there and attribution's own query has found it."""
    async with db.reading(SYSTEM) as session:
        # The token alone would do for attribution; what is measured is the click's own row.
        await _readable(session, signed.touch_id)
        found = await touch_facts_for(
            session,
            advertiser_id=market.advertiser,
            currency="CNY",
            signed=[signed],
            until=SystemClock().now(),
        )
    assert found.touches, "attribution does not see the click"


async def _readable(session: AsyncSession, touch_id: TouchId) -> None:
    while True:
        if await session.scalar(_ROW, {"id": touch_id}):
            return
        await asyncio.sleep(0.001)
