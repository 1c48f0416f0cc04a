"""What is refused of what a shop tells, row by row."""

from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound


class BadTelling(Invalid):
    """A row says something that cannot be; ``field`` says where."""

    code = "BAD_TELLING"


class TellingsTooMany(Invalid):
    code = "TELLINGS_TOO_MANY"

    def __init__(self, most: int, given: int) -> None:
        super().__init__(f"1 to {most} at once, {given} given")
        self.most, self.given = most, given


class ToldDifferently(Conflict):
    """The reference, or the event id, was told before with another content. What was told first stands."""

    code = "TOLD_DIFFERENTLY"


class TotalDiffers(Invalid):
    """The lines do not come to the total: one of us misunderstands them."""

    code = "TOTAL_DIFFERS"

    def __init__(self, total: int, lines: int) -> None:
        super().__init__(f"total_minor is {total}, the lines come to {lines}", field="total_minor")
        self.total, self.lines = total, lines


class CurrencyNotTheStorefronts(Invalid):
    code = "CURRENCY_NOT_THE_STOREFRONTS"


class NoSuchLine(Invalid):
    """An event names a line that its order, told of before, does not have."""

    code = "NO_SUCH_LINE"

    def __init__(self, line: str) -> None:
        super().__init__(f"the order has no line {line}", field="events.lines.line")
        self.line = line


class ToldOrderNotFound(NotFound):
    code = "TOLD_ORDER_NOT_FOUND"
