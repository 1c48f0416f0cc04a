"""Reads of audiences. Nothing here returns an identifier, and members only ever as counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import BrandId, CommunityId, ContactId, PlacementId
from core.pagination import Page, PageRequest, page_of
from infra.db.base import table_of
from marketplace.audiences.errors import CommunityNotFound, PlacementNotFound
from marketplace.audiences.identity import IdentityVault, normalise
from marketplace.audiences.models import (
    Community,
    CommunityChannel,
    CommunityMember,
    Contact,
    ContactIdentifier,
    IdentifierKind,
    Placement,
    PlacementKind,
)

_C, _M, _P = table_of(Community).c, table_of(CommunityMember).c, table_of(Placement).c
_I = table_of(ContactIdentifier).c


@dataclass(frozen=True, slots=True)
class CommunityRow:
    id: CommunityId
    brand_id: BrandId
    name: str
    channel: CommunityChannel
    locale: str
    region: str
    tags: Sequence[str]
    declared_size: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PlacementRow:
    id: PlacementId
    brand_id: BrandId
    community_id: CommunityId
    kind: PlacementKind
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CommunityProfile:
    """Members by tag, and beside them all contacts of the brand by the same tags."""

    members: int
    tag_members: dict[str, int]
    brand_contacts: int
    brand_tag_contacts: dict[str, int]


_OF_PEOPLE = text(
    "SELECT i.brand_id, i.kind, i.subject_key, i.contact_id FROM contact_identifiers i"
    " JOIN unnest(CAST(:brands AS uuid[]), CAST(:kinds AS varchar[]), CAST(:keys AS bytea[])) AS n (brand, kind, key)"
    " ON i.brand_id = n.brand AND i.kind = n.kind AND i.subject_key = n.key"
)
_COMMUNITY = select(
    _C.id, _C.brand_id, _C.name, _C.channel, _C.locale, _C.region, _C.tags, _C.declared_size, _C.created_at
)  # fmt: skip
_PLACEMENT = select(_P.id, _P.brand_id, _P.community_id, _P.kind, _P.name, _P.created_at)
# Counted once for all communities asked for: their tags, their members, and the same tags brand-wide.
_PROFILES = text(
    "WITH asked AS (SELECT id, brand_id FROM communities WHERE id = ANY(:communities)),"
    " sizes AS (SELECT m.community_id, count(*) AS members FROM community_members m"
    " WHERE m.community_id = ANY(:communities) GROUP BY m.community_id),"
    " inside AS (SELECT m.community_id, t.tag, count(*) AS members FROM community_members m"
    " JOIN contact_tags t ON t.contact_id = m.contact_id WHERE m.community_id = ANY(:communities)"
    " GROUP BY m.community_id, t.tag),"
    " wide AS (SELECT t.brand_id, t.tag, count(*) AS contacts FROM contact_tags t"
    " WHERE t.brand_id IN (SELECT brand_id FROM asked) GROUP BY t.brand_id, t.tag),"
    " known AS (SELECT c.brand_id, count(*) AS contacts FROM contacts c"
    " WHERE c.brand_id IN (SELECT brand_id FROM asked) GROUP BY c.brand_id)"
    " SELECT asked.id, inside.tag, inside.members, wide.contacts, coalesce(sizes.members, 0) AS all_members,"
    " coalesce(known.contacts, 0) AS all_contacts FROM asked"
    " LEFT JOIN inside ON inside.community_id = asked.id"
    " LEFT JOIN wide ON wide.brand_id = asked.brand_id AND wide.tag = inside.tag"
    " LEFT JOIN sizes ON sizes.community_id = asked.id LEFT JOIN known ON known.brand_id = asked.brand_id"
)


async def community(session: AsyncSession, actor: Actor, community_id: CommunityId) -> CommunityRow:
    """A community of the actor's own. Raises ``CommunityNotFound``."""
    row = (await session.execute(_COMMUNITY.where(_C.id == community_id, _visible(actor)))).first()
    if row is None:
        raise CommunityNotFound("no such community", field="communityId")
    return CommunityRow(*row)


def _visible(actor: Actor) -> Any:
    return _C.brand_id == actor.brand_id if not actor.sees_everything else _C.id.is_not(None)


async def communities_page(session: AsyncSession, actor: Actor, request: PageRequest) -> Page[CommunityRow]:
    """The actor's communities, oldest first."""
    wanted = _COMMUNITY.where(_visible(actor)).order_by(_C.id).limit(request.first + 1)
    if request.key:
        wanted = wanted.where(_C.id > CommunityId.parse(request.key[0]))
    rows = [CommunityRow(*row) for row in await session.execute(wanted)]
    return page_of(rows, request, lambda found: (str(found.id),))


async def communities_count(session: AsyncSession, actor: Actor) -> int:
    return (
        await session.scalar(select(func.count()).select_from(table_of(Community)).where(_visible(actor)))
        or 0
    )


async def communities_of(
    session: AsyncSession, ids: Sequence[CommunityId]
) -> dict[CommunityId, CommunityRow]:
    """Those of the ids that the session's tenant may see (row-level security): its own and its partners'."""
    rows = await session.execute(_COMMUNITY.where(_C.id.in_(ids)))
    return {found.id: found for found in (CommunityRow(*row) for row in rows)}


