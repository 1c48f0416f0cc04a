"""What a merchant does about an order."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import OrderId, OrderLineId, RefundId
from graph.context import Info
from graph.errors import UserError, expected
from graph.idempotent import run_once
from graph.orders.types import Order, Refund
from graph.scalars import MoneyInput
from marketplace.orders import queries, refunding
from marketplace.orders.models import RefundCause
from marketplace.orders.refunding import RefundCommand, RefundLine, RefundShipping


@strawberry.input
class RefundLineInput:
    order_line_id: strawberry.ID
    quantity: int
    supplier_accepts: bool = strawberry.field(
        default=True,
        description="The supplier takes the goods back, or never sent them: it gives its cost back too.",
    )
    with_shipping: bool = strawberry.field(
        default=False, description="What is left of this line's own shipping too, as for goods never sent."
    )
    goods: MoneyInput | None = strawberry.field(
        default=None,
        description="With quantity 0: so much of the line's value, without tax, at the merchant's cost.",
    )


@strawberry.input(
    description="Shipping of one line, or of the whole order: what is left of it, or an amount."
)
class RefundShippingInput:
    order_line_id: strawberry.ID | None = None
    amount: MoneyInput | None = strawberry.field(default=None, description="Without tax.")


@strawberry.input(description="Name lines, shipping, a goodwill amount, or everything that is left.")
class RefundCreateInput:
    order_id: strawberry.ID
    idempotency_key: str
    lines: list[RefundLineInput] = strawberry.field(default_factory=list)
    shipping: bool = strawberry.field(default=False, description="All shipping that is left.")
    amount: MoneyInput | None = strawberry.field(
        default=None, description="Tax included, no line behind it: shared by all who earned from the order."
    )
    everything: bool = False
    reason: str = ""
    cause: RefundCause = RefundCause.OTHER
    shipping_of: list[RefundShippingInput] = strawberry.field(default_factory=list)
    goodwill: bool = strawberry.field(default=False, description="Platform: it pays the amount itself.")
    reference: str | None = strawberry.field(
        default=None, description="The asker's own name for it: the same one again for an order is refused."
    )


@strawberry.input
class RefundRetryInput:
    idempotency_key: str
    refund_id: strawberry.ID


@strawberry.type
class RefundCreatePayload:
    refund: Refund | None = None
    order: Order | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class OrderMutations:
    @strawberry.mutation(
        description="Reserves the refund in the ledger at once; the provider is asked right after."
    )
    @expected(RefundCreatePayload)
    async def refund_create(self, info: Info, input: RefundCreateInput) -> RefundCreatePayload:
        context = info.context
        context.actor.require("orders:write")
        command = RefundCommand(
            order_id=OrderId.parse(input.order_id),
            lines=[
                RefundLine(
                    OrderLineId.parse(line.order_line_id),
                    line.quantity,
                    supplier_accepts=line.supplier_accepts,
                    with_shipping=line.with_shipping,
                    goods=line.goods.parsed() if line.goods else None,
                )
                for line in input.lines
            ],
            shipping=input.shipping,
            amount=input.amount.parsed() if input.amount else None,
            everything=input.everything,
            reason=input.reason,
            cause=input.cause,
            shipping_of=[
                RefundShipping(
                    OrderLineId.parse(each.order_line_id) if each.order_line_id else None,
                    each.amount.parsed() if each.amount else None,
                )
                for each in input.shipping_of
            ],
            goodwill=input.goodwill,
            reference=input.reference,
        )

        async def run(session: AsyncSession) -> dict[str, Any]:
            refund_id = await refunding.request(session, context.actor, command, clock=context.clock)
            return {"refundId": str(refund_id)}

        answer = await run_once(
            context,
            operation="refundCreate",
            key=input.idempotency_key,
            body=asdict(input),
            run=run,
            as_actor=SYSTEM,
        )
        return await _refunded(info, command.order_id, RefundId.parse(answer["refundId"]))

    @strawberry.mutation(
        description="Platform: ask the provider again for a refund that failed, as a new one."
    )
    @expected(RefundCreatePayload)
    async def refund_retry(self, info: Info, input: RefundRetryInput) -> RefundCreatePayload:
        context = info.context
        context.actor.require("platform:admin")
        refund_id = RefundId.parse(input.refund_id)

        async def run(session: AsyncSession) -> dict[str, Any]:
            again = await refunding.retry(session, context.actor, refund_id, clock=context.clock)
            return {"refundId": str(again), "orderId": str(await queries.order_of_refund(session, again))}

        answer = await run_once(
            context,
            operation="refundRetry",
            key=input.idempotency_key,
            body=[input.refund_id],
            run=run,
            as_actor=SYSTEM,
        )
        return await _refunded(info, OrderId.parse(answer["orderId"]), RefundId.parse(answer["refundId"]))


async def _refunded(info: Info, order_id: OrderId, refund_id: RefundId) -> RefundCreatePayload:
    async with info.context.db.reading(info.context.actor) as session:
        order = await queries.order(session, info.context.actor, order_id)
        refunds = (await queries.refunds_of(session, [order_id]))[order_id]
    refund = next(found for found in refunds if found.id == refund_id)
    return RefundCreatePayload(refund=Refund.of(refund), order=Order.of(order))
