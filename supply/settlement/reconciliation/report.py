"""What a run found: every difference with both sides, the balances, what is too old, two figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from core.money import PPM
from supply.settlement.ids import ReconciliationRunId
from supply.settlement.reconciliation.findings import Finding


@dataclass(frozen=True, slots=True)
class Difference:
    """``expected_minor`` is what the provider says, ``booked_minor`` what our books say, without fees.

    ``waiting``: young enough for its notice to be on the way; not counted against the run. ``suspended``: its money
    lies in 2300 until somebody explains it.
    """

    finding: Finding
    reference: str
    type: str
    currency: str
    expected_minor: int
    booked_minor: int
    since: datetime
    rows: tuple[str, ...] = ()
    journals: tuple[str, ...] = ()
    waiting: bool = False
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class BalanceCheck:
    """One currency, minor units. ``books_*`` are 1000 and 1010 with open items counted as the provider does.

    ``rows_minor`` is the sum of the provider's rows. The provider's own figures are None when it reports none, or
    would not stand still while its rows were read.
    """

    currency: str
    books_pending_minor: int
    books_available_minor: int
    rows_minor: int
    provider_pending_minor: int | None
    provider_available_minor: int | None
    finding: Finding | None


@dataclass(frozen=True, slots=True)
class AgedItem:
    """Money that should not stay where it is (money.md §5 e). ``limit_s`` is how long it may."""

    code: int
    owner: str
    currency: str
    amount_minor: int
    since: datetime
    limit_s: int


@dataclass(frozen=True, slots=True)
class Health:
    """The two figures of the dashboard. Volume is the sum of amounts without sign, over ``days``."""

    provider: str
    days: int
    volume_minor: int
    matched_minor: int
    oldest_unmatched_s: int
    suspended: int

    @property
    def matched_ppm(self) -> int:
        """1,000,000 when everything is matched, or there was nothing to match."""
        return PPM if not self.volume_minor else self.matched_minor * PPM // self.volume_minor


@dataclass(frozen=True, slots=True)
class Report:
    id: ReconciliationRunId
    provider: str
    cause: str
    started_at: datetime
    rows_from: datetime | None
    rows_to: datetime
    rows_read: int
    rows_new: int
    matched: int
    differences: Sequence[Difference]
    balances: Sequence[BalanceCheck]
    aged: Sequence[AgedItem]
    health: Health

    @property
    def counted(self) -> list[Difference]:
        """Those that speak against the run: all but the ones that are still on the way."""
        return [each for each in self.differences if not each.waiting]

    @property
    def ok(self) -> bool:
        return not (self.counted or self.aged or any(check.finding for check in self.balances))

    def as_json(self) -> dict[str, Any]:
        body = asdict(self)
        body["id"], body["ok"] = str(self.id), self.ok
        body["health"]["matched_ppm"] = self.health.matched_ppm
        return body
