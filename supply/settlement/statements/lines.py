"""Entries become the lines of a statement: named by what happened, and broken down by order line where known.

A breakdown is used only when it adds up to the entries it explains; otherwise the entries stand by themselves.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from core.ids import BrandId, JournalId, MalformedId, OrderId, OrderLineId
from core.money import PPM, half_up_ratio
from supply.ledger.chart import Code
from supply.settlement.composition import Part
from supply.settlement.kinds import Kind
from supply.settlement.models import LineKind
from supply.settlement.statements.entries import About, Cell, refund_of

Line = dict[str, Any]

ACCOUNTS = {
    Code.PENDING: "pending", Code.AVAILABLE: "available", Code.IN_PAYOUT: "in_payout",
    Code.RESERVED: "reserved", Code.RECEIVABLE: "receivable",
}  # fmt: skip
SECTIONS = (
    "sales", "discounts", "supplier_cost", "commission_paid", "platform_fee", "supplied", "commission_earned",
    "processing_recharge", "taxes", "refunds", "chargebacks", "adjustments", "recovered", "netting", "released",
    "payouts",
)  # fmt: skip
"""In the order they are read. ``released`` and ``netting`` move money between a party's own accounts and come
to zero; so does what of ``chargebacks`` is only held."""


def instant(at: datetime) -> str:
    """RFC 3339 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


_SECTION_OF: dict[str, str] = {
    Kind.FEE_RECHARGE: "processing_recharge",
    Kind.REFUND_RESERVED: "refunds",
    Kind.REFUND_VOIDED: "refunds",
    Kind.REVERSAL: "recovered",
    Kind.NETTING: "netting",
    Kind.RELEASE: "released",
    Kind.PAYOUT_RESERVED: "payouts",
    Kind.PAYOUT_SETTLED: "payouts",
    Kind.PAYOUT_VOIDED: "payouts",
}
_EARNED = {
    Part.SUPPLIER: "supplied", Part.PROMOTER_BRAND: "commission_earned", Part.INDIVIDUAL: "commission_earned",
    Part.MERCHANT: "sales",
}  # fmt: skip
_PAID = {
    Part.SUPPLIER: "supplier_cost", Part.PROMOTER_BRAND: "commission_paid", Part.INDIVIDUAL: "commission_paid",
    Part.PLATFORM_COMMISSION: "commission_paid", Part.PLATFORM_FEE: "platform_fee",
}  # fmt: skip


def section_of(kind: str) -> str:
    """Of a kind that has no breakdown. Everything a dispute does begins with its name."""
    found = _SECTION_OF.get(kind)
    if found is not None:
        return found
    return "chargebacks" if kind.startswith(("dispute", "chargeback")) else "adjustments"


def lines_of(payee_id: str, rows: Sequence[Any], about: About) -> Iterator[tuple[str, Line]]:
    """(section, line) of what one journal did to one party; ``rows`` are its entries there, by leg."""
    if not rows:
        return
    first = rows[0]
    if first["kind"] == Kind.CAPTURE:
        yield from _captured(payee_id, rows, about)
    elif (refund := refund_of(first["kind"], first["idem"])) is not None:
        yield from _refunded(payee_id, rows, about, refund)
    else:
        section, order_line = section_of(first["kind"]), _released_line(first)
        for row in rows:
            yield section, _line(payee_id, row, row["amount_minor"], order_line=order_line)


def _captured(payee_id: str, rows: Sequence[Any], about: About) -> Iterator[tuple[str, Line]]:
    cells = about.cells.get(rows[0]["order_id"], [])
    parts = [each for each in _parts_of(payee_id, cells) if each[2]]
    if not parts or sum(amount for _, _, amount, _ in parts) != sum(row["amount_minor"] for row in rows):
        earned = next((_EARNED[c.part] for c in cells if c.payee_id == payee_id), "sales")
        for row in rows:
            yield earned, _line(payee_id, row, row["amount_minor"])
        return
    for section, cell, amount, counterparty in parts:
        yield (
            section,
            _line(
                payee_id,
                rows[0],
                amount,
                order_line=OrderLineId.outer(cell.order_line_id.int),
                cell=cell,
                counterparty=counterparty,
                tax_minor=_tax_on(cell, cells) if section == "sales" and counterparty else 0,
            ),
        )


