"""Which location serves which line at the least cost: exact for small orders, near-exact for large ones.

Pure and deterministic. Costs are ``int`` in minor units of one currency the caller carries. A *shipment* is a
block of lines from one location; it costs the location's ``fixed`` once and each line's own ``line_cost``.
Splitting one location's block never helps, so the best plan of a set of lines is the cheapest block that
holds its lowest line plus the best plan of the rest: a DP over subsets, exact and independent of the size of
the network once the candidates are listed. Above ``EXACT_LINES`` lines, greedy cover and local search.

Ties: lower cost, then the lower sum of priorities, then the lower location id for the lowest line of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EXACT_LINES: Final = 10
MAX_ROUNDS: Final = 50
"""Rounds of local search: a count, never a clock, so that the same input gives the same plan."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One location that may serve one line. ``priority`` decides between equal costs, lower first."""

    location_id: str
    line_cost_minor: int
    priority: int = 0
    transit_hours: int = 0
    """Until arrival; only read when the order pays for the slowest parcel."""


@dataclass(frozen=True, slots=True)
class RoutingProblem:
    """``candidates[l]`` are the locations that may serve line ``l`` whole, ``unfilled_minor[l]`` its penalty.

    ``late_minor_per_hour`` > 0 adds that much for each hour of the slowest parcel beyond ``free_hours``.
    ``max_shipments`` limits the locations used; lines beyond the limit stay unfilled.
    """

    candidates: tuple[tuple[Candidate, ...], ...]
    shipment_minor: dict[str, int]
    """Fixed cost of a shipment from each location."""
    unfilled_minor: tuple[int, ...]
    max_shipments: int | None = None
    late_minor_per_hour: int = 0
    free_hours: int = 0


@dataclass(frozen=True, slots=True)
class LineChoice:
    """``location_id`` is ``None`` for an unfilled line.

    ``runner_up_id`` is the location the line would move to, all other lines staying; ``margin_minor`` is what
    the plan would cost more with it, or with the line unfilled when there is no other location.
    """

    location_id: str | None
    runner_up_id: str | None
    margin_minor: int


@dataclass(frozen=True, slots=True)
class RoutingPlan:
    choices: tuple[LineChoice, ...]
    cost_minor: int
    algorithm: str

    @property
    def assignment(self) -> tuple[str | None, ...]:
        return tuple([choice.location_id for choice in self.choices])


Assignment = list[str | None]

_RANK: Final = 1 << 32
"""Costs are compared as ``cost × 2³² + priority``: one integer that adds and orders like the pair."""
_NEVER: Final = 1 << 200

_Blocks = dict[int, tuple[int, str | None]]
"""Set of lines (bits) → (ranked cost, location); ``None`` leaves the one line unfilled."""


def solve(problem: RoutingProblem) -> RoutingPlan:
    """The cheapest plan. Exact up to ``EXACT_LINES`` lines, ``greedy+local`` beyond."""
    exact = len(problem.candidates) <= EXACT_LINES
    assignment = _over_thresholds(problem) if problem.late_minor_per_hour else _separable(problem)
    cost = plan_cost(problem, assignment)
    choices = tuple([_choice(problem, assignment, line, cost) for line in range(len(assignment))])
    return RoutingPlan(choices, cost, "exact-dp" if exact else "greedy+local")


def plan_cost(problem: RoutingProblem, assignment: Sequence[str | None]) -> int:
    """Landed cost of any plan, the late part included. Raises ``KeyError`` for a location not a candidate."""
    total, slowest = 0, 0
    for line, location_id in enumerate(assignment):
        if location_id is None:
            total += problem.unfilled_minor[line]
            continue
        chosen = _candidate(problem, line, location_id)
        total += chosen.line_cost_minor
        slowest = max(slowest, chosen.transit_hours)
    total += sum([problem.shipment_minor[used] for used in set(assignment) if used is not None])
    return total + problem.late_minor_per_hour * max(slowest - problem.free_hours, 0)


def cut_into_chunks(quantity: int, stocks: Sequence[int]) -> list[int]:
    """A quantity that no location holds whole, cut so that each piece fits one: largest stocks first.

    Returns the pieces, summing to ``quantity``; what no stock covers is the last piece. A quantity that fits
    somewhere stays whole.
    """
    ordered = sorted([stock for stock in stocks if stock > 0], reverse=True)
    if not ordered or ordered[0] >= quantity:
        return [quantity]
    pieces, left = [], quantity
    for stock in ordered:
        if left == 0:
            break
        pieces.append(min(stock, left))
        left -= pieces[-1]
    return [*pieces, left] if left else pieces


def _candidate(problem: RoutingProblem, line: int, location_id: str) -> Candidate:
    for candidate in problem.candidates[line]:
        if candidate.location_id == location_id:
            return candidate
    raise KeyError(location_id)


def _separable(problem: RoutingProblem) -> Assignment:
    if len(problem.candidates) == 1:
        return [_best_of_one(problem)]
    if len(problem.candidates) <= EXACT_LINES:
        return _by_subsets(problem)
    return _greedy_and_local(problem)


