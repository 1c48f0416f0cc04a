"""From a placed quote to fulfilment orders: one per order, supplier and location, costs frozen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from core.ids import BrandId, CheckoutId, LocationId, OrderId, OrderLineId, ReservationId
from core.money import Money
from marketplace.orders.address import Address
from marketplace.orders.pricing import PricedLine
from marketplace.orders.quote import MerchantQuote, Quote
from supply.fulfillment.service import NewFulfillmentLine, NewFulfillmentOrder

Reserved = Mapping[tuple[OrderLineId, LocationId], ReservationId]


def fulfillment_orders(
    quote: Quote,
    orders: Mapping[BrandId, OrderId],
    reserved: Reserved,
    *,
    checkout_id: CheckoutId,
    address: Address,
) -> list[NewFulfillmentOrder]:
    """What each location sends for each order of the checkout."""
    return [
        _shipment(lines, orders[merchant.merchant_id], reserved, quote.currency, checkout_id, address)
        for merchant in quote.merchants
        for lines in _by_location(merchant)
    ]


def _by_location(merchant: MerchantQuote) -> list[list[tuple[OrderLineId, PricedLine]]]:
    shipments: dict[LocationId, list[tuple[OrderLineId, PricedLine]]] = defaultdict(list)
    for line_id, line in zip(merchant.line_ids, merchant.lines, strict=True):
        shipments[line.source.location_id].append((line_id, line))
    return [shipments[location_id] for location_id in sorted(shipments)]


def _shipment(
    lines: list[tuple[OrderLineId, PricedLine]],
    order_id: OrderId,
    reserved: Reserved,
    currency: str,
    checkout_id: CheckoutId,
    address: Address,
) -> NewFulfillmentOrder:
    source = lines[0][1].source
    return NewFulfillmentOrder(
        order_id=order_id,
        reference=checkout_id,
        brand_id=source.merchant_id,
        supplier_id=source.supplier_id,
        location_id=source.location_id,
        address=address.as_json(),
        dest_zone=address.zone,
        freight=Money(sum(line.shipping_minor for _, line in lines), currency),
        lines=tuple(
            NewFulfillmentLine(
                order_line_id=line_id,
                variant_id=line.source.variant_id,
                sku=line.source.sku,
                title=line.source.title,
                quantity=line.source.quantity,
                unit_cost=Money(line.source.unit_cost_minor, currency),
                reservation_id=reserved[line_id, line.source.location_id],
                weight_g=line.source.weight_g,
            )
            for line_id, line in lines
        ),
    )
