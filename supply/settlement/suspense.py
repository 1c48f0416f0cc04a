"""R12: money at a provider that no order explains lies in suspense until somebody finds out, or sends it back.

A payment taken by an outside storefront may be more than its order (interest on instalments), less (a voucher of
the storefront's own), or for an order that names no goods. The difference is booked, never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit
from supply.settlement.kinds import Kind
from supply.settlement.parties import provider_account


@dataclass(frozen=True, slots=True)
class Unexplained:
    """``amount_minor`` the provider holds beyond what the order explains; below zero, it holds less."""

    charge_id: str
    order_id: OrderId
    provider: str
    currency: str
    amount_minor: int
    at: datetime


async def suspend(session: AsyncSession, found: Sequence[Unexplained], *, now: datetime) -> None:
    """Book the differences. One statement; again for the same charges, nothing happens."""
    await _post(session, found, "susp", 1, now)


async def send_back(session: AsyncSession, found: Sequence[Unexplained], *, now: datetime) -> None:
    """The provider has given the difference back to the customer: the mirror of ``suspend``."""
    await _post(session, found, "susp-back", -1, now)


async def _post(
    session: AsyncSession, found: Sequence[Unexplained], prefix: str, sign: int, now: datetime
) -> None:
    journals = []
    for each in found:
        if each.amount_minor:
            held = provider_account(Code.PROVIDER_PENDING, each.provider, each.currency)
            unknown = AccountKey(Code.SUSPENSE, f"psp:{each.provider}", each.currency)
            amount = sign * each.amount_minor
            legs = (debit(held, amount), credit(unknown, amount))
            key = f"{prefix}:{each.charge_id}"
            journals.append(Journal(key, Kind.SUSPENSE, legs, each.at, each.order_id, each.charge_id))
    await ledger.post_together(session, journals, now=now)
