"""Jobs that post for many: the fees of 2,000 balance transactions, the release of 2,000 orders.

    .venv/bin/python -m benchmarks.settlement_jobs [--orders 2000] [--payees 200] [--rounds 3]

Orders of one line with a merchant, a supplier and a promoter are captured, each on a charge of its own; the
provider's rows lie there, read. Then the fees are booked from them as reconciliation does (R2), their money becomes
available (R3), and all is released (R4). Journals a second, by wall time, on one connection; fsync is on.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import uvloop
from sqlalchemy import text

from benchmarks.servers import Platform, database_only
from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, OrderId, OrderLineId, SupplierId
from infra.db.session import Database, make_engine
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE
from infra.payments.gateway import BalanceTransaction
from supply.ledger import queries as ledger
from supply.settlement import service
from supply.settlement.composition import Part
from supply.settlement.reconciliation.booking import book_fees
from supply.settlement.reconciliation.intake import keep_rows
from supply.settlement.service import CapturedLine, CapturedOrder, CommissionShare

PAID_AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
_AT_ONCE = 100
_JOURNALS = text("SELECT count(*) FROM ledger_journals")
_FORGET = text("DELETE FROM psp_txn")


async def fill(db: Database, clock: FixedClock, turn: int, *, orders: int, payees: int) -> None:
    merchants = [BrandId.new() for _ in range(payees)]
    suppliers = [SupplierId.new() for _ in range(payees)]
    promoters = [str(BrandId.new()) for _ in range(payees)]
    captured = [
        CapturedOrder(
            order_id=OrderId.new(), merchant_id=merchants[n % payees], currency="CNY", charge_id=f"ch_{turn}_{n}",
            paid_at=PAID_AT, tax_jurisdiction="CN",
            lines=[
                CapturedLine(
                    order_line_id=OrderLineId.new(), quantity=1, goods_minor=9_000, tax_minor=540,
                    supplier_id=suppliers[n * 7 % payees], supplier_cost_minor=4_000, platform_fee_minor=450,
                    commission=(CommissionShare(promoters[n * 3 % payees], Part.PROMOTER_BRAND, 900),),
                )
            ],
        )
        for n in range(orders)
    ]  # fmt: skip
    row = BalanceTransaction(
        "",
        "charge",
        "charge",
        "",
        9_540,
        306,
        9_234,
        "CNY",
        "pending",
        None,
        PAID_AT,
        PAID_AT + timedelta(days=2),
    )
    rows = [replace(row, id=f"txn_{each.charge_id}", source_id=each.charge_id) for each in captured]
    for start in range(0, orders, _AT_ONCE):
        async with db.unit_of_work(SYSTEM) as session:
            await service.open_splits(session, captured[start : start + _AT_ONCE], clock=clock)
        await keep_rows(db, "stripe", rows[start : start + _AT_ONCE], PAID_AT)


async def timed(db: Database, job: Callable[[], Awaitable[int]]) -> float:
    """Journals a second of a job that is called until it has nothing to do."""
    before, started = await _journals(db), time.perf_counter()
    while await job():
        pass
    took = time.perf_counter() - started
    return (await _journals(db) - before) / took


async def _journals(db: Database) -> int:
    async with db.reading(SYSTEM) as session:
        return int((await session.execute(_JOURNALS)).scalar_one())


async def run(platform: Platform, *, orders: int, payees: int, rounds: int) -> None:
    db = Database(make_engine(platform.postgres.url(role=APPLICATION), pool_size=2))
    for turn in range(rounds):
        clock = FixedClock(PAID_AT)
        await fill(db, clock, turn, orders=orders, payees=payees)
        platform.postgres.execute("ANALYZE", database=DEFAULT_DATABASE)
        fees = await timed(db, partial(book_fees, db, "stripe", now=PAID_AT))
        clock.advance(timedelta(days=60))
        available = await timed(db, partial(service.funds_available, db, clock=clock))
        released = await timed(db, partial(service.release_due, db, clock=clock))
        async with db.unit_of_work(SYSTEM) as session:
            await session.execute(_FORGET)
        print(
            f"fees {fees:,.0f}, becoming available {available:,.0f}, released {released:,.0f} journals/s"
            f" (load average {os.getloadavg()[0]:.1f})"
        )
    async with db.reading(SYSTEM) as session:
        if await ledger.unbalanced_journals(session) or await ledger.mismatched_balances(session):
            raise SystemExit("the books do not hold")
    await db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--orders", type=int, default=2_000)
    parser.add_argument("--payees", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with database_only() as platform:
        uvloop.run(run(platform, orders=options.orders, payees=options.payees, rounds=options.rounds))


if __name__ == "__main__":
    main()
