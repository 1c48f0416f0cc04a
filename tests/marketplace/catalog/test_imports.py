from __future__ import annotations

import asyncio
import csv
import io

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, MissingScope
from core.clock import FixedClock
from core.ids import BrandId, ImportId
from core.money import Money
from core.pagination import PageRequest
from infra.db.session import Database
from marketplace.catalog import imports, queries, service
from marketplace.catalog.errors import ImportNotFound, UnreadableFile
from marketplace.catalog.models import ErrorPolicy, ImportFormat, ImportStatus
from marketplace.catalog.queries import ImportRow, ProductFilter, ProductRow
from marketplace.catalog.service import ProductText
from tests.factories.brands import brand_actor
from tests.factories.catalog import priced, product
from tests.fixtures.waiting import until

MINE = brand_actor(BrandId.new())
THEIRS = brand_actor(BrandId.new())
GOOD = """handle,sku,title_zh,title_en,category,tags,media,price:CNY,compare_at:CNY,price:USD,weight_g,option:size,status
rose-cream,RC-50,玫瑰面霜,Rose cream,beauty/skin,dry|Gift,https://m.example/1.jpg|https://m.example/2.jpg,99.00,120.00,14.5,80,50ml,published
rose-cream,RC-100,,,,,,159.00,,22,150,100ml,published
green-tea,GT-1,绿茶,"Green, tea",food/tea,,,38.50,,,200,,draft
"""  # noqa: E501


async def run(
    session: AsyncSession,
    clock: FixedClock,
    content: str | bytes,
    *,
    policy: ErrorPolicy = ErrorPolicy.REJECT_FAILED_ROWS,
    format: ImportFormat = ImportFormat.CSV,
) -> ImportRow:
    return await imports.run(session, MINE, content=content, format=format, policy=policy, clock=clock)


async def catalogue(session: AsyncSession) -> dict[str, ProductRow]:
    page = await queries.products_page(session, MINE, ProductFilter([MINE.brand_id]), PageRequest(100))
    return {row.handle: row for row in page.items}


async def errors(session: AsyncSession, done: ImportRow) -> list[tuple[int, str, str]]:
    return [(c.row, c.field, c.code) for c in await queries.complaints_of(session, done.id)]


async def test_a_file_becomes_products_with_variants_and_prices(
    session: AsyncSession, clock: FixedClock
) -> None:
    done = await run(session, clock, GOOD)

    assert (done.status, done.rows_read, done.rows_failed) == (ImportStatus.DONE, 3, 0)
    assert (done.products_created, done.products_changed, done.products_unchanged) == (2, 0, 0)
    products = await catalogue(session)
    cream, tea = products["rose-cream"], products["green-tea"]
    assert (cream.status, tea.status) == ("published", "draft")
    assert (cream.title_zh, cream.tags, [m["url"] for m in cream.media]) == (
        "玫瑰面霜", ["dry", "gift"], ["https://m.example/1.jpg", "https://m.example/2.jpg"],
    )  # fmt: skip
    assert tea.title_en == "Green, tea"
    variants = (await queries.priced_variants_of(session, [cream.id]))[cream.id]
    assert [(v.sku, v.weight_g, v.options, v.position) for v in variants] == [
        ("RC-50", 80, {"size": "50ml"}, 0), ("RC-100", 150, {"size": "100ml"}, 1),
    ]  # fmt: skip
    assert [(p.amount, p.compare_at) for p in variants[0].prices] == [
        (Money(9900, "CNY"), Money(12000, "CNY")), (Money(1450, "USD"), None),
    ]  # fmt: skip


async def test_the_same_file_again_changes_nothing(session: AsyncSession, clock: FixedClock) -> None:
    await run(session, clock, GOOD)
    before = await catalogue(session)
    events = "SELECT count(*) FROM outbox WHERE name = 'catalog.products_changed'"
    told = (await session.execute(text(events))).scalar_one()

    done = await run(session, clock, GOOD)

    assert (done.products_created, done.products_changed, done.products_unchanged) == (0, 0, 2)
    assert await catalogue(session) == before
    assert (await session.execute(text(events))).scalar_one() == told == 1


