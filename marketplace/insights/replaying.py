"""Past orders under other terms: what everybody earned, and what they would have. Pure.

An order's stored inputs are decided again by the engine of the handlers, with the terms of the agreements in question
exchanged and everything else as it was: which touches there were, which agreements and campaigns ran, who the buyer
was. Caps and tiers of the new terms count from zero at the first order and go on from order to order, so orders come
in the sequence in which they were credited. Refunds are left out on both sides, and so are campaigns' budgets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from core.ids import AgreementId, BrandId
from marketplace.insights.preview import split_of
from marketplace.promotion.agreements import counters
from marketplace.promotion.agreements.limits import CounterKey
from marketplace.promotion.agreements.terms import Terms, terms_in_force
from marketplace.promotion.attribution.crediting import Amounts, Credit, credit
from marketplace.promotion.attribution.decision import decide
from marketplace.promotion.facts import AgreementTerms, OrderFact, TouchFact, read_inputs
from marketplace.promotion.models import ShareRole

_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
"""The new rules hold for every touch there was."""


class Payee(NamedTuple):
    """Who earns, through which promoter brand, in which currency; the platform's payee is ``platform``."""

    currency: str
    role: ShareRole
    payee: str
    promoter_brand_id: str


@dataclass(slots=True)
class Change:
    before_minor: int = 0
    after_minor: int = 0
    orders_before: int = 0
    orders_after: int = 0


@dataclass(slots=True)
class Totals:
    """Of orders. ``changed``: somebody else wins a line, ``won`` and ``lost`` (nobody did, or does) among them."""

    replayed: int = 0
    changed: int = 0
    won: int = 0
    lost: int = 0
    unreadable: int = 0
    """Decided by an older version of the rules, which this release cannot decide again."""


class _Earned(NamedTuple):
    payee: Payee
    order_line_id: str
    touch_id: str
    amount_minor: int


