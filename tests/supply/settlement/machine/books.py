"""What the state machine drives: real books, the provider in this process, and a model that counts on its fingers."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderId, OrderLineId, RefundId, SupplierId
from infra.db.session import Database, make_engine
from infra.payments.errors import ProviderRefused, ProviderUnavailable
from services.simulate.invariants import violations
from services.simulate.provider import Provider, provider
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.errors import JournalKeyReused
from supply.ledger.journal import AccountKey, Journal, Leg
from supply.settlement import service
from supply.settlement.capture import CapturedLine, CapturedOrder, CommissionShare
from supply.settlement.composition import Part
from supply.settlement.disputes import applying as disputes
from supply.settlement.goodwill import reserve_goodwill
from supply.settlement.refunds import RefundPlan, kept_by_customers
from supply.settlement.reroute import MovedUnits
from tests.factories.settlement import PAID_AT, Parties

T = TypeVar("T")
CURRENCY = "CNY"
_LAST = text(
    "SELECT j.id, j.idem, j.kind, j.order_id, j.provider_ref, j.memo, j.effective_at FROM ledger_journals j"
    " ORDER BY j.id DESC LIMIT 1 OFFSET :offset"
)
_LEGS = text(
    "SELECT a.code, a.owner, a.currency, a.tenant_id, e.amount_minor FROM ledger_entries e"
    " JOIN ledger_accounts a ON a.id = e.account_id WHERE e.journal_id = :id ORDER BY e.leg"
)
_COUNT = text("SELECT count(*) FROM ledger_entries")
_CASH = text(
    "SELECT coalesce(sum(balance_minor * side), 0)::bigint FROM ledger_balances_now WHERE code IN (1000, 1010)"
)


@dataclass
class Asked:
    """A refund that was reserved; ``ended`` once the provider has said so."""

    id: RefundId
    order: Life
    amount_minor: int
    given_minor: int
    """What the parties gave for it; beyond the amount it repays the platform's goodwill."""
    tries: int = 0


@dataclass
class Life:
    """One order as the model knows it: what its parties still stand for, and what the platform gave besides."""

    order: CapturedOrder
    left_minor: int
    goodwill_minor: int = 0
    disputed: str = ""

    @property
    def kept_minor(self) -> int:
        """What the customer paid and has not got back."""
        return self.left_minor - self.goodwill_minor

    def carries(self, amount_minor: int) -> bool:
        """Whether the parties can be asked for this much, and something of it is the customer's."""
        return amount_minor <= self.left_minor and self.kept_minor > 0

    @property
    def order_minor(self) -> int:
        return sum(line.paid_minor for line in self.order.lines)


