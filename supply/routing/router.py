"""Route one order: judge every offer, choose the cheapest plan, and say why for every line.

Pure; the caller stores the outcome as ``routing_run``, ``routing_candidate`` and ``routing_decision``. The
same need, offers and policy give the same outcome and ``input_hash`` in whatever sequence the offers come.

A line that no offer can serve whole is cut (where the policy allows) into pieces by the largest stocks; each
piece belongs to the offer it was cut for. Lines that share a SKU share its stock and capacity: a plan that
would take more than there is is refused and solved again without the later line at that offer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from core.canonical import content_hash
from supply.routing.eligibility import (
    CostBreakdown,
    LineFact,
    OfferFact,
    OrderNeed,
    RejectCode,
    RoutingPolicy,
    cost_of,
    divisible_stock,
    hours_to_arrive,
    reject_code,
)
from supply.routing.exact import Candidate, RoutingPlan, RoutingProblem, cut_into_chunks, solve

CODE_VERSION: Final = "router-1"
"""Changes with any change of meaning; part of the input hash."""


@dataclass(frozen=True, slots=True)
class JudgedOffer:
    """One offer for one line (or piece of it). ``cost`` is ``None`` when it is not eligible."""

    line_id: str
    piece: int
    quantity: int
    offer_id: str
    supplier_id: str
    location_id: str
    reject_code: RejectCode | None
    cost: CostBreakdown | None
    chosen: bool

    @property
    def eligible(self) -> bool:
        return self.reject_code is None


@dataclass(frozen=True, slots=True)
class LineDecision:
    """Where one line, or piece of one, goes. ``offer_id`` is ``None`` when it is unfilled.

    ``piece`` counts from 0; a line that was not cut is its piece 0. ``margin_minor`` is what the plan would
    cost more with the runner-up (with the line unfilled where there is none).
    """

    line_id: str
    piece: int
    quantity: int
    offer_id: str | None
    supplier_id: str | None
    location_id: str | None
    cost: CostBreakdown | None
    runner_up_location_id: str | None
    margin_minor: int


@dataclass(frozen=True, slots=True)
class RoutingOutcome:
    candidates: tuple[JudgedOffer, ...]
    decisions: tuple[LineDecision, ...]
    cost_minor: int
    input_hash: str
    algorithm: str
    policy_version: int
    code_version: str = CODE_VERSION

    @property
    def unfilled(self) -> tuple[tuple[str, int], ...]:
        """(line id, quantity) of what nobody serves."""
        return tuple([(d.line_id, d.quantity) for d in self.decisions if d.offer_id is None])


@dataclass(slots=True)
class _Piece:
    """A line or part of one, with every offer of its SKU judged for it."""

    line: LineFact
    number: int
    judged: list[tuple[OfferFact, RejectCode | None, CostBreakdown | None]]

    def at(self, location_id: str | None) -> tuple[OfferFact, CostBreakdown] | None:
        """The cheapest eligible offer of a location; of equals the lower id."""
        here = [
            (cost.line_minor, offer.priority, offer.offer_id, offer, cost)
            for offer, _, cost in self.judged
            if cost is not None and offer.location_id == location_id
        ]
        return min(here)[3:] if here else None


def route(need: OrderNeed, offers: Sequence[OfferFact], policy: RoutingPolicy) -> RoutingOutcome:
    """The cheapest plan under the hard rules, with every rejected alternative.

    ``offers`` are those of the lines' SKUs; others are ignored. Line ids are unique.
    """
    ordered = sorted(offers, key=lambda offer: offer.offer_id)
    by_sku: dict[str, list[OfferFact]] = defaultdict(list)
    for offer in ordered:
        by_sku[offer.sku].append(offer)
    pieces = [
        piece for line in need.lines for piece in _pieces_of(need, line, by_sku.get(line.sku, []), policy)
    ]
    plan, kept = _solve_within_stock(need, pieces, policy)
    return RoutingOutcome(
        candidates=tuple(
            [row for piece, offer in zip(pieces, kept, strict=True) for row in _rows(piece, offer)]
        ),
        decisions=tuple(
            [
                _decision(piece, offer, choice.runner_up_id, choice.margin_minor)
                for piece, offer, choice in zip(pieces, kept, plan.choices, strict=True)
            ]
        ),
        cost_minor=plan.cost_minor,
        input_hash=content_hash((CODE_VERSION, need, ordered, policy)),
        algorithm=plan.algorithm,
        policy_version=policy.version,
    )


def _pieces_of(
    need: OrderNeed, line: LineFact, offers: Sequence[OfferFact], policy: RoutingPolicy
) -> list[_Piece]:
    whole = _Piece(line, 0, [_judge(need, line, offer, policy) for offer in offers])
    if not policy.split_lines or any(cost is not None for _, _, cost in whole.judged):
        return [whole]
    stocks = [(divisible_stock(need, line, offer, policy), offer) for offer in offers]
    holding = sorted([s for s in stocks if s[0] > 0], key=lambda s: (-s[0], s[1].offer_id))
    if not holding:
        return [whole]
    cut = cut_into_chunks(line.quantity, [units for units, _ in holding])
    pieces = []
    for number, quantity in enumerate(cut):
        part = replace(line, quantity=quantity)
        own = holding[number][1] if number < len(holding) else None
        judged = [
            _judge(need, part, offer, policy) if offer is own else _not_its_piece(need, line, offer, policy)
            for offer in offers
        ]
        pieces.append(_Piece(part, number, judged))
    return pieces


def _judge(
    need: OrderNeed, line: LineFact, offer: OfferFact, policy: RoutingPolicy
) -> tuple[OfferFact, RejectCode | None, CostBreakdown | None]:
    code = reject_code(need, line, offer, policy)
    return offer, code, cost_of(need, line, offer, policy) if code is None else None


def _not_its_piece(
    need: OrderNeed, line: LineFact, offer: OfferFact, policy: RoutingPolicy
) -> tuple[OfferFact, RejectCode | None, CostBreakdown | None]:
    """An offer's code for the whole line stands for the pieces that were cut for others."""
    return offer, reject_code(need, line, offer, policy) or RejectCode.NO_STOCK, None


