"""What parties owe and since when, what was given up of it, and the platform's rules for both."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.pagination import PageRequest
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.idempotent import run_once
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import Money, MoneyInput
from supply.settlement import owing, policies, writing_off
from supply.settlement.ids import WriteOffId
from supply.settlement.policies import Absorption, Recovery
from supply.settlement.recipes import recipe_of
from supply.settlement.recovery_models import WriteOffStatus

strawberry.enum(WriteOffStatus, name="WriteOffStatus")
_READ = scope("settlement:read")


@strawberry.type(description="One posting that a party still owes.")
class Debt:
    kind: str
    rule: str
    order_id: strawberry.ID | None
    at: datetime
    amount: Money
    open: Money


@strawberry.type(description="What a party owes in one currency. Payments pay off the oldest debt first.")
class Receivable:
    payee_id: strawberry.ID
    owed: Money
    since: datetime
    age_days: int
    row: strawberry.Private[owing.Receivable]

    @strawberry.field(description="Oldest first.")
    async def debts(self, info: Info) -> list[Debt]:
        async with info.context.reading() as session:
            rows = await owing.debts_of(session, self.row.payee_id, self.row.currency)
        return [
            Debt(
                kind=row.kind,
                rule=recipe_of(row.kind).code,
                order_id=strawberry.ID(str(row.order_id)) if row.order_id else None,
                at=row.at,
                amount=Money.minor(row.amount_minor, self.row.currency),
                open=Money.minor(row.open_minor, self.row.currency),
            )
            for row in rows
        ]


@strawberry.type(description="A debt that was, or is to be, given up: one operator asks, another decides.")
class WriteOff:
    id: strawberry.ID
    payee_id: strawberry.ID
    amount: Money
    reason: str
    status: WriteOffStatus
    asked_at: datetime
    decided_at: datetime | None

    @classmethod
    def of(cls, row: writing_off.WriteOffView) -> WriteOff:
        return cls(
            id=strawberry.ID(str(row.id)),
            payee_id=strawberry.ID(row.payee_id),
            amount=Money.minor(row.amount_minor, row.currency),
            reason=row.reason,
            status=row.status,
            asked_at=row.asked_at,
            decided_at=row.decided_at,
        )


@strawberry.type
class DebtQueries:
    @strawberry.field(permission_classes=[_READ], description="By party and currency.")
    async def receivables(
        self, info: Info, first: First = 20, after: After = None, payee_id: strawberry.ID | None = None
    ) -> Connection[Receivable]:
        context = info.context
        now = context.clock.now()
        async with context.reading() as session:
            page = await owing.receivables_page(
                session, context.actor, PageRequest(first, after), payee_id=payee_id
            )

        def shown(row: owing.Receivable) -> Receivable:
            return Receivable(
                payee_id=strawberry.ID(row.payee_id),
                owed=Money.minor(row.owed_minor, row.currency),
                since=row.since,
                age_days=row.age_days(now),
                row=row,
            )

        return connection(page, shown)

    @strawberry.field(permission_classes=[_READ], description="Newest first.")
    async def write_offs(
        self, info: Info, first: First = 20, after: After = None, payee_id: strawberry.ID | None = None
    ) -> Connection[WriteOff]:
        context = info.context
        async with context.reading() as session:
            page = await writing_off.write_offs_page(
                session, context.actor, PageRequest(first, after), payee_id=payee_id
            )
        return connection(page, WriteOff.of)


@strawberry.input
class WriteOffAskInput:
    idempotency_key: str
    payee_id: strawberry.ID
    amount: MoneyInput
    reason: str


@strawberry.input
class WriteOffDecideInput:
    idempotency_key: str
    id: strawberry.ID
    approve: bool


@strawberry.type
class WriteOffPayload:
    write_off: WriteOff | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input(
    description="Of lost disputes: what one order's parties owe is borne when it is at most this."
)
class AbsorptionPolicyInput:
    up_to_minor: int


@strawberry.input(description="When a debt is taken back out of transfers already made.")
class RecoveryPolicyInput:
    by_reversal: bool = True
    after_days: int = 3
    minimum_minor: int = 1


@strawberry.input(description="Name one of them. It holds for what is decided from now on.")
class SettlementPolicySetInput:
    idempotency_key: str
    payee_id: strawberry.ID | None = strawberry.field(
        default=None, description="One merchant brand; left out: everybody without a rule of its own."
    )
    absorption: AbsorptionPolicyInput | None = None
    recovery: RecoveryPolicyInput | None = None


@strawberry.type
class SettlementPolicySetPayload:
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class DebtMutations:
    @strawberry.mutation(description="Platform: ask that a debt be given up. Nothing is posted yet.")
    @expected(WriteOffPayload)
    async def write_off_ask(self, info: Info, input: WriteOffAskInput) -> WriteOffPayload:
        context = info.context
        context.actor.require("platform:admin")
        amount = input.amount.parsed()

        async def run(session: AsyncSession) -> dict[str, Any]:
            asked = await writing_off.ask_write_off(
                session, context.actor, str(input.payee_id), amount.currency, amount.amount_minor,
                reason=input.reason, clock=context.clock,
            )  # fmt: skip
            return {"id": str(asked)}

        body = [input.payee_id, str(amount), input.reason]
        answer = await run_once(
            context, operation="writeOffAsk", key=input.idempotency_key, body=body, run=run
        )
        return await _written_off(context, WriteOffId.parse(answer["id"]))

    @strawberry.mutation(description="Platform: another operator approves, which posts it, or declines.")
    @expected(WriteOffPayload)
    async def write_off_decide(self, info: Info, input: WriteOffDecideInput) -> WriteOffPayload:
        context = info.context
        context.actor.require("platform:admin")
        write_off_id = WriteOffId.parse(input.id)

        async def run(session: AsyncSession) -> dict[str, Any]:
            await writing_off.decide_write_off(
                session, context.actor, write_off_id, approve=input.approve, clock=context.clock
            )
            return {}

        body = [input.id, input.approve]
        await run_once(context, operation="writeOffDecide", key=input.idempotency_key, body=body, run=run)
        return await _written_off(context, write_off_id)

    @strawberry.mutation(
        description="Platform: what it bears of lost disputes, and when it takes debts back."
    )
    @expected(SettlementPolicySetPayload)
    async def settlement_policy_set(
        self, info: Info, input: SettlementPolicySetInput
    ) -> SettlementPolicySetPayload:
        context = info.context
        context.actor.require("platform:admin")
        whose = str(input.payee_id) if input.payee_id else policies.PLATFORM
        given: list[Absorption | Recovery] = []
        if input.absorption:
            given.append(Absorption(input.absorption.up_to_minor))
        if input.recovery:
            asked = input.recovery
            given.append(Recovery(asked.by_reversal, asked.after_days, asked.minimum_minor))

        async def run(session: AsyncSession) -> dict[str, Any]:
            for policy in given:
                await policies.set_policy(session, context.actor, policy, clock=context.clock, scope=whose)
            return {}

        body = [whose, [repr(policy) for policy in given]]
        await run_once(
            context, operation="settlementPolicySet", key=input.idempotency_key, body=body, run=run
        )
        return SettlementPolicySetPayload()


async def _written_off(context: Context, write_off_id: WriteOffId) -> WriteOffPayload:
    async with context.db.reading(context.actor) as session:
        found = await writing_off.write_off_of(session, write_off_id)
    return WriteOffPayload(write_off=WriteOff.of(found))
