"""An order of a brand's own checkout is seen wherever orders are, and in nobody's list of things to ship."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import StatementId
from graph import brand
from infra.db.session import Database
from marketplace.insights import counting
from marketplace.orders.own_checkout.models import EventKind
from marketplace.orders.own_checkout.told import LineRefunded
from supply.settlement import service as settlement
from supply.settlement.at_source import covering
from supply.settlement.service import recompute_statement
from tests.factories.ledger import horizon_passed
from tests.factories.own_checkout import (
    OwnShop,
    clicked,
    happened,
    own_shop,
    paid,
    told_and_done,
    with_events,
    worked,
)
from tests.fixtures.asking import ask

SEEN = """query($id: ID!) { order(id: $id) { paymentStatus chargedBack { amount } total { amount }
    lines { sku variantId total { amount } shipping { amount } discountFunder refundedQuantity }
    refunds { amount { amount } status reason } }
  explainOrder(id: $id)
  explainAttribution(orderId: $id) { inputHash } }"""


@pytest.fixture
async def shop(db: Database, clock: FixedClock) -> OwnShop:
    return await own_shop(db, clock)


async def test_the_brand_sees_it_whole(db: Database, clock: FixedClock, shop: OwnShop) -> None:
    token = await clicked(db, clock, shop)
    back = happened(EventKind.REFUNDED, clock.now(), lines=[LineRefunded("L1", 1)], shipping_minor=100)
    row = with_events(worked(shop, clock, token), paid(clock), back)
    order_id = await told_and_done(db, clock, shop, row)

    answer = await ask(brand.schema, db, clock, shop.merchant, SEEN, {"id": str(order_id)})

    assert "errors" not in answer, answer
    seen = answer["data"]["order"]
    assert seen["lines"] == [
        {
            "sku": shop.product.skus[0], "variantId": str(shop.product.variants[0]),
            "total": {"amount": "103.88"}, "shipping": {"amount": "8.48"}, "discountFunder": "ADVERTISER",
            "refundedQuantity": 1,
        }
    ]  # fmt: skip
    assert (seen["paymentStatus"], seen["total"], seen["chargedBack"]) == (
        "PARTIALLY_REFUNDED", {"amount": "103.88"}, {"amount": "0.00"},
    )  # fmt: skip
    assert seen["refunds"] == [
        {"amount": {"amount": "48.70"}, "status": "SUCCEEDED", "reason": "told by the shop"}
    ]
    explained = answer["data"]["explainOrder"]
    assert explained["identity"]["holds"] is True
    assert (explained["routing"], explained["fulfillment"]) in (([], []), (None, []))
    assert answer["data"]["explainAttribution"]["inputHash"]


async def test_it_counts_in_figures_and_statements_say_it_to_the_fen(
    db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    """The brand's statement has what was due, 13.50; the promoter brand's has what it earned, 7.70."""
    token = await clicked(db, clock, shop)
    arrived = happened(EventKind.DELIVERED, clock.now())
    await told_and_done(db, clock, shop, with_events(worked(shop, clock, token), paid(clock), arrived))
    clock.advance(timedelta(days=15))
    await covering.claim_due(db, clock=clock)
    await counting.keep_performance(db, clock=clock)
    clock.advance(timedelta(days=31))
    await horizon_passed(db)
    while await settlement.close_due_statements(db, clock=clock):
        pass

    async with db.reading(SYSTEM) as session:
        rows = (await session.execute(_STATEMENTS)).all()
        for row in rows:
            assert len(set(await recompute_statement(session, StatementId.of(row.id)))) == 1
        ordered = await session.scalar(text("SELECT sum(orders)::int FROM link_performance"))
    assert ordered == 1
    found = {row.payee_id: (_sums(row.document), row.closing_minor) for row in rows}
    assert found[str(shop.merchant.brand_id)] == ({"commission_due": -1_350}, -1_350)
    assert found[str(shop.market.promoter.brand_id)] == ({"commission_earned": 770}, 770)
    assert found[str(shop.individual)] == ({"commission_earned": 513}, 513)


def _sums(document: str) -> dict[str, Any]:
    return {each["name"]: each["total_minor"] for each in orjson.loads(document)["sections"]}


_STATEMENTS = text("SELECT id, payee_id, closing_minor, document FROM statements")
