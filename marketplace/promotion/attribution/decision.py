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
    Rate,
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
    "LineFact",
    "LineRates",
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
SECOND_US: Final = 1_000_000


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


LineRates = dict[str, Rate | None]
"""By line id, in the order's sequence: the rate it earns at, ``None`` where there is none."""


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


class RejectedTouch(NamedTuple):
    touch_id: str
    reason: RejectReason


class Decision(NamedTuple):
    order_id: str
    awards: tuple[Award, ...]
    lines: LineRates
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


def in_window(touch_at_us: int, order_created_at_us: int, window_s: int) -> bool:
    """``0 ≤ order − touch ≤ window``, inclusive at both ends, each instant cut to its whole second."""
    return 0 <= order_created_at_us // SECOND_US - touch_at_us // SECOND_US <= window_s


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
_OUTRIGHT_RANK, _LEAD_RANK = 0, 4
_CHANNEL_RANK = {
    TouchChannel.SIGNED: 1, TouchChannel.PERSON: 2, TouchChannel.COOKIE: 3, TouchChannel.CODE: 3,
}  # fmt: skip
_SHARED_MODELS = frozenset({AttributionModel.LINEAR, AttributionModel.POSITION_40_20_40})


def decide(order: OrderFact, touches: Sequence[TouchFact], agreements: Sequence[AgreementTerms]) -> Decision:
    """Judge every touch and give each line its agreement, rate and winners.

    ``agreements`` holds each (agreement, version) that a touch names; a touch naming an absent one is
    ``AGREEMENT_NOT_ACTIVE``. The sequence of ``touches`` and of ``agreements`` changes nothing.
    """
    ordered = sorted(touches, key=in_time)
    offers = {(each.agreement_id, each.version): (each, _line_rates(order, each)) for each in agreements}
    reasons: dict[str, RejectReason] = {}
    qualified: list[_Candidate] = []
    late: list[_Candidate] = []
    for touch in ordered:
        judged = _judge(order, touch, offers.get((touch.agreement_id, touch.agreement_version)))
        if not isinstance(judged, _Candidate):
            reasons[touch.id] = judged
        elif judged.rank != _OUTRIGHT_RANK and _at_checkout(order, touch):
            late.append(judged)
        else:
            qualified.append(judged)
    for candidate in late:
        if qualified or not candidate.terms.checkout_touch_earns:
            reasons[candidate.touch.id] = RejectReason.CHECKOUT_STAGE
    candidates = qualified or [each for each in late if each.touch.id not in reasons]
    lines, awards = _award_lines(order, candidates, reasons)
    rejected = (
        tuple([RejectedTouch(t.id, reasons[t.id]) for t in ordered if t.id in reasons]) if reasons else ()
    )
    return Decision(order.id, awards, lines, rejected, hash_of_inputs(order, ordered, agreements))


def replay(inputs: str) -> Decision:
    """Decide again from stored canonical inputs. Raises ``ValueError`` for inputs of another rule version."""
    return decide(*read_inputs(inputs))


class _Candidate(NamedTuple):
    """A qualifying touch: the lower its rank, the better the evidence."""

    rank: int
    touch: TouchFact
    terms: AgreementTerms
    rates: LineRates


def _judge(
    order: OrderFact, touch: TouchFact, offer: tuple[AgreementTerms, LineRates] | None
) -> _Candidate | RejectReason:
    """The first test a touch fails, else the candidate."""
    if touch.is_bot:
        return RejectReason.BOT
    if touch.duplicate_of is not None:
        return RejectReason.DUPLICATE
    if touch.excluded:
        return RejectReason.EXCLUDED
    if not touch.link_active:
        return RejectReason.LINK_DISABLED
    if not touch.agreement_active or offer is None:
        return RejectReason.AGREEMENT_NOT_ACTIVE
    if not touch.campaign_running:
        return RejectReason.CAMPAIGN_NOT_RUNNING
    terms, rates = offer
    if terms.advertiser_id != order.advertiser_id:
        return RejectReason.OTHER_ADVERTISER
    window_s = terms.lead_binding_days * DAY_S if touch.kind is _LEAD_TOUCH else terms.window_s
    if not window_s or not in_window(touch.touch_at_us, order.created_at_us, window_s):
        return RejectReason.OUT_OF_WINDOW
    if touch.touch_at_us < terms.complete_from_us:
        rates = _line_rates(order, terms, touch.touch_at_us)
    if not rates:
        return RejectReason.NOT_IN_SCOPE
    return _self_promotion(order, touch, terms) or _Candidate(_rank(touch), touch, terms, rates)


def _rank(touch: TouchFact) -> int:
    if touch.coupon_exclusive and touch.kind is _COUPON_TOUCH and not touch.coupon_leaked:
        return _OUTRIGHT_RANK
    return _LEAD_RANK if touch.kind is _LEAD_TOUCH else _CHANNEL_RANK[touch.channel]


def _line_rates(order: OrderFact, terms: AgreementTerms, at_us: int | None = None) -> LineRates:
    """Under the rules in force at one instant, else under all; empty when no line is in scope."""
    by_sku, by_product, by_category, for_campaign = terms.rates(order.is_new_customer, at_us)
    rates: LineRates = {}
    in_scope = False
    for line_id, sku, product_id, category_path in order.lines:
        # SKU > product > deepest category > campaign.
        rate = by_sku.get(sku) or by_product.get(product_id)
        if rate is None:
            rate = for_campaign
            for category in reversed(category_path):
                if category in by_category:
                    rate = by_category[category]
                    break
        rates[line_id] = rate
        in_scope = in_scope or rate is not None
    return rates if in_scope else {}


