"""Every fraud rule against an attack through real clicks, checkouts and handlers; and against somebody honest who sells
as much. A cream of ¥100.00 with 13 % tax inside earns 10 % of ¥88.50: 885.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from core.money import Money
from infra.db.session import Database
from infra.embedded.postgres import APPLICATION
from marketplace.audiences.models import IdentifierKind
from marketplace.promotion import service
from marketplace.promotion.agreements.clauses import SourceBreach, SourceTerms
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.attribution.decision import RejectReason
from marketplace.promotion.coupons import codes
from marketplace.promotion.coupons.codes import CouponTerms
from marketplace.promotion.coupons.models import Funder
from marketplace.promotion.decisions.explanation import explain_attribution
from marketplace.promotion.models import PromoterKind
from tests.conftest import TestDatabase
from tests.factories import promotion
from tests.factories.audiences import VAULT
from tests.factories.fraud import DAY, HOUR, MINUTE, Scene, scene

EARNED = 885
SECOND = timedelta(seconds=1)


class Stage(Protocol):
    def __call__(self, **given: Any) -> AbstractAsyncContextManager[Scene]: ...


@pytest.fixture
async def stage(db: Database, clock: FixedClock, postgres: TestDatabase, tmp_path: Path) -> Stage:
    return lambda **given: scene(db, clock, postgres.url(APPLICATION), tmp_path, **given)


async def test_self_referral_earns_nothing_and_is_told(stage: Stage) -> None:
    async with stage() as at:
        promoter = at.shop.promotion.promoter
        async with at.db.unit_of_work(promoter) as session:
            person = await service.create_promoter(
                session, promoter, name="Mei", kind=PromoterKind.KOC, payout_account=None, vault=VAULT,
                identifiers=[(IdentifierKind.EMAIL, "mei@example.com")], clock=at.clock,
            )  # fmt: skip
            link = await promotion.link(session, at.shop.promotion, at.clock, promoter_id=person)
        own, other = await at.visit(link), await at.visit(link)
        at.clock.advance(5 * MINUTE)
        cheat = await at.buy(own, email="mei@example.com")
        sold = await at.buy(other, email="fan@example.com")

        assert await at.lines(cheat) == []
        assert await at.lines(sold) == [("PENDING", EARNED, 0)]
        assert await at.signals() == [("SELF_REFERRAL", "invalidate", "OPEN")]
        assert await at.evidence("SELF_REFERRAL") == {"reasons": ["SELF_PURCHASE"]}


async def test_a_flood_of_clicks_counts_for_nothing_and_what_it_won_is_held(stage: Stage) -> None:
    async with stage() as at:
        early = [await at.visit(at.suspect, ip="203.0.113.9", agent="Script Safari") for _ in range(12)]
        at.clock.advance(20 * SECOND)
        early += [await at.visit(at.suspect, ip="203.0.113.77", agent="Script Safari") for _ in range(13)]
        readers = [await at.visit(at.honest) for _ in range(25)]
        at.clock.advance(5 * MINUTE)
        before, honest = await at.buy(early[3]), await at.buy(readers[0])

        # The order that a click of the flood won shows it at once, the sweep finds the rest of them.
        assert await at.signals() == [("CLICK_FLOOD", "exclude_clicks", "OPEN")]
        await at.sweep("bursts")
        assert await at.lines(before, honest) == [("PENDING", EARNED, 1), ("PENDING", EARNED, 0)]
        evidence = await at.evidence("CLICK_FLOOD")
        assert (evidence["clicks"], evidence["peak"]) == (25, 25)

        after = await at.buy(early[7])
        assert await at.lines(after) == []
        async with at.db.reading(SYSTEM) as session:
            told = await explain_attribution(session, SYSTEM, after)
        assert [touch.rejected for touch in told.touches] == [RejectReason.EXCLUDED]
        assert told.verified
        assert len(await at.signals()) == 1


async def test_a_day_of_clicks_that_nobody_buys_from_is_hollow(stage: Stage) -> None:
    async with stage() as at:
        for _ in range(5):
            for link in (at.suspect, at.honest):
                for _ in range(10):
                    await at.visit(link)
            at.clock.advance(DAY)
        hollow = [await at.visit(at.suspect) for _ in range(220)]
        good = [await at.visit(at.honest) for _ in range(220)]
        at.clock.advance(HOUR)
        await at.buy(good[0])
        at.clock.advance(DAY)
        await at.sweep("bursts", "hollow_days")

        assert await at.signals() == [("CLICK_FLOOD", "exclude_clicks", "OPEN")]
        evidence = await at.evidence("CLICK_FLOOD")
        assert (evidence["clicks"], evidence["orders"], evidence["days"]) == (220, 0, 5)
        late = await at.buy(hollow[0])
        assert await at.lines(late) == []


async def test_paying_seconds_after_the_click_is_held(stage: Stage) -> None:
    async with stage() as at:
        fast = await at.buy(await at.visit(at.suspect), browse=2 * SECOND, pay_after=7 * SECOND)
        slow = await at.buy(await at.visit(at.honest), browse=2 * SECOND, pay_after=8 * SECOND)

        assert await at.lines(fast, slow) == [("PENDING", EARNED, 1), ("PENDING", EARNED, 0)]
        assert await at.signals() == [("TIME_TO_ORDER_SHORT", "hold", "OPEN")]
        assert await at.evidence("TIME_TO_ORDER_SHORT") == {"seconds": 9.0}


async def test_sales_spread_evenly_over_the_window_are_stuffed_cookies(stage: Stage) -> None:
    sales = 32
    async with stage() as at:
        stuffed = [await at.visit(at.suspect) for _ in range(sales)]
        caught, honest = [], []
        for number in range(sales):
            # 32 orders over 15 days for everybody; honest buyers come within hours of their click.
            at.clock.advance(15 * DAY / (sales + 1) - ((number % 8 + 1) * 20 + 2) * MINUTE)
            click = await at.visit(at.honest)
            at.clock.advance((number % 8 + 1) * 20 * MINUTE - 2 * MINUTE)
            caught.append(await at.buy(stuffed[number]))
            honest.append(await at.buy(click))
        await at.sweep("patterns")

        assert await at.signals() == [("TIME_TO_ORDER_FLAT", "hold", "OPEN")]
        evidence = await at.evidence("TIME_TO_ORDER_FLAT")
        assert (evidence["sales"], evidence["others"]) == (32, 32)
        assert evidence["p"] < 0.001
        assert set(await at.lines(*caught)) == {("PENDING", EARNED, 1)}
        assert set(await at.lines(*honest)) == {("PENDING", EARNED, 0)}


@pytest.mark.parametrize("kind", ["device", "address", "instrument"])
async def test_new_customers_who_share_a_browser_a_door_or_a_card_lose_the_new_rate_and_wait(
    stage: Stage, kind: str
) -> None:
    terms = Terms((Rule(100_000, rate_new_ppm=200_000),))
    async with stage(terms=terms) as at:
        farm, homes, cookie = [], [], ""
        for number in range(3):
            visit = await at.visit(at.suspect, cookie=cookie)
            cookie = visit.cookie if kind == "device" else ""
            at.clock.advance(HOUR)
            shared = {"address": {"home": 900}, "instrument": {"card": "one card"}}.get(kind, {})
            farm.append(await at.buy(visit, **shared))
            homes.append(await at.buy(await at.visit(at.honest), card=f"card {number}"))
            if len(farm) == 2:
                assert await at.lines(*farm) == [("PENDING", 2 * EARNED, 0)] * 2

        assert await at.lines(*farm) == [("PENDING", EARNED, 1)] * 3
        assert await at.lines(*homes) == [("PENDING", 2 * EARNED, 0)] * 3
        assert await at.signals() == [("DEVICE_REUSE", "deny_new_rate", "OPEN")]
        assert await at.evidence("DEVICE_REUSE") == {"kind": kind, "buyers": 3, "orders": 3}


async def test_a_leaked_code_loses_its_precedence(stage: Stage) -> None:
    async with stage() as at:
        merchant = at.shop.promotion.merchant
        for code, link in (("LEAK", at.suspect), ("FRIEND", at.honest)):
            wanted = CouponTerms(code, "CNY", at.clock.now(), amount=Money(1_000, "CNY"), link_id=link.id)
            async with at.db.unit_of_work(merchant) as session:
                await codes.create_coupon(
                    session, merchant, wanted, funder=Funder.ADVERTISER, now=at.clock.now()
                )
        for number in range(10):
            touched = number < 5  # half of the strangers' code's buyers had come by its owner
            await at.buy(*([await at.visit(at.suspect)] if touched else []), code="LEAK")
            await at.buy(await at.visit(at.honest), code="FRIEND")
        rival = await at.visit(at.honest)
        at.clock.advance(MINUTE)
        kept = await at.buy(rival, code="LEAK")
        await at.sweep("patterns")
        at.clock.advance(MINUTE)
        lost = await at.buy(rival, code="LEAK")

        assert await at.signals() == [("COUPON_LEAK", "lower_coupon", "OPEN")]
        assert await at.evidence("COUPON_LEAK") == {"code": "LEAK", "uses": 11, "without_touch": 6}
        won = await at.rows(
            "SELECT order_id, link_id FROM commission_lines WHERE order_id = ANY(:ids)", ids=[kept, lost]
        )
        assert {row.order_id: row.link_id for row in won} == {kept: at.suspect.id, lost: at.honest.id}
        assert {holds for _, _, holds in await at.lines(kept, lost)} == {0}


async def test_a_refund_ring_is_held_and_waits_longer_afterwards(stage: Stage) -> None:
    async with stage() as at:
        ring = [await at.buy(await at.visit(at.suspect)) for _ in range(12)]
        shop = [await at.buy(await at.visit(at.honest)) for _ in range(12)]
        await at.crowd(shop[0], 60)
        # Of 72 other sales 2 come back, 2.8 %: the limit stays at 20 %, which 3 of 12 are above and 2 are not.
        await at.refund(*ring[:2], *shop[:2])
        await at.sweep("patterns")
        assert await at.signals() == []

        at.clock.advance(HOUR)
        await at.refund(ring[2])
        await at.sweep("patterns")
        assert await at.signals() == [("REFUND_RING", "lengthen_window", "OPEN")]
        assert await at.evidence("REFUND_RING") == {
            "orders": 12, "refunded": 3, "rate_ppm": 250_000, "others": 72, "others_mean_ppm": 27_777,
        }  # fmt: skip
        assert await at.lines(*ring[3:]) == [("PENDING", EARNED, 1)] * 9
        assert set(await at.lines(*shop[2:])) == {("PENDING", EARNED, 0)}

        later = [await at.buy(await at.visit(link)) for link in (at.suspect, at.honest)]
        windows = await at.rows(
            "SELECT order_id, return_window_days AS days FROM commission_lines WHERE order_id = ANY(:ids)",
            ids=later,
        )
        assert {row.order_id: row.days for row in windows} == dict(zip(later, (30, 15), strict=True))
        async with at.db.reading(SYSTEM) as session:
            assert (await explain_attribution(session, SYSTEM, later[0])).verified


async def test_a_burst_of_orders_is_held_and_the_same_over_a_day_is_not(stage: Stage) -> None:
    async with stage() as at:
        at.clock.at = at.clock.now().replace(minute=0)
        calm = []
        for _ in range(11):
            calm.append(await at.buy(await at.visit(at.honest)))
            at.clock.advance(HOUR - 2 * MINUTE)
        burst = [await at.buy(await at.visit(at.suspect)) for _ in range(11)]
        await at.sweep("velocity")

        assert await at.signals() == [("VELOCITY", "hold", "OPEN")]
        assert await at.evidence("VELOCITY") == {"orders": 11, "p99": 1, "hours": 672}
        assert await at.lines(*burst) == [("PENDING", EARNED, 1)] * 11
        assert await at.lines(*calm) == [("PENDING", EARNED, 0)] * 11

        at.clock.advance(5 * MINUTE)
        twelfth = await at.buy(await at.visit(at.suspect))
        await at.sweep("velocity")
        assert await at.lines(twelfth) == [("PENDING", EARNED, 1)]
        assert len(await at.signals()) == 1


@pytest.mark.parametrize(
    ("breach", "action", "line"),
    [
        (SourceBreach.HOLD, "hold", ("PENDING", EARNED, 1)),
        (SourceBreach.INVALID, "invalidate", ("INVALID", 0, 0)),
    ],
)
async def test_a_bought_click_and_a_banned_page_are_what_the_agreement_says(
    stage: Stage, breach: SourceBreach, action: str, line: tuple[str, int, int]
) -> None:
    sources = SourceTerms(paid_allowed=False, banned_hosts=("coupons.example",), on_breach=breach)
    async with stage(terms=Terms.flat(100_000, sources=sources)) as at:
        bought = await at.visit(at.suspect, query="?utm_source=x&gclid=Cj0KCQ")
        banned = await at.visit(at.suspect, referrer="https://m.coupons.example/p?buyer=anna")
        organic = await at.visit(
            at.honest, query="?utm_source=letter", referrer="https://mp.weixin.qq.com/s/1"
        )
        at.clock.advance(HOUR)
        orders = [await at.buy(visit) for visit in (bought, banned, organic)]

        assert await at.signals() == [("BANNED_SOURCE", action, "OPEN")] * 2
        assert await at.lines(*orders) == [line, line, ("PENDING", EARNED, 0)]
        told = [row.evidence for row in await at.rows("SELECT evidence FROM fraud_signals ORDER BY id")]
        assert told == [{"parameters": ["gclid"]}, {"host": "m.coupons.example"}]
