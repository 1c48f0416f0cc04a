"""The sharing rail port: a payment belongs to one merchant and is shared out by instructions (分账).

On such a rail the platform never holds money: it instructs, the rail pays, results come later. Amounts are integer
minor units, times aware UTC. Every call carries a number of the caller's own (``trade_no``, ``order_no``,
``return_no``, ``refund_no``): the same number with the same body is one call, however often it is sent.
Errors: ``infra.payments.errors``; ``ProviderRefused.provider_code`` holds the rail's code. Rules: money.md §0.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from core.clock import Clock
from infra.payments.gateway import WEBHOOK_TOLERANCE_S, Capabilities


class ReceiverKind(StrEnum):
    MERCHANT = "MERCHANT"
    INDIVIDUAL = "INDIVIDUAL"


class Relation(StrEnum):
    """What a receiver is to the merchant that names it."""

    SUPPLIER = "SUPPLIER"
    DISTRIBUTOR = "DISTRIBUTOR"
    PROMOTER = "PROMOTER"
    PLATFORM = "PLATFORM"
    PARTNER = "PARTNER"


class ShareState(StrEnum):
    PROCESSING = "PROCESSING"
    FINISHED = "FINISHED"


class ShareResult(StrEnum):
    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    CLOSED = "CLOSED"
    """Not paid; the amount is frozen with the payment again."""


@dataclass(frozen=True, slots=True)
class SharingMerchant:
    id: str
    name: str
    max_outward_ppm: int


@dataclass(frozen=True, slots=True)
class Receiver:
    kind: ReceiverKind
    account: str


@dataclass(frozen=True, slots=True)
class ShareTo:
    receiver: Receiver
    amount_minor: int
    description: str = ""


@dataclass(frozen=True, slots=True)
class SharedPayment:
    id: str
    trade_no: str
    merchant_id: str
    amount_minor: int
    currency: str
    fee_minor: int
    state: str
    """NOTPAY, SUCCESS or CLOSED."""
    paid_at: datetime | None
    refunded_minor: int
    pay_url: str


@dataclass(frozen=True, slots=True)
class ShareLine:
    receiver: Receiver
    amount_minor: int
    result: ShareResult
    detail_id: str
    failure: str | None


@dataclass(frozen=True, slots=True)
class ShareOrder:
    order_no: str
    payment_id: str
    state: ShareState
    finish: bool
    finished_at: datetime | None
    lines: tuple[ShareLine, ...]


@dataclass(frozen=True, slots=True)
class ShareReturn:
    return_no: str
    order_no: str
    payment_id: str
    account: str
    amount_minor: int
    state: str
    """PROCESSING, SUCCESS or FAILED."""
    failure: str | None


@dataclass(frozen=True, slots=True)
class SharingRefund:
    refund_no: str
    payment_id: str
    amount_minor: int
    fee_back_minor: int
    state: str
    """PROCESSING or SUCCESS."""


@dataclass(frozen=True, slots=True)
class LeftToShare:
    unsplit_minor: int
    outward_allowed_minor: int
    outward_used_minor: int
    unfrozen_at: datetime | None


@dataclass(frozen=True, slots=True)
class BillRow:
    """One movement of the daily bill. ``kind``: PAYMENT, FEE, SHARE, UNFREEZE, RETURN, REFUND or FEE_BACK;
    ``number`` is the caller's own number behind it. Amounts are above zero, the kind says which way."""

    at: datetime
    merchant_id: str
    payment_id: str
    kind: str
    number: str
    receiver: Receiver | None
    amount_minor: int
    result: str
    reason: str


@dataclass(frozen=True, slots=True)
class SharingNotice:
    """A verified notice. A hint: ask for the object before acting on it."""

    id: str
    type: str
    """TRANSACTION.SUCCESS, SHARING.FINISHED, SHARING.RETURNED, SHARING.UNFROZEN or REFUND.SUCCESS."""
    merchant_id: str | None
    payment_id: str | None
    number: str | None


class SharingRail(Protocol):
    def capabilities(self) -> Capabilities: ...

    async def register_merchant(self, *, party_ref: str, name: str) -> SharingMerchant: ...

    async def retrieve_merchant(self, merchant_id: str) -> SharingMerchant: ...

    async def platform_merchant(self) -> SharingMerchant:
        """Our own account: may receive our fee like any other receiver, never the payment itself."""
        ...

    async def pay(
        self,
        *,
        merchant_id: str,
        trade_no: str,
        amount_minor: int,
        currency: str,
        description: str,
        notify_url: str | None = None,
        payer: str | None = None,
    ) -> SharedPayment:
        """Opens a payment of one merchant, to be shared. Refused as POOLING_FORBIDDEN for our own account."""
        ...

    async def retrieve_payment(self, *, merchant_id: str, trade_no: str) -> SharedPayment: ...

    async def add_receiver(
        self, *, merchant_id: str, receiver: Receiver, relation: Relation, name: str = ""
    ) -> None:
        """Needed once before anything is shared with it; again does nothing."""
        ...

    async def share(
        self, *, merchant_id: str, payment_id: str, order_no: str, receivers: Sequence[ShareTo], finish: bool
    ) -> ShareOrder:
        """Accepted, not done: ask with ``retrieve_share``. ``finish`` gives the rest to the merchant after it."""
        ...

    async def retrieve_share(self, *, merchant_id: str, payment_id: str, order_no: str) -> ShareOrder | None:
        """None when the rail never got the request."""
        ...

    async def finish(self, *, merchant_id: str, payment_id: str, order_no: str) -> ShareOrder: ...

    async def left_to_share(self, *, merchant_id: str, payment_id: str) -> LeftToShare: ...

    async def take_back(
        self,
        *,
        merchant_id: str,
        payment_id: str,
        order_no: str,
        return_no: str,
        account: str,
        amount_minor: int,
    ) -> ShareReturn:
        """From a business only, within ``clawback_days``; the result comes later."""
        ...

    async def retrieve_return(self, *, merchant_id: str, return_no: str) -> ShareReturn | None: ...

    async def refund(
        self,
        *,
        merchant_id: str,
        payment_id: str,
        refund_no: str,
        amount_minor: int,
        from_available_minor: int = 0,
    ) -> SharingRefund:
        """Out of what is frozen, then what the merchant has there. ``from_available_minor`` of it, shares that
        were taken back, leaves the frozen money alone. NOT_ENOUGH_FUNDS: take shares back first."""
        ...

    async def retrieve_refund(self, *, merchant_id: str, refund_no: str) -> SharingRefund | None: ...

    async def bill(self, day: date) -> list[BillRow]:
        """The movements of a day of the rail's (UTC+8), checked against the announced hash. Raises
        ``ProviderRefused`` (BILL_NOT_READY) while the day lasts."""
        ...

    def verify_notice(
        self,
        raw: bytes,
        headers: Mapping[str, str],
        *,
        clock: Clock,
        tolerance_s: int = WEBHOOK_TOLERANCE_S,
    ) -> SharingNotice:
        """Raises ``WebhookRejected``."""
        ...

    async def close(self) -> None: ...
