from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.canonical import content_hash
from core.clock import FixedClock
from core.events import from_body
from core.ids import BrandId, FulfillmentOrderId, OrderId, VariantId
from supply.fulfillment import queries as fulfillment_queries
from supply.fulfillment import service as fulfillment
from supply.fulfillment.events import FulfillmentOrderRejected, FulfillmentRerouted
from supply.fulfillment.machine import RequestStatus, Status
from supply.fulfillment.service import RejectReason
from supply.inventory import queries as stock
from supply.inventory import service as inventory
from supply.routing import service as routing
from supply.routing.eligibility import LineFact, OrderNeed
from supply.routing.handlers import on_fulfillment_order_rejected
from supply.routing.models import RoutingMode
from supply.routing.router import CODE_VERSION
from supply.suppliers import service as suppliers
from supply.suppliers.models import BrandRelation, SupplierStatus
from supply.suppliers.service import PriceChange
from tests.factories import supply


def need_of(brand: BrandId, clock: FixedClock, variant: VariantId, quantity: int = 1) -> OrderNeed:
    line = LineFact("oln_00000000000000000000000001", str(variant), quantity)
    return OrderNeed((line,), str(brand), "CN-SH", "CNY", clock.now())


async def rejections(session: AsyncSession) -> list[Any]:
    rows = await session.execute(
        text(
            "SELECT name, body FROM outbox WHERE name IN ('fulfillment.rejected', 'fulfillment.rerouted') ORDER BY id"
        )
    )
    return [from_body(row.name, row.body) for row in rows]


async def reroute_last(session: AsyncSession, clock: FixedClock) -> None:
    *_, last = [e for e in await rejections(session) if isinstance(e, FulfillmentOrderRejected)]
    await on_fulfillment_order_rejected(session, last, clock=clock)


async def test_the_cheapest_landed_source_wins_and_the_trace_says_why(
    session: AsyncSession, clock: FixedClock
) -> None:
    brand, cream = BrandId.new(), VariantId.new()
    near = await supply.supplier(
        session, clock, stock={cream: 9}, brand_id=brand, unit_cost_minor=1_000, base_freight_minor=600
    )
    far = await supply.supplier(
        session, clock, stock={cream: 9}, brand_id=brand, unit_cost_minor=900, base_freight_minor=800
    )
    empty = await supply.supplier(session, clock, stock={cream: 0}, brand_id=brand, unit_cost_minor=1)
    abroad = await supply.supplier(session, clock, stock={cream: 9}, brand_id=brand, zones=["US"])

    order_id, _ = await supply.routed_order(session, clock, brand, {cream: 1})

    (run,) = await routing.explain(session, order_id)
    (decision,) = run.decisions
    assert decision["location_id"] == str(near.location_id)
    assert decision["runner_up_location_id"] == str(far.location_id)
    assert decision["margin_minor"] == 900 + 800 - 1_000 - 600
    codes = {c["location_id"]: c["reject_code"] for c in run.candidates}
    assert codes == {
        str(near.location_id): None, str(far.location_id): None,
        str(empty.location_id): "NO_STOCK", str(abroad.location_id): "ZONE_NOT_SERVED",
    }  # fmt: skip
    assert (run.cost_minor, run.policy_version) == (1_600, 1)


async def test_the_stored_input_hashes_to_what_was_recorded(session: AsyncSession, clock: FixedClock) -> None:
    brand, cream = BrandId.new(), VariantId.new()
    await supply.supplier(session, clock, stock={cream: 9}, brand_id=brand)
    order_id, _ = await supply.routed_order(session, clock, brand, {cream: 1})
    (run,) = await routing.explain(session, order_id)

    stored, recorded = await routing.stored_input(session, run.id)

    again = (CODE_VERSION, stored["need"], stored["offers"], stored["policy"])
    assert content_hash(again) == recorded == run.input_hash


async def test_the_longest_zone_gives_the_rate(session: AsyncSession, clock: FixedClock) -> None:
    from core.money import Money
    from supply.suppliers.service import RateToZone

    brand, cream = BrandId.new(), VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 9}, brand_id=brand)
    rates = [RateToZone("CN", Money(900, "CNY")), RateToZone("CN-SH", Money(1_300, "CNY"))]
    await suppliers.set_zone_rates(session, source.actor, source.location_id, rates, clock=clock)

    planned = await routing.plan(session, need_of(brand, clock, cream), mode=RoutingMode.WHAT_IF)

    assert planned.decisions[0].cost is not None
    assert planned.decisions[0].cost.base_freight_minor == 1_300


