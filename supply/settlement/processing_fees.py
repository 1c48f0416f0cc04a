"""R2b: who bears the provider's fee on a charge. The platform does, unless the merchant has agreed to.

A charge of several orders has one fee: it is shared by what each order was paid, exactly, and each merchant that
bears it bears its own order's share.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, OrderId
from core.money import Money, allocate_minor
from supply.ledger import queries
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, merged
from supply.settlement.composition import Part
from supply.settlement.kinds import Kind
from supply.settlement.order_book import load, save
from supply.settlement.parties import platform_account
from supply.settlement.reconciliation.models import Bearer
from supply.settlement.taking import Share, accounts_touched, take

_DECIDE = text(
    "INSERT INTO processing_fee_policies (merchant_id, bearer, reason, decided_by, decided_at)"
    " VALUES (:merchant_id, :bearer, :reason, :by, :now) ON CONFLICT (merchant_id) DO UPDATE"
    " SET bearer = excluded.bearer, reason = excluded.reason, decided_by = excluded.decided_by,"
    " decided_at = excluded.decided_at"
)
_BEARERS = text("SELECT merchant_id, bearer FROM processing_fee_policies WHERE merchant_id = ANY(:ids)")
_ORDERS = text(
    "SELECT o.order_id, o.captured_minor, o.currency, coalesce(p.bearer, 'platform') AS bearer FROM split_orders o"
    " LEFT JOIN processing_fee_policies p ON p.merchant_id = o.merchant_id WHERE o.charge_id = :charge_id"
    " ORDER BY o.order_id"
)
_RECHARGED = text(
    "SELECT DISTINCT o.charge_id FROM split_orders o JOIN processing_fee_policies p ON p.merchant_id = o.merchant_id"
    " WHERE o.charge_id = ANY(:charges) AND p.bearer = 'merchant'"
)


async def set_fee_bearer(
    session: AsyncSession,
    merchant_id: BrandId,
    bearer: Bearer,
    *,
    reason: str,
    decided_by: str,
    now: datetime,
) -> None:
    """From now on: charges whose fee is already booked stay as they are."""
    values = {
        "merchant_id": merchant_id, "bearer": bearer.value, "reason": reason, "by": decided_by, "now": now,
    }  # fmt: skip
    await session.execute(_DECIDE, values)


async def fee_bearers(session: AsyncSession, merchant_ids: Iterable[BrandId]) -> dict[BrandId, Bearer]:
    """Everybody asked for; the platform bears where nothing was agreed."""
    wanted = list(merchant_ids)
    rows = await session.execute(_BEARERS, {"ids": wanted})
    agreed = {BrandId.of(row.merchant_id): Bearer(row.bearer) for row in rows}
    return {merchant: agreed.get(merchant, Bearer.PLATFORM) for merchant in wanted}


async def recharged(session: AsyncSession, charge_ids: Iterable[str]) -> set[str]:
    """Those of the charges whose fee a merchant bears, wholly or for its order."""
    return set((await session.execute(_RECHARGED, {"charges": list(charge_ids)})).scalars())


async def share_fee(
    session: AsyncSession, charge_id: str, transaction_id: str, fee: Money, *, now: datetime
) -> None:
    """Recharge a charge's fee, in the currency of its orders, to the merchants that bear theirs."""
    orders = (await session.execute(_ORDERS, {"charge_id": charge_id})).all()
    if all(order.bearer == Bearer.PLATFORM for order in orders):
        return
    shares = allocate_minor(fee.amount_minor, [order.captured_minor for order in orders])
    for order, share in zip(orders, shares, strict=True):
        if order.bearer == Bearer.MERCHANT and share:
            await recharge_fee(session, OrderId.of(order.order_id), transaction_id, share, now=now)


async def recharge_fee(
    session: AsyncSession, order_id: OrderId, transaction_id: str, fee_minor: int, *, now: datetime
) -> None:
    """R2b: the merchant bears ``fee_minor`` of the provider's fee on its order. Once per transaction and order."""
    book = await load(session, order_id)
    key = f"feerc:{transaction_id}:{order_id}"
    if await queries.entries_of_journal(session, key):
        return
    held = await ledger.hold(session, accounts_touched(book))
    merchant = [line.cells[Part.MERCHANT] for line in book.lines]
    legs = take(book, [Share(max(merchant, key=lambda cell: cell.pending_minor), fee_minor)], held)
    legs.append(credit(platform_account(Code.PROCESSING_RECHARGE, book.currency), fee_minor))
    await save(session, [book])
    journal = Journal(key, Kind.FEE_RECHARGE, merged(legs), now, order_id, transaction_id)
    await ledger.post(session, journal, now=now)
