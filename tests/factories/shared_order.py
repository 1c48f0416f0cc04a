"""O1 of money.md §2, paid on the sharing rail as it really runs, and recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import OrderId
from infra.db.session import Database
from infra.payments.gateway import Capabilities
from infra.payments.profit_sharing import CAPABILITIES, ProfitSharing
from infra.payments.sharing import SharedPayment
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement.capture import CapturedOrder
from supply.settlement.rails import queries, service
from supply.settlement.rails.models import InstructionStatus, RequestStatus
from supply.settlement.split_plan import PayeeKind
from tests.factories.settlement import Parties, line_of_o1, order_of

KEY = "sk_test_suite"
RAIL = CAPABILITIES.name
# O1 of money.md §2 on the rail: the merchant bears 0.6 % of 10,388 = 62.328 → 62.
FEE, OUTWARD = 62, 4_800 + 900 + 450 + 450
MERCHANT = 10_388 - FEE - OUTWARD


@pytest.fixture
async def rail(paysim: Any) -> AsyncIterator[ProfitSharing]:
    rail = ProfitSharing(base=paysim.url, key=KEY, clock=paysim.clock)
    yield rail
    await rail.close()


@dataclass
class Paid:
    """O1, paid on the rail and recorded; the merchant may let 70 % go to others."""

    db: Database
    paysim: Any
    rail: ProfitSharing
    parties: Parties
    order: CapturedOrder
    payment: SharedPayment
    accounts: dict[str, str]
    allowed: Capabilities
    before: dict[str, int] = field(default_factory=dict)
    """What accounts held already: the platform's is the same in every test."""

    @property
    def clock(self) -> Clock:
        clock: Clock = self.paysim.clock
        return clock

    @property
    def order_id(self) -> OrderId:
        return self.order.order_id

    async def send(self) -> int:
        return await service.send_shares(self.db, rails={RAIL: self.rail}, clock=self.clock)

    async def resolve(self) -> int:
        return await service.resolve_shares(self.db, rails={RAIL: self.rail}, clock=self.clock)

    async def sweep(self, *, days: int = 0) -> None:
        """Some time later both sweeps run as often as they find something."""
        self.paysim.clock.advance(timedelta(days=days, minutes=2))
        for _ in range(6):
            await self.send()
            self.paysim.clock.advance(timedelta(minutes=2))
            await self.resolve()
            await service.send_shared_refunds(self.db, rails={RAIL: self.rail}, clock=self.clock)

    async def view(self) -> queries.RailOrderView:
        async with self.db.reading(SYSTEM) as session:
            found = await queries.rail_order(session, SYSTEM, self.order_id)
        assert found is not None
        return found

    async def statuses(self) -> list[RequestStatus]:
        return [request.status for request in (await self.view()).requests]

    async def paid(self) -> dict[str, int]:
        told = [each for request in (await self.view()).requests for each in request.instructions]
        return {each.payee_id: each.amount_minor for each in told if each.status is InstructionStatus.PAID}

    async def memo(self) -> dict[tuple[Code, str], int]:
        """What is left on the memorandum accounts of this order's parties and the rail."""
        async with self.db.reading(SYSTEM) as session:
            entries = await ledger.entries_of_order(session, self.order_id)
        sums: dict[tuple[Code, str], int] = {}
        for entry in entries:
            key = (Code(entry.code), entry.owner)
            sums[key] = sums.get(key, 0) + entry.amount_minor
        return {key: amount for key, amount in sums.items() if amount}

    def received(self, payee: str) -> int:
        return self.held(payee) - self.before.get(payee, 0)

    def held(self, payee: str) -> int:
        account = self.accounts[payee]
        names = {f"share:{account}:available", f"share:person:{account}"}
        return sum(row["amount"] for row in self.paysim.books()["accounts"] if row["account"] in names)


async def open_accounts(db: Database, rail: ProfitSharing, parties: Parties, now: Any) -> dict[str, str]:
    async def merchant(ref: str) -> str:
        return (await rail.register_merchant(party_ref=ref, name=ref)).id

    accounts = {
        str(parties.merchant): await merchant(str(parties.merchant)),
        str(parties.supplier): await merchant(str(parties.supplier)),
        str(parties.promoter_brand): await merchant(str(parties.promoter_brand)),
        str(parties.individual): f"openid-{parties.individual}",
        "platform": (await rail.platform_merchant()).id,
    }
    kinds = {str(parties.merchant): PayeeKind.MERCHANT, str(parties.individual): PayeeKind.INDIVIDUAL}
    kinds["platform"] = PayeeKind.PLATFORM
    async with db.unit_of_work(SYSTEM) as session:
        for payee, account in accounts.items():
            await service.register_rail_account(
                session,
                payee,
                rail=RAIL,
                kind=kinds.get(payee, PayeeKind.BUSINESS),
                account_id=account,
                now=now,
            )
    return accounts


async def paid_o1(
    db: Database, paysim: Any, rail: ProfitSharing, *, cap_ppm: int = 700_000, parties: Parties | None = None
) -> Paid:
    parties, now = parties or Parties(), paysim.clock.now()
    accounts = await open_accounts(db, rail, parties, now)
    paysim.admin("POST", f"/sharing/merchants/{accounts[str(parties.merchant)]}", max_outward_ppm=cap_ppm)
    order = order_of(parties, [line_of_o1(parties)], paid_at=now)
    payment = await rail.pay(
        merchant_id=accounts[str(parties.merchant)],
        trade_no=str(order.order_id),
        amount_minor=10_388,
        currency="CNY",
        description="O1",
        payer="test_pays",
    )
    allowed = replace(CAPABILITIES, max_outward_ppm=cap_ppm)
    paid = Paid(db, paysim, rail, parties, order, payment, accounts, allowed)
    paid.before["platform"] = paid.held("platform")
    return paid


@pytest.fixture
async def o1(db: Database, paysim: Any, rail: ProfitSharing) -> Paid:
    paid = await paid_o1(db, paysim, rail)
    await record(paid)
    return paid


async def record(paid: Paid) -> None:
    async with paid.db.unit_of_work(SYSTEM) as session:
        await service.record_shared_payment(
            session,
            paid.order,
            payment_id=paid.payment.id,
            fee_minor=paid.payment.fee_minor,
            rail=paid.allowed,
            clock=paid.clock,
        )


async def deliver(paid: Paid, quantity: int = 2) -> bool:
    units = [(paid.order.lines[0].order_line_id, quantity)]
    async with paid.db.unit_of_work(SYSTEM) as session:
        return await service.record_shared_delivery(
            session, paid.order_id, units, rail=CAPABILITIES, at=paid.clock.now()
        )


def everybody(paid: Paid) -> dict[str, int]:
    parties = paid.parties
    return {
        str(parties.supplier): 4_800,
        str(parties.promoter_brand): 900,
        str(parties.individual): 450,
        "platform": 450,
    }
