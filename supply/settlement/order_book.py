"""One order's split in memory: loaded under its lock, changed by a recipe, written back.

``OrderBook.state`` is what the composition rules compute with; ``Cell`` adds where the money lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, OrderId, OrderLineId, SupplierId, TenantId
from infra.db.base import table_of
from infra.db.rows import insert_rows
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey
from supply.settlement.composition import (
    FurtherShare,
    LineSale,
    LineState,
    OrderState,
    Part,
    Returned,
    Seat,
    ShippingSale,
    ShippingState,
    seat_of,
    seat_rank,
)
from supply.settlement.errors import OrderNotSettled
from supply.settlement.ids import SplitLineId
from supply.settlement.models import LineKind, SplitLine, SplitOrder, SplitPart
from supply.settlement.parties import is_at_source, party_account

_LOCK = text("SELECT * FROM split_orders WHERE order_id = ANY(:ids) ORDER BY order_id FOR NO KEY UPDATE")
_READ = text("SELECT * FROM split_orders WHERE order_id = ANY(:ids) ORDER BY order_id")
_LINES = text("SELECT * FROM split_lines WHERE order_id = ANY(:ids) ORDER BY id")
_PARTS = text("SELECT * FROM split_parts WHERE order_id = ANY(:ids)")
_ORDERS_TABLE, _LINES_TABLE, _PARTS_TABLE = table_of(SplitOrder), table_of(SplitLine), table_of(SplitPart)
_SAVE_ORDERS = text(
    "UPDATE split_orders s SET refunded_minor = n.refunded_minor, goodwill_minor = n.goodwill_minor,"
    " releases = n.releases FROM unnest(CAST(:order_id AS uuid[]), CAST(:refunded_minor AS bigint[]),"
    " CAST(:goodwill_minor AS bigint[]), CAST(:releases AS int[]))"
    " AS n (order_id, refunded_minor, goodwill_minor, releases) WHERE s.order_id = n.order_id"
)
_SAVE_LINES = text(
    "UPDATE split_lines s SET supplier_id = n.supplier_id, quantity = n.quantity,"
    " returned_quantity = n.returned_quantity, accepted_quantity = n.accepted_quantity,"
    " by_quantity_minor = n.by_quantity_minor, by_value_minor = n.by_value_minor,"
    " delivered_quantity = n.delivered_quantity, delivered_at = n.delivered_at, open_holds = n.open_holds,"
    " charged_minor = n.charged_minor, basis_minor = n.basis_minor"
    " FROM unnest(CAST(:id AS uuid[]), CAST(:supplier_id AS uuid[]), CAST(:quantity AS int[]),"
    " CAST(:returned_quantity AS int[]), CAST(:accepted_quantity AS int[]),"
    " CAST(:by_quantity_minor AS bigint[]), CAST(:by_value_minor AS bigint[]),"
    " CAST(:delivered_quantity AS int[]), CAST(:delivered_at AS timestamptz[]), CAST(:open_holds AS int[]),"
    " CAST(:charged_minor AS bigint[]), CAST(:basis_minor AS bigint[])) AS n (id, supplier_id, quantity,"
    " returned_quantity, accepted_quantity, by_quantity_minor, by_value_minor, delivered_quantity,"
    " delivered_at, open_holds, charged_minor, basis_minor) WHERE s.id = n.id"
)
_SAVE_PARTS = text(
    "UPDATE split_parts p SET payee_id = n.payee_id, tenant_id = n.tenant_id, amount_minor = n.amount_minor,"
    " by_line_minor = n.by_line_minor, by_amount_minor = n.by_amount_minor,"
    " pending_minor = n.pending_minor, released_minor = n.released_minor, due_at = n.due_at"
    " FROM unnest(CAST(:line_id AS uuid[]), CAST(:seat AS text[]), CAST(:payee_id AS text[]),"
    " CAST(:tenant_id AS uuid[]), CAST(:amount_minor AS bigint[]), CAST(:by_line_minor AS bigint[]),"
    " CAST(:by_amount_minor AS bigint[]), CAST(:pending_minor AS bigint[]),"
    " CAST(:released_minor AS bigint[]), CAST(:due_at AS timestamptz[])) AS n (line_id, seat, payee_id,"
    " tenant_id, amount_minor, by_line_minor, by_amount_minor, pending_minor, released_minor, due_at)"
    " WHERE p.line_id = n.line_id AND p.seat = n.seat"
)
_PLATFORM_PARTS = (Part.PLATFORM_COMMISSION, Part.PLATFORM_FEE)
PARTY_PARTS = (Part.MERCHANT, Part.SUPPLIER, Part.PROMOTER_BRAND, Part.INDIVIDUAL)


@dataclass(slots=True)
class Cell:
    """One payee's part of one split line, and how much of it lies in 2000 and went on to 2010."""

    part: Part
    payee_id: str
    tenant_id: TenantId | None
    amount_minor: int
    by_line_minor: int = 0
    by_amount_minor: int = 0
    pending_minor: int = 0
    released_minor: int = 0
    due_at: datetime | None = None
    winner: int = 1
    """Of a line that several promoters sold: whose share it is, in their sequence."""
    captured_minor: int = 0
    """Its part of the capture journal, and …"""
    captured_payee: str = ""
    """… whose entry that was; neither ever changes, so that a statement can always be computed again."""
    agreement: str = ""
    """Of a commission: ``agr_…/version`` and the rate it was earned at."""
    rate_ppm: int = 0

    @property
    def seat(self) -> Seat:
        return seat_of(self.part, self.winner)

    @property
    def held_minor(self) -> int:
        """Its share of what the customer still has paid for; a merchant's may be below zero."""
        return self.amount_minor - self.by_line_minor - self.by_amount_minor


