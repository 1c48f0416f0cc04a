"""What statements are made of, read for many parties at once: ledger entries, and what their journals were about.

Everything read here is append-only or never changes after capture, so that a statement can be computed again
at any time. Runs on the driver's connection: a million entries are read in some seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from core.ids import BrandId, RefundId
from supply.ledger.chart import Code
from supply.settlement.ids import SplitLineId
from supply.settlement.kinds import Kind
from supply.settlement.parties import owner_of

ENTRIES_AT_ONCE = 20_000
PARTY_CODES = (Code.RECEIVABLE, Code.PENDING, Code.AVAILABLE, Code.IN_PAYOUT, Code.RESERVED)

# An entry belongs to the first statement that could see it: its transaction had ended when that was closed, and
# its journal was posted before the period's end. So a later statement takes what was posted in its own period,
# and what was posted earlier by a transaction that ended too late. Nothing before ``resume`` can be either.
# A capture that brought a party one part of one order line, the usual case of a promoter, is told whole here
# (``order_line_id``): parts are not below zero, so that one which is the entry's amount is all there is.
_ENTRIES = """
SELECT w.ord, j.id, e.leg, CASE WHEN j.kind = ANY ($9::text[]) THEN j.idem END AS idem, j.kind, j.order_id,
    j.provider_ref, j.memo, j.effective_at, j.posted_at,
    a.code, -e.amount_minor AS amount_minor, e.balance_after, o.number, o.merchant_id,
    j.posted_at >= w.period_to AS later, CASE WHEN j.posted_at >= w.period_to THEN e.txid::text END AS txid,
    c.order_line_id, c.line_kind, c.sku, c.charged_minor, c.part, c.agreement, c.rate_ppm
