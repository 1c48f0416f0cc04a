from __future__ import annotations

from core.ids import TypedId


class SimulationId(TypedId):
    """Past orders replayed under other terms."""

    prefix = "sim"
