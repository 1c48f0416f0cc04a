from __future__ import annotations

from core.errors import Invalid, NotFound


class BadPeriod(Invalid):
    code = "BAD_PERIOD"


class BadPreview(Invalid):
    code = "BAD_PREVIEW"


class NothingToPreview(NotFound):
    code = "NOTHING_TO_PREVIEW"


class SimulationNotFound(NotFound):
    code = "SIMULATION_NOT_FOUND"


class BadSimulation(Invalid):
    code = "BAD_SIMULATION"


class TooManyOrders(Invalid):
    code = "TOO_MANY_ORDERS"

    def __init__(self, most: int, found: int) -> None:
        super().__init__(f"{found} orders; at most {most} are replayed at once", field="from")
        self.most, self.found = most, found
