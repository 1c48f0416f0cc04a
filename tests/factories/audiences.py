"""Communities, members and placements for tests."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import CommunityId, ContactId, PlacementId
from marketplace.audiences import service
from marketplace.audiences.identity import IdentityVault
from marketplace.audiences.models import CommunityChannel, IdentifierKind, PlacementKind
from marketplace.audiences.service import MembersAdded, NewMember

VAULT = IdentityVault("a secret of the tests, long enough to be one")


async def community(
    session: AsyncSession,
    actor: Actor,
    clock: Clock,
    *,
    name: str = "Morning skincare 早安护肤",
    tags: Sequence[str] = (),
    region: str = "CN",
) -> CommunityId:
    return await service.create_community(
        session,
        actor,
        name=name,
        channel=CommunityChannel.WECOM_GROUP,
        region=region,
        tags=tags,
        declared_size=200,
        clock=clock,
    )


async def placement(
    session: AsyncSession, actor: Actor, clock: Clock, community_id: CommunityId
) -> PlacementId:
    return await service.create_placement(
        session, actor, community_id=community_id, kind=PlacementKind.POST, name="evening post", clock=clock
    )


def person(*tags: str, email: str | None = None) -> NewMember:
    return NewMember([(IdentifierKind.EMAIL, email or f"{uuid4().hex}@example.com")], tags=tags)


async def members(
    session: AsyncSession,
    actor: Actor,
    clock: Clock,
    community_id: CommunityId,
    people: Sequence[NewMember],
) -> list[ContactId]:
    added: MembersAdded = await service.add_members(
        session, actor, community_id, people, vault=VAULT, clock=clock
    )
    assert not added.errors
    return [contact_id for contact_id in added.contact_ids if contact_id is not None]
