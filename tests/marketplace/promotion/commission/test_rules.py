"""Rules R1 to R8 by arithmetic on paper and in exact fractions; the contract's vectors: test_evaluate_cps.py."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.money import PPM, allocate_minor
from marketplace.promotion.commission.rules import (
    Cap,
    CapMode,
    Funder,
    LineAmounts,
    OrderDiscount,
    Tier,
    TierMode,
    apply_cap,
    apply_caps,
    basis_of_lines,
    commission_of_order,
    exact_fixed,
    reverse_line,
    round_to_lines,
    settle_period,
    split_commission,
    tier_commission,
    tier_commission_of_lines,
)

minor = st.integers(0, 10**9)
rates = st.integers(0, PPM)


def test_discounts_are_taken_by_who_pays_them() -> None:
    lines = [LineAmounts(10_000, 1_000), LineAmounts(1_000)]
    discounts = [
        OrderDiscount(600, Funder.MERCHANT),
        OrderDiscount(400, Funder.SUPPLIER),
        OrderDiscount(5_000, Funder.PLATFORM),
        OrderDiscount(70, Funder.PROMOTER),
    ]

    assert basis_of_lines(lines, discounts) == [8_100, 900]


def test_a_discount_beyond_the_goods_leaves_a_basis_of_zero() -> None:
    assert basis_of_lines(
        [LineAmounts(100, 150), LineAmounts(50)], [OrderDiscount(999, Funder.MERCHANT)]
    ) == [0, 0]


def test_fixed_and_rated_lines_of_one_agreement_are_rounded_together() -> None:
    # 3 at 10 % is 0.3; 0.5 capped from 1 unit by a basis of 5 at 10 %: together 0.8, rounded once to 1.
    exact = [3 * 100_000, exact_fixed(1, quantity=1, basis_minor=5, cap_ppm=100_000)]

    assert round_to_lines(exact) == [0, 1]


@given(st.lists(st.tuples(minor, rates), min_size=1, max_size=8))
def test_lines_sum_to_the_total_that_is_rounded_once(lines: list[tuple[int, int]]) -> None:
    exact = [Fraction(basis * rate, PPM) for basis, rate in lines]
    total = int((sum(exact) * 2 + 1) // 2)

    earned = round_to_lines([basis * rate for basis, rate in lines])

    assert sum(earned) == total
    assert all(abs(got - want) < 1 for got, want in zip(earned, exact, strict=True))


@given(minor, rates, rates)
def test_the_split_is_the_largest_remainder_of_the_exact_weights(amount: int, fee: int, part: int) -> None:
    weights = [(PPM - fee) * part, (PPM - fee) * (PPM - part), fee * PPM]

    assert list(split_commission(amount, fee_ppm=fee, individual_ppm=part)) == allocate_minor(amount, weights)


@given(
    st.integers(0, 100),
    st.sampled_from([0, 200_000, 250_000, 333_333, 500_000]),
    st.sampled_from([0, 250_000, 500_000]),
)
def test_ties_of_the_split_go_in_the_order_of_the_payees(amount: int, fee: int, part: int) -> None:
    weights = [(PPM - fee) * part, (PPM - fee) * (PPM - part), fee * PPM]

    assert list(split_commission(amount, fee_ppm=fee, individual_ppm=part)) == allocate_minor(amount, weights)


def test_person_and_brand_share_the_commission_of_the_line() -> None:
    # Order O1 of the money contract: 15 % of 9,000, a third of it to the person.
    earned = commission_of_order([9_000], [150_000], fee_ppm=0, individual_ppm=333_333)

    assert earned.total_minor == 1_350
    assert earned.shares == [(450, 900, 0)]


def test_all_or_nothing_gives_nothing_above_the_cap() -> None:
    assert apply_cap([30, 20], Cap(49, CapMode.ALL_OR_NOTHING)) == [0, 0]
    assert apply_cap([30, 20], Cap(50, CapMode.ALL_OR_NOTHING)) == [30, 20]


def test_the_fallback_rate_replaces_the_commission_and_is_itself_capped() -> None:
    bases = [1_000, 500]

    assert apply_cap([100, 50], Cap(60, CapMode.FALLBACK_RATE, 20_000), bases=bases) == [20, 10]
    assert apply_cap([100, 50], Cap(15, CapMode.FALLBACK_RATE, 20_000), bases=bases) == [10, 5]
    with pytest.raises(ValueError, match="basis"):
        apply_cap([100, 50], Cap(60, CapMode.FALLBACK_RATE, 20_000))


def test_several_caps_each_keep_what_they_still_allow() -> None:
    capped = apply_caps([60, 40], [Cap(90), Cap(50), Cap(1_000)])

    assert capped.lines == (30, 20)
    assert capped.remaining_minor == (40, 0, 950)


TIERS = [Tier(0, 50_000), Tier(1_000_000, 80_000), Tier(5_000_000, 100_000)]


def test_a_counter_exactly_at_a_threshold_has_reached_it() -> None:
    at = tier_commission(prior_basis_minor=0, basis_minor=1_000_000, tiers=TIERS, mode=TierMode.WHOLE_ORDER)
    below = tier_commission(prior_basis_minor=0, basis_minor=999_999, tiers=TIERS, mode=TierMode.WHOLE_ORDER)

    assert (at.commission_minor, below.commission_minor) == (80_000, 50_000)


def test_retroactive_adjusts_once_at_the_crossing() -> None:
    def adjustment(prior: int, basis: int) -> int:
        return tier_commission(
            prior_basis_minor=prior, basis_minor=basis, tiers=TIERS, mode=TierMode.RETROACTIVE
        ).adjustment_minor

    assert adjustment(980_000, 60_000) == 29_400
    assert adjustment(1_040_000, 60_000) == 0
    assert adjustment(980_000, 4_100_000) == 49_000


def test_a_counter_that_refunds_lowered_owes_for_what_is_above_its_peak_alone() -> None:
    def adjustment(prior: int, basis: int, peak: int) -> int:
        return tier_commission(
            prior_basis_minor=prior, basis_minor=basis, peak_basis_minor=peak, tiers=TIERS,
            mode=TierMode.RETROACTIVE,
        ).adjustment_minor  # fmt: skip

    assert adjustment(980_000, 60_000, 0) == 29_400
    assert adjustment(980_000, 60_000, 1_040_000) == 0
    assert adjustment(980_000, 60_000, 1_000_000) == 0
    assert adjustment(980_000, 60_000, 999_999) == 29_400
    # From 8 % on, which was reached, to 10 %.
    assert adjustment(980_000, 4_100_000, 1_500_000) == 19_600


def test_lines_of_a_tiered_order_share_one_blended_rate() -> None:
    lines, adjustment = tier_commission_of_lines(
        prior_basis_minor=980_000, bases=[45_000, 15_000], tiers=TIERS, mode=TierMode.MARGINAL
    )

    assert (lines, adjustment) == ([3_150, 1_050], 0)


def test_tiers_that_do_not_start_at_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        tier_commission(prior_basis_minor=0, basis_minor=1, tiers=[Tier(5, 1)], mode=TierMode.MARGINAL)


@given(
    basis=st.integers(1, 10**6),
    rate=rates,
    fee=rates,
    part=rates,
    cuts=st.lists(st.integers(0, 10**6), max_size=8),
)
def test_any_slices_of_a_full_refund_take_back_everything_and_raise_no_share(
    basis: int, rate: int, fee: int, part: int, cuts: list[int]
) -> None:
    amount = round_to_lines([basis * rate])[0]
    held = list(split_commission(amount, fee_ppm=fee, individual_ppm=part))
    for refunded in [*sorted([min(cut, basis) for cut in cuts]), basis]:
        taken = reverse_line(
            commission_minor=amount, basis_minor=basis, refunded_basis_minor=refunded, held=held
        )
        assert all(0 <= gives <= has for gives, has in zip(taken, held, strict=True))
        held = [has - gives for has, gives in zip(held, taken, strict=True)]
        assert amount - sum(held) == int((Fraction(amount * refunded, basis) * 2 + 1) // 2)

    assert held == [0, 0, 0]


def test_a_refund_beyond_the_basis_is_refused() -> None:
    with pytest.raises(ValueError, match="refunded"):
        reverse_line(commission_minor=10, basis_minor=100, refunded_basis_minor=101, held=[10])


def test_a_negative_balance_is_carried_and_an_empty_one_pays_nothing() -> None:
    owing = settle_period(carry_in_minor=0, earned_minor=0, clawed_back_minor=70, minimum_payout_minor=0)
    empty = settle_period(carry_in_minor=-70, earned_minor=70, clawed_back_minor=0, minimum_payout_minor=0)

    assert (owing.paid_minor, owing.carry_minor) == (0, -70)
    assert (empty.paid_minor, empty.carry_minor) == (0, 0)
