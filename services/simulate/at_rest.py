"""The end: faults stop, everything that waits is done, and the provider's books are laid beside ours."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM
from core.ids import StatementId
from marketplace.orders import late_payments
from services.paysim import books
from services.paysim.transaction import Tx
from services.simulate import banks, carrying, happenings, operators, returns, shared
from services.simulate.world import World
from supply.settlement.service import recompute_statement

ROUNDS = 400
RECOMPUTED = 12
_WAITS = (timedelta(minutes=45), timedelta(days=1), timedelta(days=3))
"""What passes while nothing else can be done: the patience of every sweep, then the provider's days."""
_OLDEST = timedelta(days=61)
"""Longer than any return window and the wait for a delivery that nobody told of."""

_STATEMENTS = text("SELECT id FROM statements ORDER BY payee_id, currency, number")
_CASH = text(
    "SELECT currency, sum(balance_minor * side)::bigint AS minor FROM ledger_balances_now"
    " WHERE code IN (1000, 1010) AND owner = 'psp:stripe' GROUP BY currency HAVING sum(balance_minor * side) <> 0"
)
_BUCKETS = text(
    "SELECT code, currency, sum(balance_minor * side)::bigint AS minor FROM ledger_balances_now"
    " WHERE code IN (1000, 1010) AND owner = 'psp:stripe' GROUP BY code, currency"
)
# A platform that gave away more than it earned in a currency cannot pay everybody in it: that waits for its funds.
# What a card never takes back stays its customer's: operators have given it once more (give_what_is_owed), and of a
# payment that came late every attempt has come back.
_OPEN = text(
    "SELECT n.code || ' ' || n.owner || ' ' || n.balance_minor || ' ' || n.currency FROM ledger_balances_now n"
    " WHERE n.code IN (2020, 2100, 2300, 2030, 1110) AND n.owner NOT LIKE 'customer:ord%'"
    " AND (SELECT count(*) FROM ledger_journals j WHERE n.owner LIKE 'customer:ch%'"
    "  AND j.kind = 'refund_voided' AND j.idem LIKE 'late:' || substr(n.owner, 10) || ':%') < :tries"
    " AND n.balance_minor <> coalesce((SELECT sum(p.amount_minor)"
    "  FROM payouts p WHERE n.code = 2020 AND n.owner = 'party:' || p.payee_id AND p.currency = n.currency"
    "  AND p.status = 'reserved' AND p.failure = 'awaiting_funds' AND p.amount_minor > (SELECT sum(f.balance_minor)"
    "   FROM ledger_balances_now f WHERE f.code = 1010 AND f.owner = 'psp:stripe' AND f.currency = p.currency)), 0)"
)
_PAID = text(
    "SELECT p.transfer_id, coalesce(c.amount_minor, p.amount_minor - p.reversed_minor) AS minor FROM payouts p"
    " LEFT JOIN payout_costs c ON c.payout_id = p.id WHERE p.status = 'paid'"
)
_HELD = text(
    "SELECT order_id || ' is held ' || open_holds || ' times' FROM split_lines WHERE open_holds <> 0"
)
_REFUNDED = text(
    "SELECT charge_id, sum(refunded_minor)::bigint AS minor FROM payments WHERE charge_id IS NOT NULL GROUP BY 1"
)
_DISAGREE = text(
    "SELECT o.number || ' refunded ' || o.refunded_minor || ', its splits ' || s.minor FROM orders o"
    " JOIN (SELECT order_id, sum(amount_minor) AS minor FROM split_refunds WHERE status <> 'voided'"
    " GROUP BY 1) s ON s.order_id = o.id WHERE o.refunded_minor <> s.minor"
    " UNION ALL SELECT o.number || ' is paid and has no split' FROM orders o WHERE o.paid_at IS NOT NULL"
    " AND NOT EXISTS (SELECT FROM split_orders s WHERE s.order_id = o.id)"
)


async def come_to_rest(world: World) -> list[str]:
    """Nothing fails any more; whatever is due happens, until nothing is. Complaints when it never ends."""
    await world.provider.admin("DELETE", "/faults")
    await happenings.let_webhooks_go(world)
    await _send_lost_refunds_again(world)
    world.unpaid.clear()
    world.healthy = True
    await banks.decide_everything(world)
    await shared.finish(world)
    waits = [*_WAITS, _OLDEST, *_WAITS]
    given_again = False
    for _ in range(ROUNDS):
        if await _everything_once(world):
            continue
        if not given_again:
            given_again = True
            await operators.give_everything_owed(world)
        if not waits:
            return [f"given up: {each}" for each in world.failures]
        world.clock.advance(waits.pop(0))
        await operators.pay_out(world)
    return [f"nothing comes to rest: {len(world.broker)} messages, {len(world.hooks)} webhooks wait"]


