"""A shop whose orders are credited, split, delivered and settled, with the handlers that follow the commission."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.events import from_body
from core.ids import BrandId, OrderId, OrderLineId, ProductId, RefundId, SupplierId
from core.pagination import PageRequest
from infra.db.session import Database
from marketplace.orders import refund_commission
from marketplace.orders.capture import adjustment_of, shares_of
from marketplace.promotion import service
from marketplace.promotion.agreements import counters
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.commission import states as commission_states
from marketplace.promotion.models import PromoterKind
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from supply.settlement import queries, taken_commission
from supply.settlement import service as settlement
from supply.settlement.capture import CapturedLine, CapturedOrder
from supply.settlement.refunds import RefundPlan
from tests.factories import promotion as make
from tests.factories.audiences import VAULT
from tests.factories.brands import brand_actor
from tests.factories.ledger import horizon_passed

MERCHANT, PROMOTER = (brand_actor(BrandId.new()) for _ in range(2))
PAID_AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
_HANDLERS = {
    "settlement.commission_released": commission_states.on_commission_released,
    "settlement.statements_closed": commission_states.on_statements_closed,
    "settlement.payout_paid": commission_states.on_payout_paid,
    "promotion.commission_reversed": counters.on_commission_reversed,
}


class Shop:
    """One agreement, of 10 % unless said otherwise; orders of 10,000 are captured, split and delivered."""

    def __init__(self, db: Database, clock: FixedClock, token: str) -> None:
        self.db, self.clock, self.token = db, clock, token
        self.supplier = SupplierId.new()
        self._seen = 0

    @classmethod
    async def opened(
        cls, db: Database, clock: FixedClock, *, rate_ppm: int = 100_000, alone: bool = True, **terms: Any
    ) -> Shop:
        """``alone``: nobody promotes in person."""
        clock.at = PAID_AT
        async with db.unit_of_work(SYSTEM) as session:
            market = await make.market(session, MERCHANT, PROMOTER, clock, Terms((Rule(rate_ppm),), **terms))
            person = None
            if not alone:
                person = await service.create_promoter(
                    session, PROMOTER, name="Mei", kind=PromoterKind.KOC, vault=VAULT, clock=clock
                )
            link = await make.link(session, market, clock, promoter_id=person)
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

    async def refunds(self, order_id: OrderId, **asked: Any) -> RefundId:
        """The provider pays it at once."""
        plan, now = RefundPlan(RefundId.new(), order_id, **asked), self.clock.now()
        async with self.db.unit_of_work(SYSTEM) as session:
            await settlement.reserve_refund(session, plan, now=now)
            await settlement.settle_refund(session, plan.refund_id, now=now, provider_ref="re_1")
            await refund_commission.take(session, plan.refund_id, clock=self.clock)
        return plan.refund_id

    async def refund_fails(self, refund_id: RefundId) -> None:
        async with self.db.unit_of_work(SYSTEM) as session:
            await refund_commission.give_back(session, refund_id, clock=self.clock)
            await settlement.void_refund(session, refund_id, now=self.clock.now())
            found = await taken_commission.of_refund(session, refund_id)
            assert found is not None
            await refund_commission.deny_again(session, found[0], clock=self.clock)

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