async def test_only_what_a_second_file_says_is_changed(session: AsyncSession, clock: FixedClock) -> None:
    await run(session, clock, GOOD)

    done = await run(session, clock, "sku,price:CNY,title_en,tags\nRC-50,88.00,,\nGT-1,,Sencha,tea\n")

    assert (done.products_created, done.products_changed, done.products_unchanged) == (0, 2, 0)
    products = await catalogue(session)
    cream, tea = products["rose-cream"], products["green-tea"]
    assert (cream.version, cream.tags, cream.status) == (2, ["dry", "gift"], "published")
    assert (tea.title_en, tea.title_zh, tea.tags) == ("Sencha", "绿茶", ["tea"])
    variants = (await queries.priced_variants_of(session, [cream.id], currency="CNY"))[cream.id]
    assert [(p.amount.decimal, p.compare_at) for v in variants for p in v.prices] == [
        ("88.00", None), ("159.00", None),
    ]  # fmt: skip


BAD = """handle,sku,title_en,gtin,price:CNY,weight_g,status
a,A-1,Good,,10.00,1,published
b,B-1,Bad gtin,4006381333932,10.00,1,
c,C-1,Bad price,,-1,1,
d,D-1,Bad weight,,10.00,heavy,
e,,No sku,,10.00,1,
f,A-1,Twice,,10.00,1,
g,G-1,,,10.00,1,
h,H-1,No price,,,1,published
i,I-1,Too many decimals,,1.001,1,
j,J-1,Fewer cells
"""


async def test_rows_with_errors_are_left_out_and_told_by_number(
    session: AsyncSession, clock: FixedClock
) -> None:
    done = await run(session, clock, BAD)

    assert await errors(session, done) == [
        (3, "gtin", "INVALID_GTIN"),
        (4, "price:CNY", "INVALID_PRICE"),
        (5, "weight_g", "INVALID_WEIGHT"),
        (6, "sku", "INVALID_SKU"),
        (7, "sku", "DUPLICATE_SKU"),
        (8, "title_zh", "TITLE_MISSING"),
        (9, "status", "NOTHING_TO_SELL"),
        (10, "price:CNY", "MALFORMED_AMOUNT"),
        (11, "", "MALFORMED_ROW"),
    ]
    assert (done.status, done.rows_read, done.rows_failed) == (ImportStatus.DONE, 10, 8)
    assert {h: p.status for h, p in (await catalogue(session)).items()} == {"a": "published", "h": "draft"}


async def test_one_bad_row_rejects_everything_when_asked_to(session: AsyncSession, clock: FixedClock) -> None:
    done = await run(session, clock, BAD, policy=ErrorPolicy.REJECT_EVERYTHING)

    assert (done.status, done.rows_read, done.rows_failed) == (ImportStatus.REJECTED, 10, 10)
    assert len(await errors(session, done)) == 9
    assert await catalogue(session) == {}


async def test_bad_fields_are_left_out_when_failures_are_ignored(
    session: AsyncSession, clock: FixedClock
) -> None:
    done = await run(session, clock, BAD, policy=ErrorPolicy.IGNORE_FAILED)

    products = await catalogue(session)
    assert set(products) == {"a", "b", "c", "d", "h", "i"}
    assert (done.rows_failed, len(await errors(session, done))) == (4, 9)
    variants = await queries.priced_variants_of(session, [products["b"].id, products["i"].id])
    assert variants[products["b"].id][0].gtin is None
    assert variants[products["i"].id][0].prices == []


async def test_the_error_file_can_be_opened_in_a_spreadsheet(
    session: AsyncSession, clock: FixedClock
) -> None:
    done = await run(session, clock, 'sku,title_en,price:CNY\n"=1+1",x,no\n')

    rows = list(csv.reader(io.StringIO(await queries.error_file(session, done.id))))
    assert rows[0] == ["row", "sku", "field", "code", "message"]
    assert rows[1][:4] == ["2", "'=1+1", "price:CNY", "MALFORMED_AMOUNT"]