def _best_of_one(problem: RoutingProblem) -> str | None:
    if problem.max_shipments == 0:
        return None
    fixed = problem.shipment_minor
    best: tuple[int, str | None] = (problem.unfilled_minor[0] * _RANK, None)
    for c in sorted(problem.candidates[0], key=lambda c: c.location_id):
        ranked = (c.line_cost_minor + fixed[c.location_id]) * _RANK + c.priority
        if ranked < best[0]:
            best = (ranked, c.location_id)
    return best[1]


def _over_thresholds(problem: RoutingProblem) -> Assignment:
    """The slowest parcel couples all lines: solve once per latest arrival allowed, keep the cheapest plan."""
    hours = {c.transit_hours for line in problem.candidates for c in line}
    best: tuple[int, Assignment] | None = None
    for limit in [problem.free_hours, *sorted([each for each in hours if each > problem.free_hours])]:
        within = tuple([tuple([c for c in line if c.transit_hours <= limit]) for line in problem.candidates])
        narrowed = RoutingProblem(
            within, problem.shipment_minor, problem.unfilled_minor, problem.max_shipments
        )
        assignment = _separable(narrowed)
        cost = plan_cost(problem, assignment)
        # Strictly cheaper only: of equal plans the earlier arrival stays.
        if best is None or cost < best[0]:
            best = (cost, assignment)
    assert best is not None
    return best[1]


def _by_subsets(problem: RoutingProblem) -> Assignment:
    lines = len(problem.candidates)
    blocks = _cheapest_blocks(problem)
    if problem.max_shipments is not None and problem.max_shipments < lines:
        return _limited(problem, blocks, problem.max_shipments)
    for line, penalty in enumerate(problem.unfilled_minor):
        known = blocks.get(1 << line)
        if known is None or penalty * _RANK < known[0]:
            blocks[1 << line] = (penalty * _RANK, None)
    return _cheapest_cover(lines, blocks)


def _cheapest_blocks(problem: RoutingProblem) -> _Blocks:
    """For every set of lines that one location can serve: the cheapest location for it."""
    by_location: dict[str, list[tuple[int, int]]] = {}
    for line, candidates in enumerate(problem.candidates):
        bit = 1 << line
        for c in candidates:
            ranked = c.line_cost_minor * _RANK + c.priority
            if c.location_id in by_location:
                by_location[c.location_id].append((bit, ranked))
            else:
                by_location[c.location_id] = [(bit, ranked)]
    blocks: _Blocks = {}
    for location_id in sorted(by_location):
        sums = [(0, problem.shipment_minor[location_id] * _RANK)]
        for bit, ranked in by_location[location_id]:
            sums += [(block | bit, spent + ranked) for block, spent in sums]
        for block, spent in sums[1:]:
            # Locations come by id, so of equal costs the lower id stays.
            if block not in blocks or spent < blocks[block][0]:
                blocks[block] = (spent, location_id)
    return blocks


def _cheapest_cover(lines: int, blocks: _Blocks) -> Assignment:
    """best(S) = min over blocks B ⊆ S holding the lowest line of S of g(B) + best(S∖B).

    A set without line 0 is only ever reached whole from below, so of the sets that hold line 0 the full one
    alone is solved.
    """
    starting: list[list[tuple[int, int]]] = [[] for _ in range(lines)]
    for block, (spent, _) in blocks.items():
        starting[(block & -block).bit_length() - 1].append((block, spent))
    full = (1 << lines) - 1
    best, first = [0] * (full + 1), [0] * (full + 1)
    for lines_left in (*range(2, full, 2), full):
        low = lines_left & -lines_left
        rest = lines_left ^ low
        options = starting[low.bit_length() - 1]
        least, taken = _NEVER, 0
        if len(options) <= 1 << rest.bit_count():
            for block, spent in options:
                if block & lines_left == block:
                    total = spent + best[lines_left ^ block]
                    if total < least or (total == least and _goes_first(blocks, block, taken)):
                        least, taken = total, block
        else:
            others = rest
            while True:
                block = others | low
                if block in blocks:
                    total = blocks[block][0] + best[lines_left ^ block]
                    if total < least or (total == least and _goes_first(blocks, block, taken)):
                        least, taken = total, block
                if not others:
                    break
                others = (others - 1) & rest
        best[lines_left], first[lines_left] = least, taken
    assignment: Assignment = [None] * lines
    while full:
        _assign(assignment, first[full], blocks[first[full]][1])
        full ^= first[full]
    return assignment


def _goes_first(blocks: _Blocks, block: int, other: int) -> bool:
    """Of two equally good first blocks: the lower location id, then the larger block number."""
    return (blocks[block][1] or "", -block) < (blocks[other][1] or "", -other)


def _assign(assignment: Assignment, block: int, location_id: str | None) -> None:
    while block:
        bit = block & -block
        assignment[bit.bit_length() - 1] = location_id
        block ^= bit


