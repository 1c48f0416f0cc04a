"""How much of an order line's goods has gone back, by refunds of any kind and lost disputes that stand: in value,
without tax.

The basis of its commission goes back in this proportion (cps.md R5, R6), whether or not a unit of commission did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId, OrderLineId, RefundId
from core.money import cumulative_part
from supply.settlement.ids import SplitLineId

# ``[line id, seat or "", four differences]``: of a line the last two are its value by units and by value alone, of a
# cell the second is by amount (undoing.moved).
_GONE = text(
    "WITH changed AS (SELECT changes AS body FROM split_refunds WHERE order_id = ANY(:orders) AND status = 'settled'"
    "  AND refund_id IS DISTINCT FROM CAST(:without AS uuid)"
    "  UNION ALL SELECT o.lost FROM dispute_orders o JOIN disputes d ON d.id = o.dispute_id AND d.stage = 'lost'"
    "  WHERE o.order_id = ANY(:orders) AND o.lost IS NOT NULL)"
    " SELECT cell ->> 0 AS line, sum(CASE WHEN cell ->> 1 = '' THEN (cell ->> 4)::bigint + (cell ->> 5)::bigint"
    "  WHEN cell ->> 1 = 'tax' THEN 0 ELSE (cell ->> 3)::bigint END)::bigint AS gone"
    " FROM changed CROSS JOIN LATERAL jsonb_array_elements(body -> 'cells') AS c (cell) GROUP BY 1"
)
_GOODS = text(
    "SELECT id, order_line_id, captured_minor FROM split_lines WHERE order_id = ANY(:orders) AND kind = 'goods'"
    " ORDER BY order_line_id"
)


@dataclass(frozen=True, slots=True)
class GoodsRefunded:
    """``refunded_minor`` of the ``captured_minor`` that the customer paid for the goods of one order line."""

    refunded_minor: int
    captured_minor: int

    def part_of(self, basis_minor: int) -> int:
        """The basis that has gone back in all, ``half_up``; none that could be told of goods nobody paid for."""
        if not self.captured_minor:
            return 0
        gone = min(max(self.refunded_minor, 0), self.captured_minor)
        return cumulative_part(basis_minor, gone, self.captured_minor)


async def refunded_goods(
    session: AsyncSession, order_ids: Sequence[OrderId], *, without: RefundId | None = None
) -> dict[OrderLineId, GoodsRefunded]:
    """Of every line of these orders that has a split; ``without`` a refund that is being undone. Two statements."""
    values = {"orders": list(order_ids), "without": without}
    gone = {SplitLineId.parse(row.line): int(row.gone) for row in await session.execute(_GONE, values)}
    found: dict[OrderLineId, GoodsRefunded] = {}
    for row in await session.execute(_GOODS, {"orders": list(order_ids)}):
        line = OrderLineId.of(row.order_line_id)
        was = found.get(line, GoodsRefunded(0, 0))
        # A line that another supplier took a part of over is two here.
        found[line] = GoodsRefunded(
            was.refunded_minor + gone.get(SplitLineId.of(row.id), 0), was.captured_minor + row.captured_minor
        )
    return found
