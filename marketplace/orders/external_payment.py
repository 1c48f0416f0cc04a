"""Money of outside orders: the storefront has it, says when it came and whether it went back.

There is no provider of ours to ask. What the payments of an order do not explain of its lines, or the lines of
its payments, lies in suspense under the storefront's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import BrandId, CheckoutId, OrderId, OrderLineId, RefundId, SupplierId
from marketplace.orders import queries, refund_commission
from marketplace.orders.capture import adjustment_of, shares_of
from marketplace.orders.external_attribution import attribute_external
from marketplace.orders.queries import OrderLineRow
from marketplace.promotion.commission.reversal import lock_lines
from marketplace.promotion.coupons import entries
from marketplace.promotion.decisions.attribute import Attributed, LineAttributed
from supply.fulfillment import service as fulfillment
from supply.inventory import queries as stock
from supply.inventory import service as inventory
from supply.settlement import suspense
from supply.settlement.capture import CapturedLine, CapturedOrder, open_splits
from supply.settlement.refunds import RefundPlan, reserve_refund, settle_refund
from supply.settlement.suspense import Unexplained
from supply.suppliers import queries as suppliers

CANCELLED_AT_SOURCE = "CANCELLED_AT_SOURCE"

_LOCK = text(
    "SELECT x.reference, x.order_id, o.checkout_id, o.merchant_id, o.currency, o.country, o.total_minor,"
    " o.payment_status, o.placed_at, p.amount_minor, p.captured_minor, p.id AS payment_id FROM external_orders x"
    " JOIN orders o ON o.id = x.order_id JOIN payments p ON p.checkout_id = o.checkout_id"
    " WHERE x.source = :source AND x.reference = ANY(:references) ORDER BY x.order_id FOR UPDATE OF o"
)
_PAYMENTS_PAID = text(
    "UPDATE payments p SET status = 'paid', captured_minor = n.amount, charge_id = n.charge, captured_at = n.at"
    " FROM unnest(CAST(:checkouts AS uuid[]), CAST(:amounts AS bigint[]), CAST(:charges AS text[]),"
    " CAST(:times AS timestamptz[])) AS n(id, amount, charge, at) WHERE p.checkout_id = n.id"
)
_CHECKOUTS_PAID = text(
    "UPDATE checkouts c SET status = 'paid', paid_at = n.at FROM unnest(CAST(:checkouts AS uuid[]),"
    " CAST(:times AS timestamptz[])) AS n(id, at) WHERE c.id = n.id"
)
_ORDERS_PAID = text(
    "UPDATE orders o SET payment_status = 'paid', paid_at = n.at, version = version + 1"
    " FROM unnest(CAST(:checkouts AS uuid[]), CAST(:times AS timestamptz[])) AS n(id, at)"
    " WHERE o.checkout_id = n.id"
)
_INSERT_REFUND = text(
    "INSERT INTO refunds (id, order_id, payment_id, merchant_id, currency, amount_minor, reason, lines, status,"
    " requested_by, created_at, settled_at, kind, cause, request, attempt, tries, next_try_at) VALUES (:id, :order,"
    " :payment, :merchant, :currency, :amount, :reason, CAST('[]' AS jsonb), 'succeeded', :by, :now, :now, 'shared',"
    " 'cancelled', CAST('{\"everything\": true}' AS jsonb), 1, 0, :now)"
)
_LINES_BACK = text("UPDATE order_lines SET refunded_quantity = quantity WHERE order_id = ANY(:ids)")
_ORDERS_BACK = text(
    "UPDATE orders o SET refunded_minor = total_minor, payment_status = 'refunded', version = version + 1,"
    " fulfillment_status = CASE WHEN EXISTS (SELECT FROM order_lines l WHERE l.order_id = o.id)"
    " THEN fulfillment_status ELSE 'cancelled' END WHERE id = ANY(:ids)"
)
_PAYMENTS_BACK = text(
    "UPDATE payments SET refunded_minor = captured_minor, status = 'refunded' WHERE checkout_id = ANY(:ids)"
)
_VOID = text(
    "WITH o AS (UPDATE orders SET payment_status = 'voided', fulfillment_status = 'cancelled',"
    " version = version + 1 WHERE id = ANY(:ids) RETURNING checkout_id),"
    " c AS (UPDATE checkouts SET status = 'cancelled' FROM o WHERE id = o.checkout_id)"
    " UPDATE payments p SET status = 'voided' FROM o WHERE p.checkout_id = o.checkout_id"
)


async def capture_external_orders(
    session: AsyncSession,
    source: str,
    paid_at: Mapping[str, datetime],
    *,
    return_window_days: int,
    secret: str,
    clock: Clock,
) -> list[OrderId]:
    """The storefront was paid (R1), by reference: stock is committed, who sold it credited, the money split, the
    suppliers told. A commission is the merchant's to pay.

    Orders that are past this are left alone. Returns the others.
    """
    rows = [r for r in await _locked(session, source, list(paid_at)) if r.payment_status == "pending"]
    if not rows:
        return []
    now = clock.now()
    times = {OrderId.of(row.order_id): paid_at[row.reference] for row in rows}
    await _mark_paid(session, source, rows, times)
    held = await stock.open_reservations(session, [CheckoutId.of(row.checkout_id) for row in rows])
    await inventory.commit(session, held, now=now, late_is_fine=True)
    lines = await queries.lines_of(session, list(times))
    days = await _settlement_days(session, lines)
    sold = [row for row in rows if lines[row.order_id]]
    credited = await attribute_external(session, sold, lines, times, secret=secret, clock=clock)
    await open_splits(
        session,
        [
            _captured(
                source, row, lines[row.order_id], days, times[row.order_id], return_window_days,
                credited.get(OrderId.of(row.order_id)),
            )
            for row in sold
        ],
        clock=clock,
    )  # fmt: skip
    found = [_unexplained(source, row, row.amount_minor, times[OrderId.of(row.order_id)]) for row in rows]
    await suspense.suspend(session, found, now=now)
    await fulfillment.release_for_submission(session, list(times), clock=clock, paid_at=times)
    return list(times)


async def cancel_external_orders(
    session: AsyncSession, source: str, references: Sequence[str], *, clock: Clock
) -> list[OrderId]:
    """The storefront gave the orders up: what has not shipped stays, what was paid goes back, from everybody.

    Orders that were never paid are voided, their stock given back. Returns all that changed.
    """
    rows = await _locked(session, source, references)
    unpaid = [row for row in rows if row.payment_status == "pending"]
    paid = [row for row in rows if row.payment_status == "paid"]
    if paid:  # commission lines, ledger, shelves: the sequence of every refund (refunding.py)
        await lock_lines(session, [OrderId.of(row.order_id) for row in paid])
        for row in paid:
            await _give_back(session, source, row, clock=clock)
        found = [_unexplained(source, row, row.captured_minor, clock.now()) for row in paid]
        await suspense.send_back(session, found, now=clock.now())
        for row in paid:
            order_id = OrderId.of(row.order_id)
            await fulfillment.cancel_unshipped(
                session, SYSTEM, order_id, clock=clock, reason=CANCELLED_AT_SOURCE
            )
        ids = {"ids": [row.order_id for row in paid]}
        await session.execute(_LINES_BACK, ids)
        await session.execute(_ORDERS_BACK, ids)
        await session.execute(_PAYMENTS_BACK, {"ids": [row.checkout_id for row in paid]})
    if unpaid:
        await _void(session, unpaid, clock=clock)
    return [OrderId.of(row.order_id) for row in (*unpaid, *paid)]


async def _locked(session: AsyncSession, source: str, references: Sequence[str]) -> Sequence[Any]:
    return (await session.execute(_LOCK, {"source": source, "references": list(references)})).all()


async def _mark_paid(
    session: AsyncSession, source: str, rows: Sequence[Any], times: Mapping[OrderId, datetime]
) -> None:
    checkouts = [row.checkout_id for row in rows]
    at = [times[OrderId.of(row.order_id)] for row in rows]
    amounts = {
        "amounts": [row.amount_minor for row in rows],
        "charges": [_charge(source, row.reference) for row in rows],
    }
    await session.execute(_PAYMENTS_PAID, {"checkouts": checkouts, "times": at, **amounts})
    await session.execute(_CHECKOUTS_PAID, {"checkouts": checkouts, "times": at})
    await session.execute(_ORDERS_PAID, {"checkouts": checkouts, "times": at})


async def _settlement_days(
    session: AsyncSession, lines: Mapping[OrderId, Sequence[OrderLineRow]]
) -> dict[SupplierId, int]:
    wanted = sorted({line.supplier_id for each in lines.values() for line in each if line.supplier_id})
    return {i: found.settlement_days for i, found in (await suppliers.suppliers(session, wanted)).items()}


def _captured(
    source: str,
    row: Any,
    lines: Sequence[OrderLineRow],
    days: Mapping[SupplierId, int],
    paid_at: datetime,
    return_window_days: int,
    attributed: Attributed | None,
) -> CapturedOrder:
    earned = {line.order_line_id: line for line in attributed.lines} if attributed else {}
    windows = [line.return_window_days for line in earned.values()]
    return CapturedOrder(
        order_id=OrderId.of(row.order_id),
        merchant_id=BrandId.of(row.merchant_id),
        currency=row.currency,
        charge_id=_charge(source, row.reference),
        paid_at=paid_at,
        lines=[_captured_line(line, days, earned.get(line.id)) for line in lines],
        tax_jurisdiction=row.country,
        return_window_days=max(windows, default=return_window_days),
        provider=source,
        amount_minor=row.total_minor,
        adjustment=[
            share for owed in (attributed.adjustments if attributed else ()) for share in adjustment_of(owed)
        ],
    )


def _captured_line(
    line: OrderLineRow, days: Mapping[SupplierId, int], earned: LineAttributed | None
) -> CapturedLine:
    """What the seller does not get of the goods is the marketplace's fee: the storefront's own agreement."""
    return CapturedLine(
        order_line_id=OrderLineId.of(line.id),
        quantity=line.quantity,
        goods_minor=line.gross_minor,
        tax_minor=0,
        supplier_id=line.supplier_id,
        supplier_cost_minor=line.supplier_cost_minor,
        shipping_minor=line.shipping_minor,
        supplier_shipping_minor=line.shipping_minor,
        commission=shares_of(earned) if earned else [],
        basis_minor=earned.basis_minor if earned else None,
        platform_fee_minor=line.gross_minor - line.supplier_cost_minor,
        settlement_days=days[line.supplier_id] if line.supplier_id else 0,
    )


async def _void(session: AsyncSession, rows: Sequence[Any], *, clock: Clock) -> None:
    for row in rows:
        await fulfillment.cancel_unshipped(
            session, SYSTEM, OrderId.of(row.order_id), clock=clock, reason=CANCELLED_AT_SOURCE
        )
    await session.execute(_VOID, {"ids": [row.order_id for row in rows]})
    await entries.withdraw(session, [row.checkout_id for row in rows])


async def _give_back(session: AsyncSession, source: str, row: Any, *, clock: Clock) -> None:
    """R5a and R5b at once: the storefront has paid its customer back before it told us."""
    if not row.total_minor:
        return
    order_id, refund_id, now = OrderId.of(row.order_id), RefundId.new(), clock.now()
    plan = RefundPlan(refund_id=refund_id, order_id=order_id, everything=True)
    reserved = await reserve_refund(session, plan, now=now)
    await settle_refund(session, refund_id, now=now, provider_ref=_charge(source, row.reference))
    await refund_commission.take(session, refund_id, clock=clock)
    values = {
        "id": refund_id, "order": order_id, "payment": row.payment_id, "merchant": row.merchant_id,
        "currency": row.currency, "amount": reserved.amount_minor, "reason": CANCELLED_AT_SOURCE,
        "by": str(SYSTEM), "now": now,
    }  # fmt: skip
    await session.execute(_INSERT_REFUND, values)


def _unexplained(source: str, row: Any, paid_minor: int, at: datetime) -> Unexplained:
    charge, order_id = _charge(source, row.reference), OrderId.of(row.order_id)
    return Unexplained(charge, order_id, source, row.currency, paid_minor - row.total_minor, at)


def _charge(source: str, reference: str) -> str:
    return f"{source}:{reference}"
