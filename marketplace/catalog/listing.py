"""What a shop window shows, in one statement: products, variants, prices in one currency, stock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, ProductId, VariantId
from core.money import Money

# sellable_stock is supply's: what of a variant can be sent to a zone now, for whoever asks.
_LISTING = text(
    "WITH stock AS MATERIALIZED (SELECT * FROM sellable_stock("
    "  ARRAY(SELECT id FROM variants WHERE product_id = ANY(:ids)), :zone, :now))"
    " SELECT p.id, p.brand_id, p.handle, p.title_zh, p.title_en, p.description_zh, p.description_en,"
    " p.category, p.tags, p.media, p.attributes, p.created_at,"
    " (SELECT jsonb_agg(jsonb_build_array(v.id, v.sku, v.title, v.options, v.weight_g, c.amount_minor,"
    "   c.compare_at_minor, coalesce(s.sellable, 0)) ORDER BY v.position, v.id)"
    "  FROM variants v LEFT JOIN prices c ON c.variant_id = v.id AND c.currency = :currency"
    "  LEFT JOIN stock s ON s.variant_id = v.id WHERE v.product_id = p.id) AS variants"
    " FROM products p WHERE p.id = ANY(:ids) AND p.status = 'published'"
).columns(media=JSONB, attributes=JSONB, variants=JSONB)


@dataclass(frozen=True, slots=True)
class ListedVariant:
    """``available``: units that can be sold to the zone now. ``price``: in the asked currency, if any."""

    id: VariantId
    sku: str
    title: str
    options: Mapping[str, str]
    weight_g: int
    price: Money | None
    compare_at: Money | None
    available: int


@dataclass(frozen=True, slots=True)
class ListedProduct:
    id: ProductId
    brand_id: BrandId
    handle: str
    title_zh: str
    title_en: str
    description_zh: str
    description_en: str
    category: str
    tags: Sequence[str]
    media: Sequence[Mapping[str, str]]
    attributes: Mapping[str, Any]
    created_at: datetime
    variants: Sequence[ListedVariant]


async def listing(
    session: AsyncSession, product_ids: Iterable[ProductId], *, currency: str, zone: str, now: datetime
) -> dict[ProductId, ListedProduct]:
    """Those that are published. ``zone`` as in routing: ``CN`` or ``CN-SH``. One statement."""
    asked = {"ids": list(product_ids), "currency": currency, "zone": zone, "now": now}
    found: dict[ProductId, ListedProduct] = {}
    for product_id, brand_id, *facts, variants in await session.execute(_LISTING, asked):
        shown = [_variant(currency, *variant) for variant in variants or ()]
        columns: tuple[Any, ...] = (ProductId.of(product_id), BrandId.of(brand_id), *facts, shown)
        product = ListedProduct(*columns)
        found[product.id] = product
    return found


def _variant(
    currency: str,
    variant_id: str,
    sku: str,
    title: str,
    options: Mapping[str, str],
    weight_g: int,
    amount: int | None,
    compare_at: int | None,
    available: int,
) -> ListedVariant:
    return ListedVariant(
        VariantId.of(UUID(variant_id)),
        sku,
        title,
        options,
        weight_g,
        None if amount is None else Money(amount, currency),
        None if compare_at is None else Money(compare_at, currency),
        available,
    )
