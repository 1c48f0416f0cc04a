"""Rails that share payments themselves: what an order was paid there, who was told to be paid, what waits."""

from __future__ import annotations

from datetime import datetime

import strawberry

from core.ids import OrderId
from core.pagination import PageRequest
from graph.context import Info
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import Money
from graph.settlement import loaders
from supply.settlement.rails import queries
from supply.settlement.rails.models import InstructionStatus, RailRefundStatus, RequestStatus
from supply.settlement.split_plan import PayeeKind

strawberry.enum(InstructionStatus, name="RailInstructionStatus")
strawberry.enum(RequestStatus, name="RailRequestStatus")
strawberry.enum(RailRefundStatus, name="RailRefundStatus")
strawberry.enum(PayeeKind, name="RailPayeeKind")
_READ = scope("settlement:read")
_ADMIN = scope("platform:admin")


@strawberry.type(description="One payee of a request to a sharing rail.")
class RailInstruction:
    request_id: strawberry.ID
    order_id: strawberry.ID
    payee_id: strawberry.ID
    kind: PayeeKind
    amount: Money
    status: InstructionStatus
    failure: str | None
    ended_at: datetime | None

    @classmethod
    def of(cls, row: queries.InstructionView) -> RailInstruction:
        return cls(
            request_id=strawberry.ID(str(row.request_id)),
            order_id=strawberry.ID(str(row.order_id)),
            payee_id=strawberry.ID(row.payee_id),
            kind=row.kind,
            amount=Money.minor(row.amount_minor, row.currency),
            status=row.status,
            failure=row.failure,
            ended_at=row.ended_at,
        )


@strawberry.type(description="What is sent to the rail at once.")
class RailRequest:
    id: strawberry.ID
    order_id: strawberry.ID
    number: int
    finish: bool = strawberry.field(description="Gives the merchant the rest, and names nobody else.")
    status: RequestStatus
    send_at: datetime
    send_before: datetime | None = strawberry.field(description="Later the rest is the merchant's by itself.")
    failure: str | None
    instructions: list[RailInstruction]

    @classmethod
    def of(cls, row: queries.RequestView) -> RailRequest:
        return cls(
            id=strawberry.ID(str(row.id)),
            order_id=strawberry.ID(str(row.order_id)),
            number=row.number,
            finish=row.finish,
            status=row.status,
            send_at=row.send_at,
            send_before=row.send_before,
            failure=row.failure,
            instructions=[RailInstruction.of(each) for each in row.instructions],
        )


@strawberry.type
class RailBearer:
    payee_id: strawberry.ID
    amount: Money


@strawberry.type(description="A refund on a sharing rail.")
class RailRefund:
    id: strawberry.ID
    amount: Money
    returned: Money = strawberry.field(
        description="Of it, what businesses give back of shares they were paid."
    )
    fee_back: Money = strawberry.field(description="Of its fee, what the rail gave back to the merchant.")
    borne: list[RailBearer] = strawberry.field(description="By whom, as it was composed.")
    status: RailRefundStatus
    failure: str | None
    reserved_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: queries.RailRefundView, currency: str) -> RailRefund:
        return cls(
            id=strawberry.ID(str(row.refund_id)),
            amount=Money.minor(row.amount_minor, currency),
            returned=Money.minor(row.returned_minor, currency),
            fee_back=Money.minor(row.fee_back_minor, currency),
            borne=[
                RailBearer(payee_id=strawberry.ID(payee), amount=Money.minor(minor, currency))
                for payee, minor in sorted(row.borne.items())
            ],
            status=row.status,
            failure=row.failure,
            reserved_at=row.reserved_at,
            ended_at=row.ended_at,
        )


@strawberry.type(description="An order whose payment lies frozen with its merchant on a sharing rail.")
class RailOrder:
    order_id: strawberry.ID
    merchant_id: strawberry.ID
    rail: str
    payment_id: str
    paid: Money
    fee: Money = strawberry.field(description="The rail's; the merchant bears it.")
    merchant_part: Money = strawberry.field(description="What the merchant ends up with, tax included.")
    paid_at: datetime
    closed_at: datetime | None = strawberry.field(description="When the rest went to the merchant.")
    requests: list[RailRequest]
    row: strawberry.Private[queries.RailOrderView]

    @classmethod
    def of(cls, row: queries.RailOrderView) -> RailOrder:
        return cls(
            order_id=strawberry.ID(str(row.order_id)),
            merchant_id=strawberry.ID(str(row.merchant_id)),
            rail=row.rail,
            payment_id=row.payment_id,
            paid=Money.minor(row.paid_minor, row.currency),
            fee=Money.minor(row.fee_minor, row.currency),
            merchant_part=Money.minor(row.merchant_minor, row.currency),
            paid_at=row.paid_at,
            closed_at=row.closed_at,
            requests=[RailRequest.of(each) for each in row.requests],
            row=row,
        )

    @strawberry.field
    async def refunds(self, info: Info) -> list[RailRefund]:
        rows = await info.context.loader(loaders.rail_refunds).load(self.row.order_id)
        return [RailRefund.of(row, self.row.currency) for row in rows]


@strawberry.type
class RailQueries:
    @strawberry.field(
        permission_classes=[_READ],
        description="The merchant's and the platform's. Null for an order that was paid otherwise.",
    )
    async def rail_order(self, info: Info, order_id: strawberry.ID) -> RailOrder | None:
        context = info.context
        async with context.reading() as session:
            found = await queries.rail_order(session, context.actor, OrderId.parse(order_id))
        return None if found is None else RailOrder.of(found)

    @strawberry.field(
        permission_classes=[_READ],
        description="Newest first: what the rail was, or will be, told for a payee; of one's own orders, for all.",
    )
    async def rail_instructions(
        self, info: Info, first: First = 20, after: After = None, payee_id: strawberry.ID | None = None
    ) -> Connection[RailInstruction]:
        context = info.context
        async with context.reading() as session:
            page = await queries.instructions_page(
                session, context.actor, PageRequest(first, after), payee_id=payee_id
            )
        return connection(page, RailInstruction.of)

    @strawberry.field(
        permission_classes=[_ADMIN], description="Platform: what the rail refused and waits, oldest first."
    )
    async def rail_refused_requests(
        self, info: Info, first: First = 20, after: After = None
    ) -> Connection[RailRequest]:
        context = info.context
        async with context.reading() as session:
            page = await queries.refused_requests_page(session, context.actor, PageRequest(first, after))
        return connection(page, RailRequest.of)
