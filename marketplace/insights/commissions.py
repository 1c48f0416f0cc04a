"""Commission lines as both sides of their agreement see them: what each earns, where it stands, when it is paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import AgreementId, BrandId, CommissionLineId, LinkId, OrderId, OrderLineId
from core.money import Money
from core.pagination import Page, PageRequest, page_of
from marketplace.promotion.directory.models import PartnerRole
from marketplace.promotion.models import CommissionStatus, ShareRole

_WAITS = frozenset({CommissionStatus.PENDING, CommissionStatus.CONFIRMED, CommissionStatus.PAYABLE})
_PAGE = text(
    "WITH page AS (SELECT l.id, l.order_id, l.order_line_id, l.agreement_id, l.agreement_version, l.advertiser_id,"
    "  l.promoter_brand_id, l.link_id, l.rule_id, l.rate_ppm, l.fixed_minor, l.currency, l.gross_minor, l.basis_minor,"
    "  l.commission_minor, l.refunded_basis_minor, l.reversed_minor, l.denied_minor, l.status, l.return_window_days,"
    "  l.sold_at, l.expected_pay_at, l.confirmed_at, l.payable_at, l.paid_at, l.invalid_reason, l.new_customer"
    " FROM commission_lines l WHERE (CAST(:me AS uuid) IS NULL"
    "  OR (l.advertiser_id = CAST(:me AS uuid) AND CAST(:side AS text) IS DISTINCT FROM 'PROMOTER')"
    "  OR (l.promoter_brand_id = CAST(:me AS uuid) AND CAST(:side AS text) IS DISTINCT FROM 'ADVERTISER'))"
    " AND (CAST(:status AS text) IS NULL OR l.status = :status)"
    " AND (CAST(:order_id AS uuid) IS NULL OR l.order_id = :order_id)"
    " AND (CAST(:agreement AS uuid) IS NULL OR l.agreement_id = :agreement)"
    " AND (CAST(:after AS uuid) IS NULL OR l.id < :after) ORDER BY l.id DESC LIMIT :limit)"
    " SELECT page.*, (SELECT count(*) FROM commission_holds h WHERE h.commission_line_id = page.id"
    "  AND h.status = 'OPEN') AS holds,"
    " (SELECT jsonb_agg(jsonb_build_array(s.role, s.payee, s.earned_minor, s.earned_minor - s.reversed_minor"
    "  - s.denied_minor) ORDER BY s.position) FROM commission_shares s WHERE s.commission_line_id = page.id) AS shares"
    " FROM page ORDER BY page.id DESC"
)


@dataclass(frozen=True, slots=True)
class Share:
    """``left`` of what was ``earned``: refunds and denials are off."""

    role: ShareRole
    payee: str
    earned: Money
    left: Money


@dataclass(frozen=True, slots=True)
class CommissionRow:
    id: CommissionLineId
    order_id: OrderId
    order_line_id: OrderLineId
    agreement_id: AgreementId
    agreement_version: int
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    link_id: LinkId
    rule_id: str
    rate_ppm: int
    fixed_amount: Money | None
    """A piece, where the rule says an amount instead of the rate."""
    gross: Money
    basis: Money
    commission: Money
    refunded_basis: Money
    reversed: Money
    denied: Money
    status: CommissionStatus
    new_customer: bool
    return_window_days: int
    sold_at: datetime
    expected_pay_at: datetime | None
    """When the statement that will hold it is closed, as far as is known now; of a line that waits for its money."""
    holds: int
    """That are open: each alone keeps it from being paid."""
    confirmed_at: datetime | None
    payable_at: datetime | None
    paid_at: datetime | None
    invalid_reason: str | None
    shares: tuple[Share, ...]


async def commissions_page(
    session: AsyncSession,
    actor: Actor,
    request: PageRequest,
    *,
    side: PartnerRole | None = None,
    status: CommissionStatus | None = None,
    order_id: OrderId | None = None,
    agreement_id: AgreementId | None = None,
) -> Page[CommissionRow]:
    """Of agreements the actor is a side of, newest first. One statement."""
    actor.require("promotion:read")
    values: Mapping[str, Any] = {
        "me": None if actor.sees_everything else actor.brand_id, "side": side.value if side else None,
        "status": status.value if status else None, "order_id": order_id, "agreement": agreement_id,
        "after": CommissionLineId.parse(request.key[0]) if request.key else None, "limit": request.first + 1,
    }  # fmt: skip
    rows = [_commission(row) for row in await session.execute(_PAGE, values)]
    return page_of(rows, request, lambda found: (str(found.id),))


def _commission(row: Row[Any]) -> CommissionRow:
    def money(minor: int) -> Money:
        return Money(minor, row.currency)

    status = CommissionStatus(row.status)
    shares: Sequence[Sequence[Any]] = row.shares
    return CommissionRow(
        CommissionLineId.of(row.id), OrderId.of(row.order_id), OrderLineId.of(row.order_line_id),
        AgreementId.of(row.agreement_id), row.agreement_version, BrandId.of(row.advertiser_id),
        BrandId.of(row.promoter_brand_id), LinkId.of(row.link_id), row.rule_id, row.rate_ppm,
        None if row.fixed_minor is None else money(row.fixed_minor), money(row.gross_minor),
        money(row.basis_minor), money(row.commission_minor), money(row.refunded_basis_minor),
        money(row.reversed_minor), money(row.denied_minor), status,
        row.new_customer, row.return_window_days, row.sold_at,
        row.expected_pay_at if status in _WAITS else None, row.holds, row.confirmed_at, row.payable_at,
        row.paid_at, row.invalid_reason,
        tuple(Share(ShareRole(role), payee, money(earned), money(left)) for role, payee, earned, left in shares),
    )  # fmt: skip
