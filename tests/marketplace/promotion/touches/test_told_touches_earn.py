"""What a server told of earns like what the edge saw: by its token, or by the contact it bound."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import ContactId, LinkId, OrderId
from infra.db.session import Database
from marketplace.audiences.identity import IdentifierKind, IdentityVault
from marketplace.audiences.membership import NewMember, add_members
from marketplace.promotion import service
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.attribution.decision import RejectReason
from marketplace.promotion.facts import TouchKind
from marketplace.promotion.reach_models import LeadKind
from marketplace.promotion.service import CreatedLink, ToldTouch
from marketplace.promotion.touches.server_touches import RecordedTouch
from marketplace.promotion.touches.touch_token import TouchSigner
from tests.factories import orders, promotion
from tests.factories.brands import committed_brand
from tests.factories.orders import Shop

SIGNER, VAULT = TouchSigner(orders.SECRET), IdentityVault(orders.SECRET)
BINDS_TEN_DAYS = Terms.flat(100_000, lead_binding_days=10)
BUYER = "anna@example.com"
COMMISSION = 885
"""10 % of ¥100.00 without the 13 % of tax in it: 10000 − 1150 = 8850."""


@pytest.fixture
async def shop(db: Database, clock: FixedClock) -> Shop:
    return await orders.open_shop(db, clock, terms=BINDS_TEN_DAYS)


async def _link(db: Database, shop: Shop, clock: FixedClock) -> CreatedLink:
    async with db.unit_of_work(SYSTEM) as session:
        return await promotion.link(session, shop.promotion, clock)


async def _tell(db: Database, shop: Shop, clock: FixedClock, told: ToldTouch) -> RecordedTouch:
    promoter = shop.promotion.promoter
    async with db.unit_of_work(promoter) as session:
        done = await service.record_touches(session, promoter, [told], signer=SIGNER, clock=clock)
    assert not done.errors
    return done.touches[0]


async def _earned(db: Database, order_id: OrderId) -> list[tuple[LinkId, int]]:
    async with db.reading(SYSTEM) as session:
        rows = await session.execute(
            text("SELECT link_id, commission_minor FROM commission_lines WHERE order_id = :id"),
            {"id": order_id},
        )
        return [(LinkId.of(row.link_id), row.commission_minor) for row in rows]


async def test_a_click_told_by_the_server_earns_when_its_token_comes_to_the_checkout(
    db: Database, shop: Shop, clock: FixedClock
) -> None:
    link = await _link(db, shop, clock)
    told = await _tell(db, shop, clock, ToldTouch("e1", TouchKind.CLICK, clock.now(), link.code))
    clock.advance(timedelta(minutes=10))
    assert told.token is not None
    order = await orders.paid_order(db, shop, clock, tokens=[told.token])
    assert await _earned(db, order) == [(link.id, COMMISSION)]


async def _bound(db: Database, shop: Shop, clock: FixedClock, link: CreatedLink) -> RecordedTouch:
    """Anna is added to the promoter's contacts through a link, and its server tells so."""
    promoter = shop.promotion.promoter
    async with db.unit_of_work(promoter) as session:
        anna = NewMember([(IdentifierKind.EMAIL, BUYER)])
        community = shop.promotion.community_id
        made = await add_members(session, promoter, community, [anna], vault=VAULT, clock=clock)
    lead = ToldTouch(
        "lead-1", TouchKind.LEAD, clock.now(), link.code, lead=LeadKind.CONTACT_ADDED,
        contact_id=made.contact_ids[0],
    )  # fmt: skip
    return await _tell(db, shop, clock, lead)


@pytest.mark.parametrize(("days", "earns"), [(9, True), (10, True), (11, False)])
async def test_a_contact_bound_by_a_lead_earns_for_the_days_of_the_agreement(
    db: Database, shop: Shop, clock: FixedClock, days: int, earns: bool
) -> None:
    link = await _link(db, shop, clock)
    assert (await _bound(db, shop, clock, link)).binds_until == clock.now() + timedelta(days=10)
    clock.advance(timedelta(days=days))
    order = await orders.paid_order(db, shop, clock, email=BUYER)
    assert await _earned(db, order) == ([(link.id, COMMISSION)] if earns else [])


async def test_somebody_else_is_not_bound_by_her_lead(db: Database, shop: Shop, clock: FixedClock) -> None:
    await _bound(db, shop, clock, await _link(db, shop, clock))
    order = await orders.paid_order(db, shop, clock, email="otto@example.com")
    assert await _earned(db, order) == []


@pytest.mark.parametrize("rival_after_days", [-1, 3])
async def test_a_click_of_another_promoter_goes_before_the_lead(
    db: Database, shop: Shop, clock: FixedClock, rival_after_days: int
) -> None:
    """A binding earns when nothing else does: evidence of a visit, later or earlier, is better."""
    rival, _ = await committed_brand(db, clock, name="Rival")
    async with db.unit_of_work(SYSTEM) as session:
        market = await promotion.market(session, shop.promotion.merchant, rival, clock, BINDS_TEN_DAYS)
        theirs = await promotion.link(session, market, clock)
    bound_at = clock.now() + timedelta(days=2)
    clicked_at = bound_at + timedelta(days=rival_after_days)
    for at in sorted([bound_at, clicked_at]):
        clock.at = at
        if at == bound_at:
            await _bound(db, shop, clock, await _link(db, shop, clock))
        else:
            async with db.unit_of_work(SYSTEM) as session:
                token = await promotion.click(session, theirs, at)
    clock.at = bound_at + timedelta(days=5)

    order = await orders.paid_order(db, shop, clock, tokens=[token], email=BUYER)

    assert await _earned(db, order) == [(theirs.id, COMMISSION)]
    async with db.reading(SYSTEM) as session:
        told = await service.explain_attribution(session, SYSTEM, order)
    assert told.verified
    assert {each.kind: each.rejected for each in told.touches} == {
        "click": None, "lead": RejectReason.LOWER_PRECEDENCE,
    }  # fmt: skip


async def test_a_second_lead_extends_no_binding(db: Database, shop: Shop, clock: FixedClock) -> None:
    first = await _link(db, shop, clock)
    earlier = await _bound(db, shop, clock, first)
    clock.advance(timedelta(days=9))
    again = ToldTouch(
        "lead-2", TouchKind.LEAD, clock.now(), (await _link(db, shop, clock)).code, lead=LeadKind.GROUP_JOINED,
        contact_id=await _anna(db, shop),
    )  # fmt: skip
    repeated = await _tell(db, shop, clock, again)
    assert (repeated.repeat, repeated.binds_until) == (True, None)  # while one binds, another extends nothing
    assert earlier.binds_until is not None
    clock.at = earlier.binds_until + timedelta(seconds=1)
    order = await orders.paid_order(db, shop, clock, email=BUYER)
    assert await _earned(db, order) == []


async def _anna(db: Database, shop: Shop) -> ContactId:
    async with db.reading(SYSTEM) as session:
        found = await session.scalar(text("SELECT contact_id FROM touch_events WHERE lead IS NOT NULL"))
        return ContactId.of(found)
