"""From facts to shares: attribution (section 3) and commission (R1 to R3) of one order in one pure step.

The two input texts, of facts and of amounts, are all it reads. They are stored with the decision, so either
brand runs ``recompute`` on them and must find the same hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import orjson

from core.canonical import sha256_hex
from marketplace.promotion.agreements.limits import BudgetLeft, Limit, limited
from marketplace.promotion.attribution.decision import (
    Award,
    Decision,
    Winner,
    decide,
    share_over_touches,
)
from marketplace.promotion.commission import rules as commission
from marketplace.promotion.commission.rules import Funder, OrderDiscount
from marketplace.promotion.facts import (
    AgreementTerms,
    OrderFact,
    TouchFact,
    canonical_text,
    read_inputs,
)
from marketplace.promotion.models import ShareRole

PLATFORM = "platform"
"""The payee that is the platform itself."""

_INDIVIDUAL, _PROMOTER_BRAND, _PLATFORM = ShareRole.INDIVIDUAL, ShareRole.PROMOTER_BRAND, ShareRole.PLATFORM


@dataclass(frozen=True, slots=True)
class LineMoney:
    """``gross_minor`` for the whole quantity; ``tax_ppm`` of the tax inside it, 0 where tax is on top."""

    id: str
    quantity: int
    gross_minor: int
    discount_minor: int
    tax_ppm: int


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How one agreement version divides a commission; a fixed one is at most ``fixed_cap_ppm`` of the basis."""

    agreement_id: str
    version: int
    fee_ppm: int
    individual_ppm: int
    return_window_days: int
    fixed_cap_ppm: int = commission.FIXED_CAP_PPM


@dataclass(frozen=True, slots=True)
class Amounts:
    """The money of one order; lines in the sequence of the order's facts."""

    currency: str
    lines: tuple[LineMoney, ...]
    discounts: tuple[OrderDiscount, ...]
    splits: tuple[SplitRule, ...]
    limits: tuple[Limit, ...] = ()

    def text(self) -> str:
        limits = [
            [
                x.agreement_id,
                x.version,
                x.caps,
                x.tiers,
                x.tier_mode,
                x.prior_basis_minor,
                *_more_of(x),
            ]
            for x in self.limits
        ]
        return canonical_text(
            [
                self.currency,
                [[x.id, x.quantity, x.gross_minor, x.discount_minor, x.tax_ppm] for x in self.lines],
                [[d.amount_minor, d.funder] for d in self.discounts],
                sorted(
                    [
                        s.agreement_id,
                        s.version,
                        s.fee_ppm,
                        s.individual_ppm,
                        s.return_window_days,
                        s.fixed_cap_ppm,
                    ]
                    for s in self.splits
                ),
                *([limits] if limits else []),
            ]
        )

    @classmethod
    def read(cls, text: str) -> Amounts:
        currency, lines, discounts, splits, *limits = orjson.loads(text)
        return cls(
            currency,
            tuple(LineMoney(*line) for line in lines),
            tuple(OrderDiscount(amount, Funder(funder)) for amount, funder in discounts),
            tuple(SplitRule(*split) for split in splits),
            tuple(map(_limit_of, limits[0] if limits else ())),
        )


def _more_of(limit: Limit) -> list[Any]:
    """Said only where there is a budget, or the tier counter stood higher before."""
    if limit.peak_basis_minor:
        return [limit.budget, limit.peak_basis_minor]
    return [limit.budget] if limit.budget else []


def _limit_of(row: Sequence[Any]) -> Limit:
    agreement, version, caps, tiers, mode, prior, *more = row
    budget = more[0] if more else None
    peak = more[1] if len(more) > 1 else 0
    return Limit(
        agreement,
        version,
        tuple(map(tuple, caps)),
        tuple(map(tuple, tiers)),
        mode,
        prior,
        BudgetLeft(*budget) if budget else None,
        peak,
    )


_UNSOLD = (None, None, None, 0, None)
"""What is written in place of a rate where nobody sold the line."""


class ShareEarned(NamedTuple):
    """``payee`` is the outer form of a promoter's or a brand's id, or ``platform``."""

    position: int
    role: ShareRole
    payee: str
    touch_id: str
    amount_minor: int


# There are six or more to an order: past its own constructor, which is Python, one takes half the time.
_share: Callable[[tuple[int, ShareRole, str, str, int]], ShareEarned] = partial(tuple.__new__, ShareEarned)


