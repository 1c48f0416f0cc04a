"""What the supplier is owed, was paid, and can recompute from its statements."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from core.errors import NotFound
from core.ids import StatementId
from core.money import Money
from core.pagination import MAX_PAGE, PageRequest
from core.plain import plain
from services.fulfillment.requests import Caller, answer, services_of
from supply.settlement import queries
from supply.settlement.bank_payouts import bank_payouts_page
from supply.settlement.statements.contesting import statement_states
from supply.settlement.statements.document import csv_of

router = APIRouter(tags=["settlement"])


class StatementNotFound(NotFound):
    code = "STATEMENT_NOT_FOUND"


@router.get("/balances")
async def balances(request: Request, actor: Caller) -> Response:
    """By currency: pending, available, in payout, reserved, and what is owed to the platform."""
    async with services_of(request).db.reading(actor) as session:
        found = await queries.party_balances(session, [str(actor.supplier_id)])
    return answer(
        {
            "items": [
                {
                    "currency": each.currency,
                    **{
                        name: plain(Money(getattr(each, f"{name}_minor"), each.currency))
                        for name in ("pending", "available", "in_payout", "reserved", "receivable", "net")
                    },
                }
                for each in found
            ]
        }
    )


@router.get("/payouts")
async def payouts(
    request: Request,
    actor: Caller,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: str | None = None,
) -> Response:
    async with services_of(request).db.reading(actor) as session:
        page = await queries.payouts_page(
            session, actor, PageRequest(limit, cursor), payee_id=str(actor.supplier_id)
        )
    return answer(
        {
            "items": [
                {
                    "id": str(each.id),
                    "status": str(each.status),
                    "amount": plain(Money(each.amount_minor, each.currency)),
                    "transfer_id": each.transfer_id,
                    "failure": each.failure,
                    "created_at": plain(each.created_at),
                    "ended_at": plain(each.ended_at),
                }
                for each in page.items
            ],
            "next_cursor": page.cursors[-1] if page.has_next else None,
        }
    )


@router.get("/bank-payouts")
async def bank_payouts(
    request: Request,
    actor: Caller,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: str | None = None,
) -> Response:
    """What the provider pays from your account there to your bank, newest first; ``status`` is its word."""
    async with services_of(request).db.reading(actor) as session:
        page = await bank_payouts_page(
            session, actor, PageRequest(limit, cursor), payee_id=str(actor.supplier_id)
        )
    return answer(
        {
            "items": [
                {
                    "id": each.payout_id,
                    "status": each.status,
                    "amount": plain(Money(each.amount_minor, each.currency)),
                    "failure": each.failure,
                    "arrives_at": plain(each.arrives_at),
                    "created_at": plain(each.created_at),
                }
                for each in page.items
            ],
            "next_cursor": page.cursors[-1] if page.has_next else None,
        }
    )


@router.get("/settlements")
async def settlements(
    request: Request,
    actor: Caller,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: str | None = None,
) -> Response:
    """Closed statements, newest first. ``state``: CLOSED while a line can be contested, DISPUTED while one is, then
    FINAL."""
    services = services_of(request)
    async with services_of(request).db.reading(actor) as session:
        page = await queries.statements_page(
            session, actor, PageRequest(limit, cursor), payee_id=str(actor.supplier_id)
        )
        ids = [each.id for each in page.items]
        states = await statement_states(session, ids, now=services.clock.now())
    return answer(
        {
            "items": [
                {
                    "id": str(each.id),
                    "number": each.number,
                    "state": states[each.id].value,
                    "currency": each.currency,
                    "period_from": plain(each.period_from),
                    "period_to": plain(each.period_to),
                    "opening": plain(Money(each.opening_minor, each.currency)),
                    "closing": plain(Money(each.closing_minor, each.currency)),
                    "sha256": each.hash,
                    "closed_at": plain(each.closed_at),
                }
                for each in page.items
            ],
            "next_cursor": page.cursors[-1] if page.has_next else None,
        }
    )


@router.get("/settlements/{statement_id}")
async def settlement(request: Request, actor: Caller, statement_id: str) -> Response:
    """The statement's document: the very bytes whose SHA-256 is its hash."""
    document = await _document(request, actor, statement_id)
    return Response(document, media_type="application/json")


@router.get("/settlements/{statement_id}/lines.csv")
async def settlement_lines(request: Request, actor: Caller, statement_id: str) -> Response:
    """One row per ledger entry."""
    document = await _document(request, actor, statement_id)
    headers = {"content-disposition": f'attachment; filename="{StatementId.parse(statement_id)}.csv"'}
    return Response(csv_of(document), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/settlements/{statement_id}/statement.pdf")
async def settlement_pdf(request: Request, actor: Caller, statement_id: str) -> Response:
    document = await _document(request, actor, statement_id)
    headers = {"content-disposition": f'attachment; filename="{StatementId.parse(statement_id)}.pdf"'}
    content = await asyncio.to_thread(_pdf, document)
    return Response(content, media_type="application/pdf", headers=headers)


def _pdf(document: str) -> bytes:
    # Imported by who needs it: nine MiB for every process otherwise.
    from supply.settlement.statements.pdf import pdf_of

    return pdf_of(document)


async def _document(request: Request, actor: Caller, statement_id: str) -> str:
    id = StatementId.parse(statement_id)
    async with services_of(request).db.reading(actor) as session:
        document = await queries.statement_document(session, actor, id)
    if document is None:
        raise StatementNotFound(f"no statement {id}")
    return document
