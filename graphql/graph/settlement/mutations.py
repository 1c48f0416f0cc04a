"""Getting paid: a payout account, a payout cycle, a closed statement."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import PromoterId, StatementId
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.idempotent import run_once
from graph.settlement.types import Payee, Statement
from infra.db.idempotency import answered
from marketplace.brands import queries as brands
from marketplace.promotion import queries as promotion
from marketplace.promotion.errors import PromoterNotFound
from supply.settlement import payees, queries, service

_ACCOUNT = "payoutAccountCreate"


@strawberry.input
class PayoutAccountCreateInput:
    idempotency_key: str
    currency_code: str
    promoter_id: strawberry.ID | None = strawberry.field(
        default=None, description="One of the brand's own promoters; left out: the caller itself."
    )
    return_url: str = "https://example.com/payouts"


@strawberry.type(description="`onboardingUrl` is the provider's page where the party identifies itself.")
class PayoutAccountCreatePayload:
    payee: Payee | None = None
    onboarding_url: str | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class PayoutRunInput:
    idempotency_key: str
    cycle: str = strawberry.field(description="Its name, e.g. the date; the same cycle goes on where it was.")


@strawberry.type
class PayoutRunPayload:
    batch_id: strawberry.ID | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class StatementCloseInput:
    idempotency_key: str
    payee_id: strawberry.ID
    currency_code: str
    period_from: datetime
    period_to: datetime


@strawberry.type
class StatementClosePayload:
    statement: Statement | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class SettlementMutations:
    @strawberry.mutation(description="Opens the party's account at the payment provider and pays out to it.")
    @expected(PayoutAccountCreatePayload)
    async def payout_account_create(
        self, info: Info, input: PayoutAccountCreateInput
    ) -> PayoutAccountCreatePayload:
        context = info.context
        context.actor.require("settlement:write")
        payee_id = await _payee_id(context, input.promoter_id)
        body = [payee_id, input.currency_code, input.return_url]
        async with context.reading() as session:
            answer = await answered(
                session, context.actor, operation=_ACCOUNT, key=input.idempotency_key, body=body
            )
        if answer is None:
            answer = await _open_account(context, input, payee_id, body)
        async with context.db.reading(SYSTEM) as session:
            (payee,) = [
                found
                for found in await payees.payees_of(session, [payee_id])
                if found.currency == input.currency_code
            ]
        return PayoutAccountCreatePayload(payee=Payee.of(payee), onboarding_url=answer["onboardingUrl"])

    @strawberry.mutation(
        description="Platform: pay out everything that is available, once per cycle and party."
    )
    @expected(PayoutRunPayload)
    async def payout_run(self, info: Info, input: PayoutRunInput) -> PayoutRunPayload:
        context = info.context
        context.actor.require("platform:admin")

        async def run(_: AsyncSession) -> dict[str, Any]:
            # In transactions of its own, payee by payee; the cycle's name makes doing it again harmless.
            batch_id = await service.make_batch(context.db, cycle=input.cycle, clock=context.clock)
            return {"id": str(batch_id)}

        answer = await run_once(
            context,
            operation="payoutRun",
            key=input.idempotency_key,
            body=[input.cycle],
            run=run,
            as_actor=SYSTEM,
        )
        return PayoutRunPayload(batch_id=strawberry.ID(answer["id"]))

    @strawberry.mutation(
        description="Platform: close a party's statement; a closed one is returned as it is."
    )
    @expected(StatementClosePayload)
    async def statement_close(self, info: Info, input: StatementCloseInput) -> StatementClosePayload:
        context = info.context
        context.actor.require("platform:admin")

        async def run(session: AsyncSession) -> dict[str, Any]:
            closed = await service.close_statement(
                session,
                str(input.payee_id),
                currency=input.currency_code,
                period_from=input.period_from,
                period_to=input.period_to,
                now=context.clock.now(),
            )
            return {"id": str(closed.id)}

        body = [input.payee_id, input.currency_code, str(input.period_from), str(input.period_to)]
        answer = await run_once(
            context,
            operation="statementClose",
            key=input.idempotency_key,
            body=body,
            run=run,
            as_actor=SYSTEM,
        )
        async with context.reading() as session:
            view = await queries.statement(session, StatementId.parse(answer["id"]))
        return StatementClosePayload(statement=Statement.of(view))


async def _open_account(
    context: Context, input: PayoutAccountCreateInput, payee_id: str, body: list[str]
) -> dict[str, Any]:
    """Asks the provider, under keys fixed by the party; then keeps the account and the answer together."""
    async with context.reading() as session:
        tenant = await brands.tenant(session, context.actor)
    payments = context.gateways.payments
    account = await payments.create_account(
        party_ref=payee_id,
        country=tenant.country,
        individual=input.promoter_id is not None,
        key=f"account:{payee_id}:{input.currency_code}",
    )
    link = await payments.account_link(
        account.id,
        refresh_url=input.return_url,
        return_url=input.return_url,
        key=f"account-link:{payee_id}:{input.idempotency_key}",
    )

    async def run(session: AsyncSession) -> dict[str, Any]:
        await payees.register_payee(
            session,
            payee_id,
            currency=input.currency_code,
            account_id=account.id,
            now=context.clock.now(),
            tenant_id=context.tenant,
        )
        return {"onboardingUrl": link.url}

    return await run_once(
        context, operation=_ACCOUNT, key=input.idempotency_key, body=body, run=run, as_actor=SYSTEM
    )


async def _payee_id(context: Context, promoter_id: strawberry.ID | None) -> str:
    """The caller, or one of its promoters. Raises ``PromoterNotFound`` for another brand's."""
    if promoter_id is None:
        return str(context.tenant)
    wanted = PromoterId.parse(promoter_id)
    async with context.reading() as session:
        found = await promotion.promoters_named(session, context.actor, [wanted])
    if wanted not in found:
        raise PromoterNotFound("no such promoter", field="promoterId")
    return str(wanted)
