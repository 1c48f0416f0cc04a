"""What happened to disputes. ``amount_minor`` is of the whole dispute, in minor units of ``currency``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import OrderId
from supply.settlement.ids import EvidenceId


@event("settlement.dispute_opened")
@dataclass(frozen=True, slots=True)
class DisputeOpened(Event):
    """The provider withdrew the money; the parties' shares are frozen."""

    dispute_id: str
    order_ids: tuple[OrderId, ...]
    amount_minor: int
    currency: str
    at: datetime


@event("settlement.dispute_lost")
@dataclass(frozen=True, slots=True)
class DisputeLost(Event):
    dispute_id: str
    order_ids: tuple[OrderId, ...]
    amount_minor: int
    currency: str
    at: datetime


@event("settlement.dispute_won")
@dataclass(frozen=True, slots=True)
class DisputeWon(Event):
    dispute_id: str
    order_ids: tuple[OrderId, ...]
    amount_minor: int
    currency: str
    at: datetime
    charge_id: str = ""


@event("settlement.evidence_given")
@dataclass(frozen=True, slots=True)
class EvidenceGiven(Event):
    """An answer is to be sent to the provider."""

    evidence_id: EvidenceId
    dispute_id: str
    at: datetime


@event("settlement.dispute_conceded")
@dataclass(frozen=True, slots=True)
class DisputeConceded(Event):
    """The loss is accepted; the provider is to be told."""

    dispute_id: str
    by: str
    at: datetime
