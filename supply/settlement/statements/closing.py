"""Closing: a statement is a pure function of ledger entries up to a cut-off, the ledger's transaction horizon.

An entry belongs to the first statement that could see it, so a late one goes into the next with its own
``effective_at``; a correction is an entry too. Closing again gives the stored bytes. Any number of closers may
work at once: a party's terms are its lock, and each closer takes parties nobody else has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.errors import LianyuError
from core.ids import StatementId, TenantId
from infra import outbox
from infra.db.session import Database, driver_connection
from supply.settlement.errors import PeriodNotOver, StatementNotFound, StatementOutOfSequence
from supply.settlement.events import StatementRef, StatementsClosed
from supply.settlement.parties import tenant_of
from supply.settlement.statements.cycles import Cycle, period_at
from supply.settlement.statements.document import Document, Header, Moved, csv_of, document_of
from supply.settlement.statements.entries import About, Window, read
from supply.settlement.statements.lines import lines_of
from supply.settlement.statements.terms import lock_terms, open_terms

log = structlog.get_logger("statements")
PARTIES_AT_ONCE = 1_000
WRITTEN_AT_ONCE = 8 * 1024 * 1024
"""Documents go to the database in portions of about this many characters."""
_UNTOLD = (LianyuError, ValueError, LookupError, TypeError)
GRACE = timedelta(minutes=5)
"""The sweep closes a period this long after its end, so that what was being posted then is in it."""

_HORIZON = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"
_COLUMNS = (
    "s.number, s.period_from, s.period_to, s.opening_minor, s.closing_minor, s.pending_minor, s.available_minor,"
    " s.in_payout_minor, s.reserved_minor, s.receivable_minor, s.hash, s.previous_hash, s.cutoff::text AS cutoff,"
    " s.resume::text AS resume, s.cycle, s.time_zone, s.legal_name, s.tax_id, s.closed_at"
)
_FIND = text(
    "SELECT id, number, opening_minor, closing_minor, hash, document FROM statements WHERE payee_id = :payee_id"
    " AND currency = :currency AND period_from = :period_from AND period_to = :period_to"
)
_LAST = text(
    f"SELECT {_COLUMNS} FROM statements s WHERE s.payee_id = :payee_id AND s.currency = :currency"
    " AND s.number < coalesce(CAST(:before AS int), 2147483647) ORDER BY s.number DESC LIMIT 1"
)
_ONE = text(f"SELECT s.payee_id, s.currency, s.document, {_COLUMNS} FROM statements s WHERE s.id = :id")
# Closers that start together take other parties: the first thousand of them in an order of chance.
_DUE_PARTIES = text(
    "SELECT payee_id, currency FROM (SELECT payee_id, currency FROM settlement_terms WHERE due_at <= :due"
    " ORDER BY due_at LIMIT :limit * 8) t ORDER BY random() LIMIT :limit"
)
_DUE = (
    "SELECT t.payee_id, t.currency, t.tenant_id, t.cycle, t.time_zone, t.legal_name, t.tax_id,"
    " t.open_from, t.due_at FROM settlement_terms t"
    " WHERE t.due_at <= $1 AND (t.payee_id, t.currency) IN (SELECT * FROM unnest($2::text[], $3::bpchar[]))"
    " ORDER BY t.payee_id, t.currency FOR NO KEY UPDATE SKIP LOCKED"
)
_LAST_OF = (
    f"SELECT w.ord, {_COLUMNS} FROM unnest($1::text[], $2::bpchar[]) WITH ORDINALITY AS w (payee_id, currency, ord)"
    " CROSS JOIN LATERAL (SELECT * FROM statements s WHERE s.payee_id = w.payee_id AND s.currency = w.currency"
    "  ORDER BY s.number DESC LIMIT 1) s"
)
_WRITTEN = (
    "id", "payee_id", "tenant_id", "currency", "number", "period_from", "period_to", "opening_minor",
    "closing_minor", "pending_minor", "available_minor", "in_payout_minor", "reserved_minor",
    "receivable_minor", "cutoff", "resume", "cycle", "time_zone", "legal_name", "tax_id", "previous_hash",
    "hash", "document", "closed_at",
)  # fmt: skip
_TYPES = (
    "uuid", "text", "uuid", "bpchar", "int", "timestamptz", "timestamptz", "bigint", "bigint", "bigint",
    "bigint", "bigint", "bigint", "bigint", "text", "text", "text", "text", "text", "text", "text", "text",
    "text", "timestamptz",
)  # fmt: skip
_INSERT = (
    f"INSERT INTO statements ({', '.join(_WRITTEN)}) SELECT "
    + ", ".join(f"n.{c}::xid8" if c in ("cutoff", "resume") else f"n.{c}" for c in _WRITTEN)
    + f" FROM unnest({', '.join(f'${i}::{t}[]' for i, t in enumerate(_TYPES, 1))}) AS n ({', '.join(_WRITTEN)})"
)
_ADVANCE = (
    "UPDATE settlement_terms t SET open_from = n.open_from, due_at = n.due_at"
    " FROM unnest($1::text[], $2::bpchar[], $3::timestamptz[], $4::timestamptz[])"
    " AS n (payee_id, currency, open_from, due_at) WHERE t.payee_id = n.payee_id AND t.currency = n.currency"
)
_SPLIT = ("pending", "available", "in_payout", "reserved", "receivable")


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


@dataclass(frozen=True, slots=True)
class Due:
    """A statement that is to be closed: its window, what the one before left, and what its header says."""

    window: Window
    tenant_id: TenantId | None
    number: int
    opening_minor: int
    opening: dict[str, int]
    previous_hash: str
    cycle: str
    time_zone: str
    legal_name: str
    tax_id: str


@dataclass(frozen=True, slots=True)
class Closing:
    """One statement as computed; ``resume`` is where the next one's entries begin, ``moved`` whether there were
    any, ``next_at`` when the first entry of a later period was posted."""

    due: Due
    document: Document
    resume: str
    moved: bool
    next_at: datetime | None


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
    terms = await lock_terms(session, payee_id, currency, at=period_from)
    period = {
        "payee_id": payee_id, "currency": currency, "period_from": period_from, "period_to": period_to,
    }  # fmt: skip
    found = (await session.execute(_FIND, period)).one_or_none()
    if found is not None:
        return _closed(found)
    if now < period_to:
        raise PeriodNotOver(f"the period ends at {period_to.isoformat()}")
    last = (await session.execute(_LAST, {**period, "before": None})).one_or_none()
    if last is not None and last.period_to != period_from:
        raise StatementOutOfSequence(f"the last statement ends at {last.period_to.isoformat()}")
    due = _due(terms, last, period_from, period_to)
    connection = await driver_connection(session)
    cutoff = await connection.fetchval(_HORIZON)
    (closing,) = [each async for each in compute(connection, [due], cutoff, now)]
    (statement_id,) = await _write(connection, [closing], cutoff, now)
    _, due_at = period_at(Cycle(terms.cycle), terms.time_zone, period_to)
    await connection.execute(_ADVANCE, [payee_id], [currency], [period_to], [due_at])
    await outbox.record(session, StatementsClosed((_ref(closing, statement_id, cutoff),), now))
    written = closing.document
    return ClosedStatement(
        statement_id, due.number, due.opening_minor, written.closing_minor, written.hash, written.text
    )


async def close_due_statements(db: Database, *, clock: Clock) -> int:
    """Sweep: give new parties their terms, then close what is due of up to ``PARTIES_AT_ONCE`` parties.

    A cycle in which nothing moved makes no statement: the next one begins where the last one ended. A party whose
    statement cannot be made stops no other: it stays due, and is told. Returns how many parties it went through.
    """
    await open_terms(db, clock=clock)
    now = clock.now()
    async with db.reading(SYSTEM) as session:
        due = (await session.execute(_DUE_PARTIES, {"due": now - GRACE, "limit": PARTIES_AT_ONCE})).all()
    if not due:
        return 0
    parties = [(row.payee_id, row.currency) for row in due]
    try:
        return await _close_together(db, parties, now)
    except _UNTOLD:
        # Something in one party's history cannot be told; which one shows when each is closed alone.
        log.exception("closing_one_by_one", parties=len(parties))
    closed = 0
    for party in parties:
        try:
            closed += await _close_together(db, [party], now)
        except _UNTOLD:
            log.exception("statement_not_closed", payee=party[0], currency=party[1])
    return closed


async def _close_together(db: Database, parties: Sequence[tuple[str, str]], now: datetime) -> int:
    """Close those of the parties that are due and nobody else is closing, in one transaction."""
    async with db.unit_of_work(SYSTEM) as session:
        connection = await driver_connection(session)
        rows = await connection.fetch(_DUE, now - GRACE, *zip(*parties, strict=True))
        if not rows:
            return 0
        payees, currencies = [r["payee_id"] for r in rows], [r["currency"] for r in rows]
        last = {r["ord"]: r for r in await connection.fetch(_LAST_OF, payees, currencies)}
        dues = [
            _due(
                _terms_of(row), _Last(last[place]) if place in last else None, row["open_from"], row["due_at"]
            )
            for place, row in enumerate(rows, 1)
        ]
        cutoff = await connection.fetchval(_HORIZON)
        refs: list[StatementRef] = []
        portion: list[Closing] = []
        advanced: list[tuple[str, str, datetime, datetime]] = []
        size = 0
        async for closing in compute(connection, dues, cutoff, now):
            advanced.append(_advanced(closing, now))
            if not closing.moved:
                continue
            portion.append(closing)
            size += len(closing.document.text)
            if size >= WRITTEN_AT_ONCE:
                refs += await _written(connection, portion, cutoff, now)
                portion, size = [], 0
        refs += await _written(connection, portion, cutoff, now)
        await connection.execute(_ADVANCE, *zip(*advanced, strict=True))
        if refs:
            await outbox.record(session, StatementsClosed(tuple(refs), now))
    return len(rows)


async def recompute_statement(session: AsyncSession, statement_id: StatementId) -> tuple[str, str]:
    """(the document as stored, the document computed again from the ledger): always the same bytes.

    Raises ``StatementNotFound``.
    """
    stored = (await session.execute(_ONE, {"id": statement_id})).one_or_none()
    if stored is None:
        raise StatementNotFound(statement_id)
    where = {"payee_id": stored.payee_id, "currency": stored.currency, "before": stored.number}
    last = (await session.execute(_LAST, where)).one_or_none()
    terms = _Terms(
        stored.payee_id,
        stored.currency,
        None,
        stored.cycle,
        stored.time_zone,
        stored.legal_name,
        stored.tax_id,
    )
    due = _due(terms, last, stored.period_from, stored.period_to)
    connection = await driver_connection(session)
    (closing,) = [each async for each in compute(connection, [due], stored.cutoff, stored.closed_at)]
    return stored.document, closing.document.text


async def compute(connection: Any, dues: Sequence[Due], cutoff: str, now: datetime) -> AsyncIterator[Closing]:
    """The statements in their sequence, each as soon as its last entry was read. Writes nothing."""
    open_one = _Open(dues[0])
    async for block, about in read(connection, [due.window for due in dues], cutoff):
        for row in block:
            while row["ord"] != open_one.place:
                yield open_one.closed(cutoff, now)
                open_one = _Open(dues[open_one.place], open_one.place + 1)
            open_one.take(row, about)
    yield open_one.closed(cutoff, now)
    for place in range(open_one.place, len(dues)):
        yield _Open(dues[place], place + 1).closed(cutoff, now)


class _Open:
    """A statement while its entries come: the rows of one journal wait until all of them are there."""

    def __init__(self, due: Due, place: int = 1) -> None:
        self.due, self.place = due, place
        self._moved = Moved()
        self._journal: list[Any] = []
        self._about: About = About()
        self._resume: int | None = None
        self._next_at: datetime | None = None

    def take(self, row: Any, about: About) -> None:
        if row["later"]:
            txid = int(row["txid"])
            self._resume = txid if self._resume is None else min(self._resume, txid)
            self._next_at = self._next_at or row["posted_at"]
            return
        if self._journal and self._journal[0]["id"] != row["id"]:
            self._write_lines()
        if not self._journal:
            self._about = about
        self._journal.append(row)

    def _write_lines(self) -> None:
        if self._journal:
            for section, line in lines_of(self.due.window.payee_id, self._journal, self._about):
                self._moved.add(section, line)
            self._journal = []

    def closed(self, cutoff: str, now: datetime) -> Closing:
        self._write_lines()
        return Closing(
            self.due,
            document_of(_header(self.due, cutoff, now), self.due.opening, self._moved),
            cutoff if self._resume is None else str(self._resume),
            bool(self._moved.sections),
            self._next_at,
        )


class _Last:
    """A row of the driver, read by attribute as the others are."""

    def __init__(self, row: Any) -> None:
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return self._row[name]


def _terms_of(row: Any) -> _Terms:
    return _Terms(
        row["payee_id"], row["currency"], row["tenant_id"], row["cycle"], row["time_zone"], row["legal_name"],
        row["tax_id"],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Terms:
    payee_id: str
    currency: str
    tenant_id: Any
    cycle: str
    time_zone: str
    legal_name: str
    tax_id: str


def _due(terms: Any, last: Any, period_from: datetime, period_to: datetime) -> Due:
    window = Window(terms.payee_id, terms.currency, period_from, period_to)
    if last is not None:
        window = replace(window, previous_cutoff=last.cutoff, resume=last.resume)
    tenant = terms.tenant_id or tenant_of(terms.payee_id)
    return Due(
        window,
        TenantId.of(tenant) if tenant else None,
        last.number + 1 if last else 1,
        last.closing_minor if last else 0,
        {name: getattr(last, f"{name}_minor") if last else 0 for name in _SPLIT},
        last.hash if last else "",
        terms.cycle,
        terms.time_zone,
        terms.legal_name,
        terms.tax_id,
    )


def _header(due: Due, cutoff: str, now: datetime) -> Header:
    window = due.window
    return Header(
        window.payee_id, window.currency, due.number, window.period_from, window.period_to, due.cycle,
        due.time_zone, due.legal_name, due.tax_id, due.opening_minor, due.previous_hash, cutoff, now,
    )  # fmt: skip


def _advanced(closing: Closing, now: datetime) -> tuple[str, str, datetime, datetime]:
    """Where the party's next statement begins and when it is due: over quiet cycles in one step."""
    due, window = closing.due, closing.due.window
    open_from = window.period_to if closing.moved else window.period_from
    following = window.period_to
    if not closing.moved:
        quiet_until = now - GRACE if closing.next_at is None else min(closing.next_at, now - GRACE)
        following = max(following, quiet_until)
    _, due_at = period_at(Cycle(due.cycle), due.time_zone, following)
    return window.payee_id, window.currency, open_from, due_at


