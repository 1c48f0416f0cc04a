"""A closed statement as a file: the very bytes whose SHA-256 is its hash, its lines, and pages to print."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from core.errors import NotFound
from core.ids import StatementId
from infra.gateways import Gateways
from services.api.auth import Authenticator
from supply.settlement import queries
from supply.settlement.statements.document import csv_of


class StatementFileNotFound(NotFound):
    """No such statement of the caller's, or none in this form."""

    code = "STATEMENT_FILE_NOT_FOUND"


def _pdf(document: str) -> bytes:
    # Imported by who needs it: nine MiB for every process otherwise.
    from supply.settlement.statements.pdf import pdf_of

    return pdf_of(document)


_FORMS: dict[str, tuple[str, Callable[[str], str | bytes]]] = {
    "json": ("application/json", lambda document: document),
    "csv": ("text/csv; charset=utf-8", csv_of),
    "pdf": ("application/pdf", _pdf),
}


def statement_files(gateways: Gateways, authenticator: Authenticator) -> APIRouter:
    router = APIRouter(prefix="/statements")

    @router.get("/{statement_id}.{form}")
    async def statement(request: Request, statement_id: str, form: str) -> Response:
        actor = await authenticator.reader(request, "settlement:read")
        if form not in _FORMS:
            raise StatementFileNotFound(f"a statement is {', '.join(_FORMS)}", field="id")
        id = StatementId.parse(statement_id)
        async with gateways.db.reading(actor) as session:
            document = await queries.statement_document(session, actor, id)
        if document is None:
            raise StatementFileNotFound(f"no statement {id}", field="id")
        media_type, written = _FORMS[form]
        # Thousands of lines take a while to set: not on the thread that answers everybody.
        content = await asyncio.to_thread(written, document)
        headers = {
            "cache-control": "private, no-store",
            "content-disposition": f'attachment; filename="{id}.{form}"',
        }
        return Response(content, media_type=media_type, headers=headers)

    return router
