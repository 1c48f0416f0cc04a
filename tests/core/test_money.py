from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.money import (
    EXPONENTS,
    MalformedAmount,
    Money,
    UnknownCurrency,
    allocate_minor,
    allocate_remaining,
    cumulative_part,
    half_up,
    half_up_ratio,
    largest_remainder,
    rate_of,
)

wide = st.integers(-(10**18), 10**18)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("10.00", "CNY", 1_000),
        ("10", "CNY", 1_000),
        ("0010.5", "CNY", 1_050),
        ("-0.01", "USD", -1),
        ("10.100", "USD", 1_010),
        ("1.234", "KWD", 1_234),
        ("333", "JPY", 333),
        ("0", "JPY", 0),
        ("10000000000000.00", "CNY", 10**15),
    ],
)
def test_an_amount_is_read_exactly(text: str, currency: str, minor: int) -> None:
    assert Money.parse(text, currency) == Money(minor, currency)


@pytest.mark.parametrize(
    "text",
    [
        "", "-", ".5", "5.", "1e3", "1_000", "1,000", "NaN", "Infinity", " 1", "1 ", "+1", "１２", "0x10",
        "1.001", "10.0000000000000000000000000000000001", "1e999999999", "10000000000000.01", "9" * 5_000,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(MalformedAmount):
        Money.parse(text, "CNY")


def test_an_unknown_currency_is_refused() -> None:
    with pytest.raises(UnknownCurrency):
        Money.parse("1", "XXX")
    with pytest.raises(UnknownCurrency):
        Money(1, "XXX")


@given(st.integers(-(10**15), 10**15), st.sampled_from(sorted(EXPONENTS)))
def test_the_decimal_form_reads_back(minor: int, currency: str) -> None:
    assert Money.parse(Money(minor, currency).decimal, currency).amount_minor == minor


@pytest.mark.parametrize(("exact", "whole"), [("5/2", 3), ("-5/2", -3), ("7/3", 2), ("-7/3", -2), ("0", 0)])
def test_halves_go_away_from_zero(exact: str, whole: int) -> None:
    assert half_up(Fraction(exact)) == whole


@given(wide, st.integers(1, 10**12))
def test_the_integer_form_rounds_as_the_fraction_does(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)

    rounded = half_up_ratio(numerator, denominator)

    assert rounded == half_up(exact)
    assert abs(rounded - exact) <= Fraction(1, 2)
    assert half_up_ratio(-numerator, denominator) == -rounded


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=6).filter(any))
def test_allocation_is_the_largest_remainder_of_the_exact_shares(total: int, weights: list[int]) -> None:
    exact = [Fraction(total * weight, sum(weights)) for weight in weights]

    shares = allocate_minor(total, weights)

    assert shares == largest_remainder(total, exact)
    assert sum(shares) == total
    assert all(abs(share - want) < 1 for share, want in zip(shares, exact, strict=True))


def test_left_over_units_go_to_the_earlier_of_equals() -> None:
    assert allocate_minor(5, [1, 1, 1]) == [2, 2, 1]
    assert allocate_minor(0, [0, 0]) == [0, 0]
    with pytest.raises(ValueError, match="nothing to allocate"):
        allocate_minor(1, [0, 0])


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6), st.lists(st.integers(0, 10**6), max_size=6))
def test_any_slices_of_the_rest_stay_within_and_empty_it(held: list[int], slices: list[int]) -> None:
    for amount in [*slices, None]:
        taken = allocate_remaining(sum(held) if amount is None else min(amount, sum(held)), held)
        assert all(0 <= gives <= has for gives, has in zip(taken, held, strict=True))
        held = [has - gives for has, gives in zip(held, taken, strict=True)]

    assert not any(held)


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_the_last_slice_empties_the_part(part: int, whole: int) -> None:
    assert cumulative_part(part, 0, whole) == 0
    assert cumulative_part(part, whole, whole) == part


def test_a_rate_is_rounded_once() -> None:
    assert rate_of(1_980, 91_000) == 180
    assert rate_of(-5, 100_000) == -1
