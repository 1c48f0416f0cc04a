"""A shop with two promoters, the edge in front of their links, and people who click and buy, honest or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderId, RefundId
from infra.config import Settings
from infra.db.session import Database
from infra.payments.gateway import Refund as ProviderRefund
from marketplace.orders import cart, checkout, refund_sending, refunding
from marketplace.orders.refunding import RefundCommand
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.service import CreatedLink
from services.edge.app import Edge, create_app
from services.worker.dispatch import sweep
from tests.factories import orders, promotion
from tests.factories.brands import committed_brand
from tests.factories.orders import HOME, Shop
from tests.factories.promotion import Market
from tests.fixtures.http import Served, serving
from tests.fixtures.waiting import until

PHONE = "Mozilla/5.0 (iPhone) MicroMessenger/8.0"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


_CROWD = text(
    "INSERT INTO credited_sales SELECT gen_random_uuid(), agreement_id, agreement_version, advertiser_id,"
    " promoter_brand_id, '00000000-0000-7000-8000-000000000001', placement_id, touch_id, touch_at, ordered_at, paid_at,"
    " window_s, at_new_rate, 'b' || n, NULL, NULL, NULL FROM credited_sales, generate_series(1, :count) n"
    " WHERE order_id = :like"
)


@dataclass(frozen=True, slots=True)
class Visit:
    """``token`` is what the storefront passes on; ``cookie`` is the browser's at the edge."""

    token: str
    cookie: str


