"""What a shop tells, checked and reckoned up: pure.

What the customer paid for a line is its price, less its discount and its shares of the order's discounts, and tax where
that comes on top. Each order discount is shared by largest remainder over what is left of the lines before it (R1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from core.canonical import content_hash, to_micros
from core.money import MAX_MINOR, PPM, allocate_minor
from infra.db.text import storable
from marketplace.audiences.identity import IdentityVault, normalise
from marketplace.audiences.models import IdentifierKind
from marketplace.orders.address import Address, address_key
from marketplace.orders.own_checkout.errors import BadTelling, TotalDiffers
from marketplace.orders.own_checkout.models import EventKind
from marketplace.promotion.coupons.models import Funder

MOST_ROWS = 200
MOST_LINES = 200
MOST_EVENTS = 20
"""Of one order in one call; any number in all."""
MOST_CODES = 5
MOST_TOKENS = 50
MOST_UNITS = 9_999
CLOCK_SKEW = timedelta(minutes=5)
_LONGEST_ID, _LONGEST_TEXT = 100, 300
Identifier = tuple[IdentifierKind, str]


@dataclass(frozen=True, slots=True)
class LineTold:
    """Amounts are minor units; ``shipping_minor`` is what the customer pays for it, tax included."""

    reference: str
    quantity: int
    unit_price_minor: int
    sku: str | None = None
    title: str = ""
    category: str = ""
    discount_minor: int = 0
    discount_funder: Funder | None = None
    tax_minor: int = 0
    tax_ppm: int = 0
    tax_included: bool = True
    shipping_minor: int = 0

    @property
    def gross_minor(self) -> int:
        return self.unit_price_minor * self.quantity


@dataclass(frozen=True, slots=True)
class DiscountTold:
    amount_minor: int
    funder: Funder


@dataclass(frozen=True, slots=True)
class BuyerTold:
    """At least one of them. ``customer_id`` is the shop's own name for the buyer."""

    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    customer_id: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class OrderContent:
    """An order as it was placed. It never changes; what happens to it comes as events."""

    placed_at: datetime
    currency: str
    total_minor: int
    lines: Sequence[LineTold]
    buyer: BuyerTold
    checkout_started_at: datetime | None = None
    discounts: Sequence[DiscountTold] = ()
    shipping_minor: int = 0
    """Beside the lines' own."""
    touch_tokens: Sequence[str] = ()
    """``lyt`` of the addresses that the buyer came in by, oldest first."""
    sessions: Sequence[str] = ()
    """``lys`` cookies of the edge, where shop and edge share a domain."""
    coupon_codes: Sequence[str] = ()
    country: str | None = None
    address: Address | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class LineRefunded:
    """``quantity`` units of a line, or none; ``amount_minor`` what the customer got for it, tax included."""

    line: str
    quantity: int = 0
    amount_minor: int | None = None


@dataclass(frozen=True, slots=True)
class EventTold:
    id: str
    kind: EventKind
    at: datetime
    lines: Sequence[LineRefunded] = ()
    shipping_minor: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Telling:
    """One row: an order, events of it, or both."""

    reference: str
    content: OrderContent | None = None
    events: Sequence[EventTold] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """Who bought and where it went, as keyed hashes: all that is kept of them."""

    buyer_keys: tuple[bytes, ...]
    address_key: bytes
    identifiers: tuple[Identifier, ...] = field(repr=False)
    """Normalised, for comparing now; never stored."""


@dataclass(frozen=True, slots=True)
class LineReckoned:
    told: LineTold
    off_minor: int
    """The line's discount and its shares of the order's."""
    shipping_minor: int

    @property
    def goods_minor(self) -> int:
        """What the customer paid for the goods, tax included."""
        on_top = 0 if self.told.tax_included else self.told.tax_minor
        return self.told.gross_minor - self.off_minor + on_top


