from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import MissingScope, WrongTenant
from core.clock import FixedClock
from core.errors import LianyuError
from core.ids import BrandId, ProductId, SupplierId, VariantId
from core.money import CurrencyMismatch, Money
from core.pagination import PageRequest
from infra.db.session import Database
from marketplace.catalog import queries, service
from marketplace.catalog.errors import (
    HandleTaken,
    InvalidCategory,
    InvalidGtin,
    InvalidHandle,
    InvalidMedia,
    InvalidPrice,
    InvalidSku,
    InvalidTag,
    InvalidWeight,
    NothingToSell,
    ProductArchived,
    ProductNotFound,
    SkuTaken,
    TitleMissing,
    VariantNotFound,
    VersionChanged,
)
from marketplace.catalog.models import ProductStatus
from marketplace.catalog.queries import ProductFilter, TaxRate
from marketplace.catalog.service import NewVariant, PriceTag, ProductText, VariantPrice
from tests.factories.brands import brand_actor, shopper, supplier_actor
from tests.factories.catalog import priced, product, yuan
from tests.fixtures.statements import statements_of

MINE = brand_actor(BrandId.new())
THEIRS = brand_actor(BrandId.new())


async def changes(session: AsyncSession) -> int:
    rows = await session.execute(text("SELECT count(*) FROM outbox WHERE name = 'catalog.product_changed'"))
    return int(rows.scalar_one())


async def test_a_product_keeps_its_texts_tags_and_prices_in_several_currencies(
    session: AsyncSession, clock: FixedClock
) -> None:
    made = await product(
        session, MINE, clock, category=" Beauty/Skin ", tags=["Dry Skin", "dry skin", "玫瑰"],
        variants=[priced("A-1", "100.00", Money(1450, "USD"), Money(2200, "JPY"), weight_g=120)],
    )  # fmt: skip

    row = await queries.product(session, MINE, made.id)
    assert (row.category, row.tags, row.status) == ("beauty/skin", ["dry skin", "玫瑰"], "published")
    assert (row.title("zh-CN"), row.title("en"), row.handle) == ("保湿面霜", "Moist cream", "moist-cream")
    prices = await queries.prices_of(session, made.variants)
    assert [str(p.amount) for p in prices[made.variants[0]]] == ["100.00 CNY", "2200 JPY", "14.50 USD"]
    assert await changes(session) == 1


