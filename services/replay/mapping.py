"""A recorded order as the order an outside storefront tells of.

Every seller is a supplier. The marketplace keeps 10 % of the goods of an order and seller, rounded half up once;
freight passes through.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.ids import LocationId, SupplierId, VariantId
from core.money import allocate_minor, rate_of
from marketplace.orders.address import Address
from marketplace.orders.external import ExternalLine, ExternalOrder, ExternalPayment
from services.replay.files import Item, Product, SourceOrder
from services.replay.quirks import quirks_of

COMMISSION_PPM = 100_000
COUNTRY = "BR"
_UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class SellerIds:
    supplier_id: SupplierId
    location_id: LocationId


@dataclass(frozen=True, slots=True)
class World:
    """Who and what the recorded names are here."""

    sellers: Mapping[str, SellerIds]
    variants: Mapping[str, VariantId]
    products: Mapping[str, Product]


def told(order: SourceOrder, world: World) -> ExternalOrder:
    commissions = commission_by_item(order.items)
    return ExternalOrder(
        reference=order.reference,
        status=order.status,
        placed_at=order.purchased_at,
        address=_address(order),
        email=f"{order.customer.unique}@customers.olist.example",
        lines=[
            _line(item, commission, world) for item, commission in zip(order.items, commissions, strict=True)
        ],
        payments=[ExternalPayment(p.sequence, p.kind, p.instalments, p.amount_minor) for p in order.payments],
        approved_at=order.approved_at,
        handed_over_at=order.carrier_at,
        delivered_at=order.delivered_at,
        promised_at=order.promised_at,
        quirks=[quirk.value for quirk in quirks_of(order, world.products)],
    )


def commission_by_item(items: Sequence[Item]) -> list[int]:
    """Minor units, in the sequence of ``items``: each seller's commission is exact, its items share it."""
    by_seller: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        by_seller[item.seller].append(place)
    commissions = [0] * len(items)
    for places in by_seller.values():
        prices = [items[place].price_minor for place in places]
        whole = rate_of(sum(prices), COMMISSION_PPM)
        for place, share in zip(places, allocate_minor(whole, prices), strict=True):
            commissions[place] = share
    return commissions


def offer_cost(price_minor: int) -> int:
    """What the seller asks for one piece when it sells at ``price_minor``."""
    return price_minor - rate_of(price_minor, COMMISSION_PPM)


def _line(item: Item, commission_minor: int, world: World) -> ExternalLine:
    seller = world.sellers[item.seller]
    return ExternalLine(
        variant_id=world.variants[item.product],
        quantity=1,
        unit_price_minor=item.price_minor,
        shipping_minor=item.freight_minor,
        supplier_id=seller.supplier_id,
        location_id=seller.location_id,
        supplier_cost_minor=item.price_minor - commission_minor,
        ship_by=item.limit,
    )


def _address(order: SourceOrder) -> Address:
    """The dataset has no names and streets."""
    customer = order.customer
    return Address(
        name=f"Customer {customer.unique[:8]}",
        line1=f"CEP {customer.zip_prefix}",
        city=customer.city or _UNKNOWN,
        country=COUNTRY,
        region=customer.state,
        postal_code=customer.zip_prefix,
    )
