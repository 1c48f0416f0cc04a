"""Caps, tiers and campaigns' budgets as past orders under other terms would have left them, order after order.

Caps and tiers of the new terms count from zero at the first order. A budget begins where it stood then, because it is
shared with agreements and orders outside the question, and every agreement of its campaign takes from it. What goes
back is free again as long as the cap's period, the agreement or the campaign ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import AgreementId, BrandId
from marketplace.promotion.agreements import counters
from marketplace.promotion.agreements.limits import (
    TIER,
    BudgetLeft,
    CapScope,
    CounterKey,
    Limit,
    Period,
)
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.attribution.crediting import Amounts, Credit
from marketplace.promotion.attribution.decision import Award
from marketplace.promotion.ids import CampaignId

_RUNS = text(
    "SELECT a.id, c.id AS campaign_id, c.currency, b.limit_minor, b.mode,"
    " b.reserved_minor + b.spent_minor AS taken_minor,"
    " (SELECT min(s.changed_at) FROM agreement_status_log s WHERE s.agreement_id = a.id"
    "  AND s.status IN ('ENDED', 'TERMINATED')) AS ended_at,"
    " least(c.ends_at, (SELECT min(s.changed_at) FROM campaign_status_log s WHERE s.campaign_id = c.id"
    "  AND s.status = 'ENDED')) AS campaign_ended_at"
    " FROM agreements a LEFT JOIN campaigns c ON c.id = a.campaign_id"
    " LEFT JOIN campaign_budgets b ON b.campaign_id = c.id WHERE a.advertiser_id = :advertiser"
)
_FIRST_UNDER = text(
    "SELECT decided_at, amounts FROM attribution_decisions WHERE advertiser_id = :advertiser AND decided_at >= :since"
    " AND decided_at < :until AND position(:campaign IN amounts) > 0 ORDER BY decided_at, order_id LIMIT 1"
)


_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class Budget:
    """``taken_minor``: reserved or spent before the order that comes next."""

    campaign_id: str
    currency: str
    limit_minor: int
    mode: str
    taken_minor: int
    ended_at: datetime | None
    known_at: datetime
    """When ``taken_minor`` was that: what orders before the period gave back earlier is in it."""

    def runs(self, at: datetime) -> bool:
        return self.ended_at is None or at < self.ended_at


@dataclass(frozen=True, slots=True)
class Running:
    """When agreements ended, and the budgets of their campaigns as the period found them."""

    ended_at: Mapping[str, datetime]
    budgets: Mapping[str, Budget]
    """By agreement; those of one campaign share one."""


NOTHING_RUNS = Running({}, {})


async def running(session: AsyncSession, advertiser_id: BrandId, since: datetime, until: datetime) -> Running:
    """One statement, and one for each campaign with a budget."""
    ended: dict[str, datetime] = {}
    by_agreement: dict[str, str] = {}
    budgets: dict[str, Budget] = {}
    for row in (await session.execute(_RUNS, {"advertiser": advertiser_id})).all():
        agreement_id = str(AgreementId.of(row.id))
        if row.ended_at is not None:
            ended[agreement_id] = row.ended_at
        if row.limit_minor is not None:
            campaign_id = str(CampaignId.of(row.campaign_id))
            by_agreement[agreement_id] = campaign_id
            budgets[campaign_id] = Budget(
                campaign_id,
                row.currency,
                row.limit_minor,
                row.mode,
                row.taken_minor,
                row.campaign_ended_at,
                _NEVER,
            )
    for campaign_id, budget in budgets.items():
        asked = {"advertiser": advertiser_id, "since": since, "until": until, "campaign": campaign_id}
        first = (await session.execute(_FIRST_UNDER, asked)).first()
        stood = _budgets_of(Amounts.read(first.amounts)).get(campaign_id) if first else None
        if first is not None and stood is not None:
            budget.limit_minor, budget.mode = stood.limit_minor, stood.mode
            budget.taken_minor, budget.known_at = stood.limit_minor - stood.remaining_minor, first.decided_at
    return Running(ended, {agreement: budgets[campaign] for agreement, campaign in by_agreement.items()})


def _budgets_of(amounts: Amounts) -> dict[str, BudgetLeft]:
    return {limit.budget.campaign_id: limit.budget for limit in amounts.limits if limit.budget}


class Standing:
    """How the limits stand. ``terms`` are of the agreements in question."""

    def __init__(self, terms: Terms, runs: Running) -> None:
        self._terms, self._runs = terms, runs
        self._counters: dict[CounterKey, int] = {}
        self.any = bool(terms.caps or terms.tiers or runs.budgets)
        """Whether anything of it could hold."""

    def hold(
        self, awards: Sequence[Award], amounts: Amounts, exchanged: frozenset[str], paid_at: datetime
    ) -> tuple[list[counters.Held], tuple[Limit, ...]]:
        """For each agreement that wins lines of an order: the counters of the new terms where it is ``exchanged``, the
        stored ones where it is not; and what its campaign has left."""
        self._hear(amounts)
        held, limits = [], []
        stored = {limit.agreement_id: limit for limit in amounts.limits}
        for award in awards:
            if award.agreement_id in exchanged:
                mine = self._held(award, amounts.currency, paid_at)
                limit = mine.limit if mine else Limit(award.agreement_id, award.agreement_version)
                held += [mine] if mine else []
            else:
                limit = stored.get(award.agreement_id) or Limit(award.agreement_id, award.agreement_version)
            limits.append(replace(limit, budget=self._left(award.agreement_id, amounts.currency)))
        return held, tuple(limits)

    def count(self, held: Sequence[counters.Held], earned: Credit, currency: str) -> None:
        """What an order earned, and sold."""
        sums: dict[str, list[int]] = {}
        for line in earned.lines:
            mine = sums.setdefault(line.agreement_id, [0, 0])
            mine[0] += line.commission_minor
            mine[1] += line.basis_minor
        for owed in earned.adjustments:
            sums[owed.agreement_id][0] += owed.amount_minor
        for each in held:
            commission, basis = sums.get(each.limit.agreement_id, (0, 0))
            for key, _ in each.caps:
                self._add(key, commission)
            if each.tier is not None:
                self._add(each.tier, basis)
                if each.peak is not None:
                    self._counters[each.peak] = max(each.peak_minor, self._counters[each.tier])
        for agreement_id, (commission, _) in sums.items():
            budget = self._budget_of(agreement_id, currency)
            if budget is not None:
                budget.taken_minor += commission

    def free(
        self,
        agreement_id: str,
        currency: str,
        keys: Sequence[CounterKey],
        *,
        commission_minor: int,
        basis_minor: int,
        at: datetime,
    ) -> None:
        """What of a line went back; below zero, came back."""
        ended = self._runs.ended_at.get(agreement_id)
        for key in keys:
            if key.kind == TIER:
                self._add(key, -basis_minor)
            elif key.kind == CapScope.AGREEMENT:
                self._add(key, -commission_minor if ended is None or at < ended else 0)
            elif Period(key.kind.partition(":")[2]).at(at) == key.period_from:
                self._add(key, -commission_minor)
        self._free_budget(self._budget_of(agreement_id, currency), commission_minor, at)

    def free_earlier(self, campaign_id: str | None, commission_minor: int, at: datetime) -> None:
        """What went back of an order before the period."""
        budget = self._named(campaign_id)
        if budget is not None and at > budget.known_at:
            self._free_budget(budget, commission_minor, at)

    def _free_budget(self, budget: Budget | None, commission_minor: int, at: datetime) -> None:
        if budget is not None and budget.runs(at):
            budget.taken_minor = max(budget.taken_minor - commission_minor, 0)

    def _budget_of(self, agreement_id: str, currency: str) -> Budget | None:
        """Orders in another currency than the campaign's are not counted."""
        budget = self._runs.budgets.get(agreement_id)
        return budget if budget is not None and budget.currency == currency else None

    def _named(self, campaign_id: str | None) -> Budget | None:
        return next((each for each in self._runs.budgets.values() if each.campaign_id == campaign_id), None)

    def _hear(self, amounts: Amounts) -> None:
        """A budget can be changed: what an order stored of it is what held then."""
        for campaign_id, stood in _budgets_of(amounts).items():
            budget = self._named(campaign_id)
            if budget is not None:
                budget.limit_minor, budget.mode = stood.limit_minor, stood.mode

    def _held(self, award: Award, currency: str, paid_at: datetime) -> counters.Held | None:
        last = award.winners[-1]
        promoter = last.promoter_id or last.promoter_brand_id
        wanted = counters.Wanted(award.agreement_id, award.agreement_version, self._terms, promoter)
        return counters.held_at(wanted, self._counters, currency=currency, paid_at=paid_at)

    def _left(self, agreement_id: str, currency: str) -> BudgetLeft | None:
        budget: Any = self._budget_of(agreement_id, currency)
        if budget is None:
            return None
        left = budget.limit_minor - budget.taken_minor
        return BudgetLeft(budget.campaign_id, budget.limit_minor, left, budget.mode)

    def _add(self, key: CounterKey, amount: int) -> None:
        self._counters[key] = max(self._counters.get(key, 0) + amount, 0)
