"""Entries become the lines of a statement: named by what happened, and broken down by order line where known.

A breakdown is used only when it adds up to the entries it explains; otherwise the entries stand by themselves.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from core.ids import BrandId, JournalId, MalformedId, OrderId, OrderLineId
from core.money import PPM
from supply.ledger.chart import Code
from supply.settlement.composition import Part
from supply.settlement.kinds import Kind
from supply.settlement.models import LineKind
from supply.settlement.statements.entries import About, OrderLineTaken, refund_of

Line = dict[str, Any]

ACCOUNTS = {
    Code.PENDING: "pending", Code.AVAILABLE: "available", Code.IN_PAYOUT: "in_payout",
    Code.RESERVED: "reserved", Code.RECEIVABLE: "receivable",
}  # fmt: skip
SECTIONS = (
    "sales", "discounts", "supplier_cost", "commission_paid", "commission_due", "platform_fee", "supplied",
    "commission_earned", "processing_recharge", "taxes", "refunds", "chargebacks", "adjustments", "recovered",
    "netting", "released", "payouts",
)  # fmt: skip
"""In the order they are read. ``released`` and ``netting`` move money between a party's own accounts and come
to zero; so does what of ``chargebacks`` is only held."""


def instant(at: datetime) -> str:
    """RFC 3339 in UTC."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return f"{at.isoformat()[:-6]}Z"


_SECTION_OF: dict[str, str] = {
    Kind.FEE_RECHARGE: "processing_recharge",
    Kind.REFUND_RESERVED: "refunds",
    Kind.REFUND_VOIDED: "refunds",
    Kind.REFUND_AT_SOURCE: "refunds",
    Kind.COMMISSION_DUE: "commission_due",
    Kind.DEBT_PAID: "recovered",
    Kind.REVERSAL: "recovered",
    Kind.NETTING: "netting",
    Kind.RELEASE: "released",
    Kind.RELEASE_UNDONE: "released",
    Kind.PAYOUT_RESERVED: "payouts",
    Kind.PAYOUT_SETTLED: "payouts",
    Kind.PAYOUT_VOIDED: "payouts",
}
_EARNED: dict[str, str] = {
    Part.SUPPLIER.value: "supplied", Part.PROMOTER_BRAND.value: "commission_earned",
    Part.INDIVIDUAL.value: "commission_earned", Part.MERCHANT.value: "sales",
    Part.COUPON.value: "discounts",
}  # fmt: skip
_PAID: dict[str, str] = {
    Part.SUPPLIER.value: "supplier_cost", Part.PROMOTER_BRAND.value: "commission_paid",
    Part.INDIVIDUAL.value: "commission_paid", Part.PLATFORM_COMMISSION.value: "commission_paid",
    Part.PLATFORM_FEE.value: "platform_fee", Part.COUPON.value: "discounts",
}  # fmt: skip
# Read a million times when a month is closed.
_CAPTURE, _RELEASE, _VOIDED = Kind.CAPTURE.value, Kind.RELEASE.value, Kind.REFUND_VOIDED.value
_MERCHANT, _TAX, _SHIPPING = Part.MERCHANT.value, Part.TAX.value, LineKind.SHIPPING.value
_ACCOUNTS = {int(code): name for code, name in ACCOUNTS.items()}


def section_of(kind: str) -> str:
    """Of a kind that has no breakdown. Everything a dispute does begins with its name."""
    found = _SECTION_OF.get(kind)
    if found is not None:
        return found
    return "chargebacks" if kind.startswith(("dispute", "chargeback")) else "adjustments"


def lines_of(payee_id: str, rows: Sequence[Any], about: About) -> list[tuple[str, Line]]:
    """(section, line) of what one journal did to one party; ``rows`` are its entries there, by leg."""
    kind = rows[0]["kind"]
    if kind == _CAPTURE:
        return _captured(payee_id, rows, about.cells.get(rows[0]["order_id"], ()))
    refund = refund_of(kind, rows[0]["idem"])
    if refund is not None:
        return _refunded(payee_id, rows, about.taken.get((refund, payee_id), ()))
    section, order_line = section_of(kind), _released_line(rows[0])
    return [(section, _line(payee_id, row, row["amount_minor"], order_line=order_line)) for row in rows]


def _captured(payee_id: str, rows: Sequence[Any], cells: Sequence[Any]) -> list[tuple[str, Line]]:
    first = rows[0]
    if first["order_line_id"] is not None and len(rows) == 1:
        return [(_EARNED[first["part"]], _line_of(payee_id, first, first["amount_minor"], first))]
    earned = [cell for cell in cells if cell["payee_id"] == payee_id and cell["part"] in _EARNED]
    parts = [each for cell in earned for each in _parts_of(cell, cells) if each[2]]
    if not parts or sum([amount for _, _, amount, _ in parts]) != sum([row["amount_minor"] for row in rows]):
        section = _EARNED[earned[0]["part"]] if earned else "sales"
        return [(section, _line(payee_id, row, row["amount_minor"])) for row in rows]
    lines = []
    for section, cell, amount, counterparty in parts:
        line = _line_of(payee_id, first, amount, cell)
        if counterparty:
            line["counterparty"] = counterparty
            line["tax_minor"] = _tax_on(cell, cells) if section == "sales" else 0
        lines.append((section, line))
    return lines


