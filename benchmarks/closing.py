"""Closing a month: a million commission lines of 50,000 payees, beside TPC-B on the same server.

    .venv/bin/python -m benchmarks.closing [--lines 1000000] [--payees 50000] [--closers 2]

Every line is an order of its own, paid in the month: an order, its line, the promoter's part of it, and a journal
with two legs. The figure is wall time from the moment the closers are connected to the last one's end: every entry
read with its journal, order, SKU and rate, every document written, hashed, chained and stored durably. Then one in a
thousand is computed again from the ledger and compared byte by byte, and all are closed a second time.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import uvloop

from benchmarks.frame import Beside, Goal, Measured, Options, lines_of
from benchmarks.load import Cpu, counting, pgbench
from benchmarks.servers import BENCH, Platform, database_only
from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import StatementId
from infra.db.session import Database, make_engine
from infra.embedded.postgres import DEFAULT_DATABASE
from supply.settlement.statements.closing import close_due_statements, recompute_statement

LINES, PAYEES, CLOSERS = 1_000_000, 50_000, 2
LIMIT_S = 60.0
CLOSED_AT = datetime(2026, 4, 1, 1, tzinfo=UTC)
CLIENTS = 8
_CHECKED_OF = 1_000
READY = "ready\n"

# Rows as capture leaves them, without a million calls of post_batch: triggers and foreign keys are off for this one
# transaction. Amounts: 15 % of 10.00 to 210.00.
FILL = """
ALTER SYSTEM SET autovacuum = off;
SELECT pg_reload_conf();
BEGIN;
SET LOCAL session_replication_role = replica;
SET LOCAL work_mem = '256MB';
CREATE TEMPORARY TABLE sale ON COMMIT DROP AS
    SELECT i, 1 + floor(random() * {payees})::int AS party, uuidv7() AS order_id, uuidv7() AS line_id,
        uuidv7() AS order_line_id, uuidv7() AS journal_id, (1000 + random() * 20000)::bigint AS goods,
        timestamptz '2026-03-01' + random() * interval '30 days' AS at
    FROM generate_series(1, {lines}) AS i;
CREATE TEMPORARY TABLE party ON COMMIT DROP AS
    SELECT n, gen_random_uuid() AS account_id, 'pro_' || lpad(n::text, 26, '0') AS id
    FROM generate_series(1, {payees}) AS n;
INSERT INTO ledger_accounts (id, code, owner, currency, side, strict)
    SELECT account_id, 2000, 'party:' || id, 'CNY', -1, true FROM party;
INSERT INTO ledger_accounts (id, code, owner, currency, side, strict)
    VALUES ('00000000-0000-4000-8000-000000000001', 1000, 'psp:stripe', 'CNY', 1, false);
INSERT INTO split_orders (order_id, merchant_id, currency, provider, charge_id, tax_jurisdiction, paid_at,
        return_window_days, captured_minor, refunded_minor, releases, number, goodwill_minor)
    SELECT order_id, '00000000-0000-7000-8000-000000000009', 'CNY', 'stripe', 'ch_' || i, 'CN', at, 15, goods, 0, 0,
        'LY' || i, 0 FROM sale;
INSERT INTO split_lines (id, order_id, order_line_id, merchant_id, supplier_id, kind, quantity, charged_minor,
        basis_minor, settlement_days, returned_quantity, accepted_quantity, by_quantity_minor, by_value_minor,
        delivered_quantity, open_holds, sku, captured_minor, discounts)
    SELECT line_id, order_id, order_line_id, '00000000-0000-7000-8000-000000000009',
        '00000000-0000-7000-8000-000000000008', 'goods', 1, goods, goods, 7, 0, 0, 0, 0, 0, 0, 'SKU-' || i % 5000,
        goods, '{{}}' FROM sale;
INSERT INTO split_parts (line_id, seat, part, order_id, merchant_id, payee_id, amount_minor, by_line_minor,
        by_amount_minor, pending_minor, released_minor, due_at, captured_minor, captured_payee, agreement, rate_ppm)
    SELECT s.line_id, 'individual', 'individual', s.order_id, '00000000-0000-7000-8000-000000000009', p.id,
        s.goods * 15 / 100, 0, 0, s.goods * 15 / 100, 0, s.at + interval '45 days', s.goods * 15 / 100, p.id,
        'agr_00000000000000000000000001/1', 150000
    FROM sale s JOIN party p ON p.n = s.party;
INSERT INTO ledger_journals (id, idem, body_hash, kind, order_id, provider_ref, effective_at, posted_at)
    SELECT journal_id, 'capture:ch_' || i, '', 'capture', order_id, 'ch_' || i, at, at FROM sale ORDER BY journal_id;
INSERT INTO ledger_entries (journal_id, leg, account_id, currency, amount_minor, txid, balance_after)
    SELECT s.journal_id, leg, CASE leg WHEN 1 THEN '00000000-0000-4000-8000-000000000001' ELSE p.account_id END, 'CNY',
        CASE leg WHEN 1 THEN 1 ELSE -1 END * (s.goods * 15 / 100), pg_current_xact_id(),
        CASE leg WHEN 2 THEN sum(s.goods * 15 / 100) OVER (PARTITION BY s.party, leg ORDER BY s.at, s.journal_id) END
    FROM sale s JOIN party p ON p.n = s.party, generate_series(1, 2) AS leg;
