from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import FixedClock
from core.errors import Conflict
from core.ids import BrandId, FulfillmentOrderId, OrderId, SupplierId, VariantId
from infra.db.session import Database
from supply.fulfillment import queries, service
from supply.fulfillment.errors import (
    CancellationNotRefusable,
    FulfillmentOrderNotFound,
    NothingSelected,
    QuantityNotOutstanding,
    TrackingNumberUsed,
    UnknownCarrier,
)
from supply.fulfillment.machine import FoEventKind, FulfillmentActionNotAllowed, RequestStatus, Status
from supply.fulfillment.queries import FulfillmentOrderView
from supply.fulfillment.service import RejectReason, ShipmentStatus, TrackingUpdate
from supply.inventory import queries as stock
from supply.inventory import service as inventory
from supply.suppliers import queries as suppliers
from supply.suppliers.errors import VersionConflict
from supply.suppliers.models import AcceptMode, OfferStatus, SupplierStatus
from supply.suppliers.service import update_profile
from tests.factories import supply
from tests.factories.supply import SuppliedFrom


async def submitted(
    session: AsyncSession, clock: FixedClock, quantity: int = 5, **about: Any
) -> tuple[SuppliedFrom, OrderId, FulfillmentOrderId, VariantId]:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 20}, **about)
    order_id, (fo,) = await supply.routed_order(session, clock, source.brand_id, {cream: quantity})
    return source, order_id, fo, cream


async def look(session: AsyncSession, fo: FulfillmentOrderId) -> FulfillmentOrderView:
    return await queries.fulfillment_order(session, SYSTEM, fo)


async def level(session: AsyncSession, cream: VariantId) -> tuple[int, int]:
    (view,) = await stock.availability(session, [cream])
    return view.on_hand, view.reserved


async def told(session: AsyncSession) -> list[str]:
    return list((await session.execute(text("SELECT name FROM outbox ORDER BY id"))).scalars())


async def test_an_order_waits_for_its_payment_unseen_by_the_supplier(
    session: AsyncSession, clock: FixedClock
) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 20})
    order_id, (fo,) = await supply.routed_order(session, clock, source.brand_id, {cream: 1}, paid=False)
    assert (await look(session, fo)).status is Status.SCHEDULED
    with pytest.raises(FulfillmentOrderNotFound):
        await queries.fulfillment_order(session, source.actor, fo)

    assert await service.release_for_submission(session, [order_id], clock=clock) == [fo]
    assert await service.release_for_submission(session, [order_id], clock=clock) == []

    view = await queries.fulfillment_order(session, source.actor, fo)
    assert (view.status, view.request_status) == (Status.OPEN, RequestStatus.SUBMITTED)
    assert set(view.allowed_actions) == {FoEventKind.ACCEPT, FoEventKind.ACCEPT_PARTIAL, FoEventKind.REJECT}
    assert view.lines[0].price_version == 1


async def test_a_supplier_that_accepts_automatically_has_accepted(
    session: AsyncSession, clock: FixedClock
) -> None:
    _, _, fo, _ = await submitted(session, clock, accept_mode=AcceptMode.AUTO)
    view = await look(session, fo)
    assert (view.status, view.request_status) == (Status.IN_PROGRESS, RequestStatus.ACCEPTED)
    assert view.ship_by == clock.now() + timedelta(hours=48)
    assert await told(session) == ["fulfillment.submitted", "fulfillment.accepted"]


async def test_an_inactive_supplier_counts_as_having_refused(
    session: AsyncSession, clock: FixedClock
) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 20})
    order_id, (fo,) = await supply.routed_order(session, clock, source.brand_id, {cream: 1}, paid=False)
    await update_profile(session, SYSTEM, source.supplier_id, status=SupplierStatus.SUSPENDED)

    await service.release_for_submission(session, [order_id], clock=clock)

    view = await look(session, fo)
    assert (view.request_status, view.reason) == (RequestStatus.REJECTED, "SUPPLIER_INACTIVE")
    assert await told(session) == ["fulfillment.rejected"]
    assert await level(session, cream) == (20, 0)


