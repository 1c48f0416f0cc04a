"""What a shop sends, row by row: strict, bounded, no field that is not named here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from core.errors import LianyuError
from core.money import MAX_MINOR, PPM
from marketplace.orders.address import Address
from marketplace.orders.own_checkout.errors import BadTelling
from marketplace.orders.own_checkout.models import EventKind
from marketplace.orders.own_checkout.told import (
    MOST_CODES,
    MOST_EVENTS,
    MOST_LINES,
    MOST_TOKENS,
    MOST_UNITS,
    BuyerTold,
    DiscountTold,
    EventTold,
    LineRefunded,
    LineTold,
    OrderContent,
    Telling,
)
from marketplace.promotion.coupons.models import Funder

Id = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Text = Annotated[str, StringConstraints(max_length=300)]
Minor = Annotated[int, Field(ge=0, le=MAX_MINOR, strict=True)]
Units = Annotated[int, Field(ge=1, le=MOST_UNITS, strict=True)]
UnitsOrNone = Annotated[int, Field(ge=0, le=MOST_UNITS, strict=True)]
Rate = Annotated[int, Field(ge=0, le=PPM, strict=True)]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LineIn(Body):
    reference: Id
    sku: Text | None = None
    title: Text = ""
    category: Text = ""
    quantity: Units
    unit_price_minor: Minor
    discount_minor: Minor = 0
    discount_funder: Funder | None = None
    tax_minor: Minor = 0
    tax_rate_ppm: Rate = 0
    tax_included: bool = True
    shipping_minor: Minor = 0

    def told(self) -> LineTold:
        return LineTold(
            self.reference, self.quantity, self.unit_price_minor, self.sku, self.title, self.category,
            self.discount_minor, self.discount_funder, self.tax_minor, self.tax_rate_ppm, self.tax_included,
            self.shipping_minor,
        )  # fmt: skip


class DiscountIn(Body):
    amount_minor: Minor
    funder: Funder


class BuyerIn(Body):
    email: Text | None = None
    phone: Text | None = None
    customer_id: Text | None = None


class AddressIn(Body):
    """Hashed at once, never kept; written as the buyer did."""

    line1: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    city: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    country: Country
    region: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{0,3}$")] = ""
    line2: Annotated[str, StringConstraints(max_length=200)] = ""
    postal_code: Annotated[str, StringConstraints(max_length=200)] = ""

    def told(self) -> Address:
        return Address("-", self.line1, self.city, self.country, self.region, self.line2, self.postal_code)


class OrderIn(Body):
    placed_at: AwareDatetime
    checkout_started_at: AwareDatetime | None = None
    currency: Currency
    total_minor: Minor
    lines: Annotated[list[LineIn], Field(min_length=1, max_length=MOST_LINES)]
    discounts: Annotated[list[DiscountIn], Field(max_length=50)] = []
    shipping_minor: Minor = 0
    buyer: BuyerIn
    address: AddressIn | None = None
    country: Country | None = None
    touches: Annotated[list[Text], Field(max_length=MOST_TOKENS)] = []
    sessions: Annotated[list[Text], Field(max_length=MOST_TOKENS)] = []
    coupon_codes: Annotated[list[Text], Field(max_length=MOST_CODES)] = []

    def told(self) -> OrderContent:
        return OrderContent(
            placed_at=self.placed_at,
            currency=self.currency,
            total_minor=self.total_minor,
            lines=[line.told() for line in self.lines],
            buyer=BuyerTold(self.buyer.email, self.buyer.phone, self.buyer.customer_id),
            checkout_started_at=self.checkout_started_at,
            discounts=[DiscountTold(each.amount_minor, each.funder) for each in self.discounts],
            shipping_minor=self.shipping_minor,
            touch_tokens=self.touches,
            sessions=self.sessions,
            coupon_codes=self.coupon_codes,
            country=self.country or (self.address.country if self.address else None),
            address=self.address.told() if self.address else None,
        )


class RefundedLineIn(Body):
    line: Id
    quantity: UnitsOrNone = 0
    amount_minor: Minor | None = None


class EventIn(Body):
    id: Id
    type: Literal["paid", "shipped", "delivered", "cancelled", "refunded"]
    at: AwareDatetime
    lines: Annotated[list[RefundedLineIn], Field(max_length=MOST_LINES)] = []
    shipping_minor: Minor = 0
    reason: Text = ""

    def told(self) -> EventTold:
        lines = [LineRefunded(each.line, each.quantity, each.amount_minor) for each in self.lines]
        return EventTold(self.id, EventKind(self.type), self.at, lines, self.shipping_minor, self.reason)


class RowIn(Body):
    reference: Id
    order: OrderIn | None = None
    events: Annotated[list[EventIn], Field(max_length=MOST_EVENTS)] = []

    def told(self) -> Telling:
        order = self.order.told() if self.order is not None else None
        return Telling(self.reference, order, [event.told() for event in self.events])


def telling_of(row: Any) -> Telling | LianyuError:
    """One row as it was sent, or why it is none."""
    try:
        return RowIn.model_validate(row).told()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(each) for each in first["loc"]) or "row"
        return BadTelling(f"{where}: {first['msg']}", field=where)
    except LianyuError as error:
        return error
