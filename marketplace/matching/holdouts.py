"""Who of a community is not shown a partner's goods, so that somebody can be compared with.

A member is held out when the first eight bytes of HMAC-SHA256(key of the draw, id of the contact) are below the share's
part of 2^64. Nothing is stored by member: whoever joins has an arm at once, it never changes, a larger share only adds
people, and without the platform's secret nobody can tell two communities' draws from chance. Either side of an
agreement may hold out; the brand the members trust alone may ask who they are.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, insert, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.ids import AgreementId, BrandId, CommunityId, ContactId, PlacementId
from core.money import PPM
from core.pagination import Page, PageRequest, page_of
from infra.db.base import table_of
from marketplace.audiences import queries as audiences
from marketplace.audiences.errors import CommunityNotFound
from marketplace.matching.errors import BadHoldout, HoldoutNotFound, HoldoutRunning
from marketplace.matching.ids import HoldoutId
from marketplace.matching.models import Holdout
from marketplace.promotion import queries as promotion
from marketplace.promotion.models import AgreementStatus

SMALLEST_SHARE_PPM, LARGEST_SHARE_PPM = 10_000, 500_000
_BLOCK = 64
_NEW = insert(table_of(Holdout))
_COLUMNS = (
    "SELECT id, community_id, agreement_id, advertiser_id, promoter_brand_id, set_by, share_ppm, draw, started_at,"
    " ended_at FROM holdouts"
)
_SIDE = "(CAST(:me AS uuid) IS NULL OR advertiser_id = CAST(:me AS uuid) OR promoter_brand_id = CAST(:me AS uuid))"
_ONE = text(f"{_COLUMNS} WHERE id = :id AND {_SIDE}")
_PAGE = text(
    f"{_COLUMNS} WHERE {_SIDE} AND (CAST(:after AS uuid) IS NULL OR id < :after) ORDER BY id DESC LIMIT :limit"
)
_RUNNING = text(
    f"{_COLUMNS} WHERE community_id = :community AND agreement_id = :agreement AND ended_at IS NULL"
)
MOST_ABOUT = 5
# A slot's people are those of its community.
_ABOUT = text(
    f"SELECT n.id AS about, h.* FROM unnest(CAST(:ids AS uuid[])) AS n (id) CROSS JOIN LATERAL ({_COLUMNS}"
    f" WHERE {_SIDE} AND (community_id IN (n.id, (SELECT l.community_id FROM tracked_links l"
    "  WHERE l.placement_id = n.id LIMIT 1))"
    " OR n.id IN (agreement_id, advertiser_id, promoter_brand_id)) ORDER BY id DESC LIMIT :most) h"
)
_SHARES = text(
    "SELECT community_id, agreement_id, share_ppm FROM holdouts JOIN unnest(CAST(:communities AS uuid[]),"
    " CAST(:agreements AS uuid[])) AS n (community_id, agreement_id) USING (community_id, agreement_id)"
    " WHERE ended_at IS NULL"
)
_END = text("UPDATE holdouts SET ended_at = :now WHERE id = :id AND ended_at IS NULL RETURNING 1")
HELD_OUT = (
    "sha256(CAST(:outer AS bytea) || sha256(CAST(:inner AS bytea) || uuid_send(m.contact_id)))"
    " < CAST(:below AS bytea)"
)
"""Of a row ``m`` with a ``contact_id``: the rule above in SQL, with ``Draw.values``."""
_SHOWN = text(
    "SELECT m.contact_id FROM community_members m WHERE m.community_id = :community"
    f" AND (CAST(:below AS bytea) IS NULL OR NOT {HELD_OUT})"
    " AND (CAST(:after AS uuid) IS NULL OR m.contact_id > :after) ORDER BY m.contact_id LIMIT :limit"
)
_COUNT = text(
    "SELECT count(*) FROM community_members m WHERE m.community_id = :community"
    f" AND (CAST(:below AS bytea) IS NULL OR NOT {HELD_OUT})"
)


class Draw:
    """Arms of one draw at one share."""

    def __init__(self, secret: str, draw: UUID, share_ppm: int) -> None:
        self._key = hmac.digest(secret.encode(), b"holdout\0" + draw.bytes, "sha256")
        self._below = (share_ppm * 2**64 // PPM).to_bytes(8, "big")

    def holds_out(self, contact_id: ContactId) -> bool:
        return hmac.digest(self._key, contact_id.bytes, "sha256")[:8] < self._below

    @property
    def values(self) -> dict[str, bytes]:
        """For ``HELD_OUT``. The two pads of the key are HMAC's own: hashing with them in SQL is HMAC."""
        padded = self._key.ljust(_BLOCK, b"\0")
        return {
            "inner": bytes(each ^ 0x36 for each in padded), "outer": bytes(each ^ 0x5C for each in padded),
            "below": self._below,
        }  # fmt: skip


