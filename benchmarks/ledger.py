"""Postings per second beside pgbench TPC-B, on one embedded server in one run: the ratios of money.md §7.

    .venv/bin/python -m benchmarks.ledger [--seconds 4] [--rounds 3] [--clients 1 8 32]

Every transaction is committed durably (fsync on). A journal has five legs: the provider's account and tax, both
deferred, and three strict accounts of parties. *Cold*: out of 50,000 parties, as many as the closing of statements is
measured with. *Hot*: out of 100, so that 32 clients meet at most of them. Each round runs TPC-B, single postings and
batches of 100, cold and hot, one after the other; the figure is the median of the rounds' ratios. After the last one
the books are checked. `./dev bench posting` has the row with 32 clients, and Python.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import pgbench
from benchmarks.servers import BENCH, Platform, database_only
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE

PARTIES = {"cold": 50_000, "hot": 100}
STRICT_CODES = (2000, 2010, 2020)
BATCH = 100
_OPENED_AT_ONCE = 1_000

CHECK = """
SELECT (SELECT count(*) FROM ledger_journals),
    (SELECT coalesce(sum(amount_minor), 0) FROM ledger_entries),
    (SELECT count(*) FROM (SELECT FROM ledger_entries GROUP BY journal_id, currency HAVING sum(amount_minor) <> 0) j),
    (SELECT count(*) FROM ledger_balances_now n JOIN (SELECT account_id, sum(amount_minor) AS total
        FROM ledger_entries GROUP BY account_id) e USING (account_id) WHERE e.total * n.side <> n.balance_minor),
    (SELECT count(*) FROM ledger_balances WHERE strict AND posted_minor < 0),
    (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database());
"""
"""Journals, then what must be zero: the sum, unbalanced journals, balances that are off, overdrawn accounts,
deadlocks."""


def owner(heat: str, number: str) -> str:
    """pgbench reads a colon before letters as a variable, inside quotes too."""
    return f"'party:' || '{heat}-' || {number}"


def post_journal(heat: str) -> str:
    parties = PARTIES[heat]
    return f"""
\\set a random(1, {parties})
\\set b random(1, {parties})
\\set c random(1, {parties})
\\set amount random(100, 20000)
SELECT post_journal(uuidv7(), gen_random_uuid()::text, 'capture', now(), now(), NULL, NULL, NULL,
    ARRAY[1000, 2000, 2010, 2020, 2200],
    ARRAY['psp:' || 'stripe', {owner(heat, ":a::text")}, {owner(heat, ":b::text")}, {owner(heat, ":c::text")},
        'tax:' || 'CN'],
    ARRAY['CNY', 'CNY', 'CNY', 'CNY', 'CNY']::bpchar[], ARRAY[NULL, NULL, NULL, NULL, NULL]::uuid[],
    ARRAY[4 * m.amount, -m.amount, -m.amount, -m.amount, -m.amount])
FROM (SELECT :amount::bigint AS amount) m;
"""


def post_batch(heat: str, *, size: int = BATCH, strict_codes: Sequence[int] = STRICT_CODES) -> str:
    """The arrays are made by the server: about a tenth of its time."""
    legs = len(strict_codes) + 2
    codes = ", ".join(map(str, [1000, *strict_codes, 2200]))
    party = owner(heat, f"(1 + random() * {PARTIES[heat] - 1})::int")
    return f"""
WITH journals AS (
    SELECT array_agg(uuidv7()) AS ids, array_agg(gen_random_uuid()::text) AS keys,
        array_fill('capture'::text, ARRAY[{size}]) AS kinds, array_fill(now(), ARRAY[{size}]) AS times,
        array_fill(NULL::uuid, ARRAY[{size}]) AS orders, array_fill(NULL::text, ARRAY[{size}]) AS texts
    FROM generate_series(1, {size})
), legs AS (
    SELECT array_agg(1 + n / {legs}) AS journals, array_agg((ARRAY[{codes}])[1 + n % {legs}]) AS codes,
        array_agg(CASE n % {legs} WHEN 0 THEN 'psp:' || 'stripe' WHEN {legs - 1} THEN 'tax:' || 'CN'
            ELSE {party} END) AS owners,
        array_fill('CNY'::bpchar, ARRAY[{legs} * {size}]) AS currencies,
        array_fill(NULL::uuid, ARRAY[{legs} * {size}]) AS tenants,
        array_agg((100 + n / {legs}) * CASE n % {legs} WHEN 0 THEN {legs - 1} ELSE -1 END::bigint) AS amounts
    FROM generate_series(0, {legs} * {size} - 1) AS n
)
SELECT count(*) FROM journals j, legs l, LATERAL post_batch(now(), j.ids, j.keys, j.kinds, j.times, j.orders,
    j.texts, j.texts, l.journals, l.codes, l.owners, l.currencies, l.tenants, l.amounts);