@dataclass(slots=True)
class BookLine:
    """``charged_minor`` and ``quantity`` of goods; a shipping line counts one charge."""

    id: SplitLineId
    order_line_id: OrderLineId
    kind: LineKind
    supplier_id: SupplierId | None
    """Nobody of ours delivers what was sold in a brand's own checkout."""
    quantity: int
    charged_minor: int
    basis_minor: int
    settlement_days: int
    cells: dict[Seat, Cell]
    returned_quantity: int = 0
    accepted_quantity: int = 0
    by_quantity_minor: int = 0
    by_value_minor: int = 0
    delivered_quantity: int = 0
    delivered_at: datetime | None = None
    open_holds: int = 0
    sku: str = ""
    captured_minor: int = 0
    """``charged_minor`` at capture; never changes."""
    discounts: dict[str, int] = field(default_factory=dict)
    """By funder, what was taken off before ``captured_minor``."""
    commission_held: bool = False
    """Not stored: whoever releases asks for it (holds.mark_held)."""

    @property
    def is_goods(self) -> bool:
        return self.kind is LineKind.GOODS

    @property
    def outstanding_quantity(self) -> int:
        """Units neither delivered nor refunded. Units that were both are counted once too often as done."""
        return max(self.quantity - self.delivered_quantity - self.returned_quantity, 0)

    def amount(self, part: Part) -> int:
        return self.cells[part].amount_minor if part in self.cells else 0

    def payee(self, part: Part) -> str:
        return self.cells[part].payee_id if part in self.cells else ""

    def state(self) -> LineState | ShippingState:
        returned = Returned(
            quantity=self.returned_quantity,
            accepted_quantity=self.accepted_quantity,
            by_quantity_minor=self.by_quantity_minor,
            by_value_minor=self.by_value_minor,
            by_line=MappingProxyType({seat: cell.by_line_minor for seat, cell in self.cells.items()}),
            by_amount=MappingProxyType({seat: cell.by_amount_minor for seat, cell in self.cells.items()}),
        )
        if self.kind is not LineKind.SHIPPING:
            return LineState(self._line_sale(), returned)
        return ShippingState(self._shipping_sale(), returned)

    def _line_sale(self) -> LineSale:
        return LineSale(
            line_id=str(self.id),
            quantity=self.quantity,
            goods_minor=self.charged_minor,
            tax_minor=self.amount(Part.TAX),
            merchant_id=self.payee(Part.MERCHANT),
            supplier_id=self.payee(Part.SUPPLIER),
            supplier_cost_minor=self.amount(Part.SUPPLIER),
            platform_fee_minor=self.amount(Part.PLATFORM_FEE),
            basis_minor=self.basis_minor,
            promoter_brand_id=self.payee(Part.PROMOTER_BRAND),
            individual_id=self.payee(Part.INDIVIDUAL),
            promoter_brand_minor=self.amount(Part.PROMOTER_BRAND),
            individual_minor=self.amount(Part.INDIVIDUAL),
            platform_commission_minor=self.amount(Part.PLATFORM_COMMISSION),
            coupon_minor=-self.amount(Part.COUPON),
            coupon_payee_id=self.payee(Part.COUPON),
            further=tuple(
                [
                    FurtherShare(cell.part, cell.winner, cell.payee_id, cell.amount_minor)
                    for cell in self.cells.values()
                    if cell.winner > 1
                ]
            ),
        )

    def _shipping_sale(self) -> ShippingSale:
        return ShippingSale(
            shipping_id=str(self.id),
            charged_minor=self.charged_minor,
            tax_minor=self.amount(Part.TAX),
            merchant_id=self.payee(Part.MERCHANT),
            supplier_id=self.payee(Part.SUPPLIER),
            freight_minor=self.amount(Part.SUPPLIER),
        )

    def take_over(self, state: LineState | ShippingState) -> None:
        """Write the composition's answer back into the cells."""
        returned = state.returned
        self.returned_quantity, self.accepted_quantity = returned.quantity, returned.accepted_quantity
        self.by_quantity_minor, self.by_value_minor = returned.by_quantity_minor, returned.by_value_minor
        for seat, cell in self.cells.items():
            cell.by_line_minor = returned.by_line.get(seat, 0)
            cell.by_amount_minor = returned.by_amount.get(seat, 0)


