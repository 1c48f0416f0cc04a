"""R1: a captured order is split between everybody who earns from it, in one journal.

Customer paid = merchant + suppliers + promoter brands + individuals + platform + tax. The merchant keeps the
residual; lines of it that come out below zero lower the others, and only an order that is below zero as a
whole makes a receivable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, OrderId, OrderLineId, SupplierId, TenantId
from core.money import allocate_remaining
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, Leg, credit, debit, merged
from supply.settlement.at_source.booking import open_dues, owed_later
from supply.settlement.composition import Part, Seat, seat_rank
from supply.settlement.errors import SplitDoesNotSum
from supply.settlement.ids import SplitLineId
from supply.settlement.kinds import Kind
from supply.settlement.models import LineKind
from supply.settlement.order_book import BookLine, Cell, OrderBook, insert_books
from supply.settlement.parties import pending_account, provider_account, tenant_of

UNDELIVERED_DAYS = 45
"""Without a delivery event everything is due this long after payment (cps.md §2)."""
_KNOWN = text("SELECT order_id FROM split_orders WHERE order_id = ANY(:ids)")
_CHARGE = text(
    "INSERT INTO provider_charges (charge_id, provider, currency, captured_at, available)"
    " VALUES (:charge_id, :provider, :currency, :captured_at, false) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class CommissionShare:
    """``payee_id`` is the outer id; ``role`` promoter_brand, individual or platform_commission.

    ``tenant_id`` is who may read an individual's account: the promoter brand it sells for. ``winner`` numbers
    the winners of a line that several sold, from 1; each has at most one share of a role.
    """

    payee_id: str
    role: Part
    amount_minor: int
    tenant_id: TenantId | None = None
    winner: int = 1
    agreement: str = ""
    """``agr_…/version``, and the rate: for statements."""
    rate_ppm: int = 0


@dataclass(frozen=True, slots=True)
class CapturedLine:
    """What one supplier delivers of one order line; a line from two suppliers comes as two of these.

    ``goods_minor`` and ``shipping_minor`` are what the customer paid without tax, after every discount;
    ``tax_minor`` and ``shipping_tax_minor`` the tax on each. ``supplier_cost_minor`` is for the whole
    quantity, ``supplier_shipping_minor`` its freight. ``basis_minor`` is the commission's basis,
    the price (``goods_minor`` and what a coupon paid) when it is left out.
    """

    order_line_id: OrderLineId
    quantity: int
    goods_minor: int
    tax_minor: int
    supplier_id: SupplierId | None
    supplier_cost_minor: int
    shipping_minor: int = 0
    shipping_tax_minor: int = 0
    supplier_shipping_minor: int = 0
    commission: Sequence[CommissionShare] = ()
    platform_fee_minor: int = 0
    basis_minor: int | None = None
    settlement_days: int | None = None
    coupon_minor: int = 0
    """What a coupon paid of the price beside the customer: by the platform, or by ``coupon_payee_id`` (a promoter,
    beyond what came off its commission). The parties share ``goods_minor`` and this."""
    coupon_payee_id: str = ""
    sku: str = ""
    discounts: Mapping[str, int] = field(default_factory=dict)
    """By funder, what was taken off the list price before ``goods_minor``: for statements."""

    @property
    def paid_minor(self) -> int:
        return self.goods_minor + self.tax_minor + self.shipping_minor + self.shipping_tax_minor


@dataclass(frozen=True, slots=True)
class CapturedOrder:
    """One merchant's order of a captured charge. ``amount_minor``, when given, must be the sum of its lines."""

    order_id: OrderId
    merchant_id: BrandId
    currency: str
    charge_id: str
    paid_at: datetime
    lines: Sequence[CapturedLine]
    tax_jurisdiction: str
    return_window_days: int = 15
    supplier_settlement_days: int = 0
    provider: str = "stripe"
    amount_minor: int | None = None
    number: str = ""
    adjustment: Sequence[CommissionShare] = ()
    """Commission the merchant owes with this order for earlier ones (cps.md R5, RETROACTIVE)."""


async def open_split(session: AsyncSession, order: CapturedOrder, *, clock: Clock) -> None:
    """Split one order. Again for the same order: nothing happens. Raises ``SplitDoesNotSum``."""
    await open_splits(session, [order], clock=clock)


