"""Holdouts: some members are not shown a partner's goods, and what showing them brings is known by the difference."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import strawberry

from core.ids import AgreementId, CommunityId, PlacementId
from core.pagination import PageRequest
from graph.audiences import loaders as audiences
from graph.audiences.types import Community
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.promotion import loaders as promotion
from graph.promotion.types import Agreement
from graph.scalars import Money, Ppm
from marketplace.insights import measuring
from marketplace.insights.incrementality import LEAST_BUYERS, LEAST_MEMBERS
from marketplace.insights.measuring import ORDERS, PROFIT, REVENUE, AttributedSales, Incremental, ResultRow
from marketplace.matching import holdouts
from marketplace.matching.holdouts import HoldoutRow, NewHoldout
from marketplace.matching.ids import HoldoutId

_ENOUGH = f"Null with fewer than {LEAST_MEMBERS} members or {LEAST_BUYERS} buyers in either arm: not enough to tell."


@strawberry.type(description=f"Orders that would not be there. {_ENOUGH}")
class IncrementalOrders:
    total: float | None
    low: float | None = strawberry.field(description="Of the 95 % interval.")
    high: float | None
    significant: bool | None

    @classmethod
    def of(cls, found: Incremental) -> IncrementalOrders:
        return cls(total=found.total, low=found.low, high=found.high, significant=found.significant)


@strawberry.type(description=f"Money that would not be there. {_ENOUGH}")
class IncrementalMoney:
    currency_code: str
    total: Money | None
    low: Money | None = strawberry.field(description="Of the 95 % interval.")
    high: Money | None
    significant: bool | None

    @classmethod
    def of(cls, found: Incremental) -> IncrementalMoney:
        currency = found.currency or ""

        def money(value: float | None) -> Money | None:
            return None if value is None else Money.minor(round(value), currency)

        return cls(
            currency_code=currency,
            total=money(found.total),
            low=money(found.low),
            high=money(found.high),
            significant=found.significant,
        )


@strawberry.type(
    description="What the same links are credited with in the same time, whoever would have bought anyway."
)
class AttributedInHoldout:
    orders: int
    basis: Money
    commission: Money

    @classmethod
    def of(cls, found: AttributedSales) -> AttributedInHoldout:
        return cls(orders=found.orders, basis=Money.of(found.basis), commission=Money.of(found.commission))


@strawberry.type(
    description="Members shown against members held out: all orders at the advertiser count, refunds off."
    " Attribution stands beside it."
)
class HoldoutResult:
    measured_at: datetime
    measured_until: datetime
    members_shown: int
    members_held_out: int
    buyers_shown: int
    buyers_held_out: int
    held_out_visitors: int = strawberry.field(
        description="Held-out members who came through a link of the agreement all the same; they dilute it."
    )
    comparable_ppm: Ppm | None = strawberry.field(
        description="Of the advertiser's orders in this time, those whose buyer could be looked for among the"
        " members, in whole percent. The others count in neither arm: a shop with a checkout of its own told neither"
        " e-mail address nor phone number of the buyer. Null while there are no orders."
    )
    orders: IncrementalOrders | None
    revenue: list[IncrementalMoney] = strawberry.field(description="What customers paid and kept paid.")
    profit: list[IncrementalMoney] = strawberry.field(
        description="What the orders left the caller: the merchant's rest of the price, or the commission."
    )
    attributed: list[AttributedInHoldout]

    @classmethod
    def of(cls, row: ResultRow) -> HoldoutResult:
        by_metric: dict[str, list[Incremental]] = {ORDERS: [], REVENUE: [], PROFIT: []}
        for each in row.incremental:
            by_metric[each.metric].append(each)
        return cls(
            measured_at=row.measured_at,
            measured_until=row.measured_until,
            members_shown=row.members_shown,
            members_held_out=row.members_held_out,
            buyers_shown=row.buyers_shown,
            buyers_held_out=row.buyers_held_out,
            held_out_visitors=row.held_out_visitors,
            comparable_ppm=None if row.comparable_ppm is None else Ppm(row.comparable_ppm),
            orders=next((IncrementalOrders.of(each) for each in by_metric[ORDERS]), None),
            revenue=[IncrementalMoney.of(each) for each in by_metric[REVENUE]],
            profit=[IncrementalMoney.of(each) for each in by_metric[PROFIT]],
            attributed=[AttributedInHoldout.of(each) for each in row.attributed],
        )


async def _results(context: Context, ids: Sequence[HoldoutId]) -> list[ResultRow | None]:
    async with context.reading() as session:
        found = await measuring.results_of(session, context.actor, ids)
    return [found.get(each) for each in ids]


@strawberry.type(description="An experiment in one community with what one agreement is about.")
class Holdout:
    id: strawberry.ID
    share_ppm: Ppm
    started_at: datetime
    ended_at: datetime | None
    row: strawberry.Private[HoldoutRow]

    @classmethod
    def of(cls, row: HoldoutRow) -> Holdout:
        return cls(
            id=strawberry.ID(str(row.id)),
            share_ppm=Ppm(row.share_ppm),
            started_at=row.started_at,
            ended_at=row.ended_at,
            row=row,
        )

    @strawberry.field(description="Whether the caller's brand set it; only that side ends it.")
    def set_by_me(self, info: Info) -> bool:
        return self.row.set_by == info.context.actor.tenant_id

    @strawberry.field
    async def community(self, info: Info) -> Community | None:
        row = await info.context.loader(audiences.communities).load(self.row.community_id)
        return None if row is None else Community.of(row)

    @strawberry.field
    async def agreement(self, info: Info) -> Agreement | None:
        row = await info.context.loader(promotion.agreements).load(self.row.agreement_id)
        return None if row is None else Agreement.of(row)

    @strawberry.field(
        description="The caller's side of it; null before it was measured first, within the hour."
    )
    async def result(self, info: Info) -> HoldoutResult | None:
        row = await info.context.loader(_results).load(self.row.id)
        return None if row is None else HoldoutResult.of(row)


@strawberry.input
class HoldoutStartInput:
    community_id: strawberry.ID = strawberry.field(description="Of the agreement's promoter brand.")
    agreement_id: strawberry.ID
    share_ppm: Ppm = strawberry.field(description="Of the members, 10000 to 500000.")
    same_as: strawberry.ID | None = strawberry.field(
        default=None, description="Hold out the same people as this holdout of the same promoter brand does."
    )


@strawberry.input
class HoldoutEndInput:
    id: strawberry.ID


@strawberry.type
class HoldoutPayload:
    holdout: Holdout | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class HoldoutQueries:
    @strawberry.field(permission_classes=[scope("promotion:read")])
    async def holdout(self, info: Info, id: strawberry.ID) -> Holdout:
        context = info.context
        async with context.reading() as session:
            return Holdout.of(await holdouts.holdout(session, context.actor, HoldoutId.parse(id)))

    @strawberry.field(
        permission_classes=[scope("promotion:read")],
        description="Of all agreements the caller is a side of, newest first.",
    )
    async def holdouts(self, info: Info, first: First = 20, after: After = None) -> Connection[Holdout]:
        context = info.context
        async with context.reading() as session:
            page = await holdouts.holdouts_page(session, context.actor, PageRequest(first, after))
        return connection(page, Holdout.of)

    @strawberry.field(
        permission_classes=[scope("audiences:read")],
        description="The members to whom an own slot may show what an agreement is about: all but those held out.",
    )
    async def placement_audience(
        self,
        info: Info,
        placement_id: strawberry.ID,
        agreement_id: strawberry.ID,
        first: First = 100,
        after: After = None,
    ) -> Connection[strawberry.ID]:
        context = info.context
        asked = (PlacementId.parse(placement_id), AgreementId.parse(agreement_id))
        secret = context.gateways.settings.secret_key.get_secret_value()
        async with context.reading() as session:
            page = await holdouts.shown_page(
                session, context.actor, *asked, PageRequest(first, after), secret=secret
            )

        async def count() -> int:
            async with context.reading() as session:
                return await holdouts.shown_count(session, context.actor, *asked, secret=secret)

        return connection(page, lambda contact: strawberry.ID(str(contact)), count)


@strawberry.type
class HoldoutMutations:
    @strawberry.mutation(
        description="From now on a share of the members is not shown what the agreement is about."
    )
    @expected(HoldoutPayload)
    async def holdout_start(self, info: Info, input: HoldoutStartInput) -> HoldoutPayload:
        context, actor = info.context, info.context.actor
        wanted = NewHoldout(
            CommunityId.parse(input.community_id),
            AgreementId.parse(input.agreement_id),
            input.share_ppm,
            HoldoutId.parse(input.same_as) if input.same_as else None,
        )
        async with context.db.unit_of_work(actor) as session:
            id = await holdouts.start(session, actor, wanted, clock=context.clock)
            row = await holdouts.holdout(session, actor, id)
        return HoldoutPayload(holdout=Holdout.of(row))

    @strawberry.mutation(
        description="By the side that set it. It is measured for as long as refunds may come."
    )
    @expected(HoldoutPayload)
    async def holdout_end(self, info: Info, input: HoldoutEndInput) -> HoldoutPayload:
        context, actor, id = info.context, info.context.actor, HoldoutId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await holdouts.end(session, actor, id, clock=context.clock)
            row = await holdouts.holdout(session, actor, id)
        return HoldoutPayload(holdout=Holdout.of(row))
