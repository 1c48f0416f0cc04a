"""Who sold an order of an outside checkout: by the touches its storefront passed on and the promoters' codes it names.

The same decision as for our own orders (capture.py), for the few outside orders that bring any evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, CheckoutId, OrderId, TouchId
from marketplace.orders.capture import for_attribution, new_customer_of
from marketplace.orders.queries import OrderLineRow
from marketplace.promotion.decisions.attribute import (
    Attributed,
    OrderForAttribution,
    attribute,
)
from marketplace.promotion.touches.touch_token import TouchSigner

_EVIDENCE = text(
    "SELECT c.id, c.buyer_key, c.address_key, c.started_at, k.touch_tokens, e.touches FROM checkouts c"
    " JOIN carts k ON k.id = c.cart_id CROSS JOIN LATERAL (SELECT array_agg(touch_id) AS touches FROM coupon_entries"
    " WHERE checkout_id = c.id) e WHERE c.id = ANY(:checkouts) AND (cardinality(k.touch_tokens) > 0"
    " OR e.touches IS NOT NULL)"
)


async def attribute_external(
    session: AsyncSession,
    rows: Sequence[Any],
    lines: Mapping[OrderId, Sequence[OrderLineRow]],
    paid_at: Mapping[OrderId, datetime],
    *,
    secret: str,
    clock: Clock,
) -> dict[OrderId, Attributed]:
    """Of the orders that bring evidence; one statement when none does. ``rows`` as ``external_payment`` locks them."""
    wanted = {"checkouts": [row.checkout_id for row in rows]}
    evidence = {row.id: row for row in await session.execute(_EVIDENCE, wanted)}
    signer, found = TouchSigner(secret), {}
    for row in rows:
        told = evidence.get(row.checkout_id)
        if told is None:
            continue
        order_id, merchant = OrderId.of(row.order_id), BrandId.of(row.merchant_id)
        at = paid_at[order_id]
        new_to = await new_customer_of(
            session, CheckoutId.of(told.id), [bytes(told.buyer_key)], [merchant], at=at
        )
        order = OrderForAttribution(
            order_id=order_id,
            advertiser_id=merchant,
            currency=row.currency,
            created_at=row.placed_at,
            lines=for_attribution(lines[order_id]),
            touch_tokens=told.touch_tokens,
            entered=[TouchId.of(touch) for touch in told.touches or ()],
            # When the buyer began to check out there is not known here; the order's own moment is the latest.
            checkout_started_at=told.started_at,
            paid_at=at,
            is_new_customer=merchant in new_to,
            buyer_keys=frozenset({bytes(told.buyer_key).hex()}),
            address_hash=bytes(told.address_key).hex(),
        )
        found[order_id] = await attribute(session, order, signer=signer, clock=clock)
    return found
