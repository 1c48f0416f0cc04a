"""The public verbs of stock, in one place."""

from supply.inventory.check import Drift, drifts, repair
from supply.inventory.feed import FeedResult, StockRow, StockRowResult, apply_stock
from supply.inventory.reservations import (
    StockRequest,
    commit,
    consume,
    consume_many,
    expire_reservations,
    release,
    release_part,
    reserve,
    reserve_many,
)
from supply.inventory.returns import ReturnedUnits, restock

__all__ = [
    "Drift",
    "FeedResult",
    "ReturnedUnits",
    "StockRequest",
    "StockRow",
    "StockRowResult",
    "apply_stock",
    "commit",
    "consume",
    "consume_many",
    "drifts",
    "expire_reservations",
    "release",
    "release_part",
    "repair",
    "reserve",
    "reserve_many",
    "restock",
]
