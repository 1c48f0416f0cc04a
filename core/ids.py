"""Typed, prefixed, time-sortable identifiers.

In the database an id is a plain ``uuid`` (UUIDv7, RFC 9562: rows created together lie together). Outside it
is ``prefix_`` + 26 letters of Crockford's base 32, as in the TypeID specification, so that a person can see
what an id names and one kind can never be passed for another.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Self
from uuid import UUID

from core.errors import Invalid

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_LENGTH = 26


class MalformedId(Invalid):
    code = "MALFORMED_ID"

    def __init__(self, text: str, expected: str) -> None:
        super().__init__(f"{text[:64]!r} is not an id of the form {expected}_…")
        self.text, self.expected = text[:64], expected


class TypedId(UUID):
    """A UUID that knows what it names. ``str()`` gives the outer form; it binds as a ``uuid``."""

    prefix: ClassVar[str] = ""

    @classmethod
    def new(cls) -> Self:
        return cls(int=_uuid7())

    @classmethod
    def of(cls, value: UUID) -> Self:
        """The same 128 bits under this type (a row read from the database)."""
        return cls(int=value.int)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the outer form. Raises ``MalformedId`` for another prefix, length or letter."""
        prefix, _, body = text.rpartition("_")
        if prefix != cls.prefix or len(body) != _LENGTH or body[0] > "7":
            raise MalformedId(text, cls.prefix)
        number = 0
        for letter in body:
            value = _VALUES.get(letter)
            if value is None:
                raise MalformedId(text, cls.prefix)
            number = number << 5 | value
        return cls(int=number)

    def __str__(self) -> str:
        return self.outer(self.int)

    @classmethod
    def outer(cls, number: int) -> str:
        """The outer form of 128 bits, for where a million of them are written."""
        p = _PAIRS
        return (
            f"{cls.prefix}_{p[number >> 120]}{p[number >> 110 & 1023]}{p[number >> 100 & 1023]}"
            f"{p[number >> 90 & 1023]}{p[number >> 80 & 1023]}{p[number >> 70 & 1023]}"
            f"{p[number >> 60 & 1023]}{p[number >> 50 & 1023]}{p[number >> 40 & 1023]}"
            f"{p[number >> 30 & 1023]}{p[number >> 20 & 1023]}{p[number >> 10 & 1023]}{p[number & 1023]}"
        )

    def __repr__(self) -> str:
        return str(self)


_lock = threading.Lock()
_last = 0
_draw: Callable[[int], bytes] = os.urandom
_time_ns: Callable[[], int] = time.time_ns


def _uuid7() -> int:
    """A UUIDv7 that is larger than every one this process made before (RFC 9562 §6.2, method 2)."""
    global _last
    random = int.from_bytes(_draw(10))
    candidate = _time_ns() // 1_000_000 << 74 | random & (1 << 74) - 1
    with _lock:
        if candidate <= _last:
            candidate = _last + 1 + (random >> 60)
        _last = candidate
    head, tail = candidate >> 62, candidate & (1 << 62) - 1
    return head >> 12 << 80 | 7 << 76 | (head & 0xFFF) << 64 | 2 << 62 | tail


@contextmanager
def ids_drawn_from(draw: Callable[[int], bytes], time_ns: Callable[[], int]) -> Iterator[None]:
    """Ids of this process follow from ``draw`` (so many random bytes) and ``time_ns`` inside the block.

    For a simulation, which must repeat itself: hashes and sets put things in order by their ids. They grow inside
    the block as ever, and after it again above those from before it.
    """
    global _draw, _time_ns, _last
    before = _draw, _time_ns, _last
    _draw, _time_ns, _last = draw, time_ns, 0
    try:
        yield
    finally:
        _draw, _time_ns, _last = before


class TenantId(TypedId):
    """Whoever owns rows: a brand, a supplier, or the platform. Brand and supplier ids are tenant ids."""

    prefix = "ten"


class BrandId(TenantId):
    prefix = "brd"


class SupplierId(TenantId):
    prefix = "sup"


class UserId(TypedId):
    prefix = "usr"


class TokenId(TypedId):
    prefix = "tok"


class StorefrontId(TypedId):
    prefix = "sfr"


class ProductId(TypedId):
    prefix = "prd"


class VariantId(TypedId):
    prefix = "var"


class ImportId(TypedId):
    prefix = "imp"


class ContactId(TypedId):
    prefix = "con"


class CommunityId(TypedId):
    prefix = "com"


class PlacementId(TypedId):
    prefix = "plc"


class InvitationId(TypedId):
    prefix = "inv"


class AgreementId(TypedId):
    prefix = "agr"


class PromoterId(TypedId):
    prefix = "pro"


class LinkId(TypedId):
    prefix = "lnk"


class TouchId(TypedId):
    """A click, scan, coupon entry or lead. Never reused, whoever clicks."""

    prefix = "tch"


class DecisionId(TypedId):
    prefix = "att"


class CommissionLineId(TypedId):
    prefix = "cml"


class ProposalId(TypedId):
    prefix = "prp"


class LocationId(TypedId):
    prefix = "loc"


class OfferId(TypedId):
    """A supplier's offer of one SKU at one location."""

    prefix = "ofr"


class ReservationId(TypedId):
    prefix = "rsv"


class RoutingRunId(TypedId):
    prefix = "rrn"


class FulfillmentOrderId(TypedId):
    prefix = "ful"


class FulfillmentLineId(TypedId):
    prefix = "fln"


class ShipmentId(TypedId):
    prefix = "shp"


class CartId(TypedId):
    prefix = "crt"


class CartLineId(TypedId):
    prefix = "cln"


class CheckoutId(TypedId):
    """An order group: what one shopper pays at once; one order per merchant brand inside."""

    prefix = "chk"


class OrderId(TypedId):
    prefix = "ord"


class OrderLineId(TypedId):
    prefix = "oln"


class PaymentId(TypedId):
    prefix = "pay"


class RefundId(TypedId):
    prefix = "rfd"


class AccountId(TypedId):
    """A ledger account."""

    prefix = "acc"


class JournalId(TypedId):
    prefix = "jrn"


class StatementId(TypedId):
    prefix = "stm"


class PayoutBatchId(TypedId):
    prefix = "pob"


class PayoutId(TypedId):
    prefix = "pot"


class MessageId(TypedId):
    """An outbox message."""

    prefix = "msg"


class WebhookEndpointId(TypedId):
    prefix = "whe"


class SigningSecretId(TypedId):
    """What a storefront of a brand signs its messages to us with."""

    prefix = "sgs"


class DeliveryId(TypedId):
    prefix = "whd"