async def _written(
    connection: Any, closings: Sequence[Closing], cutoff: str, now: datetime
) -> list[StatementRef]:
    ids = await _write(connection, closings, cutoff, now)
    return [_ref(closing, id, cutoff) for closing, id in zip(closings, ids, strict=True)]


async def _write(
    connection: Any, closings: Sequence[Closing], cutoff: str, now: datetime
) -> list[StatementId]:
    """One statement for all of them (COPY does not go through row-level security)."""
    ids = [StatementId.new() for _ in closings]
    rows = []
    for statement_id, closing in zip(ids, closings, strict=True):
        due, window, document = closing.due, closing.due.window, closing.document
        rows.append(
            (
                statement_id, window.payee_id, due.tenant_id, window.currency, due.number,
                window.period_from, window.period_to, due.opening_minor, document.closing_minor,
                *(document.split[name] for name in _SPLIT), cutoff, closing.resume, due.cycle, due.time_zone,
                due.legal_name, due.tax_id, due.previous_hash, document.hash, document.text, now,
            )
        )  # fmt: skip
    if rows:
        await connection.execute(_INSERT, *zip(*rows, strict=True))
    return ids


def _ref(closing: Closing, statement_id: StatementId, cutoff: str) -> StatementRef:
    window = closing.due.window
    return StatementRef(statement_id, window.payee_id, window.currency, window.period_to, cutoff)


def _closed(row: Any) -> ClosedStatement:
    return ClosedStatement(
        StatementId.of(row.id), row.number, row.opening_minor, row.closing_minor, row.hash, row.document
    )