async def test_two_parcels_then_both_arrive(session: AsyncSession, clock: FixedClock) -> None:
    source, _, fo, cream = await submitted(session, clock)
    await service.accept(session, source.actor, fo, clock=clock)
    (line,) = (await look(session, fo)).lines

    await service.ship(
        session, source.actor, fo, lines={line.id: 2}, carrier="SF_Express", tracking_no="SF1", clock=clock
    )
    assert (await look(session, fo)).status is Status.PARTIALLY_SHIPPED
    assert await level(session, cream) == (18, 3)
    clock.advance(timedelta(hours=1))
    await service.ship(session, source.actor, fo, carrier="zto", tracking_no="Z1", clock=clock)
    view = await look(session, fo)
    assert (view.status, view.shipped_at) == (Status.SHIPPED, clock.now())
    assert await level(session, cream) == (15, 0)

    first, second = view.shipments
    update = TrackingUpdate("scan-9", ShipmentStatus.DELIVERED, clock.advance(timedelta(hours=20)))
    await service.record_tracking(session, source.actor, first.id, [update, update], clock=clock)
    assert (await look(session, fo)).status is Status.SHIPPED
    assert (await look(session, fo)).lines[0].delivered == 2
    await service.record_tracking(session, source.actor, second.id, [update], clock=clock)
    view = await look(session, fo)
    assert (view.status, view.delivered_at, view.lines[0].delivered) == (Status.DELIVERED, clock.now(), 5)
    assert await told(session) == [
        "fulfillment.submitted", "fulfillment.accepted", "fulfillment.shipped", "fulfillment.shipped",
        "fulfillment.delivered", "fulfillment.delivered",
    ]  # fmt: skip
    states = {c["kind"]: c["state"] for c in await queries.clocks(session, fo)}
    assert states == {"ack": "met", "ship": "met", "first_scan": "met", "deliver": "met"}
    assert await inventory.drifts(session) == []


async def test_news_out_of_order_never_moves_a_parcel_back(session: AsyncSession, clock: FixedClock) -> None:
    source, _, fo, _ = await submitted(session, clock)
    await service.accept(session, source.actor, fo, clock=clock)
    parcel = await service.ship(session, source.actor, fo, carrier="zto", tracking_no="Z1", clock=clock)
    start = clock.now()

    async def news(event_id: str, status: ShipmentStatus, hours: int, **more: Any) -> str:
        update = TrackingUpdate(event_id, status, start + timedelta(hours=hours), **more)
        await service.record_tracking(session, source.actor, parcel, [update], clock=clock)
        return (await look(session, fo)).shipments[0].status

    assert await news("1", ShipmentStatus.OUT_FOR_DELIVERY, 30) == "OUT_FOR_DELIVERY"
    assert await news("2", ShipmentStatus.IN_TRANSIT, 40) == "OUT_FOR_DELIVERY"
    assert await news("3", ShipmentStatus.ATTEMPT_FAILED, 31) == "ATTEMPT_FAILED"
    assert await news("4", ShipmentStatus.IN_TRANSIT, 32, correction=True) == "IN_TRANSIT"
    assert await news("5", ShipmentStatus.DELIVERED, 50) == "DELIVERED"
    assert await news("6", ShipmentStatus.IN_TRANSIT, 60, correction=True) == "DELIVERED"


async def test_impossible_times_are_kept_and_flagged(session: AsyncSession, clock: FixedClock) -> None:
    source, _, fo, _ = await submitted(session, clock)
    await service.accept(session, source.actor, fo, clock=clock)
    before = clock.now() - timedelta(days=1)
    await service.ship(
        session, source.actor, fo, carrier="correios", tracking_no="C1", handed_over_at=before, clock=clock
    )
    await service.deliver(session, source.actor, fo, delivered_at=before - timedelta(days=1), clock=clock)

    view = await look(session, fo)
    assert view.quirks == ("HANDED_OVER_BEFORE_SUBMITTED", "DELIVERED_BEFORE_HANDED_OVER")
    assert (view.status, view.shipped_at) == (Status.DELIVERED, before)


