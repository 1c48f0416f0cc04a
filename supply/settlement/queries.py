"""Public reads of settlement. Row-level security shows a party its own rows; ids of parties are outer ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import OrderId, OrderLineId, PayoutBatchId, PayoutId, StatementId
from core.pagination import Page, PageRequest, page_of
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.ledger.queries import EntryLine, TrialLine
from supply.settlement.composition import Part
from supply.settlement.errors import OrderNotSettled
from supply.settlement.models import LineKind, PayoutStatus
from supply.settlement.parties import owner_of, party_of

_SPLIT = text(
    "SELECT p.line_id, l.order_line_id, l.kind, p.part, p.payee_id, p.amount_minor, p.by_line_minor,"
    " p.by_amount_minor, p.pending_minor, p.released_minor, p.due_at FROM split_parts p"
    " JOIN split_lines l ON l.id = p.line_id WHERE p.order_id = :order_id ORDER BY p.line_id, p.seat"
)
_ORDER = text("SELECT * FROM split_orders WHERE order_id = :order_id")
# What the books say each owner holds of each order, beside what its parts say; fee recharges are the
# merchant's cost, not its share, and a debt the platform takes over is given up, not earned.
_CHECK = (
    "WITH parts AS (SELECT p.order_id, CASE WHEN p.part = 'tax' THEN 'tax:' || o.tax_jurisdiction"
    "   WHEN p.part = 'coupon' AND p.payee_id = '' THEN 'platform:coupons'"
    "   WHEN p.part IN ('platform_fee', 'platform_commission') THEN 'platform' ELSE 'party:' || p.payee_id END"
    "   AS owner, sum(p.amount_minor - p.by_line_minor - p.by_amount_minor) AS held FROM split_parts p"
    "   JOIN split_orders o ON o.order_id = p.order_id WHERE {which} GROUP BY 1, 2),"
    # Of a sale at source the merchant has what customers keep; the books say what it owes of that.
    " shares AS (SELECT order_id, owner, sum(held) AS held FROM (SELECT * FROM parts UNION ALL"
    "   SELECT DISTINCT o.order_id, 'party:' || p.payee_id, o.refunded_minor - o.captured_minor"
    "   FROM split_orders o JOIN split_parts p ON p.order_id = o.order_id AND p.part = 'merchant'"
    "   WHERE o.provider LIKE 'own:%' AND {which}) each GROUP BY 1, 2),"
    " books AS (SELECT j.order_id, a.owner, -sum(e.amount_minor) AS held FROM ledger_journals j"
    "   JOIN ledger_entries e ON e.journal_id = j.id JOIN ledger_accounts a ON a.id = e.account_id"
    "   JOIN split_orders o ON o.order_id = j.order_id WHERE {which} AND j.kind NOT IN ('fee_recharge',"
    "   'dispute_absorbed') AND (a.code IN (1100, 1120, 2000, 2010, 2020, 2030, 2200, 2400, 4000)"
    "   OR a.owner = 'platform:coupons') GROUP BY 1, 2),"
    " sums AS (SELECT o.order_id FROM split_orders o JOIN split_parts p ON p.order_id = o.order_id"
    "   WHERE {which} GROUP BY o.order_id, o.captured_minor, o.refunded_minor"
    "   HAVING sum(p.amount_minor) <> o.captured_minor OR sum(p.by_line_minor + p.by_amount_minor)"
    "   <> o.refunded_minor),"
    " cash AS (SELECT o.order_id FROM split_orders o JOIN ledger_journals j ON j.order_id = o.order_id"
    "   AND j.kind = 'capture' JOIN ledger_entries e ON e.journal_id = j.id JOIN ledger_accounts a"
    "   ON a.id = e.account_id AND a.code = 1000 WHERE {which} GROUP BY o.order_id, o.captured_minor"
    "   HAVING sum(e.amount_minor) <> o.captured_minor)"
    " SELECT order_id FROM shares FULL JOIN books USING (order_id, owner)"
    " WHERE coalesce(shares.held, 0) <> coalesce(books.held, 0)"
    " UNION SELECT order_id FROM sums UNION SELECT order_id FROM cash"
)
_BROKEN_ONE = text(_CHECK.format(which="o.order_id = :order_id"))
_BROKEN_ALL = text(_CHECK.format(which="true"))
_PAYOUTS = text(
    "SELECT * FROM payouts WHERE (CAST(:payee_id AS text) IS NULL OR payee_id = :payee_id)"
    " AND (CAST(:after AS uuid) IS NULL OR id < :after) ORDER BY id DESC LIMIT :limit"
)
_STATEMENTS = text(
    "SELECT id, payee_id, currency, number, period_from, period_to, opening_minor, closing_minor, hash, closed_at"
    " FROM statements WHERE (CAST(:payee_id AS text) IS NULL OR payee_id = :payee_id)"
    " AND (CAST(:after AS uuid) IS NULL OR id < :after) ORDER BY id DESC LIMIT :limit"
)
_STATEMENT = text(
    "SELECT id, payee_id, currency, number, period_from, period_to, opening_minor, closing_minor, hash, closed_at"
    " FROM statements WHERE id = :id"
)
_DOCUMENT = text("SELECT document FROM statements WHERE id = :id")
_AGED = text(
    "SELECT n.code, n.owner, n.currency, n.balance_minor, min(j.posted_at) AS since FROM ledger_balances_now n"
    " JOIN ledger_entries e ON e.account_id = n.account_id JOIN ledger_journals j ON j.id = e.journal_id"
    " WHERE n.code IN (2020, 2100, 2300) AND n.balance_minor <> 0"
    " GROUP BY n.code, n.owner, n.currency, n.balance_minor ORDER BY since"
)


@dataclass(frozen=True, slots=True)
class OrderIdentity:
    """``customer_paid + coupon = suppliers + commissions + platform + merchant + tax + shipping``, and the books
    agree.

    Parts as captured and re-routed, in minor units of ``currency``; ``refunded_minor`` of it went back.
    ``shipping_minor`` is what was charged for it without tax (freight is inside). ``holds`` also asks that the
    ledger's entries give every party exactly its part less what refunds took.
    """

    order_id: OrderId
    currency: str
    customer_paid_minor: int
    suppliers_minor: int
    commissions_minor: int
    platform_minor: int
    merchant_minor: int
    tax_minor: int
    shipping_minor: int
    refunded_minor: int
    holds: bool
    coupon_minor: int = 0
    """What the platform, or a promoter beyond its commission, paid of the price."""


@dataclass(frozen=True, slots=True)
class PartView:
    """One party's part of one line: ``pending_minor`` until ``due_at``, ``released_minor`` after."""

    order_line_id: OrderLineId
    kind: LineKind
    part: Part
    payee_id: str
    amount_minor: int
    refunded_minor: int
    pending_minor: int
    released_minor: int
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class OrderMoney:
    """Everything settlement knows of an order, for ``explain``."""

    identity: OrderIdentity
    parts: Sequence[PartView]
    entries: Sequence[EntryLine]


