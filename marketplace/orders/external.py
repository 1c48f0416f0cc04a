"""Orders an outside storefront has already sold: recorded, reserved, routed to where they were sold from.

The storefront took the order and the money; prices, freight and the seller are its word and are kept as told.
Everything after that is ours and the same as for our own orders. ``(source, reference)`` makes a second delivery
of the same order a no-op. All verbs take a SYSTEM session and any number of orders.
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
from core.errors import Conflict, Invalid
from core.ids import (
    BrandId,
    CartId,
    CheckoutId,
    LocationId,
    OrderId,
    OrderLineId,
    PaymentId,
    ReservationId,
    StorefrontId,
    SupplierId,
    VariantId,
)
from core.money import Money
from infra.db.base import table_of
from infra.db.rows import insert_rows
from marketplace.catalog import queries as catalog
from marketplace.catalog.queries import VariantForSale
from marketplace.orders.address import Address, address_key, buyer_key
from marketplace.orders.cart import MOST_TOUCHES
from marketplace.orders.checkout import order_number
from marketplace.orders.external_models import ExternalOrder as ExternalOrderRow
from marketplace.orders.external_models import ExternalPayment as ExternalPaymentRow
from marketplace.orders.models import (
    Cart,
    CartStatus,
    Checkout,
    CheckoutStatus,
    FulfillmentStatus,
    Order,
    OrderLine,
    Payment,
    PaymentStatus,
)
from marketplace.promotion.coupons import codes as coupons
from marketplace.promotion.coupons import entries
from supply.fulfillment import service as fulfillment
from supply.fulfillment.service import NewFulfillmentLine, NewFulfillmentOrder
from supply.inventory import service as inventory
from supply.inventory.service import StockRequest
from supply.routing import service as routing
from supply.routing.eligibility import LineFact, OrderNeed
from supply.routing.models import RoutingMode
from supply.routing.service import PlannedRouting

MOST_CODES = 5
_HOLD = timedelta(days=90)
"""How long the stock of an order waits for the word that it is paid."""
_TABLES = [table_of(model) for model in (Cart, Checkout, Order, OrderLine, Payment, ExternalOrderRow)]
_PAYMENT_ROWS = table_of(ExternalPaymentRow)
_KNOWN = text(
    "SELECT reference, order_id FROM external_orders WHERE source = :source AND reference = ANY(:references)"
)


class ExternalOrderMixed(Invalid):
    code = "EXTERNAL_ORDER_MIXED"


class ExternalVariantUnknown(Invalid):
    code = "EXTERNAL_VARIANT_UNKNOWN"


class ExternalSourceUnavailable(Conflict):
    """The place it was sold from cannot serve it; ``reasons`` are the router's reject codes."""

    code = "EXTERNAL_SOURCE_UNAVAILABLE"

    def __init__(self, reference: str, reasons: Sequence[str]) -> None:
        super().__init__(
            f"{reference} cannot be served from where it was sold: {', '.join(reasons) or 'no offer'}"
        )
        self.reference, self.reasons = reference, tuple(reasons)


@dataclass(frozen=True, slots=True)
class ExternalStorefront:
    """Whose orders these are: ``source`` names the system, the rest is the storefront they are booked under."""

    source: str
    storefront_id: StorefrontId
    brand_id: BrandId
    currency: str


@dataclass(frozen=True, slots=True)
class ExternalLine:
    """What was sold. ``supplier_cost_minor`` is the seller's part of the goods, ``shipping_minor`` passes through.

    Both for the whole quantity, in the order's currency.
    """

    variant_id: VariantId
    quantity: int
    unit_price_minor: int
    shipping_minor: int
    supplier_id: SupplierId
    location_id: LocationId
    supplier_cost_minor: int
    ship_by: datetime | None = None

    @property
    def gross_minor(self) -> int:
        return self.unit_price_minor * self.quantity


@dataclass(frozen=True, slots=True)
class ExternalPayment:
    sequence: int
    kind: str
    instalments: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class ExternalOrder:
    """As told by the source. An order may come without lines, and its payments need not sum to its lines."""

    reference: str
    status: str
    placed_at: datetime
    address: Address
    email: str
    lines: Sequence[ExternalLine]
    payments: Sequence[ExternalPayment]
    approved_at: datetime | None = None
    handed_over_at: datetime | None = None
    delivered_at: datetime | None = None
    promised_at: datetime | None = None
    quirks: Sequence[str] = ()
    touch_tokens: Sequence[str] = ()
    """What the edge gave the storefront for this buyer."""
    coupon_codes: Sequence[str] = ()
    """As the buyer typed them. Promoters' codes are touches; what any code took off is in the prices told."""