def check(telling: Telling, *, now: datetime) -> None:
    """Raises ``BadTelling`` and ``TotalDiffers``."""
    _require(
        is_reference(telling.reference),
        "reference",
        f"1 to {_LONGEST_ID} printable characters without spaces",
    )
    _require(bool(telling.content or telling.events), "order", "an order, events of it, or both")
    _require(len(telling.events) <= MOST_EVENTS, "events", f"at most {MOST_EVENTS} in a row")
    if telling.content is not None:
        _check_content(telling.content, now)
    for event in telling.events:
        _check_event(event, now)


def _check_content(order: OrderContent, now: datetime) -> None:
    _require(order.placed_at <= now + CLOCK_SKEW, "placed_at", "not to come")
    began = order.checkout_started_at
    _require(began is None or began <= order.placed_at, "checkout_started_at", "not after placed_at")
    _require(1 <= len(order.lines) <= MOST_LINES, "lines", f"1 to {MOST_LINES}")
    references = {line.reference for line in order.lines}
    _require(len(references) == len(order.lines), "lines", "each reference once")
    for line in order.lines:
        _check_line(line)
    _require(len(order.coupon_codes) <= MOST_CODES, "coupon_codes", f"at most {MOST_CODES}")
    codes = all(len(code) <= _LONGEST_ID and storable(code) for code in order.coupon_codes)
    _require(codes, "coupon_codes", f"of at most {_LONGEST_ID} characters")
    tokens = (*order.touch_tokens, *order.sessions)
    signed = len(tokens) <= MOST_TOKENS and all(
        len(t) <= 200 and t.isascii() and t.isprintable() for t in tokens
    )
    _require(signed, "touches", f"at most {MOST_TOKENS} of what the edge gave the shop")
    named = (order.buyer.email, order.buyer.phone, order.buyer.customer_id)
    _require(any(named), "buyer", "an e-mail address, a phone number or a customer id")
    left = sum(line.gross_minor - line.discount_minor for line in order.lines)
    off = sum(discount.amount_minor for discount in order.discounts)
    _require(off <= left, "discounts", "not more than the goods cost")
    reckoned = sum(line.goods_minor + line.shipping_minor for line in reckon(order))
    _require(reckoned <= MAX_MINOR, "lines", f"at most {MAX_MINOR} in all")
    if reckoned != order.total_minor:
        raise TotalDiffers(order.total_minor, reckoned)


def _check_line(line: LineTold) -> None:
    _require(is_reference(line.reference), "lines.reference", f"1 to {_LONGEST_ID} printable characters")
    _require(line.sku is not None or bool(line.title), "lines.title", "without a SKU a line needs its title")
    texts = (line.sku or "", line.title, line.category)
    fits = all(len(each) <= _LONGEST_TEXT and storable(each) for each in texts)
    _require(fits, "lines", f"texts of at most {_LONGEST_TEXT} characters")
    _require(1 <= line.quantity <= MOST_UNITS, "lines.quantity", f"1 to {MOST_UNITS}")
    _require(line.discount_minor <= line.gross_minor, "lines.discount_minor", "not more than the line costs")
    has_funder = line.discount_funder is not None
    _require(
        (line.discount_minor > 0) == has_funder, "lines.discount_funder", "who pays the discount, if any"
    )
    _require(0 <= line.tax_ppm <= PPM, "lines.tax_ppm", f"0 to {PPM}")
    told = not line.tax_included or (line.tax_minor > 0) <= (line.tax_ppm > 0)
    _require(told, "lines.tax_ppm", "the rate of the tax inside the price")


def _check_event(event: EventTold, now: datetime) -> None:
    _require(is_reference(event.id), "events.id", f"1 to {_LONGEST_ID} printable characters without spaces")
    _require(event.at <= now + CLOCK_SKEW, "events.at", "not to come")
    _require(len(event.reason) <= _LONGEST_TEXT and storable(event.reason), "events.reason", "a short text")
    refunds = event.kind is EventKind.REFUNDED
    _require(refunds or not (event.lines or event.shipping_minor), "events.lines", "only of a refund")
    _require(not refunds or bool(event.lines or event.shipping_minor), "events.lines", "what came back")
    names = [line.line for line in event.lines]
    _require(len(set(names)) == len(names), "events.lines", "each line once")
    for line in event.lines:
        _require(0 <= line.quantity <= MOST_UNITS, "events.lines.quantity", f"0 to {MOST_UNITS}")
        given = line.quantity > 0 or bool(line.amount_minor)
        _require(given, "events.lines", "units, an amount, or both")


