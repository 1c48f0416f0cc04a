"""R2, R3: the provider's fee on a charge, what it settles in, and when its money is available."""

from __future__ import annotations

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
from supply.settlement.processing_fees import recharge_fee, share_fee

__all__ = ["collect_fees", "funds_available", "recharge_fee", "record_fee"]

CHARGES_AT_ONCE = 100
ASK_AGAIN = timedelta(minutes=1)
"""After a refusal; doubled each time, up to a day."""
_MOST_DOUBLINGS = 10
_WITHOUT_FEE = text(
    "SELECT charge_id FROM provider_charges WHERE NOT available AND transaction_id IS NULL"
    " AND provider = :provider AND coalesce(ask_again_at, captured_at) <= :now ORDER BY captured_at LIMIT :limit"
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
_RIPE = text(
    "SELECT charge_id, transaction_id, provider, coalesce(settled_currency, currency) AS currency, net_minor,"
    " available_on FROM provider_charges"
    " WHERE NOT available AND available_on <= :now ORDER BY available_on LIMIT :limit"
    " FOR NO KEY UPDATE SKIP LOCKED"
)
_AVAILABLE = text("UPDATE provider_charges SET available = true WHERE charge_id = ANY(:ids)")


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
    await session.execute(
        _FEE_KNOWN,
        {
            "charge_id": charge_id, "transaction_id": transaction.id, "fee_minor": transaction.fee_minor,
            "net_minor": transaction.net_minor, "available_on": transaction.available_on,
            "currency": transaction.currency,
        },
    )  # fmt: skip
    pending = provider_account(Code.PROVIDER_PENDING, provider, transaction.currency)
    paid = presented or Money(transaction.amount_minor, transaction.currency)
    if paid.currency != transaction.currency:
        settled = Money(transaction.amount_minor, transaction.currency)
        conversion = Conversion(
            transaction.id, provider, paid, settled, pending.code, transaction.created_at,
            transaction.exchange_rate,
        )  # fmt: skip
        await record_conversion(session, conversion, now=now)
    if transaction.fee_minor:
        fee_account = platform_account(Code.PROVIDER_FEE, transaction.currency)
        legs = (debit(fee_account, transaction.fee_minor), credit(pending, transaction.fee_minor))
        key, at = f"fee:{transaction.id}", transaction.created_at
        journal = Journal(key, Kind.PROVIDER_FEE, legs, at, None, transaction.id)
        await ledger.post(session, journal, now=now)
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
    collected = 0
    for charge_id in charges:
        try:
            charge = await payments.retrieve_charge(charge_id)
        except ProviderUnavailable:
            break
        except ProviderRefused:
            await _ask_later(db, charge_id, clock.now())
            continue
        if charge.balance_transaction is None:
            continue
        async with db.unit_of_work(SYSTEM) as session:
            await record_fee(
                session, charge_id, charge.balance_transaction, now=clock.now(), provider=name,
                presented=Money(charge.amount_minor, charge.currency),
            )  # fmt: skip
        collected += 1
    return collected


async def _ask_later(db: Database, charge_id: str, now: datetime) -> None:
    values = {"charge_id": charge_id, "now": now, "wait": ASK_AGAIN, "most": _MOST_DOUBLINGS}
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_LATER, values)
