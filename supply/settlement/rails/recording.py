"""An order was paid on a sharing rail: plan who is paid when, and write the plan down.

Nothing is sent here. Until something was sent, the last delivery dates the plan anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, OrderId, OrderLineId, TenantId
from infra.db.base import table_of
from infra.db.rows import insert_rows
from infra.payments.gateway import Capabilities
from supply.ledger import service as ledger
from supply.ledger.journal import Journal, merged
from supply.settlement.capture import UNDELIVERED_DAYS, CapturedOrder, book_of
from supply.settlement.composition import Part
from supply.settlement.obstacles import CouponNotCarried, NoAccount, Obstacle
from supply.settlement.order_book import OrderBook
from supply.settlement.parties import PLATFORM
from supply.settlement.rails import books
from supply.settlement.rails.errors import NotPayableOnRail
from supply.settlement.rails.ids import RailRequestId
from supply.settlement.rails.kinds import RailKind
from supply.settlement.rails.models import InstructionStatus, RailInstruction, RailRequest, RequestStatus
from supply.settlement.rails.splits import split_body
from supply.settlement.split_plan import (
    PayeeKind,
    Request,
    Sale,
    Share,
    SplitPlan,
    Unpayable,
    plan_split,
)

_REGISTER = text(
    "INSERT INTO rail_accounts (rail, payee_id, tenant_id, kind, account_id, updated_at)"
    " VALUES (:rail, :payee_id, :tenant_id, :kind, :account_id, :now)"
    " ON CONFLICT (rail, payee_id) DO UPDATE SET tenant_id = excluded.tenant_id, kind = excluded.kind,"
    " account_id = excluded.account_id, updated_at = excluded.updated_at"
)
_ACCOUNTS = text("SELECT payee_id, account_id FROM rail_accounts WHERE rail = :rail AND payee_id = ANY(:ids)")
_ORDER = text(
    "INSERT INTO rail_orders (order_id, merchant_id, rail, merchant_account, payment_id, currency, paid_minor,"
    " fee_minor, merchant_minor, paid_at, return_window_days, undelivered, split)"
    " VALUES (:order_id, :merchant_id, :rail, :merchant_account, :payment_id, :currency, :paid_minor,"
    " :fee_minor, :merchant_minor, :paid_at, :return_window_days, CAST(:undelivered AS jsonb),"
    " CAST(:split AS jsonb))"
    " ON CONFLICT (order_id) DO NOTHING RETURNING *"
)
_LOCK = text("SELECT * FROM rail_orders WHERE order_id = :order_id FOR NO KEY UPDATE")
_RAIL_OF = text("SELECT rail FROM rail_orders WHERE order_id = :order_id")
_AWAIT = text("UPDATE rail_orders SET undelivered = CAST(:left AS jsonb) WHERE order_id = :order_id")
_DELIVERED = text("UPDATE rail_orders SET delivered_at = :at WHERE order_id = :order_id")
_TOLD = text("SELECT * FROM rail_instructions WHERE order_id = :order_id ORDER BY payee_id")
# Locked, so that a sweep cannot send one of them while it is planned anew.
_STATUSES = text("SELECT status FROM rail_requests WHERE order_id = :order_id ORDER BY id FOR UPDATE")
_FORGET = text("DELETE FROM rail_requests WHERE order_id = :order_id AND status = 'planned'")
_KIND_OF = {
    Part.SUPPLIER: PayeeKind.BUSINESS,
    Part.PROMOTER_BRAND: PayeeKind.BUSINESS,
    Part.INDIVIDUAL: PayeeKind.INDIVIDUAL,
    Part.PLATFORM_COMMISSION: PayeeKind.PLATFORM,
    Part.PLATFORM_FEE: PayeeKind.PLATFORM,
}


@dataclass(frozen=True, slots=True)
class _Payee:
    """Everybody but the merchant, with all of its shares together."""

    payee_id: str
    kind: PayeeKind
    tenant_id: TenantId | None
    amount_minor: int
    days: int


async def register_rail_account(
    session: AsyncSession,
    payee_id: str,
    *,
    rail: str,
    kind: PayeeKind,
    account_id: str,
    now: datetime,
    tenant_id: TenantId | None = None,
) -> None:
    """Set where a party is paid on a rail; the platform's own account is the party ``platform``."""
    values = {
        "rail": rail, "payee_id": payee_id, "tenant_id": tenant_id, "kind": kind.value,
        "account_id": account_id, "now": now,
    }  # fmt: skip
    await session.execute(_REGISTER, values)


