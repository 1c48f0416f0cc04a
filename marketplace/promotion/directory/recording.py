"""The sweep that counts what stands behind every track record, and refreshes what listings show of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import BrandId, OrderId
from infra.db.session import Database
from marketplace.audiences import queries as audiences
from marketplace.promotion.directory.models import PartnerRole
from marketplace.promotion.directory.publishing import listing_record
from marketplace.promotion.directory.track_record import WINDOW_DAYS, Counts, shown
from supply.settlement import partner_facts

COUNT_EVERY = timedelta(hours=1)
"""By the clock: a rate over 90 days does not move in less."""

PROMISED_WITHIN = timedelta(days=3)
"""A commission is in time when it was paid at most so long after the day a line gave for it."""

LONGEST_COURSE = timedelta(days=200)
"""From order to payment: delivery, the longest return window, a month's statement."""

Key = tuple[BrandId, PartnerRole]

# Counting is work for one; whoever comes second finds it done.
_ONE_COUNTER = text("SELECT pg_try_advisory_xact_lock(hashtextextended('partner_records', 18))")
_LAST = text("SELECT max(computed_at) FROM partner_records")
_BY_SIDE = "CASE WHEN grouping(advertiser_id) = 0 THEN 'ADVERTISER' ELSE 'PROMOTER' END AS role"
_BRAND = "coalesce(advertiser_id, promoter_brand_id) AS brand_id"
_SIDES = "GROUP BY GROUPING SETS ((advertiser_id), (promoter_brand_id))"
_CLICKS = text(
    f"SELECT {_BRAND}, {_BY_SIDE}, count(*) AS clicks FROM touches WHERE at >= :since AND at <= :now"
    " AND NOT is_bot AND duplicate_of IS NULL AND kind IN ('click', 'scan') AND agreement_id IS NOT NULL"
    f" {_SIDES}"
)
_SALES = text(
    f"SELECT {_BRAND}, {_BY_SIDE}, count(DISTINCT order_id) AS orders,"
    " count(DISTINCT order_id) FILTER (WHERE refunded_basis_minor > 0) AS refunded,"
    " count(DISTINCT order_id) FILTER (WHERE order_id = ANY(:disputed)) AS disputed,"
    " greatest(count(DISTINCT advertiser_id), count(DISTINCT promoter_brand_id)) AS partners"
    f" FROM commission_lines WHERE created_at >= :since AND created_at <= :now {_SIDES}"
)
# A line says when its payment can be expected. What is confirmed and not paid out waits for the payee: for an account,
# or for the least sum; that is no delay of the advertiser's. Of nothing, or what is the platform's alone, nobody is
# paid: such a line ends in no statement.
_PUNCTUALITY = text(
    "SELECT advertiser_id, count(*) AS due, count(*) FILTER (WHERE paid_at <= expected_pay_at + :promised) AS in_time"
    " FROM commission_lines l WHERE created_at >= :oldest AND expected_pay_at BETWEEN :since AND :until"
    " AND (status = 'PAID' AND payable_at IS NOT NULL OR status = 'PENDING' AND EXISTS (SELECT FROM commission_shares s"
    "  WHERE s.commission_line_id = l.id AND s.role <> 'platform'"
    "  AND s.earned_minor > s.reversed_minor + s.denied_minor)) GROUP BY advertiser_id"
)
_LISTED = text("SELECT brand_id FROM partner_listings")
_STORE = text(
    "INSERT INTO partner_records (brand_id, role, clicks, orders, refunded_orders, disputed_orders,"
    " commissions_due, commissions_in_time, partners, members, computed_at)"
    " SELECT r.brand_id, r.role, r.clicks, r.orders, r.refunded_orders, r.disputed_orders, r.commissions_due,"
    " r.commissions_in_time, r.partners, r.members, :now"
    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(brand_id uuid, role text, clicks bigint, orders integer,"
    " refunded_orders integer, disputed_orders integer, commissions_due integer, commissions_in_time integer,"
    " partners integer, members integer)"
    " ON CONFLICT (brand_id, role) DO UPDATE SET clicks = excluded.clicks, orders = excluded.orders,"
    " refunded_orders = excluded.refunded_orders, disputed_orders = excluded.disputed_orders,"
    " commissions_due = excluded.commissions_due, commissions_in_time = excluded.commissions_in_time,"
    " partners = excluded.partners, members = excluded.members, computed_at = excluded.computed_at"
)
_FORGET = text("DELETE FROM partner_records WHERE computed_at < :now")
_SHOW = text(
    "UPDATE partner_listings l SET record = r.record, conversion_rank = r.conversion_rank,"
    " refund_rank = r.refund_rank, punctuality_rank = r.punctuality_rank"
    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(brand_id uuid, record jsonb, conversion_rank integer,"
    " refund_rank integer, punctuality_rank integer)"
    " WHERE l.brand_id = r.brand_id AND l.record <> r.record"
)


async def keep_track_records(db: Database, *, clock: Clock) -> int:
    """Sweep: count anew when the last count is an hour old; how many brands have a record now."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        if not await session.scalar(_ONE_COUNTER):
            return 0
        last = await session.scalar(_LAST)
        # A clock that was set back must not stop the counting for good.
        if last is not None and abs(now - last) < COUNT_EVERY:
            return 0
        return await count_records(session, now)


async def count_records(session: AsyncSession, now: datetime) -> int:
    """Count every brand's last 90 days. Needs a SYSTEM session. Seven statements, whatever there is."""
    since = now - timedelta(days=WINDOW_DAYS)
    counts = await _counts(session, since, now)
    listed = [BrandId.of(brand) for brand in (await session.execute(_LISTED)).scalars()]
    members = await audiences.people_of_brands(session, listed)
    for brand_id in members:
        key = (brand_id, PartnerRole.PROMOTER)
        counts[key] = replace(counts.get(key, Counts()), members=members[brand_id])
    rows = [_record_row(brand_id, role, each) for (brand_id, role), each in counts.items()]
    await session.execute(_STORE, {"rows": orjson.dumps(rows).decode(), "now": now})
    await session.execute(_FORGET, {"now": now})
    await session.execute(_SHOW, {"rows": orjson.dumps(_listing_rows(listed, counts)).decode()})
    return len({brand_id for brand_id, _ in counts})


async def _counts(session: AsyncSession, since: datetime, now: datetime) -> dict[Key, Counts]:
    period = {"since": since, "now": now}
    disputed: Sequence[OrderId] = await partner_facts.disputed_orders(session, since)
    clicks = {_key(row): row.clicks for row in await session.execute(_CLICKS, period)}
    sales = {_key(row): row for row in await session.execute(_SALES, {**period, "disputed": list(disputed)})}
    paid = await _punctuality(session, since, now)
    counts = {}
    for key in clicks.keys() | sales.keys() | {(brand_id, PartnerRole.ADVERTISER) for brand_id in paid}:
        sold = sales.get(key)
        due, in_time = paid.get(key[0], (0, 0)) if key[1] is PartnerRole.ADVERTISER else (0, 0)
        counts[key] = Counts(
            clicks=clicks.get(key, 0),
            orders=sold.orders if sold else 0,
            refunded_orders=sold.refunded if sold else 0,
            disputed_orders=sold.disputed if sold else 0,
            commissions_due=due,
            commissions_in_time=in_time,
            partners=sold.partners if sold else 0,
        )
    return counts


async def _punctuality(
    session: AsyncSession, since: datetime, now: datetime
) -> dict[BrandId, tuple[int, int]]:
    """By advertiser: lines that were to be paid by now, and how many of them were, in time."""
    values = {
        "since": since, "until": now - PROMISED_WITHIN, "promised": PROMISED_WITHIN,
        "oldest": since - LONGEST_COURSE,
    }  # fmt: skip
    rows = await session.execute(_PUNCTUALITY, values)
    return {BrandId.of(row.advertiser_id): (row.due, row.in_time) for row in rows}


def _key(row: Any) -> Key:
    return BrandId.of(row.brand_id), PartnerRole(row.role)


def _record_row(brand_id: BrandId, role: PartnerRole, counts: Counts) -> dict[str, Any]:
    return {
        "brand_id": brand_id.hex, "role": role.value, "clicks": counts.clicks, "orders": counts.orders,
        "refunded_orders": counts.refunded_orders, "disputed_orders": counts.disputed_orders,
        "commissions_due": counts.commissions_due, "commissions_in_time": counts.commissions_in_time,
        "partners": counts.partners, "members": counts.members,
    }  # fmt: skip


def _listing_rows(listed: Sequence[BrandId], counts: dict[Key, Counts]) -> list[dict[str, Any]]:
    rows = []
    for brand_id in listed:
        records = {role: shown(counts[brand_id, role]) for role in PartnerRole if (brand_id, role) in counts}
        rows.append({"brand_id": brand_id.hex, **listing_record(records)})
    return rows
