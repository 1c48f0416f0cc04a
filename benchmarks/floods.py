"""The click sweeps over a million touches, beside counting those touches on the same server.

    .venv/bin/python -m benchmarks.floods [--touches 1000000] [--sources 5000]

All touches lie in ten minutes of one day: 100 links of 50 placements, 20,000 networks with 60 agents, and one in fifty
of them a script's that clicks one link from one network and agent. Measured is the wall time of the two sweeps until
nothing is left, their signals, exclusions and holds written; the yardstick is `SELECT count(*)` over the same rows.
The next day 5,000 networks click thirty times within a minute each, together: as many signals in one look.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime

from benchmarks.frame import Beside, Measured, Options, lines_of
from benchmarks.servers import Platform, database_only
from core.clock import FixedClock
from infra.db.session import Database, make_engine
from infra.embedded.postgres import DEFAULT_DATABASE
from marketplace.promotion.fraud.click_floods import Sweep, sweep_bursts, sweep_hollow_days

TOUCHES, SOURCES = 1_000_000, 5_000
_NEXT_DAY = datetime(2026, 3, 3, 1, tzinfo=UTC)
_COUNTS = 3
# Triggers and foreign keys are off for this one transaction: an agreement and links are all the sweeps look at.
FILL = """
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO agreements (id, invitation_id, advertiser_id, promoter_brand_id, status, current_version, created_at)
    VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), '00000000-0000-7000-8000-000000000002',
        '00000000-0000-7000-8000-000000000003', 'ACTIVE', 1, '2026-03-01');
INSERT INTO tracked_links (id, code, agreement_id, advertiser_id, promoter_brand_id, community_id, placement_id,
        destination, status, created_at, revision)
    SELECT ('00000000-0000-7000-8001-' || lpad(n::text, 12, '0'))::uuid, 'code' || n,
        '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002',
        '00000000-0000-7000-8000-000000000003', uuidv7(),
        ('00000000-0000-7000-8002-' || lpad((n % 50)::text, 12, '0'))::uuid, 'https://x', 'ACTIVE', '2026-03-01', n
    FROM generate_series(0, 99) AS n;
INSERT INTO touches (id, link_id, agreement_id, advertiser_id, promoter_brand_id, at, kind, session_key, is_bot,
        ip_prefix_hash, user_agent_hash)
    SELECT uuidv7(),
        ('00000000-0000-7000-8001-' || lpad((CASE WHEN script THEN 7 ELSE n % 100 END)::text, 12, '0'))::uuid,
        '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002',
        '00000000-0000-7000-8000-000000000003', timestamptz '2026-03-02 12:00+00' + n * interval '10 min' / {touches},
        'click', int4send((n % 400000)::int), false,
        CASE WHEN script THEN '\\x01' ELSE int4send((random() * 20000)::int) END,
        CASE WHEN script THEN '\\x02' ELSE int4send((random() * 60)::int) END
    FROM (SELECT n, n % 50 = 0 AS script FROM generate_series(0::bigint, {touches} - 1) AS n) x;
COMMIT;
ANALYZE;
"""
FROM_EVERYWHERE = """
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO touches (id, link_id, agreement_id, advertiser_id, promoter_brand_id, at, kind, session_key, is_bot,
        ip_prefix_hash, user_agent_hash)
    SELECT uuidv7(), ('00000000-0000-7000-8001-' || lpad((source % 100)::text, 12, '0'))::uuid,
        '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002',
        '00000000-0000-7000-8000-000000000003',
        timestamptz '2026-03-03 12:00+00' + source * interval '1 min' / {sources} + click * interval '1 s',
        'click', int4send(source * 100 + click), false, int4send(source), '\\x02'
    FROM generate_series(0, {sources} - 1) AS source, generate_series(1, 30) AS click;
COMMIT;
ANALYZE;
"""


def floods(options: Options, *, touches: int = TOUCHES, sources: int = SOURCES) -> list[Measured]:
    """The sweeps go over everything there is, once: nothing of ``options`` changes them."""
    with database_only() as platform:
        started = time.monotonic()
        platform.postgres.execute(FILL.format(touches=touches), database=DEFAULT_DATABASE)
        print(f"{touches:,} touches laid in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        counted = _counted(platform)
        taken = {
            "bursts": _swept(platform, sweep_bursts, at=datetime(2026, 3, 2, 12, 11, tzinfo=UTC)),
            "hollow days": _swept(platform, sweep_hollow_days, at=_NEXT_DAY),
        }
        found = platform.postgres.execute("SELECT count(*) FROM excluded_touches", database=DEFAULT_DATABASE)
        platform.postgres.execute(FROM_EVERYWHERE.format(sources=sources), database=DEFAULT_DATABASE)
        everywhere = _swept(platform, sweep_bursts, at=datetime(2026, 3, 3, 12, 11, tzinfo=UTC))
        raised = platform.postgres.execute("SELECT count(*) FROM fraud_signals", database=DEFAULT_DATABASE)
    if int(raised) != sources + 1:
        raise SystemExit(f"{raised} signals of {sources + 1} floods")
    print(f"{int(found):,} clicks excluded", file=sys.stderr, flush=True)
    return [
        Measured(
            "floods", f"bursts from {sources:,} sources: their signals in {everywhere:.2f} s", 1, sources,
            sources / everywhere, beside=[Beside("counting all touches", counted, [everywhere / counted], unit=" s")],
        )
    ] + [
        Measured(
            "floods", f"{name}: {touches:,} touches in {seconds:.2f} s", 1, touches, touches / seconds,
            beside=[Beside("counting them", counted, [seconds / counted], unit=" s")],
        )
        for name, seconds in taken.items()
    ]  # fmt: skip


def _counted(platform: Platform) -> float:
    times = []
    for _ in range(_COUNTS):
        started = time.monotonic()
        platform.postgres.execute("SELECT count(*) FROM touches WHERE NOT is_bot", database=DEFAULT_DATABASE)
        times.append(time.monotonic() - started)
    return sorted(times)[_COUNTS // 2]


def _swept(platform: Platform, sweep: Sweep, *, at: datetime) -> float:
    async def run() -> float:
        db = Database(make_engine(platform.application_url(), pool_size=1))
        clock, started = FixedClock(at), time.monotonic()
        while await sweep(db, clock=clock):
            pass
        seconds = time.monotonic() - started
        await db.close()
        return seconds

    return asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--touches", type=int, default=TOUCHES)
    parser.add_argument("--sources", type=int, default=SOURCES)
    given = parser.parse_args()
    print("\n".join(lines_of(floods(Options(), touches=given.touches, sources=given.sources))))


if __name__ == "__main__":
    main()
