"""Coupon codes: made by who pays for them, found by their code, used at most as often as allowed.

The uses are counted by one guarded UPDATE in the checkout's own transaction, so that of two buyers with the last
use one gets it; a checkout that is not paid gives its use back. A code may belong to a tracked link: then it is a
promoter's, takes off only goods of the link's advertiser, and entering it is a touch of the link (entries.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import BrandId, CheckoutId, LinkId, TenantId
from core.money import PPM, Money, rate_of
from core.pagination import Page, PageRequest, page_of
from marketplace.promotion.coupons.entries import entered
from marketplace.promotion.coupons.models import CouponId, CouponStatus, Funder
from marketplace.promotion.errors import (
    BadCoupon,
    CouponCodeTaken,
    CouponNotFound,
    CouponNotUsable,
    LinkNotFound,
)

_CODE = re.compile(r"[A-Z0-9][A-Z0-9\-]{2,31}")
MOST_USES = 10_000_000
_COLUMNS = (
    "id, owner_id, funder, code, currency, amount_minor, rate_ppm, most_minor, minimum_minor, starts_at, ends_at,"
    " max_uses, uses, status, created_at, link_id, advertiser_id, promoter_brand_id, exclusive, leaked_since"
)
_INSERT = text(
    "INSERT INTO coupons (id, owner_id, funder, code, currency, amount_minor, rate_ppm, most_minor, minimum_minor,"
    " starts_at, ends_at, max_uses, uses, status, created_by, created_at, link_id, advertiser_id, promoter_brand_id,"
    " exclusive) VALUES (:id, :owner_id, :funder, :code,"
    " :currency, :amount_minor, :rate_ppm, :most_minor, :minimum_minor, :starts_at, :ends_at, :max_uses, 0,"
    " 'active', :by, :now, :link_id, :advertiser_id, :promoter_brand_id, :exclusive)"
    " ON CONFLICT (owner_id, code) DO NOTHING RETURNING 1"
)
_LINK = text(
    "SELECT l.advertiser_id, l.promoter_brand_id, l.agreement_id IS NOT NULL AS agreed, l.status = 'ACTIVE'"
    " AND (l.expires_at IS NULL OR l.expires_at > :now) AS active FROM tracked_links l WHERE l.id = :link"
)
_MINE = "(:everything OR owner_id = :me OR advertiser_id = :me OR promoter_brand_id = :me)"
_STOP = text(f"UPDATE coupons SET status = 'stopped' WHERE id = :id AND {_MINE} RETURNING 1")
_ONE = text(f"SELECT {_COLUMNS} FROM coupons WHERE id = :id AND {_MINE}")
_PAGE = text(
    f"SELECT {_COLUMNS} FROM coupons WHERE {_MINE} AND (CAST(:after AS uuid) IS NULL OR id < :after)"
    " AND (CAST(:link AS uuid) IS NULL OR link_id = :link) ORDER BY id DESC LIMIT :limit"
)
_BY_CODE = text(
    f"SELECT {_COLUMNS} FROM coupons WHERE code = :code AND (owner_id IS NULL OR owner_id = ANY(:owners))"
)
_REDEEM = text(
    "WITH used AS (UPDATE coupons SET uses = uses + 1 WHERE id = :id AND status = 'active'"
    " AND (max_uses IS NULL OR uses < max_uses) RETURNING id, link_id),"
    f" {entered('SELECT id, link_id, CAST(:checkout AS uuid), CAST(:now AS timestamptz) FROM used')}"
    " INSERT INTO coupon_redemptions (checkout_id, coupon_id, currency, amount_minor, redeemed_at)"
    " SELECT :checkout, id, :currency, :amount, :now FROM used RETURNING 1"
)
_GIVE_BACK = text(
    "WITH back AS (UPDATE coupon_redemptions SET returned_at = :now"
    "  WHERE checkout_id = :checkout AND returned_at IS NULL RETURNING coupon_id)"
    " UPDATE coupons c SET uses = c.uses - 1 FROM back WHERE c.id = back.coupon_id"
)


@dataclass(frozen=True, slots=True)
class CouponTerms:
    """``amount`` off, or ``rate_ppm`` of the goods, at most ``most``. One of the two."""

    code: str
    currency: str
    starts_at: datetime
    amount: Money | None = None
    rate_ppm: int | None = None
    most: Money | None = None
    minimum: Money | None = None
    ends_at: datetime | None = None
    max_uses: int | None = None
    link_id: LinkId | None = None
    """The promoter's link whose code it is."""
    exclusive: bool = True
    """Given to that promoter alone; of no meaning without a link."""