def _parts_of(payee_id: str, cells: Sequence[Cell]) -> Iterator[tuple[str, Cell, int, str]]:
    """(section, cell, amount, counterparty): what a party earned; of a merchant, what the customer paid for its
    goods and whom it paid of that."""
    for cell in cells:
        if cell.payee_id != payee_id or cell.part not in _EARNED:
            continue
        if cell.part is not Part.MERCHANT:
            yield _EARNED[cell.part], cell, cell.amount_minor, ""
            continue
        taken_off = sum(cell.discounts.values())
        yield "sales", cell, cell.charged_minor + taken_off, "customer"
        for funder, discount in sorted(cell.discounts.items()):
            yield "discounts", cell, -discount, funder
        for other in cells:
            same = (other.order_line_id, other.kind) == (cell.order_line_id, cell.kind)
            if same and other.part in _PAID:
                yield _PAID[other.part], other, -other.amount_minor, other.payee_id or "platform"


def _tax_on(cell: Cell, cells: Sequence[Cell]) -> int:
    """What the customer paid in tax on a merchant's line, on top of ``gross_minor``; the platform owes it."""
    same = (cell.order_line_id, cell.kind)
    return sum(c.amount_minor for c in cells if c.part is Part.TAX and (c.order_line_id, c.kind) == same)


def _refunded(payee_id: str, rows: Sequence[Any], about: About, refund: UUID) -> Iterator[tuple[str, Line]]:
    sign = 1 if rows[0]["kind"] == Kind.REFUND_VOIDED else -1
    by_line: dict[UUID, int] = {}
    skus: dict[UUID, str] = {}
    for taken in about.taken.get((refund, payee_id), []):
        by_line[taken.order_line_id] = by_line.get(taken.order_line_id, 0) + sign * taken.amount_minor
        skus[taken.order_line_id] = taken.sku
    by_line = {line: amount for line, amount in by_line.items() if amount}
    if len(rows) == 1 and sum(by_line.values()) == rows[0]["amount_minor"]:
        for line, amount in by_line.items():
            yield (
                "refunds",
                _line(payee_id, rows[0], amount, order_line=OrderLineId.outer(line.int), sku=skus[line]),
            )
        return
    only = next(iter(by_line)) if len(by_line) == 1 else None
    for row in rows:
        yield (
            "refunds",
            _line(
                payee_id,
                row,
                row["amount_minor"],
                order_line=OrderLineId.outer(only.int) if only else "",
                sku=skus[only] if only else "",
            ),
        )


def _released_line(row: Any) -> str:
    if row["kind"] != Kind.RELEASE:
        return ""
    order_line = str(row["idem"].split(":")[1])
    try:
        OrderLineId.parse(order_line)
    except MalformedId:
        return ""
    return order_line


def _line(
    payee_id: str,
    row: Any,
    amount: int,
    *,
    order_line: str = "",
    sku: str = "",
    cell: Cell | None = None,
    counterparty: str = "",
    tax_minor: int = 0,
) -> Line:
    journal = JournalId.outer(row["id"].int)
    line = {
        "account": ACCOUNTS[row["code"]],
        "agreement": "",
        "amount_minor": amount,
        "balance_after_minor": row["balance_after"],
        "counterparty": counterparty or _other_side(payee_id, row),
        "entry": f"{journal}/{row['leg']}",
        "event": row["kind"],
        "gross_minor": 0,
        "journal": journal,
        "memo": row["memo"] or "",
        "occurred_at": instant(row["effective_at"]),
        "order": OrderId.outer(row["order_id"].int) if row["order_id"] else "",
        "order_line": order_line,
        "order_number": row["number"] or "",
        "posted_at": instant(row["posted_at"]),
        "rate_ppm": 0,
        "reference": row["provider_ref"] or "",
        "share_ppm": 0,
        "shipping": False,
        "sku": sku,
        "tax_minor": tax_minor,
    }
    if cell is not None:
        gross = cell.charged_minor
        line["agreement"], line["rate_ppm"], line["sku"] = cell.agreement, cell.rate_ppm, cell.sku
        line["gross_minor"], line["shipping"] = gross, cell.kind is LineKind.SHIPPING
        line["share_ppm"] = half_up_ratio(abs(amount) * PPM, gross) if gross > 0 else 0
    return line


def _other_side(payee_id: str, row: Any) -> str:
    if row["merchant_id"] is None:
        return "platform"
    merchant = BrandId.outer(row["merchant_id"].int)
    return "customer" if merchant == payee_id else merchant