@dataclass(frozen=True, slots=True)
class PartyBalance:
    """What a party has in one currency; ``net_minor`` = all four less what it owes."""

    payee_id: str
    currency: str
    pending_minor: int
    available_minor: int
    in_payout_minor: int
    reserved_minor: int
    receivable_minor: int

    @property
    def net_minor(self) -> int:
        own = self.pending_minor + self.available_minor + self.in_payout_minor + self.reserved_minor
        return own - self.receivable_minor


@dataclass(frozen=True, slots=True)
class PayoutView:
    id: PayoutId
    batch_id: PayoutBatchId
    payee_id: str
    currency: str
    amount_minor: int
    status: PayoutStatus
    transfer_id: str | None
    failure: str | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class StatementView:
    id: StatementId
    payee_id: str
    currency: str
    number: int
    period_from: datetime
    period_to: datetime
    opening_minor: int
    closing_minor: int
    hash: str
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class AgedItem:
    """Money that should not stay: in payout (2020), refund pending (2100), suspense (2300)."""

    code: Code
    owner: str
    currency: str
    balance_minor: int
    since: datetime


async def order_identity(session: AsyncSession, order_id: OrderId) -> OrderIdentity:
    """Needs a session that sees the whole order (system or platform). Raises ``OrderNotSettled``."""
    order = (await session.execute(_ORDER, {"order_id": order_id})).one_or_none()
    if order is None:
        raise OrderNotSettled(order_id)
    rows = (await session.execute(_SPLIT, {"order_id": order_id})).all()
    broken = (await session.execute(_BROKEN_ONE, {"order_id": order_id})).first()

    def total(*parts: Part, kind: LineKind = LineKind.GOODS) -> int:
        kinds = (kind, LineKind.ADJUSTMENT) if kind is LineKind.GOODS else (kind,)
        return sum(row.amount_minor for row in rows if row.part in parts and row.kind in kinds)

    identity = {
        "suppliers_minor": total(Part.SUPPLIER),
        "commissions_minor": total(Part.PROMOTER_BRAND, Part.INDIVIDUAL),
        "platform_minor": total(Part.PLATFORM_FEE, Part.PLATFORM_COMMISSION),
        "merchant_minor": total(Part.MERCHANT),
        "tax_minor": total(Part.TAX) + total(Part.TAX, kind=LineKind.SHIPPING),
        "shipping_minor": total(Part.MERCHANT, Part.SUPPLIER, kind=LineKind.SHIPPING),
    }
    coupon = -total(Part.COUPON)
    return OrderIdentity(
        order_id=order_id,
        currency=order.currency,
        customer_paid_minor=order.captured_minor,
        refunded_minor=order.refunded_minor,
        holds=broken is None and sum(identity.values()) == order.captured_minor + coupon,
        coupon_minor=coupon,
        **identity,
    )