@dataclass
class Books:
    url: str
    loop: asyncio.AbstractEventLoop
    parties: Parties = field(default_factory=Parties)
    clock: FixedClock = field(default_factory=lambda: FixedClock(PAID_AT))
    orders: list[Life] = field(default_factory=list)
    refunds: list[Asked] = field(default_factory=list)
    batches: int = 0
    db: Database = field(init=False)
    paysim: Provider = field(init=False)
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def open(self) -> None:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.db = Database(make_engine(self.url, pool_size=1))
        self._stack.push_async_callback(self.db.close)
        self.paysim = await self._stack.enter_async_context(provider(Path(directory), self.clock))
        parties = self.parties
        for party in (parties.merchant, parties.supplier, parties.promoter_brand):
            account = await self.paysim.gateway.create_account(
                party_ref=str(party), country="CN", key=f"account:{party}"
            )
            async with self.db.unit_of_work(SYSTEM) as session:
                await service.register_payee(
                    session, str(party), currency=CURRENCY, account_id=account.id, now=self.clock.now()
                )

    async def close(self) -> None:
        await self._stack.aclose()

    async def check(self) -> None:
        async with self.db.reading(SYSTEM) as session:
            found = await violations(session)
        assert not found, "\n".join(str(each) for each in found)

    # --- what happens ---

    async def capture(self, goods: list[int], units: int, cost_ppm: int, commission_minor: int) -> None:
        lines = [self._line(each, units, cost_ppm, commission_minor) for each in goods]
        total = sum(line.paid_minor for line in lines)
        number = len(self.orders)
        intent = await self.paysim.gateway.create_intent(
            order_ref=f"order {number}", amount_minor=total, currency=CURRENCY, key=f"intent {number}"
        )
        paid = await self.paysim.gateway.confirm_intent(
            intent.id, payment_method="pm_card_visa", key=f"pay {number}"
        )
        assert paid.latest_charge_id is not None
        order = CapturedOrder(
            OrderId.new(), self.parties.merchant, CURRENCY, paid.latest_charge_id, self.clock.now(), lines, "CN",
            amount_minor=total,
        )  # fmt: skip
        async with self.db.unit_of_work(SYSTEM) as session:
            await service.open_split(session, order, clock=self.clock)
            await service.open_split(session, order, clock=self.clock)
        self.orders.append(Life(order, total))

    def _line(self, goods: int, units: int, cost_ppm: int, commission_minor: int) -> CapturedLine:
        commission = min(commission_minor, goods // 4)
        return CapturedLine(
            OrderLineId.new(), units, goods, goods * 6 // 100, self.parties.supplier,
            goods * cost_ppm // 1_000_000, shipping_minor=80, supplier_shipping_minor=95,
            platform_fee_minor=goods // 20,
            commission=(
                CommissionShare(str(self.parties.promoter_brand), Part.PROMOTER_BRAND, commission - commission // 3),
                CommissionShare(str(self.parties.individual), Part.INDIVIDUAL, commission // 3),
            ),
        )  # fmt: skip

    async def deliver(self, life: Life) -> None:
        async with self.db.unit_of_work(SYSTEM) as session:
            for line in life.order.lines:
                await service.record_delivery(
                    session, life.order.order_id, line.supplier_id, [(line.order_line_id, line.quantity)],
                    at=self.clock.now(),
                )  # fmt: skip

    async def reroute(self, life: Life, cost_minor: int) -> None:
        line = life.order.lines[0]
        move = MovedUnits(line.order_line_id, 1, line.supplier_id, SupplierId.new(), cost_minor)
        async with self.db.unit_of_work(SYSTEM) as session:
            await service.reroute(
                session, life.order.order_id, [move], reference=f"fo {move.to_supplier}", now=self.clock.now()
            )

    async def reserve(self, life: Life, plan: RefundPlan, *, goodwill_minor: int = 0) -> None:
        async with self.db.unit_of_work(SYSTEM) as session:
            if goodwill_minor:
                reserved = await reserve_goodwill(
                    session, plan.refund_id, life.order.order_id, goodwill_minor, now=self.clock.now()
                )
            else:
                reserved = await service.reserve_refund(session, plan, now=self.clock.now())
        given = sum(each.amount_minor for each in reserved.taken)
        life.left_minor -= given
        life.goodwill_minor += reserved.amount_minor - given
        self.refunds.append(Asked(plan.refund_id, life, reserved.amount_minor, given))

    async def send_refund(self, asked: Asked) -> None:
        """The provider's answer ends it; without one it stays open, and the same key goes out again."""
        asked.tries += 1
        try:
            answer = await self.paysim.gateway.refund(
                charge_or_intent=asked.order.order.charge_id, amount_minor=asked.amount_minor,
                # A failure that is stored under a key is replayed: after three, another one.
                key=f"refund {asked.id} {asked.tries // 3}", metadata={"refund": str(asked.id)},
            )  # fmt: skip
        except ProviderUnavailable:
            return
        except ProviderRefused:
            await self._void(asked, None)
            return
        async with self.db.unit_of_work(SYSTEM) as session:
            await service.settle_refund(session, asked.id, now=self.clock.now(), provider_ref=answer.id)
        self.refunds.remove(asked)

    async def _void(self, asked: Asked, provider_ref: str | None) -> None:
        async with self.db.unit_of_work(SYSTEM) as session:
            await service.void_refund(session, asked.id, now=self.clock.now(), provider_ref=provider_ref)
        asked.order.left_minor += asked.given_minor
        asked.order.goodwill_minor -= asked.amount_minor - asked.given_minor
        self.refunds.remove(asked)

    async def dispute(self, life: Life, part_ppm: int) -> None:
        amount = max(life.order_minor * part_ppm // 1_000_000, 1)
        answer = await self.paysim.admin("POST", "/disputes", charge=life.order.charge_id, amount=amount)
        if answer.is_success:
            life.disputed = answer.json()["id"]
            await disputes.refresh(self.db, life.disputed, payments=self.paysim.gateway, clock=self.clock)

    async def decide(self, life: Life, verdict: str) -> None:
        await self.paysim.admin("POST", f"/disputes/{life.disputed}/close", status=verdict)
        await disputes.refresh(self.db, life.disputed, payments=self.paysim.gateway, clock=self.clock)
        async with self.db.reading(SYSTEM) as session:
            kept = (await kept_by_customers(session, [life.order.order_id]))[life.order.order_id]
        taken = life.kept_minor - kept.amount_minor
        if verdict == "won":
            assert not taken, "a dispute that was won leaves everything as it was"
        # What the customer was owed already it has now; the rest its parties give.
        life.goodwill_minor += min(taken, max(-life.goodwill_minor, 0))
        life.left_minor, life.disputed = kept.amount_minor + life.goodwill_minor, ""

    async def pay_out(self) -> None:
        self.batches += 1
        await service.make_batch(self.db, cycle=f"batch {self.batches}", clock=self.clock)
        await service.make_batch(self.db, cycle=f"batch {self.batches}", clock=self.clock)

    async def sweep(self) -> None:
        """Everything a worker does by itself, one round; what gets no answer is left for the next."""
        payments, clock = self.paysim.gateway, self.clock
        for work in (
            service.collect_fees,
            service.send_payouts,
            service.resolve_payouts,
            service.sweep_recoveries,
        ):
            with contextlib.suppress(ProviderUnavailable):
                await work(self.db, payments=payments, clock=clock)
        for timed in (service.funds_available, service.release_due):
            await timed(self.db, clock=clock)
        await ledger.roll_up(self.db)

    async def repost(self, offset: int, *, change: bool) -> None:
        """Invariant 3: a journal again is no effect, the same key with another body is refused."""
        async with self.db.reading(SYSTEM) as session:
            row = (await session.execute(_LAST, {"offset": offset})).first()
            if row is None:
                return
            legs = [
                Leg(AccountKey(Code(r.code), r.owner, r.currency, r.tenant_id), r.amount_minor)
                for r in await session.execute(_LEGS, {"id": row.id})
            ]
            before = (await session.execute(_COUNT)).scalar_one()
            if change:
                legs = [Leg(leg.account, 2 * leg.amount_minor) for leg in legs]
            order = OrderId.of(row.order_id) if row.order_id else None
            journal = Journal(
                row.idem, row.kind, tuple(legs), row.effective_at, order, row.provider_ref, row.memo
            )
            (outcome,) = await ledger.post_many(session, [journal], now=self.clock.now())
            assert (outcome.error is None, outcome.replayed) == ((False, False) if change else (True, True))
            assert not change or isinstance(outcome.error, JournalKeyReused)
            assert (await session.execute(_COUNT)).scalar_one() == before

    async def finish(self) -> None:
        """No more faults; everything that is open ends, and the provider has what the books say it has."""
        await self.paysim.admin("DELETE", "/faults")
        for life in self.orders:
            if life.disputed:
                await self.decide(life, "won")
        for _ in range(4):
            for asked in list(self.refunds):
                await self.send_refund(asked)
            await self.sweep()
            self.clock.advance(timedelta(days=3))
        await self.check()
        async with self.db.reading(SYSTEM) as session:
            cash = (await session.execute(_CASH)).scalar_one()
        balance = await self.paysim.gateway.balance()
        theirs = balance.available.get(CURRENCY, 0) + balance.pending.get(CURRENCY, 0)
        assert cash == theirs, f"4. ours {cash}, the provider's {theirs}"