FROM unnest($1::text[], $2::bpchar[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[])
    WITH ORDINALITY AS w (owner, currency, previous, period_from, period_to, resume, ord)
JOIN ledger_accounts a ON a.owner = w.owner AND a.currency = w.currency AND a.code = ANY ($8::int[])
JOIN ledger_entries e ON e.account_id = a.id AND e.txid >= w.resume::xid8 AND e.txid < $7::text::xid8
JOIN ledger_journals j ON j.id = e.journal_id AND NOT (j.posted_at < w.period_from AND e.txid < w.previous::xid8)
LEFT JOIN split_orders o ON o.order_id = j.order_id
LEFT JOIN LATERAL (
    SELECT l.order_line_id, l.kind AS line_kind, l.sku, l.captured_minor AS charged_minor, p.part, p.agreement,
        p.rate_ppm
    FROM split_parts p JOIN split_lines l ON l.id = p.line_id
    WHERE p.order_id = j.order_id AND p.captured_payee = substr(w.owner, 7) AND p.captured_minor = -e.amount_minor
        AND p.part IN ('supplier', 'promoter_brand', 'individual') LIMIT 1
) c ON j.kind = 'capture'
ORDER BY w.ord, later, j.posted_at, e.txid, j.id, e.leg
"""
# The same of one journal, without the short cut.
_OF_JOURNAL = """
SELECT j.id, e.leg, j.idem, j.kind, j.order_id, j.provider_ref, j.memo, j.effective_at, j.posted_at,
    a.code, -e.amount_minor AS amount_minor, e.balance_after, e.txid::text AS txid, o.number, o.merchant_id,
    NULL::uuid AS order_line_id, NULL::text AS line_kind, NULL::text AS sku, NULL::bigint AS charged_minor,
    NULL::text AS part, NULL::text AS agreement, NULL::integer AS rate_ppm
FROM ledger_journals j JOIN ledger_entries e ON e.journal_id = j.id
JOIN ledger_accounts a ON a.id = e.account_id AND a.owner = $2 AND a.code = ANY ($3::int[])
LEFT JOIN split_orders o ON o.order_id = j.order_id
WHERE j.id = $1 ORDER BY e.leg
"""
# What a party got of an order line, or of its shipping, in the capture journal. Of an order whose merchant is asked
# for, everybody's part. ``charged_minor`` is what the customer paid for the line, without tax, after discounts.
_CELLS = """
SELECT l.order_id, l.order_line_id, l.kind AS line_kind, l.sku, l.captured_minor AS charged_minor,
    CASE WHEN p.part = 'merchant' THEN l.discounts::text END AS discounts, p.part, p.captured_payee AS payee_id,
    p.captured_minor AS amount_minor, p.agreement, p.rate_ppm
FROM split_lines l JOIN split_parts p ON p.line_id = l.id AND p.order_id = l.order_id
WHERE l.order_id = ANY ($1::uuid[]) AND p.order_id = ANY ($1::uuid[])
    AND (p.captured_payee = ANY ($2::text[]) OR l.merchant_id = ANY ($3::uuid[]))
    AND (p.captured_minor <> 0 OR p.part = 'merchant')
ORDER BY l.id, p.seat
"""
_TAKEN = (
    "SELECT refund_id, changes ->> 'taken' AS taken FROM split_refunds WHERE refund_id = ANY ($1::uuid[])"
)
_LINES = "SELECT id, order_line_id, sku FROM split_lines WHERE id = ANY ($1::uuid[])"

_CAPTURE = Kind.CAPTURE.value
_OF_REFUNDS = frozenset({Kind.REFUND_RESERVED.value, Kind.REFUND_VOIDED.value, Kind.REFUND_AT_SOURCE.value})
_KEYS_READ = [*_OF_REFUNDS, Kind.RELEASE.value]


@dataclass(frozen=True, slots=True)
class Window:
    """One party's open statement: ``[period_from, period_to)``, after what the one before could see."""

    payee_id: str
    currency: str
    period_from: datetime
    period_to: datetime
    previous_cutoff: str = "0"
    resume: str = "0"


@dataclass(frozen=True, slots=True)
class OrderLineTaken:
    """What a refund took from one party of one order line, in minor units."""

    order_line_id: UUID
    sku: str
    amount_minor: int


@dataclass(slots=True)
class About:
    """What the journals of a block of entries were about."""

    cells: dict[UUID, list[Any]] = field(default_factory=dict)
    """By order: rows of ``_CELLS``."""
    taken: dict[tuple[UUID, str], list[OrderLineTaken]] = field(default_factory=lambda: defaultdict(list))
    """By refund and party."""


async def read(
    connection: asyncpg.Connection[Any], windows: Sequence[Window], cutoff: str
) -> AsyncIterator[tuple[list[Any], About]]:
    """The entries of the windows in their sequence, in blocks; rows with ``later`` belong to a next statement.

    ``ord`` of a row is the window's place, from 1. Amounts are the party's: above zero it earns.
    """
    arguments = (
        [owner_of(w.payee_id) for w in windows], [w.currency for w in windows],
        [w.previous_cutoff for w in windows], [w.period_from for w in windows],
        [w.period_to for w in windows], [w.resume for w in windows], cutoff, [int(c) for c in PARTY_CODES],
        _KEYS_READ,
    )  # fmt: skip
    payees = [w.payee_id for w in windows]
    cursor = await connection.cursor(_ENTRIES, *arguments)
    while block := await cursor.fetch(ENTRIES_AT_ONCE):
        yield block, await about_of(connection, block, payees)


async def read_journal(
    connection: asyncpg.Connection[Any], journal_id: UUID, payee_id: str
) -> tuple[list[Any], About]:
    """What one journal did to one party, in the form of ``read``."""
    rows = await connection.fetch(_OF_JOURNAL, journal_id, owner_of(payee_id), [int(c) for c in PARTY_CODES])
    return rows, await about_of(connection, rows, [payee_id])


async def about_of(connection: asyncpg.Connection[Any], block: Sequence[Any], payees: Sequence[str]) -> About:
    """What the journals of these rows were about, as far as it concerns these parties."""
    about = About()
    captured = {
        row["order_id"]: row["merchant_id"]
        for row in block
        if row["order_line_id"] is None and row["kind"] == _CAPTURE
    }
    captured.pop(None, None)
    if captured:
        await _read_cells(connection, captured, payees, about)
    refunds = {found for row in block if (found := refund_of(row["kind"], row["idem"])) is not None}
    if refunds:
        await _read_taken(connection, refunds, about)
    return about


async def _read_cells(
    connection: asyncpg.Connection[Any],
    captured: dict[UUID, UUID | None],
    payees: Sequence[str],
    about: About,
) -> None:
    own = set(payees)
    merchants = {merchant for merchant in captured.values() if merchant and _brand(merchant) in own}
    rows = await connection.fetch(_CELLS, list(captured), list(own), list(merchants))
    cells = about.cells
    for row in rows:
        order_id = row["order_id"]
        if order_id in cells:
            cells[order_id].append(row)
        else:
            cells[order_id] = [row]


async def _read_taken(connection: asyncpg.Connection[Any], refunds: Iterable[UUID], about: About) -> None:
    rows = await connection.fetch(_TAKEN, list(refunds))
    taken = [
        (row["refund_id"], SplitLineId.parse(line), payee, amount)
        for row in rows
        for line, _, payee, amount in orjson.loads(row["taken"] or "[]")
        if payee
    ]
    found = await connection.fetch(_LINES, list({line for _, line, _, _ in taken}))
    lines = {row["id"]: row for row in found}
    for refund, line_id, payee, amount in taken:
        line = lines.get(line_id)
        if line is not None:
            about.taken[refund, payee].append(OrderLineTaken(line["order_line_id"], line["sku"], amount))


def refund_of(kind: str, key: str | None) -> UUID | None:
    """The refund that a journal reserves, voids or, of a sale at source, is."""
    if kind not in _OF_REFUNDS or key is None or not key.startswith("refund:"):
        return None
    return RefundId.parse(key.split(":")[1])


def _brand(merchant_id: UUID) -> str:
    return str(BrandId.of(merchant_id))
