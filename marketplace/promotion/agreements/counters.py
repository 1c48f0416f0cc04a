"""Caps and tiers count in the database: what an agreement has paid, and what was sold under it, by period.

The counters of an order are locked in one order before its commission is computed, so that what it is promised is
there; one guarded UPDATE then reserves it. Two orders of one agreement take turns, orders of others do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import from_micros, to_micros
from core.clock import Clock
from core.ids import AgreementId
from marketplace.promotion.agreements.limits import (
    CAMPAIGN_BUDGET,
    TIER,
    TIER_PEAK,
    CapScope,
    CounterKey,
    Limit,
    Period,
    counter_keys,
)
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.commission.rules import TierMode
from marketplace.promotion.events import CommissionReversed

_COLUMNS = "agreement_id, kind, promoter, period_from, currency"
_KEYS = (
    "unnest(CAST(:agreements AS uuid[]), CAST(:kinds AS text[]), CAST(:promoters AS text[]),"
    " CAST(:periods AS timestamptz[]), CAST(:currencies AS bpchar[]){more}) AS n ({columns})"
)
_OPEN = text(
    f"INSERT INTO commission_counters ({_COLUMNS}, amount_minor)"
    f" SELECT {_COLUMNS}, 0 FROM {_KEYS.format(more='', columns=_COLUMNS)} ORDER BY {_COLUMNS} ON CONFLICT DO NOTHING"
)
_LOCK = text(
    f"SELECT c.* FROM commission_counters c JOIN {_KEYS.format(more='', columns=_COLUMNS)} USING ({_COLUMNS})"
    f" ORDER BY {_COLUMNS} FOR NO KEY UPDATE OF c"
)
_READ = text(
    f"SELECT c.* FROM commission_counters c JOIN {_KEYS.format(more='', columns=_COLUMNS)} USING ({_COLUMNS})"
)
# The reservation: it happens wholly, or the order is credited again.
_TAKE = text(
    "UPDATE commission_counters c SET amount_minor = c.amount_minor + n.amount FROM "
    + _KEYS.format(
        more=", CAST(:amounts AS bigint[]), CAST(:limits AS bigint[])", columns=f"{_COLUMNS}, amount, most"
    )
    + " WHERE (c.agreement_id, c.kind, c.promoter, c.period_from, c.currency)"
    " = (n.agreement_id, n.kind, n.promoter, n.period_from, n.currency)"
    " AND (n.most IS NULL OR n.amount = 0 OR c.amount_minor + n.amount <= n.most) RETURNING c.kind"
)
_GIVE = text(
    "UPDATE commission_counters c SET amount_minor = greatest(c.amount_minor - n.amount, 0) FROM "
    + _KEYS.format(more=", CAST(:amounts AS bigint[])", columns=f"{_COLUMNS}, amount")
    + " WHERE (c.agreement_id, c.kind, c.promoter, c.period_from, c.currency)"
    " = (n.agreement_id, n.kind, n.promoter, n.period_from, n.currency)"
)
_OF_LINES = text(
    "SELECT l.id, l.counters::text AS counters, a.status FROM commission_lines l"
    " JOIN agreements a ON a.id = l.agreement_id WHERE l.id = ANY(:ids) AND l.counters <> '[]'"
)
_RUNNING = ("ACTIVE", "PAUSED")


class CapMoved(RuntimeError):
    """A counter changed under its lock: never happens, and nothing may be promised if it does."""


@dataclass(frozen=True, slots=True)
class Held:
    """The counters of one order's agreement, locked. ``caps`` pairs each counter with its limit."""

    limit: Limit
    caps: tuple[tuple[CounterKey, int], ...]
    tier: CounterKey | None
    peak: CounterKey | None = None
    peak_minor: int = 0

    @property
    def keys(self) -> list[CounterKey]:
        """Those that a reversal lowers again."""
        return [key for key, _ in self.caps] + ([self.tier] if self.tier else [])


@dataclass(frozen=True, slots=True)
class Wanted:
    """One agreement an order is credited under, and whose cap of a promoter counts."""

    agreement_id: str
    version: int
    terms: Terms
    promoter: str


async def hold(
    session: AsyncSession, wanted: Sequence[Wanted], *, currency: str, paid_at: datetime
) -> list[Held]:
    """Lock the counters and tell what is left. Agreements without limits are left out; without any, no statement."""
    planned = [
        (each, counter_keys(
            each.agreement_id, each.terms.caps, each.terms.tiers,
            promoter=each.promoter, currency=currency, paid_at=paid_at,
        ))
        for each in wanted
    ]  # fmt: skip
    planned = [(each, keys) for each, keys in planned if keys[0] or keys[1]]
    counters = sorted(
        {
            key
            for each, (caps, tier) in planned
            for key in (*(k for k, _ in caps), tier, _peak(each, tier))
            if key is not None
        }
    )
    amounts: Mapping[CounterKey, int] = {}
    if counters:
        await session.execute(_OPEN, _columns(counters))
        amounts = {_key(row): row.amount_minor for row in await session.execute(_LOCK, _columns(counters))}
    return [_held(each, caps, tier, amounts) for each, (caps, tier) in planned]


def held_at(
    each: Wanted, amounts: Mapping[CounterKey, int], *, currency: str, paid_at: datetime
) -> Held | None:
    """The caps and tiers that hold for an order when the counters stand at ``amounts`` (0 where there is none).

    ``None`` without any. Pure.
    """
    caps, tier = counter_keys(
        each.agreement_id, each.terms.caps, each.terms.tiers,
        promoter=each.promoter, currency=currency, paid_at=paid_at,
    )  # fmt: skip
    return _held(each, caps, tier, amounts) if caps or tier else None


