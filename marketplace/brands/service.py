"""The verbs of tenants: sign up, tokens, profile, storefronts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.ids import BrandId, StorefrontId, SupplierId, TenantId, TokenId, UserId
from infra.db.base import table_of
from marketplace.brands import naming, roles
from marketplace.brands.authentication import authenticate as authenticate
from marketplace.brands.authentication import authenticate_storefront as authenticate_storefront
from marketplace.brands.errors import (
    EmailTaken,
    ExpiryInThePast,
    StorefrontNotFound,
    TokenAlreadyRevoked,
    TokenNotFound,
)
from marketplace.brands.models import (
    ApiToken,
    BrandProfile,
    Membership,
    Storefront,
    StorefrontChannel,
    StorefrontStatus,
    Tenant,
    TenantKind,
    TenantStatus,
    User,
)
from marketplace.brands.roles import Role
from marketplace.brands.tokens import Secret, new_publishable_key, new_secret

_TENANTS, _USERS, _MEMBERSHIPS = table_of(Tenant), table_of(User), table_of(Membership)
_TOKENS, _PROFILES, _STOREFRONTS = table_of(ApiToken), table_of(BrandProfile), table_of(Storefront)
_ID_OF_KIND: dict[TenantKind, type[TenantId]] = {
    TenantKind.BRAND: BrandId,
    TenantKind.SUPPLIER: SupplierId,
    TenantKind.PLATFORM: TenantId,
}


@dataclass(frozen=True, slots=True)
class SignedUp:
    """``token`` has every scope of the tenant and is shown this once."""

    tenant_id: TenantId
    user_id: UserId
    token: str = field(repr=False)
    slug: str = ""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    id: TokenId
    token: str = field(repr=False)
    shown_prefix: str = ""


@dataclass(frozen=True, slots=True)
class NewStorefront:
    id: StorefrontId
    publishable_key: str


async def sign_up(
    session: AsyncSession,
    *,
    kind: TenantKind | str,
    name: str,
    email: str,
    country: str,
    currency: str,
    clock: Clock,
) -> SignedUp:
    """A new tenant with its owner and first token. Runs in a SYSTEM unit of work: nobody is known yet.

    Raises ``EmailTaken``: joining a further tenant is an invitation, never a sign-up under another's address.
    """
    kind, now = TenantKind(kind), clock.now()
    name, email = naming.checked_name(name), naming.checked_email(email)
    user_id = UserId.new()
    new_user = upsert(_USERS).values(id=user_id, email=email, name=email.partition("@")[0], created_at=now)
    if (await session.execute(new_user.on_conflict_do_nothing().returning(_USERS.c.id))).first() is None:
        raise EmailTaken("this address already belongs to an account", field="email")
    tenant_id = _ID_OF_KIND[kind].new()
    slug = await _insert_tenant(
        session,
        {
            "id": tenant_id, "kind": kind, "name": name, "status": TenantStatus.ACTIVE, "created_at": now,
            "country": naming.checked_country(country), "currency": naming.checked_currency(currency),
        },
    )  # fmt: skip
    membership = {"user_id": user_id, "tenant_id": tenant_id, "role": Role.OWNER}
    await session.execute(insert(_MEMBERSHIPS), [membership])
    if kind is TenantKind.BRAND:
        await session.execute(insert(_PROFILES), [_blank_profile(BrandId.of(tenant_id), name, now)])
    scopes = sorted(roles.scopes_of(Role.OWNER, kind))
    issued = await _insert_token(
        session, kind, tenant_id, user_id=user_id, name="first token", scopes=scopes, expires_at=None, now=now
    )
    return SignedUp(tenant_id, user_id, issued.token, slug)


async def issue_token(
    session: AsyncSession,
    actor: Actor,
    *,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None,
    clock: Clock,
) -> IssuedToken:
    """A further token of the actor's tenant, with no scope its maker lacks.

    Raises ``MissingScope`` without ``tokens:write``, ``ScopeNotHeld``, ``UnknownScope``, ``ExpiryInThePast``.
    """
    actor.require("tokens:write")
    kind, tenant_id, now = _kind_of(actor), _tenant_of(actor), clock.now()
    if expires_at is not None and expires_at <= now:
        raise ExpiryInThePast("a token that has expired opens nothing", field="expiresAt")
    return await _insert_token(
        session,
        kind,
        tenant_id,
        user_id=actor.user_id,
        name=naming.checked_name(name),
        scopes=roles.granted(actor, scopes, kind),
        expires_at=expires_at,
        now=now,
    )


async def revoke_token(session: AsyncSession, actor: Actor, token_id: TokenId, *, clock: Clock) -> None:
    """Effective with the next request. Raises ``TokenNotFound`` and ``TokenAlreadyRevoked``."""
    actor.require("tokens:write")
    await _close_token(session, actor, token_id, at=clock.now())


async def rotate_token(
    session: AsyncSession, actor: Actor, token_id: TokenId, *, clock: Clock
) -> IssuedToken:
    """A new secret with the same name, scopes and end; the old one stops with this transaction."""
    actor.require("tokens:write")
    now = clock.now()
    old = await _close_token(session, actor, token_id, at=now)
    if old.expires_at is not None and old.expires_at <= now:
        raise ExpiryInThePast("this token has expired; issue a new one", field="id")
    kind = _kind_of(actor)
    return await _insert_token(
        session,
        kind,
        _tenant_of(actor),
        user_id=actor.user_id,
        name=old.name,
        scopes=roles.granted(actor, old.scopes, kind),
        expires_at=old.expires_at,
        now=now,
    )


async def update_profile(
    session: AsyncSession,
    actor: Actor,
    *,
    name_zh: str | None = None,
    name_en: str | None = None,
    description: str | None = None,
    categories: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    discoverable: bool | None = None,
    clock: Clock,
) -> None:
    """Change what is given of the actor's own brand profile."""
    actor.require("promotion:write")
    changes: dict[str, object] = {"updated_at": clock.now()}
    if name_zh is not None:
        changes["name_zh"] = naming.checked_name(name_zh, field="nameZh") if name_zh else ""
    if name_en is not None:
        changes["name_en"] = naming.checked_name(name_en, field="nameEn") if name_en else ""
    if description is not None:
        changes["description"] = naming.checked_text(description, field="description")
    if categories is not None:
        changes["categories"] = naming.checked_labels(categories, field="categories")
    if regions is not None:
        changes["regions"] = naming.checked_labels(regions, field="regions")
    if discoverable is not None:
        changes["discoverable"] = discoverable
    await session.execute(update(_PROFILES).where(_PROFILES.c.brand_id == _brand_of(actor)).values(**changes))


