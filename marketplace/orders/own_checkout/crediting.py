"""A paid order of a brand's own checkout: who sold it, what they earn, and what the brand owes for it.

The decision is the one of every order (capture.py); the evidence is what the shop passed on: signed touches, cookies,
codes, who the buyer is. The platform takes no fee on goods it did not sell: its part is that of the commission.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import from_micros
from core.clock import Clock
from core.ids import BrandId, CheckoutId, ContactId, OrderId, OrderLineId
from marketplace.orders import queries
from marketplace.orders.capture import RETURN_WINDOW_DAYS, adjustment_of, new_customer_of, shares_of
from marketplace.orders.own_checkout.told import discounts_of
from marketplace.orders.queries import OrderLineRow
from marketplace.promotion.commission.rules import Funder as DiscountFunder
from marketplace.promotion.commission.rules import OrderDiscount
from marketplace.promotion.coupons import codes as coupons
from marketplace.promotion.coupons import entries
from marketplace.promotion.coupons.models import Funder
from marketplace.promotion.decisions.attribute import (
    Attributed,
    LineAttributed,
    LineForAttribution,
    OrderForAttribution,
    attribute,
)
from marketplace.promotion.touches.touch_token import TouchSigner
from supply.settlement.capture import CapturedLine, CapturedOrder, open_split
from supply.settlement.parties import at_source

_CHECKOUT = text(
    "SELECT c.contact_id, c.address_key, k.touch_tokens, ARRAY(SELECT m.contact_id FROM lead_matches m"
    " WHERE m.order_id = :order) AS led FROM checkouts c JOIN carts k ON k.id = c.cart_id WHERE c.id = :checkout"
)
_FUNDERS = {Funder.ADVERTISER: DiscountFunder.MERCHANT}


async def credit_order(
    session: AsyncSession, order: Any, *, charge_id: str, paid_at: datetime, secret: str, clock: Clock
) -> None:
    """``order``: the locked row (moving.py). SYSTEM session."""
    order_id, merchant = OrderId.of(order.order_id), BrandId.of(order.merchant_id)
    lines = (await queries.lines_of(session, [order_id]))[order_id]
    signer = TouchSigner(secret)
    facts = await _facts(session, order, lines, paid_at, signer)
    attributed = await attribute(session, facts, signer=signer, clock=clock)
    await open_split(session, _captured(order, merchant, lines, attributed, charge_id, paid_at), clock=clock)


async def _facts(
    session: AsyncSession,
    order: Any,
    lines: Sequence[OrderLineRow],
    paid_at: datetime,
    signer: TouchSigner,
) -> OrderForAttribution:
    order_id, merchant = OrderId.of(order.order_id), BrandId.of(order.merchant_id)
    checkout_id, content = CheckoutId.of(order.checkout_id), order.content
    codes = [coupons.normal(code) for code in content["codes"]]
    if codes:
        await entries.enter(session, checkout_id, codes, advertiser_id=merchant, at=order.placed_at)
    entered = (await entries.entries_of(session, [checkout_id])).get(checkout_id, []) if codes else []
    where = {"checkout": checkout_id, "order": order_id}
    found = (await session.execute(_CHECKOUT, where)).one()
    keys = [bytes(key) for key in order.buyer_keys]
    new_to = await new_customer_of(session, checkout_id, keys, [merchant], at=paid_at)
    began = content["checkout_started_at"]
    return OrderForAttribution(
        order_id=order_id,
        advertiser_id=merchant,
        currency=order.currency,
        created_at=order.placed_at,
        lines=[_for_attribution(line, told) for line, told in _told_lines(content, lines)],
        discounts=[
            OrderDiscount(each.amount_minor, _FUNDERS.get(each.funder) or DiscountFunder(each.funder.value))
            for each in discounts_of(content)
        ],
        touch_tokens=found.touch_tokens,
        # Where the shop does not say when the buyer began to check out, the order's own moment is the latest.
        checkout_started_at=order.placed_at if began is None else from_micros(began),
        paid_at=paid_at,
        is_new_customer=merchant in new_to,
        session_keys=signer.sessions_of(content["sessions"]),
        contact_ids=[ContactId.of(found.contact_id)] if found.contact_id else [],
        lead_contact_ids=[ContactId.of(each) for each in found.led],
        entered=entered,
        buyer_keys=frozenset(key.hex() for key in keys),
        address_hash=bytes(found.address_key).hex() or None,
    )


def _told_lines(
    content: Mapping[str, Any], lines: Sequence[OrderLineRow]
) -> list[tuple[OrderLineRow, Sequence[Any]]]:
    """The order's lines with what was told of each (told.content_json), in the sequence they were told."""
    by_id = {line.id: line for line in lines}
    ids = [OrderLineId.parse(each) for each in content["line_ids"]]
    return [(by_id[line_id], told) for line_id, told in zip(ids, content["lines"], strict=True)]


def _for_attribution(line: OrderLineRow, told: Sequence[Any]) -> LineForAttribution:
    off, funder = told[6], told[7]
    return LineForAttribution(
        order_line_id=line.id,
        product_id=line.product_id,
        sku=line.sku if line.product_id else "",
        category=line.category,
        quantity=line.quantity,
        gross_minor=line.gross_minor,
        discount_minor=off if funder and Funder(funder).lowers_price else 0,
        tax_ppm=line.tax_ppm if line.tax_included else 0,
    )


def _captured(
    order: Any,
    merchant: BrandId,
    lines: Sequence[OrderLineRow],
    attributed: Attributed,
    charge_id: str,
    paid_at: datetime,
) -> CapturedOrder:
    earned = {line.order_line_id: line for line in attributed.lines}
    windows = [line.return_window_days for line in attributed.lines]
    return CapturedOrder(
        order_id=OrderId.of(order.order_id),
        merchant_id=merchant,
        currency=order.currency,
        charge_id=charge_id,
        paid_at=paid_at,
        lines=[_captured_line(line, earned.get(line.id)) for line in lines],
        tax_jurisdiction=order.country,
        return_window_days=max(windows, default=RETURN_WINDOW_DAYS),
        provider=at_source(merchant),
        amount_minor=order.total_minor,
        number=order.number,
        adjustment=[share for owed in attributed.adjustments for share in adjustment_of(owed)],
    )


def _captured_line(line: OrderLineRow, earned: LineAttributed | None) -> CapturedLine:
    """Tax is the brand's own: it is part of what the customer paid for the line."""
    return CapturedLine(
        order_line_id=line.id,
        quantity=line.quantity,
        goods_minor=line.paid_minor - line.shipping_minor,
        tax_minor=0,
        supplier_id=None,
        supplier_cost_minor=0,
        shipping_minor=line.shipping_minor,
        commission=shares_of(earned) if earned else [],
        basis_minor=earned.basis_minor if earned else None,
        sku=line.sku,
    )
