"""What happened to the recorded orders, merged into one stream in the order in which a clock can pass it.

A fact keeps its recorded instant (``at``). It is *due* when the clock reaches it, but never before the step it
needs: a parcel handed over before the payment was approved is taken in at the approval, with its own date.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from services.replay.files import SourceOrder

RELEASE_AFTER = timedelta(days=45)
"""Settlement pays out after this long without news of a delivery (cps.md §2)."""
_IN_TIME = RELEASE_AFTER - timedelta(days=1)
DELIVERED, SHIPPED, CANCELED, UNAVAILABLE = "delivered", "shipped", "canceled", "unavailable"


class Step(IntEnum):
    """In the order of one order's life; steps of one instant are taken in this order."""

    PLACE = 0
    PAY = 1
    GIVE_UP = 2
    """The seller cannot deliver after all, and nobody else sells it."""
    SHIP = 3
    OVERDUE = 4
    """Not there when promised: what is earned by it stays pending."""
    DELIVER = 5
    CANCEL = 6


@dataclass(frozen=True, slots=True)
class Happening:
    """``order`` is the place of the order in the source."""

    due: datetime
    order: int
    step: Step
    at: datetime


def timeline(orders: Sequence[SourceOrder]) -> list[Happening]:
    """All happenings by due time, then order, then step."""
    found = [each for place, order in enumerate(orders) for each in happenings_of(order, place)]
    found.sort(key=lambda each: (each.due, each.order, each.step))
    return found


def happenings_of(order: SourceOrder, place: int) -> list[Happening]:
    found = [Happening(order.purchased_at, place, Step.PLACE, order.purchased_at)]
    paid_at = paid(order)
    if paid_at is not None:
        ready = max(paid_at, order.purchased_at)
        found.append(Happening(ready, place, Step.PAY, paid_at))
        if order.items:
            found += _fulfilment(order, place, ready)
    last = max(each.due for each in found)
    if order.status == CANCELED:
        # The source does not say when: right after the last thing it does say.
        found.append(Happening(last, place, Step.CANCEL, last))
    elif order.status == UNAVAILABLE:
        due = max(last, deadline(order))
        found.append(Happening(due, place, Step.CANCEL, due))
    return found


def paid(order: SourceOrder) -> datetime | None:
    """When the payment was approved; at the purchase where nobody wrote it down but the goods left."""
    if order.approved_at is not None:
        return order.approved_at
    return order.purchased_at if _left(order) else None


def deadline(order: SourceOrder) -> datetime:
    """The promised day, or a day before settlement would stop waiting, whichever comes first."""
    paid_at = paid(order) or order.purchased_at
    latest = paid_at + RELEASE_AFTER - timedelta(days=1)
    return max(min(order.promised_at or latest, latest), paid_at, order.purchased_at)


def _left(order: SourceOrder) -> bool:
    return order.carrier_at is not None or order.status in (DELIVERED, SHIPPED)


def _fulfilment(order: SourceOrder, place: int, ready: datetime) -> Iterator[Happening]:
    """What happens to the goods of an order that is paid by ``ready``."""
    by = deadline(order)
    if order.status == UNAVAILABLE:
        limit = min(item.limit for item in order.items)
        due = max(ready, min(limit, by))
        yield Happening(due, place, Step.GIVE_UP, due)
        return
    delivered = order.status == DELIVERED or order.delivered_at is not None
    # Where a date is missing the promised day stands in: nobody complained.
    arrived_at = order.delivered_at or max(by, order.carrier_at or by)
    left_at = order.carrier_at or arrived_at
    shipped, arrived = max(left_at, ready), max(arrived_at, left_at, ready)
    if _left(order) or delivered:
        yield Happening(shipped, place, Step.SHIP, left_at)
    if delivered:
        yield Happening(arrived, place, Step.DELIVER, arrived_at)
    if order.status != CANCELED and (not delivered or arrived > by):
        yield Happening(by, place, Step.OVERDUE, by)
