"""Past orders under other terms: what everybody earned and gave back, and what they would have. Pure.

An order's stored inputs are decided again by the engine of the handlers, with the terms of the agreements in question
exchanged and everything else as it was: which touches there were, which agreements and campaigns ran, who the buyer
was. Orders and refunds come in the sequence in which they happened, because caps, tiers and budgets go on from one to
the next (replayed_limits.py). A refund takes by R6 of the commission that would have been; what fraud denied stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from core.ids import AgreementId, BrandId
from core.money import allocate_minor, cumulative_part
from marketplace.insights.past_refunds import LineBack, OrderBack, PastRefund
from marketplace.insights.preview import split_of
from marketplace.insights.replayed_limits import NOTHING_RUNS, Running, Standing
from marketplace.promotion.agreements.counters import Held
from marketplace.promotion.agreements.limits import CounterKey, Limit
from marketplace.promotion.agreements.terms import Terms, terms_in_force
from marketplace.promotion.attribution.crediting import Amounts, Credit, LineEarned, credit
from marketplace.promotion.attribution.decision import decide
from marketplace.promotion.commission.rules import reverse_line
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
    """Earned, and of that gone back with refunds: what was, and what would have been."""

    before_minor: int = 0
    after_minor: int = 0
    before_reversed_minor: int = 0
    after_reversed_minor: int = 0
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


@dataclass(slots=True)
class _Line:
    """A line of which something goes back later, as it would have earned. ``held`` is by share, in R3's order."""

    agreement_id: str
    currency: str
    basis_minor: int
    commission_minor: int
    payees: list[Payee]
    earned: list[int]
    held: list[int]
    keys: list[CounterKey]
    refunded_minor: int = 0


