"""The report of a replay, counted in the database: what the platform made of the orders, not what was read."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.replay.files import COUNTED
from services.replay.progress import SOURCE, find_place
from supply.ledger import queries as ledger

_FILES = text("SELECT file, rows FROM replay_files WHERE source = :source")
_STATUSES = text(
    "SELECT status, count(*) AS n FROM external_orders WHERE source = :source GROUP BY status ORDER BY status"
)
_QUIRKS = text(
    "SELECT quirk, count(*) AS n FROM external_orders x, unnest(x.quirks) AS quirk WHERE x.source = :source"
    " GROUP BY quirk ORDER BY quirk"
)
_ORDERS = text("""
WITH sold AS (
    SELECT x.reference, o.id, o.total_minor, o.goods_minor, o.shipping_minor,
        EXISTS (SELECT FROM order_lines l WHERE l.order_id = o.id) AS has_items,
        coalesce((SELECT sum(p.amount_minor) FROM external_payments p
                  WHERE p.source = x.source AND p.reference = x.reference), 0) AS paid_minor
    FROM external_orders x JOIN orders o ON o.id = x.order_id WHERE x.source = :source
)
SELECT count(*) AS orders,
    count(*) FILTER (WHERE has_items) AS orders_with_items,
    count(*) FILTER (WHERE NOT has_items) AS orders_without_items,
    coalesce(sum(paid_minor), 0)::bigint AS sum_payments_minor,
    count(*) FILTER (WHERE has_items AND paid_minor = total_minor) AS payments_equal_items_plus_freight,
    count(*) FILTER (WHERE has_items AND paid_minor <> total_minor) AS payments_differ
FROM sold
""")
_LINES = text("""
SELECT coalesce(sum(l.gross_minor), 0)::bigint AS sum_price_minor,
    coalesce(sum(l.shipping_minor), 0)::bigint AS sum_freight_minor,
    count(DISTINCT l.supplier_id) AS distinct_sellers, count(DISTINCT l.product_id) AS distinct_products
FROM order_lines l JOIN external_orders x ON x.order_id = l.order_id AND x.source = :source
""")
_FULFILLMENT = text("""
WITH parts AS (
    SELECT f.order_id, count(*) AS parts, count(DISTINCT f.supplier_id) AS sellers
    FROM fulfillment_orders f JOIN external_orders x ON x.order_id = f.order_id AND x.source = :source
    GROUP BY f.order_id
)
SELECT count(*) FILTER (WHERE sellers > 1) AS multi_seller_orders,
    coalesce(max(sellers), 0) AS max_sellers_per_order,
    coalesce(sum(parts), 0)::bigint AS fulfillment_orders
FROM parts
""")
# A day is the source's: its instants carry no zone and were taken as UTC.
_DELIVERY = text("""
SELECT count(*) AS delivered_with_date,
    count(*) FILTER (WHERE (o.delivered_at AT TIME ZONE 'UTC')::date > (x.promised_at AT TIME ZONE 'UTC')::date)
        AS late_by_calendar_date
FROM external_orders x JOIN orders o ON o.id = x.order_id
WHERE x.source = :source AND x.status = 'delivered' AND x.delivered_at IS NOT NULL
    AND o.fulfillment_status = 'delivered'
""")
_AFTER_LIMIT = text("""
SELECT count(*) FROM fulfillment_orders f
JOIN external_orders x ON x.order_id = f.order_id AND x.source = :source
WHERE x.handed_over_at IS NOT NULL AND f.shipped_at > f.ship_by
""")
# What settlement released, by seller and the month of the delivery (of the purchase where it has no date).
_SETTLED = text("""
SELECT p.code AS seller, to_char(coalesce(x.delivered_at, x.placed_at) AT TIME ZONE 'UTC', 'YYYY-MM') AS month,
    coalesce(sum(l.charged_minor) FILTER (WHERE l.kind = 'goods'), 0)::bigint AS price_minor,
    coalesce(sum(l.charged_minor) FILTER (WHERE l.kind = 'shipping'), 0)::bigint AS freight_minor,
    coalesce(sum(r.commission_minor), 0)::bigint AS commission_minor,
    coalesce(sum(r.net_minor), 0)::bigint AS net_minor
FROM split_lines l
JOIN external_orders x ON x.order_id = l.order_id AND x.source = :source
JOIN suppliers p ON p.id = l.supplier_id
JOIN LATERAL (
    SELECT sum(released_minor) AS released_minor,
        sum(released_minor) FILTER (WHERE part = 'platform_fee') AS commission_minor,
        sum(released_minor) FILTER (WHERE part = 'supplier') AS net_minor
    FROM split_parts WHERE line_id = l.id) r ON r.released_minor > 0
GROUP BY 1, 2 ORDER BY 1, 2
""")
_LEDGER = text(
    "SELECT (SELECT count(*) FROM ledger_journals) AS journals, count(*) AS entries,"
    " coalesce(sum(amount_minor), 0)::bigint AS sum_minor FROM ledger_entries"
)
SETTLEMENT_COLUMNS = ("seller", "month", "price_minor", "freight_minor", "commission_minor", "net_minor")


@dataclass(frozen=True, slots=True)
class Report:
    """``body`` has the keys of the JSON report; ``settlement`` one row per seller and month."""

    body: dict[str, Any]
    settlement: Sequence[Mapping[str, Any]]


async def report_of(session: AsyncSession) -> Report:
    """SYSTEM session. Amounts are minor units; ``duration_s`` is rounded up, ``orders_per_s`` down."""
    where = {"source": SOURCE}
    files = {row.file: row.rows for row in await session.execute(_FILES, where)}
    statuses = {row.status: row.n for row in await session.execute(_STATUSES, where)}
    orders = (await session.execute(_ORDERS, where)).one()._asdict()
    count = orders.pop("orders")
    payments = {name: orders.pop(name) for name in ("payments_equal_items_plus_freight", "payments_differ")}
    sum_payments = orders.pop("sum_payments_minor")
    lines = (await session.execute(_LINES, where)).one()._asdict()
    settlement = [row._asdict() for row in await session.execute(_SETTLED, where)]
    place = await find_place(session)
    elapsed_ms = max(place.elapsed_ms if place else 0, 1)
    body = {
        "rows": {name: files.get(name, 0) for name in COUNTED},
        "orders_by_status": statuses,
        **orders,
        "sum_price_minor": lines.pop("sum_price_minor"),
        "sum_freight_minor": lines.pop("sum_freight_minor"),
        "sum_payments_minor": sum_payments,
        **lines,
        **(await session.execute(_FULFILLMENT, where)).one()._asdict(),
        **(await session.execute(_DELIVERY, where)).one()._asdict(),
        "handed_to_carrier_after_limit": (await session.execute(_AFTER_LIMIT, where)).scalar_one(),
        **payments,
        "settled": _totals(settlement),
        "ledger": {
            **(await session.execute(_LEDGER)).one()._asdict(),
            "unbalanced": await ledger.unbalanced_journals(session),
        },
        "quirks": {row.quirk: row.n for row in await session.execute(_QUIRKS, where)},
        "duration_s": -(-elapsed_ms // 1000),
        "orders_per_s": count * 1000 // elapsed_ms,
    }
    return Report(body, settlement)


def _totals(settlement: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    amounts = SETTLEMENT_COLUMNS[2:]
    return {name: sum(row[name] for row in settlement) for name in amounts} | {
        "seller_months": len(settlement)
    }


def write_settlement(path: Path, settlement: Sequence[Mapping[str, Any]]) -> None:
    """One row per seller and month, amounts in minor units."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, SETTLEMENT_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(settlement)
