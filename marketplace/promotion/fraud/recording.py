"""A signal is kept once with its evidence, and what its rule says follows at once.

The same thing found again makes the signal grow: its figures are the latest, and what is newly named is held too.
Once somebody has decided about it, it is not touched any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
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
from marketplace.promotion.fraud.signals import Action, Signal

LONGER_FOR = timedelta(days=30)
"""After a refund ring was last seen its promoter's orders have a longer return window for so long."""

_RECORD = text(
    "INSERT INTO fraud_signals (id, key, rule, rule_version, action, status, advertiser_id, promoter_brand_id,"
    " agreement_id, promoter, placement_id, link_id, touch_id, order_id, coupon_id, evidence, threshold, detected_at,"
    " seen_at, window_until) SELECT :id, :key, :rule, :version, :action, 'OPEN', :advertiser_id, :promoter_brand_id,"
    " :agreement_id, :promoter, :placement_id, :link_id, :touch_id, :order_id, :coupon_id, CAST(:evidence AS jsonb),"
    " CAST(:threshold AS jsonb), :now, :now, :window_until"
    " ON CONFLICT (key) DO UPDATE SET evidence = excluded.evidence || CASE WHEN excluded.evidence ? 'peak'"
    "  THEN jsonb_build_object('peak', greatest(fraud_signals.evidence -> 'peak', excluded.evidence -> 'peak'))"
    "  ELSE '{}' END, threshold = excluded.threshold,"
    " seen_at = excluded.seen_at, window_until = excluded.window_until WHERE fraud_signals.status = 'OPEN'"
    " RETURNING id"
)
_EXCLUDE = text(
    "INSERT INTO excluded_touches (touch_id, signal_id, advertiser_id, promoter_brand_id, excluded_at)"
    " SELECT id, :signal, :advertiser, :promoter_brand, :now FROM unnest(CAST(:touches AS uuid[])) AS n (id)"
    " ON CONFLICT DO NOTHING"
)
# A flood goes on while it is looked at: its figures are those of all its clicks.
_COUNT_EXCLUDED = text(
    "UPDATE fraud_signals s SET evidence = s.evidence"
    " || jsonb_build_object('clicks', x.clicks, 'from', x.first, 'to', x.last)"
    " FROM (SELECT count(*) AS clicks, min(t.at) AS first, max(t.at) AS last FROM excluded_touches e"
    "  JOIN touches t ON t.id = e.touch_id WHERE e.signal_id = :signal) x WHERE s.id = :signal"
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


async def record(session: AsyncSession, found: Sequence[Found], *, clock: Clock) -> list[SignalId]:
    """Keep what was found and do what follows; the signals that were new or grew. SYSTEM session."""
    kept = []
    for each in found:
        fresh = SignalId.new()
        stored = (await session.execute(_RECORD, _row(each, fresh, clock.now()))).scalar_one_or_none()
        if stored is None:
            continue
        signal_id = SignalId.of(stored)
        if signal_id == fresh:
            told = FraudSignalRaised(
                fresh,
                each.signal.rule,
                each.parties.advertiser_id,
                each.parties.promoter_brand_id,
                clock.now(),
            )
            await outbox.record(session, told)
        await _follow(session, each, signal_id, clock)
        kept.append(signal_id)
    return kept


def _row(found: Found, id: SignalId, now: datetime) -> dict[str, Any]:
    signal, parties = found.signal, found.parties
    touches, orders = found.touch_ids, found.order_ids
    lengthens = found.follows is Action.LENGTHEN_WINDOW
    return {
        "id": id, "key": found.key, "rule": signal.rule.value, "version": signal.version,
        "action": found.follows.value, "advertiser_id": parties.advertiser_id,
        "promoter_brand_id": parties.promoter_brand_id, "agreement_id": parties.agreement_id,
        "promoter": parties.promoter, "placement_id": found.placement_id, "link_id": found.link_id,
        "touch_id": touches[0] if len(touches) == 1 else None,
        "order_id": orders[0] if len(orders) == 1 else None, "coupon_id": found.coupon_id,
        "evidence": orjson.dumps(dict(signal.evidence)).decode(),
        "threshold": orjson.dumps(dict(signal.threshold)).decode(), "now": now,
        "window_until": now + LONGER_FOR if lengthens else None,
    }  # fmt: skip


async def _follow(session: AsyncSession, found: Found, signal_id: SignalId, clock: Clock) -> None:
    agreement_id, orders, reason = found.parties.agreement_id, found.order_ids, found.signal.rule.value
    match found.follows:
        case Action.INVALIDATE:
            pending = await session.execute(_PENDING, {"orders": orders, "agreement": agreement_id})
            for line_id in pending.scalars().all():
                await invalidate(session, line_id, reason=reason, approved_by=str(signal_id), clock=clock)
        case Action.EXCLUDE_CLICKS:
            await _exclude(session, found, signal_id, clock)
        case Action.LOWER_COUPON:
            if found.coupon_id is not None:
                await flag_leaked(session, found.coupon_id, since=clock.now())
        case Action.DENY_NEW_RATE:
            await holds.hold_orders(
                session, orders, agreement_id=agreement_id, signal_id=signal_id, reason=reason, clock=clock
            )
            await new_rate.deny(session, orders, agreement_id, signal_id=signal_id, clock=clock)
        case Action.HOLD | Action.LENGTHEN_WINDOW:
            await holds.hold_orders(
                session, orders, agreement_id=agreement_id, signal_id=signal_id, reason=reason, clock=clock
            )


async def _exclude(session: AsyncSession, found: Found, signal_id: SignalId, clock: Clock) -> None:
    touches, parties = found.touch_ids, found.parties
    values = {
        "signal": signal_id, "advertiser": parties.advertiser_id, "now": clock.now(),
        "promoter_brand": parties.promoter_brand_id, "touches": touches,
    }  # fmt: skip
    await session.execute(_EXCLUDE, values)
    await session.execute(_COUNT_EXCLUDED, {"signal": signal_id})
    await holds.hold_earned_from(
        session, touches, signal_id=signal_id, reason=found.signal.rule.value, clock=clock
    )
