"""Hard rules, costs and the explained outcome of routing one order."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from supply.routing.eligibility import (
    LineFact,
    OfferFact,
    OrderNeed,
    RejectCode,
    RoutingPolicy,
    ZoneRate,
    cost_of,
    reject_code,
)
from supply.routing.router import RoutingOutcome, route

AT = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
RATE = ZoneRate(base_minor=500, per_kg_minor=300, per_item_minor=20, transit_p50_h=24, transit_p90_h=48)
POLICY = RoutingPolicy()


def offer(location_id: str, sku: str = "sku_1", **changes: Any) -> OfferFact:
    base = OfferFact(
        f"ofr_{location_id}_{sku}",
        f"sup_{location_id}",
        location_id,
        sku,
        1_000,
        "CNY",
        available=10,
        valid_from=AT - 24 * HOUR,
        zone_rate=RATE,
        lead_time_hours=12,
    )
    return replace(base, **changes)


def line(line_id: str = "l1", sku: str = "sku_1", quantity: int = 2, weight_g: int = 250) -> LineFact:
    return LineFact(line_id, sku, quantity, weight_g)


def need(*lines: LineFact, **changes: Any) -> OrderNeed:
    return replace(OrderNeed(lines or (line(),), "brd_1", "zone_n", "CNY", AT), **changes)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"supplier_active": False}, RejectCode.SUPPLIER_PAUSED),
        ({"authorised": False}, RejectCode.BRAND_NOT_AUTHORISED),
        ({"location_id": "loc_refused"}, RejectCode.PREVIOUSLY_REJECTED),
        ({"valid_from": AT + HOUR}, RejectCode.PRICE_EXPIRED),
        ({"valid_to": AT}, RejectCode.PRICE_EXPIRED),
        ({"currency": "USD"}, RejectCode.PRICE_EXPIRED),
        ({"zone_rate": None}, RejectCode.ZONE_NOT_SERVED),
        ({"feed_as_of": AT - 25 * HOUR}, RejectCode.STALE_FEED),
        ({"feed_as_of": AT - 2 * HOUR, "feed_max_age_s": 3_600}, RejectCode.STALE_FEED),
        ({"available": 1}, RejectCode.NO_STOCK),
        ({"moq": 3}, RejectCode.MOQ),
        ({"order_multiple": 4}, RejectCode.MOQ),
        ({"capacity_left": 1}, RejectCode.CAPACITY),
        ({"zone_rate": replace(RATE, max_weight_g=499)}, RejectCode.WEIGHT_LIMIT),
        ({"lead_time_hours": 53}, RejectCode.TOO_LATE),
    ],
)
def test_each_hard_rule_has_its_code(changes: dict[str, Any], code: RejectCode) -> None:
    order = need(latest_at=AT + 100 * HOUR, excluded=frozenset({("l1", "loc_refused")}))

    assert reject_code(order, order.lines[0], offer("loc_a"), POLICY) is None
    assert reject_code(order, order.lines[0], replace(offer("loc_a"), **changes), POLICY) is code


def test_the_limits_themselves_are_allowed() -> None:
    order = need(latest_at=AT + 60 * HOUR)
    tight = offer(
        "loc_a",
        available=2,
        moq=2,
        order_multiple=2,
        capacity_left=2,
        feed_as_of=AT - 24 * HOUR,
        zone_rate=replace(RATE, max_weight_g=500),
    )

    assert reject_code(order, order.lines[0], tight, POLICY) is None


def test_the_cost_of_a_line_by_its_parts() -> None:
    policy = RoutingPolicy(
        split_penalty_minor=150, late_minor_per_day=70, score_weight_minor=1_000, preference_weight_minor=3
    )
    order = need(line(quantity=3, weight_g=333), wanted_at=AT + 30 * HOUR)
    cost = cost_of(
        order, order.lines[0], offer("loc_a", score_ppm=900_000, preference=10, handling_minor=40), policy
    )

    assert cost.goods_minor == 3_000
    assert cost.freight_minor == 300 + 60  # 999 g at 3.00 a kg is 299.7, up to 300; 3 items at 20
    assert cost.late_minor == 140  # 60 h against 30 h wanted: two started days
    assert cost.score_minor == 100
    assert cost.preference_minor == -30
    assert (cost.base_freight_minor, cost.handling_minor, cost.split_minor) == (500, 40, 150)
    assert (cost.line_minor, cost.shipment_minor) == (3_570, 690)


def chosen(outcome: RoutingOutcome) -> list[str | None]:
    return [decision.location_id for decision in outcome.decisions]


def test_one_parcel_beats_two_cheaper_lines() -> None:
    order = need(line("l1"), line("l2", "sku_2"))
    together = [
        offer("loc_a", "sku_1", unit_cost_minor=1_100),
        offer("loc_a", "sku_2", unit_cost_minor=1_100),
    ]
    apart = [offer("loc_b", "sku_1"), offer("loc_c", "sku_2")]

    outcome = route(order, [*together, *apart], POLICY)

    # Together: 4 x 1,100 + 2 x (150 + 40) + 500; apart: 4 x 1,000 + 380 + 1,000; mixed: 4,200 + 380 + 1,000.
    assert chosen(outcome) == ["loc_a", "loc_a"]
    assert outcome.cost_minor == 5_280
    assert [decision.runner_up_location_id for decision in outcome.decisions] == ["loc_b", "loc_c"]
    assert [decision.margin_minor for decision in outcome.decisions] == [300, 300]


def test_every_alternative_is_kept_with_its_reason_or_its_cost() -> None:
    outcome = route(
        need(), [offer("loc_a"), offer("loc_b", unit_cost_minor=900), offer("loc_c", available=0)], POLICY
    )

    rows = {row.location_id: (row.reject_code, row.eligible, row.chosen) for row in outcome.candidates}
    assert rows == {
        "loc_a": (None, True, False),
        "loc_b": (None, True, True),
        "loc_c": (RejectCode.NO_STOCK, False, False),
    }


def test_a_line_nobody_can_serve_is_unfilled_at_its_penalty() -> None:
    outcome = route(need(), [offer("loc_a", supplier_active=False)], RoutingPolicy(unfilled_penalty_minor=77))

    assert (outcome.unfilled, outcome.cost_minor) == ((("l1", 2),), 77)


def test_a_line_is_cut_over_the_stocks_that_hold_it_together() -> None:
    order = need(line(quantity=9))
    offers = [offer("loc_a", available=3), offer("loc_b", available=5), offer("loc_c", available=2)]

    outcome = route(order, offers, POLICY)

    assert [(d.location_id, d.quantity) for d in outcome.decisions] == [
        ("loc_b", 5),
        ("loc_a", 3),
        ("loc_c", 1),
    ]
    kept_whole = route(order, offers, RoutingPolicy(split_lines=False))
    assert kept_whole.unfilled == (("l1", 9),)


def test_two_lines_of_one_sku_never_take_more_than_there_is() -> None:
    order = need(line("l1", quantity=3), line("l2", quantity=3))

    outcome = route(
        order, [offer("loc_a", available=5), offer("loc_b", available=3, unit_cost_minor=5_000)], POLICY
    )

    assert chosen(outcome) == ["loc_a", "loc_b"]
    refused = [row for row in outcome.candidates if row.line_id == "l2" and row.location_id == "loc_a"]
    assert [row.reject_code for row in refused] == [RejectCode.NO_STOCK]


def test_a_refused_pair_is_never_asked_again() -> None:
    order = need(excluded=frozenset({("l1", "loc_a")}))

    assert chosen(route(order, [offer("loc_a", unit_cost_minor=1), offer("loc_b")], POLICY)) == ["loc_b"]


def test_splits_are_limited_by_the_policy() -> None:
    order = need(line("l1"), line("l2", "sku_2"))
    offers = [offer("loc_b", "sku_1"), offer("loc_c", "sku_2")]

    assert chosen(route(order, offers, POLICY)) == ["loc_b", "loc_c"]
    assert len(route(order, offers, RoutingPolicy(max_splits=0)).unfilled) == 1


def test_the_slowest_parcel_may_cost_more_than_the_dearer_supplier() -> None:
    slow = offer("loc_a", lead_time_hours=72)
    fast = offer("loc_b", unit_cost_minor=1_200)

    assert chosen(route(need(), [slow, fast], POLICY)) == ["loc_a"]
    assert chosen(route(need(), [slow, fast], RoutingPolicy(slowest_parcel_minor_per_hour=10))) == ["loc_b"]


def test_the_same_facts_in_any_sequence_give_the_same_outcome_and_hash() -> None:
    rng = random.Random(1)
    order = need(line("l1"), line("l2", "sku_2"), line("l3", "sku_3"))
    offers = [
        offer(f"loc_{k}", f"sku_{s}", unit_cost_minor=rng.choice([900, 1_000]))
        for k in range(5)
        for s in (1, 2, 3)
    ]
    outcome = route(order, offers, POLICY)

    for _ in range(10):
        assert route(order, rng.sample(offers, len(offers)), POLICY) == outcome
    assert route(order, offers, RoutingPolicy(version=2)).input_hash != outcome.input_hash
