from __future__ import annotations

from core.ids import TypedId


class DebtPaymentId(TypedId):
    """A party pays what it owes, through the provider."""

    prefix = "dpy"