class Replay:
    """``agreement_ids`` are those whose terms are exchanged, all of the advertiser's when absent."""

    def __init__(
        self, terms: Terms, *, advertiser_id: BrandId, agreement_ids: Collection[AgreementId] | None = None
    ) -> None:
        self._terms, self._advertiser_id = terms, advertiser_id
        self._only = None if agreement_ids is None else frozenset(map(str, agreement_ids))
        self._exchanged: dict[tuple[str, int, str], AgreementTerms] = {}
        self._counters: dict[CounterKey, int] = {}
        self.changes: dict[Payee, Change] = {}
        self.totals = Totals()

    def add(self, input_text: str, amounts_text: str, result_text: str) -> None:
        """One order, as its decision was stored."""
        try:
            order, touches, agreements = read_inputs(input_text)
        except ValueError:
            self.totals.unreadable += 1
            return
        amounts = Amounts.read(amounts_text)
        before = _as_stored(result_text, amounts.currency)
        if any(self._concerns(touch.agreement_id) for touch in touches):
            after = self._after(order, touches, agreements, amounts)
        else:
            after = before
        self._compare(before, after)

    def _concerns(self, agreement_id: str) -> bool:
        return self._only is None or agreement_id in self._only

    def _after(
        self,
        order: OrderFact,
        touches: Sequence[TouchFact],
        agreements: Sequence[AgreementTerms],
        amounts: Amounts,
    ) -> list[_Earned]:
        exchanged = [self._exchange(terms, amounts.currency) for terms in agreements]
        splits = [
            split_of(split.agreement_id, split.version, self._terms)
            if self._concerns(split.agreement_id)
            else split
            for split in amounts.splits
        ]
        kept = [limit for limit in amounts.limits if not self._concerns(limit.agreement_id)]
        held = self._hold(order, touches, exchanged, amounts.currency)
        limits = (*kept, *(each.limit for each in held))
        earned = credit(order, touches, exchanged, replace(amounts, splits=tuple(splits), limits=limits))
        for each in held:
            self._count(each, earned)
        return _as_credited(earned, amounts.currency)

    def _exchange(self, terms: AgreementTerms, currency: str) -> AgreementTerms:
        if not self._concerns(terms.agreement_id):
            return terms
        key = (terms.agreement_id, terms.version, currency)
        if key not in self._exchanged:
            self._exchanged[key] = terms_in_force(
                AgreementId.parse(terms.agreement_id),
                terms.version,
                advertiser_id=self._advertiser_id,
                promoter_brand_id=BrandId.parse(terms.promoter_brand_id),
                in_force_from=_ALWAYS,
                terms=self._terms,
                currency=currency,
            )
        return self._exchanged[key]

    def _hold(
        self,
        order: OrderFact,
        touches: Sequence[TouchFact],
        agreements: Sequence[AgreementTerms],
        currency: str,
    ) -> list[counters.Held]:
        if not (self._terms.caps or self._terms.tiers):
            return []
        found = []
        for award in decide(order, touches, agreements).awards:
            if self._concerns(award.agreement_id):
                promoter = award.winners[-1].promoter_id or award.winners[-1].promoter_brand_id
                wanted = counters.Wanted(award.agreement_id, award.agreement_version, self._terms, promoter)
                paid_at = order.paid_at or order.created_at
                found.append(counters.held_at(wanted, self._counters, currency=currency, paid_at=paid_at))
        return [each for each in found if each is not None]

    def _count(self, held: counters.Held, earned: Credit) -> None:
        lines = [line for line in earned.lines if line.agreement_id == held.limit.agreement_id]
        owed = [a.amount_minor for a in earned.adjustments if a.agreement_id == held.limit.agreement_id]
        commission = sum(line.commission_minor for line in lines) + sum(owed)
        for key, _ in held.caps:
            self._counters[key] = self._counters.get(key, 0) + commission
        if held.tier is not None:
            basis = sum(line.basis_minor for line in lines)
            self._counters[held.tier] = self._counters.get(held.tier, 0) + basis

    def _compare(self, before: Sequence[_Earned], after: Sequence[_Earned]) -> None:
        self.totals.replayed += 1
        winners = [
            {(each.order_line_id, each.touch_id) for each in side if each.order_line_id}
            for side in (before, after)
        ]
        if winners[0] != winners[1]:
            self.totals.changed += 1
            self.totals.won += not winners[0]
            self.totals.lost += not winners[1]
        for payee, amount in _by_payee(before).items():
            change = self.changes.setdefault(payee, Change())
            change.before_minor += amount
            change.orders_before += 1
        for payee, amount in _by_payee(after).items():
            change = self.changes.setdefault(payee, Change())
            change.after_minor += amount
            change.orders_after += 1


def _as_stored(result_text: str, currency: str) -> list[_Earned]:
    """The shares of a decision's stored result; what a retroactive tier owed has no line."""
    _, _, _, lines, *owed = orjson.loads(result_text)
    adjustments: Iterable[Mapping[str, Any]] = owed[0] if owed else ()
    return [
        _Earned(
            Payee(currency, ShareRole(share["role"]), share["payee"], part["promoter_brand_id"]),
            part.get("order_line_id", ""),
            share["touch_id"],
            share["amount_minor"],
        )
        for part in (*lines, *adjustments)
        for share in part["shares"]
    ]


def _as_credited(earned: Credit, currency: str) -> list[_Earned]:
    found = [
        _Earned(
            Payee(currency, share.role, share.payee, line.promoter_brand_id),
            line.order_line_id,
            share.touch_id,
            share.amount_minor,
        )
        for line in earned.lines
        for share in line.shares
    ]
    return found + [
        _Earned(
            Payee(currency, share.role, share.payee, owed.promoter_brand_id),
            "",
            share.touch_id,
            share.amount_minor,
        )
        for owed in earned.adjustments
        for share in owed.shares
    ]


def _by_payee(earned: Sequence[_Earned]) -> dict[Payee, int]:
    sums: dict[Payee, int] = {}
    for each in earned:
        sums[each.payee] = sums.get(each.payee, 0) + each.amount_minor
    return sums
