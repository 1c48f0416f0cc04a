"""A signal is kept once with its evidence, and what its rule says follows at once.

The same thing found again makes the signal grow: its figures are the latest, and what is newly named is held too.
Once somebody has decided about it, it is not touched any more. Thousands are found at once when a flood comes from
everywhere: they are written together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import sha256_hex
from core.clock import Clock
from core.ids import AgreementId, BrandId, LinkId, OrderId, PlacementId, TouchId
from infra import outbox
from marketplace.promotion.commission.denials import invalidate
from marketplace.promotion.coupons.entries import flag_leaked
from marketplace.promotion.coupons.models import CouponId
from marketplace.promotion.fraud import holds, new_rate
from marketplace.promotion.fraud.events import FraudSignalRaised
from marketplace.promotion.fraud.ids import SignalId
from marketplace.promotion.fraud.models import SignalStatus
from marketplace.promotion.fraud.signals import Action, Signal

LONGER_FOR = timedelta(days=30)
"""After a refund ring was last seen its promoter's orders have a longer return window for so long."""

_COLUMNS = (
    "id, key, rule, rule_version, action, status, advertiser_id, promoter_brand_id, agreement_id, promoter,"
    " placement_id, link_id, touch_id, order_id, coupon_id, evidence, threshold, detected_at, seen_at, window_until"
)
_RECORD = text(
    f"INSERT INTO fraud_signals ({_COLUMNS}) SELECT {_COLUMNS}"
    " FROM jsonb_populate_recordset(CAST(NULL AS fraud_signals), CAST(:rows AS jsonb)) ORDER BY key"
    " ON CONFLICT (key) DO UPDATE SET evidence = excluded.evidence || CASE WHEN excluded.evidence ? 'peak'"
    "  THEN jsonb_build_object('peak', greatest(fraud_signals.evidence -> 'peak', excluded.evidence -> 'peak'))"
    "  ELSE '{}' END, threshold = excluded.threshold,"
    " seen_at = excluded.seen_at, window_until = excluded.window_until WHERE fraud_signals.status = 'OPEN'"
    " RETURNING id, key"
)
_EXCLUDE = text(
    "INSERT INTO excluded_touches (touch_id, signal_id, advertiser_id, promoter_brand_id, excluded_at)"
    " SELECT n.touch_id, s.id, s.advertiser_id, s.promoter_brand_id, :now"
    " FROM unnest(CAST(:touches AS uuid[]), CAST(:signals AS uuid[])) AS n (touch_id, signal_id)"
    " JOIN fraud_signals s ON s.id = n.signal_id ORDER BY n.touch_id, s.id ON CONFLICT DO NOTHING"
)
# A flood goes on while it is looked at: its figures are those of all its clicks.
_COUNT_EXCLUDED = text(
    "UPDATE fraud_signals s SET evidence = s.evidence"
    " || jsonb_build_object('clicks', x.clicks, 'from', x.first, 'to', x.last)"
    " FROM (SELECT n.id, count(t.id) AS clicks, min(t.at) AS first, max(t.at) AS last"
    "  FROM unnest(CAST(:signals AS uuid[])) AS n (id)"
    "  LEFT JOIN (excluded_touches e JOIN touches t ON t.id = e.touch_id) ON e.signal_id = n.id"
    "  GROUP BY n.id) x WHERE s.id = x.id"
)
_PENDING = text(
    "SELECT id FROM commission_lines WHERE order_id = ANY(:orders) AND agreement_id = :agreement AND status = 'PENDING'"
    " ORDER BY id"
)


@dataclass(frozen=True, slots=True)
class Parties:
    """Whose money it is about. ``promoter`` is the person who promotes, or the brand where nobody does in person."""

    advertiser_id: BrandId
    promoter_brand_id: BrandId
    agreement_id: AgreementId
    promoter: UUID


@dataclass(frozen=True, slots=True)
class Found:
    """A signal and what it is of: ``about`` tells one finding of a rule from another, and the ids are its subject.

    ``action`` takes the place of the rule's own where the agreement says so.
    """

    signal: Signal
    parties: Parties
    about: tuple[str, ...]
    placement_id: PlacementId | None = None
    link_id: LinkId | None = None
    coupon_id: CouponId | None = None
    action: Action | None = None

    @property
    def follows(self) -> Action:
        return self.action or self.signal.action

    @property
    def key(self) -> str:
        """Nobody who reads it learns what it was made of: it may name digests."""
        return sha256_hex("\n".join((self.signal.rule, str(self.parties.agreement_id), *self.about)))

    @property
    def touch_ids(self) -> list[TouchId]:
        return [TouchId.parse(each) for each in self.signal.touch_ids]

    @property
    def order_ids(self) -> list[OrderId]:
        return [OrderId.parse(each) for each in self.signal.order_ids]


class _Kept(NamedTuple):
    """A finding with the signal that was new or grew by it."""

    found: Found
    signal_id: SignalId


