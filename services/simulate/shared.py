"""Orders paid on the rail that shares payments itself (分账): sold, delivered, refunded, and what operators decide.

Such a payment belongs to one merchant and lies frozen with it; nothing of it may meet the accounts of the other rail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import Clock
from core.errors import LianyuError
from core.ids import OrderId, OrderLineId, RefundId, TenantId
from core.money import PPM
from infra.db.session import Database
from infra.payments.errors import ProviderUnavailable
from infra.payments.profit_sharing import CAPABILITIES, ProfitSharing
from services.paysim.sharing import funds
from services.paysim.transaction import Tx
from services.simulate.carrying import survive, was_done
from services.simulate.market import Market
from services.simulate.provider import SHARING_HOOKS, Provider
from services.simulate.world import SharedOrder, World
from supply.settlement.capture import CapturedLine, CapturedOrder, CommissionShare
from supply.settlement.composition import Part
from supply.settlement.rails import service as rails
from supply.settlement.rails.ids import RailRequestId
from supply.settlement.refunds import LineRefund, RefundPlan, ShippingRefund
from supply.settlement.split_plan import PayeeKind

NOTHING_REFUSED = "the rail refused nothing"
RAIL, PLATFORM = CAPABILITIES.name, "platform"
ALLOWED_PPM = 900_000
"""What the rail lets these merchants share: an order's suppliers are within the split."""
_ALLOWED = replace(CAPABILITIES, max_outward_ppm=ALLOWED_PPM)
_CURRENCY = "CNY"
_REFUSED = text("SELECT refund_id FROM rail_refunds WHERE status = 'refused' ORDER BY refund_id")
_REFUSED_REQUESTS = text("SELECT id FROM rail_requests WHERE status = 'refused' ORDER BY id")
_LEFT = text(
    "SELECT 'rail order ' || order_id || ' is not closed' FROM rail_orders WHERE closed_at IS NULL"
    " UNION ALL SELECT 'rail refund ' || refund_id || ' is ' || status FROM rail_refunds"
    "  WHERE status NOT IN ('settled', 'voided')"
    " UNION ALL SELECT n.code || ' ' || n.owner || ' ' || n.balance_minor || ' ' || n.currency"
    "  FROM ledger_balances_now n WHERE n.code IN (1900, 2900, 2910) AND n.balance_minor <> 0"
)
_PAID = text(
    "SELECT i.account_id, i.kind, sum(i.amount_minor - coalesce(b.minor, 0))::bigint AS minor FROM rail_instructions i"
    " LEFT JOIN (SELECT request_id, payee_id, sum(amount_minor) AS minor FROM rail_returns WHERE status = 'done'"
    "  GROUP BY 1, 2) b USING (request_id, payee_id) WHERE i.status = 'paid' GROUP BY 1, 2"
)
_OURS = text(
    "SELECT coalesce(sum(balance_minor), 0)::bigint FROM ledger_balances_now"
    " WHERE code = 1010 AND owner = 'psp:' || :rail"
)
_REFUNDED = text("SELECT coalesce(sum(amount_minor), 0)::bigint FROM rail_refunds WHERE status = 'settled'")


async def open_accounts(
    db: Database, market: Market, rail: ProfitSharing, provider: Provider, clock: Clock
) -> None:
    """Every party has an account there, a person a wallet."""
    kinds = {str(brand): PayeeKind.MERCHANT for brand in market.brands}
    kinds |= {str(person): PayeeKind.INDIVIDUAL for person in market.people}
    accounts = {PLATFORM: (await rail.platform_merchant()).id}
    for party in market.parties:
        if kinds.get(party) is PayeeKind.INDIVIDUAL:
            accounts[party] = f"openid-{market.names[party].replace(' ', '-')}"
            continue
        accounts[party] = (await rail.register_merchant(party_ref=party, name=market.names[party])).id
        allowed = await provider.admin(
            "POST", f"/sharing/merchants/{accounts[party]}", max_outward_ppm=ALLOWED_PPM
        )
        allowed.raise_for_status()
    async with db.unit_of_work(SYSTEM) as session:
        for party, account in accounts.items():
            kind = PayeeKind.PLATFORM if party == PLATFORM else kinds.get(party, PayeeKind.BUSINESS)
            await rails.register_rail_account(
                session, party, rail=RAIL, kind=kind, account_id=account, now=clock.now()
            )
            market.rail_accounts[party] = account


async def sell(world: World) -> str:
    """One merchant's order is paid there and written down; what a kill came between is written down later."""
    waiting = [each for each in world.shared if not each.recorded]
    sold = world.dice.choice(waiting) if waiting else _drawn(world)
    if not waiting:
        world.shared.append(sold)
        world.names.give(sold.order.order_id, sold.name)
    return await _pay_and_record(world, sold)


