"""The verbs of the catalogue. Each changes one brand's products and says so in ``ProductChanged``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.ids import BrandId, ProductId, VariantId
from core.money import Money
from infra.db.base import table_of
from infra.outbox import record
from marketplace.catalog import checks
from marketplace.catalog.errors import (
    HandleTaken,
    NothingToSell,
    ProductArchived,
    ProductNotFound,
    SkuTaken,
    TitleMissing,
    TooMany,
    VariantNotFound,
    VersionChanged,
)
from marketplace.catalog.events import ProductChanged
from marketplace.catalog.models import Price, Product, ProductStatus, Variant

MOST_VARIANTS = 100
MOST_PRICES = 1_000

_PRODUCTS, _VARIANTS, _PRICES = table_of(Product), table_of(Variant), table_of(Price)
_P, _V = _PRODUCTS.c, _VARIANTS.c
_SELLABLE = text(
    "SELECT EXISTS (SELECT FROM variants v JOIN prices p ON p.variant_id = v.id WHERE v.product_id = :id)"
)
_NEXT_POSITION = select(func.coalesce(func.max(_V.position) + 1, 0)).where(_V.product_id == text(":id"))
_PUT_PRICE = upsert(_PRICES)
_PUT_PRICE = _PUT_PRICE.on_conflict_do_update(
    index_elements=["variant_id", "currency"],
    set_={
        "amount_minor": _PUT_PRICE.excluded.amount_minor,
        "compare_at_minor": _PUT_PRICE.excluded.compare_at_minor,
        "updated_at": _PUT_PRICE.excluded.updated_at,
    },
)
_TOUCH = text(
    "UPDATE products SET version = version + 1, updated_at = :now WHERE id = ANY(:ids) RETURNING id, brand_id"
)
_CLEAR_PRICES = text(
    "DELETE FROM prices WHERE (variant_id, currency) IN"
    " (SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:currencies AS text[])))"
)
_BARE_PUBLISHED = text(
    "SELECT p.id FROM products p WHERE p.id = ANY(:ids) AND p.status = 'published' AND NOT EXISTS"
    " (SELECT FROM variants v JOIN prices c ON c.variant_id = v.id WHERE v.product_id = p.id)"
)


@dataclass(frozen=True, slots=True)
class PriceTag:
    """``compare_at`` is the price struck through beside it, above ``amount``."""

    amount: Money
    compare_at: Money | None = None


@dataclass(frozen=True, slots=True)
class NewVariant:
    sku: str
    prices: Sequence[PriceTag] = ()
    title: str = ""
    gtin: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    weight_g: int = 0


@dataclass(frozen=True, slots=True)
class VariantPrice:
    """``tag`` ``None`` takes the price in ``currency`` away."""

    variant_id: VariantId
    currency: str
    tag: PriceTag | None


@dataclass(frozen=True, slots=True)
class ProductText:
    """What of a product is given; ``None`` leaves it as it is."""

    handle: str | None = None
    title_zh: str | None = None
    title_en: str | None = None
    description_zh: str | None = None
    description_en: str | None = None
    category: str | None = None
    tags: Sequence[str] | None = None
    media: Sequence[Mapping[str, Any]] | None = None
    attributes: Mapping[str, Any] | None = None

    def checked(self) -> dict[str, Any]:
        """The given columns in their stored form. Raises an ``Invalid`` of catalog/errors.py."""
        given: dict[str, Any] = {}
        if self.handle is not None:
            given["handle"] = checks.handle(self.handle)
        if self.title_zh is not None:
            given["title_zh"] = checks.title(self.title_zh, field="titleZh")
        if self.title_en is not None:
            given["title_en"] = checks.title(self.title_en, field="titleEn")
        if self.description_zh is not None:
            given["description_zh"] = checks.description(self.description_zh, field="descriptionZh")
        if self.description_en is not None:
            given["description_en"] = checks.description(self.description_en, field="descriptionEn")
        if self.category is not None:
            given["category"] = checks.category(self.category)
        if self.tags is not None:
            given["tags"] = checks.tags(self.tags)
        if self.media is not None:
            given["media"] = checks.media(self.media)
        if self.attributes is not None:
            given["attributes"] = checks.attributes(self.attributes)
        return given


async def create_product(
    session: AsyncSession,
    actor: Actor,
    product: ProductText,
    *,
    variants: Sequence[NewVariant] = (),
    publish: bool = False,
    clock: Clock,
) -> ProductId:
    """Raises ``TitleMissing``, ``HandleTaken``, ``SkuTaken``, ``NothingToSell`` or an ``Invalid`` field."""
    brand_id, now = writing_brand(actor), clock.now()
    row = {**_BLANK, **product.checked()}
    if not (row["title_zh"] or row["title_en"]):
        raise TitleMissing("a product has a Chinese or an English title", field="title")
    product_id = ProductId.new()
    otherwise = variants[0].sku if variants else ""
    given_handle = row.pop("handle", None)
    row |= {"id": product_id, "brand_id": brand_id, "created_at": now, "updated_at": now}
    await _insert_product(
        session, row, given_handle, checks.handle_from(row["title_en"], otherwise=f"{otherwise} {product_id}")
    )
    await _insert_variants(session, brand_id, product_id, variants, at=0, now=now)
    if publish:
        if not any(variant.prices for variant in variants):
            raise _nothing_to_sell()
        await session.execute(
            update(_PRODUCTS).where(_P.id == product_id).values(status=ProductStatus.PUBLISHED)
        )
    await record(session, ProductChanged(product_id, brand_id))
    return product_id


async def update_product(
    session: AsyncSession,
    actor: Actor,
    product_id: ProductId,
    product: ProductText,
    *,
    version: int | None = None,
    clock: Clock,
) -> int:
    """Change what is given; returns the new version. ``version``: the one that was read, if it matters.

    Raises ``ProductNotFound``, ``VersionChanged``, ``HandleTaken``, ``TitleMissing`` or an ``Invalid`` field.
    """
    brand_id = writing_brand(actor)
    given = product.checked()
    current = await _locked(session, brand_id, product_id, version)
    if (wanted := given.get("handle")) and wanted != current.handle:
        taken = select(_P.id).where(_P.brand_id == brand_id, _P.handle == wanted)
        if await session.scalar(taken):
            raise HandleTaken("another product has this handle", field="handle")
    if not (given.get("title_zh", current.title_zh) or given.get("title_en", current.title_en)):
        raise TitleMissing("a product has a Chinese or an English title", field="title")
    return await _changed(session, brand_id, product_id, given, clock.now())


async def add_variants(
    session: AsyncSession,
    actor: Actor,
    product_id: ProductId,
    variants: Sequence[NewVariant],
    *,
    clock: Clock,
) -> list[VariantId]:
    """Behind the variants there are. Raises ``ProductNotFound``, ``SkuTaken``, ``TooMany``."""
    brand_id, now = writing_brand(actor), clock.now()
    await _locked(session, brand_id, product_id, None)
    position = await session.scalar(_NEXT_POSITION, {"id": product_id}) or 0
    if position + len(variants) > MOST_VARIANTS:
        raise TooMany(f"a product has at most {MOST_VARIANTS} variants", field="variants")
    ids = await _insert_variants(session, brand_id, product_id, variants, at=position, now=now)
    await _changed(session, brand_id, product_id, {}, now)
    return ids


async def set_prices(
    session: AsyncSession, actor: Actor, prices: Sequence[VariantPrice], *, clock: Clock
) -> set[ProductId]:
    """Set or take away up to 1,000 prices at once, all or none; returns the products they belong to.

    Raises ``VariantNotFound``, ``InvalidPrice``, ``CurrencyMismatch``, and ``NothingToSell`` when a published
    product would be left without any price.
    """
    brand_id, now = writing_brand(actor), clock.now()
    if len(prices) > MOST_PRICES:
        raise TooMany(f"at most {MOST_PRICES} prices at once", field="prices")
    for price in prices:
        if price.tag is not None:
            checks.price(price.tag.amount, price.tag.compare_at)
    products = await _products_of(session, brand_id, {price.variant_id for price in prices})
    gone = [price for price in prices if price.tag is None]
    if gone:
        where = {"ids": [p.variant_id for p in gone], "currencies": [p.currency for p in gone]}
        await session.execute(_CLEAR_PRICES, where)
    put = {
        (p.variant_id, p.currency): _price_row(brand_id, p.variant_id, p.tag, now) for p in prices if p.tag
    }
    if put:
        await session.execute(_PUT_PRICE, list(put.values()))
    if gone and (await session.execute(_BARE_PUBLISHED, {"ids": list(products)})).first():
        raise _nothing_to_sell()
    await touch(session, products, now=now)
    return products


async def publish(
    session: AsyncSession,
    actor: Actor,
    product_id: ProductId,
    *,
    version: int | None = None,
    clock: Clock,
) -> int:
    """On view from this commit on. Raises ``NothingToSell`` without a priced variant, ``ProductArchived``."""
    brand_id = writing_brand(actor)
    current = await _locked(session, brand_id, product_id, version)
    if current.status == ProductStatus.ARCHIVED:
        raise ProductArchived("an archived product cannot be published; restore it as a draft first")
    if not await session.scalar(_SELLABLE, {"id": product_id}):
        raise _nothing_to_sell()
    return await _move(session, brand_id, product_id, current, ProductStatus.PUBLISHED, clock.now())


async def withdraw(
    session: AsyncSession,
    actor: Actor,
    product_id: ProductId,
    *,
    version: int | None = None,
    clock: Clock,
) -> int:
    """Back to a draft, from published or archived."""
    brand_id = writing_brand(actor)
    current = await _locked(session, brand_id, product_id, version)
    return await _move(session, brand_id, product_id, current, ProductStatus.DRAFT, clock.now())


async def archive(
    session: AsyncSession,
    actor: Actor,
    product_id: ProductId,
    *,
    version: int | None = None,
    clock: Clock,
) -> int:
    """Off view for good; orders that have it keep what they copied."""
    brand_id = writing_brand(actor)
    current = await _locked(session, brand_id, product_id, version)
    return await _move(session, brand_id, product_id, current, ProductStatus.ARCHIVED, clock.now())


async def touch(session: AsyncSession, product_ids: set[ProductId], *, now: datetime) -> None:
    """A new version of each product, and the event that tells of it."""
    rows = await session.execute(_TOUCH, {"ids": sorted(product_ids), "now": now})
    await record(session, *(ProductChanged(ProductId.of(r.id), BrandId.of(r.brand_id)) for r in rows))


_BLANK: dict[str, Any] = {
    "status": ProductStatus.DRAFT, "title_zh": "", "title_en": "", "description_zh": "",
    "description_en": "", "category": "", "tags": [], "media": [], "attributes": {}, "version": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Current:
    handle: str
    status: str
    title_zh: str
    title_en: str
    version: int


async def _locked(
    session: AsyncSession, brand_id: BrandId, product_id: ProductId, version: int | None
) -> _Current:
    wanted = select(_P.handle, _P.status, _P.title_zh, _P.title_en, _P.version)
    mine = wanted.where(_P.id == product_id, _P.brand_id == brand_id).with_for_update()
    row = (await session.execute(mine)).first()
    if row is None:
        raise ProductNotFound("no such product of this brand", field="id")
    current = _Current(*row)
    if version is not None and version != current.version:
        raise VersionChanged(version, current.version)
    return current


async def _changed(
    session: AsyncSession, brand_id: BrandId, product_id: ProductId, values: dict[str, Any], now: datetime
) -> int:
    change = (
        update(_PRODUCTS).where(_P.id == product_id).values(**values, version=_P.version + 1, updated_at=now)
    )
    version = await session.scalar(change.returning(_P.version))
    await record(session, ProductChanged(product_id, brand_id))
    return int(version or 0)


async def _move(
    session: AsyncSession,
    brand_id: BrandId,
    product_id: ProductId,
    current: _Current,
    to: ProductStatus,
    now: datetime,
) -> int:
    """Being there already is success, and no new version."""
    if current.status == to:
        return current.version
    return await _changed(session, brand_id, product_id, {"status": to}, now)


async def _insert_product(
    session: AsyncSession, row: dict[str, Any], given_handle: str | None, made_handle: str
) -> None:
    """Under the handle that was asked for, or the one made of its name (with the id's end when taken)."""
    tail = str(row["id"])[-8:]
    for handle in [given_handle] if given_handle else [made_handle, f"{made_handle}-{tail}"]:
        add = upsert(_PRODUCTS).values(**row, handle=handle).on_conflict_do_nothing().returning(_P.id)
        if (await session.execute(add)).first() is not None:
            return
    raise HandleTaken("another product has this handle", field="handle")


async def _insert_variants(
    session: AsyncSession,
    brand_id: BrandId,
    product_id: ProductId,
    variants: Sequence[NewVariant],
    *,
    at: int,
    now: datetime,
) -> list[VariantId]:
    if len(variants) > MOST_VARIANTS:
        raise TooMany(f"a product has at most {MOST_VARIANTS} variants", field="variants")
    rows = [_variant_row(brand_id, product_id, v, at + i, now) for i, v in enumerate(variants)]
    if not rows:
        return []
    skus = [row["sku"] for row in rows]
    twice = sorted({sku for sku in skus if skus.count(sku) > 1})
    add = upsert(_VARIANTS).on_conflict_do_nothing().returning(_V.sku)
    added = set() if twice else set((await session.execute(add.values(rows))).scalars())
    if taken := twice or sorted(set(skus) - added):
        raise SkuTaken(taken)
    prices = {
        (row["id"], tag.amount.currency): _price_row(brand_id, row["id"], tag, now)
        for row, variant in zip(rows, variants, strict=True)
        for tag in variant.prices
    }
    if prices:
        await session.execute(_PUT_PRICE, list(prices.values()))
    return [row["id"] for row in rows]


def _variant_row(
    brand_id: BrandId, product_id: ProductId, variant: NewVariant, position: int, now: datetime
) -> dict[str, Any]:
    for tag in variant.prices:
        checks.price(tag.amount, tag.compare_at)
    return {
        "id": VariantId.new(), "product_id": product_id, "brand_id": brand_id, "sku": checks.sku(variant.sku),
        "gtin": checks.gtin(variant.gtin) if variant.gtin else None,
        "title": checks.title(variant.title, field="title"), "options": checks.options(variant.options),
        "weight_g": checks.weight_g(variant.weight_g), "position": position, "listed": False,
        "created_at": now,
    }  # fmt: skip


def _price_row(brand_id: BrandId, variant_id: VariantId, tag: PriceTag, now: datetime) -> dict[str, Any]:
    return {
        "variant_id": variant_id, "currency": tag.amount.currency, "brand_id": brand_id,
        "amount_minor": tag.amount.amount_minor, "listed": False, "updated_at": now,
        "compare_at_minor": tag.compare_at.amount_minor if tag.compare_at else None,
    }  # fmt: skip


async def _products_of(
    session: AsyncSession, brand_id: BrandId, variant_ids: set[VariantId]
) -> set[ProductId]:
    """The variants' products, locked, so that no publish slips in. Raises ``VariantNotFound``."""
    found = (
        select(_V.id, _V.product_id)
        .join(_PRODUCTS, _P.id == _V.product_id)
        .where(_V.id.in_(variant_ids), _V.brand_id == brand_id)
        .order_by(_P.id)
        .with_for_update(of=_PRODUCTS)
    )
    rows = (await session.execute(found)).all()
    if len(rows) != len(variant_ids):
        raise VariantNotFound("no such variant of this brand", field="variantId")
    return {row.product_id for row in rows}


def _nothing_to_sell() -> NothingToSell:
    return NothingToSell("a published product has at least one variant with at least one price")


def writing_brand(actor: Actor) -> BrandId:
    """A brand's own member with ``catalog:write``, never a shopper behind its storefront."""
    actor.require("catalog:write")
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand changes its catalogue")
    return actor.brand_id
