"""What a storefront with a checkout of its own signs its messages to us with.

HMAC needs the secret itself, so it is sealed and not hashed: the database alone does not open it. Two are valid at
once, so that a shop can change its secret without losing a message: the old one for a day, or until it is revoked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.errors import Conflict, NotFound
from core.ids import BrandId, MalformedId, SigningSecretId, StorefrontId
from infra.suppliers import signing
from infra.suppliers.secrets import SecretBox
from infra.suppliers.signing import BadWebhookSignature
from marketplace.brands import queries
from marketplace.brands.queries import StorefrontFacts

MOST_VALID = 2
OLD_SECRET_FOR = timedelta(hours=24)

_VALID = "revoked_at IS NULL AND (valid_until IS NULL OR valid_until > :now)"
_LOCK = text("SELECT id FROM storefronts WHERE id = :storefront FOR UPDATE")
_LIST = text(
    "SELECT id, storefront_id, created_at, valid_until, revoked_at FROM signing_secrets"
    " WHERE storefront_id = :storefront AND brand_id = :brand ORDER BY id"
)
_COUNT = text(f"SELECT count(*) FROM signing_secrets WHERE storefront_id = :storefront AND {_VALID}")
_INSERT = text(
    "INSERT INTO signing_secrets (id, storefront_id, brand_id, sealed, created_at)"
    " VALUES (:id, :storefront, :brand, :sealed, :now)"
)
_EXPIRE = text(
    f"UPDATE signing_secrets SET valid_until = :until WHERE storefront_id = :storefront AND {_VALID}"
    " AND (valid_until IS NULL OR valid_until > :until)"
)
_REVOKE = text(
    "UPDATE signing_secrets SET revoked_at = coalesce(revoked_at, :now) WHERE id = :id AND brand_id = :brand"
    " RETURNING storefront_id"
)
_OF_SENDER = text(
    "SELECT s.id, s.sealed, f.brand_id, f.currency, f.country, f.locale, f.channel, f.name FROM storefronts f"
    " JOIN tenants t ON t.id = f.brand_id AND t.status = 'active'"
    f" JOIN signing_secrets s ON s.storefront_id = f.id WHERE f.id = :storefront AND {_VALID} ORDER BY s.id DESC"
)


class TooManySigningSecrets(Conflict):
    code = "TOO_MANY_SIGNING_SECRETS"


class SigningSecretNotFound(NotFound):
    code = "SIGNING_SECRET_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class IssuedSecret:
    """``secret`` is shown this once."""

    id: SigningSecretId
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SecretView:
    id: SigningSecretId
    storefront_id: StorefrontId
    created_at: datetime
    valid_until: datetime | None
    revoked_at: datetime | None

    def valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.valid_until is None or self.valid_until > now)


async def issue(
    session: AsyncSession, actor: Actor, storefront_id: StorefrontId, *, box: SecretBox, clock: Clock
) -> IssuedSecret:
    """A secret beside the one there may be. Raises ``StorefrontNotFound``, ``TooManySigningSecrets``."""
    await _own(session, actor, storefront_id)
    where = {"storefront": storefront_id, "now": clock.now()}
    if (await session.execute(_COUNT, where)).scalar_one() >= MOST_VALID:
        raise TooManySigningSecrets(
            f"at most {MOST_VALID} are valid at once; revoke one", field="storefrontId"
        )
    return await _insert(session, actor, storefront_id, box, clock.now())


async def rotate(
    session: AsyncSession, actor: Actor, storefront_id: StorefrontId, *, box: SecretBox, clock: Clock
) -> IssuedSecret:
    """A new secret; those before it are valid for ``OLD_SECRET_FOR``, of several only the newest.

    Raises ``StorefrontNotFound``.
    """
    await _own(session, actor, storefront_id)
    now = clock.now()
    valid = [each for each in await secrets_of(session, actor, storefront_id) if each.valid(now)]
    for older in valid[:-1]:
        await session.execute(_REVOKE, {"id": older.id, "brand": actor.brand_id, "now": now})
    await session.execute(_EXPIRE, {"storefront": storefront_id, "now": now, "until": now + OLD_SECRET_FOR})
    return await _insert(session, actor, storefront_id, box, now)


async def revoke(
    session: AsyncSession, actor: Actor, secret_id: SigningSecretId, *, clock: Clock
) -> StorefrontId:
    """At once; again, nothing changes. Whose it was. Raises ``SigningSecretNotFound``."""
    actor.require("tokens:write")
    where = {"id": secret_id, "brand": actor.brand_id, "now": clock.now()}
    storefront = (await session.execute(_REVOKE, where)).scalar_one_or_none()
    if storefront is None:
        raise SigningSecretNotFound("no such signing secret", field="id")
    return StorefrontId.of(storefront)


async def secrets_of(session: AsyncSession, actor: Actor, storefront_id: StorefrontId) -> list[SecretView]:
    """Of the actor's own storefront, oldest first; what they are is not told again."""
    rows = await session.execute(_LIST, {"storefront": storefront_id, "brand": actor.brand_id})
    return [_view(row) for row in rows]


async def verify_sender(
    session: AsyncSession,
    storefront: str,
    headers: Mapping[str, str],
    content: bytes,
    *,
    box: SecretBox,
    clock: Clock,
) -> StorefrontFacts:
    """Whose message this is. ``headers`` by lower-case name, ``content`` the raw bytes that were signed.

    Raises ``BadWebhookSignature``, and does not tell an unknown storefront from a wrong signature. SYSTEM session.
    """
    try:
        storefront_id = StorefrontId.parse(storefront)
    except MalformedId as error:
        raise BadWebhookSignature("no signature matches") from error
    where = {"storefront": storefront_id, "now": clock.now()}
    rows = (await session.execute(_OF_SENDER, where)).all()
    secrets = [box.open(bytes(row.sealed), owner=str(SigningSecretId.of(row.id))) for row in rows]
    # With nobody's secret, too, so that the answer takes as long.
    signing.verify(secrets or [signing.new_secret()], headers, content, now=clock.now())
    if not rows:
        raise BadWebhookSignature("no signature matches")
    row = rows[0]
    return StorefrontFacts(
        storefront_id, BrandId.of(row.brand_id), row.currency, row.country, row.locale, row.channel, row.name
    )


async def _own(session: AsyncSession, actor: Actor, storefront_id: StorefrontId) -> None:
    """The actor's, locked: its secrets are counted and changed by one at a time."""
    actor.require("tokens:write")
    await queries.storefront(session, actor, storefront_id)
    await session.execute(_LOCK, {"storefront": storefront_id})


async def _insert(
    session: AsyncSession, actor: Actor, storefront_id: StorefrontId, box: SecretBox, now: datetime
) -> IssuedSecret:
    issued = IssuedSecret(SigningSecretId.new(), signing.new_secret())
    values = {
        "id": issued.id, "storefront": storefront_id, "brand": actor.brand_id, "now": now,
        "sealed": box.seal(issued.secret, owner=str(issued.id)),
    }  # fmt: skip
    await session.execute(_INSERT, values)
    return issued


def _view(row: Row[Any]) -> SecretView:
    return SecretView(
        SigningSecretId.of(row.id), StorefrontId.of(row.storefront_id), row.created_at, row.valid_until,
        row.revoked_at,
    )  # fmt: skip
