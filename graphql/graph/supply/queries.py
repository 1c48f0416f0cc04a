"""Who delivers, and how far it is."""

from __future__ import annotations

import strawberry

from core.ids import FulfillmentOrderId, OrderId, SupplierId, VariantId
from core.pagination import BadPage, PageRequest
from graph.context import Info
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.supply import loaders
from graph.supply.types import (
    FulfillmentOrder,
    Supplier,
    SupplierOffer,
)
from supply.fulfillment import queries as fulfillment
from supply.fulfillment.machine import Status
from supply.fulfillment.queries import FulfillmentFilter
from supply.suppliers import queries as suppliers

MOST_VARIANTS = 100


@strawberry.type
class SupplyQueries:
    @strawberry.field(permission_classes=[scope("fulfillment:read")])
    async def fulfillment_order(self, info: Info, id: strawberry.ID) -> FulfillmentOrder:
        async with info.context.reading() as session:
            view = await fulfillment.fulfillment_order(
                session, info.context.actor, FulfillmentOrderId.parse(id)
            )
        return FulfillmentOrder.of(view)

    @strawberry.field(permission_classes=[scope("fulfillment:read")], description="Oldest change first.")
    async def fulfillment_orders(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        status: list[Status] | None = None,
    ) -> Connection[FulfillmentOrder]:
        wanted = FulfillmentFilter(statuses=tuple(status or ()))
        async with info.context.reading() as session:
            page = await fulfillment.fulfillment_orders_page(
                session, info.context.actor, wanted, PageRequest(first, after)
            )
        return connection(page, FulfillmentOrder.of)

    @strawberry.field(permission_classes=[scope("fulfillment:read")])
    async def fulfillment_of_order(self, info: Info, order_id: strawberry.ID) -> list[FulfillmentOrder]:
        views = await info.context.loader(loaders.fulfillment_orders).load(OrderId.parse(order_id))
        return [FulfillmentOrder.of(view) for view in views]

    @strawberry.field(
        permission_classes=[scope("supply:read")], description="What suppliers offer of the brand's variants."
    )
    async def supplier_offers(self, info: Info, variant_ids: list[strawberry.ID]) -> list[SupplierOffer]:
        if len(variant_ids) > MOST_VARIANTS:
            raise BadPage(f"at most {MOST_VARIANTS} variants at once", field="variantIds")
        async with info.context.reading() as session:
            offers = await suppliers.offers_of(
                session, [VariantId.parse(each) for each in variant_ids], now=info.context.clock.now()
            )
        return [SupplierOffer.of(offer) for of_variant in offers.values() for offer in of_variant]

    @strawberry.field(permission_classes=[scope("supply:read")])
    async def supplier(self, info: Info, id: strawberry.ID) -> Supplier | None:
        view = await info.context.loader(loaders.suppliers_by_id).load(SupplierId.parse(id))
        return Supplier.of(view) if view else None
