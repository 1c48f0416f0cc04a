"""The PDF of a statement: same bytes for the same document, and what it must show."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from supply.settlement.statements.document import Document, Header, Moved, document_of
from supply.settlement.statements.lines import Line
from supply.settlement.statements.pdf import MOST_LINES, pdf_of

MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)


def line(amount: int, **other: object) -> Line:
    return {
        "account": "pending", "agreement": "", "amount_minor": amount, "balance_after_minor": amount,
        "counterparty": "customer", "entry": "jrn_x/1", "event": "capture", "gross_minor": 9_000,
        "journal": "jrn_x", "memo": "", "occurred_at": "2026-03-02T08:00:00Z", "order": "ord_1",
        "order_line": "oln_1", "order_number": "LY-1", "posted_at": "2026-03-02T08:00:00Z", "rate_ppm": 0,
        "reference": "ch_1", "share_ppm": 0, "shipping": False, "sku": "面霜-50", "tax_minor": 0, **other,
    }  # fmt: skip


def statement(lines: int, *, currency: str = "CNY") -> Document:
    moved = Moved()
    for number in range(lines):
        moved.add("sales", line(100 + number))
    header = Header(
        "brd_1",
        currency,
        1,
        MARCH,
        APRIL,
        "monthly",
        "Asia/Shanghai",
        "杭州某某有限公司",
        "9133",
        0,
        "",
        "99",
        APRIL,
    )
    return document_of(header, {}, moved)


@pytest.mark.parametrize(("lines", "pages"), [(0, 1), (3, 1), (200, 4)])
def test_a_document_has_one_pdf(lines: int, pages: int) -> None:
    document = statement(lines).text
    made = pdf_of(document)

    assert made == pdf_of(document)
    assert made.startswith(b"%PDF-")
    assert made.count(b"/Type /Page\n") == pages
    assert b"STSong-Light" in made
    assert len(made) < 4_000 + 400 * (lines + 40)


@pytest.mark.parametrize("currency", ["JPY", "KWD"])
def test_amounts_have_the_currencys_digits(currency: str) -> None:
    assert pdf_of(statement(2, currency=currency).text).startswith(b"%PDF-")


def test_a_very_long_statement_refers_to_its_csv() -> None:
    assert pdf_of(statement(MOST_LINES + 1).text).count(b"/Type /Page\n") == 1
