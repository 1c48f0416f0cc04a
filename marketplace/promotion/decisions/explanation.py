"""Why an order earned what it earned: the stored decision, every touch with its fate, and the proof."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import (
    AgreementId,
    CommissionLineId,
    DecisionId,
    OrderId,
    OrderLineId,
    PlacementId,
    PromoterId,
    TouchId,
)
from core.money import Money
from marketplace.promotion.attribution.crediting import recompute
from marketplace.promotion.attribution.decision import RejectReason, decide
from marketplace.promotion.errors import DecisionNotFound
from marketplace.promotion.facts import TouchFact, read_inputs
from marketplace.promotion.models import CommissionStatus, ShareRole

_DECISION = text(
    "SELECT id, order_id, advertiser_id, rule_version, input, input_hash, amounts, amounts_hash, result_hash,"
    " decided_at FROM attribution_decisions WHERE order_id = :order"
    " AND (:everything OR advertiser_id = :brand OR :brand = ANY(promoter_brand_ids))"
)
_LINES = text(
    "SELECT l.id, l.order_line_id, l.agreement_id, l.agreement_version, l.rule_id, l.rate_ppm, l.fixed_minor,"
    " l.currency, l.basis_minor, l.commission_minor, l.refunded_basis_minor, l.reversed_minor, l.status,"
    " l.return_window_days, s.role, s.payee, s.earned_minor, s.reversed_minor AS share_reversed"
    " FROM commission_lines l JOIN commission_shares s ON s.commission_line_id = l.id"
    " WHERE l.order_id = :order AND (:everything OR l.advertiser_id = :brand OR l.promoter_brand_id = :brand)"
    " ORDER BY l.id, s.position"
)


@dataclass(frozen=True, slots=True)
class TouchExplained:
    """``weight_ppm`` of a winner, or the reason of a rejected touch; never both."""

    touch_id: TouchId
    at: datetime
    kind: str
    channel: str
    agreement_id: AgreementId
    agreement_version: int
    placement_id: PlacementId
    promoter_id: PromoterId | None
    weight_ppm: int
    rejected: RejectReason | None


@dataclass(frozen=True, slots=True)
class ShareExplained:
    role: ShareRole
    payee: str
    earned: Money
    reversed: Money


@dataclass(frozen=True, slots=True)
class CommissionExplained:
    id: CommissionLineId
    order_line_id: OrderLineId
    agreement_id: AgreementId
    agreement_version: int
    rule_id: str
    rate_ppm: int
    fixed_amount: Money | None
    """A piece, where the rule says an amount instead of the rate."""
    basis: Money
    commission: Money
    refunded_basis: Money
    reversed: Money
    status: CommissionStatus
    return_window_days: int
    shares: tuple[ShareExplained, ...]


@dataclass(frozen=True, slots=True)
class AttributionExplained:
    """``verified``: deciding again from the stored inputs, now, gave the stored hashes."""

    decision_id: DecisionId
    order_id: OrderId
    rule_version: str
    decided_at: datetime
    input: str
    input_hash: str
    amounts: str
    amounts_hash: str
    result_hash: str
    verified: bool
    touches: tuple[TouchExplained, ...]
    """Oldest first."""
    lines: tuple[CommissionExplained, ...]
    """Of the actor's own agreements; the platform sees all."""


async def explain_attribution(session: AsyncSession, actor: Actor, order_id: OrderId) -> AttributionExplained:
    """For the advertiser, any promoter brand whose touch was judged, and the platform. Two statements.

    Raises ``DecisionNotFound``.
    """
    who = {
        "order": order_id,
        "everything": actor.sees_everything,
        "brand": None if actor.sees_everything else actor.brand_id,
    }
    row = (await session.execute(_DECISION, who)).first()
    if row is None:
        raise DecisionNotFound("this order was not attributed, or not to you", field="orderId")
    again = recompute(row.input, row.amounts)
    proven = (again.input_hash, again.amounts_hash, again.result_hash) == (
        row.input_hash,
        row.amounts_hash,
        row.result_hash,
    )
    return AttributionExplained(
        decision_id=DecisionId.of(row.id),
        order_id=order_id,
        rule_version=row.rule_version,
        decided_at=row.decided_at,
        input=row.input,
        input_hash=row.input_hash,
        amounts=row.amounts,
        amounts_hash=row.amounts_hash,
        result_hash=row.result_hash,
        verified=proven,
        touches=_touches(row.input),
        lines=_lines((await session.execute(_LINES, who)).all()),
    )


def _touches(input_text: str) -> tuple[TouchExplained, ...]:
    order, touches, agreements = read_inputs(input_text)
    decision = decide(order, touches, agreements)
    weights = {winner.touch_id: winner.weight_ppm for winner in decision.winners}
    reasons = {touch.touch_id: touch.reason for touch in decision.rejected}
    return tuple(
        _touch(touch, weights.get(touch.id, 0), reasons.get(touch.id))
        for touch in sorted(touches, key=lambda each: (each.touch_at, each.id))
    )


def _touch(touch: TouchFact, weight_ppm: int, reason: RejectReason | None) -> TouchExplained:
    return TouchExplained(
        touch_id=TouchId.parse(touch.id),
        at=touch.touch_at,
        kind=touch.kind,
        channel=touch.channel,
        agreement_id=AgreementId.parse(touch.agreement_id),
        agreement_version=touch.agreement_version,
        placement_id=PlacementId.parse(touch.placement_id),
        promoter_id=None if touch.promoter_id is None else PromoterId.parse(touch.promoter_id),
        weight_ppm=weight_ppm,
        rejected=reason,
    )


def _lines(rows: Any) -> tuple[CommissionExplained, ...]:
    heads: dict[Any, Any] = {}
    shares: dict[Any, list[ShareExplained]] = {}
    for row in rows:
        heads[row.id] = row
        shares.setdefault(row.id, []).append(
            ShareExplained(
                ShareRole(row.role),
                row.payee,
                Money(row.earned_minor, row.currency),
                Money(row.share_reversed, row.currency),
            )
        )
    return tuple(
        CommissionExplained(
            id=CommissionLineId.of(row.id),
            order_line_id=OrderLineId.of(row.order_line_id),
            agreement_id=AgreementId.of(row.agreement_id),
            agreement_version=row.agreement_version,
            rule_id=row.rule_id,
            rate_ppm=row.rate_ppm,
            fixed_amount=None if row.fixed_minor is None else Money(row.fixed_minor, row.currency),
            basis=Money(row.basis_minor, row.currency),
            commission=Money(row.commission_minor, row.currency),
            refunded_basis=Money(row.refunded_basis_minor, row.currency),
            reversed=Money(row.reversed_minor, row.currency),
            status=CommissionStatus(row.status),
            return_window_days=row.return_window_days,
            shares=tuple(shares[row.id]),
        )
        for row in heads.values()
    )
