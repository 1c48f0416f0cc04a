"""Who earns from an order: one test for each sentence of the contract's section on attribution."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.canonical import to_micros
from marketplace.promotion.attribution.decision import (
    AgreementTerms,
    AttributionModel,
    Decision,
    EarlierOrder,
    LineFact,
    OfferRule,
    OrderFact,
    RejectReason,
    ScopeKind,
    TouchChannel,
    TouchFact,
    TouchKind,
    canonical_inputs,
    decide,
    in_window,
    is_new_customer,
    model_weights,
    replay,
)

ORDERED_AT = datetime(2026, 3, 16, 12, 0, tzinfo=UTC)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CAMPAIGN_RULE = OfferRule("rul_campaign", ScopeKind.CAMPAIGN, "", EPOCH, 100_000)


def terms(agreement_id: str = "agr_1", **changes: Any) -> AgreementTerms:
    base = AgreementTerms(
        agreement_id, 1, "brd_advertiser", f"brd_of_{agreement_id}", 15 * 86_400, (CAMPAIGN_RULE,)
    )
    return replace(base, **changes)


def touch(touch_id: str, ago: timedelta, agreement_id: str = "agr_1", **changes: Any) -> TouchFact:
    at_us = to_micros(ORDERED_AT - ago)
    base = TouchFact(touch_id, agreement_id, 1, f"brd_of_{agreement_id}", f"plc_{touch_id}", at_us)
    return base._replace(**changes)


def order(*lines: LineFact, **changes: Any) -> OrderFact:
    base = OrderFact(
        id="ord_1",
        advertiser_id="brd_advertiser",
        created_at_us=to_micros(ORDERED_AT),
        lines=lines or (LineFact("l1", "sku_1", "prd_1", ("beauty", "lips")),),
        checkout_started_at_us=to_micros(ORDERED_AT - timedelta(minutes=5)),
        paid_at_us=to_micros(ORDERED_AT + timedelta(minutes=1)),
    )
    return base._replace(**changes)


def weights(decision: Decision) -> dict[str, int]:
    return {winner.touch_id: winner.weight_ppm for winner in decision.winners}


def reasons(decision: Decision) -> dict[str, str]:
    return {each.touch_id: each.reason.value for each in decision.rejected}


def earned(decision: Decision) -> list[tuple[str, int, int] | None]:
    """(agreement, version, rate) of each line."""
    return [
        None if rate is None else (rate.agreement_id, rate.agreement_version, rate.rate_ppm)
        for rate in decision.lines.values()
    ]


def test_the_last_qualifying_touch_takes_the_order() -> None:
    decision = decide(order(), [touch("t1", 3 * DAY), touch("t2", DAY)], [terms()])

    assert weights(decision) == {"t2": 1_000_000}
    assert reasons(decision) == {"t1": "EARLIER_TOUCH"}
    assert earned(decision) == [("agr_1", 1, 100_000)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_bot": True}, RejectReason.BOT),
        ({"duplicate_of": "t0"}, RejectReason.DUPLICATE),
        ({"link_active": False}, RejectReason.LINK_DISABLED),
        ({"agreement_active": False}, RejectReason.AGREEMENT_NOT_ACTIVE),
        ({"agreement_version": 7}, RejectReason.AGREEMENT_NOT_ACTIVE),
        ({"campaign_running": False}, RejectReason.CAMPAIGN_NOT_RUNNING),
        (
            {"touch_at_us": to_micros(ORDERED_AT - 15 * DAY - timedelta(seconds=1))},
            RejectReason.OUT_OF_WINDOW,
        ),
        ({"touch_at_us": to_micros(ORDERED_AT + timedelta(seconds=1))}, RejectReason.OUT_OF_WINDOW),
        ({"promoter_keys": ("k1",)}, RejectReason.SELF_PURCHASE),
        ({"promoter_brand_id": "brd_employer"}, RejectReason.STAFF_PURCHASE),
        ({"promoter_payout_hash": "payout"}, RejectReason.SHARED_PAYOUT),
        ({"promoter_instrument_hashes": ("card",)}, RejectReason.SHARED_INSTRUMENT),
        ({"promoter_address_hashes": ("door",)}, RejectReason.SHARED_ADDRESS),
        ({"touch_at_us": to_micros(ORDERED_AT - timedelta(minutes=5))}, RejectReason.CHECKOUT_STAGE),
    ],
)
def test_a_touch_that_does_not_qualify_is_kept_with_its_reason(
    changes: dict[str, Any], reason: RejectReason
) -> None:
    buyer = order(
        buyer_keys=("k1", "k2"),
        buyer_staff_of=("brd_employer",),
        buyer_payout_hash="payout",
        payment_instrument_hash="card",
        address_hash="door",
    )

    decision = decide(buyer, [touch("t1", DAY, **changes)], [terms()])

    assert reasons(decision) == {"t1": reason.value}
    assert decision.winners == ()
    assert earned(decision) == [None]


def test_a_touch_for_another_advertiser_earns_nothing() -> None:
    decision = decide(order(), [touch("t1", DAY)], [terms(advertiser_id="brd_other")])

    assert reasons(decision) == {"t1": "OTHER_ADVERTISER"}


def test_the_offer_may_allow_buying_for_oneself_but_no_shared_payout() -> None:
    buyer = order(buyer_keys=("k1",), buyer_payout_hash="payout")
    own = touch("t1", DAY, promoter_keys=("k1",))

    assert weights(decide(buyer, [own], [terms(allow_self_purchase=True)])) == {"t1": 1_000_000}
    shared = own._replace(promoter_payout_hash="payout")
    assert reasons(decide(buyer, [shared], [terms(allow_self_purchase=True)])) == {"t1": "SHARED_PAYOUT"}


def test_the_window_counts_whole_seconds_inclusive_at_both_ends() -> None:
    midnight = to_micros(datetime(2026, 3, 16, tzinfo=UTC))
    at = midnight + 900_000

    assert in_window(at, midnight + 100_000, 10)
    assert in_window(at - 10_000_000, at, 10)
    assert in_window(midnight - 10_000_000, at, 10)
    assert not in_window(at - 11_000_000, at, 10)
    assert not in_window(at + 1_000_000, at, 10)


def test_a_click_at_checkout_never_displaces_the_community_that_sold() -> None:
    sold, overwrite = touch("t1", 2 * DAY), touch("t2", timedelta(minutes=1))

    decision = decide(order(), [sold, overwrite], [terms()])

    assert weights(decision) == {"t1": 1_000_000}
    assert reasons(decision) == {"t2": "CHECKOUT_STAGE"}


def test_a_click_without_a_landing_view_just_before_payment_is_a_checkout_touch() -> None:
    quick = order(checkout_started_at_us=None, paid_at_us=to_micros(ORDERED_AT + timedelta(seconds=9)))
    forced = touch("t1", timedelta(seconds=20), landing_view=False)

    assert reasons(decide(quick, [forced], [terms()])) == {"t1": "CHECKOUT_STAGE"}
    assert weights(decide(quick, [forced._replace(landing_view=True)], [terms()])) == {"t1": 1_000_000}
    slow = quick._replace(paid_at_us=to_micros(ORDERED_AT + timedelta(seconds=10)))
    assert weights(decide(slow, [forced], [terms()])) == {"t1": 1_000_000}


def test_two_brands_may_sign_that_a_lone_checkout_touch_earns() -> None:
    late = touch("t1", timedelta(minutes=1))
    signed = terms(checkout_touch_earns=True)

    assert weights(decide(order(), [late], [signed])) == {"t1": 1_000_000}
    both = decide(order(), [late, touch("t0", DAY)], [signed])
    assert (weights(both), reasons(both)) == ({"t0": 1_000_000}, {"t1": "CHECKOUT_STAGE"})


def test_precedence_runs_from_exclusive_code_to_lead_binding() -> None:
    agreed = terms(lead_binding_days=30)
    ranked = [
        touch("lead", DAY, kind=TouchKind.LEAD),
        touch("cookie", 2 * DAY, channel=TouchChannel.COOKIE),
        touch("person", 3 * DAY, channel=TouchChannel.PERSON),
        touch("signed", 4 * DAY),
        touch("code", 5 * DAY, kind=TouchKind.COUPON, channel=TouchChannel.COOKIE, coupon_exclusive=True),
    ]

    for count in range(1, len(ranked) + 1):
        decision = decide(order(), ranked[:count], [agreed])
        assert weights(decision) == {ranked[count - 1].id: 1_000_000}
        assert set(reasons(decision).values()) <= {"LOWER_PRECEDENCE"}


def test_an_exclusive_code_counts_at_checkout_and_a_leaked_one_does_not() -> None:
    sold = touch("t1", DAY)
    code = touch("t2", timedelta(0), kind=TouchKind.COUPON, coupon_exclusive=True)

    assert weights(decide(order(), [sold, code], [terms()])) == {"t2": 1_000_000}
    leaked = decide(order(), [sold, code._replace(coupon_leaked=True)], [terms()])
    assert (weights(leaked), reasons(leaked)) == ({"t1": 1_000_000}, {"t2": "CHECKOUT_STAGE"})


def test_a_lead_binds_only_where_the_offer_says_so_and_only_so_long() -> None:
    lead = touch("t1", 20 * DAY, kind=TouchKind.LEAD)

    assert reasons(decide(order(), [lead], [terms()])) == {"t1": "OUT_OF_WINDOW"}
    assert reasons(decide(order(), [lead], [terms(lead_binding_days=19)])) == {"t1": "OUT_OF_WINDOW"}
    assert weights(decide(order(), [lead], [terms(lead_binding_days=20)])) == {"t1": 1_000_000}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (AttributionModel.LAST_TOUCH, {"t4": 1_000_000}),
        (AttributionModel.FIRST_TOUCH, {"t1": 1_000_000}),
        (AttributionModel.LINEAR, {"t1": 250_000, "t2": 250_000, "t3": 250_000, "t4": 250_000}),
        (
            AttributionModel.POSITION_40_20_40,
            {"t1": 400_000, "t2": 100_000, "t3": 100_000, "t4": 400_000},
        ),
    ],
)
def test_each_model_weighs_four_touches(model: AttributionModel, expected: dict[str, int]) -> None:
    touches = [touch(f"t{n}", (5 - n) * DAY) for n in range(1, 5)]

    assert weights(decide(order(), touches, [terms(model=model)])) == expected


def test_position_gives_all_to_one_and_halves_to_two() -> None:
    assert model_weights(AttributionModel.POSITION_40_20_40, 1) == [1]
    assert model_weights(AttributionModel.POSITION_40_20_40, 2) == [1, 1]


def test_repeated_touches_of_one_key_collapse_to_the_latest() -> None:
    first = touch("t1", 4 * DAY, placement_id="plc_a")
    other = touch("t2", 3 * DAY, placement_id="plc_b")
    again = touch("t3", 2 * DAY, placement_id="plc_a")

    decision = decide(order(), [first, other, again], [terms(model=AttributionModel.LINEAR)])

    assert weights(decision) == {"t2": 500_000, "t3": 500_000}
    assert reasons(decision) == {"t1": "REPEATED_TOUCH"}


def test_better_evidence_chooses_the_agreement_and_the_latest_touch_of_its_key_stands_for_it() -> None:
    signed = touch("t1", 2 * DAY, placement_id="plc_a")
    again = touch("t2", DAY, placement_id="plc_a", channel=TouchChannel.COOKIE)

    decision = decide(order(), [signed, again], [terms(model=AttributionModel.LINEAR)])

    assert (weights(decision), reasons(decision)) == ({"t2": 1_000_000}, {"t1": "REPEATED_TOUCH"})


def test_a_line_earns_from_one_agreement_even_when_its_model_shares() -> None:
    linear = [terms(a, model=AttributionModel.LINEAR) for a in ("agr_1", "agr_2")]
    touches = [touch("t1", 3 * DAY), touch("t2", 2 * DAY, "agr_2"), touch("t3", DAY)]

    decision = decide(order(), touches, linear)

    assert weights(decision) == {"t1": 500_000, "t3": 500_000}
    assert reasons(decision) == {"t2": "OTHER_AGREEMENT"}


def test_lines_outside_an_agreements_scope_go_to_the_one_that_covers_them() -> None:
    narrow = terms("agr_2", rules=(OfferRule("r", ScopeKind.SKU, "sku_2", EPOCH, 200_000),))
    lines = (LineFact("l1", "sku_1", "prd_1"), LineFact("l2", "sku_2", "prd_2"))

    decision = decide(order(*lines), [touch("t1", 2 * DAY), touch("t2", DAY, "agr_2")], [terms(), narrow])

    assert earned(decision) == [("agr_1", 1, 100_000), ("agr_2", 1, 200_000)]
    assert [award.line_ids for award in decision.awards] == [("l1",), ("l2",)]
    assert all(sum(w.weight_ppm for w in award.winners) == 1_000_000 for award in decision.awards)
    alone = decide(order(lines[0]), [touch("t2", DAY, "agr_2")], [narrow])
    assert reasons(alone) == {"t2": "NOT_IN_SCOPE"}


def rate_under(*rules: OfferRule) -> int:
    rate = decide(order(), [touch("t1", DAY)], [terms(rules=rules)]).lines["l1"]
    assert rate is not None
    return rate.rate_ppm


def test_the_closest_scope_gives_the_rate_and_rates_never_stack() -> None:
    rules = [
        CAMPAIGN_RULE,
        OfferRule("r2", ScopeKind.CATEGORY, "beauty", EPOCH, 2, priority=99),
        OfferRule("r3", ScopeKind.CATEGORY, "lips", EPOCH, 3),
        OfferRule("r4", ScopeKind.PRODUCT, "prd_1", EPOCH, 4),
        OfferRule("r5", ScopeKind.SKU, "sku_1", EPOCH, 5),
    ]

    assert [rate_under(*rules[:count]) for count in range(1, 6)] == [100_000, 2, 3, 4, 5]


def test_within_one_scope_priority_then_the_later_start_then_the_lower_id_decides() -> None:
    plain = OfferRule("r9", ScopeKind.CAMPAIGN, "", EPOCH, 1)
    ranked = [
        plain,
        replace(plain, id="r8", rate_ppm=2),
        replace(plain, effective_at=EPOCH + DAY, rate_ppm=3),
        replace(plain, priority=1, rate_ppm=4),
    ]

    assert [rate_under(*ranked[:count]) for count in range(1, 5)] == [1, 2, 3, 4]
    assert rate_under(plain, replace(plain, effective_at=ORDERED_AT, rate_ppm=9)) == 1


def test_new_customers_may_earn_their_own_rate() -> None:
    rule = replace(CAMPAIGN_RULE, rate_new_ppm=180_000)

    new = decide(order(is_new_customer=True), [touch("t1", DAY)], [terms(rules=(rule,))])
    known = decide(order(), [touch("t1", DAY)], [terms(rules=(rule,))])

    assert (earned(new), earned(known)) == ([("agr_1", 1, 180_000)], [("agr_1", 1, 100_000)])


def test_a_customer_is_new_without_a_kept_order_in_the_lookback() -> None:
    year = ORDERED_AT - 365 * DAY

    assert is_new_customer(ORDERED_AT, [])
    assert is_new_customer(ORDERED_AT, [EarlierOrder(None), EarlierOrder(ORDERED_AT - DAY, True)])
    assert is_new_customer(ORDERED_AT, [EarlierOrder(year - timedelta(seconds=1))])
    assert not is_new_customer(ORDERED_AT, [EarlierOrder(year)])


def test_the_version_in_force_at_the_winning_touch_gives_the_rate() -> None:
    raised = terms(version=2, rules=(replace(CAMPAIGN_RULE, rate_ppm=150_000),))

    decision = decide(
        order(), [touch("t1", 2 * DAY), touch("t2", DAY, agreement_version=2)], [terms(), raised]
    )

    assert earned(decision) == [("agr_1", 2, 150_000)]


def some_touches(rng: random.Random) -> list[TouchFact]:
    return [
        touch(
            f"t{n}",
            timedelta(seconds=rng.randrange(20 * 86_400)) * rng.choice([0, 1]),
            rng.choice(["agr_1", "agr_2", "agr_3"]),
            placement_id=rng.choice(["plc_a", "plc_b"]),
            kind=rng.choice(list(TouchKind)),
            channel=rng.choice(list(TouchChannel)),
            is_bot=rng.random() < 0.1,
            landing_view=rng.random() < 0.8,
            coupon_exclusive=rng.random() < 0.3,
        )
        for n in range(rng.randrange(8))
    ]


@given(st.integers(0, 10**9))
def test_the_sequence_of_touches_and_agreements_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    agreements = [
        terms(f"agr_{n}", model=rng.choice(list(AttributionModel)), lead_binding_days=rng.choice([0, 30]))
        for n in range(1, 4)
    ]
    touches = some_touches(rng)

    decision = decide(order(), touches, agreements)

    shuffled = rng.sample(touches, len(touches)), rng.sample(agreements, len(agreements))
    assert decide(order(), *shuffled) == decision
    assert replay(canonical_inputs(order(), *shuffled)) == decision
    judged = {w.touch_id for w in decision.winners} | set(reasons(decision))
    assert judged == {each.id for each in touches}
    assert not {w.touch_id for w in decision.winners} & set(reasons(decision))
    assert all(sum(w.weight_ppm for w in award.winners) == 1_000_000 for award in decision.awards)


def test_any_other_input_gives_another_hash() -> None:
    base = decide(order(), [touch("t1", DAY)], [terms()])

    assert decide(order(), [touch("t1", DAY, is_bot=True)], [terms()]).input_hash != base.input_hash
    assert decide(order(address_hash="x"), [touch("t1", DAY)], [terms()]).input_hash != base.input_hash
    assert decide(order(), [touch("t1", DAY)], [terms(window_s=60)]).input_hash != base.input_hash


def test_inputs_of_another_rule_version_are_refused() -> None:
    text = canonical_inputs(order(), [], []).replace("attribution-1", "attribution-0")

    with pytest.raises(ValueError, match="attribution-0"):
        replay(text)
