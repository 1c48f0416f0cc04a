"""The public verbs of disputes; each lives in the file named for its rule."""

from supply.settlement.disputes.absorbing import absorb_loss
from supply.settlement.disputes.applying import (
    apply_dispute,
    find_missed_disputes,
    refresh,
    sweep_disputes,
)
from supply.settlement.disputes.evidence import FIELDS, concede, give_evidence

__all__ = [
    "FIELDS",
    "absorb_loss",
    "apply_dispute",
    "concede",
    "find_missed_disputes",
    "give_evidence",
    "refresh",
    "sweep_disputes",
]
