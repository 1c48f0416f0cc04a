"""Reads of fraud. The advertiser and the promoter brand see what concerns them; row-level security sees to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import (
    AgreementId,
    BrandId,
    CommissionLineId,
    LinkId,
    OrderId,
    OrderLineId,
    PlacementId,
    PromoterId,
    TouchId,
)
from core.money import Money
from core.pagination import Page, PageRequest, page_of
from marketplace.promotion.coupons.models import CouponId
from marketplace.promotion.fraud.errors import HoldNotFound, SignalNotFound
from marketplace.promotion.fraud.ids import HoldId, SignalId
from marketplace.promotion.fraud.models import HoldStatus, SignalStatus
from marketplace.promotion.fraud.signals import Action, Rule

_SIGNAL = (
    "SELECT s.* FROM fraud_signals s WHERE (:everything OR :brand IN (s.advertiser_id, s.promoter_brand_id))"
)
_SIGNALS = text(
    f"{_SIGNAL} AND (CAST(:status AS text) IS NULL OR s.status = :status)"
    " AND (CAST(:rule AS text) IS NULL OR s.rule = :rule)"
    " AND (CAST(:after AS uuid) IS NULL OR s.id < :after) ORDER BY s.id DESC LIMIT :limit"
)
_ONE_SIGNAL = text(f"{_SIGNAL} AND s.id = :id")
_HOLD = (
    "SELECT h.*, l.currency, l.commission_minor - l.reversed_minor - l.denied_minor AS held_minor"
    " FROM commission_holds h JOIN commission_lines l ON l.id = h.commission_line_id"
    " WHERE (:everything OR :brand IN (h.advertiser_id, h.promoter_brand_id))"
)
# The queue is read from its oldest end: those that clear first come first.
_HOLDS = text(
    f"{_HOLD} AND (CAST(:status AS text) IS NULL OR h.status = :status)"
    " AND (CAST(:order AS uuid) IS NULL OR h.order_id = :order)"
    " AND (CAST(:after AS uuid) IS NULL OR h.id > :after) ORDER BY h.id LIMIT :limit"
)
_ONE_HOLD = text(f"{_HOLD} AND h.id = :id")
_HOLDS_OF = text(f"{_HOLD} AND h.signal_id = ANY(:signals) ORDER BY h.id")
_SIGNALS_OF = text(f"{_SIGNAL} AND s.id = ANY(:ids)")
_EXCLUDED = text(
    "SELECT signal_id, count(*) FILTER (WHERE lifted_at IS NULL) AS touches FROM excluded_touches"
    " WHERE signal_id = ANY(:signals) GROUP BY signal_id"
)


@dataclass(frozen=True, slots=True)
class SignalView:
    """``evidence`` and ``threshold`` are what the rule saw and held it against: figures and ids."""

    id: SignalId
    rule: Rule
    rule_version: str
    action: Action
    status: SignalStatus
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    agreement_id: AgreementId
    promoter_id: PromoterId | None
    placement_id: PlacementId | None
    link_id: LinkId | None
    touch_id: TouchId | None
    order_id: OrderId | None
    coupon_id: CouponId | None
    evidence: Mapping[str, Any]
    threshold: Mapping[str, Any]
    detected_at: datetime
    seen_at: datetime
    window_until: datetime | None
    decided_at: datetime | None
    decision: str | None


@dataclass(frozen=True, slots=True)
class HoldView:
    """``held`` is what the line's payees would get."""

    id: HoldId
    commission_line_id: CommissionLineId
    order_id: OrderId
    order_line_id: OrderLineId
    signal_id: SignalId | None
    opened_by: str
    reason: str
    status: HoldStatus
    held: Money
    opened_at: datetime
    clears_at: datetime
    ended_at: datetime | None
    decision: str | None


async def signals_page(
    session: AsyncSession,
    actor: Actor,
    request: PageRequest,
    *,
    status: SignalStatus | None = None,
    rule: Rule | None = None,
) -> Page[SignalView]:
    """Newest first."""
    wanted = {**_of(actor), "status": status, "rule": rule, **_keyset(request)}
    rows = [_signal(row) for row in await session.execute(_SIGNALS, wanted)]
    return page_of(rows, request, lambda found: (found.id.hex,))


