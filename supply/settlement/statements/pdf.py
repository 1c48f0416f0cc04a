"""A statement's document as PDF, for people: the same figures as the JSON whose hash it shows, nothing else. Pure.

The same document gives the same bytes. Text is set in STSong-Light, which readers bring along for Chinese; it has
the Latin letters and digits of everything else. A statement of more than ``MOST_LINES`` lines lists its sections'
totals and refers to the CSV, which has them all.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import orjson
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from core.canonical import sha256_hex
from core.money import Money

MOST_LINES = 5_000
_FONT = "STSong-Light"
_WIDTH, _HEIGHT = A4
_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, _WIDTH - 42.0, _HEIGHT - 48.0, 54.0
_SMALL, _TEXT, _TITLE = 6.5, 9.0, 15.0
_STEP = 10.5
_GREY, _INK = (0.45, 0.45, 0.45), (0.1, 0.1, 0.12)
# (heading, place of its left edge or, below zero, how far its right edge is from the right margin)
_COLUMNS: tuple[tuple[str, float], ...] = (
    ("date", 0.0), ("event", 48.0), ("order", 118.0), ("SKU", 196.0), ("counterparty", 262.0),
    ("gross", -118.0), ("amount", -60.0), ("balance", 0.0),
)  # fmt: skip


def pdf_of(document: str) -> bytes:
    """A statement's canonical JSON as PDF."""
    body = orjson.loads(document)
    _register()
    out = io.BytesIO()
    # ``invariant``: no time of making and no random id, so that the bytes are a function of the document.
    canvas = Canvas(out, pagesize=A4, invariant=1)
    canvas.setTitle(body["statement_no"])
    _Pages(canvas, body, sha256_hex(document)).write()
    canvas.save()
    return out.getvalue()


@cache
def _register() -> None:
    pdfmetrics.registerFont(UnicodeCIDFont(_FONT))


