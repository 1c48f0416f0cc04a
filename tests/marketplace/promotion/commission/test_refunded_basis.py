"""R5: a refund lowers the counter of tiers by the basis that went back, however little commission goes with it."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import CommissionLineId, OrderLineId
from infra.db.session import Database
from marketplace.promotion.agreements.limits import TierTerms
from marketplace.promotion.commission import denials
from marketplace.promotion.commission.rules import Tier, TierMode
from supply.settlement.refunds import LineRefund
from tests.marketplace.promotion.commission.shop import Shop

# 100 ppm of 10,000 is one unit; from a counter of 17,000 on an order earns 20 %.
STEEP = TierTerms((Tier(0, 100), Tier(17_000, 200_000)), "CNY", TierMode.WHOLE_ORDER)


async def _figures(db: Database, line_id: OrderLineId) -> tuple[int, int, int]:
    """Commission, refunded basis, reversed."""
    async with db.reading(SYSTEM) as session:
        row = (
            await session.execute(
                text(
                    "SELECT commission_minor, refunded_basis_minor, reversed_minor FROM commission_lines"
                    " WHERE order_line_id = :id"
                ),
                {"id": line_id},
            )
        ).one()
    return row.commission_minor, row.refunded_basis_minor, row.reversed_minor


async def _counter(db: Database) -> int:
    async with db.reading(SYSTEM) as session:
        query = text("SELECT amount_minor FROM commission_counters WHERE kind = 'TIER'")
        return int((await session.execute(query)).scalar_one())


@pytest.mark.parametrize(
    ("asked", "gone"),
    [(4_000, 4_000), (3_333, 3_333), (1, 1)],
    ids=["two fifths", "a third", "a single unit"],
)
async def test_a_refund_too_small_for_a_unit_of_commission_lowers_the_counter(
    db: Database, clock: FixedClock, asked: int, gone: int
) -> None:
    shop = await Shop.opened(db, clock, tiers=STEEP)
    order_id, line_id = await shop.sells()
    refund = await shop.refunds(order_id, lines=[LineRefund(line_id, 0, goods_minor=asked)])
    await shop.hears()
    # Less than half of one unit: R6 takes nothing.
    assert await _figures(db, line_id) == (1, gone, 0)
    assert await _counter(db) == 10_000 - gone

    await shop.refund_fails(refund)
    await shop.hears()
    assert await _figures(db, line_id) == (1, 0, 0)
    assert await _counter(db) == 10_000


async def test_the_next_order_earns_by_what_was_kept(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock, tiers=STEEP)
    order_id, line_id = await shop.sells()
    await shop.refunds(order_id, lines=[LineRefund(line_id, 0, goods_minor=4_000)])
    await shop.hears()
    _, second = await shop.sells()  # 6,000 + 10,000: one unit
    _, third = await shop.sells(1_000)  # 17,000: 20 %
    assert [(await _figures(db, line))[0] for line in (second, third)] == [1, 200]


async def test_a_refund_by_amount_takes_the_part_of_the_basis_that_it_is_of_the_goods(
    db: Database, clock: FixedClock
) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    await shop.refunds(order_id, amount_minor=2_501)
    # Merchant 9,000, brand 950, platform 50: exact 2,250.9, 237.595, 12.505; so 2,251, 238 and 12.
    assert await _figures(db, line_id) == (1_000, 2_501, 250)


async def test_found_invalid_its_basis_counts_once_whatever_is_refunded_meanwhile(
    db: Database, clock: FixedClock
) -> None:
    shop = await Shop.opened(db, clock, tiers=STEEP)
    order_id, line_id = await shop.sells()
    async with db.reading(SYSTEM) as session:
        line = CommissionLineId.of(await session.scalar(text("SELECT id FROM commission_lines")))

    async def judged(verb: object) -> int:
        async with db.unit_of_work(SYSTEM) as session:
            await verb(session, line, reason="doubt", approved_by="usr_1", clock=clock)  # type: ignore[operator]
        await shop.hears()
        return await _counter(db)

    assert await judged(denials.invalidate) == 0
    refund = await shop.refunds(order_id, lines=[LineRefund(line_id, 0, goods_minor=4_000)])
    await shop.hears()
    assert await _counter(db) == 0
    assert await judged(denials.reinstate) == 6_000
    await shop.refund_fails(refund)
    await shop.hears()
    assert await _counter(db) == 10_000
