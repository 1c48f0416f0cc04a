"""Touches and leads that a brand's own server tells of."""

from __future__ import annotations

from datetime import datetime

import strawberry

from core.ids import ContactId, LinkId
from graph.context import Info
from graph.errors import UserError, expected
from graph.promotion.rows import RefusedRow, all_or_none, parsed, rejected, stored
from marketplace.catalog.models import ErrorPolicy
from marketplace.promotion import service
from marketplace.promotion.errors import RowError
from marketplace.promotion.facts import TouchKind
from marketplace.promotion.reach_models import LeadKind
from marketplace.promotion.service import ToldTouch
from marketplace.promotion.touches.server_touches import LARGEST_BATCH, Recorded, RecordedTouch
from marketplace.promotion.touches.touch_token import TouchSigner

strawberry.enum(TouchKind, name="TouchKind")
strawberry.enum(LeadKind, name="LeadKind", description="A contact was added, or joined a group.")


@strawberry.input(description="What the edge never saw. Give the link's code or its id.")
class TouchInput:
    event_id: str = strawberry.field(
        description="The server's own id of it: counted once, whoever sends again."
    )
    kind: TouchKind = strawberry.field(description="CLICK, SCAN or LEAD.")
    at: datetime = strawberry.field(description="Within the last 72 hours.")
    link_code: str | None = None
    link_id: strawberry.ID | None = None
    lead: LeadKind | None = strawberry.field(default=None, description="For a lead, which needs `contactId`.")
    contact_id: strawberry.ID | None = strawberry.field(default=None, description="An own contact.")
    session: str | None = strawberry.field(
        default=None, description="The server's name for the visit: the same within 30 seconds is a repeat."
    )
    user_agent: str | None = strawberry.field(default=None, description="Tells a bot.")

    def parsed(self) -> ToldTouch:
        return ToldTouch(
            event_id=self.event_id,
            kind=self.kind,
            at=self.at,
            link_code=self.link_code,
            link_id=LinkId.parse(self.link_id) if self.link_id is not None else None,
            lead=self.lead,
            contact_id=ContactId.parse(self.contact_id) if self.contact_id is not None else None,
            session=self.session,
            user_agent=self.user_agent,
        )


@strawberry.input(description="1 to 1,000 touches.")
class TouchesRecordInput:
    touches: list[TouchInput]
    policy: ErrorPolicy = ErrorPolicy.REJECT_FAILED_ROWS


@strawberry.type
class RecordedTouchRow:
    row: int
    event_id: str
    touch_id: strawberry.ID
    touch_token: str | None = strawberry.field(
        description="Pass it on when the visitor checks out; null for a lead, which goes with its contact."
    )
    replayed: bool = strawberry.field(description="It had been told before; nothing was added.")
    repeat: bool = strawberry.field(description="Kept, and counted with the one that it repeats.")
    binds_until: datetime | None = strawberry.field(description="Until when a lead binds its contact.")

    @classmethod
    def of(cls, done: RecordedTouch, row: int) -> RecordedTouchRow:
        return cls(
            row=row,
            event_id=done.event_id,
            touch_id=strawberry.ID(str(done.touch_id)),
            touch_token=done.token,
            replayed=done.replayed,
            repeat=done.repeat,
            binds_until=done.binds_until,
        )


@strawberry.type(description="Good rows are taken, each refused one is named; or all or none.")
class TouchesRecordPayload:
    touches: list[RecordedTouchRow] = strawberry.field(default_factory=list)
    row_errors: list[RefusedRow] = strawberry.field(default_factory=list)
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class TouchMutations:
    @strawberry.mutation(
        description="For links of which the own brand is a side. Sending again changes nothing."
    )
    @expected(TouchesRecordPayload)
    async def touches_record(self, info: Info, input: TouchesRecordInput) -> TouchesRecordPayload:
        context, actor = info.context, info.context.actor
        actor.require("promotion:write")
        good, bad = parsed(input.touches, TouchInput.parsed, most=LARGEST_BATCH, field="touches")
        whole, done = all_or_none(input.policy), Recorded((), ())
        if good and not (bad and whole):
            signer = TouchSigner(context.gateways.settings.secret_key.get_secret_value())
            async with context.db.unit_of_work(actor) as session:
                done = await service.record_touches(
                    session,
                    actor,
                    list(good.values()),
                    all_or_none=whole,
                    signer=signer,
                    clock=context.clock,
                )
        numbers = list(good)
        failed = [*bad, *(RowError(numbers[each.row - 1], each.error) for each in done.errors)]
        failed.sort(key=lambda each: each.row)
        return TouchesRecordPayload(
            touches=[RecordedTouchRow.of(each, numbers[each.row - 1]) for each in done.touches],
            row_errors=[RefusedRow.read(stored(each)) for each in failed],
            user_errors=rejected(failed, input.policy),
        )
