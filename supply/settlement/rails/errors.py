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


class RailRefundTooLarge(Invalid):
    """More than a payee was paid or is entitled to, or than the merchant's part bears."""

    code = "RAIL_REFUND_TOO_LARGE"

    def __init__(self, payee_id: str, asked_minor: int, most_minor: int) -> None:
        super().__init__(f"{payee_id} bears at most {most_minor}, {asked_minor} are asked")
        self.payee_id, self.asked_minor, self.most_minor = payee_id, asked_minor, most_minor


class RailShareUnderWay(Conflict):
    """A share of this payee has no result yet: ask again when it has."""

    code = "RAIL_SHARE_UNDER_WAY"

    def __init__(self, payee_id: str) -> None:
        super().__init__(f"a share of {payee_id} is under way")
        self.payee_id = payee_id


class RailRefundChanged(Conflict):
    """The refund id was used for another refund: nothing moves."""

    code = "RAIL_REFUND_CHANGED"


class RailRefundNotRefused(Conflict):
    """Only a refund the rail refused waits for somebody's decision."""

    code = "RAIL_REFUND_NOT_REFUSED"
