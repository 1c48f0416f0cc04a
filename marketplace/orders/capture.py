"""A checkout was paid: who sold it, what they earn, how the money is split, and the suppliers may start.

One transaction for all orders of the checkout (decision 0010): no reader ever sees a paid order without its
attribution, or a supplier working on an order whose money is not booked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, CheckoutId, ContactId, OrderId, SupplierId, TouchId
from core.money import rate_of
from infra.config import Settings
from marketplace.audiences.identity import IdentityVault
from marketplace.audiences.models import IdentifierKind
from marketplace.orders import queries
from marketplace.orders.events import PaymentCaptured
from marketplace.orders.queries import OrderLineRow
from marketplace.promotion.attribution.crediting import Adjustment
from marketplace.promotion.attribution.decision import EarlierOrder, is_new_customer
from marketplace.promotion.coupons.models import Funder
from marketplace.promotion.decisions.attribute import (
    Attributed,
    LineAttributed,
    LineForAttribution,
    OrderForAttribution,
    attribute,
)
from marketplace.promotion.models import ShareRole
from marketplace.promotion.touches.lead_contacts import lead_contacts
from marketplace.promotion.touches.touch_token import TouchSigner
from supply.fulfillment import service as fulfillment
from supply.settlement.capture import CapturedLine, CapturedOrder, CommissionShare, open_splits
from supply.settlement.composition import Part
from supply.suppliers import queries as suppliers

RETURN_WINDOW_DAYS = 15
"""Of a sale nobody is paid a commission for; a commission's agreement says its own."""
_LOOK_BACK_DAYS = 365

_CHECKOUT = text(
    "SELECT c.id, c.contact_id, c.email, c.buyer_key, c.address_key, c.started_at, k.touch_tokens, k.session_key,"
    " p.instrument_key, p.captured_at,"
    " ARRAY(SELECT e.touch_id FROM coupon_entries e WHERE e.checkout_id = c.id) AS entered"
    " FROM checkouts c JOIN carts k ON k.id = c.cart_id JOIN payments p ON p.checkout_id = c.id WHERE c.id = :id"
)
# By merchant: whatever two checkouts bought, caps and budgets are locked in one sequence.
_ORDERS = text(
    "SELECT id, number, merchant_id, seller_id, currency, country, total_minor, placed_at FROM orders"
    " WHERE checkout_id = :id ORDER BY merchant_id, id"
)
# A brand's own checkout may know its buyer by several identifiers.
_EARLIER = text(
    "SELECT o.merchant_id, o.paid_at, o.refunded_minor = o.total_minor AS wholly_refunded FROM orders o JOIN"
    " (SELECT id FROM orders WHERE buyer_key = ANY(CAST(:buyers AS bytea[])) UNION SELECT order_id FROM told_orders"
    "  WHERE buyer_keys && CAST(:buyers AS bytea[])) b ON b.id = o.id"
    " WHERE o.merchant_id = ANY(:merchants) AND o.paid_at >= :since AND o.checkout_id <> :id"
)
_ROLES = {
    ShareRole.INDIVIDUAL: Part.INDIVIDUAL,
    ShareRole.PROMOTER_BRAND: Part.PROMOTER_BRAND,
    ShareRole.PLATFORM: Part.PLATFORM_COMMISSION,
}


@dataclass(frozen=True, slots=True)
class _Sale:
    """One order of the checkout with its lines."""

    id: OrderId
    number: str
    merchant_id: BrandId
    seller_id: BrandId
    currency: str
    country: str
    total_minor: int
    placed_at: datetime
    lines: Sequence[OrderLineRow]


async def on_payment_captured(
    session: AsyncSession, event: PaymentCaptured, *, clock: Clock, settings: Settings
) -> None:
    """Attribution, commission, the capture journal, and the release of the fulfilment orders."""
    checkout = (await session.execute(_CHECKOUT, {"id": event.checkout_id})).one()
    sales = await _sales(session, event.checkout_id)
    merchants, secret = [sale.merchant_id for sale in sales], settings.secret_key.get_secret_value()
    new_to = await new_customer_of(session, event.checkout_id, [checkout.buyer_key], merchants, at=event.at)
    buyer = [(IdentifierKind.EMAIL, checkout.email)] if checkout.email else []
    led = await lead_contacts(session, {m: (m, buyer) for m in merchants}, vault=IdentityVault(secret))
    signer = TouchSigner(secret)
    days = await _settlement_days(session, sales)
    splits = []
    for sale in sales:
        facts = _for_attribution(sale, checkout, signer, event.at, is_new=sale.merchant_id in new_to)
        facts = replace(facts, lead_contact_ids=led.get(sale.merchant_id, ()))
        attributed = await attribute(session, facts, signer=signer, clock=clock)
        splits.append(_captured(sale, attributed, days, charge_id=event.charge_id, paid_at=event.at))
    await open_splits(session, splits, clock=clock)
    await fulfillment.release_for_submission(session, [sale.id for sale in sales], clock=clock)


