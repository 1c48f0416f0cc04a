"""One statement for as many orders, lines or variants as a document asks for."""

from __future__ import annotations

from collections.abc import Sequence

from core.ids import CheckoutId, OrderId, VariantId
from graph.context import Context
from marketplace.catalog import queries as catalog
from marketplace.catalog.queries import VariantForSale
from marketplace.orders import queries
from marketplace.orders.queries import OrderLineRow, OrderRow, RefundRow
from supply.settlement.disputes import queries as disputes


async def order_lines(context: Context, order_ids: Sequence[OrderId]) -> list[list[OrderLineRow]]:
    async with context.reading() as session:
        lines = await queries.lines_of(session, order_ids)
    return [lines[order_id] for order_id in order_ids]


async def refunds(context: Context, order_ids: Sequence[OrderId]) -> list[list[RefundRow]]:
    async with context.reading() as session:
        found = await queries.refunds_of(session, order_ids)
    return [found[order_id] for order_id in order_ids]


async def charged_back(context: Context, order_ids: Sequence[OrderId]) -> list[int]:
    async with context.reading() as session:
        found = await disputes.charged_back(session, order_ids)
    return [found[order_id] for order_id in order_ids]


async def orders_of_checkouts(context: Context, checkout_ids: Sequence[CheckoutId]) -> list[list[OrderRow]]:
    async with context.reading() as session:
        return [await queries.orders_of_checkout(session, checkout_id) for checkout_id in checkout_ids]


async def variants(context: Context, variant_ids: Sequence[VariantId]) -> list[VariantForSale | None]:
    """In the storefront's currency."""
    currency = context.storefront.currency if context.storefront else "CNY"
    async with context.reading() as session:
        found = await catalog.variants_for_sale(session, variant_ids, currency=currency)
    return [found.get(variant_id) for variant_id in variant_ids]
