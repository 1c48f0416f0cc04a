"""The public verbs of fulfilment, in one place; each lives in the file of its rule."""

from supply.fulfillment.cancelling import (
    accept_cancel,
    cancel_unshipped,
    hold,
    reject_cancel,
    release_hold,
    request_cancel,
)
from supply.fulfillment.manifests import Arrival, Departure, deliver_many, ship_many
from supply.fulfillment.moving import lock_refused, move
from supply.fulfillment.placing import (
    NewFulfillmentLine,
    NewFulfillmentOrder,
    create,
    release_for_submission,
)
from supply.fulfillment.refusing import RejectReason, accept, accept_partial, cannot_complete, reject
from supply.fulfillment.returning import TakenBack, take_back
from supply.fulfillment.shipping import (
    ShipmentStatus,
    TrackingUpdate,
    deliver,
    mark_lost,
    record_tracking,
    ship,
)
from supply.fulfillment.sla import sweep_clocks

__all__ = [
    "Arrival",
    "Departure",
    "NewFulfillmentLine",
    "NewFulfillmentOrder",
    "RejectReason",
    "ShipmentStatus",
    "TakenBack",
    "TrackingUpdate",
    "accept",
    "accept_cancel",
    "accept_partial",
    "cancel_unshipped",
    "cannot_complete",
    "create",
    "deliver",
    "deliver_many",
    "hold",
    "lock_refused",
    "mark_lost",
    "move",
    "record_tracking",
    "reject",
    "reject_cancel",
    "release_for_submission",
    "release_hold",
    "request_cancel",
    "ship",
    "ship_many",
    "sweep_clocks",
    "take_back",
]