@dataclass(slots=True)
class _Draft:
    """One order on its way into the tables."""

    told: ExternalOrder
    order_id: OrderId
    checkout_id: CheckoutId
    cart_id: CartId
    line_ids: list[OrderLineId]
    merchant_id: BrandId


async def record_external_orders(
    session: AsyncSession,
    storefront: ExternalStorefront,
    orders: Sequence[ExternalOrder],
    *,
    secret: str,
    clock: Clock,
) -> dict[str, OrderId]:
    """Record, reserve and route. Returns the order id of every reference, new or known.

    Raises ``ExternalVariantUnknown``, ``ExternalOrderMixed`` (lines of two merchants),
    ``ExternalSourceUnavailable`` and inventory's ``InsufficientStock``; nothing is written then.
    """
    known = await known_orders(session, storefront.source, [order.reference for order in orders])
    fresh = [order for order in orders if order.reference not in known]
    if not fresh:
        return known
    variants = await _variants(session, fresh, storefront.currency)
    drafts = [_draft(order, storefront, variants) for order in fresh]
    for draft in drafts:
        await _enter_codes(session, draft)
    await _write(session, storefront, drafts, variants, secret=secret, now=clock.now())
    placed = await _place(session, storefront, [d for d in drafts if d.line_ids], variants, now=clock.now())
    await fulfillment.create(session, placed, clock=clock)
    return known | {draft.told.reference: draft.order_id for draft in drafts}


async def known_orders(session: AsyncSession, source: str, references: Sequence[str]) -> dict[str, OrderId]:
    """Which of these are recorded, and as what. One statement."""
    rows = await session.execute(_KNOWN, {"source": source, "references": list(references)})
    return {row.reference: OrderId.of(row.order_id) for row in rows}


async def _variants(
    session: AsyncSession, orders: Sequence[ExternalOrder], currency: str
) -> dict[VariantId, VariantForSale]:
    wanted = {line.variant_id for order in orders for line in order.lines}
    found = await catalog.variants_for_sale(session, sorted(wanted), currency=currency)
    if missing := wanted - found.keys():
        raise ExternalVariantUnknown(f"no variant {min(missing)}")
    return found


def _draft(
    order: ExternalOrder, storefront: ExternalStorefront, variants: Mapping[VariantId, VariantForSale]
) -> _Draft:
    merchants = {variants[line.variant_id].brand_id for line in order.lines} or {storefront.brand_id}
    if len(merchants) > 1:
        raise ExternalOrderMixed(f"{order.reference} has lines of {len(merchants)} merchants")
    line_ids = [OrderLineId.new() for _ in order.lines]
    return _Draft(order, OrderId.new(), CheckoutId.new(), CartId.new(), line_ids, merchants.pop())


async def _enter_codes(session: AsyncSession, draft: _Draft) -> None:
    """Each promoter's code the order names is a touch; one that cannot be used is kept as a quirk of the order."""
    named = [coupons.normal(code) for code in draft.told.coupon_codes[:MOST_CODES]]
    if named:
        used = await entries.enter(
            session, draft.checkout_id, named, advertiser_id=draft.merchant_id, at=draft.told.placed_at
        )
        unknown = [f"coupon:{code[:32]}" for code in named if code not in used]
        draft.told = replace(draft.told, quirks=[*draft.told.quirks, *unknown])


async def _place(
    session: AsyncSession,
    storefront: ExternalStorefront,
    drafts: Sequence[_Draft],
    variants: Mapping[VariantId, VariantForSale],
    *,
    now: datetime,
) -> list[NewFulfillmentOrder]:
    """Reserve and route; the routing is free to explain itself but not to choose another seller."""
    planned = await _routed(session, [_need(storefront, draft, variants) for draft in drafts], drafts)
    await routing.record_many(
        session,
        [(draft.order_id, each) for draft, each in zip(drafts, planned, strict=True)],
        mode=RoutingMode.CHECKOUT,
    )
    requests = {
        draft.checkout_id: [
            StockRequest(line_id, line.location_id, line.variant_id, line.quantity)
            for line_id, line in zip(draft.line_ids, draft.told.lines, strict=True)
        ]
        for draft in drafts
    }
    reserved = await inventory.reserve_many(session, requests, expires_at=now + _HOLD, now=now)
    return [
        part
        for draft, each in zip(drafts, planned, strict=True)
        for part in _fulfillment_orders(storefront, draft, each, reserved, variants)
    ]


def _need(
    storefront: ExternalStorefront, draft: _Draft, variants: Mapping[VariantId, VariantForSale]
) -> OrderNeed:
    order = draft.told
    return OrderNeed(
        lines=tuple(
            LineFact(str(i), str(line.variant_id), line.quantity, variants[line.variant_id].weight_g)
            for i, line in zip(draft.line_ids, order.lines, strict=True)
        ),
        brand_id=str(draft.merchant_id),
        dest_zone=order.address.zone,
        currency=storefront.currency,
        at=order.placed_at,
    )


