"""What banks do to payments that were long made: disputes, inquiries, verdicts, refunds sent back; and the answers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM
from core.errors import LianyuError
from core.ids import BrandId, OrderId
from infra.payments.errors import ProviderRefused, ProviderUnavailable
from services.simulate.carrying import survive
from services.simulate.market import KEPT_IN, RATES, brand_actor
from services.simulate.operators import OPERATOR
from services.simulate.world import World
from supply.settlement.disputes import absorbing, evidence

_UNDECIDED = frozenset({"needs_response", "under_review", "warning_needs_response", "warning_under_review"})
_CHARGE = text(
    "SELECT p.charge_id, p.captured_minor FROM payments p JOIN orders o ON o.checkout_id = p.checkout_id"
    " WHERE o.id = :id AND p.charge_id IS NOT NULL"
)
_OURS = text(
    "SELECT d.id, array_agg(o.merchant_id ORDER BY o.order_id) AS merchants, array_agg(o.order_id ORDER BY"
    " o.order_id) AS orders FROM disputes d JOIN dispute_orders o ON o.dispute_id = d.id WHERE d.stage = ANY(:stages)"
    " GROUP BY d.id, d.opened_at ORDER BY d.opened_at, d.id"
)


async def dispute(world: World) -> str:
    """A cardholder disputes a payment, all of it or a part; some banks only ask first."""
    order = world.dice.choice(world.orders)
    async with world.calm.reading(SYSTEM) as session:
        row = (await session.execute(_CHARGE, {"id": order.id})).first()
    if row is None:
        return f"dispute of {order.name}: not captured yet"
    asked: dict[str, Any] = {"charge": row.charge_id, "inquiry": world.dice.randrange(4) == 0}
    if world.dice.randrange(3) == 0:
        step = 10 if order.currency == "KWD" else 1
        asked["amount"] = step * world.dice.randrange(1, row.captured_minor // step + 1)
    answer = await world.provider.admin("POST", "/disputes", **asked)
    if answer.is_error:
        return f"dispute of {order.name}: refused"
    world.disputes.append(answer.json()["id"])
    world.happened["inquiries" if asked["inquiry"] else "disputes"] += 1
    return f"dispute {len(world.disputes)} of {order.name}, {asked.get('amount', 'all')}, asks {asked['inquiry']}"


async def decide(world: World) -> str:
    """The bank goes on with one of its disputes: an inquiry becomes one, or the verdict falls."""
    number = world.dice.randrange(len(world.disputes))
    found = await world.provider.look(lambda tx: tx.find(world.disputes[number], "dispute"))
    if found is None or found["status"] not in _UNDECIDED:
        return f"dispute {number + 1} is decided"
    return await verdict(world, number, found["status"])


async def verdict(world: World, number: int, status: str) -> str:
    dispute_id = world.disputes[number]
    if status.startswith("warning_") and world.dice.randrange(2):
        await world.provider.admin("POST", f"/disputes/{dispute_id}/escalate")
        return f"dispute {number + 1} takes the money"
    won = world.dice.choice(("won", "lost"))
    fee_back = won == "won" and world.dice.randrange(4) == 0
    await world.provider.admin("POST", f"/disputes/{dispute_id}/close", status=won, fee_back=fee_back)
    world.happened[f"disputes {won}"] += 1
    return f"dispute {number + 1} is {won}"


async def decide_everything(world: World) -> None:
    """Every bank ends what it began."""
    for number, dispute_id in enumerate(world.disputes):
        while True:
            found = await world.provider.look(lambda tx, id=dispute_id: tx.find(id, "dispute"))  # type: ignore[misc]
            if found is None or found["status"] not in _UNDECIDED:
                break
            world.note(await verdict(world, number, found["status"]))


async def answer(world: World) -> str:
    """A merchant gives evidence for an open dispute, or gives it up; an operator takes over a loss."""
    act = world.dice.choice((_give_evidence, _concede, _absorb))
    stages = ["lost"] if act is _absorb else ["inquiry", "open"]
    async with world.calm.reading(SYSTEM) as session:
        rows = (await session.execute(_OURS, {"stages": stages})).all()
    if not rows:
        return "no dispute to answer"
    row = world.dice.choice(rows)
    place = world.dice.randrange(len(row.orders))
    merchant, order = BrandId.of(row.merchants[place]), OrderId.of(row.orders[place])
    number = world.disputes.index(row.id) + 1 if row.id in world.disputes else 0

    async def do() -> None:
        await act(world, row.id, merchant, order)

    try:
        _, cut = await survive(world, do)
    except LianyuError as refused:
        return f"{act.__name__} of dispute {number}: {refused.code}"
    return f"{act.__name__} of dispute {number}{cut}"


async def _give_evidence(world: World, dispute_id: str, merchant: BrandId, order: OrderId) -> None:
    fields = {"product_description": "a thing", "shipping_tracking_number": "T1"}
    async with world.db.unit_of_work(SYSTEM) as session:
        await evidence.give_evidence(
            session, OPERATOR, dispute_id, fields, clock=world.clock, final=world.dice.randrange(2) == 0
        )


async def _concede(world: World, dispute_id: str, merchant: BrandId, order: OrderId) -> None:
    async with world.db.unit_of_work(SYSTEM) as session:
        await evidence.concede(session, brand_actor(merchant), dispute_id, clock=world.clock)


async def _absorb(world: World, dispute_id: str, merchant: BrandId, order: OrderId) -> None:
    async with world.db.unit_of_work(SYSTEM) as session:
        await absorbing.absorb_loss(
            session, OPERATOR, dispute_id, order, reason="simulated", clock=world.clock
        )


async def move_rates(world: World) -> str:
    """A currency is worth up to a tenth more or less than to begin with: R10c has something to realise."""
    currency = world.dice.choice(sorted(world.rates))
    world.rates[currency] = RATES[currency] * (1 + world.dice.uniform(-0.1, 0.1))
    await world.provider.convert(KEPT_IN, world.rates)
    return f"one {currency} is {world.rates[currency]:.6f} {KEPT_IN}"


async def refund_past_us(world: World) -> str:
    """Somebody refunds at the provider's own desk; we learn of it like of anything else."""
    order = world.dice.choice(world.orders)
    async with world.calm.reading(SYSTEM) as session:
        row = (await session.execute(_CHARGE, {"id": order.id})).first()
    if row is None:
        return f"refund past us of {order.name}: not captured yet"
    step = 10 if order.currency == "KWD" else 1
    amount = step * world.dice.randrange(1, max(row.captured_minor // step // 4, 1) + 1)
    try:
        await world.provider.gateway.refund(
            charge_or_intent=row.charge_id, amount_minor=amount, key=f"desk:{world.step}"
        )
    except (ProviderRefused, ProviderUnavailable) as error:
        return f"refund past us of {order.name}: {type(error).__name__}"
    world.happened["refunds past us"] += 1
    return f"refund past us of {order.name}: {amount} {order.currency}"
