"""What people and the provider do: shoppers, merchants, operators, banks, and the network between them and us."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from core.actor import SYSTEM
from core.errors import LianyuError
from core.money import Money
from infra.payments.errors import PaymentDeclined, ProviderRefused, ProviderUnavailable
from marketplace.orders import paying, payment, refunding
from marketplace.orders.errors import CheckoutNotOpen, PaymentUnavailable, ReservationExpired
from marketplace.orders.refunding import RefundCommand, RefundLine
from services.simulate.baskets import PlacedCheckout, PlacedOrder
from services.simulate.carrying import survive
from services.simulate.market import brand_actor
from services.simulate.world import World

CHECKOUTS_AT_ONCE = 12
PILED_UP = 15
_CARDS = ("pm_card_visa",) * 24 + ("pm_card_refundFail", "pm_card_pendingRefund", "pm_card_chargeDeclined")
_SWITCHES = (
    "drop_response", "drop_response", "server_error", "server_error", "rate_limit", "webhook_drop",
    "webhook_hold", "webhook_duplicate", "refund_failure", "transfer_refusal", "reversal_refusal",
    "share_failure", "return_failure",
)  # fmt: skip


async def place(world: World) -> str:
    async with world.calm.unit_of_work(SYSTEM) as session:
        count = world.dice.randrange(1, CHECKOUTS_AT_ONCE + 1)
        placed = await world.shopper.place(session, count, world.now)
    world.unpaid += placed
    for checkout in placed:
        world.names.give(checkout.id, checkout.name)
        for order in checkout.orders:
            world.names.give(order.id, order.name)
    return f"{len(placed)} checkouts, {sum(len(each.orders) for each in placed)} orders"


async def pay(world: World) -> str:
    """A shopper asks for the payment and confirms it, or turns away; the card may be declined."""
    checkout = world.unpaid[world.dice.randrange(len(world.unpaid))]
    card, turns_away = world.dice.choice(_CARDS), world.dice.randrange(20) == 0

    async def ask() -> str:
        async with world.calm.reading(SYSTEM) as session:
            row = await payment.of_checkout(session, checkout.id)
        row = await paying.ask(
            world.gateways.db, checkout.id, row, payments=world.gateways.payments, clock=world.clock
        )
        if turns_away:
            return "turns away"
        assert row.intent_id is not None
        intent = row.intent_id
        await world.provider.gateway.confirm_intent(intent, payment_method=card, key=f"pay:{intent}:{card}")
        return f"pays {checkout.total_minor} {checkout.currency} with {card}"

    try:
        done, cut = await survive(world, ask)
    except (CheckoutNotOpen, ReservationExpired) as error:
        world.unpaid.remove(checkout)
        return f"{checkout.name}: {type(error).__name__}"
    except ProviderRefused as error:
        done, cut = f"refused {error.provider_code}", ""
        world.unpaid.remove(checkout)
    except (PaymentUnavailable, PaymentDeclined, ProviderUnavailable) as error:
        done, cut = type(error).__name__, ""
    if done and done.startswith("pays"):
        _paid(world, checkout)
    elif turns_away and done:
        world.unpaid.remove(checkout)
    return f"{checkout.name} {done}{cut}"


def _paid(world: World, checkout: PlacedCheckout) -> None:
    world.unpaid.remove(checkout)
    world.orders += checkout.orders
    world.happened["paid checkouts"] += 1


async def refund(world: World) -> str:
    """A merchant refunds: units, with or without the goods back, shipping, an amount, everything that is left."""
    order = world.dice.choice(world.orders)
    kind, command = _refund_of(world, order)

    async def ask() -> str:
        async with world.db.unit_of_work(SYSTEM) as session:
            await refunding.request(session, brand_actor(order.merchant_id), command, clock=world.clock)
        return "asked"

    try:
        done, cut = await survive(world, ask)
    except LianyuError as refused:
        world.happened["refunds refused"] += 1
        return f"refund of {kind} of {order.name}: {refused.code}"
    world.happened[f"refund of {kind}"] += done is not None
    return f"refund of {kind} of {order.name} {done}{cut}"


def _refund_of(world: World, order: PlacedOrder) -> tuple[str, RefundCommand]:
    dice, line = world.dice, world.dice.choice(order.lines)
    kind = dice.choice(("units", "units", "units", "shipping", "amount", "amount", "everything"))
    match kind:
        case "units":
            units = RefundLine(
                line.id, dice.randrange(1, line.pieces.total() + 1), supplier_accepts=dice.randrange(3) > 0,
                with_shipping=dice.randrange(4) == 0,
            )  # fmt: skip
            return kind, RefundCommand(order.id, lines=[units])
        case "shipping":
            return kind, RefundCommand(order.id, shipping=True)
        case "amount":
            step = 10 if order.currency == "KWD" else 1
            most = max(order.total_minor // step, 1)
            amount = step * dice.choice([1, dice.randrange(1, most + 1), most])
            return kind, RefundCommand(order.id, amount=Money(amount, order.currency))
        case _:
            return kind, RefundCommand(order.id, everything=True)


async def pass_time(world: World) -> str:
    """Minutes while somebody is at the till or work has piled up, most times; else hours and days."""
    waiting = bool(world.unpaid) or len(world.broker) + len(world.hooks) > PILED_UP
    hurried = waiting and world.dice.randrange(12) > 0
    minutes = world.dice.choice((1, 2, 5) if hurried else (11, 35, 180, 1_440, 3 * 1_440))
    world.clock.advance(timedelta(minutes=minutes))
    return f"{minutes} minutes pass"


async def fault(world: World) -> str:
    """Something will go wrong at the provider, or on the way to it or back, soon and a few times."""
    kind, count = world.dice.choice(_SWITCHES), world.dice.randrange(1, 4)
    options: dict[str, Any] = {}
    if kind == "server_error":
        options["execute"] = world.dice.randrange(2) == 0
    await world.provider.fault(kind, count=count, **options)
    world.happened[f"fault {kind}"] += count
    return f"fault {kind} × {count} {options or ''}".rstrip()


async def let_webhooks_go(world: World) -> str:
    answer = await world.provider.admin("POST", "/webhooks/release")
    return f"held webhooks go: {answer.json()['released']}"
