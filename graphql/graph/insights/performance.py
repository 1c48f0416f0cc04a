"""What links brought, by partner, community, placement, person, link or printed arm, and by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated
from uuid import UUID

import strawberry

import graph.promotion.directory  # noqa: F401  (gives PartnerRole its name in the schema)
from core.ids import AgreementId, BrandId, CommunityId, LinkId, PromoterId, TypedId
from core.pagination import PageRequest
from graph.context import Context, Info
from graph.insights.holdouts import Holdout
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import Money, Ppm
from marketplace.insights import performance
from marketplace.insights.performance import (
    MOST_DAYS,
    DayRow,
    Dimension,
    Figures,
    GroupRow,
    MoneyFigures,
    PerformanceFilter,
    PerformanceSort,
)
from marketplace.matching import holdouts
from marketplace.matching.holdouts import HoldoutRow
from marketplace.promotion.directory.models import PartnerRole

strawberry.enum(Dimension, name="PerformanceDimension")
strawberry.enum(PerformanceSort, name="PerformanceSort", description="The most of it first.")


@strawberry.type(
    description="Sums of one currency. Commission is in one of five states; together they are what was first earned."
)
class PerformanceMoney:
    currency_code: str
    orders: int
    gross: Money = strawberry.field(description="Goods before discounts.")
    basis: Money = strawberry.field(description="What commission is reckoned on.")
    refunded_basis: Money
    commission: Money = strawberry.field(description="As first earned, the platform's part included.")
    pending: Money
    confirmed: Money = strawberry.field(description="Out of its return window, not paid out yet.")
    paid: Money
    invalid: Money = strawberry.field(description="Found not earned.")
    reversed: Money = strawberry.field(description="Gone back with refunds and lost disputes.")
    platform_fee: Money = strawberry.field(description="The platform's part of what stands.")
    tier_adjustment: Money = strawberry.field(
        description="Beside the commission: what orders that reached a retroactive tier owed for the period's earlier"
        " ones, the platform's part included; on the day they were paid, at the link that closed them."
    )
    average_order: Money | None
    earnings_per_hundred_visits: Money | None = strawberry.field(
        description="Commission that stands, without the platform's part."
    )

    @classmethod
    def of(cls, sums: MoneyFigures, visits: int) -> PerformanceMoney:
        def money(minor: int) -> Money:
            return Money.minor(minor, sums.currency)

        average, earned = sums.average_order, sums.per_hundred(visits)
        return cls(
            currency_code=sums.currency,
            orders=sums.orders,
            gross=money(sums.gross_minor),
            basis=money(sums.basis_minor),
            refunded_basis=money(sums.refunded_basis_minor),
            commission=money(sums.commission_minor),
            pending=money(sums.pending_minor),
            confirmed=money(sums.confirmed_minor),
            paid=money(sums.paid_minor),
            invalid=money(sums.invalid_minor),
            reversed=money(sums.reversed_minor),
            platform_fee=money(sums.fee_minor),
            tier_adjustment=money(sums.adjustment_minor),
            average_order=None if average is None else Money.of(average),
            earnings_per_hundred_visits=None if earned is None else Money.of(earned),
        )


@strawberry.type(
    description="Visits without bots; an order counts once for each agreement that earns from it."
)
class PerformanceFigures:
    clicks: int = strawberry.field(description="Repeats by the same browser within seconds included.")
    unique_clicks: int
    scans: int
    leads: int
    bots: int
    excluded_visits: int = strawberry.field(
        description="Of the unique clicks and scans, those that fraud keeps from earning."
    )
    orders: int = strawberry.field(description="At the link that closed them, on the day they were paid.")
    assisted_orders: int = strawberry.field(description="Closed by another link that shared the commission.")
    new_customer_orders: int
    returning_customer_orders: int
    refunded_orders: int
    conversion_ppm: Ppm | None = strawberry.field(
        description="Orders of unique clicks and scans, those excluded off."
    )
    money: list[PerformanceMoney]

    @classmethod
    def of(cls, sums: Figures) -> PerformanceFigures:
        return cls(
            clicks=sums.clicks,
            unique_clicks=sums.unique_clicks,
            scans=sums.scans,
            leads=sums.leads,
            bots=sums.bots,
            excluded_visits=sums.excluded_visits,
            orders=sums.orders,
            assisted_orders=sums.assisted_orders,
            new_customer_orders=sums.new_customer_orders,
            returning_customer_orders=sums.returning_customer_orders,
            refunded_orders=sums.refunded_orders,
            conversion_ppm=None if sums.conversion_ppm is None else Ppm(sums.conversion_ppm),
            money=[PerformanceMoney.of(each, sums.visits) for each in sums.money],
        )


@strawberry.type(description="A day of UTC on which anything happened.")
class PerformanceDay:
    day: date
    figures: PerformanceFigures

    @classmethod
    def of(cls, row: DayRow) -> PerformanceDay:
        return cls(day=row.day, figures=PerformanceFigures.of(row.figures))


@strawberry.type
class PerformanceGroup:
    id: strawberry.ID | None = strawberry.field(
        description="Null for what has none, e.g. a link without a person."
    )
    name: str | None = strawberry.field(
        description="Null where the caller may not know it, e.g. a partner's person."
    )
    figures: PerformanceFigures
    row: strawberry.Private[GroupRow]
    asked: strawberry.Private[tuple[Dimension, PerformanceFilter]]

    @strawberry.field(description="Oldest first.")
    async def days(self, info: Info) -> list[PerformanceDay]:
        rows = await info.context.loader(_days).load((*self.asked, self.row.id))
        return [PerformanceDay.of(row) for row in rows]

    @strawberry.field(
        description="What showing brought, beside what is attributed: the newest holdouts of the community, the slot's"
        f" community, the agreement or the partner, at most {holdouts.MOST_ABOUT}. None by person, link or creative:"
        " members are held out of a community."
    )
    async def holdouts(self, info: Info) -> list[Holdout]:
        if self.row.id is None or self.asked[0] not in _HELD_OUT_BY:
            return []
        rows = await info.context.loader(_holdouts).load(UUID(bytes=self.row.id.bytes))
        return [Holdout.of(row) for row in rows]


_HELD_OUT_BY = frozenset({Dimension.PARTNER, Dimension.AGREEMENT, Dimension.COMMUNITY, Dimension.PLACEMENT})


async def _holdouts(context: Context, ids: Sequence[UUID]) -> list[list[HoldoutRow]]:
    async with context.reading() as session:
        found = await holdouts.holdouts_about(session, context.actor, ids)
    return [found.get(each, []) for each in ids]


async def _days(
    context: Context, asked: Sequence[tuple[Dimension, PerformanceFilter, TypedId | None]]
) -> list[list[DayRow]]:
    """One statement for each question; nearly always there is one."""
    questions: dict[tuple[Dimension, PerformanceFilter], list[TypedId | None]] = {}
    for dimension, wanted, group in asked:
        questions.setdefault((dimension, wanted), []).append(group)
    async with context.reading() as session:
        found = {
            question: await performance.days_of(session, context.actor, *question, groups)
            for question, groups in questions.items()
        }
    return [found[dimension, wanted].get(group, []) for dimension, wanted, group in asked]


@strawberry.type
class Performance:
    dimension: strawberry.Private[Dimension]
    wanted: strawberry.Private[PerformanceFilter]

    @strawberry.field
    async def groups(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        sort: PerformanceSort = PerformanceSort.ORDERS,
    ) -> Connection[PerformanceGroup]:
        context, asked = info.context, (self.dimension, self.wanted)
        async with context.reading() as session:
            page = await performance.groups_page(
                session, context.actor, *asked, PageRequest(first, after), sort=sort
            )
        return connection(
            page,
            lambda row: PerformanceGroup(
                id=None if row.id is None else strawberry.ID(str(row.id)),
                name=row.name,
                figures=PerformanceFigures.of(row.figures),
                row=row,
                asked=asked,
            ),
        )

    @strawberry.field(description="Of all groups together.")
    async def totals(self, info: Info) -> PerformanceFigures:
        rows = await info.context.loader(_all_days).load(self.wanted)
        return PerformanceFigures.of(performance.total(rows))

    @strawberry.field(description="Of all groups together, oldest first.")
    async def days(self, info: Info) -> list[PerformanceDay]:
        rows = await info.context.loader(_all_days).load(self.wanted)
        return [PerformanceDay.of(row) for row in rows]


async def _all_days(context: Context, asked: Sequence[PerformanceFilter]) -> list[list[DayRow]]:
    async with context.reading() as session:
        return [await performance.all_days(session, context.actor, wanted) for wanted in asked]


@strawberry.type
class PerformanceQueries:
    @strawberry.field(
        permission_classes=[scope("promotion:read")],
        description="What links brought; both sides of an agreement see the same. Seconds behind the facts."
        f" At most {MOST_DAYS} days (UTC).",
    )
    def performance(
        self,
        group_by: Dimension,
        since: Annotated[date, strawberry.argument(name="from")],
        until: Annotated[date, strawberry.argument(name="to", description="The last day.")],
        side: Annotated[
            PartnerRole | None,
            strawberry.argument(
                description="As ADVERTISER what the caller pays for, as PROMOTER what it earns."
            ),
        ] = None,
        partner_id: strawberry.ID | None = None,
        agreement_id: strawberry.ID | None = None,
        community_id: strawberry.ID | None = None,
        promoter_id: strawberry.ID | None = None,
        link_id: strawberry.ID | None = None,
    ) -> Performance:
        wanted = PerformanceFilter(
            since,
            until,
            side,
            BrandId.parse(partner_id) if partner_id else None,
            AgreementId.parse(agreement_id) if agreement_id else None,
            CommunityId.parse(community_id) if community_id else None,
            PromoterId.parse(promoter_id) if promoter_id else None,
            LinkId.parse(link_id) if link_id else None,
        )
        return Performance(dimension=group_by, wanted=wanted)
