from __future__ import annotations

import strawberry

from core.ids import ProductId, VariantId
from core.money import Money as CoreMoney
from graph.catalog.types import CatalogImport, Product
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.scalars import JSON, MoneyInput
from marketplace.catalog import imports, queries, service
from marketplace.catalog.errors import InvalidAttributes
from marketplace.catalog.models import ErrorPolicy, ImportFormat
from marketplace.catalog.service import NewVariant, PriceTag, ProductText, VariantPrice


@strawberry.input
class MediaInput:
    url: str
    alt: str = ""
    kind: str = "image"


@strawberry.input(description="A price in one currency.")
class PriceInput:
    amount: MoneyInput
    compare_at: MoneyInput | None = None

    def parsed(self) -> PriceTag:
        return PriceTag(self.amount.parsed(), self.compare_at.parsed() if self.compare_at else None)


@strawberry.input
class VariantInput:
    sku: str
    title: str = ""
    gtin: str | None = None
    options: JSON | None = strawberry.field(default=None, description='What sets it apart: {"size": "M"}.')
    weight_g: int = 0
    prices: list[PriceInput] = strawberry.field(default_factory=list)

    def parsed(self) -> NewVariant:
        return NewVariant(
            self.sku,
            [price.parsed() for price in self.prices],
            title=self.title,
            gtin=self.gtin,
            options=_object(self.options, "options"),
            weight_g=self.weight_g,
        )


@strawberry.input
class ProductTextInput:
    handle: str | None = None
    title_zh: str | None = None
    title_en: str | None = None
    description_zh: str | None = None
    description_en: str | None = None
    category: str | None = strawberry.field(default=None, description="A path: beauty/skin/cream.")
    tags: list[str] | None = None
    media: list[MediaInput] | None = None
    attributes: JSON | None = None

    def text(self) -> ProductText:
        return ProductText(
            handle=self.handle,
            title_zh=self.title_zh,
            title_en=self.title_en,
            description_zh=self.description_zh,
            description_en=self.description_en,
            category=self.category,
            tags=self.tags,
            media=None
            if self.media is None
            else [{"url": m.url, "alt": m.alt, "kind": m.kind} for m in self.media],
            attributes=None if self.attributes is None else _object(self.attributes, "attributes"),
        )


@strawberry.input
class ProductCreateInput(ProductTextInput):
    variants: list[VariantInput] = strawberry.field(default_factory=list)
    publish: bool = False


@strawberry.input(description="What is left out stays as it is.")
class ProductUpdateInput(ProductTextInput):
    id: strawberry.ID
    version: int | None = strawberry.field(default=None, description="The version that was read.")


@strawberry.input
class ProductInput:
    id: strawberry.ID
    version: int | None = None


@strawberry.input
class VariantsAddInput:
    product_id: strawberry.ID
    variants: list[VariantInput]


@strawberry.input(description="Without `price`, the price in `currencyCode` is taken away.")
class VariantPriceInput:
    variant_id: strawberry.ID
    price: PriceInput | None = None
    currency_code: str | None = None

    def parsed(self) -> VariantPrice:
        tag = self.price.parsed() if self.price else None
        currency = tag.amount.currency if tag else CoreMoney(0, self.currency_code or "").currency
        return VariantPrice(VariantId.parse(self.variant_id), currency, tag)


@strawberry.input
class PricesSetInput:
    prices: list[VariantPriceInput] = strawberry.field(description="Up to 1,000, all or none.")


@strawberry.input
class ProductsImportInput:
    content: str = strawberry.field(description="The file itself, at most 5 MB.")
    format: ImportFormat = ImportFormat.CSV
    policy: ErrorPolicy = ErrorPolicy.REJECT_EVERYTHING


@strawberry.type
class ProductPayload:
    product: Product | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class PricesSetPayload:
    products: list[Product] = strawberry.field(default_factory=list)
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class ProductsImportPayload:
    catalog_import: CatalogImport | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class CatalogMutations:
    @strawberry.mutation
    @expected(ProductPayload)
    async def product_create(self, info: Info, input: ProductCreateInput) -> ProductPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            product_id = await service.create_product(
                session,
                actor,
                input.text(),
                variants=[variant.parsed() for variant in input.variants],
                publish=input.publish,
                clock=context.clock,
            )
        return await _product(context, product_id)

    @strawberry.mutation
    @expected(ProductPayload)
    async def product_update(self, info: Info, input: ProductUpdateInput) -> ProductPayload:
        context, actor, product_id = info.context, info.context.actor, ProductId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.update_product(
                session, actor, product_id, input.text(), version=input.version, clock=context.clock
            )
        return await _product(context, product_id)

    @strawberry.mutation(description="On view at once. NOTHING_TO_SELL without a variant with a price.")
    @expected(ProductPayload)
    async def product_publish(self, info: Info, input: ProductInput) -> ProductPayload:
        context, actor, product_id = info.context, info.context.actor, ProductId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.publish(session, actor, product_id, version=input.version, clock=context.clock)
        return await _product(context, product_id)

    @strawberry.mutation(description="Back to a draft.")
    @expected(ProductPayload)
    async def product_withdraw(self, info: Info, input: ProductInput) -> ProductPayload:
        context, actor, product_id = info.context, info.context.actor, ProductId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.withdraw(session, actor, product_id, version=input.version, clock=context.clock)
        return await _product(context, product_id)

    @strawberry.mutation
    @expected(ProductPayload)
    async def product_archive(self, info: Info, input: ProductInput) -> ProductPayload:
        context, actor, product_id = info.context, info.context.actor, ProductId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.archive(session, actor, product_id, version=input.version, clock=context.clock)
        return await _product(context, product_id)

    @strawberry.mutation
    @expected(ProductPayload)
    async def variants_add(self, info: Info, input: VariantsAddInput) -> ProductPayload:
        context, actor, product_id = info.context, info.context.actor, ProductId.parse(input.product_id)
        variants = [variant.parsed() for variant in input.variants]
        async with context.db.unit_of_work(actor) as session:
            await service.add_variants(session, actor, product_id, variants, clock=context.clock)
        return await _product(context, product_id)

    @strawberry.mutation
    @expected(PricesSetPayload)
    async def prices_set(self, info: Info, input: PricesSetInput) -> PricesSetPayload:
        context, actor = info.context, info.context.actor
        prices = [price.parsed() for price in input.prices]
        async with context.db.unit_of_work(actor) as session:
            changed = await service.set_prices(session, actor, prices, clock=context.clock)
            rows = await queries.products_of(session, actor, changed)
        return PricesSetPayload(products=[Product.of(rows[product_id]) for product_id in sorted(rows)])

    @strawberry.mutation(description="A whole file at once; the same file again changes nothing.")
    @expected(ProductsImportPayload)
    async def products_import(self, info: Info, input: ProductsImportInput) -> ProductsImportPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            done = await imports.run(
                session,
                actor,
                content=input.content,
                format=input.format,
                policy=input.policy,
                clock=context.clock,
            )
        return ProductsImportPayload(catalog_import=CatalogImport.of(done))


async def _product(context: Context, product_id: ProductId) -> ProductPayload:
    async with context.reading() as session:
        return ProductPayload(product=Product.of(await queries.product(session, context.actor, product_id)))


def _object(value: object, field: str) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidAttributes("this is an object of names and values", field=field)
    return value
