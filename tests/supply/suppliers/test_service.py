from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import FixedClock
from core.errors import LianyuError
from core.ids import BrandId, LocationId, OfferId, SupplierId, VariantId
from core.money import CurrencyMismatch, Money
from core.pagination import PageRequest
from infra.db.session import Database
from supply.suppliers import queries, service
from supply.suppliers.errors import (
    AmountOutOfRange,
    BadZone,
    LocationNotFound,
    OfferNotFound,
    QuantityOutOfRange,
    SupplierNotFound,
)
from supply.suppliers.models import BrandRelation, SupplierStatus
from supply.suppliers.service import NewLocation, OfferTerms, PriceChange, RateToZone
from supply.suppliers.zones import serves, zone
from tests.factories import supply


def yuan(minor: int) -> Money:
    return Money(minor, "CNY")


async def test_every_cost_ever_asked_stays_on_record(session: AsyncSession, clock: FixedClock) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 1}, unit_cost_minor=1_000)
    terms = OfferTerms(source.location_id, cream, source.brand_id, "SKU", yuan(1_000))
    versions = []
    for cost in (1_000, 1_200, 1_200, 900):
        changed = OfferTerms(source.location_id, cream, source.brand_id, "SKU", yuan(cost))
        (saved,) = await service.put_offers(session, source.actor, [changed], clock=clock)
        versions.append(saved.price_version)
    assert versions == [1, 2, 2, 3]
    rows = await session.execute(
        text("SELECT price_version, unit_cost_minor FROM offer_price_changes ORDER BY price_version")
    )
    assert rows.all() == [(1, 1_000), (2, 1_200), (3, 900)]
    assert terms.moq == 1


async def test_the_newest_due_price_is_in_force(session: AsyncSession, clock: FixedClock) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 1}, unit_cost_minor=1_000)
    (offer,) = (await queries.offers_of(session, [cream], now=clock.now()))[cream]
    soon, later = clock.now() + timedelta(days=1), clock.now() + timedelta(days=2)
    changes = [PriceChange(offer.id, yuan(700), later), PriceChange(offer.id, yuan(800), soon)]
    assert await service.change_prices(session, source.actor, changes, clock=clock) == {offer.id: 3}

    costs = []
    for day in range(3):
        now = clock.now() + timedelta(days=day)
        (view,) = (await queries.offers_of(session, [cream], now=now))[cream]
        costs.append(view.unit_cost)
    assert costs == [yuan(1_000), yuan(800), yuan(700)]


async def test_a_price_list_replaces_the_one_before(session: AsyncSession, clock: FixedClock) -> None:
    source = await supply.supplier(session, clock, zones=["CN", "US"])
    rates = [RateToZone("cn-sh", yuan(500))]
    await service.set_zone_rates(session, source.actor, source.location_id, rates, clock=clock)
    assert [r["dest_zone"] for r in await queries.zone_rates(session, source.location_id)] == ["CN-SH"]


def test_a_zone_serves_what_lies_inside_it() -> None:
    assert zone("CN", "SH") == "CN-SH"
    assert serves("CN", "CN-SH")
    assert serves("CN-SH", "CN-SH")
    assert not serves("CN-SH", "CN")
    assert not serves("CN", "CNX")
    for wrong in ("", "C", "china", "CN-", "CN-SH!", "CN_SH"):
        with pytest.raises(BadZone):
            zone(wrong)


async def test_offers_and_rates_are_checked(session: AsyncSession, clock: FixedClock) -> None:
    source = await supply.supplier(session, clock)
    here, cream = source.location_id, VariantId.new()

    def offer(cost: Money, **terms: int) -> OfferTerms:
        return OfferTerms(here, cream, source.brand_id, "SKU", cost, **terms)  # type: ignore[arg-type]

    for wrong, terms in (
        (CurrencyMismatch, offer(Money(1, "USD"))),
        (AmountOutOfRange, offer(yuan(-1))),
        (AmountOutOfRange, offer(yuan(10**15 + 1))),
        (QuantityOutOfRange, offer(yuan(1), moq=0)),
        (QuantityOutOfRange, offer(yuan(1), order_multiple=1_000_001)),
        (LocationNotFound, OfferTerms(LocationId.new(), cream, source.brand_id, "SKU", yuan(1))),
    ):
        with pytest.raises(wrong):
            await service.put_offers(session, source.actor, [terms], clock=clock)
    with pytest.raises(CurrencyMismatch):
        await service.set_zone_rates(
            session, source.actor, here, [RateToZone("CN", Money(1, "USD"))], clock=clock
        )
    change = PriceChange(OfferId.new(), yuan(1), clock.now())
    with pytest.raises(OfferNotFound):
        await service.change_prices(session, source.actor, [change], clock=clock)


async def test_one_supplier_cannot_touch_anothers(db: Database, clock: FixedClock) -> None:
    cream = VariantId.new()
    async with db.unit_of_work(SYSTEM) as session:
        source = await supply.supplier(session, clock, stock={cream: 1})
    stranger = supply.supplier_actor()
    async with db.unit_of_work(stranger) as session:
        await service.register(session, supplier_id=stranger.supplier_id, name="Other", clock=clock)
        page = await queries.offers_page(session, stranger, PageRequest(), now=clock.now())
        assert page.items == []
        assert await queries.offers_of(session, [cream], now=clock.now()) == {}
        assert await queries.locations(session, source.supplier_id) == []
        attempts = [
            service.put_offers(
                session, stranger,
                [OfferTerms(source.location_id, cream, source.brand_id, "SKU", yuan(1))], clock=clock,
            ),
            service.set_zone_rates(session, stranger, source.location_id, [], clock=clock),
            service.set_location_status(session, stranger, source.location_id, active=False),
            service.update_profile(session, stranger, source.supplier_id, status=SupplierStatus.PAUSED),
        ]  # fmt: skip
        for attempt in attempts:
            with pytest.raises((LocationNotFound, SupplierNotFound)):
                await attempt


async def test_a_brand_sees_offers_of_its_own_products_only(db: Database, clock: FixedClock) -> None:
    cream = VariantId.new()
    async with db.unit_of_work(SYSTEM) as session:
        source = await supply.supplier(session, clock, stock={cream: 1})
    for brand_id, seen in ((source.brand_id, 1), (BrandId.new(), 0)):
        async with db.reading(Actor(ActorKind.BRAND, brand_id)) as session:
            offers = await queries.offers_of(session, [cream], now=clock.now())
            assert len(offers.get(cream, [])) == seen
            assert len(await queries.suppliers(session, [source.supplier_id])) == 1


async def test_only_a_brand_decides_whom_it_trusts(session: AsyncSession, clock: FixedClock) -> None:
    source = await supply.supplier(session, clock)
    with pytest.raises(LianyuError):
        await service.set_brand_rule(
            session,
            source.actor,
            supplier_id=source.supplier_id,
            relation=BrandRelation.EXCLUSIVE,
            clock=clock,
        )
    brand = Actor(ActorKind.BRAND, source.brand_id)
    with pytest.raises(QuantityOutOfRange):
        await service.set_brand_rule(
            session, brand, supplier_id=SupplierId.new(), relation=BrandRelation.AUTHORISED, preference=101,
            clock=clock,
        )  # fmt: skip


async def test_a_location_belongs_to_a_country(session: AsyncSession, clock: FixedClock) -> None:
    source = await supply.supplier(session, clock)
    with pytest.raises(BadZone):
        await service.create_location(
            session, source.actor, NewLocation("x", "X", "China", yuan(0)), clock=clock
        )
