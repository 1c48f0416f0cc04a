"""What a brand owes for the sales of its own checkout, and paying it."""

from __future__ import annotations

from datetime import datetime

import strawberry

from graph.context import Info
from graph.errors import UserError, expected
from graph.permissions import scope
from graph.scalars import Money, MoneyInput
from supply.settlement.at_source import paying, queries
from supply.settlement.at_source.models import DebtPaymentStatus
from supply.settlement.at_source.paying import DebtPayment as OpenPayment

strawberry.enum(DebtPaymentStatus, name="DebtPaymentStatus")
_READ = scope("settlement:read")


@strawberry.type(
    description="What your brand owes in one currency. Its earnings pay it off first, oldest first."
)
class CommissionDebt:
    owed: Money = strawberry.field(description="In all, due now; `commissionDebtPay` pays it.")
    commission: Money = strawberry.field(
        description="Of it, commission of your own checkout's sales: its payees wait for it."
    )
    later: Money = strawberry.field(description="Commission whose return window is still open.")
    since: datetime | None = strawberry.field(description="When the oldest of the commission became due.")

    @classmethod
    def of(cls, row: queries.CommissionDebt) -> CommissionDebt:
        return cls(
            owed=Money.minor(row.owed_minor, row.currency),
            commission=Money.minor(row.commission_minor, row.currency),
            later=Money.minor(row.later_minor, row.currency),
            since=row.since,
        )


@strawberry.type(description="Pay on the provider's page, or confirm the intent with the provider.")
class DebtPayment:
    id: strawberry.ID
    amount: Money
    status: DebtPaymentStatus
    intent_id: str
    client_secret: str
    pay_url: str | None
    publishable_key: str | None

    @classmethod
    def of(cls, row: OpenPayment, pay_url: str | None, publishable_key: str | None) -> DebtPayment:
        return cls(
            id=strawberry.ID(str(row.id)),
            amount=Money.minor(row.amount_minor, row.currency),
            status=row.status,
            intent_id=row.intent_id or "",
            client_secret=row.client_secret or "",
            pay_url=pay_url,
            publishable_key=publishable_key,
        )


@strawberry.type
class OwnDebtQueries:
    @strawberry.field(permission_classes=[_READ], description="What your brand owes, and will owe.")
    async def commission_debt(self, info: Info, currency_code: str) -> CommissionDebt:
        context = info.context
        async with context.reading() as session:
            found = await queries.commission_debt(session, context.actor.brand_id, currency_code)
        return CommissionDebt.of(found)


@strawberry.input(description="Asked again for the same amount, the same payment is given.")
class CommissionDebtPayInput:
    currency_code: str
    amount: MoneyInput | None = strawberry.field(
        default=None, description="Left out: everything that is due."
    )


@strawberry.type
class CommissionDebtPayPayload:
    payment: DebtPayment | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class OwnDebtMutations:
    @strawberry.mutation(
        description="Pay what your brand owes. What its earnings have paid off by the time the money comes is"
        " available to it."
    )
    @expected(CommissionDebtPayPayload)
    async def commission_debt_pay(
        self, info: Info, input: CommissionDebtPayInput
    ) -> CommissionDebtPayPayload:
        context = info.context
        context.actor.require("settlement:write")
        amount = input.amount.parsed() if input.amount else None
        found = await paying.pay_debt(
            context.db, context.actor.brand_id, input.currency_code, amount=amount,
            payments=context.gateways.payments, clock=context.clock,
        )  # fmt: skip
        url = paying.pay_url(found, payments=context.gateways.payments)
        key = context.gateways.settings.stripe_publishable_key or None
        return CommissionDebtPayPayload(payment=DebtPayment.of(found, url, key))
