from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import AgreementId, BrandId, CommissionLineId, DecisionId, LinkId, OrderId
from marketplace.promotion.ids import CampaignId, CampaignOfferId


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


@event("promotion.agreement_end_announced")
@dataclass(frozen=True, slots=True)
class AgreementEndAnnounced(Event):
    """Notice was given: from ``ends_at`` on no touch qualifies any more. ``by`` is empty for the platform."""

    agreement_id: AgreementId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    by: BrandId | None
    reason: str
    ends_at: datetime
    at: datetime


@event("promotion.campaign_changed")
@dataclass(frozen=True, slots=True)
class CampaignChanged(Event):
    """Its status or its dates: whether touches of its agreements qualify may have changed with it."""

    campaign_id: CampaignId
    advertiser_id: BrandId
    status: str
    at: datetime


@event("promotion.campaign_budget_used_up")
@dataclass(frozen=True, slots=True)
class CampaignBudgetUsedUp(Event):
    """Nothing is left of it: until some comes back or the advertiser adds, sales of its agreements earn nothing."""

    campaign_id: CampaignId
    advertiser_id: BrandId
    at: datetime


@event("promotion.offer_published")
@dataclass(frozen=True, slots=True)
class OfferPublished(Event):
    offer_id: CampaignOfferId
    advertiser_id: BrandId
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
