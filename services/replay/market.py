"""The market in which the recorded sales are possible: one marketplace brand, its catalogue, its sellers.

Prices are those of the recorded sales, each in force from the sale that shows it first; stock is what was sold.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import Clock
from core.ids import BrandId, LocationId, OfferId, SupplierId, VariantId
from core.money import Money
from marketplace.brands import service as brands
from marketplace.brands.models import StorefrontChannel, TenantKind
from marketplace.brands.roles import Role, scopes_of
from marketplace.catalog import imports
from marketplace.catalog import queries as catalog
from marketplace.catalog.models import ErrorPolicy, ImportFormat
from marketplace.orders.external import ExternalStorefront
from services.replay.files import CURRENCY, Product, Seller, Source
from services.replay.mapping import COUNTRY, SellerIds, World, offer_cost
from services.replay.progress import SOURCE
from supply.inventory import service as inventory
from supply.inventory.feed import MAX_ROWS, StockRow
from supply.suppliers import service as suppliers
from supply.suppliers.models import AcceptMode, BrandRelation
from supply.suppliers.service import NewLocation, OfferTerms, PriceChange, RateToZone

BEFORE = timedelta(days=1)
"""The market is set up this long before the first purchase."""
_LARGEST_CATALOGUE = 100_000_000
_TITLE_OF_NONE = "uncategorised"
_EMAIL = "marketplace@olist.example"
_MARKETPLACE = text(
    "SELECT s.id, s.brand_id, s.currency FROM storefronts s JOIN memberships m ON m.tenant_id = s.brand_id"
    " JOIN users u ON u.id = m.user_id WHERE u.email = :email ORDER BY s.id LIMIT 1"
)
_SELLERS = text(
    "SELECT s.code, s.id, l.id AS location_id FROM suppliers s JOIN locations l ON l.supplier_id = s.id"
    " WHERE s.code = ANY(:codes)"
)


@dataclass(slots=True)
class OfferHistory:
    """What one seller asked for one product: first price and its changes; ``sold`` is the number of pieces."""

    prices: list[tuple[datetime, int]] = field(default_factory=list)
    sold: int = 0


Histories = Mapping[str, Mapping[str, OfferHistory]]
"""By seller, by product."""


def histories(source: Source) -> Histories:
    found: dict[str, dict[str, OfferHistory]] = defaultdict(lambda: defaultdict(OfferHistory))
    for order in source.orders:
        for item in order.items:
            history = found[item.seller][item.product]
            history.sold += 1
            if not history.prices or history.prices[-1][1] != item.price_minor:
                history.prices.append((order.purchased_at, item.price_minor))
    return found


async def open_marketplace(session: AsyncSession, *, clock: Clock) -> None:
    """The brand that runs the marketplace, and its storefront. SYSTEM session."""
    signed = await brands.sign_up(
        session, kind=TenantKind.BRAND, name="Olist", email=_EMAIL, country=COUNTRY, currency=CURRENCY,
        clock=clock,
    )  # fmt: skip
    await brands.create_storefront(
        session, brand_actor(BrandId.of(signed.tenant_id)), name="Olist", channel=StorefrontChannel.WEB,
        currency=CURRENCY, country=COUNTRY, locale="en", clock=clock,
    )  # fmt: skip


async def marketplace(session: AsyncSession) -> ExternalStorefront | None:
    row = (await session.execute(_MARKETPLACE, {"email": _EMAIL})).first()
    if row is None:
        return None
    return ExternalStorefront(SOURCE, row.id, BrandId.of(row.brand_id), row.currency)


def brand_actor(brand_id: BrandId) -> Actor:
    return Actor(ActorKind.BRAND, brand_id, scopes=frozenset(scopes_of(Role.OWNER, TenantKind.BRAND)))


async def list_products(
    session: AsyncSession, brand_id: BrandId, source: Source, sold: Histories, *, clock: Clock
) -> None:
    """Every product that is sold, by the catalogue's own import; listed again, nothing changes."""
    prices: dict[str, int] = {}
    for offered in sold.values():
        for product, history in offered.items():
            prices.setdefault(product, history.prices[0][1])
    rows = (_listing(name, source.products[name], prices[name]) for name in sorted(prices))
    done = await imports.run(
        session, brand_actor(brand_id), content=b"\n".join(rows), format=ImportFormat.JSONL,
        policy=ErrorPolicy.REJECT_EVERYTHING, clock=clock, largest_bytes=_LARGEST_CATALOGUE,
    )  # fmt: skip
    if done.rows_failed:
        raise RuntimeError(f"the catalogue refused {done.rows_failed} products")


