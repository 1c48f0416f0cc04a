"""Short lives of a few orders through the recipes, looked at with every invariant after every step.

Each scenario is what it takes to see a certain kind of fault; without one it passes. Figures in them are arithmetic
on paper from the order O1 of money.md §2.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, OrderId, PayoutId, RefundId, SupplierId
from core.money import Money
from infra.db.session import Database
from infra.payments.gateway import Balance, BalanceTransaction, Charge, Dispute
from services.simulate.invariants import Violation, violations
from supply.settlement import processing_fees, provider_funds, service
from supply.settlement.at_source import covering
from supply.settlement.at_source.delivering import deliver_at_source
from supply.settlement.at_source.paying import book_payment
from supply.settlement.at_source.queries import commission_debt
from supply.settlement.at_source.refunding import SourceLine, SourceRefund, refund_at_source
from supply.settlement.capture import CapturedOrder
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.late_payments import SentBack, post_late_payment
from supply.settlement.parties import at_source
from supply.settlement.reconciliation.opening import start_from
from supply.settlement.reconciliation.postings import collect_postings
from supply.settlement.reconciliation.service import reconcile
from supply.settlement.refunds import LineRefund, RefundPlan, ReservedRefund, ShippingRefund
from supply.settlement.reroute import MovedUnits
from tests.factories.settlement import PAID_AT, Parties, line_of_o1, order_of

_PAYOUT = text(
    "SELECT id, amount_minor FROM payouts WHERE payee_id = :payee ORDER BY created_at DESC LIMIT 1"
)
_DEBT_PAYMENT = text(
    "INSERT INTO debt_payments (id, payee_id, tenant_id, currency, amount_minor, status, intent_id, created_at)"
    " VALUES (gen_random_uuid(), :payee, :tenant, 'CNY', :amount, 'open', :intent, :now)"
)


class Broken(AssertionError):
    """The invariants a scenario found broken."""

    def __init__(self, found: list[Violation]) -> None:
        super().__init__("; ".join(str(each) for each in found))


@dataclass
class Stage:
    db: Database
    clock: FixedClock = field(default_factory=lambda: FixedClock(PAID_AT))
    parties: Parties = field(default_factory=Parties)

    @asynccontextmanager
    async def act(self) -> AsyncIterator[AsyncSession]:
        """One transaction, and a look at the books after it."""
        async with self.db.unit_of_work(SYSTEM) as session:
            yield session
        await self.look()

    async def look(self) -> None:
        async with self.db.reading(SYSTEM) as session:
            if found := await violations(session):
                raise Broken(found)

    def later(self, days: int) -> None:
        self.clock.advance(timedelta(days=days))

    async def capture(self, *others: SupplierId, **facts: Any) -> CapturedOrder:
        """O1, with one more line of the same for each further supplier."""
        lines = [line_of_o1(self.parties, **facts)]
        lines += [line_of_o1(self.parties, **{**facts, "supplier_id": supplier}) for supplier in others]
        order = order_of(self.parties, lines, charge_id=f"ch_{OrderId.new()}")
        async with self.act() as session:
            await service.open_split(session, order, clock=self.clock)
        return order

    async def refund(self, order: CapturedOrder, **what: Any) -> ReservedRefund:
        plan = RefundPlan(RefundId.new(), order.order_id, **what)
        async with self.act() as session:
            return await service.reserve_refund(session, plan, now=self.clock.now())

    async def refund_at_source(self, order: CapturedOrder, refunds: Sequence[SourceRefund]) -> None:
        async with self.act() as session:
            await refund_at_source(
                session, RefundId.new(), order.order_id, refunds, reference="told", now=self.clock.now()
            )

    async def pay_debt(self, party: BrandId, amount_minor: int) -> None:
        """R15d, as the provider tells it."""
        now, intent = self.clock.now(), f"pi_{amount_minor}"
        charge = Charge(f"ch_{amount_minor}", amount_minor, 0, "CNY", "succeeded", intent, False, None, now)
        values = {"payee": str(party), "tenant": party, "amount": amount_minor, "intent": intent, "now": now}
        async with self.act() as session:
            await session.execute(_DEBT_PAYMENT, values)
            await book_payment(session, intent, charge, now=now)

    async def deliver(self, order: CapturedOrder, *lines: int) -> None:
        async with self.act() as session:
            for number in lines or range(len(order.lines)):
                line = order.lines[number]
                await service.record_delivery(
                    session, order.order_id, line.supplier_id, [(line.order_line_id, line.quantity)],
                    at=self.clock.now(),
                )  # fmt: skip

    async def release(self) -> None:
        await service.release_due(self.db, clock=self.clock)
        await self.look()

    async def pay(self, party: str, cycle: str) -> tuple[PayoutId, int]:
        """Its payout of a batch, settled: id and amount."""
        async with self.act() as session:
            await service.register_payee(
                session, party, currency="CNY", account_id="acct_1", now=self.clock.now()
            )
        await service.make_batch(self.db, cycle=cycle, clock=self.clock)
        await self.look()
        async with self.act() as session:
            row = (await session.execute(_PAYOUT, {"payee": party})).one()
            payout = PayoutId.of(row.id)
            await service.settle_payout(session, payout, f"tr_{payout}", now=self.clock.now())
        return payout, row.amount_minor


async def sold_at_source(stage: Stage) -> None:
    """O1 sold in the merchant's own checkout: refunded in part, due, paid for, released, and all of it back.

    1,350 is owed; the one of two that comes back leaves 675 (docs/rules/money.md, R15).
    """
    line = replace(
        line_of_o1(stage.parties), supplier_id=None, supplier_cost_minor=0, platform_fee_minor=0, goods_minor=9_540,
        tax_minor=0, basis_minor=9_000, shipping_minor=848, shipping_tax_minor=0, supplier_shipping_minor=0,
    )  # fmt: skip
    merchant = stage.parties.merchant
    order = order_of(stage.parties, [line], charge_id="own:shop:1", provider=at_source(merchant))
    async with stage.act() as session:
        await service.open_split(session, order, clock=stage.clock)
    back = [SourceRefund([SourceLine(line.order_line_id, 1)])]
    await stage.refund_at_source(order, back)
    async with stage.act() as session:
        await deliver_at_source(session, order.order_id, at=stage.clock.now())
    stage.later(15)
    await covering.claim_due(stage.db, clock=stage.clock)
    await stage.look()
    await covering.cover_due(stage.db, clock=stage.clock)
    await stage.release()
    async with stage.act() as session:
        debt = await commission_debt(session, merchant, "CNY")
        assert debt.owed_minor == 675, "one of two came back"
    for amount in (600, 75):
        await stage.pay_debt(merchant, amount)
        await covering.cover_due(stage.db, clock=stage.clock)
        await stage.release()
    await stage.refund_at_source(order, [*back, SourceRefund(everything=True)])


async def refunded(stage: Stage) -> None:
    """Units, an amount, one that fails, shipping, the rest. Amounts are exactly what was asked."""
    order = await stage.capture(SupplierId.new())
    first, second = order.lines
    whole = await stage.refund(order, lines=[LineRefund(second.order_line_id, 2)])
    assert whole.amount_minor == 9_540, "goods 9,000 and 6 % of them"
    half = await stage.refund(order, lines=[LineRefund(first.order_line_id, 1)])
    assert half.amount_minor == 4_770, "R6: one of two units, 4,500 and 270"
    async with stage.act() as session:
        await service.void_refund(session, half.refund_id, now=stage.clock.now())
    some = await stage.refund(order, amount_minor=1_234)
    assert some.amount_minor == 1_234
    async with stage.act() as session:
        await service.settle_refund(session, some.refund_id, now=stage.clock.now())
    await stage.refund(order, shipping=[ShippingRefund(first.order_line_id)])
    more = await stage.refund(order, amount_minor=2_001)
    assert more.amount_minor == 2_001
    await stage.refund(order, everything=True)


async def released(stage: Stage) -> None:
    """One line after the other, the suppliers first, and once more when nothing is due."""
    order = await stage.capture(SupplierId.new())
    await stage.deliver(order, 0)
    stage.later(1)
    await stage.release()
    await stage.deliver(order, 1)
    stage.later(15)
    await stage.release()
    await stage.release()
    await stage.refund(order, amount_minor=500)


async def sold_below_cost(stage: Stage) -> None:
    """The merchant owes what its residual is short of: 9,000 − 9,500 − 1,350 − 450."""
    order = await stage.capture(supplier_cost_minor=9_500)
    await stage.refund(order, lines=[LineRefund(order.lines[0].order_line_id, 1)])


async def paid_and_taken_back(stage: Stage) -> None:
    """A supplier is paid 4,800, owes 462 after R7, the provider takes 300 back, the next earnings pay the rest."""
    order, supplier = await stage.capture(), str(stage.parties.supplier)
    await stage.deliver(order)
    stage.later(16)
    await stage.release()
    payout, amount = await stage.pay(supplier, "first")
    assert amount == 4_800
    await stage.refund(order, amount_minor=1_000)
    async with stage.act() as session:
        await service.record_reversal(
            session, payout, supplier, "CNY", 300, reversal_id=f"trr_{payout}", now=stage.clock.now()
        )
    again = await stage.capture()
    await stage.deliver(again)
    stage.later(16)
    await stage.release()
    _, amount = await stage.pay(supplier, "second")
    assert amount == 4_800 - (462 - 300)


async def fees_taken(stage: Stage) -> None:
    """The provider's word on a charge comes twice; the merchant bears its fee of 331."""
    order = await stage.capture()
    now = stage.clock.now()
    word = BalanceTransaction(
        f"txn_{order.order_id}", "charge", "charge", order.charge_id, 10_388, 331, 10_057, "CNY", "pending", None,
        now, now + timedelta(days=2),
    )  # fmt: skip
    for _ in range(2):
        async with stage.act() as session:
            await provider_funds.record_fee(session, order.charge_id, word, now=stage.clock.now())
        stage.later(1)
    async with stage.act() as session:
        await processing_fees.recharge_fee(session, order.order_id, word.id, 331, now=stage.clock.now())
    stage.later(1)
    await service.funds_available(stage.db, clock=stage.clock)
    await stage.look()


