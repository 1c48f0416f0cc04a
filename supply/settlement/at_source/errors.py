"""What is refused about debts that a party pays itself."""

from __future__ import annotations

from core.errors import Conflict, Invalid, Unavailable


class NoDebt(Conflict):
    code = "NO_DEBT"

    def __init__(self, currency: str) -> None:
        super().__init__(f"nothing is due in {currency}")
        self.currency = currency


class DebtPaymentTooLarge(Conflict):
    """More than is owed now: a part of it may have been netted a moment ago."""

    code = "DEBT_PAYMENT_TOO_LARGE"

    def __init__(self, asked: int, owed: int) -> None:
        super().__init__(f"{asked} asked to pay, {owed} owed")
        self.asked, self.owed = asked, owed


class DebtPaymentTooSmall(Invalid):
    code = "DEBT_PAYMENT_TOO_SMALL"


class DebtPaymentUnavailable(Unavailable):
    """Nothing has changed: ask again."""

    code = "DEBT_PAYMENT_UNAVAILABLE"
