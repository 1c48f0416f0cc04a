"""The kinds of journals of sharing rails. All but the platform's own fee move memorandum accounts only."""

from __future__ import annotations

from enum import StrEnum


class RailKind(StrEnum):
    RECORDED = "rail_recorded"
    INSTRUCTED = "rail_instructed"
    SETTLED = "rail_settled"
    VOIDED = "rail_voided"
    FINISHED = "rail_finished"
    LOST = "rail_lost"
    REFUND_RESERVED = "rail_refund_reserved"
    REFUND_SETTLED = "rail_refund_settled"
    REFUND_VOIDED = "rail_refund_voided"
    FEE_RETURNED = "rail_fee_returned"
