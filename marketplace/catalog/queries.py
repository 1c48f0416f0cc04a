"""Reads of the catalogue, columns only. What an actor may see is in the statement and in the policies."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Result, func, or_, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind
from core.ids import BrandId, ImportId, ProductId, VariantId
from core.money import Money
from core.pagination import Page, PageRequest, page_of
from infra.db.base import table_of
from infra.db.text import storable
from marketplace.catalog.errors import ImportNotFound, InvalidProductText, ProductNotFound
from marketplace.catalog.models import CatalogImport, ImportComplaint, Price, Product, ProductStatus, Variant

_P, _V, _C = table_of(Product).c, table_of(Variant).c, table_of(Price).c
_I, _E = table_of(CatalogImport).c, table_of(ImportComplaint).c

_FOR_SALE = text(
    "SELECT v.id, v.product_id, v.brand_id, v.sku, v.title, p.title_zh, p.title_en, p.category, p.tags,"
    " v.weight_g, c.amount_minor, p.status, p.version"
    " FROM variants v JOIN products p ON p.id = v.product_id"
    " LEFT JOIN prices c ON c.variant_id = v.id AND c.currency = :currency"
    " WHERE v.id = ANY(:ids)"
)
_TAX = text(
    "SELECT DISTINCT ON (c.category) c.category, t.rate_ppm, t.included"
    " FROM unnest(CAST(:categories AS text[])) AS c(category)"
    " JOIN tax_rates t ON t.country = :country AND (t.category_prefix IN ('', c.category)"
    " OR starts_with(c.category, t.category_prefix || '/'))"
    " ORDER BY c.category, length(t.category_prefix) DESC"
)
# Every price of every variant in one row per variant: the list's whole tree of 20 × 3 in one statement.
_WITH_PRICES = text(
    "SELECT v.id, v.product_id, v.brand_id, v.sku, v.gtin, v.title, v.options, v.weight_g, v.position,"
    " (SELECT jsonb_agg(jsonb_build_array(c.currency, c.amount_minor, c.compare_at_minor)"
    "  ORDER BY c.currency)"
    "  FROM prices c WHERE c.variant_id = v.id"
    "  AND (CAST(:currency AS text) = '' OR c.currency = :currency)) AS prices"
    " FROM variants v WHERE v.product_id = ANY(:ids) ORDER BY v.product_id, v.position, v.id"
).columns(options=JSONB, prices=JSONB)


@dataclass(frozen=True, slots=True)
class ProductRow:
    id: ProductId
    brand_id: BrandId
    handle: str
    status: str
    title_zh: str
    title_en: str
    description_zh: str
    description_en: str
    category: str
    tags: Sequence[str]
    media: Sequence[Mapping[str, str]]
    attributes: Mapping[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime

    def title(self, locale: str) -> str:
        """In the reader's language, or else in the other."""
        zh_first = locale.startswith("zh")
        return (self.title_zh or self.title_en) if zh_first else (self.title_en or self.title_zh)

    def description(self, locale: str) -> str:
        zh, en = self.description_zh, self.description_en
        return (zh or en) if locale.startswith("zh") else (en or zh)


@dataclass(frozen=True, slots=True)
class PriceRow:
    variant_id: VariantId
    amount: Money
    compare_at: Money | None


@dataclass(frozen=True, slots=True)
class VariantRow:
    id: VariantId
    product_id: ProductId
    brand_id: BrandId
    sku: str
    gtin: str | None
    title: str
    options: Mapping[str, str]
    weight_g: int
    position: int


@dataclass(frozen=True, slots=True)
class PricedVariant(VariantRow):
    prices: Sequence[PriceRow]


@dataclass(frozen=True, slots=True)
class VariantForSale:
    """What a cart needs to know. ``title`` is the variant's own, ``product_title`` its product's."""

    variant_id: VariantId
    product_id: ProductId
    brand_id: BrandId
    sku: str
    title: str
    product_title: str
    category: str
    tags: Sequence[str]
    weight_g: int
    price: Money | None
    product_status: str
    version: int

    @property
    def published(self) -> bool:
        return self.product_status == ProductStatus.PUBLISHED


