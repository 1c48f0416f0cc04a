"""Orders of the brand API: the merchant's sales and what its storefronts sold."""

from __future__ import annotations

import strawberry

from core.ids import OrderId
from core.pagination import PageRequest
from graph.context import Info
from graph.orders.types import Order
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import JSON
from marketplace.orders import explain, queries
from marketplace.orders.models import FulfillmentStatus, PaymentStatus


@strawberry.type
class OrderQueries:
    @strawberry.field(permission_classes=[scope("orders:read")])
    async def order(self, info: Info, id: strawberry.ID) -> Order:
        async with info.context.reading() as session:
            return Order.of(await queries.order(session, info.context.actor, OrderId.parse(id)))

    @strawberry.field(permission_classes=[scope("orders:read")], description="Newest first.")
    async def orders(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        payment_status: PaymentStatus | None = None,
        fulfillment_status: FulfillmentStatus | None = None,
    ) -> Connection[Order]:
        context = info.context
        async with context.reading() as session:
            page = await queries.orders_page(
                session,
                context.actor,
                PageRequest(first, after),
                payment_status=payment_status,
                fulfillment_status=fulfillment_status,
            )

        async def count() -> int:
            async with context.reading() as session:
                return await queries.orders_count(
                    session,
                    context.actor,
                    payment_status=payment_status,
                    fulfillment_status=fulfillment_status,
                )

        return connection(page, Order.of, count)

    @strawberry.field(
        permission_classes=[scope("orders:read")],
        description=(
            "Everything behind an order: touches accepted and rejected, the rule versions, the routing"
            " candidates with their reject codes, every ledger entry, and whether the money adds up."
        ),
    )
    async def explain_order(self, info: Info, id: strawberry.ID) -> JSON:
        async with info.context.db.reading(explain.READER) as session:
            return JSON(await explain.explain_order(session, info.context.actor, OrderId.parse(id)))
