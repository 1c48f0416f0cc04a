"""Who sold it: every touch of an order judged, one agreement per line, weights that sum to one.

Pure and deterministic: the same facts in any sequence give the same decision and the same ``input_hash``,
so advertiser and promoter brand can each recompute it. Rules: the CPS contract, section 3.

How the rules meet, where the contract leaves room:

- An exclusive code that was not flagged as leaked is not a checkout touch: entering it *at* checkout is its
  normal use. Any other touch there is, a public or leaked code included.
- In the models with one winner the better evidence wins first (signed > person > cookie), then time. LINEAR
  and POSITION share over all three: they are evidence of the same journey, not of its merit. An exclusive
  code takes everything and a lead binding earns only when nothing else does, in every model.
- A line earns from one agreement: that of its best touch. Weights are shared inside that agreement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from core.money import PPM, allocate_minor
from marketplace.promotion.facts import (
    RULE_VERSION,
    AgreementTerms,
    AttributionModel,
    LineFact,
    OfferRule,
    OrderFact,
    ScopeKind,
    TouchChannel,
    TouchFact,
    TouchKind,
    canonical_inputs,
    hash_of_inputs,
    in_time,
    read_inputs,
)

__all__ = [
    "RULE_VERSION",
    "AgreementTerms",
    "AttributionModel",
    "Award",
    "Decision",
    "EarlierOrder",
    "LineAttribution",
    "LineFact",
    "OfferRule",
    "OrderFact",
    "RejectReason",
    "RejectedTouch",
    "ScopeKind",
    "TouchChannel",
    "TouchFact",
    "TouchKind",
    "Winner",
    "canonical_inputs",
    "decide",
    "in_window",
    "is_new_customer",
    "model_weights",
    "replay",
    "share_over_touches",
]

MIN_CHECKOUT_LEAD_S: Final = 30
"""A touch closer to payment than this, without a landing view, is a checkout touch."""

DAY_S: Final = 86_400


class RejectReason(StrEnum):
    """Why a touch earns nothing: the closed list a promoter sees and may dispute."""

    BOT = "BOT"
    DUPLICATE = "DUPLICATE"
    EXCLUDED = "EXCLUDED"
    """A fraud rule found that it was no visit; its signal says why."""
    LINK_DISABLED = "LINK_DISABLED"
    OTHER_ADVERTISER = "OTHER_ADVERTISER"
    AGREEMENT_NOT_ACTIVE = "AGREEMENT_NOT_ACTIVE"
    CAMPAIGN_NOT_RUNNING = "CAMPAIGN_NOT_RUNNING"
    """Not begun, paused or over at the touch's moment."""
    OUT_OF_WINDOW = "OUT_OF_WINDOW"
    NOT_IN_SCOPE = "NOT_IN_SCOPE"
    SELF_PURCHASE = "SELF_PURCHASE"
    STAFF_PURCHASE = "STAFF_PURCHASE"
    SHARED_PAYOUT = "SHARED_PAYOUT"
    SHARED_INSTRUMENT = "SHARED_INSTRUMENT"
    SHARED_ADDRESS = "SHARED_ADDRESS"
    CHECKOUT_STAGE = "CHECKOUT_STAGE"
    LOWER_PRECEDENCE = "LOWER_PRECEDENCE"
    EARLIER_TOUCH = "EARLIER_TOUCH"
    LATER_TOUCH = "LATER_TOUCH"
    """Qualifies, but the model pays the first."""
    REPEATED_TOUCH = "REPEATED_TOUCH"
    """Same brand, placement and promoter as a touch that shares."""
    OTHER_AGREEMENT = "OTHER_AGREEMENT"
    """Qualifies, but its lines earn from the agreement of a better touch."""


class Winner(NamedTuple):
    touch_id: str
    promoter_brand_id: str
    placement_id: str
    promoter_id: str | None
    weight_ppm: int


class Award(NamedTuple):
    """One agreement's part of an order: its winners, oldest touch first, weights summing to 1_000_000."""

    agreement_id: str
    agreement_version: int
    model: AttributionModel
    winners: tuple[Winner, ...]
    line_ids: tuple[str, ...]


