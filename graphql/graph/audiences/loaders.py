from __future__ import annotations

from collections.abc import Sequence

from core.ids import CommunityId, PlacementId
from graph.context import Context
from marketplace.audiences import queries
from marketplace.audiences.queries import CommunityProfile, CommunityRow, PlacementRow


async def communities(context: Context, ids: Sequence[CommunityId]) -> list[CommunityRow | None]:
    """Own ones and partners'; row-level security keeps the rest out."""
    async with context.reading() as session:
        found = await queries.communities_of(session, ids)
    return [found.get(community_id) for community_id in ids]


async def placements(context: Context, ids: Sequence[PlacementId]) -> list[PlacementRow | None]:
    async with context.reading() as session:
        found = await queries.placements_named(session, ids)
    return [found.get(placement_id) for placement_id in ids]


async def placements_of(context: Context, ids: Sequence[CommunityId]) -> list[list[PlacementRow]]:
    async with context.reading() as session:
        found = await queries.placements_of(session, context.actor, ids)
    return [found.get(community_id, []) for community_id in ids]


async def member_counts(context: Context, ids: Sequence[CommunityId]) -> list[int]:
    async with context.reading() as session:
        found = await queries.member_counts(session, context.actor, ids)
    return [found.get(community_id, 0) for community_id in ids]


async def profiles(context: Context, ids: Sequence[CommunityId]) -> list[CommunityProfile]:
    """Only of communities the document shows as the caller's own."""
    async with context.reading() as session:
        found = await queries.community_profiles(session, ids)
    return [found.get(community_id, CommunityProfile(0, {}, 0, {})) for community_id in ids]
