"""A commission line from the payment to the payout, through the real handlers, whatever their order."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.events import from_body
from core.ids import BrandId, CommissionLineId, OrderId, OrderLineId, ProductId, RefundId, SupplierId
from core.pagination import PageRequest
from infra.db.session import Database
from marketplace.orders.capture import adjustment_of, shares_of
from marketplace.promotion import service
from marketplace.promotion.agreements.limits import TierTerms
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.commission import denials
from marketplace.promotion.commission import states as commission_states
from marketplace.promotion.commission.rules import Tier, TierMode
from marketplace.promotion.errors import CommissionNotPending
from marketplace.promotion.service import LineForAttribution, LineRefund, OrderForAttribution
from supply.settlement import queries
from supply.settlement import service as settlement
from supply.settlement.capture import CapturedLine, CapturedOrder
from supply.settlement.refunds import RefundPlan
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.factories.ledger import horizon_passed

MERCHANT, PROMOTER = (brand_actor(BrandId.new()) for _ in range(2))
PAID_AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
_HANDLERS = {
    "settlement.commission_released": commission_states.on_commission_released,
    "settlement.statements_closed": commission_states.on_statements_closed,
    "settlement.payout_paid": commission_states.on_payout_paid,
}


class Shop:
    """One agreement of 10 %; orders of 10,000 are captured, split and delivered."""

    def __init__(self, db: Database, clock: FixedClock, token: str) -> None:
        self.db, self.clock, self.token = db, clock, token
        self.supplier = SupplierId.new()
        self._seen = 0

    @classmethod
    async def opened(cls, db: Database, clock: FixedClock, **terms: object) -> Shop:
        clock.at = PAID_AT
        async with db.unit_of_work(SYSTEM) as session:
            agreed = Terms((Rule(100_000),), **terms)  # type: ignore[arg-type]
            market = await make.market(session, MERCHANT, PROMOTER, clock, agreed)
            link = await make.link(session, market, clock)
            token = await make.click(session, link, clock.now())
            await settlement.register_payee(
                session, str(PROMOTER.brand_id), currency="CNY", account_id="acct_1", now=PAID_AT
            )
        return cls(db, clock, token)

    async def sells(self, basis: int = 10_000) -> tuple[OrderId, OrderLineId]:
        order_id, line_id = OrderId.new(), OrderLineId.new()
        line = LineForAttribution(line_id, ProductId.new(), "sku", "beauty", quantity=1, gross_minor=basis)
        now = self.clock.now()
        order = OrderForAttribution(
            order_id, MERCHANT.brand_id, "CNY", now, [line], touch_tokens=[self.token], paid_at=now
        )
        async with self.db.unit_of_work(SYSTEM) as session:
            done = await service.attribute(session, order, signer=make.SIGNER, clock=self.clock)
            captured = CapturedLine(
                line_id, 1, basis, 0, self.supplier, 0, commission=shares_of(done.lines[0]), basis_minor=basis
            )
            owed = [share for each in done.adjustments for share in adjustment_of(each)]
            split = CapturedOrder(
                order_id, MERCHANT.brand_id, "CNY", f"ch_{order_id}", now, [captured], "CN", adjustment=owed
            )
            await settlement.open_split(session, split, clock=self.clock)
        return order_id, line_id

    async def delivers(self, order_id: OrderId, line_id: OrderLineId) -> None:
        async with self.db.unit_of_work(SYSTEM) as session:
            await settlement.record_delivery(
                session, order_id, self.supplier, [(line_id, 1)], at=self.clock.now()
            )
            await commission_states.expect_payment(session, order_id)

    async def settles(self) -> None:
        """Release, close, pay: as the sweeps do."""
        await settlement.release_due(self.db, clock=self.clock)
        await horizon_passed(self.db)
        while await settlement.close_due_statements(self.db, clock=self.clock):
            pass
        while await settlement.pay_statements(self.db, clock=self.clock):
            pass
        async with self.db.unit_of_work(SYSTEM) as session:
            for payout in (await queries.payouts_page(session, SYSTEM, PageRequest(50))).items:
                if payout.status.value == "reserved":
                    await settlement.settle_payout(session, payout.id, "tr_1", now=self.clock.now())

    async def hears(self, dice: random.Random | None = None) -> None:
        """The handlers get what was recorded since, in a random order when given dice."""
        async with self.db.unit_of_work(SYSTEM) as session:
            rows = await session.execute(text("SELECT name, body::text AS body FROM outbox ORDER BY id"))
            news = [(row.name, orjson.loads(row.body)) for row in rows][self._seen :]
            self._seen += len(news)
        mine = [(name, body) for name, body in news if name in _HANDLERS]
        if dice is not None:
            dice.shuffle(mine)
        for name, body in mine:
            async with self.db.unit_of_work(SYSTEM) as session:
                await _HANDLERS[name](session, from_body(name, body), clock=self.clock)  # type: ignore[operator]

    async def line(self, line_id: OrderLineId) -> tuple[str, datetime]:
        async with self.db.reading(SYSTEM) as session:
            row = (
                await session.execute(
                    text("SELECT status, expected_pay_at FROM commission_lines WHERE order_line_id = :id"),
                    {"id": line_id},
                )
            ).one()
        return row.status, row.expected_pay_at


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
        await service.reverse_lines(session, refund, [LineRefund(line_id, 10_000)], clock=clock)
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
