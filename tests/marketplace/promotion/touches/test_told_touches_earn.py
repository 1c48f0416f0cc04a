"""What a server told of earns like what the edge saw: by its token, or by the contact it bound."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import LinkId, OrderId
from infra.db.session import Database
from marketplace.audiences.identity import IdentifierKind, IdentityVault
from marketplace.audiences.membership import NewMember, add_members
from marketplace.promotion import service
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.facts import TouchKind
from marketplace.promotion.reach_models import LeadKind
from marketplace.promotion.service import CreatedLink, ToldTouch
from marketplace.promotion.touches.server_touches import RecordedTouch
from marketplace.promotion.touches.touch_token import TouchSigner
from tests.factories import orders, promotion
from tests.factories.orders import Shop

SIGNER, VAULT = TouchSigner(orders.SECRET), IdentityVault(orders.SECRET)
BINDS_TEN_DAYS = Terms.flat(100_000, lead_binding_days=10)
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


@pytest.mark.parametrize(("days", "earns"), [(9, True), (11, False)])
async def test_a_contact_bound_by_a_lead_earns_for_the_days_of_the_agreement(
    db: Database, shop: Shop, clock: FixedClock, days: int, earns: bool
) -> None:
    link, promoter = await _link(db, shop, clock), shop.promotion.promoter
    async with db.unit_of_work(promoter) as session:
        anna = NewMember([(IdentifierKind.EMAIL, "anna@example.com")])
        community = shop.promotion.community_id
        made = await add_members(session, promoter, community, [anna], vault=VAULT, clock=clock)
    lead = ToldTouch(
        "lead-1", TouchKind.LEAD, clock.now(), link.code, lead=LeadKind.CONTACT_ADDED,
        contact_id=made.contact_ids[0],
    )  # fmt: skip
    assert (await _tell(db, shop, clock, lead)).binds_until == clock.now() + timedelta(days=10)
    clock.advance(timedelta(days=days))
    order = await orders.paid_order(db, shop, clock, email="anna@example.com")
    assert await _earned(db, order) == ([(link.id, COMMISSION)] if earns else [])
