"""What operators do by hand: batches outside the cycles, recoveries, write-offs, the platform's own payout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text

from core.actor import SYSTEM, Actor, ActorKind
from core.errors import LianyuError
from core.ids import OrderId, TokenId
from core.money import Money
from infra.payments.errors import ProviderRefused, ProviderUnavailable
from marketplace.orders import refunding
from marketplace.orders.refunding import RefundCommand
from services.simulate.carrying import survive
from services.simulate.market import CURRENCIES, KEPT_IN
from services.simulate.world import World
from supply.settlement import platform_payouts
from supply.settlement import service as settlement

OPERATOR = Actor(ActorKind.PLATFORM, None, scopes=frozenset({"platform:admin", "orders:write"}))
_SECOND = Actor(ActorKind.PLATFORM, None, scopes=OPERATOR.scopes, token_id=TokenId.new())
_OWING = text(
    "SELECT substr(n.owner, 7) AS party, n.currency, n.balance_minor, a.tenant_id FROM ledger_balances_now n"
    " JOIN ledger_accounts a ON a.id = n.account_id WHERE n.code = 1100 AND n.balance_minor > 0"
    " ORDER BY n.owner, n.currency"
)
_OWED_TO_CUSTOMERS = text(
    "SELECT order_id, number, currency, -goodwill_minor AS minor FROM split_orders WHERE goodwill_minor < 0"
    " ORDER BY order_id"
)


async def pay_out(world: World) -> str:
    """A batch of everything, whatever the cycles say; made once a day however often it is started."""
    _, cut = await survive(world, lambda: settlement.make_daily_batch(world.db, clock=world.clock))
    return f"payout batch of {world.now:%m-%d}{cut}"


async def recover(world: World) -> str:
    """What a party owes is taken back from its transfers."""
    party, currency = world.dice.choice(world.market.parties), world.dice.choice(CURRENCIES)

    async def reverse() -> int:
        return await settlement.reverse_transfers(
            world.db, party, currency, payments=world.gateways.payments, clock=world.clock
        )

    try:
        done, cut = await survive(world, reverse)
    except (ProviderUnavailable, ProviderRefused) as error:
        return f"reversal from {world.market.names[party]}: {type(error).__name__}"
    world.happened["reversals by hand"] += bool(done)
    return f"reversal from {world.market.names[party]} takes {done} {currency}{cut}"


async def write_off(world: World) -> str:
    """One operator asks to give a debt up, another decides."""
    async with world.calm.reading(SYSTEM) as session:
        owing = (await session.execute(_OWING)).all()
    if not owing:
        return "nobody owes anything"
    debt = world.dice.choice(owing)
    amount, approve = world.dice.randrange(1, debt.balance_minor + 1), world.dice.randrange(4) > 0

    async def decide() -> None:
        async with world.db.unit_of_work(SYSTEM) as session:
            asked = await settlement.ask_write_off(
                session, OPERATOR, debt.party, debt.currency, amount, reason="simulated", clock=world.clock,
                tenant_id=debt.tenant_id,
            )  # fmt: skip
            await settlement.decide_write_off(session, _SECOND, asked, approve=approve, clock=world.clock)

    try:
        _, cut = await survive(world, decide)
    except LianyuError as refused:
        return f"write-off for {world.market.names[debt.party]}: {refused.code}"
    world.happened["write-offs"] += approve and not cut
    return f"write-off for {world.market.names[debt.party]}: {amount} {debt.currency}, {approve}{cut}"


async def goodwill(world: World) -> str:
    """The platform gives a customer something back out of its own pocket."""
    order = world.dice.choice(world.orders)
    step = 10 if order.currency == "KWD" else 1
    amount = Money(step * world.dice.randrange(1, max(order.total_minor // step // 3, 1) + 1), order.currency)
    return await _give(world, order.id, order.name, amount)


async def give_what_is_owed(world: World) -> str:
    """Goodwill that came back from a bank after it was repaid is sent to its customer again."""
    owed = await _owed_to_customers(world)
    return await _give_again(world, world.dice.choice(owed)) if owed else "no customer is owed anything"


async def give_everything_owed(world: World) -> None:
    for each in await _owed_to_customers(world):
        world.note(await _give_again(world, each))


async def _owed_to_customers(world: World) -> Sequence[Row[Any]]:
    async with world.calm.reading(SYSTEM) as session:
        return (await session.execute(_OWED_TO_CUSTOMERS)).all()


async def _give_again(world: World, owed: Row[Any]) -> str:
    world.happened["goodwill given again"] += 1
    amount = Money(owed.minor, owed.currency)
    return await _give(world, OrderId.of(owed.order_id), f"{owed.number}, owed", amount)


async def _give(world: World, order_id: OrderId, name: str, amount: Money) -> str:
    command = RefundCommand(order_id, amount=amount, goodwill=True)

    async def ask() -> None:
        async with world.db.unit_of_work(SYSTEM) as session:
            await refunding.request(session, OPERATOR, command, clock=world.clock)

    try:
        _, cut = await survive(world, ask)
    except LianyuError as refused:
        return f"goodwill for {name}: {refused.code}"
    world.happened["goodwill"] += not cut
    return f"goodwill for {name}: {amount}{cut}"


async def pay_ourselves(world: World) -> str:
    """R11: a part of what is the platform's own goes to its bank."""
    currency = world.dice.choice((*CURRENCIES, KEPT_IN))

    async def request() -> str:
        async with world.db.unit_of_work(SYSTEM) as session:
            own = await platform_payouts.own_funds(session, currency)
            step = 10 if currency == "KWD" else 1
            most = own.amount_minor // step
            if most < 1:
                return "nothing"
            amount = Money(step * world.dice.randrange(1, most + 1), currency)
            await platform_payouts.request_platform_payout(
                session, OPERATOR, amount, reference=f"step {world.step}", now=world.now
            )
            return str(amount)

    try:
        done, cut = await survive(world, request)
    except LianyuError as refused:
        return f"platform payout: {refused.code}"
    return f"platform payout of {done}{cut}"
