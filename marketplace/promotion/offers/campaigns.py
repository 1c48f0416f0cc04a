"""A campaign's life: ``DRAFT → ACTIVE ⇄ PAUSED → ENDED``.

A touch earns when its campaign was active at the touch's moment, by the log, and the moment lies in
``starts_at ≤ moment < ends_at``. No change of the dates can alter that for a moment that is past: they move only while
both the old and the new one lie ahead. A campaign ends after the longest notice of its agreements, and they with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.ids import BrandId
from core.money import MAX_MINOR, Money
from infra import outbox
from infra.db.base import table_of
from infra.db.session import Database
from infra.db.text import storable
from marketplace.promotion.commission.rules import CapMode
from marketplace.promotion.errors import CampaignNotFound
from marketplace.promotion.events import CampaignChanged
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.ids import CampaignId
from marketplace.promotion.offers.budgets import hold, mark_used_up
from marketplace.promotion.offers.errors import BadCampaign, BudgetBelowCommitted, CampaignInAnotherState
from marketplace.promotion.offers.models import Campaign, CampaignBudget, CampaignStatus, CampaignStatusChange

LONGEST_NAME = 120
_LONGEST_REASON = 500
_PLATFORM = "platform"
_CAMPAIGNS, _BUDGETS, _LOG = table_of(Campaign), table_of(CampaignBudget), table_of(CampaignStatusChange)
_BUDGET_MODES = (CapMode.TRUNCATE, CapMode.ALL_OR_NOTHING)
_NEXT = {
    CampaignStatus.DRAFT: {CampaignStatus.ACTIVE, CampaignStatus.ENDED},
    CampaignStatus.ACTIVE: {CampaignStatus.PAUSED, CampaignStatus.ENDED},
    CampaignStatus.PAUSED: {CampaignStatus.ACTIVE, CampaignStatus.ENDED},
}
_LONGEST_NOTICE = text(
    "SELECT coalesce(max(coalesce((v.terms ->> 'notice_days')::int, 7)), 0) FROM agreements a"
    " JOIN agreement_versions v ON v.agreement_id = a.id AND v.in_force_from IS NOT NULL"
    " WHERE a.campaign_id = :id AND a.status IN ('ACTIVE', 'PAUSED') AND coalesce(a.ends_at > :now, true)"
)
_LIMIT = text(
    "UPDATE campaign_budgets SET limit_minor = :limit WHERE campaign_id = :id"
    " AND reserved_minor + spent_minor <= :limit RETURNING 1"
)
_COMMITTED = text("SELECT reserved_minor + spent_minor FROM campaign_budgets WHERE campaign_id = :id")
_END_DUE = text(
    "WITH due AS (UPDATE campaigns SET status = 'ENDED' WHERE id IN (SELECT id FROM campaigns"
    "  WHERE ends_at <= :now AND status <> 'ENDED' ORDER BY ends_at LIMIT 200 FOR UPDATE SKIP LOCKED) RETURNING *),"
    " logged AS (INSERT INTO campaign_status_log (campaign_id, position, status, reason, changed_by, changed_at)"
    "  SELECT due.id, (SELECT coalesce(max(s.position), 0) + 1 FROM campaign_status_log s"
    "   WHERE s.campaign_id = due.id), 'ENDED', 'its time is over', :by, due.ends_at FROM due)"
    " SELECT id, advertiser_id, ends_at FROM due ORDER BY ends_at, id"
)
# Also those signed in the moment their campaign ended: a day's look back finds them.
_END_AGREEMENTS = text(
    "UPDATE agreements a SET ends_at = greatest(c.ends_at, a.created_at), end_reason = 'its campaign ended'"
    " FROM campaigns c WHERE c.id = a.campaign_id AND c.status = 'ENDED' AND (c.ends_at > :since OR c.id = ANY(:ended))"
    " AND a.status NOT IN ('ENDED', 'TERMINATED') AND coalesce(a.ends_at > c.ends_at, true)"
    " AND coalesce(a.end_reason <> 'its campaign ended', true)"
)
_LOOK_BACK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NewCampaign:
    """Without ``budget`` nothing limits what its agreements earn; a budget is in the campaign's currency and caps
    the orders of that currency. ``ends_at`` absent: until it is ended."""

    name: str
    currency: str
    starts_at: datetime
    ends_at: datetime | None = None
    model: AttributionModel = AttributionModel.LAST_TOUCH
    budget: Money | None = None
    budget_mode: CapMode = CapMode.TRUNCATE


@dataclass(frozen=True, slots=True)
class CampaignChange:
    """What is absent stays. ``open_end`` takes the end away."""

    name: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    open_end: bool = False
    budget: Money | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    id: CampaignId
    advertiser_id: BrandId
    currency: str
    status: CampaignStatus
    starts_at: datetime
    ends_at: datetime | None


async def create(session: AsyncSession, actor: Actor, new: NewCampaign, *, clock: Clock) -> CampaignId:
    """A draft: nothing earns in it until it is activated. Raises ``BadCampaign``, ``UnknownCurrency``."""
    actor.require("promotion:write")
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    now, campaign_id = clock.now(), CampaignId.new()
    Money(0, new.currency)
    _check_name(new.name)
    _check_period(new.starts_at, new.ends_at)
    row = {
        "id": campaign_id, "advertiser_id": actor.brand_id, "name": new.name.strip(), "currency": new.currency,
        "model": new.model, "status": CampaignStatus.DRAFT, "starts_at": new.starts_at, "ends_at": new.ends_at,
        "used_up": False, "created_at": now,
    }  # fmt: skip
    await session.execute(insert(_CAMPAIGNS), [row])
    if new.budget is not None:
        _require(new.budget_mode in _BUDGET_MODES, "budgetMode", "TRUNCATE or ALL_OR_NOTHING")
        budget = {
            "campaign_id": campaign_id, "advertiser_id": actor.brand_id, "mode": new.budget_mode,
            "limit_minor": _limit(new.budget, new.currency), "reserved_minor": 0, "spent_minor": 0,
        }  # fmt: skip
        await session.execute(insert(_BUDGETS), [budget])
    await _log(session, campaign_id, CampaignStatus.DRAFT, "created", str(actor.brand_id), now)
    return campaign_id


async def change(
    session: AsyncSession, actor: Actor, campaign_id: CampaignId, change: CampaignChange, *, clock: Clock
) -> None:
    """Name and dates; the amount of a budget, never below what sales have earned of it.

    A campaign that was created without a budget has none. Raises ``BadCampaign``, ``BudgetBelowCommitted``,
    ``CampaignInAnotherState`` for an ended one.
    """
    now = clock.now()
    if change.budget is not None:
        await hold(session, [campaign_id])  # before the campaign's row, as an order that uses it up does
    found = await _locked(session, actor, campaign_id, now)
    if found.status is CampaignStatus.ENDED:
        raise CampaignInAnotherState(campaign_id, found.status, "changed")
    values: dict[str, Any] = {}
    if change.name is not None:
        _check_name(change.name)
        values["name"] = change.name.strip()
    values |= await _new_dates(session, found, change, now)
    if values:
        await session.execute(update(_CAMPAIGNS).where(_CAMPAIGNS.c.id == campaign_id).values(values))
    if change.budget is not None:
        limit = {"id": campaign_id, "limit": _limit(change.budget, found.currency)}
        if (await session.execute(_LIMIT, limit)).first() is None:
            committed = await session.scalar(_COMMITTED, {"id": campaign_id})
            _require(committed is not None, "budget", "this campaign has none")
            raise BudgetBelowCommitted(committed or 0)
        await mark_used_up(session, [campaign_id], clock=clock)
    if "starts_at" in values or "ends_at" in values:
        await _tell(session, found, found.status, now)


async def activate(session: AsyncSession, actor: Actor, campaign_id: CampaignId, *, clock: Clock) -> None:
    """From a draft. Touches earn from here on, or from its start. Raises ``CampaignInAnotherState``."""
    await _move(session, actor, campaign_id, CampaignStatus.DRAFT, CampaignStatus.ACTIVE, "activated", clock)


async def pause(
    session: AsyncSession, actor: Actor, campaign_id: CampaignId, *, reason: str = "", clock: Clock
) -> None:
    """Touches from now on earn nothing until it resumes; earlier ones keep what they earn."""
    await _move(session, actor, campaign_id, CampaignStatus.ACTIVE, CampaignStatus.PAUSED, reason, clock)


async def resume(session: AsyncSession, actor: Actor, campaign_id: CampaignId, *, clock: Clock) -> None:
    await _move(session, actor, campaign_id, CampaignStatus.PAUSED, CampaignStatus.ACTIVE, "resumed", clock)


async def end(
    session: AsyncSession, actor: Actor, campaign_id: CampaignId, *, reason: str = "", clock: Clock
) -> datetime:
    """It ends, and its agreements with it, after the longest notice among them; without any, now.

    Returns the moment. Never later than it would have ended. Raises ``CampaignInAnotherState``.
    """
    now = clock.now()
    found = await _locked(session, actor, campaign_id, now)
    _require_next(found, CampaignStatus.ENDED)
    _check_reason(reason)
    ends_at = now + await _notice(session, campaign_id, now)
    if found.ends_at is not None:
        ends_at = min(ends_at, found.ends_at)
    if ends_at <= max(found.starts_at, now):  # it would never have run
        await _change_status(session, found, CampaignStatus.ENDED, reason, _hand(actor), now, ends_at=now)
        return now
    await session.execute(update(_CAMPAIGNS).where(_CAMPAIGNS.c.id == campaign_id).values(ends_at=ends_at))
    await _tell(session, found, found.status, now)
    return ends_at


async def end_due(db: Database, *, clock: Clock) -> int:
    """Sweep: campaigns whose time is over are ended as of then, and their agreements with them. Returns how many."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        rows = (await session.execute(_END_DUE, {"now": now, "by": _PLATFORM})).all()
        ended = [CampaignId.of(row.id) for row in rows]
        await session.execute(_END_AGREEMENTS, {"since": now - _LOOK_BACK, "ended": ended})
        told = [
            CampaignChanged(
                CampaignId.of(r.id), BrandId.of(r.advertiser_id), CampaignStatus.ENDED.value, r.ends_at
            )
            for r in rows
        ]
        await outbox.record(session, *told)
    return len(rows)


