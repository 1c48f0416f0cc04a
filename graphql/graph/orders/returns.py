"""Returns: goods that come back, from the announcement to the supplier's decision."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import OrderId, OrderLineId
from core.pagination import PageRequest
from graph.context import Info
from graph.errors import UserError, expected
from graph.idempotent import run_once
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from marketplace.orders import returning
from marketplace.orders.models import RefundCause
from marketplace.orders.return_models import ReturnId, ReturnStatus
from marketplace.orders.returning import ReturnCommand

strawberry.enum(ReturnStatus, name="ReturnStatus")


@strawberry.type
class ReturnLine:
    order_line_id: strawberry.ID
    quantity: int
    received: int
    accepted: int
    restocked: int = strawberry.field(description="Back on the shelf; the other accepted ones are damaged.")


@strawberry.type(
    description="What one supplier gets back of an order. While it is open its lines are not paid out."
)
class Return:
    id: strawberry.ID
    order_id: strawberry.ID
    supplier_id: strawberry.ID
    status: ReturnStatus
    cause: RefundCause
    reason: str
    refund_if_refused: bool
    lines: list[ReturnLine]
    refund_ids: list[strawberry.ID]
    announced_at: datetime
    expires_at: datetime
    received_at: datetime | None
    closed_at: datetime | None

    @classmethod
    def of(cls, row: returning.ReturnView) -> Return:
        return cls(
            id=strawberry.ID(str(row.id)),
            order_id=strawberry.ID(str(row.order_id)),
            supplier_id=strawberry.ID(str(row.supplier_id)),
            status=row.status,
            cause=row.cause,
            reason=row.reason,
            refund_if_refused=row.refund_if_refused,
            lines=[
                ReturnLine(
                    order_line_id=strawberry.ID(str(each.order_line_id)),
                    quantity=each.quantity,
                    received=each.received,
                    accepted=each.accepted,
                    restocked=each.restocked,
                )
                for each in row.lines
            ],
            refund_ids=[strawberry.ID(str(each)) for each in row.refunds],
            announced_at=row.announced_at,
            expires_at=row.expires_at,
            received_at=row.received_at,
            closed_at=row.closed_at,
        )


@strawberry.type
class ReturnQueries:
    @strawberry.field(permission_classes=[scope("orders:read")], description="Newest first.")
    async def returns(
        self, info: Info, first: First = 20, after: After = None, order_id: strawberry.ID | None = None
    ) -> Connection[Return]:
        context = info.context
        only = OrderId.parse(order_id) if order_id else None
        async with context.reading() as session:
            page = await returning.returns_page(
                session, context.actor, PageRequest(first, after), order_id=only
            )
        return connection(page, Return.of)


@strawberry.input
class ReturnLineInput:
    order_line_id: strawberry.ID
    quantity: int


@strawberry.input
class ReturnAnnounceInput:
    idempotency_key: str
    order_id: strawberry.ID
    lines: list[ReturnLineInput]
    cause: RefundCause = RefundCause.RETURNED
    reason: str = ""
    refund_if_refused: bool = strawberry.field(
        default=False, description="The merchant refunds what the supplier does not take back."
    )


@strawberry.input
class ReturnWithdrawInput:
    idempotency_key: str
    id: strawberry.ID


@strawberry.type(description="One return for every supplier that delivered some of it.")
class ReturnsPayload:
    returns: list[Return] = strawberry.field(default_factory=list)
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class ReturnMutations:
    @strawberry.mutation(description="Goods are on their way back. The supplier receives and inspects them.")
    @expected(ReturnsPayload)
    async def return_announce(self, info: Info, input: ReturnAnnounceInput) -> ReturnsPayload:
        context = info.context
        context.actor.require("orders:write")
        units: dict[OrderLineId, int] = {}
        for line in input.lines:
            line_id = OrderLineId.parse(line.order_line_id)
            units[line_id] = units.get(line_id, 0) + line.quantity
        command = ReturnCommand(
            OrderId.parse(input.order_id), units, input.cause, input.reason, input.refund_if_refused
        )

        async def run(session: AsyncSession) -> dict[str, Any]:
            made = await returning.announce(session, context.actor, command, clock=context.clock)
            return {"ids": [str(each) for each in made]}

        body = [
            input.order_id, [[str(line), n] for line, n in units.items()], input.cause.value, input.reason,
            input.refund_if_refused,
        ]  # fmt: skip
        answer = await run_once(
            context,
            operation="returnAnnounce",
            key=input.idempotency_key,
            body=body,
            run=run,
            as_actor=SYSTEM,
        )
        return await _returns(info, command.order_id, answer["ids"])

    @strawberry.mutation(description="The goods do not come back after all.")
    @expected(ReturnsPayload)
    async def return_withdraw(self, info: Info, input: ReturnWithdrawInput) -> ReturnsPayload:
        context = info.context
        context.actor.require("orders:write")
        return_id = ReturnId.parse(input.id)

        async def run(session: AsyncSession) -> dict[str, Any]:
            await returning.withdraw(session, context.actor, return_id, clock=context.clock)
            return {}

        await run_once(
            context, operation="returnWithdraw", key=input.idempotency_key, body=[input.id], run=run,
            as_actor=SYSTEM,
        )  # fmt: skip
        return await _returns(info, None, [str(return_id)])


async def _returns(info: Info, order_id: OrderId | None, ids: list[str]) -> ReturnsPayload:
    context = info.context
    async with context.db.reading(context.actor) as session:
        page = await returning.returns_page(session, context.actor, PageRequest(100), order_id=order_id)
    return ReturnsPayload(returns=[Return.of(row) for row in page.items if str(row.id) in ids])
