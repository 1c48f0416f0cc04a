"""A campaign's budget counts in the database: what its sales earn is reserved, and spent once it is confirmed.

The budget's row is locked before an order's commission is computed, so that what the order is promised is there; one
guarded UPDATE then takes it. Orders of one campaign with a budget take turns; others do not. Every commission line
keeps a reservation of its own, so that it makes no difference in which order it is confirmed and reversed:
reserved + spent is always the sum of the reservations, plus what retroactive tiers (R5) owed at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, CommissionLineId, OrderId, OrderLineId
from infra import outbox
from marketplace.promotion.agreements.limits import BudgetLeft
from marketplace.promotion.events import CampaignBudgetUsedUp, CommissionReversed
from marketplace.promotion.ids import CampaignId
from supply.settlement.commission_progress import pending_lines
from supply.settlement.events import CommissionReleased

# By advertiser, as a capture goes through the orders of a checkout.
_HOLD = text(
    "SELECT campaign_id, limit_minor, mode, limit_minor - reserved_minor - spent_minor AS left_minor"
    " FROM campaign_budgets WHERE campaign_id = ANY(:campaigns) ORDER BY advertiser_id, campaign_id FOR NO KEY UPDATE"
)
_HOLD_OF_LINES = text(
    "SELECT b.campaign_id FROM campaign_budgets b WHERE b.campaign_id IN (SELECT r.campaign_id"
    " FROM budget_reservations r WHERE r.commission_line_id = ANY(:lines))"
    " ORDER BY b.advertiser_id, b.campaign_id FOR NO KEY UPDATE OF b"
)
# The reservation: it happens wholly, or the order is credited again.
_TAKE = text(
    "WITH line AS (SELECT * FROM unnest(CAST(:lines AS uuid[]), CAST(:campaigns AS uuid[]), CAST(:amounts AS bigint[]))"
    "  AS l (id, campaign_id, amount)),"
    " kept AS (INSERT INTO budget_reservations (commission_line_id, campaign_id, amount_minor, spent)"
    "  SELECT id, campaign_id, amount, false FROM line),"
    " owed AS (SELECT * FROM unnest(CAST(:owing AS uuid[]), CAST(:owed AS bigint[])) AS o (campaign_id, amount)),"
    " taken AS (SELECT campaign_id, sum(reserved)::bigint AS reserved, sum(spent)::bigint AS spent FROM"
    "  (SELECT campaign_id, amount AS reserved, 0 AS spent FROM line"
    "   UNION ALL SELECT campaign_id, 0, amount FROM owed) each GROUP BY campaign_id)"
    " UPDATE campaign_budgets b SET reserved_minor = b.reserved_minor + t.reserved,"
    " spent_minor = b.spent_minor + t.spent FROM taken t WHERE b.campaign_id = t.campaign_id"
    " AND (t.reserved + t.spent = 0 OR b.reserved_minor + b.spent_minor + t.reserved + t.spent <= b.limit_minor)"
    " RETURNING b.campaign_id, b.limit_minor - b.reserved_minor - b.spent_minor AS left_minor"
)
# ``was`` is the reservation as the statement found it.
_FREE = text(
    "WITH freed AS (SELECT * FROM unnest(CAST(:lines AS uuid[]), CAST(:amounts AS bigint[])) AS f (id, amount)),"
    " moved AS (UPDATE budget_reservations r SET amount_minor = greatest(r.amount_minor - f.amount, 0)"
    "  FROM freed f, budget_reservations was, campaigns c WHERE r.commission_line_id = f.id"
    "  AND was.commission_line_id = f.id AND c.id = r.campaign_id AND c.status IN ('ACTIVE', 'PAUSED')"
    "  AND coalesce(c.ends_at > :now, true)"
    "  RETURNING r.campaign_id, r.spent, r.amount_minor - was.amount_minor AS amount)"
    " UPDATE campaign_budgets b SET reserved_minor = b.reserved_minor + m.reserved,"
    " spent_minor = b.spent_minor + m.spent FROM"
    " (SELECT campaign_id, coalesce(sum(amount) FILTER (WHERE NOT spent), 0)::bigint AS reserved,"
    "  coalesce(sum(amount) FILTER (WHERE spent), 0)::bigint AS spent FROM moved GROUP BY campaign_id) m"
    " WHERE b.campaign_id = m.campaign_id RETURNING b.campaign_id"
)
_SPEND = text(
    "WITH moved AS (UPDATE budget_reservations r SET spent = :spent WHERE r.commission_line_id = ANY(:lines)"
    "  AND r.spent <> :spent RETURNING r.campaign_id, CASE WHEN r.spent THEN r.amount_minor ELSE -r.amount_minor END"
    "  AS amount),"
    " sums AS (SELECT campaign_id, sum(amount)::bigint AS amount FROM moved GROUP BY campaign_id)"
    " UPDATE campaign_budgets b SET reserved_minor = b.reserved_minor - s.amount,"
    " spent_minor = b.spent_minor + s.amount FROM sums s WHERE b.campaign_id = s.campaign_id"
)
_LINES_OF_ORDER_LINES = text(
    "SELECT id, order_id, order_line_id FROM commission_lines WHERE order_line_id = ANY(:order_lines)"
)
_MARK = text(
    "UPDATE campaigns c SET used_up = NOT c.used_up FROM campaign_budgets b"
    " WHERE b.campaign_id = c.id AND c.id = ANY(:campaigns)"
    " AND c.used_up <> (b.reserved_minor + b.spent_minor >= b.limit_minor) RETURNING c.id, c.advertiser_id, c.used_up"
)


class BudgetMoved(RuntimeError):
    """A budget changed under its lock: never happens, and nothing may be promised if it does."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one commission line of an order takes of a campaign's budget."""

    commission_line_id: CommissionLineId
    campaign_id: CampaignId
    amount_minor: int