@dataclass
class Scene:
    """``suspect`` and ``honest`` are links of two promoter brands of one merchant.

    ``spool`` is where the edge keeps clicks that the database did not take in time. Visits wait until it is empty,
    unless ``away`` says that the database takes none.
    """

    db: Database
    clock: FixedClock
    shop: Shop
    edge: Edge
    served: Served
    rival: Market
    suspect: CreatedLink
    honest: CreatedLink
    spool: Path
    people: int = 0
    away: bool = False

    async def visit(
        self,
        link: CreatedLink,
        *,
        ip: str = "",
        agent: str = PHONE,
        referrer: str = "",
        query: str = "",
        cookie: str = "",
    ) -> Visit:
        """A click at the edge: by somebody of a network of its own, unless told."""
        self.people += 1
        ip = ip or f"10.{self.people // 250}.{self.people % 250}.7"
        headers = {"user-agent": agent} | ({"referer": referrer} if referrer else {})
        if cookie:
            headers["cookie"] = f"lys={cookie}"
        transport = httpx.ASGITransport(self.edge, client=(ip, 40_000))
        async with httpx.AsyncClient(
            transport=transport, base_url="https://l.example.com", headers=headers
        ) as browser:
            answer = await browser.get(f"/l/{link.code}{query}")
        assert answer.status_code == 302
        token = parse_qs(urlsplit(answer.headers["location"]).query)["lyt"][0]
        given = answer.headers.get("set-cookie", "").partition("lys=")[2].partition(";")[0]
        if not self.away:
            await self.clicks_home()
        return Visit(token, given or cookie)

    async def clicks_home(self) -> None:
        """Every click is in the database; a slow machine is enough to send one through the spool."""

        async def empty() -> bool:
            return not any(self.spool.iterdir())

        await until(empty, "clicks lie in the spool", every_s=0.02)

    async def buy(
        self,
        *visits: Visit,
        email: str = "",
        browse: timedelta = MINUTE,
        pay_after: timedelta = MINUTE,
        code: str = "",
        quantity: int = 1,
        home: int | None = None,
        card: str | None = None,
    ) -> OrderId:
        """An order of the shop's product by somebody new, unless told; credited, and its handlers run. Everybody has
        a home of their own, unless told."""
        self.people += 1
        self.clock.advance(browse)
        shop, address = self.shop, replace(HOME, line1=f"人民路 {home or self.people} 号")
        async with self.db.unit_of_work(SYSTEM) as session:
            cart_id = await cart.create(
                session, shop.storefront.actor, shop.facts, quantities={shop.variant: quantity},
                touch_tokens=[visit.token for visit in visits], clock=self.clock,
            )  # fmt: skip
            if code:
                await cart.apply_coupon(session, cart_id, storefront=shop.facts, code=code, clock=self.clock)
            view, _ = await checkout.start(
                session, shop.storefront.actor, shop.facts, cart_id=cart_id, address=address,
                email=email or f"buyer{self.people}@example.com", policy=orders.POLICY, clock=self.clock,
            )  # fmt: skip
            made = await orders.place(session, shop, view.id, self.clock)
        self.clock.advance(pay_after)
        async with self.db.unit_of_work(SYSTEM) as session:
            await orders.pay(session, view.id, self.clock, card=card)
        await self.served.work()
        return made[0]

    async def refund(self, *order_ids: OrderId) -> None:
        """All of each order: asked by the merchant, done by the provider."""
        for order_id in order_ids:
            await self.refunded(await self.ask_refund(RefundCommand(order_id, everything=True)))

    async def ask_refund(self, command: RefundCommand) -> RefundId:
        """As the merchant; the provider is not asked yet."""
        async with self.db.unit_of_work(SYSTEM) as session:
            merchant = self.shop.promotion.merchant
            return await refunding.request(session, merchant, command, clock=self.clock)

    async def refunded(self, refund_id: RefundId) -> None:
        """The provider has done it."""
        done = ProviderRefund(
            f"re_{refund_id}", 10_500, "CNY", "succeeded", "ch", None, None, None, self.clock.now()
        )
        await refund_sending.apply_provider_refund(self.db, refund_id, done, clock=self.clock)
        await self.served.work()

    async def crowd(self, like: OrderId, count: int) -> None:
        """So many more sales of the merchant's, as the rules see them, by a promoter nobody asks about."""
        async with self.db.unit_of_work(SYSTEM) as session:
            await session.execute(_CROWD, {"like": like, "count": count})

    async def sweep(self, *names: str) -> None:
        for name in names:
            await sweep(self.served.gateways, f"fraud.{name}")
        await self.served.work()

    async def rows(self, query: str, **values: Any) -> Sequence[Any]:
        async with self.db.reading(SYSTEM) as session:
            return (await session.execute(text(query), values)).all()

    async def signals(self) -> list[tuple[str, str, str]]:
        """(rule, action, status), by rule."""
        rows = await self.rows("SELECT rule, action, status FROM fraud_signals ORDER BY rule, id")
        return [(row.rule, row.action, row.status) for row in rows]

    async def evidence(self, rule: str) -> dict[str, Any]:
        (row,) = await self.rows("SELECT evidence FROM fraud_signals WHERE rule = :rule", rule=rule)
        return dict(row.evidence)

    async def lines(self, *order_ids: OrderId) -> list[tuple[str, int, int]]:
        """Of each order's one commission line: (status, what its payees hold, open holds); nothing of one that
        nobody sold."""
        rows = await self.rows(
            "SELECT l.order_id, l.status, l.commission_minor - l.reversed_minor - l.denied_minor AS held,"
            " (SELECT count(*) FROM commission_holds h WHERE h.commission_line_id = l.id AND h.status = 'OPEN')"
            " AS holds FROM commission_lines l WHERE l.order_id = ANY(:ids)",
            ids=list(order_ids),
        )
        found = {row.order_id: (row.status, row.held, row.holds) for row in rows}
        return [found[order] for order in order_ids if order in found]


@asynccontextmanager
async def scene(
    db: Database,
    clock: FixedClock,
    edge_url: str,
    home: Path,
    *,
    terms: Terms | None = None,
    stock: int = 500,
) -> AsyncIterator[Scene]:
    shop = await orders.open_shop(db, clock, terms=terms, stock=stock)
    merchant = shop.promotion.merchant
    other, _ = await committed_brand(db, clock, name="Neighbour 邻")
    async with db.unit_of_work(SYSTEM) as session:
        rival = await promotion.market(session, merchant, other, clock, terms or promotion.TEN_PERCENT)
        suspect = await promotion.link(session, shop.promotion, clock)
        honest = await promotion.link(session, rival, clock)
    settings = Settings(
        app_database_url=edge_url, secret_key=orders.SECRET, data_dir=home, edge_url="https://l.example.com"
    )
    edge = create_app(settings, clock=clock)
    await edge.start()
    try:
        async with serving(db, clock) as served:
            await served.work()
            spool = home / "edge" / "spool"
            yield Scene(db, clock, shop, edge, served, rival, suspect, honest, spool)
    finally:
        await edge.close()
