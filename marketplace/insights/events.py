from __future__ import annotations

from dataclasses import dataclass

from core.events import Event, event
from marketplace.insights.ids import SimulationId


@event("insights.simulation_requested")
@dataclass(frozen=True, slots=True)
class SimulationRequested(Event):
    simulation_id: SimulationId
