"""Communities as their brand sees them: counts and tags, never a person."""

from __future__ import annotations

from datetime import datetime

import strawberry

from graph.audiences import loaders
from graph.context import Info
from marketplace.audiences.models import (
    CommunityChannel,
    IdentifierKind,
    PlacementKind,
    TagSource,
)
from marketplace.audiences.queries import CommunityProfile, CommunityRow, PlacementRow
from marketplace.audiences.service import RowError

strawberry.enum(CommunityChannel, name="CommunityChannel")
strawberry.enum(PlacementKind, name="PlacementKind")
strawberry.enum(TagSource, name="TagSource")
strawberry.enum(IdentifierKind, name="IdentifierKind")


@strawberry.type(description="A slot of a community where something can be shown.")
class Placement:
    id: strawberry.ID
    community_id: strawberry.ID
    kind: PlacementKind
    name: str
    created_at: datetime

    @classmethod
    def of(cls, row: PlacementRow) -> Placement:
        return cls(
            id=strawberry.ID(str(row.id)),
            community_id=strawberry.ID(str(row.community_id)),
            kind=PlacementKind(row.kind),
            name=row.name,
            created_at=row.created_at,
        )


@strawberry.type(description="How many members carry a tag, beside all contacts of the brand that do.")
class TagCount:
    tag: str
    members: int
    contacts: int


@strawberry.type(description="A group, club, list or live room. Its members are numbers here, not people.")
class Community:
    id: strawberry.ID
    brand_id: strawberry.ID
    name: str
    channel: CommunityChannel
    locale: str
    region: str
    tags: list[str] = strawberry.field(description="What it declares of itself; partners see these.")
    declared_size: int
    created_at: datetime
    row: strawberry.Private[CommunityRow]

    @classmethod
    def of(cls, row: CommunityRow) -> Community:
        return cls(
            id=strawberry.ID(str(row.id)),
            brand_id=strawberry.ID(str(row.brand_id)),
            name=row.name,
            channel=CommunityChannel(row.channel),
            locale=row.locale,
            region=row.region,
            tags=list(row.tags),
            declared_size=row.declared_size,
            created_at=row.created_at,
            row=row,
        )

    @strawberry.field(description="Null for a partner's community.")
    async def member_count(self, info: Info) -> int | None:
        if not _own(info, self.row):
            return None
        count: int = await info.context.loader(loaders.member_counts).load(self.row.id)
        return count

    @strawberry.field(description="The members' tags, most common first. Null for a partner's community.")
    async def member_tags(self, info: Info, first: int = 50) -> list[TagCount] | None:
        if not _own(info, self.row):
            return None
        profile: CommunityProfile = await info.context.loader(loaders.profiles).load(self.row.id)
        counts = [
            TagCount(tag=tag, members=members, contacts=profile.brand_tag_contacts.get(tag, 0))
            for tag, members in profile.tag_members.items()
        ]
        counts.sort(key=lambda count: (-count.members, count.tag))
        return counts[: min(max(first, 0), 200)]

    @strawberry.field(description="The slots of an own community.")
    async def placements(self, info: Info) -> list[Placement]:
        rows = await info.context.loader(loaders.placements_of).load(self.row.id)
        return [Placement.of(row) for row in rows]


@strawberry.type(description="One row that was not taken; `row` counts from 1.")
class MemberRowError:
    row: int
    code: str
    message: str

    @classmethod
    def of(cls, error: RowError) -> MemberRowError:
        return cls(row=error.row, code=error.code, message=error.message)


def _own(info: Info, row: CommunityRow) -> bool:
    actor = info.context.actor
    return actor.sees_everything or row.brand_id == actor.tenant_id
