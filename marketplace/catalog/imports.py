"""A file of products in one transaction: rows are checked one by one, then written set by set.

Rows go by COPY into a table of the transaction; what depends on other rows or on what is stored (a SKU twice, a
SKU of another product, a new product without a title) is found there by statements over all rows at once. Only
what differs is written, so the same file again changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import BrandId, ImportId, ProductId, VariantId
from infra.db.base import table_of
from infra.db.session import driver_connection
from infra.outbox import record
from marketplace.catalog import import_sql
from marketplace.catalog.errors import TooMany, UnreadableFile
from marketplace.catalog.events import ProductsChanged
from marketplace.catalog.import_rows import Complaint, ImportedRow, rows_of
from marketplace.catalog.models import (
    CatalogImport,
    ErrorPolicy,
    ImportComplaint,
    ImportFormat,
    ImportStatus,
)
from marketplace.catalog.queries import ImportRow
from marketplace.catalog.service import writing_brand

LARGEST_BYTES = 5_000_000
"""Of a file that comes through the API; the command line takes larger ones."""
MOST_ROWS = 1_000_000
MOST_COMPLAINTS = 10_000
_BATCH = 5_000
_EVENT_IDS = 200


@dataclass(slots=True)
class _Tally:
    complaints: list[Complaint]
    rows: int = 0
    failed: int = 0

    def add(self, row: ImportedRow, policy: ErrorPolicy) -> bool:
        """Count a row; returns whether it goes on."""
        self.rows += 1
        if not row.complaints:
            return True
        room = MOST_COMPLAINTS - len(self.complaints)
        self.complaints += row.complaints[: max(room, 0)]
        fatal = any(complaint.fatal for complaint in row.complaints)
        refused = fatal or policy is not ErrorPolicy.IGNORE_FAILED
        self.failed += refused
        return not refused


async def run(
    session: AsyncSession,
    actor: Actor,
    *,
    content: str | bytes,
    format: ImportFormat,
    policy: ErrorPolicy,
    clock: Clock,
    largest_bytes: int = LARGEST_BYTES,
) -> ImportRow:
    """Import a file of the actor's own products; the outcome and its errors are kept as an import.

    Raises ``UnreadableFile`` for a file without a usable header or too large, ``TooMany`` above a million rows.
    """
    brand_id, now = writing_brand(actor), clock.now()
    if len(content if isinstance(content, bytes) else content.encode("utf-8", "replace")) > largest_bytes:
        raise UnreadableFile(f"at most {largest_bytes} bytes", field="content")
    tally = _Tally([])
    await session.execute(import_sql.ONE_AT_A_TIME, {"brand": str(brand_id)})
    await session.execute(import_sql.CREATE_STAGE)
    await _stage(session, rows_of(content, format), tally, policy)
    await _judge(session, brand_id, tally)
    rejected = policy is ErrorPolicy.REJECT_EVERYTHING and bool(tally.complaints)
    created, changed, unchanged = (0, 0, 0) if rejected else await _write(session, brand_id, now)
    await session.execute(import_sql.DROP_STAGE)
    done = ImportRow(
        ImportId.new(),
        brand_id,
        format,
        policy,
        ImportStatus.REJECTED if rejected else ImportStatus.DONE,
        tally.rows,
        tally.rows if rejected else tally.failed,
        created,
        changed,
        unchanged,
        now,
    )
    await _keep(session, done, tally.complaints)
    return done


async def _stage(
    session: AsyncSession, rows: Iterator[ImportedRow], tally: _Tally, policy: ErrorPolicy
) -> None:
    connection = await driver_connection(session)
    good = (_record(row) for row in rows if tally.add(row, policy))
    while batch := list(itertools.islice(good, _BATCH)):
        if tally.rows > MOST_ROWS:
            raise TooMany(f"at most {MOST_ROWS} rows in a file", field="content")
        await connection.copy_records_to_table("stage", records=batch, columns=import_sql.COLUMNS)


def _record(row: ImportedRow) -> tuple[Any, ...]:
    values = row.values
    return (
        row.number,
        ProductId.new(),
        VariantId.new(),
        values.get("handle"),
        row.sku,
        *(values.get(name) for name in import_sql.TEXTS),
        values.get("tags"),
        *(_json(values.get(name)) for name in ("media", "attributes", "options")),
        values.get("gtin"),
        values.get("variant_title"),
        values.get("weight_g"),
        values.get("status"),
        _json({currency: list(price) for currency, price in row.prices.items()}),
    )


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


async def _judge(session: AsyncSession, brand_id: BrandId, tally: _Tally) -> None:
    """Complain of what only shows among rows, and take those rows out."""
    for statement in import_sql.PREPARE:
        await session.execute(statement, {"brand": brand_id})
    for code, field, message, statement in import_sql.JUDGEMENTS:
        for row in await session.execute(statement, {"brand": brand_id}):
            tally.failed += 1
            if len(tally.complaints) < MOST_COMPLAINTS:
                tally.complaints.append(Complaint(row.number, row.sku, field, code, message, True))
    unpriced = await session.execute(import_sql.UNPRICED, {"brand": brand_id})
    for row in unpriced:
        message = "no variant of it has a price, so it stays a draft"
        tally.complaints.append(Complaint(row.number, row.sku, "status", "NOTHING_TO_SELL", message))
    for statement in import_sql.STAGE_PRODUCTS:
        await session.execute(statement, {"brand": brand_id})


async def _write(session: AsyncSession, brand_id: BrandId, now: datetime) -> tuple[int, int, int]:
    """Products created, changed, and left as they were."""
    where = {"brand": brand_id, "now": now}
    total, new = (await session.execute(import_sql.COUNT_PRODUCTS)).one()
    created = set((await session.execute(import_sql.NEW_PRODUCTS, where)).scalars())
    if len(created) < new:
        await session.execute(import_sql.FOUND_PRODUCTS, where)
    changed = set((await session.execute(import_sql.CHANGED_PRODUCTS, where)).scalars())
    changed |= set((await session.execute(import_sql.VARIANTS, where)).scalars())
    changed |= set((await session.execute(import_sql.PRICES, where)).scalars())
    published = set((await session.execute(import_sql.STATUSES, where)).scalars())
    changed = (changed | published) - created
    await session.execute(import_sql.NEW_VERSIONS, {"ids": list(changed), "now": now})
    for batch in _batches(sorted(created | changed), _EVENT_IDS):
        await record(session, ProductsChanged(tuple(ProductId.of(i) for i in batch), brand_id))
    return len(created), len(changed), total - len(created) - len(changed)


async def _keep(session: AsyncSession, done: ImportRow, complaints: Sequence[Complaint]) -> None:
    row = {name: getattr(done, name) for name in done.__slots__}
    await session.execute(insert(table_of(CatalogImport)), [row])
    kept = [
        {
            "import_id": done.id, "number": number, "brand_id": done.brand_id, "row": c.row, "sku": c.sku,
            "field": c.field, "code": c.code, "message": c.message,
        }
        for number, c in enumerate(sorted(complaints, key=lambda c: c.row)[:MOST_COMPLAINTS])
    ]  # fmt: skip
    if kept:
        await session.execute(insert(table_of(ImportComplaint)), kept)


def _batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))