async def test_what_a_cart_needs_comes_in_one_statement(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(MINE) as session:
        made = await product(session, MINE, clock, variants=[priced("A-1", "9.90"), NewVariant("A-2")])

    async with db.reading(MINE) as session:
        with statements_of(db) as statements:
            found = await queries.variants_for_sale(
                session, [*made.variants, VariantId.new()], currency="CNY"
            )
    assert len(statements) == 1
    first, second = (found[variant_id] for variant_id in made.variants)
    assert (first.price, second.price) == (Money(990, "CNY"), None)
    assert (first.sku, first.brand_id, first.published) == ("A-1", MINE.brand_id, True)
    assert (first.product_title, len(found)) == ("保湿面霜", 2)


async def test_a_product_without_a_price_is_not_published(session: AsyncSession, clock: FixedClock) -> None:
    for variants in ([], [NewVariant("A-1")]):
        with pytest.raises(NothingToSell):
            await product(session, MINE, clock, variants=variants, publish=True)
    made = await product(session, MINE, clock, variants=[NewVariant("B-1")], publish=False)

    with pytest.raises(NothingToSell):
        await service.publish(session, MINE, made.id, clock=clock)
    await service.set_prices(
        session, MINE, [VariantPrice(made.variants[0], "CNY", PriceTag(yuan("1.00")))], clock=clock
    )
    await service.publish(session, MINE, made.id, clock=clock)

    assert (await queries.product(session, MINE, made.id)).status == ProductStatus.PUBLISHED


async def test_the_last_price_of_a_published_product_stays(session: AsyncSession, clock: FixedClock) -> None:
    made = await product(session, MINE, clock, variants=[priced("A-1", "5.00", Money(80, "USD"))])
    variant = made.variants[0]

    await service.set_prices(session, MINE, [VariantPrice(variant, "USD", None)], clock=clock)
    with pytest.raises(NothingToSell):
        await service.set_prices(session, MINE, [VariantPrice(variant, "CNY", None)], clock=clock)


async def test_archived_is_off_view_and_comes_back_only_as_a_draft(
    session: AsyncSession, clock: FixedClock
) -> None:
    made = await product(session, MINE, clock)

    await service.archive(session, MINE, made.id, clock=clock)
    with pytest.raises(ProductArchived):
        await service.publish(session, MINE, made.id, clock=clock)
    await service.withdraw(session, MINE, made.id, clock=clock)
    await service.publish(session, MINE, made.id, clock=clock)

    assert (await queries.product(session, MINE, made.id)).version == 4


async def test_publishing_twice_is_one_change(session: AsyncSession, clock: FixedClock) -> None:
    made = await product(session, MINE, clock)
    before = await changes(session)

    assert await service.publish(session, MINE, made.id, clock=clock) == 1
    assert await changes(session) == before


async def test_a_change_of_what_has_changed_meanwhile_is_refused(
    session: AsyncSession, clock: FixedClock
) -> None:
    made = await product(session, MINE, clock)
    assert (
        await service.update_product(
            session, MINE, made.id, ProductText(title_en="New"), version=1, clock=clock
        )
        == 2
    )

    with pytest.raises(VersionChanged) as error:
        await service.update_product(
            session, MINE, made.id, ProductText(title_en="Old"), version=1, clock=clock
        )
    assert error.value.facts() == {"expected": 1, "current": 2}
    row = await queries.product(session, MINE, made.id)
    assert (row.title_en, row.title_zh) == ("New", "保湿面霜")


async def test_handles_and_skus_are_unique_within_a_brand(session: AsyncSession, clock: FixedClock) -> None:
    first = await product(session, MINE, clock, variants=[priced("A-1", "1.00")])
    await product(session, THEIRS, clock, variants=[priced("A-1", "1.00")])
    again = await product(session, MINE, clock, variants=[priced("A-2", "1.00")])

    assert (await queries.product(session, MINE, again.id)).handle.startswith("moist-cream-")
    with pytest.raises(SkuTaken) as error:
        await product(session, MINE, clock, variants=[priced("A-1", "1.00"), priced("A-3", "1.00")])
    assert error.value.skus == ["A-1"]
    with pytest.raises(SkuTaken):
        await product(session, MINE, clock, variants=[priced("B", "1.00"), priced("B", "1.00")])
    with pytest.raises(HandleTaken):
        await service.update_product(session, MINE, again.id, ProductText(handle="moist-cream"), clock=clock)
    found = await queries.resolve_skus(session, ["A-1", "A-2", "none"], MINE.brand_id)
    assert found == {(MINE.brand_id, "A-1"): first.variants[0], (MINE.brand_id, "A-2"): again.variants[0]}


@pytest.mark.parametrize(
    ("text_", "error"),
    [
        (ProductText(), TitleMissing),
        (ProductText(title_en="x", handle="No Spaces"), InvalidHandle),
        (ProductText(title_en="x", category="a//b"), InvalidCategory),
        (ProductText(title_en="x", category="/".join("abcdefg")), InvalidCategory),
        (ProductText(title_en="x", tags=["x" * 51]), InvalidTag),
        (ProductText(title_en="x", tags=[str(n) for n in range(51)]), InvalidTag),
        (ProductText(title_en="x", media=[{"url": "javascript:alert(1)"}]), InvalidMedia),
        (ProductText(title_en="x", media=[{"url": "http://"}]), InvalidMedia),
        (ProductText(title_en="x", media=[{"url": "https://a.example/b", "kind": "script"}]), InvalidMedia),
    ],
)
async def test_nonsense_in_a_product_is_refused(
    session: AsyncSession, clock: FixedClock, text_: ProductText, error: type[LianyuError]
) -> None:
    with pytest.raises(error):
        await service.create_product(session, MINE, text_, clock=clock)


@pytest.mark.parametrize(
    ("variant", "error"),
    [
        (NewVariant(""), InvalidSku),
        (NewVariant("a b"), InvalidSku),
        (NewVariant("x" * 65), InvalidSku),
        (NewVariant("A", gtin="4006381333932"), InvalidGtin),
        (NewVariant("A", gtin="123"), InvalidGtin),
        (NewVariant("A", weight_g=-1), InvalidWeight),
        (NewVariant("A", weight_g=10**9), InvalidWeight),
        (NewVariant("A", [PriceTag(Money(0, "CNY"))]), InvalidPrice),
        (NewVariant("A", [PriceTag(Money(-5, "CNY"))]), InvalidPrice),
        (NewVariant("A", [PriceTag(Money(10**15 + 1, "CNY"))]), InvalidPrice),
        (NewVariant("A", [PriceTag(Money(10, "CNY"), Money(10, "CNY"))]), InvalidPrice),
        (NewVariant("A", [PriceTag(Money(10, "CNY"), Money(20, "USD"))]), CurrencyMismatch),
    ],
)
async def test_nonsense_in_a_variant_is_refused(
    session: AsyncSession, clock: FixedClock, variant: NewVariant, error: type[LianyuError]
) -> None:
    with pytest.raises(error):
        await product(session, MINE, clock, variants=[variant], publish=False)


async def test_a_barcode_with_a_right_check_digit_is_taken(session: AsyncSession, clock: FixedClock) -> None:
    # EAN-13 of the GS1 General Specifications' worked example, and its GTIN-14 form.
    variants = [NewVariant("A", gtin="4006381333931"), NewVariant("B", gtin="04006381333931")]
    made = await product(session, MINE, clock, variants=variants, publish=False)

    rows = await queries.variants_by_id(session, made.variants)
    assert [rows[v].gtin for v in made.variants] == ["4006381333931", "04006381333931"]


async def test_another_brands_product_cannot_be_changed(session: AsyncSession, clock: FixedClock) -> None:
    # A SYSTEM session: the service refuses even where row-level security would not.
    made = await product(session, THEIRS, clock)
    price = VariantPrice(made.variants[0], "CNY", PriceTag(yuan("1.00")))

    with pytest.raises(ProductNotFound):
        await service.update_product(session, MINE, made.id, ProductText(title_en="mine"), clock=clock)
    with pytest.raises(ProductNotFound):
        await service.archive(session, MINE, made.id, clock=clock)
    with pytest.raises(ProductNotFound):
        await service.add_variants(session, MINE, made.id, [NewVariant("X")], clock=clock)
    with pytest.raises(VariantNotFound):
        await service.set_prices(session, MINE, [price], clock=clock)
    with pytest.raises(ProductNotFound):
        await service.publish(session, MINE, ProductId.new(), clock=clock)
    with pytest.raises(MissingScope):
        await service.archive(session, type(MINE)(MINE.kind, MINE.tenant_id), made.id, clock=clock)
    with pytest.raises((MissingScope, WrongTenant)):
        await service.archive(session, shopper(THEIRS.brand_id), made.id, clock=clock)


async def test_variants_are_added_behind_those_there_are(session: AsyncSession, clock: FixedClock) -> None:
    made = await product(session, MINE, clock, variants=[priced("A", "1.00"), priced("B", "1.00")])
    await service.add_variants(session, MINE, made.id, [priced("C", "2.00", title="large")], clock=clock)

    variants = (await queries.priced_variants_of(session, [made.id]))[made.id]
    assert [(v.sku, v.position) for v in variants] == [("A", 0), ("B", 1), ("C", 2)]
    assert variants[2].prices[0].amount == yuan("2.00")


async def test_pages_of_products_follow_the_filter(session: AsyncSession, clock: FixedClock) -> None:
    made = [
        await product(session, MINE, clock, title_en=f"Tea {n}",
                      category=("food/tea", "food/tea/green")[n % 2],
                      tags=["tea"] if n else ["tea", "gift"])
        for n in range(5)
    ]  # fmt: skip
    await product(session, MINE, clock, title_en="100% pure", category="food/teapot")

    async def ids(filter: ProductFilter, first: int = 10) -> list[ProductId]:
        seen: list[ProductId] = []
        after = None
        while True:
            page = await queries.products_page(session, MINE, filter, PageRequest(first, after))
            seen += [row.id for row in page.items]
            if not page.has_next:
                assert await queries.products_count(session, MINE, filter) == len(seen)
                return seen
            after = page.cursors[-1]

    all_ids = [m.id for m in made]
    assert await ids(ProductFilter(category="food/tea"), first=2) == all_ids
    assert await ids(ProductFilter(category="food/tea/green")) == [all_ids[1], all_ids[3]]
    assert await ids(ProductFilter(tags=["tea", "gift"])) == [all_ids[0]]
    assert await ids(ProductFilter(text="tea 3")) == [all_ids[3]]
    assert len(await ids(ProductFilter(text="100%"))) == 1
    assert await ids(ProductFilter(status=ProductStatus.DRAFT)) == []
    assert await ids(ProductFilter(brand_ids=[])) == []


async def test_tax_follows_the_country_and_the_longest_category(session: AsyncSession) -> None:
    rates = await queries.tax_rate(session, "CN", ["beauty/skin", "books", "books/art", "bookshelf", ""])

    # China: VAT 13 % in the price, 9 % on books (VAT Law of 2026, art. 10).
    standard, books = TaxRate(130_000, True), TaxRate(90_000, True)
    assert rates == {
        "beauty/skin": standard,
        "books": books,
        "books/art": books,
        "bookshelf": standard,
        "": standard,
    }
    assert await queries.tax_rate(session, "BR", ["x"]) == {"x": TaxRate(0, True)}


async def test_only_published_products_are_seen_by_others(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(MINE) as session:
        draft = await product(session, MINE, clock, publish=False)
        shown = await product(session, MINE, clock)

    tables = ("products", "variants", "prices")
    for actor, expected in (
        (MINE, 2),
        (THEIRS, 1),
        (supplier_actor(SupplierId.new()), 1),
        (shopper(MINE.brand_id), 1),
        (shopper(THEIRS.brand_id), 1),
    ):
        async with db.reading(actor) as session:
            counts = [(await session.execute(text(f"SELECT count(*) FROM {t}"))).scalar_one() for t in tables]
            assert counts == [expected] * 3, actor
            assert set(await queries.products_of(session, actor, [draft.id, shown.id])) == (
                {draft.id, shown.id} if actor is MINE else {shown.id}
            )
    async with db.engine.connect() as nobody:
        assert [(await nobody.execute(text(f"SELECT count(*) FROM {t}"))).scalar_one() for t in tables] == [
            0
        ] * 3


async def test_variants_and_prices_go_off_view_with_their_product(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(MINE) as session:
        made = await product(session, MINE, clock)

    async def seen() -> tuple[int, int]:
        async with db.reading(THEIRS) as session:
            variants = await queries.variants_of(session, [made.id])
            return len(variants), len(await queries.prices_of(session, made.variants))

    assert await seen() == (1, 1)
    async with db.unit_of_work(MINE) as session:
        await service.withdraw(session, MINE, made.id, clock=clock)
    assert await seen() == (0, 0)
    async with db.unit_of_work(MINE) as session:
        await service.publish(session, MINE, made.id, clock=clock)
    assert await seen() == (1, 1)


async def test_no_statement_of_another_brand_changes_a_row(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(MINE) as session:
        await product(session, MINE, clock)

    for statement in (
        "UPDATE products SET title_en = 'x'",
        "UPDATE prices SET amount_minor = 1",
        "DELETE FROM variants",
    ):
        async with db.unit_of_work(THEIRS) as session:
            assert (await session.execute(text(statement))).rowcount == 0  # type: ignore[attr-defined]
