from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound


class DisputeNotFound(NotFound):
    code = "COMMISSION_DISPUTE_NOT_FOUND"


class NothingToDispute(NotFound):
    """It is not there, not yours to dispute, or not in a state that can be disputed."""

    code = "NOTHING_TO_DISPUTE"


class DisputeTooLate(Conflict):
    """The statement it belongs to was closed longer ago than the agreement allows."""

    code = "COMMISSION_DISPUTE_TOO_LATE"

    def __init__(self, until: object) -> None:
        super().__init__(f"it could be disputed until {until}")
        self.until = str(until)


class AlreadyDisputed(Conflict):
    code = "COMMISSION_ALREADY_DISPUTED"


class DisputeMoved(Conflict):
    """It is not this side's turn, or the dispute has ended."""

    code = "COMMISSION_DISPUTE_MOVED"


class BadDispute(Invalid):
    code = "BAD_COMMISSION_DISPUTE"
