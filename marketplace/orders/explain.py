"""Everything behind an order, put together from what each module stored when it decided.

The merchant and the platform see all of it: it is the merchant's money. The brand whose storefront sold it
sees the attribution it took part in and the entries of its own accounts.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.ids import OrderId
from core.plain import plain
from marketplace.orders import queries
from marketplace.orders.queries import OrderRow
from marketplace.promotion.decisions.explanation import explain_attribution
from marketplace.promotion.errors import DecisionNotFound
from supply.fulfillment import queries as fulfillment
from supply.ledger.chart import Code
from supply.ledger.queries import EntryLine, entries_of_order
from supply.routing import service as routing
from supply.settlement import queries as settlement
from supply.settlement.parties import owner_of

READER = SYSTEM
"""The parts of an order belong to many tenants; the right to the order is checked with the caller's actor."""


async def explain_order(session: AsyncSession, actor: Actor, order_id: OrderId) -> dict[str, Any]:
    """``session`` reads as ``READER``. Raises ``OrderNotFound``."""
    order = await queries.order(session, actor, order_id)
    lines = (await queries.lines_of(session, [order_id]))[order_id]
    entries = await entries_of_order(session, order_id)
    explained: dict[str, Any] = {
        "order": plain(order),
        "attribution": await _attribution(session, actor, order_id),
    }
    if not _sees_all(actor, order):
        own = owner_of(str(actor.brand_id))
        return {**explained, "ledger": [_entry(e) for e in entries if e.owner == own]}
    return {
        **explained,
        "lines": plain(lines),
        "routing": plain(await routing.explain(session, order_id)),
        "fulfillment": plain((await fulfillment.of_orders(session, READER, [order_id]))[order_id]),
        "ledger": [_entry(entry) for entry in entries],
        "identity": plain(await settlement.order_identity(session, order_id)),
    }


def _sees_all(actor: Actor, order: OrderRow) -> bool:
    return actor.sees_everything or actor.brand_id == order.merchant_id


async def _attribution(session: AsyncSession, actor: Actor, order_id: OrderId) -> Any:
    try:
        return plain(await explain_attribution(session, actor, order_id))
    except DecisionNotFound:
        return None


def _entry(entry: EntryLine) -> dict[str, Any]:
    return {
        "journal": entry.key,
        "kind": entry.kind,
        "account": {"code": int(entry.code), "name": Code(entry.code).name.lower(), "owner": entry.owner},
        "amountMinor": str(entry.amount_minor),
        "currency": entry.currency,
        "effectiveAt": entry.effective_at.isoformat(),
        "postedAt": entry.posted_at.isoformat(),
        "providerRef": entry.provider_ref,
    }