@dataclass(frozen=True, slots=True)
class Coupon:
    id: CouponId
    owner_id: TenantId | None
    funder: Funder
    code: str
    currency: str
    amount_minor: int | None
    rate_ppm: int | None
    most_minor: int | None
    minimum_minor: int
    starts_at: datetime
    ends_at: datetime | None
    max_uses: int | None
    uses: int
    status: CouponStatus
    created_at: datetime
    link_id: LinkId | None = None
    advertiser_id: BrandId | None = None
    promoter_brand_id: BrandId | None = None
    exclusive: bool = False
    leaked_since: datetime | None = None

    def worth(self, goods_minor: int) -> int:
        """What it takes off goods of this price, never more than them."""
        if self.amount_minor is not None:
            return min(self.amount_minor, goods_minor)
        off = rate_of(goods_minor, self.rate_ppm or 0)
        return min(off, goods_minor if self.most_minor is None else self.most_minor)

    def obstacle(self, *, currency: str, at: datetime) -> str | None:
        """Why it cannot be used now, whatever is bought; None when it can."""
        if self.status is not CouponStatus.ACTIVE:
            return "stopped"
        if currency != self.currency:
            return "other_currency"
        if at < self.starts_at:
            return "not_started"
        if self.ends_at is not None and at >= self.ends_at:
            return "ended"
        if self.max_uses is not None and self.uses >= self.max_uses:
            return "used_up"
        return None


def normal(code: str) -> str:
    """As people type it and as it is stored: upper case without blanks around."""
    return code.strip().upper()


async def create_coupon(
    session: AsyncSession, actor: Actor, terms: CouponTerms, *, funder: Funder, now: datetime
) -> CouponId:
    """A brand's for its own goods (ADVERTISER) or its own storefronts (PROMOTER), a supplier's (SUPPLIER), or the
    platform's (PLATFORM): always at the cost of who makes it. A promoter's code is made by either side of its link:
    by the advertiser, or by the promoter brand off its commission. Raises ``BadCoupon``, ``CouponCodeTaken``.
    """
    owner = _owner(actor, funder)
    _check(terms)
    sides = await _sides(session, actor, terms.link_id, funder, now) if terms.link_id is not None else {}
    coupon_id = CouponId.new()
    row = {
        "id": coupon_id, "owner_id": owner, "funder": funder.value, "code": normal(terms.code),
        "currency": terms.currency, "amount_minor": _minor(terms, terms.amount, "amount"),
        "rate_ppm": terms.rate_ppm, "most_minor": _minor(terms, terms.most, "most"),
        "minimum_minor": _minor(terms, terms.minimum, "minimum") or 0, "starts_at": terms.starts_at,
        "ends_at": terms.ends_at, "max_uses": terms.max_uses, "by": str(actor), "now": now,
        "link_id": terms.link_id, "exclusive": terms.link_id is not None and terms.exclusive,
        "advertiser_id": None, "promoter_brand_id": None, **sides,
    }  # fmt: skip
    if (await session.execute(_INSERT, row)).first() is None:
        raise CouponCodeTaken(f"{normal(terms.code)} is taken", field="code")
    return coupon_id


def _owner(actor: Actor, funder: Funder) -> TenantId | None:
    if funder is Funder.PLATFORM:
        actor.require("platform:admin")
        return None
    return actor.supplier_id if funder is Funder.SUPPLIER else actor.brand_id


async def _sides(
    session: AsyncSession, actor: Actor, link_id: LinkId, funder: Funder, now: datetime
) -> dict[str, Any]:
    """The two brands of an agreement's active link, of which the one that pays is the actor."""
    link = (await session.execute(_LINK, {"link": link_id, "now": now})).first()
    _require(funder is not Funder.SUPPLIER, "funder", "a promoter's code is not a supplier's to give")
    if link is None or (funder is not Funder.PLATFORM and actor.brand_id != _payer(link, funder)):
        raise LinkNotFound("no such link of yours", field="linkId")
    _require(link.agreed, "linkId", "a link of an agreement, not of the own products")
    _require(link.active, "linkId", "an active link")
    return {"advertiser_id": link.advertiser_id, "promoter_brand_id": link.promoter_brand_id}


def _payer(link: Row[Any], funder: Funder) -> BrandId:
    return BrandId.of(link.advertiser_id if funder is Funder.ADVERTISER else link.promoter_brand_id)


