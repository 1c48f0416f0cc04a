"""What a shopper sees: search with facets, and products with price and stock, in the storefront's terms.

A list costs four statements: who asks, which agreements open which products, the hits, and everything of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.errors import Unauthenticated
from core.ids import BrandId, ProductId, TenantId
from core.money import Money as CoreMoney
from core.pagination import PageRequest, decode_cursor, encode_cursor
from graph.brands import loaders as brand_loaders
from graph.catalog.types import Media, media_of, money_of
from graph.context import Context, Info
from graph.pagination import After, Edge, First, PageInfo
from graph.scalars import JSON, Money
from infra.search.filters import And, Eq, Exists, Field, Filter, In, Range
from infra.search.index import SearchQuery, Sort
from marketplace.brands.queries import StorefrontFacts
from marketplace.catalog.errors import ProductNotFound
from marketplace.catalog.listing import ListedProduct, ListedVariant, listing
from marketplace.matching.shelves import OnSale, on_sale

strawberry.enum(Sort, name="ProductSort")


@strawberry.enum(description="What hits can be counted by.")
class ProductFacet(Enum):
    BRAND = "brand"
    CATEGORY = "category"
    TAG = "tag"
    IN_STOCK = "in_stock"


@strawberry.input(description="Every condition given must hold; within a list, any of its values.")
class ProductSearchFilter:
    brand_ids: list[strawberry.ID] | None = None
    categories: list[str] | None = strawberry.field(default=None, description="With their sub-categories.")
    tags: list[str] | None = None
    in_stock: bool | None = None
    price_min: str | None = strawberry.field(default=None, description="In the storefront's currency.")
    price_max: str | None = None

    def tree(self, currency: str) -> list[Filter]:
        parts: list[Filter] = []
        if self.brand_ids is not None:
            parts.append(In(Field.BRAND, tuple(self.brand_ids)))
        if self.categories is not None:
            parts.append(In(Field.CATEGORY, tuple(category.lower() for category in self.categories)))
        if self.tags is not None:
            parts.append(In(Field.TAG, tuple(tag.lower() for tag in self.tags)))
        if self.in_stock is not None:
            parts.append(Eq(Field.IN_STOCK, self.in_stock))
        if self.price_min is not None or self.price_max is not None:
            low, high = _minor(self.price_min, currency), _minor(self.price_max, currency)
            parts.append(Range(Field.PRICE, low, high))
        return parts


@strawberry.type
class FacetValue:
    value: str
    count: int


@strawberry.type(description="Counts without the facet's own filter, so that a choice can be widened.")
class FacetCounts:
    name: ProductFacet
    values: list[FacetValue]


@strawberry.type
class Variant:
    id: strawberry.ID
    sku: str
    title: str
    options: JSON
    weight_g: int
    price: Money
    compare_at: Money | None
    in_stock: bool
    available: int = strawberry.field(description="Units that can be sent to the storefront's country now.")

    @classmethod
    def of(cls, row: ListedVariant) -> Variant:
        assert row.price is not None  # others are not for sale here
        return cls(
            id=strawberry.ID(str(row.id)),
            sku=row.sku,
            title=row.title,
            options=JSON(row.options),
            weight_g=row.weight_g,
            price=Money.of(row.price),
            compare_at=money_of(row.compare_at),
            in_stock=row.available > 0,
            available=row.available,
        )


@strawberry.type
class StorefrontBrand:
    id: strawberry.ID
    name: str


@strawberry.type(description="In the storefront's language as far as there is text in it.")
class Product:
    id: strawberry.ID
    handle: str
    title: str
    title_zh: str
    title_en: str
    description: str
    category: str
    tags: list[str]
    media: list[Media]
    attributes: JSON
    price: Money = strawberry.field(description="The lowest of its variants.")
    in_stock: bool
    variants: list[Variant]
    brand_id: strawberry.ID

    @strawberry.field
    async def brand(self, info: Info) -> StorefrontBrand:
        tenant_id = TenantId.of(BrandId.parse(self.brand_id))
        tenant = await info.context.loader(brand_loaders.tenant_names).load(tenant_id)
        return StorefrontBrand(id=self.brand_id, name=tenant.name if tenant else "")


@strawberry.type
class ProductSearch:
    """A page of hits; totals and facets are counted only when asked for."""

    edges: list[Edge[Product]]
    page_info: PageInfo
    stage: str = strawberry.field(description="`all`: every word of the text was found; `any`: some word.")
    query: strawberry.Private[SearchQuery]

    @strawberry.field
    def nodes(self) -> list[Product]:
        return [edge.node for edge in self.edges]

    @strawberry.field
    async def total_count(self, info: Info) -> int:
        counting = replace(self.query, first=0, after=None, with_total=True)
        async with info.context.reading() as session:
            page = await info.context.gateways.search.search(session, counting)
        return page.total or 0

    @strawberry.field
    async def facets(self, info: Info, names: list[ProductFacet]) -> list[FacetCounts]:
        asked = [Field(name.value) for name in dict.fromkeys(names)]
        counting = replace(self.query, first=0, after=None, facets=asked)
        async with info.context.reading() as session:
            page = await info.context.gateways.search.search(session, counting)
        return [
            FacetCounts(
                name=ProductFacet(facet.value),
                values=[FacetValue(value=value, count=count) for value, count in counts.items()],
            )
            for facet, counts in page.facets.items()
        ]


@strawberry.type
class SearchSuggestion:
    text: str
    product_id: strawberry.ID


@strawberry.type
class StorefrontCatalogQueries:
    @strawberry.field(description="Search, or browse without a text: what this storefront may sell.")
    async def products(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        text: str = "",
        filter: ProductSearchFilter | None = None,
        sort: Sort = Sort.RELEVANCE,
    ) -> ProductSearch:
        context, storefront = info.context, _storefront(info.context)
        page = PageRequest(first, after)
        async with context.reading() as session:
            sale = await on_sale(session, storefront.brand_id, at=context.clock.now())
            query = SearchQuery(
                shelves=sale.shelves,
                text=text,
                currency=storefront.currency,
                locale=storefront.locale,
                filter=And((Exists(Field.PRICE), *(filter.tree(storefront.currency) if filter else ()))),
                sort=sort,
                first=page.first,
                after=decode_cursor(after) if after else None,
            )
            found = await context.gateways.search.search(session, query)
            shown = await _shown(context, session, sale, [hit.product_id for hit in found.hits])
        edges = [
            Edge(node=shown[hit.product_id], cursor=encode_cursor(*hit.key))
            for hit in found.hits
            if hit.product_id in shown
        ]
        end = encode_cursor(*found.hits[-1].key) if found.hits else None
        return ProductSearch(
            edges=edges,
            page_info=PageInfo(has_next_page=found.has_next, end_cursor=end),
            stage=found.stage,
            query=replace(query, stage=found.stage),
        )

    @strawberry.field(description="One product this storefront may sell.")
    async def product(self, info: Info, id: strawberry.ID) -> Product:
        context, storefront = info.context, _storefront(info.context)
        product_id = ProductId.parse(id)
        async with context.reading() as session:
            sale = await on_sale(session, storefront.brand_id, at=context.clock.now())
            shown = await _shown(context, session, sale, [product_id])
        if product_id not in shown:
            raise ProductNotFound("no such product here", field="id")
        return shown[product_id]

    @strawberry.field(description="Titles that go on from what was typed.")
    async def suggest(self, info: Info, prefix: str, first: int = 8) -> list[SearchSuggestion]:
        context, storefront = info.context, _storefront(info.context)
        async with context.reading() as session:
            sale = await on_sale(session, storefront.brand_id, at=context.clock.now())
            found = await context.gateways.search.suggest(
                session, prefix[:200], shelves=sale.shelves, limit=min(max(first, 1), 20)
            )
        return [SearchSuggestion(text=s.text, product_id=strawberry.ID(str(s.product_id))) for s in found]


async def _shown(
    context: Context, session: AsyncSession, sale: OnSale, product_ids: Sequence[ProductId]
) -> dict[ProductId, Product]:
    """Those that may be sold here, with the variants that may, have a price here, and their stock."""
    storefront = _storefront(context)
    rows = await listing(
        session, product_ids, currency=storefront.currency, zone=storefront.country, now=context.clock.now()
    )
    shown: dict[ProductId, Product] = {}
    for row in rows.values():
        variants = [
            variant
            for variant in row.variants
            if variant.price and sale.covers(row.brand_id, row.id, row.category, [variant.sku])
        ]
        if variants:
            shown[row.id] = _product(row, variants, storefront.locale)
    return shown


def _product(row: ListedProduct, variants: Sequence[ListedVariant], locale: str) -> Product:
    chinese = locale.startswith("zh")
    titles = (row.title_zh, row.title_en) if chinese else (row.title_en, row.title_zh)
    texts = (row.description_zh, row.description_en) if chinese else (row.description_en, row.description_zh)
    lowest = min((v.price for v in variants if v.price), key=lambda price: price.amount_minor)
    return Product(
        id=strawberry.ID(str(row.id)),
        brand_id=strawberry.ID(str(row.brand_id)),
        handle=row.handle,
        title=titles[0] or titles[1],
        title_zh=row.title_zh,
        title_en=row.title_en,
        description=texts[0] or texts[1],
        category=row.category,
        tags=list(row.tags),
        media=[media_of(item) for item in row.media],
        attributes=JSON(row.attributes),
        price=Money.of(lowest),
        in_stock=any(variant.available > 0 for variant in variants),
        variants=[Variant.of(variant) for variant in variants],
    )


def _minor(amount: str | None, currency: str) -> int | None:
    return None if amount is None else CoreMoney.parse(amount, currency).amount_minor


def _storefront(context: Context) -> StorefrontFacts:
    if context.storefront is None:
        raise Unauthenticated("this needs a storefront's publishable key")
    return context.storefront