async def hold(session: AsyncSession, campaign_ids: Collection[CampaignId]) -> dict[CampaignId, BudgetLeft]:
    """Lock the budgets until the transaction ends, and tell what is left. One statement, none without campaigns."""
    if not campaign_ids:
        return {}
    rows = await session.execute(_HOLD, {"campaigns": sorted(campaign_ids)})
    return {
        CampaignId.of(row.campaign_id): BudgetLeft(
            str(CampaignId.of(row.campaign_id)), row.limit_minor, row.left_minor, row.mode
        )
        for row in rows
    }


async def reserve(
    session: AsyncSession, taken: Sequence[Taken], owed: Mapping[CampaignId, int], *, clock: Clock
) -> None:
    """R4: what an order earned is promised, in one guarded statement. Raises ``BudgetMoved``.

    ``owed`` is by campaign what its retroactive tiers owe for earlier orders: spent at once.
    """
    campaigns = {each.campaign_id for each in taken} | set(owed)
    if not campaigns:
        return
    values = {
        "lines": [each.commission_line_id for each in taken],
        "campaigns": [each.campaign_id for each in taken],
        "amounts": [each.amount_minor for each in taken],
        "owing": list(owed), "owed": list(owed.values()),
    }  # fmt: skip
    counted = (await session.execute(_TAKE, values)).all()
    if len(counted) != len(campaigns):
        raise BudgetMoved("a budget moved while an order of its campaign was credited")
    await mark_used_up(session, [row.campaign_id for row in counted if row.left_minor <= 0], clock=clock)


async def mark_used_up(session: AsyncSession, campaign_ids: Collection[Any], *, clock: Clock) -> None:
    """Note at the campaign whether anything is left of its budget, and tell when it just came to nothing."""
    if not campaign_ids:
        return
    for row in await session.execute(_MARK, {"campaigns": list(campaign_ids)}):
        if row.used_up:
            used_up = CampaignBudgetUsedUp(CampaignId.of(row.id), BrandId.of(row.advertiser_id), clock.now())
            await outbox.record(session, used_up)


async def on_commission_reversed(session: AsyncSession, event: CommissionReversed, *, clock: Clock) -> None:
    """A reversal gives its part of the budget back while the campaign runs; restored money takes it again."""
    lines = [line.commission_line_id for line in event.lines]
    if not (await session.execute(_HOLD_OF_LINES, {"lines": lines})).all():
        return
    values = {"lines": lines, "amounts": [line.commission_minor for line in event.lines], "now": clock.now()}
    moved = (await session.execute(_FREE, values)).scalars().all()
    await mark_used_up(session, moved, clock=clock)


async def on_commission_released(session: AsyncSession, event: CommissionReleased, *, clock: Clock) -> None:
    """Its return window is over: what was reserved is spent."""
    lines = await _lines_with_budget(session, event.order_line_ids)
    # A hold may have taken the money back to pending since; it waited for the budget, so that this read sees it.
    pending = await pending_lines(session, [OrderId.of(line.order_id) for line in lines])
    spent = [line.id for line in lines if OrderLineId.of(line.order_line_id) not in pending]
    await session.execute(_SPEND, {"lines": spent, "spent": True})


async def reserve_again(session: AsyncSession, order_line_ids: Sequence[OrderLineId]) -> None:
    """The money of these lines went back to pending: nothing of them is spent any more."""
    lines = await _lines_with_budget(session, order_line_ids)
    await session.execute(_SPEND, {"lines": [line.id for line in lines], "spent": False})


async def _lines_with_budget(session: AsyncSession, order_line_ids: Sequence[OrderLineId]) -> Sequence[Any]:
    """The commission lines of these order lines, their budgets locked; none where no budget is involved."""
    lines = (await session.execute(_LINES_OF_ORDER_LINES, {"order_lines": list(order_line_ids)})).all()
    held = (await session.execute(_HOLD_OF_LINES, {"lines": [line.id for line in lines]})).all()
    return lines if held else ()