class LineAttribution(NamedTuple):
    """The agreement and the rule one line earns from; all ``None`` and 0 when nobody sold it."""

    line_id: str
    agreement_id: str | None = None
    agreement_version: int | None = None
    rule_id: str | None = None
    rate_ppm: int = 0
    fixed_minor: int | None = None


class RejectedTouch(NamedTuple):
    touch_id: str
    reason: RejectReason


class Decision(NamedTuple):
    order_id: str
    awards: tuple[Award, ...]
    lines: tuple[LineAttribution, ...]
    rejected: tuple[RejectedTouch, ...]
    """Every touch that earns nothing, oldest first."""
    input_hash: str
    rule_version: str = RULE_VERSION

    @property
    def winners(self) -> tuple[Winner, ...]:
        """Of all awards; an order with one agreement has one award."""
        return tuple(winner for award in self.awards for winner in award.winners)


@dataclass(frozen=True, slots=True)
class EarlierOrder:
    """What the new-customer rule looks at: an order of the same buyer with the same advertiser."""

    paid_at: datetime | None
    wholly_refunded: bool = False


def is_new_customer(at: datetime, earlier: Iterable[EarlierOrder], *, lookback_days: int = 365) -> bool:
    """No paid, not wholly refunded order in the ``lookback_days`` before ``at`` (inclusive)."""
    return not any(
        order.paid_at is not None
        and not order.wholly_refunded
        and order.paid_at <= at
        and (at - order.paid_at).total_seconds() <= lookback_days * DAY_S
        for order in earlier
    )


def in_window(touch_at: datetime, order_created_at: datetime, window_s: int) -> bool:
    """``0 ≤ order − touch ≤ window``, inclusive at both ends, each instant cut to its whole second."""
    span = order_created_at - touch_at
    # A span is floored; cutting both instants first gives one second more when the order's part is smaller.
    cut = order_created_at.microsecond < touch_at.microsecond
    return 0 <= span.days * DAY_S + span.seconds + cut <= window_s


def model_weights(model: AttributionModel, touches: int) -> list[int]:
    """Exact relative weights of ``touches`` ≥ 1 distinct keys in time order (one for a single-winner model).

    POSITION_40_20_40: 100 %; 50/50; 40, the middle ones 20 together, 40.
    """
    if model is AttributionModel.LINEAR or (model is AttributionModel.POSITION_40_20_40 and touches <= 2):
        return [1] * touches
    if model is AttributionModel.POSITION_40_20_40:
        middle = touches - 2
        return [2 * middle, *([1] * middle), 2 * middle]
    return [1]


def share_over_touches(commission_minor: int, model: AttributionModel, touches: int) -> list[int]:
    """A commission over the keys of one award, exact by largest remainder, oldest touch first."""
    return allocate_minor(commission_minor, model_weights(model, touches))


# Asked of every touch of every order: a name of the module is found in a fifth of the time of an enum's member.
_LEAD_TOUCH, _COUPON_TOUCH, _FIRST_TOUCH = TouchKind.LEAD, TouchKind.COUPON, AttributionModel.FIRST_TOUCH
_OUTRIGHT, _EVIDENCE, _LEAD = 0, 1, 2
_CHANNEL_RANK = {
    TouchChannel.SIGNED: 1, TouchChannel.PERSON: 2, TouchChannel.COOKIE: 3, TouchChannel.CODE: 3,
}  # fmt: skip
_LEAD_RANK = 4
_SHARED_MODELS = frozenset({AttributionModel.LINEAR, AttributionModel.POSITION_40_20_40})


