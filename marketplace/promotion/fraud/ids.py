from __future__ import annotations

from core.ids import TypedId


class SignalId(TypedId):
    """What a fraud rule found."""

    prefix = "frs"


class HoldId(TypedId):
    """A commission line kept from being confirmed."""

    prefix = "hld"