async def test_a_sku_of_another_product_is_not_moved(session: AsyncSession, clock: FixedClock) -> None:
    await product(session, MINE, clock, variants=[priced("A-1", "1.00")])
    await product(session, THEIRS, clock, variants=[priced("B-1", "1.00")])

    done = await run(session, clock, "handle,sku,title_en,price:CNY\nnew,A-1,New,2\nnew,B-1,New,2\n")

    assert await errors(session, done) == [(2, "sku", "SKU_OF_ANOTHER_PRODUCT")]
    assert done.products_created == 1  # B-1 is another brand's SKU too, which is nobody's business
    prices = await queries.resolve_skus(session, ["A-1", "B-1"])
    assert len(prices) == 3


async def test_json_lines_say_the_same_as_csv(session: AsyncSession, clock: FixedClock) -> None:
    lines = [
        {"handle": "tea", "sku": "T-1", "title_zh": "茶", "tags": ["green", "gift"], "weight_g": 5,
         "prices": {"CNY": "8.80", "JPY": 180}, "compare_at": {"CNY": "10"}, "options": {"size": "S"},
         "attributes": {"organic": True, "notes": ["grass", "nut"]}, "status": "published",
         "media": [{"url": "https://m.example/t.mp4", "kind": "video"}]},
        {"sku": "T-2", "price": "1"},
        [1],
        {"sku": "T-3", "title_en": "Float", "prices": {"CNY": 1.5}},
    ]  # fmt: skip
    content = b"\n".join(orjson.dumps(line) for line in lines) + b"\n{broken\n\n"
    done = await run(session, clock, content, format=ImportFormat.JSONL)

    assert await errors(session, done) == [
        (2, "price", "UNKNOWN_FIELD"), (3, "", "MALFORMED_ROW"), (4, "price:CNY", "MALFORMED_AMOUNT"),
        (5, "", "MALFORMED_ROW"),
    ]  # fmt: skip
    tea = (await catalogue(session))["tea"]
    assert (tea.tags, tea.attributes) == (["green", "gift"], {"organic": True, "notes": ["grass", "nut"]})
    assert tea.media[0]["kind"] == "video"
    prices = (await queries.priced_variants_of(session, [tea.id]))[tea.id][0].prices
    assert [(p.amount, p.compare_at) for p in prices] == [
        (Money(880, "CNY"), Money(1000, "CNY")), (Money(180, "JPY"), None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        "",
        "title_en\nx\n",
        "sku,colour\nA,red\n",
        "sku,sku\nA,B\n",
        b"\xff\xfe\xff\xff",
        '"sku\nA\n',
        "x" * 5_000_001,
    ],
)
async def test_a_file_that_means_nothing_is_refused_whole(
    session: AsyncSession, clock: FixedClock, content: str | bytes
) -> None:
    with pytest.raises(UnreadableFile):
        await run(session, clock, content)


async def test_reading_ends_at_a_broken_quote(session: AsyncSession, clock: FixedClock) -> None:
    done = await run(session, clock, 'sku,title_en\nA-1,fine\nA-2,"bro"ken\nA-3,lost\n')

    assert await errors(session, done) == [(3, "", "MALFORMED_ROW")]
    assert (done.rows_read, set(await catalogue(session))) == (2, {"a-1"})


async def test_what_a_spreadsheet_saves_in_china_is_read(session: AsyncSession, clock: FixedClock) -> None:
    file = "sku,title_zh\nA-1,保湿面霜\n"
    for content in (
        file.encode("gb18030"),
        b"\xef\xbb\xbf" + file.encode(),
        file.replace("\n", "\r\n").encode(),
    ):
        await run(session, clock, content)
        assert (await catalogue(session))["a-1"].title_zh == "保湿面霜"


async def test_an_archived_product_stays_so(session: AsyncSession, clock: FixedClock) -> None:
    await run(session, clock, GOOD)
    cream = (await catalogue(session))["rose-cream"]
    await service.archive(session, MINE, cream.id, clock=clock)

    await run(session, clock, GOOD)

    assert (await catalogue(session))["rose-cream"].status == "archived"


