"""Statements: everything that moved a party's money in a period, computed from ledger entries alone.

Closing is a pure function of the entries up to a cut-off, the ledger's transaction horizon when it was closed:
an entry belongs to the first statement that could see it, so a late one goes into the next with its own
``effective_at``. Closing again gives the stored bytes. Amounts are the party's: above zero it earns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import canonical_json, sha256_hex
from core.ids import JournalId, OrderId, StatementId, TenantId
from supply.ledger.chart import Code
from supply.settlement.errors import PeriodNotOver, StatementOutOfSequence
from supply.settlement.kinds import Kind
from supply.settlement.parties import owner_of, tenant_of

SECTIONS: dict[str, str] = {
    Kind.CAPTURE: "earned",
    Kind.FEE_RECHARGE: "processing_recharge",
    Kind.REFUND_RESERVED: "refunds",
    Kind.REFUND_VOIDED: "refunds",
    Kind.REROUTE: "adjustments",
    Kind.WRITE_OFF: "adjustments",
    Kind.REVERSAL: "recovered",
    Kind.NETTING: "netting",
    Kind.RELEASE: "released",
    Kind.PAYOUT_RESERVED: "payouts",
    Kind.PAYOUT_SETTLED: "payouts",
    Kind.PAYOUT_VOIDED: "payouts",
}
"""``released`` and ``netting`` move money between a party's own accounts and come to zero."""