def _listing(name: str, product: Product, price_minor: int) -> bytes:
    category = product.category or _TITLE_OF_NONE
    return orjson.dumps(
        {
            "sku": name, "handle": name, "title_en": f"{category} {name[:8]}", "category": product.category,
            "weight_g": str(min(product.weight_g, 1_000_000)), "status": "published",
            "prices": {CURRENCY: Money(price_minor, CURRENCY).decimal},
        }
    )  # fmt: skip


async def register_sellers(
    session: AsyncSession,
    storefront: ExternalStorefront,
    sellers: Sequence[tuple[str, Seller]],
    sold: Histories,
    variants: Mapping[str, VariantId],
    *,
    clock: Clock,
) -> None:
    """Sign up, open a location, offer, stock. Each seller acts for itself; SYSTEM session for the sign-up."""
    for name, seller in sellers:
        ids = await _open_shop(session, name, seller, clock=clock)
        actor = Actor(ActorKind.SUPPLIER, ids.supplier_id)
        await _offer(session, actor, storefront.brand_id, ids.location_id, sold[name], variants, clock=clock)
        await _stock(session, ids, storefront.brand_id, sold[name], variants, clock=clock)


async def _open_shop(session: AsyncSession, name: str, seller: Seller, *, clock: Clock) -> SellerIds:
    signed = await brands.sign_up(
        session, kind=TenantKind.SUPPLIER, name=f"Seller {name[:12]}", email=f"{name}@sellers.olist.example",
        country=COUNTRY, currency=CURRENCY, clock=clock,
    )  # fmt: skip
    supplier_id = SupplierId.of(signed.tenant_id)
    await suppliers.register(
        session, supplier_id=supplier_id, name=f"Seller {name[:12]}", code=name, settlement_days=0,
        accept_mode=AcceptMode.AUTO, clock=clock,
    )  # fmt: skip
    actor = Actor(ActorKind.SUPPLIER, supplier_id)
    nothing = Money(0, CURRENCY)
    shop = NewLocation("main", seller.city or name[:12], COUNTRY, nothing, region=seller.state or None)
    location_id = await suppliers.create_location(session, actor, shop, clock=clock)
    # Freight of an outside sale is what was charged; the rate only says that the whole country is served.
    await suppliers.set_zone_rates(session, actor, location_id, [RateToZone(COUNTRY, nothing)], clock=clock)
    return SellerIds(supplier_id, location_id)


async def _offer(
    session: AsyncSession,
    actor: Actor,
    brand_id: BrandId,
    location_id: LocationId,
    sold: Mapping[str, OfferHistory],
    variants: Mapping[str, VariantId],
    *,
    clock: Clock,
) -> None:
    terms = [
        OfferTerms(location_id, variants[product], brand_id, product, _cost(history.prices[0][1]))
        for product, history in sold.items()
    ]
    saved = await suppliers.put_offers(session, actor, terms, clock=clock)
    await suppliers.set_brand_rule(
        session, SYSTEM, supplier_id=actor.supplier_id, relation=BrandRelation.AUTHORISED, brand_id=brand_id,
        clock=clock,
    )  # fmt: skip
    offers = {product: each.offer_id for product, each in zip(sold, saved, strict=True)}
    changes = [each for product, history in sold.items() for each in _changes(offers[product], history)]
    if changes:
        await suppliers.change_prices(session, actor, changes, clock=clock)


def _changes(offer_id: OfferId, history: OfferHistory) -> Iterator[PriceChange]:
    for effective_at, price_minor in history.prices[1:]:
        yield PriceChange(offer_id, _cost(price_minor), effective_at)


def _cost(price_minor: int) -> Money:
    return Money(offer_cost(price_minor), CURRENCY)


async def _stock(
    session: AsyncSession,
    ids: SellerIds,
    brand_id: BrandId,
    sold: Mapping[str, OfferHistory],
    variants: Mapping[str, VariantId],
    *,
    clock: Clock,
) -> None:
    counts: Counter[VariantId] = Counter()
    for product, history in sold.items():
        counts[variants[product]] += history.sold
    rows = [StockRow(ids.location_id, variant, brand_id, count=units) for variant, units in counts.items()]
    for start in range(0, len(rows), MAX_ROWS):
        await inventory.apply_stock(session, ids.supplier_id, rows[start : start + MAX_ROWS], clock=clock)


async def variants_of(session: AsyncSession, brand_id: BrandId, source: Source) -> dict[str, VariantId]:
    found = await catalog.resolve_skus(session, sorted(source.products), brand_id)
    return {sku: variant for (_, sku), variant in found.items()}


async def world_of(session: AsyncSession, brand_id: BrandId, source: Source) -> World:
    """Who and what the recorded names are, once the market is open."""
    rows = await session.execute(_SELLERS, {"codes": sorted(source.sellers)})
    sellers = {row.code: SellerIds(SupplierId.of(row.id), LocationId.of(row.location_id)) for row in rows}
    return World(sellers, await variants_of(session, brand_id, source), source.products)
