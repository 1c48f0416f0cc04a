from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, MissingScope
from core.clock import FixedClock
from core.ids import BrandId, CommunityId, OrderId, OrderLineId, ProductId
from core.money import Money
from infra.db.session import Database
from marketplace.audiences.errors import CommunityNotFound, PlacementNotFound
from marketplace.catalog.errors import ProductNotFound
from marketplace.matching import service
from marketplace.matching.errors import BadProposalRequest, ProposalNotFound, WrongCommunity
from marketplace.matching.handlers import on_order_credited
from marketplace.matching.models import Lane
from marketplace.matching.scoring import score
from marketplace.promotion import queries as promotion
from marketplace.promotion import service as cps
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.errors import AgreementNotActive
from marketplace.promotion.events import OrderCredited
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from tests.factories import audiences as people
from tests.factories import catalog
from tests.factories import promotion as make
from tests.factories.brands import brand_actor, shopper
from tests.factories.catalog import MadeProduct
from tests.factories.supply import supplier

MERCHANT, PROMOTER, STRANGER = (brand_actor(BrandId.new()) for _ in range(3))


async def _stocked(
    session: AsyncSession, clock: FixedClock, owner: Actor, *, zones: tuple[str, ...] = ("CN",), **facts: Any
) -> MadeProduct:
    made = await catalog.product(session, owner, clock, **facts)
    await supplier(
        session, clock, stock=dict.fromkeys(made.variants, 5), brand_id=owner.brand_id, zones=zones
    )
    return made


async def _community(session: AsyncSession, clock: FixedClock, **facts: Any) -> CommunityId:
    return await people.community(session, PROMOTER, clock, **facts)


async def test_the_product_of_the_communitys_tags_comes_first_and_says_why(
    session: AsyncSession, clock: FixedClock
) -> None:
    await make.signed(session, MERCHANT, PROMOTER, clock)
    cat = await _stocked(session, clock, MERCHANT, tags=["cats"])
    cream = await _stocked(session, clock, MERCHANT, tags=["skincare"])
    pets, other = await _community(session, clock), await _community(session, clock)
    await people.members(session, PROMOTER, clock, pets, [people.person("cats") for _ in range(20)])
    await people.members(session, PROMOTER, clock, other, [people.person("skincare") for _ in range(20)])

    found = await service.propose_products(session, PROMOTER, pets, clock=clock)

    assert [each.product_id for each in found] == [cat.id, cream.id]
    # of 20 members 20 have the tag, of 40 contacts 20: (20·40 + 10·20) / ((20+10)·40) = 5/6, lift 5/3
    assert found[0].score.tags_ppm == 833_333 * 1_666_666 // 1_000_000
    assert found[0].parts.tags[0].members_with == 20
    assert found[0].lane is Lane.DISCOVER


async def test_the_stored_parts_recompute_to_the_stored_score(
    session: AsyncSession, clock: FixedClock
) -> None:
    await make.signed(session, MERCHANT, PROMOTER, clock)
    for tags in (["cats"], ["skincare", "cats"], []):
        await _stocked(session, clock, MERCHANT, tags=tags)
    community = await _community(session, clock, tags=["cats"])
    await people.members(session, PROMOTER, clock, community, [people.person("cats") for _ in range(7)])

    found = await service.propose_products(session, PROMOTER, community, clock=clock)

    assert len(found) == 3
    for each in found:
        stored = await service.proposal(session, PROMOTER, each.id)
        assert stored == each
        assert score(stored.parts).total_ppm == stored.score_ppm
    assert [each.rank for each in found] == [1, 2, 3]


async def test_the_agreement_that_pays_more_for_this_product_is_proposed(
    session: AsyncSession, clock: FixedClock
) -> None:
    """The cream costs ¥100.00: ¥12.00 a piece are 12 % of it and more than 10 %; ¥40.00 are held at 30 %."""
    percent = await make.signed(session, MERCHANT, PROMOTER, clock)
    cream = await _stocked(session, clock, MERCHANT)

    async def proposed(clock: FixedClock) -> tuple[object, int, Money | None]:
        (found,) = await service.propose_products(session, PROMOTER, community, clock=clock)
        (there,) = await service.propose_communities(session, MERCHANT, cream.id, clock=clock)
        assert there.agreement_id == found.agreement_id
        assert there.parts.commission_fixed == found.parts.commission_fixed
        assert await service.proposal(session, PROMOTER, found.id) == found
        return found.agreement_id, found.parts.commission_ppm, found.parts.commission_fixed

    community = await _community(session, clock)
    assert await proposed(clock) == (percent, 100_000, None)
    for minor, ppm, better in ((900, 100_000, False), (1_200, 120_000, True), (4_000, 300_000, True)):
        rule = Rule(0, fixed=Money(minor, "CNY"))
        signed = await make.signed(session, MERCHANT, PROMOTER, clock, Terms((rule,)))
        expected = (signed, ppm, rule.fixed) if better else (percent, ppm, None)
        assert await proposed(clock) == expected
    # In another currency than its price an amount pays the rule's rate.
    await make.signed(session, MERCHANT, PROMOTER, clock, Terms((Rule(1, fixed=Money(9_000, "EUR")),)))
    assert (await proposed(clock))[1] == 300_000


