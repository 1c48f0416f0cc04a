from __future__ import annotations

from core.ids import TypedId


class SplitLineId(TypedId):
    """What one supplier delivers of one order line, or the shipping charged for it."""

    prefix = "spl"
