"""CLICK_FLOOD over all clicks: bursts of one source within a minute, and days of a placement without buyers.

Both are set-based and go from where they stopped, a stretch of time per call. The bursts are found by the database with
the arithmetic of ``rules.click_flood`` (a test holds one against the other): at a thousand clicks a second nobody
wants to see them all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import AgreementId, BrandId, PlacementId, PromoterId, TouchId
from infra.db.session import Database
from marketplace.promotion.fraud import rules
from marketplace.promotion.fraud.on_credit import flood_of
from marketplace.promotion.fraud.progress import look, looked_until, take_turn
from marketplace.promotion.fraud.recording import Found, Parties, record
from marketplace.promotion.fraud.signals import Rule, Signal

Sweep = Callable[..., Awaitable[int]]
STRETCH = timedelta(minutes=10)
"""Of clicks per call; longer where there are none."""
AT_LEAST = timedelta(seconds=5)
"""Less than so much new is left for the next call."""
ARRIVING = timedelta(seconds=5)
"""A click is in the database so soon, or comes home from the edge's spool later: then the order it wins is looked at
by itself (on_credit.py)."""
DAY_CLOSES = timedelta(minutes=10)
HISTORY_DAYS = 28
_BURSTS, _DAYS = "click_bursts", "click_days"
_DAY = timedelta(days=1)

_FIRST = text("SELECT min(at) FROM touches")
_ANY = text("SELECT EXISTS (SELECT FROM touches WHERE at >= :since AND at < :until)")
_FLOODS = text("""
WITH sources AS MATERIALIZED (
    SELECT link_id, ip_prefix_hash, user_agent_hash FROM touches
    WHERE at >= :since AND at < :until AND NOT is_bot AND ip_prefix_hash IS NOT NULL
        AND user_agent_hash IS NOT NULL AND agreement_id IS NOT NULL
    GROUP BY link_id, ip_prefix_hash, user_agent_hash HAVING count(*) >= :most
), counted AS (
    SELECT t.id, t.link_id, t.ip_prefix_hash, t.user_agent_hash, t.at, count(*) OVER before AS crowd
    FROM touches t WHERE t.at >= :since AND t.at < :until AND NOT t.is_bot
        AND (t.link_id, t.ip_prefix_hash, t.user_agent_hash) IN (SELECT * FROM sources)
    WINDOW before AS (PARTITION BY t.link_id, t.ip_prefix_hash, t.user_agent_hash ORDER BY t.at
        RANGE BETWEEN CAST(:within AS interval) PRECEDING AND CURRENT ROW)
), crowded AS (
    -- When the source's next crowded minute ends: looked for backwards, so that no click is looked at twice.
    SELECT c.*, min(at) FILTER (WHERE crowd >= :most) OVER (PARTITION BY link_id, ip_prefix_hash, user_agent_hash
        ORDER BY at DESC) AS crowded_at FROM counted c
), floods AS (
    SELECT link_id, ip_prefix_hash, user_agent_hash, (at AT TIME ZONE 'UTC')::date AS day, array_agg(id) AS ids,
        count(*) AS clicks, max(crowd) AS peak, min(at) AS first, max(at) AS last
    FROM crowded WHERE crowded_at - at <= CAST(:within AS interval) GROUP BY 1, 2, 3, 4
)
SELECT f.*, l.agreement_id, l.advertiser_id, l.promoter_brand_id, l.promoter_id
FROM floods f JOIN tracked_links l ON l.id = f.link_id ORDER BY f.link_id, f.first
""")
_COUNT_DAY = text("""
INSERT INTO click_days (placement_id, agreement_id, day, clicks)
SELECT l.placement_id, t.agreement_id, :day, count(*) FROM touches t JOIN tracked_links l ON l.id = t.link_id
WHERE t.at >= :since AND t.at < :until AND NOT t.is_bot AND t.duplicate_of IS NULL AND t.agreement_id IS NOT NULL
    AND t.kind IN ('click', 'scan') GROUP BY l.placement_id, t.agreement_id
ON CONFLICT (placement_id, agreement_id, day) DO UPDATE SET clicks = excluded.clicks
""")
_SUSPECTS = text("""
SELECT d.placement_id, d.agreement_id, d.clicks, a.advertiser_id, a.promoter_brand_id,
    (SELECT min(h.day) FROM click_days h WHERE h.placement_id = d.placement_id AND h.agreement_id = d.agreement_id)
        AS first_day,
    ARRAY(SELECT h.clicks FROM click_days h WHERE h.placement_id = d.placement_id
        AND h.agreement_id = d.agreement_id AND h.day < d.day AND h.day >= d.day - CAST(:days AS int)) AS history,
    (SELECT count(*) FROM credited_sales s WHERE s.placement_id = d.placement_id
        AND s.agreement_id = d.agreement_id AND s.touch_at >= :since AND s.touch_at < :until) AS orders
