from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import BrandId, StorefrontId, TenantId, TokenId, UserId
from core.pagination import Page, PageRequest, page_of
from infra.db.base import table_of
from marketplace.brands.errors import BrandNotFound, StorefrontNotFound, TokenNotFound
from marketplace.brands.models import ApiToken, BrandProfile, Membership, Storefront, Tenant, User
from marketplace.brands.naming import LONGEST_NAME, checked_text

_T, _P, _K = table_of(Tenant).c, table_of(BrandProfile).c, table_of(ApiToken).c
_S, _M, _U = table_of(Storefront).c, table_of(Membership).c, table_of(User).c
_NAMES = text("SELECT id, kind, name, slug FROM tenant_names(:ids)")


@dataclass(frozen=True, slots=True)
class Brand:
    id: BrandId
    name: str
    slug: str
    country: str
    currency: str
    name_zh: str
    name_en: str
    description: str
    categories: Sequence[str]
    regions: Sequence[str]
    discoverable: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TenantName:
    id: TenantId
    kind: str
    name: str
    slug: str


@dataclass(frozen=True, slots=True)
class TenantFacts:
    id: TenantId
    kind: str
    name: str
    slug: str
    status: str
    country: str
    currency: str


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as its owner sees it again: never the secret."""

    id: TokenId
    name: str
    shown_prefix: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class StorefrontRow:
    id: StorefrontId
    brand_id: BrandId
    name: str
    publishable_key: str
    channel: str
    currency: str
    country: str
    locale: str
    status: str


@dataclass(frozen=True, slots=True)
class StorefrontFacts:
    """What a storefront sells in: prices, tax and words follow from it."""

    id: StorefrontId
    brand_id: BrandId
    currency: str
    country: str
    locale: str
    channel: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    user_id: UserId
    email: str
    name: str
    role: str


_BRANDS: Select[Any] = select(
    _T.id, _T.name, _T.slug, _T.country, _T.currency, _P.name_zh, _P.name_en, _P.description,
    _P.categories, _P.regions, _P.discoverable, _T.created_at,
).select_from(table_of(Tenant).join(table_of(BrandProfile), _P.brand_id == _T.id))  # fmt: skip
_TOKEN_COLUMNS = (
    _K.id, _K.name, _K.shown_prefix, _K.scopes, _K.created_at, _K.expires_at, _K.last_used_at, _K.revoked_at
)  # fmt: skip
_STOREFRONT_COLUMNS = (
    _S.id, _S.brand_id, _S.name, _S.publishable_key, _S.channel, _S.currency, _S.country, _S.locale, _S.status
)  # fmt: skip


async def tenant_names(session: AsyncSession, ids: Iterable[UUID]) -> dict[TenantId, TenantName]:
    """Names for ids the caller already holds; unknown ids are left out. One statement."""
    rows = await session.execute(_NAMES, {"ids": list(ids)})
    named = (TenantName(TenantId.of(row.id), row.kind, row.name, row.slug) for row in rows)
    return {tenant.id: tenant for tenant in named}


async def tenant(session: AsyncSession, actor: Actor) -> TenantFacts:
    """The actor's own tenant. Raises ``BrandNotFound`` for an actor without one."""
    columns = (_T.id, _T.kind, _T.name, _T.slug, _T.status, _T.country, _T.currency)
    row = (await session.execute(select(*columns).where(_T.id == actor.tenant_id))).first()
    if row is None:
        raise BrandNotFound("this actor belongs to no tenant")
    return TenantFacts(*row)


async def brand(session: AsyncSession, actor: Actor, brand_id: BrandId) -> Brand:
    """The actor's own brand, or a discoverable one. Raises ``BrandNotFound``."""
    row = (await session.execute(_BRANDS.where(_T.id == brand_id, _visible(actor)))).first()
    if row is None:
        raise BrandNotFound("no such brand, or it is not discoverable", field="id")
    return _brand(row)