@dataclass(slots=True)
class OrderBook:
    order_id: OrderId
    merchant_id: BrandId
    currency: str
    provider: str
    charge_id: str
    tax_jurisdiction: str
    paid_at: datetime
    return_window_days: int
    captured_minor: int
    refunded_minor: int = 0
    releases: int = 0
    number: str = ""
    goodwill_minor: int = 0
    """Given back by the platform out of its own pocket, less what refunds of the parties' shares repaid. Below
    zero what the platform had given came back from the bank after it was repaid (goodwill_owed.py)."""
    lines: list[BookLine] = field(default_factory=list)

    @property
    def at_source(self) -> bool:
        """The merchant has what the customer paid, and owes the commission of it."""
        return is_at_source(self.provider)

    @property
    def customer_keeps_minor(self) -> int:
        """What the customer paid and has not got back, from the parties or from the platform."""
        return self.captured_minor - self.refunded_minor - self.goodwill_minor

    @property
    def owed_to_customer_minor(self) -> int:
        """What the parties gave back and the customer has not got."""
        return max(-self.goodwill_minor, 0)

    @property
    def state(self) -> OrderState:
        states = [line.state() for line in self.lines]
        return OrderState(
            tuple([s for s in states if isinstance(s, LineState)]),
            tuple([s for s in states if isinstance(s, ShippingState)]),
        )

    def take_over(self, state: OrderState) -> None:
        by_id = {str(line.id): line for line in self.lines}
        for goods in state.lines:
            by_id[goods.sale.line_id].take_over(goods)
        for shipping in state.shipping:
            by_id[shipping.sale.shipping_id].take_over(shipping)

    def line(self, line_id: str) -> BookLine:
        return next(line for line in self.lines if str(line.id) == line_id)

    def goods_of(self, order_line_id: OrderLineId) -> list[BookLine]:
        return [line for line in self.lines if line.is_goods and line.order_line_id == order_line_id]

    def shipping_of(self, order_line_id: OrderLineId | None) -> list[BookLine]:
        return [
            line
            for line in self.lines
            if line.kind is LineKind.SHIPPING and order_line_id in (None, line.order_line_id)
        ]

    def cells_of(self, payee_id: str) -> list[Cell]:
        """The cells of one party, in the order of the lines."""
        return [
            cell
            for line in self.lines
            for cell in line.cells.values()
            if cell.payee_id == payee_id and cell.part in PARTY_PARTS
        ]

    def merchants(self, code: Code) -> AccountKey:
        return party_account(code, str(self.merchant_id), self.currency, self.merchant_id)

    def party_accounts(self, *codes: Code) -> list[AccountKey]:
        parties = {
            cell.payee_id: cell.tenant_id
            for line in self.lines
            for cell in line.cells.values()
            if cell.part in PARTY_PARTS or (cell.part is Part.COUPON and cell.payee_id)
        }
        return [
            party_account(code, party, self.currency, tenant)
            for party, tenant in parties.items()
            for code in codes
        ]