FROM click_days d JOIN agreements a ON a.id = d.agreement_id
WHERE d.day = :day AND d.clicks >= :least ORDER BY d.placement_id, d.agreement_id
""")
_CLICKS_OF_DAY = text(
    "SELECT t.id FROM touches t JOIN tracked_links l ON l.id = t.link_id WHERE t.at >= :since AND t.at < :until"
    " AND l.placement_id = :placement AND t.agreement_id = :agreement AND NOT t.is_bot"
    " AND t.kind IN ('click', 'scan')"
)


async def sweep_bursts(db: Database, *, clock: Clock) -> int:
    """Sweep: exclude the clicks of bursts. One stretch a call; 0 when there is nothing left to look at."""
    horizon = clock.now() - ARRIVING
    async with db.unit_of_work(SYSTEM) as session:
        if not await take_turn(session, _BURSTS):
            return 0
        since = await looked_until(session, _BURSTS) or await session.scalar(_FIRST)
        if since is None or horizon - since < AT_LEAST:
            return 0
        until = await _stretch(session, since, horizon)
        found = await _floods(session, since - rules.FLOOD_WITHIN, until)
        await record(session, found, clock=clock)
        await look(session, _BURSTS, until)
    return len(found) + (until < horizon)


async def _stretch(session: AsyncSession, since: datetime, horizon: datetime) -> datetime:
    """To where this call looks: a stretch with clicks in it, or all there is."""
    length = STRETCH
    while (until := min(since + length, horizon)) < horizon:
        if await session.scalar(_ANY, {"since": since, "until": until}):
            break
        length *= 2
    return until


async def _floods(session: AsyncSession, since: datetime, until: datetime) -> list[Found]:
    asked = {
        "since": since, "until": until, "most": rules.FLOOD_CLICKS,
        "within": rules.FLOOD_WITHIN - timedelta(microseconds=1),
    }  # fmt: skip
    found = []
    for row in await session.execute(_FLOODS, asked):
        signal = Signal(
            Rule.CLICK_FLOOD,
            rules.flood_evidence(row.clicks, row.peak, row.first, row.last),
            rules.FLOOD_THRESHOLD,
            touch_ids=tuple([str(TouchId.of(each)) for each in row.ids]),
        )
        found.append(flood_of(_parties(row, row.promoter_id), row, signal))
    return found


async def sweep_hollow_days(db: Database, *, clock: Clock) -> int:
    """Sweep: a day that has ended is counted and held against the days before. One day a call."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        if not await take_turn(session, _DAYS):
            return 0
        since = await looked_until(session, _DAYS)
        if since is None:
            first = await session.scalar(_FIRST)
            since = None if first is None else _midnight(first.astimezone(UTC).date())
        if since is None or now < since + _DAY + DAY_CLOSES:
            return 0
        found = await _hollow(session, since.astimezone(UTC).date())
        await record(session, found, clock=clock)
        await look(session, _DAYS, since + _DAY)
    return 1


async def _hollow(session: AsyncSession, day: date) -> list[Found]:
    since = _midnight(day)
    period = {"since": since, "until": since + _DAY}
    await session.execute(_COUNT_DAY, {**period, "day": day})
    asked = {**period, "day": day, "days": HISTORY_DAYS, "least": rules.HOLLOW_CLICKS}
    found = []
    for row in (await session.execute(_SUSPECTS, asked)).all():
        placement = PlacementId.of(row.placement_id)
        history = _with_quiet_days(row.history, (day - row.first_day).days)
        signal = rules.hollow_clicks(str(placement), clicks=row.clicks, orders=row.orders, history=history)
        if signal is None:
            continue
        where = {**period, "placement": row.placement_id, "agreement": row.agreement_id}
        clicks = (await session.execute(_CLICKS_OF_DAY, where)).scalars().all()
        named = Signal(
            signal.rule, {**signal.evidence, "day": day.isoformat()}, signal.threshold,
            touch_ids=tuple([str(TouchId.of(each)) for each in clicks]),
        )  # fmt: skip
        about = (str(placement), day.isoformat())
        found.append(Found(named, _parties(row, None), about, placement_id=placement))
    return found


def _with_quiet_days(history: Sequence[int], known_days: int) -> list[int]:
    """Days without a click since the first one count, too."""
    return [*history, *[0] * (min(known_days, HISTORY_DAYS) - len(history))]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _parties(row: Any, promoter_id: Any) -> Parties:
    brand = BrandId.of(row.promoter_brand_id)
    promoter = brand if promoter_id is None else PromoterId.of(promoter_id)
    return Parties(BrandId.of(row.advertiser_id), brand, AgreementId.of(row.agreement_id), promoter)
