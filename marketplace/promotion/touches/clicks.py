"""Clicks as the edge hands them over: many at once, each once. Needs nothing but the driver."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from core.ids import AgreementId, BrandId, ContactId, LinkId, TouchId
from marketplace.promotion.facts import TouchKind

# Row-level security refuses COPY, and a click that is replayed from the spool must not be doubled: one insert
# over arrays does for both, at the price of one parse per connection.
INSERT_CLICKS = (
    "INSERT INTO touches (id, link_id, agreement_id, advertiser_id, promoter_brand_id, at, kind, session_key,"
    " contact_id, is_bot, duplicate_of, ip_prefix_hash, user_agent_hash, referrer_host,"
    " ad_parameters)"
    " SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::timestamptz[],"
    " $7::text[], $8::bytea[], $9::uuid[], $10::boolean[], $11::uuid[], $12::bytea[], $13::bytea[],"
    " $14::text[], $15::text[]) ON CONFLICT (id) DO NOTHING"
)


class Click(NamedTuple):
    """One touch as recorded, in the sequence of the columns of ``INSERT_CLICKS``."""

    id: TouchId
    link_id: LinkId
    agreement_id: AgreementId | None
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    at: datetime
    kind: TouchKind = TouchKind.CLICK
    session_key: bytes | None = None
    contact_id: ContactId | None = None
    is_bot: bool = False
    duplicate_of: TouchId | None = None
    ip_prefix_hash: bytes | None = None
    user_agent_hash: bytes | None = None
    referrer_host: str | None = None
    ad_parameters: str | None = None


class Driver(Protocol):
    """The one method needed of an asyncpg connection."""

    async def execute(self, query: str, *args: Any) -> str: ...


async def insert_clicks(connection: Driver, clicks: Sequence[Click]) -> int:
    """Store clicks; those stored before are passed over. Returns how many are new."""
    if not clicks:
        return 0
    done = await connection.execute(INSERT_CLICKS, *[list(column) for column in zip(*clicks, strict=True)])
    return int(done.rpartition(" ")[2])