class LineEarned(NamedTuple):
    order_line_id: str
    agreement_id: str
    agreement_version: int
    promoter_brand_id: str
    rule_id: str
    rate_ppm: int
    touch_id: str
    """Of the latest winner."""
    basis_minor: int
    commission_minor: int
    return_window_days: int
    shares: tuple[ShareEarned, ...]
    """In the order of R3, one winner after another."""


class Adjustment(NamedTuple):
    """R5 RETROACTIVE: what the order that reached a tier owes for the period's earlier ones, once."""

    agreement_id: str
    agreement_version: int
    promoter_brand_id: str
    amount_minor: int
    shares: tuple[ShareEarned, ...]


class Credit(NamedTuple):
    decision: Decision
    lines: tuple[LineEarned, ...]
    adjustments: tuple[Adjustment, ...] = ()

    def text(self) -> str:
        """What was decided and earned, in one text; whoever earns it by name."""
        d = self.decision
        lines = [(line_id, *(rate or _UNSOLD)) for line_id, rate in d.lines.items()]
        owed = [[_by_name(each) for each in self.adjustments]] if self.adjustments else []
        # Plain tuples: the writer would ask back for every other kind.
        rejected = list(map(tuple, d.rejected))
        return canonical_text([d.awards, lines, rejected, [_by_name(line) for line in self.lines], *owed])


def _by_name(earned: LineEarned | Adjustment) -> dict[str, Any]:
    named = dict(zip(earned._fields, earned, strict=True))
    named["shares"] = [dict(zip(ShareEarned._fields, share, strict=True)) for share in earned.shares]
    return named


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What either brand finds for itself: the hashes, and who sold it for how much."""

    input_hash: str
    amounts_hash: str
    result_hash: str
    credit: Credit


def credit(
    order: OrderFact, touches: Sequence[TouchFact], agreements: Sequence[AgreementTerms], amounts: Amounts
) -> Credit:
    """Who sold each line and what everyone earns of it, to the minor unit."""
    decision = decide(order, touches, agreements)
    if not decision.awards:
        return Credit(decision, ())
    bases = commission.basis_of_lines(amounts.lines, amounts.discounts)
    splits = {(split.agreement_id, split.version): split for split in amounts.splits}
    commissions, owed = _commissions(decision, amounts, bases, splits)
    place = {line_id: index for index, line_id in enumerate(decision.lines)}
    earned: list[LineEarned | None] = [None] * len(bases)
    for award in decision.awards:
        agreement_id, version, _, winners, line_ids = award
        split, last = splits[agreement_id, version], winners[-1]
        indexes = [place[line_id] for line_id in line_ids]
        shares = _shares(award, [commissions[index] for index in indexes], split)
        for index, line_id, shares_of_line in zip(indexes, line_ids, shares, strict=True):
            rate = decision.lines[line_id]
            assert rate is not None
            earned[index] = LineEarned(
                line_id,
                agreement_id,
                version,
                last.promoter_brand_id,
                rate.rule_id,
                rate.rate_ppm,
                last.touch_id,
                bases[index],
                commissions[index],
                split.return_window_days,
                shares_of_line,
            )
    in_order = tuple(filter(None, earned))
    return Credit(decision, in_order, _adjustments(decision, owed, splits) if owed else ())


def _adjustments(
    decision: Decision, owed: Mapping[str, int], splits: Mapping[tuple[str, int], SplitRule]
) -> tuple[Adjustment, ...]:
    """One for each agreement, however many awards it has: the first one's winners earn it."""
    first = {award.agreement_id: award for award in reversed(decision.awards)}
    adjustments = []
    for agreement_id, minor in owed.items():
        if minor:
            award = first[agreement_id]
            split = splits[agreement_id, award.agreement_version]
            adjustments.append(
                Adjustment(
                    agreement_id,
                    award.agreement_version,
                    award.winners[-1].promoter_brand_id,
                    minor,
                    _shares(award, [minor], split)[0],
                )
            )
    return tuple(adjustments)