async def test_an_import_is_its_brands_own(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(MINE) as session:
        done = await run(session, clock, BAD)
    async with db.reading(THEIRS) as session:
        with pytest.raises(ImportNotFound):
            await queries.import_of(session, THEIRS, done.id)
        assert await queries.complaints_of(session, done.id) == []
        with pytest.raises(ImportNotFound):
            await queries.import_of(session, THEIRS, ImportId.new())
        with pytest.raises(MissingScope):
            await imports.run(
                session, type(MINE)(MINE.kind, MINE.tenant_id), content=GOOD, format=ImportFormat.CSV,
                policy=ErrorPolicy.IGNORE_FAILED, clock=clock,
            )  # fmt: skip
    async with db.reading(MINE) as session:
        assert await queries.import_of(session, MINE, done.id) == done


async def load(db: Database, clock: FixedClock, content: str, brand: Actor = MINE) -> ImportRow:
    async with db.unit_of_work(brand) as session:
        return await imports.run(
            session, brand, content=content, format=ImportFormat.CSV,
            policy=ErrorPolicy.REJECT_EVERYTHING, clock=clock,
        )  # fmt: skip


async def test_two_files_at_once_wait_for_one_another(db: Database, clock: FixedClock) -> None:
    rows = [f"p{n},S-{n},Tea {n},{n + 1}.00" for n in range(50)]
    header = "handle,sku,title_en,price:CNY\n"
    files = [header + "\n".join(order) for order in (rows, rows[::-1], rows[25:] + rows[:25])]
    done = await asyncio.gather(*(load(db, clock, file) for file in files))

    assert sorted(d.products_created for d in done) == [0, 0, 50]
    assert sorted(d.products_unchanged for d in done) == [0, 50, 50]


async def _until_it_waits(db: Database) -> None:
    waiting = text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO products%'
    """)

    async def waits() -> bool:
        async with db.reading(MINE) as session:  # one view of other connections to a transaction
            return bool((await session.execute(waiting)).scalar_one())

    await until(waits, "the import never waited")


async def test_a_product_made_meanwhile_is_found(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(MINE) as session:
        cream_id = await service.create_product(
            session, MINE, ProductText(handle="rose-cream", title_zh="霜"), variants=[priced("X-1", "5.00")],
            clock=clock,
        )  # fmt: skip
        loading = asyncio.create_task(load(db, clock, GOOD))
        await _until_it_waits(db)
    done = await loading

    assert (done.products_created, done.products_changed) == (1, 1)
    async with db.reading(MINE) as session:
        cream = (await catalogue(session))["rose-cream"]
        assert (cream.id, cream.title_zh) == (cream_id, "玫瑰面霜")
        variants = (await queries.variants_of(session, [cream_id]))[cream_id]
        assert [v.sku for v in variants] == ["X-1", "RC-50", "RC-100"]


async def test_thousands_of_rows_are_a_few_events(db: Database, clock: FixedClock) -> None:
    rows = "".join(f"p{n // 3},S-{n},Tea {n},food/tea,{n % 900 + 1}.00,published\n" for n in range(5_000))
    content = "handle,sku,title_en,category,price:CNY,status\n" + rows
    count_prices = text("SELECT count(*), count(*) FILTER (WHERE listed) FROM prices WHERE brand_id = :brand")
    brand = brand_actor(BrandId.new())
    done = await load(db, clock, content, brand)

    assert (done.rows_read, done.rows_failed, done.products_created) == (5_000, 0, 1_667)
    async with db.reading(brand) as session:
        counted = await session.execute(count_prices, {"brand": brand.brand_id})
        assert tuple(counted.one()) == (5_000, 5_000)
        told = await session.execute(
            text(
                "SELECT count(*) FROM outbox WHERE name = 'catalog.products_changed' AND body::text LIKE :brand"
            ),
            {"brand": f"%{brand.brand_id}%"},
        )
        assert told.scalar_one() == 9  # 1,667 products, 200 to an event

    drafts = await load(db, clock, content.replace("published", "draft"), brand)

    assert (drafts.products_created, drafts.products_changed) == (0, 1_667)
    async with db.reading(brand) as session:
        counted = await session.execute(count_prices, {"brand": brand.brand_id})
        assert tuple(counted.one()) == (5_000, 0)
