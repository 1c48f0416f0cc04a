"""Who sold an order of a brand's own checkout: by what the shop passed on, and by whose lead bound the buyer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import ContactId, OrderId, StorefrontId
from core.plain import plain
from infra.db.session import Database
from marketplace.audiences.models import IdentifierKind
from marketplace.brands.queries import StorefrontFacts
from marketplace.orders.own_checkout.told import BuyerTold, DiscountTold, LineTold, Telling
from marketplace.promotion import service as promoting
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.coupons import codes
from marketplace.promotion.coupons.codes import CouponTerms
from marketplace.promotion.coupons.models import Funder
from marketplace.promotion.decisions.explanation import explain_attribution
from marketplace.promotion.facts import ScopeKind, TouchKind
from marketplace.promotion.models import PromoterKind
from marketplace.promotion.reach_models import LeadKind
from marketplace.promotion.service import ToldTouch
from tests.factories import audiences, orders, promotion
from tests.factories.audiences import VAULT, person
from tests.factories.orders import Shop
from tests.factories.own_checkout import (
    OwnShop,
    clicked,
    own_shop,
    paid,
    told_and_done,
    with_events,
    worked,
)
from tests.factories.promotion import SIGNER
from tests.factories.supply import supplier

ANNA, ANNAS_PHONE = "anna@example.com", "+8613800138000"
LEADS_BIND = Terms.flat(150_000, individual_ppm=400_000, lead_binding_days=30)
_EARNED = text(
    "SELECT l.sku, l.title, c.basis_minor, c.commission_minor, c.rule_id FROM commission_lines c"
    " JOIN order_lines l ON l.id = c.order_line_id WHERE c.order_id = :order ORDER BY l.title"
)


async def earned(db: Database, order_id: OrderId) -> list[tuple[Any, ...]]:
    async with db.reading(SYSTEM) as session:
        return [tuple(row)[1:4] for row in await session.execute(_EARNED, {"order": order_id})]


async def lead(db: Database, clock: FixedClock, shop: OwnShop | Shop, market: Any, email: str) -> ContactId:
    """The promoter brand's contact of that address came in by its link."""
    async with db.unit_of_work(market.promoter) as session:
        (contact,) = await audiences.members(
            session, market.promoter, clock, market.community_id, [person(email=email)]
        )
    async with db.unit_of_work(SYSTEM) as session:
        link = await promotion.link(session, market, clock)
    added = ToldTouch(
        "lead-1", TouchKind.LEAD, clock.now(), link.code, lead=LeadKind.CONTACT_ADDED, contact_id=contact
    )
    async with db.unit_of_work(market.promoter) as session:
        done = await promoting.record_touches(session, market.promoter, [added], signer=SIGNER, clock=clock)
    assert not done.errors
    clock.advance(timedelta(days=1))
    return contact


async def test_a_lead_of_the_promoters_own_contact_binds_the_buyer_of_the_advertisers_shop(
    db: Database, clock: FixedClock
) -> None:
    shop = await own_shop(db, clock, terms=LEADS_BIND)
    contact = await lead(db, clock, shop, shop.market, ANNA.upper())

    order_id = await told_and_done(db, clock, shop, with_events(worked(shop, clock), paid(clock)))
    stranger = worked(shop, clock, reference="W-2", buyer=BuyerTold(email="ben@example.com"))
    bought_by_another = await told_and_done(
        db, clock, shop, with_events(stranger, replace(paid(clock), id="paid-2"))
    )

    assert [line[2] for line in await earned(db, order_id)] == [1_350]
    assert await earned(db, bought_by_another) == []
    # Neither brand is told whose lead it was: that it bound, and under which agreement, is all.
    for actor in (shop.merchant, shop.market.promoter):
        async with db.reading(actor) as session:
            explained = await explain_attribution(session, actor, order_id)
            seen = orjson.dumps(plain(explained)).decode()
            assert '"lead"' in seen
            assert str(contact) not in seen
            assert contact.hex not in seen
            matches = await session.execute(text("SELECT count(*) FROM lead_matches"))
            assert matches.scalar_one() == 0


