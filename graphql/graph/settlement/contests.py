"""A line of a statement contested: by its party, answered by the other side, ruled by the platform."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import StatementId
from core.pagination import PageRequest
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.idempotent import run_once
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import Money, MoneyInput
from supply.settlement.ids import ContestId
from supply.settlement.statements import contesting
from supply.settlement.statements.contesting import ContestStatus, ContestView

strawberry.enum(ContestStatus, name="StatementContestStatus")


@strawberry.type(description="Five working days for each step; silence loses.")
class StatementContest:
    id: strawberry.ID
    statement_id: strawberry.ID
    entry: str
    payee_id: strawberry.ID
    against: str
    claimed: Money
    granted: Money
    status: ContestStatus
    reason: str
    reply: str
    ruling: str
    due_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: ContestView) -> StatementContest:
        return cls(
            id=strawberry.ID(str(row.id)),
            statement_id=strawberry.ID(str(row.statement_id)),
            entry=row.entry,
            payee_id=strawberry.ID(row.payee_id),
            against=row.against,
            claimed=Money.minor(row.claimed_minor, row.currency),
            granted=Money.minor(row.granted_minor, row.currency),
            status=row.status,
            reason=row.reason,
            reply=row.reply,
            ruling=row.ruling,
            due_at=row.due_at,
            ended_at=row.ended_at,
        )


@strawberry.type
class ContestQueries:
    @strawberry.field(permission_classes=[scope("settlement:read")], description="Newest first.")
    async def statement_contests(
        self, info: Info, first: First = 20, after: After = None
    ) -> Connection[StatementContest]:
        context = info.context
        async with context.reading() as session:
            page = await contesting.contests_page(session, context.actor, PageRequest(first, after))
        return connection(page, StatementContest.of)


@strawberry.input(description="The entry should have been more, at the cost of who it came from.")
class StatementContestOpenInput:
    idempotency_key: str
    statement_id: strawberry.ID
    entry: str = strawberry.field(description="As the statement names it.")
    claimed: MoneyInput = strawberry.field(description="How much more.")
    reason: str


@strawberry.input
class StatementContestAnswerInput:
    idempotency_key: str
    id: strawberry.ID
    accept: bool = strawberry.field(description="Accepted: it is granted at once.")
    reply: str


@strawberry.input
class StatementContestEscalateInput:
    idempotency_key: str
    id: strawberry.ID
    escalation: str


@strawberry.input
class StatementContestRuleInput:
    idempotency_key: str
    id: strawberry.ID
    granted: MoneyInput
    ruling: str


@strawberry.type
class StatementContestPayload:
    contest: StatementContest | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


Step = Callable[[AsyncSession], Awaitable[ContestView]]


@strawberry.type
class ContestMutations:
    @strawberry.mutation(description="Within thirty days of the statement's close.")
    @expected(StatementContestPayload)
    async def statement_contest_open(
        self, info: Info, input: StatementContestOpenInput
    ) -> StatementContestPayload:
        context, party = _party(info)
        statement_id, claimed = StatementId.parse(input.statement_id), input.claimed.parsed()

        async def step(session: AsyncSession) -> ContestView:
            return await contesting.contest(
                session, party, statement_id, entry=input.entry, claimed_minor=claimed.amount_minor,
                reason=input.reason, now=context.clock.now(),
            )  # fmt: skip

        body = [input.statement_id, input.entry, str(claimed), input.reason]
        return await _taken(context, "statementContestOpen", input.idempotency_key, body, step)

    @strawberry.mutation(description="By the party it is against.")
    @expected(StatementContestPayload)
    async def statement_contest_answer(
        self, info: Info, input: StatementContestAnswerInput
    ) -> StatementContestPayload:
        context, party = _party(info)
        contest_id = ContestId.parse(input.id)

        async def step(session: AsyncSession) -> ContestView:
            return await contesting.answer_contest(
                session, party, contest_id, accept=input.accept, reply=input.reply, now=context.clock.now()
            )

        body = [input.id, input.accept, input.reply]
        return await _taken(context, "statementContestAnswer", input.idempotency_key, body, step)

    @strawberry.mutation(description="The contester does not let the answer stand: the platform rules.")
    @expected(StatementContestPayload)
    async def statement_contest_escalate(
        self, info: Info, input: StatementContestEscalateInput
    ) -> StatementContestPayload:
        context, party = _party(info)
        contest_id = ContestId.parse(input.id)

        async def step(session: AsyncSession) -> ContestView:
            return await contesting.escalate_contest(
                session, party, contest_id, escalation=input.escalation, now=context.clock.now()
            )

        body = [input.id, input.escalation]
        return await _taken(context, "statementContestEscalate", input.idempotency_key, body, step)

    @strawberry.mutation(description="Platform: grant all of it, a part or nothing, in the next statement.")
    @expected(StatementContestPayload)
    async def statement_contest_rule(
        self, info: Info, input: StatementContestRuleInput
    ) -> StatementContestPayload:
        context = info.context
        context.actor.require("platform:admin")
        contest_id, granted = ContestId.parse(input.id), input.granted.parsed()

        async def step(session: AsyncSession) -> ContestView:
            return await contesting.rule_contest(
                session, contest_id, granted_minor=granted.amount_minor, ruling=input.ruling,
                ruled_by=str(context.actor), now=context.clock.now(),
            )  # fmt: skip

        body = [input.id, str(granted), input.ruling]
        return await _taken(context, "statementContestRule", input.idempotency_key, body, step)


def _party(info: Info) -> tuple[Context, str]:
    context = info.context
    context.actor.require("settlement:write")
    return context, str(context.tenant)


async def _taken(
    context: Context, operation: str, key: str, body: Any, step: Step
) -> StatementContestPayload:
    """Both sides' rows and accounts are touched, so it is done as the platform; ``step`` checks whose turn it is."""
    taken: list[ContestView] = []

    async def run(session: AsyncSession) -> dict[str, Any]:
        taken.append(await step(session))
        return {"id": str(taken[0].id)}

    answer = await run_once(context, operation=operation, key=key, body=body, run=run, as_actor=SYSTEM)
    if not taken:
        async with context.db.reading(SYSTEM) as session:
            taken.append(await contesting.contest_of(session, ContestId.parse(answer["id"])))
    return StatementContestPayload(contest=StatementContest.of(taken[0]))
