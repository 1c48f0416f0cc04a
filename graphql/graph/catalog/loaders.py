"""One statement for the variants with their prices, or the stock, of as many products as a document shows."""

from __future__ import annotations

from collections.abc import Sequence

from core.ids import ProductId, VariantId
from graph.context import Context
from marketplace.catalog import queries
from marketplace.catalog.queries import PricedVariant
from supply.inventory import queries as inventory


async def variants(context: Context, product_ids: Sequence[ProductId]) -> list[list[PricedVariant]]:
    async with context.reading() as session:
        found = await queries.priced_variants_of(session, product_ids)
    return [found.get(product_id, []) for product_id in product_ids]


async def available(context: Context, variant_ids: Sequence[VariantId]) -> list[int]:
    async with context.reading() as session:
        found = await inventory.sellable(session, variant_ids, now=context.clock.now())
    return [found[variant_id] for variant_id in variant_ids]
