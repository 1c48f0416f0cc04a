from __future__ import annotations

from collections.abc import Sequence

from core.ids import OrderId, SupplierId
from graph.context import Context
from supply.fulfillment import queries as fulfillment
from supply.fulfillment.queries import FulfillmentOrderView
from supply.suppliers import queries as suppliers
from supply.suppliers.queries import SupplierView


async def fulfillment_orders(
    context: Context, order_ids: Sequence[OrderId]
) -> list[list[FulfillmentOrderView]]:
    async with context.reading() as session:
        found = await fulfillment.of_orders(session, context.actor, order_ids)
    return [found[order_id] for order_id in order_ids]


async def suppliers_by_id(context: Context, supplier_ids: Sequence[SupplierId]) -> list[SupplierView | None]:
    async with context.reading() as session:
        found = await suppliers.suppliers(session, supplier_ids)
    return [found.get(supplier_id) for supplier_id in supplier_ids]