async def create_storefront(
    session: AsyncSession,
    actor: Actor,
    *,
    name: str,
    channel: StorefrontChannel | str,
    currency: str,
    country: str,
    locale: str = "zh-CN",
    clock: Clock,
) -> NewStorefront:
    actor.require("catalog:write")
    created = NewStorefront(StorefrontId.new(), new_publishable_key())
    row = {
        "id": created.id, "brand_id": _brand_of(actor), "name": naming.checked_name(name),
        "publishable_key": created.publishable_key, "channel": StorefrontChannel(channel),
        "currency": naming.checked_currency(currency), "country": naming.checked_country(country),
        "locale": naming.checked_locale(locale), "status": StorefrontStatus.ACTIVE, "created_at": clock.now(),
    }  # fmt: skip
    await session.execute(insert(_STOREFRONTS), [row])
    return created


async def update_storefront(
    session: AsyncSession,
    actor: Actor,
    storefront_id: StorefrontId,
    *,
    name: str | None = None,
    locale: str | None = None,
    status: StorefrontStatus | None = None,
    new_key: bool = False,
) -> str:
    """Change what is given; ``new_key`` replaces the publishable key at once. Returns the key in force.

    Currency and country stay: carts and tax depend on them. Raises ``StorefrontNotFound``.
    """
    actor.require("catalog:write")
    columns = _STOREFRONTS.c
    changes: dict[str, object] = {"status": status if status is not None else columns.status}
    if name is not None:
        changes["name"] = naming.checked_name(name)
    if locale is not None:
        changes["locale"] = naming.checked_locale(locale)
    if new_key:
        changes["publishable_key"] = new_publishable_key()
    mine = update(_STOREFRONTS).where(columns.id == storefront_id, columns.brand_id == _brand_of(actor))
    key = await session.scalar(mine.values(**changes).returning(columns.publishable_key))
    if key is None:
        raise StorefrontNotFound("no such storefront", field="id")
    return str(key)