async def deliver(world: World) -> str:
    """Everything of an order arrives: its plan is dated anew, if nothing was sent."""
    waiting = [each for each in world.shared if each.recorded and not each.delivered]
    if not waiting:
        return "nothing shared is on its way"
    return await _arrive(world, world.dice.choice(waiting))


async def refund(world: World) -> str:
    """Units, shipping, an amount or everything that is left, as far as the rail can take it from somebody."""
    recorded = [each for each in world.shared if each.recorded]
    if not recorded:
        return "nothing shared to refund"
    sold = world.dice.choice(recorded)
    kind, plan = _plan(world, sold)

    async def reserve() -> None:
        async with world.db.unit_of_work(SYSTEM) as session:
            await rails.refund_shared(session, plan, now=world.now)

    try:
        _, cut = await survive(world, reserve)
    except LianyuError as refused:
        return f"shared refund of {kind} of {sold.name}: {refused.code}"
    world.happened["shared refunds"] += was_done(cut)
    return f"shared refund of {kind} of {sold.name}{cut}"


async def decide(world: World) -> str:
    """An operator looks at what the rail refused: again, or not at all."""
    async with world.calm.reading(SYSTEM) as session:
        refunds = list((await session.execute(_REFUSED)).scalars())
        requests = list((await session.execute(_REFUSED_REQUESTS)).scalars())
    if not refunds and not requests:
        return NOTHING_REFUSED
    again = world.dice.randrange(2) == 0 and not world.healthy

    async def act() -> None:
        async with world.db.unit_of_work(SYSTEM) as session:
            if refunds:
                verb = rails.retry_shared_refund if again else rails.void_shared_refund
                await verb(session, RefundId.of(refunds[0]), now=world.now)
            elif again:
                await rails.retry_refused(session, RailRequestId.of(requests[0]), now=world.now)
            else:
                await rails.abandon_refused(session, RailRequestId.of(requests[0]), now=world.now)

    _, cut = await survive(world, act)
    what = "refund" if refunds else "request"
    world.happened[f"shared {what}s {'tried again' if again else 'given up'}"] += was_done(cut)
    return f"a refused shared {what} is {'tried again' if again else 'given up'}{cut}"


async def finish(world: World) -> None:
    """Everything paid is written down and arrives; operators decide about all that was refused."""
    for sold in world.shared:
        while not sold.recorded:
            world.note(await _pay_and_record(world, sold))
        while not sold.delivered:
            world.note(await _arrive(world, sold))


async def left_open(world: World) -> list[str]:
    """At rest: orders that are closed, refunds that have ended, and the rail's own books say the same."""
    held = await world.provider.look(lambda tx: _held(tx, world.market.rail_accounts))
    async with world.calm.reading(SYSTEM) as session:
        broken = [f"left open at rest: {each}" for each in (await session.execute(_LEFT)).scalars()]
        paid = {row.account_id: row.minor for row in await session.execute(_PAID)}
        ours = (await session.execute(_OURS, {"rail": RAIL})).scalar_one()
        refunded = (await session.execute(_REFUNDED)).scalar_one()
    platform = world.market.rail_accounts[PLATFORM]
    if ours != held[platform]:
        broken.append(f"the platform has {held[platform]} on the rail, its books say {ours}")
    for party in world.market.people:
        account = world.market.rail_accounts[str(party)]
        if held[account] != paid.get(account, 0):
            name = world.market.names[str(party)]
            broken.append(f"{name} was paid {held[account]} by the rail, by our books {paid.get(account, 0)}")
    # Businesses are merchants there as well: all of them together have what customers paid, less the rest.
    there = sum(held.values()) + refunded
    if there + held.fees != held.paid:
        broken.append(
            f"customers paid {held.paid} on the rail; {there} and fees of {held.fees} are accounted for"
        )
    return broken


class _Held(dict[str, int]):
    """By account what it has; what customers paid, and what the rail kept."""

    paid = fees = 0


def _held(tx: Tx, accounts: dict[str, str]) -> _Held:
    held = _Held()
    for account in accounts.values():
        kind = "PERSON" if account.startswith("openid-") else "MERCHANT"
        held[account] = funds.held(tx, funds.of_receiver(kind, account))
    for row in tx.all("share_movement"):
        sign = {"PAYMENT": "paid", "FEE": "fees", "FEE_BACK": "fees"}.get(row["kind"])
        if sign == "paid":
            held.paid += row["amount"]
        elif sign == "fees":
            held.fees += row["amount"] if row["kind"] == "FEE" else -row["amount"]
    return held


