"""Tenants for tests: each function shows only what its caller cares about."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import Clock
from core.ids import BrandId, StorefrontId, SupplierId
from infra.db.session import Database
from marketplace.brands import service
from marketplace.brands.models import TenantKind
from marketplace.brands.roles import BRAND_SCOPES, STOREFRONT_SCOPES, SUPPLIER_SCOPES


@dataclass(frozen=True, slots=True)
class MadeStorefront:
    id: StorefrontId
    key: str
    actor: Actor


def brand_actor(brand_id: BrandId) -> Actor:
    return Actor(ActorKind.BRAND, brand_id, scopes=BRAND_SCOPES)


def supplier_actor(supplier_id: SupplierId) -> Actor:
    return Actor(ActorKind.SUPPLIER, supplier_id, scopes=SUPPLIER_SCOPES)


def shopper(brand_id: BrandId, storefront_id: StorefrontId | None = None) -> Actor:
    return Actor(ActorKind.STOREFRONT, brand_id, storefront_id=storefront_id, scopes=STOREFRONT_SCOPES)


async def signed_up(
    session: AsyncSession,
    clock: Clock,
    kind: TenantKind | str = TenantKind.BRAND,
    *,
    name: str = "Jade Garden 玉园",
    email: str | None = None,
    country: str = "CN",
    currency: str = "CNY",
) -> service.SignedUp:
    """Needs a SYSTEM session."""
    return await service.sign_up(
        session, kind=kind, name=name, email=email or f"{uuid4().hex}@example.com", country=country,
        currency=currency, clock=clock,
    )  # fmt: skip


async def committed_brand(db: Database, clock: Clock, **facts: str) -> tuple[Actor, str]:
    """A brand that is really there: its actor and its token."""
    async with db.unit_of_work(SYSTEM) as session:
        made = await signed_up(session, clock, TenantKind.BRAND, **facts)
    return brand_actor(BrandId.of(made.tenant_id)), made.token


async def committed_supplier(db: Database, clock: Clock, **facts: str) -> tuple[Actor, str]:
    async with db.unit_of_work(SYSTEM) as session:
        made = await signed_up(session, clock, TenantKind.SUPPLIER, **facts)
    return supplier_actor(SupplierId.of(made.tenant_id)), made.token


async def committed_storefront(
    db: Database, clock: Clock, actor: Actor, *, currency: str = "CNY", country: str = "CN"
) -> MadeStorefront:
    async with db.unit_of_work(actor) as session:
        made = await service.create_storefront(
            session, actor, name="shop", channel="web", currency=currency, country=country, clock=clock
        )
    return MadeStorefront(made.id, made.publishable_key, shopper(actor.brand_id, made.id))
