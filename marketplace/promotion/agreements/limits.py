"""R4 and R5 as two brands agree on them: caps on what is paid, and tiers of the rate. Pure.

Amounts are minor units of one currency; an order in another one knows no cap and no tier. Periods are calendar
days, weeks and months in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple

from core.money import EXPONENTS, MAX_MINOR
from marketplace.promotion.commission import rules as commission
from marketplace.promotion.commission.rules import Cap, CapMode, Tier, TierMode
from marketplace.promotion.errors import BadTerms

MOST_CAPS, MOST_TIERS = 10, 20
CAMPAIGN_BUDGET = "CAMPAIGN"
TIER, TIER_PEAK = "TIER", "TIER_PEAK"
"""What was sold in a tier's period, less refunds; and the most that ever was."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CapScope(StrEnum):
    """In the order caps are applied (cps.md R4)."""

    ORDER = "ORDER"
    PROMOTER = "PROMOTER"
    """Of one promoter (the individual, else the brand) in a period."""
    AGREEMENT = "AGREEMENT"
    """Of everything the agreement pays, as a campaign's budget, while it runs."""


class Period(StrEnum):
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"

    def at(self, moment: datetime) -> datetime:
        """Its first instant."""
        day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self is Period.MONTH:
            return day.replace(day=1)
        return day - timedelta(days=day.weekday()) if self is Period.WEEK else day


@dataclass(frozen=True, slots=True)
class CapTerm:
    """``period`` only of ``PROMOTER``; ``fallback_rate_ppm`` only of ``FALLBACK_RATE``."""

    scope: CapScope
    limit_minor: int
    currency: str
    mode: CapMode = CapMode.TRUNCATE
    fallback_rate_ppm: int = 0
    period: Period = Period.MONTH

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> CapTerm:
        kinds = {
            "scope": CapScope(stored["scope"]),
            "mode": CapMode(stored["mode"]),
            "period": Period(stored["period"]),
        }
        return cls(**{**stored, **kinds})


@dataclass(frozen=True, slots=True)
class TierTerms:
    """Rates that replace the rules' on the promoter brand's attributed net basis of a period."""

    tiers: tuple[Tier, ...]
    currency: str
    mode: TierMode = TierMode.MARGINAL
    period: Period = Period.MONTH

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> TierTerms:
        tiers = tuple(Tier(**tier) for tier in stored["tiers"])
        return cls(tiers, stored["currency"], TierMode(stored["mode"]), Period(stored["period"]))


class CounterKey(NamedTuple):
    """One counter of an agreement: ``kind`` a cap's scope, ``TIER`` or ``TIER_PEAK``; ``promoter`` only of
    ``PROMOTER``."""

    agreement_id: str
    kind: str
    promoter: str
    period_from: datetime
    currency: str


class BudgetLeft(NamedTuple):
    """A campaign's budget as it stood before an order; the agreements of one campaign share it."""

    campaign_id: str
    limit_minor: int
    remaining_minor: int
    mode: str


@dataclass(frozen=True, slots=True)
class Limit:
    """What holds for one agreement of an order, as it stood when the order was credited.

    ``caps`` are (limit, remaining, mode, fallback rate) in the order they apply, the campaign's ``budget`` after
    them; ``prior_basis_minor`` is the tier counter before the order.
    """

    agreement_id: str
    version: int
    caps: tuple[tuple[int, int, str, int], ...] = ()
    tiers: tuple[tuple[int, int], ...] = ()
    tier_mode: str = TierMode.MARGINAL
    prior_basis_minor: int = 0
    budget: BudgetLeft | None = None
    peak_basis_minor: int = 0
    """The highest the tier counter has stood at, where refunds have lowered it since and that matters (RETROACTIVE)."""


@dataclass(frozen=True, slots=True)
class Limited:
    """Commission by line after tiers and caps; ``adjustment_minor`` is owed once for earlier orders (R5)."""

    commissions: tuple[int, ...]
    adjustment_minor: int = 0

    @property
    def total_minor(self) -> int:
        return sum(self.commissions) + self.adjustment_minor


