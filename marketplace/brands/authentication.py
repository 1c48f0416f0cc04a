"""From a secret in a header to an actor: one statement, before any tenant is known.

It asks functions that answer only to the exact hash or key (migration 0003), so a session needs no
introduction for it and the application's role no policy that reads every tenant's tokens.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import Clock
from core.ids import BrandId, StorefrontId, SupplierId, TenantId, TokenId, UserId
from infra.db.base import table_of
from infra.db.session import Database
from marketplace.brands import tokens
from marketplace.brands.errors import ExpiredToken, InvalidPublishableKey, InvalidToken, RevokedToken
from marketplace.brands.models import ApiToken, StorefrontStatus, TenantStatus
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
class KnownToken:
    actor: Actor
    token_id: TokenId
    last_used_at: datetime | None


async def authenticate(session: AsyncSession | AsyncConnection, token: str, *, clock: Clock) -> Actor:
    """Raises ``InvalidToken``, ``RevokedToken`` or ``ExpiredToken``."""
    return (await known_token(session, token, clock=clock)).actor


async def known_token(session: AsyncSession | AsyncConnection, token: str, *, clock: Clock) -> KnownToken:
    """``authenticate``, with what is needed to note the token's use. One statement."""
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
    actor = Actor(
        kind,
        _ID_OF_KIND[kind].of(row.tenant_id),
        user_id=UserId.of(row.user_id) if row.user_id else None,
        token_id=token_id,
        scopes=frozenset(row.scopes),
    )
    return KnownToken(actor, token_id, row.last_used_at)


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


async def note_use(session: AsyncSession, token_id: TokenId, at: datetime) -> None:
    """Move ``last_used_at`` on; a row another request is writing now is left to it."""
    free = select(_TOKENS.c.id).where(_TOKENS.c.id == token_id).with_for_update(skip_locked=True)
    await session.execute(
        update(_TOKENS).where(_TOKENS.c.id == free.scalar_subquery()).values(last_used_at=at)
    )


class Authenticator:
    """Authentication as the processes use it: a plain connection, and use noted off the request's path."""

    def __init__(self, db: Database, *, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._noting: dict[TokenId, asyncio.Task[None]] = {}

    async def actor(self, token: str) -> Actor:
        """As ``authenticate``; at most once a minute and token, also writes ``last_used_at`` afterwards."""
        async with self._db.engine.connect() as connection:
            known = await known_token(connection, token, clock=self._clock)
        now = self._clock.now()
        due = known.last_used_at is None or now - known.last_used_at >= _NOTED_EVERY
        if due and known.token_id not in self._noting:
            task = asyncio.create_task(self._note(known.token_id, now))
            self._noting[known.token_id] = task
            task.add_done_callback(lambda _: self._noting.pop(known.token_id, None))
        return known.actor

    async def storefront(self, publishable_key: str) -> tuple[Actor, StorefrontFacts]:
        async with self._db.engine.connect() as connection:
            return await authenticate_storefront(connection, publishable_key)

    async def close(self) -> None:
        """Wait for what is being noted."""
        await asyncio.gather(*self._noting.values(), return_exceptions=True)

    async def _note(self, token_id: TokenId, at: datetime) -> None:
        async with self._db.unit_of_work(SYSTEM) as session:
            await note_use(session, token_id, at)