def reckon(order: OrderContent) -> list[LineReckoned]:
    """What was paid for each line, in the order's sequence; shipping of the order is the first line's."""
    left = [line.gross_minor - line.discount_minor for line in order.lines]
    off = [line.discount_minor for line in order.lines]
    for lowers in (True, False):
        sums = sum(each.amount_minor for each in order.discounts if each.funder.lowers_price is lowers)
        shares = allocate_minor(sums, left) if sums else [0] * len(left)
        left = [each - share for each, share in zip(left, shares, strict=True)]
        off = [each + share for each, share in zip(off, shares, strict=True)]
    shipping = [line.shipping_minor for line in order.lines]
    shipping[0] += order.shipping_minor
    return [LineReckoned(*each) for each in zip(order.lines, off, shipping, strict=True)]


def known_of(order: OrderContent, brand: bytes, secret: str) -> Known:
    """Hashes of who bought, under the platform's keys. Raises ``MalformedIdentifier``.

    A customer id is one shop's own name, so it is hashed with the brand's (``brand``).
    """
    vault, buyer = IdentityVault(secret), order.buyer
    given = (
        (IdentifierKind.EMAIL, buyer.email), (IdentifierKind.PHONE, buyer.phone),
        (IdentifierKind.CUSTOMER, buyer.customer_id),
    )  # fmt: skip
    identifiers = tuple((kind, normalise(kind, value)) for kind, value in given if value)
    keys = tuple(
        bytes.fromhex(vault.person(kind, brand.hex() + value if kind is IdentifierKind.CUSTOMER else value))
        for kind, value in identifiers
    )
    where = address_key(secret, order.address) if order.address is not None else b""
    return Known(keys, where, identifiers)


def content_json(order: OrderContent) -> dict[str, Any]:
    """What is kept of it: nothing of the buyer."""
    return {
        "placed_at": to_micros(order.placed_at), "currency": order.currency, "total": order.total_minor,
        "checkout_started_at": to_micros(order.checkout_started_at) if order.checkout_started_at else None,
        "lines": [
            [
                line.reference, line.quantity, line.unit_price_minor, line.sku, line.title, line.category,
                line.discount_minor, line.discount_funder, line.tax_minor, line.tax_ppm, line.tax_included,
                line.shipping_minor,
            ]
            for line in order.lines
        ],
        "discounts": [[each.amount_minor, each.funder] for each in order.discounts],
        "shipping": order.shipping_minor, "touches": list(order.touch_tokens), "codes": list(order.coupon_codes),
        "sessions": list(order.sessions), "country": order.country,
    }  # fmt: skip


def hash_of(order: OrderContent, known: Known) -> str:
    """Of everything that was told, who bought included."""
    keys = [key.hex() for key in known.buyer_keys]
    return content_hash([content_json(order), keys, known.address_key.hex()])


def event_json(event: EventTold) -> dict[str, Any]:
    lines = [[each.line, each.quantity, each.amount_minor] for each in event.lines]
    return {"lines": lines, "shipping": event.shipping_minor, "reason": event.reason}


def event_hash(reference: str, event: EventTold) -> str:
    return content_hash([reference, event.kind, to_micros(event.at), event_json(event)])


def discounts_of(content: dict[str, Any]) -> list[DiscountTold]:
    return [DiscountTold(amount, Funder(funder)) for amount, funder in content["discounts"]]


def is_reference(value: str) -> bool:
    """Whether it can be a shop's name for an order, a line or an event."""
    return 1 <= len(value) <= _LONGEST_ID and value.isascii() and value.isprintable() and " " not in value


def _require(holds: bool, where: str, allowed: str) -> None:
    if not holds:
        raise BadTelling(f"{where}: {allowed}", field=where)
