"""Why a split cannot be paid on a rail: one class per reason, with the facts and a sentence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Obstacle(ABC):
    code: ClassVar[str]

    @abstractmethod
    def explain(self) -> str:
        """One sentence with the figures."""


@dataclass(frozen=True, slots=True)
class CapExceeded(Obstacle):
    """More is to leave the payment than the rail lets go to others."""

    code: ClassVar[str] = "CAP_EXCEEDED"
    paid_minor: int
    outward_minor: int
    allowed_minor: int

    @property
    def excess_minor(self) -> int:
        return self.outward_minor - self.allowed_minor

    def explain(self) -> str:
        shares = (_percent(each, self.paid_minor) for each in (self.outward_minor, self.allowed_minor))
        outward, allowed = shares
        return (
            f"{self.outward_minor} of {self.paid_minor} ({outward}) are to go to others, the rail allows "
            f"{self.allowed_minor} ({allowed}): {self.excess_minor} too much"
        )


@dataclass(frozen=True, slots=True)
class MerchantShort(Obstacle):
    """What the others are to get is more than the payment is worth after the rail's fee."""

    code: ClassVar[str] = "MERCHANT_SHORT"
    outward_minor: int
    shareable_minor: int

    @property
    def short_minor(self) -> int:
        return self.outward_minor - self.shareable_minor

    def explain(self) -> str:
        return f"{self.outward_minor} are to go to others, {self.shareable_minor} are there to share"


@dataclass(frozen=True, slots=True)
class ClawbackNeeded(Obstacle):
    """Promised before returns end, to somebody the rail can take nothing back from."""

    code: ClassVar[str] = "CLAWBACK_NEEDED"
    payee_id: str
    individual: bool
    amount_minor: int
    pay_by: datetime
    returns_until: datetime

    def explain(self) -> str:
        who = "an individual" if self.individual else "a business"
        return (
            f"{self.payee_id} is to be paid by {self.pay_by:%Y-%m-%d}, returns end {self.returns_until:%Y-%m-%d}: "
            f"the rail takes nothing back from {who}"
        )


@dataclass(frozen=True, slots=True)
class PromisedTooEarly(Obstacle):
    """Promised before it is due by its own terms, or before the rail can pay it."""

    code: ClassVar[str] = "PROMISED_TOO_EARLY"
    payee_id: str
    pay_by: datetime
    payable_at: datetime

    def explain(self) -> str:
        return f"{self.payee_id} is promised by {self.pay_by:%Y-%m-%d}, payable {self.payable_at:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class FreezeEndsFirst(Obstacle):
    """Due after the rail has given everything to the merchant by itself."""

    code: ClassVar[str] = "FREEZE_ENDS_FIRST"
    payee_id: str
    payable_at: datetime
    send_before: datetime

    def explain(self) -> str:
        return (
            f"{self.payee_id} is payable {self.payable_at:%Y-%m-%d}, the rail takes requests until "
            f"{self.send_before:%Y-%m-%d} and gives the rest to the merchant then"
        )


@dataclass(frozen=True, slots=True)
class TooManyReceivers(Obstacle):
    code: ClassVar[str] = "TOO_MANY_RECEIVERS"
    receivers: int
    limit: int

    def explain(self) -> str:
        return f"{self.receivers} receivers, one payment takes {self.limit}"


@dataclass(frozen=True, slots=True)
class PoolingForbidden(Obstacle):
    """One payment for several merchants would lie with the platform."""

    code: ClassVar[str] = "POOLING_FORBIDDEN"
    merchants: int

    def explain(self) -> str:
        return (
            f"a payment for {self.merchants} merchants would be pooled; the rail wants one payment for each"
        )


@dataclass(frozen=True, slots=True)
class CurrencyNotCarried(Obstacle):
    code: ClassVar[str] = "CURRENCY_NOT_CARRIED"
    currency: str
    carried: tuple[str, ...]

    def explain(self) -> str:
        return f"the rail carries {', '.join(self.carried)}, not {self.currency}"


@dataclass(frozen=True, slots=True)
class NoAccount(Obstacle):
    """A payee has no account on the rail."""

    code: ClassVar[str] = "NO_ACCOUNT"
    payee_id: str

    def explain(self) -> str:
        return f"{self.payee_id} has no account on the rail"


@dataclass(frozen=True, slots=True)
class CouponNotCarried(Obstacle):
    """Somebody else than the merchant and the supplier paid a part of the price: it would have to be paid into the
    rail, which shares out only what the customer paid."""

    code: ClassVar[str] = "COUPON_NOT_CARRIED"
    amount_minor: int

    def explain(self) -> str:
        return f"a coupon of {self.amount_minor} is paid by another party; the rail shares only what was paid"


def _percent(part: int, whole: int) -> str:
    tenths = part * 1_000 // whole if whole else 0
    return f"{tenths // 10}.{tenths % 10} %"
