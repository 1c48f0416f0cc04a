"""Commission lines, with the day their money can be expected."""

from __future__ import annotations

from datetime import datetime

import strawberry

import graph.promotion.directory  # noqa: F401  (gives PartnerRole its name in the schema)
from core.ids import AgreementId, OrderId
from core.pagination import PageRequest
from graph.brands.types import TenantName
from graph.context import Info
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.promotion.types import tenant_name
from graph.scalars import Money, Ppm
from marketplace.insights import commissions
from marketplace.insights.commissions import CommissionRow
from marketplace.promotion.directory.models import PartnerRole
from marketplace.promotion.models import CommissionStatus, ShareRole


@strawberry.type
class CommissionShare:
    role: ShareRole
    payee: str
    earned: Money
    left: Money = strawberry.field(description="Of what was earned, refunds and denials off.")


@strawberry.type(description="What one order line earns from one agreement; both sides see the same.")
class Commission:
    id: strawberry.ID
    order_id: strawberry.ID
    order_line_id: strawberry.ID
    agreement_id: strawberry.ID
    agreement_version: int
    link_id: strawberry.ID
    rule_id: str
    rate_ppm: Ppm
    fixed_amount: Money | None = strawberry.field(
        description="A piece, up to the ceiling both signed; null where the line earns its rate."
    )
    gross: Money
    basis: Money
    commission: Money
    refunded_basis: Money
    reversed: Money
    denied: Money
    status: CommissionStatus
    new_customer: bool
    return_window_days: int
    sold_at: datetime
    expected_pay_at: datetime | None = strawberry.field(
        description="When the statement that will hold it is closed, as known now: undelivered as if it never were,"
        " held as if every hold ended by itself. Null once it is paid, invalid or reversed."
    )
    open_holds: int = strawberry.field(description="Each alone keeps it from being paid.")
    confirmed_at: datetime | None
    payable_at: datetime | None = strawberry.field(
        description="When the statement that holds it was closed, or what was refunded of it after that came back;"
        " null of a paid line that had nothing to pay."
    )
    paid_at: datetime | None
    invalid_reason: str | None
    shares: list[CommissionShare]
    row: strawberry.Private[CommissionRow]

    @classmethod
    def of(cls, row: CommissionRow) -> Commission:
        return cls(
            id=strawberry.ID(str(row.id)),
            order_id=strawberry.ID(str(row.order_id)),
            order_line_id=strawberry.ID(str(row.order_line_id)),
            agreement_id=strawberry.ID(str(row.agreement_id)),
            agreement_version=row.agreement_version,
            link_id=strawberry.ID(str(row.link_id)),
            rule_id=row.rule_id,
            rate_ppm=Ppm(row.rate_ppm),
            fixed_amount=None if row.fixed_amount is None else Money.of(row.fixed_amount),
            gross=Money.of(row.gross),
            basis=Money.of(row.basis),
            commission=Money.of(row.commission),
            refunded_basis=Money.of(row.refunded_basis),
            reversed=Money.of(row.reversed),
            denied=Money.of(row.denied),
            status=row.status,
            new_customer=row.new_customer,
            return_window_days=row.return_window_days,
            sold_at=row.sold_at,
            expected_pay_at=row.expected_pay_at,
            open_holds=row.holds,
            confirmed_at=row.confirmed_at,
            payable_at=row.payable_at,
            paid_at=row.paid_at,
            invalid_reason=row.invalid_reason,
            shares=[
                CommissionShare(
                    role=each.role, payee=each.payee, earned=Money.of(each.earned), left=Money.of(each.left)
                )
                for each in row.shares
            ],
            row=row,
        )

    @strawberry.field(description="The brand that pays.")
    async def advertiser(self, info: Info) -> TenantName | None:
        return await tenant_name(info, self.row.advertiser_id)

    @strawberry.field(description="The brand whose community sold.")
    async def promoter_brand(self, info: Info) -> TenantName | None:
        return await tenant_name(info, self.row.promoter_brand_id)


@strawberry.type
class CommissionQueries:
    @strawberry.field(
        permission_classes=[scope("promotion:read")],
        description="Of agreements the caller is a side of, newest first.",
    )
    async def commissions(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        side: PartnerRole | None = None,
        status: CommissionStatus | None = None,
        order_id: strawberry.ID | None = None,
        agreement_id: strawberry.ID | None = None,
    ) -> Connection[Commission]:
        context = info.context
        async with context.reading() as session:
            page = await commissions.commissions_page(
                session,
                context.actor,
                PageRequest(first, after),
                side=side,
                status=status,
                order_id=OrderId.parse(order_id) if order_id else None,
                agreement_id=AgreementId.parse(agreement_id) if agreement_id else None,
            )
        return connection(page, Commission.of)