def _solve_within_stock(
    need: OrderNeed, pieces: list[_Piece], policy: RoutingPolicy
) -> tuple[RoutingPlan, list[tuple[OfferFact, CostBreakdown] | None]]:
    while True:
        plan = solve(_problem(need, pieces, policy))
        kept = [piece.at(location) for piece, location in zip(pieces, plan.assignment, strict=True)]
        over = _first_beyond_stock(pieces, kept)
        if over is None:
            return plan, kept
        index, offer_id, code = over
        pieces[index].judged = [
            (offer, code, None) if offer.offer_id == offer_id else (offer, was, cost)
            for offer, was, cost in pieces[index].judged
        ]


def _first_beyond_stock(
    pieces: Sequence[_Piece], kept: Sequence[tuple[OfferFact, CostBreakdown] | None]
) -> tuple[int, str, RejectCode] | None:
    """The first piece that takes an offer beyond its stock or capacity, counting the pieces before it."""
    taken: dict[str, int] = defaultdict(int)
    for index, (piece, choice) in enumerate(zip(pieces, kept, strict=True)):
        if choice is None:
            continue
        offer = choice[0]
        taken[offer.offer_id] += piece.line.quantity
        if taken[offer.offer_id] > offer.available:
            return index, offer.offer_id, RejectCode.NO_STOCK
        if offer.capacity_left is not None and taken[offer.offer_id] > offer.capacity_left:
            return index, offer.offer_id, RejectCode.CAPACITY
    return None


def _problem(need: OrderNeed, pieces: Sequence[_Piece], policy: RoutingPolicy) -> RoutingProblem:
    shipment: dict[str, int] = {}
    lines = []
    for piece in pieces:
        best: dict[str, Candidate] = {}
        for offer, _, cost in piece.judged:
            if cost is None:
                continue
            location_id = offer.location_id
            # Offers of one location with different rates ship together at the dearest of them.
            shipment[location_id] = max(shipment.get(location_id, 0), cost.shipment_minor)
            candidate = Candidate(location_id, cost.line_minor, offer.priority, hours_to_arrive(offer))
            known = best.get(location_id)
            if known is None or (candidate.line_cost_minor, candidate.priority) < (
                known.line_cost_minor,
                known.priority,
            ):
                best[location_id] = candidate
        lines.append(tuple(best.values()))
    wanted_in = timedelta(0) if need.wanted_at is None else need.wanted_at - need.at
    return RoutingProblem(
        tuple(lines),
        shipment,
        (policy.unfilled_penalty_minor,) * len(pieces),
        None if policy.max_splits is None else policy.max_splits + 1,
        policy.slowest_parcel_minor_per_hour,
        max(wanted_in // timedelta(hours=1), 0),
    )


def _rows(piece: _Piece, choice: tuple[OfferFact, CostBreakdown] | None) -> list[JudgedOffer]:
    return [
        JudgedOffer(
            piece.line.line_id,
            piece.number,
            piece.line.quantity,
            offer.offer_id,
            offer.supplier_id,
            offer.location_id,
            code,
            cost,
            choice is not None and offer is choice[0],
        )
        for offer, code, cost in piece.judged
    ]


def _decision(
    piece: _Piece,
    choice: tuple[OfferFact, CostBreakdown] | None,
    runner_up_id: str | None,
    margin_minor: int,
) -> LineDecision:
    line, offer = piece.line, None if choice is None else choice[0]
    return LineDecision(
        line.line_id,
        piece.number,
        line.quantity,
        None if offer is None else offer.offer_id,
        None if offer is None else offer.supplier_id,
        None if offer is None else offer.location_id,
        None if choice is None else choice[1],
        runner_up_id,
        margin_minor,
    )
