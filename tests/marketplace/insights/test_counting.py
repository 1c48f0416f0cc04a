"""What links bring by day, against a recount in Python from the raw rows."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, date, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import AgreementId, BrandId, LinkId, OrderId, OrderLineId, ProductId, RefundId, TouchId
from infra.db.session import Database
from marketplace.insights import counting, performance
from marketplace.insights.performance import PerformanceFilter
from marketplace.promotion import queries, service
from marketplace.promotion.agreements.limits import TierTerms
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.commission.rules import Tier, TierMode
from marketplace.promotion.facts import AttributionModel, TouchKind
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from marketplace.promotion.touches.clicks import Click
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.factories.commission_refunds import refund_basis
from tests.factories.promotion import SIGNER, Market

DAY = timedelta(days=1)
Key = tuple[str, date, str]

# The oracle: plain rows, summed in Python by the rules of docs/rules/cps.md §7.
_TOUCHES = text("SELECT link_id, at, kind, is_bot, duplicate_of FROM touches")
_LINES = text("SELECT * FROM commission_lines")
_SHARES = text(
    "SELECT s.*, t.link_id AS of_touch FROM commission_shares s JOIN touches t ON t.id = s.touch_id"
)
_EXCLUDED = text(
    "SELECT DISTINCT t.link_id, t.at, t.id FROM touches t JOIN excluded_touches e ON e.touch_id = t.id"
    " WHERE e.lifted_at IS NULL AND t.kind <> 'lead' AND NOT t.is_bot AND t.duplicate_of IS NULL"
)
_SIGNAL = text(
    "INSERT INTO fraud_signals (id, key, rule, rule_version, action, status, advertiser_id, promoter_brand_id,"
    " agreement_id, promoter, evidence, threshold, detected_at, seen_at) VALUES (:id, CAST(CAST(:id AS uuid) AS text),"
    " 'CLICK_FLOOD', '1', 'exclude_clicks', 'OPEN', :brand, :brand, :brand, :brand, '{}', '{}', :now, :now)"
)
_EXCLUDE = text(
    "INSERT INTO excluded_touches (touch_id, signal_id, advertiser_id, promoter_brand_id, excluded_at)"
    " SELECT id, :signal, advertiser_id, promoter_brand_id, :now FROM touches WHERE id = ANY(:touches)"
)
_LIFT = text("UPDATE excluded_touches SET lifted_at = :now WHERE signal_id = :signal AND lifted_at IS NULL")
_RESULTS = text("SELECT order_id, result FROM attribution_decisions")
_KEPT = text("SELECT * FROM link_performance")


async def recounted(session: AsyncSession) -> dict[Key, Counter[str]]:
    sums: dict[Key, Counter[str]] = defaultdict(Counter)
    for t in await session.execute(_TOUCHES):
        here, once = sums[str(t.link_id), t.at.astimezone(UTC).date(), "XXX"], t.duplicate_of is None
        if t.is_bot:
            here["bots"] += 1
        elif t.kind == "click":
            here["clicks"] += 1
            here["unique_clicks"] += once
        elif t.kind == "scan":
            here["scans"] += once
        if t.kind == "lead" and once:
            here["leads"] += 1
    for t in await session.execute(_EXCLUDED):
        sums[str(t.link_id), t.at.astimezone(UTC).date(), "XXX"]["excluded_visits"] += 1
    lines = {line.id: line for line in await session.execute(_LINES)}
    sales: dict[Any, list[Any]] = defaultdict(list)
    for line in lines.values():
        sales[line.order_id, line.agreement_id].append(line)
        here = sums[str(line.link_id), line.sold_at.astimezone(UTC).date(), line.currency]
        here["gross_minor"] += line.gross_minor
        here["basis_minor"] += line.basis_minor
        here["refunded_basis_minor"] += line.refunded_basis_minor
    for parts in sales.values():
        first = min(parts, key=lambda line: line.id)
        here = sums[str(first.link_id), first.sold_at.astimezone(UTC).date(), first.currency]
        here["orders"] += 1
        here["new_customer_orders"] += first.new_customer
        here["refunded_orders"] += any(line.refunded_basis_minor for line in parts)
    for row in await session.execute(_RESULTS):
        for owed in (json.loads(row.result)[4:] or [[]])[0]:
            first = min(
                sales[row.order_id, AgreementId.parse(owed["agreement_id"])], key=lambda line: line.id
            )
            day = first.sold_at.astimezone(UTC).date()
            sums[str(first.link_id), day, first.currency]["adjustment_minor"] += owed["amount_minor"]
    assisted: dict[Key, set[Any]] = defaultdict(set)
    for share in await session.execute(_SHARES):
        line = lines[share.commission_line_id]
        key = (str(share.of_touch), line.sold_at.astimezone(UTC).date(), line.currency)
        left = share.earned_minor - share.reversed_minor - share.denied_minor
        where = {
            "PENDING": "pending", "CONFIRMED": "confirmed", "PAYABLE": "confirmed", "PAID": "paid",
            "INVALID": "invalid", "REVERSED": "reversed",
        }[line.status]  # fmt: skip
        sums[key][f"{where}_minor"] += left
        sums[key]["reversed_minor"] += share.reversed_minor
        sums[key]["invalid_minor"] += share.denied_minor
        if share.role == "platform" and where not in ("invalid", "reversed"):
            sums[key]["fee_minor"] += left
        if share.of_touch != line.link_id:
            assisted[key].add((line.order_id, line.agreement_id))
    for key, orders in assisted.items():
        sums[key]["assisted_orders"] = len(orders)
    return sums


async def kept(session: AsyncSession) -> dict[Key, Counter[str]]:
    found = {}
    for row in await session.execute(_KEPT):
        facts = dict(row._mapping)
        key = (str(facts.pop("link_id")), facts.pop("day"), facts.pop("currency"))
        del facts["advertiser_id"], facts["promoter_brand_id"]
        found[key] = Counter(facts)
    return found


def plain(sums: dict[Key, Counter[str]]) -> dict[Key, dict[str, int]]:
    shown = {key: {name: n for name, n in counted.items() if n} for key, counted in sums.items()}
    return {key: counted for key, counted in shown.items() if counted}


async def _market(session: AsyncSession, clock: FixedClock, model: AttributionModel) -> Market:
    """Where several share, reaching ¥1,000 and ¥5,000 of a month raises the rate for all of it."""
    merchant, promoter = (brand_actor(BrandId.new()) for _ in range(2))
    steps = (Tier(0, 50_000), Tier(100_000, 80_000), Tier(500_000, 100_000))
    tiers = TierTerms(steps, "CNY", TierMode.RETROACTIVE) if model is AttributionModel.LINEAR else None
    terms = Terms.flat(100_000, model=model, individual_ppm=300_000, tiers=tiers)
    return await make.market(session, merchant, promoter, clock, terms)


def _clicks(target: queries.LinkTarget, draw: random.Random, clock: FixedClock, n: int) -> list[Click]:
    made: list[Click] = []
    for _ in range(n):
        kind = draw.choices([TouchKind.CLICK, TouchKind.SCAN, TouchKind.LEAD], [8, 2, 1])[0]
        repeat = draw.choice(made).id if made and draw.random() < 0.2 else None
        at = clock.now() - timedelta(minutes=draw.randrange(60 * 40))
        made.append(
            Click(
                TouchId.new(),
                target.id,
                target.agreement_id,
                target.advertiser_id,
                target.promoter_brand_id,
                at,
                kind,
                is_bot=draw.random() < 0.1,
                duplicate_of=repeat,
            )
        )
    return made


def _order(
    market: Market, clock: FixedClock, tokens: Sequence[str], draw: random.Random
) -> OrderForAttribution:
    lines = [
        LineForAttribution(
            OrderLineId.new(), ProductId.new(), f"sku-{n}", "beauty/skin", draw.randint(1, 3),
            draw.randrange(1, 50_000),
        )
        for n in range(draw.randint(1, 3))
    ]  # fmt: skip
    at = clock.now() - timedelta(minutes=draw.randrange(3))
    return OrderForAttribution(
        OrderId.new(), market.merchant.brand_id, draw.choice(["CNY", "CNY", "USD"]), at, lines,
        touch_tokens=tokens, paid_at=at, is_new_customer=draw.random() < 0.5,
    )  # fmt: skip


async def _count(db: Database, clock: FixedClock) -> None:
    assert await counting.keep_performance(db, clock=clock) == 0


@pytest.mark.parametrize("seed", [1, 2])
async def test_thousands_of_events_in_any_order_are_each_counted_once(
    db: Database, clock: FixedClock, seed: int
) -> None:
    """Clicks, told twice and late; orders of one and several winners; refunds, releases, payouts; rounds between."""
    draw = random.Random(seed)
    async with db.unit_of_work(SYSTEM) as session:
        markets = [
            await _market(session, clock, model)
            for model in (AttributionModel.LAST_TOUCH, AttributionModel.LINEAR)
        ]
        links: dict[LinkId, tuple[Market, queries.LinkTarget]] = {}
        for market in markets:
            for _ in range(3):
                made = await make.link(session, market, clock)
                target = await queries.link_by_code(session, made.code)
                assert target is not None
                links[made.id] = (market, target)
    recorded: list[Click] = []
    sold: list[OrderForAttribution] = []
    for _ in range(24):
        clock.advance(timedelta(minutes=draw.randrange(1, 400)))
        market, target = draw.choice(list(links.values()))
        fresh = _clicks(target, draw, clock, 60)
        again = draw.sample(recorded, min(len(recorded), 30))
        async with db.unit_of_work(SYSTEM) as session:
            assert await service.record_clicks(session, [*fresh, *again]) == len(fresh)
            recorded += fresh
            mine = [link for link, (of, _) in links.items() if of is market]
            for _ in range(4):
                touches = [c for c in recorded if c.link_id in mine]
                used = draw.sample(touches, min(len(touches), draw.randint(1, 3)))
                tokens = [SIGNER.token(c.id, c.link_id, c.at) for c in used]
                order = _order(market, clock, tokens, draw)
                await service.attribute(session, order, signer=SIGNER, clock=clock)
                sold.append(order)
        if draw.random() < 0.5:
            await _count(db, clock)
        await _fraud_is_found(db, clock, draw, recorded)
        await _what_happens_later(db, clock, draw, sold)
    await _count(db, clock)

    async with db.reading(SYSTEM) as session:
        want, have = plain(await recounted(session)), plain(await kept(session))
        assert len(want) > 20
        assert any("adjustment_minor" in sums for sums in want.values())
        assert have == want
        days = await counting.counted_days(session)
        assert days is not None
        assert await counting.differences(session, since=days[0], until=days[1] + DAY) == []


async def _fraud_is_found(
    db: Database, clock: FixedClock, draw: random.Random, recorded: Sequence[Click]
) -> None:
    """Some visits are shut out, twice some of them; every third time it was a mistake."""
    async with db.unit_of_work(SYSTEM) as session:
        for _ in range(2):
            signal = uuid4()
            await session.execute(_SIGNAL, {"id": signal, "brand": uuid4(), "now": clock.now()})
            touches = [click.id for click in draw.sample(recorded, 20)]
            await session.execute(_EXCLUDE, {"signal": signal, "touches": touches, "now": clock.now()})
    if draw.random() < 0.3:
        await _count(db, clock)
        async with db.unit_of_work(SYSTEM) as session:
            await session.execute(_LIFT, {"signal": signal, "now": clock.now()})


async def _what_happens_later(
    db: Database, clock: FixedClock, draw: random.Random, sold: Sequence[OrderForAttribution]
) -> None:
    """A refund of some order (in part, or wholly), and states moved as settlement moves them."""
    async with db.unit_of_work(SYSTEM) as session:
        order = draw.choice(sold)
        rows = (
            await session.execute(
                text(
                    "SELECT order_line_id, basis_minor - refunded_basis_minor AS left_minor FROM commission_lines"
                    " WHERE order_id = :order"
                ),
                {"order": order.order_id},
            )
        ).all()
        refunds = {
            OrderLineId.of(row.order_line_id): draw.choice([row.left_minor, row.left_minor // 3])
            for row in rows
        }
        refund_id = RefundId.new()
        for _ in range(2):  # the second delivery changes nothing
            await refund_basis(session, refund_id, refunds, clock=clock)
        for before, after in (("PAYABLE", "PAID"), ("CONFIRMED", "PAYABLE"), ("PENDING", "CONFIRMED")):
            chosen = draw.choice(sold).order_id
            await session.execute(
                text("UPDATE commission_lines SET status = :after WHERE order_id = :id AND status = :before"),
                {"after": after, "before": before, "id": chosen},
            )


async def test_what_a_retroactive_tier_owed_is_a_figure_beside_the_commission(
    db: Database, clock: FixedClock
) -> None:
    """¥600.00 on one day at 5 %: 30.00. Another ¥600.00 reach the 8 % of ¥1,000.00 the day after: 48.00 for them, and
    3 % of the first 600.00 owed at once: 18.00. It stays where it is when the second order is wholly refunded."""
    async with db.unit_of_work(SYSTEM) as session:
        market = await _market(session, clock, AttributionModel.LINEAR)
        made = await make.link(session, market, clock)
        token = await make.click(session, made, clock.now())
    days = []
    for _ in range(2):
        clock.advance(DAY)
        line = LineForAttribution(OrderLineId.new(), ProductId.new(), "sku", "beauty/skin", 1, 60_000)
        order = OrderForAttribution(
            OrderId.new(), market.merchant.brand_id, "CNY", clock.now(), [line], touch_tokens=[token],
            paid_at=clock.now(),
        )  # fmt: skip
        async with db.unit_of_work(SYSTEM) as session:
            await service.attribute(session, order, signer=SIGNER, clock=clock)
        days.append(clock.now().date())
    refund = {line.order_line_id: 60_000}
    async with db.unit_of_work(SYSTEM) as session:
        await refund_basis(session, RefundId.new(), refund, clock=clock)
    await _count(db, clock)
    wanted = PerformanceFilter(days[0], days[1])
    for side in (market.merchant, market.promoter):
        async with db.reading(SYSTEM) as session:
            shown = await performance.all_days(session, side, wanted)
        figures = {day.day: day.figures.money[0] for day in shown if day.figures.money}
        assert [(each.commission_minor, each.adjustment_minor) for each in figures.values()] == [
            (3_000, 0), (4_800, 1_800),
        ]  # fmt: skip
        assert figures[days[1]].reversed_minor == 4_800
        assert performance.total(shown).money[0].adjustment_minor == 1_800


async def test_a_click_that_commits_after_a_later_one_is_counted(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        market = await _market(session, clock, AttributionModel.LAST_TOUCH)
        made = await make.link(session, market, clock)
    started, counted = asyncio.Event(), asyncio.Event()

    async def late() -> None:
        async with db.unit_of_work(SYSTEM) as session:
            await make.click(session, made, clock.now())
            started.set()
            await counted.wait()

    task = asyncio.create_task(late())
    await started.wait()
    async with db.unit_of_work(SYSTEM) as session:
        await make.click(session, made, clock.now())
    await _count(db, clock)  # the first transaction is still open: it holds nobody up
    assert await _unique(db) == 1
    counted.set()
    await task
    for _ in range(2):
        await _count(db, clock)
        assert await _unique(db) == 2


async def test_two_counters_at_once_count_once(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        market = await _market(session, clock, AttributionModel.LAST_TOUCH)
        made = await make.link(session, market, clock)
        for _ in range(10):
            await make.click(session, made, clock.now())
    await asyncio.gather(*(_count(db, clock) for _ in range(8)))
    await _count(db, clock)
    assert await _unique(db) == 10


async def test_a_rebuild_puts_right_what_was_changed_by_hand_and_leaves_the_rest_to_the_counter(
    db: Database, clock: FixedClock
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        market = await _market(session, clock, AttributionModel.LAST_TOUCH)
        made = await make.link(session, market, clock)
        token = await make.click(session, made, clock.now())
    clock.advance(timedelta(minutes=5))
    async with db.unit_of_work(SYSTEM) as session:
        order = _order(market, clock, [token], random.Random(3))
        await service.attribute(session, order, signer=SIGNER, clock=clock)
    await _count(db, clock)
    today = clock.now().date()
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(text("UPDATE link_performance SET clicks = clicks + 7, orders = orders + 1"))
        await session.execute(
            text(
                "INSERT INTO link_performance (link_id, day, currency, advertiser_id, promoter_brand_id)"
                " VALUES (:link, :day, 'EUR', :brand, :brand)"
            ),
            {"link": made.id, "day": today, "brand": market.merchant.brand_id},
        )
        await make.click(session, made, clock.now())  # no round has seen it
    async with db.unit_of_work(SYSTEM) as session:
        wrong = await counting.differences(session, since=today, until=today + DAY)
        assert {(each.link_id, each.currency) for each in wrong} == {
            (made.id, "XXX"), (made.id, order.currency), (made.id, "EUR"),
        }  # fmt: skip
        await counting.rebuild(session, since=today, until=today + DAY)
        assert await counting.differences(session, since=today, until=today + DAY) == []
    assert await _unique(db) == 1
    await _count(db, clock)
    assert await _unique(db) == 2
    async with db.reading(SYSTEM) as session:
        assert plain(await kept(session)) == plain(await recounted(session))


async def _unique(db: Database) -> int:
    async with db.reading(SYSTEM) as session:
        found = await session.execute(text("SELECT coalesce(sum(unique_clicks), 0) FROM link_performance"))
        return int(found.scalar_one())