@dataclass(frozen=True, slots=True)
class TaxRate:
    """``included``: the shown price contains the tax; otherwise it is added to it."""

    rate_ppm: int
    included: bool


NO_TAX = TaxRate(0, True)


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """Every condition given must hold. ``category`` takes its sub-categories with it.

    Raises ``InvalidProductText`` for a text no product can have.
    """

    brand_ids: Sequence[BrandId] | None = None
    status: ProductStatus | None = None
    category: str | None = None
    tags: Sequence[str] = ()
    text: str = ""

    def __post_init__(self) -> None:
        if not all(map(storable, (self.category or "", self.text, *self.tags))):
            raise InvalidProductText("no product has such a text", field="filter")


@dataclass(frozen=True, slots=True)
class ImportRow:
    id: ImportId
    brand_id: BrandId
    format: str
    policy: str
    status: str
    rows_read: int
    rows_failed: int
    products_created: int
    products_changed: int
    products_unchanged: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ComplaintRow:
    row: int
    sku: str
    field: str
    code: str
    message: str


_PRODUCT_COLUMNS = (
    _P.id, _P.brand_id, _P.handle, _P.status, _P.title_zh, _P.title_en, _P.description_zh, _P.description_en,
    _P.category, _P.tags, _P.media, _P.attributes, _P.version, _P.created_at, _P.updated_at,
)  # fmt: skip
_VARIANT_COLUMNS = (
    _V.id, _V.product_id, _V.brand_id, _V.sku, _V.gtin, _V.title, _V.options, _V.weight_g, _V.position
)  # fmt: skip
_IMPORT_COLUMNS = (
    _I.id, _I.brand_id, _I.format, _I.policy, _I.status, _I.rows_read, _I.rows_failed, _I.products_created,
    _I.products_changed, _I.products_unchanged, _I.created_at,
)  # fmt: skip


def visible_to(actor: Actor) -> ColumnElement[bool]:
    """Everyone sees what is published; a brand's members all of their own; the platform everything."""
    if actor.sees_everything:
        return _P.id.is_not(None)
    published = _P.status == ProductStatus.PUBLISHED
    return or_(_P.brand_id == actor.tenant_id, published) if actor.kind is ActorKind.BRAND else published


async def variants_for_sale(
    session: AsyncSession, variant_ids: Iterable[VariantId], *, currency: str
) -> dict[VariantId, VariantForSale]:
    """One statement. Unknown variants are left out; ``price`` is ``None`` without one in ``currency``."""
    rows = await session.execute(_FOR_SALE, {"ids": list(variant_ids), "currency": currency})
    return {
        VariantId.of(r.id): VariantForSale(
            VariantId.of(r.id),
            ProductId.of(r.product_id),
            BrandId.of(r.brand_id),
            r.sku,
            r.title,
            r.title_zh or r.title_en,
            r.category,
            r.tags,
            r.weight_g,
            None if r.amount_minor is None else Money(r.amount_minor, currency),
            r.status,
            r.version,
        )
        for r in rows
    }


async def resolve_skus(
    session: AsyncSession, skus: Iterable[str], brand_id: BrandId | None = None
) -> dict[tuple[BrandId, str], VariantId]:
    """The variants behind SKUs, of one brand or of all that the session may see."""
    wanted = select(_V.brand_id, _V.sku, _V.id).where(_V.sku == func.any(list(skus)))
    if brand_id is not None:
        wanted = wanted.where(_V.brand_id == brand_id)
    return {(row.brand_id, row.sku): row.id for row in await session.execute(wanted)}


async def product(session: AsyncSession, actor: Actor, product_id: ProductId) -> ProductRow:
    """Raises ``ProductNotFound`` for one the actor may not see."""
    found = await products_of(session, actor, [product_id])
    if product_id not in found:
        raise ProductNotFound("no such product", field="id")
    return found[product_id]


