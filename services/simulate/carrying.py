"""Messages, webhooks and sweeps: the workers' part of a step, and what a kill leaves behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import orjson
from sqlalchemy.exc import DBAPIError

from core.actor import SYSTEM
from core.events import from_body
from infra import outbox
from infra.payments.errors import ProviderUnavailable
from services.paysim.webhooks import Delivery as Hook
from services.paysim.webhooks import Outcome
from services.simulate.kill import Killed
from services.simulate.together import together
from services.simulate.world import Queued, World
from services.worker.dispatch import Delivery, handler_name, sweep_once, try_once
from services.worker.schedule import SWEEPS
from services.worker.subscriptions import SUBSCRIPTIONS

T = TypeVar("T")
KILL_ONE_IN = 25
"""Pieces of work, of which one is killed, if it has as many points as the dice say."""
MOST_POINTS = 6
AGAIN_AFTER = timedelta(minutes=1)
GIVES_UP_AFTER = 40
"""A message that fails this often, with faults that all end, would never be handled."""
BATCH = 100
_NOT_MONEY = (
    "marketplace.matching.", "marketplace.catalog.", "marketplace.insights.", "marketplace.promotion.fraud.",
    "supply.fulfillment.", "supply.routing.",
)  # fmt: skip
AT_ONCE = 3
MONEY_SWEEPS = sorted(
    name for name in SWEEPS if name.startswith(("orders.", "settlement.", "ledger.", "promotion.", "rails."))
)


async def survive(world: World, work: Callable[[], Awaitable[T]]) -> tuple[T | None, str]:
    """Do a piece of work that may be killed on the way, or lose its database; its result, and where it was cut."""
    before, unlucky = world.power_cuts, world.dice.randrange(KILL_ONE_IN) == 0 and not world.healthy
    instead = world.cut_power if unlucky and world.may_cut_power() else None
    world.switch.set(world.dice.randrange(1, MOST_POINTS + 1) if unlucky else 0, instead)
    try:
        return await work(), ""
    except Killed as cut:
        where = str(cut.args[0])
        world.kills[where] += 1
        return None, f" KILLED {where}"
    except (DBAPIError, OSError) as error:
        if "deadlock detected" in str(error):
            world.failures.append(f"two workers waited for each other: {error}")
        if world.power_cuts == before:
            raise
        return None, f" POWER CUT {world.cut_at}"
    finally:
        world.switch.set(0)


def was_done(cut: str) -> bool:
    """Whether the transaction of a piece of work that ``survive`` came back from is there."""
    return not cut or cut.endswith("after the commit")


async def relay(world: World) -> str:
    """Outbox → broker. Killed between the two, messages are carried again."""

    async def carry() -> int:
        async with world.db.unit_of_work(SYSTEM) as session:
            messages = await outbox.claim(session, batch=BATCH)
            if not messages:
                return 0
            await outbox.mark_published(session, messages)
            world.broker += [
                Queued(Delivery(m.id, m.name, m.body, m.request_id)) for m in messages if _listened_to(m)
            ]
            return len(messages)

    carried, cut = await survive(world, carry)
    return f"relay carries {carried}{cut}"


def _listened_to(message: outbox.Message) -> bool:
    return bool(_handlers(message.name, message.body))


def _handlers(name: str, body: dict[str, Any]) -> list[Callable[..., Awaitable[Any]]]:
    event = from_body(name, body)
    handlers = SUBSCRIPTIONS.get(type(event), ())
    return [each for each in handlers if not handler_name(each).startswith(_NOT_MONEY)]


async def message(world: World) -> str:
    """One message of the broker's, any of them, to all its handlers. What fails or is cut comes back."""
    queued = world.dice.choice(world.messages)
    world.broker.remove(queued)
    delivery = queued.delivery
    event, outcome = from_body(delivery.name, delivery.body), ""

    async def handle() -> None:
        for handler in _handlers(delivery.name, delivery.body):
            await try_once(world.gateways, handler, delivery, event)

    try:
        _, outcome = await survive(world, handle)
    except Exception as error:
        outcome = f" FAILED {type(error).__name__}"
        queued.tries += 1
        queued.not_before = world.now + AGAIN_AFTER
        world.happened["failed attempts"] += 1
        if queued.tries >= GIVES_UP_AFTER:
            world.failures.append(f"{delivery.name}: {type(error).__name__}: {error}")
            return f"message {delivery.name} GIVEN UP {type(error).__name__}"
    if outcome:
        world.broker.append(queued)
    return f"message {delivery.name} of {world.names.within(delivery.body)}{outcome}"


async def webhook(world: World) -> str:
    """One webhook, any that waits, to the platform's own route. Anything but a 2xx is delivered again."""
    hook = world.hooks.pop(world.dice.randrange(len(world.hooks)))

    async def post() -> int:
        answer = await world.receiver.post(hook.url, content=hook.body, headers=world.provider.signed(hook))
        return answer.status_code

    about = _about(world, hook)
    status, cut = await survive(world, post)
    delivered = status is not None and 200 <= status < 300
    world.answered.append(Outcome(hook, delivered, str(status)))
    return f"webhook {about} answered {status}{cut}"


def _about(world: World, hook: Hook) -> str:
    event = orjson.loads(hook.body)
    subject = event["resource"] if hook.sharing else event["data"]["object"]
    named = subject["id"] if "id" in subject else subject.get("transaction_id", "")
    return f"{event.get('type')} of {world.names.of(named)}"


async def sweep(world: World, name: str) -> str:
    """One round of a sweep. What the provider does not answer ends it, as it ends a worker's task."""
    try:
        done, cut = await survive(world, lambda: sweep_once(world.gateways, name))
    except ProviderUnavailable:
        world.happened["sweeps without an answer"] += 1
        return f"sweep {name} got no answer"
    if done:
        world.happened[f"sweep {name}"] += 1
    return f"sweep {name} did {done}{cut}"


async def at_once(world: World) -> str:
    """Several of a worker's pieces of work, each of which gives way to the others at its points."""
    works = [partial(_anything, world) for _ in range(world.dice.randrange(2, AT_ONCE + 1))]
    done = await together(works, switch=world.switch, calm=world.calm, dice=world.dice)
    world.happened["at once"] += len(done)
    return " | ".join(("at once", *done))


async def _anything(world: World) -> str:
    possible: list[Callable[[World], Awaitable[str]]] = [relay, any_sweep]
    if world.messages:
        possible += [message, message]
    if world.hooks:
        possible.append(webhook)
    return await world.dice.choice(possible)(world)


async def any_sweep(world: World) -> str:
    return await sweep(world, world.dice.choice(MONEY_SWEEPS))
