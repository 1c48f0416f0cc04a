"""Clicks as the edge hands them over: many at once, each once. Needs nothing but the driver."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from core.ids import AgreementId, BrandId, ContactId, LinkId, TouchId
from marketplace.promotion.attribution_facts import TouchKind

# Row-level security refuses COPY, and a click that is replayed from the spool must not be doubled: one insert
# over arrays does for both, at the price of one parse per connection.
INSERT_CLICKS = (
    "INSERT INTO touches (id, link_id, agreement_id, advertiser_id, promoter_brand_id, at, kind, session_key,"
    " contact_id, is_bot, duplicate_of, ip_prefix_hash, user_agent_hash, referrer_host)"
    " SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::timestamptz[],"
    " $7::text[], $8::bytea[], $9::uuid[], $10::boolean[], $11::uuid[], $12::bytea[], $13::bytea[],"
    " $14::text[]) ON CONFLICT (id) DO NOTHING"
)
_TARGET = "SELECT id, code, agreement_id, advertiser_id, promoter_brand_id, destination, revision, in_app_destination"
LINKS_SINCE = f"{_TARGET} FROM tracked_links WHERE revision > $1 ORDER BY revision"
LINK_BY_CODE = f"{_TARGET} FROM tracked_links WHERE code = $1"


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


class LinkTarget(NamedTuple):
    """What a redirect needs of a link. It never changes after the link was made; whether it still qualifies
    is judged from the link's own row by the time of the touch."""

    id: LinkId
    code: str
    agreement_id: AgreementId | None
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    destination: str
    revision: int
    in_app_destination: str | None = None
    """Where WeChat goes instead, with ``{touch}`` where the token goes."""

    @classmethod
    def of(cls, row: Sequence[Any]) -> LinkTarget:
        agreement = AgreementId.of(row[2]) if isinstance(row[2], UUID) else None
        return cls(
            LinkId.of(row[0]),
            row[1],
            agreement,
            BrandId.of(row[3]),
            BrandId.of(row[4]),
            row[5],
            row[6],
            row[7],
        )


class Driver(Protocol):
    """The one method needed of an asyncpg connection."""

    async def execute(self, query: str, *args: Any) -> str: ...


async def insert_clicks(connection: Driver, clicks: Sequence[Click]) -> int:
    """Store clicks; those stored before are passed over. Returns how many are new."""
    if not clicks:
        return 0
    done = await connection.execute(INSERT_CLICKS, *[list(column) for column in zip(*clicks, strict=True)])
    return int(done.rpartition(" ")[2])