async def test_a_price_change_counts_from_its_time_on(session: AsyncSession, clock: FixedClock) -> None:
    from core.money import Money
    from core.pagination import PageRequest
    from supply.suppliers import queries as supplier_queries

    brand, cream = BrandId.new(), VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 9}, brand_id=brand, unit_cost_minor=1_000)
    page = await supplier_queries.offers_page(session, source.actor, PageRequest(), now=clock.now())
    tomorrow = clock.now() + timedelta(days=1)
    change = PriceChange(page.items[0].id, Money(700, "CNY"), tomorrow)
    assert await suppliers.change_prices(session, source.actor, [change], clock=clock) == {change.offer_id: 2}

    async def cost() -> tuple[int, int]:
        planned = await routing.plan(session, need_of(brand, clock, cream), mode=RoutingMode.WHAT_IF)
        assert planned.decisions[0].cost is not None
        return planned.decisions[0].cost.goods_minor, planned.price_versions[str(change.offer_id)]

    assert await cost() == (1_000, 1)
    clock.advance(timedelta(days=1))
    assert await cost() == (700, 2)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ("forbidden", "BRAND_NOT_AUTHORISED"),
        ("other_exclusive", "BRAND_NOT_AUTHORISED"),
        ("paused", "SUPPLIER_PAUSED"),
        ("stale", "STALE_FEED"),
    ],
)
async def test_hard_rules_come_from_the_database(
    session: AsyncSession, clock: FixedClock, spoil: str, code: str
) -> None:
    from core.actor import Actor, ActorKind
    from core.ids import SupplierId

    brand, cream = BrandId.new(), VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 9}, brand_id=brand)
    of_brand = Actor(ActorKind.BRAND, brand)
    if spoil == "forbidden":
        await suppliers.set_brand_rule(
            session, of_brand, supplier_id=source.supplier_id, relation=BrandRelation.FORBIDDEN, clock=clock
        )
    elif spoil == "other_exclusive":
        await suppliers.set_brand_rule(
            session, of_brand, supplier_id=SupplierId.new(), relation=BrandRelation.EXCLUSIVE, clock=clock
        )
    elif spoil == "paused":
        await suppliers.update_profile(session, SYSTEM, source.supplier_id, status=SupplierStatus.PAUSED)
    else:
        await suppliers.update_profile(session, SYSTEM, source.supplier_id, feed_stale_after_min=60)
        clock.advance(timedelta(minutes=61))

    planned = await routing.plan(session, need_of(brand, clock, cream), mode=RoutingMode.WHAT_IF)

    assert [c.reject_code for c in planned.candidates] == [code]
    if spoil != "paused":
        return
    sellable = await stock.sellable(session, [cream], "CN-SH", now=clock.now())
    assert sellable == {cream: 0}