async def _new_dates(
    session: AsyncSession, found: _Found, change: CampaignChange, now: datetime
) -> dict[str, datetime | None]:
    values: dict[str, datetime | None] = {}
    begun = found.status is not CampaignStatus.DRAFT
    starts_at, ends_at = found.starts_at, None if change.open_end else found.ends_at
    if change.starts_at is not None and change.starts_at != found.starts_at:
        _require(not begun or found.starts_at > now, "startsAt", "it has started")
        _require(not begun or change.starts_at >= now, "startsAt", "not in the past")
        starts_at = values["starts_at"] = change.starts_at
    if change.open_end:
        _require(change.ends_at is None, "endsAt", "an end or none")
        values["ends_at"] = None
    elif change.ends_at is not None and change.ends_at != found.ends_at:
        _require(change.ends_at > now, "endsAt", "in the future")
        if found.ends_at is None or change.ends_at < found.ends_at:
            earliest = now + await _notice(session, found.id, now)
            _require(change.ends_at >= earliest, "endsAt", f"after the notice of its agreements, {earliest}")
        ends_at = values["ends_at"] = change.ends_at
    _check_period(starts_at, ends_at)
    return values


async def _notice(session: AsyncSession, campaign_id: CampaignId, now: datetime) -> timedelta:
    days = await session.scalar(_LONGEST_NOTICE, {"id": campaign_id, "now": now})
    return timedelta(days=days or 0)


