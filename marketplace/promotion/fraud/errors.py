from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound


class SignalNotFound(NotFound):
    code = "FRAUD_SIGNAL_NOT_FOUND"


class HoldNotFound(NotFound):
    code = "COMMISSION_HOLD_NOT_FOUND"


class AlreadyDecided(Conflict):
    """Somebody decided, or thirty days passed."""

    code = "FRAUD_ALREADY_DECIDED"

    def __init__(self, status: str) -> None:
        super().__init__(f"it is {status.lower()}")
        self.status_now = status


class LineNotHoldable(Conflict):
    """Only a line that is pending or confirmed can be held, and once by each side."""

    code = "COMMISSION_NOT_HOLDABLE"


class ReasonMissing(Invalid):
    code = "REASON_MISSING"
