"""R2, R3: the provider's fee on a charge, what it settles in, and when its money is available."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.money import Money, half_up_ratio
from infra.db.session import Database
from infra.payments.errors import ProviderRefused, ProviderUnavailable
from infra.payments.gateway import BalanceTransaction, PaymentGateway
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement.currency_positions import Conversion, record_conversion
from supply.settlement.kinds import Kind
from supply.settlement.parties import platform_account, provider_account
from supply.settlement.processing_fees import recharge_fee, recharged, share_fee

__all__ = ["ChargeFee", "collect_fees", "funds_available", "recharge_fee", "record_fee", "record_fees"]

CHARGES_AT_ONCE = 100
FEES_AT_ONCE = 500
ASK_AGAIN = timedelta(minutes=1)
"""After a refusal; doubled each time, up to a day."""
_MOST_DOUBLINGS = 10
_WITHOUT_FEE = text(
    "SELECT charge_id FROM provider_charges WHERE NOT available AND transaction_id IS NULL"
    " AND provider = :provider AND coalesce(ask_again_at, captured_at) <= :now"
    " ORDER BY captured_at, charge_id LIMIT :limit"
)
_LATER = text(
    "UPDATE provider_charges SET asked = asked + 1, ask_again_at = CAST(:now AS timestamptz)"
    " + CAST(:wait AS interval) * (1 << least(asked, :most)) WHERE charge_id = :charge_id"
)
_FEE_KNOWN = text(
    "UPDATE provider_charges SET transaction_id = :transaction_id, fee_minor = :fee_minor,"
    " net_minor = :net_minor, settled_currency = :currency, available_on = :available_on"
    " WHERE charge_id = :charge_id"
)
# In one order, so that two who book the same charges wait for each other and not in a circle.
_STILL_UNKNOWN = text(
    "SELECT charge_id FROM provider_charges WHERE charge_id = ANY(:ids) AND transaction_id IS NULL"
    " ORDER BY charge_id FOR NO KEY UPDATE"
)
_FEES_KNOWN = text(
    "UPDATE provider_charges c SET transaction_id = n.transaction_id, fee_minor = n.fee_minor,"
    " net_minor = n.net_minor, settled_currency = n.currency, available_on = n.available_on"
    " FROM unnest(CAST(:charge_id AS text[]), CAST(:transaction_id AS text[]), CAST(:fee_minor AS bigint[]),"
    " CAST(:net_minor AS bigint[]), CAST(:currency AS bpchar[]), CAST(:available_on AS timestamptz[]))"
    " AS n (charge_id, transaction_id, fee_minor, net_minor, currency, available_on)"
    " WHERE c.charge_id = n.charge_id"
)
_RIPE = text(
    "SELECT charge_id, transaction_id, provider, coalesce(settled_currency, currency) AS currency, net_minor,"
    " available_on FROM provider_charges"
    " WHERE NOT available AND available_on <= :now ORDER BY available_on, charge_id LIMIT :limit"
    " FOR NO KEY UPDATE SKIP LOCKED"
)
_AVAILABLE = text("UPDATE provider_charges SET available = true WHERE charge_id = ANY(:ids)")


@dataclass(frozen=True, slots=True)
class ChargeFee:
    """What the provider says of a charge of ours: its balance transaction. ``paid`` is what the customer paid."""

    charge_id: str
    transaction: BalanceTransaction
    paid: Money

    @property
    def converted(self) -> bool:
        return self.paid.currency != self.transaction.currency


async def record_fees(db: Database, provider: str, fees: Sequence[ChargeFee], *, now: datetime) -> None:
    """R2 (R10, R2b) of many charges. Those that only cost the platform are posted many at a time; the others each in a
    transaction of its own: a recharge locks its order and the merchant's accounts, a conversion its position, and
    several of them in one transaction would take their locks in no order.
    """
    async with db.reading(SYSTEM) as session:
        shared = await recharged(session, [fee.charge_id for fee in fees])
    plain = [fee for fee in fees if not fee.converted and fee.charge_id not in shared]
    for start in range(0, len(plain), FEES_AT_ONCE):
        async with db.unit_of_work(SYSTEM) as session:
            await _record_plain(session, provider, plain[start : start + FEES_AT_ONCE], now=now)
    for fee in fees:
        if fee.converted or fee.charge_id in shared:
            async with db.unit_of_work(SYSTEM) as session:
                await record_fee(
                    session, fee.charge_id, fee.transaction, now=now, provider=provider, presented=fee.paid
                )


async def _record_plain(
    session: AsyncSession, provider: str, fees: Sequence[ChargeFee], *, now: datetime
) -> None:
    ids = [fee.charge_id for fee in fees]
    unknown = set((await session.execute(_STILL_UNKNOWN, {"ids": ids})).scalars())
    booked = [fee for fee in fees if fee.charge_id in unknown]
    rows = [_known(fee.charge_id, fee.transaction) for fee in booked]
    if rows:
        await session.execute(_FEES_KNOWN, {name: [row[name] for row in rows] for name in rows[0]})
    journals = [_fee_journal(provider, fee.transaction) for fee in booked if fee.transaction.fee_minor]
    await ledger.post_together(session, journals, now=now)


def _known(charge_id: str, transaction: BalanceTransaction) -> dict[str, Any]:
    return {
        "charge_id": charge_id, "transaction_id": transaction.id, "fee_minor": transaction.fee_minor,
        "net_minor": transaction.net_minor, "available_on": transaction.available_on,
        "currency": transaction.currency,
    }  # fmt: skip


def _fee_journal(provider: str, transaction: BalanceTransaction) -> Journal:
    legs = (
        debit(platform_account(Code.PROVIDER_FEE, transaction.currency), transaction.fee_minor),
        credit(
            provider_account(Code.PROVIDER_PENDING, provider, transaction.currency), transaction.fee_minor
        ),
    )
    key, at = f"fee:{transaction.id}", transaction.created_at
    return Journal(key, Kind.PROVIDER_FEE, legs, at, None, transaction.id)


async def record_fee(
    session: AsyncSession,
    charge_id: str,
    transaction: BalanceTransaction,
    *,
    now: datetime,
    provider: str = "stripe",
    presented: Money | None = None,
) -> None:
    """R2, from the charge's balance transaction; its net becomes available by ``funds_available``.

    ``presented`` is what the customer paid: given in another currency than the transaction's, the charge is
    turned into what it settles in (R10). Merchants that bear the fee are charged their share (R2b).
    """
    await session.execute(_FEE_KNOWN, _known(charge_id, transaction))
    paid = presented or Money(transaction.amount_minor, transaction.currency)
    if paid.currency != transaction.currency:
        settled = Money(transaction.amount_minor, transaction.currency)
        conversion = Conversion(
            transaction.id, provider, paid, settled, Code.PROVIDER_PENDING, transaction.created_at,
            transaction.exchange_rate,
        )  # fmt: skip
        await record_conversion(session, conversion, now=now)
    if transaction.fee_minor:
        await ledger.post(session, _fee_journal(provider, transaction), now=now)
        await share_fee(session, charge_id, transaction.id, _fee_as_paid(transaction, paid), now=now)


def _fee_as_paid(transaction: BalanceTransaction, paid: Money) -> Money:
    """The fee in the customer's currency, at the rate the charge itself was converted with."""
    if paid.currency == transaction.currency:
        return Money(transaction.fee_minor, paid.currency)
    fee = half_up_ratio(transaction.fee_minor * paid.amount_minor, transaction.amount_minor)
    return Money(fee, paid.currency)


