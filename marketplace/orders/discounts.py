"""What a coupon takes off which line: pure arithmetic (cps.md §4 R1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.ids import BrandId
from core.money import allocate_minor
from marketplace.orders.pricing import SourcedLine, included_tax
from marketplace.promotion.agreements.promises import Promise
from marketplace.promotion.coupons.codes import Coupon
from marketplace.promotion.coupons.models import Funder
from marketplace.promotion.errors import CouponNotUsable


@dataclass(frozen=True, slots=True)
class Discountable:
    """``promises`` are what the agreements of its seller pay for it."""

    line: SourcedLine
    promises: Sequence[Promise] = ()

    @property
    def gross_minor(self) -> int:
        return self.line.unit_price_minor * self.line.quantity

    @property
    def basis_minor(self) -> int:
        """R1 where nobody lowers it: the price without the tax inside it."""
        tax = self.line.tax
        return self.gross_minor - (included_tax(self.gross_minor, tax.rate_ppm) if tax.included else 0)

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
                sure = [each.sure_for_brand(self.basis_minor, self.line.quantity) for each in self.promises]
                return max(sure, default=0)


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