async def paid_too_late(stage: Stage) -> None:
    """A payment nobody waited for is booked and sent back; the message that says so comes twice."""
    charge = f"ch_late_{OrderId.new()}"
    for _ in range(2):
        async with stage.act() as session:
            await post_late_payment(
                session, charge_id=charge, amount=Money(1_000, "CNY"), sent_back=[SentBack("re_1", 1_000)],
                captured_at=PAID_AT, now=stage.clock.now(),
            )  # fmt: skip


async def disputed(stage: Stage) -> None:
    """One dispute is won and one lost after the release, one is lost before it."""
    for verdict, in_time in (("won", False), ("lost", False), ("lost", True)):
        order = await stage.capture()
        if not in_time:
            await stage.deliver(order)
            stage.later(16)
            await stage.release()
        for status in ("needs_response", verdict):
            async with stage.act() as session:
                facts = _dispute(order, status, stage)
                await apply_dispute(session, facts, provider="stripe", now=stage.clock.now())


def _dispute(order: CapturedOrder, status: str, stage: Stage) -> Dispute:
    now = stage.clock.now()

    def moved(sign: int, fee: int) -> BalanceTransaction:
        amount = sign * 10_388
        return BalanceTransaction(
            f"txn_{order.order_id}{sign}", "adjustment", "dispute", f"du_{order.order_id}", amount, fee,
            amount - fee, "CNY", "available", None, now, now,
        )  # fmt: skip

    moves = (moved(-1, 1_500), moved(1, 0)) if status == "won" else (moved(-1, 1_500),)
    return Dispute(
        f"du_{order.order_id}", order.charge_id, None, 10_388, "CNY", status, "fraudulent", 1_500, now,
        withdrawn_minor=0 if status == "won" else 10_388, transactions=moves,
    )  # fmt: skip