class Replay:
    """``agreement_ids`` are those whose terms are exchanged, all of the advertiser's when absent. ``refunds`` are all
    that are going to be told: of other lines nothing is remembered."""

    def __init__(
        self,
        terms: Terms,
        *,
        advertiser_id: BrandId,
        agreement_ids: Collection[AgreementId] | None = None,
        runs: Running = NOTHING_RUNS,
        refunds: Iterable[PastRefund] = (),
    ) -> None:
        self._terms, self._advertiser_id = terms, advertiser_id
        self._only = None if agreement_ids is None else frozenset(map(str, agreement_ids))
        self._exchanged: dict[tuple[str, int, str], AgreementTerms] = {}
        self._standing = Standing(terms, runs)
        refunds = list(refunds)
        self._refunded_lines = {each.order_line_id for each in refunds if isinstance(each, LineBack)}
        self._refunded_orders = {each.order_id for each in refunds if isinstance(each, OrderBack)}
        self._lines: dict[str, _Line] = {}
        self._unsold: dict[str, list[_Line]] = {}
        """By order: lines that nobody had sold, of orders that are refunded."""
        self._order_refunds: dict[str, int] = {}
        self._reversed: dict[str, int] = {}
        """By order line: what really went back of its commission."""
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
        before = after = _as_stored(result_text, amounts.currency)
        if self._may_change(order, touches):
            after = self._after(order, touches, agreements, amounts, before)
        self._compare(before, after)

    def refund(self, back: PastRefund) -> None:
        """What went back next."""
        if isinstance(back, OrderBack):
            self._refund_order(back)
        elif back.earlier:
            self._standing.free_earlier(back.campaign_id, back.amount_minor, back.at)
        else:
            self._refund_line(back)

    def _may_change(self, order: OrderFact, touches: Sequence[TouchFact]) -> bool:
        return (
            any(self._concerns(touch.agreement_id) for touch in touches)
            or self._standing.any
            or order.id in self._refunded_orders
            or any(line.id in self._refunded_lines for line in order.lines)
        )

    def _concerns(self, agreement_id: str) -> bool:
        return self._only is None or agreement_id in self._only

    def _after(
        self,
        order: OrderFact,
        touches: Sequence[TouchFact],
        agreements: Sequence[AgreementTerms],
        amounts: Amounts,
        before: Sequence[_Earned],
    ) -> list[_Earned]:
        exchanged = [self._exchange(terms, amounts.currency) for terms in agreements]
        splits = tuple(
            split_of(split.agreement_id, split.version, self._terms)
            if self._concerns(split.agreement_id)
            else split
            for split in amounts.splits
        )
        held, limits = self._limits(order, touches, exchanged, amounts)
        earned = credit(order, touches, exchanged, replace(amounts, splits=splits, limits=limits))
        self._standing.count(held, earned, amounts.currency)
        keys = {each.limit.agreement_id: each.keys for each in held}
        self._remember(
            order, amounts, earned, keys, {each.order_line_id for each in before if each.amount_minor}
        )
        return _as_credited(earned, amounts.currency)

    def _limits(
        self,
        order: OrderFact,
        touches: Sequence[TouchFact],
        agreements: Sequence[AgreementTerms],
        amounts: Amounts,
    ) -> tuple[list[Held], tuple[Limit, ...]]:
        if not (self._standing.any or amounts.limits):
            return [], ()
        awards = decide(order, touches, agreements).awards
        mine = frozenset(award.agreement_id for award in awards if self._concerns(award.agreement_id))
        return self._standing.hold(awards, amounts, mine, order.paid_at or order.created_at)

    def _remember(
        self,
        order: OrderFact,
        amounts: Amounts,
        earned: Credit,
        keys: Mapping[str, list[CounterKey]],
        sold: Collection[str],
    ) -> None:
        for line in earned.lines:
            if line.order_line_id in self._refunded_lines:
                self._lines[line.order_line_id] = _line(line, amounts.currency, keys)
            elif (
                order.id in self._refunded_orders and line.commission_minor and line.order_line_id not in sold
            ):
                self._unsold.setdefault(order.id, []).append(_line(line, amounts.currency, keys))

    def _refund_line(self, back: LineBack) -> None:
        for share in back.shares:
            payee = Payee(back.currency, share.role, share.payee, back.promoter_brand_id)
            self.changes.setdefault(payee, Change()).before_reversed_minor += share.amount_minor
        gone = self._reversed.get(back.order_line_id, 0) + back.amount_minor
        self._reversed[back.order_line_id] = gone
        line = self._lines.get(back.order_line_id)
        if line is not None:
            known = back.refunded_minor if back.amount_minor >= 0 else 0
            self._bring_to(
                line, known or cumulative_part(back.basis_minor, gone, back.commission_minor), back.at
            )

    def _refund_order(self, back: OrderBack) -> None:
        gone = min(self._order_refunds.get(back.order_id, 0) + back.amount_minor, back.total_minor)
        self._order_refunds[back.order_id] = gone
        for line in self._unsold.get(back.order_id, ()):
            self._bring_to(line, cumulative_part(line.basis_minor, gone, back.total_minor), back.at)

    def _bring_to(self, line: _Line, refunded_minor: int, at: datetime) -> None:
        """R6: so much of the line's basis has gone back in all."""
        refunded_minor = min(refunded_minor, line.basis_minor)
        gone = line.commission_minor - sum(line.held)
        due = cumulative_part(line.commission_minor, refunded_minor, line.basis_minor)
        if due >= gone:
            taken = reverse_line(
                commission_minor=line.commission_minor, basis_minor=line.basis_minor,
                refunded_basis_minor=refunded_minor, held=line.held,
            )  # fmt: skip
        else:
            without = [had - has for had, has in zip(line.earned, line.held, strict=True)]
            taken = [-amount for amount in allocate_minor(gone - due, without)]
        line.held = [has - gives for has, gives in zip(line.held, taken, strict=True)]
        for payee, amount in zip(line.payees, taken, strict=True):
            self.changes.setdefault(payee, Change()).after_reversed_minor += amount
        self._standing.free(
            line.agreement_id, line.currency, line.keys, commission_minor=sum(taken),
            basis_minor=refunded_minor - line.refunded_minor, at=at,
        )  # fmt: skip
        line.refunded_minor = refunded_minor

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


def _line(line: LineEarned, currency: str, keys: Mapping[str, list[CounterKey]]) -> _Line:
    amounts = [share.amount_minor for share in line.shares]
    payees = [Payee(currency, share.role, share.payee, line.promoter_brand_id) for share in line.shares]
    return _Line(
        line.agreement_id, currency, line.basis_minor, line.commission_minor, payees, amounts, list(amounts),
        list(keys.get(line.agreement_id, [])),
    )  # fmt: skip


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