_NOBODY: dict[str, bytes | None] = {"inner": None, "outer": None, "below": None}


@dataclass(frozen=True, slots=True)
class HoldoutRow:
    id: HoldoutId
    community_id: CommunityId
    agreement_id: AgreementId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    set_by: BrandId
    share_ppm: int
    draw: UUID
    started_at: datetime
    ended_at: datetime | None

    def drawn(self, secret: str) -> Draw:
        return Draw(secret, self.draw, self.share_ppm)


@dataclass(frozen=True, slots=True)
class NewHoldout:
    """``same_as``: the members that another own holdout holds out, as far as they are here too."""

    community_id: CommunityId
    agreement_id: AgreementId
    share_ppm: int
    same_as: HoldoutId | None = None


async def start(session: AsyncSession, actor: Actor, wanted: NewHoldout, *, clock: Clock) -> HoldoutId:
    """From now on. Raises ``AgreementNotFound``, ``CommunityNotFound``, ``BadHoldout``, ``HoldoutRunning``."""
    _writing(actor)
    if not SMALLEST_SHARE_PPM <= wanted.share_ppm <= LARGEST_SHARE_PPM:
        raise BadHoldout(f"{SMALLEST_SHARE_PPM} to {LARGEST_SHARE_PPM} ppm", field="sharePpm")
    agreement = await promotion.agreement(session, actor, wanted.agreement_id)
    if agreement.status not in (AgreementStatus.ACTIVE, AgreementStatus.PAUSED):
        raise BadHoldout("the agreement does not run", field="agreementId")
    community = (await audiences.communities_of(session, [wanted.community_id])).get(wanted.community_id)
    if community is None or community.brand_id != agreement.promoter_brand_id:
        raise CommunityNotFound("no such community of the promoter brand", field="communityId")
    draw = uuid4()
    if wanted.same_as is not None:
        other = await holdout(session, actor, wanted.same_as)
        if other.promoter_brand_id != agreement.promoter_brand_id:
            raise BadHoldout("the same draw is for communities of one brand", field="sameAs")
        draw = other.draw
    id = HoldoutId.new()
    row = {
        "id": id, "community_id": community.id, "agreement_id": agreement.id,
        "advertiser_id": agreement.advertiser_id, "promoter_brand_id": agreement.promoter_brand_id,
        "set_by": actor.brand_id, "share_ppm": wanted.share_ppm, "draw": draw, "started_at": clock.now(),
    }  # fmt: skip
    try:
        async with session.begin_nested():
            await session.execute(_NEW, row)
    except IntegrityError as error:
        raise HoldoutRunning("one holdout of this agreement runs in this community") from error
    return id


async def end(session: AsyncSession, actor: Actor, holdout_id: HoldoutId, *, clock: Clock) -> None:
    """By the side that set it; again it changes nothing. Raises ``HoldoutNotFound``."""
    _writing(actor)
    found = await holdout(session, actor, holdout_id)
    if not actor.sees_everything and found.set_by != actor.brand_id:
        raise HoldoutNotFound("set by the other side: only it ends it", field="id")
    await session.execute(_END, {"id": holdout_id, "now": clock.now()})


async def holdout(session: AsyncSession, actor: Actor, holdout_id: HoldoutId) -> HoldoutRow:
    """Of an agreement the actor is a side of. Raises ``HoldoutNotFound``."""
    row = (await session.execute(_ONE, {"id": holdout_id, "me": _me(actor)})).first()
    if row is None:
        raise HoldoutNotFound("no such holdout", field="id")
    return read(row)


