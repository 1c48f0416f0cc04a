"""The verbs of audiences: communities, members, tags, placements."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import CommunityId, ContactId, PlacementId
from infra.db.base import table_of
from marketplace.audiences import checks, queries
from marketplace.audiences.errors import BadAudienceField, BatchTooLarge, ContactNotFound
from marketplace.audiences.membership import LARGEST_BATCH, WHOLE_CONFIDENCE_PPM
from marketplace.audiences.membership import MembersAdded as MembersAdded
from marketplace.audiences.membership import NewMember as NewMember
from marketplace.audiences.membership import RowError as RowError
from marketplace.audiences.membership import add_members as add_members
from marketplace.audiences.models import (
    Community,
    CommunityChannel,
    ContactTag,
    Placement,
    PlacementKind,
    TagSource,
)


async def create_community(
    session: AsyncSession,
    actor: Actor,
    *,
    name: str,
    channel: CommunityChannel | str,
    locale: str = "zh-CN",
    region: str = "CN",
    tags: Sequence[str] = (),
    declared_size: int = 0,
    clock: Clock,
) -> CommunityId:
    """``region`` is where its members are served: a country, or a country and region (``CN-SH``)."""
    actor.require("audiences:write")
    community_id = CommunityId.new()
    row = {
        "id": community_id, "brand_id": actor.brand_id, "name": checks.checked_name(name),
        "channel": CommunityChannel(channel), "locale": checks.checked_locale(locale),
        "region": checks.checked_region(region), "tags": checks.checked_tags(tags),
        "declared_size": checks.checked_size(declared_size), "created_at": clock.now(),
    }  # fmt: skip
    await session.execute(insert(table_of(Community)), [row])
    return community_id


async def create_placement(
    session: AsyncSession,
    actor: Actor,
    *,
    community_id: CommunityId,
    kind: PlacementKind | str,
    name: str,
    clock: Clock,
) -> PlacementId:
    """A slot in a community of the actor's. Raises ``CommunityNotFound``."""
    actor.require("audiences:write")
    community = await queries.community(session, actor, community_id)
    placement_id = PlacementId.new()
    row = {
        "id": placement_id, "brand_id": community.brand_id, "community_id": community_id,
        "kind": PlacementKind(kind), "name": checks.checked_name(name), "created_at": clock.now(),
    }  # fmt: skip
    await session.execute(insert(table_of(Placement)), [row])
    return placement_id


async def tag_contacts(
    session: AsyncSession,
    actor: Actor,
    contact_ids: Sequence[ContactId],
    tags: Sequence[str],
    *,
    source: TagSource = TagSource.MANUAL,
    confidence_ppm: int = WHOLE_CONFIDENCE_PPM,
    clock: Clock,
) -> int:
    """Every tag on every contact; a tag that is there takes the new source and confidence.

    Returns how many (contact, tag) pairs were written. Raises ``ContactNotFound`` when one is not the
    brand's, and then tags none; ``BatchTooLarge`` beyond 1,000 contacts.
    """
    actor.require("audiences:write")
    if len(contact_ids) > LARGEST_BATCH:
        raise BatchTooLarge(LARGEST_BATCH, len(contact_ids))
    if not 1 <= confidence_ppm <= WHOLE_CONFIDENCE_PPM:
        raise BadAudienceField("confidence is 1 to 1000000 ppm", field="confidencePpm")
    wanted, checked = list(dict.fromkeys(contact_ids)), checks.checked_tags(tags)
    if set(wanted) - await queries.own_contacts(session, actor, wanted):
        raise ContactNotFound("one of these contacts is not yours", field="contactIds")
    rows = [
        {
            "contact_id": contact_id, "tag": tag, "brand_id": actor.brand_id, "source": source,
            "confidence_ppm": confidence_ppm, "tagged_at": clock.now(),
        }
        for contact_id in sorted(wanted)
        for tag in sorted(checked)
    ]  # fmt: skip
    if rows:
        adding = upsert(table_of(ContactTag))
        new = adding.excluded
        await session.execute(
            adding.on_conflict_do_update(
                index_elements=["contact_id", "tag"],
                set_={"source": new.source, "confidence_ppm": new.confidence_ppm, "tagged_at": new.tagged_at},
            ),
            rows,
        )
    return len(rows)