async def _move(
    session: AsyncSession,
    actor: Actor,
    campaign_id: CampaignId,
    source: CampaignStatus,
    to: CampaignStatus,
    reason: str,
    clock: Clock,
) -> None:
    now = clock.now()
    found = await _locked(session, actor, campaign_id, now)
    if found.status is not source:
        raise CampaignInAnotherState(campaign_id, found.status, to)
    await _change_status(session, found, to, reason, _hand(actor), now)


def _require_next(found: _Found, to: CampaignStatus) -> None:
    if to not in _NEXT.get(found.status, set()):
        raise CampaignInAnotherState(found.id, found.status, to)


async def _change_status(
    session: AsyncSession,
    found: _Found,
    to: CampaignStatus,
    reason: str,
    by: str,
    now: datetime,
    **values: datetime,
) -> None:
    _check_reason(reason)
    await session.execute(update(_CAMPAIGNS).where(_CAMPAIGNS.c.id == found.id).values(status=to, **values))
    await _log(session, found.id, to, reason, by, now)
    await _tell(session, found, to, now)


def _check_reason(reason: str) -> None:
    fits = len(reason) <= _LONGEST_REASON and storable(reason)
    _require(fits, "reason", f"at most {_LONGEST_REASON} characters")


async def _locked(session: AsyncSession, actor: Actor, campaign_id: CampaignId, now: datetime) -> _Found:
    """As it is now, whether or not the sweep has come by since its end. Raises ``CampaignNotFound``."""
    actor.require("promotion:write")
    c = _CAMPAIGNS.c
    wanted = select(c.id, c.advertiser_id, c.currency, c.status, c.starts_at, c.ends_at).where(
        c.id == campaign_id
    )
    if not actor.sees_everything:
        wanted = wanted.where(c.advertiser_id == actor.brand_id)
    row = (await session.execute(wanted.with_for_update())).first()
    if row is None:
        raise CampaignNotFound("no such campaign", field="id")
    over = row.ends_at is not None and row.ends_at <= now
    status = CampaignStatus.ENDED if over else CampaignStatus(row.status)
    return _Found(row.id, row.advertiser_id, row.currency, status, row.starts_at, row.ends_at)


