"""A payment that came after its order was given up: the charge is booked as owed to the customer and sent back."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.money import Money
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit
from supply.settlement.capture import register_charge
from supply.settlement.kinds import Kind
from supply.settlement.parties import provider_account


async def post_late_payment(
    session: AsyncSession,
    *,
    charge_id: str,
    amount: Money,
    refund_ref: str,
    captured_at: datetime,
    now: datetime,
    provider: str = "stripe",
) -> None:
    """Both journals, keyed by the charge: again, nothing happens. The provider keeps its fee (R2)."""
    await register_charge(
        session, charge_id, provider=provider, currency=amount.currency, captured_at=captured_at
    )
    owed = AccountKey(Code.REFUND_PENDING, f"customer:{charge_id}", amount.currency)
    pending = provider_account(Code.PROVIDER_PENDING, provider, amount.currency)
    available = provider_account(Code.PROVIDER_AVAILABLE, provider, amount.currency)
    minor = amount.amount_minor
    came = Journal(
        f"late:{charge_id}", Kind.CAPTURE, (debit(pending, minor), credit(owed, minor)), captured_at,
        provider_ref=charge_id,
    )  # fmt: skip
    went = Journal(
        f"late:{charge_id}:refund", Kind.REFUND_SETTLED, (debit(owed, minor), credit(available, minor)), now,
        provider_ref=refund_ref,
    )  # fmt: skip
    await ledger.post(session, came, now=now)
    await ledger.post(session, went, now=now)
