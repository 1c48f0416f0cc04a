"""What links bring, counted; and a year's orders replayed under other terms.

    .venv/bin/python -m benchmarks.insights [--orders 100000] [--clicks 1000000]

Orders of three lines, each with one to three touches of 50 promoter brands' 500 links, decided by the engine and stored
as its handler stores them. Counted at first all at once, then in rounds of 4,000 clicks and 100 changed orders, as
two seconds of a busy market bring them; then everything is compared with the raw rows. The simulation replays every
order in a worker's process. Wall time on one connection; fsync is on.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import time
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import asyncpg
import uvloop
from sqlalchemy import text

from benchmarks.servers import Platform, database_only
from core.actor import SYSTEM, Actor, ActorKind
from core.canonical import sha256_hex, to_micros
from core.clock import FixedClock
from core.ids import (
    AgreementId,
    BrandId,
    CommissionLineId,
    CommunityId,
    DecisionId,
    LinkId,
    OrderId,
    OrderLineId,
    PlacementId,
    TouchId,
)
from infra.db.session import Database, make_engine
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE
from marketplace.brands.roles import BRAND_SCOPES
from marketplace.insights import counting, simulation
from marketplace.insights.events import SimulationRequested
from marketplace.insights.simulation import Request
from marketplace.promotion.agreements.terms import Terms, terms_in_force
from marketplace.promotion.attribution.crediting import Amounts, LineMoney, SplitRule, credit
from marketplace.promotion.facts import (
    AgreementTerms,
    AttributionModel,
    LineFact,
    OrderFact,
    TouchFact,
    canonical_inputs,
)

T = TypeVar("T")
START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS, LINKS, BRANDS = 90, 500, 50
MERCHANT = BrandId.new()
_AT_ONCE = 5_000
_CHANGE = text(
    "UPDATE commission_lines SET status = 'CONFIRMED' WHERE order_id IN (SELECT order_id FROM commission_lines"
    " WHERE status = 'PENDING' ORDER BY sold_at DESC, order_id LIMIT :some)"
)


class Link(NamedTuple):
    id: LinkId
    agreement_id: AgreementId
    brand_id: BrandId
    placement_id: PlacementId


def made_links() -> list[Link]:
    brands = [(AgreementId.new(), BrandId.new()) for _ in range(BRANDS)]
    return [Link(LinkId.new(), *brands[n % BRANDS], PlacementId.new()) for n in range(LINKS)]


async def copy(
    owner: asyncpg.Connection[Any], table: str, columns: str, rows: Sequence[Sequence[Any]]
) -> None:
    await owner.copy_records_to_table(table, records=rows, columns=columns.split())


async def fill_links(owner: asyncpg.Connection[Any], links: Sequence[Link]) -> None:
    columns = (
        "id code agreement_id advertiser_id promoter_brand_id community_id placement_id destination status"
        " created_at"
    )
    rows = [
        (x.id, f"c{n}", x.agreement_id, MERCHANT, x.brand_id, CommunityId.new(), x.placement_id, "https://x.example.com",
         "ACTIVE", START)
        for n, x in enumerate(links)
    ]  # fmt: skip
    await copy(owner, "tracked_links", columns, rows)


def touch_rows(
    draw: random.Random, links: Sequence[Link], count: int, *, day: int | None = None
) -> list[Any]:
    rows = []
    for _ in range(count):
        link = links[min(int(draw.expovariate(1 / 60)), LINKS - 1)]
        at = START + timedelta(
            days=draw.randrange(DAYS) if day is None else day, seconds=draw.randrange(86_400)
        )
        rows.append((TouchId.new(), link.id, link.agreement_id, MERCHANT, link.brand_id, at, "click", False))
    return rows


_TOUCHES = "id link_id agreement_id advertiser_id promoter_brand_id at kind is_bot"


class Sales:
    """Rows of credited orders."""

    def __init__(self, links: Sequence[Link], seed: int) -> None:
        self.links, self.draw = links, random.Random(seed)
        self.terms = Terms.flat(100_000, individual_ppm=300_000)
        self.in_force: dict[AgreementId, AgreementTerms] = {
            link.agreement_id: terms_in_force(
                link.agreement_id, 1, advertiser_id=MERCHANT, promoter_brand_id=link.brand_id,
                in_force_from=START - timedelta(days=30), terms=self.terms, currency="CNY",
            )
            for link in links
        }  # fmt: skip
        self.decisions: list[Any] = []
        self.lines: list[Any] = []
        self.shares: list[Any] = []

    def sell(self, at: datetime) -> None:
        draw, order_id = self.draw, OrderId.new()
        used = draw.sample(self.links, draw.randint(1, 3))
        ids = {TouchId.new(): link for link in used}
        touches = [
            TouchFact(
                str(touch), str(link.agreement_id), 1, str(link.brand_id), str(link.placement_id),
                to_micros(at - timedelta(minutes=draw.randrange(5, 60 * 24 * 20))),
            )
            for touch, link in ids.items()
        ]  # fmt: skip
        lines = [OrderLineId.new() for _ in range(3)]
        order = OrderFact(
            str(order_id), str(MERCHANT), to_micros(at),
            tuple(LineFact(str(x), f"sku-{draw.randrange(50)}", f"p{n}", ("beauty",)) for n, x in enumerate(lines)),
            paid_at_us=to_micros(at), is_new_customer=draw.random() < 0.3, buyer_keys=(order_id.hex,),
        )  # fmt: skip
        agreements = list({link.agreement_id: self.in_force[link.agreement_id] for link in used}.values())
        splits = tuple(SplitRule(each.agreement_id, 1, 50_000, 300_000, 15) for each in agreements)
        money = tuple(LineMoney(str(x), 1, draw.randrange(500, 40_000), 0, 0) for x in lines)
        amounts = Amounts("CNY", money, (), splits)
        earned = credit(order, touches, agreements, amounts)
        decision, texts = DecisionId.new(), (amounts.text(), earned.text())
        self.decisions.append(
            (decision, order_id, MERCHANT, [link.brand_id for link in used], "attribution-1",
             canonical_inputs(order, touches, agreements), earned.decision.input_hash, texts[0], sha256_hex(texts[0]),
             texts[1], sha256_hex(texts[1]), at)
        )  # fmt: skip
        for place, line in enumerate(earned.lines):
            id, touch = CommissionLineId.new(), TouchId.parse(line.touch_id)
            self.lines.append(
                (id, decision, order_id, OrderLineId.parse(line.order_line_id), AgreementId.parse(line.agreement_id), 1,
                 MERCHANT, BrandId.parse(line.promoter_brand_id), touch, ids[touch].id, line.rule_id, line.rate_ppm,
                 "CNY", line.basis_minor, line.commission_minor, 0, 0, "PENDING", 15, at, at + timedelta(days=45), at,
                 line.basis_minor, order.is_new_customer, place == 0)
            )  # fmt: skip
            self.shares += [
                (
                    id,
                    share.position,
                    share.role.value,
                    share.payee,
                    TouchId.parse(share.touch_id),
                    share.amount_minor,
                    0,
                )
                for share in line.shares
            ]

    async def flush(self, owner: asyncpg.Connection[Any]) -> None:
        columns = (
            "id order_id advertiser_id promoter_brand_ids rule_version input input_hash amounts amounts_hash result"
            " result_hash decided_at"
        )
        await copy(owner, "attribution_decisions", columns, self.decisions)
        columns = (
            "id decision_id order_id order_line_id agreement_id agreement_version advertiser_id promoter_brand_id"
            " touch_id link_id rule_id rate_ppm currency basis_minor commission_minor refunded_basis_minor"
            " reversed_minor status return_window_days created_at expected_pay_at sold_at gross_minor new_customer"
            " opens_order"
        )
        await copy(owner, "commission_lines", columns, self.lines)
        columns = "commission_line_id position role payee touch_id earned_minor reversed_minor"
        await copy(owner, "commission_shares", columns, self.shares)
        self.decisions, self.lines, self.shares = [], [], []


async def timed(work: Awaitable[T]) -> tuple[float, T]:
    started = time.perf_counter()
    done = await work
    return time.perf_counter() - started, done


async def run(platform: Platform, *, orders: int, clicks: int) -> None:
    postgres = platform.postgres
    owner = await asyncpg.connect(postgres.url(role="postgres"))
    # Agreements and touches of the sales are not there: the rows are only counted and decided again.
    await owner.execute("SET session_replication_role = replica")
    links, draw = made_links(), random.Random(1)
    await fill_links(owner, links)
    sales = Sales(links, 2)
    for n in range(orders):
        sales.sell(START + timedelta(seconds=n * DAYS * 86_400 / orders))
        if len(sales.decisions) == _AT_ONCE or n + 1 == orders:
            await sales.flush(owner)
    for start in range(0, clicks, 50_000):
        await copy(owner, "touches", _TOUCHES, touch_rows(draw, links, min(50_000, clicks - start)))
    postgres.execute("ANALYZE", database=DEFAULT_DATABASE)
    db = Database(make_engine(postgres.url(role=APPLICATION), pool_size=2))
    clock = FixedClock(START + timedelta(days=DAYS))
    took, _ = await timed(counting.keep_performance(db, clock=clock))
    print(f"counted {clicks:,} clicks and {orders:,} orders of {DAYS} days at first in {took:.1f} s{_load()}")
    await counted_in_rounds(db, owner, draw, links, clock)
    async with db.reading(SYSTEM) as session:
        days = START.date(), START.date() + timedelta(days=DAYS)
        took, wrong = await timed(counting.differences(session, since=days[0], until=days[1]))
    print(f"compared all {DAYS} days with the raw rows in {took:.1f} s: {len(wrong)} differences")
    await simulated(db, clock, orders)
    await db.close()
    await owner.close()
    if wrong:
        raise SystemExit("the sums are not those of the rows")


async def counted_in_rounds(
    db: Database,
    owner: asyncpg.Connection[Any],
    draw: random.Random,
    links: Sequence[Link],
    clock: FixedClock,
) -> None:
    rounds = []
    for _ in range(15):
        await copy(owner, "touches", _TOUCHES, touch_rows(draw, links, 4_000, day=DAYS - 1))
        async with db.unit_of_work(SYSTEM) as session:
            await session.execute(_CHANGE, {"some": 300})
        took, _ = await timed(counting.keep_performance(db, clock=clock))
        rounds.append(took * 1000)
    rounds.sort()
    print(
        f"a round of 4,000 clicks and 100 changed orders: median {rounds[7]:.0f} ms,"
        f" at most {rounds[-1]:.0f} ms{_load()}"
    )


async def simulated(db: Database, clock: FixedClock, orders: int) -> None:
    merchant = Actor(ActorKind.BRAND, MERCHANT, scopes=BRAND_SCOPES)
    terms = Terms.flat(80_000, individual_ppm=300_000, model=AttributionModel.LINEAR, window_s=30 * 86_400)
    wanted = Request(START, clock.now() + timedelta(days=1), terms=terms)
    async with db.unit_of_work(merchant) as session:
        id = await simulation.request_simulation(session, merchant, wanted, clock=clock)
    cpu = time.process_time()
    took, _ = await timed(simulation.on_simulation_requested(db, SimulationRequested(id), clock=clock))
    cpu = time.process_time() - cpu
    async with db.reading(merchant) as session:
        row = await simulation.simulation(session, merchant, id)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"replayed {row.orders_done:,} orders ({row.orders_changed:,} change their winner) in {took:.1f} s,"
        f" {cpu:.1f} s of it CPU here: {orders / took:,.0f} orders/s;"
        f" this process has had at most {memory:,.0f} MiB{_load()}"
    )


def _load() -> str:
    return f" (load average {os.getloadavg()[0]:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--clicks", type=int, default=1_000_000)
    options = parser.parse_args()
    with database_only() as platform:
        uvloop.run(run(platform, orders=options.orders, clicks=options.clicks))


if __name__ == "__main__":
    main()