async def broken_identities(session: AsyncSession) -> list[OrderId]:
    """Orders whose identity does not hold, over all orders: empty, or the books are broken."""
    return [OrderId.of(each) for each in (await session.execute(_BROKEN_ALL)).scalars()]


async def parts_of_order(session: AsyncSession, order_id: OrderId) -> list[PartView]:
    return [
        PartView(
            OrderLineId.of(row.order_line_id), LineKind(row.kind), Part(row.part), row.payee_id,
            row.amount_minor, row.by_line_minor + row.by_amount_minor, row.pending_minor,
            row.released_minor, row.due_at,
        )
        for row in await session.execute(_SPLIT, {"order_id": order_id})
    ]  # fmt: skip


async def explain_order(session: AsyncSession, order_id: OrderId) -> OrderMoney:
    """The identity, every part and every ledger entry of an order. Raises ``OrderNotSettled``."""
    return OrderMoney(
        await order_identity(session, order_id),
        await parts_of_order(session, order_id),
        await ledger.entries_of_order(session, order_id),
    )


async def party_balances(session: AsyncSession, payee_ids: Sequence[str]) -> list[PartyBalance]:
    """By party and currency; a party that never earned has none."""
    sums: dict[tuple[str, str], dict[Code, int]] = {}
    for each in await ledger.balances_of(session, [owner_of(payee) for payee in payee_ids]):
        sums.setdefault((party_of(each.owner), each.currency), {})[each.code] = each.balance_minor
    codes = (Code.PENDING, Code.AVAILABLE, Code.IN_PAYOUT, Code.RESERVED, Code.RECEIVABLE)
    return [
        PartyBalance(payee, currency, *(found.get(code, 0) for code in codes))
        for (payee, currency), found in sums.items()
    ]


async def trial_balance(session: AsyncSession) -> list[TrialLine]:
    return await ledger.trial_balance(session)


async def aged_items(session: AsyncSession) -> list[AgedItem]:
    """What waits in accounts that should empty themselves, oldest first."""
    return [
        AgedItem(Code(row.code), row.owner, row.currency, row.balance_minor, row.since)
        for row in await session.execute(_AGED)
    ]


async def payouts_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, payee_id: str | None = None
) -> Page[PayoutView]:
    """Newest first. ``actor`` sees its own payouts, and those of its promoters."""
    rows = (await session.execute(_PAYOUTS, _keyset(page, payee_id))).all()
    views = [
        PayoutView(
            PayoutId.of(row.id), PayoutBatchId.of(row.batch_id), row.payee_id, row.currency,
            row.amount_minor, PayoutStatus(row.status), row.transfer_id, row.failure, row.created_at,
            row.ended_at,
        )
        for row in rows
    ]  # fmt: skip
    return page_of(views, page, lambda view: (view.id.hex,))


async def statements_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, payee_id: str | None = None
) -> Page[StatementView]:
    rows = (await session.execute(_STATEMENTS, _keyset(page, payee_id))).all()
    views = [_statement(row) for row in rows]
    return page_of(views, page, lambda view: (view.id.hex,))


async def statement(session: AsyncSession, statement_id: StatementId) -> StatementView:
    """One that is known to be there."""
    return _statement((await session.execute(_STATEMENT, {"id": statement_id})).one())


async def statement_document(session: AsyncSession, actor: Actor, statement_id: StatementId) -> str | None:
    """The canonical JSON, or None when there is none the actor may see."""
    found: str | None = (await session.execute(_DOCUMENT, {"id": statement_id})).scalar_one_or_none()
    return found


def _statement(row: Row[Any]) -> StatementView:
    return StatementView(
        StatementId.of(row.id), row.payee_id, row.currency, row.number, row.period_from, row.period_to,
        row.opening_minor, row.closing_minor, row.hash, row.closed_at,
    )  # fmt: skip


def _keyset(page: PageRequest, payee_id: str | None) -> dict[str, Any]:
    after = UUID(page.key[0]) if page.key else None
    return {"payee_id": payee_id, "after": after, "limit": page.first + 1}
