"""A million journals, and then the books: the last row of money.md §7.

    .venv/bin/python -m benchmarks.million_journals [--journals 1000000] [--minutes 3]

Eight clients post in batches of 500 journals of three legs and, one time in ten, a single journal of five over the
same accounts, hot ones among them, while the roll-up runs all the time. Ends when there are as many journals as asked
for, or when the time is over, and says which. Then: everything sums to zero, every journal balances, every balance is
the sum of its entries, no account is overdrawn, nobody met a deadlock. Anything else ends with an error.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import threading
import time

from benchmarks.ledger import check, open_parties, post_batch, post_journal, script
from benchmarks.servers import Platform, database_only
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE

CLIENTS = 8
BATCH = 500
SLICE_S = 5
_COUNT = "SELECT count(*) FROM ledger_journals"


def run(platform: Platform, *, wanted: int, most_s: float) -> None:
    open_parties(platform)
    load = [
        "-f", f"{script(platform, 'cold', post_batch('cold', size=BATCH, strict_codes=(2000,)))}@8",
        "-f", f"{script(platform, 'hot', post_batch('hot', size=BATCH, strict_codes=(2000,)))}@1",
        "-f", f"{script(platform, 'single', post_journal('hot'))}@1",
    ]  # fmt: skip
    done, rolls = threading.Event(), 0

    def roll_up() -> None:
        nonlocal rolls
        while not done.wait(0.2):
            platform.postgres.execute("SELECT roll_up_ledger()", database=DEFAULT_DATABASE)
            rolls += 1

    roller = threading.Thread(target=roll_up)
    roller.start()
    started, journals = time.monotonic(), 0
    try:
        while journals < wanted and time.monotonic() - started < most_s:
            _post_for(platform, load, SLICE_S)
            journals = int(platform.postgres.execute(_COUNT, database=DEFAULT_DATABASE))
    finally:
        done.set()
        roller.join()
    took = time.monotonic() - started
    found = check(platform)
    print(
        f"{found:,} journals in {took:.0f} s ({found / took:,.0f}/s, load average {os.getloadavg()[0]:.1f}), rolled up"
        f" {rolls} times meanwhile; sum 0, no unbalanced journal, no balance off, nothing overdrawn, no deadlock;"
        f" checked in {time.monotonic() - started - took:.0f} s"
    )
    if found < wanted:
        print(f"the time was over before there were {wanted:,}")


def _post_for(platform: Platform, load: list[str], seconds: int) -> None:
    command = [platform.postgres.binary("pgbench"), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1"]
    command += ["-T", str(seconds), *load, platform.postgres.url(DEFAULT_DATABASE, APPLICATION)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"pgbench failed: {(result.stdout + result.stderr)[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--journals", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=3, help="of posting, at most")
    options = parser.parse_args()
    with database_only() as platform:
        run(platform, wanted=options.journals, most_s=60 * options.minutes)


if __name__ == "__main__":
    main()
