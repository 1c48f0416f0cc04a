"""Who bought in a brand's own checkout, as a partner that holds members out knows its contacts.

Of such an order no address is kept, only keyed hashes that are the platform's own, and a brand knows its contacts under
keys of its own. So the comparison is prepared while the shop tells of the order: for as long as a holdout needs it,
the buyer's e-mail address and phone number are kept as the promoter brand's keys of them, which say something only to
whoever looks among that brand's contacts. An order that is told again is prepared then.

A click is no evidence here: members who are held out are shown nothing to click on, so counting who is known by a click
would count the shown alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import BrandId, OrderId
from infra.db.session import Database
from marketplace.audiences.identity import IdentifierKind, IdentityVault
from marketplace.brands.queries import StorefrontFacts
from marketplace.orders.own_checkout import told
from marketplace.orders.own_checkout.intake import Answer, Result
from marketplace.orders.own_checkout.told import OrderContent, Telling

SETTLED_AFTER = timedelta(days=45)
"""So long after its end a holdout is measured; then nothing is compared any more."""
_COMPARED = (IdentifierKind.EMAIL, IdentifierKind.PHONE)
"""A customer id is one shop's own."""
_HOLDING_OUT = text(
    "SELECT DISTINCT promoter_brand_id FROM holdouts WHERE advertiser_id = :advertiser"
    " AND (ended_at IS NULL OR ended_at >= :settling)"
)
_REMEMBER = text(
    "INSERT INTO told_buyers (order_id, brand_id, place, advertiser_id, subject_key)"
    " SELECT order_id, brand_id, place, :advertiser, subject_key FROM unnest(CAST(:orders AS uuid[]),"
    "  CAST(:brands AS uuid[]), CAST(:places AS smallint[]), CAST(:keys AS bytea[]))"
    "  AS n (order_id, brand_id, place, subject_key) ON CONFLICT (order_id, brand_id, place) DO NOTHING"
)
_KEYS = text(
    "SELECT order_id, subject_key FROM told_buyers WHERE order_id = ANY(:orders) AND brand_id = :brand"
    " ORDER BY order_id, place"
)
_FORGET = text(
    "DELETE FROM told_buyers b WHERE NOT EXISTS (SELECT FROM holdouts h WHERE h.promoter_brand_id = b.brand_id"
    " AND h.advertiser_id = b.advertiser_id AND (h.ended_at IS NULL OR h.ended_at >= :settling))"
)


async def remember(
    session: AsyncSession,
    shop: StorefrontFacts,
    rows: Sequence[Telling],
    answers: Iterable[Answer],
    *,
    secret: str,
    clock: Clock,
) -> None:
    """What a shop told and how it was answered (intake.take_in). One statement where no partner holds out, two
    otherwise. SYSTEM session."""
    orders = [
        (answer.order_id, row.content)
        for row, answer in zip(rows, answers, strict=True)
        if row.content is not None and answer.order_id is not None and answer.result is not Result.ERROR
    ]
    if not orders:
        return
    holding = {"advertiser": shop.brand_id, "settling": clock.now() - SETTLED_AFTER}
    partners = [BrandId.of(each) for each in (await session.execute(_HOLDING_OUT, holding)).scalars()]
    vault = IdentityVault(secret)
    kept = [
        (order_id, partner, place, vault.key(partner, *identifier))
        for order_id, content in orders
        for place, identifier in enumerate(_identifiers(shop, content, secret))
        for partner in partners
    ]
    if kept:
        ids, brands, places, keys = (list(column) for column in zip(*kept, strict=True))
        values: dict[str, Any] = {"orders": ids, "brands": brands, "places": places, "keys": keys}
        await session.execute(_REMEMBER, {**values, "advertiser": shop.brand_id})


def _identifiers(shop: StorefrontFacts, content: OrderContent, secret: str) -> list[told.Identifier]:
    """The address first: where the two are different contacts, it says who bought."""
    known = told.known_of(content, shop.brand_id.bytes, secret)
    return [each for each in known.identifiers if each[0] in _COMPARED]


async def keys_of(
    session: AsyncSession, brand_id: BrandId, orders: Sequence[OrderId]
) -> dict[OrderId, tuple[bytes, ...]]:
    """Of orders of own checkouts, the brand's keys of who bought; nothing where nobody could be looked for."""
    found: dict[OrderId, tuple[bytes, ...]] = {}
    for row in await session.execute(_KEYS, {"orders": list(orders), "brand": brand_id}):
        order_id = OrderId.of(row.order_id)
        found[order_id] = (*found.get(order_id, ()), bytes(row.subject_key))
    return found


async def forget_buyers(db: Database, *, clock: Clock) -> int:
    """Sweep: no holdout of the two brands needs them any more. How many went."""
    async with db.unit_of_work(SYSTEM) as session:
        gone = await session.execute(_FORGET, {"settling": clock.now() - SETTLED_AFTER})
    return int(gone.rowcount)  # type: ignore[attr-defined]