async def _sales(session: AsyncSession, checkout_id: CheckoutId) -> list[_Sale]:
    rows = (await session.execute(_ORDERS, {"id": checkout_id})).all()
    lines = await queries.lines_of(session, [OrderId.of(row.id) for row in rows])
    return [
        _Sale(
            OrderId.of(row.id),
            row.number,
            BrandId.of(row.merchant_id),
            BrandId.of(row.seller_id),
            row.currency,
            row.country,
            row.total_minor,
            row.placed_at,
            lines[OrderId.of(row.id)],
        )
        for row in rows
    ]


async def new_customer_of(
    session: AsyncSession,
    checkout_id: CheckoutId,
    buyers: Sequence[bytes],
    merchants: Sequence[BrandId],
    *,
    at: datetime,
) -> set[BrandId]:
    """The merchants this buyer, known by any of these keys, has not paid, and kept something from, within a year
    (cps.md §3.7)."""
    values = {
        "buyers": list(buyers), "merchants": list(merchants), "since": at - timedelta(days=_LOOK_BACK_DAYS),
        "id": checkout_id,
    }  # fmt: skip
    earlier: dict[BrandId, list[EarlierOrder]] = defaultdict(list)
    for row in await session.execute(_EARLIER, values):
        earlier[BrandId.of(row.merchant_id)].append(EarlierOrder(row.paid_at, row.wholly_refunded))
    return {each for each in merchants if is_new_customer(at, earlier[each], lookback_days=_LOOK_BACK_DAYS)}


async def _settlement_days(session: AsyncSession, sales: Sequence[_Sale]) -> Mapping[SupplierId, int]:
    wanted = {line.supplier_id for sale in sales for line in sale.lines if line.supplier_id}
    found = await suppliers.suppliers(session, sorted(wanted))
    return {supplier_id: supplier.settlement_days for supplier_id, supplier in found.items()}


def _for_attribution(
    sale: _Sale, checkout: Any, signer: TouchSigner, paid_at: datetime, *, is_new: bool
) -> OrderForAttribution:
    sessions = signer.sessions_of([checkout.session_key] if checkout.session_key else [])
    return OrderForAttribution(
        order_id=sale.id,
        advertiser_id=sale.merchant_id,
        currency=sale.currency,
        created_at=sale.placed_at,
        lines=for_attribution(sale.lines),
        touch_tokens=checkout.touch_tokens,
        checkout_started_at=checkout.started_at,
        paid_at=paid_at,
        is_new_customer=is_new,
        session_keys=sessions,
        contact_ids=[ContactId.of(checkout.contact_id)] if checkout.contact_id else [],
        entered=[TouchId.of(touch) for touch in checkout.entered],
        buyer_keys=frozenset({bytes(checkout.buyer_key).hex()}),
        payment_instrument_hash=checkout.instrument_key,
        address_hash=bytes(checkout.address_key).hex(),
    )


def for_attribution(lines: Sequence[OrderLineRow]) -> list[LineForAttribution]:
    """The lines of an order as commission is reckoned on them."""
    return [
        LineForAttribution(
            order_line_id=line.id,
            product_id=line.product_id,
            sku=line.sku,
            category=line.category,
            quantity=line.quantity,
            gross_minor=line.gross_minor,
            discount_minor=_lowering(line),
            tax_ppm=line.tax_ppm if line.tax_included else 0,
        )
        for line in lines
    ]


