from __future__ import annotations

from core.ids import TypedId


class HoldoutId(TypedId):
    """An experiment: some members of a community are not shown what an agreement is about."""

    prefix = "hdo"
