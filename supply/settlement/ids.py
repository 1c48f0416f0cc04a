from __future__ import annotations

from core.ids import TypedId


class SplitLineId(TypedId):
    """What one supplier delivers of one order line, or the shipping charged for it."""

    prefix = "spl"


class EvidenceId(TypedId):
    """One answer to a dispute."""

    prefix = "evi"


class ReconciliationRunId(TypedId):
    prefix = "rcn"


class PlatformPayoutId(TypedId):
    prefix = "ppo"


class RecoveryId(TypedId):
    """A transfer taken back from a party that owes."""

    prefix = "rec"


class WriteOffId(TypedId):
    prefix = "wro"


class ContestId(TypedId):
    """A party's objection to a line of its statement."""

    prefix = "cts"