def _captured(
    sale: _Sale,
    attributed: Attributed,
    settlement_days: Mapping[SupplierId, int],
    *,
    charge_id: str,
    paid_at: datetime,
) -> CapturedOrder:
    """The split of one order. Its return window is the longest of the agreements that earn from it."""
    commission = {line.order_line_id: line for line in attributed.lines}
    windows = [line.return_window_days for line in attributed.lines]
    return CapturedOrder(
        order_id=sale.id,
        merchant_id=sale.merchant_id,
        currency=sale.currency,
        charge_id=charge_id,
        paid_at=paid_at,
        lines=[_captured_line(line, commission.get(line.id), settlement_days) for line in sale.lines],
        tax_jurisdiction=sale.country,
        return_window_days=max(windows, default=RETURN_WINDOW_DAYS),
        amount_minor=sale.total_minor,
        number=sale.number,
        adjustment=[share for owed in attributed.adjustments for share in adjustment_of(owed)],
    )


def _captured_line(
    line: OrderLineRow, commission: LineAttributed | None, settlement_days: Mapping[SupplierId, int]
) -> CapturedLine:
    """What a coupon took off is the merchant's or the supplier's, or somebody pays it for the customer."""
    funder = Funder(line.discount_funder) if line.discount_funder else None
    paid = line.gross_minor - line.discount_minor
    goods = paid - line.tax_minor if line.tax_included else paid
    lowered = _lowering(line)
    coupon = line.discount_minor - lowered
    shares = shares_of(commission) if commission else []
    payer = str(line.seller_id) if funder is Funder.PROMOTER else ""
    owed = coupon
    if payer:
        shares, owed = _less_coupon(shares, payer, coupon)
    supplier_cost = line.supplier_cost_minor - (lowered if funder is Funder.SUPPLIER else 0)
    return CapturedLine(
        order_line_id=line.id,
        quantity=line.quantity,
        goods_minor=goods,
        tax_minor=line.tax_minor,
        supplier_id=line.supplier_id,
        supplier_cost_minor=supplier_cost,
        shipping_minor=line.shipping_minor,
        shipping_tax_minor=line.shipping_tax_minor,
        supplier_shipping_minor=line.shipping_minor,
        commission=shares,
        platform_fee_minor=rate_of(goods + coupon, line.platform_fee_ppm),
        basis_minor=commission.basis_minor if commission else None,
        settlement_days=settlement_days.get(line.supplier_id, 0) if line.supplier_id else 0,
        coupon_minor=owed,
        coupon_payee_id=payer,
        sku=line.sku,
        discounts={"supplier" if funder is Funder.SUPPLIER else "merchant": lowered} if lowered else {},
    )


def _lowering(line: OrderLineRow) -> int:
    """The part of the discount that lowers the price, and with it the commission's basis (cps.md R1)."""
    if line.discount_funder is not None and not Funder(line.discount_funder).lowers_price:
        return 0
    return line.discount_minor


def _less_coupon(
    shares: Sequence[CommissionShare], promoter: str, coupon_minor: int
) -> tuple[list[CommissionShare], int]:
    """A promoter's own coupon comes off its commission; what that does not cover it owes."""
    left, kept = coupon_minor, []
    for share in shares:
        own = (share.role, share.payee_id) == (Part.PROMOTER_BRAND, promoter)
        off = min(left, share.amount_minor) if own else 0
        left -= off
        if share.amount_minor > off:
            kept.append(replace(share, amount_minor=share.amount_minor - off))
    return kept, left


def shares_of(line: LineAttributed) -> list[CommissionShare]:
    """Every winner's shares by themselves, as a refund takes them back (R6)."""
    winners = {
        touch: number for number, touch in enumerate(dict.fromkeys(s.touch_id for s in line.shares), 1)
    }
    agreement = f"{line.agreement_id}/{line.agreement_version}"
    return [
        CommissionShare(
            share.payee,
            _ROLES[share.role],
            share.amount_minor,
            winner=winners[share.touch_id],
            agreement=agreement,
            rate_ppm=line.rate_ppm,
        )
        for share in line.shares
        if share.amount_minor
    ]


def adjustment_of(owed: Adjustment) -> list[CommissionShare]:
    """R5: what this order owes its promoter for the period's earlier ones."""
    agreement = f"{owed.agreement_id}/{owed.agreement_version}"
    winners = {
        touch: number for number, touch in enumerate(dict.fromkeys(s.touch_id for s in owed.shares), 1)
    }
    return [
        CommissionShare(
            share.payee,
            _ROLES[share.role],
            share.amount_minor,
            winner=winners[share.touch_id],
            agreement=agreement,
        )
        for share in owed.shares
        if share.amount_minor
    ]
