from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound
from core.ids import OrderId
from supply.settlement.obstacles import Obstacle


class NotPayableOnRail(Invalid):
    """The split breaks rules of the rail; ``reasons`` says every one of them."""

    code = "NOT_PAYABLE_ON_RAIL"

    def __init__(self, order_id: OrderId, reasons: tuple[Obstacle, ...]) -> None:
        super().__init__(f"{order_id}: {'; '.join(reason.explain() for reason in reasons)}")
        self.order_id, self.reasons = str(order_id), reasons


class RailRequestNotFound(NotFound):
    code = "RAIL_REQUEST_NOT_FOUND"


class RailRequestNotRefused(Conflict):
    """Only a request the rail refused waits for somebody's decision."""

    code = "RAIL_REQUEST_NOT_REFUSED"

    def __init__(self, request_id: object, status: str) -> None:
        super().__init__(f"{request_id} is {status}")
        self.status_now = status