async def record_shared_payment(
    session: AsyncSession,
    order: CapturedOrder,
    *,
    payment_id: str,
    fee_minor: int,
    rail: Capabilities,
    clock: Clock,
) -> SplitPlan:
    """The plan of a paid order, written down with the journal of whose the frozen money is.

    Dated as if it were delivered at the last moment. The merchant keeps the rest, its tax included: it is the
    seller there. Again for the same order: nothing happens. Raises ``NotPayableOnRail`` with every reason.
    """
    book = book_of(order)
    payees = _payees(book)
    accounts = await _accounts(session, rail.name, [str(order.merchant_id), *(p.payee_id for p in payees)])
    delivered_at = order.paid_at + timedelta(days=UNDELIVERED_DAYS)
    sale = _sale(book, payees, fee_minor, delivered_at)
    plan = plan_split(sale, rail)
    parties = (str(order.merchant_id), *(payee.payee_id for payee in payees))
    further: list[Obstacle] = [NoAccount(id) for id in parties if id not in accounts]
    if coupons := sum(line.coupon_minor for line in order.lines):
        further.append(CouponNotCarried(coupons))
    if isinstance(plan, Unpayable) or further:
        reasons = plan.reasons if isinstance(plan, Unpayable) else ()
        raise NotPayableOnRail(order.order_id, (*reasons, *further))
    values = {
        "order_id": order.order_id, "merchant_id": order.merchant_id, "rail": rail.name,
        "merchant_account": accounts[str(order.merchant_id)], "payment_id": payment_id,
        "currency": order.currency, "paid_minor": book.captured_minor, "fee_minor": fee_minor,
        "merchant_minor": plan.merchant_minor, "paid_at": order.paid_at,
        "return_window_days": order.return_window_days,
        "undelivered": orjson.dumps(_units(order)).decode(), "split": orjson.dumps(split_body(book)).decode(),
    }  # fmt: skip
    row = (await session.execute(_ORDER, values)).first()
    if row is None:
        return plan
    await _write(session, row, plan.requests, payees, accounts)
    key = f"rail:{payment_id}:{order.order_id}:recorded"
    legs = merged(books.recorded(row, payees))
    journal = Journal(key, RailKind.RECORDED, legs, order.paid_at, order.order_id, payment_id)
    await ledger.post(session, journal, now=clock.now())
    return plan


async def rail_of(session: AsyncSession, order_id: OrderId) -> str | None:
    """The rail an order was paid on; None for one that was paid otherwise."""
    found: str | None = (await session.execute(_RAIL_OF, {"order_id": order_id})).scalar_one_or_none()
    return found


async def record_shared_delivery(
    session: AsyncSession,
    order_id: OrderId,
    quantities: Sequence[tuple[OrderLineId, int]],
    *,
    rail: Capabilities,
    at: datetime,
) -> bool:
    """Units reached the customer. The last of them dates the plan anew: then it is True.

    A plan of which something was sent stays as it is, and so does one the later date would break.
    """
    order = (await session.execute(_LOCK, {"order_id": order_id})).first()
    if order is None:
        return False
    left = dict(order.undelivered)
    for order_line_id, quantity in quantities:
        left[str(order_line_id)] = max(left.get(str(order_line_id), 0) - quantity, 0)
    left = {line: quantity for line, quantity in left.items() if quantity}
    await session.execute(_AWAIT, {"order_id": order_id, "left": orjson.dumps(left).decode()})
    statuses = set((await session.execute(_STATUSES, {"order_id": order_id})).scalars())
    if left or order.delivered_at is not None or statuses != {RequestStatus.PLANNED}:
        return False
    return await _date_anew(session, order, rail, at)


async def _date_anew(session: AsyncSession, order: Any, rail: Capabilities, at: datetime) -> bool:
    where = {"order_id": order.order_id}
    rows = (await session.execute(_TOLD, where)).all()
    payees = [_payee_of(row) for row in rows]
    # How much may leave was agreed when it was paid; only the dates are new.
    plan = plan_split(_sale_of(order, payees, at), replace(rail, max_outward_ppm=None))
    await session.execute(_DELIVERED, {**where, "at": at})
    if isinstance(plan, Unpayable):
        return False
    await session.execute(_FORGET, where)
    await _write(session, order, plan.requests, payees, {row.payee_id: row.account_id for row in rows})
    return True


