"""Returns: announced by merchants, received and inspected by suppliers, who take all of it back, some, or nothing."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM, Actor, ActorKind
from core.errors import LianyuError
from core.ids import BrandId, OrderLineId, SupplierId
from marketplace.orders import returning
from marketplace.orders.return_models import ReturnId, ReturnStatus
from marketplace.orders.returning import ReturnCommand
from services.simulate.carrying import survive, was_done
from services.simulate.market import brand_actor
from services.simulate.world import World

_OPEN = text(
    "SELECT r.id, r.order_id, r.merchant_id, r.supplier_id, r.status,"
    " array_agg(l.order_line_id ORDER BY l.order_line_id) AS lines,"
    " array_agg(CASE r.status WHEN 'announced' THEN l.quantity ELSE l.received END ORDER BY l.order_line_id) AS units"
    " FROM returns r JOIN return_lines l ON l.return_id = r.id WHERE r.status = ANY(:statuses)"
    " GROUP BY r.id ORDER BY r.id"
)


async def announce(world: World) -> str:
    """A customer sends units back; what the supplier will not take, the merchant refunds if it says so now."""
    arrived = [order for order in world.orders if order.arrived]
    if not arrived:
        return "nothing was delivered"
    dice, order = world.dice, world.dice.choice(arrived)
    lines = [line for line in order.lines if line.id in order.arrived]
    units = {
        line.id: dice.randrange(1, line.pieces.total() + 1)
        for line in dice.sample(lines, dice.randrange(1, len(lines) + 1))
    }
    command = ReturnCommand(order.id, units, refund_if_refused=dice.randrange(2) == 0)

    async def open_case() -> None:
        async with world.db.unit_of_work(SYSTEM) as session:
            await returning.announce(session, brand_actor(order.merchant_id), command, clock=world.clock)

    try:
        _, cut = await survive(world, open_case)
    except LianyuError as refused:
        return f"return of {order.name}: {refused.code}"
    world.happened["returns announced"] += was_done(cut)
    return f"return of {sum(units.values())} units of {order.name}{cut}"


async def go_on(world: World) -> str:
    """The next step of an open case: the goods arrive, or not all; they are inspected; or nobody sent anything."""
    rows = await _open(world, "announced", "received")
    if not rows:
        return "nothing is on its way back"
    row = world.dice.choice(rows)
    if row.status == ReturnStatus.RECEIVED:
        return await _step(world, row, _inspect(world, row), "inspected")
    if world.dice.randrange(6):
        return await _step(world, row, _receive(world, row), "received")
    return await _step(world, row, _withdraw(world, row), "withdrawn")


async def inspect_everything(world: World) -> bool:
    """Suppliers decide about all they have received, and take nothing back of what cannot be refunded any more.
    Whether one of them did; an open dispute keeps them from it."""
    before = world.happened["returns inspected"]
    for row in await _open(world, "received"):
        done = world.happened["returns inspected"]
        world.note(await _step(world, row, _inspect(world, row), "inspected"))
        if world.happened["returns inspected"] == done:
            world.note(await _step(world, row, _inspect(world, row, {}), "inspected"))
    return world.happened["returns inspected"] > before


async def _open(world: World, *statuses: str) -> list[Any]:
    async with world.calm.reading(SYSTEM) as session:
        return list((await session.execute(_OPEN, {"statuses": list(statuses)})).all())


async def _step(world: World, row: Any, act: Any, what: str) -> str:
    name = world.names.of(ReturnId.of(row.id))

    async def take() -> None:
        async with world.db.unit_of_work(SYSTEM) as session:
            await act(session)

    try:
        _, cut = await survive(world, take)
    except LianyuError as refused:
        return f"{name} is not {what}: {refused.code}"
    world.happened[f"returns {what}"] += was_done(cut)
    return f"{name} is {what}{cut}"


def _receive(world: World, row: Any) -> Any:
    units = _units(world, row, least=1)

    async def act(session: Any) -> None:
        await returning.receive(session, _supplier(row), ReturnId.of(row.id), units, clock=world.clock)

    return act


def _inspect(world: World, row: Any, accepted: dict[OrderLineId, int] | None = None) -> Any:
    """All accepted units are damaged: shelves have their own proofs."""
    if accepted is None:
        accepted = world.dice.choice(({}, _units(world, row, least=1), _everything(row)))
    accepted = {line: units for line, units in accepted.items() if units}

    async def act(session: Any) -> None:
        await returning.inspect(
            session, _supplier(row), ReturnId.of(row.id), accepted, damaged=accepted, clock=world.clock
        )

    return act


def _withdraw(world: World, row: Any) -> Any:
    async def act(session: Any) -> None:
        merchant = brand_actor(BrandId.of(row.merchant_id))
        await returning.withdraw(session, merchant, ReturnId.of(row.id), clock=world.clock)

    return act


def _units(world: World, row: Any, *, least: int) -> dict[OrderLineId, int]:
    """Of each line some; of the first that has any at least ``least``."""
    most = _everything(row)
    drawn = {line: world.dice.randrange(0, units + 1) for line, units in most.items()}
    if not any(drawn.values()):
        first = next(line for line, units in most.items() if units)
        drawn[first] = least
    return drawn


def _everything(row: Any) -> dict[OrderLineId, int]:
    return {OrderLineId.of(line): units for line, units in zip(row.lines, row.units, strict=True)}


def _supplier(row: Any) -> Actor:
    return Actor(ActorKind.SUPPLIER, SupplierId.of(row.supplier_id))