async def test_planning_and_recording_take_one_statement_each(
    session: AsyncSession, clock: FixedClock
) -> None:
    brand, cream = BrandId.new(), VariantId.new()
    await supply.supplier(session, clock, stock={cream: 9}, brand_id=brand)
    seen: list[str] = []
    connection = await session.connection()

    def count(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(connection.sync_connection, "before_cursor_execute", count)
    planned = await routing.plan(session, need_of(brand, clock, cream), mode=RoutingMode.CHECKOUT)
    assert len(seen) == 1
    await routing.record(session, planned, order_id=OrderId.new(), mode=RoutingMode.CHECKOUT)
    assert len(seen) == 2


async def test_a_refused_order_goes_to_the_next_best_supplier_and_the_money_facts_go_with_it(
    session: AsyncSession, clock: FixedClock
) -> None:
    brand, cream = BrandId.new(), VariantId.new()
    first = await supply.supplier(session, clock, stock={cream: 9}, brand_id=brand, unit_cost_minor=1_000)
    second = await supply.supplier(
        session, clock, stock={cream: 9}, brand_id=brand, unit_cost_minor=1_250, base_freight_minor=700
    )
    order_id, (original,) = await supply.routed_order(session, clock, brand, {cream: 2})

    await fulfillment.reject(session, first.actor, original, reason=RejectReason.NOT_IN_STOCK, clock=clock)
    await reroute_last(session, clock)
    await reroute_last(session, clock)  # delivered twice

    orders = (await fulfillment_queries.of_orders(session, SYSTEM, [order_id]))[order_id]
    old, new = orders
    assert (old.id, old.status, old.request_status) == (original, Status.CANCELLED, RequestStatus.REJECTED)
    assert (new.supplier_id, new.parent_id, new.attempt_no) == (second.supplier_id, original, 2)
    assert (new.status, new.request_status) == (Status.OPEN, RequestStatus.SUBMITTED)
    *_, moved = [e for e in await rejections(session) if isinstance(e, FulfillmentRerouted)]
    (change,) = moved.changes
    assert (change.quantity, change.from_cost_minor, change.to_cost_minor) == (2, 2_000, 2_500)
    assert (moved.from_freight_minor, moved.to_freight_minor) == (500, 700)
    levels = {v.location_id: v for v in await stock.availability(session, [cream])}
    assert (levels[first.location_id].reserved, levels[first.location_id].available) == (0, 0)
    assert levels[second.location_id].reserved == 2
    runs = await routing.explain(session, order_id)
    assert runs[1].previous_run_id == runs[0].id
    assert {c["reject_code"] for c in runs[1].candidates} == {None, "PREVIOUSLY_REJECTED"}
    assert await inventory.drifts(session) == []


async def test_nobody_is_asked_twice_and_after_three_attempts_a_person_looks(
    session: AsyncSession, clock: FixedClock
) -> None:
    brand, cream = BrandId.new(), VariantId.new()
    sources = {}
    for cost in (1_000, 1_100, 1_200, 1_300):
        each = await supply.supplier(session, clock, stock={cream: 9}, brand_id=brand, unit_cost_minor=cost)
        sources[each.supplier_id] = each
    order_id, (current,) = await supply.routed_order(session, clock, brand, {cream: 2})
    asked = []
    for _ in range(3):
        view = await fulfillment_queries.fulfillment_order(session, SYSTEM, current)
        asked.append(view.supplier_id)
        await fulfillment.reject(
            session, sources[view.supplier_id].actor, current, reason=RejectReason.OTHER, clock=clock
        )
        await reroute_last(session, clock)
        current = (await fulfillment_queries.of_orders(session, SYSTEM, [order_id]))[order_id][-1].id

    assert len(set(asked)) == 3
    held = await fulfillment_queries.fulfillment_order(session, SYSTEM, current)
    assert (held.status, held.hold_reason, held.attempt_no) == (Status.ON_HOLD, "NO_SOURCE", 3)
    unsourced = await session.execute(text("SELECT body FROM outbox WHERE name = 'fulfillment.unsourced'"))
    assert [body["fulfillment_order_id"] for body in unsourced.scalars()] == [str(current)]
    assert all(level.reserved == 0 for level in await stock.availability(session, [cream]))


async def test_the_rest_of_a_partial_acceptance_is_sourced_elsewhere(
    session: AsyncSession, clock: FixedClock
) -> None:
    brand, cream = BrandId.new(), VariantId.new()
    first = await supply.supplier(session, clock, stock={cream: 9}, brand_id=brand)
    second = await supply.supplier(session, clock, stock={cream: 9}, brand_id=brand, unit_cost_minor=1_500)
    order_id, (original,) = await supply.routed_order(session, clock, brand, {cream: 5})
    view = await fulfillment_queries.fulfillment_order(session, first.actor, original)

    await fulfillment.accept_partial(
        session, first.actor, original, lines={view.lines[0].id: 3}, reason=RejectReason.DAMAGED, clock=clock
    )
    await reroute_last(session, clock)

    kept, rest, new = (await fulfillment_queries.of_orders(session, SYSTEM, [order_id]))[order_id]
    assert (kept.status, kept.lines[0].accepted, kept.lines[0].rejected) == (Status.IN_PROGRESS, 3, 2)
    assert (rest.status, rest.parent_id) == (Status.CANCELLED, original)
    assert (new.supplier_id, new.lines[0].quantity) == (second.supplier_id, 2)
    levels = {v.location_id: v for v in await stock.availability(session, [cream])}
    assert (levels[first.location_id].on_hand, levels[first.location_id].reserved) == (7, 3)
    assert isinstance(kept.id, FulfillmentOrderId)
    assert await inventory.drifts(session) == []
