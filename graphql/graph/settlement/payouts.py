"""Money on its way to banks: a party's own payouts from its account at the provider, and the platform's."""

from __future__ import annotations

from datetime import datetime

import strawberry

from core.pagination import PageRequest
from graph.context import Info
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import Money
from supply.settlement import bank_payouts, platform_payouts
from supply.settlement.reconciliation.models import PlatformPayoutStatus

strawberry.enum(PlatformPayoutStatus, name="PlatformPayoutStatus")


@strawberry.type(
    description="What the provider pays from a party's account there to its bank. The money is the party's already."
)
class BankPayout:
    id: strawberry.ID
    payee_id: strawberry.ID
    amount: Money
    status: str = strawberry.field(
        description="The provider's word: pending, in_transit, paid, failed, canceled."
    )
    failure: str | None
    arrives_at: datetime
    created_at: datetime

    @classmethod
    def of(cls, row: bank_payouts.BankPayoutView) -> BankPayout:
        return cls(
            id=strawberry.ID(row.payout_id),
            payee_id=strawberry.ID(row.payee_id),
            amount=Money.minor(row.amount_minor, row.currency),
            status=row.status,
            failure=row.failure,
            arrives_at=row.arrives_at,
            created_at=row.created_at,
        )


@strawberry.type(description="The platform's own money on its way from the provider to its bank.")
class PlatformPayout:
    id: strawberry.ID
    reference: str
    amount: Money
    status: PlatformPayoutStatus
    payout_id: str | None = strawberry.field(description="The provider's id, once it was sent.")
    failure: str | None
    requested_by: str
    requested_at: datetime
    arrives_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, row: platform_payouts.PlatformPayoutView) -> PlatformPayout:
        return cls(
            id=strawberry.ID(str(row.id)),
            reference=row.reference,
            amount=Money.minor(row.amount_minor, row.currency),
            status=row.status,
            payout_id=row.payout_id,
            failure=row.failure,
            requested_by=row.requested_by,
            requested_at=row.requested_at,
            arrives_at=row.arrives_at,
            ended_at=row.ended_at,
        )


@strawberry.type
class BankPayoutQueries:
    @strawberry.field(permission_classes=[scope("settlement:read")], description="Newest first.")
    async def bank_payouts(
        self, info: Info, first: First = 20, after: After = None, payee_id: strawberry.ID | None = None
    ) -> Connection[BankPayout]:
        context = info.context
        async with context.reading() as session:
            page = await bank_payouts.bank_payouts_page(
                session, context.actor, PageRequest(first, after), payee_id=payee_id
            )
        return connection(page, BankPayout.of)

    @strawberry.field(permission_classes=[scope("platform:admin")], description="Platform: newest first.")
    async def platform_payouts(
        self, info: Info, first: First = 20, after: After = None
    ) -> Connection[PlatformPayout]:
        context = info.context
        async with context.reading() as session:
            page = await platform_payouts.platform_payouts_page(
                session, context.actor, PageRequest(first, after)
            )
        return connection(page, PlatformPayout.of)
