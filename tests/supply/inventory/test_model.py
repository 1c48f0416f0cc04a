"""The stock of one shelf against a model that counts on its fingers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import ReservationId, VariantId
from infra.db.session import Database
from supply.inventory import queries, service
from supply.inventory.errors import InsufficientStock, ReservationExpired, ReservationNotOpen
from tests.factories import supply

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.integers(1, 6)),
        st.tuples(st.sampled_from(["commit", "release"]), st.integers(0, 3)),
        st.tuples(st.just("consume"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("give_back"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("count"), st.integers(0, 12)),
        st.tuples(st.just("adjust"), st.integers(-6, 6).filter(bool)),
        st.tuples(st.just("restock"), st.integers(0, 3), st.integers(1, 4)),
    ),
    max_size=14,
)


@dataclass
class Model:
    physical: int = 10
    holds: list[list[Any]] = field(default_factory=list)  # [id, open units, state]
    back: set[int] = field(default_factory=set)  # returns that were decided

    @property
    def reserved(self) -> int:
        return sum(hold[1] for hold in self.holds)

    @property
    def available(self) -> int:
        return max(self.physical - self.reserved, 0)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_levels_follow_the_model(_shared_db: Database, steps: list[tuple[Any, ...]]) -> None:  # noqa: PT019
    from datetime import UTC, datetime

    clock = FixedClock(datetime(2026, 3, 2, 2, 0, tzinfo=UTC))
    cream, model = VariantId.new(), Model()
    async with _shared_db.reading(SYSTEM) as session:
        source = await supply.supplier(session, clock, stock={cream: model.physical})
        for number, step in enumerate(steps):
            clock.advance(timedelta(seconds=1))
            await _apply(session, clock, source, cream, model, number, step)
            (level,) = await queries.availability(session, [cream])
            assert level.reserved == model.reserved
            assert level.available == model.available
            if model.physical >= 0:
                assert level.on_hand == model.physical
            assert await service.drifts(session) == []


async def _apply(
    session: Any,
    clock: FixedClock,
    source: Any,
    cream: VariantId,
    model: Model,
    number: int,
    step: tuple[Any, ...],
) -> None:
    name, now, cause = step[0], clock.now(), f"step-{number}"
    if name == "hold":
        fits = step[1] <= model.physical - model.reserved
        try:
            (held,) = await supply.hold(session, clock, source, {cream: step[1]})
            assert fits
            model.holds.append([held, step[1], "HELD"])
        except InsufficientStock:
            assert not fits
    elif name in ("count", "adjust"):
        row = (
            service.StockRow(source.location_id, cream, source.brand_id, count=step[1])
            if name == "count"
            else service.StockRow(source.location_id, cream, source.brand_id, delta=step[1], event_id=cause)
        )
        (result,) = await service.apply_stock(session, source.supplier_id, [row], clock=clock)
        if name == "count":
            model.physical = step[1]
        elif model.physical + step[1] < 0:
            assert result.code == "NEGATIVE_STOCK"
        else:
            model.physical += step[1]
    elif name == "restock":
        units = service.ReturnedUnits(source.location_id, cream, source.brand_id, step[2], f"rtn-{step[1]}")
        await service.restock(session, source.supplier_id, [units], clock=clock)
        model.physical += 0 if step[1] in model.back else step[2]
        model.back.add(step[1])
    elif step[1] < len(model.holds):
        await _on_hold(session, model, model.holds[step[1]], name, step, now, cause)


async def _on_hold(
    session: Any, model: Model, hold: list[Any], name: str, step: tuple[Any, ...], now: Any, cause: str
) -> None:
    held: ReservationId = hold[0]
    if name == "commit":
        try:
            await service.commit(session, [held], now=now)
            assert hold[2] != "RELEASED"
            hold[2] = "COMMITTED" if hold[2] == "HELD" else hold[2]
        except ReservationExpired:
            assert hold[2] == "RELEASED"
        return
    if name == "release":
        await service.release(session, [held], cause=cause, now=now)
        if hold[1]:
            hold[1], hold[2] = 0, "CONSUMED" if len(hold) > 3 else "RELEASED"
        return
    units = step[2]
    try:
        if name == "consume":
            await service.consume(session, [(held, units)], cause=cause, now=now)
            assert hold[2] == "COMMITTED"
            model.physical = max(model.physical - units, 0)  # the supplier had more than it had counted
            hold.append("shipped")
        else:
            await service.release_part(session, [(held, units)], cause=cause, now=now)
            if hold[1] == 0:
                return  # it ended before: absorbed
        assert units <= hold[1]
        hold[1] -= units
        if hold[1] == 0:
            hold[2] = "CONSUMED" if len(hold) > 3 else "RELEASED"
    except ReservationNotOpen:
        assert units > hold[1] or (name == "consume" and hold[2] != "COMMITTED")
