"""The kinds of journals settlement posts, one per recipe of money.md §2."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    CAPTURE = "capture"
    PROVIDER_FEE = "provider_fee"
    FEE_RECHARGE = "fee_recharge"
    FUNDS_AVAILABLE = "funds_available"
    RELEASE = "release"
    REFUND_RESERVED = "refund_reserved"
    REFUND_SETTLED = "refund_settled"
    REFUND_VOIDED = "refund_voided"
    REVERSAL = "reversal"
    NETTING = "netting"
    WRITE_OFF = "write_off"
    PAYOUT_RESERVED = "payout_reserved"
    PAYOUT_SETTLED = "payout_settled"
    PAYOUT_VOIDED = "payout_voided"
    REROUTE = "reroute"
    SUSPENSE = "suspense"
    PROVIDER_CHARGE = "provider_charge"
    PROVIDER_RESERVE = "provider_reserve"
    CONVERSION = "conversion"
    CONVERSION_REALISED = "conversion_realised"
    ROW_SUSPENDED = "row_suspended"
    ROW_EXPLAINED = "row_explained"
    PLATFORM_PAYOUT = "platform_payout"
    PLATFORM_PAYOUT_ARRIVED = "platform_payout_arrived"
    PLATFORM_PAYOUT_RETURNED = "platform_payout_returned"
