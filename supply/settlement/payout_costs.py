"""R10b: a payout in a currency whose money is kept in another one costs what it costs there.

The cost is settled once, at the newest rate, before the payout is first sent: every later try sends the same.
What it brought when it came and what it costs now differ; the position (6000) shows it and R10c realises it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import PayoutId
from core.money import Money
from infra.db.session import Database
from supply.settlement.currency_positions import converted

# Money that came in the payout's currency and is kept in another one; the newest rate between the two.
_KEPT = text(
    "SELECT r.settled_currency, r.rate FROM ledger_balances_now n JOIN currency_rates r ON r.currency = n.currency"
    " WHERE n.code = 6000 AND n.owner = 'fx:' || CAST(:currency AS text) AND n.currency = :currency"
    " AND n.balance_minor > 0 ORDER BY r.observed_at DESC LIMIT 1"
)
_FROZEN = text("SELECT currency, amount_minor FROM payout_costs WHERE payout_id = :id")
_FREEZE = text(
    "INSERT INTO payout_costs (payout_id, currency, amount_minor, rate) VALUES (:id, :currency, :amount, :rate)"
    " ON CONFLICT (payout_id) DO NOTHING"
)


async def cost_of(db: Database, payout: Any) -> Money:
    """What to transfer for a payout: itself, or its cost in the currency its money is kept in."""
    async with db.unit_of_work(SYSTEM) as session:
        return await frozen_cost(session, PayoutId.of(payout.id), Money(payout.amount_minor, payout.currency))


async def frozen_cost(session: AsyncSession, payout_id: PayoutId, amount: Money) -> Money:
    frozen = (await session.execute(_FROZEN, {"id": payout_id})).first()
    if frozen is not None:
        return Money(frozen.amount_minor, frozen.currency)
    kept = (await session.execute(_KEPT, {"currency": amount.currency})).first()
    if kept is None:
        return amount
    cost = converted(amount, kept.settled_currency, kept.rate)
    values = {
        "id": payout_id, "currency": cost.currency, "amount": cost.amount_minor, "rate": kept.rate,
    }  # fmt: skip
    await session.execute(_FREEZE, values)
    return cost
