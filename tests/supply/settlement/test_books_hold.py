"""Random lives of orders through the real books: sums hold after every step, whatever the sequence."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderLineId, PromoterId, RefundId, SupplierId
from infra.db.session import Database
from supply.ledger import queries as ledger
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.settlement import queries, service
from supply.settlement.capture import CapturedLine, CapturedOrder, CommissionShare
from supply.settlement.composition import Part, RefundTooLarge
from supply.settlement.errors import NothingToRefund, OrderLineNotSettled
from supply.settlement.order_book import load, save
from supply.settlement.refunds import LineRefund, RefundPlan, ShippingRefund
from supply.settlement.release import release_journals
from supply.settlement.reroute import MovedUnits
from tests.factories.settlement import PAID_AT, Parties, line_of_o1, order_of
from tests.supply.settlement.random_life import live_at_random


def random_line(dice: random.Random, parties: Parties) -> CapturedLine:
    goods = dice.randrange(1, 20_000)
    commission = dice.randrange(0, goods // 5 + 1)
    coupon = dice.choice([0, 0, goods // 4])
    return CapturedLine(
        order_line_id=OrderLineId.new(),
        quantity=dice.randrange(1, 6),
        goods_minor=goods - coupon,
        coupon_minor=coupon,
        coupon_payee_id=dice.choice(["", str(parties.promoter_brand)]),
        tax_minor=dice.choice([0, goods * 6 // 100]),
        supplier_id=parties.supplier,
        supplier_cost_minor=dice.randrange(0, goods * 11 // 10 + 1),
        shipping_minor=dice.choice([0, 800]),
        shipping_tax_minor=0,
        supplier_shipping_minor=dice.choice([0, 800, 950]),
        platform_fee_minor=dice.choice([0, goods // 20]),
        commission=random_shares(commission, dice, parties),
    )


def random_shares(commission_minor: int, dice: random.Random, parties: Parties) -> list[CommissionShare]:
    """Of one promoter, or of up to three that sold the line together."""
    people = [parties.individual, PromoterId.new(), PromoterId.new()]
    shares = []
    for winner in range(1, dice.choice([1, 1, 2, 3]) + 1):
        brand = dice.randrange(0, commission_minor + 1)
        individual = dice.randrange(0, commission_minor - brand + 1)
        commission_minor -= brand + individual
        shares += [
            CommissionShare(str(parties.promoter_brand), Part.PROMOTER_BRAND, brand, winner=winner),
            CommissionShare(str(people[winner - 1]), Part.INDIVIDUAL, individual, winner=winner),
            CommissionShare("", Part.PLATFORM_COMMISSION, dice.choice([0, individual // 9]), winner=winner),
        ]
    return shares


class Life:
    """One order's random life. Each step is a recipe; a refusal must change nothing."""

    def __init__(self, session: AsyncSession, clock: FixedClock, dice: random.Random) -> None:
        self.session, self.clock, self.dice = session, clock, dice
        self.parties = Parties()
        self.order: CapturedOrder
        self.open: list[RefundId] = []

    async def begin(self) -> None:
        lines = [random_line(self.dice, self.parties) for _ in range(self.dice.randrange(1, 4))]
        self.order = order_of(self.parties, lines, charge_id=f"ch_{RefundId.new()}")
        await service.open_split(self.session, self.order, clock=self.clock)

    async def step(self) -> None:
        verbs: list[Callable[[], Awaitable[None]]] = [
            self.refund, self.refund, self.refund, self.end_refund, self.deliver, self.release, self.reroute,
        ]  # fmt: skip
        self.clock.advance(timedelta(days=self.dice.randrange(0, 12)))
        with contextlib.suppress(RefundTooLarge, NothingToRefund, OrderLineNotSettled):
            await self.dice.choice(verbs)()

    async def refund(self) -> None:
        line = self.dice.choice(self.order.lines)
        refund, dice = RefundId.new(), self.dice
        plan = dice.choice(
            [
                RefundPlan(refund, self.order.order_id, amount_minor=dice.randrange(1, 3_000)),
                RefundPlan(
                    refund, self.order.order_id,
                    lines=[LineRefund(line.order_line_id, 1, supplier_accepts=dice.random() < 0.7)],
                ),
                RefundPlan(refund, self.order.order_id, shipping=[ShippingRefund()]),
                RefundPlan(refund, self.order.order_id, everything=dice.random() < 0.3, amount_minor=1),
            ]
        )  # fmt: skip
        await service.reserve_refund(self.session, plan, now=self.clock.now())
        self.open.append(refund)

    async def end_refund(self) -> None:
        if self.open:
            refund = self.open.pop(self.dice.randrange(len(self.open)))
            end = self.dice.choice([service.settle_refund, service.void_refund])
            await end(self.session, refund, now=self.clock.now())

    async def deliver(self) -> None:
        line = self.dice.choice(self.order.lines)
        await service.record_delivery(
            self.session, self.order.order_id, line.supplier_id, [(line.order_line_id, line.quantity)],
            at=self.clock.now(),
        )  # fmt: skip

    async def release(self) -> None:
        book = await load(self.session, self.order.order_id)
        journals = release_journals(book, self.clock.now())
        await save(self.session, [book])
        await posting.post_together(self.session, journals, now=self.clock.now())

    async def reroute(self) -> None:
        line = self.dice.choice(self.order.lines)
        quantity = self.dice.randrange(1, line.quantity + 1)
        move = MovedUnits(
            line.order_line_id, quantity, line.supplier_id, SupplierId.new(), self.dice.randrange(0, 5_000)
        )
        await service.reroute(
            self.session, self.order.order_id, [move], reference=str(RefundId.new()), now=self.clock.now(),
            from_freight_minor=self.dice.choice([0, 800]), to_freight_minor=self.dice.choice([0, 700]),
        )  # fmt: skip

    async def check(self) -> None:
        """The identity (parts = captured, books = parts less refunds), and pending parts are in account 2000."""
        identity = await queries.order_identity(self.session, self.order.order_id)
        assert identity.holds
        parts = await queries.parts_of_order(self.session, self.order.order_id)
        by_party: dict[str, int] = {}
        for part in parts:
            if part.payee_id:
                by_party[part.payee_id] = by_party.get(part.payee_id, 0) + part.pending_minor
        balances = await queries.party_balances(self.session, list(by_party))
        assert {b.payee_id: b.pending_minor for b in balances if b.pending_minor} == {
            party: pending for party, pending in by_party.items() if pending
        }
        assert all(min(b.pending_minor, b.available_minor, b.receivable_minor) >= 0 for b in balances)
        trial = await ledger.trial_balance(self.session)
        assert sum(line.debit_minor for line in trial) == 0
        pending = {line.code: -line.debit_minor for line in trial}.get(Code.REFUND_PENDING, 0)
        assert pending >= 0


