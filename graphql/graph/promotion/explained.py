"""Why an order earned what it earned, for either brand to check."""

from __future__ import annotations

from datetime import datetime

import strawberry

from graph.scalars import Money, Ppm
from marketplace.promotion.attribution.decision import RejectReason
from marketplace.promotion.decisions.explanation import (
    AttributionExplained,
    CommissionExplained,
    TouchExplained,
)
from marketplace.promotion.models import CommissionStatus, ShareRole


@strawberry.type(description="A click or scan that was looked at, with what became of it.")
class ExplainedTouch:
    id: strawberry.ID
    at: datetime
    kind: str
    channel: str = strawberry.field(description="How it came to the order: signed, person, cookie or code.")
    agreement_id: strawberry.ID
    agreement_version: int
    placement_id: strawberry.ID
    promoter_id: strawberry.ID | None
    weight_ppm: Ppm = strawberry.field(description="Its share of the award; 0 when rejected.")
    rejected: RejectReason | None

    @classmethod
    def of(cls, touch: TouchExplained) -> ExplainedTouch:
        return cls(
            id=strawberry.ID(str(touch.touch_id)),
            at=touch.at,
            kind=touch.kind,
            channel=touch.channel,
            agreement_id=strawberry.ID(str(touch.agreement_id)),
            agreement_version=touch.agreement_version,
            placement_id=strawberry.ID(str(touch.placement_id)),
            promoter_id=None if touch.promoter_id is None else strawberry.ID(str(touch.promoter_id)),
            weight_ppm=Ppm(touch.weight_ppm),
            rejected=touch.rejected,
        )


@strawberry.type
class ExplainedShare:
    role: ShareRole
    payee: str = strawberry.field(description="A promoter's or brand's id, or `platform`.")
    earned: Money
    reversed: Money


@strawberry.type(description="What one order line earns: rule, basis, commission, and everybody's share.")
class ExplainedCommission:
    id: strawberry.ID
    order_line_id: strawberry.ID
    agreement_id: strawberry.ID
    agreement_version: int
    rule_id: str
    rate_ppm: Ppm
    fixed_amount: Money | None = strawberry.field(
        description="A piece, up to the ceiling both signed; null where the line earns its rate."
    )
    basis: Money
    commission: Money
    refunded_basis: Money
    reversed: Money
    status: CommissionStatus
    return_window_days: int
    shares: list[ExplainedShare]

    @classmethod
    def of(cls, line: CommissionExplained) -> ExplainedCommission:
        return cls(
            id=strawberry.ID(str(line.id)),
            order_line_id=strawberry.ID(str(line.order_line_id)),
            agreement_id=strawberry.ID(str(line.agreement_id)),
            agreement_version=line.agreement_version,
            rule_id=line.rule_id,
            rate_ppm=Ppm(line.rate_ppm),
            fixed_amount=None if line.fixed_amount is None else Money.of(line.fixed_amount),
            basis=Money.of(line.basis),
            commission=Money.of(line.commission),
            refunded_basis=Money.of(line.refunded_basis),
            reversed=Money.of(line.reversed),
            status=line.status,
            return_window_days=line.return_window_days,
            shares=[
                ExplainedShare(
                    role=share.role,
                    payee=share.payee,
                    earned=Money.of(share.earned),
                    reversed=Money.of(share.reversed),
                )
                for share in line.shares
            ],
        )


@strawberry.type(
    description="The stored decision. `input` and `amounts` are the exact texts that were hashed: whoever"
    " decides again from them finds `inputHash`, `amountsHash` and `resultHash`."
)
class ExplainedAttribution:
    decision_id: strawberry.ID
    order_id: strawberry.ID
    rule_version: str
    decided_at: datetime
    input: str
    input_hash: str
    amounts: str
    amounts_hash: str
    result_hash: str
    verified: bool = strawberry.field(description="Decided again just now, with the same three hashes.")
    touches: list[ExplainedTouch] = strawberry.field(description="Oldest first.")
    lines: list[ExplainedCommission] = strawberry.field(description="Those of the caller's agreements.")

    @classmethod
    def of(cls, told: AttributionExplained) -> ExplainedAttribution:
        return cls(
            decision_id=strawberry.ID(str(told.decision_id)),
            order_id=strawberry.ID(str(told.order_id)),
            rule_version=told.rule_version,
            decided_at=told.decided_at,
            input=told.input,
            input_hash=told.input_hash,
            amounts=told.amounts,
            amounts_hash=told.amounts_hash,
            result_hash=told.result_hash,
            verified=told.verified,
            touches=[ExplainedTouch.of(touch) for touch in told.touches],
            lines=[ExplainedCommission.of(line) for line in told.lines],
        )
