"""A commission line from the payment to the payout, through the real handlers, whatever their order."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import CommissionLineId, RefundId
from infra.db.session import Database
from marketplace.promotion.agreements.limits import TierTerms
from marketplace.promotion.commission import denials
from marketplace.promotion.commission.rules import Tier, TierMode
from marketplace.promotion.errors import CommissionNotPending
from supply.settlement import queries
from supply.settlement import service as settlement
from supply.settlement.refunds import RefundPlan
from tests.factories.commission_refunds import refund_basis
from tests.factories.ledger import horizon_passed
from tests.marketplace.promotion.commission.shop import DAY, MERCHANT, PAID_AT, PROMOTER, Shop


async def test_a_line_is_confirmed_payable_and_paid(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    assert await shop.line(line_id) == ("PENDING", PAID_AT + 45 * DAY)

    clock.at = PAID_AT + 4 * DAY
    await shop.delivers(order_id, line_id)
    # Delivered on the 14th of March, due on the 29th, in March's statement, paid when that is closed.
    expected = datetime(2026, 4, 1, 0, 5, tzinfo=UTC)
    assert await shop.line(line_id) == ("PENDING", expected)

    clock.at = PAID_AT + 19 * DAY
    await shop.settles()
    await shop.hears()
    assert (await shop.line(line_id))[0] == "CONFIRMED"

    clock.at = datetime(2026, 4, 1, 1, tzinfo=UTC)
    await horizon_passed(db)
    await settlement.close_due_statements(db, clock=clock)
    await shop.hears()
    assert (await shop.line(line_id))[0] == "PAYABLE"

    await shop.settles()
    await shop.hears()
    assert (await shop.line(line_id))[0] == "PAID"


@pytest.mark.parametrize("seed", range(4))
async def test_the_order_of_the_news_does_not_matter(db: Database, clock: FixedClock, seed: int) -> None:
    shop = await Shop.opened(db, clock)
    first = await shop.sells()
    await shop.delivers(*first)
    clock.at = PAID_AT + 14 * DAY
    second = await shop.sells()  # not delivered: it stays
    clock.at = PAID_AT + 16 * DAY
    await shop.settles()
    clock.at = datetime(2026, 4, 1, 1, tzinfo=UTC)
    await shop.settles()
    await shop.hears(random.Random(seed))

    assert (await shop.line(first[1]))[0] == "PAID"
    assert (await shop.line(second[1]))[0] == "PENDING"


async def test_a_line_under_after_sale_is_frozen(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    await shop.delivers(order_id, line_id)
    async with db.unit_of_work(SYSTEM) as session:
        await settlement.hold_release(session, order_id, line_id)
    clock.at = PAID_AT + 30 * DAY
    await shop.settles()
    await shop.hears()
    assert (await shop.line(line_id))[0] == "PENDING"


async def test_a_line_that_was_refunded_stays_reversed(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    await shop.delivers(order_id, line_id)
    async with db.unit_of_work(SYSTEM) as session:
        refund = RefundId.new()
        await settlement.reserve_refund(
            session, RefundPlan(refund, order_id, everything=True), now=clock.now()
        )
        await refund_basis(session, refund, {line_id: 10_000}, clock=clock)
    clock.at = PAID_AT + 30 * DAY
    await shop.settles()
    await shop.hears()
    assert (await shop.line(line_id))[0] == "REVERSED"


async def test_a_retroactive_tier_pays_for_earlier_orders_out_of_the_one_that_crosses(
    db: Database, clock: FixedClock
) -> None:
    tiers = TierTerms((Tier(0, 50_000), Tier(15_000, 80_000)), "CNY", TierMode.RETROACTIVE)
    shop = await Shop.opened(db, clock, tiers=tiers)
    first, second = await shop.sells(), await shop.sells()

    async with db.reading(SYSTEM) as session:
        before = await queries.order_identity(session, first[0])
        after = await queries.order_identity(session, second[0])
        assert await queries.broken_identities(session) == []
    # 5 % of 10,000, and the platform's 5 % of that; then 8 % and 3 % of the first 10,000 on top.
    assert (before.commissions_minor, before.platform_minor, before.merchant_minor) == (475, 25, 9_500)
    assert (after.commissions_minor, after.platform_minor, after.merchant_minor) == (
        760 + 285,
        40 + 15,
        8_900,
    )
    assert after.holds

    async with db.unit_of_work(SYSTEM) as session:
        plan = RefundPlan(RefundId.new(), second[0], everything=True)
        taken = await settlement.reserve_refund(session, plan, now=clock.now())
    assert taken.amount_minor == 10_000
    async with db.reading(SYSTEM) as session:
        assert await queries.broken_identities(session) == []


async def test_an_invalid_line_goes_back_to_the_merchant(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    async with db.unit_of_work(SYSTEM) as session:
        found = await session.execute(text("SELECT id FROM commission_lines"))
        commission_line = CommissionLineId.of(found.scalar_one())
        denied = await denials.invalidate(
            session, commission_line, reason="SELF_REFERRAL", approved_by="usr_1", clock=clock
        )
        again = await denials.invalidate(
            session, commission_line, reason="SELF_REFERRAL", approved_by="usr_1", clock=clock
        )

    assert (denied, again) == (1_000, 0)
    async with db.reading(SYSTEM) as session:
        identity = await queries.order_identity(session, order_id)
        assert await queries.broken_identities(session) == []
        (promoter,) = await queries.party_balances(session, [str(PROMOTER.brand_id)])
    assert (identity.merchant_minor, identity.commissions_minor, identity.holds) == (10_000, 0, True)
    assert promoter.net_minor == 0
    assert (await shop.line(line_id))[0] == "INVALID"

    async with db.unit_of_work(SYSTEM) as session:  # a refund finds nothing of it to take
        plan = RefundPlan(RefundId.new(), order_id, everything=True)
        taken = await settlement.reserve_refund(session, plan, now=clock.now())
    assert [(each.payee_id, each.amount_minor) for each in taken.taken] == [(str(MERCHANT.brand_id), 10_000)]


async def test_a_confirmed_line_is_not_found_invalid(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock)
    await shop.delivers(*await shop.sells())
    clock.at = PAID_AT + 16 * DAY
    await shop.settles()
    await shop.hears()
    async with db.unit_of_work(SYSTEM) as session:
        found = await session.execute(text("SELECT id FROM commission_lines"))
        line = CommissionLineId.of(found.scalar_one())
        with pytest.raises(CommissionNotPending):
            await denials.invalidate(session, line, reason="x", approved_by="usr_1", clock=clock)


async def test_a_paid_line_never_changes_and_a_refund_claws_its_shares_back(
    db: Database, clock: FixedClock
) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    await shop.delivers(order_id, line_id)
    for at in (PAID_AT + 16 * DAY, datetime(2026, 4, 1, 1, tzinfo=UTC)):
        clock.at = at
        await shop.settles()
        await shop.hears()
    assert (await shop.line(line_id))[0] == "PAID"

    await shop.refunds(order_id, everything=True)
    await shop.hears()

    assert (await shop.line(line_id))[0] == "PAID"
    async with db.reading(SYSTEM) as session:
        (promoter,) = await queries.party_balances(session, [str(PROMOTER.brand_id)])
        assert await queries.broken_identities(session) == []
        taken = await session.scalar(text("SELECT reversed_minor FROM commission_lines"))
    # 950 were paid out and are owed; the platform's 50 are taken of its revenue.
    assert (promoter.net_minor, promoter.receivable_minor, taken) == (-950, 950, 1_000)
