from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import OrderId, RefundId
from supply.settlement.rails.ids import RailRequestId


@event("settlement.rail_shared")
@dataclass(frozen=True, slots=True)
class RailShared(Event):
    """The rail paid these payees their parts of an order."""

    request_id: RailRequestId
    order_id: OrderId
    payee_ids: tuple[str, ...]
    at: datetime


@event("settlement.rail_refused")
@dataclass(frozen=True, slots=True)
class RailRefused(Event):
    """The rail did not pay these payees and asking again by itself is over: somebody has to decide."""

    request_id: RailRequestId
    order_id: OrderId
    payee_ids: tuple[str, ...]
    reason: str
    at: datetime


@event("settlement.rail_lost")
@dataclass(frozen=True, slots=True)
class RailLost(Event):
    """The freeze ended first: what was not paid went to the merchant, who owes it outside the rail."""

    order_id: OrderId
    payee_ids: tuple[str, ...]
    at: datetime


@event("settlement.rail_refund_settled")
@dataclass(frozen=True, slots=True)
class RailRefundSettled(Event):
    refund_id: RefundId
    order_id: OrderId
    amount_minor: int
    at: datetime


@event("settlement.rail_refund_refused")
@dataclass(frozen=True, slots=True)
class RailRefundRefused(Event):
    """The rail did not refund: somebody has to decide."""

    refund_id: RefundId
    order_id: OrderId
    reason: str
    at: datetime