async def communities_of_brands(session: AsyncSession, brand_ids: Sequence[BrandId]) -> list[CommunityRow]:
    """Needs a SYSTEM session when the brands are not the session's own or its partners."""
    rows = await session.execute(_COMMUNITY.where(_C.brand_id.in_(brand_ids)).order_by(_C.id))
    return [CommunityRow(*row) for row in rows]


async def member_counts(
    session: AsyncSession, actor: Actor, ids: Sequence[CommunityId]
) -> dict[CommunityId, int]:
    """By community of the actor; communities without members are left out."""
    wanted = select(_M.community_id, func.count()).where(_M.community_id.in_(ids)).group_by(_M.community_id)
    if not actor.sees_everything:
        wanted = wanted.where(_M.brand_id == actor.brand_id)
    return {row[0]: row[1] for row in await session.execute(wanted)}


async def placement(session: AsyncSession, actor: Actor, placement_id: PlacementId) -> PlacementRow:
    """A slot in one of the actor's communities. Raises ``PlacementNotFound``."""
    wanted = _PLACEMENT.where(_P.id == placement_id)
    if not actor.sees_everything:
        wanted = wanted.where(_P.brand_id == actor.brand_id)
    row = (await session.execute(wanted)).first()
    if row is None:
        raise PlacementNotFound("no such placement", field="placementId")
    return PlacementRow(*row)


async def placements_of(
    session: AsyncSession, actor: Actor, community_ids: Sequence[CommunityId]
) -> dict[CommunityId, list[PlacementRow]]:
    wanted = _PLACEMENT.where(_P.community_id.in_(community_ids)).order_by(_P.id)
    if not actor.sees_everything:
        wanted = wanted.where(_P.brand_id == actor.brand_id)
    by_community: dict[CommunityId, list[PlacementRow]] = {}
    for row in await session.execute(wanted):
        found = PlacementRow(*row)
        by_community.setdefault(found.community_id, []).append(found)
    return by_community


async def placements_named(
    session: AsyncSession, ids: Sequence[PlacementId]
) -> dict[PlacementId, PlacementRow]:
    """Those of the ids that the session's tenant may see (row-level security)."""
    rows = await session.execute(_PLACEMENT.where(_P.id.in_(ids)))
    return {found.id: found for found in (PlacementRow(*row) for row in rows)}


async def community_profile(
    session: AsyncSession, actor: Actor, community_id: CommunityId
) -> CommunityProfile:
    """How many members, and how many of them carry each tag, beside the brand's whole audience."""
    await community(session, actor, community_id)
    return (await community_profiles(session, [community_id]))[community_id]


async def community_profiles(
    session: AsyncSession, ids: Sequence[CommunityId]
) -> dict[CommunityId, CommunityProfile]:
    """Profiles of the caller's own communities, which it has been allowed. One statement."""
    found: dict[CommunityId, CommunityProfile] = {}
    for row in await session.execute(_PROFILES, {"communities": list(ids)}):
        profile = found.setdefault(
            CommunityId.of(row.id), CommunityProfile(row.all_members, {}, row.all_contacts, {})
        )
        if row.tag is not None:
            profile.tag_members[row.tag] = row.members
            profile.brand_tag_contacts[row.tag] = row.contacts
    return found


async def find_contact(
    session: AsyncSession, brand_id: BrandId, kind: IdentifierKind, identifier: str, *, vault: IdentityVault
) -> ContactId | None:
    """The contact this identifier belongs to at one brand. Raises ``MalformedIdentifier``."""
    key = vault.key(brand_id, kind, normalise(kind, identifier))
    wanted = select(_I.contact_id).where(_I.brand_id == brand_id, _I.kind == kind, _I.subject_key == key)
    found: ContactId | None = await session.scalar(wanted)
    return found


async def contacts_of_people(
    session: AsyncSession, people: Sequence[tuple[BrandId, IdentifierKind, str]], *, vault: IdentityVault
) -> dict[tuple[BrandId, IdentifierKind, str], ContactId]:
    """Which of these identifiers, normalised, belong to a contact of the brand beside them. One statement; a SYSTEM
    session where brands are others than the session's."""
    keys = {(brand, kind, vault.key(brand, kind, value)): value for brand, kind, value in people}
    if not keys:
        return {}
    brands, kinds, subjects = (list(column) for column in zip(*keys, strict=True))
    rows = await session.execute(_OF_PEOPLE, {"brands": brands, "kinds": kinds, "keys": subjects})
    found = {}
    for row in rows:
        brand, kind = BrandId.of(row.brand_id), IdentifierKind(row.kind)
        value = keys[brand, kind, bytes(row.subject_key)]
        found[brand, kind, value] = ContactId.of(row.contact_id)
    return found


async def own_contacts(session: AsyncSession, actor: Actor, ids: Sequence[ContactId]) -> set[ContactId]:
    columns = table_of(Contact).c
    wanted = select(columns.id).where(columns.id.in_(ids), columns.brand_id == actor.brand_id)
    return set((await session.scalars(wanted)).all())


async def people_of_brands(session: AsyncSession, brand_ids: Sequence[BrandId]) -> dict[BrandId, int]:
    """How many contacts each brand has; brands without any are left out. Needs a SYSTEM session for others'."""
    columns = table_of(Contact).c
    wanted = (
        select(columns.brand_id, func.count())
        .where(columns.brand_id.in_(brand_ids))
        .group_by(columns.brand_id)
    )
    return {row[0]: row[1] for row in await session.execute(wanted)}
