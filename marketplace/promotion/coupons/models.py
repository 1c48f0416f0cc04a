"""Coupon codes and what became of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, String, UniqueConstraint, text
from sqlmodel import Field

from core.ids import BrandId, CheckoutId, LinkId, TenantId, TouchId, TypedId
from infra.db.base import Row, currency_field, id_field, minor_field, one_of, utc_field


class CouponId(TypedId):
    prefix = "cpn"


class Funder(StrEnum):
    """Who pays what a coupon takes off (cps.md §4 R1)."""

    PLATFORM = "platform"
    ADVERTISER = "advertiser"
    """The merchant whose goods they are."""
    SUPPLIER = "supplier"
    PROMOTER = "promoter"
    """The brand whose storefront sells them: it comes off its commission."""

    @property
    def lowers_price(self) -> bool:
        """Whether the price itself is lower for it, so that tax and commission are on less. Otherwise somebody
        pays a part of the same price for the customer."""
        return self in (Funder.ADVERTISER, Funder.SUPPLIER)


class CouponStatus(StrEnum):
    ACTIVE = "active"
    STOPPED = "stopped"


class CouponRow(Row, table=True):
    """``amount_minor`` off, or ``rate_ppm`` of the goods up to ``most_minor``; goods worth ``minimum_minor`` at least.

    ``owner_id`` is None for the platform's own. With ``link_id`` it is a promoter's code: entered at a checkout it is
    a touch of that link; ``exclusive`` when the promoter alone was given it.
    """

    __tablename__ = "coupons"
    __table_args__ = (
        one_of("funder", Funder),
        one_of("status", CouponStatus),
        CheckConstraint("uses >= 0 AND uses <= coalesce(max_uses, uses)", name="uses"),
        Index(
            "uq_coupons_owner_id_code", "owner_id", "code", unique=True, postgresql_nulls_not_distinct=True
        ),
        CheckConstraint(
            "num_nonnulls(link_id, advertiser_id, promoter_brand_id) IN (0, 3)", name="whole_link"
        ),
        CheckConstraint("NOT exclusive OR link_id IS NOT NULL", name="exclusive_of_a_link"),
        CheckConstraint("leaked_since IS NULL OR exclusive", name="leaked_when_exclusive"),
        Index("ix_coupons_code", "code"),
        Index("ix_coupons_link_id", "link_id", postgresql_where=text("link_id IS NOT NULL")),
    )

    id: CouponId = id_field(CouponId, primary_key=True)
    owner_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    funder: Funder = Field(sa_type=String)
    code: str
    currency: str = currency_field()
    amount_minor: int | None = minor_field(default=None, nullable=True)
    rate_ppm: int | None = None
    most_minor: int | None = minor_field(default=None, nullable=True)
    minimum_minor: int = minor_field()
    starts_at: datetime = utc_field()
    ends_at: datetime | None = utc_field(default=None, nullable=True)
    max_uses: int | None = None
    uses: int
    status: CouponStatus = Field(sa_type=String)
    created_by: str
    created_at: datetime = utc_field()
    link_id: LinkId | None = id_field(LinkId, default=None, nullable=True, foreign_key="tracked_links.id")
    advertiser_id: BrandId | None = id_field(BrandId, default=None, nullable=True)
    promoter_brand_id: BrandId | None = id_field(BrandId, default=None, nullable=True)
    exclusive: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    leaked_since: datetime | None = utc_field(default=None, nullable=True)
    """From here on entering it is no better evidence than any public code."""


class CouponRedemption(Row, table=True):
    """One use, of one checkout; given back when the checkout was not paid."""

    __tablename__ = "coupon_redemptions"
    __table_args__ = (Index("ix_coupon_redemptions_coupon_id", "coupon_id"),)

    checkout_id: CheckoutId = id_field(CheckoutId, primary_key=True)
    coupon_id: CouponId = id_field(CouponId, foreign_key="coupons.id")
    currency: str = currency_field()
    amount_minor: int = minor_field()
    redeemed_at: datetime = utc_field()
    returned_at: datetime | None = utc_field(default=None, nullable=True)


class CouponEntry(Row, table=True):
    """One entry of a promoter's code for one checkout: the touch it is. ``owner_touched``: whether the buyer had come
    by the promoter's own placements, too; unknown until the order is attributed."""

    __tablename__ = "coupon_entries"
    __table_args__ = (
        UniqueConstraint("checkout_id", "coupon_id", name="uq_coupon_entries_checkout_id_coupon_id"),
        Index("ix_coupon_entries_coupon_id_entered_at", "coupon_id", "entered_at"),
    )

    touch_id: TouchId = id_field(TouchId, primary_key=True)
    coupon_id: CouponId = id_field(CouponId, foreign_key="coupons.id")
    checkout_id: CheckoutId = id_field(CheckoutId)
    entered_at: datetime = utc_field()
    owner_touched: bool | None = None
