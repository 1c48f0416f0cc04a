"""What disputes refuse, in the caller's terms."""

from __future__ import annotations

from datetime import datetime

from core.errors import Conflict, Invalid, NotFound


class DisputeNotFound(NotFound):
    code = "DISPUTE_NOT_FOUND"

    def __init__(self, dispute_id: str) -> None:
        super().__init__(f"no dispute {dispute_id} that concerns you", field="disputeId")
        self.dispute_id = dispute_id


class DisputeDecided(Conflict):
    """The bank has decided, or the inquiry is closed: nothing can be answered any more."""

    code = "DISPUTE_DECIDED"

    def __init__(self, dispute_id: str, stage: str) -> None:
        super().__init__(f"{dispute_id} is {stage}")
        self.dispute_id, self.stage = dispute_id, stage


class EvidenceTooLate(Conflict):
    code = "EVIDENCE_TOO_LATE"

    def __init__(self, dispute_id: str, due_at: datetime) -> None:
        super().__init__(f"evidence for {dispute_id} was due at {due_at.isoformat()}")
        self.dispute_id, self.due_at = dispute_id, due_at.isoformat()


class EvidenceSubmitted(Conflict):
    """Evidence was handed to the bank already; it takes none after that."""

    code = "EVIDENCE_SUBMITTED"

    def __init__(self, dispute_id: str) -> None:
        super().__init__(f"evidence for {dispute_id} is with the bank")
        self.dispute_id = dispute_id


class EvidenceInvalid(Invalid):
    """A field the bank does not know, or text it would not take."""

    code = "EVIDENCE_INVALID"


class DisputeNotLost(Conflict):
    code = "DISPUTE_NOT_LOST"

    def __init__(self, dispute_id: str) -> None:
        super().__init__(f"{dispute_id} is not lost, or not this order's")
        self.dispute_id = dispute_id


class NothingOwed(Conflict):
    code = "NOTHING_OWED"

    def __init__(self, dispute_id: str) -> None:
        super().__init__(f"nobody owes anything for {dispute_id}")
        self.dispute_id = dispute_id


class DisputeShared(Conflict):
    """The charge paid several merchants' orders: each may add to the evidence, an operator hands it in."""

    code = "DISPUTE_SHARED"

    def __init__(self, dispute_id: str) -> None:
        super().__init__(f"{dispute_id} concerns several merchants; an operator answers the bank")
        self.dispute_id = dispute_id
