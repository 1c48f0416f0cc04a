"""The partner directory: brands that want to be found, and what the facts say of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import strawberry

from core.ids import BrandId
from core.pagination import PageRequest
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import Ppm
from marketplace.promotion.agreements.terms import DEFAULT_WINDOW_S
from marketplace.promotion.directory import profile as profiles
from marketplace.promotion.directory import publishing, queries
from marketplace.promotion.directory.models import AudienceBand, PartnerRole, ProfileStatus
from marketplace.promotion.directory.queries import PartnerFilter, PartnerRow, PartnerSort, ProfileVersionRow
from marketplace.promotion.directory.track_record import (
    LEAST_CLICKS,
    LEAST_DUE,
    LEAST_ORDERS,
    LEAST_PARTNERS,
    WINDOW_DAYS,
    Counts,
)
from marketplace.promotion.directory.track_record import TrackRecord as ShownRecord

strawberry.enum(PartnerRole, name="PartnerRole", description="The side that pays, or the side that sells.")
strawberry.enum(ProfileStatus, name="PartnerProfileStatus")
strawberry.enum(AudienceBand, name="AudienceBand", description="How many people a brand reaches, at least.")
strawberry.enum(PartnerSort, name="PartnerSort")

_READ = scope("promotion:read")
_RECORD = (
    f"What {WINDOW_DAYS} days of facts say; nobody types it in. A rate is null below {LEAST_PARTNERS} partners or"
    f" {LEAST_ORDERS} orders, conversion also below {LEAST_CLICKS} clicks, punctuality below {LEAST_DUE} commissions."
)


def _ppm(value: int | None) -> Ppm | None:
    return None if value is None else Ppm(value)


@strawberry.type(description=_RECORD)
class TrackRecord:
    conversion_ppm: Ppm | None = strawberry.field(description="Orders per click of partners' links.")
    refund_ppm: Ppm | None = strawberry.field(description="Orders of which something was refunded.")
    dispute_ppm: Ppm | None = strawberry.field(description="Orders whose payment was disputed.")
    punctual_ppm: Ppm | None = strawberry.field(
        description="Commissions that were paid out of the hold within the promised days."
    )
    orders_from: int | None = strawberry.field(description="At least so many orders: 30, 100, 1,000, …")
    partners_from: int | None = strawberry.field(
        description="With at least so many partners: 3, 10, 30, 100."
    )
    audience_counted: AudienceBand | None = strawberry.field(
        description="The contacts the brand really has here, beside the band it gives itself."
    )

    @classmethod
    def of(cls, record: ShownRecord | None) -> TrackRecord | None:
        if record is None:
            return None
        return cls(
            conversion_ppm=_ppm(record.conversion_ppm),
            refund_ppm=_ppm(record.refund_ppm),
            dispute_ppm=_ppm(record.dispute_ppm),
            punctual_ppm=_ppm(record.punctual_ppm),
            orders_from=record.orders_from,
            partners_from=record.partners_from,
            audience_counted=record.audience_counted,
        )


@strawberry.type(description="The counts behind the own track record; others see rates and bands alone.")
class TrackRecordCounts:
    role: PartnerRole
    clicks: int
    orders: int
    refunded_orders: int
    disputed_orders: int
    commissions_due: int
    commissions_in_time: int
    partners: int

    @classmethod
    def of(cls, role: PartnerRole, counts: Counts) -> TrackRecordCounts:
        return cls(
            role=role,
            clicks=min(counts.clicks, 2**31 - 1),
            orders=counts.orders,
            refunded_orders=counts.refunded_orders,
            disputed_orders=counts.disputed_orders,
            commissions_due=counts.commissions_due,
            commissions_in_time=counts.commissions_in_time,
            partners=counts.partners,
        )


@strawberry.interface(
    description="What a brand says of itself to possible partners. Rates, window and return window: its usual terms."
)
class PartnerProfile:
    headline: str
    offers: str
    seeks: str
    roles: list[PartnerRole]
    categories: list[str]
    sought_categories: list[str]
    regions: list[str]
    audience_band: AudienceBand | None
    rate_min_ppm: Ppm | None
    rate_max_ppm: Ppm | None
    window_s: int
    return_window_days: int


def _said(by: profiles.PartnerProfile | PartnerRow) -> dict[str, Any]:
    """The fields of the interface."""
    return {
        "headline": by.headline,
        "offers": by.offers,
        "seeks": by.seeks,
        "roles": list(by.roles),
        "categories": list(by.categories),
        "sought_categories": list(by.sought_categories),
        "regions": list(by.regions),
        "audience_band": by.audience_band,
        "rate_min_ppm": _ppm(by.rate_min_ppm),
        "rate_max_ppm": _ppm(by.rate_max_ppm),
        "window_s": by.window_s,
        "return_window_days": by.return_window_days,
    }


@strawberry.type(description="One version of what a brand says of itself; versions are never rewritten.")
class PartnerProfileVersion(PartnerProfile):
    version: int
    status: ProfileStatus
    published_at: datetime

    @classmethod
    def of(cls, row: ProfileVersionRow) -> PartnerProfileVersion:
        return cls(
            version=row.version, status=row.status, published_at=row.published_at, **_said(row.profile)
        )


async def _histories(context: Context, ids: Sequence[BrandId]) -> list[list[ProfileVersionRow]]:
    async with context.reading() as session:
        found = await queries.profile_history(session, ids)
    return [found.get(brand_id, []) for brand_id in ids]


@strawberry.type(description="A brand of the directory. `invitationSend` is how to talk to it.")
class Partner(PartnerProfile):
    id: strawberry.ID
    name: str
    version: int
    listed_at: datetime
    updated_at: datetime
    as_advertiser: TrackRecord | None = strawberry.field(description="When others sell its products.")
    as_promoter: TrackRecord | None = strawberry.field(description="When it sells others' products.")
    brand_id: strawberry.Private[BrandId]

    @classmethod
    def of(cls, row: PartnerRow) -> Partner:
        return cls(
            id=strawberry.ID(str(row.brand_id)),
            name=row.name,
            version=row.version,
            listed_at=row.listed_at,
            updated_at=row.updated_at,
            as_advertiser=TrackRecord.of(row.records.get(PartnerRole.ADVERTISER)),
            as_promoter=TrackRecord.of(row.records.get(PartnerRole.PROMOTER)),
            brand_id=row.brand_id,
            **_said(row),
        )

    @strawberry.field(description="Its last ten versions, newest first: terms that keep changing are seen.")
    async def history(self, info: Info) -> list[PartnerProfileVersion]:
        rows = await info.context.loader(_histories).load(self.brand_id)
        return [PartnerProfileVersion.of(row) for row in rows]


@strawberry.input(description="All that is given must hold.")
class PartnerFilterInput:
    text: str = strawberry.field(
        default="", description="Every word; when nobody has them all, any. Chinese and Latin."
    )
    role: PartnerRole | None = None
    category: str | None = strawberry.field(default=None, description="beauty also finds beauty/skin.")
    region: str | None = strawberry.field(default=None, description="CN-SH also finds who serves all of CN.")
    audience_bands: list[AudienceBand] = strawberry.field(default_factory=list)
    rate_at_least_ppm: Ppm | None = None
    rate_at_most_ppm: Ppm | None = None
    sort: PartnerSort = PartnerSort.BEST_MATCH

    def parsed(self) -> PartnerFilter:
        return PartnerFilter(
            text=self.text,
            role=self.role,
            category=self.category,
            region=self.region,
            audience_bands=self.audience_bands,
            rate_at_least_ppm=self.rate_at_least_ppm,
            rate_at_most_ppm=self.rate_at_most_ppm,
            sort=self.sort,
        )


@strawberry.type(description="The own brand in the directory.")
class OwnPartnerProfile:
    current: PartnerProfileVersion | None = strawberry.field(description="Null before the first.")
    counts: list[TrackRecordCounts]


@strawberry.input(
    description="What the own brand says of itself. Rates, window and return window: its usual terms."
)
class PartnerProfileUpsertInput:
    headline: str
    roles: list[PartnerRole]
    offers: str = ""
    seeks: str = ""
    categories: list[str] = strawberry.field(default_factory=list, description="What it sells: beauty/skin.")
    sought_categories: list[str] = strawberry.field(default_factory=list)
    regions: list[str] = strawberry.field(default_factory=list, description="CN, CN-SH, DE, …")
    audience_band: AudienceBand | None = None
    rate_min_ppm: Ppm | None = None
    rate_max_ppm: Ppm | None = None
    window_s: int = DEFAULT_WINDOW_S
    return_window_days: int = 15
    version: int | None = strawberry.field(
        default=None,
        description="The version that was read; another one since then is a conflict. 0: none yet.",
    )

    def parsed(self) -> profiles.PartnerProfile:
        return profiles.PartnerProfile(
            headline=self.headline,
            roles=tuple(self.roles),
            offers=self.offers,
            seeks=self.seeks,
            categories=tuple(self.categories),
            sought_categories=tuple(self.sought_categories),
            regions=tuple(self.regions),
            audience_band=self.audience_band,
            rate_min_ppm=self.rate_min_ppm,
            rate_max_ppm=self.rate_max_ppm,
            window_s=self.window_s,
            return_window_days=self.return_window_days,
        )


@strawberry.input
class PartnerProfileWithdrawInput:
    version: int | None = None


@strawberry.type
class PartnerProfilePayload:
    profile: PartnerProfileVersion | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class DirectoryQueries:
    @strawberry.field(
        permission_classes=[_READ], description="Brands that want to be found; not the own one."
    )
    async def partners(
        self, info: Info, filter: PartnerFilterInput | None = None, first: First = 20, after: After = None
    ) -> Connection[Partner]:
        context = info.context
        wanted = filter.parsed() if filter else PartnerFilter()
        async with context.reading() as session:
            page = await queries.partners_page(session, context.actor, wanted, PageRequest(first, after))

        async def count() -> int:
            async with context.reading() as session:
                return await queries.partners_count(session, context.actor, wanted)

        return connection(page, Partner.of, count)

    @strawberry.field(permission_classes=[_READ])
    async def partner(self, info: Info, id: strawberry.ID) -> Partner:
        context = info.context
        async with context.reading() as session:
            return Partner.of(await queries.partner(session, context.actor, BrandId.parse(id)))

    @strawberry.field(permission_classes=[_READ])
    async def own_partner_profile(self, info: Info) -> OwnPartnerProfile:
        context = info.context
        async with context.reading() as session:
            current = await queries.own_profile(session, context.actor)
            counts = await queries.own_counts(session, context.actor)
        return OwnPartnerProfile(
            current=None if current is None else PartnerProfileVersion.of(current),
            counts=[TrackRecordCounts.of(role, each) for role, each in sorted(counts.items())],
        )


@strawberry.type
class DirectoryMutations:
    @strawberry.mutation(
        description="Enter the directory, or change what it says. The same again changes nothing."
    )
    @expected(PartnerProfilePayload)
    async def partner_profile_upsert(
        self, info: Info, input: PartnerProfileUpsertInput
    ) -> PartnerProfilePayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            await publishing.publish(
                session, actor, input.parsed(), expected_version=input.version, clock=context.clock
            )
            return _payload(await queries.own_profile(session, actor))

    @strawberry.mutation(description="Leave the directory at once.")
    @expected(PartnerProfilePayload)
    async def partner_profile_withdraw(
        self, info: Info, input: PartnerProfileWithdrawInput
    ) -> PartnerProfilePayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            await publishing.withdraw(session, actor, expected_version=input.version, clock=context.clock)
            return _payload(await queries.own_profile(session, actor))


def _payload(row: ProfileVersionRow | None) -> PartnerProfilePayload:
    return PartnerProfilePayload(profile=None if row is None else PartnerProfileVersion.of(row))
