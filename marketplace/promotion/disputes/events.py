from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import BrandId
from marketplace.promotion.disputes.models import CommissionDisputeId


@event("promotion.commission_dispute_moved")
@dataclass(frozen=True, slots=True)
class CommissionDisputeMoved(Event):
    """Opened, answered, escalated or ended; both brands are told. ``due_at`` is when the next step must be done."""

    dispute_id: CommissionDisputeId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    status: str
    granted_minor: int
    by: str
    due_at: datetime | None
    at: datetime