def _hand(actor: Actor) -> str:
    return _PLATFORM if actor.sees_everything else str(actor.brand_id)


async def _log(
    session: AsyncSession,
    campaign_id: CampaignId,
    status: CampaignStatus,
    reason: str,
    by: str,
    now: datetime,
) -> None:
    c = _LOG.c
    last = await session.scalar(
        select(c.position).where(c.campaign_id == campaign_id).order_by(c.position.desc()).limit(1)
    )
    row = {
        "campaign_id": campaign_id, "position": (last or 0) + 1, "status": status, "reason": reason,
        "changed_by": by, "changed_at": now,
    }  # fmt: skip
    await session.execute(insert(_LOG), [row])


async def _tell(session: AsyncSession, found: _Found, status: CampaignStatus, now: datetime) -> None:
    await outbox.record(session, CampaignChanged(found.id, found.advertiser_id, status.value, now))


def _limit(budget: Money, currency: str) -> int:
    _require(budget.currency == currency, "budget", f"in {currency}")
    _require(0 < budget.amount_minor <= MAX_MINOR, "budget", f"1 to {MAX_MINOR} minor units")
    return budget.amount_minor


def _check_name(name: str) -> None:
    fits = 1 <= len(name.strip()) <= LONGEST_NAME and name.isprintable() and storable(name)
    _require(fits, "name", f"one line of 1 to {LONGEST_NAME} characters")


def _check_period(starts_at: datetime, ends_at: datetime | None) -> None:
    _require(ends_at is None or starts_at < ends_at, "endsAt", "after the start")


def _require(holds: bool, field: str, allowed: str) -> None:
    if not holds:
        raise BadCampaign(f"{field}: {allowed}", field=field)