async def record(session: AsyncSession, found: Sequence[Found], *, clock: Clock) -> list[SignalId]:
    """Keep what was found and do what follows; the signals that were new or grew. SYSTEM session.

    As many statements for thousands of findings as for one, but for what moves money line by line: commission that is
    INVALID, and the rate for new customers.
    """
    kept: list[_Kept] = []
    for batch in _without_repeats(found):
        kept += await _record(session, batch, clock)
    for action, those in groupby(kept, key=lambda each: each.found.follows):
        await _follow(session, action, list(those), clock)
    return [each.signal_id for each in kept]


def _without_repeats(found: Sequence[Found]) -> Iterator[list[Found]]:
    """In turn what was found for the first time, the second and so on: one statement changes a signal once."""
    left = list(found)
    while left:
        batch: dict[str, Found] = {}
        for each in left:
            batch.setdefault(each.key, each)
        yield list(batch.values())
        left = [each for each in left if batch[each.key] is not each]


async def _record(session: AsyncSession, found: Sequence[Found], clock: Clock) -> list[_Kept]:
    now = clock.now()
    rows = [_row(each, SignalId.new(), now) for each in found]
    told = orjson.dumps(rows, default=_hex).decode()
    stored = {row.key: SignalId.of(row.id) for row in await session.execute(_RECORD, {"rows": told})}
    raised = [
        FraudSignalRaised(
            row["id"], each.signal.rule, each.parties.advertiser_id, each.parties.promoter_brand_id, now
        )
        for each, row in zip(found, rows, strict=True)
        if stored.get(row["key"]) == row["id"]
    ]
    await outbox.record(session, *raised)
    return [
        _Kept(each, stored[row["key"]]) for each, row in zip(found, rows, strict=True) if row["key"] in stored
    ]


def _row(found: Found, id: SignalId, now: datetime) -> dict[str, Any]:
    signal, parties = found.signal, found.parties
    touches, orders = signal.touch_ids, signal.order_ids
    lengthens = found.follows is Action.LENGTHEN_WINDOW
    return {
        "id": id, "key": found.key, "rule": signal.rule.value, "rule_version": signal.version,
        "action": found.follows.value, "status": SignalStatus.OPEN.value, "advertiser_id": parties.advertiser_id,
        "promoter_brand_id": parties.promoter_brand_id, "agreement_id": parties.agreement_id,
        "promoter": parties.promoter, "placement_id": found.placement_id, "link_id": found.link_id,
        "touch_id": TouchId.parse(touches[0]) if len(touches) == 1 else None,
        "order_id": OrderId.parse(orders[0]) if len(orders) == 1 else None, "coupon_id": found.coupon_id,
        "evidence": dict(signal.evidence), "threshold": dict(signal.threshold), "detected_at": now, "seen_at": now,
        "window_until": now + LONGER_FOR if lengthens else None,
    }  # fmt: skip


def _hex(value: Any) -> str:
    if isinstance(value, UUID):
        return value.hex
    raise TypeError(f"{type(value).__name__} is no part of a signal")


async def _follow(session: AsyncSession, action: Action, kept: Sequence[_Kept], clock: Clock) -> None:
    match action:
        case Action.INVALIDATE:
            for each in kept:
                await _invalidate(session, each, clock)
        case Action.EXCLUDE_CLICKS:
            await _exclude(session, kept, clock)
        case Action.LOWER_COUPON:
            coupons = [each.found.coupon_id for each in kept if each.found.coupon_id is not None]
            await flag_leaked(session, coupons, since=clock.now())
        case Action.DENY_NEW_RATE:
            await _hold(session, kept, clock)
            for each in kept:
                agreement_id, orders = each.found.parties.agreement_id, each.found.order_ids
                await new_rate.deny(session, orders, agreement_id, signal_id=each.signal_id, clock=clock)
        case Action.HOLD | Action.LENGTHEN_WINDOW:
            await _hold(session, kept, clock)


async def _invalidate(session: AsyncSession, kept: _Kept, clock: Clock) -> None:
    found, by = kept.found, str(kept.signal_id)
    wanted = {"orders": found.order_ids, "agreement": found.parties.agreement_id}
    for line_id in (await session.execute(_PENDING, wanted)).scalars().all():
        await invalidate(session, line_id, reason=found.signal.rule.value, approved_by=by, clock=clock)


async def _hold(session: AsyncSession, kept: Sequence[_Kept], clock: Clock) -> None:
    doubts = [
        holds.OrdersDoubted(
            each.signal_id,
            each.found.signal.rule.value,
            each.found.parties.agreement_id,
            each.found.order_ids,
        )
        for each in kept
    ]
    await holds.hold_orders(session, doubts, clock=clock)


async def _exclude(session: AsyncSession, kept: Sequence[_Kept], clock: Clock) -> None:
    doubts = [
        holds.TouchesDoubted(each.signal_id, each.found.signal.rule.value, each.found.touch_ids)
        for each in kept
    ]
    named = [(touch_id, each.signal_id) for each in doubts for touch_id in each.touches]
    values = {"touches": [touch for touch, _ in named], "signals": [signal for _, signal in named]}
    await session.execute(_EXCLUDE, {**values, "now": clock.now()})
    await session.execute(_COUNT_EXCLUDED, {"signals": [each.signal_id for each in doubts]})
    await holds.hold_earned_from(session, doubts, clock=clock)
