"""Coupon codes in the brand API: a brand's own, its promoters', and the platform's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import LinkId
from core.pagination import PageRequest
from graph.context import Info
from graph.errors import UserError, expected
from graph.idempotent import run_once
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import Money, MoneyInput, Ppm
from marketplace.promotion.coupons import codes as coupons
from marketplace.promotion.coupons.codes import CouponTerms
from marketplace.promotion.coupons.models import CouponId, CouponStatus, Funder

strawberry.enum(CouponStatus, name="CouponStatus")
_READ = scope("promotion:read")


@strawberry.type(description="A code that takes something off the goods of a cart.")
class Coupon:
    id: strawberry.ID
    code: str
    funder: Funder = strawberry.field(description="Who pays what it takes off.")
    currency_code: str
    amount: Money | None
    rate_ppm: Ppm | None
    most: Money | None
    minimum: Money
    starts_at: datetime
    ends_at: datetime | None
    max_uses: int | None
    uses: int
    status: CouponStatus
    link_id: strawberry.ID | None = strawberry.field(
        description="The promoter's link whose code it is: entering it is a touch of that link."
    )
    exclusive: bool = strawberry.field(
        description="Given to that promoter alone: the sale is its, whatever else was clicked."
    )
    leaked_since: datetime | None = strawberry.field(
        description="From then on it goes before nothing: most who entered it had never met the promoter."
    )

    @classmethod
    def of(cls, row: coupons.Coupon) -> Coupon:
        def amount(minor: int | None) -> Money | None:
            return None if minor is None else Money.minor(minor, row.currency)

        return cls(
            id=strawberry.ID(str(row.id)),
            code=row.code,
            funder=row.funder,
            currency_code=row.currency,
            amount=amount(row.amount_minor),
            rate_ppm=None if row.rate_ppm is None else Ppm(row.rate_ppm),
            most=amount(row.most_minor),
            minimum=Money.minor(row.minimum_minor, row.currency),
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            max_uses=row.max_uses,
            uses=row.uses,
            status=row.status,
            link_id=None if row.link_id is None else strawberry.ID(str(row.link_id)),
            exclusive=row.exclusive,
            leaked_since=row.leaked_since,
        )


@strawberry.input(description="An `amount` off, or `ratePpm` of the goods up to `most`.")
class CouponCreateInput:
    idempotency_key: str
    code: str = strawberry.field(description="3 to 32 letters, digits and hyphens; case does not matter.")
    currency_code: str
    funder: Funder = strawberry.field(
        default=Funder.ADVERTISER,
        description="ADVERTISER: a brand's own goods, at its cost. PROMOTER: partners' goods in its storefronts, off "
        "its commission. PLATFORM: everything, by the platform only.",
    )
    amount: MoneyInput | None = None
    rate_ppm: Ppm | None = None
    most: MoneyInput | None = None
    minimum: MoneyInput | None = strawberry.field(
        default=None, description="What the goods it is for must be worth."
    )
    starts_at: datetime | None = strawberry.field(default=None, description="Now when left out.")
    ends_at: datetime | None = None
    max_uses: int | None = None
    link_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="A link of an agreement that the own brand is a side of: the code is its promoter's, for goods of"
        " its advertiser. The advertiser pays (ADVERTISER), or the promoter brand off its commission (PROMOTER).",
    )
    exclusive: bool = strawberry.field(
        default=True, description="With `linkId`: false for a code that more people know than that promoter."
    )


@strawberry.input
class CouponStopInput:
    id: strawberry.ID


@strawberry.type
class CouponPayload:
    coupon: Coupon | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


def _require_write(actor: Actor) -> None:
    actor.require("platform:admin" if actor.sees_everything else "promotion:write")


@strawberry.type
class CouponQueries:
    @strawberry.field(
        permission_classes=[_READ],
        description="The caller's own and those of links it is a side of, newest first; `linkId`: of that link.",
    )
    async def coupons(
        self, info: Info, link_id: strawberry.ID | None = None, first: First = 20, after: After = None
    ) -> Connection[Coupon]:
        context = info.context
        wanted = None if link_id is None else LinkId.parse(link_id)
        async with context.reading() as session:
            page = await coupons.coupons_page(
                session, context.actor, PageRequest(first, after), link_id=wanted
            )
        return connection(page, Coupon.of)


@strawberry.type
class CouponMutations:
    @strawberry.mutation(description="Who makes a coupon pays for it.")
    @expected(CouponPayload)
    async def coupon_create(self, info: Info, input: CouponCreateInput) -> CouponPayload:
        context = info.context
        _require_write(context.actor)
        now = context.clock.now()
        terms = CouponTerms(
            code=input.code,
            currency=input.currency_code,
            starts_at=input.starts_at or now,
            amount=input.amount.parsed() if input.amount else None,
            rate_ppm=input.rate_ppm,
            most=input.most.parsed() if input.most else None,
            minimum=input.minimum.parsed() if input.minimum else None,
            ends_at=input.ends_at,
            max_uses=input.max_uses,
            link_id=None if input.link_id is None else LinkId.parse(input.link_id),
            exclusive=input.exclusive,
        )

        async def run(session: AsyncSession) -> dict[str, Any]:
            made = await coupons.create_coupon(session, context.actor, terms, funder=input.funder, now=now)
            return {"id": str(made)}

        body = [
            input.code, input.currency_code, input.funder.value, str(terms.amount), input.rate_ppm,
            str(terms.most), str(terms.minimum), str(input.starts_at), str(input.ends_at), input.max_uses,
            input.link_id, input.exclusive,
        ]  # fmt: skip
        answer = await run_once(
            context, operation="couponCreate", key=input.idempotency_key, body=body, run=run
        )
        async with context.reading() as session:
            row = await coupons.coupon(session, context.actor, CouponId.parse(answer["id"]))
        return CouponPayload(coupon=Coupon.of(row))

    @strawberry.mutation(
        description="No more uses; what was placed with it keeps it. Either side of its link ends a promoter's code."
    )
    @expected(CouponPayload)
    async def coupon_stop(self, info: Info, input: CouponStopInput) -> CouponPayload:
        context = info.context
        _require_write(context.actor)
        coupon_id = CouponId.parse(input.id)
        async with context.db.unit_of_work(context.actor) as session:
            await coupons.stop_coupon(session, context.actor, coupon_id)
            row = await coupons.coupon(session, context.actor, coupon_id)
        return CouponPayload(coupon=Coupon.of(row))
