"""Facts about fulfilment orders go to the supplier's own server.

Queued first, then sent: a crash in between loses nothing, and what the supplier's server does not take is
sent again by the sweep.
"""

from __future__ import annotations

from core.actor import SYSTEM
from core.canonical import content_hash
from core.clock import Clock
from core.events import Event, to_body
from core.ids import SupplierId
from infra.config import Settings
from infra.db.session import Database
from infra.suppliers.endpoint import SupplierEndpoint
from supply.fulfillment import webhooks
from supply.fulfillment.events import (
    FulfillmentCancellationRequested,
    FulfillmentOrderAccepted,
    FulfillmentOrderCancelled,
    FulfillmentOrderDelivered,
    FulfillmentOrderRejected,
    FulfillmentOrderShipped,
    FulfillmentOrderSubmitted,
)


async def on_submitted(
    db: Database,
    event: FulfillmentOrderSubmitted,
    *,
    clock: Clock,
    endpoints: SupplierEndpoint,
    settings: Settings,
) -> None:
    await _tell(db, event, "submitted", clock=clock, endpoints=endpoints, settings=settings)


async def on_accepted(
    db: Database,
    event: FulfillmentOrderAccepted,
    *,
    clock: Clock,
    endpoints: SupplierEndpoint,
    settings: Settings,
) -> None:
    await _tell(db, event, "accepted", clock=clock, endpoints=endpoints, settings=settings)


async def on_rejected(
    db: Database,
    event: FulfillmentOrderRejected,
    *,
    clock: Clock,
    endpoints: SupplierEndpoint,
    settings: Settings,
) -> None:
    await _tell(db, event, "rejected", clock=clock, endpoints=endpoints, settings=settings)


async def on_shipped(
    db: Database,
    event: FulfillmentOrderShipped,
    *,
    clock: Clock,
    endpoints: SupplierEndpoint,
    settings: Settings,
) -> None:
    await _tell(db, event, "shipped", clock=clock, endpoints=endpoints, settings=settings)


async def on_delivered(
    db: Database,
    event: FulfillmentOrderDelivered,
    *,
    clock: Clock,
    endpoints: SupplierEndpoint,
    settings: Settings,
) -> None:
    await _tell(db, event, "delivered", clock=clock, endpoints=endpoints, settings=settings)


async def on_cancellation_requested(
    db: Database,
    event: FulfillmentCancellationRequested,
    *,
    clock: Clock,
    endpoints: SupplierEndpoint,
    settings: Settings,
) -> None:
    await _tell(db, event, "cancellation_requested", clock=clock, endpoints=endpoints, settings=settings)


async def on_cancelled(
    db: Database,
    event: FulfillmentOrderCancelled,
    *,
    clock: Clock,
    endpoints: SupplierEndpoint,
    settings: Settings,
) -> None:
    await _tell(db, event, "cancelled", clock=clock, endpoints=endpoints, settings=settings)


async def _tell(
    db: Database,
    event: FulfillmentOrderSubmitted
    | FulfillmentOrderAccepted
    | FulfillmentOrderRejected
    | FulfillmentOrderShipped
    | FulfillmentOrderDelivered
    | FulfillmentCancellationRequested
    | FulfillmentOrderCancelled,
    what: str,
    *,
    clock: Clock,
    endpoints: SupplierEndpoint,
    settings: Settings,
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        queued = await webhooks.queue(
            session, event.supplier_id, event.fulfillment_order_id,
            event_type=f"fulfillment_order.{what}", key=_key(event, what),
            at=event.at, clock=clock,
        )  # fmt: skip
    if queued:
        await _send_now(db, event.supplier_id, clock=clock, endpoints=endpoints, settings=settings)


async def _send_now(
    db: Database, supplier_id: SupplierId, *, clock: Clock, endpoints: SupplierEndpoint, settings: Settings
) -> None:
    await webhooks.send_due(db, clock=clock, endpoints=endpoints, settings=settings, supplier_id=supplier_id)


def _key(event: Event, what: str) -> str:
    """The same fact has the same key, however often its event is delivered."""
    return f"{what}:{content_hash(to_body(event))[:32]}"
