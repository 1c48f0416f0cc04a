"""What went back of an advertiser's past orders, in the sequence in which it did: for the replay under other terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, OrderId, OrderLineId
from marketplace.promotion.agreements.counters import read_keys
from marketplace.promotion.agreements.limits import CAMPAIGN_BUDGET
from marketplace.promotion.models import ShareRole

# Of orders credited in the period, however late; and of earlier ones as far as they freed a budget in it.
_OF_LINES = text(
    "SELECT r.reversed_at, l.order_line_id, l.currency, l.promoter_brand_id, l.basis_minor,"
    " l.commission_minor - l.denied_minor AS commission_minor, l.created_at < :since AS earlier,"
    " l.counters::text AS counters, max(r.refunded_basis_minor) AS refunded_minor,"
    " sum(r.amount_minor)::bigint AS amount_minor,"
    " jsonb_agg(jsonb_build_array(s.role, s.payee, r.amount_minor) ORDER BY s.position) AS shares"
    " FROM commission_lines l JOIN commission_reversals r ON r.commission_line_id = l.id"
    " JOIN commission_shares s ON s.commission_line_id = l.id AND s.position = r.position"
    " WHERE l.advertiser_id = :advertiser AND l.created_at < :until AND r.reversed_at >= :since"
    " AND (l.created_at >= :since OR l.counters <> '[]') GROUP BY r.refund_id, r.reversed_at, l.id"
    " ORDER BY r.reversed_at, r.refund_id, l.id"
)
# Of what nobody had sold there is no record by lines: it goes back in proportion to what was paid.
_OF_ORDERS = text(
    "SELECT r.settled_at, r.order_id, r.amount_minor, o.total_minor FROM refunds r JOIN orders o ON o.id = r.order_id"
    " WHERE o.merchant_id = :advertiser AND r.status = 'succeeded' AND r.settled_at >= :since AND EXISTS (SELECT"
    "  FROM attribution_decisions d WHERE d.order_id = o.id AND d.decided_at >= :since AND d.decided_at < :until)"
    " ORDER BY r.settled_at, r.id"
)


@dataclass(frozen=True, slots=True)
class ShareBack:
    role: ShareRole
    payee: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class LineBack:
    """One refund of one line that somebody had sold. ``amount_minor`` of its ``commission_minor`` went back then, below
    zero when a refund failed; ``refunded_minor`` of the basis had by then, 0 where only the amount is known.

    ``earlier``: the line was credited before the period, and counts in the budget of ``campaign_id``.
    """

    at: datetime
    order_line_id: str
    currency: str
    promoter_brand_id: str
    basis_minor: int
    commission_minor: int
    refunded_minor: int
    amount_minor: int
    shares: tuple[ShareBack, ...]
    earlier: bool
    campaign_id: str | None


@dataclass(frozen=True, slots=True)
class OrderBack:
    """One refund of one order: ``amount_minor`` of ``total_minor``."""

    at: datetime
    order_id: str
    amount_minor: int
    total_minor: int


PastRefund = LineBack | OrderBack


async def past_refunds(
    session: AsyncSession, advertiser_id: BrandId, since: datetime, until: datetime
) -> list[PastRefund]:
    """In time; of orders credited in [since, until), up to now. Two statements."""
    period = {"advertiser": advertiser_id, "since": since, "until": until}
    lines: list[PastRefund] = [
        LineBack(
            row.reversed_at, str(OrderLineId.of(row.order_line_id)), row.currency,
            str(BrandId.of(row.promoter_brand_id)), row.basis_minor, row.commission_minor, row.refunded_minor,
            row.amount_minor, _shares(row.shares), row.earlier, _campaign(row.counters),
        )
        for row in await session.execute(_OF_LINES, period)
    ]  # fmt: skip
    orders = [
        OrderBack(row.settled_at, str(OrderId.of(row.order_id)), row.amount_minor, row.total_minor)
        for row in await session.execute(_OF_ORDERS, period)
    ]
    return sorted([*lines, *orders], key=lambda each: each.at)


def _shares(rows: Sequence[tuple[str, str, int]]) -> tuple[ShareBack, ...]:
    return tuple([ShareBack(ShareRole(role), payee, amount) for role, payee, amount in rows])


def _campaign(counters: str) -> str | None:
    return next((key.promoter for key in read_keys(counters) if key.kind == CAMPAIGN_BUDGET), None)