INSERT INTO ledger_balances (account_id, side, strict, posted_minor, version, rolled_to)
    SELECT a.id, a.side, a.strict, abs(sum(e.amount_minor)), count(*), '0' FROM ledger_accounts a
    JOIN ledger_entries e ON e.account_id = a.id GROUP BY a.id;
INSERT INTO settlement_terms (payee_id, currency, cycle, time_zone, reserve_ppm, reserve_days, legal_name, tax_id,
        open_from, due_at)
    SELECT id, 'CNY', 'monthly', 'UTC', 0, 0, '', '', '2026-03-01', '2026-04-01' FROM party;
COMMIT;
VACUUM ANALYZE;
CHECKPOINT;
"""
_LINES_IN = """
SELECT count(*), sum(length(document)), sum(closing_minor), count(DISTINCT payee_id),
    (SELECT sum(posted_minor) FROM ledger_balances WHERE strict) FROM statements
"""


@dataclass(frozen=True, slots=True)
class Closed:
    """``again_s`` is the time of the second closing of everything, which does nothing."""

    seconds: float
    again_s: float
    statements: int
    megabytes: float
    cpu_ms: dict[str, float]
    """Per line, of the closers and of the database: what does not depend on who else uses the machine."""


def closing(
    options: Options, *, lines: int = LINES, payees: int = PAYEES, closers: int = CLOSERS
) -> list[Measured]:
    with database_only() as platform:
        started = time.monotonic()
        platform.postgres.execute(FILL.format(lines=lines, payees=payees), database=DEFAULT_DATABASE)
        print(f"{lines:,} lines laid in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        yardstick = pgbench(
            platform.postgres,
            ["-b", "tpcb-like"],
            clients=CLIENTS,
            seconds=options.seconds * options.rounds,
            database=BENCH,
        )
        closed = _close(platform, closers, lines)
        _check(platform, closed)
    rate = lines / closed.seconds
    name = f"{lines:,} commission lines of {payees:,} payees in {closed.seconds:.1f} s, {closed.megabytes:.0f} MB"
    goal = Goal(
        LINES / LIMIT_S / yardstick,
        about=f"{lines / LINES * LIMIT_S:.0f} s; closing again {closed.again_s:.1f} s",
    )
    beside = Beside(f"pgbench TPC-B, {CLIENTS} clients", yardstick, [rate / yardstick], goal)
    return [Measured("closing", name, closers, lines, rate, cpu_ms=closed.cpu_ms, beside=[beside])]


def _close(platform: Platform, closers: int, lines: int) -> Closed:
    seconds, spent = _run(platform, closers)
    again, _ = _run(platform, closers)
    found, size, total, parties, books = platform.postgres.execute(
        _LINES_IN, database=DEFAULT_DATABASE
    ).split("|")
    if total != books or found != parties:
        raise SystemExit(f"{found} statements of {parties} parties close at {total}, the books say {books}")
    cpu_ms = {who: ms for who, ms in spent.per_operation_ms(lines).items() if who != "client"}
    return Closed(seconds, again, int(found), int(size) / 1e6, cpu_ms)


def _run(platform: Platform, closers: int) -> tuple[float, Cpu]:
    """Wall seconds and CPU from the moment all closers are connected, as a worker's are."""
    argv = [sys.executable, "-m", "benchmarks.closing", "--close", platform.application_url()]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) for _ in range(closers)]
    pids = {f"closer {number}": each.pid for number, each in enumerate(running, 1)}
    if any(each.stdout is None or each.stdout.readline() != READY for each in running):
        raise SystemExit("a closer did not start")
    with counting({**pids, "database": platform.database_pid}) as spent:
        started = time.monotonic()
        for each in running:
            assert each.stdin is not None
            print(flush=True, file=each.stdin)
        ended = [each.stdout.readline() for each in running if each.stdout]
        seconds = time.monotonic() - started
    for each in running:
        each.communicate()
    if ended != [READY] * closers or any(each.returncode for each in running):
        raise SystemExit("a closer failed")
    spent.seconds["closers"] = sum(spent.seconds.pop(name) for name in pids)
    return seconds, spent


def _check(platform: Platform, closed: Closed) -> None:
    ids = platform.postgres.execute(
        f"SELECT id FROM statements ORDER BY id LIMIT {max(closed.statements // _CHECKED_OF, 1)}",
        database=DEFAULT_DATABASE,
    ).split()

    async def compare() -> None:
        db = Database(make_engine(platform.application_url(), pool_size=1))
        for each in ids:
            async with db.reading(SYSTEM) as session:
                stored, again = await recompute_statement(session, StatementId(each))
                if stored != again:
                    raise SystemExit(f"{each} is not what it was")
        await db.close()

    uvloop.run(compare())


async def _closer(url: str) -> None:
    """What the worker's sweep does, until nothing is due."""
    db = Database(make_engine(url, pool_size=1))
    clock = FixedClock(CLOSED_AT)
    async with db.reading(SYSTEM):
        print(READY, end="", flush=True)
    sys.stdin.readline()
    while await close_due_statements(db, clock=clock):
        pass
    print(READY, end="", flush=True)
    sys.stdin.readline()
    await db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--payees", type=int, default=PAYEES)
    parser.add_argument("--closers", type=int, default=CLOSERS)
    parser.add_argument("--close", metavar="URL", help="be one of the closers")
    given = parser.parse_args()
    if given.close:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_closer(given.close))
        return
    measured = closing(Options(), lines=given.lines, payees=given.payees, closers=given.closers)
    print("\n".join(lines_of(measured)))


if __name__ == "__main__":
    main()
