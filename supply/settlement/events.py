from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import OrderId, OrderLineId, PayoutId, RefundId, StatementId


@event("settlement.refund_settled")
@dataclass(frozen=True, slots=True)
class RefundBooked(Event):
    """The provider paid the refund out and the books say so."""

    refund_id: RefundId
    order_id: OrderId
    amount_minor: int
    currency: str
    at: datetime


@event("settlement.refund_voided")
@dataclass(frozen=True, slots=True)
class RefundVoided(Event):
    """The provider could not pay the refund; every party has its part back."""

    refund_id: RefundId
    order_id: OrderId
    at: datetime


@event("settlement.payout_paid")
@dataclass(frozen=True, slots=True)
class PayoutPaid(Event):
    payout_id: PayoutId
    payee_id: str
    amount_minor: int
    currency: str
    at: datetime


@event("settlement.payout_refused")
@dataclass(frozen=True, slots=True)
class PayoutRefused(Event):
    """The amount is available again and part of the next batch."""

    payout_id: PayoutId
    payee_id: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StatementRef:
    """``cutoff`` is the ledger's horizon: entries of transactions from it on are not in the statement."""

    statement_id: StatementId
    payee_id: str
    currency: str
    period_to: datetime
    cutoff: str


@event("settlement.statements_closed")
@dataclass(frozen=True, slots=True)
class StatementsClosed(Event):
    """Up to a thousand parties at once."""

    statements: tuple[StatementRef, ...]
    at: datetime


@event("settlement.commission_released")
@dataclass(frozen=True, slots=True)
class CommissionReleased(Event):
    """The return window of commissions is over; ``txid`` is the ledger's transaction that released them."""

    order_line_ids: tuple[OrderLineId, ...]
    txid: int
    at: datetime