def _parts_of(cell: Any, cells: Sequence[Any]) -> Iterator[tuple[str, Any, int, str]]:
    """(section, cell, amount, counterparty): what a party earned; of a merchant, what the customer paid for its
    goods and whom it paid of that."""
    if cell["part"] != _MERCHANT:
        yield _EARNED[cell["part"]], cell, cell["amount_minor"], ""
        return
    discounts = orjson.loads(cell["discounts"])
    yield "sales", cell, cell["charged_minor"] + sum(discounts.values()), "customer"
    for funder, discount in sorted(discounts.items()):
        yield "discounts", cell, -discount, funder
    for other in cells:
        if _same_line(cell, other) and other["part"] in _PAID:
            yield _PAID[other["part"]], other, -other["amount_minor"], other["payee_id"] or "platform"


def _same_line(one: Any, other: Any) -> bool:
    return bool(one["order_line_id"] == other["order_line_id"] and one["line_kind"] == other["line_kind"])


def _tax_on(cell: Any, cells: Sequence[Any]) -> int:
    """What the customer paid in tax on a merchant's line, on top of ``gross_minor``; the platform owes it."""
    return sum([c["amount_minor"] for c in cells if c["part"] == _TAX and _same_line(cell, c)])


def _refunded(payee_id: str, rows: Sequence[Any], taken: Sequence[OrderLineTaken]) -> list[tuple[str, Line]]:
    sign = 1 if rows[0]["kind"] == _VOIDED else -1
    by_line: dict[UUID, int] = {}
    for each in taken:
        by_line[each.order_line_id] = by_line.get(each.order_line_id, 0) + sign * each.amount_minor
    skus = {each.order_line_id: each.sku for each in taken}
    by_line = {line: amount for line, amount in by_line.items() if amount}
    if len(rows) == 1 and sum(by_line.values()) == rows[0]["amount_minor"]:
        parts: list[tuple[Any, UUID | None, int]] = [
            (rows[0], line, amount) for line, amount in by_line.items()
        ]
    else:
        only = next(iter(by_line)) if len(by_line) == 1 else None
        parts = [(row, only, row["amount_minor"]) for row in rows]
    return [
        (
            "refunds",
            _line(
                payee_id,
                row,
                amount,
                order_line=OrderLineId.outer(line.int) if line else "",
                sku=skus[line] if line else "",
            ),
        )
        for row, line, amount in parts
    ]


def _released_line(row: Any) -> str:
    if row["kind"] != _RELEASE:
        return ""
    order_line = str(row["idem"]).removeprefix("release:").partition(":")[0]
    try:
        OrderLineId.parse(order_line)
    except MalformedId:
        return ""
    return order_line


def _line_of(payee_id: str, row: Any, amount: int, cell: Any) -> Line:
    """A line that is about one part of an order line."""
    line = _line(
        payee_id, row, amount, order_line=OrderLineId.outer(cell["order_line_id"].int), sku=cell["sku"]
    )
    gross = cell["charged_minor"]
    line["agreement"], line["rate_ppm"], line["gross_minor"] = cell["agreement"], cell["rate_ppm"], gross
    line["shipping"] = cell["line_kind"] == _SHIPPING
    if gross > 0:
        line["share_ppm"] = (2 * abs(amount) * PPM + gross) // (2 * gross)
    return line


def _line(payee_id: str, row: Any, amount: int, *, order_line: str = "", sku: str = "") -> Line:
    journal, order = JournalId.outer(row["id"].int), row["order_id"]
    return {
        "account": _ACCOUNTS[row["code"]],
        "agreement": "",
        "amount_minor": amount,
        "balance_after_minor": row["balance_after"],
        "counterparty": _other_side(payee_id, row["merchant_id"]),
        "entry": f"{journal}/{row['leg']}",
        "event": row["kind"],
        "gross_minor": 0,
        "journal": journal,
        "memo": row["memo"] or "",
        "occurred_at": row["effective_at"],
        "order": OrderId.outer(order.int) if order is not None else "",
        "order_line": order_line,
        "order_number": row["number"] or "",
        "posted_at": row["posted_at"],
        "rate_ppm": 0,
        "reference": row["provider_ref"] or "",
        "share_ppm": 0,
        "shipping": False,
        "sku": sku,
        "tax_minor": 0,
    }


@lru_cache(maxsize=10_000)
def _other_side(payee_id: str, merchant_id: UUID | None) -> str:
    if merchant_id is None:
        return "platform"
    merchant = BrandId.outer(merchant_id.int)
    return "customer" if merchant == payee_id else merchant