def _check(terms: CouponTerms) -> None:
    Money(0, terms.currency)
    _require(_CODE.fullmatch(normal(terms.code)), "code", "3 to 32 letters, digits and hyphens")
    _require((terms.amount is None) != (terms.rate_ppm is None), "amount", "an amount or a rate")
    _require(terms.amount is None or terms.amount.amount_minor > 0, "amount", "above zero")
    _require(terms.rate_ppm is None or 0 < terms.rate_ppm <= PPM, "ratePpm", f"1 to {PPM}")
    _require(terms.most is None or terms.most.amount_minor > 0, "most", "above zero")
    _require(terms.minimum is None or terms.minimum.amount_minor >= 0, "minimum", "not below zero")
    _require(terms.ends_at is None or terms.starts_at < terms.ends_at, "endsAt", "after the start")
    _require(terms.max_uses is None or 0 < terms.max_uses <= MOST_USES, "maxUses", f"1 to {MOST_USES}")


def _require(holds: object, field: str, rule: str) -> None:
    if not holds:
        raise BadCoupon(f"{field}: {rule}", field=field)


def _minor(terms: CouponTerms, amount: Money | None, field: str) -> int | None:
    if amount is not None and amount.currency != terms.currency:
        raise BadCoupon(f"{field}: in {terms.currency}", field=field)
    return None if amount is None else amount.amount_minor


async def stop_coupon(session: AsyncSession, actor: Actor, coupon_id: CouponId) -> None:
    """No more uses; checkouts that were placed keep theirs. A promoter's code ends when either side ends it.

    Raises ``CouponNotFound`` for another's.
    """
    if (await session.execute(_STOP, {"id": coupon_id, **_of(actor)})).first() is None:
        raise CouponNotFound(f"no coupon {coupon_id}", field="id")


async def coupon(session: AsyncSession, actor: Actor, coupon_id: CouponId) -> Coupon:
    """Raises ``CouponNotFound``."""
    row = (await session.execute(_ONE, {"id": coupon_id, **_of(actor)})).one_or_none()
    if row is None:
        raise CouponNotFound(f"no coupon {coupon_id}", field="id")
    return _coupon(row)


async def coupons_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, link_id: LinkId | None = None
) -> Page[Coupon]:
    """The caller's own and those of links it is a side of, or all of them for the platform; newest first."""
    after = UUID(page.key[0]) if page.key else None
    wanted = {"after": after, "limit": page.first + 1, "link": link_id, **_of(actor)}
    rows = await session.execute(_PAGE, wanted)
    return page_of([_coupon(row) for row in rows], page, lambda found: (found.id.hex,))


def _of(actor: Actor) -> dict[str, Any]:
    return {"everything": actor.sees_everything, "me": None if actor.sees_everything else actor.tenant_id}


async def coupons_named(session: AsyncSession, code: str, owners: Iterable[TenantId]) -> list[Coupon]:
    """Those with this code that the platform or one of ``owners`` made. One statement, as SYSTEM."""
    rows = await session.execute(_BY_CODE, {"code": normal(code), "owners": list(owners)})
    return [_coupon(row) for row in rows]


async def redeem(
    session: AsyncSession, used: Coupon, checkout_id: CheckoutId, *, amount_minor: int, now: datetime
) -> None:
    """Count one use for a checkout; of a promoter's code, it is a touch. Raises ``CouponNotUsable`` when somebody
    else had the last one.
    """
    values = {
        "id": used.id, "checkout": checkout_id, "currency": used.currency, "amount": amount_minor, "now": now,
    }  # fmt: skip
    if (await session.execute(_REDEEM, values)).first() is None:
        raise CouponNotUsable(used.code, "used_up")


async def give_back(session: AsyncSession, checkout_id: CheckoutId, *, now: datetime) -> None:
    """The checkout came to nothing: its use is free again. Once."""
    await session.execute(_GIVE_BACK, {"checkout": checkout_id, "now": now})


def _coupon(row: Row[Any]) -> Coupon:
    values = dict(row._mapping)
    values["id"] = CouponId.of(row.id)
    kinds = {
        "owner_id": TenantId, "link_id": LinkId, "advertiser_id": BrandId, "promoter_brand_id": BrandId,
    }  # fmt: skip
    for name, kind in kinds.items():
        values[name] = kind.of(values[name]) if values[name] else None
    values["funder"], values["status"] = Funder(row.funder), CouponStatus(row.status)
    return Coupon(**values)
