"""What a coupon takes off which line: pure arithmetic (cps.md §4 R1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.ids import BrandId
from core.money import PPM, allocate_minor
from marketplace.orders.pricing import SourcedLine
from marketplace.promotion.coupons.codes import Coupon
from marketplace.promotion.coupons.models import Funder
from marketplace.promotion.errors import CouponNotUsable


@dataclass(frozen=True, slots=True)
class Discountable:
    """``promised_ppm`` is the part of the line's price its seller's agreement promises it as commission."""

    line: SourcedLine
    promised_ppm: int = 0

    @property
    def gross_minor(self) -> int:
        return self.line.unit_price_minor * self.line.quantity

    def room(self, coupon: Coupon, seller: BrandId) -> int:
        """The most the coupon's funder can give on this line; 0 when the coupon is not for it.

        A supplier gives no more than it is paid, and a promoter no more than it is promised: beyond that somebody
        else would pay. A promoter's code is for the goods of its link's advertiser.
        """
        if coupon.advertiser_id not in (None, self.line.merchant_id):
            return 0
        match coupon.funder:
            case Funder.PLATFORM:
                return self.gross_minor
            case Funder.ADVERTISER:
                return self.gross_minor if self.line.merchant_id == coupon.owner_id else 0
            case Funder.SUPPLIER:
                cost = self.line.unit_cost_minor * self.line.quantity
                return min(self.gross_minor, cost) if self.line.supplier_id == coupon.owner_id else 0
            case Funder.PROMOTER:
                if coupon.owner_id != seller or self.line.merchant_id == seller:
                    return 0
                return self.gross_minor * self.promised_ppm // PPM


def discounts_of(coupon: Coupon, lines: Sequence[Discountable], *, seller: BrandId) -> list[int]:
    """What the coupon takes off each line: its worth over the lines it is for, by largest remainder.

    Raises ``CouponNotUsable`` when it is for none of them, or they are worth less than its minimum.
    """
    rooms = [line.room(coupon, seller) for line in lines]
    goods = sum(line.gross_minor for line, room in zip(lines, rooms, strict=True) if room)
    if not goods:
        raise CouponNotUsable(coupon.code, "other_goods")
    if goods < coupon.minimum_minor:
        raise CouponNotUsable(coupon.code, "minimum", minimum_minor=coupon.minimum_minor)
    return allocate_minor(min(coupon.worth(goods), sum(rooms)), rooms)