async def open_splits(session: AsyncSession, orders: Sequence[CapturedOrder], *, clock: Clock) -> None:
    """Any number of orders, as those of one charge: one pass over the ledger's locks, six statements."""
    known = set((await session.execute(_KNOWN, {"ids": [o.order_id for o in orders]})).scalars())
    books = [book_of(order) for order in orders if order.order_id not in known]
    if not books:
        return
    await insert_books(session, books)
    await open_dues(session, [book for book in books if book.at_source])
    charges = {book.charge_id: book for book in books if not book.at_source}.values()
    if charges:
        await session.execute(
            _CHARGE, [_charge_row(b.charge_id, b.provider, b.currency, b.paid_at) for b in charges]
        )
    # Of a sale at source whose commission is nobody's, there is nothing to book.
    split = [capture_journal(book) for book in books if book.captured_minor]
    journals = [journal for journal in split if journal.legs]
    await ledger.post_together(session, journals, now=clock.now())


async def register_charge(
    session: AsyncSession, charge_id: str, *, provider: str, currency: str, captured_at: datetime
) -> None:
    """Remember a charge whose fee (R2) and availability (R3) are to follow."""
    await session.execute(_CHARGE, _charge_row(charge_id, provider, currency, captured_at))


def _charge_row(charge_id: str, provider: str, currency: str, captured_at: datetime) -> dict[str, Any]:
    return {
        "charge_id": charge_id, "provider": provider, "currency": currency, "captured_at": captured_at,
    }  # fmt: skip


def book_of(order: CapturedOrder) -> OrderBook:
    """The split of a captured order, with everything pending and due as if it were never delivered."""
    captured = sum(line.paid_minor for line in order.lines)
    if order.amount_minor not in (None, captured):
        raise SplitDoesNotSum(f"{order.order_id}: {order.amount_minor} captured, its lines sum to {captured}")
    book = OrderBook(
        order.order_id, order.merchant_id, order.currency, order.provider, order.charge_id,
        order.tax_jurisdiction, order.paid_at, order.return_window_days, captured,
        number=order.number,
    )  # fmt: skip
    due_at = order.paid_at + timedelta(days=max(UNDELIVERED_DAYS, order.return_window_days))
    for captured_line in order.lines:
        days = captured_line.settlement_days
        days = order.supplier_settlement_days if days is None else days
        book.lines.append(_goods_line(order, captured_line, due_at, days))
        if captured_line.shipping_minor or captured_line.supplier_shipping_minor:
            book.lines.append(_shipping_line(order, captured_line, due_at, days))
    if order.adjustment:
        book.lines.append(_adjustment_line(order, due_at))
    _lay_pending(book)
    for line in book.lines:
        line.captured_minor = line.charged_minor
        for cell in line.cells.values():
            cell.captured_minor, cell.captured_payee = cell.amount_minor, cell.payee_id
    return book


def _goods_line(order: CapturedOrder, line: CapturedLine, due_at: datetime, days: int) -> BookLine:
    commission = sum(share.amount_minor for share in line.commission)
    price = line.goods_minor + line.coupon_minor
    residual = price - line.supplier_cost_minor - commission - line.platform_fee_minor
    cells = _base_cells(order, line.supplier_id, residual, line.supplier_cost_minor, due_at)
    # An individual sells for the promoter brand of the same win.
    brands = {s.winner: tenant_of(s.payee_id) for s in line.commission if s.role is Part.PROMOTER_BRAND}
    for share in line.commission:
        payee = "" if share.role is Part.PLATFORM_COMMISSION else share.payee_id
        tenant = share.tenant_id or tenant_of(payee) or (brands.get(share.winner) if payee else None)
        cell = Cell(
            share.role, payee, tenant, share.amount_minor, due_at=due_at, winner=share.winner,
            agreement=share.agreement, rate_ppm=share.rate_ppm,
        )  # fmt: skip
        if cell.seat in cells:
            raise SplitDoesNotSum(f"{line.order_line_id} has two {cell.seat} parts")
        cells[cell.seat] = cell
    if line.platform_fee_minor:
        cells[Part.PLATFORM_FEE] = Cell(Part.PLATFORM_FEE, "", None, line.platform_fee_minor, due_at=due_at)
    if line.tax_minor:
        cells[Part.TAX] = Cell(Part.TAX, "", None, line.tax_minor)
    others = [cell.amount_minor for cell in cells.values() if cell.part is not Part.MERCHANT]
    if line.coupon_minor:
        payer = line.coupon_payee_id
        cells[Part.COUPON] = Cell(Part.COUPON, payer, tenant_of(payer), -line.coupon_minor)
    if min(line.goods_minor, line.coupon_minor, line.quantity - 1, *others) < 0:
        raise SplitDoesNotSum(f"{line.order_line_id} has a part below zero")
    basis = price if line.basis_minor is None else line.basis_minor
    return BookLine(
        SplitLineId.new(), line.order_line_id, LineKind.GOODS, line.supplier_id, line.quantity,
        line.goods_minor, basis, days, cells,
        sku=line.sku, discounts=dict(line.discounts),
    )  # fmt: skip


