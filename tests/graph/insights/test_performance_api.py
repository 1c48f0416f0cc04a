"""What links brought, as both sides of an agreement and nobody else see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import OrderId, OrderLineId, ProductId, RefundId
from graph.brand import schema as SCHEMA
from infra.db.session import Database
from marketplace.audiences.models import IdentifierKind
from marketplace.insights import counting
from marketplace.promotion import service
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.links import qr_batches
from marketplace.promotion.links.qr_batches import NewArm, NewBatch
from marketplace.promotion.models import PromoterKind
from marketplace.promotion.reach_models import QrBatchKind
from marketplace.promotion.service import LineForAttribution, NewLink, OrderForAttribution
from tests.factories import promotion as make
from tests.factories.audiences import VAULT
from tests.factories.brands import committed_brand
from tests.factories.commission_refunds import refund_basis
from tests.factories.promotion import POLICY, SIGNER, Market
from tests.fixtures.asking import ask
from tests.fixtures.statements import statements_of

_FIGURES = """figures { clicks uniqueClicks bots orders newCustomerOrders returningCustomerOrders refundedOrders
  conversionPpm money { currencyCode orders gross { amount } basis { amount } refundedBasis { amount }
  commission { amount } pending { amount } confirmed { amount } reversed { amount } platformFee { amount }
  tierAdjustment { amount } averageOrder { amount } earningsPerHundredVisits { amount } } }"""
PERFORMANCE = (
    """query ($by: PerformanceDimension!, $from: Date!, $to: Date!, $side: PartnerRole, $first: Int, $after: String,
  $link: ID) { performance(groupBy: $by, from: $from, to: $to, side: $side, linkId: $link) {
  groups(first: $first, after: $after) { nodes { id name days { day figures { orders uniqueClicks } } """
    + _FIGURES
    + " } pageInfo { hasNextPage endCursor } } totals "
    + _FIGURES.removeprefix("figures")
    + " days { day figures { orders } } } }"
)
TERMS = Terms.flat(100_000, individual_ppm=300_000)


@dataclass(frozen=True, slots=True)
class Sold:
    """Two promoter brands of one merchant; the first has a person, and a printed poster."""

    merchant: Actor
    first: Market
    second: Market
    order: OrderForAttribution


def _order(
    market: Market, tokens: Sequence[str], clock: FixedClock, gross: int, *, new: bool
) -> OrderForAttribution:
    line = LineForAttribution(OrderLineId.new(), ProductId.new(), "sku-1", "beauty/skin", 1, gross)
    return OrderForAttribution(
        OrderId.new(), market.merchant.brand_id, "CNY", clock.now(), [line], touch_tokens=tokens,
        paid_at=clock.now(), is_new_customer=new,
    )  # fmt: skip


@pytest.fixture
async def sold(db: Database, clock: FixedClock) -> Sold:
    """On 2 March 4 visits (one a repeat, one a bot) and an order of ¥200.00 through the first brand's poster, half of
    it refunded; on 3 March one of ¥50.05 through a person's link; through the second brand one of ¥10.00."""
    merchant, _ = await committed_brand(db, clock, name="Cream 霜")
    club, _ = await committed_brand(db, clock, name="Club 会")
    other, _ = await committed_brand(db, clock, name="Other 另")
    async with db.unit_of_work(SYSTEM) as session:
        first = await make.market(session, merchant, club, clock, TERMS)
        second = await make.market(session, merchant, other, clock, TERMS)
        poster = NewBatch("spring", QrBatchKind.POSTER, [NewArm("red", 10)])
        wanted = NewLink(first.placement_id, "https://shop.example.com/c", agreement_id=first.agreement_id)
        batch = await qr_batches.create_batch(session, club, poster, wanted, policy=POLICY, clock=clock)
        person = await service.create_promoter(
            session, club, name="Lin", kind=PromoterKind.KOC,
            identifiers=[(IdentifierKind.EMAIL, "lin@example.com")], payout_account=None, vault=VAULT, clock=clock,
        )  # fmt: skip
        by_person = await make.link(session, first, clock, promoter_id=person)
        by_other = await make.link(session, second, clock)
        printed = (await session.execute(_PRINTED, {"batch": batch})).one()
        on_poster = service.CreatedLink(printed.id, printed.code, "")
        tokens = [await make.click(session, on_poster, clock.now()) for _ in range(3)]
        await make.click(session, on_poster, clock.now(), is_bot=True)
        await session.execute(_REPEAT, {"link": printed.id})
    order = _order(first, tokens[:1], clock, 20_000, new=True)
    async with db.unit_of_work(SYSTEM) as session:
        await service.attribute(session, order, signer=SIGNER, clock=clock)
        refund = {order.lines[0].order_line_id: 10_000}
        await refund_basis(session, RefundId.new(), refund, clock=clock)
    clock.advance(timedelta(days=1))
    for market, link, gross in ((first, by_person, 5_005), (second, by_other, 1_000)):
        async with db.unit_of_work(SYSTEM) as session:
            token = await make.click(session, link, clock.now())
            facts = _order(market, [token], clock, gross, new=False)
            await service.attribute(session, facts, signer=SIGNER, clock=clock)
    await counting.keep_performance(db, clock=clock)
    return Sold(merchant, first, second, order)


_PRINTED = text(
    "SELECT l.id, l.code FROM qr_assets a JOIN tracked_links l ON l.id = a.link_id WHERE a.batch_id = :batch"
)
# The last of three people is the first again, seconds later.
_REPEAT = text(
    "UPDATE touches SET duplicate_of = (SELECT min(id::text)::uuid FROM touches WHERE link_id = :link)"
    " WHERE link_id = :link AND NOT is_bot AND id = (SELECT max(id::text)::uuid FROM touches"
    "  WHERE link_id = :link AND NOT is_bot)"
)


async def _performance(
    db: Database, clock: FixedClock, actor: Actor, by: str = "PARTNER", **more: Any
) -> dict[str, Any]:
    variables = {"by": by, "from": "2026-03-01", "to": "2026-03-31", "first": 20, **more}
    answer = await ask(SCHEMA, db, clock, actor, PERFORMANCE, variables)
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]["performance"]
    return found


async def test_figures_are_those_of_the_days_and_both_sides_see_the_same(
    sold: Sold, db: Database, clock: FixedClock
) -> None:
    """¥200.00 at 10 % is ¥20.00, of which ¥10.00 went back with half of it; ¥50.05 gives ¥5.01 (5.005 up).

    The platform has 5 %: ¥0.50 of what stands of the first, ¥0.25 of the second. (15.01 - 0.75) / 3 visits is ¥475.33
    a hundred, an average order (200.00 + 50.05) / 2 = 125.03 (up).
    """
    mine = await _performance(db, clock, sold.first.promoter)
    [group] = mine["groups"]["nodes"]
    assert (group["id"], group["name"]) == (str(sold.merchant.brand_id), "Cream 霜")
    assert group["figures"] == {
        "clicks": 4, "uniqueClicks": 3, "bots": 1, "orders": 2, "newCustomerOrders": 1,
        "returningCustomerOrders": 1, "refundedOrders": 1, "conversionPpm": 666_667,
        "money": [{
            "currencyCode": "CNY", "orders": 2, "gross": {"amount": "250.05"}, "basis": {"amount": "250.05"},
            "refundedBasis": {"amount": "100.00"}, "commission": {"amount": "25.01"},
            "pending": {"amount": "15.01"}, "confirmed": {"amount": "0.00"}, "reversed": {"amount": "10.00"},
            "platformFee": {"amount": "0.75"}, "tierAdjustment": {"amount": "0.00"},
            "averageOrder": {"amount": "125.03"},
            "earningsPerHundredVisits": {"amount": "475.33"},
        }],
    }  # fmt: skip
    assert [(day["day"], day["figures"]["orders"]) for day in group["days"]] == [
        ("2026-03-02", 1), ("2026-03-03", 1),
    ]  # fmt: skip
    theirs = await _performance(db, clock, sold.merchant)
    by_name = {node["name"]: node for node in theirs["groups"]["nodes"]}
    assert by_name["Club 会"]["figures"] == group["figures"]
    assert by_name["Club 会"]["days"] == group["days"]
    assert by_name["Other 另"]["figures"]["money"][0]["pending"]["amount"] == "1.00"
    assert theirs["totals"]["orders"] == 3
    assert theirs["totals"]["money"][0]["pending"]["amount"] == "16.01"
    assert [(day["day"], day["figures"]["orders"]) for day in theirs["days"]] == [
        ("2026-03-02", 1), ("2026-03-03", 2),
    ]  # fmt: skip


async def test_a_promoter_brand_sees_nothing_of_another_and_a_person_only_at_home(
    sold: Sold, db: Database, clock: FixedClock
) -> None:
    for by in ("PARTNER", "AGREEMENT", "CAMPAIGN", "COMMUNITY", "PLACEMENT", "PROMOTER", "LINK", "CREATIVE"):
        found = await _performance(db, clock, sold.second.promoter, by)
        assert found["totals"]["orders"] == 1
        assert sum(node["figures"]["orders"] for node in found["groups"]["nodes"]) == 1
    at_home = await _performance(db, clock, sold.first.promoter, "PROMOTER")
    abroad = await _performance(db, clock, sold.merchant, "PROMOTER")
    assert {node["name"] for node in at_home["groups"]["nodes"]} == {"Lin", None}
    assert {node["name"] for node in abroad["groups"]["nodes"]} == {None}
    assert {node["id"] for node in at_home["groups"]["nodes"]} <= {n["id"] for n in abroad["groups"]["nodes"]}


async def test_an_arm_of_a_print_batch_is_a_creative_to_both_sides(
    sold: Sold, db: Database, clock: FixedClock
) -> None:
    for actor in (sold.merchant, sold.first.promoter):
        found = await _performance(db, clock, actor, "CREATIVE", side=None)
        by_arm = {node["name"]: node["figures"]["orders"] for node in found["groups"]["nodes"]}
        assert by_arm["red"] == 1


async def test_pages_go_through_all_groups_once(sold: Sold, db: Database, clock: FixedClock) -> None:
    seen: list[str] = []
    after = None
    while True:
        found = await _performance(db, clock, sold.merchant, "LINK", first=1, after=after)
        seen += [node["id"] for node in found["groups"]["nodes"]]
        after = found["groups"]["pageInfo"]["endCursor"]
        if not found["groups"]["pageInfo"]["hasNextPage"]:
            break
    assert len(seen) == len(set(seen)) == 3
    one = await _performance(db, clock, sold.merchant, "LINK", link=seen[0])
    assert [node["id"] for node in one["groups"]["nodes"]] == [seen[0]]


async def test_side_parts_what_is_paid_from_what_is_earned(
    sold: Sold, db: Database, clock: FixedClock
) -> None:
    assert (await _performance(db, clock, sold.merchant, side="ADVERTISER"))["totals"]["orders"] == 3
    assert (await _performance(db, clock, sold.merchant, side="PROMOTER"))["totals"]["orders"] == 0


async def test_a_page_with_names_days_and_totals_takes_four_statements(
    sold: Sold, db: Database, clock: FixedClock
) -> None:
    with statements_of(db) as statements:
        await _performance(db, clock, sold.merchant)
    assert len(statements) <= 4


async def test_a_period_that_ends_before_it_begins_is_refused(
    sold: Sold, db: Database, clock: FixedClock
) -> None:
    variables = {"by": "LINK", "from": "2026-03-02", "to": "2026-03-01"}
    answer = await ask(SCHEMA, db, clock, sold.merchant, PERFORMANCE, variables)
    assert [error["code"] for error in answer["errors"]] == ["BAD_PERIOD"]