async def test_only_what_may_be_sold_is_proposed(session: AsyncSession, clock: FixedClock) -> None:
    await make.signed(session, MERCHANT, PROMOTER, clock, Terms.flat(100_000, categories=["beauty"]))
    paused = await make.signed(session, STRANGER, PROMOTER, clock)
    await cps.pause(session, STRANGER, paused, reason="", clock=clock)
    good = await _stocked(session, clock, MERCHANT)
    own = await _stocked(session, clock, PROMOTER, category="toys")
    await _stocked(session, clock, MERCHANT, category="toys")  # not in scope
    await _stocked(session, clock, STRANGER)  # its agreement is paused
    await _stocked(session, clock, MERCHANT, publish=False)
    await _stocked(session, clock, MERCHANT, zones=("US",))  # does not reach the region
    await catalog.product(session, MERCHANT, clock)  # nobody stocks it
    community = await _community(session, clock)

    found = await service.propose_products(session, PROMOTER, community, clock=clock)

    assert {each.product_id for each in found} == {good.id, own.id}
    agreements = {each.product_id: each.agreement_id for each in found}
    assert agreements[own.id] is None
    assert agreements[good.id] is not None


async def test_what_members_bought_moves_what_goes_with_it(session: AsyncSession, clock: FixedClock) -> None:
    await make.signed(session, MERCHANT, PROMOTER, clock)
    bought, companion, unrelated = [await _stocked(session, clock, MERCHANT, tags=[]) for _ in range(3)]
    community = await _community(session, clock)
    await _sold(session, community, bought.id, ["a", "b", "c"])
    await _sold(session, None, companion.id, ["a", "b"])

    found = await service.propose_products(session, PROMOTER, community, clock=clock)

    by_product = {each.product_id: each for each in found}
    assert by_product[bought.id].lane is Lane.REPEAT
    assert by_product[bought.id].parts.bought_here == 3
    [reason] = by_product[companion.id].parts.companions
    assert (reason.product_id, reason.bought_both, reason.bought_companion) == (str(bought.id), 2, 3)
    assert by_product[companion.id].score_ppm > by_product[unrelated.id].score_ppm


async def _sold(
    session: AsyncSession, community: CommunityId | None, product: ProductId, buyers: list[str]
) -> None:
    await service.record_purchases(
        session,
        [
            promotion.PurchaseFact(
                OrderLineId.new(),
                OrderId.new(),
                MERCHANT.brand_id,
                PROMOTER.brand_id,
                community,
                buyer,
                product,
                1,
                datetime(2026, 3, 1, tzinfo=UTC),
            )
            for buyer in buyers
        ],
    )


async def test_communities_for_a_product_are_ones_own_and_partners(
    session: AsyncSession, clock: FixedClock
) -> None:
    await make.signed(session, MERCHANT, PROMOTER, clock)
    product = await _stocked(session, clock, MERCHANT, tags=["cats"])
    partner_plain = await _community(session, clock)
    partner_cats = await _community(session, clock, tags=["cats"])
    await people.members(session, PROMOTER, clock, partner_plain, [people.person("cats") for _ in range(50)])
    mine = await people.community(session, MERCHANT, clock)
    await people.members(session, MERCHANT, clock, mine, [people.person("cats") for _ in range(5)])
    await people.community(session, STRANGER, clock, tags=["cats"])
    far = await _community(session, clock, region="US", tags=["cats"])

    found = await service.propose_communities(session, MERCHANT, product.id, clock=clock)

    assert [each.community_id for each in found] == [mine, partner_cats, partner_plain]
    assert far not in {each.community_id for each in found}
    # Members' tags stay with the brand they trust: of a partner only the declared ones are read.
    assert [part.members_with for part in found[1].parts.tags] == [0]
    assert found[2].parts.tags == ()
    assert [each.agreement_id is None for each in found] == [True, False, False]


async def test_a_promoter_asks_where_a_partners_product_fits(
    session: AsyncSession, clock: FixedClock
) -> None:
    await make.signed(session, MERCHANT, PROMOTER, clock, Terms.flat(1, categories=["beauty"]))
    product = await _stocked(session, clock, MERCHANT)
    toy = await _stocked(session, clock, MERCHANT, category="toys")
    community = await _community(session, clock)
    await people.community(session, MERCHANT, clock)
    found = await service.propose_communities(session, PROMOTER, product.id, clock=clock)
    assert [each.community_id for each in found] == [community]
    assert await service.propose_communities(session, PROMOTER, toy.id, clock=clock) == []