async def _insert_tenant(session: AsyncSession, row: dict[str, object]) -> str:
    """With the name's own slug, or, when that is taken or empty, with the end of the id behind it."""
    base = naming.slug_of(str(row["name"]))
    unique = f"{base or row['kind']}-{str(row['id'])[-8:]}"
    for slug in filter(None, (base, unique)):
        added = await session.execute(
            upsert(_TENANTS).values(**row, slug=slug).on_conflict_do_nothing().returning(_TENANTS.c.slug)
        )
        if added.first() is not None:
            return slug
    raise RuntimeError("two tenants got the same 128-bit id")


def _blank_profile(brand_id: BrandId, name: str, now: datetime) -> dict[str, object]:
    chinese = not name.isascii()
    return {
        "brand_id": brand_id, "name_zh": name if chinese else "", "name_en": "" if chinese else name,
        "description": "", "categories": [], "regions": [], "discoverable": False, "updated_at": now,
    }  # fmt: skip


async def _insert_token(
    session: AsyncSession,
    kind: TenantKind,
    tenant_id: TenantId,
    *,
    user_id: UserId | None,
    name: str,
    scopes: list[str],
    expires_at: datetime | None,
    now: datetime,
) -> IssuedToken:
    secret: Secret = new_secret(kind)
    token_id = TokenId.new()
    row = {
        "id": token_id, "tenant_id": tenant_id, "user_id": user_id, "name": name, "token_hash": secret.hash,
        "shown_prefix": secret.shown_prefix, "scopes": scopes, "created_at": now, "expires_at": expires_at,
        "last_used_at": None, "revoked_at": None,
    }  # fmt: skip
    await session.execute(insert(_TOKENS), [row])
    return IssuedToken(token_id, secret.text, secret.shown_prefix)


@dataclass(frozen=True, slots=True)
class _ClosedToken:
    name: str
    scopes: list[str]
    expires_at: datetime | None


async def _close_token(
    session: AsyncSession, actor: Actor, token_id: TokenId, *, at: datetime
) -> _ClosedToken:
    columns = _TOKENS.c
    mine = (columns.id == token_id) & (columns.tenant_id == _tenant_of(actor))
    closed = await session.execute(
        update(_TOKENS)
        .where(mine, columns.revoked_at.is_(None))
        .values(revoked_at=at)
        .returning(columns.name, columns.scopes, columns.expires_at)
    )
    row = closed.first()
    if row is not None:
        return _ClosedToken(row.name, row.scopes, row.expires_at)
    if await session.scalar(select(func.count()).select_from(_TOKENS).where(mine)):
        raise TokenAlreadyRevoked("this token is already revoked", field="id")
    raise TokenNotFound("no such token", field="id")


def _kind_of(actor: Actor) -> TenantKind:
    if actor.kind in (ActorKind.STOREFRONT, ActorKind.SYSTEM):
        raise WrongTenant("only a tenant's own member can do this")
    return TenantKind(actor.kind.value)


def _tenant_of(actor: Actor) -> TenantId:
    if actor.tenant_id is None:
        raise WrongTenant("this actor belongs to no tenant")
    return actor.tenant_id


def _brand_of(actor: Actor) -> BrandId:
    """A brand's own member, never a shopper behind its storefront. Raises ``WrongTenant``."""
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    return actor.brand_id
