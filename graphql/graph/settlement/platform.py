"""What only the platform's operators see and do: its own money, the provider's book against ours, terms."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.errors import NotFound
from core.ids import BrandId
from core.pagination import PageRequest
from graph.context import Info
from graph.errors import UserError, expected
from graph.idempotent import run_once
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import JSON, Money, MoneyInput, Ppm
from graph.settlement.ledger import party_of
from supply.settlement import platform_payouts, processing_fees
from supply.settlement.ids import ReconciliationRunId
from supply.settlement.reconciliation import queries
from supply.settlement.reconciliation.models import Bearer
from supply.settlement.statements import terms
from supply.settlement.statements.cycles import Cycle

strawberry.enum(Cycle, name="SettlementCycle")
strawberry.enum(Bearer, name="FeeBearer")
_ADMIN = scope("platform:admin")
_READ = scope("settlement:read")


class ReconciliationRunNotFound(NotFound):
    code = "RECONCILIATION_RUN_NOT_FOUND"


@strawberry.type(description="One comparison of the provider's book with ours.")
class ReconciliationRun:
    id: strawberry.ID
    provider: str
    cause: str
    started_at: datetime
    ended_at: datetime
    rows_read: int
    matched: int
    differences: int
    ok: bool

    @classmethod
    def of(cls, row: queries.RunView) -> ReconciliationRun:
        return cls(
            id=strawberry.ID(str(row.id)),
            provider=row.provider,
            cause=row.cause,
            started_at=row.started_at,
            ended_at=row.ended_at,
            rows_read=row.rows_read,
            matched=row.matched,
            differences=row.differences,
            ok=row.ok,
        )


@strawberry.type(
    description="How much of the provider's volume of 30 days is matched, and the oldest that is not."
)
class ReconciliationHealth:
    provider: str
    days: int
    matched_ppm: Ppm
    oldest_unmatched_seconds: int
    suspended_rows: int


@strawberry.type(description="A row of the provider that no journal explains yet.")
class UnmatchedRow:
    id: strawberry.ID
    provider: str
    type: str
    source_id: str | None
    amount: Money
    fee: Money
    net: Money
    created_at: datetime
    finding: str | None

    @classmethod
    def of(cls, row: queries.OpenRow) -> UnmatchedRow:
        return cls(
            id=strawberry.ID(row.id),
            provider=row.provider,
            type=row.type,
            source_id=row.source_id,
            amount=Money.minor(row.amount_minor, row.currency),
            fee=Money.minor(row.fee_minor, row.currency),
            net=Money.minor(row.net_minor, row.currency),
            created_at=row.created_at,
            finding=row.finding,
        )


@strawberry.type(description="How often a party is settled, and what is kept back for a while.")
class SettlementTerms:
    payee_id: strawberry.ID
    currency_code: str
    cycle: Cycle
    time_zone: str
    reserve_ppm: Ppm = strawberry.field(description="Of what was released in the last `reserveDays`.")
    reserve_days: int
    legal_name: str
    tax_id: str
    open_from: datetime
    due_at: datetime

    @classmethod
    def of(cls, row: terms.TermsView) -> SettlementTerms:
        return cls(
            payee_id=strawberry.ID(row.payee_id),
            currency_code=row.currency,
            cycle=row.cycle,
            time_zone=row.time_zone,
            reserve_ppm=Ppm(row.reserve_ppm),
            reserve_days=row.reserve_days,
            legal_name=row.legal_name,
            tax_id=row.tax_id,
            open_from=row.open_from,
            due_at=row.due_at,
        )


@strawberry.type
class PlatformMoneyQueries:
    @strawberry.field(permission_classes=[_READ], description="Null before the party ever had an account.")
    async def settlement_terms(
        self, info: Info, currency_code: str, payee_id: strawberry.ID | None = None
    ) -> SettlementTerms | None:
        async with info.context.reading() as session:
            found = await terms.settlement_terms(session, party_of(info.context, payee_id), currency_code)
        return None if found is None else SettlementTerms.of(found)

    @strawberry.field(permission_classes=[_ADMIN], description="What a payout to the platform's bank may be.")
    async def platform_funds(self, info: Info, currency_code: str) -> Money:
        async with info.context.reading() as session:
            return Money.of(await platform_payouts.own_funds(session, currency_code))

    @strawberry.field(permission_classes=[_ADMIN])
    async def reconciliation_health(self, info: Info) -> list[ReconciliationHealth]:
        async with info.context.reading() as session:
            found = await queries.health_of_all(session, now=info.context.clock.now())
        return [
            ReconciliationHealth(
                provider=each.provider,
                days=each.days,
                matched_ppm=Ppm(each.matched_ppm),
                oldest_unmatched_seconds=each.oldest_unmatched_s,
                suspended_rows=each.suspended,
            )
            for each in found
        ]

    @strawberry.field(permission_classes=[_ADMIN], description="Newest first.")
    async def reconciliation_runs(
        self, info: Info, first: First = 20, after: After = None, provider: str | None = None
    ) -> Connection[ReconciliationRun]:
        context = info.context
        async with context.reading() as session:
            page = await queries.runs_page(
                session, context.actor, PageRequest(first, after), provider=provider
            )
        return connection(page, ReconciliationRun.of)

    @strawberry.field(permission_classes=[_ADMIN], description="As `lianyu reconcile --json` prints it.")
    async def reconciliation_report(self, info: Info, id: strawberry.ID) -> JSON:
        context = info.context
        async with context.reading() as session:
            found = await queries.run_report(session, context.actor, ReconciliationRunId.parse(id))
        if found is None:
            raise ReconciliationRunNotFound("no such run", field="id")
        return JSON(found)

    @strawberry.field(permission_classes=[_ADMIN], description="Oldest first.")
    async def unmatched_rows(
        self, info: Info, first: First = 20, after: After = None
    ) -> Connection[UnmatchedRow]:
        context = info.context
        async with context.reading() as session:
            page = await queries.open_rows_page(session, context.actor, PageRequest(first, after))
        return connection(page, UnmatchedRow.of)


@strawberry.input
class PlatformPayoutRequestInput:
    idempotency_key: str
    amount: MoneyInput
    reference: str = strawberry.field(description="Its name: the same one again is the same payout.")


@strawberry.type
class PlatformPayoutRequestPayload:
    payout_id: strawberry.ID | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class FeeBearerSetInput:
    idempotency_key: str
    merchant_id: strawberry.ID
    bearer: Bearer
    reason: str


@strawberry.type
class FeeBearerSetPayload:
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input(
    description="What is left out stays. A party may set its name, tax id and time zone, the platform everything."
)
class SettlementTermsSetInput:
    idempotency_key: str
    currency_code: str
    payee_id: strawberry.ID | None = None
    cycle: Cycle | None = None
    time_zone: str | None = None
    reserve_ppm: Ppm | None = None
    reserve_days: int | None = None
    legal_name: str | None = None
    tax_id: str | None = None


@strawberry.type
class SettlementTermsSetPayload:
    terms: SettlementTerms | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class PlatformMoneyMutations:
    @strawberry.mutation(description="Platform: send its own money to its bank. It leaves right after.")
    @expected(PlatformPayoutRequestPayload)
    async def platform_payout_request(
        self, info: Info, input: PlatformPayoutRequestInput
    ) -> PlatformPayoutRequestPayload:
        context = info.context
        context.actor.require("platform:admin")
        amount = input.amount.parsed()

        async def run(session: AsyncSession) -> dict[str, Any]:
            payout_id = await platform_payouts.request_platform_payout(
                session, context.actor, amount, reference=input.reference, now=context.clock.now()
            )
            return {"id": str(payout_id)}

        body = [str(amount), input.reference]
        answer = await run_once(
            context, operation="platformPayoutRequest", key=input.idempotency_key, body=body, run=run
        )
        return PlatformPayoutRequestPayload(payout_id=strawberry.ID(answer["id"]))

    @strawberry.mutation(
        description="Platform: who bears the provider's fee of a merchant's sales from now on."
    )
    @expected(FeeBearerSetPayload)
    async def fee_bearer_set(self, info: Info, input: FeeBearerSetInput) -> FeeBearerSetPayload:
        context = info.context
        context.actor.require("platform:admin")
        merchant_id = BrandId.parse(input.merchant_id)

        async def run(session: AsyncSession) -> dict[str, Any]:
            await processing_fees.set_fee_bearer(
                session, merchant_id, input.bearer, reason=input.reason, decided_by=str(context.actor),
                now=context.clock.now(),
            )  # fmt: skip
            return {}

        body = [input.merchant_id, input.bearer.value, input.reason]
        await run_once(context, operation="feeBearerSet", key=input.idempotency_key, body=body, run=run)
        return FeeBearerSetPayload()

    @strawberry.mutation(description="How a party is settled.")
    @expected(SettlementTermsSetPayload)
    async def settlement_terms_set(
        self, info: Info, input: SettlementTermsSetInput
    ) -> SettlementTermsSetPayload:
        context = info.context
        _require(context.actor, input)
        payee_id = party_of(context, input.payee_id)

        async def run(session: AsyncSession) -> dict[str, Any]:
            await terms.set_settlement_terms(
                session,
                payee_id,
                currency=input.currency_code,
                now=context.clock.now(),
                cycle=input.cycle,
                time_zone=input.time_zone,
                reserve_ppm=input.reserve_ppm,
                reserve_days=input.reserve_days,
                legal_name=input.legal_name,
                tax_id=input.tax_id,
            )
            return {}

        await run_once(
            context,
            operation="settlementTermsSet",
            key=input.idempotency_key,
            body=[payee_id, asdict(input)],
            run=run,
        )
        async with context.db.reading(context.actor) as session:
            found = await terms.settlement_terms(session, payee_id, input.currency_code)
        return SettlementTermsSetPayload(terms=None if found is None else SettlementTerms.of(found))


def _require(actor: Actor, input: SettlementTermsSetInput) -> None:
    """Cycle and reserve are the platform's to set, and a party's terms its own or the platform's."""
    own = input.cycle is None and input.reserve_ppm is None and input.reserve_days is None
    actor.require("settlement:write" if own else "platform:admin")
    if input.payee_id is not None and str(input.payee_id) != str(actor.tenant_id):
        actor.require("platform:admin")
