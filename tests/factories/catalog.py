"""Products for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import BrandId, ProductId, VariantId
from core.money import Money
from infra.db.session import Database
from marketplace.catalog import queries, service
from marketplace.catalog.service import NewVariant, PriceTag, ProductText


@dataclass(frozen=True, slots=True)
class MadeProduct:
    id: ProductId
    brand_id: BrandId
    variants: Sequence[VariantId]
    skus: Sequence[str]


def yuan(amount: str) -> Money:
    return Money.parse(amount, "CNY")


def priced(sku: str, *amounts: str | Money, **facts: object) -> NewVariant:
    """A variant with prices; a bare string is yuan."""
    tags = [PriceTag(yuan(a) if isinstance(a, str) else a) for a in amounts]
    return NewVariant(sku, tags, **facts)  # type: ignore[arg-type]


async def product(
    session: AsyncSession,
    actor: Actor,
    clock: Clock,
    *,
    title_zh: str = "保湿面霜",
    title_en: str = "Moist cream",
    category: str = "beauty/skin/cream",
    tags: Sequence[str] = ("dry skin",),
    attributes: Mapping[str, str] | None = None,
    description_en: str = "",
    variants: Sequence[NewVariant] | None = None,
    publish: bool = True,
) -> MadeProduct:
    """Published, with one variant at ¥100.00, unless told otherwise."""
    if variants is None:
        variants = [priced(f"sku-{uuid4().hex[:12]}", "100.00", weight_g=100)]
    text = ProductText(
        title_zh=title_zh, title_en=title_en, category=category, tags=tags, attributes=attributes,
        description_en=description_en,
    )  # fmt: skip
    product_id = await service.create_product(
        session, actor, text, variants=variants, publish=publish, clock=clock
    )
    made = (await queries.variants_of(session, [product_id])).get(product_id, [])
    return MadeProduct(product_id, actor.brand_id, [v.id for v in made], [v.sku for v in made])


async def committed_product(db: Database, clock: Clock, actor: Actor, **facts: object) -> MadeProduct:
    async with db.unit_of_work(actor) as session:
        return await product(session, actor, clock, **facts)  # type: ignore[arg-type]