async def funds_available(db: Database, *, clock: Clock) -> int:
    """Sweep, R3: what the provider has made available moves from pending to available. Charges moved."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        ripe = (await session.execute(_RIPE, {"now": now, "limit": CHARGES_AT_ONCE})).all()
        # A fee as large as the payment leaves nothing to move, and a journal of nothing would be refused.
        journals = [_available(row) for row in ripe if row.net_minor]
        await ledger.post_together(session, journals, now=now)
        await session.execute(_AVAILABLE, {"ids": [row.charge_id for row in ripe]})
    return len(ripe)


def _available(row: Any) -> Journal:
    legs = (
        debit(provider_account(Code.PROVIDER_AVAILABLE, row.provider, row.currency), row.net_minor),
        credit(provider_account(Code.PROVIDER_PENDING, row.provider, row.currency), row.net_minor),
    )
    key, at, ref = f"avail:{row.transaction_id}", row.available_on, row.transaction_id
    return Journal(key, Kind.FUNDS_AVAILABLE, legs, at, provider_ref=ref)


async def collect_fees(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: ask the provider what it took of new charges (R2). Returns how many it answered for.

    Charges of others (an outside storefront's) are none of its business. One that the provider refuses to show
    waits and keeps none of the others.
    """
    name = payments.capabilities().name
    where = {"limit": CHARGES_AT_ONCE, "provider": name, "now": clock.now()}
    async with db.reading(SYSTEM) as session:
        charges = list((await session.execute(_WITHOUT_FEE, where)).scalars())
    told = []
    for charge_id in charges:
        try:
            charge = await payments.retrieve_charge(charge_id)
        except ProviderUnavailable:
            break
        except ProviderRefused:
            await _ask_later(db, charge_id, clock.now())
            continue
        if charge.balance_transaction is not None:
            paid = Money(charge.amount_minor, charge.currency)
            told.append(ChargeFee(charge_id, charge.balance_transaction, paid))
    await record_fees(db, name, told, now=clock.now())
    return len(told)


async def _ask_later(db: Database, charge_id: str, now: datetime) -> None:
    values = {"charge_id": charge_id, "now": now, "wait": ASK_AGAIN, "most": _MOST_DOUBLINGS}
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_LATER, values)
