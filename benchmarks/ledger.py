"""Postings per second beside pgbench TPC-B, on one embedded server in one run: the ratios of money.md §7.

    .venv/bin/python -m benchmarks.ledger [--seconds 6] [--clients 1 8 32]

Every transaction is committed durably (fsync on). A journal has five legs: the provider's account and tax, both
hot and deferred, and three parties out of 10,000, strict. Each round runs TPC-B, single postings and batches of
100 one after the other; the figure of a round is its ratio. After the last one the books are checked.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infra.db.migrate import upgrade
from infra.embedded.postgres import APPLICATION, EmbeddedPostgres

SCALE = 40
PARTIES = 10_000
BATCH = 100
_TPS = re.compile(r"tps = ([0-9.]+) \(without")

# pgbench reads a colon before letters as a variable, inside quotes too.
POST_JOURNAL = f"""
\\set a random(1, {PARTIES})
\\set b random(1, {PARTIES})
\\set c random(1, {PARTIES})
\\set amount random(100, 20000)
SELECT post_journal(uuidv7(), gen_random_uuid()::text, 'capture', now(), now(), NULL, NULL, NULL,
    ARRAY[1000, 2000, 2010, 2020, 2200],
    ARRAY['psp:' || 'stripe', 'party:' || :a::text, 'party:' || :b::text, 'party:' || :c::text, 'tax:' || 'CN'],
    ARRAY['CNY', 'CNY', 'CNY', 'CNY', 'CNY']::bpchar[], ARRAY[NULL, NULL, NULL, NULL, NULL]::uuid[],
    ARRAY[4 * m.amount, -m.amount, -m.amount, -m.amount, -m.amount])
FROM (SELECT :amount::bigint AS amount) m;
"""

POST_BATCH = f"""
WITH journals AS (
    SELECT array_agg(uuidv7()) AS ids, array_agg(gen_random_uuid()::text) AS keys,
        array_fill('capture'::text, ARRAY[{BATCH}]) AS kinds, array_fill(now(), ARRAY[{BATCH}]) AS times,
        array_fill(NULL::uuid, ARRAY[{BATCH}]) AS orders, array_fill(NULL::text, ARRAY[{BATCH}]) AS texts
    FROM generate_series(1, {BATCH})
), legs AS (
    SELECT array_agg(1 + n / 5) AS journals, array_agg((ARRAY[1000, 2000, 2010, 2020, 2200])[1 + n % 5]) AS codes,
        array_agg(CASE n % 5 WHEN 0 THEN 'psp:' || 'stripe' WHEN 4 THEN 'tax:' || 'CN'
            ELSE 'party:' || (1 + random() * {PARTIES - 1})::int END) AS owners,
        array_fill('CNY'::bpchar, ARRAY[5 * {BATCH}]) AS currencies,
        array_fill(NULL::uuid, ARRAY[5 * {BATCH}]) AS tenants,
        array_agg((100 + n / 5) * CASE n % 5 WHEN 0 THEN 4 ELSE -1 END::bigint) AS amounts
    FROM generate_series(0, 5 * {BATCH} - 1) AS n
)
SELECT count(*) FROM journals j, legs l, LATERAL post_batch(now(), j.ids, j.keys, j.kinds, j.times, j.orders,
    j.texts, j.texts, l.journals, l.codes, l.owners, l.currencies, l.tenants, l.amounts);
"""

OPEN_PARTIES = f"""
SELECT count(*) FROM generate_series(1, {PARTIES}, 1000) AS first, LATERAL hold_balances(
    (SELECT array_agg(c) FROM unnest(ARRAY[2000, 2010, 2020]) c, generate_series(first, first + 999)),
    (SELECT array_agg('party:' || p) FROM unnest(ARRAY[2000, 2010, 2020]) c, generate_series(first, first + 999) p),
    array_fill('CNY'::bpchar, ARRAY[3000]), array_fill(NULL::uuid, ARRAY[3000]));
"""

CHECK = """
SELECT (SELECT count(*) FROM ledger_journals), (SELECT coalesce(sum(amount_minor), 0) FROM ledger_entries),
    (SELECT count(*) FROM ledger_balances_now n JOIN (SELECT account_id, sum(amount_minor) AS total
        FROM ledger_entries GROUP BY account_id) e USING (account_id) WHERE e.total * n.side <> n.balance_minor);
"""


def rate(
    server: EmbeddedPostgres, arguments: Sequence[str], *, clients: int, seconds: int, role: str
) -> float:
    command = [
        server.binary("pgbench"),
        "-n",
        "-M",
        "prepared",
        "-c",
        str(clients),
        "-j",
        "1",
        "-T",
        str(seconds),
    ]
    result = subprocess.run(
        [*command, *arguments, server.url(role=role)], capture_output=True, text=True, check=False
    )
    found = _TPS.search(result.stdout)
    if found is None or result.returncode:
        raise SystemExit(f"pgbench failed: {result.stderr[-2000:]}")
    return float(found[1])


def run(server: EmbeddedPostgres, directory: Path, clients: Sequence[int], seconds: int) -> None:
    upgrade(server.url(), "0002")
    subprocess.run(
        [server.binary("pgbench"), "-i", "-q", "-s", str(SCALE), server.url()],
        capture_output=True,
        check=True,
    )
    server.execute(OPEN_PARTIES, database="lianyu")
    scripts = {}
    for name, sql in (("journal", POST_JOURNAL), ("batch", POST_BATCH)):
        scripts[name] = directory / f"{name}.sql"
        scripts[name].write_text(sql)
    print(
        f"{'clients':>8} {'TPC-B tps':>10} {'post_journal/s':>15} {'ratio':>6} {'post_batch/s':>13} {'ratio':>6}"
    )
    for count in clients:
        yardstick = rate(server, ["-b", "tpcb-like"], clients=count, seconds=seconds, role="lianyu")
        single = rate(
            server, ["-f", str(scripts["journal"])], clients=count, seconds=seconds, role=APPLICATION
        )
        batched = BATCH * rate(
            server, ["-f", str(scripts["batch"])], clients=count, seconds=seconds, role=APPLICATION
        )
        print(
            f"{count:>8} {yardstick:>10.0f} {single:>15.0f} {single / yardstick:>6.2f}"
            f" {batched:>13.0f} {batched / yardstick:>6.2f}",
            flush=True,
        )
    rolled = server.execute("SELECT roll_up_ledger();", database="lianyu")
    journals, total, wrong = server.execute(CHECK, database="lianyu").split("|")
    print(f"{journals} journals, sum {total}, accounts off {wrong}, accounts rolled up {rolled}")
    if total != "0" or wrong != "0":
        raise SystemExit("the books do not balance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=6, help="of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lianyu-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        server = EmbeddedPostgres(directory / "postgres")
        server.start()
        try:
            run(server, directory, options.clients, options.seconds)
        finally:
            server.remove()


if __name__ == "__main__":
    main()