async def product_by_handle(
    session: AsyncSession, actor: Actor, brand_id: BrandId, handle: str
) -> ProductRow:
    wanted = select(*_PRODUCT_COLUMNS).where(_P.brand_id == brand_id, _P.handle == handle, visible_to(actor))
    found = _products(await session.execute(wanted))
    if not found:
        raise ProductNotFound("no such product", field="handle")
    return found[0]


async def products_of(
    session: AsyncSession, actor: Actor, ids: Iterable[ProductId]
) -> dict[ProductId, ProductRow]:
    """Those of the ids that the actor may see. One statement."""
    wanted = select(*_PRODUCT_COLUMNS).where(_P.id == func.any(list(ids)), visible_to(actor))
    return {found.id: found for found in _products(await session.execute(wanted))}


async def products_page(
    session: AsyncSession, actor: Actor, filter: ProductFilter, request: PageRequest
) -> Page[ProductRow]:
    """Oldest first."""
    wanted = select(*_PRODUCT_COLUMNS).where(*_matching(actor, filter)).order_by(_P.id)
    if request.key:
        wanted = wanted.where(_P.id > ProductId.parse(request.key[0]))
    rows = _products(await session.execute(wanted.limit(request.first + 1)))
    return page_of(rows, request, lambda row: (str(row.id),))


async def published_ids(session: AsyncSession, *, after: ProductId | None, limit: int) -> list[ProductId]:
    """Every published product there is, in the order of ids, from after ``after``. For the platform."""
    wanted = select(_P.id).where(_P.status == ProductStatus.PUBLISHED).order_by(_P.id).limit(limit)
    if after is not None:
        wanted = wanted.where(_P.id > after)
    return list((await session.execute(wanted)).scalars())


async def published_of_brands(
    session: AsyncSession, brand_ids: Iterable[BrandId], *, tags: Iterable[str] = (), limit: int = 2000
) -> list[ProductRow]:
    """Published products of brands, those that share a tag with ``tags`` first, then the newest."""
    shares = _P.tags.overlap(list(tags))
    wanted = select(*_PRODUCT_COLUMNS).where(
        _P.brand_id == func.any(list(brand_ids)), _P.status == ProductStatus.PUBLISHED
    )
    return _products(await session.execute(wanted.order_by(shares.desc(), _P.id.desc()).limit(limit)))


async def products_count(session: AsyncSession, actor: Actor, filter: ProductFilter) -> int:
    return (
        await session.scalar(
            select(func.count()).select_from(table_of(Product)).where(*_matching(actor, filter))
        )
        or 0
    )


def _matching(actor: Actor, filter: ProductFilter) -> list[ColumnElement[bool]]:
    conditions = [visible_to(actor)]
    if filter.brand_ids is not None:
        conditions.append(_P.brand_id == func.any(list(filter.brand_ids)))
    if filter.status is not None:
        conditions.append(_P.status == filter.status)
    if filter.category:
        inside = func.starts_with(_P.category, f"{filter.category}/")
        conditions.append(or_(_P.category == filter.category, inside))
    if filter.tags:
        conditions.append(_P.tags.contains(list(filter.tags)))
    if filter.text:
        like = "%" + filter.text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
        conditions.append(or_(_P.title_zh.ilike(like), _P.title_en.ilike(like), _P.handle.ilike(like)))
    return conditions


async def variants_of(
    session: AsyncSession, product_ids: Iterable[ProductId]
) -> dict[ProductId, list[VariantRow]]:
    """The variants of products the caller has already been allowed, in their order. One statement."""
    wanted = select(*_VARIANT_COLUMNS).where(_V.product_id == func.any(list(product_ids)))
    found: dict[ProductId, list[VariantRow]] = {}
    for row in await session.execute(wanted.order_by(_V.product_id, _V.position, _V.id)):
        found.setdefault(row.product_id, []).append(VariantRow(*row))
    return found


