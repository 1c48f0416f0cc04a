from __future__ import annotations

from dataclasses import dataclass

from core.events import Event, event
from core.ids import StorefrontId


@event("orders.told")
@dataclass(frozen=True, slots=True)
class OrderTold(Event):
    """A shop told something of this order: the order itself, or what happened to it."""

    storefront_id: StorefrontId
    reference: str
