"""The market under load: two brands of a thousand products each, three variants a product, four suppliers.

Made by the services' bulk verbs. One brand's storefront sells its own products and, by an agreement, the other's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import SystemClock
from core.ids import BrandId, ProductId, SupplierId, VariantId
from core.money import Money
from infra.db.session import Database
from infra.search.postgres_index import PostgresIndex
from marketplace.brands import service as brands
from marketplace.brands.models import TenantKind
from marketplace.brands.queries import StorefrontFacts
from marketplace.brands.roles import BRAND_SCOPES, STOREFRONT_SCOPES
from marketplace.catalog import imports
from marketplace.catalog import queries as catalog
from marketplace.catalog.models import ErrorPolicy, ImportFormat
from marketplace.matching import documents
from marketplace.promotion import service as promotion
from marketplace.promotion.agreements.terms import Terms
from supply.inventory import service as inventory
from supply.inventory.feed import MAX_ROWS, MAX_UNITS, StockRow
from supply.suppliers import service as suppliers
from supply.suppliers.models import BrandRelation
from supply.suppliers.service import NewLocation, OfferTerms, RateToZone

PRODUCTS = 1_000
"""Of each of the two brands."""
VARIANTS = 3
_CATEGORIES = (
    "beauty/skin/cream",
    "beauty/skin/mask",
    "beauty/oil",
    "home/tea",
    "home/ceramics",
    "food/snacks",
)
_SEED = 20260301


@dataclass(frozen=True, slots=True)
class Market:
    facts: StorefrontFacts
    shopper: Actor
    key: str
    own: Sequence[VariantId]
    partners: Sequence[VariantId]
    products: Sequence[ProductId]


async def fill(db: Database) -> Market:
    """Everything committed and indexed; the same amounts every time, fresh ids."""
    clock, rng = SystemClock(), random.Random(_SEED)
    seller, partner = [await _brand(db, name) for name in ("Club 会", "Cream House 霜")]
    made = await _storefront(db, seller)
    await _agree(db, advertiser=partner, promoter=seller)
    variants: dict[BrandId, list[tuple[VariantId, str]]] = {}
    products: list[ProductId] = []
    for brand in (seller, partner):
        async with db.unit_of_work(brand) as session:
            await imports.run(
                session, brand, content=_file(rng, brand), format=ImportFormat.JSONL,
                policy=ErrorPolicy.REJECT_EVERYTHING, clock=clock,
            )  # fmt: skip
        async with db.reading(brand) as session:
            ids = await catalog.published_ids(session, after=None, limit=2 * PRODUCTS)
            found = await catalog.variants_of(session, ids)
        mine = [v for vs in found.values() for v in vs if v.brand_id == brand.brand_id]
        variants[brand.brand_id] = [(v.id, v.sku) for v in mine]
        products += list(dict.fromkeys(v.product_id for v in mine))
    for number in range(4):
        await _supplier(db, rng, number, variants)
    await documents.rebuild(db, clock=clock, search=PostgresIndex())
    facts = StorefrontFacts(made.id, seller.brand_id, "CNY", "CN", "zh-CN", "web")
    shopper = Actor(ActorKind.STOREFRONT, seller.brand_id, storefront_id=made.id, scopes=STOREFRONT_SCOPES)
    return Market(
        facts,
        shopper,
        made.publishable_key,
        [variant for variant, _ in variants[seller.brand_id]],
        [variant for variant, _ in variants[partner.brand_id]],
        products,
    )


async def _brand(db: Database, name: str) -> Actor:
    async with db.unit_of_work(SYSTEM) as session:
        made = await brands.sign_up(
            session, kind=TenantKind.BRAND, name=name, email=f"{name.split()[0].lower()}@example.com",
            country="CN", currency="CNY", clock=SystemClock(),
        )  # fmt: skip
    return Actor(ActorKind.BRAND, BrandId.of(made.tenant_id), scopes=BRAND_SCOPES)


async def _storefront(db: Database, brand: Actor) -> brands.NewStorefront:
    async with db.unit_of_work(brand) as session:
        return await brands.create_storefront(
            session, brand, name="shop", channel="web", currency="CNY", country="CN", clock=SystemClock()
        )


async def _agree(db: Database, *, advertiser: Actor, promoter: Actor) -> None:
    clock = SystemClock()
    async with db.unit_of_work(SYSTEM) as session:
        invitation = await promotion.invite(
            session, advertiser, advertiser_id=advertiser.brand_id, promoter_brand_id=promoter.brand_id,
            terms=Terms.flat(100_000), clock=clock,
        )  # fmt: skip
        opened = await promotion.accept(session, promoter, invitation, clock=clock)
        for signer in (advertiser, promoter):
            await promotion.sign_agreement(
                session, signer, opened.agreement_id, content_hash=opened.content_hash, clock=clock
            )


def _file(rng: random.Random, brand: Actor) -> bytes:
    """One JSON line per variant."""
    rows = []
    for n in range(PRODUCTS):
        for v in range(VARIANTS):
            row = {
                "handle": f"item-{n}", "sku": f"SKU-{n}-{v}", "title_zh": f"山茶 保湿 {n} 号",
                "title_en": f"Camellia number {n}", "description_zh": "温和滋润，适合日常使用。" * 6,
                "description_en": "Gentle and light, made for every day. " * 6,
                "category": _CATEGORIES[n % len(_CATEGORIES)],
                "tags": ["floral", f"series-{n % 20}", "gift"],
                "media": [f"https://cdn.example.com/{brand.brand_id}/{n}/{m}.jpg" for m in range(2)],
                "variant_title": f"{(v + 1) * 50} ml", "weight_g": 100 * (v + 1), "status": "published",
                "prices": {"CNY": f"{rng.randrange(2_000, 30_000) / 100:.2f}"},
                "options": {"size": f"{(v + 1) * 50} ml"}, "attributes": {"origin": "Yunnan"},
            }  # fmt: skip
            rows.append(orjson.dumps(row))
    return b"\n".join(rows)


async def _supplier(
    db: Database, rng: random.Random, number: int, variants: dict[BrandId, list[tuple[VariantId, str]]]
) -> None:
    """One location that ships to all of China and offers every second of the variants, shelves full."""
    clock, actor = SystemClock(), Actor(ActorKind.SUPPLIER, SupplierId.new())
    mine = [
        (variant, sku, brand)
        for brand, listed in variants.items()
        for n, (variant, sku) in enumerate(listed)
        if n % 2 == number % 2
    ]
    async with db.unit_of_work(SYSTEM) as session:
        await suppliers.register(session, supplier_id=actor.supplier_id, name=f"Works {number}", clock=clock)
        location = await suppliers.create_location(
            session, actor, NewLocation("main", f"Works {number}", "CN", Money(0, "CNY")), clock=clock
        )
        rate = RateToZone("CN", Money(500 + 100 * number, "CNY"), per_kg_minor=100)
        await suppliers.set_zone_rates(session, actor, location, [rate], clock=clock)
        for brand in variants:
            await suppliers.set_brand_rule(
                session, SYSTEM, supplier_id=actor.supplier_id, relation=BrandRelation.AUTHORISED, brand_id=brand,
                clock=clock,
            )  # fmt: skip
        for start in range(0, len(mine), MAX_ROWS):
            part = mine[start : start + MAX_ROWS]
            offers = [
                OfferTerms(location, variant, brand, sku, Money(rng.randrange(500, 1_500), "CNY"))
                for variant, sku, brand in part
            ]
            await suppliers.put_offers(session, actor, offers, clock=clock)
            rows = [StockRow(location, variant, brand, count=MAX_UNITS) for variant, _, brand in part]
            await inventory.apply_stock(session, actor.supplier_id, rows, clock=clock)
