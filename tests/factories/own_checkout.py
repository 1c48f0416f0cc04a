"""A brand with a checkout of its own, a partner that promotes it, and what its shop tells.

The worked order, in fen: 2 × 50.00 less 10.00 of the brand's = 90.00, 6 % tax on top 5.40, shipping 8.00 and its tax
0.48: the customer pays 103.88. Commission 15 % of 90.00 = 13.50; the platform's 5 % of it, the individual's 40 % of the
rest: 5.13 and 7.70 and 0.67.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import text

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import OrderId, PromoterId
from infra.config import Environment, Settings
from infra.db.session import Database
from infra.suppliers.secrets import SecretBox
from infra.suppliers.signing import headers_of
from marketplace.brands import signing_secrets
from marketplace.brands.queries import StorefrontFacts
from marketplace.orders.own_checkout import intake
from marketplace.orders.own_checkout.events import OrderTold
from marketplace.orders.own_checkout.intake import Answer
from marketplace.orders.own_checkout.models import EventKind
from marketplace.orders.own_checkout.moving import on_order_told
from marketplace.orders.own_checkout.told import (
    BuyerTold,
    DiscountTold,
    EventTold,
    LineRefunded,
    LineTold,
    OrderContent,
    Telling,
)
from marketplace.promotion import service as promoting
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.coupons.models import Funder
from marketplace.promotion.models import PromoterKind
from tests.factories import promotion
from tests.factories.audiences import VAULT
from tests.factories.brands import MadeStorefront, committed_brand, committed_storefront
from tests.factories.catalog import MadeProduct, committed_product
from tests.factories.orders import SECRET

SETTINGS = Settings(env=Environment.TEST, secret_key=SECRET)
FIFTEEN_PERCENT = Terms.flat(150_000, individual_ppm=400_000, return_window_days=15)
_ORDER = text("SELECT order_id FROM told_orders WHERE reference = :reference")


@dataclass(frozen=True, slots=True)
class OwnShop:
    market: promotion.Market
    storefront: MadeStorefront
    product: MadeProduct
    individual: PromoterId | None = None
    merchant_token: str = ""
    promoter_token: str = ""
    box: SecretBox = field(default_factory=lambda: SecretBox(SECRET))

    @property
    def merchant(self) -> Actor:
        return self.market.merchant

    @property
    def facts(self) -> StorefrontFacts:
        return StorefrontFacts(self.storefront.id, self.merchant.brand_id, "CNY", "CN", "zh-CN", "web")


async def own_shop(db: Database, clock: FixedClock, *, terms: Terms = FIFTEEN_PERCENT) -> OwnShop:
    merchant, merchant_token = await committed_brand(db, clock, name="Cream 霜")
    promoter, promoter_token = await committed_brand(db, clock, name="Club 会")
    made = await committed_product(db, clock, merchant)
    storefront = await committed_storefront(db, clock, merchant)
    async with db.unit_of_work(SYSTEM) as session:
        market = await promotion.market(session, merchant, promoter, clock, terms)
        individual = await promoting.create_promoter(
            session, promoter, name="Mei", kind=PromoterKind.KOC, identifiers=[], payout_account=None,
            vault=VAULT, clock=clock,
        )  # fmt: skip
    return OwnShop(market, storefront, made, individual, merchant_token, promoter_token)


async def clicked(db: Database, clock: FixedClock, shop: OwnShop) -> str:
    """Somebody came by Mei's link an hour ago: the touch's signed token."""
    async with db.unit_of_work(SYSTEM) as session:
        link = await promotion.link(session, shop.market, clock, promoter_id=shop.individual)
        token = await promotion.click(session, link, clock.now())
    clock.advance(timedelta(hours=1))
    return token


def worked(shop: OwnShop, clock: FixedClock, *tokens: str, reference: str = "W-1", **special: Any) -> Telling:
    """The worked order, placed now; ``special`` replaces what is told of it."""
    usual: dict[str, Any] = {
        "placed_at": clock.now(), "currency": "CNY", "total_minor": 10_388,
        "lines": [
            LineTold(
                "L1", 2, 5_000, sku=shop.product.skus[0], tax_minor=540, tax_ppm=60_000, tax_included=False
            )
        ],
        "discounts": [DiscountTold(1_000, Funder.ADVERTISER)], "shipping_minor": 848,
        "buyer": BuyerTold(email="anna@example.com"), "touch_tokens": tokens,
    }  # fmt: skip
    return Telling(reference, OrderContent(**{**usual, **special}))


def happened(
    kind: EventKind, at: Any, *, id: str = "", lines: Sequence[LineRefunded] = (), shipping_minor: int = 0
) -> EventTold:
    return EventTold(id or f"e-{kind}", kind, at, lines, shipping_minor)


def paid(clock: FixedClock) -> EventTold:
    return happened(EventKind.PAID, clock.now())


def with_events(telling: Telling, *events: EventTold) -> Telling:
    return replace(telling, events=events)


async def tell(db: Database, clock: FixedClock, shop: OwnShop, *rows: Telling) -> list[Answer]:
    async with db.unit_of_work(SYSTEM) as session:
        return await intake.take_in(session, shop.facts, rows, secret=SECRET, clock=clock)


async def work(db: Database, clock: FixedClock, shop: OwnShop, reference: str = "W-1") -> None:
    """What the worker makes of it."""
    async with db.unit_of_work(SYSTEM) as session:
        told = OrderTold(shop.storefront.id, reference)
        await on_order_told(session, told, clock=clock, settings=SETTINGS)


async def told_and_done(db: Database, clock: FixedClock, shop: OwnShop, *rows: Telling) -> OrderId:
    """Told, and worked off; the first row's order."""
    answers = await tell(db, clock, shop, *rows)
    assert [(each.error, [e.error for e in each.events if e.error]) for each in answers] == [
        (None, []) for _ in rows
    ]
    for reference in dict.fromkeys(row.reference for row in rows):
        await work(db, clock, shop, reference)
    async with db.reading(SYSTEM) as session:
        found = await session.execute(_ORDER, {"reference": rows[0].reference})
        return OrderId.of(found.scalar_one())


async def secret_of(db: Database, clock: FixedClock, shop: OwnShop) -> str:
    async with db.unit_of_work(shop.merchant) as session:
        issued = await signing_secrets.issue(
            session, shop.merchant, shop.storefront.id, box=shop.box, clock=clock
        )
    return issued.secret


def signed(
    shop: OwnShop, clock: FixedClock, secret: str, body: Mapping[str, Any] | bytes, *, id: str = "m-1"
) -> tuple[bytes, dict[str, str]]:
    """The raw body and the headers of a call."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    headers = headers_of([secret], message_id=id, at=clock.now(), body=raw)
    return raw, {**headers, "x-lianyu-storefront": str(shop.storefront.id)}