def _commissions(
    decision: Decision,
    amounts: Amounts,
    bases: Sequence[int],
    splits: Mapping[tuple[str, int], SplitRule],
) -> tuple[list[int], dict[str, int]]:
    """R2: rounded once for each agreement of the order, then brought back to its lines; R5 and R4 where it has
    tiers, caps or a budget, which agreements of one campaign take from in turn. (by line, adjustments by
    agreement)."""
    exact = _exact(decision, amounts, bases, splits)
    agreements = dict.fromkeys([award.agreement_id for award in decision.awards])
    if len(agreements) == 1 and not amounts.limits:
        # Nearly every sale. What is exactly 0 gets no unit, so that unsold lines may stand among the others.
        return commission.round_to_lines(exact), {}
    limits = {limit.agreement_id: limit for limit in amounts.limits}
    budgets = {
        limit.budget.campaign_id: limit.budget.remaining_minor for limit in amounts.limits if limit.budget
    }
    owed: dict[str, int] = {}
    commissions = [0] * len(bases)
    for agreement_id in agreements:
        indexes = [
            index
            for index, rate in enumerate(decision.lines.values())
            if rate is not None and rate.agreement_id == agreement_id
        ]
        earned = commission.round_to_lines([exact[index] for index in indexes])
        limit = limits.get(agreement_id)
        if limit is not None:
            campaign_id = limit.budget.campaign_id if limit.budget else ""
            kept = limited(
                limit,
                bases=[bases[index] for index in indexes],
                commissions=earned,
                budget_minor=budgets.get(campaign_id),
            )
            if limit.budget:
                budgets[campaign_id] -= kept.total_minor
            earned, owed[agreement_id] = list(kept.commissions), kept.adjustment_minor
        for index, rounded in zip(indexes, earned, strict=True):
            commissions[index] = rounded
    return commissions, owed


def _exact(
    decision: Decision,
    amounts: Amounts,
    bases: Sequence[int],
    splits: Mapping[tuple[str, int], SplitRule],
) -> list[int]:
    """R2 of each line before rounding, in millionths of a minor unit; 0 where nobody sold it."""
    exact = []
    for rate, basis, money in zip(decision.lines.values(), bases, amounts.lines, strict=True):
        if rate is None:
            exact.append(0)
        elif rate.fixed_minor is None:
            exact.append(basis * rate.rate_ppm)
        else:
            cap_ppm = splits[rate.agreement_id, rate.agreement_version].fixed_cap_ppm
            exact.append(
                commission.exact_fixed(
                    rate.fixed_minor, quantity=money.quantity, basis_minor=basis, cap_ppm=cap_ppm
                )
            )
    return exact


def _shares(
    award: Award, commissions_minor: Sequence[int], split: SplitRule
) -> Sequence[tuple[ShareEarned, ...]]:
    """R3 of each commission: for every winner's part of it, one after another."""
    if len(award.winners) == 1:
        return _shares_of(award.winners[0], commissions_minor, split)
    shares: list[tuple[ShareEarned, ...]] = [()] * len(commissions_minor)
    for winner, parts in zip(award.winners, _parts(award, commissions_minor), strict=True):
        at = len(shares[0])
        own = _shares_of(winner, parts, split, at=at)
        shares = [before + mine for before, mine in zip(shares, own, strict=True)]
    return shares


def _shares_of(
    winner: Winner, parts_minor: Sequence[int], split: SplitRule, at: int = 0
) -> list[tuple[ShareEarned, ...]]:
    """R3 of one winner's part of each commission, from position ``at`` on."""
    person, touch_id, brand_id = winner.promoter_id, winner.touch_id, winner.promoter_brand_id
    if person is None:
        divided = commission.split_commissions(parts_minor, fee_ppm=split.fee_ppm, individual_ppm=0)
        return [
            (
                _share((at, _PROMOTER_BRAND, brand_id, touch_id, brand)),
                _share((at + 1, _PLATFORM, PLATFORM, touch_id, platform)),
            )
            for _, brand, platform in divided
        ]
    divided = commission.split_commissions(
        parts_minor, fee_ppm=split.fee_ppm, individual_ppm=split.individual_ppm
    )
    return [
        (
            _share((at, _INDIVIDUAL, person, touch_id, individual)),
            _share((at + 1, _PROMOTER_BRAND, brand_id, touch_id, brand)),
            _share((at + 2, _PLATFORM, PLATFORM, touch_id, platform)),
        )
        for individual, brand, platform in divided
    ]


def _parts(award: Award, commissions_minor: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """By winner: its part of each commission."""
    winners = len(award.winners)
    return zip(*[share_over_touches(minor, award.model, winners) for minor in commissions_minor], strict=True)


def recompute(input_text: str, amounts_text: str) -> Recomputed:
    """Decide again from the stored texts. Raises ``ValueError`` for texts of another rule version."""
    order, touches, agreements = read_inputs(input_text)
    amounts = Amounts.read(amounts_text)
    again = credit(order, touches, agreements, amounts)
    return Recomputed(
        input_hash=again.decision.input_hash,
        amounts_hash=sha256_hex(amounts.text()),
        result_hash=sha256_hex(again.text()),
        credit=again,
    )