class _Pages:
    def __init__(self, canvas: Canvas, body: Mapping[str, Any], digest: str) -> None:
        self._canvas, self._body, self._digest = canvas, body, digest
        self._y, self._page = _TOP, 1

    def write(self) -> None:
        self._header()
        lines = sum(len(section["lines"]) for section in self._body["sections"])
        self._totals()
        if lines > MOST_LINES:
            self._row(f"{lines} lines: see the CSV of this statement.")
        else:
            for section in self._body["sections"]:
                self._section(section)
        self._footer()

    def _header(self) -> None:
        body = self._body
        self._text(_LEFT, "Settlement statement 结算单", size=_TITLE)
        self._y -= 20
        name = body["legal_name"] or body["party"]
        facts = [
            ("No.", body["statement_no"]),
            ("Party", f"{name} ({body['role']})" + (f", {body['party']}" if body["legal_name"] else "")),
            ("Tax id", body["tax_id"] or "-"),
            ("Period", f"{body['period_from']} to {body['period_to']}, {body['cycle']}, {body['time_zone']}"),
            ("Payouts", ", ".join(body["payout_references"]) or "-"),
            ("Previous", body["previous_hash"] or "-"),
            ("SHA-256", self._digest),
        ]
        for label, value in facts:
            self._text(_LEFT, label, colour=_GREY)
            self._text(_LEFT + 62, _cut(value, 400, _TEXT))
            self._down(13)
        self._y -= 6

    def _totals(self) -> None:
        body = self._body
        self._sum("Opening balance", body["opening_minor"])
        for section in body["sections"]:
            self._sum(section["name"].replace("_", " "), section["total_minor"])
        self._line()
        self._sum("Closing balance", body["closing_minor"])
        for name, amount in body["closing"].items():
            self._sum(
                f"of it {name.replace('_', ' ')}", -amount if name == "receivable" else amount, colour=_GREY
            )
        for each in body["counterparties"]:
            self._sum(
                f"commission with {each['party']}: earned {self._money(each['earned_minor'])},"
                f" paid {self._money(each['paid_minor'])}",
                each["net_minor"],
                colour=_GREY,
            )
        self._y -= 8

    def _section(self, section: Mapping[str, Any]) -> None:
        self._room(4 * _STEP)
        self._y -= 6
        self._sum(section["name"].replace("_", " "), section["total_minor"])
        self._cells([heading for heading, _ in _COLUMNS], colour=_GREY)
        for line in section["lines"]:
            self._cells(list(self._values(line)))

    def _values(self, line: Mapping[str, Any]) -> Iterator[str]:
        yield line["occurred_at"][:10]
        yield line["event"].replace("_", " ")
        yield line["order_number"] or line["order"] or line["reference"]
        yield line["sku"] + (" (shipping)" if line["shipping"] else "")
        yield line["counterparty"]
        yield self._money(line["gross_minor"]) if line["gross_minor"] else ""
        yield self._money(line["amount_minor"])
        yield "" if line["balance_after_minor"] is None else self._money(line["balance_after_minor"])

    def _cells(self, values: Sequence[str], *, colour: tuple[float, float, float] = _INK) -> None:
        self._room(_STEP)
        for (value, (_, place)), width in zip(
            zip(values, _COLUMNS, strict=True), (46, 68, 76, 64, 68, 50, 56, 58), strict=True
        ):
            shown = _cut(value, width, _SMALL)
            if place > 0 or value is values[0]:
                self._text(_LEFT + place, shown, size=_SMALL, colour=colour)
            else:
                self._right(_RIGHT + place, shown, size=_SMALL, colour=colour)
        self._y -= _STEP

    def _sum(self, label: str, amount_minor: int, *, colour: tuple[float, float, float] = _INK) -> None:
        self._room(13)
        self._text(_LEFT, _cut(label, 400, _TEXT), colour=colour)
        self._right(_RIGHT, self._money(amount_minor), colour=colour)
        self._y -= 13

    def _row(self, text: str) -> None:
        self._room(13)
        self._text(_LEFT, text)
        self._y -= 13

    def _money(self, amount_minor: int) -> str:
        return Money(amount_minor, self._body["currency"]).decimal

    def _line(self) -> None:
        self._canvas.setStrokeColorRGB(*_GREY)
        self._canvas.setLineWidth(0.4)
        self._canvas.line(_LEFT, self._y + 9, _RIGHT, self._y + 9)

    def _text(
        self, x: float, text: str, *, size: float = _TEXT, colour: tuple[float, float, float] = _INK
    ) -> None:
        self._canvas.setFont(_FONT, size)
        self._canvas.setFillColorRGB(*colour)
        self._canvas.drawString(x, self._y, text)

    def _right(
        self, x: float, text: str, *, size: float = _TEXT, colour: tuple[float, float, float] = _INK
    ) -> None:
        self._canvas.setFont(_FONT, size)
        self._canvas.setFillColorRGB(*colour)
        self._canvas.drawRightString(x, self._y, text)

    def _down(self, step: float) -> None:
        self._y -= step

    def _room(self, needed: float) -> None:
        if self._y - needed < _BOTTOM:
            self._footer()
            self._canvas.showPage()
            self._page += 1
            self._y = _TOP

    def _footer(self) -> None:
        self._y = _BOTTOM - 18
        self._text(
            _LEFT, f"{self._body['statement_no']} · {self._body['currency']}", size=_SMALL, colour=_GREY
        )
        self._right(_RIGHT, str(self._page), size=_SMALL, colour=_GREY)


def _cut(text: str, width: float, size: float) -> str:
    """As much of a text as fits, its beginning and its end: ids differ at the end."""
    if pdfmetrics.stringWidth(text, _FONT, size) <= width:
        return text
    keep = len(text) - 1
    while keep > 1:
        shown = f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}"
        if pdfmetrics.stringWidth(shown, _FONT, size) <= width:
            return shown
        keep -= 1
    return text[:1]