async def test_bad_shipments_are_refused_with_a_reason(session: AsyncSession, clock: FixedClock) -> None:
    source, _, fo, cream = await submitted(session, clock)
    with pytest.raises(FulfillmentActionNotAllowed) as refused:
        await service.ship(session, source.actor, fo, carrier="zto", tracking_no="Z1", clock=clock)
    assert refused.value.allowed_actions == ["accept", "accept_partial", "reject"]
    await service.accept(session, source.actor, fo, clock=clock)
    (line,) = (await look(session, fo)).lines
    for wrong, lines, carrier in (
        (UnknownCarrier, None, "pigeon"),
        (QuantityNotOutstanding, {line.id: 6}, "zto"),
        (QuantityNotOutstanding, {line.id: -1}, "zto"),
        (NothingSelected, {line.id: 0}, "zto"),
    ):
        with pytest.raises(wrong):
            await service.ship(
                session, source.actor, fo, lines=lines, carrier=carrier, tracking_no="Z1", clock=clock
            )
    await service.ship(
        session, source.actor, fo, lines={line.id: 1}, carrier="zto", tracking_no="Z1", clock=clock
    )
    with pytest.raises(TrackingNumberUsed):
        await service.ship(session, source.actor, fo, carrier="zto", tracking_no="Z1", clock=clock)
    clock.advance(timedelta(days=181))
    await service.ship(session, source.actor, fo, carrier="zto", tracking_no="Z1", clock=clock)
    assert await level(session, cream) == (15, 0)


@pytest.mark.parametrize(
    ("reason", "on_hand", "offer", "sellable_tomorrow"),
    [
        (RejectReason.NOT_IN_STOCK, 0, OfferStatus.ACTIVE, 0),
        (RejectReason.DAMAGED, 15, OfferStatus.ACTIVE, 15),
        (RejectReason.CAPACITY, 20, OfferStatus.PAUSED, 20),
        (RejectReason.PRICE, 20, OfferStatus.STALE, 0),
        (RejectReason.OTHER, 20, OfferStatus.ACTIVE, 20),
    ],
)
async def test_the_reason_of_a_refusal_changes_the_stock_record(
    session: AsyncSession, clock: FixedClock, reason: RejectReason, on_hand: int, offer: OfferStatus,
    sellable_tomorrow: int,
) -> None:  # fmt: skip
    source, _, fo, cream = await submitted(session, clock)

    await service.reject(session, source.actor, fo, reason=reason, clock=clock)

    assert await level(session, cream) == (on_hand, 0)
    (view,) = (await suppliers.offers_of(session, [cream], now=clock.now()))[cream]
    assert view.status is offer
    tomorrow = clock.now() + timedelta(days=1)
    assert await stock.sellable(session, [cream], now=tomorrow) == {cream: sellable_tomorrow}
    assert await told(session) == ["fulfillment.submitted", "fulfillment.rejected"]


async def test_what_cannot_be_completed_is_split_off(session: AsyncSession, clock: FixedClock) -> None:
    source, order_id, fo, cream = await submitted(session, clock)
    await service.accept(session, source.actor, fo, clock=clock)
    (line,) = (await look(session, fo)).lines
    await service.ship(
        session, source.actor, fo, lines={line.id: 2}, carrier="zto", tracking_no="Z1", clock=clock
    )

    await service.cannot_complete(session, source.actor, fo, reason=RejectReason.NOT_IN_STOCK, clock=clock)

    kept, rest = (await queries.of_orders(session, SYSTEM, [order_id]))[order_id]
    assert (kept.status, kept.lines[0].shipped, kept.lines[0].rejected) == (Status.SHIPPED, 2, 3)
    assert (rest.status, rest.lines[0].quantity, rest.parent_id) == (Status.INCOMPLETE, 3, fo)
    assert await level(session, cream) == (0, 0)


