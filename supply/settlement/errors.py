"""What settlement refuses, in the caller's terms."""

from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound
from core.ids import OrderId, OrderLineId, RefundId, StatementId


class OrderNotSettled(NotFound):
    """No capture of this order was ever split."""

    code = "ORDER_NOT_SETTLED"

    def __init__(self, order_id: OrderId) -> None:
        super().__init__(f"{order_id} has no settlement")
        self.order_id = str(order_id)


class CommissionOnRail(Conflict):
    """The order was paid on a sharing rail: a commission cannot be taken back to the merchant there."""

    code = "COMMISSION_ON_RAIL"

    def __init__(self, order_id: OrderId, rail: str) -> None:
        super().__init__(
            f"{order_id} was paid on {rail}: held commission stays unpaid there, but it cannot be denied"
        )
        self.order_id, self.rail = str(order_id), rail


class SplitDoesNotSum(Invalid):
    """The parts of a captured line are not what the customer paid for it."""

    code = "SPLIT_DOES_NOT_SUM"


class OrderLineNotSettled(NotFound):
    code = "ORDER_LINE_NOT_SETTLED"

    def __init__(self, order_line_id: OrderLineId) -> None:
        super().__init__(f"{order_line_id} is not a line of this settlement")
        self.order_line_id = str(order_line_id)


class RefundNotFound(NotFound):
    code = "REFUND_NOT_FOUND"

    def __init__(self, refund_id: RefundId) -> None:
        super().__init__(f"{refund_id} was never reserved")
        self.refund_id = str(refund_id)


class RefundChanged(Conflict):
    """The refund id was used for another refund: nothing moves."""

    code = "REFUND_CHANGED"

    def __init__(self, refund_id: RefundId) -> None:
        super().__init__(f"{refund_id} was reserved for something else")
        self.refund_id = str(refund_id)


class RefundEnded(Conflict):
    """The refund is settled or voided already, and not in the way asked for now."""

    code = "REFUND_ENDED"

    def __init__(self, refund_id: RefundId, status: str) -> None:
        super().__init__(f"{refund_id} is {status}")
        self.refund_id, self.status_now = str(refund_id), status


class NothingToRefund(Conflict):
    """Everything was given back already."""

    code = "NOTHING_TO_REFUND"


class OrderDisputed(Conflict):
    """The bank has the money of this charge; what it decides comes first. An inquiry does not stand in the way."""

    code = "ORDER_DISPUTED"

    def __init__(self, order_id: OrderId, dispute_id: str) -> None:
        super().__init__(f"{order_id} cannot be refunded while {dispute_id} is open")
        self.order_id, self.dispute_id = str(order_id), dispute_id


class PeriodNotOver(Invalid):
    code = "PERIOD_NOT_OVER"


class StatementOutOfSequence(Conflict):
    """Statements of a party follow each other without gap; the next must start where the last one ended."""

    code = "STATEMENT_OUT_OF_SEQUENCE"


class BadSettlementTerms(Invalid):
    code = "BAD_SETTLEMENT_TERMS"


class StatementNotFound(NotFound):
    code = "STATEMENT_NOT_FOUND"

    def __init__(self, statement_id: StatementId) -> None:
        super().__init__(f"no statement {statement_id}")
        self.statement_id = str(statement_id)