async def holdouts_page(session: AsyncSession, actor: Actor, request: PageRequest) -> Page[HoldoutRow]:
    """Of all agreements the actor is a side of, newest first."""
    after = HoldoutId.parse(request.key[0]) if request.key else None
    values = {"me": _me(actor), "after": after, "limit": request.first + 1}
    rows = [read(row) for row in await session.execute(_PAGE, values)]
    return page_of(rows, request, lambda found: (str(found.id),))


async def holdouts_about(
    session: AsyncSession, actor: Actor, ids: Sequence[UUID]
) -> dict[UUID, list[HoldoutRow]]:
    """Of these communities, slots, agreements or partners: the newest ``MOST_ABOUT`` that the actor is a side of. One
    statement."""
    found: dict[UUID, list[HoldoutRow]] = {}
    values = {"ids": list(ids), "me": _me(actor), "most": MOST_ABOUT}
    for row in await session.execute(_ABOUT, values):
        found.setdefault(row.about, []).append(read(row))
    return found


async def shown_page(
    session: AsyncSession,
    actor: Actor,
    placement_id: PlacementId,
    agreement_id: AgreementId,
    request: PageRequest,
    *,
    secret: str,
) -> Page[ContactId]:
    """The members to whom a slot of an own community may show what an agreement is about, by id. Four statements.

    Raises ``PlacementNotFound``, ``AgreementNotFound``.
    """
    values = await _audience(session, actor, placement_id, agreement_id, secret)
    values["after"] = ContactId.parse(request.key[0]) if request.key else None
    rows = (await session.execute(_SHOWN, {**values, "limit": request.first + 1})).scalars()
    return page_of([ContactId.of(each) for each in rows], request, lambda contact: (str(contact),))


async def shown_count(
    session: AsyncSession, actor: Actor, placement_id: PlacementId, agreement_id: AgreementId, *, secret: str
) -> int:
    values = await _audience(session, actor, placement_id, agreement_id, secret)
    return int((await session.execute(_COUNT, values)).scalar_one())


async def _audience(
    session: AsyncSession, actor: Actor, placement_id: PlacementId, agreement_id: AgreementId, secret: str
) -> dict[str, Any]:
    actor.require("audiences:read")
    placement = await audiences.placement(session, actor, placement_id)
    await promotion.agreement(session, actor, agreement_id)
    found = await running(session, placement.community_id, agreement_id)
    drawn = _NOBODY if found is None else found.drawn(secret).values
    return {"community": placement.community_id, **drawn}


async def shares_of(
    session: AsyncSession, pairs: Collection[tuple[CommunityId, AgreementId]]
) -> dict[tuple[CommunityId, AgreementId], int]:
    """Which share of a community is not shown what an agreement is about; without a holdout left out. One statement."""
    communities, agreements = zip(*pairs, strict=True)
    values = {"communities": list(communities), "agreements": list(agreements)}
    return {
        (CommunityId.of(row.community_id), AgreementId.of(row.agreement_id)): row.share_ppm
        for row in await session.execute(_SHARES, values)
    }


async def running(
    session: AsyncSession, community_id: CommunityId, agreement_id: AgreementId
) -> HoldoutRow | None:
    values = {"community": community_id, "agreement": agreement_id}
    row = (await session.execute(_RUNNING, values)).first()
    return None if row is None else read(row)


def read(row: Row[Any]) -> HoldoutRow:
    return HoldoutRow(
        HoldoutId.of(row.id), CommunityId.of(row.community_id), AgreementId.of(row.agreement_id),
        BrandId.of(row.advertiser_id), BrandId.of(row.promoter_brand_id), BrandId.of(row.set_by), row.share_ppm,
        row.draw, row.started_at, row.ended_at,
    )  # fmt: skip


def _writing(actor: Actor) -> None:
    actor.require("promotion:write")
    if actor.kind is not ActorKind.BRAND and not actor.sees_everything:
        raise WrongTenant("only a brand can do this")


def _me(actor: Actor) -> BrandId | None:
    actor.require("promotion:read")
    return None if actor.sees_everything else actor.brand_id