def decide(order: OrderFact, touches: Sequence[TouchFact], agreements: Sequence[AgreementTerms]) -> Decision:
    """Judge every touch and give each line its agreement, rate and winners.

    ``agreements`` holds each (agreement, version) that a touch names; a touch naming an absent one is
    ``AGREEMENT_NOT_ACTIVE``. The sequence of ``touches`` and of ``agreements`` changes nothing.
    """
    ordered = sorted(touches, key=in_time)
    input_hash = hash_of_inputs(order, ordered, agreements)
    terms_of = {(each.agreement_id, each.version): each for each in agreements}
    reasons: dict[str, RejectReason] = {}
    qualified: list[_Candidate] = []
    late: list[_Candidate] = []
    rules_of: dict[int, _Rules] = {}
    for touch in ordered:
        judged = _judge(order, touch, terms_of.get((touch.agreement_id, touch.agreement_version)), rules_of)
        if isinstance(judged, _Candidate):
            (late if judged.at_checkout else qualified).append(judged)
        else:
            reasons[touch.id] = judged
    for candidate in late:
        if candidate.terms.checkout_touch_earns and not qualified:
            continue
        reasons[candidate.touch.id] = RejectReason.CHECKOUT_STAGE
    candidates = qualified or [each for each in late if each.touch.id not in reasons]
    lines, awards, decisive = _award_lines(order, candidates)
    if len(candidates) > 1:
        won = {winner.touch_id for award in awards for winner in award.winners}
        for candidate in candidates:
            if candidate.touch.id not in won:
                reasons[candidate.touch.id] = _why_it_lost(candidate, decisive)
    rejected = (
        tuple([RejectedTouch(t.id, reasons[t.id]) for t in ordered if t.id in reasons]) if reasons else ()
    )
    return Decision(order.id, awards, lines, rejected, input_hash)


def replay(inputs: str) -> Decision:
    """Decide again from stored canonical inputs. Raises ``ValueError`` for inputs of another rule version."""
    return decide(*read_inputs(inputs))


_Rules = list[OfferRule | None]
"""Each line's rule, ``None`` out of scope; empty when every line is."""


class _Candidate:
    """A qualifying touch and what the choice needs; ``rules`` has each line's rule, ``None`` out of scope."""

    __slots__ = ("at_checkout", "group", "rank", "rules", "terms", "touch")

    def __init__(self, order: OrderFact, touch: TouchFact, terms: AgreementTerms, rules: _Rules) -> None:
        self.touch, self.terms, self.rules = touch, terms, rules
        if touch.coupon_exclusive and touch.kind is _COUPON_TOUCH and not touch.coupon_leaked:
            # Entering it at checkout is its normal use.
            self.rank, self.group, self.at_checkout = 0, _OUTRIGHT, False
            return
        if touch.kind is _LEAD_TOUCH:
            self.rank, self.group = _LEAD_RANK, _LEAD
        else:
            self.rank, self.group = _CHANNEL_RANK[touch.channel], _EVIDENCE
        self.at_checkout = _at_checkout(order, touch)


def _judge(
    order: OrderFact,
    touch: TouchFact,
    terms: AgreementTerms | None,
    rules_of: dict[int, _Rules],
) -> _Candidate | RejectReason:
    """The first test a touch fails, else the candidate. ``rules_of`` keeps the lines' rules by version's ``id()``."""
    if touch.is_bot:
        return RejectReason.BOT
    if touch.duplicate_of is not None:
        return RejectReason.DUPLICATE
    if touch.excluded:
        return RejectReason.EXCLUDED
    if not touch.link_active:
        return RejectReason.LINK_DISABLED
    if not touch.agreement_active or terms is None:
        return RejectReason.AGREEMENT_NOT_ACTIVE
    if not touch.campaign_running:
        return RejectReason.CAMPAIGN_NOT_RUNNING
    if terms.advertiser_id != order.advertiser_id:
        return RejectReason.OTHER_ADVERTISER
    window_s = terms.lead_binding_days * DAY_S if touch.kind is _LEAD_TOUCH else terms.window_s
    if not window_s or not in_window(touch.touch_at, order.created_at, window_s):
        return RejectReason.OUT_OF_WINDOW
    rules = _rules_of_lines(order, touch, terms, rules_of)
    if not rules:
        return RejectReason.NOT_IN_SCOPE
    return _self_promotion(order, touch, terms) or _Candidate(order, touch, terms, rules)