def limited(
    limit: Limit, *, bases: Sequence[int], commissions: Sequence[int], budget_minor: int | None = None
) -> Limited:
    """R5, then R4, before the split. ``commissions`` are the lines' at the rules' rates; ``budget_minor`` is what
    the order's other agreements have left of the campaign's budget.
    """
    lines, adjustment = list(commissions), 0
    if limit.tiers:
        lines, adjustment = commission.tier_commission_of_lines(
            prior_basis_minor=limit.prior_basis_minor,
            bases=bases,
            tiers=[Tier(*tier) for tier in limit.tiers],
            mode=TierMode(limit.tier_mode),
            peak_basis_minor=limit.peak_basis_minor,
        )
    caps = [Cap(remaining, CapMode(mode), rate) for _, remaining, mode, rate in limit.caps]
    if limit.budget is not None:
        left = limit.budget.remaining_minor if budget_minor is None else budget_minor
        caps.append(Cap(left, CapMode(limit.budget.mode)))
    kept = commission.apply_caps(lines, caps, bases=bases)
    # An adjustment is commission like any other: it fits into what the order has left of every cap, or is cut.
    room = min([max(left, 0) for left in kept.remaining_minor], default=adjustment)
    return Limited(tuple(kept.lines), min(adjustment, room))


def checked_limits(caps: Sequence[CapTerm], tiers: TierTerms | None, *, highest_rate_ppm: int) -> None:
    """Raises ``BadTerms`` naming the field that is out of bounds."""
    _require(len(caps) <= MOST_CAPS, "caps", f"at most {MOST_CAPS}")
    seen = set()
    for cap in caps:
        _require(cap.currency in EXPONENTS, "currency", "a currency this platform trades in")
        _require(0 <= cap.limit_minor <= MAX_MINOR, "limitMinor", f"0 to {MAX_MINOR}")
        fallback = cap.mode is CapMode.FALLBACK_RATE
        allowed = 0 < cap.fallback_rate_ppm <= highest_rate_ppm if fallback else cap.fallback_rate_ppm == 0
        _require(allowed, "fallbackRatePpm", f"1 to {highest_rate_ppm}, with FALLBACK_RATE only")
        key = (cap.scope, cap.currency, cap.period if cap.scope is CapScope.PROMOTER else None)
        _require(key not in seen, "caps", f"two caps of {cap.scope} in {cap.currency}")
        seen.add(key)
    if tiers is None:
        return
    starts = [tier.from_basis_minor for tier in tiers.tiers]
    _require(tiers.currency in EXPONENTS, "currency", "a currency this platform trades in")
    _require(1 <= len(starts) <= MOST_TIERS, "tiers", f"1 to {MOST_TIERS}")
    ascend = starts[0] == 0 and all(a < b for a, b in pairwise(starts))
    _require(ascend, "fromBasisMinor", "from 0, ascending")
    _require(
        all(0 <= t.rate_ppm <= highest_rate_ppm for t in tiers.tiers), "ratePpm", f"0 to {highest_rate_ppm}"
    )
    # A lower rate for orders that were credited would be a debt of the promoter for what it was promised.
    rises = all(a.rate_ppm <= b.rate_ppm for a, b in pairwise(tiers.tiers))
    _require(tiers.mode is not TierMode.RETROACTIVE or rises, "ratePpm", "not falling with RETROACTIVE")


def _require(holds: bool, field: str, allowed: str) -> None:
    if not holds:
        raise BadTerms(f"{field}: {allowed}", field=field)


def limits_json(caps: Sequence[CapTerm], tiers: TierTerms | None) -> dict[str, Any]:
    """Left out where there are none: terms without limits are the text they always were."""
    found: dict[str, Any] = {}
    if caps:
        found["caps"] = [asdict(cap) for cap in caps]
    if tiers is not None:
        found["tiers"] = asdict(tiers)
    return found


def counter_keys(
    agreement_id: str,
    caps: Sequence[CapTerm],
    tiers: TierTerms | None,
    *,
    promoter: str,
    currency: str,
    paid_at: datetime,
) -> tuple[list[tuple[CounterKey | None, CapTerm]], CounterKey | None]:
    """The caps that hold for an order, each with its counter (an order's cap has none), and the tiers' counter."""
    held: list[tuple[CounterKey | None, CapTerm]] = []
    for scope in CapScope:
        for cap in caps:
            if cap.scope is not scope or cap.currency != currency:
                continue
            if scope is CapScope.ORDER:
                held.append((None, cap))
            elif scope is CapScope.PROMOTER:
                start = cap.period.at(paid_at)
                key = CounterKey(agreement_id, f"{scope}:{cap.period}", promoter, start, currency)
                held.append((key, cap))
            else:
                held.append((CounterKey(agreement_id, scope, "", _EPOCH, currency), cap))
    if tiers is None or tiers.currency != currency:
        return held, None
    return held, CounterKey(agreement_id, TIER, "", tiers.period.at(paid_at), currency)


def budget_key(agreement_id: str, campaign_id: str, currency: str) -> CounterKey:
    """Notes at a commission line that it counts in a campaign's budget, which is a row of its own."""
    return CounterKey(agreement_id, CAMPAIGN_BUDGET, campaign_id, _EPOCH, currency)
