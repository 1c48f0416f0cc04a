from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import BrandId, CommissionLineId
from marketplace.promotion.fraud.ids import HoldId, SignalId


@event("promotion.fraud_signal_raised")
@dataclass(frozen=True, slots=True)
class FraudSignalRaised(Event):
    """A rule found something for the first time; both brands may read what."""

    signal_id: SignalId
    rule: str
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    at: datetime


@event("promotion.commission_held")
@dataclass(frozen=True, slots=True)
class CommissionHeld(Event):
    """These lines are neither confirmed nor payable until the hold is released."""

    commission_line_ids: tuple[CommissionLineId, ...]
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    reason: str
    clears_at: datetime
    at: datetime


@event("promotion.commission_hold_ended")
@dataclass(frozen=True, slots=True)
class CommissionHoldEnded(Event):
    """``upheld``: the line is INVALID; otherwise it goes on. ``by`` is ``clock`` when nobody said anything."""

    hold_id: HoldId
    commission_line_id: CommissionLineId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    upheld: bool
    by: str
    reason: str
    at: datetime
