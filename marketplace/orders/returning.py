"""Returns: units announced, received, accepted or not. What is accepted is refunded by R6, the rest by R6a or not.
Accepted units that are not damaged go back on the shelf they were shipped from.

ANNOUNCED → RECEIVED → CLOSED; WITHDRAWN and EXPIRED end a case without a refund. An open case holds the release
of its lines. Only units that were delivered can come back, each once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.errors import Conflict, Invalid, NotFound
from core.ids import OrderId, OrderLineId, RefundId, SupplierId
from core.pagination import Page, PageRequest, page_of
from infra.db.base import table_of
from infra.db.rows import insert_rows
from infra.db.session import Database
from marketplace.orders import queries, refunding
from marketplace.orders.models import RefundCause
from marketplace.orders.refunding import RefundCommand, RefundLine
from marketplace.orders.return_models import Return, ReturnId, ReturnLine, ReturnStatus
from supply.fulfillment import queries as fulfillment
from supply.fulfillment import service as shipping
from supply.fulfillment.service import TakenBack
from supply.settlement import service as settlement
from supply.settlement.errors import NothingToRefund

SEND_BACK_WITHIN = timedelta(days=30)
_AT_ONCE = 100
_TABLE, _LINES_TABLE = table_of(Return), table_of(ReturnLine)
_LOCK = text("SELECT * FROM returns WHERE id = :id FOR NO KEY UPDATE")
_LINES = text("SELECT * FROM return_lines WHERE return_id = :id ORDER BY order_line_id")
_TAKEN = text(
    "SELECT l.order_line_id, l.supplier_id, sum(CASE WHEN r.status IN ('announced', 'received') THEN l.quantity"
    " ELSE l.accepted END)::int AS units, coalesce(sum(l.quantity) FILTER (WHERE r.status IN ('announced',"
    " 'received')), 0)::int AS open FROM return_lines l JOIN returns r ON r.id = l.return_id"
    " WHERE r.order_id = :order AND r.status <> 'withdrawn' AND r.status <> 'expired' GROUP BY 1, 2"
)
_RECEIVED = text(
    "UPDATE return_lines l SET received = t.units FROM unnest(CAST(:lines AS uuid[]), CAST(:units AS int[]))"
    " AS t (line_id, units) WHERE l.return_id = :id AND l.order_line_id = t.line_id"
)
_ACCEPTED = text(
    "UPDATE return_lines l SET accepted = t.units, restocked = t.restocked FROM unnest(CAST(:lines AS uuid[]),"
    " CAST(:units AS int[]), CAST(:restocked AS int[])) AS t (line_id, units, restocked)"
    " WHERE l.return_id = :id AND l.order_line_id = t.line_id"
)
_MOVE = text(
    "UPDATE returns SET status = :status, received_at = coalesce(:received_at, received_at), closed_at = :closed_at,"
    " accepted_refund_id = :accepted, refused_refund_id = :refused WHERE id = :id"
)
_PAGE = text(
    "SELECT * FROM returns WHERE (CAST(:order AS uuid) IS NULL OR order_id = :order)"
    " AND (CAST(:after AS uuid) IS NULL OR id < :after) ORDER BY id DESC LIMIT :limit"
)
_LINES_OF = text("SELECT * FROM return_lines WHERE return_id = ANY(:ids) ORDER BY return_id, order_line_id")
_DUE = text(
    "SELECT id FROM returns WHERE status = 'announced' AND expires_at <= :now ORDER BY expires_at, id LIMIT :limit"
)


@dataclass(frozen=True, slots=True)
class ReturnLineView:
    order_line_id: OrderLineId
    quantity: int
    received: int
    accepted: int
    restocked: int


@dataclass(frozen=True, slots=True)
class ReturnView:
    id: ReturnId
    order_id: OrderId
    supplier_id: SupplierId
    status: ReturnStatus
    cause: RefundCause
    reason: str
    refund_if_refused: bool
    announced_at: datetime
    expires_at: datetime
    received_at: datetime | None
    closed_at: datetime | None
    refunds: Sequence[RefundId]
    lines: Sequence[ReturnLineView]


class ReturnNotFound(NotFound):
    code = "RETURN_NOT_FOUND"

    def __init__(self, return_id: ReturnId) -> None:
        super().__init__(f"no return {return_id} that concerns you", field="returnId")
        self.return_id = str(return_id)


class ReturnNotOpen(Conflict):
    """Not in the state the step needs."""

    code = "RETURN_NOT_OPEN"

    def __init__(self, return_id: ReturnId, status: str) -> None:
        super().__init__(f"{return_id} is {status}")
        self.return_id, self.return_status = str(return_id), status


class ReturnExceedsDelivered(Conflict):
    """More units than were delivered, are not refunded and are not coming back already."""

    code = "RETURN_EXCEEDS_DELIVERED"

    def __init__(self, line_id: OrderLineId, asked: int, left: int) -> None:
        super().__init__(f"{asked} units of {line_id} asked, {left} can come back", field="lines")
        self.line_id, self.asked, self.left = str(line_id), asked, left


class ReturnUnitsInvalid(Invalid):
    """Units of a line that is not in the return, more than there are, or none at all."""

    code = "RETURN_UNITS_INVALID"


@dataclass(frozen=True, slots=True)
class ReturnCommand:
    """``units`` by order line. ``refund_if_refused``: the merchant refunds what the supplier will not take back."""

    order_id: OrderId
    units: Mapping[OrderLineId, int]
    cause: RefundCause = RefundCause.RETURNED
    reason: str = ""
    refund_if_refused: bool = False


async def announce(
    session: AsyncSession, actor: Actor, command: ReturnCommand, *, clock: Clock
) -> list[ReturnId]:
    """Open a case with every supplier that delivered some of the units. ``session`` acts as SYSTEM; ``actor`` is
    the merchant or the platform. Raises ``OrderNotFound``, ``OrderNotPaid``, ``ReturnUnitsInvalid``,
    ``ReturnExceedsDelivered``.
    """
    order = await refunding.lock_order(session, actor, command.order_id)
    if not command.units or min(command.units.values()) < 1:
        raise ReturnUnitsInvalid("a return names units of lines", field="lines")
    shares = await _by_supplier(session, command)
    now, made = clock.now(), []
    for supplier_id, units in sorted(shares.items()):
        row = {
            "id": ReturnId.new(), "order_id": command.order_id, "merchant_id": order.merchant_id,
            "supplier_id": supplier_id, "status": ReturnStatus.ANNOUNCED.value, "cause": command.cause.value,
            "reason": command.reason[: refunding.LONGEST_REASON],
            "refund_if_refused": command.refund_if_refused, "announced_by": str(actor), "announced_at": now,
            "expires_at": now + SEND_BACK_WITHIN,
        }  # fmt: skip
        lines = [
            {
                "return_id": row["id"], "order_line_id": line_id, "merchant_id": order.merchant_id,
                "supplier_id": supplier_id, "quantity": quantity, "received": 0, "accepted": 0, "restocked": 0,
            }
            for line_id, quantity in units.items()
        ]  # fmt: skip
        await insert_rows(session, _TABLE, [row])
        await insert_rows(session, _LINES_TABLE, lines)
        for line_id in units:
            await settlement.hold_release(session, command.order_id, line_id)
        made.append(row["id"])
    return made


async def _by_supplier(
    session: AsyncSession, command: ReturnCommand
) -> dict[SupplierId, dict[OrderLineId, int]]:
    """Whose units come back: of a line that several suppliers delivered, those of the first with some left."""
    left: dict[OrderLineId, dict[SupplierId, int]] = defaultdict(lambda: defaultdict(int))
    for fo in (await fulfillment.of_orders(session, SYSTEM, [command.order_id]))[command.order_id]:
        for line in fo.lines:
            left[line.order_line_id][fo.supplier_id] += line.delivered
    sold = {line.id: line for line in (await queries.lines_of(session, [command.order_id]))[command.order_id]}
    room = {line_id: line.quantity - line.refunded_quantity for line_id, line in sold.items()}
    for row in await session.execute(_TAKEN, {"order": command.order_id}):
        line_id = OrderLineId.of(row.order_line_id)
        left[line_id][SupplierId.of(row.supplier_id)] -= row.units
        room[line_id] -= row.open
    shares: dict[SupplierId, dict[OrderLineId, int]] = defaultdict(dict)
    for line_id, asked in command.units.items():
        can = min(sum(max(units, 0) for units in left[line_id].values()), room.get(line_id, 0))
        if asked > can:
            raise ReturnExceedsDelivered(line_id, asked, max(can, 0))
        for supplier_id, units in left[line_id].items():
            if taken := min(asked, max(units, 0)):
                shares[supplier_id][line_id] = taken
                asked -= taken
    return shares


async def receive(
    session: AsyncSession,
    actor: Actor,
    return_id: ReturnId,
    units: Mapping[OrderLineId, int],
    *,
    clock: Clock,
) -> None:
    """The supplier has the goods: ``units`` of each line, which may be fewer than announced, not more.

    Raises ``ReturnNotFound``, ``ReturnNotOpen``, ``ReturnUnitsInvalid``.
    """
    _, lines = await _locked(session, actor, return_id, ReturnStatus.ANNOUNCED, "supplier_id")
    _check_units(units, {line.order_line_id: line.quantity for line in lines})
    await session.execute(_RECEIVED, _units(return_id, units))
    await _move(session, return_id, ReturnStatus.RECEIVED, received_at=clock.now())


async def inspect(
    session: AsyncSession,
    actor: Actor,
    return_id: ReturnId,
    accepted: Mapping[OrderLineId, int],
    *,
    damaged: Mapping[OrderLineId, int] | None = None,
    clock: Clock,
) -> list[RefundId]:
    """The supplier's decision, which closes the case: accepted units are refunded at its cost (R6), the other
    received ones at the merchant's where it said so (R6a). The refunds that were asked for. Of the accepted units
    the ``damaged`` ones are written off, the others are on the supplier's shelf again.

    What was refunded while the goods travelled is not refunded again: that refund has settled it, and the case ends
    all the same. Raises ``ReturnNotFound``, ``ReturnNotOpen``, ``ReturnUnitsInvalid`` and what a refund raises:
    nothing is decided then.
    """
    row, lines = await _locked(session, actor, return_id, ReturnStatus.RECEIVED, "supplier_id")
    received = {OrderLineId.of(line.order_line_id): line.received for line in lines}
    if accepted:
        _check_units(accepted, received)
    damaged = damaged or {}
    restocked = {line_id: n - damaged.get(line_id, 0) for line_id, n in accepted.items()}
    if damaged.keys() - accepted.keys() or any(not 0 <= n <= accepted[id] for id, n in restocked.items()):
        raise ReturnUnitsInvalid("more damaged units than accepted ones", field="accepted")
    refused = {line_id: n - accepted.get(line_id, 0) for line_id, n in received.items()}
    await session.execute(
        _ACCEPTED, {**_units(return_id, accepted), "restocked": [restocked[line_id] for line_id in accepted]}
    )
    # The order before its accounts, as every refund locks them.
    await refunding.lock_order(session, SYSTEM, OrderId.of(row.order_id))
    await _lift(session, row, lines)
    first = await _refund(session, row, accepted, takes_back=True, clock=clock)
    second = None
    if row.refund_if_refused:
        second = await _refund(session, row, refused, takes_back=False, clock=clock)
    await _move(
        session, return_id, ReturnStatus.CLOSED, closed_at=clock.now(), accepted=first, refused=second
    )
    # Last: a refund locks the order and its accounts, then deliveries and shelves; so does this.
    await shipping.take_back(
        session,
        OrderId.of(row.order_id),
        SupplierId.of(row.supplier_id),
        [TakenBack(line_id, n, restocked[line_id]) for line_id, n in accepted.items() if n],
        cause=str(return_id),
        clock=clock,
    )
    return [refund_id for refund_id in (first, second) if refund_id is not None]


async def withdraw(session: AsyncSession, actor: Actor, return_id: ReturnId, *, clock: Clock) -> None:
    """The merchant takes an announcement back. Raises ``ReturnNotFound``, ``ReturnNotOpen``."""
    row, lines = await _locked(session, actor, return_id, ReturnStatus.ANNOUNCED, "merchant_id")
    await _lift(session, row, lines)
    await _move(session, return_id, ReturnStatus.WITHDRAWN, closed_at=clock.now())


async def sweep_returns(db: Database, *, clock: Clock) -> int:
    """End announcements that nothing came of; their lines are released again. How many."""
    now = clock.now()
    async with db.reading(SYSTEM) as session:
        due = (await session.execute(_DUE, {"now": now, "limit": _AT_ONCE})).scalars().all()
    for each in due:
        async with db.unit_of_work(SYSTEM) as session:
            return_id = ReturnId.of(each)
            row = (await session.execute(_LOCK, {"id": return_id})).one()
            if row.status == ReturnStatus.ANNOUNCED and row.expires_at <= now:
                lines = (await session.execute(_LINES, {"id": return_id})).all()
                await _lift(session, row, lines)
                await _move(session, return_id, ReturnStatus.EXPIRED, closed_at=now)
    return len(due)


async def _refund(
    session: AsyncSession, row: Any, units: Mapping[OrderLineId, int], *, takes_back: bool, clock: Clock
) -> RefundId | None:
    order_id, return_id = OrderId.of(row.order_id), ReturnId.of(row.id)
    sold = {line.id: line for line in (await queries.lines_of(session, [order_id]))[order_id]}
    lines = [
        RefundLine(line_id, left, supplier_accepts=takes_back, came_back=True)
        for line_id, quantity in units.items()
        if (left := min(quantity, sold[line_id].quantity - sold[line_id].refunded_quantity)) > 0
    ]
    if not lines:
        return None
    command = RefundCommand(
        order_id,
        lines,
        reason=row.reason,
        cause=RefundCause(row.cause),
        reference=f"{return_id}:{'accepted' if takes_back else 'refused'}",
    )
    try:
        return await refunding.request(session, SYSTEM, command, clock=clock)
    except NothingToRefund:
        return None


async def _locked(
    session: AsyncSession, actor: Actor, return_id: ReturnId, wanted: ReturnStatus, whose: str
) -> tuple[Any, Sequence[Any]]:
    """``whose``: the column of the party that takes this step; the platform takes any."""
    row = (await session.execute(_LOCK, {"id": return_id})).one_or_none()
    if row is None or not (actor.sees_everything or actor.tenant_id == getattr(row, whose)):
        raise ReturnNotFound(return_id)
    if row.status != wanted:
        raise ReturnNotOpen(return_id, row.status)
    return row, (await session.execute(_LINES, {"id": return_id})).all()


def _check_units(units: Mapping[OrderLineId, int], most: Mapping[Any, int]) -> None:
    for line_id, quantity in units.items():
        if not 0 <= quantity <= most.get(line_id, -1):
            raise ReturnUnitsInvalid(f"{quantity} units of {line_id}", field="lines")
    if not any(units.values()):
        raise ReturnUnitsInvalid("no units", field="lines")


def _units(return_id: ReturnId, units: Mapping[OrderLineId, int]) -> dict[str, Any]:
    return {"id": return_id, "lines": list(units), "units": list(units.values())}


async def _lift(session: AsyncSession, row: Any, lines: Sequence[Any]) -> None:
    for line in lines:
        await settlement.lift_hold(session, OrderId.of(row.order_id), OrderLineId.of(line.order_line_id))


async def _move(
    session: AsyncSession,
    return_id: ReturnId,
    status: ReturnStatus,
    *,
    received_at: datetime | None = None,
    closed_at: datetime | None = None,
    accepted: RefundId | None = None,
    refused: RefundId | None = None,
) -> None:
    values = {
        "id": return_id, "status": status.value, "received_at": received_at, "closed_at": closed_at,
        "accepted": accepted, "refused": refused,
    }  # fmt: skip
    await session.execute(_MOVE, values)


async def returns_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, order_id: OrderId | None = None
) -> Page[ReturnView]:
    """Newest first: a merchant's of its orders, a supplier's of what comes back to it."""
    after = UUID(page.key[0]) if page.key else None
    where = {"order": order_id, "after": after, "limit": page.first + 1}
    rows = (await session.execute(_PAGE, where)).all()
    lines: dict[ReturnId, list[ReturnLineView]] = defaultdict(list)
    for line in await session.execute(_LINES_OF, {"ids": [row.id for row in rows]}):
        view = ReturnLineView(
            OrderLineId.of(line.order_line_id), line.quantity, line.received, line.accepted, line.restocked
        )
        lines[ReturnId.of(line.return_id)].append(view)
    views = [_view(row, lines[ReturnId.of(row.id)]) for row in rows]
    return page_of(views, page, lambda view: (view.id.hex,))


def _view(row: Any, lines: Sequence[ReturnLineView]) -> ReturnView:
    refunds = [RefundId.of(each) for each in (row.accepted_refund_id, row.refused_refund_id) if each]
    return ReturnView(
        ReturnId.of(row.id), OrderId.of(row.order_id), SupplierId.of(row.supplier_id),
        ReturnStatus(row.status), RefundCause(row.cause), row.reason, row.refund_if_refused,
        row.announced_at, row.expires_at, row.received_at, row.closed_at, refunds, lines,
    )  # fmt: skip