def test_sums_hold_after_every_step_of_a_random_life(db: Database) -> None:
    live_at_random(db, Life, lives=30, steps=8)


async def test_a_refund_and_a_payout_of_the_same_money_never_both_take_it(
    db: Database, clock: FixedClock
) -> None:
    """Money of §6: the later one sees the reduced balance; what is short is owed."""
    for round_ in range(5):
        parties = Parties()
        clock.at = PAID_AT
        async with db.unit_of_work(SYSTEM) as session:
            order = order_of(parties, [line_of_o1(parties)], charge_id=f"ch_{round_}")
            await service.open_split(session, order, clock=clock)
            await service.register_payee(
                session, str(parties.merchant), currency="CNY", account_id="acct_1", now=PAID_AT
            )
        clock.at = PAID_AT + timedelta(days=45)
        await service.release_due(db, clock=clock)

        async def refund(order: CapturedOrder = order) -> None:
            async with db.unit_of_work(SYSTEM) as session:
                plan = RefundPlan(RefundId.new(), order.order_id, everything=True)
                await service.reserve_refund(session, plan, now=clock.now())

        await asyncio.gather(refund(), service.make_batch(db, cycle=f"c{round_}", clock=clock))
        async with db.reading(SYSTEM) as session:
            (balance,) = await queries.party_balances(session, [str(parties.merchant)])
            assert balance.net_minor == 0
            assert await queries.broken_identities(session) == []
            assert await ledger.mismatched_balances(session) == 0


async def test_refunds_racing_for_one_order_never_exceed_it(db: Database, clock: FixedClock) -> None:
    parties = Parties()
    async with db.unit_of_work(SYSTEM) as session:
        order = order_of(parties, [line_of_o1(parties)])
        await service.open_split(session, order, clock=clock)

    async def refund() -> bool:
        try:
            async with db.unit_of_work(SYSTEM) as session:
                plan = RefundPlan(
                    RefundId.new(), order.order_id, lines=[LineRefund(order.lines[0].order_line_id, 1)]
                )
                await service.reserve_refund(session, plan, now=clock.now())
        except RefundTooLarge:
            return False
        return True

    results = await asyncio.gather(*(refund() for _ in range(8)))
    assert sum(results) == 2
    async with db.reading(SYSTEM) as session:
        assert (await queries.order_identity(session, order.order_id)).holds
