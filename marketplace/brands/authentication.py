"""From a secret in a header to an actor: one statement, before any tenant is known.

It asks functions that answer only to the exact hash or key (migration 0003), so a session needs no
introduction for it and the application's role no policy that reads every tenant's tokens.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from core.actor import Actor, ActorKind
from core.clock import Clock
from core.ids import BrandId, StorefrontId, SupplierId, TenantId, TokenId, UserId
from infra.db.base import table_of
from marketplace.brands import tokens
from marketplace.brands.errors import ExpiredToken, InvalidPublishableKey, InvalidToken, RevokedToken
from marketplace.brands.models import ApiToken, StorefrontStatus, TenantStatus
from marketplace.brands.queries import StorefrontFacts
from marketplace.brands.roles import STOREFRONT_SCOPES

_TOKEN = text("SELECT * FROM token_by_hash(:hash)")
_STOREFRONT = text("SELECT * FROM storefront_by_key(:key)")
_TOKENS = table_of(ApiToken)
_NOTED_EVERY = timedelta(minutes=1)
_ID_OF_KIND: dict[ActorKind, type[TenantId]] = {
    ActorKind.BRAND: BrandId,
    ActorKind.SUPPLIER: SupplierId,
    ActorKind.PLATFORM: TenantId,
}


async def authenticate(session: AsyncSession | AsyncConnection, token: str, *, clock: Clock) -> Actor:
    """Raises ``InvalidToken``, ``RevokedToken`` or ``ExpiredToken``.

    One statement; once a minute and token a second one notes the use, if the caller's transaction is
    SYSTEM's and commits.
    """
    if not tokens.looks_like_a_token(token):
        raise InvalidToken("this is not a token of this platform")
    row = (await session.execute(_TOKEN, {"hash": tokens.hash_of(token)})).first()
    if row is None or row.status != TenantStatus.ACTIVE:
        raise InvalidToken("no such token")
    if row.revoked_at is not None:
        raise RevokedToken("this token was revoked")
    if row.expires_at is not None and row.expires_at <= clock.now():
        raise ExpiredToken("this token has expired")
    kind, token_id = ActorKind(row.kind), TokenId.of(row.id)
    now = clock.now()
    if row.last_used_at is None or now - row.last_used_at >= _NOTED_EVERY:
        await _note_use(session, token_id, now)
    return Actor(
        kind,
        _ID_OF_KIND[kind].of(row.tenant_id),
        user_id=UserId.of(row.user_id) if row.user_id else None,
        token_id=token_id,
        scopes=frozenset(row.scopes),
    )


async def authenticate_storefront(
    session: AsyncSession | AsyncConnection, publishable_key: str
) -> tuple[Actor, StorefrontFacts]:
    """Raises ``InvalidPublishableKey`` for an unknown key, a paused storefront or a closed brand."""
    row = None
    if tokens.looks_publishable(publishable_key):
        row = (await session.execute(_STOREFRONT, {"key": publishable_key})).first()
    if row is None or row.status != StorefrontStatus.ACTIVE or row.brand_status != TenantStatus.ACTIVE:
        raise InvalidPublishableKey("no open storefront has this key")
    facts = StorefrontFacts(
        StorefrontId.of(row.id),
        BrandId.of(row.brand_id),
        row.currency,
        row.country,
        row.locale,
        row.channel,
        row.name,
    )
    actor = Actor(ActorKind.STOREFRONT, facts.brand_id, storefront_id=facts.id, scopes=STOREFRONT_SCOPES)
    return actor, facts


async def _note_use(session: AsyncSession | AsyncConnection, token_id: TokenId, at: datetime) -> None:
    """Move ``last_used_at`` on; a row another request is writing now is left to it."""
    free = select(_TOKENS.c.id).where(_TOKENS.c.id == token_id).with_for_update(skip_locked=True)
    await session.execute(
        update(_TOKENS).where(_TOKENS.c.id == free.scalar_subquery()).values(last_used_at=at)
    )