async def add_request(
    session: AsyncSession, order: Any, request: Request, instructions: Sequence[Any], **other: Any
) -> RailRequestId:
    """One more request for payees that are known already: rows of ``rail_instructions``."""
    accounts = {each.payee_id: each.account_id for each in instructions}
    payees = [_payee_of(each) for each in instructions]
    (id,) = await _write(session, order, [request], payees, accounts, **other)
    return id


async def _write(
    session: AsyncSession,
    order: Any,
    requests: Sequence[Request],
    payees: Sequence[_Payee],
    accounts: dict[str, str],
    **other: Any,
) -> list[RailRequestId]:
    known = {payee.payee_id: payee for payee in payees}
    ids = [RailRequestId.new() for _ in requests]
    common = {"order_id": order.order_id, "merchant_id": order.merchant_id}
    rows = [
        {
            **common, "id": id, "rail": order.rail, "number": request.number, "attempt": 1,
            "finish": request.finish, "status": RequestStatus.PLANNED.value, "send_at": request.send_at,
            "send_before": request.send_before, "tries": 0, "next_try_at": request.send_at, "failure": None,
            **other,
        }
        for id, request in zip(ids, requests, strict=True)
    ]  # fmt: skip
    await insert_rows(session, table_of(RailRequest), rows)
    told = [
        {
            **common, "request_id": id, "payee_id": each.payee_id,
            "tenant_id": known[each.payee_id].tenant_id, "kind": each.kind.value,
            "account_id": accounts[each.payee_id], "currency": order.currency,
            "amount_minor": each.amount_minor,
            "days": known[each.payee_id].days, "status": InstructionStatus.PLANNED.value,
        }
        for id, request in zip(ids, requests, strict=True)
        for each in request.instructions
    ]  # fmt: skip
    await insert_rows(session, table_of(RailInstruction), told)
    return ids


def _units(order: CapturedOrder) -> dict[str, int]:
    units: dict[str, int] = {}
    for line in order.lines:
        units[str(line.order_line_id)] = units.get(str(line.order_line_id), 0) + line.quantity
    return units


async def _accounts(session: AsyncSession, rail: str, payee_ids: Sequence[str]) -> dict[str, str]:
    rows = await session.execute(_ACCOUNTS, {"rail": rail, "ids": list(payee_ids)})
    return {row.payee_id: row.account_id for row in rows}


def _payees(book: OrderBook) -> list[_Payee]:
    """From the same split as on the other rail; tax stays with the merchant."""
    found: dict[str, _Payee] = {}
    for line in book.lines:
        for cell in line.cells.values():
            kind = _KIND_OF.get(cell.part)
            if kind is None or not cell.amount_minor:
                continue
            id = PLATFORM if kind is PayeeKind.PLATFORM else cell.payee_id
            days = line.settlement_days if cell.part is Part.SUPPLIER else book.return_window_days
            known = found.get(id, _Payee(id, kind, cell.tenant_id, 0, 0))
            found[id] = replace(
                known, amount_minor=known.amount_minor + cell.amount_minor, days=max(known.days, days)
            )
    return [found[id] for id in sorted(found)]


def _payee_of(row: Any) -> _Payee:
    tenant = TenantId.of(row.tenant_id) if row.tenant_id else None
    return _Payee(row.payee_id, PayeeKind(row.kind), tenant, row.amount_minor, row.days)


def _sale(book: OrderBook, payees: Sequence[_Payee], fee_minor: int, delivered_at: datetime) -> Sale:
    return Sale(
        (str(book.merchant_id),),
        book.currency,
        book.captured_minor,
        book.paid_at,
        delivered_at + timedelta(days=book.return_window_days),
        _shares(payees, delivered_at),
        fee_minor,
    )


def _sale_of(order: Any, payees: Sequence[_Payee], delivered_at: datetime) -> Sale:
    return Sale(
        (str(BrandId.of(order.merchant_id)),),
        order.currency,
        order.paid_minor,
        order.paid_at,
        delivered_at + timedelta(days=order.return_window_days),
        _shares(payees, delivered_at),
        order.fee_minor,
    )


def _shares(payees: Sequence[_Payee], delivered_at: datetime) -> list[Share]:
    return [
        Share(each.payee_id, each.kind, each.amount_minor, delivered_at + timedelta(days=each.days))
        for each in payees
    ]