def _limited(problem: RoutingProblem, blocks: _Blocks, max_shipments: int) -> Assignment:
    """The same recursion with the number of shipments left as part of the state."""
    memo: dict[tuple[int, int], tuple[int, int, str | None]] = {}

    def best(lines_left: int, shipments: int) -> int:
        if not lines_left:
            return 0
        state = (lines_left, shipments)
        if state not in memo:
            low = lines_left & -lines_left
            penalty = problem.unfilled_minor[low.bit_length() - 1] * _RANK
            chosen: tuple[int, int, str | None] = (penalty + best(lines_left ^ low, shipments), low, None)
            if shipments:
                for block in holding[low]:
                    if block & lines_left == block:
                        spent, location_id = blocks[block]
                        total = spent + best(lines_left ^ block, shipments - 1)
                        if total < chosen[0]:
                            chosen = (total, block, location_id)
            memo[state] = chosen
        return memo[state][0]

    holding: dict[int, list[int]] = {1 << line: [] for line in range(len(problem.candidates))}
    for block in sorted(blocks, key=lambda block: (blocks[block][1] or "", -block)):
        holding[block & -block].append(block)
    full, shipments = (1 << len(problem.candidates)) - 1, max_shipments
    best(full, shipments)
    assignment: Assignment = [None] * len(problem.candidates)
    while full:
        _, block, location_id = memo[full, shipments]
        _assign(assignment, block, location_id)
        full ^= block
        shipments -= location_id is not None
    return assignment


def _greedy_and_local(problem: RoutingProblem) -> Assignment:
    """Which locations to open; each line then takes the cheapest open one, or stays unfilled.

    Greedy cover: open whatever lowers the cost most. Then open, close or exchange one location at a time,
    the best move each round, until none helps.
    """
    ranked = [
        {c.location_id: c.line_cost_minor * _RANK + c.priority for c in line} for line in problem.candidates
    ]
    every = sorted({location_id for line in ranked for location_id in line})
    limit = len(every) if problem.max_shipments is None else problem.max_shipments
    opened: frozenset[str] = frozenset()
    least = _cost_of_open(problem, ranked, opened)
    for _ in range(MAX_ROUNDS + limit):
        moves = [opened | {new} for new in every if new not in opened and len(opened) < limit]
        if not moves or (better := _best_move(problem, ranked, moves, least)) is None:
            moves = [opened - {old} for old in sorted(opened)]
            moves += [opened - {old} | {new} for old in sorted(opened) for new in every if new not in opened]
            better = _best_move(problem, ranked, moves, least)
        if better is None:
            break
        least, opened = better
    return [_cheapest_open(line, opened, problem.unfilled_minor[i])[1] for i, line in enumerate(ranked)]


def _best_move(
    problem: RoutingProblem, ranked: list[dict[str, int]], moves: list[frozenset[str]], least: int
) -> tuple[int, frozenset[str]] | None:
    best = None
    for opened in moves:
        cost = _cost_of_open(problem, ranked, opened)
        if cost < least:
            least, best = cost, opened
    return None if best is None else (least, best)


def _cost_of_open(problem: RoutingProblem, ranked: list[dict[str, int]], opened: frozenset[str]) -> int:
    lines = [_cheapest_open(line, opened, problem.unfilled_minor[i]) for i, line in enumerate(ranked)]
    used = {location_id for _, location_id in lines if location_id is not None}
    shipments = sum([problem.shipment_minor[location_id] for location_id in used])
    return shipments * _RANK + sum([cost for cost, _ in lines])


def _cheapest_open(
    line: dict[str, int], opened: frozenset[str], unfilled_minor: int
) -> tuple[int, str | None]:
    best: tuple[int, str | None] = (unfilled_minor * _RANK, None)
    for location_id, ranked in line.items():
        if location_id in opened and (
            ranked < best[0] or (ranked == best[0] and best[1] is not None and location_id < best[1])
        ):
            best = (ranked, location_id)
    return best


def _choice(problem: RoutingProblem, assignment: Assignment, line: int, cost_minor: int) -> LineChoice:
    """What the line's next best location would have cost, the other lines staying where they are."""
    chosen = assignment[line]
    others = {used for other, used in enumerate(assignment) if other != line and used is not None}
    full = problem.max_shipments is not None and len(others) >= problem.max_shipments
    best: tuple[int, str] | None = None
    now_minor = problem.unfilled_minor[line]
    for c in problem.candidates[line]:
        location_id = c.location_id
        adds = c.line_cost_minor + (0 if location_id in others else problem.shipment_minor[location_id])
        if location_id == chosen:
            now_minor = adds
            continue
        if full and location_id not in others:
            continue
        if problem.late_minor_per_hour:
            adds = plan_cost(problem, [*assignment[:line], location_id, *assignment[line + 1 :]])
        key = (adds * _RANK + c.priority, location_id)
        if best is None or key < best:
            best = key
    runner_up_id = None if best is None else best[1]
    if problem.late_minor_per_hour:
        moved = plan_cost(problem, [*assignment[:line], runner_up_id, *assignment[line + 1 :]])
        return LineChoice(chosen, runner_up_id, moved - cost_minor)
    # Rounded to the nearest cost: the priority rides in the low bits and may be negative.
    then_minor = problem.unfilled_minor[line] if best is None else (best[0] + _RANK // 2) // _RANK
    return LineChoice(chosen, runner_up_id, then_minor - now_minor)
