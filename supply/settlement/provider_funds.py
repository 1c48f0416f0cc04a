"""R2, R2b, R3: the provider's fee on a charge, who bears it, and when the charge's money is available."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import OrderId
from infra.db.session import Database
from infra.payments.errors import ProviderUnavailable
from infra.payments.gateway import BalanceTransaction, PaymentGateway
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit, merged
from supply.settlement.composition import Part
from supply.settlement.kinds import Kind
from supply.settlement.order_book import load, save
from supply.settlement.parties import platform_account, provider_account
from supply.settlement.taking import Share, accounts_touched, take

CHARGES_AT_ONCE = 100
_WITHOUT_FEE = text(
    "SELECT charge_id FROM provider_charges WHERE NOT available AND transaction_id IS NULL"
    " AND provider = :provider ORDER BY captured_at LIMIT :limit"
)
_FEE_KNOWN = text(
    "UPDATE provider_charges SET transaction_id = :transaction_id, fee_minor = :fee_minor,"
    " net_minor = :net_minor, available_on = :available_on WHERE charge_id = :charge_id"
)
_RIPE = text(
    "SELECT charge_id, transaction_id, provider, currency, net_minor, available_on FROM provider_charges"
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
) -> None:
    """R2, from the charge's balance transaction; its net becomes available by ``funds_available``."""
    await session.execute(
        _FEE_KNOWN,
        {
            "charge_id": charge_id, "transaction_id": transaction.id, "fee_minor": transaction.fee_minor,
            "net_minor": transaction.net_minor, "available_on": transaction.available_on,
        },
    )  # fmt: skip
    if transaction.fee_minor:
        legs = (
            debit(platform_account(Code.PROVIDER_FEE, transaction.currency), transaction.fee_minor),
            credit(
                provider_account(Code.PROVIDER_PENDING, provider, transaction.currency), transaction.fee_minor
            ),
        )
        journal = Journal(
            f"fee:{transaction.id}", Kind.PROVIDER_FEE, legs, transaction.created_at, None, transaction.id
        )
        await ledger.post(session, journal, now=now)


async def recharge_fee(
    session: AsyncSession, order_id: OrderId, transaction_id: str, fee_minor: int, *, now: datetime
) -> None:
    """R2b: the merchant bears the provider's fee (its part of it, for a charge of several orders).

    Once per transaction and order: the caller is a handler with its inbox row.
    """
    book = await load(session, order_id)
    held = await ledger.hold(session, accounts_touched(book))
    merchant = [line.cells[Part.MERCHANT] for line in book.lines]
    legs = take(book, [Share(max(merchant, key=lambda cell: cell.pending_minor), fee_minor)], held)
    legs.append(credit(platform_account(Code.PROCESSING_RECHARGE, book.currency), fee_minor))
    await save(session, [book])
    key = f"feerc:{transaction_id}:{order_id}"
    journal = Journal(key, Kind.FEE_RECHARGE, merged(legs), now, order_id, transaction_id)
    await ledger.post(session, journal, now=now)


async def funds_available(db: Database, *, clock: Clock) -> int:
    """Sweep, R3: what the provider has made available moves from pending to available. Charges moved."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        ripe = (await session.execute(_RIPE, {"now": now, "limit": CHARGES_AT_ONCE})).all()
        journals = [
            Journal(
                f"avail:{row.transaction_id}",
                Kind.FUNDS_AVAILABLE,
                (
                    debit(
                        provider_account(Code.PROVIDER_AVAILABLE, row.provider, row.currency), row.net_minor
                    ),
                    credit(
                        provider_account(Code.PROVIDER_PENDING, row.provider, row.currency), row.net_minor
                    ),
                ),
                row.available_on,
                provider_ref=row.transaction_id,
            )
            for row in ripe
        ]
        await ledger.post_together(session, journals, now=now)
        await session.execute(_AVAILABLE, {"ids": [row.charge_id for row in ripe]})
    return len(ripe)


async def collect_fees(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: ask the provider what it took of new charges (R2). Returns how many it answered for.

    Charges of others (an outside storefront's) are none of its business.
    """
    name = payments.capabilities().name
    async with db.reading(SYSTEM) as session:
        charges = list(
            (await session.execute(_WITHOUT_FEE, {"limit": CHARGES_AT_ONCE, "provider": name})).scalars()
        )
    collected = 0
    for charge_id in charges:
        try:
            charge = await payments.retrieve_charge(charge_id)
        except ProviderUnavailable:
            break
        if charge.balance_transaction is None:
            continue
        async with db.unit_of_work(SYSTEM) as session:
            await record_fee(session, charge_id, charge.balance_transaction, now=clock.now(), provider=name)
        collected += 1
    return collected