def _self_promotion(order: OrderFact, touch: TouchFact, terms: AgreementTerms) -> RejectReason | None:
    """Rule 6. ``allow_self_purchase`` lifts only the first test."""
    if (
        touch.promoter_keys
        and not terms.allow_self_purchase
        and not set(order.buyer_keys).isdisjoint(touch.promoter_keys)
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
    if order.checkout_started_at_us is not None and touch.touch_at_us >= order.checkout_started_at_us:
        return True
    if touch.landing_view or order.paid_at_us is None:
        return False
    return order.paid_at_us - touch.touch_at_us < MIN_CHECKOUT_LEAD_S * SECOND_US


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


def _shares(decisive: _Candidate) -> bool:
    """Whether other touches of its agreement earn beside it; an exclusive code takes everything."""
    return decisive.terms.model in _SHARED_MODELS and decisive.rank != _OUTRIGHT_RANK


def _alike(one: _Candidate, other: _Candidate) -> bool:
    """Outright, evidence of the journey, or a lead: only touches of one kind share."""
    return one.rank == other.rank or {one.rank, other.rank}.isdisjoint((_OUTRIGHT_RANK, _LEAD_RANK))


def _sharing(decisive: _Candidate, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The touches that share the agreement of ``decisive``, one for each key, oldest first."""
    if not _shares(decisive):
        return [decisive]
    agreement_id = decisive.touch.agreement_id
    latest: dict[tuple[str, str, str | None], _Candidate] = {}
    for each in candidates:
        touch = each.touch
        if touch.agreement_id == agreement_id and _alike(each, decisive):
            latest[touch.promoter_brand_id, touch.placement_id, touch.promoter_id] = each
    return sorted(latest.values(), key=lambda each: in_time(each.touch))


def _award_lines(
    order: OrderFact, candidates: Sequence[_Candidate], reasons: dict[str, RejectReason]
) -> tuple[LineRates, tuple[Award, ...]]:
    """Each line's rate and the awards; why a candidate lost is added to ``reasons``."""
    if not candidates:
        return dict.fromkeys([line.id for line in order.lines]), ()
    rates = candidates[0].rates
    for each in candidates:
        if each.rates is not rates:
            return _award_by_line(order, candidates, reasons)
    # Nearly always one version judges every touch: then what decides one line decides all in scope.
    decisive = _decisive(candidates)
    award = _award(decisive, _sharing(decisive, candidates), [id for id, rate in rates.items() if rate])
    if len(candidates) > 1:
        won = {winner.touch_id for winner in award.winners}
        for each in candidates:
            if each.touch.id not in won:
                reasons[each.touch.id] = _why_it_lost(each, decisive)
    return rates, (award,)


def _award_by_line(
    order: OrderFact, candidates: Sequence[_Candidate], reasons: dict[str, RejectReason]
) -> tuple[LineRates, tuple[Award, ...]]:
    """``_award_lines`` where touches are judged by different rates, so that each line has its own candidates."""
    rates: LineRates = {}
    through: dict[str, _Candidate] = {}
    chosen: dict[tuple[str, ...], tuple[_Candidate, list[_Candidate], list[str]]] = {}
    for line in order.lines:
        here = [each for each in candidates if each.rates[line.id] is not None]
        if not here:
            rates[line.id] = None
            continue
        decisive = through[line.id] = _decisive(here)
        rates[line.id] = decisive.rates[line.id]
        sharing = _sharing(decisive, here)
        # Lines with the same sharers make one award; the decisive touch tells versions apart.
        key = (decisive.touch.id, *[each.touch.id for each in sharing])
        chosen.setdefault(key, (decisive, sharing, []))[2].append(line.id)
    awards = tuple([_award(*each) for each in chosen.values()])
    won = {winner.touch_id for award in awards for winner in award.winners}
    for each in candidates:
        if each.touch.id not in won:
            # Against the decisive touch of the first line it could have earned from.
            first = next(line_id for line_id, rate in each.rates.items() if rate is not None)
            reasons[each.touch.id] = _why_it_lost(each, through[first])
    return rates, awards


def _award(decisive: _Candidate, sharing: Sequence[_Candidate], line_ids: Sequence[str]) -> Award:
    terms = decisive.terms
    if len(sharing) == 1:
        winners: tuple[Winner, ...] = (_winner(sharing[0].touch, PPM),)
    else:
        weights = share_over_touches(PPM, terms.model, len(sharing))
        winners = tuple([_winner(each.touch, weight) for each, weight in zip(sharing, weights, strict=True)])
    return Award(terms.agreement_id, terms.version, terms.model, winners, tuple(line_ids))


def _winner(touch: TouchFact, weight_ppm: int) -> Winner:
    return Winner(touch.id, touch.promoter_brand_id, touch.placement_id, touch.promoter_id, weight_ppm)


def _why_it_lost(loser: _Candidate, decisive: _Candidate) -> RejectReason:
    if not _alike(loser, decisive):
        return RejectReason.LOWER_PRECEDENCE
    if _shares(decisive):
        same = loser.touch.agreement_id == decisive.touch.agreement_id
        return RejectReason.REPEATED_TOUCH if same else RejectReason.OTHER_AGREEMENT
    if loser.rank != decisive.rank:
        return RejectReason.LOWER_PRECEDENCE
    if in_time(loser.touch) > in_time(decisive.touch):
        return RejectReason.LATER_TOUCH
    return RejectReason.EARLIER_TOUCH
