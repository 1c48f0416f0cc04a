"""Keeps what every link brings by day, exactly: each visit and each state of a sale is counted once.

Rows carry the transaction that wrote them, and the last snapshot that was counted is kept. A round asks for what its
own snapshot shows and that one did not. So nothing that commits late is missed, nothing is counted twice whatever order
it came in, and a long transaction elsewhere holds nobody up. Visits are added to their day; sales change afterwards
(refunds, releases, payouts), so a day of a link in which one changed is summed anew. One counter at a time writes.

Rules: docs/rules/cps.md §7. Days are of UTC; the first five columns of a row name it, the others are sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import LinkId
from infra.db.base import table_of
from infra.db.session import Database
from marketplace.insights.models import LinkPerformance, Source

NO_CURRENCY = "XXX"
"""ISO 4217's code where no currency is involved."""

_KEY = ("link_id", "day", "currency", "advertiser_id", "promoter_brand_id")
_VISITS = ("clicks", "unique_clicks", "scans", "leads", "bots")
_EXCLUDED = "excluded_visits"
_SALES = tuple(
    c.name for c in table_of(LinkPerformance).columns if c.name not in (*_KEY, *_VISITS, _EXCLUDED)
)

_ONE_COUNTER = text("SELECT pg_try_advisory_xact_lock(hashtextextended('link_performance', 23))")
_IN_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('link_performance', 23))")
_SEEN = text("SELECT source, seen FROM performance_counted")
# Both come as values, so that the planner sees how little lies behind them.
_UNSEEN = (
    "{row}.txid >= CAST(CAST(:oldest AS text) AS xid8)"
    " AND NOT pg_visible_in_snapshot({row}.txid, CAST(CAST(:seen AS text) AS pg_snapshot))"
)
_NOW_SEEN = (
    "UPDATE performance_counted SET seen = pg_current_snapshot()::text WHERE source = '{source}'"
    " RETURNING (SELECT count(*) FROM counted)"
)
_DAY_OF = "CAST({at} AT TIME ZONE 'UTC' AS date)"
_OF_DAY = (
    "{at} >= CAST({day} AS timestamp) AT TIME ZONE 'UTC'"
    " AND {at} < CAST({day} + 1 AS timestamp) AT TIME ZONE 'UTC'"
)

