"""R4 and R5 where they count: in the database, order after order. Figures are from paper or shared/vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.events import from_body
from core.ids import BrandId, OrderId, OrderLineId, ProductId, RefundId
from infra.db.session import Database
from marketplace.promotion import service
from marketplace.promotion.agreements import counters
from marketplace.promotion.agreements.limits import CapScope, CapTerm, Period, TierTerms
from marketplace.promotion.agreements.terms import Rule, Terms, checked
from marketplace.promotion.commission.reversal import restore
from marketplace.promotion.commission.rules import CapMode, Tier, TierMode
from marketplace.promotion.errors import BadTerms
from marketplace.promotion.events import CommissionReversed, ReversedLine
from marketplace.promotion.service import Attributed, LineForAttribution, OrderForAttribution
from supply.settlement.refunded_goods import GoodsRefunded
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.factories.commission_refunds import refund_basis

MERCHANT, PROMOTER = (brand_actor(BrandId.new()) for _ in range(2))
DAY = timedelta(days=1)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def cap(limit_minor: int, scope: CapScope = CapScope.AGREEMENT, **more: Any) -> CapTerm:
    return CapTerm(scope, limit_minor, "CNY", **more)


def tenth(*caps: CapTerm, tiers: TierTerms | None = None) -> Terms:
    """10 %, of which the platform keeps its 5 %."""
    return Terms((Rule(100_000),), caps=caps, tiers=tiers)


class Selling:
    """One agreement, and orders sold through it one after the other."""

    def __init__(self, session: AsyncSession, clock: FixedClock, token: str) -> None:
        self.session, self.clock, self.token = session, clock, token

    @classmethod
    async def under(cls, session: AsyncSession, clock: FixedClock, terms: Terms) -> Selling:
        clock.at = NOON
        market = await make.market(session, MERCHANT, PROMOTER, clock, terms)
        return cls(
            session, clock, await make.click(session, await make.link(session, market, clock), clock.now())
        )

    async def order(self, *bases: int) -> Attributed:
        lines = [line(base) for base in bases]
        done = await service.attribute(
            self.session, order_of(self.clock, self.token, lines), signer=make.SIGNER, clock=self.clock
        )
        told = await service.explain_attribution(self.session, SYSTEM, done.order_id)
        assert told.verified  # either brand finds the same hashes, limits included
        return done

    async def earns(self, *bases: int) -> list[int]:
        return [each.commission_minor for each in (await self.order(*bases)).lines]


def line(basis: int) -> LineForAttribution:
    return LineForAttribution(
        OrderLineId.new(), ProductId.new(), "sku-1", "beauty/skin", quantity=1, gross_minor=basis
    )


def order_of(clock: FixedClock, token: str, lines: Sequence[LineForAttribution]) -> OrderForAttribution:
    return OrderForAttribution(
        OrderId.new(), MERCHANT.brand_id, "CNY", clock.now(), lines, touch_tokens=[token], paid_at=clock.now()
    )


async def counted(session: AsyncSession) -> dict[str, int]:
    rows = await session.execute(text("SELECT kind, amount_minor FROM commission_counters"))
    return {row.kind: row.amount_minor for row in rows}


async def test_a_budget_is_paid_out_and_then_nothing(session: AsyncSession, clock: FixedClock) -> None:
    selling = await Selling.under(session, clock, tenth(cap(2_500)))

    assert await selling.earns(10_000) == [1_000]
    # 2,000 wanted, 1,500 left: three to one by largest remainder.
    assert await selling.earns(15_000, 5_000) == [1_125, 375]
    assert await selling.earns(10_000) == [0]
    assert await counted(session) == {"AGREEMENT": 2_500}


async def test_all_or_nothing_leaves_what_does_not_reach(session: AsyncSession, clock: FixedClock) -> None:
    selling = await Selling.under(session, clock, tenth(cap(1_500, mode=CapMode.ALL_OR_NOTHING)))

    assert await selling.earns(10_000) == [1_000]
    assert await selling.earns(10_000) == [0]
    assert await selling.earns(5_000) == [500]


async def test_the_fallback_rate_holds_when_the_cap_is_reached(
    session: AsyncSession, clock: FixedClock
) -> None:
    limit = cap(1_400, mode=CapMode.FALLBACK_RATE, fallback_rate_ppm=20_000)
    selling = await Selling.under(session, clock, tenth(limit))

    assert await selling.earns(10_000) == [1_000]
    assert await selling.earns(10_000) == [200]
    assert await selling.earns(10_000, 5_000) == [133, 67]  # 300 wanted, 200 left, two to one


async def test_an_orders_cap_knows_no_other_order(session: AsyncSession, clock: FixedClock) -> None:
    selling = await Selling.under(session, clock, tenth(cap(600, CapScope.ORDER)))

    assert await selling.earns(10_000) == [600]
    assert await selling.earns(10_000) == [600]
    assert await counted(session) == {}


async def test_a_promoters_cap_begins_anew_with_the_period(session: AsyncSession, clock: FixedClock) -> None:
    selling = await Selling.under(session, clock, tenth(cap(1_200, CapScope.PROMOTER, period=Period.DAY)))
    assert await selling.earns(10_000) == [1_000]
    assert await selling.earns(10_000) == [200]
    clock.advance(DAY)
    assert await selling.earns(10_000) == [1_000]


async def test_a_reversal_frees_what_it_gives_back_while_the_period_runs(
    session: AsyncSession, clock: FixedClock
) -> None:
    selling = await Selling.under(session, clock, tenth(cap(1_200, CapScope.PROMOTER, period=Period.DAY)))
    first = await selling.order(10_000)
    refund = {first.lines[0].order_line_id: 4_000}
    await refund_basis(session, RefundId.new(), refund, clock=clock)
    freed = CommissionReversed((ReversedLine(first.lines[0].commission_line_id, 400, 4_000),))
    await counters.on_commission_reversed(session, freed, clock=clock)
    assert await counted(session) == {"PROMOTER:DAY": 600}
    assert await selling.earns(10_000) == [600]

    clock.advance(DAY)  # yesterday's cap is history
    await counters.on_commission_reversed(session, freed, clock=clock)
    assert await counted(session) == {"PROMOTER:DAY": 1_200}


TIERS = (Tier(0, 50_000), Tier(10_000, 80_000), Tier(50_000, 100_000))


async def test_marginal_tiers_pay_each_slice_its_rate(session: AsyncSession, clock: FixedClock) -> None:
    selling = await Selling.under(session, clock, tenth(tiers=TierTerms(TIERS, "CNY")))

    assert await selling.earns(8_000) == [400]
    # 2,000 at 5 % and 4,000 at 8 %: 100 + 320, over lines of 4,500 and 1,500.
    assert await selling.earns(4_500, 1_500) == [315, 105]
    assert await counted(session) == {"TIER": 14_000}


async def test_the_whole_order_earns_the_rate_it_reaches(session: AsyncSession, clock: FixedClock) -> None:
    tiers = TierTerms(TIERS, "CNY", TierMode.WHOLE_ORDER)
    selling = await Selling.under(session, clock, tenth(tiers=tiers))

    assert await selling.earns(8_000) == [400]
    assert await selling.earns(6_000) == [480]


async def test_retroactive_owes_the_earlier_orders_once(session: AsyncSession, clock: FixedClock) -> None:
    tiers = TierTerms(TIERS, "CNY", TierMode.RETROACTIVE)
    selling = await Selling.under(session, clock, tenth(tiers=tiers))

    assert (await selling.order(8_000)).adjustments == ()
    crossing = await selling.order(6_000)
    assert [each.commission_minor for each in crossing.lines] == [480]
    # 3 % more on the 8,000 before it; 5 % of that is the platform's.
    (owed,) = crossing.adjustments
    assert (owed.amount_minor, [share.amount_minor for share in owed.shares]) == (240, [228, 12])
    assert (await selling.order(6_000)).adjustments == ()


async def test_a_tier_reached_again_after_refunds_owes_nothing_again(
    session: AsyncSession, clock: FixedClock
) -> None:
    """8,000 and 6,000 reach 10,000, and 240 are owed. 6,000 go back: 8,000. What reaches 10,000 again earns its 8 %,
    and nothing for orders that were paid up to it before; what reaches 50,000 owes 2 % on the 15,000 before it."""
    tiers = TierTerms(TIERS, "CNY", TierMode.RETROACTIVE)
    selling = await Selling.under(session, clock, tenth(tiers=tiers))
    await selling.order(8_000)
    crossing = await selling.order(6_000)
    assert sum(each.amount_minor for each in crossing.adjustments) == 240
    refund, (sold,) = RefundId.new(), crossing.lines
    await refund_basis(session, refund, {sold.order_line_id: 6_000}, clock=clock)
    await _heard(session, clock)
    assert await counted(session) == {"TIER": 8_000, "TIER_PEAK": 14_000}

    again = await selling.order(7_000)
    assert ([each.commission_minor for each in again.lines], again.adjustments) == ([560], ())
    assert await counted(session) == {"TIER": 15_000, "TIER_PEAK": 15_000}
    (owed,) = (await selling.order(40_000)).adjustments
    assert owed.amount_minor == 300

    # The bank sent the refund back: nothing of the line is refunded.
    await restore(session, refund, {sold.order_line_id: GoodsRefunded(0, 6_000)}, clock=clock)
    await _heard(session, clock)
    assert (await counted(session))["TIER"] == 15_000 + 40_000 + 6_000


async def _heard(session: AsyncSession, clock: FixedClock) -> None:
    """The counters hear the latest news of a reversal."""
    name = "promotion.commission_reversed"
    latest = text("SELECT body FROM outbox WHERE name = :name ORDER BY id DESC LIMIT 1")
    told = from_body(name, await session.scalar(latest, {"name": name}))
    assert isinstance(told, CommissionReversed)
    await counters.on_commission_reversed(session, told, clock=clock)


async def test_a_refund_lowers_the_counter_for_future_orders_only(
    session: AsyncSession, clock: FixedClock
) -> None:
    selling = await Selling.under(session, clock, tenth(tiers=TierTerms(TIERS, "CNY", TierMode.WHOLE_ORDER)))
    first = await selling.order(12_000)
    assert first.lines[0].commission_minor == 960
    await counters.on_commission_reversed(
        session,
        CommissionReversed((ReversedLine(first.lines[0].commission_line_id, 480, 6_000),)),
        clock=clock,
    )

    assert await counted(session) == {"TIER": 6_000}
    assert await selling.earns(3_000) == [150]


async def test_another_currency_knows_no_cap(session: AsyncSession, clock: FixedClock) -> None:
    selling = await Selling.under(session, clock, tenth(CapTerm(CapScope.AGREEMENT, 5, "USD")))
    assert await selling.earns(10_000) == [1_000]


async def test_racing_orders_never_pay_more_than_the_budget(db: Database, clock: FixedClock) -> None:
    clock.at = NOON
    async with db.unit_of_work(SYSTEM) as session:
        selling = await Selling.under(session, clock, tenth(cap(2_500)))

    async def sell() -> int:
        async with db.unit_of_work(SYSTEM) as session:
            done = await service.attribute(
                session, order_of(clock, selling.token, [line(7_000)]), signer=make.SIGNER, clock=clock
            )
        return sum(each.commission_minor for each in done.lines)

    earned = await asyncio.gather(*(sell() for _ in range(8)))

    # 700 each of 2,500: three whole, one of 400, four of nothing.
    assert sorted(earned) == [0, 0, 0, 0, 400, 700, 700, 700]


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        (tenth(cap(-1)), "limitMinor"),
        (tenth(cap(5), cap(6)), "caps"),
        (tenth(cap(5, fallback_rate_ppm=10)), "fallbackRatePpm"),
        (tenth(cap(5, mode=CapMode.FALLBACK_RATE)), "fallbackRatePpm"),
        (tenth(CapTerm(CapScope.ORDER, 5, "XXX")), "currency"),
        (tenth(tiers=TierTerms((Tier(5, 1),), "CNY")), "fromBasisMinor"),
        (tenth(tiers=TierTerms((Tier(0, 1), Tier(0, 2)), "CNY")), "fromBasisMinor"),
        (tenth(tiers=TierTerms((Tier(0, 999_999),), "CNY")), "ratePpm"),
        (tenth(tiers=TierTerms((Tier(0, 9), Tier(5, 8)), "CNY", TierMode.RETROACTIVE)), "ratePpm"),
    ],
)
def test_limits_out_of_bounds_are_refused(terms: Terms, field: str) -> None:
    with pytest.raises(BadTerms) as refused:
        checked(terms)
    assert refused.value.field == field


def test_terms_with_limits_are_read_back() -> None:
    terms = tenth(cap(5, CapScope.PROMOTER, period=Period.WEEK), tiers=TierTerms(TIERS, "CNY"))
    assert Terms.from_json(terms.to_json()) == terms
    assert "caps" not in tenth().to_json()
