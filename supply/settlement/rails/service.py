"""The public verbs of sharing rails. Each lives in the file named for its rule."""

from supply.settlement.rails.composing import refund_shared
from supply.settlement.rails.recording import (
    rail_of,
    record_shared_delivery,
    record_shared_payment,
    register_rail_account,
)
from supply.settlement.rails.refunding import (
    reserve_shared_refund,
    retry_shared_refund,
    send_shared_refunds,
    void_shared_refund,
)
from supply.settlement.rails.sending import hasten, resolve_shares, send_shares
from supply.settlement.rails.settling import abandon_refused, retry_refused, settle_share

__all__ = [
    "abandon_refused",
    "hasten",
    "rail_of",
    "record_shared_delivery",
    "record_shared_payment",
    "refund_shared",
    "register_rail_account",
    "reserve_shared_refund",
    "resolve_shares",
    "retry_refused",
    "retry_shared_refund",
    "send_shared_refunds",
    "send_shares",
    "settle_share",
    "void_shared_refund",
]
