"""Balances, entries, payouts and statements of the caller; the whole books for the platform."""

from __future__ import annotations

from collections import defaultdict

import strawberry
from strawberry.permission import BasePermission

from core.errors import NotFound
from core.ids import StatementId
from core.pagination import PageRequest
from graph.context import Info
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.settlement.ledger import party_of
from graph.settlement.types import (
    BooksCheck,
    PartyBalance,
    Payee,
    Payout,
    Statement,
    StatementDocument,
    TrialBalanceLine,
)
from supply.ledger import queries as ledger
from supply.settlement import payees, queries
from supply.settlement.statements.document import csv_of

_READ: list[type[BasePermission]] = [scope("settlement:read")]
_ADMIN: list[type[BasePermission]] = [scope("platform:admin")]


class StatementNotFound(NotFound):
    code = "STATEMENT_NOT_FOUND"


@strawberry.type
class SettlementQueries:
    @strawberry.field(permission_classes=_READ)
    async def balances(self, info: Info, payee_id: strawberry.ID | None = None) -> list[PartyBalance]:
        async with info.context.reading() as session:
            rows = await queries.party_balances(session, [party_of(info.context, payee_id)])
        return [PartyBalance.of(row) for row in rows]

    @strawberry.field(permission_classes=_READ)
    async def payouts(
        self, info: Info, first: First = 20, after: After = None, payee_id: strawberry.ID | None = None
    ) -> Connection[Payout]:
        context = info.context
        async with context.reading() as session:
            page = await queries.payouts_page(
                session, context.actor, PageRequest(first, after), payee_id=payee_id
            )
        return connection(page, Payout.of)

    @strawberry.field(permission_classes=_READ)
    async def statements(
        self, info: Info, first: First = 20, after: After = None, payee_id: strawberry.ID | None = None
    ) -> Connection[Statement]:
        context = info.context
        async with context.reading() as session:
            page = await queries.statements_page(
                session, context.actor, PageRequest(first, after), payee_id=payee_id
            )
        return connection(page, Statement.of)

    @strawberry.field(permission_classes=_READ)
    async def statement_document(self, info: Info, id: strawberry.ID) -> StatementDocument:
        async with info.context.reading() as session:
            document = await queries.statement_document(session, info.context.actor, StatementId.parse(id))
        if document is None:
            raise StatementNotFound("no such statement", field="id")
        return StatementDocument(json=document, csv=csv_of(document))

    @strawberry.field(permission_classes=_READ)
    async def payees(self, info: Info, payee_id: strawberry.ID | None = None) -> list[Payee]:
        async with info.context.reading() as session:
            rows = await payees.payees_of(session, [party_of(info.context, payee_id)])
        return [Payee.of(row) for row in rows]

    @strawberry.field(
        permission_classes=_ADMIN, description="Platform: recompute the books from the entries."
    )
    async def books_check(self, info: Info) -> BooksCheck:
        async with info.context.reading() as session:
            unbalanced = await ledger.unbalanced_journals(session)
            mismatched = await ledger.mismatched_balances(session)
            broken = await queries.broken_identities(session)
            trial = await queries.trial_balance(session)
        sums: dict[str, int] = defaultdict(int)
        for line in trial:
            sums[line.currency] += line.debit_minor
        return BooksCheck(
            balanced=not (unbalanced or mismatched or broken or any(sums.values())),
            unbalanced_journals=unbalanced,
            mismatched_balances=mismatched,
            broken_orders=[strawberry.ID(str(order_id)) for order_id in broken],
            trial_balance=[TrialBalanceLine.of(line) for line in trial],
        )