async def test_a_lead_binds_in_the_advertisers_storefront_here_too(db: Database, clock: FixedClock) -> None:
    """The order is placed in a storefront of the advertiser's on this platform, by the same e-mail address."""
    own = await own_shop(db, clock, terms=LEADS_BIND)
    async with db.unit_of_work(SYSTEM) as session:
        source = await supplier(
            session, clock, stock=dict.fromkeys(own.product.variants, 5), brand_id=own.product.brand_id
        )
    shop = _AdvertisersOwn(own.market, own.storefront, own.product, source)
    await lead(db, clock, shop, own.market, ANNA)

    async with db.unit_of_work(SYSTEM) as session:
        checkout = await orders.start(session, shop, {shop.variant: 1}, clock, email=ANNA)
        placed = await orders.place(session, shop, checkout, clock)
        await orders.pay(session, checkout, clock)
        await orders.book(session, checkout, placed, clock)

    # 15 % of 100.00, the tax of 13 % inside it taken out or none, as the catalogue says.
    (line,) = await earned(db, placed[0])
    assert line[2] == (line[1] * 15 + 50) // 100 > 0


class _AdvertisersOwn(Shop):
    @property
    def facts(self) -> StorefrontFacts:
        storefront: StorefrontId = self.storefront.id
        return StorefrontFacts(storefront, self.promotion.merchant.brand_id, "CNY", "CN", "zh-CN", "web")


async def test_clicks_of_another_brands_contact_are_no_evidence(db: Database, clock: FixedClock) -> None:
    """Only leads bind across brands: a click is the visitor's own until the shop passes it on."""
    shop = await own_shop(db, clock, terms=LEADS_BIND)
    market = shop.market
    async with db.unit_of_work(market.promoter) as session:
        (contact,) = await audiences.members(
            session, market.promoter, clock, market.community_id, [person(email=ANNA)]
        )
        link = await promotion.link(session, market, clock)
        visit = ToldTouch("visit", TouchKind.CLICK, clock.now(), link.code, contact_id=contact)
        await promoting.record_touches(session, market.promoter, [visit], signer=SIGNER, clock=clock)
    clock.advance(timedelta(hours=1))

    order_id = await told_and_done(db, clock, shop, with_events(worked(shop, clock), paid(clock)))

    assert await earned(db, order_id) == []


@pytest.mark.parametrize(
    ("rules", "pin", "cream"),
    [
        ([Rule(100_000, ScopeKind.CATEGORY, "beauty/skin")], None, 1_000),
        ([Rule(100_000, ScopeKind.CATEGORY, "jewels")], 600, None),
        ([Rule(50_000), Rule(100_000, ScopeKind.CATEGORY, "jewels/pins")], 600, 500),
        ([Rule(200_000, ScopeKind.SKU, "unknown-sku"), Rule(50_000)], 300, 500),
    ],
    ids=["its own category", "the told category", "the deepest", "no SKU of the catalogue"],
)
async def test_what_the_catalogue_does_not_know_earns_by_category_or_by_everything(
    db: Database, clock: FixedClock, rules: Sequence[Rule], pin: int | None, cream: int | None
) -> None:
    """A cream of the catalogue at 100.00 and a pin that it does not know at 60.00."""
    shop = await own_shop(db, clock, terms=Terms(tuple(rules)))
    token = await clicked(db, clock, shop)
    lines = [
        LineTold("1", 1, 10_000, sku=shop.product.skus[0], title="ignored", category="ignored"),
        LineTold("2", 1, 6_000, sku="unknown-sku", title="a pin", category="jewels/pins"),
    ]
    row = worked(shop, clock, token, lines=lines, discounts=[], shipping_minor=0, total_minor=16_000)

    order_id = await told_and_done(db, clock, shop, with_events(row, paid(clock)))

    found = {title: commission for title, _, commission in await earned(db, order_id)}
    assert (found.pop("a pin", None), next(iter(found.values()), None)) == (pin, cream)