def platform_part(part: Part) -> bool:
    return part in _PLATFORM_PARTS


async def load(session: AsyncSession, order_id: OrderId, *, lock: bool = True) -> OrderBook:
    """The order's split; with ``lock`` nobody else changes it until the transaction ends.

    Raises ``OrderNotSettled``.
    """
    books = await load_many(session, [order_id], lock=lock)
    if not books:
        raise OrderNotSettled(order_id)
    return books[0]


async def load_many(
    session: AsyncSession, order_ids: Sequence[OrderId], *, lock: bool = True
) -> list[OrderBook]:
    """Those of the orders that have a split, by id."""
    ids = {"ids": list(order_ids)}
    orders = (await session.execute(_LOCK if lock else _READ, ids)).all()
    books = {row.order_id: _book(row) for row in orders}
    cells: dict[Any, dict[Seat, Cell]] = {}
    for row in await session.execute(_PARTS, ids):
        cells.setdefault(row.line_id, {})[row.seat] = _cell(row)
    for row in await session.execute(_LINES, ids):
        drawn = cells.get(row.id, {})
        books[row.order_id].lines.append(
            _line(row, {seat: drawn[seat] for seat in sorted(drawn, key=seat_rank)})
        )
    return list(books.values())


def _book(row: Any) -> OrderBook:
    return OrderBook(
        OrderId.of(row.order_id), BrandId.of(row.merchant_id), row.currency, row.provider, row.charge_id,
        row.tax_jurisdiction, row.paid_at, row.return_window_days, row.captured_minor, row.refunded_minor,
        row.releases, row.number, row.goodwill_minor,
    )  # fmt: skip


def _cell(row: Any) -> Cell:
    return Cell(
        Part(row.part), row.payee_id, TenantId.of(row.tenant_id) if row.tenant_id else None,
        row.amount_minor, row.by_line_minor, row.by_amount_minor, row.pending_minor, row.released_minor,
        row.due_at, int(row.seat.partition(".")[2] or 1), row.captured_minor, row.captured_payee,
        row.agreement, row.rate_ppm,
    )  # fmt: skip


def _line(row: Any, cells: dict[Seat, Cell]) -> BookLine:
    return BookLine(
        SplitLineId.of(row.id), OrderLineId.of(row.order_line_id), LineKind(row.kind),
        SupplierId.of(row.supplier_id) if row.supplier_id else None, row.quantity, row.charged_minor,
        row.basis_minor, row.settlement_days, cells, row.returned_quantity, row.accepted_quantity,
        row.by_quantity_minor, row.by_value_minor, row.delivered_quantity, row.delivered_at, row.open_holds, row.sku,
        row.captured_minor, row.discounts,
    )  # fmt: skip


async def insert_books(session: AsyncSession, books: Sequence[OrderBook]) -> None:
    """Three statements for any number of books."""
    await insert_rows(session, _ORDERS_TABLE, [_order_row(book) for book in books])
    await _insert_lines(session, [(book, line) for book in books for line in book.lines])


async def insert_lines(session: AsyncSession, book: OrderBook, lines: Sequence[BookLine]) -> None:
    await _insert_lines(session, [(book, line) for line in lines])