async def _routed(
    session: AsyncSession, needs: Sequence[OrderNeed], drafts: Sequence[_Draft]
) -> list[PlannedRouting]:
    """Planned once; where others sell the same thing, once more with them excluded."""
    planned = await routing.plan_many(session, needs) if needs else []
    again = {
        place: replace(needs[place], excluded=frozenset(others))
        for place, draft in enumerate(drafts)
        if (others := _others(draft, planned[place]))
    }
    if again:
        second = await routing.plan_many(session, list(again.values()))
        for place, each in zip(again, second, strict=True):
            planned[place] = each
    for draft, each in zip(drafts, planned, strict=True):
        if each.unfilled:
            reasons = {c.reject_code.value for c in each.candidates if c.reject_code}
            raise ExternalSourceUnavailable(draft.told.reference, sorted(reasons))
    return planned


def _others(draft: _Draft, planned: PlannedRouting) -> set[tuple[str, str]]:
    """(line, location) of everybody the order was not sold from."""
    sold_from = {
        str(i): str(line.location_id) for i, line in zip(draft.line_ids, draft.told.lines, strict=True)
    }
    return {
        (each.line_id, each.location_id)
        for each in planned.candidates
        if each.location_id != sold_from[each.line_id]
    }


def _fulfillment_orders(
    storefront: ExternalStorefront,
    draft: _Draft,
    planned: PlannedRouting,
    reserved: Mapping[tuple[OrderLineId, LocationId], ReservationId],
    variants: Mapping[VariantId, VariantForSale],
) -> list[NewFulfillmentOrder]:
    order, decisions = draft.told, {each.line_id: each for each in planned.decisions}
    by_source: dict[tuple[SupplierId, LocationId], list[tuple[OrderLineId, ExternalLine]]] = defaultdict(list)
    for line_id, line in zip(draft.line_ids, order.lines, strict=True):
        by_source[line.supplier_id, line.location_id].append((line_id, line))
    address = order.address.as_json()

    def new_line(line_id: OrderLineId, line: ExternalLine) -> NewFulfillmentLine:
        variant, decision = variants[line.variant_id], decisions[str(line_id)]
        assert decision.cost is not None
        return NewFulfillmentLine(
            order_line_id=line_id, variant_id=line.variant_id, sku=variant.sku, title=_title(variant),
            quantity=line.quantity, weight_g=variant.weight_g,
            unit_cost=Money(decision.cost.goods_minor // line.quantity, storefront.currency),
            reservation_id=reserved[line_id, line.location_id],
            price_version=planned.price_versions.get(decision.offer_id or ""),
        )  # fmt: skip

    return [
        NewFulfillmentOrder(
            order_id=draft.order_id,
            reference=draft.checkout_id,
            brand_id=draft.merchant_id,
            supplier_id=supplier_id,
            location_id=location_id,
            address=address,
            dest_zone=order.address.zone,
            freight=Money(sum(line.shipping_minor for _, line in sold), storefront.currency),
            lines=tuple(new_line(*each) for each in sold),
            deliver_by=order.promised_at,
            ship_by=min((line.ship_by for _, line in sold if line.ship_by), default=None),
        )
        for (supplier_id, location_id), sold in by_source.items()
    ]


async def _write(
    session: AsyncSession,
    storefront: ExternalStorefront,
    drafts: Sequence[_Draft],
    variants: Mapping[VariantId, VariantForSale],
    *,
    secret: str,
    now: datetime,
) -> None:
    """The rows of our own orders, and beside them what the source said. Seven statements."""
    tables: list[list[dict[str, Any]]] = [
        [_cart_row(storefront, draft) for draft in drafts],
        [_checkout_row(storefront, draft, secret) for draft in drafts],
        [_order_row(storefront, draft, secret) for draft in drafts],
        [row for draft in drafts for row in _line_rows(storefront, draft, variants)],
        [_payment_row(storefront, draft) for draft in drafts],
        [_told_row(storefront, draft, now) for draft in drafts],
    ]
    for table, rows in zip(_TABLES, tables, strict=True):
        await insert_rows(session, table, rows)
    payments = [
        {
            "source": storefront.source, "reference": draft.told.reference, "sequence": each.sequence,
            "brand_id": storefront.brand_id, "kind": each.kind, "instalments": each.instalments,
            "amount_minor": each.amount_minor, "currency": storefront.currency,
        }
        for draft in drafts
        for each in draft.told.payments
    ]  # fmt: skip
    await insert_rows(session, _PAYMENT_ROWS, payments)


def _cart_row(storefront: ExternalStorefront, draft: _Draft) -> dict[str, Any]:
    at = draft.told.placed_at
    return {
        "id": draft.cart_id, "storefront_id": storefront.storefront_id, "brand_id": storefront.brand_id,
        "currency": storefront.currency, "country": draft.told.address.country,
        "touch_tokens": list(draft.told.touch_tokens)[-MOST_TOUCHES:],
        "session_key": "", "status": CartStatus.ORDERED.value, "version": 1, "created_at": at,
        "updated_at": at,
    }  # fmt: skip


def _checkout_row(storefront: ExternalStorefront, draft: _Draft, secret: str) -> dict[str, Any]:
    order = draft.told
    return {
        "id": draft.checkout_id, "cart_id": draft.cart_id, "storefront_id": storefront.storefront_id,
        "brand_id": storefront.brand_id, "currency": storefront.currency,
        "buyer_key": buyer_key(secret, order.email), "address": order.address.as_json(),
        "address_key": address_key(secret, order.address), "dest_zone": order.address.zone,
        "email": order.email, "status": CheckoutStatus.PLACED.value, "started_at": order.placed_at,
        "placed_at": order.placed_at, "expires_at": order.placed_at + _HOLD, **_totals(order),
    }  # fmt: skip


def _order_row(storefront: ExternalStorefront, draft: _Draft, secret: str) -> dict[str, Any]:
    order = draft.told
    return {
        "id": draft.order_id, "number": order_number(), "checkout_id": draft.checkout_id,
        "merchant_id": draft.merchant_id, "seller_id": storefront.brand_id,
        "storefront_id": storefront.storefront_id, "buyer_key": buyer_key(secret, order.email),
        "currency": storefront.currency, "refunded_minor": 0,
        "payment_status": PaymentStatus.PENDING.value,
        "fulfillment_status": FulfillmentStatus.UNFULFILLED.value, "country": order.address.country,
        "placed_at": order.placed_at, "version": 1, **_totals(order),
    }  # fmt: skip


def _totals(order: ExternalOrder) -> dict[str, int]:
    goods = sum(line.gross_minor for line in order.lines)
    shipping = sum(line.shipping_minor for line in order.lines)
    return {
        "goods_minor": goods, "shipping_minor": shipping, "tax_minor": 0, "total_minor": goods + shipping,
    }  # fmt: skip


def _line_rows(
    storefront: ExternalStorefront, draft: _Draft, variants: Mapping[VariantId, VariantForSale]
) -> list[dict[str, Any]]:
    rows = []
    for line_id, line in zip(draft.line_ids, draft.told.lines, strict=True):
        variant = variants[line.variant_id]
        rows.append(
            {
                "id": line_id, "order_id": draft.order_id, "merchant_id": draft.merchant_id,
                "seller_id": storefront.brand_id, "variant_id": line.variant_id,
                "product_id": variant.product_id, "sku": variant.sku, "title": _title(variant),
                "category": variant.category, "quantity": line.quantity,
                "unit_price_minor": line.unit_price_minor, "gross_minor": line.gross_minor,
                "discount_minor": 0, "tax_minor": 0, "tax_ppm": 0, "tax_included": True,
                "shipping_minor": line.shipping_minor, "shipping_tax_minor": 0, "platform_fee_ppm": 0,
                "supplier_id": line.supplier_id, "location_id": line.location_id,
                "supplier_cost_minor": line.supplier_cost_minor, "refunded_quantity": 0,
                "refunded_shipping_minor": 0,
            }
        )  # fmt: skip
    return rows


def _payment_row(storefront: ExternalStorefront, draft: _Draft) -> dict[str, Any]:
    return {
        "id": PaymentId.new(), "checkout_id": draft.checkout_id, "brand_id": storefront.brand_id,
        "currency": storefront.currency,
        "amount_minor": sum(each.amount_minor for each in draft.told.payments),
        "status": PaymentStatus.PENDING.value, "captured_minor": 0, "refunded_minor": 0,
        "created_at": draft.told.placed_at,
    }  # fmt: skip


def _told_row(storefront: ExternalStorefront, draft: _Draft, now: datetime) -> dict[str, Any]:
    order = draft.told
    return {
        "source": storefront.source, "reference": order.reference, "order_id": draft.order_id,
        "brand_id": storefront.brand_id, "status": order.status, "placed_at": order.placed_at,
        "approved_at": order.approved_at, "handed_over_at": order.handed_over_at,
        "delivered_at": order.delivered_at, "promised_at": order.promised_at,
        "quirks": list(order.quirks), "recorded_at": now,
    }  # fmt: skip


def _title(variant: VariantForSale) -> str:
    return variant.title or variant.product_title