async def priced_variants_of(
    session: AsyncSession, product_ids: Iterable[ProductId], *, currency: str | None = None
) -> dict[ProductId, list[PricedVariant]]:
    """``variants_of`` with their prices, all or in one currency, still in one statement."""
    found: dict[ProductId, list[PricedVariant]] = {}
    for r in await session.execute(_WITH_PRICES, {"ids": list(product_ids), "currency": currency or ""}):
        variant_id = VariantId.of(r.id)
        prices = [_price(variant_id, *price) for price in r.prices or ()]
        variant = PricedVariant(
            variant_id,
            ProductId.of(r.product_id),
            BrandId.of(r.brand_id),
            r.sku,
            r.gtin,
            r.title,
            r.options,
            r.weight_g,
            r.position,
            prices,
        )
        found.setdefault(variant.product_id, []).append(variant)
    return found


async def variants_by_id(
    session: AsyncSession, variant_ids: Iterable[VariantId]
) -> dict[VariantId, VariantRow]:
    wanted = select(*_VARIANT_COLUMNS).where(_V.id == func.any(list(variant_ids)))
    return {row.id: VariantRow(*row) for row in await session.execute(wanted)}


async def prices_of(
    session: AsyncSession, variant_ids: Iterable[VariantId], currency: str | None = None
) -> dict[VariantId, list[PriceRow]]:
    """By currency. One statement."""
    wanted = select(_C.variant_id, _C.currency, _C.amount_minor, _C.compare_at_minor).where(
        _C.variant_id == func.any(list(variant_ids))
    )
    if currency is not None:
        wanted = wanted.where(_C.currency == currency)
    found: dict[VariantId, list[PriceRow]] = {}
    for variant_id, *price in await session.execute(wanted.order_by(_C.variant_id, _C.currency)):
        found.setdefault(variant_id, []).append(_price(variant_id, *price))
    return found


async def tax_rate(session: AsyncSession, country: str, categories: Iterable[str]) -> dict[str, TaxRate]:
    """The rate of every category asked for; ``NO_TAX`` in a country without one. One statement."""
    asked = list(dict.fromkeys(categories))
    rows = await session.execute(_TAX, {"country": country, "categories": asked})
    known = {row.category: TaxRate(row.rate_ppm, row.included) for row in rows}
    return {category: known.get(category, NO_TAX) for category in asked}


async def import_of(session: AsyncSession, actor: Actor, import_id: ImportId) -> ImportRow:
    """Raises ``ImportNotFound`` for another brand's."""
    wanted = select(*_IMPORT_COLUMNS).where(_I.id == import_id)
    if not actor.sees_everything:
        wanted = wanted.where(_I.brand_id == actor.brand_id)
    row = (await session.execute(wanted)).first()
    if row is None:
        raise ImportNotFound("no such import", field="id")
    return ImportRow(*row)


async def complaints_of(
    session: AsyncSession, import_id: ImportId, *, limit: int | None = None
) -> list[ComplaintRow]:
    """What is wrong with the file, by row, of an import the caller was allowed; at most 10,000 are kept."""
    wanted = select(_E.row, _E.sku, _E.field, _E.code, _E.message).where(_E.import_id == import_id)
    rows = await session.execute(wanted.order_by(_E.number).limit(limit))
    return [ComplaintRow(*row) for row in rows]


async def error_file(session: AsyncSession, import_id: ImportId) -> str:
    """All complaints as CSV. A cell that a spreadsheet would take for a formula gets an apostrophe."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("row", "sku", "field", "code", "message"))
    for c in await complaints_of(session, import_id):
        writer.writerow((c.row, *map(_inert, (c.sku, c.field, c.code, c.message))))
    return file.getvalue()


def _inert(cell: str) -> str:
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _products(rows: Result[Any]) -> list[ProductRow]:
    columns: Sequence[tuple[Any, ...]] = rows.all()
    return [ProductRow(*facts) for facts in columns]


def _price(variant_id: VariantId, currency: str, amount: int, compare_at: int | None) -> PriceRow:
    struck = None if compare_at is None else Money(compare_at, currency)
    return PriceRow(variant_id, Money(amount, currency), struck)
