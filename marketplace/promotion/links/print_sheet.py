"""A4 sheets of cards with QR codes, as PDF for a printer: 90 × 54 mm, ten to a sheet, with marks to cut along.

Codes are drawn as shapes, so they are sharp at any resolution. Latin text is set in Helvetica; Chinese in a font
that the operator gives, embedded as far as it is used, or else in the CID font STSong-Light, which readers and
print shops that know Chinese have, and which is only named in the file (decision 0019). The same cards give the
same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import segno
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from marketplace.promotion.errors import BadQrBatch
from marketplace.promotion.links.cards import COLUMNS, ON_A_SHEET, ROWS, Card

MOST_CARDS = 1_000
"""Of one file: a hundred sheets. A printer repeats a sheet by itself."""

PAGE: Final = (210 * mm, 297 * mm)
CARD: Final = (90 * mm, 54 * mm)
_LEFT = (PAGE[0] - COLUMNS * CARD[0]) / 2
_TOP = (PAGE[1] - ROWS * CARD[1]) / 2
_CODE, _INSET = 40 * mm, 4 * mm
_QUIET = 4
"""Modules of white around a code, without which scanners do not find it (ISO/IEC 18004)."""
_MARK, _MARK_GAP = 5 * mm, 2 * mm
_LATIN, _NAMED, _GIVEN = "Helvetica", "STSong-Light", "given"
_SIZES = (13, 11, 9, 7)
_MOST_LINES = 3
_SMALL = 6
_PARAGRAPH: Final[float] = 2 * mm


def sheets(cards: Sequence[tuple[Card, int]], *, title: str, font: Path | None = None) -> bytes:
    """A PDF of every card so many times. Raises ``BadQrBatch`` for none or more than 1,000 in all.

    ``font`` is a TrueType file (.ttf, or the first of a .ttc) with the Chinese letters.
    """
    wanted = sum(copies for _, copies in cards)
    if not 1 <= wanted <= MOST_CARDS or any(copies < 0 for _, copies in cards):
        raise BadQrBatch(f"copies: 1 to {MOST_CARDS} cards in one file", field="copies")
    wide = _registered(font)
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=PAGE, invariant=1, pageCompression=1)
    canvas.setTitle(title)
    canvas.setCreator("Lianyu")
    for number, (card, _) in enumerate(cards):
        _define(canvas, f"card{number}", card, wide)
    places = [f"card{number}" for number, (_, copies) in enumerate(cards) for _ in range(copies)]
    for start in range(0, len(places), ON_A_SHEET):
        _sheet(canvas, places[start : start + ON_A_SHEET])
    canvas.save()
    return out.getvalue()


@cache
def _registered(font: Path | None) -> str:
    """The name of the font for whatever Helvetica has no letters for."""
    if font is None:
        pdfmetrics.registerFont(UnicodeCIDFont(_NAMED))
        return _NAMED
    name = f"{_GIVEN}:{font}"
    pdfmetrics.registerFont(TTFont(name, str(font)))
    return name


def _font_for(text: str, wide: str) -> str:
    return _LATIN if all(letter < "\u0100" for letter in text) else wide


def _sheet(canvas: Any, forms: Sequence[str]) -> None:
    _cut_marks(canvas)
    for place, form in enumerate(forms):
        row, column = divmod(place, COLUMNS)
        canvas.saveState()
        canvas.translate(_LEFT + column * CARD[0], PAGE[1] - _TOP - (row + 1) * CARD[1])
        canvas.doForm(form)
        canvas.restoreState()
    canvas.showPage()


def _cut_marks(canvas: Any) -> None:
    """At the ends of every line a knife follows, outside of the cards."""
    canvas.setLineWidth(0.25)
    for column in range(COLUMNS + 1):
        x = _LEFT + column * CARD[0]
        for edge, away in ((PAGE[1] - _TOP, 1), (_TOP, -1)):
            canvas.line(x, edge + away * _MARK_GAP, x, edge + away * (_MARK_GAP + _MARK))
    for row in range(ROWS + 1):
        y = _TOP + row * CARD[1]
        for edge, away in ((PAGE[0] - _LEFT, 1), (_LEFT, -1)):
            canvas.line(edge + away * _MARK_GAP, y, edge + away * (_MARK_GAP + _MARK), y)


def _define(canvas: Any, name: str, card: Card, wide: str) -> None:
    """The card once, with its lower left corner at the origin; the sheets only refer to it."""
    canvas.beginForm(name, 0, 0, *CARD)
    bottom = (CARD[1] - _CODE) / 2
    _draw_code(canvas, card.url, _INSET, bottom + 2 * mm)
    canvas.setFont("Courier", 8)
    canvas.drawCentredString(_INSET + _CODE / 2, bottom - 1.5 * mm, card.code)
    left = 2 * _INSET + _CODE
    width = CARD[0] - left - _INSET
    y = CARD[1] - 12 * mm
    for caption in (card.caption_zh, card.caption_en):
        y = _draw_caption(canvas, caption, left, y, width, _font_for(caption, wide))
    font = _font_for(card.note, wide)
    canvas.setFont(font, _SMALL)
    canvas.drawRightString(CARD[0] - _INSET, 3 * mm, _cut(card.note, font, _SMALL, CARD[0] / 2 - _INSET))
    canvas.endForm()


def _draw_code(canvas: Any, url: str, left: float, bottom: float) -> None:
    """Runs of dark modules as rectangles; the quiet zone is inside of the 40 mm."""
    matrix = segno.make(url, error="m", micro=False).matrix
    module = _CODE / (len(matrix) + 2 * _QUIET)
    canvas.setFillGray(0)
    path = canvas.beginPath()
    for row, bits in enumerate(matrix):
        y = bottom + _CODE - (row + 1 + _QUIET) * module
        column = 0
        while column < len(bits):
            run = column
            while run < len(bits) and bits[run]:
                run += 1
            if run > column:
                path.rect(left + (column + _QUIET) * module, y, (run - column) * module, module)
            column = run + 1
    canvas.drawPath(path, stroke=0, fill=1)


def _draw_caption(canvas: Any, caption: str, left: float, y: float, width: float, font: str) -> float:
    """In the largest size that fits three lines. Returns where the next one goes."""
    if not caption:
        return y
    for size in _SIZES:
        lines = wrapped(caption, font, size, width)
        if len(lines) <= _MOST_LINES:
            break
    lines = lines[:_MOST_LINES]
    canvas.setFont(font, size)
    for line in lines:
        canvas.drawString(left, y, line)
        y -= 1.35 * size
    return y - _PARAGRAPH


def wrapped(text: str, font: str, size: float, width: float) -> list[str]:
    """Lines no wider than ``width`` points: broken at spaces, and between Chinese characters."""
    lines, line = [], ""
    for piece in _pieces(text):
        if line and pdfmetrics.stringWidth((line + piece).rstrip(), font, size) > width:
            lines.append(line.rstrip())
            line = piece.lstrip()
        else:
            line += piece
        while pdfmetrics.stringWidth(line.rstrip(), font, size) > width and len(line) > 1:
            fits = len(_cut(line, font, size, width))
            lines.append(line[:fits])
            line = line[fits:]
    return [*lines, line.rstrip()] if line.strip() else lines


def _pieces(text: str) -> list[str]:
    """Where a line may be broken: after a space, and after anything that is not Latin."""
    pieces, piece = [], ""
    for letter in text:
        if ord(letter) >= 0x2E80:
            pieces += [piece, letter] if piece else [letter]
            piece = ""
        else:
            piece += letter
            if letter == " ":
                pieces.append(piece)
                piece = ""
    return [*pieces, piece] if piece else pieces


def _cut(text: str, font: str, size: float, width: float) -> str:
    """As many letters as fit, at least one."""
    fits = len(text)
    while fits > 1 and pdfmetrics.stringWidth(text[:fits], font, size) > width:
        fits -= 1
    return text[:fits]
