from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import AgreementId, BrandId, CommissionLineId, DecisionId, LinkId, OrderId


@event("promotion.agreement_changed")
@dataclass(frozen=True, slots=True)
class AgreementChanged(Event):
    """A status or version changed: what the promoter brand may sell may have changed with it."""

    agreement_id: AgreementId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    status: str
    version: int
    at: datetime


@event("promotion.link_created")
@dataclass(frozen=True, slots=True)
class LinkCreated(Event):
    link_id: LinkId
    promoter_brand_id: BrandId


@event("promotion.order_credited")
@dataclass(frozen=True, slots=True)
class OrderCredited(Event):
    """A paid order was judged: its decision is stored, whether or not anybody sold it."""

    order_id: OrderId
    decision_id: DecisionId


@dataclass(frozen=True, slots=True)
class ReversedLine:
    """Minor units of commission and basis that are sold no longer; below zero when a refund came back."""

    commission_line_id: CommissionLineId
    commission_minor: int
    basis_minor: int


@event("promotion.commission_reversed")
@dataclass(frozen=True, slots=True)
class CommissionReversed(Event):
    lines: tuple[ReversedLine, ...]