async def _pay_and_record(world: World, sold: SharedOrder) -> str:
    rail = world.gateways.rails[RAIL]

    async def pay() -> str:
        payment = await rail.pay(
            merchant_id=world.market.rail_accounts[str(sold.order.merchant_id)],
            trade_no=str(sold.order.order_id), amount_minor=sold.paid_minor, currency=_CURRENCY,
            description=sold.name, notify_url=SHARING_HOOKS, payer="test_pays",
        )  # fmt: skip
        async with world.db.unit_of_work(SYSTEM) as session:
            await rails.record_shared_payment(
                session, sold.order, payment_id=payment.id, fee_minor=payment.fee_minor, rail=_ALLOWED,
                clock=world.clock,
            )  # fmt: skip
        return f"pays {sold.paid_minor} {_CURRENCY} to be shared"

    try:
        done, cut = await survive(world, pay)
    except ProviderUnavailable as error:
        return f"{sold.name}: {type(error).__name__}"
    sold.recorded = was_done(cut)
    world.happened["shared orders"] += sold.recorded
    return f"{sold.name} {done}{cut}"


async def _arrive(world: World, sold: SharedOrder) -> str:
    units = [(line.order_line_id, line.quantity) for line in sold.order.lines]

    async def record() -> None:
        async with world.db.unit_of_work(SYSTEM) as session:
            await rails.record_shared_delivery(
                session, sold.order.order_id, units, rail=CAPABILITIES, at=world.now
            )

    _, cut = await survive(world, record)
    sold.delivered = was_done(cut)
    return f"{sold.name} arrives{cut}"


def _plan(world: World, sold: SharedOrder) -> tuple[str, RefundPlan]:
    dice, order = world.dice, sold.order
    id, line = RefundId.new(), dice.choice(order.lines)
    match kind := dice.choice(("units", "units", "shipping", "amount", "everything")):
        case "units":
            units = LineRefund(
                line.order_line_id, dice.randrange(1, line.quantity + 1), dice.randrange(3) > 0
            )
            return kind, RefundPlan(id, order.order_id, lines=[units])
        case "shipping":
            return kind, RefundPlan(id, order.order_id, shipping=[ShippingRefund()])
        case "amount":
            amount = dice.randrange(1, max(sold.paid_minor // 3, 1) + 1)
            return kind, RefundPlan(id, order.order_id, amount_minor=amount)
    return kind, RefundPlan(id, order.order_id, everything=True)


def _drawn(world: World) -> SharedOrder:
    dice, market = world.dice, world.market
    merchant = dice.choice(market.brands)
    lines = [_line(world, merchant) for _ in range(dice.choice((1, 1, 2, 3)))]
    number = len(world.shared) + 1
    order = CapturedOrder(
        OrderId.new(), merchant, _CURRENCY, f"shared:{number}", world.now, lines, "CN",
        return_window_days=dice.choice((7, 15)), supplier_settlement_days=dice.choice((0, 3)),
        number=f"shared order {number}", provider=RAIL,
    )  # fmt: skip
    return SharedOrder(f"shared order {number}", order)


def _line(world: World, merchant: TenantId) -> CapturedLine:
    dice, market = world.dice, world.market
    quantity = dice.choice((1, 1, 2, 3))
    # With freight on top, less than this would give others more than the rail shares.
    goods = quantity * dice.choice((dice.randrange(40, 90), dice.randrange(300, 20_000)))
    shipping = dice.choice((0, 0, 80))
    return CapturedLine(
        OrderLineId.new(), quantity, goods, goods * 60_000 // PPM, dice.choice(market.suppliers),
        goods * dice.randrange(10, 40) // 100, shipping_minor=shipping, supplier_shipping_minor=shipping,
        commission=_commission(world, merchant, goods), platform_fee_minor=goods * 50_000 // PPM,
    )  # fmt: skip


def _commission(world: World, merchant: TenantId, goods: int) -> Sequence[CommissionShare]:
    """To a person of a brand that promotes, and to that brand; nobody promotes what is its own."""
    dice, market = world.dice, world.market
    person = dice.choice((None, *market.people))
    if person is None or market.people[person] == merchant:
        return ()
    whole = goods * dice.randrange(50_000, 150_000) // PPM
    its_own = whole // 3
    shares = (
        CommissionShare(str(market.people[person]), Part.PROMOTER_BRAND, whole - its_own),
        CommissionShare(str(person), Part.INDIVIDUAL, its_own),
    )
    return tuple(share for share in shares if share.amount_minor)
