"""Re-routing: a refused, timed-out or abandoned order finds another source, or waits for a person.

No supplier is asked twice for the same order line: all of its locations are excluded once it refused. After
three attempts the order is held as ``NO_SOURCE``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import LocationId, OrderLineId, ReservationId, SupplierId, VariantId
from core.money import Money
from supply.fulfillment import service as fulfillment
from supply.fulfillment.events import FulfillmentOrderRejected
from supply.fulfillment.service import NewFulfillmentLine, NewFulfillmentOrder
from supply.fulfillment.state import FulfillmentOrderState, LineState
from supply.inventory import service as inventory
from supply.routing import service as routing
from supply.routing.eligibility import LineFact, OrderNeed
from supply.routing.models import RoutingMode
from supply.routing.router import LineDecision
from supply.routing.service import PlannedRouting

MAX_ATTEMPTS = 3

_TRIED = text("""
SELECT DISTINCT l.order_line_id, k.id AS location_id
FROM fulfillment_lines l
JOIN fulfillment_orders f ON f.id = l.fulfillment_order_id
JOIN locations k ON k.supplier_id = f.supplier_id
WHERE l.order_line_id = ANY(:lines) AND (f.request_status IN ('REJECTED', 'CLOSED') OR l.rejected > 0)
""")


async def on_fulfillment_order_rejected(
    session: AsyncSession, event: FulfillmentOrderRejected, *, clock: Clock
) -> None:
    """Transactional; a repeat finds the order moved or held and does nothing.

    Raises ``InsufficientStock`` when the stock went between looking and holding: the message is tried again.
    """
    fo = await fulfillment.lock_refused(session, event.fulfillment_order_id)
    if fo is None:
        return
    if fo.attempt_no >= MAX_ATTEMPTS:
        await fulfillment.move(session, fo, [], clock=clock)
        return
    now = clock.now()
    planned = await routing.plan(session, await _need(session, fo, now), mode=RoutingMode.REROUTE)
    await routing.record(
        session, planned, order_id=fo.order_id, mode=RoutingMode.REROUTE,
        previous_run=await routing.last_run(session, fo.order_id),
    )  # fmt: skip
    reservations = await _hold(session, fo, planned, now)
    await fulfillment.move(session, fo, _placements(fo, planned, reservations), clock=clock)


async def _need(session: AsyncSession, fo: FulfillmentOrderState, now: datetime) -> OrderNeed:
    lines = fo.outstanding()
    tried = await session.execute(_TRIED, {"lines": [line.order_line_id for line, _ in lines]})
    return OrderNeed(
        lines=tuple(
            LineFact(str(line.order_line_id), str(line.variant_id), quantity, line.weight_g)
            for line, quantity in lines
        ),
        brand_id=str(fo.brand_id),
        dest_zone=fo.dest_zone,
        currency=fo.currency,
        at=now,
        excluded=frozenset(
            (str(OrderLineId.of(r.order_line_id)), str(LocationId.of(r.location_id))) for r in tried
        ),
    )


_Held = dict[tuple[OrderLineId, LocationId], ReservationId]


async def _hold(
    session: AsyncSession, fo: FulfillmentOrderState, planned: PlannedRouting, now: datetime
) -> _Held:
    """The customer has paid: hold and commit at once."""
    variants = {line.order_line_id: line.variant_id for line in fo.lines}
    requests = [
        inventory.StockRequest(line_id, location_id, variants[line_id], decision.quantity)
        for line_id, location_id, decision in _served(planned)
    ]
    held = await inventory.reserve(session, requests, reference=fo.reference, expires_at=now, now=now)
    await inventory.commit(session, list(held.values()), now=now, late_is_fine=True)
    return held


def _served(planned: PlannedRouting) -> list[tuple[OrderLineId, LocationId, LineDecision]]:
    return [
        (OrderLineId.parse(d.line_id), LocationId.parse(d.location_id), d)
        for d in planned.decisions
        if d.location_id is not None
    ]


def _placements(fo: FulfillmentOrderState, planned: PlannedRouting, held: _Held) -> list[NewFulfillmentOrder]:
    lines = {line.order_line_id: line for line in fo.lines}
    by_location: dict[LocationId, list[tuple[OrderLineId, LineDecision]]] = defaultdict(list)
    for line_id, location_id, decision in _served(planned):
        by_location[location_id].append((line_id, decision))
    return [
        NewFulfillmentOrder(
            order_id=fo.order_id,
            reference=fo.reference,
            brand_id=fo.brand_id,
            supplier_id=SupplierId.parse(chosen[0][1].supplier_id or ""),
            location_id=location_id,
            address=fo.address,
            dest_zone=fo.dest_zone,
            freight=Money(freight_of([decision for _, decision in chosen]), fo.currency),
            deliver_by=fo.deliver_by,
            lines=tuple(
                _new_line(lines[line_id], decision, planned, held[line_id, location_id])
                for line_id, decision in chosen
            ),
        )
        for location_id, chosen in by_location.items()
    ]


def freight_of(decisions: Sequence[LineDecision]) -> int:
    """What one shipment costs: base and handling once, and each line's own part. Minor units."""
    costs = [decision.cost for decision in decisions if decision.cost is not None]
    once = max((cost.base_freight_minor + cost.handling_minor for cost in costs), default=0)
    return once + sum(cost.freight_minor for cost in costs)


def _new_line(
    line: LineState, decision: LineDecision, planned: PlannedRouting, reservation_id: ReservationId
) -> NewFulfillmentLine:
    assert decision.cost is not None
    assert decision.offer_id is not None
    unit_cost = Money(decision.cost.goods_minor // decision.quantity, planned.need.currency)
    return NewFulfillmentLine(
        line.order_line_id, VariantId.of(line.variant_id), line.sku, line.title, decision.quantity, unit_cost,
        reservation_id, line.weight_g, planned.price_versions.get(decision.offer_id),
    )  # fmt: skip
