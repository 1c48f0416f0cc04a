"""R4: what is due leaves the return window: pending becomes available, the platform's fee becomes revenue."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import OrderId, OrderLineId
from infra import outbox
from infra.db.session import Database
from supply.ledger import service as ledger
from supply.ledger.journal import Journal, Leg, credit, debit, merged
from supply.settlement.composition import COMMISSION_PARTS
from supply.settlement.events import CommissionReleased
from supply.settlement.holds import NOT_HELD, mark_held
from supply.settlement.kinds import Kind
from supply.settlement.order_book import OrderBook, load_many, save
from supply.settlement.parties import pending_account, released_account

ORDERS_AT_ONCE = 100
_TXID = text("SELECT pg_current_xact_id()::text::bigint")
_DUE = text(
    "SELECT order_id FROM split_orders WHERE order_id IN (SELECT p.order_id FROM split_parts p"
    " JOIN split_lines l ON l.id = p.line_id AND l.open_holds = 0"
    f" WHERE p.due_at <= :now AND p.pending_minor > 0 AND {NOT_HELD} ORDER BY p.due_at, p.order_id LIMIT :limit)"
    " ORDER BY order_id FOR NO KEY UPDATE SKIP LOCKED"
)


async def release_due(db: Database, *, clock: Clock) -> int:
    """Sweep: release what is due of up to ``ORDERS_AT_ONCE`` orders; how many orders that were."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        due = list((await session.execute(_DUE, {"now": now, "limit": 4 * ORDERS_AT_ONCE})).scalars())
        books = await load_many(session, [OrderId.of(each) for each in due[:ORDERS_AT_ONCE]])
        await mark_held(session, books)
        waiting = pending_commissions(books)
        journals = [journal for book in books for journal in release_journals(book, now)]
        if journals:
            await save(session, books)
            await ledger.post_together(session, journals, now=now)
        if commissions := released_commissions(books, waiting):
            txid = (await session.execute(_TXID)).scalar_one()
            await outbox.record(session, CommissionReleased(commissions, txid, now))
    return len(books)


def pending_commissions(books: Iterable[OrderBook]) -> set[tuple[OrderId, OrderLineId]]:
    """Order lines of which a share of the commission, the platform's included, is pending."""
    return {
        (book.order_id, line.order_line_id)
        for book in books
        for line in book.lines
        for cell in line.cells.values()
        if cell.part in COMMISSION_PARTS and cell.pending_minor
    }


def released_commissions(
    books: Iterable[OrderBook], waiting: set[tuple[OrderId, OrderLineId]]
) -> tuple[OrderLineId, ...]:
    """Of those that were pending, the lines of which nothing is any more; by order."""
    return tuple(line for _, line in sorted(waiting - pending_commissions(books)))


def release_journals(book: OrderBook, now: datetime) -> list[Journal]:
    """One journal per order line for all its parts that are due; marks the cells released."""
    legs: dict[OrderLineId, list[Leg]] = {}
    for line in book.lines:
        if line.open_holds:
            continue
        for cell in line.cells.values():
            if not cell.pending_minor or cell.due_at is None or cell.due_at > now:
                continue
            if line.commission_held and cell.part in COMMISSION_PARTS:
                continue
            pending = pending_account(
                cell.part,
                cell.payee_id,
                book.currency,
                jurisdiction=book.tax_jurisdiction,
                tenant_id=cell.tenant_id,
            )
            released = released_account(cell.part, cell.payee_id, book.currency, tenant_id=cell.tenant_id)
            legs.setdefault(line.order_line_id, []).extend(
                [debit(pending, cell.pending_minor), credit(released, cell.pending_minor)]
            )
            cell.released_minor += cell.pending_minor
            cell.pending_minor = 0
    journals = []
    for order_line_id, moved in legs.items():
        book.releases += 1
        # A line can be released more than once: parts have their own dates, and a void lays money back.
        key = f"release:{order_line_id}:{book.releases}"
        journals.append(Journal(key, Kind.RELEASE, merged(moved), now, book.order_id))
    return journals
