"""R9e: the platform takes over what parties owe after a lost dispute, by its policy or an operator's decision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.ids import OrderId
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, Leg, credit, debit, merged
from supply.settlement import policies
from supply.settlement.disputes.errors import DisputeNotLost, NothingOwed
from supply.settlement.disputes.posting import Part
from supply.settlement.kinds import Kind
from supply.settlement.order_book import OrderBook, load
from supply.settlement.parties import party_account, party_of, platform_account

_ABSORBED = text(
    "UPDATE dispute_orders SET absorbed = CAST(:absorbed AS jsonb)"
    " WHERE dispute_id = :dispute_id AND order_id = :order_id"
)
_LOCK = text(
    "SELECT o.*, d.stage FROM disputes d JOIN dispute_orders o ON o.dispute_id = d.id"
    " WHERE d.id = :dispute_id AND o.order_id = :order_id FOR NO KEY UPDATE OF d, o"
)


async def absorb_by_policy(
    session: AsyncSession, part: Part, book: OrderBook, owed: Sequence[Leg], *, now: datetime
) -> None:
    """Right after the loss: all of what one order's parties owe, or nothing."""
    policy = await policies.absorption(session, str(part.merchant_id))
    whole = sum(leg.amount_minor for leg in owed)
    if 0 < whole <= policy.up_to_minor:
        await _absorb(session, part, owed, str(SYSTEM), f"up to {policy.up_to_minor}", now)


async def absorb_loss(
    session: AsyncSession,
    actor: Actor,
    dispute_id: str,
    order_id: OrderId,
    *,
    reason: str,
    clock: Clock,
    payee_id: str | None = None,
) -> int:
    """An operator's decision for one order of a lost dispute, or one party of it. Minor units taken over.

    What the party has paid off since is not given back. Raises ``DisputeNotLost``, ``NothingOwed``.
    """
    actor.require("platform:admin")
    row = (await session.execute(_LOCK, {"dispute_id": dispute_id, "order_id": order_id})).one_or_none()
    if row is None or row.lost is None or row.stage != "lost":
        raise DisputeNotLost(dispute_id)
    book = await load(session, order_id)
    part = Part(
        dispute_id, order_id, book.merchant_id, row.currency, row.amount_minor, row.freezes, row.absorbed,
        row.lost,
    )  # fmt: skip
    tenants = {cell.payee_id: cell.tenant_id for line in book.lines for cell in line.cells.values()}
    owed = {
        party_of(owner): amount
        for code, owner, amount in row.lost["legs"]
        if code == Code.RECEIVABLE and amount > 0 and payee_id in (None, party_of(owner))
    }
    accounts = {p: party_account(Code.RECEIVABLE, p, row.currency, tenants.get(p)) for p in owed}
    held = await ledger.hold(session, list(accounts.values()))
    for taken in row.absorbed:
        if taken["payee_id"] in owed:
            owed[taken["payee_id"]] -= taken["amount_minor"]
    legs = [debit(accounts[p], min(amount, held[accounts[p]])) for p, amount in owed.items()]
    legs = [leg for leg in legs if leg.amount_minor > 0]
    if not legs:
        raise NothingOwed(dispute_id)
    return await _absorb(session, part, legs, str(actor), reason, clock.now())


async def _absorb(
    session: AsyncSession, part: Part, owed: Sequence[Leg], by: str, reason: str, now: datetime
) -> int:
    amount = sum(leg.amount_minor for leg in owed)
    legs = [debit(platform_account(Code.CHARGEBACK_LOSS, part.currency), amount)]
    legs += [credit(leg.account, leg.amount_minor) for leg in owed]
    step = f"absorbed{len(part.absorbed) + 1}"
    journal = Journal(
        part.key(step), Kind.DISPUTE_ABSORBED, merged(legs), now, part.order_id, part.dispute_id, reason
    )
    await ledger.post(session, journal, now=now)
    new = [
        {
            "payee_id": party_of(leg.account.owner), "amount_minor": leg.amount_minor, "by": by,
            "tenant_id": leg.account.tenant_id.hex if leg.account.tenant_id else None, "reason": reason,
        }
        for leg in owed
    ]  # fmt: skip
    await _remember(session, part, [*part.absorbed, *new])
    return amount


async def take_back(session: AsyncSession, part: Part, *, now: datetime) -> None:
    """The dispute was won after all: what the platform took over is its own again, not the parties'."""
    amounts: dict[str, int] = {}
    for taken in part.absorbed:
        amounts[taken["payee_id"]] = amounts.get(taken["payee_id"], 0) + taken["amount_minor"]
    if not amounts:
        return
    legs = [debit(party_account(Code.RECEIVABLE, p, part.currency), amount) for p, amount in amounts.items()]
    legs.append(credit(platform_account(Code.CHARGEBACK_LOSS, part.currency), sum(amounts.values())))
    journal = Journal(
        part.key("unabsorbed"), Kind.DISPUTE_ABSORBED, merged(legs), now, part.order_id, part.dispute_id
    )
    await ledger.post(session, journal, now=now)
    await _remember(session, part, [])


async def _remember(session: AsyncSession, part: Part, absorbed: Sequence[dict[str, Any]]) -> None:
    values = {
        "absorbed": orjson.dumps(absorbed).decode(), "dispute_id": part.dispute_id, "order_id": part.order_id,
    }  # fmt: skip
    await session.execute(_ABSORBED, values)
