"""The same key gives the same answer: idempotency of money and stock mutations, on every surface.

A key belongs to one actor and operation and is kept for 30 days. The first call runs and stores its answer in
its own transaction; a repeat gets the stored answer; the same key with another body is refused; a repeat that
comes while the first still runs waits for it (the unique index makes it wait) and then gets its answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Column, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field

from core.actor import Actor
from core.errors import Conflict, Invalid
from infra.db.base import Row, utc_field
from infra.db.text import storable

LONGEST_KEY = 255


class IdempotencyKeyReused(Conflict):
    code = "IDEMPOTENCY_KEY_REUSED"


class IdempotencyKeyMissing(Invalid):
    code = "IDEMPOTENCY_KEY_MISSING"


class IdempotencyRecord(Row, table=True):
    """``owner`` is the tenant or storefront; ``answer`` what the first call returned, as JSON."""

    __tablename__ = "idempotency_keys"

    owner: str = Field(primary_key=True)
    operation: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    body_hash: str
    answer: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB, nullable=True))
    created_at: datetime = utc_field()


_CLAIM = text(
    "INSERT INTO idempotency_keys (owner, operation, key, body_hash, created_at)"
    " VALUES (:owner, :operation, :key, :body_hash, :now) ON CONFLICT DO NOTHING RETURNING 1"
)
_FOUND = text(
    "SELECT body_hash, answer FROM idempotency_keys"
    " WHERE owner = :owner AND operation = :operation AND key = :key"
)
_STORE = text(
    "UPDATE idempotency_keys SET answer = CAST(:answer AS jsonb)"
    " WHERE owner = :owner AND operation = :operation AND key = :key"
)


def body_hash(body: Any) -> str:
    try:
        written = orjson.dumps(body, option=orjson.OPT_SORT_KEYS, default=str)
    except orjson.JSONEncodeError:
        written = repr(body).encode("utf-8", "backslashreplace")  # half of a surrogate pair somewhere
    return hashlib.sha256(written).hexdigest()


async def answered(
    session: AsyncSession, actor: Actor, *, operation: str, key: str, body: Any
) -> dict[str, Any] | None:
    """The stored answer, if this was done before: for work whose first step is outside of the database.

    Raises ``IdempotencyKeyReused`` and ``IdempotencyKeyMissing`` as ``once`` does.
    """
    where = _where(actor, operation, key)
    found = (await session.execute(_FOUND, where)).first()
    return None if found is None else _same(found, key, body_hash(body))


async def once(
    session: AsyncSession,
    actor: Actor,
    *,
    operation: str,
    key: str,
    body: Any,
    now: datetime,
    run: Callable[[], Awaitable[dict[str, Any]]],
) -> tuple[dict[str, Any], bool]:
    """Run once per key inside the caller's transaction. Returns the answer and whether it is a replay.

    An expected error raised by ``run`` rolls the claim back with everything else, so the caller may correct
    and retry under the same key. Raises ``IdempotencyKeyReused`` and ``IdempotencyKeyMissing``.
    """
    where = _where(actor, operation, key)
    digest = body_hash(body)
    if (await session.execute(_CLAIM, {**where, "body_hash": digest, "now": now})).first() is None:
        found = (await session.execute(_FOUND, where)).one()
        return _same(found, key, digest), True
    answer = await run()
    await session.execute(_STORE, {**where, "answer": orjson.dumps(answer).decode()})
    return answer, False


def _where(actor: Actor, operation: str, key: str) -> dict[str, str]:
    if not key or len(key) > LONGEST_KEY or not storable(key):
        raise IdempotencyKeyMissing(
            f"an idempotency key of 1 to {LONGEST_KEY} characters", field="idempotencyKey"
        )
    owner = str(actor.storefront_id or actor.tenant_id or actor.kind.value)
    return {"owner": owner, "operation": operation, "key": key}


def _same(found: Any, key: str, digest: str) -> dict[str, Any]:
    if found.body_hash != digest:
        raise IdempotencyKeyReused(f"the key {key!r} was used for another request", field="idempotencyKey")
    answer: dict[str, Any] = found.answer
    return answer