def _rules_of_lines(
    order: OrderFact, touch: TouchFact, terms: AgreementTerms, rules_of: dict[int, _Rules]
) -> _Rules:
    """One list for all touches of a version once all its rules are in force."""
    if terms.latest_rule_at is None or terms.latest_rule_at > touch.touch_at:
        rules = [_rule_for(line, terms, touch.touch_at) for line in order.lines]
        return rules if any(rules) else []
    known = rules_of.get(id(terms))
    if known is None:
        rules = [_standing_rule(line, terms) for line in order.lines]
        known = rules_of[id(terms)] = rules if any(rules) else []
    return known


def _standing_rule(line: LineFact, terms: AgreementTerms) -> OfferRule | None:
    """``_rule_for`` when every rule is in force: the first of each scope is its best."""
    found = terms.by_sku.get(line.sku) or terms.by_product.get(line.product_id)
    if not found and terms.by_category:
        for category in reversed(line.category_path):
            found = terms.by_category.get(category)
            if found:
                return found[0]
    found = found or terms.for_campaign
    return found[0] if found else None


def _rule_for(line: LineFact, terms: AgreementTerms, touch_at: datetime) -> OfferRule | None:
    """SKU > product > deepest category > campaign, then priority, later ``effective_at``, lower id."""
    if terms.by_sku and (rule := _in_force(terms.by_sku.get(line.sku), touch_at)):
        return rule
    if terms.by_product and (rule := _in_force(terms.by_product.get(line.product_id), touch_at)):
        return rule
    if terms.by_category:
        for category in reversed(line.category_path):
            if rule := _in_force(terms.by_category.get(category), touch_at):
                return rule
    return _in_force(terms.for_campaign, touch_at)


def _in_force(rules: Sequence[OfferRule] | None, touch_at: datetime) -> OfferRule | None:
    for rule in rules or ():
        if rule.effective_at <= touch_at:
            return rule
    return None


def _self_promotion(order: OrderFact, touch: TouchFact, terms: AgreementTerms) -> RejectReason | None:
    """Rule 6. ``allow_self_purchase`` lifts only the first test."""
    if (
        touch.promoter_keys
        and not terms.allow_self_purchase
        and not order.buyer_keys.isdisjoint(touch.promoter_keys)
    ):
        return RejectReason.SELF_PURCHASE
    if touch.promoter_brand_id in order.buyer_staff_of:
        return RejectReason.STAFF_PURCHASE
    if order.buyer_payout_hash is not None and order.buyer_payout_hash == touch.promoter_payout_hash:
        return RejectReason.SHARED_PAYOUT
    if order.payment_instrument_hash in touch.promoter_instrument_hashes:
        return RejectReason.SHARED_INSTRUMENT
    if order.address_hash in touch.promoter_address_hashes:
        return RejectReason.SHARED_ADDRESS
    return None


def _at_checkout(order: OrderFact, touch: TouchFact) -> bool:
    if order.checkout_started_at is not None and touch.touch_at >= order.checkout_started_at:
        return True
    if touch.landing_view or order.paid_at is None:
        return False
    return (order.paid_at - touch.touch_at).total_seconds() < MIN_CHECKOUT_LEAD_S


def _decisive(candidates: Sequence[_Candidate]) -> _Candidate:
    """The touch a line earns through. ``candidates`` are oldest first and not empty.

    The best evidence, the latest of equals; where its agreement pays the first touch, the earliest of that
    rank among the agreements that do.
    """
    best = candidates[0]
    for each in candidates:
        if each.rank <= best.rank:
            best = each
    if best.terms.model is _FIRST_TOUCH:
        return next(
            each for each in candidates if each.rank == best.rank and each.terms.model is _FIRST_TOUCH
        )
    return best


