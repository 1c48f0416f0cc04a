"""Every event in every state is in the table, or a 409 that names what is allowed."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import FixedClock
from core.ids import VariantId
from infra.db.session import Database
from supply.fulfillment import machine, queries, service
from supply.fulfillment.errors import CancellationNotRefusable
from supply.fulfillment.machine import (
    By,
    FoEventKind,
    FulfillmentActionNotAllowed,
    RequestStatus,
    State,
    Status,
)
from supply.fulfillment.service import RejectReason
from supply.inventory import queries as stock
from supply.inventory import service as inventory
from tests.factories import supply

EVERY_STATE = [State(s, r) for s, r in itertools.product(Status, RequestStatus)]


@pytest.mark.parametrize("event", list(FoEventKind))
def test_an_event_leads_where_the_table_says_or_is_refused(event: FoEventKind) -> None:
    rule = machine.BY_EVENT[event]
    for state, by in itertools.product(EVERY_STATE, By):
        outcome = next(iter(rule.outcomes))
        if state in rule.sources and by in rule.by:
            after = machine.step(state, event, outcome, by=by, held=Status.OPEN)
            assert event in machine.allowed(state, by)
            assert after.status in Status
        else:
            with pytest.raises(FulfillmentActionNotAllowed) as refused:
                machine.step(state, event, outcome, by=by)
            assert refused.value.allowed_actions == [e.value for e in machine.allowed(state, by)]
            assert event.value not in refused.value.allowed_actions


def test_nothing_leaves_a_finished_order() -> None:
    finished = [s for s in EVERY_STATE if s.status in (Status.CANCELLED, Status.CLOSED)]
    assert all(machine.allowed(state) == [] for state in finished)


def test_every_rule_leads_to_a_state_with_a_way_on_or_an_end() -> None:
    """No dead ends: what a rule can reach is either finished or has an event of its own."""
    for rule, state in ((r, s) for r in machine.RULES for s in r.sources):
        for outcome in rule.outcomes.values():
            after = State(outcome[0] or state.status, outcome[1] or state.request)
            ended = after.status in (Status.CANCELLED, Status.CLOSED)
            assert ended or machine.allowed(after), (rule.event, state, after)


Verb = Callable[[Any, Actor, Any, FixedClock, int], Awaitable[Any]]
SUPPLIER_VERBS: dict[str, Verb] = {
    "accept": lambda s, a, fo, c, n: service.accept(s, a, fo, clock=c),
    "reject": lambda s, a, fo, c, n: service.reject(s, a, fo, reason=RejectReason.OTHER, clock=c),
    "damaged": lambda s, a, fo, c, n: service.reject(s, a, fo, reason=RejectReason.DAMAGED, clock=c),
    "deliver": lambda s, a, fo, c, n: service.deliver(s, a, fo, clock=c),
    "lost": lambda s, a, fo, c, n: service.mark_lost(s, a, fo, clock=c),
    "cannot_complete": lambda s, a, fo, c, n: service.cannot_complete(
        s, a, fo, reason=RejectReason.OTHER, clock=c
    ),
    "accept_cancel": lambda s, a, fo, c, n: service.accept_cancel(s, a, fo, clock=c),
    "reject_cancel": lambda s, a, fo, c, n: service.reject_cancel(s, a, fo, clock=c),
}
BRAND_VERBS: dict[str, Verb] = {
    "request_cancel": lambda s, a, fo, c, n: service.request_cancel(s, a, fo, clock=c),
    "hold": lambda s, a, fo, c, n: service.hold(s, a, fo, reason="CHECK", clock=c),
    "release_hold": lambda s, a, fo, c, n: service.release_hold(s, a, fo, clock=c),
}
_EVENT = {"damaged": FoEventKind.REJECT, "lost": FoEventKind.LOST}


def event_of(name: str) -> FoEventKind:
    return _EVENT.get(name) or FoEventKind(name)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [*SUPPLIER_VERBS, *BRAND_VERBS, "ship", "ship", "accept_partial", "cancel_unshipped"]
        ),
        st.integers(1, 3),
    ),
    max_size=9,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_any_sequence_keeps_ledger_and_counters_in_step(
    _shared_db: Database,  # noqa: PT019
    steps: list[tuple[str, int]],
) -> None:
    clock = FixedClock(datetime(2026, 3, 2, 2, 0, tzinfo=UTC))
    cream = VariantId.new()
    async with _shared_db.reading(SYSTEM) as session:
        source = await supply.supplier(session, clock, stock={cream: 20})
        brand = Actor(ActorKind.BRAND, source.brand_id)
        order_id, (fo,) = await supply.routed_order(session, clock, source.brand_id, {cream: 5})
        for number, (name, quantity) in enumerate(steps):
            clock.advance(timedelta(hours=1))
            before = await queries.fulfillment_order(session, SYSTEM, fo)
            by = By.BRAND if name in BRAND_VERBS or name == "cancel_unshipped" else By.SUPPLIER
            expected = event_of(name) in machine.allowed(State(before.status, before.request_status), by)
            try:
                await _do(session, clock, source.actor, brand, order_id, before, name, quantity, number)
                assert expected or name == "cancel_unshipped"
            except FulfillmentActionNotAllowed:
                assert not expected
            except CancellationNotRefusable:
                assert expected
            await _agree(session, order_id, cream)


async def _do(
    session: Any, clock: FixedClock, supplier: Actor, brand: Actor, order_id: Any, before: Any, name: str,
    quantity: int, number: int,
) -> None:  # fmt: skip
    (line,) = before.lines
    if name == "ship":
        units = min(quantity, line.outstanding) or 1
        await service.ship(
            session, supplier, before.id, lines={line.id: units}, carrier="zto", tracking_no=f"T{number}",
            clock=clock,
        )  # fmt: skip
    elif name == "accept_partial":
        units = min(quantity, line.outstanding) or 1
        await service.accept_partial(
            session, supplier, before.id, lines={line.id: units}, reason=RejectReason.OTHER, clock=clock
        )
    elif name == "cancel_unshipped":
        await service.cancel_unshipped(
            session, brand, order_id, lines={line.order_line_id: quantity}, clock=clock
        )
    else:
        verb = SUPPLIER_VERBS.get(name) or BRAND_VERBS[name]
        await verb(session, supplier if name in SUPPLIER_VERBS else brand, before.id, clock, quantity)


async def _agree(session: Any, order_id: Any, cream: VariantId) -> None:
    orders = (await queries.of_orders(session, SYSTEM, [order_id]))[order_id]
    lines = [(order, line) for order in orders for line in order.lines]
    live = sum(line.quantity - line.rejected - line.cancelled for _, line in lines)
    cancelled = sum(line.cancelled for _, line in lines)
    assert live + cancelled == 5
    held = sum(
        line.outstanding
        for order, line in lines
        if order.request_status not in (RequestStatus.REJECTED, RequestStatus.CLOSED)
    )
    (level,) = await stock.availability(session, [cream])
    assert level.reserved == held
    assert await inventory.drifts(session) == []
    for order in orders:
        if order.status is Status.SHIPPED:
            assert any(line.delivered < line.shipped for line in order.lines)
    shipped = await session.execute(text("SELECT coalesce(sum(quantity), 0) FROM shipment_lines"))
    assert shipped.scalar_one() == sum(line.shipped for _, line in lines)