async def _send_lost_refunds_again(world: World) -> None:
    """What was refunded past us nobody here can ask about: its lost notices are sent again by hand."""

    def lost(tx: Tx) -> list[str]:
        rows = tx.db.execute(
            "SELECT DISTINCT d.event FROM delivery d JOIN object o ON o.id = d.event"
            " WHERE d.state = 'dropped' AND o.f1 LIKE 'refund.%' ORDER BY o.seq"
        )
        return [row[0] for row in rows]

    for event in await world.provider.look(lost):
        await world.provider.admin("POST", "/webhooks/redeliver", event=event)


async def _everything_once(world: World) -> bool:
    """All webhooks, all messages, every sweep one round. Whether anything was done."""
    before, done = world.step, False
    await world.fetch_hooks()
    while world.hooks:
        done = True
        await _noted(world, await carrying.webhook(world))
    await _noted(world, await carrying.relay(world))
    while world.messages:
        done = True
        await _noted(world, await carrying.message(world))
    done = await returns.inspect_everything(world) or done
    if (what := await shared.decide(world)) != shared.NOTHING_REFUSED:
        done = True
        await _noted(world, what)
    for name in carrying.MONEY_SWEEPS:
        what = await carrying.sweep(world, name)
        done = done or not what.endswith(("did 0", "no answer"))
        await _noted(world, what)
    return done and world.step > before


async def _noted(world: World, what: str) -> None:
    world.step += 1
    world.note(what)


async def statements_agree(world: World) -> list[str]:
    """Invariant 10: a closed period never changes, so closing it again gives the same bytes. Some of them."""
    async with world.calm.reading(SYSTEM) as session:
        known = [StatementId.of(each) for each in (await session.execute(_STATEMENTS)).scalars()]
        chosen = world.dice.sample(known, min(len(known), RECOMPUTED))
        changed = [each for each in chosen if len(set(await recompute_statement(session, each))) > 1]
    world.happened["statements"] = len(known)
    return [f"10. closing statement {each} again gives other bytes" for each in changed]


async def provider_agrees(world: World) -> list[str]:
    """Invariants 4 and 9 at rest: the same money, the same transfers, the same refunds on both sides."""
    theirs = await world.provider.look(_provider_side)
    async with world.calm.reading(SYSTEM) as session:
        cash = {row.currency: row.minor for row in await session.execute(_CASH)}
        buckets = {(row.code, row.currency): row.minor for row in await session.execute(_BUCKETS)}
        paid = {row.transfer_id: row.minor for row in await session.execute(_PAID)}
        refunded = {row.charge_id: row.minor for row in await session.execute(_REFUNDED)}
        open_items = list((await session.execute(_OPEN, {"tries": late_payments.TRIES})).scalars())
        disagree = list((await session.execute(_DISAGREE)).scalars())
        open_items += (await session.execute(_HELD)).scalars()
    broken = [f"left open at rest: {each}" for each in open_items]
    broken += [f"orders and settlement disagree: {each}" for each in disagree]
    if not theirs["balanced"]:
        broken.append("the provider's own books do not balance")
    broken += await shared.left_open(world)
    broken += _differences("cash", cash, theirs["cash"])
    broken += _differences("money by bucket", buckets, theirs["buckets"])
    broken += _differences("transfers", paid, theirs["transfers"])
    broken += _differences("refunds of charges", refunded, theirs["refunded"])
    return broken


def _differences(what: str, ours: dict[Any, int], theirs: dict[Any, int]) -> list[str]:
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key, 0) != theirs.get(key, 0))
    return [
        f"4. {what} of {key}: ours {ours.get(key, 0)}, the provider's {theirs.get(key, 0)}"
        for key in keys[:5]
    ]


def _provider_side(tx: Tx) -> dict[str, Any]:
    held = books.balances(tx, tx.platform)
    cash: Counter[str] = Counter()
    buckets: dict[tuple[int, str], int] = {}
    for currency, amounts in held.items():
        cash[currency.upper()] = sum(amounts.values())
        buckets[1000, currency.upper()] = amounts["pending"]
        buckets[1010, currency.upper()] = amounts["available"]
    return {
        "balanced": books.report(tx)["balanced"],
        "cash": {currency: amount for currency, amount in cash.items() if amount},
        "buckets": buckets,
        "transfers": {t["id"]: t["amount"] - t["amount_reversed"] for t in tx.all("transfer")},
        "refunded": _refunded(tx),
    }


def _refunded(tx: Tx) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for refund in tx.all("refund"):
        if refund["status"] not in {"failed", "canceled"}:
            sums[refund["charge"]] += refund["amount"]
    return dict(sums)
