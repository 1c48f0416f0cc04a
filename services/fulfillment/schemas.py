"""Bodies of the fulfilment API: strict, bounded, no field that is not named here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from core.money import MAX_MINOR, PPM, Money
from marketplace.promotion.coupons.codes import MOST_USES
from supply.fulfillment.refusing import RejectReason
from supply.fulfillment.shipping import ShipmentStatus
from supply.inventory.feed import MAX_ROWS, MAX_UNITS

_NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"
Word = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=_NO_CONTROL, strip_whitespace=True)
]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=_NO_CONTROL, strip_whitespace=True)
]
Note = Annotated[str, StringConstraints(max_length=500, pattern=_NO_CONTROL)]
IdText = Annotated[str, StringConstraints(min_length=5, max_length=40, pattern=r"^[a-z]+_[0-9a-z]+$")]
Units = Annotated[int, Field(ge=1, le=MAX_UNITS, strict=True)]
UnitsOrNone = Annotated[int, Field(ge=0, le=MAX_UNITS, strict=True)]
Minor = Annotated[int, Field(ge=0, le=MAX_MINOR, strict=True)]
Hours = Annotated[int, Field(ge=0, le=8_760, strict=True)]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
Region = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{1,10}$")]
Zone = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,10})*$")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MoneyIn(Body):
    """``amount`` as a decimal string ("12.50"), or ``amount_minor`` in the smallest unit (1250)."""

    currency: Currency
    amount: Annotated[str, StringConstraints(max_length=32)] | None = None
    amount_minor: Minor | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.amount is None) == (self.amount_minor is None):
            raise ValueError("give either amount or amount_minor")
        return self

    def money(self) -> Money:
        """Raises ``UnknownCurrency`` and ``MalformedAmount``."""
        if self.amount is not None:
            return Money.parse(self.amount, self.currency)
        return Money(self.amount_minor or 0, self.currency)


class LineUnits(Body):
    line_id: IdText
    quantity: UnitsOrNone


Lines = Annotated[list[LineUnits], Field(min_length=1, max_length=500)]


class ReturnUnits(Body):
    order_line_id: IdText
    quantity: UnitsOrNone


class ReturnReceive(Body):
    """Units that arrived, by order line: as many as announced, or fewer."""

    lines: Annotated[list[ReturnUnits], Field(min_length=1, max_length=500)]


class ReturnAccepted(ReturnUnits):
    """``damaged`` of the units cannot be sold again; the others are back on the shelf they were shipped from."""

    damaged: UnitsOrNone = 0


class ReturnInspect(Body):
    """Units taken back, by order line: your cost of these is given back. None: nothing is taken back."""

    accepted: Annotated[list[ReturnAccepted], Field(max_length=500)] = []


class CouponIn(Body):
    """``amount`` off, or ``rate_ppm`` of the goods (millionths), at most ``most``. One of the two."""

    code: Word
    currency: Currency
    amount: MoneyIn | None = None
    rate_ppm: Annotated[int, Field(ge=1, le=PPM, strict=True)] | None = None
    most: MoneyIn | None = None
    minimum: MoneyIn | None = None
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None
    max_uses: Annotated[int, Field(ge=1, le=MOST_USES, strict=True)] | None = None


class Accept(Body):
    pass


class AcceptPartial(Body):
    """Units accepted by line; a line that is absent is refused whole."""

    lines: Lines
    reason: RejectReason = RejectReason.NOT_IN_STOCK


class Reject(Body):
    reason: RejectReason
    note: Note | None = None


class CannotComplete(Body):
    reason: RejectReason


class Ship(Body):
    """Without ``lines``, everything outstanding. ``handed_over_at`` is now when absent."""

    carrier: Word
    tracking_no: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/ -]{1,64}$", strip_whitespace=True)]
    lines: Lines | None = None
    handed_over_at: AwareDatetime | None = None


class Deliver(Body):
    delivered_at: AwareDatetime | None = None
    proof: Note | None = None


class Scan(Body):
    event_id: Word
    status: ShipmentStatus
    at: AwareDatetime
    correction: bool = False
    raw: Note | None = None


class Tracking(Body):
    events: Annotated[list[Scan], Field(min_length=1, max_length=100)]


class Lost(Body):
    returned_to_sender: bool = False


class AcceptCancel(Body):
    pass


class RejectCancel(Body):
    """``label``: the number already printed, needed while nothing has shipped."""

    label: Word | None = None


class Acknowledgement(Body):
    fulfillment_order_id: IdText
    action: Literal["accept", "reject"] = "accept"
    reason: RejectReason | None = None

    @model_validator(mode="after")
    def _a_refusal_has_a_reason(self) -> Self:
        if self.action == "reject" and self.reason is None:
            raise ValueError("a rejection needs its reason")
        return self


class BatchAck(Body):
    items: Annotated[list[Acknowledgement], Field(min_length=1, max_length=100)]


class Profile(Body):
    accept_mode: Literal["auto", "manual"] | None = None
    accept_sla_min: Annotated[int, Field(ge=1, le=43_200)] | None = None
    ship_sla_hours: Annotated[int, Field(ge=1, le=2_160)] | None = None
    feed_stale_after_min: Annotated[int, Field(ge=1, le=525_600)] | None = None


class LocationIn(Body):
    """``handling`` is charged once per shipment; its currency is the location's."""

    code: Word
    name: Name
    country: Country
    region: Region | None = None
    handling: MoneyIn
    handling_hours: Annotated[int, Field(ge=0, le=2_160, strict=True)] = 24
    daily_capacity: UnitsOrNone | None = None
    accepts_returns: bool = True