async def _insert_lines(session: AsyncSession, lines: Sequence[tuple[OrderBook, BookLine]]) -> None:
    await insert_rows(session, _LINES_TABLE, [_line_row(book, line) for book, line in lines])
    parts = [_part_row(book, line, cell) for book, line in lines for cell in line.cells.values()]
    await insert_rows(session, _PARTS_TABLE, parts)


async def save(session: AsyncSession, books: Iterable[OrderBook]) -> None:
    """Write every changeable column of the books back, in three statements for all their lines and parts."""
    books = list(books)
    lines = [_line_row(book, line) for book in books for line in book.lines]
    parts = [
        _part_row(book, line, cell) for book in books for line in book.lines for cell in line.cells.values()
    ]
    orders = [_order_row(book) for book in books]
    await session.execute(_SAVE_ORDERS, _by_column(orders, _SAVED_OF_ORDER))
    await session.execute(_SAVE_LINES, _by_column(lines, _SAVED_OF_LINE))
    await session.execute(_SAVE_PARTS, _by_column(parts, _SAVED_OF_PART))


_SAVED_OF_ORDER = ("order_id", "refunded_minor", "goodwill_minor", "releases")
_SAVED_OF_LINE = (
    "id", "supplier_id", "quantity", "returned_quantity", "accepted_quantity", "by_quantity_minor",
    "by_value_minor", "delivered_quantity", "delivered_at", "open_holds", "charged_minor", "basis_minor",
)  # fmt: skip
_SAVED_OF_PART = (
    "line_id", "seat", "payee_id", "tenant_id", "amount_minor", "by_line_minor", "by_amount_minor",
    "pending_minor", "released_minor", "due_at",
)  # fmt: skip


def _by_column(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> dict[str, list[Any]]:
    return {column: [row[column] for row in rows] for column in columns}


def _order_row(book: OrderBook) -> dict[str, Any]:
    return {
        "order_id": book.order_id, "merchant_id": book.merchant_id, "currency": book.currency,
        "provider": book.provider, "charge_id": book.charge_id, "tax_jurisdiction": book.tax_jurisdiction,
        "paid_at": book.paid_at, "return_window_days": book.return_window_days,
        "captured_minor": book.captured_minor, "refunded_minor": book.refunded_minor,
        "releases": book.releases, "number": book.number, "goodwill_minor": book.goodwill_minor,
    }  # fmt: skip


def _line_row(book: OrderBook, line: BookLine) -> dict[str, Any]:
    return {
        "id": line.id, "order_id": book.order_id, "order_line_id": line.order_line_id,
        "merchant_id": book.merchant_id, "supplier_id": line.supplier_id, "kind": line.kind.value,
        "quantity": line.quantity, "charged_minor": line.charged_minor, "basis_minor": line.basis_minor,
        "settlement_days": line.settlement_days, "returned_quantity": line.returned_quantity,
        "accepted_quantity": line.accepted_quantity, "by_quantity_minor": line.by_quantity_minor,
        "by_value_minor": line.by_value_minor, "delivered_quantity": line.delivered_quantity,
        "delivered_at": line.delivered_at, "open_holds": line.open_holds, "sku": line.sku,
        "captured_minor": line.captured_minor, "discounts": line.discounts,
    }  # fmt: skip


def _part_row(book: OrderBook, line: BookLine, cell: Cell) -> dict[str, Any]:
    return {
        "line_id": line.id, "seat": str(cell.seat), "part": cell.part.value, "order_id": book.order_id,
        "merchant_id": book.merchant_id, "payee_id": cell.payee_id, "tenant_id": cell.tenant_id,
        "amount_minor": cell.amount_minor, "by_line_minor": cell.by_line_minor,
        "by_amount_minor": cell.by_amount_minor, "pending_minor": cell.pending_minor,
        "released_minor": cell.released_minor, "due_at": cell.due_at,
        "captured_minor": cell.captured_minor, "captured_payee": cell.captured_payee,
        "agreement": cell.agreement, "rate_ppm": cell.rate_ppm,
    }  # fmt: skip
