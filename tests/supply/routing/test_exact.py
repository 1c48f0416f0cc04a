"""The router against brute force: every assignment of small orders, priced by the contract's formula here."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply.routing.exact import Candidate, RoutingPlan, RoutingProblem, cut_into_chunks, solve


def random_problem(rng: random.Random, lines: int, locations: int, **changes: int | None) -> RoutingProblem:
    shipment = {f"loc_{k}": rng.randrange(0, 1_500) for k in range(locations)}
    candidates = tuple(
        tuple(
            Candidate(f"loc_{k}", rng.randrange(100, 3_000), rng.randrange(3), rng.randrange(10, 90))
            for k in range(locations)
            if rng.random() < 0.6
        )
        for _ in range(lines)
    )
    unfilled = tuple(rng.choice([500, 20_000]) for _ in range(lines))
    return RoutingProblem(candidates, shipment, unfilled, **changes)  # type: ignore[arg-type]


def brute_force(problem: RoutingProblem) -> int:
    """The least cost over all assignments, each priced from scratch."""
    best = 10**18
    choices = [[None, *line] for line in problem.candidates]
    for plan in product(*choices):
        used = {c.location_id for c in plan if c}
        if problem.max_shipments is not None and len(used) > problem.max_shipments:
            continue
        cost = sum(problem.shipment_minor[k] for k in used)
        cost += sum(c.line_cost_minor if c else problem.unfilled_minor[i] for i, c in enumerate(plan))
        slowest = max((c.transit_hours for c in plan if c), default=0)
        cost += problem.late_minor_per_hour * max(slowest - problem.free_hours, 0)
        best = min(best, cost)
    return best


def test_a_thousand_random_orders_cost_what_brute_force_costs() -> None:
    rng = random.Random(20261122)
    for _ in range(1_000):
        problem = random_problem(rng, rng.randint(1, 5), rng.randint(1, 6))

        assert solve(problem).cost_minor == brute_force(problem)


def test_a_limit_of_shipments_is_kept_at_the_least_cost() -> None:
    rng = random.Random(3)
    for _ in range(300):
        problem = random_problem(rng, rng.randint(1, 4), 5, max_shipments=rng.randint(0, 3))

        plan = solve(problem)

        assert plan.cost_minor == brute_force(problem)
        assert len({k for k in plan.assignment if k}) <= (problem.max_shipments or 0)


def test_paying_for_the_slowest_parcel_is_solved_exactly() -> None:
    rng = random.Random(4)
    for _ in range(300):
        problem = random_problem(
            rng, rng.randint(1, 4), 4, late_minor_per_hour=rng.randint(1, 60), free_hours=24
        )

        assert solve(problem).cost_minor == brute_force(problem)


def test_large_orders_stay_close_to_the_exact_cost() -> None:
    """Twelve lines: the cover and local search against the best set of open locations, all sets tried."""
    rng = random.Random(5)
    found = proven = 0
    for _ in range(20):
        problem = random_problem(rng, 12, 7)
        plan = solve(problem)
        assert plan.algorithm == "greedy+local"
        found += plan.cost_minor
        proven += min(_cost_when_open(problem, opened) for opened in range(1 << 7))

    assert proven <= found <= proven * 1.005


def _cost_when_open(problem: RoutingProblem, opened: int) -> int:
    cost = sum(fixed for k, fixed in enumerate(problem.shipment_minor.values()) if opened >> k & 1)
    for line, penalty in zip(problem.candidates, problem.unfilled_minor, strict=True):
        served = [c.line_cost_minor for c in line if opened >> int(c.location_id[4:]) & 1]
        cost += min([penalty, *served])
    return cost


def test_dense_ten_lines_are_exact() -> None:
    rng = random.Random(6)
    for _ in range(5):
        shipment = {f"loc_{k}": rng.randrange(0, 1_500) for k in range(8)}
        lines = tuple(tuple(Candidate(k, rng.randrange(100, 3_000)) for k in shipment) for _ in range(10))
        problem = RoutingProblem(lines, shipment, (50_000,) * 10)

        plan = solve(problem)

        assert plan.algorithm == "exact-dp"
        assert plan.cost_minor == min(_cost_when_open(problem, opened) for opened in range(1 << 8))


@given(st.randoms(use_true_random=False))
def test_the_sequence_of_candidates_changes_nothing(rng: random.Random) -> None:
    problem = random_problem(random.Random(rng.random()), 4, 5)
    shuffled = RoutingProblem(
        tuple(tuple(rng.sample(line, len(line))) for line in problem.candidates),
        problem.shipment_minor,
        problem.unfilled_minor,
    )

    assert solve(shuffled) == solve(problem)


def two_locations(first: Candidate, second: Candidate) -> RoutingPlan:
    return solve(RoutingProblem(((first, second),), {"loc_a": 0, "loc_b": 0}, (1_000,)))


def test_equal_costs_go_by_priority_then_by_id() -> None:
    assert two_locations(Candidate("loc_b", 10), Candidate("loc_a", 10)).assignment == ("loc_a",)
    assert two_locations(Candidate("loc_b", 10, 1), Candidate("loc_a", 10, 2)).assignment == ("loc_b",)


def test_the_margin_is_what_the_runner_up_would_have_cost_more() -> None:
    # Both lines together at a: 10 + 20 + one shipment 5. The second alone at b: 18 + its shipment 4.
    lines = ((Candidate("loc_a", 10),), (Candidate("loc_a", 20), Candidate("loc_b", 18)))
    plan = solve(RoutingProblem(lines, {"loc_a": 5, "loc_b": 4}, (500, 500)))

    assert plan.assignment == ("loc_a", "loc_a")
    assert plan.cost_minor == 35
    assert (plan.choices[1].runner_up_id, plan.choices[1].margin_minor) == ("loc_b", 2)
    assert (plan.choices[0].runner_up_id, plan.choices[0].margin_minor) == (None, 490)


def test_a_line_nobody_can_serve_costs_its_penalty() -> None:
    plan = solve(RoutingProblem(((), (Candidate("loc_a", 1),)), {"loc_a": 2}, (70, 90)))

    assert (plan.assignment, plan.cost_minor) == ((None, "loc_a"), 73)


@pytest.mark.parametrize(
    ("quantity", "stocks", "pieces"),
    [(5, [5, 9], [5]), (5, [3, 4], [4, 1]), (10, [3, 4, 0], [4, 3, 3]), (2, [], [2])],
)
def test_a_line_is_cut_only_when_nobody_holds_it_whole(
    quantity: int, stocks: list[int], pieces: list[int]
) -> None:
    assert cut_into_chunks(quantity, stocks) == pieces