async def standing(session: AsyncSession, each: Wanted, *, currency: str, paid_at: datetime) -> Held | None:
    """``held_at`` as the counters stand now, for who only wants to know. One statement, without limits none."""
    wanted = held_at(each, {}, currency=currency, paid_at=paid_at)
    if wanted is None or not wanted.keys:
        return wanted
    keys = [*wanted.keys, *([wanted.peak] if wanted.peak else [])]
    amounts = {_key(row): row.amount_minor for row in await session.execute(_READ, _columns(keys))}
    return held_at(each, amounts, currency=currency, paid_at=paid_at)


def _held(each: Wanted, caps: Any, tier: CounterKey | None, amounts: Mapping[CounterKey, int]) -> Held:
    stood = tuple(
        (
            cap.limit_minor,
            cap.limit_minor - (amounts.get(key, 0) if key else 0),
            cap.mode.value,
            cap.fallback_rate_ppm,
        )
        for key, cap in caps
    )
    tiers = each.terms.tiers if tier is not None else None
    peak = _peak(each, tier)
    sold, most = (amounts.get(key, 0) if key else 0 for key in (tier, peak))
    limit = Limit(
        each.agreement_id,
        each.version,
        stood,
        tuple((t.from_basis_minor, t.rate_ppm) for t in tiers.tiers) if tiers else (),
        tiers.mode.value if tiers else "MARGINAL",
        sold,
        peak_basis_minor=most if most > sold else 0,
    )
    limits = tuple((key, cap.limit_minor) for key, cap in caps if key is not None)
    return Held(limit, limits, tier, peak, most)


def _peak(each: Wanted, tier: CounterKey | None) -> CounterKey | None:
    """Reaching a tier again owes nothing again: only RETROACTIVE asks."""
    tiers = each.terms.tiers
    if tier is None or tiers is None or tiers.mode is not TierMode.RETROACTIVE:
        return None
    return tier._replace(kind=TIER_PEAK)


async def reserve(session: AsyncSession, held: Held, *, commission_minor: int, basis_minor: int) -> None:
    """R4: count what an order earned, and R5: what it sold, in one guarded statement. Raises ``CapMoved``."""
    keys = held.keys
    if not keys:
        return
    amounts = [commission_minor] * len(held.caps) + [basis_minor] * (held.tier is not None)
    limits: list[int | None] = [limit for _, limit in held.caps] + [None] * (held.tier is not None)
    if held.peak is not None:
        sold = held.limit.prior_basis_minor + basis_minor
        keys, limits = [*keys, held.peak], [*limits, None]
        amounts.append(max(sold - held.peak_minor, 0))
    counted = await session.execute(_TAKE, {**_columns(keys), "amounts": amounts, "limits": limits})
    if len(counted.all()) != len(keys):
        raise CapMoved(f"a cap of {held.limit.agreement_id} moved while its order was credited")


async def on_commission_reversed(session: AsyncSession, event: CommissionReversed, *, clock: Clock) -> None:
    """A reversal frees what its line reserved while the cap's period or campaign still runs; a tier's counter is
    lowered for future orders only. In a transaction of its own: refunds lock the ledger first, capture last.
    """
    lines = {str(line.commission_line_id): line for line in event.lines}
    ids = [line.commission_line_id for line in event.lines]
    freed: dict[CounterKey, int] = {}
    now = clock.now()
    for row in await session.execute(_OF_LINES, {"ids": ids}):
        line = lines[str(type(ids[0]).of(row.id))]
        for key in read_keys(row.counters):
            if key.kind == TIER:
                freed[key] = freed.get(key, 0) + line.basis_minor
            elif key.kind != CAMPAIGN_BUDGET and _runs(key, row.status, now):
                freed[key] = freed.get(key, 0) + line.commission_minor
    moved = {key: amount for key, amount in sorted(freed.items()) if amount}
    if moved:
        await session.execute(_LOCK, _columns(list(moved)))
        await session.execute(_GIVE, {**_columns(list(moved)), "amounts": list(moved.values())})


def _runs(key: CounterKey, agreement_status: str, now: datetime) -> bool:
    if key.kind == CapScope.AGREEMENT:
        return agreement_status in _RUNNING
    period = Period(key.kind.partition(":")[2])
    return period.at(now) == key.period_from


def _columns(keys: Sequence[CounterKey]) -> dict[str, list[Any]]:
    return {
        "agreements": [AgreementId.parse(key.agreement_id) for key in keys],
        "kinds": [str(key.kind) for key in keys],
        "promoters": [key.promoter for key in keys],
        "periods": [key.period_from for key in keys],
        "currencies": [key.currency for key in keys],
    }


def _key(row: Any) -> CounterKey:
    agreement = str(AgreementId.of(row.agreement_id))
    return CounterKey(agreement, row.kind, row.promoter, row.period_from, row.currency)


def written_keys(keys: Sequence[CounterKey]) -> list[list[Any]]:
    """As a commission line keeps them."""
    return [
        [key.agreement_id, str(key.kind), key.promoter, to_micros(key.period_from), key.currency]
        for key in keys
    ]


def read_keys(stored: str) -> list[CounterKey]:
    return [
        CounterKey(agreement, kind, promoter, from_micros(micros), currency)
        for agreement, kind, promoter, micros, currency in orjson.loads(stored)
    ]
