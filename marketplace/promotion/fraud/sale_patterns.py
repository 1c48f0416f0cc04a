"""What only many sales show: VELOCITY, TIME_TO_ORDER_FLAT, REFUND_RING and COUPON_LEAK, by sweeps over credited sales.

Each looks every so often by the clock. Refunds are compared with those of others under the same offer (an agreement
that began from none is an offer of its own), with too few of them with the advertiser's other sales, then with
everybody's; times with the advertiser's, then with everybody's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import AgreementId, BrandId, LinkId, OrderId, PromoterId
from infra.db.session import Database
from marketplace.promotion.coupons.entries import tally_exclusive
from marketplace.promotion.fraud import rules
from marketplace.promotion.fraud.progress import look, looked_until, take_turn
from marketplace.promotion.fraud.recording import Found, Parties, record
from marketplace.promotion.fraud.rules import Refunds
from marketplace.promotion.fraud.signals import Signal

VELOCITY_EVERY: Final = timedelta(minutes=5)
PATTERNS_EVERY: Final = timedelta(hours=1)
HISTORY: Final = timedelta(days=28)
REFUNDS_OVER: Final = timedelta(days=30)
ENTRIES_OVER: Final = timedelta(days=90)
_HOUR = timedelta(hours=1)
_MOST_SUBJECTS, _MOST_OTHERS = 200, 5_000

_BUSY_HOURS = text("""
SELECT agreement_id, promoter, promoter_brand_id, advertiser_id, date_trunc('hour', paid_at, 'UTC') AS hour,
    count(*) AS orders, array_agg(order_id ORDER BY paid_at, order_id) AS order_ids
FROM credited_sales WHERE paid_at >= :since AND paid_at <= :now
GROUP BY agreement_id, promoter, promoter_brand_id, advertiser_id, hour HAVING count(*) > :least
ORDER BY hour, agreement_id, promoter LIMIT :most
""")
_HOURS_BEFORE = text("""
SELECT count(*) AS orders FROM credited_sales WHERE agreement_id = :agreement AND promoter = :promoter
    AND paid_at >= :since AND paid_at < :hour GROUP BY date_trunc('hour', paid_at, 'UTC')
""")
# Who sold nothing since the last look has the times it had then.
_TIMES = text("""
SELECT agreement_id, promoter, promoter_brand_id, advertiser_id, max(window_s) AS window_s,
    array_agg(order_id ORDER BY paid_at, order_id) AS order_ids,
    array_agg(extract(epoch FROM ordered_at - touch_at)::float8) AS spans
FROM credited_sales WHERE paid_at >= :since AND paid_at <= :now
GROUP BY agreement_id, promoter, promoter_brand_id, advertiser_id
HAVING count(*) >= :least AND max(paid_at) > :looked ORDER BY agreement_id, promoter LIMIT :most
""")
_TIMES_ELSEWHERE = (
    "SELECT extract(epoch FROM ordered_at - touch_at)::float8 FROM credited_sales WHERE {which}"
    " (agreement_id, promoter) <> (:agreement, :promoter) AND paid_at >= :since AND paid_at <= :now"
    " ORDER BY paid_at DESC, order_id LIMIT :most"
)
_TIMES_OF_OFFER = text(_TIMES_ELSEWHERE.format(which="advertiser_id = :advertiser AND"))
_TIMES_OF_ALL = text(_TIMES_ELSEWHERE.format(which=""))
_BESIDE = ", ".join(
    f"(sum({what}) OVER {whose} - {what})::bigint AS {what}_{whose}"
    for whose in ("of_offer", "of_advertiser", "of_all")
    for what in ("orders", "refunded")
)
_REFUNDS = text(f"""
WITH sellers AS (
    SELECT s.agreement_id, s.promoter, s.promoter_brand_id, s.advertiser_id,
        coalesce(a.offer_id, a.id) AS offer, count(*) AS orders, count(*) FILTER (WHERE r.refunded) AS refunded
    FROM credited_sales s JOIN agreements a ON a.id = s.agreement_id
    JOIN LATERAL (SELECT bool_or(l.refunded_basis_minor > 0) AS refunded FROM commission_lines l
        WHERE l.order_id = s.order_id AND l.agreement_id = s.agreement_id) r ON true
    WHERE s.paid_at >= :since AND s.paid_at <= :now
    GROUP BY s.agreement_id, s.promoter, s.promoter_brand_id, s.advertiser_id, offer
), compared AS (
    SELECT *, {_BESIDE} FROM sellers
    WINDOW of_offer AS (PARTITION BY offer), of_advertiser AS (PARTITION BY advertiser_id), of_all AS ()
)
SELECT c.*, ARRAY(SELECT s.order_id FROM credited_sales s WHERE s.agreement_id = c.agreement_id
    AND s.promoter = c.promoter AND s.paid_at >= :since AND s.paid_at <= :now
    ORDER BY s.paid_at, s.order_id) AS order_ids
