from __future__ import annotations

import strawberry

from core.ids import CommunityId, ContactId
from graph.audiences.types import Community, MemberRowError, Placement
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.scalars import Ppm
from marketplace.audiences import queries, service
from marketplace.audiences.identity import IdentityVault
from marketplace.audiences.models import CommunityChannel, IdentifierKind, PlacementKind, TagSource
from marketplace.audiences.service import NewMember


@strawberry.input
class CommunityCreateInput:
    name: str
    channel: CommunityChannel
    locale: str = "zh-CN"
    region: str = strawberry.field(
        default="CN", description="Where its members are served: CN, or CN-SH for one region."
    )
    tags: list[str] = strawberry.field(default_factory=list, description="Declared; partners see them.")
    declared_size: int = 0


@strawberry.type
class CommunityPayload:
    community: Community | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input(description="Kept as a keyed hash and encrypted; no answer ever shows it again.")
class IdentifierInput:
    kind: IdentifierKind
    value: str


@strawberry.input
class MemberInput:
    identifiers: list[IdentifierInput]
    tags: list[str] = strawberry.field(default_factory=list)
    locale: str | None = None
    country: str | None = None
    currency: str | None = None
    tier: str = ""
    points: int = 0

    def parsed(self) -> NewMember:
        return NewMember(
            [(IdentifierKind(each.kind), each.value) for each in self.identifiers],
            tags=self.tags,
            locale=self.locale,
            country=self.country,
            currency=self.currency,
            tier=self.tier,
            points=self.points,
        )


@strawberry.input(description="At most 1,000 members; the same ones again change nothing.")
class CommunityMembersAddInput:
    community_id: strawberry.ID
    members: list[MemberInput]


@strawberry.type(description="Good rows are taken; each bad one is named in `rowErrors`.")
class CommunityMembersAddPayload:
    added: int = 0
    already: int = strawberry.field(default=0, description="Were members before.")
    new_contacts: int = 0
    contact_ids: list[strawberry.ID | None] = strawberry.field(
        default_factory=list, description="By row; null where the row failed."
    )
    row_errors: list[MemberRowError] = strawberry.field(default_factory=list)
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class ContactsTagInput:
    contact_ids: list[strawberry.ID]
    tags: list[str]
    source: TagSource = TagSource.MANUAL
    confidence_ppm: Ppm = Ppm(1_000_000)


@strawberry.type
class ContactsTagPayload:
    tagged: int = 0
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class PlacementCreateInput:
    community_id: strawberry.ID
    kind: PlacementKind
    name: str


@strawberry.type
class PlacementPayload:
    placement: Placement | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


def vault_of(context: Context) -> IdentityVault:
    return IdentityVault(context.gateways.settings.secret_key.get_secret_value())


@strawberry.type
class AudienceMutations:
    @strawberry.mutation
    @expected(CommunityPayload)
    async def community_create(self, info: Info, input: CommunityCreateInput) -> CommunityPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            community_id = await service.create_community(
                session,
                actor,
                name=input.name,
                channel=input.channel,
                locale=input.locale,
                region=input.region,
                tags=input.tags,
                declared_size=input.declared_size,
                clock=context.clock,
            )
            row = await queries.community(session, actor, community_id)
        return CommunityPayload(community=Community.of(row))

    @strawberry.mutation
    @expected(CommunityMembersAddPayload)
    async def community_members_add(
        self, info: Info, input: CommunityMembersAddInput
    ) -> CommunityMembersAddPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            done = await service.add_members(
                session,
                actor,
                CommunityId.parse(input.community_id),
                [member.parsed() for member in input.members],
                vault=vault_of(context),
                clock=context.clock,
            )
        return CommunityMembersAddPayload(
            added=done.added,
            already=done.already,
            new_contacts=done.new_contacts,
            contact_ids=[None if each is None else strawberry.ID(str(each)) for each in done.contact_ids],
            row_errors=[MemberRowError.of(error) for error in done.errors],
        )

    @strawberry.mutation(description="Every tag on every contact, or none of it.")
    @expected(ContactsTagPayload)
    async def contacts_tag(self, info: Info, input: ContactsTagInput) -> ContactsTagPayload:
        context, actor = info.context, info.context.actor
        contacts = [ContactId.parse(each) for each in input.contact_ids]
        async with context.db.unit_of_work(actor) as session:
            tagged = await service.tag_contacts(
                session,
                actor,
                contacts,
                input.tags,
                source=input.source,
                confidence_ppm=input.confidence_ppm,
                clock=context.clock,
            )
        return ContactsTagPayload(tagged=tagged)

    @strawberry.mutation
    @expected(PlacementPayload)
    async def placement_create(self, info: Info, input: PlacementCreateInput) -> PlacementPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            placement_id = await service.create_placement(
                session,
                actor,
                community_id=CommunityId.parse(input.community_id),
                kind=input.kind,
                name=input.name,
                clock=context.clock,
            )
            row = await queries.placement(session, actor, placement_id)
        return PlacementPayload(placement=Placement.of(row))