async def test_a_link_from_a_proposal_in_one_step(session: AsyncSession, clock: FixedClock) -> None:
    agreement = await make.signed(session, MERCHANT, PROMOTER, clock)
    product = await _stocked(session, clock, MERCHANT)
    community, other = await _community(session, clock), await _community(session, clock)
    slot = await people.placement(session, PROMOTER, clock, community)
    elsewhere = await people.placement(session, PROMOTER, clock, other)
    foreign = await people.community(session, STRANGER, clock)
    [found] = await service.propose_products(session, PROMOTER, community, clock=clock)
    place = partial(
        service.link_from_proposal, destination="https://shop.example.com/x", policy=make.POLICY, clock=clock
    )

    created = await place(session, PROMOTER, found.id, placement_id=slot)

    link = await promotion.link(session, PROMOTER, created.id)
    assert (link.agreement_id, link.product_id, link.proposal_id, link.community_id) == (
        agreement,
        product.id,
        found.id,
        community,
    )
    with pytest.raises(WrongCommunity):
        await place(session, PROMOTER, found.id, placement_id=elsewhere)
    with pytest.raises(ProposalNotFound):
        await place(session, MERCHANT, found.id, placement_id=slot)
    strangers = await people.placement(session, STRANGER, clock, foreign)
    with pytest.raises(PlacementNotFound):
        await place(session, PROMOTER, found.id, placement_id=strangers)
    await cps.pause(session, MERCHANT, agreement, reason="", clock=clock)
    with pytest.raises(AgreementNotActive):
        await place(session, PROMOTER, found.id, placement_id=slot)


async def test_others_communities_and_products_are_out_of_reach(
    session: AsyncSession, clock: FixedClock
) -> None:
    community = await _community(session, clock)
    hidden = await catalog.product(session, MERCHANT, clock, publish=False)
    with pytest.raises(CommunityNotFound):
        await service.propose_products(session, STRANGER, community, clock=clock)
    with pytest.raises(ProductNotFound):
        await service.propose_communities(session, STRANGER, hidden.id, clock=clock)
    with pytest.raises(BadProposalRequest):
        await service.propose_communities(session, MERCHANT, hidden.id, clock=clock)
    for limit in (0, 51):
        with pytest.raises(BadProposalRequest):
            await service.propose_products(session, PROMOTER, community, limit=limit, clock=clock)
    with pytest.raises(MissingScope):
        await service.propose_products(session, shopper(PROMOTER.brand_id), community, clock=clock)


async def test_proposing_under_row_level_security_finds_the_same(db: Database, clock: FixedClock) -> None:
    """The brand's own session, which sees no other brand's people, is enough in both directions."""
    async with db.unit_of_work(SYSTEM) as session:
        await make.signed(session, MERCHANT, PROMOTER, clock)
        product = await _stocked(session, clock, MERCHANT)
        community = await _community(session, clock)
    async with db.unit_of_work(PROMOTER) as session:
        [one] = await service.propose_products(session, PROMOTER, community, clock=clock)
    async with db.unit_of_work(MERCHANT) as session:
        [other] = await service.propose_communities(session, MERCHANT, product.id, clock=clock)
    assert (one.product_id, other.community_id) == (product.id, community)
    async with db.reading(STRANGER) as session:
        for table in ("proposals", "purchase_facts", "communities"):
            assert (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar() == 0, table


async def test_a_credited_order_teaches_what_its_community_buys(
    session: AsyncSession, clock: FixedClock
) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    product = await _stocked(session, clock, MERCHANT)
    token = await make.click(session, await make.link(session, market, clock), clock.now())
    clock.advance(timedelta(hours=1))
    line = LineForAttribution(OrderLineId.new(), product.id, "sku", "beauty", 2, 20_000)
    order = OrderForAttribution(
        OrderId.new(), MERCHANT.brand_id, "CNY", clock.now(), [line], [token], buyer_keys=frozenset({"k1"})
    )
    done = await cps.attribute(session, order, signer=make.SIGNER, clock=clock)
    credited = OrderCredited(order.order_id, done.decision_id)

    await on_order_credited(session, credited, clock=clock)
    await on_order_credited(session, credited, clock=clock)

    [row] = (await session.execute(text("SELECT * FROM purchase_facts"))).all()
    assert (row.community_id, row.product_id, row.quantity, row.buyer) == (
        market.community_id,
        product.id,
        2,
        "k1",
    )
    assert (row.merchant_id, row.seller_id) == (MERCHANT.brand_id, PROMOTER.brand_id)


async def test_statements_do_not_grow_with_the_catalogue(session: AsyncSession, clock: FixedClock) -> None:
    await make.signed(session, MERCHANT, PROMOTER, clock)
    for _ in range(12):
        await _stocked(session, clock, MERCHANT)
    community = await _community(session, clock)
    seen: list[str] = []
    connection = (await session.connection()).sync_connection
    event.listen(connection, "before_cursor_execute", lambda *args: seen.append(args[2]))
    assert len(await service.propose_products(session, PROMOTER, community, clock=clock)) == 10
    assert len(seen) <= 11