FROM compared c WHERE orders >= :least AND refunded > 0 ORDER BY agreement_id, promoter
""")
_CODES = text(
    "SELECT c.id, c.code, c.link_id, l.agreement_id, l.advertiser_id, l.promoter_brand_id,"
    " coalesce(l.promoter_id, l.promoter_brand_id) AS promoter FROM coupons c"
    " JOIN tracked_links l ON l.id = c.link_id WHERE c.id = ANY(:ids)"
)

Look = Callable[[AsyncSession, datetime, datetime], Awaitable[list[Found]]]


async def sweep_velocity(db: Database, *, clock: Clock) -> int:
    """Sweep: hours in which somebody sold far more than ever; how many. Every five minutes by the clock."""
    return await _sweep(db, "velocity", VELOCITY_EVERY, [_velocity], clock)


async def sweep_patterns(db: Database, *, clock: Clock) -> int:
    """Sweep: even times, refunds, leaked codes; how many signals. Every hour by the clock."""
    return await _sweep(db, "patterns", PATTERNS_EVERY, [_flat_times, _refund_rings, _leaked_codes], clock)


async def _sweep(db: Database, name: str, every: timedelta, looks: Sequence[Look], clock: Clock) -> int:
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        if not await take_turn(session, name):
            return 0
        looked = await looked_until(session, name)
        if looked is not None and abs(now - looked) < every:
            return 0
        since = datetime.fromtimestamp(0, UTC) if looked is None else looked
        found = [each for look_at in looks for each in await look_at(session, since, now)]
        await record(session, found, clock=clock)
        await look(session, name, now)
    return len(found)


async def _velocity(session: AsyncSession, looked: datetime, now: datetime) -> list[Found]:
    """The hours that got orders since the last look, each whole."""
    since = max(looked, now - HISTORY).replace(minute=0, second=0, microsecond=0) - _HOUR
    asked = {"since": since, "now": now, "least": rules.VELOCITY_TIMES, "most": _MOST_SUBJECTS}
    found = []
    for row in (await session.execute(_BUSY_HOURS, asked)).all():
        period = {
            "agreement": row.agreement_id, "promoter": row.promoter, "since": row.hour - HISTORY,
            "hour": row.hour,
        }  # fmt: skip
        busy = [each.orders for each in await session.execute(_HOURS_BEFORE, period)]
        hourly = busy + [0] * (HISTORY // _HOUR - len(busy))
        signal = rules.velocity(orders=row.orders, hourly=hourly)
        if signal is not None:
            found.append(_of_sales(row, signal, row.hour.isoformat()))
    return found


async def _flat_times(session: AsyncSession, looked: datetime, now: datetime) -> list[Found]:
    asked = {
        "since": now - HISTORY, "now": now, "looked": looked, "least": rules.FLAT_SALES, "most": _MOST_SUBJECTS,
    }  # fmt: skip
    found = []
    for row in (await session.execute(_TIMES, asked)).all():
        others = {
            "agreement": row.agreement_id, "promoter": row.promoter, "advertiser": row.advertiser_id,
            "since": now - HISTORY, "now": now, "most": _MOST_OTHERS,
        }  # fmt: skip
        elsewhere = (await session.execute(_TIMES_OF_OFFER, others)).scalars().all()
        if len(elsewhere) < rules.FLAT_SALES:
            elsewhere = (await session.execute(_TIMES_OF_ALL, others)).scalars().all()
        signal = rules.time_to_order_flat(row.spans, elsewhere, window_s=row.window_s)
        if signal is not None:
            found.append(_of_sales(row, signal, f"{now:%Y-%m}"))
    return found


async def _refund_rings(session: AsyncSession, looked: datetime, now: datetime) -> list[Found]:
    asked = {"since": now - REFUNDS_OVER, "now": now, "least": rules.RING_ORDERS}
    found = []
    for row in (await session.execute(_REFUNDS, asked)).all():
        others = (
            Refunds(row.orders_of_offer, row.refunded_of_offer),
            Refunds(row.orders_of_advertiser, row.refunded_of_advertiser),
            Refunds(row.orders_of_all, row.refunded_of_all),
        )
        signal = rules.refund_ring(Refunds(row.orders, row.refunded), others)
        if signal is not None:
            found.append(_of_sales(row, signal, f"{now:%Y-%m}"))
    return found


async def _leaked_codes(session: AsyncSession, looked: datetime, now: datetime) -> list[Found]:
    tallies = await tally_exclusive(session, since=now - ENTRIES_OVER, least_entries=rules.LEAK_USES)
    if not tallies:
        return []
    rows = await session.execute(_CODES, {"ids": [tally.coupon_id for tally in tallies]})
    codes = {row.id: row for row in rows}
    found = []
    for tally in tallies:
        code = codes[tally.coupon_id]
        signal = rules.coupon_leak(code.code, uses=tally.entries, without_touch=tally.strangers)
        if signal is not None:
            about = (str(tally.coupon_id), f"{now:%Y-%m}")
            link_id = LinkId.of(code.link_id)
            found.append(Found(signal, _parties(code), about, link_id=link_id, coupon_id=tally.coupon_id))
    return found


def _of_sales(row: Any, signal: Signal, when: str) -> Found:
    """A signal about all these sales of one promoter; ``when`` tells it from one of another time."""
    orders = tuple([str(OrderId.of(each)) for each in row.order_ids])
    named = Signal(signal.rule, signal.evidence, signal.threshold, (), orders)
    return Found(named, _parties(row), (row.promoter.hex, when))


def _parties(row: Any) -> Parties:
    brand = BrandId.of(row.promoter_brand_id)
    promoter = brand if row.promoter == row.promoter_brand_id else PromoterId.of(row.promoter)
    return Parties(BrandId.of(row.advertiser_id), brand, AgreementId.of(row.agreement_id), promoter)