def _sharing(decisive: _Candidate, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The touches that share the agreement of ``decisive``, one for each key, oldest first."""
    if decisive.terms.model not in _SHARED_MODELS or decisive.group == _OUTRIGHT:
        return [decisive]
    agreement_id, group = decisive.touch.agreement_id, decisive.group
    latest: dict[tuple[str, str, str | None], _Candidate] = {}
    for each in candidates:
        touch = each.touch
        if touch.agreement_id == agreement_id and each.group == group:
            latest[touch.promoter_brand_id, touch.placement_id, touch.promoter_id] = each
    return sorted(latest.values(), key=lambda each: in_time(each.touch))


def _award_lines(
    order: OrderFact, candidates: Sequence[_Candidate]
) -> tuple[tuple[LineAttribution, ...], tuple[Award, ...], list[_Candidate | None]]:
    """(lines, awards, the decisive touch of each line)."""
    if not candidates:
        return tuple([LineAttribution(line.id) for line in order.lines]), (), []
    rules = candidates[0].rules
    for each in candidates:
        if each.rules is not rules:
            return _award_by_line(order, candidates)
    # Nearly always one version's rules judge every touch: then what decides one line decides all in scope.
    decisive = _decisive(candidates)
    lines, line_ids = [], []
    for line, rule in zip(order.lines, rules, strict=True):
        lines.append(_line_of(line, decisive.terms, rule, order))
        if rule is not None:
            line_ids.append(line.id)
    award = _award(decisive, _sharing(decisive, candidates), line_ids)
    return tuple(lines), (award,), [decisive] * len(rules)


def _award_by_line(
    order: OrderFact, candidates: Sequence[_Candidate]
) -> tuple[tuple[LineAttribution, ...], tuple[Award, ...], list[_Candidate | None]]:
    """``_award_lines`` where touches are judged by different rules, so that each line has its own candidates."""
    lines: list[LineAttribution] = []
    through: list[_Candidate | None] = []
    chosen: dict[tuple[str, ...], tuple[_Candidate, list[_Candidate], list[str]]] = {}
    for index, line in enumerate(order.lines):
        here = [each for each in candidates if each.rules[index] is not None]
        decisive = _decisive(here) if here else None
        through.append(decisive)
        if decisive is None:
            lines.append(LineAttribution(line.id))
            continue
        sharing = _sharing(decisive, here)
        # Lines with the same sharers make one award; the decisive touch tells versions apart.
        key = (decisive.touch.id, *[each.touch.id for each in sharing])
        chosen.setdefault(key, (decisive, sharing, []))[2].append(line.id)
        lines.append(_line_of(line, decisive.terms, decisive.rules[index], order))
    awards = tuple([_award(*each) for each in chosen.values()])
    return tuple(lines), awards, through


def _line_of(
    line: LineFact, terms: AgreementTerms, rule: OfferRule | None, order: OrderFact
) -> LineAttribution:
    if rule is None:
        return LineAttribution(line.id)
    rate_ppm = rule.rate_ppm
    if order.is_new_customer and rule.rate_new_ppm is not None:
        rate_ppm = rule.rate_new_ppm
    return LineAttribution(line.id, terms.agreement_id, terms.version, rule.id, rate_ppm, rule.fixed_minor)


def _award(decisive: _Candidate, sharing: Sequence[_Candidate], line_ids: list[str]) -> Award:
    terms = decisive.terms
    weights = [PPM] if len(sharing) == 1 else share_over_touches(PPM, terms.model, len(sharing))
    winners = tuple([_winner(each.touch, weight) for each, weight in zip(sharing, weights, strict=True)])
    return Award(terms.agreement_id, terms.version, terms.model, winners, tuple(line_ids))


def _winner(touch: TouchFact, weight_ppm: int) -> Winner:
    return Winner(touch.id, touch.promoter_brand_id, touch.placement_id, touch.promoter_id, weight_ppm)


def _why_it_lost(loser: _Candidate, through: Sequence[_Candidate | None]) -> RejectReason:
    """Against the decisive touch of the first line it could have earned from."""
    decisive = loser
    for each, rule in zip(through, loser.rules, strict=True):
        if rule is not None and each is not None:
            decisive = each
            break
    if loser.group != decisive.group:
        return RejectReason.LOWER_PRECEDENCE
    if decisive.terms.model in _SHARED_MODELS and decisive.group != _OUTRIGHT:
        same = loser.touch.agreement_id == decisive.touch.agreement_id
        return RejectReason.REPEATED_TOUCH if same else RejectReason.OTHER_AGREEMENT
    if loser.rank != decisive.rank:
        return RejectReason.LOWER_PRECEDENCE
    if in_time(loser.touch) > in_time(decisive.touch):
        return RejectReason.LATER_TOUCH
    return RejectReason.EARLIER_TOUCH