async def test_a_promoters_code_typed_into_the_shop_earns(db: Database, clock: FixedClock) -> None:
    """The discount it gave is the advertiser's: 15 % of what is left, 90.00."""
    shop = await own_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        link = await promotion.link(session, shop.market, clock, promoter_id=shop.individual)
        terms = CouponTerms("MEI-10", "CNY", clock.now(), rate_ppm=100_000, link_id=link.id)
        await codes.create_coupon(session, shop.merchant, terms, funder=Funder.ADVERTISER, now=clock.now())
    clock.advance(timedelta(minutes=5))

    row = worked(shop, clock, coupon_codes=["mei-10", "nobodys"])
    order_id = await told_and_done(db, clock, shop, with_events(row, paid(clock)))

    assert [line[2] for line in await earned(db, order_id)] == [1_350]
    async with db.reading(SYSTEM) as session:
        assert await session.scalar(text("SELECT uses FROM coupons")) == 1


@pytest.mark.parametrize(
    ("funder", "basis"), [(Funder.ADVERTISER, 9_000), (Funder.SUPPLIER, 9_000), (Funder.PLATFORM, 10_000)]
)
async def test_the_basis_is_lower_for_what_advertiser_or_supplier_give(
    db: Database, clock: FixedClock, funder: Funder, basis: int
) -> None:
    shop = await own_shop(db, clock)
    token = await clicked(db, clock, shop)
    row = worked(shop, clock, token, discounts=[DiscountTold(1_000, funder)])

    order_id = await told_and_done(db, clock, shop, with_events(row, paid(clock)))

    assert [line[1] for line in await earned(db, order_id)] == [basis]


async def test_who_promotes_buys_nothing_from_itself_by_whatever_it_is_known(
    db: Database, clock: FixedClock
) -> None:
    """The promoter is known by a phone number; the shop tells of an e-mail address and that number."""
    shop = await own_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        seller = await promoting.create_promoter(
            session, shop.market.promoter, name="Ling", kind=PromoterKind.KOC,
            identifiers=[(IdentifierKind.PHONE, ANNAS_PHONE)], payout_account=None, vault=VAULT, clock=clock,
        )  # fmt: skip
    token = await clicked(db, clock, replace(shop, individual=seller))

    def bought(reference: str, buyer: BuyerTold) -> Telling:
        row = worked(shop, clock, token, reference=reference, buyer=buyer)
        return with_events(row, replace(paid(clock), id=f"paid-{reference}"))

    itself = await told_and_done(db, clock, shop, bought("A", BuyerTold(ANNA, "138 0013 8000")))
    another = await told_and_done(db, clock, shop, bought("B", BuyerTold(ANNA, "139 0013 8000")))

    assert await earned(db, itself) == []
    assert [line[2] for line in await earned(db, another)] == [1_350]


async def test_a_buyer_is_new_once_by_whatever_the_shop_knows_it(db: Database, clock: FixedClock) -> None:
    """20 % of a new customer's order, 10 % of another's; the second order names the phone number alone."""
    terms = Terms((Rule(100_000, rate_new_ppm=200_000),))
    shop = await own_shop(db, clock, terms=terms)
    token = await clicked(db, clock, shop)
    told = []
    for name, buyer in (("A", BuyerTold(ANNA, ANNAS_PHONE)), ("B", BuyerTold(phone=ANNAS_PHONE))):
        row = worked(shop, clock, token, reference=name, buyer=buyer)
        told.append(await told_and_done(db, clock, shop, with_events(row, replace(paid(clock), id=name))))
        clock.advance(timedelta(hours=1))

    assert [(await earned(db, each))[0][2] for each in told] == [1_800, 900]
