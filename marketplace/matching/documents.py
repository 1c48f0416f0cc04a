"""Search documents: how a product becomes what is searched, and who keeps the index true to the catalogue.

A document is made of what is committed, under a lock that one indexer holds at a time, and numbered under it:
so a later number never carries older facts, whatever order the events come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import BrandId, ProductId, VariantId
from infra.db.session import Database
from infra.search.index import Document, SearchIndex
from marketplace.brands import queries as brands
from marketplace.brands.queries import Brand
from marketplace.catalog import queries as catalog
from marketplace.catalog.events import ProductChanged, ProductsChanged
from marketplace.catalog.models import ProductStatus
from marketplace.catalog.queries import PricedVariant, ProductRow
from supply.inventory import queries as inventory

BATCH = 500
_TURN = text("SELECT pg_advisory_xact_lock(4207849484), nextval('search_document_versions')")


async def on_product_changed(
    session: AsyncSession, event: ProductChanged, *, clock: Clock, search: SearchIndex
) -> None:
    await index_products(session, search, [event.product_id], now=clock.now())


async def on_products_changed(
    session: AsyncSession, event: ProductsChanged, *, clock: Clock, search: SearchIndex
) -> None:
    await index_products(session, search, event.product_ids, now=clock.now())


async def index_products(
    session: AsyncSession,
    search: SearchIndex,
    product_ids: Sequence[ProductId],
    *,
    now: datetime,
    generation: int | None = None,
) -> int:
    """Bring the index in line with the catalogue for these products; returns how many are on view.

    For SYSTEM: it reads every brand's products. Six statements, however many products.
    """
    version = (await session.execute(_TURN)).one().nextval
    documents = await documents_of(session, product_ids, version=version, now=now)
    shown = {document.product_id for document in documents}
    await search.apply(session, documents, [p for p in product_ids if p not in shown], generation=generation)
    return len(documents)


async def documents_of(
    session: AsyncSession, product_ids: Sequence[ProductId], *, version: int, now: datetime
) -> list[Document]:
    """The documents of those products that are published."""
    products = await catalog.products_of(session, SYSTEM, product_ids)
    shown = [product for product in products.values() if product.status == ProductStatus.PUBLISHED]
    variants = await catalog.priced_variants_of(session, [product.id for product in shown])
    known = await brands.brands_of(session, SYSTEM, {product.brand_id for product in shown})
    stock = await inventory.sellable(session, [v.id for vs in variants.values() for v in vs], now=now)
    return [
        _document(product, variants.get(product.id, ()), known.get(product.brand_id), stock, version)
        for product in shown
    ]


async def rebuild(db: Database, *, clock: Clock, search: SearchIndex, batch: int = BATCH) -> int:
    """The whole index anew, beside the one that is searched meanwhile; returns the number of documents.

    Raises ``RebuildRunning``. A rebuild that fails leaves the index as it was.
    """
    async with db.unit_of_work(SYSTEM) as session:
        generation = await search.begin_rebuild(session)
    try:
        count = await _fill(db, search, generation, clock, batch)
        async with db.unit_of_work(SYSTEM) as session:
            await search.publish(session, generation)
    except BaseException:
        async with db.unit_of_work(SYSTEM) as session:
            await search.drop(session, generation)
        raise
    return count


async def refresh_stock(db: Database, *, clock: Clock, search: SearchIndex) -> int:
    """A sweep: put right the documents whose stock flag is not what the stock says. Returns how many.

    Events of stock are many and flags change seldom, so the flags are compared, not followed.
    """
    changed, after = 0, None
    while True:
        async with db.unit_of_work(SYSTEM) as session:
            ids = await catalog.published_ids(session, after=after, limit=BATCH)
            if not ids:
                return changed
            flags = await search.stock_flags(session, ids)
            stock = await _in_stock(session, ids, clock.now())
            wrong = [p for p in ids if flags.get(p) != stock[p]]
            if wrong:
                changed += await index_products(session, search, wrong, now=clock.now())
        after = ids[-1]


async def _fill(db: Database, search: SearchIndex, generation: int, clock: Clock, batch: int) -> int:
    count, after = 0, None
    while True:
        async with db.unit_of_work(SYSTEM) as session:
            ids = await catalog.published_ids(session, after=after, limit=batch)
            if not ids:
                return count
            count += await index_products(session, search, ids, now=clock.now(), generation=generation)
        after = ids[-1]


async def _in_stock(
    session: AsyncSession, product_ids: Sequence[ProductId], now: datetime
) -> dict[ProductId, bool]:
    variants = await catalog.variants_of(session, product_ids)
    stock = await inventory.sellable(session, [v.id for vs in variants.values() for v in vs], now=now)
    return {p: any(stock[v.id] > 0 for v in variants.get(p, ())) for p in product_ids}


def _document(
    product: ProductRow,
    variants: Sequence[PricedVariant],
    brand: Brand | None,
    stock: dict[VariantId, int],
    version: int,
) -> Document:
    return Document(
        product_id=product.id,
        brand_id=BrandId.of(product.brand_id),
        title_zh=product.title_zh,
        title_en=product.title_en,
        category=product.category,
        tags=product.tags,
        prices=_price_bands(variants),
        in_stock=any(stock[variant.id] > 0 for variant in variants),
        created_at=product.created_at,
        version=version,
        brand_names=[name for name in (brand.name, brand.name_zh, brand.name_en) if name] if brand else [],
        description=f"{product.description_zh}\n{product.description_en}".strip(),
        attributes=_attribute_texts(product, variants),
        skus=[variant.sku for variant in variants],
    )


def _price_bands(variants: Sequence[PricedVariant]) -> dict[str, tuple[int, int]]:
    amounts: dict[str, list[int]] = {}
    for variant in variants:
        for price in variant.prices:
            amounts.setdefault(price.amount.currency, []).append(price.amount.amount_minor)
    return {currency: (min(of), max(of)) for currency, of in amounts.items()}


def _attribute_texts(product: ProductRow, variants: Sequence[PricedVariant]) -> list[str]:
    """What else a reader may look for: attribute and option values, variants' titles, barcodes."""
    texts: list[str] = []
    for value in product.attributes.values():
        texts += value if isinstance(value, list) else [str(value)]
    for variant in variants:
        texts += [variant.title, *variant.options.values(), variant.gtin or ""]
    return list(dict.fromkeys(filter(None, texts)))