class LocationPatch(Body):
    status: Literal["active", "paused"]


class OfferIn(Body):
    """``brand_id`` is needed only where two brands share a SKU."""

    location_id: IdText
    unit_cost: MoneyIn
    brand_id: IdText | None = None
    supplier_sku: Word | None = None
    moq: Units = 1
    order_multiple: Units = 1
    lead_time_hours: Hours = 24
    priority: Annotated[int, Field(ge=-1_000, le=1_000, strict=True)] = 0
    valid_from: AwareDatetime | None = None
    valid_to: AwareDatetime | None = None


class OfferWithSku(OfferIn):
    sku: Word


class OffersIn(Body):
    offers: Annotated[list[OfferWithSku], Field(min_length=1, max_length=MAX_ROWS)]


class RateIn(Body):
    """Freight of one shipment: base + per started kilogram + per item, in the location's currency."""

    dest_zone: Zone
    base: MoneyIn
    per_kg_minor: Minor = 0
    per_item_minor: Minor = 0
    transit_p50_h: Hours = 48
    transit_p90_h: Hours = 96
    max_weight_g: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] | None = None
    service: Word = "standard"

    @model_validator(mode="after")
    def _slow_is_not_faster(self) -> Self:
        if self.transit_p90_h < self.transit_p50_h:
            raise ValueError("transit_p90_h is at least transit_p50_h")
        return self


class ZoneRatesIn(Body):
    rates: Annotated[list[RateIn], Field(max_length=500)]


class StockRowIn(Body):
    """Either ``on_hand`` (a count as of ``as_of``) or ``delta`` with its ``event_id``.

    Quantities are checked row by row, so that one absurd number does not stop a feed.
    """

    location_id: IdText
    sku: Word
    brand_id: IdText | None = None
    on_hand: int | None = None
    delta: int | None = None
    as_of: AwareDatetime | None = None
    event_id: Word | None = None
    safety: int | None = None


class StockIn(Body):
    rows: Annotated[list[StockRowIn], Field(min_length=1, max_length=MAX_ROWS)]


class PriceIn(Body):
    sku: Word
    location_id: IdText
    brand_id: IdText | None = None
    unit_cost: MoneyIn
    effective_at: AwareDatetime | None = None


class PricesIn(Body):
    prices: Annotated[list[PriceIn], Field(min_length=1, max_length=MAX_ROWS)]


class WebhookIn(Body):
    url: Annotated[str, StringConstraints(min_length=8, max_length=2_000, pattern=_NO_CONTROL)]
    events: Annotated[list[Word], Field(max_length=50)] = []


class WebhookPatch(Body):
    url: Annotated[str, StringConstraints(min_length=8, max_length=2_000, pattern=_NO_CONTROL)] | None = None
    events: Annotated[list[Word], Field(max_length=50)] | None = None
    active: bool | None = None