async def signal(session: AsyncSession, actor: Actor, signal_id: SignalId) -> SignalView:
    """Raises ``SignalNotFound`` for one of others."""
    row = (await session.execute(_ONE_SIGNAL, {**_of(actor), "id": signal_id})).one_or_none()
    if row is None:
        raise SignalNotFound("no such signal", field="id")
    return _signal(row)


async def signals_named(
    session: AsyncSession, actor: Actor, ids: Sequence[SignalId]
) -> dict[SignalId, SignalView]:
    rows = await session.execute(_SIGNALS_OF, {**_of(actor), "ids": list(ids)})
    return {found.id: found for found in map(_signal, rows)}


async def holds_page(
    session: AsyncSession,
    actor: Actor,
    request: PageRequest,
    *,
    status: HoldStatus | None = None,
    order_id: OrderId | None = None,
) -> Page[HoldView]:
    """Oldest first: what clears next is decided next."""
    wanted = {**_of(actor), "status": status, "order": order_id, **_keyset(request)}
    rows = [_hold(row) for row in await session.execute(_HOLDS, wanted)]
    return page_of(rows, request, lambda found: (found.id.hex,))


async def hold(session: AsyncSession, actor: Actor, hold_id: HoldId) -> HoldView:
    """Raises ``HoldNotFound`` for one of others."""
    row = (await session.execute(_ONE_HOLD, {**_of(actor), "id": hold_id})).one_or_none()
    if row is None:
        raise HoldNotFound("no such hold", field="id")
    return _hold(row)


async def holds_of_signals(
    session: AsyncSession, actor: Actor, ids: Sequence[SignalId]
) -> dict[SignalId, list[HoldView]]:
    found: dict[SignalId, list[HoldView]] = {}
    for row in await session.execute(_HOLDS_OF, {**_of(actor), "signals": list(ids)}):
        found.setdefault(SignalId.of(row.signal_id), []).append(_hold(row))
    return found


async def excluded_counts(session: AsyncSession, ids: Sequence[SignalId]) -> dict[SignalId, int]:
    """How many clicks each of these signals excludes now, of those the caller may see."""
    rows = await session.execute(_EXCLUDED, {"signals": list(ids)})
    return {SignalId.of(row.signal_id): row.touches for row in rows}


def _of(actor: Actor) -> dict[str, Any]:
    everything = actor.sees_everything
    return {"everything": everything, "brand": None if everything else actor.brand_id}


def _keyset(request: PageRequest) -> dict[str, Any]:
    return {"after": UUID(request.key[0]) if request.key else None, "limit": request.first + 1}


def _signal(row: Row[Any]) -> SignalView:
    def optional(kind: Any, value: Any) -> Any:
        return None if value is None else kind.of(value)

    in_person = row.promoter != row.promoter_brand_id
    return SignalView(
        id=SignalId.of(row.id),
        rule=Rule(row.rule),
        rule_version=row.rule_version,
        action=Action(row.action),
        status=SignalStatus(row.status),
        advertiser_id=BrandId.of(row.advertiser_id),
        promoter_brand_id=BrandId.of(row.promoter_brand_id),
        agreement_id=AgreementId.of(row.agreement_id),
        promoter_id=PromoterId.of(row.promoter) if in_person else None,
        placement_id=optional(PlacementId, row.placement_id),
        link_id=optional(LinkId, row.link_id),
        touch_id=optional(TouchId, row.touch_id),
        order_id=optional(OrderId, row.order_id),
        coupon_id=optional(CouponId, row.coupon_id),
        evidence=row.evidence,
        threshold=row.threshold,
        detected_at=row.detected_at,
        seen_at=row.seen_at,
        window_until=row.window_until,
        decided_at=row.decided_at,
        decision=row.decision,
    )


def _hold(row: Row[Any]) -> HoldView:
    return HoldView(
        HoldId.of(row.id), CommissionLineId.of(row.commission_line_id), OrderId.of(row.order_id),
        OrderLineId.of(row.order_line_id), None if row.signal_id is None else SignalId.of(row.signal_id),
        row.opened_by, row.reason, HoldStatus(row.status), Money(row.held_minor, row.currency), row.opened_at,
        row.clears_at, row.ended_at, row.decision,
    )  # fmt: skip