_SUM_VISITS = (
    f"SELECT t.link_id, {_DAY_OF.format(at='t.at')} AS day, '{NO_CURRENCY}' AS currency,"
    " t.advertiser_id, t.promoter_brand_id,"
    " count(*) FILTER (WHERE t.kind = 'click' AND NOT t.is_bot) AS clicks,"
    " count(*) FILTER (WHERE t.kind = 'click' AND NOT t.is_bot AND t.duplicate_of IS NULL) AS unique_clicks,"
    " count(*) FILTER (WHERE t.kind = 'scan' AND NOT t.is_bot AND t.duplicate_of IS NULL) AS scans,"
    " count(*) FILTER (WHERE t.kind = 'lead' AND t.duplicate_of IS NULL) AS leads,"
    " count(*) FILTER (WHERE t.is_bot) AS bots"
    " FROM touches t WHERE {which} GROUP BY 1, 2, 4, 5"
)
# One line of a sale closes at one link, and counts there; the other winners of it assisted, and have their commission.
_SUM_SALES = """
closed AS (
    SELECT l.id, l.link_id, s.day, l.currency, l.advertiser_id, l.promoter_brand_id, l.status, l.order_id,
        l.agreement_id, l.opens_order, l.new_customer, l.gross_minor, l.basis_minor, l.refunded_basis_minor,
        l.adjustment_minor,
        l.opens_order AND EXISTS (SELECT FROM commission_lines o WHERE o.order_id = l.order_id
            AND o.agreement_id = l.agreement_id AND o.refunded_basis_minor > 0) AS refunded
    FROM stale s JOIN commission_lines l ON l.link_id = s.link_id AND {of_day}
), earned AS (
    SELECT c.link_id, c.day, c.currency, c.advertiser_id, c.promoter_brand_id, c.status, NULL::uuid AS order_id,
        c.agreement_id, s.role, s.earned_minor, s.reversed_minor, s.denied_minor
    FROM closed c JOIN commission_shares s ON s.commission_line_id = c.id AND s.link_id IS NULL
    UNION ALL
    SELECT a.link_id, a.day, l.currency, l.advertiser_id, l.promoter_brand_id, l.status, l.order_id,
        l.agreement_id, s.role, s.earned_minor, s.reversed_minor, s.denied_minor
    FROM stale a JOIN commission_shares s ON s.link_id = a.link_id
    JOIN commission_lines l ON l.id = s.commission_line_id AND {of_day_assisted}
), sold AS (
    SELECT link_id, day, currency, advertiser_id, promoter_brand_id,
        count(*) FILTER (WHERE opens_order) AS orders,
        count(*) FILTER (WHERE opens_order AND new_customer) AS new_customer_orders,
        count(*) FILTER (WHERE refunded) AS refunded_orders, sum(gross_minor) AS gross_minor,
        sum(basis_minor) AS basis_minor, sum(refunded_basis_minor) AS refunded_basis_minor,
        sum(adjustment_minor) AS adjustment_minor
    FROM closed GROUP BY 1, 2, 3, 4, 5
), commission AS (
    SELECT link_id, day, currency, advertiser_id, promoter_brand_id,
        count(DISTINCT (order_id, agreement_id)) FILTER (WHERE order_id IS NOT NULL) AS assisted_orders,
        sum(earned_minor - reversed_minor - denied_minor) FILTER (WHERE status = 'PENDING') AS pending_minor,
        sum(earned_minor - reversed_minor - denied_minor)
            FILTER (WHERE status IN ('CONFIRMED', 'PAYABLE')) AS confirmed_minor,
        sum(earned_minor - reversed_minor - denied_minor) FILTER (WHERE status = 'PAID') AS paid_minor,
        sum(CASE WHEN status = 'INVALID' THEN earned_minor - reversed_minor ELSE denied_minor END) AS invalid_minor,
        sum(CASE WHEN status = 'REVERSED' THEN earned_minor - denied_minor ELSE reversed_minor END)
            AS reversed_minor,
        sum(earned_minor - reversed_minor - denied_minor)
            FILTER (WHERE role = 'platform' AND status NOT IN ('INVALID', 'REVERSED')) AS fee_minor
    FROM earned GROUP BY 1, 2, 3, 4, 5
), summed AS (
    SELECT link_id, day, currency, advertiser_id, promoter_brand_id, {sales}
    FROM sold FULL JOIN commission USING (link_id, day, currency, advertiser_id, promoter_brand_id)
)""".format(
    of_day=_OF_DAY.format(at="l.sold_at", day="s.day"),
    of_day_assisted=_OF_DAY.format(at="l.sold_at", day="a.day"),
    sales=", ".join(f"CAST(coalesce({name}, 0) AS bigint) AS {name}" for name in _SALES),
)
_COUNT_VISITS = text(
    f"WITH fresh AS ({_SUM_VISITS.format(which=_UNSEEN.format(row='t'))}),"
    f" counted AS (INSERT INTO link_performance AS p ({', '.join((*_KEY, *_VISITS))}) SELECT * FROM fresh"
    " ON CONFLICT (link_id, day, currency) DO UPDATE SET "
    + ", ".join(f"{name} = p.{name} + excluded.{name}" for name in _VISITS)
    + f" RETURNING 1) {_NOW_SEEN.format(source=Source.TOUCHES)}"
)
# A refund of one line changes what its order's first line counts; a winner that assisted has its own link.
_STALE = (
    "changed AS (SELECT DISTINCT l.order_id FROM commission_lines l WHERE {unseen}),"
    " touched AS (SELECT l.id, l.link_id, {day} AS day FROM changed c JOIN commission_lines l USING (order_id)),"
    " stale AS (SELECT link_id, day FROM touched UNION SELECT s.link_id, t.day FROM touched t"
    " JOIN commission_shares s ON s.commission_line_id = t.id AND s.link_id IS NOT NULL)"
).format(unseen=_UNSEEN.format(row="l"), day=_DAY_OF.format(at="l.sold_at"))
_WRITE_SALES = (
    f"INSERT INTO link_performance ({', '.join((*_KEY, *_SALES))}) SELECT {', '.join((*_KEY, *_SALES))} FROM summed"
    " ON CONFLICT (link_id, day, currency) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _SALES)
    + " RETURNING 1"
)
_COUNT_SALES = text(
    f"WITH {_STALE}, {_SUM_SALES}, counted AS ({_WRITE_SALES}) {_NOW_SEEN.format(source=Source.SALES)}"
)

