"""The catalogue as its brand manages it, and others' as far as it is published."""

from __future__ import annotations

from datetime import datetime

import strawberry

from core.money import Money as CoreMoney
from graph.catalog import loaders
from graph.context import Info
from graph.scalars import JSON, Money
from marketplace.catalog import queries
from marketplace.catalog.models import ErrorPolicy, ImportFormat, ImportStatus, ProductStatus
from marketplace.catalog.queries import PricedVariant, PriceRow, ProductRow

strawberry.enum(ProductStatus, name="ProductStatus")
strawberry.enum(ImportFormat, name="CatalogImportFormat")
strawberry.enum(ImportStatus, name="CatalogImportStatus")
strawberry.enum(
    ErrorPolicy,
    name="ErrorPolicy",
    description=(
        "REJECT_EVERYTHING: one bad row and nothing is taken. REJECT_FAILED_ROWS: good rows are taken."
        " IGNORE_FAILED: rows are taken without their bad fields."
    ),
)


@strawberry.type(description="A picture or film, by address.")
class Media:
    url: str
    alt: str
    kind: str


@strawberry.type
class Price:
    amount: Money
    compare_at: Money | None

    @classmethod
    def of(cls, row: PriceRow) -> Price:
        return cls(
            amount=Money.of(row.amount), compare_at=Money.of(row.compare_at) if row.compare_at else None
        )


@strawberry.type(description="What is sold and stocked.")
class Variant:
    id: strawberry.ID
    sku: str
    gtin: str | None
    title: str
    options: JSON
    weight_g: int
    row: strawberry.Private[PricedVariant]

    @classmethod
    def of(cls, row: PricedVariant) -> Variant:
        return cls(
            id=strawberry.ID(str(row.id)),
            sku=row.sku,
            gtin=row.gtin,
            title=row.title,
            options=JSON(row.options),
            weight_g=row.weight_g,
            row=row,
        )

    @strawberry.field(description="In every currency, or in one.")
    def prices(self, currency_code: str | None = None) -> list[Price]:
        rows = self.row.prices
        return [Price.of(row) for row in rows if currency_code in (None, row.amount.currency)]

    @strawberry.field(description="Units that can be sold now, anywhere; 0 without an offer.")
    async def available(self, info: Info) -> int:
        units: int = await info.context.loader(loaders.available).load(self.row.id)
        return units


@strawberry.type
class Product:
    id: strawberry.ID
    brand_id: strawberry.ID
    handle: str
    status: ProductStatus
    title_zh: str
    title_en: str
    description_zh: str
    description_en: str
    category: str
    tags: list[str]
    media: list[Media]
    attributes: JSON
    version: int = strawberry.field(
        description="Grows with every change; send it back to refuse a stale one."
    )
    created_at: datetime
    updated_at: datetime
    row: strawberry.Private[ProductRow]

    @classmethod
    def of(cls, row: ProductRow) -> Product:
        return cls(
            id=strawberry.ID(str(row.id)),
            brand_id=strawberry.ID(str(row.brand_id)),
            handle=row.handle,
            status=ProductStatus(row.status),
            title_zh=row.title_zh,
            title_en=row.title_en,
            description_zh=row.description_zh,
            description_en=row.description_en,
            category=row.category,
            tags=list(row.tags),
            media=[media_of(item) for item in row.media],
            attributes=JSON(row.attributes),
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            row=row,
        )

    @strawberry.field
    async def variants(self, info: Info) -> list[Variant]:
        rows = await info.context.loader(loaders.variants).load(self.row.id)
        return [Variant.of(row) for row in rows]


@strawberry.type(description="One thing wrong with one row; `row` counts as a spreadsheet does.")
class CatalogImportError:
    row: int
    sku: str
    field: str
    code: str
    message: str


@strawberry.type(description="A file of products, and what became of it.")
class CatalogImport:
    id: strawberry.ID
    format: ImportFormat
    policy: ErrorPolicy
    status: ImportStatus
    rows_read: int
    rows_failed: int
    products_created: int
    products_changed: int
    products_unchanged: int
    created_at: datetime
    row: strawberry.Private[queries.ImportRow]

    @classmethod
    def of(cls, row: queries.ImportRow) -> CatalogImport:
        return cls(
            id=strawberry.ID(str(row.id)),
            format=ImportFormat(row.format),
            policy=ErrorPolicy(row.policy),
            status=ImportStatus(row.status),
            rows_read=row.rows_read,
            rows_failed=row.rows_failed,
            products_created=row.products_created,
            products_changed=row.products_changed,
            products_unchanged=row.products_unchanged,
            created_at=row.created_at,
            row=row,
        )

    @strawberry.field(description="Up to 1,000 of what is wrong, in the order of rows.")
    async def errors(self, info: Info, first: int = 100) -> list[CatalogImportError]:
        async with info.context.reading() as session:
            found = await queries.complaints_of(session, self.row.id, limit=min(max(first, 0), 1000))
        return [
            CatalogImportError(row=c.row, sku=c.sku, field=c.field, code=c.code, message=c.message)
            for c in found
        ]

    @strawberry.field(description="The error file: CSV with row, sku, field, code, message.")
    async def error_file(self, info: Info) -> str:
        async with info.context.reading() as session:
            return await queries.error_file(session, self.row.id)


def media_of(item: object) -> Media:
    known = item if isinstance(item, dict) else {}
    return Media(
        url=str(known.get("url", "")), alt=str(known.get("alt", "")), kind=str(known.get("kind", "image"))
    )


def money_of(value: CoreMoney | None) -> Money | None:
    return None if value is None else Money.of(value)