async def test_a_cancellation_is_asked_for_and_silence_is_consent(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        source, _, fo, cream = await submitted(session, clock)
        await service.accept(session, source.actor, fo, clock=clock)
        brand = Actor(ActorKind.BRAND, source.brand_id)
        await service.request_cancel(session, brand, fo, clock=clock)
    async with db.unit_of_work(source.actor) as session:
        with pytest.raises(CancellationNotRefusable):
            await service.reject_cancel(session, source.actor, fo, clock=clock)
        await service.reject_cancel(session, source.actor, fo, label="Z9", clock=clock)
    async with db.unit_of_work(brand) as session:
        await service.request_cancel(session, brand, fo, clock=clock)
    clock.advance(timedelta(hours=24))

    assert await service.sweep_clocks(db, clock=clock) >= 1

    async with db.reading(SYSTEM) as session:
        view = await look(session, fo)
        assert (view.status, view.lines[0].cancelled) == (Status.CANCELLED, 5)
        assert await level(session, cream) == (20, 0)
        assert await inventory.drifts(session) == []


async def test_units_are_taken_off_before_they_ship_and_not_after(
    session: AsyncSession, clock: FixedClock
) -> None:
    source, order_id, fo, cream = await submitted(session, clock)
    (line,) = (await look(session, fo)).lines
    taken = await service.cancel_unshipped(
        session, SYSTEM, order_id, lines={line.order_line_id: 1}, clock=clock
    )
    assert taken == {line.order_line_id: 1}
    await service.accept(session, source.actor, fo, clock=clock)
    await service.ship(
        session, source.actor, fo, lines={line.id: 2}, carrier="zto", tracking_no="Z1", clock=clock
    )

    taken = await service.cancel_unshipped(
        session, SYSTEM, order_id, lines={line.order_line_id: 4}, clock=clock
    )

    assert taken == {line.order_line_id: 2}
    view = await look(session, fo)
    assert (view.status, view.lines[0].cancelled, view.lines[0].shipped) == (Status.SHIPPED, 3, 2)
    assert await level(session, cream) == (18, 0)
    assert await service.cancel_unshipped(session, SYSTEM, order_id, clock=clock) == {}


async def test_a_pause_stops_the_clocks(session: AsyncSession, clock: FixedClock) -> None:
    source, _, fo, _ = await submitted(session, clock)
    due = (await queries.clocks(session, fo))[0]["due_at"]
    await service.hold(session, SYSTEM, fo, reason="ADDRESS_CHECK", clock=clock)
    with pytest.raises(FulfillmentActionNotAllowed):
        await service.accept(session, source.actor, fo, clock=clock)
    clock.advance(timedelta(hours=5))
    await service.release_hold(session, SYSTEM, fo, clock=clock)

    assert (await queries.clocks(session, fo))[0]["due_at"] == due + timedelta(hours=5)
    assert (await look(session, fo)).request_status is RequestStatus.SUBMITTED


async def test_silence_is_a_refusal_with_the_supplier_excluded(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        _, _, fo, cream = await submitted(session, clock, accept_sla_min=60)
    assert await service.sweep_clocks(db, clock=clock) == 0
    clock.advance(timedelta(minutes=60))

    assert await service.sweep_clocks(db, clock=clock) == 1
    assert await service.sweep_clocks(db, clock=clock) == 0

    async with db.reading(SYSTEM) as session:
        view = await look(session, fo)
        assert (view.status, view.request_status, view.reason) == (
            Status.OPEN,
            RequestStatus.CLOSED,
            "TIMEOUT",
        )
        assert [c["state"] for c in await queries.clocks(session, fo)] == ["breached"]
        assert await level(session, cream) == (20, 0)
        assert "fulfillment.rejected" in await told(session)


async def test_another_supplier_sees_and_does_nothing(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        source, _, fo, _ = await submitted(session, clock)
    stranger = supply.supplier_actor(SupplierId.new())
    async with db.unit_of_work(stranger) as session:
        with pytest.raises(FulfillmentOrderNotFound):
            await queries.fulfillment_order(session, stranger, fo)
        with pytest.raises(FulfillmentOrderNotFound):
            await service.accept(session, stranger, fo, clock=clock)
    brand = Actor(ActorKind.BRAND, BrandId.new())
    async with db.unit_of_work(brand) as session:
        with pytest.raises(FulfillmentOrderNotFound):
            await queries.fulfillment_order(session, brand, fo)
    async with db.unit_of_work(source.actor) as session:
        with pytest.raises(VersionConflict):
            await service.accept(session, source.actor, fo, clock=clock, expected_version=99)
        await service.accept(session, source.actor, fo, clock=clock, expected_version=2)
        with pytest.raises(Conflict):
            await service.accept(session, source.actor, fo, clock=clock)
