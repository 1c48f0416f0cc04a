"""R2 of many charges at once: each fee is booked once, in whatever company, and R2b and R10 go their own way.

A charge of 103.88 costs 3.31 (money.md R2): 3,200 of it are the merchant's, who bears its fee where it agreed to.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.money import Money
from infra.db.session import Database
from infra.payments.gateway import BalanceTransaction
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement import provider_funds, queries, service
from supply.settlement.parties import platform_account
from supply.settlement.processing_fees import set_fee_bearer
from supply.settlement.provider_funds import ChargeFee
from supply.settlement.reconciliation.models import Bearer
from tests.factories.settlement import PAID_AT, Parties, line_of_o1, order_of

_KINDS = text(
    "SELECT kind, count(*) FROM ledger_journals WHERE kind <> 'capture' GROUP BY kind ORDER BY kind"
)
_KNOWN = text(
    "SELECT charge_id, fee_minor, net_minor, settled_currency FROM provider_charges ORDER BY charge_id"
)


def told(charge: str, *, currency: str = "CNY", amount: int = 10_388, fee: int = 331) -> ChargeFee:
    row = BalanceTransaction(
        f"txn_{charge}", "charge", "charge", charge, amount, fee, amount - fee, currency, "pending",
        "0.14" if currency == "USD" else None, PAID_AT, PAID_AT + timedelta(days=2),
    )  # fmt: skip
    return ChargeFee(charge, row, Money(10_388, "CNY"))


async def test_each_fee_is_booked_once_whoever_asks_at_once(db: Database, clock: FixedClock) -> None:
    clock.at = PAID_AT
    bearing = Parties()
    charges = [f"ch_{n:02}" for n in range(12)]
    async with db.unit_of_work(SYSTEM) as session:
        await set_fee_bearer(
            session, bearing.merchant, Bearer.MERCHANT, reason="agreed", decided_by="test", now=PAID_AT
        )
        for charge in [*charges, "ch_free", "ch_own", "ch_usd"]:
            parties = bearing if charge == "ch_own" else Parties()
            order = order_of(parties, [line_of_o1(parties)], charge_id=charge)
            await service.open_split(session, order, clock=clock)
    fees = [*(told(charge) for charge in charges), told("ch_free", fee=0), told("ch_own")]
    fees.append(told("ch_usd", currency="USD", amount=1_454, fee=46))

    turns = (fees, fees[::-1], fees[4:], fees[:9])
    await asyncio.gather(*(provider_funds.record_fees(db, "stripe", each, now=clock.now()) for each in turns))

    async with db.reading(SYSTEM) as session:
        kinds = {row.kind: row.count for row in await session.execute(_KINDS)}
        known = {row.charge_id: row for row in await session.execute(_KNOWN)}
        paid = [
            (await ledger.balance(session, platform_account(Code.PROVIDER_FEE, currency))).amount_minor
            for currency in ("CNY", "USD")
        ]
        recharged = await ledger.balance(session, platform_account(Code.PROCESSING_RECHARGE, "CNY"))
        (merchant,) = await queries.party_balances(session, [str(bearing.merchant)])
        assert await ledger.mismatched_balances(session) == 0
        assert await queries.broken_identities(session) == []
    # Twelve plain fees, the one that is recharged, the one in dollars; one charge cost nothing.
    assert kinds == {"provider_fee": 14, "fee_recharge": 1, "conversion": 1}
    assert paid == [13 * 331, 46]
    assert recharged.amount_minor == 331
    assert merchant.pending_minor == 3_200 - 331
    assert {(row.fee_minor, row.net_minor) for row in known.values()} == {
        (331, 10_057), (0, 10_388), (46, 1_408),
    }  # fmt: skip
    assert known["ch_usd"].settled_currency == "USD"
