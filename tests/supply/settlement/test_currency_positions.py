"""R10 to R10c on the figures of money.md §2: EUR 90.00 brings USD 97.20 and costs USD 99.00: 180 are lost."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from core.money import Money
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Leg
from supply.settlement.currency_positions import (
    Conversion,
    RateUnknown,
    conversion_legs,
    converted,
    cost_in,
    realisation_legs,
    record_conversion,
    remember_rate,
)

AT = datetime(2026, 3, 2, tzinfo=UTC)
PENDING, AVAILABLE = Code.PROVIDER_PENDING, Code.PROVIDER_AVAILABLE


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def conversion(
    presented: Money, settled: Money, account: Code = PENDING, row: str = "txn_1", rate: str | None = None
) -> Conversion:
    return Conversion(row, "stripe", presented, settled, account, AT, rate)


def plain(legs: tuple[Leg, ...]) -> list[tuple[int, str, int]]:
    return [(leg.account.code, leg.account.currency, leg.amount_minor) for leg in legs]


def test_r10_with_the_capture_is_the_recipe_leg_for_leg() -> None:
    capture = [(PENDING, "EUR", 9_000), (Code.PENDING, "EUR", -9_000)]
    both: dict[tuple[int, str], int] = defaultdict(int)
    for code, currency, amount in [*capture, *plain(conversion_legs(conversion(eur(9_000), usd(9_720))))]:
        both[code, currency] += amount
    assert {key: amount for key, amount in both.items() if amount} == {
        (PENDING, "USD"): 9_720,
        (Code.CURRENCY_POSITION, "EUR"): 9_000,
        (Code.CURRENCY_POSITION, "USD"): -9_720,
        (Code.PENDING, "EUR"): -9_000,
    }


def test_r10b_is_the_same_for_money_that_goes() -> None:
    assert plain(conversion_legs(conversion(eur(-9_000), usd(-9_900), AVAILABLE))) == [
        (AVAILABLE, "USD", -9_900),
        (Code.CURRENCY_POSITION, "USD", 9_900),
        (Code.CURRENCY_POSITION, "EUR", -9_000),
        (AVAILABLE, "EUR", 9_000),
    ]


def test_r10c_turns_what_an_empty_position_still_holds_into_a_difference() -> None:
    assert plain(realisation_legs("EUR", [usd(180)])) == [
        (Code.CURRENCY_DIFFERENCE, "USD", 180),
        (Code.CURRENCY_POSITION, "USD", -180),
    ]


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_every_currency_of_a_conversion_sums_to_zero(presented: int, settled: int) -> None:
    sums: dict[str, int] = defaultdict(int)
    for _, currency, amount in plain(conversion_legs(conversion(eur(presented), usd(settled)))):
        sums[currency] += amount
    assert set(sums.values()) == {0}


@pytest.mark.parametrize(
    ("amount", "currency", "to", "rate", "expected"),
    [
        (9_000, "EUR", "USD", "1.08", 9_720),
        (9_000, "EUR", "USD", "1.1", 9_900),
        (1_000, "JPY", "USD", "0.0067", 670),  # ¥1,000 is $6.70
        (1_005, "USD", "JPY", "150", 1_508),  # $10.05 is ¥1,507.5, half up
        (1_000, "KWD", "USD", "3.25", 325),  # one dinar has a thousand fils
    ],
)
def test_amounts_are_converted_between_digits(
    amount: int, currency: str, to: str, rate: str, expected: int
) -> None:
    assert converted(Money(amount, currency), to, rate) == Money(expected, to)


async def positions(session: AsyncSession) -> dict[tuple[int, str], int]:
    return {
        (line.code, line.currency): line.debit_minor
        for line in await ledger.trial_balance(session)
        if line.code in (Code.CURRENCY_POSITION, Code.CURRENCY_DIFFERENCE) and line.debit_minor
    }


async def test_a_position_is_realised_when_it_returns_to_zero(session: AsyncSession) -> None:
    await record_conversion(session, conversion(eur(9_000), usd(9_720), row="in"), now=AT)
    assert await positions(session) == {
        (Code.CURRENCY_POSITION, "EUR"): 9_000,
        (Code.CURRENCY_POSITION, "USD"): -9_720,
    }
    await record_conversion(session, conversion(eur(-4_000), usd(-4_400), AVAILABLE, "half"), now=AT)
    assert (Code.CURRENCY_DIFFERENCE, "USD") not in await positions(session)
    await record_conversion(session, conversion(eur(-5_000), usd(-5_500), AVAILABLE, "rest"), now=AT)
    assert await positions(session) == {(Code.CURRENCY_DIFFERENCE, "USD"): 180}

    for row, amount, settled in (("in", 9_000, 9_720), ("rest", -5_000, -5_500)):  # told again
        account = PENDING if amount > 0 else AVAILABLE
        await record_conversion(session, conversion(eur(amount), usd(settled), account, row), now=AT)
    assert await positions(session) == {(Code.CURRENCY_DIFFERENCE, "USD"): 180}


async def test_positions_of_two_currencies_do_not_mix(session: AsyncSession) -> None:
    gbp = Money(5_000, "GBP")
    await record_conversion(session, conversion(gbp, usd(6_500), row="gbp"), now=AT)
    await record_conversion(session, conversion(eur(9_000), usd(9_720), row="eur"), now=AT)
    await record_conversion(session, conversion(eur(-9_000), usd(-9_700), AVAILABLE, "back"), now=AT)
    assert await positions(session) == {
        (Code.CURRENCY_POSITION, "GBP"): 5_000,
        (Code.CURRENCY_POSITION, "USD"): -6_500,
        (Code.CURRENCY_DIFFERENCE, "USD"): -20,  # a gain
    }


async def test_the_newest_rate_is_what_something_would_cost(session: AsyncSession) -> None:
    with pytest.raises(RateUnknown):
        await cost_in(session, eur(9_000), "USD")
    await remember_rate(session, "EUR", "USD", "1.1", source="operator", at=AT)
    older = AT.replace(year=2025)
    await remember_rate(session, "EUR", "USD", "1.0", source="txn", at=older)
    assert await cost_in(session, eur(9_000), "USD") == usd(9_900)
    assert await cost_in(session, usd(5), "USD") == usd(5)
