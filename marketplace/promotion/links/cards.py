"""A card with a QR code, and how many of them a sheet has. What draws them is in print_sheet.py."""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS, ROWS = 2, 5
ON_A_SHEET = COLUMNS * ROWS


@dataclass(frozen=True, slots=True)
class Card:
    """``url`` is what is scanned, ``code`` what is typed; ``note`` tells batch and arm to whoever packs parcels."""

    url: str
    code: str
    caption_zh: str = ""
    caption_en: str = ""
    note: str = ""