class _OldAccount:
    """A provider's account that was in use before: 20.00 are available, 100.57 will be a day after ``PAID_AT``."""

    name = "stripe"

    def __init__(self, clock: FixedClock) -> None:
        self._clock = clock

    async def rows(self, since: datetime | None, until: datetime) -> AsyncIterator[BalanceTransaction]:
        for id, amount, fee, days in (("txn_old", 2_000, 0, -3), ("txn_new", 10_388, 331, 1)):
            made = PAID_AT - timedelta(days=2 if days > 0 else 5)
            if made < until and (since is None or made >= since):
                yield BalanceTransaction(
                    id, "charge", "charge", f"ch_{id}", amount, fee, amount - fee, "CNY", "pending", None, made,
                    PAID_AT + timedelta(days=days),
                )  # fmt: skip

    async def balance(self) -> Balance:
        if self._clock.now() < PAID_AT + timedelta(days=1):
            return Balance({"CNY": 2_000}, {"CNY": 10_057})
        return Balance({"CNY": 12_057}, {"CNY": 0})

    async def automatic_payouts(self, since: datetime | None) -> AsyncIterator[Any]:
        for none in ():
            yield none

    async def collect_ours(self, session: AsyncSession) -> int:
        return await collect_postings(session, self.name)


async def begun_with(stage: Stage) -> None:
    """An account with a history: its opening balance is the provider's, today and when the rest is available."""
    account = _OldAccount(stage.clock)
    await start_from(stage.db, account, PAID_AT, clock=stage.clock, booked_by="test")
    for _ in range(2):
        report = await reconcile(stage.db, account, clock=stage.clock)
        assert report.ok, report
        await stage.look()
        stage.later(2)


async def rerouted(stage: Stage) -> None:
    """R14: another supplier takes a unit over at 2,150; then the unit comes back."""
    order = await stage.capture()
    line = order.lines[0]
    move = MovedUnits(line.order_line_id, 1, line.supplier_id, SupplierId.new(), 2_150)
    async with stage.act() as session:
        await service.reroute(session, order.order_id, [move], reference="fo_1", now=stage.clock.now())
    await stage.refund(order, lines=[LineRefund(line.order_line_id, 1)])
    await stage.refund(order, everything=True)
