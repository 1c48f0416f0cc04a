"""Coupons at the supplier's cost: on what it delivers, whoever sells it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from core.money import Money
from core.pagination import MAX_PAGE, PageRequest
from core.plain import plain
from marketplace.promotion.coupons import codes as coupons
from marketplace.promotion.coupons.codes import Coupon, CouponTerms
from marketplace.promotion.coupons.models import CouponId, Funder
from services.fulfillment import schemas
from services.fulfillment.requests import Caller, Key, answer, services_of, write_once

router = APIRouter(tags=["coupons"])


@router.get("/coupons")
async def list_coupons(
    request: Request,
    actor: Caller,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
) -> Response:
    """Your own, newest first."""
    async with services_of(request).db.reading(actor) as session:
        page = await coupons.coupons_page(session, actor, PageRequest(limit, cursor))
    return answer(
        {
            "items": [_coupon_json(each) for each in page.items],
            "next_cursor": page.cursors[-1] if page.has_next else None,
        }
    )


@router.post("/coupons", status_code=201)
async def create_coupon(request: Request, actor: Caller, key: Key, body: schemas.CouponIn) -> Response:
    """What it takes off comes out of your cost of the goods, at most all of it. An amount, or a rate in millionths."""
    now = services_of(request).clock.now()
    terms = CouponTerms(
        code=body.code,
        currency=body.currency,
        starts_at=body.starts_at or now,
        amount=body.amount.money() if body.amount else None,
        rate_ppm=body.rate_ppm,
        most=body.most.money() if body.most else None,
        minimum=body.minimum.money() if body.minimum else None,
        ends_at=body.ends_at,
        max_uses=body.max_uses,
    )

    async def run(session: AsyncSession) -> dict[str, Any]:
        made = await coupons.create_coupon(session, actor, terms, funder=Funder.SUPPLIER, now=now)
        return _coupon_json(await coupons.coupon(session, actor, made))

    return await write_once(request, actor, key, body, run, status=201)


@router.post("/coupons/{coupon_id}/end")
async def end_coupon(request: Request, actor: Caller, coupon_id: str, key: Key) -> Response:
    """No more uses; orders that were placed with it keep it."""
    id = CouponId.parse(coupon_id)

    async def run(session: AsyncSession) -> dict[str, Any]:
        await coupons.stop_coupon(session, actor, id)
        return _coupon_json(await coupons.coupon(session, actor, id))

    return await write_once(request, actor, key, None, run)


def _coupon_json(coupon: Coupon) -> dict[str, Any]:
    def amount(minor: int | None) -> Any:
        return None if minor is None else plain(Money(minor, coupon.currency))

    return {
        "id": str(coupon.id), "code": coupon.code, "currency": coupon.currency,
        "amount": amount(coupon.amount_minor), "rate_ppm": coupon.rate_ppm, "most": amount(coupon.most_minor),
        "minimum": amount(coupon.minimum_minor), "starts_at": plain(coupon.starts_at),
        "ends_at": plain(coupon.ends_at) if coupon.ends_at else None, "max_uses": coupon.max_uses,
        "uses": coupon.uses, "status": coupon.status.value,
    }  # fmt: skip
