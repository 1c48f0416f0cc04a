"""What a payment provider can answer besides yes: each class tells the caller what it may do next."""

from __future__ import annotations

from typing import ClassVar

from core.errors import Conflict, Invalid, LianyuError, Unauthenticated


class PaymentDeclined(LianyuError):
    """The payer's bank said no. Nothing moved; another payment method may be tried."""

    code: ClassVar[str] = "PAYMENT_DECLINED"
    status: ClassVar[int] = 402

    def __init__(self, message: str, *, decline_code: str | None, charge_id: str | None = None) -> None:
        super().__init__(message)
        self.decline_code, self.charge_id = decline_code, charge_id


class ProviderRefused(Invalid):
    """A definite no: the call had no effect and never will under this key. Void the reservation."""

    code = "PROVIDER_REFUSED"

    def __init__(
        self,
        message: str,
        *,
        provider_code: str | None,
        param: str | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.provider_code, self.param, self.http_status = provider_code, param, http_status


class ProviderUnavailable(LianyuError):
    """No answer, or an answer that does not say what happened.

    ``outcome_unknown`` is False only when the provider certainly did nothing (rate limited): then the
    same key may simply be sent again. Otherwise the reservation stays until a look-up has settled it;
    a 5xx is stored under its key at the provider and would be replayed.
    """

    code = "PROVIDER_UNAVAILABLE"
    status = 503

    def __init__(self, message: str, *, outcome_unknown: bool = True, http_status: int | None = None) -> None:
        super().__init__(message)
        self.outcome_unknown, self.http_status = outcome_unknown, http_status


class IdempotencyMismatch(Conflict):
    """The key was used before with another body: a bug of ours. Alert, never retry."""

    code = "IDEMPOTENCY_MISMATCH"

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key


class WebhookRejected(Unauthenticated):
    """Forged, malformed or too old: answer 400 and store nothing."""

    code = "WEBHOOK_REJECTED"
    status = 400
