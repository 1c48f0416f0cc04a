"""What parties are owed, were paid, and can recompute."""

from __future__ import annotations

from datetime import datetime

import strawberry

from graph.context import Info
from graph.scalars import Money
from graph.settlement import loaders
from supply.ledger.queries import TrialLine
from supply.settlement import queries
from supply.settlement.models import PayeeStatus, PayoutStatus
from supply.settlement.payees import PayeeFacts
from supply.settlement.statements.contesting import StatementState

strawberry.enum(PayoutStatus, name="PayoutStatus")
strawberry.enum(PayeeStatus, name="PayeeStatus")
strawberry.enum(StatementState, name="StatementState")


@strawberry.type(description="What one party has in one currency; net is all of it less what it owes.")
class PartyBalance:
    payee_id: strawberry.ID
    currency_code: str
    pending: Money = strawberry.field(description="Inside the return window.")
    available: Money
    in_payout: Money
    reserved: Money = strawberry.field(description="Frozen by a dispute.")
    receivable: Money = strawberry.field(description="Owed to the platform.")
    net: Money

    @classmethod
    def of(cls, row: queries.PartyBalance) -> PartyBalance:
        def money(minor: int) -> Money:
            return Money.minor(minor, row.currency)

        return cls(
            payee_id=strawberry.ID(row.payee_id),
            currency_code=row.currency,
            pending=money(row.pending_minor),
            available=money(row.available_minor),
            in_payout=money(row.in_payout_minor),
            reserved=money(row.reserved_minor),
            receivable=money(row.receivable_minor),
            net=money(row.net_minor),
        )


@strawberry.type
class Payout:
    id: strawberry.ID
    payee_id: strawberry.ID
    amount: Money
    status: PayoutStatus
    transfer_id: str | None
    failure: str | None
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: queries.PayoutView) -> Payout:
        return cls(
            id=strawberry.ID(str(row.id)),
            payee_id=strawberry.ID(row.payee_id),
            amount=Money.minor(row.amount_minor, row.currency),
            status=row.status,
            transfer_id=row.transfer_id,
            failure=row.failure,
            created_at=row.created_at,
            ended_at=row.ended_at,
        )


@strawberry.type(description="A closed statement never changes; its document's SHA-256 is its hash.")
class Statement:
    id: strawberry.ID
    payee_id: strawberry.ID
    number: int
    period_from: datetime
    period_to: datetime
    opening: Money
    closing: Money
    hash: str
    closed_at: datetime
    row: strawberry.Private[queries.StatementView]

    @classmethod
    def of(cls, row: queries.StatementView) -> Statement:
        return cls(
            id=strawberry.ID(str(row.id)),
            payee_id=strawberry.ID(row.payee_id),
            number=row.number,
            period_from=row.period_from,
            period_to=row.period_to,
            opening=Money.minor(row.opening_minor, row.currency),
            closing=Money.minor(row.closing_minor, row.currency),
            hash=row.hash,
            closed_at=row.closed_at,
            row=row,
        )

    @strawberry.field(description="A line can be contested until it is final, thirty days after the close.")
    async def state(self, info: Info) -> StatementState:
        found: StatementState = await info.context.loader(loaders.states).load(self.row.id)
        return found


@strawberry.type(description="The document of a statement, canonical JSON and as CSV.")
class StatementDocument:
    json: str
    csv: str


@strawberry.type(description="Where a party is paid in one currency.")
class Payee:
    id: strawberry.ID
    currency_code: str
    provider: str
    account_id: str
    status: PayeeStatus
    minimum: Money

    @classmethod
    def of(cls, row: PayeeFacts) -> Payee:
        return cls(
            id=strawberry.ID(row.payee_id),
            currency_code=row.currency,
            provider=row.provider,
            account_id=row.account_id,
            status=row.status,
            minimum=Money.minor(row.minimum_minor, row.currency),
        )


@strawberry.type
class TrialBalanceLine:
    account: str
    account_code: int
    debit: Money = strawberry.field(description="Below zero for a credit balance; all lines sum to zero.")

    @classmethod
    def of(cls, row: TrialLine) -> TrialBalanceLine:
        return cls(
            account=row.name,
            account_code=int(row.code),
            debit=Money.minor(row.debit_minor, row.currency),
        )


@strawberry.type(description="Whether the books are whole: every list empty and every count zero.")
class BooksCheck:
    balanced: bool
    unbalanced_journals: int
    mismatched_balances: int
    broken_orders: list[strawberry.ID]
    trial_balance: list[TrialBalanceLine]
