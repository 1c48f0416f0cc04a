"""A payment that came after its order was given up: the charge is booked as owed to the customer and sent back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.money import Money
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit, mirrored
from supply.settlement.capture import register_charge
from supply.settlement.kinds import Kind
from supply.settlement.parties import provider_account


@dataclass(frozen=True, slots=True)
class SentBack:
    """One attempt to give it back, or a part of it. ``failed``: the money left, and is at the provider again."""

    refund_ref: str
    amount_minor: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What the customer is still owed (2100), and what of the rest its bank took back for it (a lost dispute).
    ``disputed``: the bank holds money of the charge, and the provider gives nothing back."""

    owed_minor: int
    charged_back_minor: int
    disputed: bool


_DISPUTES = text(
    "SELECT coalesce(sum(owed_minor) FILTER (WHERE stage = 'lost'), 0)::bigint AS charged_back,"
    " coalesce(bool_or(stage = 'open'), false) AS disputed FROM disputes WHERE charge_id = :charge_id"
)


def owed_account(charge_id: str, currency: str) -> AccountKey:
    return AccountKey(Code.REFUND_PENDING, f"customer:{charge_id}", currency)


async def post_late_payment(
    session: AsyncSession,
    *,
    charge_id: str,
    amount: Money,
    sent_back: Sequence[SentBack],
    captured_at: datetime,
    now: datetime,
    provider: str = "stripe",
) -> Standing:
    """Each journal once, by the charge and the attempt: again, nothing happens. The provider keeps its fee (R2).

    ``sent_back``: the attempts whose money has left, oldest first: what came back is owed again before the next takes
    it, and 2100 never goes below zero.
    """
    await register_charge(
        session, charge_id, provider=provider, currency=amount.currency, captured_at=captured_at
    )
    owed = owed_account(charge_id, amount.currency)
    pending = provider_account(Code.PROVIDER_PENDING, provider, amount.currency)
    available = provider_account(Code.PROVIDER_AVAILABLE, provider, amount.currency)
    minor, key = amount.amount_minor, f"late:{charge_id}"
    legs = debit(pending, minor), credit(owed, minor)
    journals = [Journal(key, Kind.CAPTURE, legs, captured_at, provider_ref=charge_id)]
    for each in sent_back:
        legs = debit(owed, each.amount_minor), credit(available, each.amount_minor)
        went = f"{key}:refund:{each.refund_ref}"
        journals.append(Journal(went, Kind.REFUND_SETTLED, legs, now, provider_ref=each.refund_ref))
        if each.failed:
            back = mirrored(legs)
            journals.append(
                Journal(f"{went}:void", Kind.REFUND_VOIDED, back, now, provider_ref=each.refund_ref)
            )
    for journal in journals:
        await ledger.post(session, journal, now=now)
    left = (await ledger.hold(session, [owed]))[owed]
    disputes = (await session.execute(_DISPUTES, {"charge_id": charge_id})).one()
    return Standing(left, disputes.charged_back, disputes.disputed)