async def brands_of(session: AsyncSession, actor: Actor, ids: Iterable[BrandId]) -> dict[BrandId, Brand]:
    """Those of the ids the actor may see."""
    rows = await session.execute(_BRANDS.where(_T.id.in_(list(ids)), _visible(actor)))
    return {found.id: found for found in map(_brand, rows)}


async def brands_page(
    session: AsyncSession,
    actor: Actor,
    request: PageRequest,
    *,
    category: str | None = None,
    region: str | None = None,
) -> Page[Brand]:
    """Discoverable brands and the actor's own, oldest first; ``category``, ``region``: whole entries."""
    wanted = _narrowed(_BRANDS.where(_visible(actor)), category, region)
    wanted = wanted.order_by(_T.id).limit(request.first + 1)
    if request.key:
        wanted = wanted.where(_T.id > BrandId.parse(request.key[0]))
    rows = [_brand(row) for row in await session.execute(wanted)]
    return page_of(rows, request, lambda found: (str(found.id),))


async def brands_count(
    session: AsyncSession, actor: Actor, *, category: str | None = None, region: str | None = None
) -> int:
    wanted = _narrowed(_BRANDS.where(_visible(actor)), category, region)
    return await session.scalar(select(func.count()).select_from(wanted.subquery())) or 0


async def tokens_of(session: AsyncSession, actor: Actor) -> list[TokenRow]:
    """The tenant's tokens, newest first, without their secrets. Needs ``tokens:write``."""
    actor.require("tokens:write")
    wanted = select(*_TOKEN_COLUMNS).where(_K.tenant_id == actor.tenant_id).order_by(_K.id.desc()).limit(1000)
    return [TokenRow(*row) for row in await session.execute(wanted)]


async def token(session: AsyncSession, actor: Actor, token_id: TokenId) -> TokenRow:
    """Raises ``TokenNotFound`` for another tenant's."""
    wanted = select(*_TOKEN_COLUMNS).where(_K.id == token_id, _K.tenant_id == actor.tenant_id)
    row = (await session.execute(wanted)).first()
    if row is None:
        raise TokenNotFound("no such token", field="id")
    return TokenRow(*row)


async def storefronts_of(session: AsyncSession, actor: Actor) -> list[StorefrontRow]:
    wanted = select(*_STOREFRONT_COLUMNS).where(_S.brand_id == actor.brand_id).order_by(_S.id).limit(1000)
    return [StorefrontRow(*row) for row in await session.execute(wanted)]


async def storefront(session: AsyncSession, actor: Actor, storefront_id: StorefrontId) -> StorefrontRow:
    """Raises ``StorefrontNotFound`` for another brand's."""
    wanted = select(*_STOREFRONT_COLUMNS).where(_S.id == storefront_id)
    if not actor.sees_everything:
        wanted = wanted.where(_S.brand_id == actor.brand_id)
    row = (await session.execute(wanted)).first()
    if row is None:
        raise StorefrontNotFound("no such storefront", field="id")
    return StorefrontRow(*row)


async def members_of(session: AsyncSession, actor: Actor) -> list[Member]:
    wanted = (
        select(_M.user_id, _U.email, _U.name, _M.role)
        .select_from(table_of(Membership).join(table_of(User), _U.id == _M.user_id))
        .where(_M.tenant_id == actor.tenant_id)
        .order_by(_M.user_id)
        .limit(1000)
    )
    return [Member(*row) for row in await session.execute(wanted)]


def _narrowed(brands: Select[Any], category: str | None, region: str | None) -> Select[Any]:
    for text_ in filter(None, (category, region)):
        checked_text(text_, field="filter", longest=LONGEST_NAME)
    if category:
        brands = brands.where(_P.categories.contains([category]))
    if region:
        brands = brands.where(_P.regions.contains([region]))
    return brands


def _visible(actor: Actor) -> Any:
    if actor.sees_everything:
        return _T.kind == "brand"
    return (_T.kind == "brand") & ((_T.id == actor.tenant_id) | _P.discoverable)


def _brand(row: Row[Any]) -> Brand:
    facts: tuple[Any, ...] = (BrandId.of(row[0]), *row[1:])
    return Brand(*facts)
