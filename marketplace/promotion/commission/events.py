from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import BrandId, CommissionLineId, OrderId


@event("promotion.commission_invalidated")
@dataclass(frozen=True, slots=True)
class CommissionInvalidated(Event):
    """A line was found not earned, for a reason both brands are told."""

    commission_line_id: CommissionLineId
    order_id: OrderId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    reason: str
    at: datetime


@event("promotion.commission_reinstated")
@dataclass(frozen=True, slots=True)
class CommissionReinstated(Event):
    """A line that had been found invalid is earned after all."""

    commission_line_id: CommissionLineId
    order_id: OrderId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    reason: str
    at: datetime
