"""The public verbs of sharing rails. Each lives in the file named for its rule."""

from supply.settlement.rails.recording import (
    rail_of,
    record_shared_delivery,
    record_shared_payment,
    register_rail_account,
)
from supply.settlement.rails.sending import hasten, resolve_shares, send_shares
from supply.settlement.rails.settling import abandon_refused, retry_refused, settle_share

__all__ = [
    "abandon_refused",
    "hasten",
    "rail_of",
    "record_shared_delivery",
    "record_shared_payment",
    "register_rail_account",
    "resolve_shares",
    "retry_refused",
    "send_shares",
    "settle_share",
]