_FIND = text(
    "SELECT * FROM statements WHERE payee_id = :payee_id AND currency = :currency"
    " AND period_from = :period_from AND period_to = :period_to"
)
_LAST = text(
    "SELECT number, period_to, closing_minor, hash, cutoff::text AS cutoff FROM statements"
    " WHERE payee_id = :payee_id AND currency = :currency ORDER BY number DESC LIMIT 1"
)
# Two closers of one statement wait for each other; released when the transaction ends.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 2000))")
_HORIZON = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
_LINES = text(
    "SELECT j.id, e.leg, j.idem, j.kind, j.order_id, j.provider_ref, j.memo, j.effective_at, j.posted_at,"
    " a.code, a.tenant_id, -e.amount_minor AS amount_minor, e.balance_after"
    " FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id AND e.txid < CAST(CAST(:cutoff AS text)"
    " AS xid8) JOIN ledger_journals j ON j.id = e.journal_id WHERE a.owner = :owner AND a.currency = :currency"
    " AND j.posted_at < :period_to"
    " AND NOT (j.posted_at < :period_from AND e.txid < CAST(CAST(:previous AS text) AS xid8))"
    " ORDER BY j.posted_at, e.txid, j.id, e.leg"
)
_SPLIT = text(
    "SELECT a.code, -sum(e.amount_minor)::bigint AS amount_minor FROM ledger_accounts a"
    " JOIN ledger_entries e ON e.account_id = a.id AND e.txid < CAST(CAST(:cutoff AS text) AS xid8)"
    " JOIN ledger_journals j ON j.id = e.journal_id AND j.posted_at < :period_to"
    " WHERE a.owner = :owner AND a.currency = :currency GROUP BY a.code"
)
_INSERT = text(
    "INSERT INTO statements (id, payee_id, tenant_id, currency, number, period_from, period_to, opening_minor,"
    " closing_minor, cutoff, previous_hash, hash, document, closed_at) VALUES (:id, :payee_id, :tenant_id,"
    " :currency, :number, :period_from, :period_to, :opening, :closing, CAST(CAST(:cutoff AS text) AS xid8),"
    " :previous_hash, :hash, :document, :now)"
)
_NAMES = {
    Code.PENDING: "pending", Code.AVAILABLE: "available", Code.IN_PAYOUT: "in_payout",
    Code.RESERVED: "reserved", Code.RECEIVABLE: "receivable",
}  # fmt: skip
CSV_COLUMNS = (
    "section", "journal", "leg", "occurred_at", "posted_at", "kind", "order", "account", "amount_minor",
    "balance_after", "reference", "memo",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClosedStatement:
    """``document`` is the canonical JSON whose SHA-256 is ``hash``; ``csv`` has one row per line of it."""

    id: StatementId
    number: int
    opening_minor: int
    closing_minor: int
    hash: str
    document: str

    @property
    def csv(self) -> str:
        return csv_of(self.document)


async def close_statement(
    session: AsyncSession,
    payee_id: str,
    *,
    currency: str,
    period_from: datetime,
    period_to: datetime,
    now: datetime,
) -> ClosedStatement:
    """Close ``[period_from, period_to)``; a period that is closed is returned as it is.

    The first statement of a party may start anywhere; what was posted before is in its lines, so that its
    opening balance is zero. Raises ``PeriodNotOver``, ``StatementOutOfSequence``.
    """
    period = {
        "payee_id": payee_id, "currency": currency, "period_from": period_from, "period_to": period_to,
    }  # fmt: skip
    await session.execute(_ONE_AT_A_TIME, {"name": f"statement:{payee_id}:{currency}"})
    found = (await session.execute(_FIND, period)).one_or_none()
    if found is not None:
        return _closed(found)
    if now < period_to:
        raise PeriodNotOver(f"the period ends at {period_to.isoformat()}")
    last = (await session.execute(_LAST, period)).one_or_none()
    if last is not None and last.period_to != period_from:
        raise StatementOutOfSequence(f"the last statement ends at {last.period_to.isoformat()}")
    cutoff = (await session.execute(_HORIZON)).scalar_one()
    previous = last.cutoff if last else "0"
    where = {**period, "owner": owner_of(payee_id), "cutoff": cutoff, "previous": previous}
    lines = (await session.execute(_LINES, where)).all()
    balances = {row.code: row.amount_minor for row in await session.execute(_SPLIT, where)}
    body = _body(period, last, cutoff, lines, balances, now)
    document = canonical_json(body)
    tenant = next((row.tenant_id for row in lines if row.tenant_id), None) or tenant_of(payee_id)
    values = {
        **period, "id": StatementId.new(), "tenant_id": TenantId.of(tenant) if tenant else None,
        "number": body["number"], "opening": body["opening_minor"], "closing": body["closing_minor"],
        "cutoff": cutoff, "previous_hash": body["previous_hash"], "hash": sha256_hex(document),
        "document": document, "now": now,
    }  # fmt: skip
    await session.execute(_INSERT, values)
    return ClosedStatement(
        values["id"], values["number"], values["opening"], values["closing"], values["hash"], document
    )


def _body(
    period: dict[str, Any],
    last: Any,
    cutoff: str,
    lines: Sequence[Any],
    balances: dict[int, int],
    now: datetime,
) -> dict[str, Any]:
    opening = last.closing_minor if last else 0
    moved = sum(row.amount_minor for row in lines)
    return {
        "party": period["payee_id"],
        "currency": period["currency"],
        "number": last.number + 1 if last else 1,
        "period_from": period["period_from"],
        "period_to": period["period_to"],
        "time_zone": "UTC",
        "opening_minor": opening,
        "closing_minor": opening + moved,
        # Each on its normal side: closing = pending + available + in payout + reserved - receivable.
        "closing": {
            name: balances.get(int(code), 0) * (-1 if code is Code.RECEIVABLE else 1)
            for code, name in _NAMES.items()
        },
        "sections": _sections(lines),
        "previous_hash": last.hash if last else "",
        "cutoff": cutoff,
        "generated_at": now,
    }


def _sections(lines: Sequence[Any]) -> list[dict[str, Any]]:
    sections: dict[str, list[dict[str, Any]]] = {}
    for row in lines:
        sections.setdefault(SECTIONS.get(row.kind, "adjustments"), []).append(_line(row))
    return [
        {
            "name": name,
            "total_minor": sum(line["amount_minor"] for line in sections[name]),
            "lines": sections[name],
        }
        for name in sorted(sections)
    ]


def _line(row: Any) -> dict[str, Any]:
    return {
        "journal": str(JournalId.of(row.id)), "leg": row.leg, "occurred_at": row.effective_at,
        "posted_at": row.posted_at, "kind": row.kind,
        "order": str(OrderId.of(row.order_id)) if row.order_id else "", "account": _NAMES[Code(row.code)],
        "amount_minor": row.amount_minor, "balance_after": row.balance_after,
        "reference": row.provider_ref or "", "memo": row.memo or "",
    }  # fmt: skip


def csv_of(document: str) -> str:
    """One row per line of a statement's document; instants as microseconds since 1970 UTC, as there."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for section in orjson.loads(document)["sections"]:
        rows: Iterable[dict[str, Any]] = section["lines"]
        writer.writerows([[section["name"], *(line[c] for c in CSV_COLUMNS[1:])] for line in rows])
    return out.getvalue()


def _closed(row: Any) -> ClosedStatement:
    return ClosedStatement(
        StatementId.of(row.id), row.number, row.opening_minor, row.closing_minor, row.hash, row.document
    )