# What a rule of fraud excludes, or a person lets in again, is counted anew for its day and link.
_COUNTS = "t.kind IN ('click', 'scan') AND NOT t.is_bot AND t.duplicate_of IS NULL AND e.lifted_at IS NULL"
_COUNT_EXCLUSIONS = text(
    f"WITH changed AS (SELECT DISTINCT t.link_id, {_DAY_OF.format(at='t.at')} AS day FROM excluded_touches e"
    f"  JOIN touches t ON t.id = e.touch_id WHERE {_UNSEEN.format(row='e')}),"
    f" counted AS (INSERT INTO link_performance ({', '.join((*_KEY, _EXCLUDED))})"
    f"  SELECT c.link_id, c.day, '{NO_CURRENCY}', l.advertiser_id, l.promoter_brand_id,"
    "   (SELECT count(DISTINCT t.id) FROM touches t JOIN excluded_touches e ON e.touch_id = t.id"
    f"    WHERE t.link_id = c.link_id AND {_OF_DAY.format(at='t.at', day='c.day')} AND {_COUNTS})"
    "  FROM changed c JOIN tracked_links l ON l.id = c.link_id"
    f"  ON CONFLICT (link_id, day, currency) DO UPDATE SET {_EXCLUDED} = excluded.{_EXCLUDED} RETURNING 1)"
    f" {_NOW_SEEN.format(source=Source.EXCLUSIONS)}"
)