"""


def open_parties(platform: Platform) -> None:
    """All accounts exist before anything is measured, as they do for whoever trades for a second day."""
    for heat, parties in PARTIES.items():
        platform.postgres.execute(
            f"SELECT count(*) FROM generate_series(1, {parties}, {_OPENED_AT_ONCE}) AS first, LATERAL hold_balances("
            " (SELECT array_agg(c ORDER BY c, p) FROM unnest(ARRAY[2000, 2010, 2020]) c, series p),"
            f" (SELECT array_agg({owner(heat, 'p')} ORDER BY c, p) FROM unnest(ARRAY[2000, 2010, 2020]) c, series p),"
            " (SELECT array_fill('CNY'::bpchar, ARRAY[3 * count(*)::int]) FROM series p),"
            " (SELECT array_fill(NULL::uuid, ARRAY[3 * count(*)::int]) FROM series p));".replace(
                "series p", f"generate_series(first, least(first + {_OPENED_AT_ONCE - 1}, {parties})) AS p"
            ),
            database=DEFAULT_DATABASE,
        )
    platform.postgres.execute("VACUUM ANALYZE ledger_accounts, ledger_balances", database=DEFAULT_DATABASE)


def script(platform: Platform, name: str, sql: str) -> Path:
    path = platform.home / f"{name}.sql"
    path.write_text(sql)
    return path


def check(platform: Platform) -> int:
    """How many journals there are. Ends the run when the books do not balance or anybody met a deadlock."""
    journals, *wrong = platform.postgres.execute(CHECK, database=DEFAULT_DATABASE).split("|")
    if any(int(each) for each in wrong):
        raise SystemExit(f"the books do not balance: sum, unbalanced, off, overdrawn, deadlocks: {wrong}")
    return int(journals)


def run(platform: Platform, clients: list[int], *, seconds: float, rounds: int) -> None:
    open_parties(platform)
    loads = [
        (f"{name} {heat}", times, script(platform, f"{name}-{heat}", sql(heat)))
        for name, times, sql in (("post_journal", 1, post_journal), ("post_batch", BATCH, post_batch))
        for heat in PARTIES
    ]
    for count in clients:
        yardstick, ratios = [], {name: [] for name, _, _ in loads}  # type: list[float], dict[str, list[float]]
        for _ in range(rounds):
            yardstick.append(
                pgbench(
                    platform.postgres, ["-b", "tpcb-like"], clients=count, seconds=seconds, database=BENCH
                )
            )
            for name, times, path in loads:
                rate = pgbench(
                    platform.postgres, ["-f", str(path)], clients=count, seconds=seconds,
                    database=DEFAULT_DATABASE, role=APPLICATION,
                )  # fmt: skip
                ratios[name].append(times * rate / yardstick[-1])
        print(
            f"{count} clients, TPC-B {statistics.median(yardstick):,.0f}/s, load average {os.getloadavg()[0]:.1f}"
        )
        for name, each in ratios.items():
            print(
                f"    {name:20} {statistics.median(each):6.2f} × ({min(each):.2f} to {max(each):.2f})",
                flush=True,
            )
    rolled = platform.postgres.execute("SELECT roll_up_ledger();", database=DEFAULT_DATABASE)
    print(
        f"{check(platform):,} journals, the books balance, no deadlock; {rolled} accounts rolled up at the end"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args()
    with database_only() as platform:
        run(platform, options.clients, seconds=options.seconds, rounds=options.rounds)


if __name__ == "__main__":
    main()
