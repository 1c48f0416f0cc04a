"""The generated market: as large as promised, the same every time, and coherent enough to trade in."""

from __future__ import annotations

import pytest

from services.demo.market import REGIONS, SEED, Market, generate


@pytest.fixture(scope="module")
def market() -> Market:
    return generate(SEED)


def test_one_seed_gives_one_market(market: Market) -> None:
    assert generate(SEED) == market
    assert generate(SEED + 1) != market


def test_it_is_as_large_as_promised(market: Market) -> None:
    products = [product for brand in market.brands for product in brand.products]

    assert len(market.brands) >= 6
    assert len(market.communities) == 12
    assert market.members == 5_000
    assert len(products) == 400
    assert sum(len(product.variants) for product in products) == 1_000
    assert len(market.suppliers) == 10
    assert {supplier.market_region for supplier in market.suppliers} == set(REGIONS)


def test_every_brand_has_a_chinese_and_an_english_name(market: Market) -> None:
    assert all(not brand.zh.isascii() and brand.en.isascii() for brand in market.brands)


def test_names_codes_and_addresses_are_given_once(market: Market) -> None:
    products = [product for brand in market.brands for product in brand.products]
    skus = [variant.sku for product in products for variant in product.variants]
    members = [member for community in market.communities for member in community.members]
    people = {member.person.email: member.person for member in members}

    assert len(set(skus)) == len(skus)
    assert len({product.handle for product in products}) == len(products)
    assert len({person.phone for person in people.values()}) == len(people)
    for community in market.communities:
        assert len({member.person.email for member in community.members}) == len(community.members)


def test_some_people_belong_to_several_communities(market: Market) -> None:
    emails = [member.person.email for community in market.communities for member in community.members]

    assert len(set(emails)) < len(emails)


def test_nobody_real_can_be_reached(market: Market) -> None:
    for community in market.communities:
        for member in community.members:
            assert member.person.email.rpartition("@")[2] in {"example.com", "example.net", "example.org"}
            assert member.person.phone[5:10] == "55501"  # after +1 and the area: given to nobody


def test_most_variants_have_at_least_two_suppliers_that_differ(market: Market) -> None:
    by_sku: dict[str, list[tuple[str, int]]] = {}
    for supplier in market.suppliers:
        for offer in supplier.offers:
            by_sku.setdefault(offer.sku, []).append((supplier.code, offer.cost_minor))

    assert len(by_sku) == 1_000
    assert sum(len(offers) >= 2 for offers in by_sku.values()) >= 900
    assert len(by_sku[market.lonely_sku]) == 1


def test_an_offer_leaves_room_for_tax_commission_and_fee(market: Market) -> None:
    """Tax 19/119, commission 18 %, platform fee 5 % and the cost must fit into the price."""
    prices = {
        (variant.sku, currency): amount
        for brand in market.brands
        for product in brand.products
        for variant in product.variants
        for currency, amount in variant.prices.items()
    }
    for supplier in market.suppliers:
        for offer in supplier.offers:
            price = prices[offer.sku, supplier.currency]
            assert 0 < offer.cost_minor < price * (1 - 19 / 119 - 0.18 - 0.05)


def test_agreements_promise_goods_that_the_promoters_people_like(market: Market) -> None:
    for agreement in market.agreements:
        assert agreement.advertiser != agreement.promoter
        liked = {tag for c in market.communities if c.brand == agreement.promoter for tag in c.tags}
        offered = {tag for p in market.by_brand[agreement.advertiser].products for tag in p.tags}
        assert liked & offered


def test_a_link_leads_to_a_product_its_agreement_covers(market: Market) -> None:
    scopes = {(a.advertiser, a.promoter): a.category for a in market.agreements}
    for link in market.links:
        if link.product:
            (product,) = [p for p in market.by_brand[link.advertiser].products if p.handle == link.product]
            assert product.category.startswith(scopes[link.advertiser, link.promoter])
