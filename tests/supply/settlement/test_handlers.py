"""What fulfilment tells settlement."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import FixedClock
from core.ids import FulfillmentOrderId, SupplierId, VariantId
from supply.fulfillment.events import (
    FulfillmentOrderDelivered,
    FulfillmentRerouted,
    LineQuantity,
    RoutedChange,
)
from supply.ledger.chart import Code
from supply.settlement import queries
from supply.settlement.composition import Part
from supply.settlement.handlers import on_fulfillment_delivered, on_fulfillment_rerouted
from tests.factories.settlement import PAID_AT, Parties, captured_o1, legs

AT = datetime(2026, 3, 5, tzinfo=UTC)


async def test_the_window_begins_when_the_last_unit_arrives(session: AsyncSession, clock: FixedClock) -> None:
    parties = Parties()
    order = await captured_o1(session, clock, parties)

    async def delivered(at: datetime) -> set[tuple[Part, datetime]]:
        quantity = LineQuantity(order.lines[0].order_line_id, VariantId.new(), 1)
        event = FulfillmentOrderDelivered(
            order.order_id, FulfillmentOrderId.new(), parties.supplier, at, (quantity,), complete=False
        )
        await on_fulfillment_delivered(session, event, clock=clock)
        parts = await queries.parts_of_order(session, order.order_id)
        return {(part.part, part.due_at) for part in parts if part.due_at and part.amount_minor}

    undelivered = PAID_AT + timedelta(days=45)
    assert {due for _, due in await delivered(AT)} == {undelivered}
    assert await delivered(AT + timedelta(days=1)) == {
        (Part.SUPPLIER, AT + timedelta(days=1)),
        *((part, AT + timedelta(days=16)) for part in (Part.MERCHANT, Part.PROMOTER_BRAND, Part.INDIVIDUAL)),
        (Part.PLATFORM_FEE, AT + timedelta(days=16)),
    }


async def test_a_reroute_moves_cost_and_freight(session: AsyncSession, clock: FixedClock) -> None:
    parties = Parties()
    order = await captured_o1(session, clock, parties)
    other, target = SupplierId.new(), FulfillmentOrderId.new()
    change = RoutedChange(order.lines[0].order_line_id, 1, parties.supplier, 2_000, other, 2_150)
    event = FulfillmentRerouted(
        order.order_id, parties.merchant, FulfillmentOrderId.new(), target, "CNY", (change,), 0, 300, AT
    )
    await on_fulfillment_rerouted(session, event, clock=clock)

    assert await legs(session, f"reroute:{target}") == {
        (Code.PENDING, f"party:{parties.supplier}", 2_000),
        (Code.PENDING, f"party:{parties.merchant}", 450),
        (Code.PENDING, f"party:{other}", -2_450),
    }
    assert (await queries.order_identity(session, order.order_id)).holds


async def test_a_delivery_of_an_order_nobody_paid_is_left_alone(
    session: AsyncSession, clock: FixedClock
) -> None:
    event = FulfillmentOrderDelivered(
        order_id=(await captured_o1(session, clock, Parties())).order_id.new(),
        fulfillment_order_id=FulfillmentOrderId.new(), supplier_id=SupplierId.new(), at=AT, lines=(),
        complete=True,
    )  # fmt: skip
    await on_fulfillment_delivered(session, event, clock=clock)