def _adjustment_line(order: CapturedOrder, due_at: datetime) -> BookLine:
    """The merchant pays it out of this order; it is due with the order's first line, and no refund of a line
    touches it."""
    first = order.lines[0]
    nothing = CapturedLine(
        first.order_line_id, 1, 0, 0, first.supplier_id, 0, commission=order.adjustment
    )  # fmt: skip
    line = _goods_line(order, nothing, due_at, 0)
    line.kind = LineKind.ADJUSTMENT
    return line


def _shipping_line(order: CapturedOrder, line: CapturedLine, due_at: datetime, days: int) -> BookLine:
    residual = line.shipping_minor - line.supplier_shipping_minor
    cells = _base_cells(order, line.supplier_id, residual, line.supplier_shipping_minor, due_at)
    if line.shipping_tax_minor:
        cells[Part.TAX] = Cell(Part.TAX, "", None, line.shipping_tax_minor)
    return BookLine(
        SplitLineId.new(), line.order_line_id, LineKind.SHIPPING, line.supplier_id, 1,
        line.shipping_minor, 0, days, cells,
    )  # fmt: skip


def _base_cells(
    order: CapturedOrder, supplier_id: SupplierId | None, residual: int, cost: int, due_at: datetime
) -> dict[Seat, Cell]:
    merchant = Cell(Part.MERCHANT, str(order.merchant_id), order.merchant_id, residual, due_at=due_at)
    if supplier_id is None:
        return {Part.MERCHANT: merchant}
    supplier = Cell(Part.SUPPLIER, str(supplier_id), supplier_id, cost, due_at=due_at)
    return {Part.MERCHANT: merchant, Part.SUPPLIER: supplier}


def _lay_pending(book: OrderBook) -> None:
    """Everything above zero is pending; the merchant's lines below zero lower its other ones first."""
    for line in book.lines:
        for cell in line.cells.values():
            if cell.part not in (Part.TAX, Part.MERCHANT, Part.COUPON):
                cell.pending_minor = cell.amount_minor
    if book.at_source:
        return  # the merchant has its part already
    merchant = [line.cells[Part.MERCHANT] for line in book.lines]
    above = [max(cell.amount_minor, 0) for cell in merchant]
    kept = max(sum(cell.amount_minor for cell in merchant), 0)
    for cell, share in zip(merchant, allocate_remaining(kept, above), strict=True):
        cell.pending_minor = share


def capture_journal(book: OrderBook) -> Journal:
    legs = _paid_in(book)
    cells = [cell for line in book.lines for cell in line.cells.values()]
    for cell in sorted(cells, key=lambda each: seat_rank(each.seat)):
        account = pending_account(
            cell.part,
            cell.payee_id,
            book.currency,
            jurisdiction=book.tax_jurisdiction,
            tenant_id=cell.tenant_id,
        )
        lies_there = cell.part in (Part.TAX, Part.COUPON)
        legs.append(credit(account, cell.amount_minor if lies_there else cell.pending_minor))
    # One journal per order, so that order_id names all of an order's entries; a charge of several orders has
    # a journal for each.
    key = f"capture:{book.charge_id}:{book.order_id}"
    return Journal(key, Kind.CAPTURE, merged(legs), book.paid_at, book.order_id, book.charge_id)


def _paid_in(book: OrderBook) -> list[Leg]:
    """Who has what the parts are made of: the provider, and a merchant whose part is below zero; of a sale whose
    money the merchant has itself, the merchant, as much of it as is not its own."""
    if book.at_source:
        return [owed_later(book)]
    paid = debit(provider_account(Code.PROVIDER_PENDING, book.provider, book.currency), book.captured_minor)
    residual = sum(line.cells[Part.MERCHANT].amount_minor for line in book.lines)
    return [paid, debit(book.merchants(Code.RECEIVABLE), max(-residual, 0))]