# The same sums from the raw rows of some days alone, as far as they have been counted.
_BETWEEN = (
    "{at} >= CAST(CAST(:since AS date) AS timestamp) AT TIME ZONE 'UTC'"
    " AND {at} < CAST(CAST(:until AS date) AS timestamp) AT TIME ZONE 'UTC'"
)
_VISITS_OF_DAYS = _SUM_VISITS.format(
    which=_BETWEEN.format(at="t.at") + " AND pg_visible_in_snapshot(t.txid,"
    f" (SELECT seen::pg_snapshot FROM performance_counted WHERE source = '{Source.TOUCHES}'))"
)
_STALE_DAYS = (
    "stale AS (SELECT l.link_id, {day} AS day FROM commission_lines l WHERE {between}"
    " UNION SELECT s.link_id, {day} FROM commission_lines l JOIN commission_shares s"
    " ON s.commission_line_id = l.id AND s.link_id IS NOT NULL WHERE {between})"
).format(day=_DAY_OF.format(at="l.sold_at"), between=_BETWEEN.format(at="l.sold_at"))
_RAW = (
    f"WITH {_STALE_DAYS}, {_SUM_SALES}, visited AS ({_VISITS_OF_DAYS}),"
    f" shut AS (SELECT t.link_id, {_DAY_OF.format(at='t.at')} AS day, count(DISTINCT t.id) AS {_EXCLUDED}"
    "  FROM touches t JOIN excluded_touches e ON e.touch_id = t.id"
    f"  WHERE {_BETWEEN.format(at='t.at')} AND {_COUNTS} GROUP BY 1, 2),"
    f" raw AS (SELECT {', '.join((*_KEY, *_VISITS))}, coalesce({_EXCLUDED}, 0) AS {_EXCLUDED},"
    f"  {', '.join(f'0 AS {name}' for name in _SALES)} FROM visited LEFT JOIN shut USING (link_id, day)"
    f" UNION ALL SELECT {', '.join((*_KEY, *(f'0 AS {name}' for name in (*_VISITS, _EXCLUDED)), *_SALES))} FROM summed)"
)
_EVERYTHING = ", ".join((*_KEY, *_VISITS, _EXCLUDED, *_SALES))
_DIFFERENCES = text(
    f"{_RAW}, kept AS (SELECT {_EVERYTHING} FROM link_performance"
    " WHERE day >= CAST(:since AS date) AND day < CAST(:until AS date)),"
    f" wrong AS ((SELECT {_EVERYTHING} FROM raw EXCEPT SELECT {_EVERYTHING} FROM kept)"
    f" UNION ALL (SELECT {_EVERYTHING} FROM kept EXCEPT SELECT {_EVERYTHING} FROM raw))"
    " SELECT DISTINCT link_id, day, currency FROM wrong ORDER BY 2, 1, 3 LIMIT :limit"
)
_REBUILD = text(
    f"{_RAW}, gone AS (DELETE FROM link_performance p WHERE day >= CAST(:since AS date) AND day < CAST(:until AS date)"
    " AND NOT EXISTS (SELECT FROM raw r WHERE (r.link_id, r.day, r.currency) = (p.link_id, p.day, p.currency))),"
    f" written AS (INSERT INTO link_performance AS p ({_EVERYTHING}) SELECT {_EVERYTHING} FROM raw"
    " ON CONFLICT (link_id, day, currency) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*_VISITS, _EXCLUDED, *_SALES))
    + " RETURNING 1) SELECT count(*) FROM written"
)
_DAYS = text(
    "SELECT least((SELECT min(at) FROM touches), (SELECT min(sold_at) FROM commission_lines)) AS first,"
    " greatest((SELECT max(at) FROM touches), (SELECT max(sold_at) FROM commission_lines)) AS last"
)
_ROUND = (
    (Source.TOUCHES, _COUNT_VISITS),
    (Source.SALES, _COUNT_SALES),
    (Source.EXCLUSIONS, _COUNT_EXCLUSIONS),
)
MOST_DIFFERENCES = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not what the raw rows come to."""

    link_id: LinkId
    day: date
    currency: str


async def keep_performance(db: Database, *, clock: Clock) -> int:
    """Sweep: count what came since the last round. Always 0: what comes meanwhile is for the next round."""
    async with db.unit_of_work(SYSTEM) as session:
        if await session.scalar(_ONE_COUNTER):
            await count(session)
    return 0


async def count(session: AsyncSession) -> int:
    """Count what no earlier round saw; how many rows of sums that wrote. Four statements, whatever there is.

    The caller is the only counter, in a SYSTEM session.
    """
    seen = {row.source: row.seen for row in await session.execute(_SEEN)}
    written = 0
    for source, statement in _ROUND:
        values = {"seen": seen[source], "oldest": seen[source].partition(":")[0]}
        written += int((await session.execute(statement, values)).scalar_one())
    return written


async def catch_up(session: AsyncSession) -> int:
    """``count`` for whoever is not the sweep: takes its turn."""
    await session.execute(_IN_TURN)
    return await count(session)


async def differences(session: AsyncSession, *, since: date, until: date) -> list[Difference]:
    """Rows of the days [since, until) that the raw rows say otherwise, at most 1,000. Needs a SYSTEM session.

    Sales that no round has counted yet are differences; visits are compared as far as they were counted.
    """
    values = {"since": since, "until": until, "limit": MOST_DIFFERENCES}
    return [_difference(row) for row in await session.execute(_DIFFERENCES, values)]


async def rebuild(session: AsyncSession, *, since: date, until: date) -> int:
    """Write the days [since, until) from the raw rows; how many rows they have. Needs a SYSTEM session.

    Takes its turn with the counter, and leaves to it what came since its last round.
    """
    await session.execute(_IN_TURN)
    return int((await session.execute(_REBUILD, {"since": since, "until": until})).scalar_one())


async def counted_days(session: AsyncSession) -> tuple[date, date] | None:
    """The first and the last day (UTC) on which anything happened."""
    row = (await session.execute(_DAYS)).one()
    return None if row.first is None else (row.first.date(), row.last.date())


def _difference(row: Row[Any]) -> Difference:
    return Difference(LinkId.of(row.link_id), row.day, row.currency)
